"""One or more tiny configurations of odd shape for every architecture, for tests that hold for the whole family."""

from __future__ import annotations

import dataclasses
from typing import Any

from scratch_llm.models import (
    MODELS,
    Gemma3Config,
    GPT2Config,
    LlamaConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    RWKV4Config,
)

_COMMON = {"vocab_size": 61, "context_length": 64, "n_layers": 2, "d_model": 24}

TINY: dict[str, Any] = {
    "llama": LlamaConfig(**_COMMON, n_heads=4, n_kv_heads=2, d_ff=40),
    "llama-untied-mqa": LlamaConfig(**_COMMON, n_heads=6, n_kv_heads=1, d_ff=72, tie_embeddings=False),
    "gpt2": GPT2Config(**_COMMON, n_heads=4),
    "gpt2-untied": GPT2Config(**_COMMON, n_heads=3, d_ff=56, tie_embeddings=False),
    "qwen3": Qwen3Config(**_COMMON, n_heads=4, n_kv_heads=2, head_dim=10, d_ff=40),
    "qwen3_moe": Qwen3MoeConfig(
        **_COMMON | {"n_layers": 3}, n_heads=4, n_kv_heads=2, head_dim=10, d_ff=40,
        n_experts=6, n_experts_per_token=2, expert_d_ff=16, dense_layers=(1,),
    ),
    "gemma3_text": Gemma3Config(
        **_COMMON | {"n_layers": 7}, n_heads=4, n_kv_heads=2, head_dim=10, d_ff=40, window=16,
    ),
    "rwkv": RWKV4Config(**_COMMON, d_attention=16, d_ff=40),
}  # fmt: skip


def model_type_of(config: Any) -> str:
    """Hugging Face's name of a configuration's architecture."""
    return next(name for name, kind in MODELS.items() if type(config) is kind.config_class)


def resized(config: Any, **changes: Any) -> Any:
    """The configuration with some fields changed."""
    return dataclasses.replace(config, **changes)
