"""The class report as one HTML page: participants by week, then the exercises and questions, the hardest first."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from llm_workshop.learning.course import Unit, label_of
from llm_workshop.learning.page_style import page
from llm_workshop.learning.progress_store import Progress, local_time
from llm_workshop.learning.progress_view import bar, counts
from scratch_llm.io import atomic_write

if TYPE_CHECKING:
    from llm_workshop.learning.class_report import Item


def write_class_page(path: Path, rows: Sequence[dict], people: Sequence[Progress], items: Sequence[Item], course: Sequence[Unit]) -> Path:
    body = _people(rows, people, course) + _items(items, course)
    last = max(progress.updated for progress in people)
    with atomic_write(path) as stream:
        stream.write(page("우리 반의 진도", f"참가자 {len(people)}명 · 마지막 기록 {local_time(last)}", body))
    return path


def _people(rows: Sequence[dict], people: Sequence[Progress], course: Sequence[Unit]) -> str:
    units = [unit for unit in course if any(_done(progress, unit) for progress in people)]
    head = "".join(f'<th scope="col" title="{escape(unit.title)}">{unit.label}</th>' for unit in units)
    lines = []
    for row, progress in zip(rows, people):
        cells = []
        for unit in units:
            found = counts(progress, unit)
            done, of = (sum(pair[i] for pair in found.values()) for i in (0, 1))
            cells.append(f"<td>{bar(done, of)}<small>{done}/{of}</small></td>")
        lines.append(
            f'<tr><th scope="row">{escape(row["이름"])}</th>{"".join(cells)}'
            f'<td class="number">{row["한 번에 맞힌 비율"] or "–"}</td><td class="number">{row["마지막 기록"]}</td></tr>'
        )
    return (f'<article><h2>참가자</h2><p class="note">주차마다 마친 실습, 연습 문제, 퀴즈를 모두 더한 수입니다.</p>'
            f'<div class="table"><table><thead><tr><th>이름</th>{head}<th class="number">퀴즈를 한 번에 맞힌 비율</th>'
            f'<th class="number">마지막 기록</th></tr></thead><tbody>{"".join(lines)}</tbody></table></div></article>')


def _done(progress: Progress, unit: Unit) -> int:
    return sum(done for done, _ in counts(progress, unit).values())


def _items(items: Sequence[Item], course: Sequence[Unit]) -> str:
    wordings = {(unit.name, "퀴즈", name): words for unit in course for name, words in zip(unit.questions, unit.wordings)}
    parts = []
    for kind, measure in (("연습 문제", "통과한 비율"), ("퀴즈", "한 번에 맞힌 비율")):
        chosen = [item for item in items if item.kind == kind]
        if not chosen:
            continue
        lines = "".join(
            f'<tr><td>{escape(label_of(item.unit))}</td><td>{escape(item.name)}'
            f'{_wording(wordings.get((item.unit, kind, item.name)))}</td><td>{_share(item)}</td>'
            f'<td class="number">{item.tried}</td><td class="number">{item.solved}</td><td class="number">{item.tries:g}</td></tr>'
            for item in chosen
        )
        parts.append(
            f'<article><h2>{kind}: 어려운 것부터</h2>'
            f'<p class="note">해 본 사람이 적은 것은 비율을 50 % 쪽으로 당겨서 차례를 정합니다. 한 사람만 틀린 것이 맨 앞에 오지 않게 하려는 것입니다.</p><div class="table"><table><thead><tr><th>주차</th><th>이름</th>'
            f'<th>{measure}</th><th class="number">해 본 사람</th><th class="number">해결한 사람</th><th class="number">시도 (중앙값)</th>'
            f"</tr></thead><tbody>{lines}</tbody></table></div></article>"
        )
    return "".join(parts)


def _share(item: Item) -> str:
    share = item.share
    kind = "bar hard" if share < 0.5 else "bar"
    return f'{share:.0%}<span class="{kind}" role="img" aria-label="{share:.0%}"><span style="width:{100 * share:.1f}%"></span></span>'


def _wording(text: str | None) -> str:
    return f'<small class="wording">{escape(text)}</small>' if text else ""
