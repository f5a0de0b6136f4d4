"""The pictures of week 3's comparison and extension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from llm_workshop.report.cost_plots import name_line_ends
from llm_workshop.report.plots import COLORS, INK, bar_list, new_figure

_STYLES = ("-", "--", ":", "-.")


def sweep_plot(measured: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Tokens per word, and agreement with morphemes, over the size of the vocabulary; a line per tokenizer."""
    figure, (left, right) = new_figure(1, 2, width=6.2, height=4.2)
    for axes, key, title, unit in ((left, "tokens_per_word", "어절당 토큰 수", "토큰/어절"), (right, "f1", "형태소 경계와의 일치 (F1)", "F1")):
        for number, (name, rows) in enumerate(measured.items()):
            axes.plot([row["vocab_size"] for row in rows], [row[key] for row in rows], marker="o", markersize=3.5, label=name,
                      color=COLORS[number % len(COLORS)], linestyle=_STYLES[number // len(COLORS)])
        _vocabulary_axis(axes, [row["vocab_size"] for rows in measured.values() for row in rows])
        axes.set_title(title)
        axes.set_ylabel(unit)
        name_line_ends(axes)
    return figure


def _vocabulary_axis(axes: Axes, sizes: Sequence[float]) -> None:
    powers = [1 << n for n in range(6, 20) if min(sizes) <= 1 << n <= max(sizes)]
    axes.set_xscale("log", base=2)
    axes.set_xticks(powers, [f"{power:,}" for power in powers], rotation=35)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("어휘 크기")


def models_plot(rows: Sequence[Mapping[str, Any]], sizes: Sequence[Mapping[str, Any]]) -> Figure:
    """Left: bits per byte by tokenizer; the best without an asterisk is green.  Right: over the size of one's vocabulary."""
    figure, (left, right) = new_figure(1, 2, width=5.6, height=3.6)
    bits = {row["토크나이저"]: row["비트/바이트"] for row in rows}
    bar_list(left, bits, "검증 비트/바이트 (낮을수록 좋음)", "비트/바이트", rivals=[name for name in bits if not name.endswith("*")])
    right.plot([row["어휘"] for row in sizes], [row["비트/바이트"] for row in sizes], marker="o", markersize=4)
    for row in sizes:
        right.annotate(f"{row['비트/바이트']:.3f}", (row["어휘"], row["비트/바이트"]), textcoords="offset points", xytext=(5, 6),
                       ha="left", fontsize=8.5, color=INK)
    _vocabulary_axis(right, [row["어휘"] for row in sizes])
    right.margins(x=0.16, y=0.22)
    right.set_title("어휘 크기와 비트/바이트 (우리 BPE)")
    right.set_ylabel("비트/바이트")
    return figure


def speed_plot(speeds: Mapping[str, float]) -> Figure:
    """Encoding speed of every tokenizer, logarithmic: they differ by two orders of magnitude."""
    figure, axes = new_figure(width=7.4, height=0.36 * len(speeds) + 1.1)
    for place, (name, speed) in enumerate(speeds.items()):
        axes.barh(place, speed, height=0.66, color=COLORS[0] if name.startswith(("우리", "형태소", "바이트", "GPT-2")) else COLORS[5])
        axes.text(speed * 1.06, place, f"{speed:.2g}" if speed < 10 else f"{speed:.0f}", va="center", fontsize=8.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # no U+2212 in exponents
    axes.set_xlim(min(speeds.values()) / 2, max(speeds.values()) * 2)
    axes.set_yticks(range(len(speeds)), list(speeds))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_title("부호화 속도: 빈 캐시에서 (파랑은 파이썬으로 짠 것)")
    axes.set_xlabel("MB/초")
    return figure


def extension_plot(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Held-out bits per byte over the steps after the extension, a line per way to begin."""
    figure, axes = new_figure(width=7.6, height=4.2)
    for number, (name, points) in enumerate(curves.items()):
        axes.plot([step for step, _ in points], [bits for _, bits in points], marker="o", markersize=3.5, label=name,
                  color=COLORS[number % len(COLORS)])
    axes.set_title("확장한 뒤의 학습")
    axes.set_xlabel("스텝")
    axes.set_ylabel("검증 비트/바이트")
    axes.legend()
    return figure
