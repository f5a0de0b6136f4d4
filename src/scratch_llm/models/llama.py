"""Llama (Touvron et al. 2023; Grattafiori et al. 2024): pre-norm blocks with RMSNorm, rotary positions, SwiGLU and GQA."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from scratch_llm.layers.attention import GroupedQueryAttention
from scratch_llm.layers.feed_forward import SwiGLU
from scratch_llm.layers.kv_cache import KVCache, positions_and_mask
from scratch_llm.layers.norms import RMSNorm
from scratch_llm.layers.rotary import rotary_tables
from scratch_llm.models.base import (
    LanguageModel,
    check_fraction,
    check_positive,
    check_token_ids,
    init_linear_and_embedding,
)
from scratch_llm.weights.rules import Rule, refuse_unless, rope_theta_of


@dataclass(frozen=True)
class LlamaConfig:
    """Shape of a Llama model.  Fields left at None are derived from the others."""

    vocab_size: int
    """Number of tokens, and of logits."""
    context_length: int
    """Positions the model is trained on; it never sees more at once."""
    n_layers: int
    """Number of blocks."""
    n_heads: int
    """Query heads per block."""
    d_model: int
    """Width of the residual stream."""
    n_kv_heads: int | None = None
    """Key/value heads per block; divides n_heads.  None: n_heads (multi-head attention)."""
    d_ff: int | None = None
    """Inner width of SwiGLU.  None: 8/3 d_model rounded up to a multiple of 64 (as many weights as 4 d_model without a gate)."""
    head_dim: int | None = None
    """Width of one head, even.  None: d_model / n_heads."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies; larger for longer contexts."""
    norm_eps: float = 1e-5
    """Added to the mean square in RMSNorm."""
    tie_embeddings: bool = True
    """One matrix for the token embedding and the output layer."""
    dropout: float = 0.0
    """Probability of dropping an attention weight during training."""
    init_std: float = 0.02
    """Standard deviation of the starting weights."""
    bos_token_id: int | None = None
    """Token that begins a document."""
    eos_token_id: int | tuple[int, ...] | None = None
    """Token, or tokens, that end a document: generation stops there."""
    pad_token_id: int | None = None
    """Token that fills up a batch; masked, so any id does."""

    def __post_init__(self):
        check_positive(self, "vocab_size", "context_length", "n_layers", "n_heads", "d_model")
        if self.n_kv_heads is None:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        if self.d_ff is None:
            object.__setattr__(self, "d_ff", math.ceil(8 * self.d_model / 3 / 64) * 64)
        if self.d_model % self.n_heads:
            # Also where head_dim is given: transformers refuses to open such a checkpoint.
            raise ValueError(
                f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}: choose a multiple"
            )
        if self.head_dim is None:
            object.__setattr__(self, "head_dim", self.d_model // self.n_heads)
        if isinstance(self.eos_token_id, list):
            object.__setattr__(self, "eos_token_id", tuple(self.eos_token_id))
        check_positive(self, "n_kv_heads", "d_ff", "head_dim")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads is {self.n_kv_heads}: it must divide n_heads, {self.n_heads}")
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim is {self.head_dim}: rotary embedding rotates pairs, so it must be even (d_model / n_heads)"
            )
        if self.rope_theta <= 0 or self.norm_eps <= 0 or self.init_std <= 0:
            raise ValueError(
                f"rope_theta {self.rope_theta}, norm_eps {self.norm_eps} and init_std {self.init_std} must all be above 0"
            )
        check_fraction(self, "dropout")
        check_token_ids(self, "bos_token_id", "eos_token_id", "pad_token_id")


class LlamaBlock(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        c = config
        self.attention_norm = RMSNorm(c.d_model, c.norm_eps)
        self.attention = GroupedQueryAttention(
            c.d_model, c.n_heads, c.n_kv_heads, c.head_dim, dropout=c.dropout
        )
        self.mlp_norm = RMSNorm(c.d_model, c.norm_eps)
        self.mlp = SwiGLU(c.d_model, c.d_ff)

    def forward(self, x_BTD: Tensor, rotary, mask, cache, layer: int) -> Tensor:
        """(B, T, D) -> (B, T, D); arguments as in GroupedQueryAttention."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), rotary, mask, cache, layer)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class Llama(LanguageModel):
    """A Llama-shaped language model; see ``LanguageModel.forward`` for its use."""

    model_type = "llama"
    config_class = LlamaConfig

    def __init__(self, config: LlamaConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(LlamaBlock(config) for _ in range(config.n_layers))
        self.final_norm = RMSNorm(config.d_model, config.norm_eps)
        self.lm_head = (
            None if config.tie_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )
        self.init_buffers()
        self.init_weights()

    def hidden_states(self, tokens_BT: Tensor, cache: KVCache | None, padding_mask: Tensor | None) -> Tensor:
        B, T = tokens_BT.shape
        if cache is not None:
            positions, mask = cache.begin(B, T, padding_mask)
        else:
            positions, mask = positions_and_mask(T, padding_mask)
        x_BTD = self.embedding(tokens_BT)
        # One axis more, for the heads: (T, 1, d) or (B, T, 1, d).
        rotary = tuple(
            table[positions].unsqueeze(-2).to(x_BTD.dtype) for table in (self.rotary_cos, self.rotary_sin)
        )
        for layer, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, rotary, mask, cache, layer)
        if cache is not None:
            cache.advance(T)
        return self.final_norm(x_BTD)

    @property
    def head_weight(self) -> Tensor:
        return self.embedding.weight if self.lm_head is None else self.lm_head.weight

    def init_weights(self) -> None:
        """See ``init_linear_and_embedding``."""
        init_linear_and_embedding(self, self.config.init_std, self.config.n_layers)

    def init_buffers(self) -> None:
        cos, sin = rotary_tables(self.config.head_dim, self.config.context_length, self.config.rope_theta)
        device = self.embedding.weight.device
        self.register_buffer("rotary_cos", cos.to(device), persistent=False)
        self.register_buffer("rotary_sin", sin.to(device), persistent=False)

    @classmethod
    def weight_rules(cls, config: LlamaConfig) -> list[Rule]:
        d, q, kv = config.head_dim, config.n_heads, config.n_kv_heads
        rules = [
            Rule("embedding.weight", ["model.embed_tokens.weight"]),
            Rule("final_norm.weight", ["model.norm.weight"]),
        ]
        if not config.tie_embeddings:
            rules.append(Rule("lm_head.weight", ["lm_head.weight"]))
        for i in range(config.n_layers):
            ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
            qkv = [f"{theirs}self_attn.{name}_proj.weight" for name in "qkv"]
            gate_up = [f"{theirs}mlp.{name}_proj.weight" for name in ("gate", "up")]
            rules += [
                Rule(ours + "attention_norm.weight", [theirs + "input_layernorm.weight"]),
                Rule(ours + "attention.qkv.weight", qkv, rows=[q * d, kv * d, kv * d]),
                Rule(ours + "attention.out.weight", [theirs + "self_attn.o_proj.weight"]),
                Rule(ours + "mlp_norm.weight", [theirs + "post_attention_layernorm.weight"]),
                Rule(ours + "mlp.gate_up.weight", gate_up, rows=[config.d_ff, config.d_ff]),
                Rule(ours + "mlp.down.weight", [theirs + "mlp.down_proj.weight"]),
            ]
        return rules

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> LlamaConfig:
        refuse_unless(values, "hidden_act", "silu")
        refuse_unless(values, "attention_bias", False)
        refuse_unless(values, "mlp_bias", False)
        return LlamaConfig(
            vocab_size=values["vocab_size"],
            context_length=values.get("max_position_embeddings", 2048),
            n_layers=values["num_hidden_layers"],
            n_heads=values["num_attention_heads"],
            n_kv_heads=values.get("num_key_value_heads"),
            d_model=values["hidden_size"],
            d_ff=values["intermediate_size"],
            head_dim=values.get("head_dim"),
            rope_theta=rope_theta_of(values),
            norm_eps=values.get("rms_norm_eps", 1e-6),
            tie_embeddings=values.get("tie_word_embeddings", False),
            dropout=values.get("attention_dropout") or 0.0,
            init_std=values.get("initializer_range", 0.02),
            bos_token_id=values.get("bos_token_id"),
            eos_token_id=values.get("eos_token_id"),
            pad_token_id=values.get("pad_token_id"),
        )

    @classmethod
    def config_to_huggingface(cls, config: LlamaConfig) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.context_length,
            "num_hidden_layers": config.n_layers,
            "num_attention_heads": config.n_heads,
            "num_key_value_heads": config.n_kv_heads,
            "hidden_size": config.d_model,
            "intermediate_size": config.d_ff,
            "head_dim": config.head_dim,
            # Both spellings: transformers 5 reads the second, older engines and converters the first.
            "rope_theta": config.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
            "rms_norm_eps": config.norm_eps,
            "tie_word_embeddings": config.tie_embeddings,
            "attention_dropout": config.dropout,
            "initializer_range": config.init_std,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": config.bos_token_id,
            "eos_token_id": list(config.eos_token_id)
            if isinstance(config.eos_token_id, tuple)
            else config.eos_token_id,
            "pad_token_id": config.pad_token_id,
        }
