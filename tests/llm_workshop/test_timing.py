"""What the stopwatch says of work whose time is known."""

from __future__ import annotations

import time

import pytest

from llm_workshop.timing import fastest_seconds


def test_works_take_turns_and_the_fastest_call_counts():
    calls = []

    def work(name, seconds):
        calls.append(name)
        time.sleep(seconds if calls.count(name) > 2 else 0.05)

    fastest = fastest_seconds({"a": lambda: work("a", 0.001), "b": lambda: work("b", 0.01)}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert 0.001 <= fastest["a"] < 0.01 <= fastest["b"] < 0.05


def test_the_budget_ends_the_rounds_but_not_before_the_first():
    calls = []
    fastest_seconds({"a": lambda: calls.append(time.sleep(0.01))}, rounds=100, budget=0, warm_up=False)
    assert len(calls) == 1
    with pytest.raises(ValueError, match="rounds is 0"):
        fastest_seconds({}, rounds=0)
