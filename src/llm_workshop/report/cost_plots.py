"""Plots of what models cost: shares of a whole, and lines over the length of the context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from llm_workshop.report.plots import COLORS, INK

# More than six parts or lines repeat the colours, so these go on in lighter tones.
_MORE = ("#8aa0ea", "#edb08e", "#8ccab9", "#cda6e6", "#d9c07f", "#aeb4be")
_LINES = ("-", "--", ":", "-.")


def share_bars(
    axes: Axes, rows: Mapping[str, Mapping[str, float]], title: str, parts: Sequence[str] | None = None
) -> None:
    """A bar of length 100 % per row, divided among its parts; parts of the same name have the same colour.

    ``rows``: row -> part -> amount.  ``parts``: their order, so that several plots share colours; None: as they come.
    Shares of at least 7 % are written into the bar.
    """
    found = dict.fromkeys(part for amounts in rows.values() for part in amounts)
    order = list(found if parts is None else parts)
    if missing := [part for part in found if part not in order]:
        raise ValueError(f"parts has no {', '.join(missing)}: name every part that a row has")
    palette = (COLORS + _MORE) * (1 + len(order) // 12)
    for place, amounts in enumerate(rows.values()):
        total, left = sum(amounts.values()), 0.0
        for color, part in zip(palette, order):
            share = 100 * amounts.get(part, 0) / total
            axes.barh(place, share, left=left, height=0.7, color=color)
            if share >= 7:
                axes.text(left + share / 2, place, f"{share:.0f}", ha="center", va="center", fontsize=8,
                          color=INK if color in _MORE else "white")
            left += share
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    axes.set_title(title)
    axes.set_xlabel("%")
    shown = [(color, part) for color, part in zip(palette, order) if part in found]
    axes.legend([Patch(color=color) for color, _ in shown], [part for _, part in shown], loc="upper left", bbox_to_anchor=(1.0, 1.0))


def context_lines(
    axes: Axes,
    contexts: Sequence[int],
    lines: Mapping[str, Sequence[float]],
    title: str,
    unit: str,
    *,
    log: bool = False,
    format_value: Callable[[float], str] = "{:g}".format,
) -> None:
    """One line per entry over contexts that double (logarithmic axis); ``log``: the values' axis, too.

    Each line bears its name at its end; names that would lie on one another are moved apart.
    """
    for number, (name, values) in enumerate(lines.items()):
        axes.plot(contexts, values, color=COLORS[number % len(COLORS)], linestyle=_LINES[number // len(COLORS)], label=name)
    axes.set_xscale("log", base=2)
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xticks(contexts, [short_count(context) for context in contexts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_value(value)))
    axes.set_title(title)
    axes.set_xlabel("문맥 길이 (토큰)")
    axes.set_ylabel(unit)
    name_line_ends(axes)


def short_count(value: float) -> str:
    """256 -> "256", 8192 -> "8k", 131072 -> "128k" (of 1,024)."""
    return f"{value / 1024:.0f}k" if value >= 1024 else f"{value:.0f}"


def apart(places: Sequence[float], step: float) -> list[float]:
    """Ascending places moved to be at least ``step`` apart, with the least sum of squared moves (pooled neighbours)."""
    groups: list[tuple[float, int]] = []  # mean of (place - number x step), how many
    for number, place in enumerate(places):
        mean, count = place - number * step, 1
        while groups and groups[-1][0] > mean:
            other, n = groups.pop()
            mean, count = (mean * count + other * n) / (count + n), count + n
        groups.append((mean, count))
    means = [mean for mean, count in groups for _ in range(count)]
    return [mean + number * step for number, mean in enumerate(means)]


def name_line_ends(axes: Axes) -> None:
    """Write each labelled line's name beside its end; names that would lie on one another are moved apart, as little as may be."""
    to_axes = axes.transData + axes.transAxes.inverted()
    named = [line for line in axes.lines if not line.get_label().startswith("_")]
    ends = [(to_axes.transform((line.get_xdata()[-1], line.get_ydata()[-1]))[1], line) for line in named]
    step = 11 / (axes.figure.get_figheight() * 72 * 0.72 / axes.get_subplotspec().get_gridspec().nrows)
    ends.sort(key=lambda end: end[0])
    for height, (_, line) in zip(apart([natural for natural, _ in ends], step), ends):
        axes.text(1.015, height, line.get_label(), transform=axes.transAxes, va="center", fontsize=8.5,
                  color=line.get_color() or INK)
