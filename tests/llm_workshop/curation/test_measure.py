"""Grading of rules: rules that repair, miss and spoil on purpose, on documents written by hand."""

from __future__ import annotations

import json
import unicodedata
from typing import Any, ClassVar

import pytest

from llm_workshop.corpora.document import Document
from llm_workshop.corpora.sample import generate
from llm_workshop.curation import measure as module
from llm_workshop.curation.measure import apply_steps, measure
from llm_workshop.curation.step import Drop, Step
from llm_workshop.curation.steps.personal import PersonalData
from llm_workshop.curation.truth import expected_texts, may_be_dropped, same_text


class Compose(Step):
    name: ClassVar[str] = "compose"
    title: ClassVar[str] = "NFC"

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        return unicodedata.normalize("NFC", text)


class DropWith(Step):
    name: ClassVar[str] = "drop_with"
    title: ClassVar[str] = "낱말로 버리기"
    word: str

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        return Drop("word", self.word) if self.word in text else text


def clean(number: int, text: str) -> Document:
    return Document(f"c{number}", "essay", text)


def noisy(number: int, fault: str, text: str, **label) -> Document:
    return Document(f"n{number}", "essay", text, noise=({"type": fault, **label},))


NFD = unicodedata.normalize("NFD", "나비가 난다.")


def test_repaired_left_lost_and_changed_documents_are_told_apart():
    documents = [
        clean(1, "나무가 자란다."), clean(2, "대출 이야기도 있다."),
        noisy(1, "nfd", NFD), noisy(2, "nfd", NFD + unicodedata.normalize("NFD", " 대출")),
        noisy(3, "zero_width", "나\u200b비", characters=["ZWSP"], count=1),
        noisy(4, "spam", "대출 됩니다", topic="loan"), noisy(5, "spam", "세일 합니다", topic="shopping"),
        noisy(6, "truncated", "나비가 나", clean="나비가 난다."),
        noisy(7, "html", unicodedata.normalize("NFD", "<p>가</p>"), clean="가", style="inline"),
    ]  # fmt: skip
    result = measure(documents, [Compose(), DropWith(word="대출")])
    assert dict(result.clean) == {"kept": 1, "dropped": 1} and result.clean_kept == 0.5
    nfd = result.faults["nfd"]
    assert (nfd.documents, nfd.restored, nfd.dropped, dict(nfd.wrong)) == (2, 1, 0, {"lost": 1})
    assert dict(result.faults["zero_width"].wrong) == {"left": 1}
    assert dict(result.faults["html"].wrong) == {"changed": 1} and result.faults["html"].parts == {"inline": [1, 0]}
    assert dict(result.faults["truncated"].wrong) == {"left": 1}
    spam = result.faults["spam"]
    assert (spam.right, spam.recall, spam.parts) == (1, 0.5, {"loan": [1, 1], "shopping": [1, 0]})
    assert dict(result.rules["drop_with"]) == {"clean": 1, "nfd": 1, "spam": 1}
    # the one false alarm of drop_with is shared by its two hits; compose made no difference to a clean document
    assert nfd.false_alarms == 0.5 and nfd.precision == 2 / 2.5
    assert spam.false_alarms == 0.5 and spam.precision == pytest.approx(1 / 1.5)
    assert {(m.fault, m.problem) for m in result.misses} == {
        ("clean", "dropped"), ("nfd", "lost"), ("zero_width", "left"), ("spam", "left"), ("truncated", "left"), ("html", "changed"),
    }  # fmt: skip


def test_a_cut_text_may_go_and_a_broken_one_too():
    lost = {"type": "mojibake", "written_as": "utf-8", "read_as": "cp949", "clean": "밥"}
    back = {"type": "mojibake", "written_as": "utf-8", "read_as": "cp1252"}
    assert may_be_dropped({"type": "truncated"}) and may_be_dropped(lost) and not may_be_dropped(back)
    documents = [noisy(1, "truncated", "대출을 받", clean="대출을 받았다.")]
    assert measure(documents, [DropWith(word="대출")]).faults["truncated"].dropped == 1


def test_what_is_expected_of_personal_data_and_of_repeated_jamo():
    text = "반가워요. 김가람, 010-0123-4567"
    items = [{"kind": "name", "start": 6, "end": 9}, {"kind": "phone", "start": 11, "end": 24}]
    document = noisy(1, "personal_data", text, items=items, spans=[[5, 24]])
    assert expected_texts(document) == ("반가워요. 김가람, [전화번호]",)
    assert measure([document], [PersonalData()]).faults["personal_data"].recall == 1
    assert measure([document], [PersonalData(kinds=("email",))]).faults["personal_data"].recall == 0
    jamo = noisy(2, "jamo_repetition", "좋아요ㅋㅋㅋㅋㅋㅋ 네.ㅠㅠㅠㅠㅠ", spans=[[3, 9], [12, 17]])
    assert expected_texts(jamo)[0] == "좋아요 네." and expected_texts(jamo)[2] == "좋아요ㅋㅋ 네.ㅠㅠ"
    assert expected_texts(noisy(3, "spam", "광고")) == ()


def test_same_text_forgives_white_space_at_the_ends_of_lines_only():
    assert same_text("가 나\n다", "가 나 \n다\n") and not same_text("가 나", "가나") and not same_text("가\n나", "가 나")


def duplicate(number: int, of: str, fault: str = "exact_duplicate", **label) -> Document:
    return Document(f"d{number}", "essay", "같은 글", noise=({"type": fault, "of": of, **label},))


def test_one_of_a_group_of_duplicates_may_stay_whichever_it_is():
    group = [clean(1, "같은 글"), duplicate(1, "c1"), duplicate(2, "c1")]
    assert "exact_duplicate" not in measure(group, []).faults  # rules alone cannot know
    assert measure(group, [], removed={}).faults["exact_duplicate"].recall == 0
    one = measure(group, [], removed={"d1": "c1"})
    assert one.faults["exact_duplicate"].recall == 0.5 and one.clean["kept"] == 1
    kept_another = measure(group, [], removed={"c1": "d2", "d1": "d2"})
    assert kept_another.faults["exact_duplicate"].recall == 1 and kept_another.clean["dropped"] == 0


def test_a_removal_in_favour_of_another_text_is_a_false_alarm():
    documents = [clean(1, "같은 글"), duplicate(1, "c1"), clean(2, "다른 글")]
    result = measure(documents, [], removed={"d1": "c1", "c2": "c1"})
    assert dict(result.clean) == {"kept": 1, "dropped": 1}
    assert result.faults["exact_duplicate"].precision == 0.5
    assert [(m.id, m.problem, m.rules) for m in result.misses] == [("c2", "dropped", ("dedup",))]
    assert (result.misses[0].taken_for, result.misses[0].got, result.misses[0].expected) == ("c1", "같은 글", "다른 글")
    assert json.loads(json.dumps(result.as_values()))["misses"][0]["taken_for"] == "c1"


def test_each_rule_of_the_deduplication_answers_for_its_own_false_alarms():
    documents = [clean(1, "같은 글"), duplicate(1, "c1"), duplicate(2, "c1", "near_duplicate", similarity=0.9), clean(2, "다른 글")]
    removed = {"d1": "c1", "d2": "c1", "c2": "c1"}
    result = measure(documents, [], removed, removed_by={"d1": "exact", "d2": "near", "c2": "near"})
    assert result.faults["exact_duplicate"].precision == 1 and result.faults["near_duplicate"].precision == 0.5
    assert dict(result.rules["exact"]) == {"exact_duplicate": 1} and dict(result.rules["near"]) == {"near_duplicate": 1, "clean": 1}
    # the original went instead of its copy: to the credit of the rule that removed it
    other = measure(documents[:2], [], {"c1": "d1"}, removed_by={"c1": "exact"})
    assert dict(other.rules["exact"]) == {"exact_duplicate": 1}


def test_a_near_duplicate_below_the_threshold_need_not_be_found():
    documents = [clean(1, "같은 글"), duplicate(1, "c1", "near_duplicate", similarity=0.7), duplicate(2, "c1", "near_duplicate", similarity=0.9)]
    score = measure(documents, [], removed={"d2": "c1"}).faults["near_duplicate"]
    assert (score.documents, score.recall) == (1, 1.0)


def test_steps_run_until_one_drops():
    outcome = apply_steps([Compose(), DropWith(word="나비"), Compose()], NFD)
    assert (outcome.text, outcome.dropped_by, outcome.drop.reason, outcome.changed_by) == (None, "drop_with", "word", ("compose",))


def test_no_rules_repair_nothing_and_harm_nothing():
    result = measure(generate(0.3, 7, "valid", None, 0.6), [])
    assert result.clean_kept == 1 and all(score.restored <= score.documents * 0.1 for score in result.faults.values())
    assert all(score.acted == 0 for score in result.faults.values())


def test_command_prints_every_fault(capsys):
    assert module.main(["--megabytes", "0.1", "--examples", "1"]) == 0
    printed = capsys.readouterr().out
    assert all(fault in printed for fault in ("personal_data", "gibberish", "clean:", "precision"))


def test_a_recipe_that_is_not_there_is_one_line(capsys):
    assert module.main(["--recipe", "nope"]) == 1
    error = capsys.readouterr().err
    assert "no recipe 'nope'" in error and "Traceback" not in error
