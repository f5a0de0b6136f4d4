"""Which labs have exercises, and which: read from the source of their graders, without running anything."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

from llm_workshop.learning.grading import SECONDS
from llm_workshop.workspace import workspace

GRADER = "test_exercises.py"


@dataclass
class GradedExercise:
    """An exercise as its tests describe it.

    Attributes:
        name: of the function or class.
        tests: names of its tests, in the order of the file.
        hints: test -> Korean sentence.
        uses: exercises that a good answer calls.
        seconds: of the slowest test.
    """

    name: str
    tests: list[str] = field(default_factory=list)
    hints: dict[str, str] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    seconds: float = SECONDS


def lab_of(lesson: str, labs: Path | None = None) -> Path:
    """Folder of "week3", "week03" or "ch1" with its exercises.

    Raises:
        ValueError: there is no such lab, or it has no exercises.
    """
    folder = workspace() / "labs" if labs is None else labs
    have = {short_name(path.parent): path.parent for path in sorted(folder.glob(f"*_*/{GRADER}"))}
    spelt = re.fullmatch(r"(week|ch)0*(\d+)", lesson)
    if not spelt:
        raise ValueError(f"lesson {lesson!r} is unknown: name one like week3 or ch1")
    lesson = f"{spelt[1]}{spelt[2]}"
    if lesson not in have:
        raise ValueError(f"{lesson} has no exercises: {', '.join(have) or 'no lab here'} {'have' if len(have) != 1 else 'has'} some")
    return have[lesson]


def short_name(lab: Path) -> str:
    """"week3" of ``labs/week03_tokenizers``."""
    track, number = re.match(r"(week|ch)(\d+)_", lab.name).groups()
    return f"{track}{int(number)}"


def exercises_of(lab: Path) -> list[GradedExercise]:
    """The exercises of a lab in the order in which its grader first names them.

    Raises:
        ValueError: the grader marks a test with something else than literals.
    """
    found: dict[str, GradedExercise] = {}
    for node in ast.parse((lab / GRADER).read_text(encoding="utf-8")).body:
        for mark in getattr(node, "decorator_list", []):
            if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "exercise":
                try:
                    name = ast.literal_eval(mark.args[0])
                    given = {each.arg: ast.literal_eval(each.value) for each in mark.keywords}
                except (ValueError, IndexError):
                    raise ValueError(f"{lab / GRADER}, line {mark.lineno}: @exercise takes literals: a name, hint=, uses=, seconds=") from None
                graded = found.setdefault(name, GradedExercise(name))
                graded.tests.append(node.name)
                graded.hints[node.name] = given.get("hint", "")
                graded.uses = tuple(dict.fromkeys((*graded.uses, *given.get("uses", ()))))
                graded.seconds = max(graded.seconds, given.get("seconds", SECONDS))
    return list(found.values())
