"""Proof that a grader grades: solutions pass, stubs and mutants and constants fail what they should.

As a pytest plugin (``-p support.exercise_proof --proof PLAN``) it runs one grader over many files in one process;
:func:`prove` starts that process and gives the outcomes.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from llm_workshop.learning.grading import exercise_of

REPOSITORY = Path(__file__).resolve().parents[2]
FIELDS = {"exercise", "name", "replace", "with", "fails"}
#: What a function that does nothing returns.
CONSTANTS = {"None": "None", "True": "True", "False": "False", "0": "0", "1": "1", "empty text": "''", "empty bytes": "b''",
             "empty list": "[]", "empty dict": "{}", "identity": "next(iter([*args, *kwargs.values()]), None)"}


@dataclass(frozen=True)
class Mutant:
    """One typical mistake, as ``mutants.yaml`` describes it."""

    exercise: str
    name: str
    source: str
    fails: tuple[str, ...]


def mutants(lab: Path) -> list[Mutant]:
    """The mutants of a lab.

    Raises:
        ValueError: an entry that lacks or invents a field, whose text is not in ``solutions.py`` exactly once, or
            whose result is no Python.
    """
    solutions = (lab / "solutions.py").read_text(encoding="utf-8")
    found = []
    for number, entry in enumerate(yaml.safe_load((lab / "mutants.yaml").read_text(encoding="utf-8")) or [], 1):
        where = f"{lab.name}/mutants.yaml, mutant {number} ({entry.get('name', 'without a name')})"
        if set(entry) != FIELDS:
            raise ValueError(f"{where}: has the fields {sorted(entry)}, needs {sorted(FIELDS)}")
        if (times := solutions.count(entry["replace"])) != 1:
            raise ValueError(f"{where}: its text stands {times} times in solutions.py: choose one that stands there once")
        if not entry["fails"]:
            raise ValueError(f"{where}: names no test that it fails")
        source = solutions.replace(entry["replace"], entry["with"])
        try:
            ast.parse(source)
        except SyntaxError as error:
            raise ValueError(f"{where}: is no Python: {error}") from None
        found.append(Mutant(entry["exercise"], entry["name"], source, tuple(entry["fails"])))
    return found


def constants(lab: Path, names: list[str]) -> dict[str, tuple[str, str]]:
    """Label -> (exercise, source) of solutions in which a function, or every method of a class, returns a constant
    or its first argument."""
    solutions = (lab / "solutions.py").read_text(encoding="utf-8")
    kinds = {node.name: type(node) for node in ast.parse(solutions).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    found = {}
    for name in names:
        for label, value in CONSTANTS.items():
            dull = f"def {name}(*args, **kwargs):\n    return {value}\n"
            if kinds[name] is ast.ClassDef:
                dull = (f"class {name}:\n    def __init__(self, *args, **kwargs): pass\n"
                        f"    def __getattr__(self, _): return lambda *args, **kwargs: {value}\n")  # fmt: skip
            found[f"{name} returns {label}"] = (name, f"{solutions}\n\n{dull}")
    return found


def prove(lab: Path, files: dict[str, tuple[str | None, str | Path]], folder: Path) -> dict[str, dict[str, str]]:
    """Run the grader of ``lab`` over files.

    Args:
        lab: folder of the lab.
        files: label -> (exercise whose tests alone are run, or ``None`` for all; source text, or the file).
        folder: where to write.

    Returns:
        Label -> test -> "passed", "todo" (NotImplementedError) or the line of the failure.
    """
    plan = []
    for number, (label, (name, source)) in enumerate(files.items()):
        path = source
        if isinstance(source, str):
            path = folder / f"submission_{number:03}.py"
            path.write_text(source, encoding="utf-8")
        plan.append({"label": label, "exercise": name, "file": str(path)})
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=line", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist",
         "-p", "llm_workshop.learning.plugin", "-p", "support.exercise_proof", "--noconftest", "--import-mode=importlib",
         "--timeout=4", f"--rootdir={lab}", "-c", os.devnull, "--proof", str(folder / "plan.json"), str(lab / "test_exercises.py")],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(REPOSITORY / "tests"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=280,
    )
    outcomes = folder / "outcomes.json"
    if done.returncode not in (0, 1) or not outcomes.is_file():
        raise AssertionError(f"the grader of {lab.name} did not run:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return json.loads(outcomes.read_text(encoding="utf-8"))


# --- the plugin -----------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--proof", metavar="PLAN")


def pytest_configure(config: pytest.Config) -> None:
    if plan := config.getoption("--proof", None):
        config.pluginmanager.register(_Proof(Path(plan)), "exercise-proof")


class _Proof:
    def __init__(self, path: Path):
        self.plan = json.loads(path.read_text(encoding="utf-8"))
        self.path = path
        self.outcomes: dict[str, dict[str, str]] = {each["label"]: {} for each in self.plan}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        graded = exercise_of(metafunc.function)
        if "submission" in metafunc.fixturenames:
            chosen = [each for each in self.plan if each["exercise"] in (None, graded and graded.name)]
            metafunc.parametrize("submission", [each["file"] for each in chosen], indirect=True, ids=[each["label"] for each in chosen])

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:  # a mutant may never end; a solution may be slow on a busy machine
            if Path(item.callspec.params["submission"]).name == "solutions.py":
                item.add_marker(pytest.mark.timeout(60))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo):
        report = yield
        if call.when != "teardown" or call.excinfo:
            file = item.callspec.params["submission"]
            outcome = "passed"
            if call.excinfo:
                outcome = "todo" if call.excinfo.errisinstance(NotImplementedError) else call.excinfo.exconly().splitlines()[0]
            for each in self.plan:
                if each["file"] == file and (call.when == "call" or outcome != "passed"):
                    tests = self.outcomes[each["label"]]
                    # Of a parametrised test one failure counts.
                    if tests.get(item.originalname, "passed") == "passed":
                        tests[item.originalname] = outcome
        return report

    def pytest_sessionfinish(self) -> None:
        (self.path.parent / "outcomes.json").write_text(json.dumps(self.outcomes), encoding="utf-8")
