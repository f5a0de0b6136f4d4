"""Settings of weeks 4 and 5: models and their training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from llm_workshop.sections.base import Section


class ModelSettings(Section):
    architecture: Literal["llama", "gpt2"] = Field("llama", description="model family")
    context_length: int = Field(256, ge=8, description="longest sequence the model attends to (tokens)")
    n_layers: int = Field(6, ge=1, description="Transformer blocks")
    n_heads: int = Field(4, ge=1, description="query heads per block")
    n_kv_heads: int | None = Field(None, ge=1, description="key/value heads; null = derived (grouped-query attention)")
    d_model: int = Field(256, ge=8, description="width of the residual stream")
    d_ff: int | None = Field(None, ge=8, description="hidden width of the feed-forward layer; null = derived")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary frequencies (llama)")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout probability (gpt2)")
    tie_embeddings: bool = Field(True, description="share the input embedding with the output layer")


class PretrainSettings(Section):
    tokens: int = Field(1_000_000, ge=1, description="training tokens to see")
    steps: int | None = Field(None, ge=1, description="optimiser steps; null = tokens / (batch_size x context_length)")
    batch_size: int = Field(16, ge=1, description="sequences per optimiser step")
    micro_batch_size: int | Literal["auto"] | None = Field(
        None, description="sequences per forward pass; auto = the most that free memory holds; null = batch_size"
    )
    gradient_checkpointing: bool = Field(False, description="compute activations again in the backward pass: less memory, slower")
    mixture: tuple[str, ...] | None = Field(
        None, description="shares of the names in DATA, such as sample:3,nsmc:1; without numbers by size; null = one text"
    )
    mixture_temperature: float = Field(1.0, gt=0, description="above 1: shares of the mixture nearer to each other")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    min_learning_rate: float | None = Field(None, ge=0, description="last learning rate; null = a tenth of the peak")
    schedule: Literal["cosine", "wsd", "one_cycle"] = Field("cosine", description="shape of the learning rate over the steps")
    warmup_steps: int | None = Field(None, ge=0, description="steps of warm-up; null = derived from steps")
    decay_share: float = Field(0.2, gt=0, le=1, description="share of the steps, the last, in which wsd decays")
    optimizer: Literal["adamw", "muon", "adafactor"] = Field("adamw", description="which update turns gradients into steps")
    weight_decay: float = Field(0.1, ge=0, description="AdamW's decoupled weight decay (matrices only)")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first-moment decay")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's second-moment decay")
    grad_clip: float = Field(1.0, gt=0, description="largest global gradient norm")
    z_loss: float = Field(0.0, ge=0, description="weight of log(Z)^2 beside the loss; 0 = none, 1e-4 is usual")
    ema_decay: float | None = Field(None, ge=0, lt=1, description="average of the weights kept beside them; null = none, 0.999 is usual")
    on_bad_step: Literal["stop", "skip", "roll_back"] = Field("stop", description="at a loss that is nan or a spike")
    spike_threshold: float | None = Field(None, gt=0, description="robust z-score of a spike; null = only nan is bad, 10 is usual")
    spike_window: int = Field(50, ge=4, description="latest good losses that a spike is told from")
    max_bad_steps: int = Field(10, ge=1, description="bad steps between two checkpoints before the run gives up")
    packing: Literal["stream", "documents"] = Field(
        "documents", description="how documents fill the windows: kept whole, or cut from one stream"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="arithmetic; auto = the faster one")
    compile: Literal["auto", "on", "off"] = Field("auto", description="torch.compile the training step")
    eval_every: int | None = Field(None, ge=1, description="steps between evaluations; null = ten in a run")
    eval_batches: int = Field(8, ge=1, description="batches per evaluation")
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints; null = as often as eval_every")
    keep: int = Field(2, ge=1, description="checkpoints kept on disk")
    log_every: int = Field(10, ge=1, description="steps between printed lines")
    tensorboard: bool = Field(False, description="write TensorBoard's event files beside the metrics")

    @field_validator("micro_batch_size", mode="before")
    @classmethod
    def _rows_or_auto(cls, value: object) -> object:
        if value is None or value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
            return value
        raise ValueError("give a number from 1 on, or auto")


class TrialsSettings(Section):
    steps: int = Field(60, ge=20, description="steps of each short trial before the pretraining (week 5)")


class CompareSettings(Section):
    models: tuple[str, ...] = Field(
        ("transformer", "lstm", "mamba", "rwkv", "moe-mla"), description="architectures to compare (week 4)"
    )
    parameters: int = Field(2_000_000, ge=1, description="parameters of each model, as near as its widths allow")
    n_layers: int = Field(4, ge=1, description="Transformer blocks; Mamba takes twice as many, the LSTM at most two")
    context_length: int = Field(256, ge=8, description="tokens per training sequence")
    tokens: int = Field(1_000_000, ge=1, description="training tokens of each model")
    batch_size: int = Field(16, ge=1, description="sequences per optimiser step")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate, the same for all")
    decode_contexts: tuple[int, ...] = Field(
        (256, 512, 1024, 2048, 4096, 8192), description="contexts at which one more token is timed"
    )
