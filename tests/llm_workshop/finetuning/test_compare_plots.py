"""The comparison's pictures show what is in the rows, also where there is little."""

import math

import pytest
from matplotlib.figure import Figure

from llm_workshop.finetuning.compare_plots import (
    cost_plot,
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
    assert [axes.get_title(loc="left") for axes in panels] == [METHODS[method].title for method in methods]
    for axes in panels:
        assert list(axes.lines[-1].get_xydata()[0]) == [3e-3, 0.5]


def test_methods_that_learn_as_many_numbers_stand_side_by_side():
    figure = drawn(quality_plot([row("lora", 5000), row("rslora", 5000), row("dora", 5200), row("full", 10**6)], 0.75, "기준"))
    places = [container.lines[0].get_xdata()[0] for container in figure.axes[0].containers]
    assert places[0] == 5000 and places[3] == 10**6
    assert all(abs(math.log(a / b)) > 0.1 for i, a in enumerate(places) for b in places[:i])


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
