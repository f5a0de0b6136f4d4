"""What models from ten million to seventy billion weights take: memory, operations, hours of a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scratch_llm.analysis import (
    as_shapes,
    cache_bytes,
    device_named,
    published_config,
    training_memory,
    training_run,
    weight_bytes,
)
from scratch_llm.models import LlamaConfig

TOKENS_PER_WEIGHT = 20
"""Compute-optimal training reads about 20 tokens per weight (Hoffmann et al. 2022, table 3)."""
CONTEXT = 2048
GPUS = ("T4", "RTX 4090", "A100 SXM 80GB", "H200")
"""From small to large memory."""
FAST_GPUS = ("T4", "RTX 4090", "A100 SXM 80GB", "H100 SXM", "B200")
"""From slow to fast."""


def sizes() -> dict[str, Any]:
    """Name -> configuration, from 13 million to 70 billion weights, as published: all but GPT-2 have room for 2,048 tokens."""
    small = LlamaConfig(vocab_size=8192, context_length=CONTEXT, n_layers=6, n_heads=6, n_kv_heads=3, d_model=384)
    names = ("GPT-2 124M", "Llama 3.2 1B", "Llama 3.2 3B", "Llama 3.1 8B", "Llama 3.1 70B")
    return {"작은 Llama 13M": small} | {name: published_config(name) for name in names}


def memory_by_size(models: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Bytes for using a model (weights in three formats, cache of one row) and for training it in three ways.

    One row of 2,048 tokens, or of the whole context where that is shorter (GPT-2).  Training: AdamW in mixed precision; LoRA trains half a per cent of the weights.
    """
    rows = []
    for name, config in models.items():
        model = as_shapes(config)
        few, length = model.n_parameters() // 200, min(CONTEXT, config.context_length)
        rows.append({
            "name": name, "parameters": model.n_parameters(),
            "bfloat16": weight_bytes(model), "int8": weight_bytes(model, "int8"), "int4": weight_bytes(model, "int4"),
            "cache": cache_bytes(model, length),
            "full": training_memory(model, 1, length).total,
            "checkpointed": training_memory(model, 1, length, checkpointing=True).total,
            "lora": training_memory(model, 1, length, checkpointing=True, trainable=few).total,
        })  # fmt: skip
    return rows


def fits(n_bytes: float, gpu: str) -> bool:
    """Whether it goes into the GPU's memory with a tenth to spare for workspaces and gaps."""
    return n_bytes <= 0.9 * device_named(gpu).memory_bytes


def smallest_gpu(n_bytes: float, gpus: Sequence[str] = GPUS) -> str:
    """The first of the GPUs that it fits on; how many of the last where none is large enough."""
    found = next((gpu for gpu in gpus if fits(n_bytes, gpu)), None)
    if found:
        return found
    share = 0.9 * device_named(gpus[-1]).memory_bytes
    return f"{gpus[-1]} {int(-(-n_bytes // share))}장"


def training_hours(models: Mapping[str, Any], gpus: Sequence[str] = FAST_GPUS, utilisation: float = 0.4) -> list[dict[str, Any]]:
    """Operations and hours of one GPU to train each model on 20 tokens per weight, at a MFU of ``utilisation``.

    bfloat16 where the GPU has it, float16 on a T4.
    """
    rows = []
    for name, config in models.items():
        model = as_shapes(config)
        n_tokens = TOKENS_PER_WEIGHT * model.n_parameters()
        hours = {}
        for gpu in gpus:
            peaks = device_named(gpu).peaks
            run = training_run(model, n_tokens, peaks.get("bfloat16", peaks["float16"]), min(CONTEXT, config.context_length), mfu=utilisation)
            hours[gpu] = run.device_hours
        rows.append({"name": name, "parameters": model.n_parameters(), "tokens": n_tokens, "flops": run.flops,
                     "six_nd": run.rule_of_thumb, "hours": hours})  # fmt: skip
    return rows


def expected_loss(n_parameters: float, n_tokens: float) -> float:
    """Loss per token (nats) that Hoffmann et al. 2022 fitted to 400 models on English text (section 3.3, equation 10).

    Its shape is what matters here: a floor that no model passes, a term that falls with the weights, one that falls with
    the text.  The constants belong to their tokenizer and text.  Besiroglu et al. 2024 found others from the same data.
    """
    return 1.69 + 406.4 / n_parameters**0.34 + 410.7 / n_tokens**0.28


def human_hours(hours: float) -> str:
    """Hours in the unit that people would use: 0.02 -> "1분", 30 -> "30시간", 9000 -> "375일"."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f}초"
    if hours < 1:
        return f"{hours * 60:.0f}분"
    if hours < 48:
        return f"{hours:.0f}시간" if hours >= 10 else f"{hours:.1f}시간"
    days = hours / 24
    return f"{days:.0f}일" if days < 730 else f"{days / 365:,.0f}년"
