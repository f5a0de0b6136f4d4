"""The language of a text, told and asked for."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from llm_workshop.curation.languages import language_of
from llm_workshop.curation.step import Drop, Step
from llm_workshop.curation.steps.filters import prose


class Language(Step):
    """Tags a text with its language and drops those in another than the ones kept."""

    name: ClassVar[str] = "language"
    title: ClassVar[str] = "언어 알아보기"

    keep: tuple[Literal["ko", "en", "ja", "zh", "other"], ...] = Field(("ko",), description="languages that stay; empty: all")
    hangul: float = Field(0.3, gt=0, le=1, description="share of Hangul among letters from which a text is Korean")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        language, certainty = language_of(prose(text), self.hangul)
        tags["language"] = language
        if self.keep and language not in self.keep:
            return Drop(language, f"{certainty:.2f}")
        return text


STEPS = (Language,)
