"""Shapes of published models, to be counted without downloading them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scratch_llm.models import MODELS, gpt2_preset


@dataclass(frozen=True)
class Published:
    """A model as its ``config.json`` describes it, and what its makers say of its size."""

    model_type: str
    values: dict[str, Any]
    """The fields of ``config.json`` that decide the shape."""
    parameters: int
    """Weights in the checkpoint, tied ones once."""
    active: float | None = None
    """Weights per token as published, where not all work on each token."""


def _llama(vocab, context, layers, heads, kv_heads, width, d_ff, tied=False) -> dict[str, Any]:
    return {
        "vocab_size": vocab, "max_position_embeddings": context, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "hidden_size": width,
        "intermediate_size": d_ff, "tie_word_embeddings": tied, "rms_norm_eps": 1e-5,
    }  # fmt: skip


def _qwen3(layers, heads, kv_heads, width, d_ff, tied=False, **more) -> dict[str, Any]:
    values = _llama(151936, 40960, layers, heads, kv_heads, width, d_ff, tied)
    return values | {"head_dim": 128, "rms_norm_eps": 1e-6, "hidden_act": "silu"} | more


_GEMMA3_1B = {
    "vocab_size": 262144, "max_position_embeddings": 32768, "num_hidden_layers": 26, "num_attention_heads": 4,
    "num_key_value_heads": 1, "head_dim": 256, "hidden_size": 1152, "intermediate_size": 6912,
    "sliding_window": 512, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    "hidden_activation": "gelu_pytorch_tanh", "rope_theta": 1_000_000, "rope_local_base_freq": 10_000,
    "layer_types": ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(26)],
}  # fmt: skip
_MAMBA_130M = {
    "vocab_size": 50280, "hidden_size": 768, "num_hidden_layers": 24, "state_size": 16, "conv_kernel": 4,
    "expand": 2, "time_step_rank": 48, "use_bias": False, "use_conv_bias": True, "hidden_act": "silu",
    "tie_word_embeddings": True,
}  # fmt: skip
_DEEPSEEK_V3 = {
    "vocab_size": 129280, "max_position_embeddings": 163840, "hidden_size": 7168, "num_hidden_layers": 61,
    "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "intermediate_size": 18432,
    "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
    "first_k_dense_replace": 3, "n_group": 8, "topk_group": 4, "routed_scaling_factor": 2.5,
    "norm_topk_prob": True, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "hidden_act": "silu",
    "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "rope_theta": 10_000,
}  # fmt: skip

PUBLISHED: dict[str, Published] = {
    "Llama 2 7B": Published("llama", _llama(32000, 4096, 32, 32, 32, 4096, 11008), 6_738_415_616),
    "Llama 2 70B": Published("llama", _llama(32000, 4096, 80, 64, 8, 8192, 28672), 68_976_648_192),
    "Llama 3.1 8B": Published("llama", _llama(128256, 131072, 32, 32, 8, 4096, 14336), 8_030_261_248),
    "Llama 3.1 70B": Published("llama", _llama(128256, 131072, 80, 64, 8, 8192, 28672), 70_553_706_496),
    "Llama 3.2 1B": Published("llama", _llama(128256, 131072, 16, 32, 8, 2048, 8192, True), 1_235_814_400),
    "Llama 3.2 3B": Published("llama", _llama(128256, 131072, 28, 24, 8, 3072, 8192, True), 3_212_749_824),
    "Qwen3 0.6B": Published("qwen3", _qwen3(28, 16, 8, 1024, 3072, tied=True), 596_049_920),
    "Qwen3 8B": Published("qwen3", _qwen3(36, 32, 8, 4096, 12288), 8_190_735_360),
    "Qwen3 30B-A3B": Published(
        "qwen3_moe",
        _qwen3(
            48, 32, 4, 2048, 6144,
            num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=True,
            decoder_sparse_step=1, mlp_only_layers=[],
        ),
        30_532_122_624,
        3.3e9,
    ),
    "Gemma 3 1B": Published("gemma3_text", _GEMMA3_1B, 999_885_952),
    "Mamba 130M": Published("mamba", _MAMBA_130M, 129_135_360),
    # The model itself.  The checkpoint also holds a layer that predicts the token after the next, about 14 B more, and the
    # routers' biases (58 x 256), which no gradient learns.
    "DeepSeek-V3": Published("deepseek_v3", _DEEPSEEK_V3, 671_026_404_352, 37e9),
}  # fmt: skip


def published_config(name: str) -> Any:
    """Our configuration of a published model: a name in ``PUBLISHED``, or a GPT-2 ("GPT-2 124M")."""
    if name.startswith("GPT-2 "):
        return gpt2_preset(name.removeprefix("GPT-2 "))
    if name not in PUBLISHED:
        raise ValueError(f"no published model {name!r}: use a GPT-2 size or one of {', '.join(PUBLISHED)}")
    entry = PUBLISHED[name]
    return MODELS[entry.model_type].config_from_huggingface({"model_type": entry.model_type, **entry.values})
