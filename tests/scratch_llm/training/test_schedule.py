"""Learning-rate schedules: the ends, the middle, and the shape in between."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scratch_llm.training import (
    TrainingConfig,
    cosine_with_warmup,
    learning_rate_at,
    one_cycle,
    warmup_stable_decay,
)
from scratch_llm.training.schedule import SCHEDULES, decay_steps

SHAPE = {"learning_rate": 1.0, "min_learning_rate": 0.1, "warmup_steps": 10, "steps": 110}


def test_warmup_is_linear_and_does_not_waste_step_0():
    assert [cosine_with_warmup(s, **SHAPE) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])


def test_cosine_ends_at_the_minimum_at_the_last_step_and_stays():
    assert cosine_with_warmup(109, **SHAPE) == pytest.approx(0.1)
    assert cosine_with_warmup(500, **SHAPE) == pytest.approx(0.1)


def test_cosine_is_halfway_down_in_the_middle():
    assert cosine_with_warmup(59, **SHAPE) == pytest.approx(0.55)


def test_without_warmup_it_begins_near_the_peak():
    assert cosine_with_warmup(0, **(SHAPE | {"warmup_steps": 0})) == pytest.approx(1.0, abs=1e-3)


def test_one_step_and_warmup_only():
    assert cosine_with_warmup(0, learning_rate=1.0, min_learning_rate=0.1, warmup_steps=0, steps=1) == pytest.approx(0.1)
    assert cosine_with_warmup(3, learning_rate=1.0, min_learning_rate=0.1, warmup_steps=4, steps=4) == 1.0


@given(st.integers(1, 400), st.data())
def test_rises_then_falls_within_the_bounds(steps, data):
    warmup = data.draw(st.integers(0, steps))
    rates = [cosine_with_warmup(s, learning_rate=3e-3, min_learning_rate=1e-4, warmup_steps=warmup, steps=steps)
             for s in range(steps)]
    assert all(0 < rate <= 3e-3 * (1 + 1e-12) for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


# -- warm-up, plateau, decay ------------------------------------------------------------------------

WSD = {**SHAPE, "decay_steps": 25}


def test_wsd_by_hand():
    assert [warmup_stable_decay(s, **WSD) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert {warmup_stable_decay(s, **WSD) for s in range(9, 85)} == {1.0}  # the plateau: steps 9 to 84 of 110
    assert warmup_stable_decay(85, **WSD) == pytest.approx(1.0 - 0.9 * (1 / 25) ** 0.5)
    assert warmup_stable_decay(109, **WSD) == pytest.approx(0.1)
    assert warmup_stable_decay(500, **WSD) == pytest.approx(0.1)


def test_wsd_does_not_know_the_length_of_the_run_before_it_decays():
    longer = WSD | {"steps": 1000, "decay_steps": 200}
    assert [warmup_stable_decay(s, **WSD) for s in range(85)] == [warmup_stable_decay(s, **longer) for s in range(85)]


@pytest.mark.parametrize("steps, warmup, share, expected", [
    (100, 10, 0.2, 20), (100, 90, 0.2, 10), (10, 0, 0.01, 1), (4, 4, 0.5, 0), (100, 0, 1.0, 100)])
def test_decay_takes_its_share_and_leaves_the_warm_up_alone(steps, warmup, share, expected):
    config = TrainingConfig(steps=steps, warmup_steps=warmup, decay_share=share, schedule="wsd")
    assert decay_steps(config) == expected


# -- one cycle --------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps, warmup, floor", [(100, 30, 1e-5), (37, 11, 1e-4), (10, 2, 1e-6), (20, 0, 1e-6), (8, 8, 1e-3)])
def test_one_cycle_equals_torch(steps, warmup, floor):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps, pct_start=warmup / steps,
                                                    div_factor=25, final_div_factor=1e-2 / 25 / floor, cycle_momentum=False)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step() if len(expected) < steps else None
    ours = [one_cycle(s, learning_rate=1e-2, min_learning_rate=floor, warmup_steps=warmup, steps=steps) for s in range(steps)]
    assert ours == pytest.approx(expected, rel=1e-12)


# -- by name ----------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.sampled_from(SCHEDULES), st.data())
def test_every_schedule_rises_then_falls_to_its_end(steps, schedule, data):
    warmup = data.draw(st.integers(0, steps))
    config = TrainingConfig(steps=steps, learning_rate=3e-3, min_learning_rate=1e-4, warmup_steps=warmup, schedule=schedule)
    rates = [learning_rate_at(step, config) for step in range(steps)]
    assert all(0 < rate <= 3e-3 * (1 + 1e-12) for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup]) and rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert rates[-1] == pytest.approx(1e-4 if warmup < steps else 3e-3)


def test_the_name_decides():
    values = {"learning_rate": 1.0, "min_learning_rate": 0.1, "warmup_steps": 10, "steps": 110}
    halfway = [learning_rate_at(59, TrainingConfig(**values, schedule=name)) for name in ("cosine", "wsd")]
    assert halfway == pytest.approx([0.55, 1.0])
    assert learning_rate_at(0, TrainingConfig(**values, schedule="one_cycle")) == pytest.approx(0.04)


def test_one_cycle_warms_up_for_three_tenths_by_itself():
    assert TrainingConfig(steps=100, schedule="one_cycle").warmup_steps == 30
    assert TrainingConfig(steps=100).warmup_steps == 5


@pytest.mark.parametrize("change, message", [
    ({"schedule": "linear"}, "schedule 'linear' is unknown; choose one of cosine, wsd, one_cycle"),
    ({"decay_share": 0.0}, "decay_share 0.0 must be above 0"),
    ({"decay_share": 1.5}, "decay_share 1.5 must be above 0 and at most 1"),
])
def test_bad_schedules(change, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**change)


def test_one_cycle_of_one_step_up_begins_at_the_peak():
    """Where torch divides by zero."""
    shape = {"learning_rate": 1.0, "min_learning_rate": 0.1, "warmup_steps": 1, "steps": 3}
    assert [one_cycle(step, **shape) for step in range(3)] == pytest.approx([1.0, 0.55, 0.1])
