"""The cost lab's measurement, and its longer tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llm_workshop.settings import Settings
from scratch_llm.analysis import (
    as_shapes,
    device_named,
    fastest_decoding,
    mfu,
    nominal_peak,
    six_n,
    training_memory,
    training_run,
)
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.training.matmul_peak import matmul_peak
from scratch_llm.training.precision import choose_dtype


@dataclass(frozen=True)
class Speed:
    """How fast a model is trained here."""

    config: LlamaConfig
    n_parameters: int
    dtype: torch.dtype
    reason: str
    """Why this dtype."""
    tokens_per_second: float


def training_speed(settings: Settings, device: str, steps: int = 12) -> Speed:
    """A Llama of ``settings.model`` takes a few steps on random tokens; the median counts, the first three warm up."""
    dtype, reason = choose_dtype(settings.pretrain.precision, device)
    shape = settings.model.model_dump(include={"context_length", "n_layers", "n_heads", "n_kv_heads", "d_model", "d_ff"})
    config = LlamaConfig(vocab_size=settings.tokenizer.vocab_size, **shape)
    model = build_model(config, seed=settings.seed).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(0, config.vocab_size, (settings.pretrain.batch_size, config.context_length + 1), device=device)
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = model(tokens[:, :-1], targets=tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    per_step = settings.pretrain.batch_size * config.context_length
    return Speed(config, model.n_parameters(), dtype, reason, per_step / statistics.median(seconds[3:]))


def mfu_rows(speed: Speed, device: str) -> list[dict[str, Any]]:
    """The same speed under several numerators and denominators, and which of them are right."""
    peak, config = matmul_peak(device, speed.dtype), speed.config

    def row(denominator: str, flops: float, verdict: str, numerator: str = "정확한 값", share: float | None = None) -> dict[str, Any]:
        share = mfu(config, speed.tokens_per_second, flops) if share is None else share
        return {"분자": numerator, "분모": denominator, "TFLOP/s": flops / 1e12, "MFU": f"{share:.1%}", "판정": verdict}

    rows = [
        row(f"잰 최고 속도, {str(speed.dtype).removeprefix('torch.')}", peak, "맞음"),
        row("같음", peak, "계산을 적게 셈", "6N (어텐션 빠짐)", speed.tokens_per_second * six_n(config) / peak),
    ]
    if speed.dtype != torch.float32:
        rows.append(row("잰 최고 속도, float32", matmul_peak(device, torch.float32), "계산한 형식의 속도가 아님"))
    if (nominal := nominal_peak(device, speed.dtype)) is not None:
        rows.append(row("제조사 표의 밀집 최고 속도", nominal, "맞음 (남과 비교할 때)"))
    return rows


def memory_rows(sizes: Mapping[str, Any], gpus: Sequence[str], context: int = 2048) -> list[dict[str, Any]]:
    """Training memory of each model (name -> configuration) in three ways, and on which GPUs it fits with a tenth to spare."""
    rows = []
    for name, config in sizes.items():
        model = as_shapes(config)
        ways = {
            "전체": training_memory(model, 1, context),
            "전체 + 체크포인팅": training_memory(model, 1, context, checkpointing=True),
            "LoRA + 체크포인팅": training_memory(model, 1, context, checkpointing=True, trainable=model.n_parameters() // 200),
        }
        for way, memory in ways.items():
            capacity = {gpu: device_named(gpu).memory_bytes for gpu in gpus}
            rows.append({
                "모델": name, "방법": way, "가중치+기울기+옵티마이저 (GB)": round((memory.total - memory.activations) / 1e9, 2),
                "활성값 (GB)": round(memory.activations / 1e9, 2), "합 (GB)": round(memory.total / 1e9, 1),
            } | {f"{gpu} ({size / 1e9:.0f})": "○" if memory.total < 0.9 * size else "×" for gpu, size in capacity.items()})
    return rows


def price_rows(plans: Iterable[tuple[Any, str, float, str]], gpu: str, price_per_hour: float) -> list[dict[str, Any]]:
    """Time and money of training; ``plans``: model, its name, tokens, and tokens in words."""
    rows = []
    for model, name, n_tokens, in_words in plans:
        context = min(8192, model.config.context_length)
        peak = device_named(gpu).peak(torch.bfloat16)
        run = training_run(model, n_tokens, peak, context, price_per_device_hour=price_per_hour)
        rows.append({
            "모델": name, "토큰": in_words, "정확한 FLOPs": f"{run.flops:.2e}", "6ND": f"{run.rule_of_thumb:.2e}",
            "GPU 시간": round(run.device_hours, 1), f"시간당 {price_per_hour}달러라면": f"{run.cost:,.0f}달러",
        })
    return rows


def decoding_rows(model: Any, gpus: Iterable[str], context: int = 2048) -> list[dict[str, Any]]:
    """The fastest possible generation on each GPU for three batch sizes, and what limits the largest."""
    rows = []
    for gpu in gpus:
        speeds = {batch: fastest_decoding(model, device_named(gpu), context, batch) for batch in (1, 8, 64)}
        rows.append(
            {"GPU": gpu, "대역폭 (TB/s)": device_named(gpu).bandwidth / 1e12}
            | {f"배치 {batch}": f"{speed:,.0f} 토큰/초" for batch, (speed, _) in speeds.items()}
            | {"배치 64의 벽": "메모리" if speeds[64][1] == "memory" else "계산"}
        )
    return rows
