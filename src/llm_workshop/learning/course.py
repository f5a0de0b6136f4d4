"""What there is to do in this checkout: steps, exercises and questions, by week and chapter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from llm_workshop.learning.exercises import GRADER, exercises_of
from llm_workshop.learning.quiz import known_quizzes, read_quiz
from llm_workshop.workspace import workspace


class Unit(NamedTuple):
    """A week or a chapter."""

    name: str  # week03, ch02
    title: str
    steps: tuple[str, ...]  # week03-tokenizer
    exercises: tuple[str, ...]
    questions: tuple[str, ...]
    wordings: tuple[str, ...] = ()  # how each question begins

    @property
    def label(self) -> str:
        return label_of(self.name)


def label_of(name: str) -> str:
    """What participants call it: 3주차 for ``week03``, 2장 for ``ch02``; any other name (of somebody's file) as it is."""
    found = re.fullmatch(r"(week|ch)(\d+)", name)
    return f"{int(found[2])}{'주차' if found[1] == 'week' else '장'}" if found else name


def read_course(root: str | Path | None = None) -> list[Unit]:
    """Weeks, then chapters.  ValueError for a quiz or a grader that cannot be read."""
    root = Path(root or workspace())
    folders = {folder.name.split("_")[0]: folder for folder in sorted(root.glob("labs/*_*")) if folder.is_dir()}
    quizzes = root / "workshop" / "quizzes"
    names = {name for name in [*folders, *known_quizzes(quizzes)] if re.fullmatch(r"(week|ch)\d\d", name)}
    return [
        _read_unit(name, folders.get(name), quizzes / f"{name}.yaml")
        for name in sorted(names, key=lambda name: (not name.startswith("week"), name))
    ]


def _read_unit(name: str, folder: Path | None, quiz_file: Path) -> Unit:
    title, steps, exercises, questions, wordings = "", (), (), (), ()
    if folder is not None:
        guide = _read(folder / "README.md")
        scripts = [p.stem for p in sorted(folder.glob("*.py")) if p.stem not in ("exercises", "solutions", "conftest")]
        scripts = _as_the_guide_has_them([s for s in scripts if not s.startswith(("test_", "_"))], guide)
        steps = tuple(f"{name}-{script}" for script in scripts)
        title = _title(guide)
        if (folder / GRADER).is_file():
            exercises = tuple(exercise.name for exercise in exercises_of(folder))
    if quiz_file.is_file():
        quiz = read_quiz(quiz_file)
        title, questions = title or quiz.title, tuple(question.id for question in quiz.questions)
        wordings = tuple(_beginning(question.question) for question in quiz.questions)
    return Unit(name, title or name, steps, exercises, questions, wordings)


def _read(guide: Path) -> str:
    return guide.read_text(encoding="utf-8") if guide.is_file() else ""


def _as_the_guide_has_them(scripts: list[str], guide: str) -> list[str]:
    """In the order in which the guide first runs them (``make week3-tokenizer``); those that it does not run come last."""

    def place(script: str) -> int:
        found = re.search(rf"make (week|ch)\d+-{re.escape(script)}\b", guide)
        return found.start() if found else len(guide)

    return sorted(scripts, key=place)


def _beginning(text: str, longest: int = 64) -> str:
    """The first paragraph without its marks, cut at a word."""
    text = re.sub(r"[`*]", "", " ".join(text.split("\n\n", 1)[0].split()))
    return text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0] + " …"


def _title(guide: str) -> str:
    """The guide's heading without its number: "# 3주차. 한국어 토크나이저" -> "한국어 토크나이저"."""
    return guide.split("\n", 1)[0].lstrip("# ").strip().split(". ", 1)[-1]
