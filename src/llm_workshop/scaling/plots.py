"""Scaling laws, searches and the ladder of speed in pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from llm_workshop.report.plots import COLORS, FAINT, INK, new_figure
from llm_workshop.scaling.law import FittedLaw, Valley
from llm_workshop.scaling.search import Rung, best_so_far, settings_of

Line = Mapping[str, Any]
"""A line of the table of runs."""


def law_plot(lines: Sequence[Line], fitted: FittedLaw, larger: Line) -> Figure:
    """The runs, the law with its band, and the larger run beside what was foretold."""
    figure, axes = new_figure(width=7.0, height=4.0)
    sizes = np.geomspace(min(line["parameters"] for line in lines) / 1.15, larger["parameters"] * 1.25, 120)
    low, high = fitted.band(sizes)
    axes.fill_between(sizes, low, high, color=COLORS[0], alpha=0.14, linewidth=0, label="법칙의 90 % 띠")
    axes.plot(sizes, fitted.law.loss(sizes), color=COLORS[0], label=f"$L = {fitted.law.floor:.2f} + A N^{{-{fitted.law.exponent:.2f}}}$")
    axes.plot([line["parameters"] for line in lines], [line["valid_loss"] for line in lines], "o", color=COLORS[0], markersize=6, label="맞추는 데 쓴 학습")
    size = larger["parameters"]
    bottom, top = fitted.prediction(size)
    middle = float(fitted.law.loss(size))
    axes.errorbar([size], [middle], yerr=[[max(0.0, middle - bottom)], [max(0.0, top - middle)]], fmt="_", color=COLORS[1], capsize=5, label="예측 (90 %)")
    axes.plot([size], [larger["valid_loss"]], "*", color=COLORS[2], markersize=13, label="실제로 잰 손실")
    axes.set_title("파라미터를 늘리면 손실은 얼마나 줄어드나")
    axes.set_xlabel("파라미터")
    axes.set_ylabel("검증 손실 (내트/토큰)")
    _size_axis(axes)
    axes.legend(loc="best")
    return figure


def isoflop_plot(groups: Mapping[float, Sequence[Line]], valleys: Mapping[float, Valley | None]) -> Figure:
    """Loss over size, a curve for each budget, its lowest point marked."""
    figure, axes = new_figure(width=7.0, height=3.8)
    for color, (budget, lines) in zip(COLORS, sorted(groups.items())):
        sizes = [line["parameters"] for line in lines]
        axes.plot(sizes, [line["valid_loss"] for line in lines], "o", color=color, markersize=6, label=f"{budget / 1e12:,.3g} TFLOP")
        if valley := valleys[budget]:
            curve = np.geomspace(min(sizes), max(sizes), 80)
            axes.plot(curve, valley.at(curve), color=color, linewidth=1.4)
            axes.plot([valley.size], [valley.loss], "v", color=color, markersize=11, markeredgecolor="white")
    axes.set_title("같은 계산량을 크기와 토큰에 나누어 쓰면")
    axes.set_xlabel("파라미터 (클수록 읽는 토큰은 적다)")
    axes.set_ylabel("검증 손실 (내트/토큰)")
    _size_axis(axes)
    axes.legend(loc="best")
    return figure


def halving_plot(rungs: Sequence[Rung], random_runs: Sequence[tuple[int, float]]) -> Figure:
    """Left: each setting's loss from rung to rung.  Right: the best loss over what was spent, beside random search."""
    figure, (left, right) = new_figure(1, 2, width=5.2, height=3.6)
    paths: dict[tuple, list[tuple[int, float]]] = {}
    for number, rung in enumerate(rungs):
        for trial, loss in zip(rung.trials, rung.losses):
            if math.isfinite(loss):
                paths.setdefault(tuple(settings_of(trial).values()), []).append((number, loss))
    winner = tuple(settings_of(rungs[-1].ranked[0][0]).values())
    for settings, path in paths.items():
        width, color = (2.2, COLORS[1]) if settings == winner else (1.1, FAINT)
        left.plot(*zip(*path), color=color, marker="o", markersize=4, linewidth=width, zorder=1 + width)
    left.set_xticks(range(len(rungs)), [f"{rung.tokens:,}\n({len(rung.trials)}개)" for rung in rungs])
    _name(left, "연속 반감: 나쁜 설정은 일찍 그만둔다", "설정마다 학습한 토큰 (남은 설정)", "검증 손실 (내트/토큰)")
    spent = best_so_far([(trial.tokens, loss) for rung in rungs for trial, loss in zip(rung.trials, rung.losses)])
    for color, label, found in ((COLORS[1], "연속 반감", spent), (COLORS[0], "무작위 탐색", best_so_far(random_runs))):
        known = [(tokens, loss) for tokens, loss in found if math.isfinite(loss)]
        right.step(*zip(*known), where="post", color=color, marker="o", markersize=3.5, label=label)
    _name(right, "같은 토큰을 썼을 때 가장 나은 손실", "지금까지 쓴 토큰", "검증 손실 (내트/토큰)")
    right.xaxis.set_major_locator(MaxNLocator(5))
    right.xaxis.set_major_formatter(FuncFormatter(_short))
    right.legend(loc="upper right")
    return figure


def rates_plot(lines: Sequence[Line]) -> Figure:
    """Loss over the learning rate of all searched runs, the color by their tokens."""
    figure, axes = new_figure(width=6.4, height=3.4)
    budgets = sorted({line["tokens"] for line in lines})
    for color, budget in zip(COLORS, budgets):
        shown = [line for line in lines if line["tokens"] == budget and line["valid_loss"] is not None]
        axes.plot([line["learning_rate"] for line in shown], [line["valid_loss"] for line in shown], "o", color=color, label=f"토큰 {budget:,}개")
    _plain_log(axes)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    _name(axes, "학습률에 따른 손실 (다른 설정도 함께 바뀜)", "최대 학습률", "검증 손실 (내트/토큰)")
    axes.legend(loc="best")
    return figure


def ladder_plot(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Speed and peak memory after each rung, from the first on top."""
    figure, (speed, memory) = new_figure(1, 2, width=5.6, height=0.9 + 0.36 * len(rows))
    titles = [row["title"] for row in rows]
    _bars(speed, titles, [row["tokens_per_second"] for row in rows], [f"{row['tokens_per_second']:,.0f}  ({row['total']:.1f}배)" for row in rows], COLORS[0])
    speed.set_title("배운 토큰/초 (괄호는 처음의 몇 배)")
    _bars(memory, titles, [row["peak_bytes"] / 2**20 for row in rows], [f"{row['peak_bytes'] / 2**20:,.0f}" for row in rows], COLORS[2])
    memory.set_title("최대 메모리 (MiB)")
    memory.set_yticklabels([])
    speed.xaxis.set_major_formatter(FuncFormatter(_short))
    return figure


def difference_plot(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """How far each rung's losses are from the written-out step's, and how far they may be."""
    figure, axes = new_figure(width=7.4, height=0.9 + 0.32 * len(rows))
    places = np.arange(len(rows))[::-1]
    # A difference of nothing has no place on a logarithmic axis: it stands a decade left of all others, and is named there.
    differences = [row["difference"] for row in rows]
    nothing = 10.0 ** (math.floor(math.log10(min([1e-7, *filter(None, differences)]))) - 1)
    axes.plot([difference or nothing for difference in differences], places, "o", color=COLORS[0], label="잰 차이")
    axes.plot([row["allowed"] for row in rows], places, "|", color=COLORS[1], markersize=14, markeredgewidth=2.4, label="허용")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}" if value > 1.5 * nothing else "차이\n없음"))
    axes.set_xlim(nothing / 2, 2 * max(max(row["allowed"], row["difference"]) for row in rows))
    axes.set_yticks(places, [row["title"] for row in rows])
    _name(axes, "손실은 그대로인가", "처음 쓴 그대로와의 가장 큰 손실 차이 (내트)", "")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _bars(axes: Axes, titles: Sequence[str], values: Sequence[float], labels: Sequence[str], color: str) -> None:
    places = np.arange(len(values))[::-1]
    axes.barh(places, values, color=color, height=0.62)
    axes.set_yticks(places, titles)
    axes.set_xlim(0, max(values) * 1.34)
    for place, value, label in zip(places, values, labels):
        axes.annotate(label, (value, place), textcoords="offset points", xytext=(4, 0), va="center", fontsize=8.5, color=INK)
    axes.grid(axis="y", visible=False)


def _size_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _plain_log(axes: Axes) -> None:
    """Powers of ten as 1e-06: matplotlib would write them with a minus sign that the Hangul font lacks."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}" if value < 1e-4 else f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _short(value: float, _: Any = None) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
