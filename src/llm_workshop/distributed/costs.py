"""What training by several processes costs, by the formulas (float32 weights and gradients, Adam's two moments)."""

from __future__ import annotations

#: Stage of ZeRO (Rajbhandari et al. 2020): what is shared out.
ZERO_STAGES = {0: "나누지 않음 (DDP)", 1: "ZeRO-1: 옵티마이저", 2: "ZeRO-2: + 기울기", 3: "ZeRO-3, FSDP: + 가중치"}
_FLOAT = 4


def held_bytes(parameters: int, processes: int, stage: int) -> float:
    """Bytes of weights, gradients and optimiser states that each process keeps between steps."""
    optimizer, gradients, weights = 2 * _FLOAT, _FLOAT, _FLOAT
    if stage >= 1:
        optimizer /= processes
    if stage >= 2:
        gradients /= processes
    if stage >= 3:
        weights /= processes
    return parameters * (optimizer + gradients + weights)


def sent_bytes(parameters: int, processes: int, method: str, gloo: bool = False) -> float:
    """Bytes that all processes together send in one step of the lab's ``method``.

    A reduce-scatter or an all-gather moves (n - 1) / n of a tensor out of each process; an all-reduce is both.  FSDP gathers
    the weights before the forward pass and again before the backward pass, and reduce-scatters the gradients.  ``gloo``: as
    that library does it (torch 2.13), whose reduce-scatter is an all-reduce of which each keeps its part.
    """
    rounds = {"alone": 0, "hand": 2, "ddp": 2, "fsdp": 4 if gloo else 3}
    return rounds[method] * (processes - 1) * parameters * _FLOAT
