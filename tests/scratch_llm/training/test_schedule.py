"""Warm-up and cosine: the ends, the middle, and the shape in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratch_llm.training import cosine_with_warmup

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
