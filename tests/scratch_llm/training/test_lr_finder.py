"""The range test finds where the loss falls, and leaves no trace."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.training import RangeTest, find_learning_rate, train


def test_rates_grow_by_one_factor_and_the_curve_falls_then_rises(tiny, windows, settings):
    lines = []
    found = find_learning_rate(tiny(), windows[0], settings(), smallest=1e-4, largest=10.0, steps=60, log=lines.append)
    ratios = [b / a for a, b in zip(found.rates, found.rates[1:])]
    assert ratios == pytest.approx([1e5 ** (1 / 59)] * len(ratios))
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert 1e-2 < found.lowest < 3.0 and found.suggestion == pytest.approx(found.lowest / 10)
    assert found.smoothed[0] == pytest.approx(found.losses[0])  # the mean's beginning at 0 is corrected
    assert min(found.smoothed) < found.smoothed[0] - 0.05 and found.smoothed[-1] > min(found.smoothed)
    assert lines and lines[0].startswith("range test 10/60  lr ")


def test_the_smoothed_loss_by_hand(tiny, windows, settings):
    found = find_learning_rate(tiny(), windows[0], settings(), steps=10)
    a, b, c = found.losses[:3]
    assert found.smoothed[2] == pytest.approx((0.081 * a + 0.09 * b + 0.1 * c) / 0.271)


def test_what_it_suggests_learns_better_than_a_hundredth_and_a_hundredfold(tiny, windows, settings, tmp_path):
    rate = find_learning_rate(tiny(), windows[0], settings(), smallest=1e-4, largest=10.0, steps=60).suggestion
    results = {factor: train(tiny(), *windows, settings(steps=40, learning_rate=rate * factor), tmp_path / str(factor),
                             log=lambda line: None).valid_loss for factor in (0.01, 1, 100)}
    assert results[1] < min(results[0.01], results[100]) - 0.1, (rate, results)


def test_the_model_is_left_as_it_was(tiny, windows, settings):
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    find_learning_rate(model, windows[0], settings(), largest=100.0, steps=20)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training and all(parameter.grad is None for parameter in model.parameters())


def test_it_ends_where_the_loss_runs_away(tiny, windows, settings):
    found = find_learning_rate(tiny(), windows[0], settings(grad_clip=1e9), smallest=1.0, largest=1e6, steps=50)
    assert found.diverged and len(found.rates) < 50


def test_a_broken_model_is_told_at_once_and_left_as_it_was(tiny, windows, settings):
    model = tiny()
    forward = model.forward
    model.forward = lambda tokens, **options: forward(tokens, **options) * float("nan")
    with pytest.raises(ValueError, match="before the first step: the model or its input is broken"):
        find_learning_rate(model, windows[0], settings())
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("optimizer", ["muon", "adafactor"])
def test_with_other_optimisers(optimizer, tiny, windows, settings):
    found = find_learning_rate(tiny(), windows[0], settings(optimizer=optimizer), smallest=1e-4, largest=10.0, steps=40)
    assert min(found.smoothed) < found.smoothed[0] - 0.05


def test_the_lowest_of_a_curve():
    curve = RangeTest([1.0, 2.0, 4.0], [3.0, 1.0, 2.0], [3.0, 2.0, 2.5], diverged=False)
    assert (curve.lowest, curve.suggestion) == (2.0, 0.2)
    falling = RangeTest([1.0, 2.0, 6.0], [3.0, 2.0, 1.0], [3.0, 2.5, 2.0], diverged=False)
    assert (falling.lowest, falling.suggestion) == (6.0, 2.0)


@pytest.mark.parametrize("options, message", [
    ({"smallest": 0.0}, "smallest 0.0 must be above 0"), ({"smallest": 2.0}, "smallest 2.0 must be above 0 and below largest 1.0"),
    ({"steps": 5}, "steps 5 must be at least 10")])
def test_bad_options(options, message, tiny, windows, settings):
    with pytest.raises(ValueError, match=message):
        find_learning_rate(tiny(), windows[0], settings(), **options)


def test_windows_of_another_batch_size(tiny, windows, settings):
    with pytest.raises(ValueError, match="windows have batch_size 8 and the config 4"):
        find_learning_rate(tiny(), windows[0], settings(batch_size=4))
