"""Quantisation in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from torch import Tensor

from llm_workshop.quantization.comparison import BASE, Result
from llm_workshop.report.plots import COLORS, FAINT, INK, new_figure


def grid_plot(row: Tensor, grids: Mapping[str, Tensor], title: str) -> Figure:
    """The numbers of one row (D,) as a cloud of ticks, and below it the points (n,) that each grid has."""
    figure, axes = new_figure(width=8.2, height=1.0 + 0.45 * len(grids))
    axes.plot(row, torch.zeros_like(row), "|", color=INK, alpha=0.35, markersize=14)
    for place, (color, points) in enumerate(zip(COLORS, grids.values()), 1):
        axes.plot(points, torch.full_like(points, -place), "|", color=color, markersize=12)
    axes.set_yticks(range(0, -len(grids) - 1, -1), ["가중치", *grids])
    axes.set_ylim(-len(grids) - 0.6, 0.6)
    axes.grid(axis="y", visible=False)
    axes.set_title(title)
    return figure


def error_histogram(errors: Mapping[str, Tensor], title: str) -> Figure:
    """Distribution of rounding errors, one outline for each way; the ticks on the x axis are shared."""
    figure, axes = new_figure(width=7.2, height=3.2)
    reach = max(float(error.abs().quantile(0.999)) for error in errors.values())
    for color, (name, error) in zip(COLORS, errors.items()):
        axes.hist(error.numpy(), bins=81, range=(-reach, reach), histtype="step", linewidth=1.6, color=color,
                  label=f"{name} (RMS {float(error.square().mean().sqrt()):.1e})", density=True)  # fmt: skip
    axes.set_yscale("log")
    _plain_numbers(axes)
    axes.set_title(title)
    axes.set_xlabel("되돌린 가중치 - 원래 가중치")
    axes.set_ylabel("밀도 (로그)")
    axes.legend(loc="upper right")
    axes.margins(y=0.25)
    return figure


def outlier_plot(before: Tensor, after: Tensor, weight_before: Tensor, weight_after: Tensor) -> Figure:
    """Greatest magnitude of each input channel (D,) and of each column of the weight, before and after smoothing."""
    figure, (activations, weights) = new_figure(1, 2, width=5.2, height=3.2)
    for axes, pair, title in (
        (activations, (before, after), "활성값: 채널마다 가장 큰 |x|"),
        (weights, (weight_before, weight_after), "가중치: 열마다 가장 큰 |w|"),
    ):
        order = pair[0].argsort(descending=True)
        axes.plot(pair[0][order], color=COLORS[1], label="원래")
        axes.plot(pair[1][order], color=COLORS[0], linewidth=1.0, label="SmoothQuant를 거친 뒤")
        axes.set_title(title)
        axes.set_xlabel("채널 (처음 크기 순)")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right")
    return figure


def trade_plot(results: Sequence[Result]) -> Figure:
    """Loss in bits per byte over size; libraries as diamonds.  The axis of losses is symlog: 0 and 50 % both show."""
    figure, axes = new_figure(width=8.6, height=5.2)
    points = [result for result in results if result.name != "transformers"]
    for result in points:
        color = INK if result.name == BASE else COLORS[1] if result.library else COLORS[0]
        axes.plot(result.megabytes, result.loss_percent, "D" if result.library else "o", color=color, markersize=6, alpha=0.85)
    axes.set_yscale("symlog", linthresh=0.1, linscale=0.8)
    _plain_numbers(axes)
    _names(axes, points)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.axhline(0.5, color=COLORS[2], linewidth=0.9, linestyle="--")
    axes.annotate("목표: 0.5 % 이하", (0.995, 0.5), xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points",
                  ha="right", fontsize=8.5, color=COLORS[2], zorder=5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
    axes.set_title("크기와 손실 (왼쪽 아래일수록 좋음; ● 직접 만든 것, ◆ 라이브러리)")
    axes.set_xlabel("모델 크기 (MB, 임베딩 포함)")
    axes.set_ylabel("비트/바이트가 bf16보다 늘어난 비율 (%)")
    return figure


def _names(axes, points: Sequence[Result]) -> None:
    """The names in a column on the right, each joined to its point by a thin line: many points lie close together."""
    axes.margins(x=0.06, y=0.12)
    axes.autoscale_view()
    ordered = sorted(points, key=lambda result: (-result.loss_percent, -result.megabytes))
    to_fraction = axes.transData - axes.transAxes
    heights = [to_fraction.transform((result.megabytes, result.loss_percent))[1] for result in ordered]
    for result, height in zip(ordered, spread(heights, gap=0.042)):
        axes.annotate(
            result.title, (result.megabytes, result.loss_percent), xytext=(1.02, height), textcoords="axes fraction", fontsize=8,
            color=INK, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)},
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """``heights``, in descending order, moved as little as can be so that neighbours are ``gap`` apart, within 0 and 1.

    Where they are too close they stand together around their mean (isotonic regression by pooling neighbours,
    Barlow et al. 1972); too many for the room keep the order and share it.
    """
    gap = min(gap, 1 / max(1, len(heights) - 1))
    pools: list[list[float]] = []  # of heights plus what stands above them: within a pool all are the same
    for index, height in enumerate(heights):
        pools.append([height + index * gap])
        while len(pools) > 1 and sum(pools[-2]) / len(pools[-2]) < sum(pools[-1]) / len(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    places = [sum(pool) / len(pool) for pool in pools for _ in pool]
    room = 1 - (len(heights) - 1) * gap
    return [min(max(place, 1 - room), 1.0) - index * gap for index, place in enumerate(places)]


def _plain_numbers(axes) -> None:
    """0.1 and not 10 to the power of -1: the font has no minus for formulas."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def speed_plot(results: Sequence[Result]) -> Figure:
    """Tokens per second of those that really compute in fewer bits, each library beside its own bfloat16."""
    timed = [result for result in results if result.tokens_per_second is not None]
    figure, axes = new_figure(width=7.6, height=0.9 + 0.36 * len(timed))
    bases = {result.library: result.tokens_per_second for result in timed if result.name in (BASE, "transformers")}
    top = max(result.tokens_per_second for result in timed)
    for place, result in enumerate(timed):
        speed, is_base = result.tokens_per_second, result.name in (BASE, "transformers")
        axes.barh(place, speed, height=0.68, color=FAINT if is_base else COLORS[1] if result.library else COLORS[0])
        axes.text(speed + 0.01 * top, place, f"{speed:,.0f} ({speed / bases[result.library]:.2f}배)", va="center", fontsize=8.5)
    axes.set_yticks(range(len(timed)), [result.title for result in timed])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * top)
    axes.grid(axis="y", visible=False)
    axes.set_title("디코딩 속도 (배치 1; 배수는 같은 실행기의 bf16에 대한 것)")
    axes.set_xlabel("토큰/초")
    return figure
