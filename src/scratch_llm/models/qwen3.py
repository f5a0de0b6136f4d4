"""Qwen3, the dense models (Yang et al. 2025): Llama's block with a norm on every head's query and key.

The norms keep scores bounded, whatever the projections grow to, so the biases of Qwen2's projections could go
(section 2).  Heads are 128 wide in all sizes, whether or not that times their number is d_model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from scratch_llm.layers.attention import GroupedQueryAttention
from scratch_llm.layers.feed_forward import SwiGLU
from scratch_llm.layers.norms import RMSNorm
from scratch_llm.layers.rotary import rotary_tables
from scratch_llm.models.config import (
    TransformerConfig,
    transformer_from_huggingface,
    transformer_to_huggingface,
)
from scratch_llm.models.llama import attention_rules, norm_rules, outer_rules, swiglu_rules
from scratch_llm.models.presets import Sizes, preset, size_table
from scratch_llm.models.transformer import Block, Rotary, Transformer
from scratch_llm.weights.rules import Rule, refuse_unless, rope_of


@dataclass(frozen=True, kw_only=True)
class Qwen3Config(TransformerConfig):
    """Shape of a dense Qwen3 model."""

    norm_eps: float = 1e-6
    """Added to the mean square in all norms, those of queries and keys included."""
    rope_theta: float = 1_000_000.0
    """Base of the rotary frequencies."""


QWEN3_SIZES: Sizes = size_table(
    "n_layers d_model n_heads d_ff tie_embeddings",
    {
        "0.6b": (28, 1024, 16, 3072, True),
        "1.7b": (28, 2048, 16, 6144, True),
        "4b": (36, 2560, 32, 9728, True),
        "8b": (36, 4096, 32, 12_288, False),
        "14b": (40, 5120, 40, 17_408, False),
        "32b": (64, 5120, 64, 25_600, False),
    },
    vocab_size=151_936,
    context_length=40_960,
    n_kv_heads=8,
    head_dim=128,
    bos_token_id=151_643,
    eos_token_id=151_645,
)
"""Published dense models: (layers, width, heads, d_ff, tied), from their ``config.json`` (Yang et al. 2025, table 1)."""


def qwen3_preset(size: str, **changes: Any) -> Qwen3Config:
    """The configuration of a published dense Qwen3, a name in ``QWEN3_SIZES``, with some fields changed.

    Its context is the one without scaling; four times that is for ``YarnScaling(factor=4.0,
    original_context_length=32_768)``, as the model cards advise.
    """
    return preset("dense Qwen3", Qwen3Config, QWEN3_SIZES, size, changes)


class Qwen3(Transformer):
    """A Qwen3-shaped language model; see ``LanguageModel.forward`` for its use."""

    model_type = "qwen3"
    config_class = Qwen3Config

    def make_block(self, config: Qwen3Config, layer: int) -> Block:
        c = config
        return Block(
            RMSNorm(c.d_model, c.norm_eps),
            GroupedQueryAttention(
                c.d_model, c.n_heads, c.n_kv_heads, c.head_dim, dropout=c.dropout,
                q_norm=RMSNorm(c.head_dim, c.norm_eps), k_norm=RMSNorm(c.head_dim, c.norm_eps),
            ),
            RMSNorm(c.d_model, c.norm_eps),
            self.make_mlp(c, layer),
        )  # fmt: skip

    def make_mlp(self, config: Qwen3Config, layer: int) -> nn.Module:
        """The feed-forward network of a block."""
        return SwiGLU(config.d_model, config.d_ff)

    def make_norm(self, config: Qwen3Config) -> RMSNorm:
        return RMSNorm(config.d_model, config.norm_eps)

    def rotary_tables(self) -> Rotary:
        c = self.config
        return rotary_tables(c.head_dim, c.context_length, c.rope_theta, c.rope_scaling)

    @classmethod
    def weight_rules(cls, config: Qwen3Config) -> list[Rule]:
        rules = outer_rules(config)
        for i in range(config.n_layers):
            ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
            rules += norm_rules(ours, theirs) + attention_rules(config, ours, theirs) + qk_norm_rules(ours, theirs)
            rules += cls.mlp_rules(config, i, ours, theirs)
        return rules

    @classmethod
    def mlp_rules(cls, config: Qwen3Config, layer: int, ours: str, theirs: str) -> list[Rule]:
        """The rules of what ``make_mlp`` makes; ``ours`` and ``theirs`` are the block's prefixes."""
        return swiglu_rules(config, ours, theirs)

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> Qwen3Config:
        refuse_unless(values, "hidden_act", "silu")
        refuse_unless(values, "attention_bias", False)
        refuse_sliding_window(values)
        # A file without head_dim means 128, not d_model / n_heads.
        return Qwen3Config(**transformer_from_huggingface({"head_dim": 128} | values), **rope_of(values))

    @classmethod
    def config_to_huggingface(cls, config: Qwen3Config) -> dict[str, Any]:
        return transformer_to_huggingface(config) | {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "hidden_act": "silu",
            "attention_bias": False,
            "use_sliding_window": False,
        }


def qk_norm_rules(ours: str, theirs: str) -> list[Rule]:
    """The norms of queries and keys; ``ours`` and ``theirs`` are a block's prefixes that end in a dot."""
    return [
        Rule(f"{ours}attention.{name}_norm.weight", [f"{theirs}self_attn.{name}_norm.weight"]) for name in "qk"
    ]


def refuse_sliding_window(values: dict[str, Any]) -> None:
    """ValueError where some layers see only a window of the past: no released Qwen3 model has them."""
    refuse_unless(values, "use_sliding_window", False)
    kinds = set(values.get("layer_types") or ()) - {"full_attention"}
    if kinds:
        raise ValueError(
            f"config.json has layer_types with {', '.join(sorted(kinds))}: only 'full_attention' is implemented; "
            "choose another checkpoint"
        )
