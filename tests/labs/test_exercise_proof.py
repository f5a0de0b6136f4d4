"""The proof of graders itself: it sees a weak test, and says what is wrong in mutants.yaml."""

from __future__ import annotations

import pytest
import yaml
from support.exercise_proof import constants, mutants, prove

GRADER = '''
import pytest
from llm_workshop.learning.grading import exercise

@exercise("double", hint="두 배")
@pytest.mark.parametrize(("x", "y"), [(0, 0), (2, 4)])
def test_strong(submission, x, y):
    assert submission.double(x) == y

@exercise("double", hint="두 배")
def test_weak(submission):
    assert submission.double(0) == 0

@exercise("Box", hint="상자")
def test_box(submission):
    box = submission.Box(3)
    assert (box.get(), box.plus(4)) == (3, 7)
'''
SOLUTIONS = '''
def double(x):
    return x * 2

class Box:
    def __init__(self, value):
        self.value = value
    def get(self):
        return self.value
    def plus(self, other):
        return self.value + other
'''
MUTANT = {"exercise": "double", "name": "더하기", "replace": "x * 2", "with": "x + 3", "fails": ["test_strong"]}


@pytest.fixture
def lab(tmp_path):
    folder = tmp_path / "week09_things"
    folder.mkdir()
    (folder / "test_exercises.py").write_text(GRADER, encoding="utf-8")
    (folder / "solutions.py").write_text(SOLUTIONS, encoding="utf-8")
    (folder / "mutants.yaml").write_text(yaml.safe_dump([MUTANT], allow_unicode=True), encoding="utf-8")
    return folder


def test_outcomes_of_solutions_stubs_mutants_and_constants(lab, tmp_path):
    (mutant,) = mutants(lab)
    stub = SOLUTIONS.replace("return x * 2", "raise NotImplementedError")
    endless = SOLUTIONS.replace("return x * 2", "while True: pass")
    files = {"solutions": (None, lab / "solutions.py"), "stub": (None, stub), "mutant": (None, mutant.source), "endless": (None, endless)}
    outcomes = prove(lab, files | constants(lab, ["double", "Box"]), tmp_path)
    assert outcomes["solutions"] == {"test_strong": "passed", "test_weak": "passed", "test_box": "passed"}
    assert outcomes["stub"] == {"test_strong": "todo", "test_weak": "todo", "test_box": "passed"}
    assert outcomes["mutant"]["test_strong"].startswith("AssertionError") and outcomes["mutant"]["test_box"] == "passed"
    assert "Timeout" in outcomes["endless"]["test_weak"]
    weak = {label for label, tests in outcomes.items() if " returns " in label and "passed" in tests.values()}
    assert weak == {"double returns False", "double returns 0", "double returns identity"}


@pytest.mark.parametrize(("change", "words"), [
    ({"replace": "nowhere"}, "its text stands 0 times in solutions.py"),
    ({"replace": "x"}, "times in solutions.py: choose one that stands there once"),
    ({"with": "x *"}, "is no Python"),
    ({"fails": []}, "names no test that it fails"),
    ({"hint": "?"}, "has the fields"),
])
def test_mistakes_in_the_list_of_mutants(lab, change, words):
    (lab / "mutants.yaml").write_text(yaml.safe_dump([MUTANT | change]), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        mutants(lab)


def test_a_grader_that_does_not_run_is_no_proof(lab, tmp_path):
    (lab / "test_exercises.py").write_text("import there_is_none\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="there_is_none"):
        prove(lab, {"solutions": (None, lab / "solutions.py")}, tmp_path)
