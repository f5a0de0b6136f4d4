"""``workshop solution``: the solution of an exercise, once it was tried."""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path

from llm_workshop.learning.check import exercise_named
from llm_workshop.learning.exercises import exercises_of, lab_of, short_name
from llm_workshop.learning.progress_store import ProgressStore
from llm_workshop.learning.submission import first_line, names_of


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
            f"{name}: 아직 써 보지 않은 문제입니다. {lab / 'exercises.py'}에 돌아가는 답을 써서 채점받은 다음에 풀이를 보세요.\n"
            f"  채점: make {short_name(lab)}-check EX={name}\n"
            f"  그래도 보기: make {short_name(lab)}-solution EX={name} FORCE=1"
        )
        return 1
    print(source_of(lab / "solutions.py", name, {each.name for each in exercises_of(lab)}))
    return 0


def source_of(file: Path, name: str, exercises: Collection[str] = ()) -> str:
    """The source of a top-level function or class with all that it needs of its file, each with its comments.

    Args:
        file: of the solutions.
        name: of the function or class.
        exercises: names whose solutions are not shown along with it, although it may call them.

    Raises:
        ValueError: the file defines none of that name.
    """
    text = file.read_text(encoding="utf-8")
    lines, tree = text.splitlines(), ast.parse(text)
    defined = {each: node for node in tree.body for each in names_of(node)}
    if not isinstance(defined.get(name), (ast.FunctionDef, ast.ClassDef)):
        raise ValueError(f"{file} defines no {name}")
    needed, waiting = [], [defined[name]]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.append(node)
            used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} - {*exercises}
            waiting += [defined[each] for each in used & defined.keys()]
    imports, blocks = [], []
    for node in sorted(needed, key=first_line):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports.append(ast.unparse(node))
            continue
        start = first_line(node) - 1
        while start > 0 and lines[start - 1].startswith("#"):
            start -= 1
        blocks.append("\n".join(lines[start : node.end_lineno]))
    return "\n\n\n".join([*(["\n".join(imports)] if imports else []), *blocks])
