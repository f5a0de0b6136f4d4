"""The pytest plugin of the graders: the fixture ``submission``, and ``--submission FILE`` that says whose file it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_workshop.learning.grading import exercise_of
from llm_workshop.learning.submission import Broken, Submission, load_submission


class MissingExercise(Exception):
    """The participant's file has no such function.

    Attributes:
        name: of the exercise.
        broken: why its statement could not be loaded; ``None``: there is none.
    """

    def __init__(self, name: str, broken: Broken | None):
        reason = f": {broken.kind} in line {broken.line}: {broken.message}" if broken else ""
        super().__init__(f"{name} is not in the participant's file{reason}")
        self.name = name
        self.broken = broken


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--submission", metavar="FILE", help="the file to grade (default: exercises.py beside the grader)")


#: Files that were loaded before the tests.
LOADED = pytest.StashKey[dict[Path, Submission]]()


@pytest.fixture(scope="session")
def submissions(pytestconfig: pytest.Config) -> dict[Path, Submission]:
    """Files loaded so far in this process."""
    return pytestconfig.stash.get(LOADED, {})


@pytest.fixture
def submission(request: pytest.FixtureRequest, submissions: dict[Path, Submission]):
    """The participant's module (a test of graders parametrises it with other files)."""
    chosen = getattr(request, "param", None) or request.config.getoption("--submission")
    path = Path(chosen).resolve() if chosen else request.path.with_name("exercises.py")
    if path not in submissions:
        submissions[path] = load_submission(path)
    loaded = submissions[path]
    graded = exercise_of(request.function)
    if graded is not None and not hasattr(loaded.module, graded.name):
        raise MissingExercise(graded.name, loaded.why_absent(graded.name))
    return loaded.module
