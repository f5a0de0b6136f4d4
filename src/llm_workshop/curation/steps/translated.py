"""Spaces that a translation machine left inside words: 사용 하 여, 에 대 한, 사용자에 게.

Manuals translated by machine have them by the thousand, and hardly anybody writes them by hand: in some 50,000 petitions,
remarks and sentences of a treebank the first pattern has no hit, in 1,500 such manuals 8,400. Only endings that cannot
stand alone are joined; "지정 합니다" is left, since people write that too.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from llm_workshop.curation.step import Drop, Step

_ENDING = re.compile(r"(?<=[가-힣]) (하|되|시키) (여|고|며|려면|면|어|기|게|는|도록)(?![가-힣])")
_ABOUT = re.compile(r"(?<=에 )대 (한|해|하여)(?![가-힣])")
_TO = re.compile(r"(?<=[자들님람인원])에 게(?![가-힣])")  # of persons: 바위틈에 게 is a crab


class MachineSpacing(Step):
    """Joins stems and endings that a translation machine set apart: 사용 하 여 becomes 사용하여."""

    name: ClassVar[str] = "machine_spacing"
    title: ClassVar[str] = "번역기가 벌려 놓은 어미 붙이기"

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        if " 하 " in text or " 되 " in text or " 시키 " in text:
            text = _ENDING.sub(r"\1\2", text)
        if "대 한" in text or "대 해" in text or "대 하" in text:
            text = _ABOUT.sub(r"대\1", text)
        return _TO.sub("에게", text) if "에 게" in text else text


STEPS = (MachineSpacing,)
