"""Plots of costs: everything given is drawn, and names at the ends of lines do not cover one another."""

from __future__ import annotations

import io
import itertools

import pytest

from llm_workshop.report.cost_plots import apart, context_lines, share_bars, short_count
from llm_workshop.report.plots import new_figure

CONTEXTS = [256, 1024, 4096, 131072]


def test_bars_are_whole_and_parts_keep_their_colour():
    figure, axes = new_figure()
    share_bars(axes, {"가": {"임베딩": 1, "어텐션": 3}, "나": {"어텐션": 5}}, "파라미터")
    bars = [(round(bar.get_x()), round(bar.get_width())) for bar in axes.patches if bar.get_width()]
    assert bars == [(0, 25), (25, 75), (0, 100)]
    shown = [bar for bar in axes.patches if bar.get_width()]
    assert shown[1].get_facecolor() == shown[2].get_facecolor() != shown[0].get_facecolor()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["임베딩", "어텐션"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["가", "나"]
    figure.savefig(io.BytesIO())


def test_names_are_moved_apart_no_further_than_needed():
    assert apart([0.0, 5.0, 9.0], 2.0) == [0.0, 5.0, 9.0]
    assert apart([1.0, 1.0, 1.0], 2.0) == pytest.approx([-1.0, 1.0, 3.0]), "about their middle"
    assert apart([0.0, 1.0, 8.0], 2.0) == pytest.approx([-0.5, 1.5, 8.0])
    assert apart([], 1.0) == []


def test_an_order_of_parts_keeps_colours_across_plots():
    colours = []
    for amounts in ({"임베딩": 1.0, "어텐션": 1.0}, {"어텐션": 1.0}):
        _, axes = new_figure()
        share_bars(axes, {"가": amounts}, "", ["임베딩", "어텐션", "출력층"])
        colours.append([bar.get_facecolor() for bar in axes.patches if bar.get_width()][-1])
        assert [text.get_text() for text in axes.get_legend().get_texts()] == list(amounts)
    assert colours[0] == colours[1]
    with pytest.raises(ValueError, match="parts has no 어텐션"):
        share_bars(axes, {"가": {"어텐션": 1.0}}, "", ["임베딩"])


@pytest.mark.parametrize("log", [False, True])
def test_names_stand_at_the_ends_apart(log):
    figure, axes = new_figure()
    lines = {name: [value, 2 * value, 3 * value, last] for name, value, last in
             (("하나", 1.0, 4.0), ("둘", 1.0, 4.0), ("셋", 1.1, 4.001), ("넷", 2.0, 400.0))}
    context_lines(axes, CONTEXTS, lines, "캐시", "GB", log=log)
    assert len(axes.lines) == 4
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert set(heights) == set(lines)
    ordered = sorted(heights.values())
    assert all(high - low > 0.04 for low, high in itertools.pairwise(ordered))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["256", "1k", "4k", "128k"]
    figure.savefig(io.BytesIO())


def test_more_lines_than_colours_differ_in_their_dashes():
    _, axes = new_figure()
    context_lines(axes, CONTEXTS, {str(n): [n + 1.0] * 4 for n in range(8)}, "", "")
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == 8


def test_short_counts():
    assert [short_count(n) for n in (256, 1024, 131072)] == ["256", "1k", "128k"]
