"""The rule that many tutorials begin with, kept to be measured: how much of Korean it takes away."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from llm_workshop.curation.step import Drop, Step

_NEITHER_WORD_NOR_SPACE = re.compile(r"[^\w\s가-힣]")


class NaiveWipe(Step):
    """Deletes whatever is no letter, digit or white space: the mistake, not the cure.

    Sentences lose their ends (the model will not stop), quotations their speakers, 3.5 becomes 35 and -2 becomes 2. What
    does harm stays: the words of a menu, of an advertisement, of a broken decoding are all letters.
    """

    name: ClassVar[str] = "naive_wipe"
    title: ClassVar[str] = "기호 모두 지우기 (흔한 실수)"

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        return _NEITHER_WORD_NOR_SPACE.sub("", text)


STEPS = (NaiveWipe,)
