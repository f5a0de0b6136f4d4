"""The methods by the name that ``adapter_config.json`` gives them."""

from __future__ import annotations

from scratch_llm.peft.adapter import AdapterConfig
from scratch_llm.peft.ia3 import IA3Config
from scratch_llm.peft.lora import LoRAConfig
from scratch_llm.peft.waveft import WaveFTConfig

METHODS: dict[str, type[AdapterConfig]] = {kind.peft_type: kind for kind in (LoRAConfig, IA3Config, WaveFTConfig)}
