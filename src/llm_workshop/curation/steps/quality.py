"""Quality by trained models: spam and gibberish by a classifier, strangeness by a language model."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from llm_workshop.curation.step import Drop, Step

_HANGUL = np.zeros(1 << 16)  # 1 for syllables and single letters
_HANGUL[0xAC00 : 0xD7A3 + 1] = _HANGUL[0x3131 : 0x318E + 1] = 1


class Spam(Step):
    """Drops what a classifier takes for an advertisement or for gibberish; ``tags["quality"]`` is p(good)."""

    name: ClassVar[str] = "spam"
    title: ClassVar[str] = "스팸·의미 없는 글 (분류기)"

    model: str = ""  # path; empty: trained from the sample at first use
    threshold: float = Field(0.8, gt=0.5, le=1)  # probability from which a text is dropped
    _classifier: Any = PrivateAttr(None)

    def start(self) -> None:
        if self._classifier is None:
            from llm_workshop.curation.models.store import obtain

            self._classifier = obtain("spam", self.model)

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        probabilities = self._classifier.probabilities(text)
        tags["quality"] = round(probabilities["good"], 3)
        for label in ("spam", "gibberish"):
            if probabilities[label] >= self.threshold:
                return Drop(label, f"p = {probabilities[label]:.3f} >= {self.threshold:g}")
        return text


class Perplexity(Step):
    """Drops text whose Hangul surprises a language model of Korean; ``tags["bits_per_character"]`` is the figure.

    Only Hangul letters are judged, each after the two characters before it: code and English names in a Korean manual
    are no noise. A text with fewer than ``minimum_letters`` of them is let through.
    """

    name: ClassVar[str] = "perplexity"
    title: ClassVar[str] = "언어 모델로 본 낯섦"

    model: str = ""  # path; empty: trained from the sample at first use
    maximum: float = Field(14.0, gt=0)  # bits per Hangul letter; films reviews have 5 to 13, random syllables 18 and more
    characters: int = Field(500, ge=50)  # of a longer text this many from its beginning
    minimum_letters: int = Field(20, ge=1)
    _ngrams: Any = PrivateAttr(None)

    def start(self) -> None:
        if self._ngrams is None:
            from llm_workshop.curation.models.store import obtain

            self._ngrams = obtain("korean", self.model)

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        start = text[: self.characters]
        codes = np.frombuffer(start.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        hangul = _HANGUL.take(codes, mode="clip")
        count = float(hangul.sum())
        if count < self.minimum_letters:
            return text
        bits = -float(self._ngrams.log2_probabilities(start)[:-1] @ hangul) / count
        tags["bits_per_character"] = round(bits, 2)
        return Drop("perplexity", f"{bits:.2f} > {self.maximum:g} bits") if bits > self.maximum else text


STEPS = (Spam, Perplexity)
