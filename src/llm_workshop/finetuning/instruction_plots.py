"""Plots of instruction tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_workshop.finetuning.answer_scores import TaskScore
from llm_workshop.report.plots import COLORS, FAINT, new_figure

NAMES = {"packed": "이어 담기\n(packed)", "grouped": "비슷한 길이끼리\n(grouped)", "padded": "패딩\n(padded)"}


def layout_plot(fills: Mapping[str, float], numbers: Sequence[int]) -> Any:
    """How full each layout's rows are, and who sees whom in one packed row; ``numbers``: the text of each place, 0 for none."""
    figure, (left, right) = new_figure(1, 2, width=4.8, height=3.6)
    bars = left.bar([NAMES[layout] for layout in fills], [100 * fill for fill in fills.values()], color=COLORS[0], width=0.6)
    left.bar_label(bars, fmt="%.0f%%", padding=2)
    left.set_ylim(0, 112)
    left.set_ylabel("글로 찬 자리 (%)")
    left.set_title("담는 법과 버려지는 계산")
    left.grid(axis="x", visible=False)
    seen = [[float(i >= j and numbers[i] == numbers[j] and numbers[i] > 0) for j in range(len(numbers))] for i in range(len(numbers))]
    right.imshow(seen, cmap="Blues", vmin=0, vmax=1.3, interpolation="nearest")
    right.set_title("이어 담은 한 줄: 글마다 따로")
    right.set_xlabel("보이는 자리")
    right.set_ylabel("보는 자리")
    right.grid(visible=False)
    return figure


def answer_plot(before: Sequence[TaskScore], after: Sequence[TaskScore]) -> Any:
    """Exact match of closed tasks with the best constant answer, and chrF of open ones."""
    parts = [
        ([(b, a) for b, a in zip(before, after) if a.kind != "open"], "정확히 일치 (%)", lambda score: 100 * score.exact),
        ([(b, a) for b, a in zip(before, after) if a.kind == "open"], "chrF (%)", lambda score: 100 * score.chrf),
    ]
    parts = [part for part in parts if part[0]]
    figure, axes = new_figure(1, len(parts), width=max(4.4, 9.2 / len(parts)), height=3.4)
    for ax, (pairs, label, value) in zip(axes if len(parts) > 1 else [axes], parts):
        places = list(range(len(pairs)))
        ax.bar([p - 0.2 for p in places], [value(b) for b, _ in pairs], width=0.38, color=FAINT, label="전")
        ax.bar([p + 0.2 for p in places], [value(a) for _, a in pairs], width=0.38, color=COLORS[0], label="후")
        if pairs[0][1].kind != "open":
            for place, (_, a) in zip(places, pairs):
                ax.hlines(100 * a.constant, place - 0.42, place + 0.42, color=COLORS[1], linewidth=2,
                          label="가장 좋은 상수 답" if place == 0 else None)  # fmt: skip
        names = [a.task for _, a in pairs]
        ax.set_xticks(places, names, rotation=30 if len(names) > 4 else 0, ha="right" if len(names) > 4 else "center")
        ax.set_ylim(0, 108)
        ax.set_ylabel(label)
        ax.grid(axis="x", visible=False)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=3)
    return figure
