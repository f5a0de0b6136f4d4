"""Plots of week 5's labs about NVIDIA's tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from llm_workshop.report.plots import COLORS, FAINT, INK, new_figure

#: Losses that agree to the last bit are drawn here: a logarithm has no 0.
FLOOR = 1e-8


def rates_plot(ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """The learning rate of each step: our formula as a line, the recipe's as points on it."""
    figure, axes = new_figure(width=7.2, height=2.9)
    steps = range(1, len(ours) + 1)
    axes.plot(steps, ours, color=COLORS[0], label="우리 식")
    axes.plot(steps, theirs, "o", color=COLORS[1], markersize=3.5, label="레시피대로라면")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1e}" if value else "0"))
    axes.set_xlabel("스텝")
    axes.set_ylabel("학습률")
    axes.set_title("같은 학습률을 두 가지 말로")
    axes.legend(loc="upper right")
    return figure


def curves_plot(curves: Mapping[str, Mapping[str, Sequence[float]]], allowed: float) -> Figure:
    """A column for each run: both losses above, how far they are apart below."""
    figure, axes = new_figure(2, len(curves), width=3.9, height=2.6)
    axes = axes.reshape(2, len(curves))
    for (name, curve), (above, below) in zip(curves.items(), axes.T):
        steps = range(1, len(curve["ours"]) + 1)
        above.plot(steps, curve["ours"], color=COLORS[0], label="scratch_llm")
        above.plot(steps, curve["automodel"], "o", color=COLORS[1], markersize=3, label="AutoModel")
        above.set_title(name)
        apart = [max(abs(a - b), FLOOR) for a, b in zip(curve["ours"], curve["automodel"])]
        below.semilogy(steps, apart, "o-", color=COLORS[2], markersize=3, linewidth=0.8)
        below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value <= FLOOR else f"{value:.0e}"))
        below.yaxis.set_minor_locator(NullLocator())
        for panel in (above, below):
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        below.axhline(allowed, color=FAINT, linewidth=1, linestyle=":")
        below.text(1, allowed * 1.3, f"허용한 차이 {allowed:g}", color=FAINT, fontsize=8.5)
        below.set_ylim(FLOOR * 0.6, allowed * 12)
        below.set_xlabel("스텝")
    axes[0, 0].set_ylabel("손실 (nat/토큰)")
    axes[1, 0].set_ylabel("손실의 차이")
    axes[0, 0].legend(loc="upper right")
    return figure


def cuts_plot(n_processes: int) -> Figure:
    """The two matrices of a feed-forward network, cut among processes: what each holds, and where they must add up."""
    figure, axes = new_figure(width=8.4, height=3.0)
    axes.axis("off")
    axes.set_xlim(-0.4, 10.6)
    axes.set_ylim(-1.15, 3.6)
    heights = [2.6 / n_processes] * n_processes
    places = (("x", 0.0, 0.55, 1), ("$W_1$", 1.5, 1.5, n_processes), ("h", 3.9, 0.55, n_processes), ("$W_2$", 5.4, 1.9, -n_processes), ("y", 9.2, 0.55, 1))
    for name, left, width, pieces in places:
        for rank in range(abs(pieces)):
            if pieces > 1:
                box = (left, 2.9 - (rank + 1) * heights[0]), width, heights[0]
            elif pieces < -1:
                box = (left + rank * width / n_processes, 0.3), width / n_processes, 2.6
            else:
                box = (left, 0.3), width, 2.6
            shade = COLORS[rank % len(COLORS)] if abs(pieces) > 1 else FAINT
            axes.add_patch(Rectangle(*box, facecolor=shade, edgecolor="white", linewidth=2, alpha=0.8 if abs(pieces) > 1 else 0.45))
        axes.text(left + width / 2, 3.08, name, ha="center", fontsize=12, color=INK)
    for left, words in ((1.0, "→"), (3.35, "→"), (4.85, "→"), (8.25, "Σ →")):
        axes.text(left, 1.6, words, ha="center", va="center", fontsize=13, color=INK)
    for left, words in ((0.28, "모두 같은\n입력"), (2.25, "출력을 나눔\n(행을 자름)"), (4.18, "각자의\n조각"), (6.35, "입력을 나눔\n(열을 자름)"), (9.48, "모두 더해야\n온전")):
        axes.text(left, -0.05, words, ha="center", va="top", fontsize=9, color=INK)
    axes.set_title(f"프로세스 {n_processes}개가 행렬 둘을 나눠 갖는 법 (색이 프로세스)")
    return figure


def traffic_plot(rows: Mapping[str, float]) -> Figure:
    """Bytes that a process hands to sums in a step, a bar for each way to work together."""
    figure, axes = new_figure(width=7.2, height=0.75 + 0.5 * len(rows))
    bars = axes.barh(list(rows), list(rows.values()), color=COLORS[: len(rows)], height=0.6)
    axes.bar_label(bars, labels=[f"{value:,.1f} MB" for value in rows.values()], padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, max(rows.values()) * 1.2)
    axes.set_xlabel("한 스텝에 더해야 하는 수 (MB)")
    axes.set_title("무엇을 주고받나")
    return figure
