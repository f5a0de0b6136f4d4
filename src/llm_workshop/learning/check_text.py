"""What a check found, in Korean, for the terminal."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from llm_workshop.learning.check_results import FAILED, PASSED, TODO, CheckResult, ExerciseResult
from llm_workshop.learning.isolation import MAX_OUTPUT, MEGABYTE, MEMORY

_STATUS = {PASSED: "통과", FAILED: "실패", TODO: "아직"}
MAX_OUTPUT_LINES = 5
NO_INPUT = "input()을 부르나요? 채점할 때는 자판에서 읽을 수 없습니다. 값은 매개변수로 받으세요."
_CONTROL = re.compile("[\0-\x08\x0a-\x1f\x7f-\x9f]")
_SIDES = {"Left": "왼쪽", "Right": "오른쪽", "left": "왼쪽", "right": "오른쪽", "one": "1"}
#: What pytest says when two values differ.
_COMPARISONS = tuple((re.compile(pattern), korean) for pattern, korean in (
    (r"At index (\S+) diff: ", "[{0}]에서 다릅니다: "),
    (r"(Left|Right) contains (one|\d+) more items?(?:, first extra item)?:", "{0}에 {1}개 더 있습니다:"),
    (r"Extra items in the (left|right) set:", "{0}에만 있는 것:"),
    (r"Differing items:", "값이 다른 것:"),
    (r"Common items:", "같은 것:"),
    (r"comparison failed(?:\. Mismatched elements: (\d+) / (\d+))?(?::|$)", "어림하여 견주어도 다릅니다:"),
    (r"Max absolute difference:", "가장 큰 차이:"),
    (r"Max relative difference:", "가장 큰 상대 차이:"),
    (r"Index +\| Obtained +\| Expected", "자리 | 나온 값 | 바라는 값"),
    (r"^( *)Obtained: ", "{0}나온 값: "),
    (r"^( *)Expected: ", "{0}바라는 값: "),
))


def show(result: CheckResult, files: tuple[Path, ...]) -> None:
    """Print the result; control characters of the participant's messages do nothing to the terminal."""
    print("\n".join(_CONTROL.sub("\ufffd", line) for line in lines_of(result, files)), flush=True)


def lines_of(result: CheckResult, files: tuple[Path, ...]) -> list[str]:
    """The result as lines."""
    name = Path(result.file).name
    number = re.sub(r"\D", "", result.lesson)
    heading = f"{number}주차" if result.lesson.startswith("week") else f"{number}장"
    lines = [f"{heading} 연습 문제  {_relative(result.file)}", ""]
    for each in result.broken:
        lines += [f"  ! {broken_line(each, name)}"]
    if result.broken:
        lines += ["    이 부분을 빼고 나머지를 채점했습니다.", ""]
    width = max(len(each.name) for each in result.exercises)
    status = {each.name: each.status for each in result.exercises}
    for each in result.exercises:
        note = "   아직 하지 않은 문제" if each.status == TODO else ""
        lines.append(f"  {_STATUS[each.status]}  {each.name:<{width}}  {each.passed}/{len(each.tests)}{note}")
        if each.status == FAILED:
            lines += _why(each, status, name)
    lines += ["", *_total(result)]
    return lines + ([f"자세한 결과: {', '.join(_relative(path) for path in files)}"] if files else [])


def broken_line(broken: dict[str, Any], name: str) -> str:
    """One line about a statement that could not be loaded."""
    what = {
        "timeout": "파일을 불러오는 데 너무 오래 걸립니다. 함수 밖에 끝나지 않는 반복문이 있나요?",
        "memory": "파일을 불러오다 메모리를 너무 많이 썼습니다.",
        "output": "파일을 불러오다 화면에 너무 많이 썼습니다. 함수 밖의 print를 보세요.",
        "exit": "파일을 불러오다 프로세스가 끝나 버렸습니다. 함수 밖에서 os._exit()를 부르나요?",
        "signal": "파일을 불러오다 프로세스가 죽었습니다.",
        "SystemExit": "파일을 불러오다 sys.exit()를 만났습니다. 함수 밖에서 부르지 마세요.",
        "IndentationError": f"들여쓰기가 맞지 않습니다 ({broken['message']})",
        "TabError": "들여쓰기에 탭과 공백이 섞여 있습니다",
        "SyntaxError": f"파이썬 문법에 맞지 않습니다 ({broken['message']})",
        "ModuleNotFoundError": f"불러올 수 없는 모듈입니다 ({broken['message']})",
        "EOFError": NO_INPUT,
        "ImportError": f"불러올 수 없습니다 ({broken['message']})",
    }.get(broken["kind"], f"불러오다 오류가 났습니다: {broken['kind']}: {broken['message']}")
    names = f" [{', '.join(broken['names'][:4])}]" if broken["names"] else ""
    return f"{name}:{broken['line']}{names}  {what}"


def _why(exercise: ExerciseResult, status: dict[str, str], name: str) -> list[str]:
    lines = []
    first = [each for each in exercise.uses if status.get(each, PASSED) != PASSED]
    if first:
        lines.append(f"      이 문제는 {', '.join(first)}을(를) 씁니다. 그것부터 통과시키면 저절로 풀릴 수 있습니다.")
    told = set()
    for test in exercise.tests:
        if test["outcome"] == PASSED:
            continue
        if test["outcome"] == "skipped":
            lines.append(f"    - {test['test']}  앞에서 시간이 넘어 돌리지 않았습니다")
            continue
        lines.append(f"    ✗ {test['test']}")
        lines += [f"        {line}" for line in failure_lines(test, name)]
        if (hint := test.get("hint")) and hint not in told:
            told.add(hint)
            lines.append(f"        힌트: {hint}")
    return lines


def failure_lines(test: dict[str, Any], name: str) -> list[str]:
    """Why a test failed: the grader's line, the participant's own line with its values, what was expected."""
    lines = [f"> {test['call']}"] if test.get("call") else []
    lines += _headline(test, name)
    if where := test.get("where"):
        lines.append(f"{name}:{where['line']} ({where['function']})  {where['code']}")
        lines += [f"  {key} = {value}" for key, value in where["values"].items()]
    if printed := [line for line in test.get("output", "").splitlines() if line.strip()]:
        more = f"  (… {len(printed) - MAX_OUTPUT_LINES}줄 더)" if len(printed) > MAX_OUTPUT_LINES else ""
        lines += ["출력한 것:", *(f"  {line[:160]}" for line in printed[:MAX_OUTPUT_LINES])] + ([more] if more else [])
    return lines


def _headline(test: dict[str, Any], name: str) -> list[str]:
    kind, message, limit = test["kind"], test["message"], test.get("limit", 0)
    known = {
        "missing": f"{name}에 {test['exercise']}이(가) 없습니다. 이름을 바꾸거나 지우지 않았나요?",
        "timeout": f"{limit:g}초가 넘어 멈추었습니다. 끝나지 않는 반복이 있나요?",
        "memory": f"메모리를 너무 많이 썼습니다({MEMORY // MEGABYTE:,}MB까지).",
        "MemoryError": f"메모리를 너무 많이 썼습니다({MEMORY // MEGABYTE:,}MB까지).",
        "output": f"화면에 너무 많이 썼습니다({MAX_OUTPUT // MEGABYTE}MB까지). print를 지워 보세요.",
        "exit": "프로세스가 끝나 버렸습니다. os._exit()를 부르나요?",
        "signal": f"프로세스가 죽었습니다({message}). 끝나지 않는 재귀가 있나요?",
        "SystemExit": "sys.exit()를 불렀습니다. 값을 돌려주거나 예외를 일으키세요.",
        "RecursionError": "재귀가 너무 깊습니다. 멈추는 조건을 보세요.",
        "NotImplementedError": "아직 하지 않은 부분이 있습니다.",
        "EOFError": NO_INPUT if "reading a line" in message else None,
    }
    if kind == "missing" and (broken := test.get("broken")):
        return [f"불러오지 못했습니다: {broken_line(broken, name)}"]
    if known.get(kind):
        return [known[kind]]
    if kind == "AssertionError":
        side = " (왼쪽이 여러분의 답)" if re.match(r"assert .*submission.* == ", test.get("call", "")) else ""
        return [f"기대와 다릅니다{side}:", *(f"  {in_korean(line)}" for line in message.splitlines())]
    if kind == "Failed" and message.startswith("DID NOT RAISE"):
        return [f"예외가 나야 하는데 나지 않았습니다: {message.removeprefix('DID NOT RAISE').strip(' <>')}"]
    first, *rest = message.splitlines() or [""]
    return [f"{kind}: {first}", *(f"  {line}" for line in rest)]


def in_korean(line: str) -> str:
    """A line of pytest's comparison of two values in Korean; others stay as they are."""
    for pattern, korean in _COMPARISONS:
        if found := pattern.search(line):
            values = [_SIDES.get(part, part) for part in found.groups()]
            return line[: found.start()] + korean.format(*values) + line[found.end() :]
    return line


def _total(result: CheckResult) -> list[str]:
    passed = sum(each.status == PASSED for each in result.exercises)
    tests = sum(len(each.tests) for each in result.exercises)
    right = sum(each.passed for each in result.exercises)
    lines = [f"문제 {len(result.exercises)}개 가운데 {passed}개 통과, 시험 {tests}개 가운데 {right}개 통과 ({result.seconds:.1f}초)"]
    failed = [each.name for each in result.exercises if each.status == FAILED and each.begun]
    if result.all_passed and len(result.exercises) > 1:
        lines.append("모두 풀었습니다!")
    elif failed:
        lines.append(f"풀이 보기: make {result.lesson}-solution EX={failed[0]}")
    return lines


def _relative(path: str | Path) -> str:
    return os.path.relpath(path) if not os.path.relpath(path).startswith("..") else str(path)
