"""One or more tiny configurations of odd shape for every architecture, for tests that hold for the whole family."""

from __future__ import annotations

import dataclasses
from typing import Any

from scratch_llm.models import (
    MODELS,
    DeepseekV3Config,
    Gemma3Config,
    GPT2Config,
    LlamaConfig,
    LSTMConfig,
    Mamba2Config,
    MambaConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    RWKV4Config,
    RWKV7Config,
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
    "deepseek_v3": DeepseekV3Config(
        **_COMMON | {"n_layers": 3}, n_heads=3, q_lora_rank=14, kv_lora_rank=18, qk_nope_head_dim=10,
        qk_rope_head_dim=6, v_head_dim=8, d_ff=40, n_dense_layers=1, n_experts=8, n_experts_per_token=2,
        n_shared_experts=1, expert_d_ff=16, n_groups=2, n_groups_per_token=1,
    ),
    "rwkv": RWKV4Config(**_COMMON, d_attention=16, d_ff=40),
    "rwkv7": RWKV7Config(**_COMMON, head_dim=8, d_ff=40, decay_rank=6, rate_rank=5, value_rank=4, gate_rank=7),
    "mamba": MambaConfig(**_COMMON, d_state=5),
    "mamba2": Mamba2Config(**_COMMON, d_state=6, head_dim=12, n_groups=2, chunk_size=16),
    "lstm": LSTMConfig(**_COMMON, d_hidden=20),
}  # fmt: skip


def model_type_of(config: Any) -> str:
    """Hugging Face's name of a configuration's architecture."""
    return next(name for name, kind in MODELS.items() if type(config) is kind.config_class)


def resized(config: Any, **changes: Any) -> Any:
    """The configuration with some fields changed."""
    return dataclasses.replace(config, **changes)
