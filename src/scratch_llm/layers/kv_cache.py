"""The key/value cache: what attention has computed for earlier positions, kept for the next one."""

from __future__ import annotations

import torch
from torch import Tensor

from scratch_llm.layers.cache import SlotCache


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
        # Attention of one bfloat16 query per head takes a CPU's kernel 400 us (batch 8, 6 heads, 200 keys, Zen 5), in float32
        # 165 us, conversion of all keys and values included.  One workspace serves all layers and so stays in the CPU's cache.
        self._workspace: tuple[Tensor, Tensor] | None = None
        if self.device.type == "cpu" and dtype != torch.float32:
            self._workspace = torch.zeros(max(shapes)), torch.zeros(max(shapes))

    def _capacities(self, n_layers: int) -> list[int]:
        """Slots of each layer."""
        return [self.max_length] * n_layers

    def tensors(self) -> list[Tensor]:
        return self.keys + self.values

    def select_rows(self, rows: list[int]) -> None:
        super().select_rows(rows)
        if self._workspace is not None:
            shape = (len(rows), *self._workspace[0].shape[1:])
            self._workspace = torch.zeros(shape), torch.zeros(shape)

    def write(self, layer: int, k_BKTd: Tensor, v_BKTd: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values of one layer; return what attention should read, (B, K, S, d).

        Into an empty cache that is what was just given, else all slots filled so far: in the cache's dtype,
        but on a CPU in float32 for a single query (valid until the next call).
        """
        start, end = self.length, self.length + k_BKTd.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, start:end] = k_BKTd
        values[:, :, start:end] = v_BKTd
        if start == 0:
            return k_BKTd, v_BKTd
        keys, values = keys[:, :, :end], values[:, :, :end]
        return self._widened(keys, values) if k_BKTd.shape[2] == 1 else (keys, values)

    def _widened(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """For a single query: in float32 on a CPU."""
        if self._workspace is None:
            return keys, values
        n_slots = keys.shape[2]
        return tuple(wide[:, :, :n_slots].copy_(part) for wide, part in zip(self._workspace, (keys, values)))
