"""The questions of a quiz: what a participant may type, and what is right.

The six types:

``choice``    one of the numbered choices            ``multiple``  all choices that are right
``number``    a number, right within ``tolerance``   ``short``     a word, in one of the accepted spellings
``order``     the choices in the right order         ``output``    what the program in ``code`` prints

``check`` is a Python program that prints the answer; the tests run it, so that an answer is proved and not believed.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StringConstraints,
    field_validator,
    model_validator,
)

Answer = int | float | str | tuple[int, ...]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Number = Annotated[int, Field(strict=True, ge=1)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuestionBase(Part):
    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    question: Text
    explanation: Text
    reference: Text
    check: str | None = None

    #: How to type the answer.
    how: ClassVar[str] = ""

    def read(self, typed: str) -> Answer:
        """What was typed, as an answer; ValueError says in Korean how to type one."""
        raise NotImplementedError

    def is_right(self, answer: Answer) -> bool:
        raise NotImplementedError

    def right_answer(self) -> str:
        """The right answer as it is shown: Markdown for choices, else literal text."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """Changes when the question does; an answer to the old one then no longer counts as answered."""
        return hashlib.sha256(self.model_dump_json(exclude={"explanation", "reference"}).encode()).hexdigest()[:12]


class _WithChoices(QuestionBase):
    choices: tuple[Text, ...] = Field(min_length=2)

    @field_validator("choices")
    @classmethod
    def _different(cls, choices):
        if len(set(choices)) < len(choices):
            raise ValueError("two choices are the same")
        return choices

    def _numbers(self, typed: str) -> tuple[int, ...]:
        typed = unicodedata.normalize("NFKC", typed)
        # With at most nine choices every digit is a number of its own: "231" is 2 3 1.
        numbers = tuple(int(n) for n in re.findall(r"\d" if len(self.choices) <= 9 else r"\d+", typed))
        if not numbers or re.search(r"[^\d\s,.·>→번]", typed) or any(not 1 <= n <= len(self.choices) for n in numbers):
            raise ValueError(f"1부터 {len(self.choices)}까지의 번호로 답해 주세요. {self.how}")
        return numbers

    def _lines(self, numbers: tuple[int, ...]) -> str:
        return "\n".join(f"**{number}**) {self.choices[number - 1]}" for number in numbers)

    def _check_range(self, numbers: tuple[int, ...]) -> None:
        if outside := [n for n in numbers if not 1 <= n <= len(self.choices)]:
            raise ValueError(f"answer {outside[0]} is outside of 1..{len(self.choices)}")


class ChoiceQuestion(_WithChoices):
    type: Literal["choice"]
    answer: Number
    how: ClassVar[str] = "번호 하나를 적습니다."

    @model_validator(mode="after")
    def _in_range(self):
        self._check_range((self.answer,))
        return self

    def read(self, typed: str) -> int:
        numbers = self._numbers(typed)
        if len(numbers) != 1:
            raise ValueError("번호를 하나만 골라 주세요.")
        return numbers[0]

    def is_right(self, answer: Answer) -> bool:
        return answer == self.answer

    def right_answer(self) -> str:
        return self._lines((self.answer,))


class MultipleQuestion(_WithChoices):
    type: Literal["multiple"]
    answer: tuple[Number, ...] = Field(min_length=1)
    how: ClassVar[str] = "맞는 번호를 모두 적습니다. 예: 1 3"

    @model_validator(mode="after")
    def _in_range(self):
        self._check_range(self.answer)
        if len(set(self.answer)) < len(self.answer):
            raise ValueError("answer names a choice twice")
        return self

    def read(self, typed: str) -> tuple[int, ...]:
        return tuple(sorted(set(self._numbers(typed))))

    def is_right(self, answer: Answer) -> bool:
        return isinstance(answer, tuple | list) and set(answer) == set(self.answer)

    def right_answer(self) -> str:
        return self._lines(tuple(sorted(self.answer)))


class OrderQuestion(_WithChoices):
    type: Literal["order"]
    answer: tuple[Number, ...]
    how: ClassVar[str] = "번호를 차례대로 모두 적습니다. 예: 2 3 1"

    @model_validator(mode="after")
    def _an_order(self):
        if sorted(self.answer) != list(range(1, len(self.choices) + 1)):
            raise ValueError(f"answer is no order of 1..{len(self.choices)}")
        if list(self.answer) == sorted(self.answer):
            raise ValueError("the choices stand in the right order already: shuffle them")
        return self

    def read(self, typed: str) -> tuple[int, ...]:
        numbers = self._numbers(typed)
        if sorted(numbers) != list(range(1, len(self.choices) + 1)):
            raise ValueError(f"1부터 {len(self.choices)}까지 한 번씩 차례대로 적어 주세요. 예: 2 3 1")
        return numbers

    def is_right(self, answer: Answer) -> bool:
        return isinstance(answer, tuple | list) and tuple(answer) == self.answer

    def right_answer(self) -> str:
        return self._lines(self.answer)


class NumberQuestion(QuestionBase):
    type: Literal["number"]
    answer: StrictInt | StrictFloat
    tolerance: float = Field(0.0, ge=0)
    how: ClassVar[str] = "수를 적습니다. 1,024나 3/4, 1e-3처럼 적어도 됩니다."

    @field_validator("answer")
    @classmethod
    def _finite(cls, answer):
        if not math.isfinite(answer):
            raise ValueError("answer is no finite number")
        return answer

    def read(self, typed: str) -> float:
        text = unicodedata.normalize("NFKC", typed).strip().replace(",", "").replace(" ", "")
        try:
            value = float(Fraction(text)) if "/" in text else float(text)
        except (ValueError, ZeroDivisionError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"수 하나를 단위 없이 적어 주세요. {self.how}")
        return value

    def is_right(self, answer: Answer) -> bool:
        return isinstance(answer, int | float) and math.isclose(answer, self.answer, rel_tol=1e-9, abs_tol=self.tolerance * (1 + 1e-9))

    def right_answer(self) -> str:
        shown = f"{self.answer:,}"
        return f"{shown} (±{self.tolerance:g}까지 맞습니다)" if self.tolerance else shown


class ShortQuestion(QuestionBase):
    type: Literal["short"]
    answer: tuple[Text, ...] = Field(min_length=1)
    how: ClassVar[str] = "낱말이나 짧은 말을 적습니다. 띄어쓰기와 대소문자는 가리지 않습니다."

    @field_validator("answer")
    @classmethod
    def _spelled(cls, answer):
        if any(not plain(spelling) for spelling in answer):
            raise ValueError("a spelling has nothing but marks")
        return answer

    def read(self, typed: str) -> str:
        if not plain(typed):
            raise ValueError(self.how)
        return typed.strip()

    def is_right(self, answer: Answer) -> bool:
        return isinstance(answer, str) and plain(answer) in {plain(spelling) for spelling in self.answer}

    def right_answer(self) -> str:
        return self.answer[0]


class OutputQuestion(QuestionBase):
    type: Literal["output"]
    code: Text
    answer: Text
    check: None = None
    how: ClassVar[str] = "프로그램이 찍는 글을 그대로 적습니다."

    @property
    def n_lines(self) -> int:
        return len(printed(self.answer))

    def read(self, typed: str) -> str:
        if not printed(typed):
            raise ValueError(self.how)
        return "\n".join(printed(typed))

    def is_right(self, answer: Answer) -> bool:
        return isinstance(answer, str) and printed(answer) == printed(self.answer)

    def right_answer(self) -> str:
        return "\n".join(printed(self.answer))


Question = Annotated[
    ChoiceQuestion | MultipleQuestion | NumberQuestion | ShortQuestion | OrderQuestion | OutputQuestion,
    Field(discriminator="type"),
]


def plain(text: str) -> str:
    """A spelling as it is compared: without case, spaces, quotes, hyphens and full stops."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\s`'\"“”‘’.\-_]+", "", text)


def printed(text: str) -> list[str]:
    """Printed text as it is compared: its lines without spaces at their ends, and without empty lines around them."""
    return [line.rstrip() for line in unicodedata.normalize("NFC", text).strip().splitlines()]
