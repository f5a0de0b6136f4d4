"""Settings of week 6's comparison of ways to fine-tune."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_workshop.sections.base import Section


class PeftSettings(Section):
    task: str | None = Field(None, description="what to classify, as finetune.task; null = that of DATA, else reviews")
    methods: tuple[str, ...] = Field(
        ("full", "last-1", "head", "lora", "rslora", "dora", "qlora", "waveft", "ia3", "prefix"), description="ways to fine-tune that are compared"
    )
    examples: int = Field(400, ge=8, description="training texts")
    held_out: int = Field(300, ge=8, description="texts of the test part, and of the validation part, at most")
    steps: int = Field(40, ge=1, description="optimiser steps of each trial")
    batch_size: int = Field(16, ge=1, description="texts per step")
    max_length: int = Field(96, ge=4, description="longer texts lose their end (tokens)")
    pooling: Literal["last", "mean"] = Field("last", description="the state that the head reads: of the last token, or the mean")
    rate_factors: tuple[float, ...] = Field((0.33, 1.0, 3.0), description="learning rates to try, times each method's usual one")
    seeds: int = Field(3, ge=1, description="random starts of each method at its best learning rate: the error bars")
    rank: int = Field(8, ge=1, description="rank of LoRA and its relatives")
    ranks: tuple[int, ...] = Field((1, 8, 64), description="ranks to compare, of LoRA and rsLoRA")
    targets: tuple[str, ...] = Field(
        ("query-value", "attention", "feed-forward", "all", "lower-half", "upper-half"), description="places of LoRA to compare"
    )
    ablation_seeds: int = Field(2, ge=1, description="random starts of each rank and place")
    prefix_tokens: int = Field(8, ge=1, description="positions of the learnt prefix")
    coefficients: int = Field(512, ge=1, description="numbers that WaveFT learns for each matrix")
    peer_steps: int = Field(20, ge=0, description="steps of the comparison with PEFT and TRL; 0 = none")
