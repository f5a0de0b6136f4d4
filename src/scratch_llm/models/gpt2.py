"""GPT-2 (Radford et al. 2019): pre-norm blocks with LayerNorm, learned positions, multi-head attention and GELU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.attention import GroupedQueryAttention
from scratch_llm.layers.feed_forward import GELUFeedForward
from scratch_llm.layers.kv_cache import KVCache
from scratch_llm.layers.norms import LayerNorm
from scratch_llm.models.config import ModelConfig, check_divides, check_fraction, check_positive, token_fields
from scratch_llm.models.presets import Sizes, preset, size_table
from scratch_llm.models.transformer import Block, Transformer
from scratch_llm.weights.rules import Rule, refuse_unless


@dataclass(frozen=True, kw_only=True)
class GPT2Config(ModelConfig):
    """Shape of a GPT-2 model.  ``context_length`` positions have a learned embedding."""

    n_heads: int
    """Attention heads per block; divides d_model."""
    d_ff: int | None = None
    """Inner width of the feed-forward network.  None: 4 d_model."""
    dropout: float = 0.0
    """Probability of dropping, during training: embeddings, attention weights, outputs of attention and feed-forward."""

    def __post_init__(self):
        super().__post_init__()
        if self.d_ff is None:
            self._derive("d_ff", 4 * self.d_model)
        check_positive(self, "n_heads", "d_ff")
        check_divides(self, "d_model", "n_heads")
        check_fraction(self, "dropout")

    @property
    def n_kv_heads(self) -> int:
        """GPT-2 is multi-head: as many key/value heads as query heads."""
        return self.n_heads

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads


GPT2_SIZES: Sizes = size_table(
    "n_layers d_model n_heads",
    {
        "124M": (12, 768, 12),
        "355M": (24, 1024, 16),
        "774M": (36, 1280, 20),
        "1558M": (48, 1600, 25),
    },
    vocab_size=50257,
    context_length=1024,
    bos_token_id=50256,
    eos_token_id=50256,
)
"""Published models: (layers, width, heads).  Radford et al. 2019, table 2; heads from the published ``hparams.json``.
The names count the parameters; the paper's own counts (117M, 345M, 762M, 1542M) are too low (openai/gpt-2, README)."""


def gpt2_preset(size: str, **changes: Any) -> GPT2Config:
    """The configuration of a published GPT-2, a name in ``GPT2_SIZES``, with some fields changed."""
    return preset("GPT-2", GPT2Config, GPT2_SIZES, size, changes)


class GPT2Block(Block):
    """The pre-norm block with dropout on what attention adds."""

    def __init__(self, config: GPT2Config):
        c = config
        super().__init__(
            LayerNorm(c.d_model, c.norm_eps),
            GroupedQueryAttention(c.d_model, c.n_heads, c.n_heads, c.head_dim, bias=True, dropout=c.dropout),
            LayerNorm(c.d_model, c.norm_eps),
            GELUFeedForward(c.d_model, c.d_ff, c.dropout),
        )
        self.dropout = c.dropout

    def forward(
        self, x_BTD: Tensor, rotary: None, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); arguments as in GroupedQueryAttention."""
        attended_BTD = self.attention(self.attention_norm(x_BTD), rotary, mask, cache, layer)
        x_BTD = x_BTD + F.dropout(attended_BTD, self.dropout, self.training)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class GPT2(Transformer):
    """A GPT-2-shaped language model; see ``LanguageModel.forward`` for its use."""

    model_type = "gpt2"
    config_class = GPT2Config

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        nn.init.normal_(self.position_embedding.weight, 0.0, config.init_std)

    def make_block(self, config: GPT2Config, layer: int) -> GPT2Block:
        return GPT2Block(config)

    def make_norm(self, config: GPT2Config) -> LayerNorm:
        return LayerNorm(config.d_model, config.norm_eps)

    def embed(self, tokens_BT: Tensor, positions: Tensor | slice) -> Tensor:
        x_BTD = self.embedding(tokens_BT) + self.position_embedding.weight[positions]
        return F.dropout(x_BTD, self.config.dropout, self.training)

    @classmethod
    def from_openai(cls, folder: str | Path, **options: Any) -> GPT2:
        """Read a folder as OpenAI published it; see ``scratch_llm.weights.openai_gpt2``."""
        from scratch_llm.weights.openai_gpt2 import load_openai_gpt2

        return load_openai_gpt2(folder, **options)

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
            **token_fields(config),
        }
