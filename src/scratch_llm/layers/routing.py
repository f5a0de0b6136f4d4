"""Which experts a token visits, and how the visits are kept in balance.

Shape suffixes beside those of the package: N tokens (batch and time flattened), E experts, k experts per token.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Routing(NamedTuple):
    """What a router decides for N tokens."""

    weights_Nk: Tensor
    """How much of each visited expert's output a token takes."""
    experts_Nk: Tensor
    """The experts visited, int64, all different within a row."""
    logits_NE: Tensor
    """The router's scores before softmax or sigmoid."""


class SoftmaxRouter(nn.Module):
    """The k likeliest experts of a softmax over all (Shazeer et al. 2017, section 2.1; Fedus et al. 2021, eq. 1).

    With ``renormalise`` the k probabilities are divided by their sum (Qwen3, Mixtral).
    """

    def __init__(self, d_model: int, n_experts: int, top_k: int, *, renormalise: bool = True):
        super().__init__()
        check_top_k(top_k, n_experts)
        self.n_experts, self.top_k, self.renormalise = n_experts, top_k, renormalise
        self.gate = nn.Linear(d_model, n_experts, bias=False)

    def forward(self, x_ND: Tensor) -> Routing:
        """(N, D) -> weights (N, k) in the dtype of the logits, the softmax itself in float32."""
        logits_NE = self.gate(x_ND)
        probabilities_NE = torch.softmax(logits_NE, dim=-1, dtype=torch.float32)
        weights_Nk, experts_Nk = probabilities_NE.topk(self.top_k, dim=-1)
        if self.renormalise:
            weights_Nk = weights_Nk / weights_Nk.sum(dim=-1, keepdim=True)
        return Routing(weights_Nk.to(logits_NE.dtype), experts_Nk, logits_NE)

    def packed(self, n_rows: int) -> SoftmaxRouter:
        """For decoding: the k largest logits first, as a softmax over them is the renormalised one over all."""
        from scratch_llm.generation.packing import linear

        twin = copy.copy(self)
        twin._modules = {"gate": linear(self.gate.weight, None, n_rows, exact=True)}
        if self.renormalise:
            object.__setattr__(twin, "forward", lambda x_ND: _route_by_logits(twin.gate(x_ND), self.top_k))
        return twin


def _route_by_logits(logits_NE: Tensor, top_k: int) -> Routing:
    largest_Nk, experts_Nk = logits_NE.topk(top_k, dim=-1)
    weights_Nk = torch.softmax(largest_Nk, dim=-1, dtype=torch.float32)
    return Routing(weights_Nk.to(logits_NE.dtype), experts_Nk, logits_NE)


class SigmoidRouter(nn.Module):
    """DeepSeek-V3's router (2024, section 2.1.2, eq. 12 to 16): independent gates, balanced by a bias.

    Each expert has an affinity sigmoid(logit).  The choice is made by affinity + bias, where the bias is no weight
    but is raised for experts with too little to do (``update_bias``); what the visited expert's output is multiplied
    by is the affinity alone, so the bias does not disturb the gradient.  Choosing is limited to the
    ``n_groups_per_token`` groups of experts whose two best add up to most (a group shares a machine).

    Attributes:
        bias: float32 (E,), saved with the weights.
        loads: tokens each expert has had since the last ``update_bias``, float32 (E,); not saved.
    """

    counts = ("loads",)  # summed over the processes that train together (``training.ranks``)

    def __init__(
        self,
        d_model: int,
        n_experts: int,
        top_k: int,
        *,
        n_groups: int = 1,
        n_groups_per_token: int = 1,
        renormalise: bool = True,
        scale: float = 1.0,
    ):
        """``renormalise``: the k affinities are divided by their sum.  ``scale``: they are multiplied by it then."""
        super().__init__()
        check_groups(n_experts, top_k, n_groups, n_groups_per_token)
        self.n_experts, self.top_k = n_experts, top_k
        self.n_groups, self.n_groups_per_token = n_groups, n_groups_per_token
        self.renormalise, self.scale = renormalise, scale
        self.gate = nn.Linear(d_model, n_experts, bias=False)
        self.register_buffer("bias", torch.zeros(n_experts))
        self.register_buffer("loads", torch.zeros(n_experts), persistent=False)

    def forward(self, x_ND: Tensor) -> Routing:
        """(N, D) -> weights (N, k), all in float32 whatever the model's dtype."""
        logits_NE = self._logits(x_ND)
        affinities_NE = logits_NE.sigmoid()
        experts_Nk = self._choose(affinities_NE.detach() + self.bias)
        weights_Nk = affinities_NE.gather(1, experts_Nk)
        if self.renormalise:
            # The small number is the reference implementation's; it keeps 0 / 0 from happening.
            weights_Nk = weights_Nk / (weights_Nk.sum(dim=-1, keepdim=True) + 1e-20)
        return Routing(weights_Nk * self.scale, experts_Nk, logits_NE)

    def _logits(self, x_ND: Tensor) -> Tensor:
        return F.linear(x_ND.float(), self.gate.weight.float())

    def _choose(self, scores_NE: Tensor) -> Tensor:
        """The k experts of the best groups with the highest scores, (N, k)."""
        if self.n_groups_per_token < self.n_groups:
            scores_NGe = scores_NE.unflatten(-1, (self.n_groups, -1))
            group_scores_NG = scores_NGe.topk(2, dim=-1).values.sum(dim=-1)
            best_NG = group_scores_NG.topk(self.n_groups_per_token, dim=-1).indices
            closed_NG = torch.ones_like(group_scores_NG, dtype=torch.bool).scatter_(1, best_NG, False)
            scores_NE = scores_NGe.masked_fill(closed_NG[..., None], float("-inf")).flatten(1)
        return scores_NE.topk(self.top_k, dim=-1).indices

    def count(self, routing: Routing, real_N: Tensor | None) -> None:
        """Add the visits of one forward pass to ``loads``."""
        self.loads += expert_loads([routing], real_N)

    def update_bias(self, rate: float = 0.001) -> None:
        """Raise the bias of experts below the average load by ``rate``, lower that of those above, and forget the loads.

        Call it after each optimiser step (Wang et al. 2024, "Auxiliary-Loss-Free Load Balancing", algorithm 1).
        """
        self.bias += rate * torch.sign(self.loads.mean() - self.loads)
        self.loads.zero_()

    def packed(self, n_rows: int) -> SigmoidRouter:
        """The same, with the float32 copy of its matrix made once; the bias is this one's."""
        from scratch_llm.generation.packing import linear

        twin = copy.copy(self)
        gate = linear(self.gate.weight.float(), None, n_rows, exact=True)
        object.__setattr__(twin, "_logits", lambda x_ND: gate(x_ND.float()))
        return twin

    def _apply(self, fn, recurse: bool = True):
        """A change of the model's dtype leaves bias and loads in float32: bfloat16 would swallow their small steps."""
        kept = {name: getattr(self, name) for name in ("bias", "loads")}
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            moved = getattr(self, name)
            if moved.dtype != torch.float32:
                setattr(self, name, buffer.to(moved.device))
        return self


# -- balance --------------------------------------------------------------------------------------------------------


def expert_loads(routings: Sequence[Routing], real_N: Tensor | None = None) -> Tensor:
    """How many tokens each expert had in all layers together, float32 (E,).

    ``real_N`` bool (N,): True at tokens to count, the same for each layer; None: all.
    """
    loads_E = torch.zeros(routings[0].logits_NE.shape[-1], device=routings[0].logits_NE.device)
    for routing in routings:
        experts_Nk = routing.experts_Nk
        ones_Nk = torch.ones_like(experts_Nk, dtype=torch.float32)
        if real_N is not None:
            ones_Nk = ones_Nk * real_N[:, None]
        loads_E.scatter_add_(0, experts_Nk.flatten(), ones_Nk.flatten())
    return loads_E


def load_balancing_loss(routings: Sequence[Routing], real_N: Tensor | None = None) -> Tensor:
    """``E * sum_e f_e P_e`` (Fedus et al. 2021, Switch Transformer, eq. 4 to 6; Lepikhin et al. 2020 for k > 1).

    f_e is how many times per token expert e is visited (k in sum) and P_e its mean softmax probability, both over the
    tokens of all layers together.  It is k when all experts are equally loaded, and larger where the load is where the
    probability is.  The gradient flows through P only.

    Args:
        routings: of each layer with experts, over the same N tokens.
        real_N: bool (N,), False at padding, which is left out; None: all real.
    """
    n_tokens = len(routings) * (len(routings[0].logits_NE) if real_N is None else real_N.sum())
    probability_E: Tensor | float = 0.0
    for routing in routings:
        probabilities_NE = torch.softmax(routing.logits_NE, dim=-1, dtype=torch.float32)
        if real_N is not None:
            probabilities_NE = probabilities_NE * real_N[:, None]
        probability_E = probability_E + probabilities_NE.sum(dim=0)
    loads_E = expert_loads(routings, real_N)
    return len(loads_E) * (loads_E / n_tokens * (probability_E / n_tokens)).sum()


# -- checks ---------------------------------------------------------------------------------------------------------


def check_top_k(top_k: int, n_experts: int) -> None:
    """ValueError where a token would visit no expert, or more than there are."""
    if not 1 <= top_k <= n_experts:
        raise ValueError(f"n_experts_per_token is {top_k}: it must be from 1 to n_experts, {n_experts}")


def check_groups(n_experts: int, top_k: int, n_groups: int, n_groups_per_token: int) -> None:
    """ValueError where experts cannot be chosen from groups."""
    check_top_k(top_k, n_experts)
    if n_groups < 1 or n_experts % n_groups:
        raise ValueError(f"n_groups is {n_groups}: it must divide n_experts, {n_experts}")
    if not 1 <= n_groups_per_token <= n_groups:
        raise ValueError(
            f"n_groups_per_token is {n_groups_per_token}: it must be from 1 to n_groups, {n_groups}"
        )
    size = n_experts // n_groups
    if size < 2:
        raise ValueError(
            f"n_groups is {n_groups} of {n_experts} experts: a group is judged by its best two, so choose at most {n_experts // 2}"
        )
    if top_k > n_groups_per_token * size:
        raise ValueError(
            f"n_experts_per_token is {top_k}: the {n_groups_per_token} groups of a token (n_groups_per_token) "
            f"have only {n_groups_per_token * size} experts"
        )
