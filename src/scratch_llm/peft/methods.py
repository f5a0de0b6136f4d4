"""The methods by the name that ``adapter_config.json`` gives them."""

from __future__ import annotations

from scratch_llm.peft.adapter import AdapterConfig
from scratch_llm.peft.lora import LoRAConfig

METHODS: dict[str, type[AdapterConfig]] = {kind.peft_type: kind for kind in (LoRAConfig,)}
