"""``workshop solution``: the solution of an exercise, once it was tried."""

from __future__ import annotations

import ast
from pathlib import Path

from llm_workshop.learning.check import exercise_named
from llm_workshop.learning.exercises import exercises_of, lab_of, short_name
from llm_workshop.learning.progress_store import ProgressStore


def solution(lesson: str, name: str | None, force: bool = False) -> int:
    """Print the solution of an exercise with its comments; 1 where it was never tried.

    Args:
        lesson: "week3", "ch1".
        name: of the exercise.
        force: show it all the same.

    Raises:
        ValueError: an unknown lesson or exercise, or no name.
    """
    lab = lab_of(lesson)
    if not name:
        raise ValueError(f"name an exercise: make {short_name(lab)}-solution EX={exercises_of(lab)[0].name} ({short_name(lab)} has {', '.join(each.name for each in exercises_of(lab))})")
    exercise_named(lab, name)
    if not force and not ProgressStore().read().attempts(lab.name.split("_")[0], name):
        print(
            f"{name}은(는) 아직 채점받은 적이 없습니다. {lab / 'exercises.py'}에 답을 써 보고 채점받은 다음에 풀이를 보세요.\n"
            f"  채점: make {short_name(lab)}-check EX={name}\n"
            f"  그래도 보기: make {short_name(lab)}-solution EX={name} FORCE=1"
        )
        return 1
    print(source_of(lab / "solutions.py", name))
    return 0


def source_of(file: Path, name: str) -> str:
    """The source of a top-level function or class: its comments, decorators, and the imports that it needs.

    Raises:
        ValueError: the file defines none of that name.
    """
    text = file.read_text(encoding="utf-8")
    lines, tree = text.splitlines(), ast.parse(text)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            start = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
            while start > 0 and lines[start - 1].startswith("#"):
                start -= 1
            used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            imports = [ast.unparse(each) for each in tree.body if isinstance(each, (ast.Import, ast.ImportFrom))
                       if used & {(alias.asname or alias.name).split(".")[0] for alias in each.names}]  # fmt: skip
            head = [*imports, "", ""] if imports else []
            return "\n".join([*head, *lines[start : node.end_lineno]])
    raise ValueError(f"{file} defines no {name}")
