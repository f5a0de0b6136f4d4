"""Writing into the participant's progress: a step that ended, exercises that were graded, questions answered."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from llm_workshop.learning.progress_store import (
    FILE_VARIABLE,
    ExerciseRecord,
    Progress,
    ProgressStore,
    QuestionRecord,
    ScoreRecord,
    StepRecord,
    now,
)
from llm_workshop.workspace import workspace


def record_step(name: str, store: ProgressStore | None = None) -> Progress:
    """Note that a step (``week03-tokenizer``) has ended well."""
    time = now()

    def change(progress: Progress) -> Progress:
        old = progress.steps.get(name)
        new = StepRecord(first=old.first if old else time, last=time, runs=(old.runs if old else 0) + 1)
        return progress.model_copy(update={"steps": progress.steps | {name: new}})

    return (store or ProgressStore()).update(change)


def record_check(week: str, results: Mapping[str, tuple[int, int]], store: ProgressStore | None = None) -> Progress:
    """Note graded exercises of ``week03`` (or ``ch02``): name -> (tests passed, tests).

    Raises ValueError for counts that cannot be.
    """
    if wrong := {name: counts for name, counts in results.items() if not 0 <= counts[0] <= counts[1] or not counts[1]}:
        name, counts = next(iter(wrong.items()))
        raise ValueError(f"{name}: {counts[0]} of {counts[1]} tests passed: use counts with 0 <= passed <= tests and tests >= 1")
    time = now()

    def change(progress: Progress) -> Progress:
        records = dict(progress.exercises.get(week, {}))
        for name, (passed, tests) in results.items():
            old = records.get(name)
            records[name] = ExerciseRecord(
                first=old.first if old else time, last=time, attempts=(old.attempts if old else 0) + 1,
                tests_passed=passed, tests=tests,
                passed_on=old.passed_on if old and old.passed_on else time if passed == tests else None,
            )  # fmt: skip
        return progress.model_copy(update={"exercises": progress.exercises | {week: records}})

    return (store or ProgressStore()).update(change)


def record_answer(week: str, question: str, right: bool, store: ProgressStore | None = None) -> Progress:
    """Note that a question of a quiz was answered, rightly or wrongly; not what the answer was."""
    time = now()

    def change(progress: Progress) -> Progress:
        records = progress.questions.get(week, {})
        old = records.get(question)
        new = QuestionRecord(
            first=old.first if old else time, last=time, tries=(old.tries if old else 0) + 1,
            first_right=old.first_right if old else right,
            right_on=old.right_on if old and old.right_on else time if right else None,
        )  # fmt: skip
        return progress.model_copy(update={"questions": progress.questions | {week: {**records, question: new}}})

    return (store or ProgressStore()).update(change)


def record_score(week: str, right: int, of: int, again: bool = False, store: ProgressStore | None = None) -> Progress:
    """Note a quiz that was gone through to its end."""
    score = ScoreRecord(on=now(), right=right, of=of, again=again)

    def change(progress: Progress) -> Progress:
        return progress.model_copy(update={"scores": progress.scores | {week: (*progress.scores.get(week, ()), score)}})

    return (store or ProgressStore()).update(change)


def record_finished_lab(report: str) -> None:
    """Called when a report is saved: notes its step if a lab of a checkout is what runs, and never makes it fail.

    The step is named after the lab's script (``week02-collect``), in a notebook after the report.  Programs that only
    borrow a report (tests, tools) leave no trace, nor do labs run outside of a checkout.
    """
    try:
        step = _running_step(report)
        if step and (os.environ.get(FILE_VARIABLE) or (workspace() / "labs").is_dir()):
            record_step(step)
    except Exception as problem:  # a full disk or a damaged file must not cost anybody the work of hours
        print(f"warning: progress not noted: {problem}", file=sys.stderr)


def _running_step(report: str) -> str | None:
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script is None or "ipykernel" in sys.modules:
        return report if "ipykernel" in sys.modules else None
    script = Path(script).resolve()
    return f"{script.parent.name.split('_')[0]}-{script.stem}" if script.parent.parent.name == "labs" else None
