"""The cache of multi-head latent attention: one short vector per token for all heads."""

from __future__ import annotations

import torch
from torch import Tensor

from scratch_llm.layers.cache import SlotCache


class LatentCache(SlotCache):
    """Compressed keys and values of every layer, each (B, 1, max_length, c + r).

    A slot holds the normed latent (c numbers), from which all heads' keys and values are made, and the rotated key that
    all heads share (r numbers).
    """

    def __init__(
        self,
        n_layers: int,
        batch_size: int,
        max_length: int,
        latent_dim: int,
        rope_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ):
        super().__init__(batch_size, max_length, dtype)
        shape = (batch_size, 1, max_length, latent_dim + rope_dim)
        # Zeros, not empty: a masked slot is multiplied by weight 0, and 0 * NaN would be NaN.
        self.latents = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layers)]

    def tensors(self) -> list[Tensor]:
        return self.latents

    def write(self, layer: int, latent_BTc: Tensor) -> Tensor:
        """Store new tokens of one layer, (B, T, c + r); return all slots filled so far, (B, S, c + r)."""
        start, end = self.length, self.length + latent_BTc.shape[1]
        slots = self.latents[layer][:, 0]
        slots[:, start:end] = latent_BTc
        return slots[:, :end]
