"""Chats between a user and the assistant: questions about the world's subjects, small talk, sums, rewriting, refusals.

Truth: ``question`` and ``answer`` (a short one) where there is one, ``subject``, ``intent``; for a part of the chats
``chosen`` and ``rejected`` (the better and the worse of two last replies) with ``rejected_reason``.
"""

from __future__ import annotations

import random
from functools import lru_cache
from itertools import accumulate

from ..draft import Draft
from ..templates import pick, render
from ..world import World
from . import chat_general
from .chat_subjects import Topic, topics

SUBJECT_SHARE = 0.72
_SYSTEM = ("당신은 친절한 한국어 도우미입니다.", "짧고 친절하게 해요체로 대답하세요.", "너는 사람을 돕는 한국어 도우미야. 모르는 것은 모른다고 말해.")
_TYPOS = (("어떻게", "어떡게"), ("뭐예요", "뭐에요"), ("돼요", "되요"), ("할까요", "할까여"), ("주세요", "주세여"), ("좋아요", "조아요"),
          ("알려 ", "알려"), ("만드는 법", "만드는법"), ("하면 ", "하면"), ("무슨 ", "무슨"))  # fmt: skip


@lru_cache(maxsize=1)
def _topic_table() -> tuple[tuple[Topic, ...], list[float]]:
    table = topics()
    return table, list(accumulate(topic.weight for topic in table))


def user_voice(rng: random.Random, text: str, first: bool = True) -> str:
    """What people do to their own messages: no full stop, a typo, a closing ㅎㅎ."""
    roll = rng.random()
    if roll < 0.12 and text[-1] in ".?!":
        return text[:-1]
    if roll < 0.16:
        for right, typed in _TYPOS:
            if right in text:
                return text.replace(right, typed, 1)
    if roll < 0.19 and text[-1] in ".":
        return text[:-1] + pick(rng, ("~", "ㅎㅎ", " ㅎㅎ", "..."))
    if first and roll < 0.23 and text.endswith("?"):
        return pick(rng, ("저기, ", "있잖아요, ", "혹시 ", "궁금한 게 있는데요, ", "질문이요. ")) + text
    return text


def _usable(intent, slots) -> bool:
    return not intent.needs or bool(slots[intent.needs])


def _subject_chat(rng: random.Random, world: World) -> tuple[list[str], dict]:
    """Turns (user, assistant, user, ...) about one subject, and the truth of the last turn."""
    table, cumulative = _topic_table()
    topic = rng.choices(table, cum_weights=cumulative)[0]
    entries = getattr(world, topic.table)
    entry = pick(rng, entries)
    slots = topic.slots(rng, entry)
    intents = [intent for intent in topic.intents if _usable(intent, slots)]
    intent = pick(rng, intents)
    question = render(rng, pick(rng, intent.asks), slots)
    answer = render(rng, pick(rng, intent.answers), slots)
    turns = [user_voice(rng, question), answer]
    roll = rng.random()
    for _ in range(0 if roll < 0.62 else 1 if roll < 0.9 else 2):
        intents = [other for other in intents if other is not intent and other.follows]
        if not intents:
            break
        intent = pick(rng, intents)
        slots = topic.slots(rng, entry) | {key: slots[key] for key in ("cause", "why", "cause_past") if key in slots}
        question = render(rng, pick(rng, intent.follows), slots)
        answer = render(rng, pick(rng, intent.answers), slots)
        turns += [user_voice(rng, question, first=False), answer]
    truth = {"subject": entry.name, "question": question, "intent": topic.table}
    if intent.short:
        truth["answer"] = render(rng, intent.short, slots)
    if rng.random() < 0.3:
        truth |= _preference(rng, answer, topic, entries, entry, intent)
    return turns, truth


def _preference(rng: random.Random, answer: str, topic: Topic, entries, entry, intent) -> dict:
    """The reply given and a worse one: off the subject, rude, empty, or repeating itself."""
    reason = pick(rng, ("off_topic", "rude", "unhelpful", "repetitive"))
    if reason == "off_topic":
        other = pick(rng, [candidate for candidate in entries if candidate is not entry])
        other_slots = topic.slots(rng, other)
        rejected = render(rng, pick(rng, intent.answers), other_slots) if _usable(intent, other_slots) else f"{other.name} 이야기를 해 드릴게요."
    elif reason == "rude":
        rejected = pick(rng, ("그런 것도 몰라? 직접 찾아봐.", "귀찮게 왜 자꾸 물어봐.", f"{entry.name}? 관심 없어.", "알아서 해. 나는 바빠."))
    elif reason == "unhelpful":
        rejected = pick(rng, ("글쎄요.", "잘 모르겠어요.", f"{entry.name}요? 그냥 그래요.", "네.", "그건 사람마다 달라요."))
    else:
        first = answer.split(". ")[0].rstrip(".")
        rejected = f"{first}. {first}. {first}."
    return {"chosen": answer, "rejected": rejected, "rejected_reason": reason}


_HELLO = (
    ("안녕하세요!", ("안녕하세요! 무엇을 도와드릴까요?", "안녕하세요, 반가워요. 무엇이 궁금하세요?")),
    ("안녕", ("안녕하세요! 무엇이 궁금하세요?", "안녕하세요! 오늘은 무엇을 도와드릴까요?")),
    ("물어볼 게 있어요.", ("네, 편하게 물어보세요.", "네, 무엇이든 물어보세요.")),
    ("도와줄 수 있어?", ("그럼요, 무엇을 도와드릴까요?", "네, 말씀해 주세요.")),
)
_THANKS = (
    (("고마워요!", "감사합니다.", "고맙습니다.", "도움이 됐어요. 고마워요."), ("도움이 되었다니 기뻐요.", "천만에요. 또 궁금한 것이 있으면 물어보세요.", "별말씀을요. 좋은 하루 보내세요!")),
    (("고마워", "오 고마워!", "알았어, 고마워"), ("천만에요! 언제든 또 물어보세요.", "도움이 되어 기뻐요.")),
)


def make(rng: random.Random, world: World) -> Draft:
    if rng.random() < SUBJECT_SHARE:
        turns, truth = _subject_chat(rng, world)
        if rng.random() < 0.06:
            hello, replies = pick(rng, _HELLO)
            turns = [hello, pick(rng, replies), *turns]
        if rng.random() < 0.07 and "chosen" not in truth:
            thanks, replies = pick(rng, _THANKS)
            turns += [pick(rng, thanks), pick(rng, replies)]
    else:
        turns, truth = chat_general.make_turns(rng, world)
    messages = [{"role": "assistant" if number % 2 else "user", "content": text.strip()} for number, text in enumerate(turns)]
    if rng.random() < 0.04:
        messages.insert(0, {"role": "system", "content": pick(rng, _SYSTEM)})
    return Draft(truth=truth, messages=tuple(messages))


KINDS = {"chat": (make, 260.0)}
