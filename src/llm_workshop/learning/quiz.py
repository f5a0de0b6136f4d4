"""Quizzes and their loader.  A quiz is ``workshop/quizzes/weekNN.yaml`` (or ``chNN.yaml``)."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field, ValidationError, model_validator

from llm_workshop.learning.question import Part, Question, Text
from llm_workshop.workspace import workspace


class Checkpoint(Part):
    """A question of the guide with a model answer: to be thought over, not graded."""

    question: Text
    answer: Text


class Quiz(Part):
    week: int | None = Field(None, ge=1, le=10)
    chapter: int | None = Field(None, ge=1, le=8)
    title: Text
    questions: tuple[Question, ...] = Field(min_length=1)
    checkpoints: tuple[Checkpoint, ...] = ()

    @model_validator(mode="after")
    def _sound(self):
        if (self.week is None) == (self.chapter is None):
            raise ValueError("a quiz has either a week or a chapter")
        seen = set()
        for question in self.questions:
            if question.id in seen:
                raise ValueError(f"two questions have the id {question.id}")
            seen.add(question.id)
        return self

    @property
    def name(self) -> str:
        """``week03`` or ``ch02``: the file's name, and the key in the progress file."""
        return f"week{self.week:02}" if self.week else f"ch{self.chapter:02}"

    @property
    def heading(self) -> str:
        return f"{self.week}주차. {self.title}" if self.week else f"{self.chapter}장. {self.title}"

    def find(self, question_id: str) -> Question:
        for question in self.questions:
            if question.id == question_id:
                return question
        raise ValueError(f"quiz {self.name} has no question '{question_id}': `--list` shows their names")


def quiz_folder() -> Path:
    return workspace() / "workshop" / "quizzes"


def known_quizzes(folder: str | Path | None = None) -> list[str]:
    """Names of the quizzes that are there, weeks first."""
    names = [path.stem for path in Path(folder or quiz_folder()).glob("*.yaml")]
    return sorted(names, key=lambda name: (not name.startswith("week"), name))


def load_quiz(name: str, folder: str | Path | None = None) -> Quiz:
    """The quiz ``week03`` (or ``ch02``).  ValueError if there is none, or names the file, question and field at fault."""
    path = Path(folder or quiz_folder()) / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"there is no quiz {name}: there are {', '.join(known_quizzes(folder)) or 'none'}")
    quiz = read_quiz(path)
    if quiz.name != name:
        raise ValueError(f"{path}: it says {quiz.name}: rename the file, or mend its week or chapter")
    return quiz


def read_quiz(path: str | Path) -> Quiz:
    """A quiz file.  ValueError names the file, the question and the field."""
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    try:
        return Quiz.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{path}: {_explain(error, values)}") from None


def _explain(error: ValidationError, values: object) -> str:
    """The first error in words: which question (by id where it has one), which field, what is wrong."""
    first = error.errors()[0]
    where = list(first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if len(where) >= 2 and where[0] in ("questions", "checkpoints"):
        part = values[where[0]][where[1]]
        name = part.get("id") if isinstance(part, dict) else None
        kinds = ("choice", "multiple", "number", "short", "order", "output")
        fields = [str(step) for step in where[2:] if step not in kinds]
        label = f"question '{name}'" if name else f"{where[0][:-1]} {where[1] + 1}"
        return f"{label}{', field ' + '.'.join(fields) if fields else ''}: {message}"
    return f"{'field ' + '.'.join(map(str, where)) + ': ' if where else ''}{message}"
