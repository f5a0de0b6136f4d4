"""Learning rate over the steps: linear warm-up, then half a cosine (Loshchilov & Hutter, "SGDR", 2017)."""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, *, learning_rate: float, min_learning_rate: float, warmup_steps: int,
                       steps: int) -> float:
    """Learning rate for the update of ``step`` (counted from 0).

    Warm-up rises from ``learning_rate / warmup_steps`` at step 0 (not from 0, which would waste the first
    batch) to ``learning_rate`` at step ``warmup_steps - 1``; then the cosine falls and reaches
    ``min_learning_rate`` at the last step, ``steps - 1``, and stays there.
    """
    if step < warmup_steps:
        return learning_rate * (step + 1) / warmup_steps
    progress = min(1.0, (step + 1 - warmup_steps) / max(1, steps - warmup_steps))
    return min_learning_rate + 0.5 * (1 + math.cos(math.pi * progress)) * (learning_rate - min_learning_rate)
