"""The cache of recurrent models: a state of fixed size, whatever the length of the text."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from scratch_llm.layers.cache import Cache


class StateCache(Cache):
    """Named state tensors of every layer, ``states[layer][name]``, each (B, ...); zero before the first token.

    A layer reads its state and writes the new one in place (``copy_``), so that memory is taken once.  Padding must
    leave a row's state as it is: that is for the layers to see to, with the padding mask.
    """

    def __init__(
        self,
        n_layers: int,
        batch_size: int,
        shapes: Mapping[str, tuple[int, ...]],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        *,
        dtypes: Mapping[str, torch.dtype] | None = None,
        start: Mapping[str, float] | None = None,
    ):
        """``shapes``: of each state without the batch.  ``dtypes``: of states that are not ``dtype``.  ``start``: values
        of states that do not begin at 0."""
        super().__init__(batch_size, None, dtype)
        self._start = dict(start or {})
        self.states: list[dict[str, Tensor]] = [
            {
                name: torch.full(
                    (batch_size, *shape), self._start.get(name, 0.0), dtype=(dtypes or {}).get(name, dtype), device=device
                )
                for name, shape in shapes.items()
            }
            for _ in range(n_layers)
        ]

    def tensors(self) -> list[Tensor]:
        return [tensor for layer in self.states for tensor in layer.values()]

    def reset(self) -> None:
        super().reset()
        for layer in self.states:
            for name, tensor in layer.items():
                tensor.fill_(self._start.get(name, 0.0))


def read_state(state: Tensor) -> Tensor:
    """The state as a layer may compute with it: a copy where gradients are recorded, since the backward pass comes after
    the new state was written over the old one."""
    return state.clone() if torch.is_grad_enabled() else state


def write_state(state: Tensor, value: Tensor) -> None:
    """Keep ``value`` in place of the old state.  Gradients end here: the next piece of a text takes the state as given
    (truncated back-propagation through time, Williams and Peng 1990)."""
    state.copy_(value.detach())
