"""Which class implements which ``model_type`` of a ``config.json``."""

from __future__ import annotations

from scratch_llm.models.base import LanguageModel
from scratch_llm.models.deepseek_v3 import DeepseekV3
from scratch_llm.models.gemma3 import Gemma3
from scratch_llm.models.gpt2 import GPT2
from scratch_llm.models.llama import Llama
from scratch_llm.models.lstm import LSTM
from scratch_llm.models.mamba import Mamba
from scratch_llm.models.mamba2 import Mamba2
from scratch_llm.models.qwen3 import Qwen3
from scratch_llm.models.qwen3_moe import Qwen3Moe
from scratch_llm.models.rwkv4 import RWKV4
from scratch_llm.models.rwkv7 import RWKV7

MODELS: dict[str, type[LanguageModel]] = {kind.model_type: kind for kind in (Llama, GPT2, Qwen3, RWKV4, Qwen3Moe, DeepseekV3, Gemma3, RWKV7, Mamba, LSTM, Mamba2)}


def model_class(model_type: str) -> type[LanguageModel]:
    """The class for a Hugging Face ``model_type``; ValueError lists those there are."""
    if model_type not in MODELS:
        raise ValueError(f"model_type is {model_type!r}: it must be one of {', '.join(sorted(MODELS))}")
    return MODELS[model_type]


def load_model(folder, **options) -> LanguageModel:
    """Read a Hugging Face folder of any known architecture; see ``scratch_llm.weights.load_model``."""
    from scratch_llm.weights import load_model as load

    return load(folder, **options)
