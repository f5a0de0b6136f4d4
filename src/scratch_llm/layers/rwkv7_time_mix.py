"""RWKV-7's two layers (Peng et al. 2025, section 4): time mixing around ``wkv7``, and channel mixing."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.rwkv_time_mix import State, mixtures
from scratch_llm.layers.state_cache import read_state, write_state
from scratch_llm.layers.token_shift import Padding, previous_tokens
from scratch_llm.layers.wkv7 import wkv7

LOG_DECAY = -math.exp(-0.5)
"""The fastest decay's logarithm."""


class LowRank(nn.Module):
    """``bias + up(f(down(x)))`` through a narrow middle (the paper's "loramlp")."""

    def __init__(self, d_model: int, rank: int, activation=None, bias: bool = True):
        super().__init__()
        self.down = nn.Linear(d_model, rank, bias=False)
        self.up = nn.Linear(rank, d_model, bias=False)
        self.activation = activation
        self.bias_11D = nn.Parameter(torch.zeros(1, 1, d_model)) if bias else None

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        hidden = self.down(x_BTD)
        y_BTD = self.up(hidden if self.activation is None else self.activation(hidden))
        return y_BTD if self.bias_11D is None else y_BTD + self.bias_11D.to(y_BTD.dtype)


class HeadNorm(nn.Module):
    """LayerNorm over each head on its own, with a weight and a bias per channel (group norm, Wu and He 2018)."""

    def __init__(self, d_model: int, n_heads: int, eps: float):
        super().__init__()
        self.n_heads, self.eps = n_heads, eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        weight, bias = self.weight.to(x_BTD.dtype), self.bias.to(x_BTD.dtype)
        return F.group_norm(x_BTD.flatten(0, 1), self.n_heads, weight, bias, self.eps).view_as(x_BTD)


class TimeMix7(nn.Module):
    """Time mixing of RWKV-7.  Six mixes of token and token before give r, w, k, v, a and g; unlike in
    RWKV-4, ``mix_61D`` holds the shares of the token before.

    The first layer's values go to all others, which mix them into theirs (``first_value``; Zhou et al. 2024).
    """

    def __init__(
        self, d_model: int, n_heads: int, ranks: tuple[int, int, int, int], norm_eps: float, first: bool
    ):
        """``ranks``: of decay, rate, value and gate.  ``first``: the layer whose values the others see."""
        super().__init__()
        decay_rank, rate_rank, value_rank, gate_rank = ranks
        self.n_heads = n_heads
        self.mix_61D = nn.Parameter(torch.full((6, 1, d_model), 0.5))
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.decay = LowRank(d_model, decay_rank, torch.tanh)
        self.rate = LowRank(d_model, rate_rank)
        self.value_mix = None if first else LowRank(d_model, value_rank)
        self.gate = LowRank(d_model, gate_rank, torch.sigmoid, bias=False)
        self.removed_11D = nn.Parameter(torch.ones(1, 1, d_model))
        self.key_rate_11D = nn.Parameter(torch.ones(1, 1, d_model))
        self.bonus_Hd = nn.Parameter(torch.zeros(n_heads, d_model // n_heads))
        self.norm = HeadNorm(d_model, n_heads, norm_eps)

    def forward(
        self, x_BTD: Tensor, first_value_BTD: Tensor | None, state: State, padding: Padding | None
    ) -> tuple[Tensor, Tensor]:
        """(B, T, D) -> (B, T, D), and the first layer's values.

        ``state``: ``time_shift`` (B, D), ``memory`` (B, H, d, d) as in ``wkv7``.
        """
        previous_BTD = previous_tokens(x_BTD, state["time_shift"], padding)
        for_r, for_w, for_k, for_v, for_a, for_g = mixtures(x_BTD, previous_BTD, self.mix_61D)
        r, k, v = self.receptance(for_r), self.key(for_k), self.value(for_v)
        if self.value_mix is None:
            first_value_BTD = v
        else:
            v = torch.lerp(v, first_value_BTD, torch.sigmoid(self.value_mix(for_v)))
        rate = torch.sigmoid(self.rate(for_a))
        # w = exp(-exp(-1/2) sigmoid(...)): between 0.545 and 1, so that no chunk of decays underflows.
        log_decay = torch.sigmoid(self.decay(for_w).float()) * LOG_DECAY
        removed = F.normalize(self._heads(k * self.removed_11D.to(k.dtype)), dim=-1)
        k = k * (1 + (rate - 1) * self.key_rate_11D.to(k.dtype))

        r, k, v, rate, log_decay = (self._heads(x) for x in (r, k, v, rate, log_decay))
        y, memory = wkv7(
            r, log_decay, k, v, removed, rate, read_state(state["memory"]),
            None if padding is None else padding.real_BT,
        )  # fmt: skip
        write_state(state["memory"], memory)
        bonus = (r * k * self.bonus_Hd.to(r.dtype)).sum(dim=-1, keepdim=True) * v
        y_BTD = self.norm(y.flatten(2)) + bonus.flatten(2)
        return self.out(y_BTD * self.gate(for_g)), first_value_BTD

    def _heads(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, H, d)"""
        return x_BTD.unflatten(-1, (self.n_heads, -1))


class ChannelMix7(nn.Module):
    """``down(relu(up)^2)`` on a mix of the token and the token before: RWKV-4's without the gate."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.mix_11D = nn.Parameter(torch.full((1, 1, d_model), 0.5))
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x_BTD: Tensor, state: State, padding: Padding | None) -> Tensor:
        """(B, T, D) -> (B, T, D).  ``state``: ``channel_shift`` (B, D)."""
        previous_BTD = previous_tokens(x_BTD, state["channel_shift"], padding)
        mixed_BTD = torch.lerp(x_BTD, previous_BTD, self.mix_11D.to(x_BTD.dtype))
        return self.down(F.relu(self.up(mixed_BTD)).square())
