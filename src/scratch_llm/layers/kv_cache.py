"""The key/value cache: what attention has computed for earlier positions, kept for the next one."""

from __future__ import annotations

import torch
from torch import Tensor

from scratch_llm.layers.cache import SlotCache


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
        shape = (batch_size, n_kv_heads, max_length, head_dim)
        # Zeros, not empty: a masked slot is multiplied by weight 0, and 0 * NaN would be NaN.
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layers)]
        # Attention of one bfloat16 query per head takes a CPU's kernel 400 us (batch 8, 6 heads, 200 keys, Zen 5), in float32
        # 165 us, conversion of all keys and values included.  One workspace serves all layers and so stays in the CPU's cache.
        self._workspace: tuple[Tensor, Tensor] | None = None
        if self.device.type == "cpu" and dtype != torch.float32:
            self._workspace = torch.zeros(shape), torch.zeros(shape)

    def tensors(self) -> list[Tensor]:
        return self.keys + self.values

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
        if self._workspace is not None and k_BKTd.shape[2] == 1:
            return tuple(wide[:, :, :end].copy_(part) for wide, part in zip(self._workspace, (keys, values)))
        return keys, values
