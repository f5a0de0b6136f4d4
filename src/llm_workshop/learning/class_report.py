"""The class as a whole, from the progress files that participants hand in: who is where, and what is hard for all.

Only the files in the given folder are read; they hold names, counts and times, so nothing else can be told.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.table import Table

from llm_workshop.learning.class_page import write_class_page
from llm_workshop.learning.course import Unit, label_of, read_course
from llm_workshop.learning.progress_store import Participant, Progress, local_time, merge, read_progress
from llm_workshop.learning.progress_view import DONE, counts, exercise_state, question_state, wide_console
from scratch_llm.io import atomic_write

OUT = "class-report"


class Item(NamedTuple):
    """An exercise or a question, over the class.

    Shares lie in [0, 1]; ``first`` is the share whose first answer was right (questions only), ``tries`` the median
    number of gradings or answers.
    """

    unit: str
    kind: str  # 연습 문제, 퀴즈
    name: str
    tried: int
    solved: int
    first: float | None
    tries: float

    @property
    def share(self) -> float:
        """Those who had it at once (a question), or at all (an exercise), of those who tried."""
        return self.first if self.first is not None else self.solved / self.tried

    @property
    def hardness(self) -> float:
        """1 - share, drawn towards a half where few have tried (Laplace's rule of succession)."""
        return 1 - (self.share * self.tried + 1) / (self.tried + 2)


def read_class(folder: Path, skip: Path | None = None, join_names: bool = False) -> tuple[list[Progress], list[str]]:
    """Everybody's progress, each participant once, and what is wrong with the files that were left out.

    Files of one participant (equal ids; with ``join_names`` also equal names) are joined.
    Raises ValueError if there is no folder, or no usable file in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: name the one with the participants' progress.json files")
    found: dict[str, Progress] = {}
    problems = []
    for path in sorted(folder.rglob("*.json")):
        if path.name.startswith("quiz-") or (skip is not None and path.resolve().is_relative_to(skip.resolve())):
            continue
        try:
            progress = read_progress(path)
        except (ValueError, OSError) as problem:
            problems.append(" ".join(str(problem).split()))
            continue
        key = progress.participant.id
        found[key] = merge(found[key], progress) if key in found else progress
    if not found:
        raise ValueError(f"{folder} has no usable progress file" + (f": {problems[0]}" if problems else ": put the participants' .workshop/progress.json there"))
    people = join_by_name(found.values()) if join_names else list(found.values())
    return tell_apart(people), problems


def join_by_name(people: Iterable[Progress]) -> list[Progress]:
    """One progress for each name, under the smallest of its ids."""
    named: dict[str, Progress] = {}
    for progress in sorted(people, key=lambda p: p.participant.id):
        name = progress.participant.name
        if name in named:
            progress = progress.model_copy(update={"participant": named[name].participant})
            progress = merge(named[name], progress)
        named[name] = progress
    return list(named.values())


def tell_apart(people: Iterable[Progress]) -> list[Progress]:
    """In the order of their names; different participants of one name get a piece of their id."""
    people = sorted(people, key=lambda p: (p.participant.name, p.participant.id))
    often = Counter(p.participant.name for p in people)
    return [
        p.model_copy(update={"participant": Participant(id=p.participant.id, name=f"{p.participant.name[:50]} ({p.participant.id[:4]})")})
        if often[p.participant.name] > 1 else p
        for p in people
    ]  # fmt: skip


def items_of(people: Sequence[Progress]) -> list[Item]:
    """Every exercise and question that anybody tried, the hardest first."""
    items = []
    for kind, state, tries in (("연습 문제", exercise_state, "attempts"), ("퀴즈", question_state, "tries")):
        groups = [(p.exercises if kind == "연습 문제" else p.questions) for p in people]
        records: dict[tuple[str, str], list] = {}
        for group in groups:
            for unit, entries in group.items():
                for name, record in entries.items():
                    records.setdefault((unit, name), []).append(record)
        for (unit, name), found in records.items():
            first = sum(r.first_right for r in found) / len(found) if kind == "퀴즈" else None
            solved = sum(state(r) == DONE for r in found)
            items.append(Item(unit, kind, name, len(found), solved, first, median(getattr(r, tries) for r in found)))
    return sorted(items, key=lambda item: (-item.hardness, -item.tries, -item.tried, item.unit, item.kind, item.name))


def people_rows(people: Sequence[Progress], course: Sequence[Unit]) -> list[dict[str, str | int]]:
    """One row for each participant: what was done in all, and when last."""
    rows = []
    for progress in people:
        totals = {what: [0, 0] for what in ("실습", "연습 문제", "퀴즈")}
        for unit in course:
            for what, (done, of) in counts(progress, unit).items():
                totals[what][0] += done
                totals[what][1] += of
        answered = [r for entries in progress.questions.values() for r in entries.values()]
        rows.append({
            "이름": progress.participant.name,
            **{what: done for what, (done, _) in totals.items()},
            **{f"{what} 전체": of for what, (_, of) in totals.items()},
            "한 번에 맞힌 비율": f"{sum(r.first_right for r in answered) / len(answered):.0%}" if answered else "",
            "마지막 기록": local_time(progress.updated)[:10],
        })  # fmt: skip
    return rows


def report_on_class(folder: Path, out: Path | None = None, join_names: bool = False, course: Sequence[Unit] | None = None) -> int:
    """Read the folder, print the tables, write the page and two CSV files; 1 if a file had to be left out."""
    out = out or folder / OUT
    people, problems = read_class(folder, skip=out, join_names=join_names)
    course = read_course() if course is None else course
    rows, items = people_rows(people, course), items_of(people)
    _show(rows, items)
    write_csv(out / "participants.csv", rows)
    write_csv(out / "items.csv", [item_row(item) for item in items])
    page = write_class_page(out / "class.html", rows, people, items, course)
    print(f"\npage: {page}\ntables: {out / 'participants.csv'}, {out / 'items.csv'}")
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return 1 if problems else 0


def item_row(item: Item) -> dict[str, str | int]:
    return {
        "주차": label_of(item.unit), "종류": item.kind, "이름": item.name, "해 본 사람": item.tried, "해결한 사람": item.solved,
        "한 번에 맞힌 비율": "" if item.first is None else f"{item.first:.0%}", "시도 (중앙값)": f"{item.tries:g}",
    }  # fmt: skip


def write_csv(path: Path, rows: Sequence[dict[str, str | int]]) -> None:
    """Rows as CSV that spreadsheets open with Hangul intact; a cell is never taken for a formula."""
    with atomic_write(path) as stream:
        stream.write("\ufeff")
        if rows:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: _no_formula(value) for key, value in row.items()} for row in rows)


def _no_formula(value: str | int) -> str | int:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value


def _show(rows: Sequence[dict], items: Sequence[Item], hardest: int = 10) -> None:
    console = wide_console()
    table = Table(box=None, pad_edge=False, header_style="dim", title=f"참가자 {len(rows)}명", title_justify="left")
    for heading in ("이름", "실습", "연습 문제", "퀴즈", "한 번에 맞힘", "마지막 기록"):
        table.add_column(heading, justify="left" if heading == "이름" else "right", overflow="fold")
    for row in rows:
        table.add_row(row["이름"], *(f"{row[w]}/{row[f'{w} 전체']}" for w in ("실습", "연습 문제", "퀴즈")), row["한 번에 맞힌 비율"] or "–", row["마지막 기록"])
    console.print(table)
    if items:
        table = Table(box=None, pad_edge=False, header_style="dim", title="\n모두에게 어려운 것", title_justify="left")
        for heading in ("주차", "종류", "이름", "해 본 사람", "해결한 사람", "한 번에 맞힘", "시도 (중앙값)"):
            table.add_column(heading, justify="left" if heading in ("주차", "종류", "이름") else "right")
        for item in items[:hardest]:
            table.add_row(*(str(value) if value != "" else "–" for value in item_row(item).values()))
        console.print(table)
