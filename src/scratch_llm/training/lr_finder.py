"""The learning-rate range test (Smith, "Cyclical Learning Rates for Training Neural Networks", 2017).

A few dozen steps whose learning rate grows by the same factor each time.  At first nothing happens, then the loss falls,
then it rises and runs away: the rates worth trying lie where it falls.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from scratch_llm.data import Windows
from scratch_llm.training.config import TrainingConfig
from scratch_llm.training.gradients import gradients, loss_function
from scratch_llm.training.optimizers import build_optimizer
from scratch_llm.training.precision import choose_dtype

_SMOOTHING = 0.9  # each loss is of another batch: their running mean shows the trend


@dataclass(frozen=True)
class RangeTest:
    """What ``find_learning_rate`` saw: lists of equal length, a value for each step that was taken."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    """Running mean of the losses, in nats; the curve to read."""
    diverged: bool
    """Whether it ended because the loss ran away."""

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss was lowest: already too high to train with."""
        return self.rates[min(range(len(self.rates)), key=self.smoothed.__getitem__)]

    @property
    def suggestion(self) -> float:
        """Where to begin searching for the peak rate: a tenth of ``lowest``, in the steep part of the way down; a third
        where the curve ended while it still fell, so that ``lowest`` is only the largest rate that was tried.

        Warm-up, decay and a long run bear more or less than a few steps do, so it is an order of magnitude and no more.
        """
        return self.lowest / (3 if self.lowest == self.rates[-1] else 10)


def find_learning_rate(model: nn.Module, windows: Windows, config: TrainingConfig, *, smallest: float = 1e-6,
                       largest: float = 1.0, steps: int = 100, log: Callable[[str], None] = lambda line: None) -> RangeTest:
    """Raise the learning rate from ``smallest`` to ``largest`` within ``steps`` and watch the loss.

    Nothing is written, and ``model`` is left as it was, bit for bit; ``config`` gives optimiser, clipping and precision.
    It ends early where the smoothed loss is twice its lowest, or no number.

    Raises:
        ValueError: limits or steps make no range; windows of another batch size; the first loss is not finite.
    """
    if not 0 < smallest < largest:
        raise ValueError(f"smallest {smallest} must be above 0 and below largest {largest}")
    if steps < 10:
        raise ValueError(f"steps {steps} must be at least 10: a curve of fewer points cannot be read")
    if windows.batch_size != config.batch_size:
        raise ValueError(f"the windows have batch_size {windows.batch_size} and the config {config.batch_size}; give both the same")
    before, was_training = copy.deepcopy(model.state_dict()), model.training
    try:
        model.train()
        return _sweep(model, windows, config, smallest, largest, steps, log)
    finally:
        model.load_state_dict(before)
        model.zero_grad(set_to_none=True)
        model.train(was_training)


def _sweep(model: nn.Module, windows: Windows, config: TrainingConfig, smallest: float, largest: float, steps: int,
           log: Callable[[str], None]) -> RangeTest:
    device = next(model.parameters()).device
    compute_loss = loss_function(model, device, choose_dtype(config.precision, device)[0], compiled=False)
    optimizer = build_optimizer(model, config)
    rates, losses, smoothed, mean, diverged = [], [], [], 0.0, False
    for step in range(steps):
        rate = smallest * (largest / smallest) ** (step / (steps - 1))
        torch.manual_seed(config.seed * 1_000_003 + step)
        loss, norm = gradients(compute_loss, model, windows.batch(step), config)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            if step == 0:
                raise ValueError(f"the loss is {loss} and the gradient norm {norm} before the first step: "
                                 f"the model or its input is broken, whatever the learning rate")
            diverged = True
            break
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        rates.append(rate)
        losses.append(loss)
        smoothed.append(mean / (1 - _SMOOTHING ** (step + 1)))  # it began at 0, as Adam's means do
        if smoothed[-1] > 2 * min(smoothed):
            diverged = True
            break
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if hasattr(model, "after_step"):
            model.after_step()
        if (step + 1) % config.log_every == 0:
            log(f"range test {step + 1}/{steps}  lr {rate:.2e}  loss {smoothed[-1]:.4f}")
    return RangeTest(rates, losses, smoothed, diverged)
