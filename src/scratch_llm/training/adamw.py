"""AdamW written out (Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2).

This is the version to read; it equals ``torch.optim.AdamW`` bit for bit in float32 (test_adamw.py), so
training runs torch's fused kernel, which does the same in one pass over memory instead of ten.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scratch_llm.training.by_parameter import ByParameter


class AdamW(ByParameter):
    """AdamW: Adam's step, with weight decay applied to the weights and not to the gradient.

    For each parameter w with gradient g, at step t = 1, 2, …:

        w <- w - lr * weight_decay * w          decay, outside the adaptive step
        m <- beta1 * m + (1 - beta1) * g        running mean of the gradient
        v <- beta2 * v + (1 - beta2) * g * g    running mean of its square
        w <- w - lr * m' / (sqrt(v') + eps)     m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)

    m and v begin at 0, so early means are too small; dividing by 1 - beta^t mends that (Kingma & Ba,
    "Adam", 2015, section 3).  ``parameters`` may be groups with their own ``lr`` and ``weight_decay``.
    """

    def __init__(self, parameters: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.01):
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise ValueError(f"lr {lr}, eps {eps} and weight_decay {weight_decay} must not be negative")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas {betas} must be at least 0 and below 1; (0.9, 0.95) is usual")
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, w: torch.Tensor, g: torch.Tensor, group: dict) -> None:
        state = self.state[w]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(w)  # m
            state["exp_avg_sq"] = torch.zeros_like(w)  # v
        state["step"] += 1
        t, m, v = state["step"], state["exp_avg"], state["exp_avg_sq"]
        lr, (beta1, beta2) = group["lr"], group["betas"]

        w.mul_(1 - lr * group["weight_decay"])
        m.lerp_(g, 1 - beta1)  # m + (1 - beta1) * (g - m), the same as the formula above
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        denominator = (v.sqrt() / (1 - beta2**t) ** 0.5).add_(group["eps"])
        w.addcdiv_(m, denominator, value=-lr / (1 - beta1**t))


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """Decay matrices, not vectors: norm gains and biases have no scale to keep small.

    Nor are weights decayed whose last name a model lists in ``no_decay`` (such as the logarithms of decay rates).
    Returns two groups for an optimiser; a parameter shared by two modules (tied embeddings) comes once.
    """
    exempt = getattr(model, "no_decay", ())
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.dim() < 2 or name.rsplit(".", 1)[-1] in exempt
            (others if plain else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
