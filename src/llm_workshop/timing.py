"""Seconds of a piece of work, measured so that contenders can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def fastest_seconds(
    works: Mapping[str, Callable[[], Any]], rounds: int, budget: float | None = None, *, warm_up: bool = True
) -> dict[str, float]:
    """Seconds of the fastest call of each work, of ``rounds`` calls.

    The works take turns, so that a busy minute of the machine hits all of them.  ``budget``: stop after so many seconds,
    but not before one round is complete.  ``warm_up``: call each once before.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: at least one call must be measured")
    if warm_up:
        for work in works.values():
            work()
    fastest = dict.fromkeys(works, float("inf"))
    started = time.perf_counter()
    for _ in range(rounds):
        for name, work in works.items():
            fastest[name] = min(fastest[name], _seconds(work))
        if budget is not None and time.perf_counter() - started > budget:
            break
    return fastest


def _seconds(work: Callable[[], Any]) -> float:
    _wait()
    start = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    """Until the GPU is done: it works behind the program's back."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
