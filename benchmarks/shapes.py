"""The shapes that the benchmarks run: every architecture at about 15 and 100 million parameters.

Same width, depth and vocabulary for all (recurrent models of one matrix per block take twice the blocks), so that
the figures of one size can be set side by side.
"""

from __future__ import annotations

from collections.abc import Iterable

from scratch_llm import models

SIZES = {
    "15M": {"vocab_size": 8192, "context_length": 256, "n_layers": 6, "d_model": 384},
    "100M": {"vocab_size": 32768, "context_length": 512, "n_layers": 12, "d_model": 768},
}

# family: (configuration class, fields at 15M, fields at 100M)
SHAPES: dict[str, tuple[str, dict, dict]] = {
    "llama": ("LlamaConfig", {"n_heads": 6, "d_ff": 1024}, {"n_heads": 12, "d_ff": 2048}),
    "gpt2": ("GPT2Config", {"n_heads": 6}, {"n_heads": 12}),
    "qwen3": (
        "Qwen3Config",
        {"n_heads": 6, "n_kv_heads": 2, "head_dim": 64, "d_ff": 1024},
        {"n_heads": 12, "n_kv_heads": 4, "head_dim": 64, "d_ff": 2048},
    ),
    "gemma3": (
        "Gemma3Config",
        {"n_heads": 6, "n_kv_heads": 2, "head_dim": 64, "d_ff": 1024, "window": 128},
        {"n_heads": 12, "n_kv_heads": 4, "head_dim": 64, "d_ff": 2048, "window": 256},
    ),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        {"n_heads": 6, "n_kv_heads": 2, "head_dim": 64, "n_experts": 8, "n_experts_per_token": 2, "expert_d_ff": 192},
        {"n_heads": 12, "n_kv_heads": 4, "head_dim": 64, "n_experts": 8, "n_experts_per_token": 2, "expert_d_ff": 384},
    ),
    "deepseek_v3": (
        "DeepseekV3Config",
        {"n_heads": 6, "d_ff": 1024, "n_dense_layers": 1, "n_experts": 8, "n_experts_per_token": 2, "expert_d_ff": 192,
         "q_lora_rank": 192, "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64},
        {"n_heads": 12, "d_ff": 2048, "n_dense_layers": 1, "n_experts": 8, "n_experts_per_token": 2, "expert_d_ff": 384,
         "q_lora_rank": 384, "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64},
    ),
    "mamba": ("MambaConfig", {"n_layers": 12}, {"n_layers": 24}),
    "mamba2": ("Mamba2Config", {"n_layers": 12, "d_state": 64}, {"n_layers": 24, "d_state": 128}),
    "rwkv4": ("RWKV4Config", {}, {}),
    "rwkv7": ("RWKV7Config", {}, {}),
    "lstm": ("LSTMConfig", {}, {}),
}


def config_of(family: str, size: str = "15M"):
    """Our configuration of a family at a size."""
    kind, small, large = SHAPES[family]
    return getattr(models, kind)(**SIZES[size] | (small if size == "15M" else large))


def check_families(names: Iterable[str]) -> None:
    """ValueError for a name without a shape."""
    for name in names:
        if name not in SHAPES:
            raise ValueError(f"no model '{name}': use {', '.join(SHAPES)}")


def transformers_config(config):
    """The same shape for transformers; None where it has no such architecture."""
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = next(kind for kind in models.MODELS.values() if isinstance(config, kind.config_class))
    values = kind.config_to_huggingface(config)
    if values["model_type"] not in CONFIG_MAPPING:
        return None
    return AutoConfig.for_model(**values)


def label(family: str, size: str) -> str:
    """How tables name it."""
    return f"{family} {size}"
