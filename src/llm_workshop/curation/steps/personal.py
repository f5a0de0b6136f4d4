"""Personal data: masked, counted, or a reason to drop."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, Literal

from pydantic import Field

from llm_workshop.curation.personal_data import KINDS, find_personal_data, mask
from llm_workshop.curation.step import Drop, Step

Kind = Literal["email", "resident_number", "card", "phone", "landline", "account", "address"]


class PersonalData(Step):
    """Each value becomes the word for its kind ([전화번호]...); the counts are left in ``tags["personal_data"]``."""

    name: ClassVar[str] = "personal_data"
    title: ClassVar[str] = "개인정보 가리기"

    kinds: tuple[Kind, ...] = KINDS
    mask: bool = True  # False: only counted
    drop_above: int | None = Field(None, ge=0)  # a text with more values is a list of people, and dropped

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        spans = find_personal_data(text, self.kinds)
        if not spans:
            return text
        tags["personal_data"] = dict(Counter(span.kind for span in spans))
        if self.drop_above is not None and len(spans) > self.drop_above:
            return Drop("personal_data", f"{len(spans)} > {self.drop_above}")
        return mask(text, spans) if self.mask else text


STEPS = (PersonalData,)
