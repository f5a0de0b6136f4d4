"""What the author of a grader writes: which exercise a test grades, and the hint when it fails.

``labs/weekNN_topic/test_exercises.py`` is an ordinary pytest file whose tests take the fixture ``submission``
(the participant's module, see :mod:`llm_workshop.learning.plugin`) and carry :func:`exercise`::

    @exercise("count_pairs", hint="겹치는 쌍도 하나씩 셉니다.")
    def test_pairs_that_overlap(submission):
        assert submission.count_pairs([1, 1, 1]) == {(1, 1): 2}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., None])

#: Wall-clock seconds that one test may take, loading the participant's file included.
SECONDS = 10.0
ATTRIBUTE = "graded_exercise"


@dataclass(frozen=True)
class Exercise:
    """What a test says about the exercise that it grades.

    Attributes:
        name: of the function or class in ``exercises.py``.
        hint: Korean sentence shown when this test fails; "" shows none.
        uses: other exercises that a good answer calls; where those are wrong, this one is too.
        seconds: limit of the test.
    """

    name: str
    hint: str = ""
    uses: tuple[str, ...] = ()
    seconds: float = SECONDS


def exercise(name: str, *, hint: str = "", uses: tuple[str, ...] = (), seconds: float = SECONDS) -> Callable[[Test], Test]:
    """Mark a test as grading the exercise ``name``; see :class:`Exercise`.

    Raises:
        ValueError: ``name`` is no Python name, or ``uses`` is one string instead of a tuple.
    """
    if not name.isidentifier():
        raise ValueError(f"exercise name {name!r} is no Python name: give the function or class of exercises.py")
    if isinstance(uses, str):
        raise ValueError(f"uses={uses!r} must be a tuple of names: write uses=({uses!r},)")

    def mark(test: Test) -> Test:
        setattr(test, ATTRIBUTE, Exercise(name, hint, tuple(uses), seconds))
        return test

    return mark


def exercise_of(test: Callable[..., None]) -> Exercise | None:
    """The exercise that a test grades; ``None`` where it grades none."""
    return getattr(test, ATTRIBUTE, None)
