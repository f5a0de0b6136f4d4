"""What a recipe may say under ``dedup``.

    dedup:
      exact: true
      lines: {min_documents: 50}
      near: {unit: char, size: 5, threshold: 0.8}
      keep: longest
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExactSettings(_Settings):
    """Documents whose text is the same but for case, white space and Unicode form (see ``exact.fold``)."""


class LineSettings(_Settings):
    """Lines that stand in many documents: menus, notices, footers."""

    min_documents: int = Field(20, ge=2, description="a line in at least so many documents is taken out of all of them")
    min_characters: int = Field(10, ge=1, description="shorter lines stay: '1.' and '네.' are in many good documents")
    skip_kinds: tuple[str, ...] = Field(("chat", "dialogue"), description="kinds of documents in which lines repeat by nature")


class NearSettings(_Settings):
    """Documents whose sets of shingles have at least ``threshold`` in common (MinHash, LSH, then exact Jaccard)."""

    unit: Literal["char", "word"] = Field("char", description="what a shingle is made of")
    size: int = Field(5, ge=1, le=64, description="units in a shingle")
    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard similarity from which two documents count as one")
    permutations: int = Field(128, ge=4, le=4096, description="numbers in a signature, at most: bands x rows of them are used")
    recall: float = Field(0.98, gt=0, lt=1, description="share of the pairs at the threshold that LSH must propose")
    neighbours: int = Field(32, ge=1, description="in a larger bucket each document is compared with so many before it, and the first")
    chain: bool = Field(False, description="true: A~B and B~C make one cluster; false: only what resembles a kept document goes")
    seed: int = Field(1, ge=0, description="of the permutations")


class ContaminationSettings(_Settings):
    """Training text that an evaluation set holds too; see ``contamination``."""

    sets: tuple[str, ...] = Field(("valid",), description="valid (our held-out part), klue, kobest, nsmc, or paths of files")
    words: int = Field(8, ge=2, description="words in an n-gram")
    min_words: int = Field(5, ge=2, description="shorter items of an evaluation set cannot be judged")
    share: float = Field(0.7, gt=0, le=1, description="an item is contaminated if training has this share of its n-grams")
    remove: bool = Field(True, description="drop the training documents that hold a contaminated item; false: only report")


class DedupSettings(_Settings):
    exact: ExactSettings | None = ExactSettings()
    lines: LineSettings | None = None
    near: NearSettings | None = NearSettings()
    keep: Literal["earliest", "longest"] = Field("earliest", description="which document of a cluster stays")
    contamination: ContaminationSettings | None = None

    @field_validator("exact", "lines", "near", "contamination", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        """``true`` is a rule with its defaults, ``false`` is no rule."""
        return {True: {}, False: None}[value] if isinstance(value, bool) else value


def dedup_settings(values: Mapping[str, Any]) -> DedupSettings:
    """The settings of a recipe's ``dedup``; ValueError names the key that is wrong and what there is."""
    if not isinstance(values, Mapping):
        raise ValueError(f"dedup: {values!r} is no list of settings: write 'dedup: {{near: {{threshold: 0.8}}}}'")
    try:
        return DedupSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = _fields_at(first["loc"][:-1])
            raise ValueError(f"dedup: unknown setting '{place}'; there are {', '.join(known)}") from None
        raise ValueError(f"dedup.{place} = {first.get('input')!r}: {first['msg']}") from None


def _fields_at(place: tuple) -> list[str]:
    models = {"exact": ExactSettings, "lines": LineSettings, "near": NearSettings, "contamination": ContaminationSettings}
    return list(models.get(place[0] if place else "", DedupSettings).model_fields) or ["none"]
