"""`workshop check` and `workshop solution` on a small lab whose participant makes every mistake there is."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from llm_workshop.learning.check import check, grade
from llm_workshop.learning.check_text import lines_of
from llm_workshop.learning.solution import solution, source_of

GRADER = '''
import pytest

from llm_workshop.learning.grading import exercise
'''
TEST = '''

@exercise("{name}", hint="{name}의 힌트입니다.", seconds={seconds})
def test_{name}(submission):
    given = 3
    assert submission.{name}(given) == 9
'''


def write_lab(root: Path, functions: dict[str, str], top: str = "", grader: str = "") -> Path:
    """A workspace with one lab: an exercise for each function, whose test expects 9 for 3 (within 2 s if "endless")."""
    lab = root / "labs" / "week03_things"
    lab.mkdir(parents=True)
    (root / "pyproject.toml").touch()
    tests = "".join(TEST.format(name=name, seconds=2 if name == "endless" else 20) for name in functions)
    (lab / "test_exercises.py").write_text(GRADER + (grader or tests), encoding="utf-8")
    bodies = [f"def {name}(x):\n    {body}\n" for name, body in functions.items()]
    (lab / "exercises.py").write_text(top + "\n\n".join(bodies), encoding="utf-8")
    solutions = [f"# {name}: squares\ndef {name}(x):\n    return x * x  # why\n" for name in functions]
    (lab / "solutions.py").write_text("import math\n\n\n" + "\n\n".join(solutions), encoding="utf-8")
    return lab


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORKSHOP_PROGRESS", raising=False)
    monkeypatch.setenv("WORKSHOP_NAME", "누구")
    return tmp_path


DISASTERS = {
    "right": ("return x ** 2", "passed", []),
    "undone": ("raise NotImplementedError", "todo", ["아직 하지 않은 문제"]),
    "wrong": ("return x + x", "failed", ["> assert submission.wrong(given) == 9", "기대와 다릅니다 (왼쪽이 여러분의 답):", "assert 6 == 9", "where 6 = wrong(3)"]),
    "raises": ("return [1, 2][x]", "failed", ["IndexError: list index out of range", "(raises)  return [1, 2][x]", "x = 3"]),
    "syntax": ("return (x", "failed", ["[syntax]  파이썬 문법에 맞지 않습니다 ('(' was never closed)"]),
    "endless": ("while True: y = x", "failed", ["2초가 넘어 멈추었습니다", "(endless)  while True: y = x", "y = 3"]),
    "leaves": ("import sys; sys.exit()", "failed", ["sys.exit()를 불렀습니다", "(leaves)  import sys; sys.exit()"]),
    "exits": ("import os; os._exit(0)", "failed", ["프로세스가 끝나 버렸습니다"]),
    "crashes": ("import signal; signal.raise_signal(signal.SIGSEGV)", "failed", ["프로세스가 죽었습니다(signal 11)"]),
    "forks": ("import os\n    while True: os.fork()", "failed", ["PermissionError: 채점할 때는 다른 프로세스를", "(forks)  while True: os.fork()"]),
    "hoards": ("hoard = []\n    while True: hoard.append(bytearray(1 << 26))", "failed", ["메모리를 너무 많이 썼습니다(1,024MB까지)"]),
    "shouts": ("while True: print('ㅋ' * 1000)", "failed", ["화면에 너무 많이 썼습니다(4MB까지)", "출력한 것:"]),
    "talks": ("print('여기까지 왔다'); return x", "failed", ["출력한 것:", "여기까지 왔다"]),
    "calls": ("import urllib.request as r; return r.urlopen('http://127.0.0.1:9/')", "failed", ["네트워크를 쓸 수 없습니다"]),
    "recurses": ("return recurses(x)", "failed", ["재귀가 너무 깊습니다"]),
    "peeks": ("return open(__file__.replace('exercises', 'solutions'))", "failed", ["solutions.py를 읽을 수 없습니다"]),
    "cheats": ("import solutions; return solutions.cheats(x)", "failed", ["ModuleNotFoundError: No module named 'solutions'"]),
    "odd": ("class Odd:\n        def __repr__(self): raise ValueError\n    odd = Odd(); return 1 / 0", "failed", ["ZeroDivisionError", "odd = <Odd instance>"]),
}


def test_every_disaster_is_a_clear_line_and_the_others_are_graded(workspace, capsys):
    lab = write_lab(workspace, {name: body for name, (body, _, _) in DISASTERS.items()})
    result = grade(lab, lab / "exercises.py")
    assert {each.name: each.status for each in result.exercises} == {name: status for name, (_, status, _) in DISASTERS.items()}
    lines = lines_of(result, ())
    assert not any("Traceback" in line for line in lines)
    starts = {line.split()[1]: number for number, line in enumerate(lines) if line[2:4] in ("통과", "실패", "아직")}
    for name, (_, status, words) in DISASTERS.items():
        following = [number for number in starts.values() if number > starts[name]]
        part = "\n".join(lines[starts[name] : min(following, default=len(lines))])
        for word in [*words, *([f"힌트: {name}의 힌트입니다."] if status == "failed" else [])]:
            assert word in part, part
        if status == "failed" and name not in ("syntax", "exits", "crashes", "shouts"):
            code = (lab / "exercises.py").read_text(encoding="utf-8").splitlines()
            shown = next(line for line in part.splitlines() if "exercises.py:" in line) if "exercises.py:" in part else None
            if shown:
                assert name in code[int(shown.split("exercises.py:")[1].split()[0]) - 1] + shown


TOP = {
    "endless": ("while True:\n    pass\n", "너무 오래 걸립니다"),
    "os._exit": ("import os\nos._exit(0)\n", "os._exit()를 부르나요?"),
    "sys.exit": ("import sys\nsys.exit('끝')\n", "sys.exit()를 만났습니다"),
    "missing module": ("import there_is_none\n", "불러올 수 없는 모듈입니다"),
    "raises": ("x = {}['없음']\n", "KeyError: '없음'"),
    "tabs": ("def broken():\n\tx = 1\n        y = 2\n", "들여쓰기"),
}


@pytest.mark.parametrize("mistake", TOP)
def test_mistakes_outside_of_functions_are_told_and_passed_by(workspace, mistake):
    top, words = TOP[mistake]
    lab = write_lab(workspace, {"right": "return x * x"}, top=top + "\n\n")
    result = grade(lab, lab / "exercises.py", loading_seconds=1.5)
    (exercise,) = result.exercises
    assert exercise.status == "passed"
    text = "\n".join(lines_of(result, ()))
    assert words in text and "이 부분을 빼고 나머지를 채점했습니다" in text


def test_a_file_that_is_no_python_at_all(workspace):
    lab = write_lab(workspace, {"right": "return x * x"})
    (lab / "exercises.py").write_bytes(os.urandom(2000))
    result = grade(lab, lab / "exercises.py")
    assert result.exercises[0].status == "failed" and result.broken
    (lab / "exercises.py").write_text("")
    (exercise,) = grade(lab, lab / "exercises.py").exercises
    assert exercise.tests[0]["kind"] == "missing"


def test_parameters_fixtures_and_exceptions_of_pytest(workspace):
    grader = '''
@exercise("square", hint="힌트")
@pytest.mark.parametrize(("x", "y"), [(1, 1), (2, 4), (3, 9)])
def test_square(submission, x, y):
    assert submission.square(x) == y

@exercise("square", hint="힌트")
def test_refuses_text(submission, tmp_path):
    with pytest.raises(TypeError):
        submission.square("x")

def test_not_graded(submission):
    assert False
'''
    lab = write_lab(workspace, {"square": "return 1 if x == 1 else 4 if x == 2 else 0"}, grader=grader)
    result = grade(lab, lab / "exercises.py")
    (exercise,) = result.exercises
    assert [(each["test"], each["outcome"]) for each in exercise.tests] == [
        ("test_square[1-1]", "passed"), ("test_square[2-4]", "passed"), ("test_square[3-9]", "failed"), ("test_refuses_text", "failed")]  # fmt: skip
    assert "예외가 나야 하는데 나지 않았습니다" in "\n".join(lines_of(result, ()))


TORCH = """
import numpy
import torch

@exercise("works", hint="힌트")
def test_works(submission):
    assert submission.works(3) == 9

@exercise("hoards", hint="힌트")
def test_hoards(submission):
    assert submission.hoards(3) == 9

@exercise("wrong", hint="힌트")
def test_wrong(submission):
    assert submission.wrong(3) == [1, 2, 3]

@exercise("near", hint="힌트")
def test_near(submission):
    assert submission.near(3) == pytest.approx([1.0, 2.0])

@exercise("keys", hint="힌트")
def test_keys(submission):
    assert submission.keys(3) == {"a": 1, "b": 2}
"""


def test_torch_works_in_the_children_and_differences_are_told_in_korean(workspace):
    functions = {
        "works": "w = torch.ones(64, 64, requires_grad=True); (w @ w).sum().backward(); return int(w.grad[0, 0]) // 128 * 9",
        "hoards": "weights = torch.ones(100, 100); return torch.zeros(1 << 30).sum()",
        "wrong": "return [1, 5, 3, 4]",
        "near": "return [1.0, 2.1]",
        "keys": "return {'a': 3, 'c': 2}",
    }
    lab = write_lab(workspace, functions, top="import torch\n\n\n", grader=TORCH)
    result = grade(lab, lab / "exercises.py")
    assert {each.name: each.status for each in result.exercises} == dict.fromkeys(functions, "failed") | {"works": "passed"}
    text = "\n".join(lines_of(result, ()))
    for words in ("메모리를 너무 많이 썼습니다", "weights = Tensor(shape=(100, 100), dtype=torch.float32)",
                  "[1]에서 다릅니다: 5 != 2", "왼쪽에 1개 더 있습니다: 4", "바라는 값", "값이 다른 것:", "오른쪽에 1개 더 있습니다:"):
        assert words in text, text


def test_one_timeout_is_enough_for_an_exercise(workspace):
    one = '\n@exercise("endless", hint="힌트", seconds=0.5)\ndef test_{}(submission):\n    assert submission.endless(3) == 1\n'
    lab = write_lab(workspace, {"endless": "while True: pass"}, grader="".join(map(one.format, "abc")))
    outcomes = [each["outcome"] for each in grade(lab, lab / "exercises.py").exercises[0].tests]
    assert outcomes[0] == "failed" and set(outcomes[1:]) == {"skipped"}


def test_who_needs_another_exercise_is_told(workspace):
    grader = '''
@exercise("first", hint="힌트")
def test_first(submission):
    assert submission.first(3) == 9

@exercise("second", hint="힌트", uses=("first",))
def test_second(submission):
    assert submission.second(3) == 9
'''
    lab = write_lab(workspace, {"first": "return 0", "second": "return first(x)"}, grader=grader)
    text = "\n".join(lines_of(grade(lab, lab / "exercises.py"), ()))
    assert "이 문제는 first을(를) 씁니다" in text


def test_results_attempts_and_exit_codes(workspace, capsys):
    write_lab(workspace, {"right": "return x * x", "wrong": "return x", "undone": "raise NotImplementedError"})
    assert check("week3") == 1
    out = capsys.readouterr().out
    assert "문제 3개 가운데 1개 통과, 시험 3개 가운데 1개 통과" in out and "make week3-solution EX=wrong" in out
    facts = json.loads((workspace / ".workshop/checks/week03.json").read_text(encoding="utf-8"))
    assert {each["name"]: each["status"] for each in facts["exercises"]} == {"right": "passed", "wrong": "failed", "undone": "todo"}
    suites = ElementTree.parse(workspace / ".workshop/checks/week03.xml").getroot()
    assert [(s.get("name"), s.get("tests"), s.get("failures"), s.get("skipped")) for s in suites] == [
        ("right", "1", "0", "0"), ("wrong", "1", "1", "0"), ("undone", "1", "0", "1")]  # fmt: skip
    assert check("week03", "right") == 0
    assert "문제 1개 가운데 1개 통과" in capsys.readouterr().out
    # Solutions: open for what was graded, closed for what was not begun.
    assert solution("week3", "wrong") == 0
    assert capsys.readouterr().out == "# wrong: squares\ndef wrong(x):\n    return x * x  # why\n"
    assert solution("week3", "undone") == 1
    assert "make week3-check EX=undone" in capsys.readouterr().out
    assert solution("week3", "undone", force=True) == 0


def test_a_mistake_of_syntax_opens_no_solution(workspace, capsys):
    write_lab(workspace, {"half": "return (x", "wrong": "return x"})
    assert check("week3") == 1
    out = capsys.readouterr().out
    assert "make week3-solution EX=wrong" in out and "EX=half" not in out
    assert solution("week3", "half") == 1 and "아직 써 보지 않은 문제" in capsys.readouterr().out
    (workspace / "labs/week03_things/exercises.py").write_text("def half(x):\n    return x\n", encoding="utf-8")
    check("week3", "half")
    assert solution("week3", "half") == 0


SOLUTIONS = """import math
import re
from collections import Counter

#: Eight of them.
BITS = 8
LIMIT = 2**BITS
OTHER = 3


def _clip(x):
    return min(x, LIMIT)


def first(x):
    return Counter(x)


# Why.
def second(x):
    return _clip(math.sqrt(len(first(x))))
"""


def test_a_solution_comes_with_what_it_needs(tmp_path):
    (tmp_path / "solutions.py").write_text(SOLUTIONS)
    shown = source_of(tmp_path / "solutions.py", "second", exercises={"first", "second"})
    # Neither unused names nor the solution of another exercise.
    assert shown == SOLUTIONS.replace("import re\nfrom collections import Counter\n\n", "\n\n").replace("OTHER = 3\n", "").replace(
        "BITS = 8\nLIMIT", "BITS = 8\n\n\nLIMIT").replace("def first(x):\n    return Counter(x)\n\n\n", "").rstrip("\n")
    names = {"math": math}
    exec(shown, names | {"first": set})
    assert source_of(tmp_path / "solutions.py", "first").startswith("from collections import Counter\n\n\ndef first")
    with pytest.raises(ValueError, match="defines no BITS"):
        source_of(tmp_path / "solutions.py", "BITS")


LOOKS = """
@exercise("zero", hint="힌트")
def test_zero(submission):
    assert submission.zero(3) == pytest.approx(0.5)

@exercise("number", hint="힌트")
def test_number(submission):
    assert submission.number(3) == pytest.approx(0.5)

@exercise("hangul", hint="힌트")
def test_hangul(submission):
    assert submission.hangul(3) == {"글": ["가", "한국"]}

@exercise("space", hint="힌트")
def test_space(submission):
    assert submission.space(3) == "가나"

@exercise("comprehension", hint="힌트")
def test_comprehension(submission):
    assert submission.comprehension(3) == [1]

@exercise("asks", hint="힌트")
def test_asks(submission):
    assert submission.asks(3) == "3"
"""


def test_what_looks_the_same_is_told_apart(workspace):
    functions = {
        "zero": "return '0'",
        "number": "return 0",
        "hangul": "import unicodedata; return {'글': ['가', unicodedata.normalize('NFD', '한국')]}",
        "space": "return '가\\u200b나'",
        "comprehension": "return [each / 0 for each in [x]]",
        "asks": "return input()",
    }
    lab = write_lab(workspace, functions, grader=LOOKS)
    lines = lines_of(grade(lab, lab / "exercises.py"), ())
    text = "\n".join(lines)
    for words in ("'0': 수가 아니라 str입니다", "어림하여 견주어도 다릅니다:", "나온 값: 0", "바라는 값: 0.5",
                  "['글'][1]: 눈에는 같아 보이지만 코드 포인트가 0번째부터", "왼쪽: U+1112 U+1161 U+11AB U+1100", "오른쪽: U+D55C U+AD6D",
                  "왼쪽: U+200B U+B098", "오른쪽: U+B098", "(comprehension)  return [each / 0 for each in [x]]", "each = 3", "x = 3",
                  "input()을 부르나요?"):
        assert words in text, text
    for word in (".0 =", "list_iterator", "comparison failed", "EOFError"):
        assert word not in text, text


def test_odd_characters_harm_neither_files_nor_terminal(workspace, capsys):
    write_lab(workspace, {"odd": "print('\\x1b[2J\\x07'); raise ValueError('\\ud800 \\0 \\x1b[31m 가')", "same": "return '\\ud800'"})
    assert check("week3") == 1
    out = capsys.readouterr().out
    assert "가" in out and not set(out) & {"\x1b", "\0", "\x07", "\ud800"}
    ElementTree.parse(workspace / ".workshop/checks/week03.xml")
    json.loads((workspace / ".workshop/checks/week03.json").read_text(encoding="utf-8"))


def test_compiled_solutions_stay_closed(workspace):
    lab = write_lab(workspace, {"cheats": "import sys; sys.path.insert(0, __file__.rsplit('/', 1)[0]); import solutions; return solutions.cheats(x)"})
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(lab)], check=True)
    (exercise,) = grade(lab, lab / "exercises.py").exercises
    assert exercise.tests[0]["kind"] == "PermissionError"


def test_what_cannot_be_kept_is_shown_all_the_same(workspace, capsys):
    write_lab(workspace, {"right": "return x * x"})
    (workspace / ".workshop").write_text("a file where a folder should be")
    assert check("week3") == 0
    said = capsys.readouterr()
    assert "시험 1개 가운데 1개 통과" in said.out and "자세한 결과" not in said.out
    assert said.err.startswith("주의: 결과를 저장하지 못했습니다: ") and len(said.err.splitlines()) == 1


@pytest.mark.parametrize(("work", "words"), [
    (lambda: check("week4"), "week4 has no exercises: week3 has some"),
    (lambda: check("lesson3"), "lesson 'lesson3' is unknown: name one like week3 or ch1"),
    (lambda: check("week3", "nope"), "EX=nope is no exercise of week3: it has right"),
    (lambda: solution("week3", None), "name an exercise: make week3-solution EX=right"),
])
def test_mistakes_on_the_command_line(workspace, work, words):
    write_lab(workspace, {"right": "return x * x"})
    with pytest.raises(ValueError, match=".*".join(words.split("  "))):
        work()


def test_a_missing_file_is_an_error_of_one_line(workspace):
    lab = write_lab(workspace, {"right": "return x * x"})
    (lab / "exercises.py").unlink()
    done = subprocess.run([sys.executable, "-m", "llm_workshop.cli", "check", "--week", "3"], capture_output=True, text=True)
    assert done.returncode == 1 and "exercises.py is not there: git restore " in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_broken_grader_is_our_fault_and_says_so(workspace):
    lab = write_lab(workspace, {"right": "return x * x"}, grader='\n@exercise("right", hint="힌트")\ndef test_right(submission):\n    pass\n\nraise KeyError("ours")\n')
    with pytest.raises(RuntimeError, match=r"(?s)the grader of week3 did not come to its end.*KeyError"):
        grade(lab, lab / "exercises.py")
