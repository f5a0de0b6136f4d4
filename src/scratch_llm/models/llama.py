"""Llama (Touvron et al. 2023; Grattafiori et al. 2024): pre-norm blocks with RMSNorm, rotary positions, SwiGLU and GQA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scratch_llm.layers.attention import GroupedQueryAttention
from scratch_llm.layers.feed_forward import SwiGLU
from scratch_llm.layers.norms import RMSNorm
from scratch_llm.layers.rope_scaling import Llama3Scaling
from scratch_llm.layers.rotary import rotary_tables
from scratch_llm.models.config import (
    TransformerConfig,
    check_divides,
    transformer_from_huggingface,
    transformer_to_huggingface,
)
from scratch_llm.models.presets import Sizes, preset, size_table
from scratch_llm.models.transformer import Block, Rotary, Transformer
from scratch_llm.weights.rules import Rule, refuse_unless, rope_of


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(TransformerConfig):
    """Shape of a Llama model."""

    def __post_init__(self):
        super().__post_init__()
        # Also where head_dim is given: transformers refuses to open such a checkpoint.
        check_divides(self, "d_model", "n_heads")


def _llama3(factor: float | None = None, tied: bool = False) -> dict[str, Any]:
    """What all of Llama 3 share; with a scaling factor those from 3.1 on, whose context is 16 times as long."""
    scaling = None if factor is None else Llama3Scaling(factor=factor, original_context_length=8192)
    return {
        "vocab_size": 128_256,
        "context_length": 8192 if scaling is None else 131_072,
        "rope_theta": 500_000.0,
        "rope_scaling": scaling,
        "tie_embeddings": tied,
        "bos_token_id": 128_000,
        "eos_token_id": 128_001,
    }


_LLAMA2 = {
    "vocab_size": 32_000,
    "context_length": 4096,
    "tie_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

LLAMA_SIZES: Sizes = size_table(
    "n_layers d_model n_heads n_kv_heads d_ff",
    {
        "2-7b": (32, 4096, 32, 32, 11_008, _LLAMA2),
        "2-13b": (40, 5120, 40, 40, 13_824, _LLAMA2),
        "2-70b": (80, 8192, 64, 8, 28_672, _LLAMA2),
        "3-8b": (32, 4096, 32, 8, 14_336, _llama3()),
        "3-70b": (80, 8192, 64, 8, 28_672, _llama3()),
        "3.1-8b": (32, 4096, 32, 8, 14_336, _llama3(8.0)),
        "3.1-70b": (80, 8192, 64, 8, 28_672, _llama3(8.0)),
        "3.1-405b": (126, 16_384, 128, 8, 53_248, _llama3(8.0)),
        "3.2-1b": (16, 2048, 32, 8, 8192, _llama3(32.0, tied=True)),
        "3.2-3b": (28, 3072, 24, 8, 8192, _llama3(32.0, tied=True)),
    },
    norm_eps=1e-5,
)
"""Published base models: (layers, width, heads, key/value heads, d_ff, other fields), from their ``config.json``
(Touvron et al. 2023, table 1; Grattafiori et al. 2024, table 3)."""


def llama_preset(size: str, **changes: Any) -> LlamaConfig:
    """The configuration of a published Llama, a name in ``LLAMA_SIZES``, with some fields changed."""
    return preset("Llama", LlamaConfig, LLAMA_SIZES, size, changes)


class Llama(Transformer):
    """A Llama-shaped language model; see ``LanguageModel.forward`` for its use."""

    model_type = "llama"
    config_class = LlamaConfig

    def make_block(self, config: LlamaConfig, layer: int) -> Block:
        c = config
        return Block(
            RMSNorm(c.d_model, c.norm_eps),
            GroupedQueryAttention(c.d_model, c.n_heads, c.n_kv_heads, c.head_dim, dropout=c.dropout),
            RMSNorm(c.d_model, c.norm_eps),
            SwiGLU(c.d_model, c.d_ff),
        )

    def make_norm(self, config: LlamaConfig) -> RMSNorm:
        return RMSNorm(config.d_model, config.norm_eps)

    def rotary_tables(self) -> Rotary:
        c = self.config
        return rotary_tables(c.head_dim, c.context_length, c.rope_theta, c.rope_scaling)

    @classmethod
    def weight_rules(cls, config: LlamaConfig) -> list[Rule]:
        rules = outer_rules(config)
        for i in range(config.n_layers):
            ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
            rules += norm_rules(ours, theirs) + attention_rules(config, ours, theirs) + swiglu_rules(config, ours, theirs)
        return rules

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> LlamaConfig:
        refuse_unless(values, "hidden_act", "silu")
        refuse_unless(values, "attention_bias", False)
        refuse_unless(values, "mlp_bias", False)
        return LlamaConfig(**transformer_from_huggingface(values), **rope_of(values))

    @classmethod
    def config_to_huggingface(cls, config: LlamaConfig) -> dict[str, Any]:
        return transformer_to_huggingface(config) | {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
        }


# -- Hugging Face names that Llama's descendants share --------------------------------------------------------------


def outer_rules(config: TransformerConfig) -> list[Rule]:
    """Embedding, final norm and, where it is not tied, the output layer."""
    rules = [
        Rule("embedding.weight", ["model.embed_tokens.weight"]),
        Rule("final_norm.weight", ["model.norm.weight"]),
    ]
    return rules if config.tie_embeddings else [*rules, Rule("lm_head.weight", ["lm_head.weight"])]


def norm_rules(ours: str, theirs: str) -> list[Rule]:
    """The two norms of a block; ``ours`` and ``theirs`` are prefixes that end in a dot."""
    return [
        Rule(ours + "attention_norm.weight", [theirs + "input_layernorm.weight"]),
        Rule(ours + "mlp_norm.weight", [theirs + "post_attention_layernorm.weight"]),
    ]


def attention_rules(config: TransformerConfig, ours: str, theirs: str) -> list[Rule]:
    """The projections of grouped-query attention."""
    d, q, kv = config.head_dim, config.n_heads, config.n_kv_heads
    qkv = [f"{theirs}self_attn.{name}_proj.weight" for name in "qkv"]
    return [
        Rule(ours + "attention.qkv.weight", qkv, rows=[q * d, kv * d, kv * d]),
        Rule(ours + "attention.out.weight", [theirs + "self_attn.o_proj.weight"]),
    ]


def swiglu_rules(config: TransformerConfig, ours: str, theirs: str) -> list[Rule]:
    """The gated feed-forward network."""
    gate_up = [f"{theirs}mlp.{name}_proj.weight" for name in ("gate", "up")]
    return [
        Rule(ours + "mlp.gate_up.weight", gate_up, rows=[config.d_ff, config.d_ff]),
        Rule(ours + "mlp.down.weight", [theirs + "mlp.down_proj.weight"]),
    ]
