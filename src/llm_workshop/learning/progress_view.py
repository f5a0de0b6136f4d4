"""One participant's progress as a table on the terminal and as a page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llm_workshop.learning.course import Unit
from llm_workshop.learning.page_style import page
from llm_workshop.learning.progress_store import ExerciseRecord, Progress, QuestionRecord, local_time
from scratch_llm.io import atomic_write

DONE, OPEN, WRONG = "done", "open", "wrong"
LEGEND = {DONE: "끝냄, 맞음", WRONG: "해 보았지만 아직", OPEN: "아직 안 함"}


def steps_done(progress: Progress, unit: Unit) -> dict[str, bool]:
    """Each step of a unit, and whether it ran; a report of a part of a step counts (``week04-compare-mamba``)."""
    return {step: any(done == step or done.startswith(f"{step}-") for done in progress.steps) for step in unit.steps}


def exercise_state(record: ExerciseRecord | None) -> str:
    return OPEN if record is None else DONE if record.passed_on else WRONG


def question_state(record: QuestionRecord | None) -> str:
    return OPEN if record is None else DONE if record.right_on else WRONG


def counts(progress: Progress, unit: Unit) -> dict[str, tuple[int, int]]:
    """What -> (done, there is), of steps, exercises and questions; what the unit lacks is left out."""
    steps = steps_done(progress, unit)
    exercises, questions = progress.exercises.get(unit.name, {}), progress.questions.get(unit.name, {})
    found = {
        "실습": (sum(steps.values()), len(steps)),
        "연습 문제": (sum(exercise_state(exercises.get(name)) == DONE for name in unit.exercises), len(unit.exercises)),
        "퀴즈": (sum(question_state(questions.get(name)) == DONE for name in unit.questions), len(unit.questions)),
    }
    return {what: pair for what, pair in found.items() if pair[1]}


def first_right(progress: Progress, unit: Unit) -> tuple[int, int]:
    """Questions whose first answer was right, of those answered."""
    records = [r for name, r in progress.questions.get(unit.name, {}).items() if name in unit.questions]
    return sum(record.first_right for record in records), len(records)


def wide_console() -> Console:
    """The terminal; a pipe counts as 120 columns wide."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def show_progress(progress: Progress, course: Sequence[Unit], console: Console | None = None) -> None:
    console = console or wide_console()
    console.print(Text(f"\n{progress.participant.name}님의 진도", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "주제", "실습", "연습 문제", "퀴즈", "한 번에 맞힘"):
        table.add_column(heading, justify="left" if heading in ("", "주제") else "right", overflow="fold")
    for unit in course:
        found = counts(progress, unit)
        right, answered = first_right(progress, unit)
        cells = [f"{done}/{of}" if (done, of) != (0, 0) else "–" for done, of in (found.get(w, (0, 0)) for w in ("실습", "연습 문제", "퀴즈"))]
        table.add_row(unit.label, unit.title, *cells, f"{right}/{answered}" if answered else "–")
    console.print(table)
    if next_thing := what_next(progress, course):
        console.print(f"\n다음: {next_thing}")


def what_next(progress: Progress, course: Sequence[Unit]) -> str | None:
    """The first thing that is not done, as a command; of the first week that was begun and not finished, if any."""
    begun = [unit for unit in course if any(done for done, _ in counts(progress, unit).values())]
    for unit in [*begun, *course]:
        short = unit.name.replace("week0", "week").replace("ch0", "ch")
        for step, done in steps_done(progress, unit).items():
            if not done:
                return f"make {step.replace(unit.name, short, 1)}"
        exercises, questions = progress.exercises.get(unit.name, {}), progress.questions.get(unit.name, {})
        for name in unit.exercises:
            if exercise_state(exercises.get(name)) != DONE:
                return f"make {short}-check EX={name}"
        if any(question_state(questions.get(name)) != DONE for name in unit.questions):
            return f"make {short}-quiz"
    return None


def write_progress_page(progress: Progress, course: Sequence[Unit], path: Path) -> Path:
    """The page as one HTML file."""
    totals: dict[str, list[int]] = {}
    for unit in course:
        for what, (done, of) in counts(progress, unit).items():
            total = totals.setdefault(what, [0, 0])
            total[0] += done
            total[1] += of
    cards = "".join(
        f'<div class="card"><span class="what">{what}</span><strong>{done}<small> / {of}</small></strong>{bar(done, of)}</div>'
        for what, (done, of) in totals.items()
    )
    legend = "".join(f'<span><i class="dot {state}"></i>{escape(text)}</span>' for state, text in LEGEND.items())
    following = what_next(progress, course)
    hint = f'<p>다음 할 일: <code>{escape(following)}</code></p>' if following else "<p>모두 마쳤습니다.</p>"
    body = (f'<section class="cards">{cards}</section>{hint}<p class="legend">{legend}</p>'
            + "".join(_unit_section(progress, unit) for unit in course))
    text = page(f"{progress.participant.name}님의 진도", f"마지막 기록 {local_time(progress.updated)}", body)
    with atomic_write(path) as stream:
        stream.write(text)
    return path


def bar(done: int, of: int) -> str:
    share = 100 * done / of if of else 0
    return f'<span class="bar" role="img" aria-label="{done}/{of}"><span style="width:{share:.1f}%"></span></span>'


def _unit_section(progress: Progress, unit: Unit) -> str:
    exercises, questions = progress.exercises.get(unit.name, {}), progress.questions.get(unit.name, {})
    groups = {
        "실습": [(step.split("-", 1)[1], DONE if done else OPEN, "") for step, done in steps_done(progress, unit).items()],
        "연습 문제": [(name, exercise_state(exercises.get(name)), _exercise_note(exercises.get(name))) for name in unit.exercises],
        "퀴즈": [(name, question_state(questions.get(name)), _question_note(questions.get(name))) for name in unit.questions],
    }
    parts = []
    for what, items in groups.items():
        if items:
            done = sum(state == DONE for _, state, _ in items)
            chips = "".join(
                f'<li class="{state}" title="{LEGEND[state]}"><i class="dot {state}"></i>{escape(name)}{note}</li>' for name, state, note in items
            )
            parts.append(f'<h3>{what} <small>{done} / {len(items)}</small></h3><ul class="chips">{chips}</ul>')
    scores = progress.scores.get(unit.name, ())
    if scores:
        lines = ", ".join(f"{local_time(s.on)[:10]} {s.right}/{s.of}{' (틀린 것만)' if s.again else ''}" for s in scores)
        parts.append(f'<p class="scores">퀴즈를 끝낸 날: {escape(lines)}</p>')
    return f"<article><h2>{unit.label}. {escape(unit.title)}</h2>{''.join(parts)}</article>"


def _exercise_note(record: ExerciseRecord | None) -> str:
    if record is None:
        return ""
    state = "" if record.passed_on else f"시험 {record.tests_passed}/{record.tests}, "
    return f"<small>{state}{record.attempts}번 채점</small>"


def _question_note(record: QuestionRecord | None) -> str:
    return "" if record is None or record.tries == 1 else f"<small>{record.tries}번</small>"
