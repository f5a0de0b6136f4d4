"""Rows of week 6's tables, in Korean."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from llm_workshop.finetuning.compare_plots import PARTS
from scratch_llm.models import LanguageModel, build_model, llama_preset
from scratch_llm.peft import LoRAConfig, TrainingMemory, inject, quantize_base, training_memory

GIB, MIB = 2**30, 2**20


def memory_at_scale(config: Any = None, context_length: int = 512, rank: int = 16) -> list[dict[str, Any]]:
    """What a step on one text takes on a model too large for this machine (Llama 3.1 8B by default), in GiB.

    Counted on shapes, with fused kernels and activations in bfloat16.  All weights learn in float32; a frozen base is in
    bfloat16 or in four bits, and adapters are in float32.
    """
    config = config or llama_preset("3.1-8b")
    rows = []
    for title in ("모두", *_FROZEN):
        # Blocks are all alike, so that two of them tell of any number: memory grows by the same with each.
        one, two = (_memory_of_depth(dataclasses.replace(config, n_layers=n), title, context_length, rank) for n in (1, 2))
        parts = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
        more = {name: (config.n_layers - 1) * (getattr(two, name) - value) for name, value in parts.items()}
        rows.append(_row(title, TrainingMemory(**{name: value + more[name] for name, value in parts.items()}), GIB))
    return rows


def _memory_of_depth(config: Any, title: str, context_length: int, rank: int) -> TrainingMemory:
    with torch.device("meta"):
        model, tokens = build_model(config).bfloat16(), torch.zeros(1, context_length, dtype=torch.long)
        if title in _FROZEN:
            _FROZEN[title](model, rank)
            return training_memory(model, tokens)
        return dataclasses.replace(training_memory(build_model(config)), activations=training_memory(model, tokens).activations)


def _inject(model: LanguageModel, rank: int, **options: bool) -> None:
    inject(model, LoRAConfig(rank=rank, targets="all-linear", **options))


_FROZEN: dict[str, Callable[[LanguageModel, int], None]] = {
    "LoRA": _inject,
    "DoRA": lambda model, rank: _inject(model, rank, dora=True),
    "QLoRA": lambda model, rank: _inject(quantize_base(model), rank),
}


def memory_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of ``Comparison.compare``: each method's memory by part, foretold, and the highest that was measured, in MiB."""
    return [
        _row(row["title"], TrainingMemory(**row["cost"]["counted"]), MIB) | {"잰 최고치": round(row["cost"]["measured"]["peak"] / MIB, 2)}
        for row in rows
    ]


def plus_minus(mean: float, spread: float | None, form: str = ".1%") -> str:
    """``mean ± spread``; the mean alone where one seed tells of no spread."""
    return f"{mean:{form}}" if spread is None else f"{mean:{form}} ± {spread:{form}}"


def result_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of ``Comparison.compare``: quality with its spread, what learns, and the price."""
    return [
        {
            "방법": row["title"],
            "배우는 파라미터": row["trainable"],
            "학습률": f"{row['learning_rate']:g}",
            "정확도": plus_minus(row["accuracy"], row["accuracy_spread"]),
            "매크로 F1": plus_minus(row["macro_f1"], row["macro_f1_spread"], ".3f"),
            "한 걸음 (ms)": round(1000 * row["cost"]["measured"]["seconds"], 1),
            "최고 메모리 (MiB)": round(row["cost"]["measured"]["peak"] / MIB, 1),
        }
        for row in rows
    ]


def _row(title: str, memory: TrainingMemory, unit: int) -> dict[str, Any]:
    parts = {name: round(getattr(memory, part) / unit, 2) for part, name in PARTS.items()}
    return {"방법": title, **parts, "합계": round(memory.total / unit, 2)}
