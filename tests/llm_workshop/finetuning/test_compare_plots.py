"""The comparison's pictures show what is in the rows, also where there is little."""

import math

import pytest
from matplotlib.figure import Figure

from llm_workshop.finetuning.compare_plots import (
    cost_plot,
    in_plot,
    peers_plot,
    places_plot,
    quality_plot,
    ranks_plot,
    rates_plot,
)
from llm_workshop.finetuning.methods import METHODS

PARTS = {"frozen": 2**22, "trained": 2**20, "gradients": 2**20, "optimizer": 2**21, "activations": 2**23}


def row(method, trainable=1000, accuracy=0.8):
    return {"method": method, "title": METHODS[method].title, "trainable": trainable, "accuracy": accuracy, "accuracy_spread": 0.02,
            "cost": {"counted": PARTS, "measured": {"seconds": 0.012, "peak": 2**24}}}  # fmt: skip


def drawn(figure: Figure) -> Figure:
    figure.canvas.draw()
    return figure


@pytest.mark.parametrize("methods", [("head",), ("head", "lora", "dora"), tuple(METHODS)])
def test_a_panel_for_each_method_and_the_best_rate_is_filled(methods):
    trials = [{"learning_rate": 1e-3, "valid_loss": 0.9}, {"learning_rate": 3e-3, "valid_loss": 0.5}, {"learning_rate": 1e-2, "valid_loss": math.nan}]
    figure = drawn(rates_plot(dict.fromkeys(methods, trials)))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [in_plot(METHODS[method].title) for method in methods]
    for axes in panels:
        assert list(axes.lines[-1].get_xydata()[0]) == [3e-3, 0.5]


def test_methods_that_learn_as_many_numbers_have_a_line_each_with_the_true_count():
    figure = drawn(quality_plot([row("lora", 5000, 0.7), row("rslora", 5000, 0.6), row("head", 96, 0.5), row("full", 10**6, 0.9)], 0.75, "기준"))
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["1,000,000개", "5,000개", "5,000개", "96개"]
    points = dict(zip((label.get_text() for label in axes.get_yticklabels()), axes.containers[0].lines[0].get_xdata()))
    assert points == {"모두": 0.9, "LoRA": 0.7, "rsLoRA": 0.6, "머리만": 0.5}
    heights = [text.xy[1] for text in axes.texts]
    assert heights == list(axes.get_yticks()) and len(set(heights)) == 4
    assert "표준편차" in axes.get_title(loc="left") and axes.get_legend().get_texts()[0].get_text() == "기준"


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_seed_has_no_bars(seeds):
    rows = [{**row(method), "rank": 8, "targets": "all", "accuracy_spread": 0.02 if seeds > 1 else None} for method in ("lora", "rslora")]
    for plot in (quality_plot, ranks_plot, places_plot):
        container = drawn(plot(rows)).axes[0].containers[0]
        assert bool(container.lines[1]) == (seeds > 1), "caps of error bars"


def test_a_raised_figure_is_set_as_mathematics():
    assert in_plot("(IA)³") == "(IA)$^3$" and in_plot("LoRA") == "LoRA"
    assert drawn(cost_plot([row("ia3")])).axes[0].get_yticklabels()[0].get_text() == "(IA)$^3$"


def test_costs_are_bars_and_the_measured_peak():
    time, memory = drawn(cost_plot([row("full"), row("head")])).axes
    assert [bar.get_width() for bar in time.patches] == [12, 12]
    assert sum(bar.get_width() for bar in memory.patches) == pytest.approx(2 * sum(PARTS.values()) / 2**20)
    assert list(memory.lines[0].get_xdata()) == [16, 16]


def test_ranks_places_and_libraries():
    ranks = [{**row(method), "rank": rank} for method in ("lora", "rslora") for rank in (1, 8, 64)]
    assert len(drawn(ranks_plot(ranks)).axes[0].containers) == 2
    where = [{**row("lora", 1234), "targets": targets} for targets in ("all", "upper-half")]
    axes = drawn(places_plot(where)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["모든 행렬", "위쪽 절반"] and axes.texts[0].get_text() == "1,234개"
    assert len(drawn(peers_plot({"scratch_llm": [3.0, 2.0], "PEFT": [3.0, 2.0], "TRL": [3.0, 2.0]})).axes[0].lines) == 3
