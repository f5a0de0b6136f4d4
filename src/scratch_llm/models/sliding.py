"""The frame of models in which some layers see only a window of the last tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scratch_llm.layers.cache import SlotCache, positions_and_mask
from scratch_llm.layers.sliding_cache import SlidingKVCache
from scratch_llm.models.transformer import Rotary, Transformer, select_rotary

Masks = dict[int | None, Tensor | None]
"""The attention mask by window; None is the window of layers that see all."""


class SlidingTransformer(Transformer):
    """A ``Transformer`` whose configuration has ``windows``: per layer the tokens that a query sees, or None for all.

    ``make_block`` gives each layer's attention its window; here are the masks and the cache that go with it.
    """

    def begin(
        self, n_rows: int, n_tokens: int, cache: SlotCache | None, padding_mask: Tensor | None
    ) -> tuple[Tensor | slice, Masks]:
        windows = {window for window in self.config.windows if window is not None}
        if cache is None:
            positions, mask = positions_and_mask(n_tokens, padding_mask)
            # A window that takes in all tokens hides none, and needs no mask of its own.
            masks = {w: positions_and_mask(n_tokens, padding_mask, w)[1] if w < n_tokens else mask for w in windows}
        else:
            positions, mask = cache.begin(n_rows, n_tokens, padding_mask)
            masks = {window: cache.window_mask(window, n_tokens) for window in windows}
        return positions, {None: mask, **masks}

    def masks_side_by_side(self, masks: list[Masks]) -> dict[int | None, list[Tensor | None]]:
        return {window: [own[window] for own in masks] for window in masks[0]}

    def attention_inputs(
        self, positions: Tensor | slice, masks: Masks, dtype: torch.dtype
    ) -> Sequence[tuple[Rotary | None, Tensor | None]]:
        rotary = {window: self.rotary_of(window, positions, dtype) for window in masks}
        return [(rotary[window], masks[window]) for window in self.config.windows]

    def rotary_of(self, window: int | None, positions: Tensor | slice, dtype: torch.dtype) -> Rotary | None:
        """Cosines and sines for the layers of a window; here the same for all."""
        return None if self.rotary_cos is None else select_rotary(
            self.rotary_cos, self.rotary_sin, positions, dtype
        )

    def init_cache(
        self,
        batch_size: int,
        max_length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> SlidingKVCache:
        c = self.config
        return SlidingKVCache(
            c.windows,
            batch_size,
            c.n_kv_heads,
            max_length or c.context_length,
            c.head_dim,
            dtype or self.dtype,
            device or self.device,
        )

    def context_flops_per_token(self, context_length: int) -> int:
        """As in ``Transformer``; a layer with a window of W compares each query with W keys, not with all T."""
        c = self.config
        n_keys = sum(context_length if window is None else min(window, context_length) for window in c.windows)
        return 4 * n_keys * c.n_heads * c.head_dim
