"""Search for hyperparameters: random settings, and successive halving, which spends little on the bad ones.

Random search covers each setting better than a grid of the same size, since no value is tried twice (Bergstra and Bengio
2012).  Successive halving (Jamieson and Talwalkar 2016) tries many settings with few tokens, keeps one in ``eta``, gives
those ``eta`` times the tokens, and so on.  It trusts that what is bad after few tokens stays bad.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llm_workshop.scaling.trials import Trial

LEARNING_RATES = (3e-4, 3e-2)
WEIGHT_DECAYS = (0.01, 0.3)
WARMUPS = (0.0, 0.2)
BETA2S = (0.9, 0.999)


def draw(base: Trial, n: int, batch_sizes: Sequence[int], seed: int = 0) -> list[Trial]:
    """``n`` random settings of ``base``: scales are drawn from a logarithm's uniform distribution.

    The first k of n are the same for every n, so a larger search goes on with a smaller one.

    Raises:
        ValueError: no batch size.
    """
    if not batch_sizes:
        raise ValueError("search.batch_sizes is empty: give at least one batch size")
    drawn = []
    for number in range(n):
        generator = np.random.default_rng([seed, number])
        drawn.append(dataclasses.replace(
            base,
            learning_rate=_log_uniform(generator, LEARNING_RATES),
            weight_decay=_log_uniform(generator, WEIGHT_DECAYS),
            warmup=round(float(generator.uniform(*WARMUPS)), 3),
            # A half-life is what is felt: 1 - beta2 is drawn from the logarithm's scale.
            beta2=round(1 - _log_uniform(generator, (1 - BETA2S[1], 1 - BETA2S[0])), 5),
            batch_size=int(generator.choice(np.asarray(batch_sizes))),
        ))  # fmt: skip
    return drawn


def _log_uniform(generator: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Three figures are enough, and read better."""
    low, high = (math.log(bound) for bound in bounds)
    return float(f"{math.exp(generator.uniform(low, high)):.3g}")


@dataclass(frozen=True)
class Rung:
    """What one rung of successive halving tried: runs and their losses, in the order in which they ran."""

    tokens: int
    trials: tuple[Trial, ...]
    losses: tuple[float, ...]

    @property
    def ranked(self) -> list[tuple[Trial, float]]:
        """The best first."""
        return sorted(zip(self.trials, self.losses), key=lambda pair: pair[1])

    @property
    def cost(self) -> int:
        """Tokens trained on."""
        return sum(trial.tokens for trial in self.trials)


def rung_sizes(n: int, eta: int, n_rungs: int, tokens: int) -> list[tuple[int, int]]:
    """(runs, tokens of each) from the first rung to the last.

    >>> rung_sizes(9, 3, 3, 900)
    [(9, 100), (3, 300), (1, 900)]

    Raises:
        ValueError: nothing would be left for the last rung, or no tokens for the first.
    """
    sizes = [(n // eta**rung, tokens // eta ** (n_rungs - 1 - rung)) for rung in range(n_rungs)]
    if sizes[-1][0] < 1:
        raise ValueError(f"{n} settings are not enough for {n_rungs} rungs that keep one in {eta}: "
                         f"give at least {eta ** (n_rungs - 1)}, or fewer rungs")
    if sizes[0][1] < 1:
        raise ValueError(f"{tokens} tokens on the last of {n_rungs} rungs leave none for the first: give more")
    return sizes


def successive_halving(candidates: Sequence[Trial], eta: int, n_rungs: int, tokens: int,
                       run_all: Callable[[Sequence[Trial]], list[float]]) -> list[Rung]:
    """The rungs, first to last.  ``run_all``: runs -> losses, infinite where one diverged.

    Each rung trains anew with its own tokens: the learning rate's schedule must end where the tokens end.

    Raises:
        ValueError: as ``rung_sizes``; all runs of a rung diverged.
    """
    alive, rungs = list(candidates), []
    for n, budget in rung_sizes(len(candidates), eta, n_rungs, tokens):
        trials = [dataclasses.replace(trial, tokens=budget) for trial in alive[:n]]
        rungs.append(Rung(budget, tuple(trials), tuple(run_all(trials))))
        alive = [trial for trial, _ in rungs[-1].ranked]
        if not math.isfinite(min(rungs[-1].losses)):
            raise ValueError(f"all {n} runs of {budget:,} tokens diverged: search among smaller learning rates")
    return rungs


def best_so_far(runs: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """(tokens, loss) of runs in the order in which they ended -> (tokens spent until then, best loss until then)."""
    spent, best, found = 0, math.inf, []
    for tokens, loss in runs:
        spent, best = spent + tokens, min(best, loss)
        found.append((spent, best))
    return found


def settings_of(trial: Trial) -> dict[str, Any]:
    """The settings that a search draws."""
    return {name: getattr(trial, name) for name in ("learning_rate", "batch_size", "weight_decay", "warmup", "beta2")}
