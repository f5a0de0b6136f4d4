"""Rules for tests of the pipeline, which must not depend on what the real rules decide."""

from __future__ import annotations

import os
import time
from typing import Any, ClassVar

from llm_workshop.curation.step import Drop, Step


class Squeeze(Step):
    name: ClassVar[str] = "squeeze"
    title: ClassVar[str] = "빈칸 줄이기"

    def __call__(self, text: str, tags: dict[str, Any]) -> str:
        return " ".join(text.split())


class TooShort(Step):
    name: ClassVar[str] = "too_short"
    title: ClassVar[str] = "짧은 글"
    minimum: int = 60

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        return Drop("short", f"{len(text)} < {self.minimum}") if len(text) < self.minimum else text


class Digits(Step):
    """Tags and masks."""

    name: ClassVar[str] = "digits"
    title: ClassVar[str] = "숫자"

    def __call__(self, text: str, tags: dict[str, Any]) -> str:
        number = sum(character.isdigit() for character in text)
        tags["digits"] = number > 0
        if number:
            tags["kinds"] = {"digit": number}
        return text.translate(dict.fromkeys(range(48, 58), "#")) if number > 9 else text


class Slow(Step):
    """Notes in a file which documents it has seen, slowly."""

    name: ClassVar[str] = "slow"
    title: ClassVar[str] = "느린 규칙"
    log: str
    milliseconds: float = 1.0

    def __call__(self, text: str, tags: dict[str, Any]) -> str:
        time.sleep(self.milliseconds / 1000)
        with open(self.log, "a", encoding="utf-8") as stream:
            stream.write(f"{os.getpid()} {hash(text)}\n")
        return text


class FallsOver(Step):
    name: ClassVar[str] = "falls_over"
    title: ClassVar[str] = "틀린 규칙"
    on: str

    def __call__(self, text: str, tags: dict[str, Any]) -> str:
        if self.on in text:
            raise KeyError("oops")
        return text


class Erase(Step):
    name: ClassVar[str] = "erase"
    title: ClassVar[str] = "다 지우는 규칙"
    on: str

    def __call__(self, text: str, tags: dict[str, Any]) -> str:
        return " \n" if self.on in text else text


class ReturnsNothing(Step):
    name: ClassVar[str] = "returns_nothing"
    title: ClassVar[str] = "return을 잊은 규칙"

    def __call__(self, text: str, tags: dict[str, Any]) -> None:
        text.strip()
