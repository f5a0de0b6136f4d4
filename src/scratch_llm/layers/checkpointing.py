"""Gradient checkpointing: keep a block's input, forget the rest, and compute it again for the backward pass.

Activations are what training needs memory for beside the weights, and most of them lie inside the blocks.  With one more
forward pass, a third more operations, only the inputs of the blocks stay (Chen et al. 2016, "Training Deep Nets with
Sublinear Memory Cost").  The second run must be the first one again: the same dropout, the same autocast, the same states.

``clear_checkpoint`` is the version to read.  Training runs ``checkpointed``, on torch's own, which also takes what a
block gives besides its output; test_checkpointing.py holds both against a plain step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_again = False


def recomputing() -> bool:
    """Whether a block is being run for the second time: it should leave no other traces then than its output."""
    return _again


def checkpointed(block: Callable[..., Any], *arguments: Any) -> Any:
    """``block(*arguments)``, of whose inside nothing is kept for the backward pass.

    A dict of tensors among the arguments is a state that the block writes over: the second run begins from a copy of what it
    was, and what it writes is forgotten.
    """
    if torch.compiler.is_compiling() and not any(isinstance(argument, dict) for argument in arguments):
        return checkpoint(block, *arguments, use_reentrant=False)  # a graph computed again leaves no traces
    return _checkpointed_eagerly(block, *arguments)


@torch.compiler.disable
def _checkpointed_eagerly(block: Callable[..., Any], *arguments: Any) -> Any:
    before = [_copy(argument) if isinstance(argument, dict) else None for argument in arguments]

    def run(*arguments: Any) -> Any:
        if recomputing():
            arguments = [given if was is None else _copy(was) for given, was in zip(arguments, before)]
        return block(*arguments)

    return checkpoint(run, *arguments, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _second_run()))


@contextlib.contextmanager
def _second_run() -> Iterator[None]:
    global _again
    outer, _again = _again, True
    try:
        yield
    finally:  # also where torch stops the run early, since all that was asked for is there
        _again = outer


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def clear_checkpoint(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``function(*inputs)`` by the definition, for one output; at least one input must ask for a gradient."""
    return _ClearCheckpoint.apply(function, *inputs)


class _ClearCheckpoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        ctx.function, ctx.random_state = function, torch.get_rng_state()
        ctx.save_for_backward(*inputs)  # all that is kept
        with torch.no_grad():
            return function(*inputs)

    @staticmethod
    def backward(ctx, grad: Tensor):
        inputs = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in ctx.saved_tensors]
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.set_rng_state(ctx.random_state)  # the same units are dropped as before
            output = ctx.function(*inputs)
        torch.autograd.backward(output, grad)  # weights take their gradients here, inputs theirs
        return None, *(tensor.grad for tensor in inputs)
