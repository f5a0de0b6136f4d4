"""The comparison in pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from llm_workshop.report.plots import COLORS, INK, new_figure, read_metrics, series

Results = Mapping[str, Mapping[str, Any]]
"""What ``run_trials`` returns: measured figures by architecture."""


def learning_plot(metrics: Mapping[str, Path], results: Results, tokens_per_step: int) -> Figure:
    """Held-out bits per byte over the tokens seen, and over the training seconds; one line per architecture."""
    figure, (by_tokens, by_time) = new_figure(1, 2, width=5.4, height=3.6)
    for color, (name, path) in zip(COLORS, metrics.items()):
        records = read_metrics(path)
        steps, bits = series(records, "bits_per_byte")
        clock = dict(zip(*series(records, "seconds")))
        title = results[name]["title"]
        by_tokens.plot([step * tokens_per_step for step in steps], bits, color=color, marker="o", markersize=3, label=title)
        by_time.plot([clock[step] for step in steps], bits, color=color, marker="o", markersize=3, label=title)
    _name(by_tokens, "같은 토큰을 읽었을 때", "읽은 토큰", "비트/바이트 (검증)")
    _name(by_time, "같은 시간을 썼을 때", "학습 시간 (초)", "비트/바이트 (검증)")
    by_tokens.xaxis.set_major_formatter(FuncFormatter(_thousands))
    by_tokens.legend(loc="upper right")
    return figure


def cost_plot(results: Results) -> Figure:
    """Training speed and peak memory, a bar per architecture."""
    figure, (speed, memory) = new_figure(1, 2, width=5.0, height=0.6 + 0.42 * len(results))
    titles = [result["title"] for result in results.values()]
    _bars(speed, titles, [result["tokens_per_second"] for result in results.values()], "{:,.0f}")
    _name(speed, "학습 속도 (토큰/초)", "", "")
    _bars(memory, titles, [result["peak_bytes"] / 2**20 for result in results.values()], "{:,.0f}")
    _name(memory, "학습할 때 최대 메모리 (MiB)", "", "")
    return figure


def decoding_plot(results: Results) -> Figure:
    """Time of one more token, and bytes of the cache, over the context."""
    figure, (time, memory) = new_figure(1, 2, width=5.4, height=3.6)
    for color, result in zip(COLORS, results.values()):
        contexts = [row["context"] for row in result["decoding"]]
        time.plot(contexts, [row["milliseconds"] for row in result["decoding"]], color=color, marker="o", markersize=3, label=result["title"])
        memory.plot(contexts, [row["cache_bytes"] / 1024 for row in result["decoding"]], color=color, marker="o", markersize=3)
    _name(time, "토큰 하나를 더 생성하는 시간", "문맥 길이 (토큰)", "밀리초")
    _name(memory, "캐시 크기 (시퀀스 하나)", "문맥 길이 (토큰)", "KiB")
    for axes in (time, memory):
        axes.set_xscale("log", base=2)
        axes.set_xticks(contexts, [f"{context:,}" for context in contexts])
        axes.xaxis.set_minor_locator(NullLocator())
    time.set_ylim(bottom=0)
    memory.set_yscale("log")
    memory.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    memory.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside lower center", ncols=len(results))
    return figure


def _bars(axes: Axes, titles: list[str], values: list[float], form: str) -> None:
    places = range(len(titles))[::-1]
    axes.barh(places, values, color=[COLORS[number % len(COLORS)] for number in range(len(titles))], height=0.62)
    axes.set_yticks(places, titles)
    axes.set_xlim(0, max(values) * 1.18)
    for place, value in zip(places, values):
        axes.annotate(form.format(value), (value, place), textcoords="offset points", xytext=(4, 0), va="center", fontsize=9, color=INK)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))


def _name(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _thousands(value: float, _: Any = None) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
