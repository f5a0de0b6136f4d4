"""Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024).

The gradient of a matrix is usually dominated by a few directions.  Muon takes the momentum M = U S V^T and steps along
U V^T: every direction counts the same.  No singular value decomposition is needed, five products of matrices do (Newton
and Schulz).  What is no matrix between hidden states (embeddings, the output layer, gains, biases) is left to AdamW.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scratch_llm.training.by_parameter import ByParameter, part_like, whole

# p(x) = a x + b x^3 + c x^5, iterated, brings singular values from (0, 1] to 0.7 ... 1.2: a large slope at 0 counts for
# more than to meet 1 exactly.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_EPS = 1e-7


def orthogonalize(matrix: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """About U V^T of the matrix U S V^T, (n, m) -> (n, m) or a stack of them (k, n, m), computed in ``dtype``.

    Singular values come out between 0.7 and 1.2 but for those below a thousandth of the largest or so, which five
    iterations do not lift as far.
    """
    a, b, c = _COEFFICIENTS
    x = matrix.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:  # the smaller of the two Gram matrices
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=_EPS)  # Frobenius: no singular value is above 1
    add_product = torch.addmm if x.dim() == 2 else torch.baddbmm  # (y, p, q) -> beta y + alpha p q, in one pass
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = add_product(x, add_product(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # a x + (b g + c g g) x
    return x.mT if tall else x


class Muon(ByParameter):
    """Muon for groups that say ``muon=True``, AdamW for the others.

    For each matrix W (n, m) with gradient G:

        M <- momentum * M + (1 - momentum) * G
        O <- orthogonalize(momentum * M + (1 - momentum) * G)      Nesterov: one look ahead
        W <- W - lr * weight_decay * W - lr * 0.2 * sqrt(max(n, m)) * O

    0.2 sqrt(max(n, m)) gives the step the root mean square of AdamW's, so that both take one learning rate and one weight
    decay (Liu et al., "Muon is Scalable for LLM Training", 2025).  Stacks of matrices (k, n, m), such as experts', are
    orthogonalised one by one.  Under FSDP every rank does so for the whole matrix and keeps its rows.  ``dtype`` is that of
    the iteration; equals ``torch.optim.Muon`` with
    ``adjust_lr_fn="match_rms_adamw"`` in bfloat16, and torch's AdamW.
    """

    def __init__(self, groups: Sequence[dict], lr: float = 1e-3, momentum: float = 0.95,
                 betas: tuple[float, float] = (0.9, 0.95), weight_decay: float = 0.1, dtype: torch.dtype = torch.bfloat16):
        if lr < 0 or weight_decay < 0 or not 0 <= momentum < 1:
            raise ValueError(f"lr {lr} and weight_decay {weight_decay} must not be negative, momentum {momentum} in [0, 1)")
        for group in groups:
            if group["muon"] and any(parameter.dim() < 2 for parameter in group["params"]):
                raise ValueError("Muon takes matrices; give vectors a group with muon=False")
        matrices = [{"momentum": momentum, **group} for group in groups if group["muon"]]
        others = [group for group in groups if not group["muon"]]
        self.dtype = dtype
        # AdamW computes with this optimiser's groups and state, so that there is one state to save.
        self._adamw = torch.optim.AdamW(others, lr=lr, betas=betas, weight_decay=weight_decay, fused=True) if others else None
        super().__init__(matrices + (self._adamw.param_groups if others else []), {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """Update every parameter that has a gradient; returns ``closure()`` where one is given."""
        loss = super().step(closure)
        if self._adamw is not None:
            # Loading a checkpoint makes new groups and a new state: they are handed over at each step.
            self._adamw.param_groups = [group for group in self.param_groups if not group["muon"]]
            self._adamw.state = self.state
            self._adamw.step()
        return loss

    def _update(self, w: Tensor, g: Tensor, group: dict) -> None:
        if not group["muon"]:
            return
        momentum, lr = group["momentum"], group["lr"]
        state = self.state[w]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(w)
        buffer = state["momentum_buffer"]
        buffer.lerp_(g, 1 - momentum)
        direction = part_like(orthogonalize(whole(g.lerp(buffer, momentum)), self.dtype), w)
        w.mul_(1 - lr * group["weight_decay"])
        w.add_(direction, alpha=-lr * 0.2 * max(w.shape[-2:]) ** 0.5)


def muon_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Groups for ``Muon``: hidden matrices; tables and output layers, decayed by AdamW; the rest, not decayed."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    tables |= {id(module.weight) for name, module in model.named_modules()
               if name.rsplit(".", 1)[-1] in ("lm_head", "head") and getattr(module, "weight", None) is not None}
    exempt = getattr(model, "no_decay", ())
    matrices, decayed, others = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.dim() < 2 or name.rsplit(".", 1)[-1] in exempt:
            others.append(parameter)
        elif id(parameter) in tables or min(parameter.shape[-2:]) == 1:  # a convolution's filters are rows, not matrices
            decayed.append(parameter)
        else:
            matrices.append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay, "muon": True},
              {"params": decayed, "weight_decay": weight_decay, "muon": False},
              {"params": others, "weight_decay": 0.0, "muon": False}]
    return [group for group in groups if group["params"]]
