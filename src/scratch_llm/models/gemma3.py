"""Gemma 3 (Gemma Team 2025), the language model: five layers that see a window, then one that sees all.

Its other marks: RMSNorm before and after attention and feed-forward, with ``1 + weight`` as the factor; norms of
queries and keys; a gate of GELU; embeddings times sqrt(d_model); rotary base 10,000 in the layers with a window and
1,000,000 in the others, of which the larger models stretch the latter eightfold (section 2).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scratch_llm.layers.attention import GroupedQueryAttention
from scratch_llm.layers.feed_forward import GeGLU
from scratch_llm.layers.kv_cache import KVCache
from scratch_llm.layers.norms import RMSNorm
from scratch_llm.layers.rope_scaling import LinearScaling, scaling_from_huggingface, scaling_to_huggingface
from scratch_llm.layers.rotary import rotary_tables
from scratch_llm.models.config import (
    TransformerConfig,
    check_above_zero,
    check_divides,
    check_positive,
    transformer_from_huggingface,
    transformer_to_huggingface,
)
from scratch_llm.models.llama import attention_rules, outer_rules, swiglu_rules
from scratch_llm.models.presets import Sizes, preset, size_table
from scratch_llm.models.qwen3 import qk_norm_rules
from scratch_llm.models.sliding import SlidingTransformer
from scratch_llm.models.transformer import Block, Rotary, select_rotary
from scratch_llm.weights.rules import Rule, refuse_unless

LOCAL, GLOBAL = "sliding_attention", "full_attention"


@dataclass(frozen=True, kw_only=True)
class Gemma3Config(TransformerConfig):
    """Shape of a Gemma 3 model."""

    norm_eps: float = 1e-6
    """Added to the mean square in all norms."""
    rope_theta: float = 1_000_000.0
    """Base of the rotary frequencies in the layers that see all."""
    local_rope_theta: float = 10_000.0
    """Base of the rotary frequencies in the layers with a window; these are never stretched."""
    window: int = 512
    """Tokens that a query sees in a layer with a window, itself included."""
    layer_types: tuple[str, ...] | None = None
    """Per layer "sliding_attention" (a window) or "full_attention".  None: five of the first, then one of the second."""
    query_scalar: int | None = None
    """Scores are multiplied by 1 / sqrt of it.  None: head_dim."""
    final_softcap: float | None = None
    """Bound of the logits, ``c * tanh(logits / c)``; None: no bound."""

    def __post_init__(self):
        super().__post_init__()
        # Also where head_dim is given: transformers refuses to open such a checkpoint.
        check_divides(self, "d_model", "n_heads")
        check_positive(self, "window")
        check_above_zero(self, "local_rope_theta")
        if self.query_scalar is None:
            self._derive("query_scalar", self.head_dim)
        check_above_zero(self, "query_scalar", *(() if self.final_softcap is None else ("final_softcap",)))
        self._derive("layer_types", _layer_types(self.layer_types, self.n_layers))

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Per layer the tokens that a query sees; None: all."""
        return tuple(self.window if kind == LOCAL else None for kind in self.layer_types)


def _layer_types(given: Any, n_layers: int, period: int = 6) -> tuple[str, ...]:
    if given is None:
        return tuple(LOCAL if (layer + 1) % period else GLOBAL for layer in range(n_layers))
    if len(given) != n_layers or not set(given) <= {LOCAL, GLOBAL}:
        raise ValueError(
            f"layer_types is {given!r}: it must name {LOCAL!r} or {GLOBAL!r} for each of the {n_layers} layers"
        )
    return tuple(given)


_LARGE = {
    "vocab_size": 262_208, "context_length": 131_072, "window": 1024, "rope_scaling": LinearScaling(factor=8.0)
}  # fmt: skip

GEMMA3_SIZES: Sizes = size_table(
    "n_layers d_model n_heads n_kv_heads d_ff",
    {
        "270m": (18, 640, 4, 1, 2048),
        "1b": (26, 1152, 4, 1, 6912),
        "4b": (34, 2560, 8, 4, 10_240, _LARGE),
        "12b": (48, 3840, 16, 8, 15_360, _LARGE),
        "27b": (62, 5376, 32, 16, 21_504, _LARGE | {"head_dim": 128, "query_scalar": 168}),
    },
    vocab_size=262_144,
    context_length=32_768,
    head_dim=256,
    query_scalar=256,
    bos_token_id=2,
    eos_token_id=(1, 106),
    pad_token_id=0,
)
"""Published models: (layers, width, heads, key/value heads, d_ff, other fields), from their ``config.json``; of those
from 4b on, which also see images, the language model."""


def gemma3_preset(size: str, **changes: Any) -> Gemma3Config:
    """The configuration of a published Gemma 3, a name in ``GEMMA3_SIZES``, with some fields changed."""
    return preset("Gemma 3", Gemma3Config, GEMMA3_SIZES, size, changes)


class Gemma3Block(Block):
    """A norm before and one after attention and feed-forward: ``x + norm(attention(norm(x)))``."""

    def __init__(self, config: Gemma3Config, layer: int):
        c = config
        attention = GroupedQueryAttention(
            c.d_model, c.n_heads, c.n_kv_heads, c.head_dim, dropout=c.dropout, scale=c.query_scalar**-0.5,
            q_norm=_norm(c, c.head_dim), k_norm=_norm(c, c.head_dim), window=c.windows[layer],
        )  # fmt: skip
        super().__init__(_norm(c, c.d_model), attention, _norm(c, c.d_model), GeGLU(c.d_model, c.d_ff))
        self.attention_out_norm, self.mlp_out_norm = _norm(c, c.d_model), _norm(c, c.d_model)

    def forward(
        self, x_BTD: Tensor, rotary: Rotary, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); arguments as in GroupedQueryAttention."""
        attended_BTD = self.attention(self.attention_norm(x_BTD), rotary, mask, cache, layer)
        x_BTD = x_BTD + self.attention_out_norm(attended_BTD)
        return x_BTD + self.mlp_out_norm(self.mlp(self.mlp_norm(x_BTD)))


def _norm(config: Gemma3Config, width: int) -> RMSNorm:
    return RMSNorm(width, config.norm_eps, zero_centred=True)


class Gemma3(SlidingTransformer):
    """A Gemma-3-shaped language model; see ``LanguageModel.forward`` for its use."""

    model_type = "gemma3_text"
    config_class = Gemma3Config

    def __init__(self, config: Gemma3Config):
        super().__init__(config)
        self.logit_softcap = config.final_softcap

    def make_block(self, config: Gemma3Config, layer: int) -> Gemma3Block:
        return Gemma3Block(config, layer)

    def make_norm(self, config: Gemma3Config) -> nn.Module:
        return _norm(config, config.d_model)

    def embed(self, tokens_BT: Tensor, positions: Tensor | slice) -> Tensor:
        x_BTD = self.embedding(tokens_BT)
        return x_BTD * rounded(self.config.d_model**0.5, x_BTD.dtype)

    def init_buffers(self) -> None:
        c = self.config
        self._register_rotary("rotary", rotary_tables(c.head_dim, c.context_length, c.rope_theta, c.rope_scaling))
        self._register_rotary("local_rotary", rotary_tables(c.head_dim, c.context_length, c.local_rope_theta))

    def rotary_of(self, window: int | None, positions: Tensor | slice, dtype: torch.dtype) -> Rotary:
        if window is None:
            return super().rotary_of(window, positions, dtype)
        return select_rotary(self.local_rotary_cos, self.local_rotary_sin, positions, dtype)

    @classmethod
    def weight_rules(cls, config: Gemma3Config) -> list[Rule]:
        rules = outer_rules(config)
        for i in range(config.n_layers):
            ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
            rules += [Rule(f"{ours}{name}.weight", [f"{theirs}{theirs_name}.weight"]) for name, theirs_name in _NORMS]
            rules += attention_rules(config, ours, theirs) + qk_norm_rules(ours, theirs)
            rules += swiglu_rules(config, ours, theirs)
        return rules

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> Gemma3Config:
        refuse_unless(values, "hidden_activation", "gelu_pytorch_tanh")
        refuse_unless(values, "attention_bias", False)
        refuse_unless(values, "attn_logit_softcapping", None)
        refuse_unless(values, "use_bidirectional_attention", False)
        values = _DEFAULTS | values
        period = values.get("sliding_window_pattern") or 6
        return Gemma3Config(
            **transformer_from_huggingface(values) | _rope_of(values),
            window=values["sliding_window"],
            layer_types=_layer_types(values.get("layer_types"), values["num_hidden_layers"], period),
            query_scalar=values["query_pre_attn_scalar"],
            final_softcap=values.get("final_logit_softcapping"),
        )

    @classmethod
    def config_to_huggingface(cls, config: Gemma3Config) -> dict[str, Any]:
        values = transformer_to_huggingface(config) | {
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": False,
            "sliding_window": config.window,
            "layer_types": list(config.layer_types),
            "query_pre_attn_scalar": config.query_scalar,
            "final_logit_softcapping": config.final_softcap,
            "attn_logit_softcapping": None,
            "rope_local_base_freq": config.local_rope_theta,
        }
        return values | {
            "rope_parameters": {
                GLOBAL: values["rope_parameters"],
                LOCAL: scaling_to_huggingface(None) | {"rope_theta": config.local_rope_theta},
            }
        }


_NORMS = (
    ("attention_norm", "input_layernorm"),
    ("attention_out_norm", "post_attention_layernorm"),
    ("mlp_norm", "pre_feedforward_layernorm"),
    ("mlp_out_norm", "post_feedforward_layernorm"),
)

# What a ``config.json`` may leave out; transformers writes only what differs.
_DEFAULTS = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
    "sliding_window": 4096,
    "query_pre_attn_scalar": 256,
}


def _rope_of(values: dict[str, Any]) -> dict[str, Any]:
    """Rotary fields from a ``config.json``: per kind of layer in ``rope_parameters``, or in the older spelling
    ``rope_theta``, ``rope_scaling`` (both of the layers that see all) and ``rope_local_base_freq``."""
    nested = values.get("rope_parameters") or {}
    wide, local = dict(nested.get(GLOBAL) or {}), dict(nested.get(LOCAL) or {})
    wide |= values.get("rope_scaling") or {}
    if local.get("rope_type", "default") != "default":
        raise ValueError(
            f"config.json stretches the rotary positions of {LOCAL} layers ({local['rope_type']!r}): only 'default' is "
            "implemented there; choose another checkpoint"
        )
    return {
        "rope_theta": float(wide.get("rope_theta", values.get("rope_theta") or 1_000_000.0)),
        "rope_scaling": scaling_from_huggingface(wide, values["max_position_embeddings"]),
        "local_rope_theta": float(local.get("rope_theta", values.get("rope_local_base_freq") or 10_000.0)),
    }


@functools.cache
def rounded(value: float, dtype: torch.dtype) -> float:
    """``value`` as a number of ``dtype``: Gemma's factor of the embedding is one of the model's dtype."""
    return torch.tensor(value, dtype=dtype).item()
