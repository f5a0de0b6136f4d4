"""What a check found, exercise by exercise, and the files that keep it: JSON and JUnit XML."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from scratch_llm.io import atomic_write

PASSED, FAILED, TODO = "passed", "failed", "todo"
#: What XML 1.0 cannot hold.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class ExerciseResult:
    """One exercise.

    Attributes:
        name: of the function or class.
        uses: exercises that a good answer calls.
        tests: facts of its tests, as :mod:`check_plugin` writes them.
    """

    name: str
    uses: tuple[str, ...] = ()
    tests: list[dict[str, Any]] = field(default_factory=list)

    @property
    def passed(self) -> int:
        return sum(test["outcome"] == PASSED for test in self.tests)

    @property
    def status(self) -> str:
        """"passed": all of its tests; "todo": not begun; else "failed"."""
        if self.tests and self.passed == len(self.tests):
            return PASSED
        return TODO if any(test["outcome"] == TODO for test in self.tests) and not self.passed else FAILED

    @property
    def begun(self) -> bool:
        """Whether this is an attempt: code that was loaded and run, not a stub or what does not even parse."""
        return self.status != TODO and any(test.get("kind") != "missing" for test in self.tests)


@dataclass
class CheckResult:
    """One check.

    Attributes:
        unit: "week03", "ch01".
        lesson: the same as Make spells it: "week3".
        file: the participant's.
        exercises: in the order of the grader.
        broken: statements of the file that could not be loaded.
        seconds: it took.
    """

    unit: str
    lesson: str
    file: str
    exercises: list[ExerciseResult] = field(default_factory=list)
    broken: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def all_passed(self) -> bool:
        return bool(self.exercises) and all(each.status == PASSED for each in self.exercises)


def write_results(result: CheckResult, folder: Path) -> tuple[Path, Path]:
    """Write ``<unit>.json`` and ``<unit>.xml``.

    Raises:
        OSError: the folder cannot be written.
    """
    facts = {"schema": 1, "all_passed": result.all_passed, **asdict(result)}
    for each, exercise in zip(facts["exercises"], result.exercises):
        each |= {"status": exercise.status, "passed": exercise.passed}
    paths = folder / f"{result.unit}.json", folder / f"{result.unit}.xml"
    with atomic_write(paths[0]) as stream:
        json.dump(facts, stream, ensure_ascii=False, indent=1)
        stream.write("\n")
    with atomic_write(paths[1], "wb") as stream:
        ElementTree.ElementTree(junit(result)).write(stream, encoding="utf-8", xml_declaration=True)
    return paths


def junit(result: CheckResult) -> ElementTree.Element:
    """The result as JUnit XML: an exercise is a test suite, "todo" and tests that were not run are skipped."""
    root = ElementTree.Element("testsuites", name=result.lesson)
    for exercise in result.exercises:
        outcomes = [test["outcome"] for test in exercise.tests]
        suite = ElementTree.SubElement(
            root, "testsuite", name=exercise.name, tests=str(len(outcomes)), failures=str(outcomes.count(FAILED)), errors="0",
            skipped=str(len(outcomes) - outcomes.count(FAILED) - outcomes.count(PASSED)),
            time=f"{sum(test['seconds'] for test in exercise.tests):.3f}",
        )  # fmt: skip
        for test in exercise.tests:
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"{result.unit}.{exercise.name}", name=_xml(test["test"]), time=f"{test['seconds']:.3f}"
            )
            if test["outcome"] == FAILED:
                text = "\n".join(filter(None, (test.get("call"), test.get("message"), test.get("hint"))))
                failure = ElementTree.SubElement(case, "failure", type=_xml(test["kind"]), message=_xml(test["message"].split("\n")[0]))
                failure.text = _xml(text)
            elif test["outcome"] != PASSED:
                ElementTree.SubElement(case, "skipped", message=test["outcome"])
    return root


def _xml(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
