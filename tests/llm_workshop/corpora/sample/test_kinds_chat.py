"""The truth of chats, stories and dialogues agrees with their text."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from llm_workshop.corpora.sample import generate
from llm_workshop.corpora.sample.conjugation import conjugate
from llm_workshop.corpora.sample.kinds.chat_subjects import topics
from llm_workshop.corpora.sample.templates import render
from llm_workshop.corpora.sample.world import World


@pytest.fixture(scope="module")
def chats():
    return list(generate(0.8, seed=11, kinds=["chat"]))


@pytest.fixture(scope="module")
def world():
    return World(11)


def test_turns_alternate_and_text_holds_them(chats):
    for document in chats:
        roles = [message["role"] for message in document.messages]
        if roles[0] == "system":
            roles = roles[1:]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and roles, document.text
        assert all(message["content"] in document.text for message in document.messages)


POLITE_END = re.compile(r"(요|니다|죠|시오|[0-9]|님|’|”|다\.”)[.!?~)”]*$")


def test_the_assistant_speaks_politely(chats):
    endings = [message["content"] for document in chats for message in document.messages if message["role"] == "assistant"]
    rude = [text for text in endings if not POLITE_END.search(text)]
    assert not rude, rude[:5]


def test_answers_stand_in_the_last_reply(chats):
    """Short answers are found in the reply, or in its facts, for the intents that quote them."""
    quoted = [d for d in chats if d.truth.get("intent") in ("arithmetic", "word_problem", "clock", "weekday", "list", "passage", "compare", "shopping", "rewrite")]
    assert len(quoted) > 100
    for document in quoted:
        reply = document.messages[-1]["content"]
        parts = document.truth["answer"].split(", ") if document.truth["intent"] == "list" else [document.truth["answer"].rstrip(".")]
        assert all(part in reply for part in parts), document.text


def test_sums_are_right(chats):
    checked = 0
    for document in chats:
        found = re.search(r"(\d+) (더하기|빼기|곱하기) (\d+)", document.truth.get("question", ""))
        if found and document.truth.get("intent") == "arithmetic":
            a, operation, b = int(found[1]), found[2], int(found[3])
            assert int(document.truth["answer"]) == {"더하기": a + b, "빼기": a - b, "곱하기": a * b}[operation]
            checked += 1
    assert checked > 20


def test_preference_pairs(chats):
    pairs = [d.truth for d in chats if "chosen" in d.truth]
    assert len(pairs) > len(chats) / 10
    assert all(pair["chosen"] != pair["rejected"] and pair["rejected_reason"] for pair in pairs)
    assert {pair["rejected_reason"] for pair in pairs} >= {"off_topic", "rude", "unhelpful", "repetitive", "harmful"}


def test_there_are_more_than_two_hundred_subjects(chats):
    assert len({d.truth["subject"] for d in generate(2.5, seed=4, kinds=["chat"]) if "subject" in d.truth}) > 300


def test_every_intent_speaks_of_its_subject(world):
    """Each question and answer of each entry renders, and cold questions or their answers name the subject."""
    rng = random.Random(0)
    for topic in topics():
        for entry in getattr(world, topic.table):
            slots = topic.slots(rng, entry)
            for intent in topic.intents:
                if intent.needs and not slots[intent.needs]:
                    continue
                for source in (*intent.asks, *intent.answers, *intent.follows):
                    text = render(rng, source, slots)
                    assert text and not re.search(r"[{}\[\]]|  |[?!]\.", text), f"{entry.name}: {text}"


def test_all_clauses_of_the_tables_can_be_conjugated(world):
    tables = (world.dishes, world.towns, world.animals, world.plants, world.things, world.jobs, world.health, world.days, world.hobbies)
    for table in tables:
        for entry in table:
            for clause in entry.facts:
                assert conjugate(clause, "아요").endswith("요") and "다다" not in conjugate(clause, "ㄴ다")


def test_names_are_unique_within_a_table(world):
    for table in (world.dishes, world.towns, world.animals, world.plants, world.things, world.jobs, world.feelings, world.health, world.days, world.hobbies, world.words):
        names = [entry.name for entry in table]
        assert len(names) == len(set(names))


def test_dialogue_lines_have_speakers():
    for document in generate(0.2, kinds=["dialogue"]):
        speakers = document.truth["speakers"]
        lines = document.text.split("\n")
        for line in lines[1:] if lines[0].startswith("(") else lines:
            assert line.partition(": ")[0] in speakers, document.text
        spoken = [line.partition(": ")[0] for line in lines if not line.startswith("(")]
        assert all(one != two for one, two in itertools.pairwise(spoken))


def test_family_relations_are_consistent(world):
    for person in world.people:
        father = world.relation(person, "아버지")
        if father is not None:
            assert father.family == person.family and father.age - person.age >= 18
            assert world.relation(person, "어머니").index == father.relations["아내"]
        friend = world.relation(person, "친구")
        if friend is not None:
            assert friend.index != person.index and abs(friend.age - person.age) <= 4
