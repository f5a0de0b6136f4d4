"""What a training step really takes: seconds, and bytes at each moment, by looking at every tensor as it comes and goes."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of tensors that operations make within ``with``, until these are freed.

    Storages, so that a view counts nothing.  What a kernel takes for itself and gives back at once is not seen, and
    tensors that were there before are not counted.
    """

    def __init__(self):
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage(), ours=False)  # from before, or noted already
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage, ours: bool = True) -> None:
        address, size = storage._cdata, storage.nbytes() if ours else 0
        if address in self._known:
            return
        self._known.add(address)
        self.now += size
        self.peak = max(self.peak, self.now)
        # An address is given out again when its storage is freed.
        weakref.finalize(storage, self._forget, address, size)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.now -= size


@dataclass(frozen=True)
class StepCost:
    """A measured step of AdamW: seconds, and bytes."""

    seconds: float
    """Median over some steps."""
    weights: int
    """All parameters and buffers."""
    activations: int
    """What is there after forward and was not before."""
    gradients: int
    """What is there after backward."""
    optimizer: int
    peak: int
    """The most at any moment of a step, all these included."""


def measure_step(model: nn.Module, batch: tuple[Tensor, Tensor], dtype: torch.dtype = torch.float32, rounds: int = 7) -> StepCost:
    """Time and memory of training ``model``, called as ``model(inputs, targets=targets)``, on one batch again and again.

    Its weights stay as they are: the learning rate is 0.  Products are in ``dtype``, under autocast where that is bfloat16.
    """
    from scratch_llm.training import parameter_groups

    device = next(model.parameters()).device
    inputs, targets = (part.to(device) for part in batch)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=0.0, fused=True)
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def forward() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            return model(inputs, targets=targets)

    def finish() -> None:
        nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    model.train()
    forward().backward()  # what is made once (tables, workspaces) is no part of a step
    optimizer.zero_grad(set_to_none=True)
    with LiveMemory() as live:
        loss = forward()
        activations = live.now
        loss.backward()
        del loss
        gradients = live.now
        finish()
        state = live.now
    with LiveMemory() as live:
        forward().backward()
        finish()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        loss = forward()
        loss.backward()
        finish()
        loss.item()
        seconds.append(time.perf_counter() - start)
    weights = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers()) if tensor.numel()}
    held = sum(weights.values())
    return StepCost(statistics.median(seconds), held, activations, gradients, state, held + state + live.peak)
