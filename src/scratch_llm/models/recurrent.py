"""The frame of models whose memory of the past is a state of fixed size: embedding, blocks, final norm, output layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scratch_llm.layers.state_cache import StateCache
from scratch_llm.layers.token_shift import Padding
from scratch_llm.models.base import LanguageModel


class RecurrentModel(LanguageModel):
    """A subclass gives ``make_block``, ``make_norm`` and ``state_shapes``.

    Without a cache, a text begins from an empty state that is dropped afterwards.
    """

    recurrent = True
    cache_class = StateCache

    def __init__(self, config: Any):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(self.make_block(config, layer) for layer in range(config.n_layers))
        self.final_norm = self.make_norm(config)
        self.lm_head = (
            None if config.tie_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )
        self.init_weights()

    # -- what a subclass gives --------------------------------------------------------------------

    def make_block(self, config: Any, layer: int) -> nn.Module:
        """The block number ``layer``, called with (x_BTD, state, padding) unless ``run_blocks`` says otherwise."""
        raise NotImplementedError

    def make_norm(self, config: Any) -> nn.Module:
        """The norm before the output layer."""
        raise NotImplementedError

    def state_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """One layer's state tensors, without the batch."""
        raise NotImplementedError

    state_start: Mapping[str, float] = {}
    """Of states that do not begin at 0."""
    float_states: tuple[str, ...] = ()
    """States kept in float32 whatever the model's dtype: sums over the whole past."""

    def run_blocks(self, x_BTD: Tensor, cache: StateCache, padding: Padding | None) -> Tensor:
        """(B, T, D) -> (B, T, D), every layer's state brought up to date."""
        for block, state in zip(self.blocks, cache.states):
            x_BTD = self.run_block(block, x_BTD, state, padding)
        return x_BTD

    # -- what they share --------------------------------------------------------------------------

    def hidden_states(
        self, tokens_BT: Tensor, cache: StateCache | None, padding_mask: Tensor | None
    ) -> Tensor:
        B, T = tokens_BT.shape
        if cache is None:
            cache = self.init_cache(B)
        cache.check_room(B, T)
        x_BTD = self.run_blocks(self.embedding(tokens_BT), cache, Padding.of(padding_mask))
        cache.advance(T)
        return self.final_norm(x_BTD)

    @property
    def head_weight(self) -> Tensor:
        return self.embedding.weight if self.lm_head is None else self.lm_head.weight

    def init_cache(
        self,
        batch_size: int,
        max_length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> StateCache:
        """``max_length`` is of no use here: the state has one size."""
        return StateCache(
            self.config.n_layers,
            batch_size,
            self.state_shapes(),
            dtype or self.dtype,
            device or self.device,
            dtypes=dict.fromkeys(self.float_states, torch.float32),
            start=self.state_start,
        )

    def init_buffers(self) -> None:
        """There are none."""
