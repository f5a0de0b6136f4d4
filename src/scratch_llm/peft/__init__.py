"""Parameter-efficient fine-tuning: adapters beside frozen weights."""

from scratch_llm.peft.adapter import AdaptedLinear, Adapter, AdapterConfig, Part
from scratch_llm.peft.ia3 import IA3, IA3Config
from scratch_llm.peft.inject import (
    activate,
    adapted_layers,
    adapter_names,
    inject,
    merge,
    trainable_parameters,
    unload,
)
from scratch_llm.peft.lora import DoRA, LoRA, LoRAConfig
from scratch_llm.peft.memory import TrainingMemory, training_memory
from scratch_llm.peft.nf4 import NF4Matrix, nf4_table
from scratch_llm.peft.prefix import PrefixTuned, load_prefix, save_prefix
from scratch_llm.peft.qlora import NF4Linear, quantize_base
from scratch_llm.peft.saving import base_digest, load_adapter, save_adapter
from scratch_llm.peft.waveft import WaveFT, WaveFTConfig

__all__ = [
    "IA3",
    "AdaptedLinear",
    "Adapter",
    "AdapterConfig",
    "DoRA",
    "IA3Config",
    "LoRA",
    "LoRAConfig",
    "NF4Linear",
    "NF4Matrix",
    "Part",
    "PrefixTuned",
    "TrainingMemory",
    "WaveFT",
    "WaveFTConfig",
    "activate",
    "adapted_layers",
    "adapter_names",
    "base_digest",
    "inject",
    "load_adapter",
    "load_prefix",
    "merge",
    "nf4_table",
    "quantize_base",
    "save_adapter",
    "save_prefix",
    "trainable_parameters",
    "training_memory",
    "unload",
]
