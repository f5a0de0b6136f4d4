"""The frame of every model with attention: embedding, blocks, final norm, output layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scratch_llm.layers.cache import SlotCache, positions_and_mask
from scratch_llm.layers.kv_cache import KVCache
from scratch_llm.layers.side_by_side import SideBySide
from scratch_llm.models.base import LanguageModel, init_linear_and_embedding

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of the positions at work, broadcasting against (B, T, heads, d)."""


class Block(nn.Module):
    """The pre-norm block (Xiong et al. 2020): ``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def __init__(self, attention_norm: nn.Module, attention: nn.Module, mlp_norm: nn.Module, mlp: nn.Module):
        super().__init__()
        self.attention_norm, self.attention = attention_norm, attention
        self.mlp_norm, self.mlp = mlp_norm, mlp

    def forward(
        self, x_BTD: Tensor, rotary: Rotary | None, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); arguments as in GroupedQueryAttention."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), rotary, mask, cache, layer)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class Transformer(LanguageModel):
    """Embedding, blocks, final norm, output layer.  A subclass gives ``make_block`` and ``make_norm``.

    It may also override ``embed`` (learned positions, scaling), ``rotary_tables`` and ``attention_inputs``
    (layers of several kinds).
    """

    def __init__(self, config: Any):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(self.make_block(config, layer) for layer in range(config.n_layers))
        self.final_norm = self.make_norm(config)
        self.lm_head = (
            None if config.tie_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )
        self.init_buffers()
        self.init_weights()

    cache_class = SlotCache

    # -- what a subclass gives --------------------------------------------------------------------

    def make_block(self, config: Any, layer: int) -> nn.Module:
        """The block number ``layer``, called as ``Block.forward``."""
        raise NotImplementedError

    def make_norm(self, config: Any) -> nn.Module:
        """A norm over d_model."""
        raise NotImplementedError

    def rotary_tables(self) -> Rotary | None:
        """Cosines and sines of all positions, (context_length, d) each; None: the model has no rotary positions."""
        return None

    def embed(self, tokens_BT: Tensor, positions: Tensor | slice) -> Tensor:
        """(B, T) -> (B, T, D): what the first block reads."""
        return self.embedding(tokens_BT)

    def begin(
        self, n_rows: int, n_tokens: int, cache: KVCache | None, padding_mask: Tensor | None
    ) -> tuple[Tensor | slice, Tensor | None]:
        """Positions of the tokens at work and the attention mask, as from ``SlotCache.begin``."""
        if cache is not None:
            return cache.begin(n_rows, n_tokens, padding_mask)
        return positions_and_mask(n_tokens, padding_mask)

    def attention_inputs(
        self, positions: Tensor | slice, mask: Tensor | None, dtype: torch.dtype
    ) -> Sequence[tuple[Rotary | None, Tensor | None]]:
        """(rotary, mask) of each layer; here the same for all."""
        rotary = None if self.rotary_cos is None else select_rotary(
            self.rotary_cos, self.rotary_sin, positions, dtype
        )
        return [(rotary, mask)] * self.config.n_layers

    def masks_side_by_side(self, masks: list[Any]) -> Any:
        """For ``attention_inputs``, of several batches what ``begin`` gave for each: layers then get a list of masks."""
        return masks

    # -- what they share --------------------------------------------------------------------------

    def hidden_states(self, tokens_BT: Tensor, cache: KVCache | None, padding_mask: Tensor | None) -> Tensor:
        B, T = tokens_BT.shape
        hidden_BTD = self._run(tokens_BT, *self.begin(B, T, cache, padding_mask), cache)
        if cache is not None:
            cache.advance(T)
        return hidden_BTD

    def hidden_states_side_by_side(self, batches: Sequence[tuple[Tensor, SlotCache]]) -> list[Tensor]:
        if len(batches) == 1:
            return super().hidden_states_side_by_side(batches)
        together = SideBySide([cache for _, cache in batches], [tuple(tokens.shape) for tokens, _ in batches])
        begun = [self.begin(*tokens.shape, cache, None) for tokens, cache in batches]
        positions_1N = together.join([
            positions_of(positions, tokens) for (positions, _), (tokens, _) in zip(begun, batches)
        ])  # fmt: skip
        tokens_1N = together.join([tokens for tokens, _ in batches])
        masks = self.masks_side_by_side([mask for _, mask in begun])
        hidden_1ND = self._run(tokens_1N, positions_1N, masks, together)
        for tokens, cache in batches:
            cache.advance(tokens.shape[1])
        return together.split(hidden_1ND)

    def _run(
        self, tokens_BT: Tensor, positions: Tensor | slice, mask: Any, cache: SlotCache | SideBySide | None
    ) -> Tensor:
        """Embedding, blocks and final norm: (B, T) -> (B, T, D)."""
        x_BTD = self.embed(tokens_BT, positions)
        inputs = self.attention_inputs(positions, mask, x_BTD.dtype)
        for layer, (block, (rotary, layer_mask)) in enumerate(zip(self.blocks, inputs)):
            x_BTD = self.run_block(block, x_BTD, rotary, layer_mask, cache, layer)
        return self.final_norm(x_BTD)

    @property
    def head_weight(self) -> Tensor:
        return self.embedding.weight if self.lm_head is None else self.lm_head.weight

    def init_weights(self) -> None:
        """See ``init_linear_and_embedding``."""
        init_linear_and_embedding(self, self.config.init_std, self.config.n_layers)

    def init_buffers(self) -> None:
        self._register_rotary("rotary", self.rotary_tables())

    def _register_rotary(self, name: str, tables: Rotary | None) -> None:
        """Buffers ``<name>_cos`` and ``<name>_sin``: moved with the model, not saved."""
        device = self.embedding.weight.device
        for part, table in zip(("cos", "sin"), tables or (None, None)):
            self.register_buffer(
                f"{name}_{part}", None if table is None else table.to(device), persistent=False
            )

    def init_cache(
        self,
        batch_size: int,
        max_length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> KVCache:
        config = self.config
        return KVCache(
            config.n_layers,
            batch_size,
            config.n_kv_heads,
            max_length or config.context_length,
            config.head_dim,
            dtype or self.dtype,
            device or self.device,
        )

    def context_flops_per_token(self, context_length: int) -> int:
        """``4 * T * H * d`` per layer: q k^T and the weighted sum, counted over the whole T x T square as in PaLM
        (Chowdhery et al. 2022, appendix B) and ``torch.utils.flop_counter``."""
        config = self.config
        return config.n_layers * 4 * context_length * config.n_heads * config.head_dim


def positions_of(positions: Tensor | slice, tokens_BT: Tensor) -> Tensor:
    """What ``SlotCache.begin`` gives, of every token: (B, T) int64."""
    if isinstance(positions, slice):
        positions = torch.arange(positions.start, positions.stop, device=tokens_BT.device)
    return positions.expand(tokens_BT.shape)


def select_rotary(cos: Tensor, sin: Tensor, positions: Tensor | slice, dtype: torch.dtype) -> Rotary:
    """The rows of rotary tables at ``positions``, with one axis more for the heads: (T, 1, d) or (B, T, 1, d)."""
    return tuple(table[positions].unsqueeze(-2).to(dtype) for table in (cos, sin))
