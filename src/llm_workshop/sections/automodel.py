"""Settings of week 5's NVIDIA tools: NeMo AutoModel, NeMo Run, Megatron core."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_workshop.sections.base import Section


class AutoModelSettings(Section):
    architectures: tuple[Literal["llama", "gpt2"], ...] = Field(("llama", "gpt2"), min_length=1, description="shapes that both loops train (week 5)")
    steps: int = Field(50, ge=2, description="optimiser steps of the comparison with our loop")
    batch_size: int = Field(8, ge=1, description="its sequences per optimiser step")
    learning_rate: float = Field(3e-3, gt=0, description="its peak learning rate")
    lora_steps: int = Field(30, ge=2, description="optimiser steps of the adapter")
    lora_rank: int = Field(8, ge=1, description="rank of the adapter")
    lora_learning_rate: float = Field(5e-3, gt=0, description="the adapter's peak learning rate")
    processes: int = Field(2, ge=1, description="processes of the run that NeMo Run starts, and of tensor parallelism")
    image: str = Field("nvcr.io/nvidia/nemo-automodel:26.06.00", description="container of the runs on a cluster")
