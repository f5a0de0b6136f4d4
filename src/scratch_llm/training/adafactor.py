"""Adafactor (Shazeer & Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018).

Adam keeps two numbers for each weight.  Adafactor keeps none but the sums of the squared gradient over rows and over
columns: n + m numbers for a matrix of n x m, whose product stands for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from scratch_llm.training.by_parameter import ByParameter, part_like, whole


class Adafactor(ByParameter):
    """Adafactor without momentum.  For each matrix W (n, m) with gradient G, at step t = 1, 2, …:

        R <- beta R + (1 - beta) * mean of G^2 over each row       beta = 1 - t^-0.8; (n, 1)
        C <- beta C + (1 - beta) * mean of G^2 over each column    (1, m)
        V  = R C / mean(R)                                         rank one, with the rows' and columns' means of G^2
        U  = G / sqrt(V), scaled down to a root mean square of at most 1
        W <- W - lr * weight_decay * W - rms(W) * min(lr, 1 / sqrt(t)) * U

    Vectors keep all of V.  Steps are relative to the weight's own size (at least 0.001), so ``lr`` is larger than
    AdamW's: 0.01 is usual.  Equals ``torch.optim.Adafactor``.
    """

    def __init__(self, parameters: Iterable, lr: float = 1e-2, weight_decay: float = 0.0, decay_power: float = 0.8,
                 smallest_rms: float = 1e-3):
        if lr < 0 or weight_decay < 0 or smallest_rms < 0:
            raise ValueError(f"lr {lr}, weight_decay {weight_decay} and smallest_rms {smallest_rms} must not be negative")
        if not 0 < decay_power <= 1:
            raise ValueError(f"decay_power {decay_power} must be above 0 and at most 1; 0.8 is usual")
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "decay_power": decay_power,
                                      "smallest_rms": smallest_rms})

    def _update(self, w: Tensor, g: Tensor, group: dict) -> None:
        state = self.state[w]
        if w.dim() > 1:
            g = whole(g)  # a column's mean is over all rows; the means are small, and kept by every rank
        if not state:
            state["step"] = 0
            if w.dim() > 1:
                state["row_var"], state["col_var"] = g.new_zeros(*g.shape[:-1], 1), g.new_zeros(*g.shape[:-2], 1, g.shape[-1])
            else:
                state["variance"] = torch.zeros_like(g)
        state["step"] += 1
        t, lr = state["step"], group["lr"]
        size = max(group["smallest_rms"], _rms(w)) * min(lr, t**-0.5)

        w.mul_(1 - lr * group["weight_decay"])
        update = g * self._variance(state, g, t ** -group["decay_power"]).rsqrt_()
        w.add_(part_like(update, w), alpha=-size / max(1.0, _rms(update)))

    @staticmethod
    def _variance(state: dict, g: Tensor, share: float) -> Tensor:
        """The running mean of the squared gradient, the latest weighing ``share``; above 0."""
        eps = torch.finfo(g.dtype).eps
        if g.dim() < 2:
            return state["variance"].lerp_(g.square(), share).clamp(min=eps**2)
        for name in ("row_var", "col_var"):  # of a matrix with one row they have its shape, by which a checkpoint is shared out
            state[name] = whole(state[name])
        row = state["row_var"].lerp_(g.square().mean(-1, keepdim=True), share)
        column = state["col_var"].lerp_(g.square().mean(-2, keepdim=True), share)
        return (row @ column).div_(row.mean(-2, keepdim=True).clamp_(min=eps)).clamp_(min=eps**2)


def _rms(tensor: Tensor) -> float:
    return whole(tensor.norm()).item() / tensor.numel() ** 0.5
