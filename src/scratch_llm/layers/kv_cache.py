"""The key/value cache: what attention has computed for earlier positions, kept for the next one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from scratch_llm.layers.cache import SlotCache

#: Of a float32 copy of keys, and as much of values: both together stay in a CPU's cache.
WIDENED_BYTES = 4 << 20


class GrowingKVCache(SlotCache):
    """The clear one: after every token, old and new keys are joined into a new tensor, (B, K, S, d) per layer.

    All that has been kept is copied at every step, which the preallocated ``KVCache`` saves.
    """

    def __init__(
        self,
        n_layers: int,
        batch_size: int,
        n_kv_heads: int,
        max_length: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ):
        super().__init__(batch_size, max_length, dtype)
        nothing = torch.zeros(batch_size, n_kv_heads, 0, head_dim, dtype=dtype, device=device)
        self.keys, self.values = [nothing] * n_layers, [nothing] * n_layers

    def tensors(self) -> list[Tensor]:
        return self.keys + self.values

    def write(self, layer: int, k_BKTd: Tensor, v_BKTd: Tensor) -> tuple[Tensor, Tensor]:
        """Append new keys and values of one layer; return all there are, (B, K, S, d)."""
        for kept, new in ((self.keys, k_BKTd), (self.values, v_BKTd)):
            kept[layer] = torch.cat((kept[layer][:, :, : self.length], new.to(self.dtype)), dim=2)
        return self.keys[layer], self.values[layer]


class KVCache(SlotCache):
    """Preallocated keys and values of every layer, each (B, K, max_length, d)."""

    def __init__(
        self,
        n_layers: int,
        batch_size: int,
        n_kv_heads: int,
        max_length: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ):
        super().__init__(batch_size, max_length, dtype)
        shapes = [(batch_size, n_kv_heads, n_slots, head_dim) for n_slots in self._capacities(n_layers)]
        # Zeros, not empty: a masked slot is multiplied by weight 0, and 0 * NaN would be NaN.
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        self._row_size = n_kv_heads * max(shape[2] for shape in shapes) * head_dim
        self._make_workspace()

    def _capacities(self, n_layers: int) -> list[int]:
        """Slots of each layer."""
        return [self.max_length] * n_layers

    def tensors(self) -> list[Tensor]:
        return self.keys + self.values

    def select_rows(self, rows: list[int]) -> None:
        super().select_rows(rows)
        self._make_workspace()

    def write(self, layer: int, k_BKTd: Tensor, v_BKTd: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values of one layer; return what attention should read, (B, K, S, d).

        Into an empty cache that is what was just given, else all slots filled so far in the cache's dtype.
        """
        start, end = self.length, self.length + k_BKTd.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, start:end] = k_BKTd
        values[:, :, start:end] = v_BKTd
        return (k_BKTd, v_BKTd) if start == 0 else (keys[:, :, :end], values[:, :, :end])

    def in_groups(self, k_BKSd: Tensor, v_BKSd: Tensor) -> Iterable[tuple[slice, Tensor, Tensor]]:
        """What ``write`` returned, for a single query: groups of rows with their keys and values, valid until the next.

        On a CPU in float32.  Attention of one bfloat16 query per head takes its kernel 400 us (batch 8, 6 heads, 200 keys,
        Zen 5), in float32 165 us, conversion of all keys and values included.  One workspace serves all layers, for no
        more rows at a time than stay in the CPU's cache: with 2048 keys a step of a 15M llama
        on one core took 40 ms for all at once, and takes 22.
        """
        if self._workspace is None:
            return [(slice(None), k_BKSd, v_BKSd)]
        B, K, S, d = k_BKSd.shape
        n_rows = max(1, WIDENED_BYTES // 4 // (K * S * d))
        if n_rows >= B:
            return [(slice(None), *self._widened(k_BKSd, v_BKSd))]
        groups = (slice(first, first + n_rows) for first in range(0, B, n_rows))
        return ((rows, *self._widened(k_BKSd[rows], v_BKSd[rows])) for rows in groups)

    def _widened(self, *parts: Tensor) -> Iterator[Tensor]:
        """Copies in the workspace."""
        return (wide[: part.numel()].view(part.shape).copy_(part) for wide, part in zip(self._workspace, parts))

    def _make_workspace(self) -> None:
        """Memory of ``in_groups``, where it converts: of so many bytes, or one row."""
        self._workspace: tuple[Tensor, Tensor] | None = None
        if self.device.type == "cpu" and self.dtype != torch.float32:
            size = max(self._row_size, min(self.batch_size * self._row_size, WIDENED_BYTES // 4))
            self._workspace = torch.empty(size), torch.empty(size)
