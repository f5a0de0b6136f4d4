"""Learning rate over the steps: warm-up and cosine, warm-up, plateau and decay (WSD), or one cycle.

Each schedule is a pure function of the step, so a resumed run needs no scheduler's state.
"""

from __future__ import annotations

import math
from typing import Protocol

SCHEDULES = ("cosine", "wsd", "one_cycle")
ONE_CYCLE_START = 1 / 25
"""Where one cycle begins, as a share of the peak."""


class ScheduleConfig(Protocol):
    """What ``learning_rate_at`` reads; ``TrainingConfig`` has it."""

    schedule: str
    steps: int
    learning_rate: float
    min_learning_rate: float
    warmup_steps: int
    decay_share: float


def learning_rate_at(step: int, config: ScheduleConfig) -> float:
    """Learning rate for the update of ``step`` (counted from 0), by ``config.schedule``."""
    shape = {"learning_rate": config.learning_rate, "min_learning_rate": config.min_learning_rate,
             "warmup_steps": config.warmup_steps, "steps": config.steps}
    if config.schedule == "cosine":
        return cosine_with_warmup(step, **shape)
    if config.schedule == "wsd":
        return warmup_stable_decay(step, decay_steps=decay_steps(config), **shape)
    if config.schedule == "one_cycle":
        return one_cycle(step, **shape)
    raise ValueError(f"schedule {config.schedule!r} is unknown; choose one of {', '.join(SCHEDULES)}")


def cosine_with_warmup(step: int, *, learning_rate: float, min_learning_rate: float, warmup_steps: int,
                       steps: int) -> float:
    """Linear warm-up, then half a cosine (Loshchilov & Hutter, "SGDR", 2017).

    Warm-up rises from ``learning_rate / warmup_steps`` at step 0 (not from 0, which would waste the first
    batch) to ``learning_rate`` at step ``warmup_steps - 1``; then the cosine falls and reaches
    ``min_learning_rate`` at the last step, ``steps - 1``, and stays there.
    """
    if step < warmup_steps:
        return learning_rate * (step + 1) / warmup_steps
    progress = min(1.0, (step + 1 - warmup_steps) / max(1, steps - warmup_steps))
    return min_learning_rate + 0.5 * (1 + math.cos(math.pi * progress)) * (learning_rate - min_learning_rate)


def decay_steps(config: ScheduleConfig) -> int:
    """How many of the last steps WSD spends on its decay: at least one, and none of the warm-up."""
    return max(0, min(config.steps - config.warmup_steps, max(1, round(config.decay_share * config.steps))))


def warmup_stable_decay(step: int, *, learning_rate: float, min_learning_rate: float, warmup_steps: int, steps: int,
                        decay_steps: int) -> float:
    """Linear warm-up, a plateau, and in the last ``decay_steps`` a fall as 1 - sqrt(progress).

    WSD: Hu et al., "MiniCPM" (2024); the square root: Hägele et al., "Scaling Laws and Compute-Optimal Training
    Beyond Fixed Training Durations" (2024).  Until the decay begins nothing depends on ``steps``: the same plateau
    serves runs of any length.  The last step, ``steps - 1``, has ``min_learning_rate``.
    """
    if step < warmup_steps:
        return learning_rate * (step + 1) / warmup_steps
    done = step + 1 - (steps - decay_steps)  # steps of the decay, this one included
    if done <= 0:
        return learning_rate
    return learning_rate - (learning_rate - min_learning_rate) * math.sqrt(min(1.0, done / decay_steps))


def one_cycle(step: int, *, learning_rate: float, min_learning_rate: float, warmup_steps: int, steps: int) -> float:
    """Half a cosine up from a 25th of the peak, half a cosine down (Smith & Topin, "Super-Convergence", 2018).

    The peak is at step ``warmup_steps - 1``.  Equals ``torch.optim.lr_scheduler.OneCycleLR`` with
    ``pct_start = warmup_steps / steps`` and ``div_factor = 25``, its momentum left alone.
    """
    peak, last = warmup_steps - 1, steps - 1
    if step <= peak:
        return _half_cosine(learning_rate * ONE_CYCLE_START, learning_rate, step / peak if peak else 1.0)
    return _half_cosine(learning_rate, min_learning_rate, min(1.0, (step - peak) / max(1, last - peak)))


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
