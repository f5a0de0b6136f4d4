"""How good a language model is on held-out text, measured alike for our models and the libraries'."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llm_workshop.artifacts import Artifacts
from scratch_llm.data import TokenFile, Windows
from scratch_llm.quantization import QuantizedLinear, quantizable
from scratch_llm.quantization.model import norm_before

Batch = tuple[Tensor, Tensor]
"""Inputs and targets, int64 (B, T); -100 where nothing is to be predicted."""
Logits = Callable[[Tensor], Tensor]
"""Token ids (B, T) -> logits (B, T, V)."""

ROWS = 8


def text_batches(artifacts: Artifacts, split: str, n_tokens: int, context_length: int) -> list[Batch]:
    """About ``n_tokens`` of the run's "train" or "valid" tokens, or all there are, in windows of the context."""
    windows = Windows(
        TokenFile(artifacts.require("tokens") / split), context_length, ROWS, seed=artifacts.settings.seed
    )
    n_batches = min(windows.n_batches, max(1, round(n_tokens / (ROWS * context_length))))
    return [windows.batch(number) for number in range(n_batches)]


@torch.inference_mode()
def bits_per_byte(logits: Logits, batches: Sequence[Batch], token_bytes: np.ndarray) -> float:
    """Sum of nats / ln 2 / bytes of the targets, as in ``scratch_llm.training``; softmax in float32."""
    bytes_of = torch.as_tensor(np.asarray(token_bytes, dtype=np.int64))
    nats = n_bytes = 0.0
    for inputs, targets in batches:
        kept = targets != -100
        found = logits(inputs)
        for row, row_target, row_kept in zip(found, targets, kept):  # one row in float32 at a time
            nats += F.cross_entropy(row[row_kept].float(), row_target[row_kept], reduction="sum").item()
        n_bytes += bytes_of[targets[kept]].sum().item()
    if not n_bytes:
        raise ValueError("the validation tokens hold no text; build them again with 'make tokens FORCE=1'")
    return nats / math.log(2) / n_bytes


@torch.inference_mode()
def log_probabilities(logits: Logits, inputs: Tensor) -> Tensor:
    """(B, T, V) float32."""
    return logits(inputs).float().log_softmax(-1)


def divergence(base: Tensor, other: Tensor) -> float:
    """Mean over the places of KL(base || other) in nats, from log-probabilities (B, T, V): 0 if they agree."""
    return float((base.exp() * (base - other)).sum(-1).mean())


def weight_snr_db(original: Any, twin: Any) -> float | None:
    """10 log10 of signal / error over all quantised weights of ``twin``; None if it has none.

    Factors that were folded into a norm are taken out again, so that the weights mean the same inputs.
    """
    signal = noise = 0.0
    plain = dict(quantizable(original))
    for name, layer in twin.named_modules():
        if isinstance(layer, QuantizedLinear):
            truth = plain[name].weight.detach().double()
            error = layer.weight.double() / folded_scales(original, twin, name) - truth
            signal, noise = signal + float(truth.square().sum()), noise + float(error.square().sum())
    return None if not signal else math.inf if not noise else 10 * math.log10(signal / noise)


def folded_scales(original: Any, twin: Any, name: str) -> Tensor | float:
    """By what the inputs of layer ``name`` were divided in the norm before it, (D,); 1 without such a norm."""
    block, inside = ".".join(name.split(".")[:2]), ".".join(name.split(".")[2:])
    before, after = (norm_before(model.get_submodule(block), inside) for model in (original, twin))
    if before is None or torch.equal(before.weight, after.weight):
        return 1.0
    old, new = (getattr(norm, "scale", norm.weight).detach().double() for norm in (before, after))
    return torch.where(new == 0, 1.0, old / new)
