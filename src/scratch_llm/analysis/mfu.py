"""How much of a device's ability a run uses, and what a run costs in time and money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from scratch_llm.analysis.devices import Device
from scratch_llm.analysis.flops import decode_flops, six_n
from scratch_llm.analysis.memory import cache_bytes
from scratch_llm.analysis.parameters import count_parameters
from scratch_llm.analysis.shapes import as_shapes
from scratch_llm.models import LanguageModel


def mfu(
    model_or_config: LanguageModel | Any,
    tokens_per_second: float,
    peak_flops: float,
    context_length: int | None = None,
    *,
    n_devices: int = 1,
) -> float:
    """Model FLOPs utilisation of a training run (Chowdhery et al. 2022, appendix B): what the model needs per second
    over what the devices can do.  ``tokens_per_second`` is of all devices, ``peak_flops`` dense, of one, in the format
    that the products run in."""
    _check_positive(tokens_per_second=tokens_per_second, peak_flops=peak_flops, n_devices=n_devices)
    needed = as_shapes(model_or_config).flops_per_token(context_length, training=True)
    return tokens_per_second * needed / (peak_flops * n_devices)


def decode_bytes(
    model_or_config: LanguageModel | Any,
    length: int,
    batch_size: int = 1,
    dtype: torch.dtype = torch.bfloat16,
) -> int:
    """Bytes that a decoding step must read: every matrix once for the whole batch, and the cache of every row.

    ``length`` tokens are in the cache.  Of an embedding table that is only looked up a step reads one row, which is left
    out.  A mixture of experts reads the experts of one token per row; rows that share an expert read less.
    """
    model, parts = as_shapes(model_or_config), count_parameters(model_or_config)
    experts = sum(part.total for part in parts if part.total != part.active)
    visited = sum(part.active for part in parts if part.total != part.active)
    # Without the tables that are only looked up.
    others = model.n_parameters(embeddings=False) - experts
    weights = others + min(batch_size * visited, experts)
    return weights * dtype.itemsize + cache_bytes(model, length, batch_size, dtype)


def mbu(
    model_or_config: LanguageModel | Any,
    tokens_per_second: float,
    bandwidth: float,
    length: int,
    batch_size: int = 1,
    dtype: torch.dtype = torch.bfloat16,
) -> float:
    """Memory bandwidth utilisation of decoding: bytes that must be read per second over what the memory can give.

    ``tokens_per_second`` is of all rows together, so there are ``tokens_per_second / batch_size`` steps per second.
    """
    _check_positive(tokens_per_second=tokens_per_second, bandwidth=bandwidth)
    steps_per_second = tokens_per_second / batch_size
    return decode_bytes(model_or_config, length, batch_size, dtype) * steps_per_second / bandwidth


def fastest_decoding(
    model_or_config: LanguageModel | Any,
    device: Device,
    length: int,
    batch_size: int = 1,
    dtype: torch.dtype = torch.bfloat16,
) -> tuple[float, str]:
    """Tokens per second (all rows) that no program can exceed on a device, and which limit it is: "memory" or "compute"."""
    model = as_shapes(model_or_config)
    reading = decode_bytes(model, length, batch_size, dtype) / device.bandwidth
    computing = batch_size * decode_flops(model, length) / device.peak(dtype)
    return batch_size / max(reading, computing), "memory" if reading >= computing else "compute"


@dataclass(frozen=True)
class TrainingRun:
    """What training costs.  ``flops`` counts attention; ``rule_of_thumb`` is 6 N D without it."""

    flops: float
    rule_of_thumb: float
    seconds: float
    device_hours: float
    cost: float | None


def training_run(
    model_or_config: LanguageModel | Any,
    n_tokens: float,
    peak_flops: float,
    context_length: int | None = None,
    *,
    mfu: float = 0.4,
    n_devices: int = 1,
    price_per_device_hour: float | None = None,
) -> TrainingRun:
    """Time and price of training on ``n_tokens`` tokens.

    ``mfu`` 0.4 is what well-run training reaches (Llama 3 405B: 38 to 43 %, Grattafiori et al. 2024, table 4).
    """
    _check_positive(n_tokens=n_tokens, peak_flops=peak_flops, n_devices=n_devices)
    if not 0 < mfu <= 1:
        raise ValueError(f"mfu is {mfu}: it is a share, above 0 and at most 1")
    model = as_shapes(model_or_config)
    flops = float(n_tokens) * model.flops_per_token(context_length, training=True)
    seconds = flops / (mfu * peak_flops * n_devices)
    hours = seconds * n_devices / 3600
    cost = None if price_per_device_hour is None else hours * price_per_device_hour
    return TrainingRun(flops, float(n_tokens) * six_n(model), seconds, hours, cost)


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value!r}: it must be above 0")
