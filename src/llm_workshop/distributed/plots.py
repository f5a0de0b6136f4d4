"""Plots of training by several processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from llm_workshop.distributed.costs import ZERO_STAGES, held_bytes
from llm_workshop.distributed.trial import METHODS
from llm_workshop.report.plots import COLORS, new_figure, read_metrics, series

_PARTS = {"weights_bytes": "가중치", "gradients_bytes": "기울기", "optimizer_bytes": "옵티마이저 (m, v)"}

_WIDTHS = (8.0, 6.0, 4.0, 1.8)  # lines that lie upon one another: each shows at the edges of the next


def loss_differences(metrics: Mapping[str, Path]) -> dict[str, list[float]]:
    """For each method but "alone": how far its loss of each step is from that of one process, as a share of it."""
    _, expected = series(read_metrics(metrics["alone"]), "loss")
    return {
        method: [abs(loss - other) / other for loss, other in zip(series(read_metrics(path), "loss")[1], expected, strict=True)]
        for method, path in metrics.items() if method != "alone"
    }  # fmt: skip


def equality_plot(metrics: Mapping[str, Path], tolerance: float) -> Figure:
    """Left the losses of all methods, one upon the other; right their distance from those of one process."""
    figure, (losses, differences) = new_figure(1, 2, width=5.0, height=3.4)
    for place, (method, path) in enumerate(metrics.items()):
        steps, values = series(read_metrics(path), "loss")
        losses.plot(steps, values, color=COLORS[place], linewidth=_WIDTHS[place], label=METHODS[method][0])
    losses.set_title("손실: 네 곡선이 포개집니다")
    losses.set_ylabel("nat/토큰")
    losses.legend(loc="upper right")
    apart = loss_differences(metrics)
    for place, values in enumerate(apart.values(), 1):
        # A difference of nothing has no place on a logarithmic axis: it is drawn at the bottom.
        differences.plot(range(1, len(values) + 1), [max(value, 1e-9) for value in values], color=COLORS[place], marker="o",
                         markersize=_WIDTHS[place], linewidth=_WIDTHS[place] / 2)  # the colours are those of the left
    differences.text(0.01, 0.02, "맨 아래: 차이 없음", transform=differences.transAxes, fontsize=8.5, color=COLORS[5])
    differences.axhline(tolerance, color=COLORS[5], linestyle="--", linewidth=1.2)
    differences.text(1, tolerance * 1.3, f"허용 오차 {tolerance:.0e}", fontsize=8.5, color=COLORS[5])
    differences.set_yscale("log")
    differences.yaxis.set_minor_locator(NullLocator())
    differences.set_ylim(2e-10, 10 * max(tolerance, *(max(values) for values in apart.values())))
    differences.set_title("한 프로세스와의 상대 차이")
    differences.set_ylabel("차이 / 손실")
    differences.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))  # mathtext's minus is not in the font
    for axes in (losses, differences):
        axes.set_xlabel("스텝")
    return figure


def cost_plot(results: Mapping[str, Mapping[str, Any]]) -> Figure:
    """What one process holds, what all send in a step, and how fast they train."""
    figure, (memory, traffic, speed) = new_figure(1, 3, width=4.4, height=3.0)
    names = [METHODS[method][0] for method in results]
    left = [0.0] * len(names)
    for color, (part, title) in zip(COLORS, _PARTS.items()):
        values = [result[part] / 2**20 for result in results.values()]
        memory.barh(names, values, left=left, color=color, height=0.62, label=title)
        left = [before + value for before, value in zip(left, values)]
    memory.set_title("프로세스 하나가 가진 것")
    memory.set_xlabel("MiB")
    memory.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=3, columnspacing=0.8, handlelength=1.0)
    bars = (
        (traffic, "loopback_bytes", 2**20, "한 스텝에 오간 바이트", "MiB", COLORS[3]),
        (speed, "tokens_per_second", 1, "학습 속도", "토큰/초", COLORS[2]),
    )
    for axes, field, unit, title, label, color in bars:
        values = [result[field] / unit for result in results.values()]
        axes.barh(names, values, color=color, height=0.62)
        for place, value in enumerate(values):
            axes.text(value + 0.02 * max(values), place, f"{value:,.0f}" if value >= 100 else f"{value:.1f}", va="center", fontsize=8.5)
        axes.set_xlim(0, 1.2 * max(*values, 1e-9))
        axes.set_title(title)
        axes.set_xlabel(label)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_yticklabels([])
    for axes in (memory, traffic, speed):
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
    return figure


def zero_plot(parameters: int, processes: Sequence[int], title: str) -> Figure:
    """GiB that one process holds over the number of processes, a line for each stage of ZeRO."""
    figure, axes = new_figure(1, 1, width=6.4, height=3.6)
    for color, (stage, name) in zip((COLORS[5], COLORS[4], COLORS[1], COLORS[0]), ZERO_STAGES.items()):
        values = [held_bytes(parameters, n, stage) / 2**30 for n in processes]
        axes.plot(processes, values, color=color, marker="o", markersize=4, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(processes), [str(n) for n in processes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=0)
    axes.set_title(title)
    axes.set_xlabel("프로세스(장치) 수")
    axes.set_ylabel("GiB/프로세스")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
