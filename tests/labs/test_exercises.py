"""Every lab with exercises: its grader lets the solutions pass and nothing else."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from pathlib import Path

import pytest
from support.exercise_proof import constants, mutants, prove

from llm_workshop.learning.exercises import exercises_of
from llm_workshop.learning.solution import source_of
from llm_workshop.learning.submission import load_submission

LABS = sorted((Path(__file__).resolve().parents[2] / "labs").glob("*/exercises.py"))
HANGUL = re.compile("[가-힣]")

pytestmark = pytest.mark.parametrize("lab", [each.parent for each in LABS], ids=[each.parent.name for each in LABS])


def with_users(name: str, found) -> set[str]:
    """The exercise and all that call it, directly or not."""
    names = {name}
    while more := {each.name for each in found if names & set(each.uses)} - names:
        names |= more
    return names


def test_the_grader_grades(lab, tmp_path):
    found = exercises_of(lab)
    of_test = {test: each.name for each in found for test in each.tests}
    wrong = mutants(lab)
    dull = constants(lab, [each.name for each in found])
    files = {"solutions": (None, lab / "solutions.py"), "stubs": (None, lab / "exercises.py")}
    files |= {f"mutant: {each.name}": (None, each.source) for each in wrong}
    assert len(files) == 2 + len(wrong), "two mutants have one name"
    outcomes = prove(lab, files | dull, tmp_path)

    assert outcomes["solutions"] == dict.fromkeys(of_test, "passed")
    assert outcomes["stubs"] == dict.fromkeys(of_test, "todo")
    for mutant in wrong:
        assert mutant.exercise in of_test.values(), f"{mutant.name}: no exercise is called {mutant.exercise}"
        failed = {test for test, outcome in outcomes[f"mutant: {mutant.name}"].items() if outcome != "passed"}
        assert failed >= set(mutant.fails), f"{mutant.name}: passes {set(mutant.fails) - failed}"
        assert set(mutant.fails) <= {t for t, name in of_test.items() if name == mutant.exercise}, mutant.name
        allowed = with_users(mutant.exercise, found)
        assert {of_test[test] for test in failed} <= allowed, f"{mutant.name}: fails tests of other exercises: {failed}"
    for label, (name, _) in dull.items():
        passed = [test for test, outcome in outcomes[label].items() if outcome == "passed" and of_test[test] == name]
        assert not passed, f"{label} and passes {passed}"
    untried = {each.name for each in found} - {each.exercise for each in wrong}
    assert not untried, f"no mutant of {untried}"


def test_stubs_and_solutions_have_the_same_names_and_signatures(lab):
    stubs, solutions = (load_submission(lab / name) for name in ("exercises.py", "solutions.py"))
    assert stubs.broken == solutions.broken == []
    for each in exercises_of(lab):
        stub, solution = getattr(stubs.module, each.name), getattr(solutions.module, each.name)
        assert _signatures(stub) == _signatures(solution), each.name
        assert HANGUL.search(stub.__doc__ or ""), f"{each.name} has no Korean docstring"


def test_every_test_has_a_hint_in_korean(lab):
    for each in exercises_of(lab):
        for test, hint in each.hints.items():
            assert HANGUL.search(hint), f"{test} has no Korean hint"


def test_a_solution_that_is_shown_names_nothing_unexplained(lab):
    names = {each.name for each in exercises_of(lab)}
    for name in names:
        nodes = list(ast.walk(ast.parse(source_of(lab / "solutions.py", name, names))))
        used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        known = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        known |= {node.arg for node in nodes if isinstance(node, ast.arg)} | {getattr(node, "name", None) for node in nodes}
        known |= {(alias.asname or alias.name).split(".")[0] for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
        assert used <= known | names | set(dir(builtins)), f"{name}: {used - known - names - set(dir(builtins))}"


def _signatures(thing) -> dict[str, str]:
    if not inspect.isclass(thing):
        return {"": str(inspect.signature(thing))}
    methods = {name: member for name, member in vars(thing).items() if inspect.isfunction(member) and (name == "__init__" or name[0] != "_")}
    return {name: str(inspect.signature(member)) for name, member in methods.items()}
