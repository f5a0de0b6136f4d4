"""The model family: build one from a configuration, or load one from a folder."""

from __future__ import annotations

import torch

from scratch_llm.models.base import LanguageModel
from scratch_llm.models.deepseek_v3 import DEEPSEEK_V3_SIZES, DeepseekV3, DeepseekV3Config, deepseek_v3_preset
from scratch_llm.models.gemma3 import GEMMA3_SIZES, Gemma3, Gemma3Config, gemma3_preset
from scratch_llm.models.gpt2 import GPT2, GPT2_SIZES, GPT2Config, gpt2_preset
from scratch_llm.models.llama import LLAMA_SIZES, Llama, LlamaConfig, llama_preset
from scratch_llm.models.lstm import LSTM, LSTMConfig
from scratch_llm.models.mamba import MAMBA_SIZES, Mamba, MambaConfig, mamba_preset
from scratch_llm.models.mamba2 import MAMBA2_SIZES, Mamba2, Mamba2Config, mamba2_preset
from scratch_llm.models.qwen3 import QWEN3_SIZES, Qwen3, Qwen3Config, qwen3_preset
from scratch_llm.models.qwen3_moe import QWEN3_MOE_SIZES, Qwen3Moe, Qwen3MoeConfig, qwen3_moe_preset
from scratch_llm.models.registry import MODELS, load_model, model_class
from scratch_llm.models.resizing import resize_embeddings, set_rows_to_means
from scratch_llm.models.rwkv4 import RWKV4, RWKV4_SIZES, RWKV4Config, rwkv4_preset
from scratch_llm.models.rwkv7 import RWKV7, RWKV7_SIZES, RWKV7Config, rwkv7_preset

__all__ = [
    "DEEPSEEK_V3_SIZES",
    "GEMMA3_SIZES",
    "GPT2",
    "GPT2_SIZES",
    "LLAMA_SIZES",
    "LSTM",
    "MAMBA2_SIZES",
    "MAMBA_SIZES",
    "MODELS",
    "QWEN3_MOE_SIZES",
    "QWEN3_SIZES",
    "RWKV4",
    "RWKV4_SIZES",
    "RWKV7",
    "RWKV7_SIZES",
    "DeepseekV3",
    "DeepseekV3Config",
    "GPT2Config",
    "Gemma3",
    "Gemma3Config",
    "LSTMConfig",
    "LanguageModel",
    "Llama",
    "LlamaConfig",
    "Mamba",
    "Mamba2",
    "Mamba2Config",
    "MambaConfig",
    "Qwen3",
    "Qwen3Config",
    "Qwen3Moe",
    "Qwen3MoeConfig",
    "RWKV4Config",
    "RWKV7Config",
    "build_model",
    "deepseek_v3_preset",
    "gemma3_preset",
    "gpt2_preset",
    "llama_preset",
    "load_model",
    "mamba2_preset",
    "mamba_preset",
    "model_class",
    "qwen3_moe_preset",
    "qwen3_preset",
    "resize_embeddings",
    "rwkv4_preset",
    "rwkv7_preset",
    "set_rows_to_means",
]


def build_model(config, *, seed: int | None = None) -> LanguageModel:
    """A model with fresh weights for a configuration such as ``LlamaConfig``.

    ``seed`` fixes the weights without touching torch's global random state; None draws from that state.
    """
    kind = next((kind for kind in MODELS.values() if type(config) is kind.config_class), None)
    if kind is None:
        known = ", ".join(sorted(kind.config_class.__name__ for kind in MODELS.values()))
        raise ValueError(f"no model is built from a {type(config).__name__}: give one of {known}")
    if seed is None:
        return kind(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config)
