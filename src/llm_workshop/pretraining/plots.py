"""Plots of the trials before a long training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from llm_workshop.report.plots import COLORS, FAINT, new_figure, smooth
from scratch_llm.training import RangeTest, TrainingConfig, learning_rate_at

NAMES = {"cosine": "코사인", "wsd": "WSD", "one_cycle": "원 사이클", "adamw": "AdamW", "muon": "Muon", "adafactor": "Adafactor",
         "unprotected": "그대로 배움", "skip": "건너뜀 (skip)", "roll_back": "되돌아감 (roll_back)"}


def megabytes_text(n_bytes: int) -> str:
    """With enough decimals that little is not shown as nothing."""
    return f"{n_bytes / 1e6:,.1f}" if n_bytes >= 1e7 else f"{n_bytes / 1e6:.3f}"


def schedule_plot(config: TrainingConfig) -> Figure:
    """The three schedules over the steps of a run, with its peak, its end and its share of decay."""
    figure, axes = new_figure(1, 1, width=7.2, height=3.2)
    for name, color in zip(("cosine", "wsd", "one_cycle"), COLORS):
        warmup = None if name == "one_cycle" else config.warmup_steps
        shape = dataclasses.replace(config, schedule=name, warmup_steps=warmup)
        axes.plot(range(1, config.steps + 1), [learning_rate_at(step, shape) for step in range(config.steps)], color=color,
                  label=NAMES[name])
    axes.set_title("학습률 일정 세 가지")
    axes.set_xlabel("스텝")
    axes.set_ylabel("학습률")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1e}" if value else "0"))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
    return figure


def range_plot(found: Mapping[str, RangeTest]) -> Figure:
    """Smoothed loss over a growing learning rate for each optimiser; a dot at the rate that each suggests."""
    figure, axes = new_figure(1, 1, width=7.2, height=3.4)
    for (name, test), color in zip(found.items(), COLORS):
        axes.plot(test.rates, test.smoothed, color=color, label=f"{NAMES[name]}: {test.suggestion:.1e}")
        place = min(range(len(test.rates)), key=lambda index: abs(test.rates[index] - test.suggestion))
        axes.plot([test.rates[place]], [test.smoothed[place]], "o", color=color, markersize=7)
    lowest = min(min(test.smoothed) for test in found.values())
    highest = max(test.smoothed[0] for test in found.values())
    axes.set_ylim(lowest - 0.1 * (highest - lowest), highest + 0.35 * (highest - lowest))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
    axes.set_title("학습률 범위 시험: 점은 제안하는 값")
    axes.set_xlabel("학습률 (로그 눈금)")
    axes.set_ylabel("손실 (이동 평균)")
    axes.legend(loc="lower left")
    return figure


def optimizer_plot(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Losses by step of each optimiser, and the bytes of state that each keeps."""
    figure, (left, right) = new_figure(1, 2, width=4.6, height=3.2)
    for row, color in zip(rows, COLORS):
        steps, losses = zip(*row["losses"])
        left.plot(steps, smooth(losses, 5), color=color, label=NAMES[row["optimizer"]])
    left.set_title("손실 (5스텝 이동 평균)")
    left.set_xlabel("스텝")
    left.set_ylabel("nat/토큰")
    left.legend(loc="upper right")
    megabytes = [row["state_bytes"] / 1e6 for row in rows]
    bars = right.barh([NAMES[row["optimizer"]] for row in rows], megabytes, color=COLORS[:len(rows)], height=0.55)
    right.bar_label(bars, [megabytes_text(row["state_bytes"]) for row in rows], padding=4)
    right.set_title("옵티마이저 상태 (MB)")
    right.set_xlim(0, 1.2 * max(megabytes))
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    return figure


def spoilt_plot(rows: Sequence[Mapping[str, Any]], spoilt: range) -> Figure:
    """Losses through a spoilt piece of text; the spoilt batches are shaded."""
    figure, axes = new_figure(1, 1, width=7.2, height=3.4)
    axes.axvspan(spoilt.start + 0.5, spoilt.stop + 0.5, color=FAINT, alpha=0.25, linewidth=0)
    top = axes.get_xaxis_transform()
    axes.text((spoilt.start + spoilt.stop + 1) / 2, 1.01, "상한 배치", transform=top, ha="center", va="bottom", fontsize=9, color=FAINT)
    for row, color, style in zip(rows, (COLORS[1], COLORS[0], COLORS[2]), ("-", "-", "--")):
        steps, losses = zip(*row["losses"])
        axes.plot(steps, losses, style, color=color, label=NAMES[row["way"]])
    axes.set_title("상한 글을 만났을 때", pad=18)
    axes.set_xlabel("스텝")
    axes.set_ylabel("손실")
    axes.legend(loc="lower left")
    return figure
