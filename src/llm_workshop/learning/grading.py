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
from typing import Any, TypeVar

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


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Fail, in Korean, unless ``actual`` is a tensor with the shape and, within ``tolerance``, the values of ``expected``.

    Args:
        expected: a tensor, or the (nested) lists of one.
        tolerance: relative and absolute.
    """
    __tracebackhide__ = True
    import torch  # not every grader needs it

    assert isinstance(actual, torch.Tensor), f"텐서가 아니라 {type(actual).__name__}입니다"
    expected = expected if isinstance(expected, torch.Tensor) else torch.tensor(expected)
    got, right = tuple(actual.shape), tuple(expected.shape)
    assert got == right, f"모양이 {got}입니다. 바른 모양은 {right}입니다"
    same = torch.allclose(actual.double(), expected.double(), rtol=tolerance, atol=tolerance)
    assert same, f"나온 값 {actual.tolist()}, 바른 값 {expected.tolist()}"
