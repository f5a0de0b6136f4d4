"""The pictures of the attention lab."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from llm_workshop.architectures.multi_head_trial import KOREAN, Cost
from llm_workshop.report.cost_plots import context_lines, name_line_ends
from llm_workshop.report.plots import COLORS, FAINT, INK, bar_list, heat_map, new_figure


def weights_plot(
    panels: Mapping[str, Tensor], labels: Sequence[str], *, width: float = 4.6, height: float = 4.2,
    common_scale: Sequence[str] = (), numbers: bool | None = None,
) -> Figure:
    """A heat map (T, T) per title; those of ``common_scale`` are coloured from 0 to 1, the others to their largest weight."""
    figure, axes = new_figure(1, len(panels), width=width, height=height)
    axes = np.atleast_1d(axes)
    for panel, (title, weights) in zip(axes, panels.items()):
        heat_map(panel, weights.tolist(), labels, title, highest=1.0 if title in common_scale else None, numbers=numbers)
        panel.set_xlabel("듣는 대상")
    axes[0].set_ylabel("묻는 토큰")
    return figure


def scaling_plot(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Variance, largest weight and gradient over the width; rows hold ``d`` and ``<quantity>, <way>``."""
    figure, panels = new_figure(1, 3, width=3.6)
    titles = {"분산": "점수의 분산", "1등의 무게": "1등 키의 무게", "기울기": "소프트맥스 기울기 Σ a(1−a)"}
    for axes, (quantity, title) in zip(panels, titles.items()):
        for way, color in (("그대로", COLORS[1]), ("√d로 나누어", COLORS[0])):
            axes.plot([row["d"] for row in rows], [row[f"{quantity}, {way}"] for row in rows], "o-", markersize=4, color=color, label=way)
        axes.set_xscale("log", base=2)
        axes.set_title(title)
        axes.set_xlabel("d")
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].legend()
    return figure


def implementations_plot(measured: Mapping[str, Cost], length: int) -> Figure:
    """Time and memory of every implementation at one length."""
    figure, panels = new_figure(1, 3, width=4.6, height=4.0)
    for axes, (field, title, unit) in zip(panels, (
        ("forward_ms", "순전파", "ms"), ("training_ms", "순전파 + 역전파", "ms"), ("saved_mb", "역전파까지 간직하는 메모리", "MB"),
    )):
        bar_list(axes, {KOREAN[name]: getattr(cost, field) for name, cost in measured.items()}, f"{title}, T={length}", unit)
        if axes is not panels[0]:
            axes.set_yticklabels([])
    return figure


def cache_plot(lengths: Sequence[int], gibibytes: Mapping[str, Sequence[float]], room: float, room_label: str) -> Figure:
    """Size of the cache over the text's length, a line per kind, and a dotted line at the ``room`` there is (GiB)."""
    figure, axes = new_figure(width=8.2, height=4.4)
    context_lines(axes, lengths, gibibytes, "한 사람과의 대화에 드는 KV 캐시 (Llama 3 8B의 모양, bfloat16)", "GiB", log=True)
    for line in axes.lines:
        line.set_linestyle("--" if "창" in line.get_label() else "-")  # it begins as the line below it
    axes.axhline(room, color=INK, linewidth=1.1, linestyle=":")
    # On white, halfway to the next grid line: no line runs through the words.
    axes.annotate(room_label, (lengths[0], room), textcoords="offset points", xytext=(0, -5), va="top", fontsize=8.5, color=INK,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})
    return figure


def turning_plot(speeds: Mapping[str, float], n_positions: int = 6) -> Figure:
    """Where a pair of components points at positions 0, 1, ...; ``speeds``: title -> radians per position."""
    figure, panels = new_figure(1, len(speeds), width=3.9, height=4.2)
    for axes, color, (title, speed) in zip(panels, COLORS, speeds.items()):
        axes.plot(*zip(*((math.cos(n / 50), math.sin(n / 50)) for n in range(315))), color=FAINT, linewidth=0.8, linestyle=":")
        for position in range(n_positions):
            x, y = math.cos(position * speed), math.sin(position * speed)
            axes.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.6, "shrinkA": 0, "shrinkB": 0})
            axes.text(1.14 * x, 1.14 * y, str(position), color=color, fontsize=11, ha="center", va="center")
        axes.set_title(title)
        axes.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal")
        axes.axis("off")
    return figure


def distance_plot(scores: Mapping[str, Tensor], table: Tensor) -> Figure:
    """Left: score over distance, a line per name (its end bears it).  Right: the scores (M, N) of positions m and n."""
    figure, (left, right) = new_figure(1, 2, width=5.6, height=4.4)
    for color, (name, score) in zip(COLORS, scores.items()):
        distances = list(range(1, len(score)))
        left.plot(distances, score[1:], color=color, linewidth=0.7, alpha=0.22)
        left.plot(distances, mean_over_octave(score)[1:], color=color, linewidth=2.4, label=name)
    left.set_xscale("log", base=2)
    ticks = [4**power for power in range(8) if 4**power < len(next(iter(scores.values())))]
    left.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    left.axhline(0, color=FAINT, linewidth=0.8)
    left.set_title("같은 벡터끼리의 점수와 거리")
    left.set_xlabel("거리 (토큰)")
    left.set_ylabel("점수 / 거리 0의 점수")
    name_line_ends(left)
    heat_map(right, (table - table.min()).tolist(), None, "점수표: 자리 m의 q와 자리 n의 k", numbers=False)
    right.set_xlabel("n")
    right.set_ylabel("m")
    return figure


def mean_over_octave(values: Tensor) -> list[float]:
    """Each value n replaced by the mean from n / sqrt(2) to n sqrt(2): a trend without the beats of single frequencies."""
    return [values[round(n / 2**0.5) : min(len(values), round(n * 2**0.5) + 1)].mean().item() for n in range(len(values))]
