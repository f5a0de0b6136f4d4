"""Plots of classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from llm_workshop.report.plots import COLORS, FAINT, heat_map, new_figure
from scratch_llm.finetuning.metrics import reliability


def lengths_plot(lengths: np.ndarray, shares: Mapping[str, float], n_cut: int = 0) -> Figure:
    """Lengths of the texts in tokens, ``n_cut`` of which were cut to the longest; padding's share of the computed tokens by strategy."""
    figure, (left, right) = new_figure(1, 2, width=4.6, height=2.8)
    left.hist(lengths, bins=min(40, int(lengths.max() - lengths.min()) + 1), color=COLORS[0])
    left.set_title("글의 길이")
    left.set_xlabel(f"토큰 (자른 길이 {lengths.max()}, 잘린 글 {n_cut:,}개)" if n_cut else f"토큰 (가장 긴 글 {lengths.max()})")
    left.set_ylabel("글")
    for place, share in enumerate(shares.values()):
        right.barh(place, share, height=0.6, color=COLORS[2] if share == min(shares.values()) else COLORS[0])
        right.text(share + 0.012, place, f"{share:.0%}", va="center", fontsize=9)
    right.set_yticks(range(len(shares)), list(shares))
    right.invert_yaxis()
    right.set_xlim(0, min(1.0, 1.25 * max(shares.values()) + 0.05))
    right.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.grid(axis="y", visible=False)
    right.set_title("셈한 토큰 가운데 패딩")
    return figure


def layers_plot(trials: Mapping[str, Mapping[str, Any]], baseline: float) -> Figure:
    """Accuracy, trainable parameters and seconds of each choice of layers, beside the baseline's accuracy."""
    figure, panels = new_figure(1, 3, width=3.6, height=2.6)
    columns = (
        ("정확도 (테스트)", lambda t: t["test"]["accuracy"], "{:.1%}"),
        ("배우는 파라미터", lambda t: t["trainable"], "{:,}"),
        ("학습 시간 (초)", lambda t: t["seconds"], "{:.1f}"),
    )
    names = list(trials)
    for number, (axes, (title, value, form)) in enumerate(zip(panels, columns)):
        values = [value(trials[name]) for name in names]
        axes.barh(range(len(names)), values, height=0.6, color=COLORS[number % 3])
        for place, v in enumerate(values):
            axes.text(v * (1.15 if number == 1 else 1.02), place, form.format(v), va="center", fontsize=8)
        axes.set_yticks(range(len(names)), names if number == 0 else [""] * len(names))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_title(title)
        if number == 1:
            axes.set_xscale("log")
            axes.set_xlim(min(values) / 3, max(values) * 60)
        else:
            axes.set_xlim(0, 1.3 * max(values))
    panels[0].axvline(baseline, color=COLORS[5], linestyle="--", linewidth=1.2)
    panels[0].set_xlabel(f"점선: 문자 n-그램 {baseline:.1%}")
    return figure


def labels_plot(counts: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Accuracy by number of labelled texts, one line a method."""
    figure, axes = new_figure(1, 1, width=6.4, height=3.4)
    for number, (name, values) in enumerate(curves.items()):
        axes.plot(counts, values, marker="o", markersize=4.5, color=COLORS[number], label=name)
    axes.set_xscale("log")
    axes.set_xticks(list(counts), [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("라벨이 달린 글")
    axes.set_title("라벨이 몇 개 필요한가 (테스트 정확도)")
    axes.legend()
    return figure


def learning_plot(records: Sequence[Mapping[str, Any]], curve: Sequence[Mapping[str, float]], baseline: float) -> Figure:
    """Left: loss of each step and on held-out texts; right: accuracy on held-out texts, beside the baseline's."""
    figure, (left, right) = new_figure(1, 2, width=4.6, height=3.0)
    steps, losses = [r["step"] for r in records], [r["loss"] for r in records]
    width = max(1, len(losses) // 25)
    if width > 1:
        left.plot(steps, losses, color=COLORS[0], alpha=0.22, linewidth=1)
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    left.plot(steps[width - 1 :], smooth, color=COLORS[0], label=f"학습 ({width}스텝 평균)" if width > 1 else "학습 (스텝마다)")
    held_out = [(r["step"], r["valid_loss"]) for r in records if "valid_loss" in r]
    left.plot(*zip(*held_out), color=COLORS[1], marker="o", markersize=3.5, label="검증")
    left.set_title("손실 (nat/글)")
    left.set_xlabel("스텝")
    left.legend()
    right.plot([c["step"] for c in curve], [c["accuracy"] for c in curve], color=COLORS[1], marker="o", markersize=3.5, label="우리 분류기")
    right.axhline(baseline, color=COLORS[5], linestyle="--", linewidth=1.2, label="문자 n-그램 (테스트)")
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.set_title("검증 정확도")
    right.set_xlabel("스텝")
    right.legend()
    return figure


def confusion_plot(matrices: Mapping[str, Sequence[Sequence[int]]], class_names: Sequence[str]) -> Figure:
    """Confusion matrices side by side, each row as shares of its true class."""
    size = max(3.4, 0.42 * len(class_names) + 1.6)
    figure, panels = new_figure(1, len(matrices), width=size, height=size * 0.92)
    for axes, (title, matrix) in zip(np.atleast_1d(panels), matrices.items()):
        counts = np.asarray(matrix, dtype=float)
        shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
        heat_map(axes, shares.tolist(), list(class_names), title, numbers=True, highest=1.0)
        axes.set_xlabel("답한 부류")
        axes.set_ylabel("정답 부류")
    return figure


def reliability_plot(probabilities: Mapping[str, np.ndarray], labels: np.ndarray, errors: Mapping[str, float]) -> Figure:
    """Confidence against accuracy for each set of probabilities; below, how many texts have which confidence."""
    figure, panels = new_figure(1, len(probabilities), width=3.9, height=3.4)
    for number, (axes, (name, values)) in enumerate(zip(np.atleast_1d(panels), probabilities.items())):
        _reliability(axes, reliability(values, labels), COLORS[number])
        axes.set_title(f"{name} (ECE {errors[name]:.3f})")
    np.atleast_1d(panels)[0].set_ylabel("정확도 (선), 글의 비율 (막대)")
    return figure


def _reliability(axes: Axes, bins: list[tuple[float, float, int]], color: str) -> None:
    confidence, right, counts = zip(*bins)
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1.2, label="정확도 = 확신")
    axes.bar(confidence, np.asarray(counts) / sum(counts), width=0.06, color=color, alpha=0.22, label="글의 비율")
    axes.plot(confidence, right, color=color, marker="o", markersize=5, label="정확도")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("확신 (가장 큰 확률)")
    axes.legend(loc="upper left")
