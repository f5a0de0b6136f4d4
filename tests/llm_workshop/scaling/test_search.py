"""Search for hyperparameters: what is drawn, who goes on, what it costs."""

import math

import pytest

from llm_workshop.scaling.search import (
    BETA2S,
    LEARNING_RATES,
    WARMUPS,
    WEIGHT_DECAYS,
    best_so_far,
    draw,
    rung_sizes,
    settings_of,
    successive_halving,
)
from llm_workshop.scaling.trials import Trial

BASE = Trial(width=64, n_layers=2, context_length=64, tokens=900, batch_size=8, learning_rate=1e-3)


def test_settings_are_drawn_within_their_bounds_and_on_their_scales():
    trials = draw(BASE, 300, (4, 8, 16), seed=1)
    rates = [trial.learning_rate for trial in trials]
    assert all(LEARNING_RATES[0] * 0.99 <= rate <= LEARNING_RATES[1] * 1.01 for rate in rates)
    middle = math.sqrt(LEARNING_RATES[0] * LEARNING_RATES[1])
    assert 110 < sum(rate < middle for rate in rates) < 190, "as many below the logarithm's middle as above"
    assert {trial.batch_size for trial in trials} == {4, 8, 16}
    for name, (low, high) in {"weight_decay": WEIGHT_DECAYS, "warmup": WARMUPS, "beta2": BETA2S}.items():
        values = [getattr(trial, name) for trial in trials]
        assert low * 0.99 <= min(values) and max(values) <= high * 1.01 and len(set(values)) > 100
    assert {(trial.width, trial.tokens) for trial in trials} == {(64, 900)}


def test_a_larger_search_goes_on_with_the_smaller_one():
    assert draw(BASE, 9, (8,), seed=5)[:4] == draw(BASE, 4, (8,), seed=5)
    assert draw(BASE, 4, (8,), seed=5) != draw(BASE, 4, (8,), seed=6)
    with pytest.raises(ValueError, match=r"search\.batch_sizes is empty"):
        draw(BASE, 4, ())


def test_the_rungs():
    assert rung_sizes(9, 3, 3, 900) == [(9, 100), (3, 300), (1, 900)]
    assert rung_sizes(8, 2, 2, 100) == [(8, 50), (4, 100)]
    with pytest.raises(ValueError, match=r"8 settings are not enough for 3 rungs.* at least 9"):
        rung_sizes(8, 3, 3, 900)
    with pytest.raises(ValueError, match="leave none for the first"):
        rung_sizes(9, 3, 3, 8)


def test_the_best_go_on_with_more_tokens():
    asked = []

    def run_all(trials):
        asked.append(trials)
        return [abs(math.log(trial.learning_rate / 3e-3)) for trial in trials]

    candidates = draw(BASE, 9, (8,))
    rungs = successive_halving(candidates, 3, 3, 900, run_all)
    assert [(len(trials), trials[0].tokens) for trials in asked] == [(9, 100), (3, 300), (1, 900)]
    best = sorted(candidates, key=lambda trial: abs(math.log(trial.learning_rate / 3e-3)))
    assert [settings_of(trial) for trial in rungs[1].trials] == [settings_of(trial) for trial in best[:3]]
    assert settings_of(rungs[2].trials[0]) == settings_of(best[0])
    assert [rung.cost for rung in rungs] == [900, 900, 900] and [loss for _, loss in rungs[0].ranked] == sorted(rungs[0].losses)
    assert list(rungs[0].trials) == asked[0], "in the order in which they ran"


def test_runs_that_diverge_do_not_go_on():
    rungs = successive_halving(draw(BASE, 4, (8,)), 2, 2, 100, lambda trials: [math.inf, 3.0, math.inf, 2.0][: len(trials)])
    assert [loss for _, loss in rungs[0].ranked] == [2.0, 3.0, math.inf, math.inf] and rungs[0].losses[0] == math.inf
    with pytest.raises(ValueError, match="all 4 runs of 50 tokens diverged"):
        successive_halving(draw(BASE, 4, (8,)), 2, 2, 100, lambda trials: [math.inf] * len(trials))


def test_the_best_so_far():
    assert best_so_far([(100, 3.0), (50, math.inf), (100, 2.5), (10, 2.8)]) == [(100, 3.0), (150, 3.0), (250, 2.5), (260, 2.5)]
