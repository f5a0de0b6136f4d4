"""Reading passages with questions whose answers stand word for word in the passage.

Truth: ``passage`` and ``qa``: ``question``, ``answer``, ``start`` (of the answer, in characters of the passage).
The text is the passage with its questions and answers.
"""

from __future__ import annotations

import random
import re

from ..draft import Draft
from .encyclopedia import compose_article
from .news import compose_news, questions
from .phrases import chance, pick, shuffled

_LAYOUTS = (
    ("다음 글을 읽고 물음에 답하시오.\n", "물음: {q}\n답: {a}"),
    ("", "질문: {q}\n답: {a}"),
    ("[읽기]\n", "문) {q}\n답) {a}"),
    ("글: ", "질문: {q}\n대답: {a}"),
    ("", "{q}\n→ {a}"),
)


def _start(passage: str, answer: str) -> int:
    """Where the answer stands; at the head of a word if it does (배, but not in 담배)."""
    found = re.search(rf"(?<![가-힣]){re.escape(answer)}", passage)
    return found.start() if found else passage.index(answer)


def make_reading(rng: random.Random, world) -> Draft:
    """A passage with one to three questions."""
    while True:
        if chance(rng, 0.55):
            _, _, passage, event, slots = compose_news(rng, world)
            asked = questions(rng, event, slots, passage)
        else:
            _, _, passage, _, asked = compose_article(rng, world)
            asked = [pair for pair in asked if pair["answer"] in passage]
        if asked:
            break
    asked = shuffled(rng, asked)[: pick(rng, (1, 1, 2, 2, 3))]
    opening, layout = pick(rng, _LAYOUTS)
    lines = [layout.format(q=pair["question"], a=pair["answer"]) for pair in asked]
    qa = [{**pair, "start": _start(passage, pair["answer"])} for pair in asked]
    return Draft(opening + passage + "\n" + "\n".join(lines), {"passage": passage, "qa": qa})


KINDS = {"reading": (make_reading, 6.0)}
