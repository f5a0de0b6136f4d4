"""Figures of a load test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from llm_workshop.report.plots import COLORS, FAINT
from llm_workshop.serving.loadtest.records import Record
from llm_workshop.serving.loadtest.sweep import Measured

Curves = Mapping[str, Sequence[Measured]]


def timeline(axes: Axes, records: Sequence[Record], title: str, limit: int = 24) -> None:
    """A bar for each request: grey until its first token, coloured while tokens come, a line for each piece."""
    for row, record in enumerate(records[:limit]):
        first = record.arrivals[0][0] if record.arrivals else record.ended
        axes.barh(row, first - record.due, left=record.due, height=0.7, color=FAINT, alpha=0.45)
        axes.barh(row, record.ended - first, left=first, height=0.7, color=COLORS[record.client % len(COLORS)], alpha=0.45)
        axes.vlines([at for at, _ in record.arrivals], row - 0.35, row + 0.35, color=COLORS[record.client % len(COLORS)], linewidth=0.7)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.set_xlabel("시간 (초)")
    axes.set_ylabel("요청")
    axes.grid(False, axis="y")


def throughput_plot(axes: Axes, curves: Curves) -> None:
    for name, measured in curves.items():
        axes.plot([m.summary.n_clients for m in measured], [m.summary.tokens_per_second for m in measured], marker="o", label=name)
    _clients_axis(axes, curves)
    axes.set_ylim(bottom=0)
    axes.set_title("처리량")
    axes.set_ylabel("토큰/초 (모두 합쳐)")
    axes.legend()


def latency_plot(axes: Axes, curves: Curves, quantity: str, title: str) -> None:
    """Median (line) and p95 (dashes) of ``quantity``, a field of Summary, over the number of clients."""
    for place, (name, measured) in enumerate(curves.items()):
        clients, color = [m.summary.n_clients for m in measured], COLORS[place % len(COLORS)]
        for level, dashes in (("p50", "-"), ("p95", "--")):
            values = [getattr(getattr(m.summary, quantity), level) for m in measured]
            points = [(n, 1000 * value) for n, value in zip(clients, values) if value is not None]
            axes.plot(*zip(*points), dashes, color=color, marker="o", markersize=4, label=f"{name} {level}")
    _clients_axis(axes, curves)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter("")
    axes.set_title(title)
    axes.set_ylabel("밀리초 (로그)")
    axes.set_ylim(top=axes.get_ylim()[1] * 5)  # room for the legend, whose lines are long enough to show the dashes
    axes.legend(fontsize=8, handlelength=3.2, loc="upper left")


def first_token_cdf(axes: Axes, loads: Mapping[str, Sequence[Record]], title: str = "TTFT의 누적 분포") -> None:
    """What share of the answers had begun after so many milliseconds."""
    for name, records in loads.items():
        values = sorted(1000 * r.first_token for r in records if r.first_token is not None)
        if values:
            axes.step([values[0], *values], [0, *((n + 1) / len(values) for n in range(len(values)))], where="post", label=name)
    axes.axhline(0.95, color=FAINT, linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_title(title)
    axes.set_xlabel("첫 토큰까지 (밀리초, 로그)")
    axes.set_ylabel("요청의 몫")
    axes.legend()


def _clients_axis(axes: Axes, curves: Curves) -> None:
    clients = sorted({m.summary.n_clients for measured in curves.values() for m in measured})
    axes.set_xscale("log", base=2)
    axes.set_xticks(clients, [str(n) for n in clients])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("동시 클라이언트")
