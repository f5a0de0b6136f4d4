"""Week 6's comparison of methods in pictures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from llm_workshop.finetuning.methods import METHODS
from llm_workshop.report.plots import COLORS, INK, new_figure

Row = Mapping[str, Any]
PARTS = {"frozen": "얼린 가중치", "trained": "배우는 가중치", "gradients": "기울기", "optimizer": "옵티마이저", "activations": "활성값"}
PLACES = {"query-value": "쿼리·밸류", "attention": "어텐션 전체", "feed-forward": "피드포워드", "all": "모든 행렬",
          "lower-half": "아래쪽 절반", "upper-half": "위쪽 절반"}  # fmt: skip
_PART_COLORS = ("#c3c9d4", COLORS[0], COLORS[3], COLORS[4], COLORS[2])


def rates_plot(sweeps: Mapping[str, Sequence[Row]]) -> Figure:
    """Validation loss over the learning rate, a panel for each method; the rate that was taken is filled."""
    columns = min(5, len(sweeps))
    rows = -(-len(sweeps) // columns)
    figure, axes = new_figure(rows, columns, width=2.3, height=2.1)
    panels = axes.flatten() if len(sweeps) > 1 else [axes]
    known = [row["valid_loss"] for trials in sweeps.values() for row in trials if math.isfinite(row["valid_loss"])]
    low, high = min(known), min(max(known), 2 * statistics.median(known))  # what came apart leaves the panel at the top
    for panel, (method, trials) in zip(panels, sweeps.items()):
        rates, losses = [row["learning_rate"] for row in trials], [row["valid_loss"] for row in trials]
        panel.plot(rates, losses, color=COLORS[0], marker="o", markersize=5, markerfacecolor="white")
        best = min(range(len(losses)), key=lambda i: losses[i] if math.isfinite(losses[i]) else math.inf)
        panel.plot(rates[best], losses[best], color=COLORS[1], marker="o", markersize=7)
        panel.set_title(in_plot(METHODS[method].title), fontsize=10)
        panel.set_xscale("log")
        panel.set_xlim(rates[0] / 1.6, rates[-1] * 1.6)
        panel.set_xticks(rates, [f"{rate:.0e}".replace("e-0", "e-") for rate in rates], fontsize=7)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_ylim(low - 0.08 * (high - low) - 0.01, high + 0.08 * (high - low) + 0.01)
        panel.yaxis.set_major_locator(MaxNLocator(4))
    for number, panel in enumerate(panels):
        panel.set_visible(number < len(sweeps))
        if number % columns == 0:
            panel.set_ylabel("검증 손실", fontsize=9)
    return figure


def quality_plot(rows: Sequence[Row], floor: float | None = None, floor_title: str = "") -> Figure:
    """Accuracy with the spread over the seeds, a line for each method, the most learnt numbers at the top, each with its count.

    A line each, as several methods learn just as many numbers.  ``floor``: a line of what is to be beaten.
    """
    rows = sorted(rows, key=lambda row: -row["trainable"])
    figure, axes = new_figure(1, 1, width=7.4, height=1.1 + 0.36 * len(rows))
    places = list(range(len(rows)))[::-1]
    axes.errorbar([row["accuracy"] for row in rows], places, xerr=_spreads(rows), color=COLORS[0], marker="o", markersize=7, capsize=3,
                  linestyle="none")  # fmt: skip
    _counts(axes, rows, places)
    if floor is not None:
        axes.axvline(floor, color=COLORS[1], linestyle="--", linewidth=1.2, label=floor_title)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.32 / (0.3 + 0.36 * len(rows))))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _rows(axes, [in_plot(row["title"]) for row in rows], places, "테스트 정확도와 배우는 파라미터의 수" + _bars(rows))
    return figure


def cost_plot(rows: Sequence[Row]) -> Figure:
    """Seconds of a step, and its memory by part beside the highest that was measured."""
    figure, (time, memory) = new_figure(1, 2, width=5.2, height=1.0 + 0.33 * len(rows))
    titles, places = [in_plot(row["title"]) for row in rows], list(range(len(rows)))[::-1]
    seconds = [1000 * row["cost"]["measured"]["seconds"] for row in rows]
    time.barh(places, seconds, color=COLORS[0], height=0.62)
    for place, value in zip(places, seconds):
        time.annotate(f"{value:,.0f}" if value >= 10 else f"{value:.1f}", (value, place), textcoords="offset points", xytext=(4, 0), va="center", fontsize=8.5, color=INK)
    time.set_xlim(0, max(seconds) * 1.16)
    _rows(time, titles, places, "학습 한 걸음의 시간 (밀리초)")
    starts = [0.0] * len(rows)
    for (part, title), color in zip(PARTS.items(), _PART_COLORS):
        values = [row["cost"]["counted"][part] / 2**20 for row in rows]
        memory.barh(places, values, left=starts, color=color, height=0.62, label=title)
        starts = [start + value for start, value in zip(starts, values)]
    peaks = [row["cost"]["measured"]["peak"] / 2**20 for row in rows]
    memory.plot(peaks, places, color=INK, marker="D", markersize=4.5, linestyle="none", label="잰 최고치 (지나가는 텐서까지)")
    memory.set_xlim(0, max(*starts, *peaks) * 1.06)
    _rows(memory, titles, places, "학습 한 걸음의 메모리 (MiB)")
    figure.legend(*memory.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8.5)
    return figure


def ranks_plot(rows: Sequence[Row]) -> Figure:
    """Accuracy over the rank, a line for each method."""
    figure, axes = new_figure(1, 1, width=6.0, height=3.4)
    for number, (method, title) in enumerate((("lora", r"LoRA ($\alpha/r$)"), ("rslora", r"rsLoRA ($\alpha/\sqrt{r}$)"))):
        own = [row for row in rows if row["method"] == method]
        axes.errorbar([row["rank"] * (1 + 0.03 * number) for row in own], [row["accuracy"] for row in own], yerr=_spreads(own),
                      color=COLORS[number], marker="os"[number], markersize=6, capsize=3, label=title)  # fmt: skip
    ranks = sorted({row["rank"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(rank) for rank in ranks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_title("랭크와 정확도")
    axes.set_xlabel("랭크 r (학습률과 α는 그대로)")
    axes.set_ylabel("테스트 정확도" + _bars(rows))
    axes.legend()
    return figure


def places_plot(rows: Sequence[Row]) -> Figure:
    """Accuracy of LoRA at each place, and how many numbers learn there."""
    figure, axes = new_figure(1, 1, width=7.0, height=0.9 + 0.42 * len(rows))
    places = list(range(len(rows)))[::-1]
    axes.errorbar([row["accuracy"] for row in rows], places, xerr=_spreads(rows), color=COLORS[0], marker="o",
                  markersize=7, capsize=3, linestyle="none")  # fmt: skip
    _counts(axes, rows, places)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _rows(axes, [PLACES[row["targets"]] for row in rows], places, "어디에 다나: 테스트 정확도와 배우는 파라미터의 수" + _bars(rows))
    return figure


def peers_plot(curves: Mapping[str, Sequence[float]]) -> Figure:
    """Training losses of several libraries over the steps: widest line first, so that equal ones are seen below each other."""
    figure, axes = new_figure(1, 1, width=6.4, height=3.4)
    for number, (title, losses) in enumerate(curves.items()):
        axes.plot(range(1, len(losses) + 1), losses, color=COLORS[number], linewidth=8 - 3 * number, alpha=0.45 + 0.25 * number, label=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("같은 어댑터, 같은 배치: 세 라이브러리의 손실")
    axes.set_xlabel("스텝")
    axes.set_ylabel("손실 (nat/토큰)")
    axes.legend()
    return figure


def _rows(axes: Axes, titles: Sequence[str], places: Sequence[int], title: str) -> None:
    axes.set_yticks(places, titles)
    axes.grid(axis="y", visible=False)
    axes.set_title(title)


def _counts(axes: Axes, rows: Sequence[Row], places: Sequence[int]) -> None:
    """Right of each line the numbers that learn."""
    for place, row in zip(places, rows):
        axes.annotate(f"{row['trainable']:,}개", (1.0, place), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_ylim(-0.6, len(rows) - 0.4)


def _spreads(rows: Sequence[Row]) -> list[float] | None:
    """The half lengths of the error bars; None where one seed gives none."""
    return None if any(row["accuracy_spread"] is None for row in rows) else [row["accuracy_spread"] for row in rows]


def _bars(rows: Sequence[Row]) -> str:
    return " (시드 하나라 막대 없음)" if _spreads(rows) is None else " (막대는 표준편차)"


def in_plot(title: str) -> str:
    """A method's title with its raised figure as mathematics: as a character of the font it is a speck."""
    return title.replace("³", "$^3$")
