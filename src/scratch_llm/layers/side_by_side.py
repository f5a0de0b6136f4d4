"""Several batches of tokens as one row: what each token needs by itself is computed for all of them together.

A step of a running batch is one token for each text; a prompt that joins it is many for one.  All matrices are read once
for both, and only attention, where tokens look at others, takes them apart (Agrawal et al. 2023, SARATHI, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scratch_llm.layers.cache import SlotCache

#: The row's tokens are a multiple of this: oneDNN keeps a kernel for every number of rows it meets, 0.4 MB for each matrix.
MULTIPLE = 16


@dataclass(frozen=True)
class SideBySide:
    """In place of a cache: that of each batch, and the batches' (rows, tokens), in their order within the row."""

    caches: list[SlotCache]
    shapes: list[tuple[int, int]]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """(B, T, ...) of each batch -> (1, N, ...), N all their tokens and zeros behind them."""
        rows = [part.flatten(0, 1) for part in parts]
        zeros = rows[0].new_zeros(-sum(map(len, rows)) % MULTIPLE, *rows[0].shape[1:])
        return torch.cat([*rows, zeros])[None]

    def split(self, joined_1N: Tensor) -> list[Tensor]:
        """The opposite of ``join``."""
        sizes = [rows * tokens for rows, tokens in self.shapes]
        parts = joined_1N[0, : sum(sizes)].split(sizes)
        return [part.unflatten(0, shape) for part, shape in zip(parts, self.shapes)]

    def attend(
        self, attention: Callable[..., Tensor], inputs: Sequence[Tensor], masks: Sequence[Tensor | None], layer: int
    ) -> Tensor:
        """``attention(*inputs, mask, cache, layer)`` of each batch, (B, T, ...) each: -> (1, N, ...)."""
        of_batches = zip(zip(*map(self.split, inputs)), masks, self.caches)
        return self.join([attention(*own, mask, cache, layer) for own, mask, cache in of_batches])
