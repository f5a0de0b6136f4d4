"""What a participant has done, in one small file of their own: ``.workshop/progress.json`` in the checkout.

The file holds which steps ran, which exercises passed, which questions were answered rightly, and when: names and
counts, never an answer or a line of anybody's code.  It stays on this machine unless its owner hands it on.

Two files of one person are joined by :func:`merge`, in any order and as often as one likes: every value only ever
grows (first: the earliest, last: the latest, counts: the largest), so nothing is counted twice.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from llm_workshop.workspace import workspace
from scratch_llm.io import atomic_write

#: Raised when a reader of the old number could misunderstand the file; sections that a file lacks are empty.
SCHEMA = 1
FILE_VARIABLE, NAME_VARIABLE = "WORKSHOP_PROGRESS", "WORKSHOP_NAME"
LOCK_SECONDS = 5.0
NAMELESS = "이름 없음"


def _utc(text: str) -> str:
    """An ISO time with its zone, as UTC to the second: equal moments are equal strings, and strings sort by time."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time has no zone")
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _one_line(text: str) -> str:
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:60] or NAMELESS


Time = Annotated[str, AfterValidator(_utc)]
Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class StepRecord(_Record):
    """A step of a lab that ended well."""

    first: Time
    last: Time
    runs: Count = 1


class ExerciseRecord(_Record):
    """An exercise: how often it was graded, the tests of the last time, and when all of them first passed."""

    first: Time
    last: Time
    attempts: Count = 1
    tests_passed: Count = 0
    tests: Count = 0
    passed_on: Time | None = None


class QuestionRecord(_Record):
    """A question of a quiz: whether the first answer was right, and when it was answered rightly at last."""

    first: Time
    last: Time
    tries: Count = 1
    first_right: bool = False
    right_on: Time | None = None


class ScoreRecord(_Record):
    """A quiz gone through to its end; ``again``: only the questions that had been answered wrongly."""

    on: Time
    right: Count
    of: Count
    again: bool = False


class Participant(_Record):
    id: str = Field(default_factory=lambda: uuid.uuid4().hex, pattern=r"^[0-9a-f]{32}$")
    name: Annotated[str, AfterValidator(_one_line)] = NAMELESS


class Progress(_Record):
    """All of one participant; weeks and chapters are named ``week03`` and ``ch02``, steps ``week03-tokenizer``."""

    schema_number: int = Field(SCHEMA, alias="schema", ge=1, le=SCHEMA)
    participant: Participant
    updated: Time
    steps: dict[str, StepRecord] = {}
    exercises: dict[str, dict[str, ExerciseRecord]] = {}
    questions: dict[str, dict[str, QuestionRecord]] = {}
    scores: dict[str, tuple[ScoreRecord, ...]] = {}

    def attempts(self, week: str, exercise: str) -> int:
        """How often an exercise was graded."""
        record = self.exercises.get(week, {}).get(exercise)
        return record.attempts if record else 0


class NewerProgressError(ValueError):
    """The file was written by a later version of the workshop, so it must be left as it is."""


def read_progress(path: str | Path) -> Progress:
    """A participant's file.

    Raises ValueError that names the file and what is wrong with it, OSError if it cannot be read.
    """
    path = Path(path)
    try:
        return Progress.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if where == "schema" and isinstance(first["input"], int) and first["input"] > SCHEMA:
            raise NewerProgressError(f"{path} was written by a newer version (schema {first['input']}, known: {SCHEMA}): update this checkout") from None
        raise ValueError(f"{path} is no progress file: {f'{where}: ' if where else ''}{first['msg']}") from None


def merge(one: Progress, other: Progress) -> Progress:
    """Two files of one participant as one; the name is that of the file changed last.

    Raises ValueError if the files are not of one participant.
    """
    if one.participant.id != other.participant.id:
        raise ValueError(f"{one.participant.name} and {other.participant.name} are two participants: their files are not joined")
    newest = max(one, other, key=lambda p: (p.updated, p.participant.name))
    return Progress(
        participant=newest.participant,
        updated=newest.updated,
        steps=_join(one.steps, other.steps, _merge_records),
        exercises=_join(one.exercises, other.exercises, lambda a, b: _join(a, b, _merge_records)),
        questions=_join(one.questions, other.questions, lambda a, b: _join(a, b, _merge_records)),
        scores=_join(one.scores, other.scores, lambda a, b: tuple(sorted({*a, *b}, key=lambda s: (s.on, s.right, s.of, s.again)))),
    )


def _join(one: Mapping[str, Any], other: Mapping[str, Any], both: Callable[[Any, Any], Any]) -> dict[str, Any]:
    return {
        key: both(one[key], other[key]) if key in one and key in other else one[key] if key in one else other[key]
        for key in sorted({*one, *other})
    }


def _merge_records(one: Any, other: Any) -> Any:
    """The earliest first, the latest last, the largest count; what belongs to the first or last time goes with it."""
    values = {"first": min(one.first, other.first), "last": max(one.last, other.last)}
    if isinstance(one, StepRecord):
        values["runs"] = max(one.runs, other.runs)
    elif isinstance(one, ExerciseRecord):
        latest = max(one, other, key=lambda r: (r.last, r.tests_passed, r.tests))
        values |= {"attempts": max(one.attempts, other.attempts), "passed_on": _earliest(one.passed_on, other.passed_on),
                   "tests_passed": latest.tests_passed, "tests": latest.tests}
    else:
        values |= {"tries": max(one.tries, other.tries), "right_on": _earliest(one.right_on, other.right_on),
                   "first_right": min(one, other, key=lambda r: (r.first, r.first_right)).first_right}
    return one.model_copy(update=values)


def _earliest(*times: str | None) -> str | None:
    return min((time for time in times if time is not None), default=None)


class ProgressStore:
    """The participant's own file; several programs may write it at once.

    ``path``: None takes $WORKSHOP_PROGRESS, else ``.workshop/progress.json`` of the checkout.
    """

    def __init__(self, path: str | Path | None = None):
        self.path = Path(path or os.environ.get(FILE_VARIABLE) or workspace() / ".workshop" / "progress.json")

    def read(self) -> Progress:
        """What is there; nothing yet: an empty one with the participant's name."""
        if not self.path.exists():
            return Progress(participant=Participant(name=_find_name() or NAMELESS), updated=now())
        return read_progress(self.path)

    def update(self, change: Callable[[Progress], Progress], name: str | None = None) -> Progress:
        """Read, change and write under a lock; a damaged file is set aside with a warning, never overwritten.

        ``name``: the participant's name from now on (None: $WORKSHOP_NAME, else as it is).
        Raises OSError where nothing can be written, ValueError for a file of a newer version.
        """
        with self._locked():
            try:
                present = self.read()
            except NewerProgressError:
                raise
            except ValueError as problem:
                aside = self.path.with_name(f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}.damaged")
                os.replace(self.path, aside)
                print(f"warning: {problem}; it was moved to {aside.name} and a new one begun", file=sys.stderr)
                present = self.read()
            changed = change(present).model_copy(update={"updated": now()})
            if chosen := name or os.environ.get(NAME_VARIABLE):
                changed = changed.model_copy(update={"participant": Participant(id=changed.participant.id, name=chosen)})
            with atomic_write(self.path) as stream:
                stream.write(changed.model_dump_json(by_alias=True, indent=1) + "\n")
        return changed

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_name(self.path.name + ".lock"), "w") as lock:
            until = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise TimeoutError(f"{self.path} is held by another program: try again") from None
                    time.sleep(0.02)
            yield


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def local_time(text: str) -> str:
    """A time of the file as the clock on the wall here says it: "2026-03-02 09:15"."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")


def _find_name() -> str | None:
    """$WORKSHOP_NAME, else the name in Git's settings."""
    if name := os.environ.get(NAME_VARIABLE):
        return name
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, timeout=5)
        return found.stdout.strip() or None
    return None
