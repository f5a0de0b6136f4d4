"""GPT-2 (Radford et al. 2019): pre-norm blocks with LayerNorm, learned positions, multi-head attention and GELU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.attention import GroupedQueryAttention
from scratch_llm.layers.feed_forward import GELUFeedForward
from scratch_llm.layers.kv_cache import KVCache, positions_and_mask
from scratch_llm.layers.norms import LayerNorm
from scratch_llm.models.base import (
    LanguageModel,
    check_fraction,
    check_positive,
    check_token_ids,
    init_linear_and_embedding,
)
from scratch_llm.weights.rules import Rule, refuse_unless


@dataclass(frozen=True)
class GPT2Config:
    """Shape of a GPT-2 model.  Fields left at None are derived from the others."""

    vocab_size: int
    """Number of tokens, and of logits."""
    context_length: int
    """Positions with a learned embedding; the model cannot see more at once."""
    n_layers: int
    """Number of blocks."""
    n_heads: int
    """Attention heads per block; divides d_model."""
    d_model: int
    """Width of the residual stream."""
    d_ff: int | None = None
    """Inner width of the feed-forward network.  None: 4 d_model."""
    norm_eps: float = 1e-5
    """Added to the variance in LayerNorm."""
    tie_embeddings: bool = True
    """One matrix for the token embedding and the output layer, as in the released models."""
    dropout: float = 0.0
    """Probability of dropping, during training: embeddings, attention weights, outputs of attention and feed-forward."""
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
        if self.d_ff is None:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        if isinstance(self.eos_token_id, list):
            object.__setattr__(self, "eos_token_id", tuple(self.eos_token_id))
        check_positive(self, "d_ff")
        if self.d_model % self.n_heads:
            raise ValueError(
                f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}: choose a multiple"
            )
        if self.norm_eps <= 0 or self.init_std <= 0:
            raise ValueError(f"norm_eps {self.norm_eps} and init_std {self.init_std} must both be above 0")
        check_fraction(self, "dropout")
        check_token_ids(self, "bos_token_id", "eos_token_id", "pad_token_id")

    @property
    def n_kv_heads(self) -> int:
        """GPT-2 is multi-head: as many key/value heads as query heads."""
        return self.n_heads

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads


class GPT2Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        c = config
        self.dropout = c.dropout
        self.attention_norm = LayerNorm(c.d_model, c.norm_eps)
        self.attention = GroupedQueryAttention(
            c.d_model, c.n_heads, c.n_heads, c.head_dim, bias=True, dropout=c.dropout
        )
        self.mlp_norm = LayerNorm(c.d_model, c.norm_eps)
        self.mlp = GELUFeedForward(c.d_model, c.d_ff, c.dropout)

    def forward(self, x_BTD: Tensor, mask, cache, layer: int) -> Tensor:
        """(B, T, D) -> (B, T, D); arguments as in GroupedQueryAttention."""
        attended_BTD = self.attention(self.attention_norm(x_BTD), None, mask, cache, layer)
        x_BTD = x_BTD + F.dropout(attended_BTD, self.dropout, self.training)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class GPT2(LanguageModel):
    """A GPT-2-shaped language model; see ``LanguageModel.forward`` for its use."""

    model_type = "gpt2"
    config_class = GPT2Config

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        self.blocks = nn.ModuleList(GPT2Block(config) for _ in range(config.n_layers))
        self.final_norm = LayerNorm(config.d_model, config.norm_eps)
        self.lm_head = (
            None if config.tie_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )
        self.init_weights()

    def hidden_states(self, tokens_BT: Tensor, cache: KVCache | None, padding_mask: Tensor | None) -> Tensor:
        B, T = tokens_BT.shape
        if cache is not None:
            positions, mask = cache.begin(B, T, padding_mask)
        else:
            positions, mask = positions_and_mask(T, padding_mask)
        x_BTD = self.embedding(tokens_BT) + self.position_embedding.weight[positions]
        x_BTD = F.dropout(x_BTD, self.config.dropout, self.training)
        for layer, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, mask, cache, layer)
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
        """GPT-2 has none: its positions are weights."""

    @classmethod
    def weight_rules(cls, config: GPT2Config) -> list[Rule]:
        # Hugging Face's GPT-2 stores matrices as (in, out), as TensorFlow did: hence transpose.
        rules = [
            Rule("embedding.weight", ["transformer.wte.weight"]),
            Rule("position_embedding.weight", ["transformer.wpe.weight"]),
            Rule("final_norm.weight", ["transformer.ln_f.weight"]),
            Rule("final_norm.bias", ["transformer.ln_f.bias"]),
        ]
        if not config.tie_embeddings:
            rules.append(Rule("lm_head.weight", ["lm_head.weight"]))
        names = {
            "attention_norm": "ln_1",
            "attention.qkv": "attn.c_attn",
            "attention.out": "attn.c_proj",
            "mlp_norm": "ln_2",
            "mlp.up": "mlp.c_fc",
            "mlp.down": "mlp.c_proj",
        }
        for i in range(config.n_layers):
            for ours, theirs in names.items():
                ours, theirs = f"blocks.{i}.{ours}", f"transformer.h.{i}.{theirs}"
                rules.append(Rule(f"{ours}.weight", [f"{theirs}.weight"], transpose="norm" not in ours))
                rules.append(Rule(f"{ours}.bias", [f"{theirs}.bias"]))
        return rules

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> GPT2Config:
        if values.get("activation_function", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh"):
            refuse_unless(values, "activation_function", "gelu_new")
        refuse_unless(values, "scale_attn_weights", True)
        refuse_unless(values, "scale_attn_by_inverse_layer_idx", False)
        refuse_unless(values, "add_cross_attention", False)
        return GPT2Config(
            vocab_size=values["vocab_size"],
            context_length=values.get("n_positions", 1024),
            n_layers=values["n_layer"],
            n_heads=values["n_head"],
            d_model=values["n_embd"],
            d_ff=values.get("n_inner"),
            norm_eps=values.get("layer_norm_epsilon", 1e-5),
            tie_embeddings=values.get("tie_word_embeddings", True),
            dropout=values.get("resid_pdrop", 0.1),
            init_std=values.get("initializer_range", 0.02),
            bos_token_id=values.get("bos_token_id"),
            eos_token_id=values.get("eos_token_id"),
            pad_token_id=values.get("pad_token_id"),
        )

    @classmethod
    def config_to_huggingface(cls, config: GPT2Config) -> dict[str, Any]:
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": config.vocab_size,
            "n_positions": config.context_length,
            "n_ctx": config.context_length,
            "n_layer": config.n_layers,
            "n_head": config.n_heads,
            "n_embd": config.d_model,
            "n_inner": config.d_ff,
            "layer_norm_epsilon": config.norm_eps,
            "tie_word_embeddings": config.tie_embeddings,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "resid_pdrop": config.dropout,
            "initializer_range": config.init_std,
            "activation_function": "gelu_new",
            "scale_attn_weights": True,
            "bos_token_id": config.bos_token_id,
            "eos_token_id": list(config.eos_token_id)
            if isinstance(config.eos_token_id, tuple)
            else config.eos_token_id,
            "pad_token_id": config.pad_token_id,
        }
