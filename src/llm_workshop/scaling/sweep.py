"""Which runs a scaling law is fitted to: the same tokens at several widths, or the same operations shared out otherwise."""

from __future__ import annotations

import dataclasses

from llm_workshop.scaling.trials import Trial
from llm_workshop.settings import Settings
from llm_workshop.tokenization.trial import small_model

REFERENCE_WIDTH = 64


def learning_rate_at_width(learning_rate: float, width: int) -> float:
    """The learning rate of a width, from that of ``REFERENCE_WIDTH``: it falls with the width.

    Wider models want smaller steps: each output sums more terms that a step moves together.  Yang et al. (2022, muP, table 8)
    let the rates of hidden matrices fall with the width and leave the embedding's.  With one rate for all the hidden ones
    decide: falling with the root of the width left the widest models unstable (4.50 at 256 where 3.94 was foretold).
    """
    return learning_rate * REFERENCE_WIDTH / width


def base_trial(settings: Settings) -> Trial:
    """A run at ``REFERENCE_WIDTH``."""
    scaling = settings.scaling
    return Trial(
        width=REFERENCE_WIDTH, n_layers=scaling.n_layers, context_length=scaling.context_length, tokens=scaling.tokens,
        batch_size=scaling.batch_size, learning_rate=scaling.learning_rate, seed=settings.seed, precision=settings.pretrain.precision,
        packing=settings.pretrain.packing, eval_batches=settings.pretrain.eval_batches,
    )  # fmt: skip


def at_width(trial: Trial, width: int) -> Trial:
    """The run of ``REFERENCE_WIDTH`` at another width, with the learning rate that belongs to it."""
    return dataclasses.replace(trial, width=width, learning_rate=float(f"{learning_rate_at_width(trial.learning_rate, width):.4g}"))


def width_trials(settings: Settings) -> list[Trial]:
    """Runs of every width and seed, with equal tokens.

    Raises:
        ValueError: fewer than four runs, or three widths; a width no smaller than the one that is to be foretold.
    """
    scaling = settings.scaling
    widths = sorted(set(scaling.widths))
    if len(widths) < 3 or len(widths) * scaling.seeds < 4:
        raise ValueError(f"scaling.widths has {len(widths)} widths and scaling.seeds is {scaling.seeds}: "
                         f"a law of three numbers needs at least 3 widths, and 4 runs")
    if widths[-1] >= scaling.larger_width:
        raise ValueError(f"scaling.larger_width {scaling.larger_width} is to be foretold: it must be above all widths, {widths[-1]}")
    base = base_trial(settings)
    seeds = range(settings.seed, settings.seed + scaling.seeds)
    return [dataclasses.replace(at_width(base, width), seed=seed) for width in widths for seed in seeds]


def larger_trial(settings: Settings) -> Trial:
    return at_width(base_trial(settings), settings.scaling.larger_width)


def isoflop_trials(settings: Settings, budget: float, vocab_size: int) -> list[Trial]:
    """Runs that cost ``budget`` operations each: the wider, the fewer tokens.  Widths that are left no 20 steps are left out.

    Raises:
        ValueError: fewer than three widths remain.
    """
    scaling, base, found = settings.scaling, base_trial(settings), []
    for width in sorted(set(scaling.isoflop_widths)):
        model = small_model(vocab_size, scaling.context_length, scaling.n_layers, width, seed=0)
        trial = dataclasses.replace(at_width(base, width), tokens=int(budget / model.flops_per_token(scaling.context_length)))
        if trial.steps >= 20:
            found.append(trial)
    if len(found) < 3:
        raise ValueError(f"a budget of {budget:.3g} operations in scaling.isoflops leaves 20 steps to {len(found)} of the widths "
                         f"{', '.join(map(str, scaling.isoflop_widths))}: give more operations, or smaller scaling.isoflop_widths")
    return found
