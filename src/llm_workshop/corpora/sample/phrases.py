"""Small ways of saying things that several kinds share: lists, advice, steps, reports."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .conjugation import conjugate
from .korean import josa, particle
from .templates import pick


def listed(items: Sequence[str], particle_pair: str = "과/와") -> str:
    """"감자와 당근, 양파": the first two joined by 과/와, the rest by commas."""
    if len(items) == 1:
        return items[0]
    return ", ".join([josa(items[0], particle_pair) + " " + items[1], *items[2:]])


def comma_listed(items: Sequence[str]) -> str:
    """"감자, 당근, 양파"."""
    return ", ".join(items)


def advise(rng: random.Random, clause: str) -> str:
    """A clause as advice in 해요체, without the full stop: "물을 자주 마셔 보세요"."""
    if clause.endswith("지 않다"):
        return conjugate(clause, pick(rng, ("도록 하세요", "는 것이 좋아요", "는 게 좋아요")))
    forms = ("으세요", "으면 좋아요", "는 것이 좋아요", "는 게 좋아요", "으면 도움이 돼요", "으시면 좋아요")
    if not clause.endswith(("보다", "있다", "하다 보다", "쉬다", "푹 자다")):
        forms = ("아 보세요", "아 보세요", "아 보시는 건 어때요?", *forms)
    return conjugate(clause, pick(rng, forms))


def sentence(text: str) -> str:
    """``text`` with a full stop unless it already ends a sentence."""
    return text if text.endswith((".", "?", "!", "…")) else text + "."


_FIRST = ("먼저 ", "우선 ", "맨 먼저 ", "")
_NEXT = ("그다음 ", "그다음에 ", "이어서 ", "그러고 나서 ")
_LAST = ("마지막으로 ", "끝으로 ", "그런 다음 ")


def steps_polite(rng: random.Random, steps: Sequence[str]) -> str:
    """Steps (clauses in order) as two to four sentences in 해요체."""
    finish = pick(rng, ("으면 돼요.", "으면 완성이에요.", "으면 다 된 거예요."))
    if len(steps) == 2:
        return f"{pick(rng, _FIRST)}{conjugate(steps[0], '아요')}. {pick(rng, _LAST)}{conjugate(steps[1], finish)}"
    parts = [f"{pick(rng, _FIRST)}{conjugate(steps[0], '아요')}."]
    middle = list(steps[1:-1])
    while middle:
        if len(middle) >= 2 and rng.random() < 0.6:
            parts.append(f"{pick(rng, _NEXT)}{conjugate(middle[0], '고')}, {conjugate(middle[1], '아요')}.")
            middle = middle[2:]
        else:
            parts.append(f"{pick(rng, _NEXT)}{conjugate(middle[0], '아요')}.")
            middle = middle[1:]
    parts.append(f"{pick(rng, _LAST)}{conjugate(steps[-1], finish)}")
    return " ".join(parts)


def called(name: str) -> str:
    """A given name inside a friendly sentence, without a particle: 지훈이, 민아."""
    return name + particle(name, "이/")
