"""Progress bars with ETA on a terminal, an occasional plain line in a log file, and the training loop's lines in Korean."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOG_EVERY_SECONDS = 10.0


def _back_to_a_step(match: re.Match) -> str:
    step, first, last = match.groups()
    return f". 스텝 {step}의 체크포인트로 되돌아가 배치 {first}번{'을' if first == last else f'부터 {last}번까지'} 건너뜁니다"


# Lines of scratch_llm.training, as the labs show them; what stands here in no form stays as it is.
_KOREAN = tuple((re.compile(pattern), korean) for pattern, korean in (
    (r"^( *)step( +\d+)(?=/|: )", r"\1스텝\2"),
    (r"  loss (?=\d)", "  손실 "),
    (r"  lr (?=\d)", "  학습률 "),
    (r"  \|g\| (?=\d)", "  기울기 "),
    (r"(?<=\d) tok/s\b", " 토큰/초"),
    (r"  ETA (\S+)$", r"  남은 시간 \1"),
    (r"^  valid loss (?=\d)", "  검증 손실 "),
    (r"(?<=\d) bits/byte$", " 비트/바이트"),
    (r"  \(averaged weights (\S+)\)$", r"  (평균 가중치 \1)"),
    (r" bits/byte(?=  \()", " 비트/바이트"),
    (r"; batch (\d+) is left out$", r". 배치 \1번을 건너뜁니다"),
    (r"; back to step (\d+), batches (\d+) to (\d+) are left out$", _back_to_a_step),
    (r"(?<=\d: )the loss is (\S+) and the gradient norm (\S+)(?=\. )", r"손실 \1, 기울기 \2"),
    (r"(?<=\d: )the loss (\S+) is (\S+) deviations above the median (\S+) of the last (\d+) steps",
     r"손실 \1, 최근 \4스텝의 중앙값 \3보다 편차의 \2배나 높음"),
    (r"^(\w+: )?range test (\d+)/(\d+)", r"\1학습률 시험 \2/\3"),
    (r"(?<=\d: )accuracy (\S+) of (\S+) validation texts$", r"검증 글 \2개의 정확도 \1"),
    (r"^resuming after step (\d+)$", r"스텝 \1까지 배운 데서 이어 갑니다"),
    (r"^model: (\S+), (\S+) parameters, on (\S+)$", r"모델: \1, 파라미터 \2개, 장치 \3"),
    (r"^plan: .*", lambda match: _korean_plan(match[0])),
    (r"^warning: that is more than the (.+) that are free; (\S+) takes what fits, (\S+) needs less$",
     r"주의: 비어 있는 메모리 \1보다 많습니다. \2이면 들어가는 만큼만 나누어 계산하고, \3이면 덜 씁니다"),
    (r"^interrupted: step (\d+) is saved in (.*); start again to go on from there$", r"멈춤: 스텝 \1까지 \2에 저장했습니다. 다시 실행하면 이어 갑니다"),
    (r"^precision float32: no bfloat16 units here.*$", "정밀도 float32: 이 기계에는 bfloat16 연산 장치가 없어 bfloat16이 더 느립니다"),
    (r"^precision bfloat16: (.+) bfloat16 units$", r"정밀도 bfloat16: \1의 bfloat16 연산 장치를 씁니다"),
    (r"^precision bfloat16: tensor cores of compute capability (\S+)$", r"정밀도 bfloat16: 텐서 코어(compute capability \1)를 씁니다"),
    (r"^compile off: too short a run to win it back$", "컴파일 안 함: 짧은 학습이라 컴파일하는 시간이 더 깁니다"),
    (r"^compile on: the run is long enough to win it back; the first step compiles$", "컴파일함: 긴 학습이라 이득입니다. 첫 스텝에서 컴파일합니다"),
    (r"^compile off: no C\+\+ compiler found$", "컴파일 안 함: C++ 컴파일러가 없습니다"),
    (r"^(\S+) examples to learn from, (\S+) held-out questions of (\d+) tasks$", r"배울 예 \1개, 나중에 물을 질문 \2개, 과제 \3가지"),
    (r"^closed tasks: (\S+) of (\S+) answers are right, the best constant answers (\S+)$", r"정답이 정해진 \2문항: 맞힌 것 \1, 가장 좋은 상수 답 \3"),
    (r"^(train|valid): (\S+) of (\S+) examples, (\S+) with a shortened prompt",
     lambda match: f"{'학습' if match[1] == 'train' else '검증'}: 예 {match[3]}개 가운데 {match[2]}개, 질문을 줄인 것 {match[4]}개"),
    (r", (\S+) dropped: answer longer than the context of (\d+)", r", 뺀 것 \1개(답이 문맥 \2토큰보다 긺)"),
    (r", (\S+) dropped: empty answer", r", 뺀 것 \1개(빈 답)"),
    (r", (\S+) dropped: no turn of the assistant", r", 뺀 것 \1개(답하는 차례가 없음)"),
    (r"^layout (\S+): (\S+) of the positions hold a token, (\S+) of these are learnt$", r"담는 법 \1: 자리의 \2가 글로 차고, 그 가운데 \3를 배웁니다"),
    (r"^(precision|compile) (\S+): as asked$", lambda match: f"{'정밀도' if match[1] == 'precision' else '컴파일'} {match[2]}: 설정에 따름"),
))


_PLAN = re.compile(r"plan: (\S+ M) parameters, (\S+ M) tokens, (\S+) TFLOP, about (\S+) (days|h|min|s) (.+); "
                   r"memory (.+?) \((.+), the rest the allocator's\), (.+) free( for each process)?")
_UNITS = {"days": "일", "h": "시간", "min": "분", "s": "초"}
_PARTS = {"weights": "가중치", "gradients": "기울기", "optimizer": "옵티마이저", "activations": "활성값", "workspace": "작업 공간"}


def _korean_plan(line: str) -> str:
    """The line of ``pretraining.plan.summary``; one that has changed there stays as it is."""
    found = _PLAN.fullmatch(line)
    if found is None:
        return line
    parameters, tokens, tflop, time_, unit, how, memory, parts, free, each = found.groups()
    for name, korean in _PARTS.items():
        parts = re.sub(rf"\b{name}\b", korean, parts)
    judged = "방금 재 본 스텝으로 셈하면" if how.startswith("judged") else "이 기계 최고 속도의 35%를 낸다면"
    return (f"계획: 파라미터 {parameters}, 토큰 {tokens}, 계산 {tflop} TFLOP, {judged} 약 {time_}{_UNITS[unit]}, "
            f"메모리 {memory} ({parts}, 나머지는 할당기), 빈 메모리 {free}" + (" (프로세스마다)" if each else ""))


def korean_line(line: str) -> str:
    """A line that ``scratch_llm.training`` prints, in Korean."""
    for pattern, korean in _KOREAN:
        line = pattern.sub(korean, line, count=1)
    return line


def print_korean(line: str) -> None:
    """``korean_line`` as the ``log`` of a training run in a lab."""
    print(korean_line(line), flush=True)


@contextlib.contextmanager
def progress_bar(description: str, total: float | None) -> Iterator[Callable[[float, float | None], None]]:
    """Yield ``update(done, total=None)``; ``done`` and ``total`` are in any one unit."""
    console = Console()
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(description, total=total)

            def update(done: float, new_total: float | None = None) -> None:
                bar.update(task, completed=done, **({} if new_total is None else {"total": new_total}))

            yield update
            # A cap on the input ends the work early; the bar should still close full.
            bar.update(task, completed=bar.tasks[task].total or 1)
    else:
        yield _plain_lines(description, total)


def _plain_lines(description: str, total: float | None) -> Callable[[float, float | None], None]:
    started = last = time.monotonic()

    def update(done: float, new_total: float | None = None) -> None:
        nonlocal last, total
        total = new_total if new_total is not None else total
        now = time.monotonic()
        if now - last < LOG_EVERY_SECONDS:
            return
        last = now
        share = f"{done / total:.0%}, ETA {(now - started) * (total - done) / done:.0f} s" if total and done else f"{done:g}"
        print(f"{description}: {share}", flush=True)

    return update
