"""Sentences whose last predicate takes the ending of the speech level (상대 높임법) that the document is written in.

A source is a template of :mod:`..templates` in which predicates stand in angle brackets, in dictionary form:

    "국물이 [정말|아주] <진하다+>"   해라 진했다 / 해 진했어 / 해요 진했어요, 진하더라고요 / 합쇼 진했습니다 / 음 진했음

The level "후기" is 해요 as one tells what one has seen or felt oneself. A bare ``<이다>`` stands after a consonant.
``<@slot>`` conjugates the clause in a slot, ``<=slot>`` puts the copula behind the noun in a slot.
``<x>`` present, ``<x+>`` past, ``<x^>`` intention or guess (-겠-), ``<x!>`` request (해 주세요), ``<x~지만>`` any ending.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import lru_cache

from ..korean import adjective, conjugate
from ..predicates import I_VERBS
from ..templates import Template

LEVELS = ("해라", "해", "해요", "후기", "합쇼", "음", "세요")
_ENDINGS = {
    "해라": {"": "~ㄴ다", "+": "~았다", "^": "~겠다", "!": "~자"},
    "해": {"": "~아", "+": "~았어", "^": "~겠어", "!": "~아 줘"},
    "해요": {"": "~아요", "+": "~았어요", "^": "~겠어요", "!": "~아 주세요"},
    "합쇼": {"": "~ㅂ니다", "+": "~았습니다", "^": "~겠습니다", "!": "~아 주십시오"},
    "후기": {"": "~아요", "+": "~았어요", "^": "~겠어요", "!": "~아 주세요"},
    "음": {"": "~음", "+": "~았음", "^": "~겠음", "!": "~기 바람"},
    "세요": {"": "~으세요", "+": "~았어요", "^": "~겠어요", "!": "~아 주세요"},
}
_SHORT_THING = {"해": "거야", "해요": "거예요", "후기": "거예요", "세요": "거예요"}  # 것이다 as it is said
_COPULAS = {"해라": "{%s}이다", "해": "{%s:이야/야}", "해요": "{%s:이에요/예요}", "후기": "{%s:이에요/예요}", "세요": "{%s:이에요/예요}", "합쇼": "{%s}입니다", "음": "{%s}임"}
_PREDICATE = re.compile(r"<([^<>+^!~]+)([+^!]|~[^<>]+)?>")
# what one has seen or felt oneself is also told with -더라고요 and -네요
_LIVELY = {"": ("~아요", "~아요", "~네요"), "+": ("~았어요", "~았어요", "~더라고요")}


_DONE_BY_HAND = frozenset(("건지다", "던지다", "만지다", "다지다", "가지다", "지지다", "적다/동", "짜다/동", "일어나다"))


def _can_be_asked(predicate: str) -> bool:
    """Whether -으세요 is a request: not for adjectives, the copula and what happens by itself."""
    word = predicate.rpartition(" ")[2]
    if word in _DONE_BY_HAND:
        return True
    copula = word.endswith("이다") and word not in I_VERBS
    return not (adjective(predicate) or predicate.endswith("/형") or copula or word.endswith(("되다", "지다", "나다", "않다", "않다/동")))


def _class_of_negation(before: str) -> str:
    """않다 is an adjective behind adjectives (좋지 않다), a verb behind verbs (가지 않는다)."""
    word = before.rstrip().rpartition(" ")[2].rpartition("|")[2].removesuffix("는").removesuffix("도")
    return "/형" if word.endswith("지") and adjective(word[:-1] + "다") else "/동"


@lru_cache(maxsize=1 << 15)
def spoken(source: str, level: str) -> Template:
    """The compiled template of ``source`` at a level."""

    def ending(match: re.Match) -> str:
        predicate, mark = match.group(1), match.group(2) or ""
        if predicate == "않다":
            predicate += _class_of_negation(source[: match.start()])
        if predicate[0] == "=":
            return _COPULAS[level] % predicate[1:]
        if predicate[0] == "@":
            return f"{{{predicate[1:]}{mark if mark.startswith('~') else _ENDINGS[level][mark]}}}"
        endings = _ENDINGS["해요" if level == "세요" and not _can_be_asked(predicate) else level]
        chosen = (mark,) if mark.startswith("~") else (endings[mark],)
        if level == "후기" and mark in _LIVELY and adjective(predicate):
            chosen = _LIVELY[mark]
        if predicate == "것이다" and level in _SHORT_THING and not mark:
            return _SHORT_THING[level]
        if predicate == "이다":
            forms = [conjugate("것이다", e.removeprefix("~"))[1:] for e in chosen]
        else:
            forms = [f"{{={predicate}{e}}}" for e in chosen]
        return forms[0] if len(forms) == 1 else f"[{'|'.join(forms)}]"

    return Template(_PREDICATE.sub(ending, source))


def say(rng: random.Random, source: str, level: str, slots: Mapping | None = None) -> str:
    """One sentence without its full stop."""
    return spoken(source, level)(rng, slots)


def pick(rng: random.Random, items):
    return items[int(rng.random() * len(items))]


def shuffled(rng: random.Random, items) -> list:
    """A shuffled copy (``random.shuffle`` costs three times as much for short lists)."""
    keyed = [(rng.random(), i) for i in range(len(items))]
    keyed.sort()
    return [items[i] for _, i in keyed]


def weighted(rng: random.Random, pairs):
    """One of ``((item, weight), ...)``."""
    point = rng.random() * sum(weight for _, weight in pairs)
    for item, weight in pairs:
        point -= weight
        if point < 0:
            return item
    return pairs[-1][0]


def chance(rng: random.Random, probability: float) -> bool:
    return rng.random() < probability


def choose_lines(rng: random.Random, lines, count: int, always: tuple[int, ...] = ()) -> list[str]:
    """``count`` of ``lines`` in their order; a line that begins with ``^`` brings the one before it along."""
    kept = set(always)
    kept.update(rng.sample(range(len(lines)), min(len(lines), count)))
    for i in sorted(kept, reverse=True):
        while lines[i][0] == "^":
            i -= 1
            kept.add(i)
    return [lines[i].removeprefix("^") for i in sorted(kept)]
