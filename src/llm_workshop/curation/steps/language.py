"""The language of a text, told and asked for."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from llm_workshop.curation.languages import language_of
from llm_workshop.curation.step import Drop, Step
from llm_workshop.curation.steps.filters import korean_about_names, prose


class Language(Step):
    """Tags a text with its language and drops those in another than the ones kept.

    Manuals are full of names in Latin letters: a text with ``syllables`` of Hangul, and most of its letters Hangul once
    code, addresses and dotted names are out, is Korean.
    """

    name: ClassVar[str] = "language"
    title: ClassVar[str] = "언어 알아보기"

    keep: tuple[Literal["ko", "en", "ja", "zh", "other"], ...] = Field(("ko",), description="languages that stay; empty: all")
    hangul: float = Field(0.3, gt=0, le=1, description="share of Hangul among letters from which a text is Korean")
    syllables: int = Field(200, ge=1, description="Hangul syllables from which names and code are set aside")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        language, certainty = language_of(prose(text), self.hangul)
        if language != "ko" and korean_about_names(text, self.syllables):
            language = "ko"
        tags["language"] = language
        if self.keep and language not in self.keep:
            return Drop(language, f"{certainty:.2f}")
        return text


STEPS = (Language,)
