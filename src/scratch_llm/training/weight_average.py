"""An exponential moving average of the weights, which is often better than the weights themselves.

The last weights of a run jump about the bottom of a valley, and the more so the higher the learning rate is; their average
lies nearer to the bottom (Polyak & Juditsky, 1992; Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """average <- d * average + (1 - d) * weights after each step; d = min(decay, (1 + step) / (10 + step)).

    The second term lets the first weights, which are random, be forgotten soon.  Weights that do not learn and buffers are
    not averaged.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.weights = {name: weight.detach().clone() for name, weight in _learning(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after ``step``, counted from 1."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, weight in _learning(model).items():
            self.weights[name].lerp_(weight, share)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what a checkpoint holds."""
        for name, weight in self.weights.items():
            weight.copy_(weights[name])


@contextlib.contextmanager
def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """``model`` with these values of the named parameters inside, bit for bit its own again outside."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if name in weights}
    own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    _write(parameters, weights)
    try:
        yield model
    finally:
        _write(parameters, own)


@torch.no_grad()
def _write(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])


def _learning(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
