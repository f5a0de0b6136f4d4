"""Every implementation of multi-head attention with the same weights: do they agree, and what does each cost?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from llm_workshop.timing import fastest_seconds
from scratch_llm.analysis import saved_bytes
from scratch_llm.layers.multi_head import MultiHead, copy_weights
from scratch_llm.layers.multi_head_kernels import MULTI_HEAD_VARIANTS

KOREAN = {
    "stacked heads": "머리를 하나씩 쌓기",
    "split weights": "q·k·v 행렬 셋을 머리로 나누기",
    "combined QKV": "행렬 하나로 q·k·v 한꺼번에",
    "einsum": "einsum으로 적기",
    "additive mask": "마스크를 더하며 곱하기(baddbmm)",
    "SDPA, no flash": "SDPA, 점수표를 만드는 방식",
    "SDPA, mask tensor": "SDPA에 마스크를 텐서로",
    "SDPA, is_causal": "SDPA에 is_causal=True",
    "FlexAttention": "FlexAttention (마스크가 함수)",
    "nn.MultiheadAttention, weights": "nn.MultiheadAttention, 무게도 받기",
    "nn.MultiheadAttention": "nn.MultiheadAttention",
    "workshop": "우리 모델의 층(GroupedQueryAttention)",
}
"""Name in ``MULTI_HEAD_VARIANTS`` -> name in tables and plots."""
ROUNDS = 20


@dataclass(frozen=True)
class Difference:
    """How far an implementation is from the first one."""

    output: float
    """Largest difference of the outputs."""
    gradient: float | None
    """Largest difference of the gradients, as a share of the largest gradient; None: it cannot be trained here."""


@dataclass(frozen=True)
class Cost:
    """What one call takes; None where the implementation cannot be trained here."""

    forward_ms: float
    training_ms: float | None
    saved_mb: float | None
    """Memory that the forward pass keeps for the backward pass (10^6 bytes)."""


def family(d_model: int, n_heads: int, length: int, skip: Collection[str] = ()) -> dict[str, MultiHead]:
    """All implementations but those of ``skip``, with equal weights."""
    layers = {name: kind(d_model, n_heads, length) for name, kind in MULTI_HEAD_VARIANTS.items() if name not in skip}
    first = next(iter(layers.values()))
    for layer in layers.values():
        copy_weights(first, layer)
    return layers


def differences(layers: dict[str, MultiHead], sample_BTD: Tensor) -> dict[str, Difference]:
    """Each layer against the first: outputs, and gradients of the inputs and of the q, k and v matrices."""
    answers = {name: _answer_and_gradient(layer, sample_BTD) for name, layer in layers.items()}
    expected, expected_gradient = next(iter(answers.values()))
    scale = expected_gradient.abs().max()
    return {
        name: Difference(
            (y - expected).abs().max().item(),
            None if gradient is None else ((gradient - expected_gradient).abs().max() / scale).item(),
        )
        for name, (y, gradient) in answers.items()
    }


def costs(layers: dict[str, MultiHead], sample_BTD: Tensor, budget: float) -> dict[str, Cost]:
    """Time and memory of each layer; the layers take turns, and the fastest call counts.

    ``budget``: about so many seconds for the forward passes, and as many for the training steps.
    """
    sample = sample_BTD.clone().requires_grad_()
    trainable = {name: layer for name, layer in layers.items() if not layer.cannot_run(sample)}
    forward = fastest_seconds({n: partial(_forward, layer, sample) for n, layer in layers.items()}, ROUNDS, budget)
    training = fastest_seconds({n: partial(_training_step, layer, sample) for n, layer in trainable.items()}, ROUNDS, budget)
    return {
        name: Cost(
            1e3 * forward[name],
            1e3 * training[name] if name in trainable else None,
            saved_bytes(layer, sample) / 1e6 if name in trainable else None,
        )
        for name, layer in layers.items()
    }


def cost_rows(measured: Mapping[int, Mapping[str, Cost]]) -> list[dict[str, Any]]:
    """A table row per implementation; ``measured``: length -> name -> cost."""
    return [
        {"구현": KOREAN[name]} | {
            f"{title} (T={length})": value and round(value, digits)
            for length, by_name in measured.items()
            for title, value, digits in (
                ("순전파 ms", by_name[name].forward_ms, 2), ("학습 ms", by_name[name].training_ms, 2), ("간직 MB", by_name[name].saved_mb, 1),
            )
        }
        for name in next(iter(measured.values()))
    ]


def growth_rows(short: Mapping[str, Cost], long: Mapping[str, Cost]) -> list[dict[str, str]]:
    """How many times as much a training step takes at the longer length; those that cannot be trained are left out."""
    return [
        {"구현": KOREAN[name], "학습 시간": f"{cost.training_ms / short[name].training_ms:.1f}배",
         "간직하는 메모리": f"{cost.saved_mb / short[name].saved_mb:.1f}배"}
        for name, cost in long.items()
        if cost.training_ms is not None
    ]


def _forward(layer: MultiHead, sample: Tensor) -> None:
    with torch.no_grad():
        layer(sample)


def _training_step(layer: MultiHead, sample: Tensor) -> None:
    layer.zero_grad()
    layer(sample).sum().backward()


def _answer_and_gradient(layer: MultiHead, sample: Tensor) -> tuple[Tensor, Tensor | None]:
    with torch.no_grad():
        y = layer(sample)
    inputs = sample.clone().requires_grad_()
    if layer.cannot_run(inputs):
        return y, None
    layer.zero_grad()
    layer(inputs).square().sum().backward()
    return y, torch.cat([inputs.grad.flatten(), layer.read(of=lambda parameter: parameter.grad).qkv.flatten()])
