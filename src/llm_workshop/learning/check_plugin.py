"""The pytest plugin of ``workshop check``: every test in a child process of its own, results as JSON lines.

pytest collects the grader once (torch is imported once); each test runs in a fork of that process, which loads the
participant's file, runs the test under the limits of :mod:`isolation` and sends what came out.  Whatever the file
does, the next test starts from the clean parent.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from llm_workshop.learning.difference import explain_difference
from llm_workshop.learning.failure import describe_failure
from llm_workshop.learning.grading import SECONDS, Exercise, exercise_of
from llm_workshop.learning.isolation import Ended, Send, free_the_reserve, run_isolated
from llm_workshop.learning.plugin import LOADED
from llm_workshop.learning.submission import Broken, Submission, load_submission, read_source

#: How many statements that end the process are left out, one after another, to reach the rest of the file.
MAX_ENDINGS = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", metavar="FILE", help="where the results go, one JSON object a line")
    parser.addoption("--only-exercise", metavar="NAME", help="grade this one")
    parser.addoption("--loading-seconds", type=float, default=SECONDS, help="limit of loading the participant's file")


def pytest_configure(config: pytest.Config) -> None:
    if results := config.getoption("--results"):
        config.pluginmanager.register(_Check(config, Path(results)), "check-session")


class _Check:
    def __init__(self, config: pytest.Config, results: Path):
        self.config = config
        self.results = results
        self.file = Path(config.getoption("--submission")).resolve()
        self.source = read_source(self.file)  # once: it may be edited while it is graded
        self.left_out: list[Broken] = []
        self.too_slow: set[str] = set()
        self.sent: dict[str, Any] | None = None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        only = self.config.getoption("--only-exercise")
        graded = [item for item in items if (mark := exercise_of(item.function)) and only in (None, mark.name)]
        items[:] = graded

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for name in _imports_of(self.source):
            # Imported before the forks, so that each child has it at once.  Failures show when the file is loaded.
            if name in ("numpy", "torch"):
                importlib.import_module(name)
        self._write(loading=[vars(each) for each in self._find_broken()])

    def _write(self, **result: Any) -> None:
        # Lone surrogates, which a message may hold, are in no UTF-8 file.
        line = json.dumps(result, ensure_ascii=False).encode("utf-8", "replace")
        with open(self.results, "ab") as stream:
            stream.write(line + b"\n")

    def _find_broken(self) -> list[Broken]:
        """Load the file in children until one comes to its end; statements that end a child are left out."""
        for _ in range(MAX_ENDINGS):
            ended = run_isolated(self._probe, seconds=self.config.getoption("--loading-seconds"))
            if ended.how == "done":
                return [*self.left_out, *(Broken(**each) for each in ended.messages[-1]["broken"])]
            if not ended.messages:
                break
            at = ended.messages[-1]
            self.left_out.append(Broken(at["line"], ended.how, _what_it_said(ended), tuple(at["names"]), at["line"]))
        return self.left_out

    def _load(self, send: Send | None = None) -> Submission:
        before = None if send is None else (lambda line, names: send({"line": line, "names": names}))
        loaded = load_submission(
            self.file, source=self.source, leave_out={each.first for each in self.left_out}, before=before
        )
        loaded.broken[:0] = self.left_out
        return loaded

    def _probe(self, send: Send) -> None:
        broken = self._load(send).broken
        free_the_reserve()
        send({"broken": [vars(each) for each in broken if each not in self.left_out]})

    def pytest_runtest_protocol(self, item: pytest.Item) -> bool:
        mark = exercise_of(item.function)
        result = {"exercise": mark.name, "test": item.name, "function": item.originalname, "hint": mark.hint}
        if mark.name in self.too_slow:
            # Another ten seconds would tell nothing new.
            self._write(**result, outcome="skipped", seconds=0.0)
            return True
        ended = run_isolated(lambda send: self._run(item, send), seconds=mark.seconds)
        result |= self._outcome(ended, mark) | {"seconds": round(ended.seconds, 3)}
        if result.get("kind") == "timeout":
            self.too_slow.add(mark.name)
        if result["outcome"] == "failed" and ended.output.strip():
            result["output"] = ended.output
        self._write(**result)
        return True

    def _outcome(self, ended: Ended, mark: Exercise) -> dict[str, Any]:
        if ended.how == "done" and ended.messages:
            return ended.messages[-1]
        return {"outcome": "failed", "kind": ended.how, "message": _what_it_said(ended), "limit": mark.seconds}

    def _run(self, item: pytest.Item, send: Send) -> None:
        self.config.stash[LOADED] = {self.file: self._load()}
        self.sent = None
        runtestprotocol(item, log=False, nextitem=None)
        send(self.sent or {"outcome": "passed"})

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> list[str] | None:
        return explain_difference(left, right) if op == "==" else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo):
        if call.excinfo is not None and self.sent is None:
            free_the_reserve()
            mark = exercise_of(item.function)
            self.sent = describe_failure(call.excinfo.value, self.file, item.path) | {"limit": mark.seconds}
        return (yield)


def _what_it_said(ended: Ended) -> str:
    return f"{ended.how} {ended.code}: {' '.join(ended.output.split())[-200:]}".strip(": ")


def _imports_of(source: str) -> set[str]:
    """Names of the packages that a file imports; none where it does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in found} - set(sys.modules)
