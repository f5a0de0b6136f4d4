"""Plots of week 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import FuncFormatter

from llm_workshop.orientation.chain import KOREAN, Link, human_bytes
from llm_workshop.report.plots import COLORS, FAINT, INK, new_figure, smooth


def probability_bars(labels: Sequence[str], bars: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Grouped horizontal bars: a group per token, a bar per temperature."""
    figure, axes = new_figure(width=7.2, height=4.4)
    thickness = 0.8 / len(bars)
    for number, (name, values) in enumerate(bars.items()):
        places = [place + (number - (len(bars) - 1) / 2) * thickness for place in range(len(labels))]
        axes.barh(places, values, height=thickness * 0.92, color=COLORS[number], label=name)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("확률")
    axes.set_title(title)
    axes.legend(loc="lower right")
    return figure


def induction_plot(lines: Mapping[str, Sequence[float]], guessing: float) -> Figure:
    """Loss of tokens heard before over the steps of training, a line per model; the loss of guessing as a rule."""
    figure, axes = new_figure(width=7.2, height=3.4)
    for color, (name, losses) in zip(COLORS, lines.items()):
        axes.plot(range(1, len(losses) + 1), losses, color=color, alpha=0.2, linewidth=0.8)
        axes.plot(range(1, len(losses) + 1), smooth(losses, 20), color=color, label=name)
    axes.axhline(guessing, color=FAINT, linewidth=1, linestyle=":")
    axes.text(len(losses), guessing + 0.06, "찍을 때", color=FAINT, fontsize=8.5, va="bottom", ha="right")
    axes.set_ylim(0, guessing * 1.18)
    axes.set_xlabel("스텝")
    axes.set_ylabel("손실 (nat)")
    axes.set_title("두 번째 듣는 토큰의 손실")
    axes.legend(loc="lower left")
    return figure


def chain_plot(links: Sequence[Link]) -> Figure:
    """Boxes for the stages of a run, arrows from what each stands on; what is not there yet is dashed and names its target."""
    per_row, width, height = 4, 2.15, 1.05
    figure, axes = new_figure(width=10.4, height=2.0 * -(-(len(links) + 1) // per_row))
    axes.axis("off")
    cells = [n for n in range(len(links) + 1) if n != 3]  # the corpus begins a row: what is curated is another way to it
    places = {link.stage: (2.6 * (n % per_row), -1.75 * (n // per_row)) for n, link in zip(cells, links)}
    shades = {"done": ("#e8eefc", COLORS[0]), "stale": ("#fdf1e7", COLORS[1]), "damaged": ("#fbe3e3", "#c0392b"), "missing": ("white", FAINT)}
    for link in links:
        (x, y), (fill, edge) = places[link.stage], shades[link.state]
        box = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.02,rounding_size=0.08", facecolor=fill, edgecolor=edge,
                             linewidth=1.4, linestyle="--" if link.state == "missing" else "-")  # fmt: skip
        axes.add_patch(box)
        axes.text(x + width / 2, y + 0.80, link.title, ha="center", va="center", fontsize=11, fontweight="bold")
        if link.state in ("missing", "damaged"):
            lines = (KOREAN[link.state], link.target)
        else:
            lines = (f"{human_bytes(link.n_bytes)} · {link.seconds:,.1f}초", f"{KOREAN[link.state]} · {link.digest[:8]}")
        axes.text(x + width / 2, y + 0.50, lines[0], ha="center", va="center", fontsize=9)
        axes.text(x + width / 2, y + 0.22, lines[1], ha="center", va="center", fontsize=8, color=edge)
    for link in links:
        for source in link.inputs:
            if source in places:
                _arrow(axes, places[source], places[link.stage], width, height)
    if {"curated", "corpus"} <= places.keys():
        _turn(axes, places["curated"], places["corpus"], width, height)
    axes.set_xlim(-0.1, 2.6 * per_row - 0.3)
    axes.set_ylim(min(y for _, y in places.values()) - 0.75, height + 0.15)
    return figure


def _arrow(axes: Axes, source: tuple[float, float], target: tuple[float, float], width: float, height: float) -> None:
    """From the right side to the left in one row; a stage further on is reached over an arc, below or above in turn; else from below to above."""
    (x0, y0), (x1, y1) = source, target
    style, bend = {"arrowstyle": "-|>", "mutation_scale": 11, "color": INK, "linewidth": 1.1}, "arc3,rad=0"
    if y0 == y1 and x1 - x0 < 2.7:
        start, end = (x0 + width + 0.03, y0 + height / 2), (x1 - 0.03, y1 + height / 2)
    elif y0 == y1 and round(x0 / 2.6) % 2:
        start, end, bend = (x0 + width * 0.7, y0 + height + 0.03), (x1 + width * 0.3, y1 + height + 0.03), "arc3,rad=-0.1"
    elif y0 == y1:
        start, end, bend = (x0 + width * 0.7, y0 - 0.03), (x1 + width * 0.3, y1 - 0.03), "arc3,rad=0.16"
    else:
        start, end = (x0 + width / 2, y0 - 0.03), (x1 + width / 2, y1 + height + 0.03)
    axes.add_patch(FancyArrowPatch(start, end, connectionstyle=bend, **style))


def _turn(axes: Axes, source: tuple[float, float], target: tuple[float, float], width: float, height: float) -> None:
    """A dashed arrow between two rows, along the gap, to a stage that may stand on ``source`` but need not."""
    (x0, y0), (x1, y1) = source, target
    start, end = x0 + width / 2, x1 + width / 2
    gap = y0 - 0.2 * (y0 - y1 - height)
    style = {"color": FAINT, "linewidth": 1.1, "linestyle": "--"}
    axes.plot([start, start, end], [y0 - 0.03, gap, gap], **style)
    axes.add_patch(FancyArrowPatch((end, gap), (end, y1 + height + 0.03), arrowstyle="-|>", mutation_scale=11, color=FAINT, linewidth=1.1,
                                   shrinkA=0, shrinkB=0))  # fmt: skip
    axes.text((start + end) / 2, gap - 0.04, "corpus.curated=true일 때", ha="center", va="top", fontsize=8, color=FAINT)


def memory_plot(rows: Sequence[Mapping[str, Any]], gpus: Mapping[str, float]) -> Figure:
    """Memory of using and of training against the number of weights (both logarithmic), with the GPUs' memories as rules."""
    figure, axes = new_figure(width=8.2, height=4.6)
    weights = [row["parameters"] for row in rows]
    lines = {"full": "전체 학습", "checkpointed": "전체 학습 + 체크포인팅", "lora": "LoRA + 체크포인팅", "bfloat16": "추론 bfloat16", "int4": "추론 int4"}
    for color, (key, label) in zip(COLORS, lines.items()):
        using = key in ("bfloat16", "int4")  # using a model takes its cache, too
        axes.plot(weights, [(row[key] + using * row["cache"]) / 1e9 for row in rows], color=color, marker="o", markersize=4, label=label)
    for name, size in gpus.items():
        axes.axhline(size / 1e9, color=FAINT, linewidth=0.9, linestyle=":")
        below = any(1 < other / size < 2 for other in gpus.values())  # room for the name of the next one
        axes.text(weights[0] * 0.62, size / 1e9 * (0.93 if below else 1.06), f"{name} ({size / 1e9:.0f} GB)", fontsize=8, color=FAINT,
                  va="top" if below else "bottom")  # fmt: skip
    _logarithmic(axes, weights, "메모리 (GB)")
    axes.set_xlim(left=weights[0] * 0.55)
    axes.set_title("크기와 메모리 (문맥 2,048, 배치 1. 추론은 KV 캐시까지)")
    axes.legend(loc="lower right")
    return figure


def hours_plot(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Hours of one GPU to train on 20 tokens per weight, a line per GPU."""
    figure, axes = new_figure(width=8.2, height=4.4)
    weights = [row["parameters"] for row in rows]
    for color, gpu in zip(COLORS, rows[0]["hours"]):
        axes.plot(weights, [row["hours"][gpu] for row in rows], color=color, marker="o", markersize=4, label=gpu)
    for hours, name in ((1, "1시간"), (24, "하루"), (24 * 30, "한 달"), (24 * 365, "1년"), (24 * 36500, "100년")):
        axes.axhline(hours, color=FAINT, linewidth=0.9, linestyle=":")
        axes.text(weights[0] * 0.62, hours * 1.1, name, fontsize=8, color=FAINT, va="bottom")
    _logarithmic(axes, weights, "GPU 한 장의 시간")
    axes.set_xlim(left=weights[0] * 0.55)
    axes.set_title("파라미터 하나에 토큰 20개를 읽히는 데 걸리는 시간 (MFU 40 %)")
    axes.legend(loc="lower right")
    return figure


def scaling_plot(lines: Mapping[str, Sequence[float]], weights: Sequence[float], floor: float) -> Figure:
    """Expected loss against the number of weights, a line per amount of text, with the floor."""
    figure, axes = new_figure(width=7.4, height=3.9)
    for color, (name, losses) in zip(COLORS, lines.items()):
        axes.plot(weights, losses, color=color, linestyle="--" if name.startswith("파라미터") else "-", label=name)
    axes.axhline(floor, color=FAINT, linewidth=1, linestyle=":")
    axes.text(weights[0], floor + 0.03, f"바닥 {floor}", color=FAINT, fontsize=8.5, va="bottom")
    axes.set_ylim(bottom=floor - 0.25)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_in_korean(value)))
    axes.set_xlabel("파라미터")
    axes.set_ylabel("손실 (nat/토큰)")
    axes.set_title("크기와 데이터에 따른 손실 (Hoffmann 외, 2022의 식)")
    axes.legend(loc="upper right")
    return figure


def opening_plot(rows: Sequence[tuple[str, float, float]]) -> Figure:
    """Seconds to import a tool and to open a small model and compute with it; a bar of two parts per tool."""
    figure, axes = new_figure(width=7.2, height=1.3 + 0.5 * len(rows))
    names = [name for name, _, _ in rows]
    imports, works = [row[1] for row in rows], [row[2] for row in rows]
    axes.barh(names, imports, color=COLORS[0], height=0.55, label="불러오기")
    axes.barh(names, works, left=imports, color=COLORS[1], height=0.55, label="열고 계산하기")
    for place, total in enumerate(map(sum, zip(imports, works))):
        axes.text(total, place, f" {total:.1f}초", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.25 * max(map(sum, zip(imports, works))))
    axes.set_xlabel("초")
    axes.set_title("도구를 불러와 작은 모델 하나로 계산하기까지")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def speed_plot(speeds: Mapping[str, float], published: Mapping[str, float], device: str) -> Figure:
    """Measured FLOP/s by format, and beside them the vendor's where they are known."""
    figure, axes = new_figure(width=7.2, height=1.4 + 0.5 * len(speeds))
    unit, name = (1e12, "TFLOP/s") if max(speeds.values()) >= 1e12 else (1e9, "GFLOP/s")
    places = range(len(speeds))
    axes.barh(places, [speed / unit for speed in speeds.values()], color=COLORS[0], height=0.5, label="잰 값")
    if published:
        heights = [(place, published[format_] / unit) for place, format_ in enumerate(speeds) if format_ in published]
        axes.scatter([x for _, x in heights], [y for y, _ in heights], color=COLORS[1], marker="|", s=320, linewidths=2.5, label="제조사의 값", zorder=3)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for place, speed in zip(places, speeds.values()):
        axes.text(speed / unit, place, f" {speed / unit:,.1f}", va="center", fontsize=9)
    axes.set_yticks(places, list(speeds))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.15 * max([*speeds.values(), *published.values()]) / unit)
    axes.set_xlabel(name)
    axes.set_title(device)
    return figure


def count_in_korean(value: float) -> str:
    """1.2e7 -> "1,200만", 7e10 -> "700억"."""
    for size, unit in ((1e12, "조"), (1e8, "억"), (1e4, "만")):
        if value >= size:
            return f"{value / size:,.0f}{unit}" if value / size >= 10 else f"{value / size:,.1f}".rstrip("0").rstrip(".") + unit
    return f"{value:,.0f}"


def _logarithmic(axes: Axes, weights: Sequence[float], unit: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_in_korean(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axes.set_xlabel("파라미터")
    axes.set_ylabel(unit)
