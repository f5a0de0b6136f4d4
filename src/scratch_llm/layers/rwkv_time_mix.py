"""RWKV-4's two layers (Peng et al. 2023, section 3.1): time mixing in place of attention, channel mixing in place of a
feed-forward network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.state_cache import read_state, write_state
from scratch_llm.layers.token_shift import Padding, previous_tokens
from scratch_llm.layers.wkv import NO_EXPONENT, WKVState, wkv

State = Mapping[str, Tensor]
"""A layer's states by name; read, and overwritten in place."""

TIME_MIX_START = {"maximum": NO_EXPONENT}
"""States of ``TimeMix`` that do not begin at 0."""


class TimeMix(nn.Module):
    """``out(sigmoid(receptance) * wkv(key, value))``, each projection of its own mix of token and token before.

    A is the width inside.  ``mix_31D`` holds the shares of the token itself for key, value and receptance.
    """

    def __init__(self, d_model: int, d_inner: int):
        super().__init__()
        self.mix_31D = nn.Parameter(torch.full((3, 1, d_model), 0.5))
        self.log_decay_A = nn.Parameter(torch.zeros(d_inner))
        self.bonus_A = nn.Parameter(torch.zeros(d_inner))
        self.key = nn.Linear(d_model, d_inner, bias=False)
        self.value = nn.Linear(d_model, d_inner, bias=False)
        self.receptance = nn.Linear(d_model, d_inner, bias=False)
        self.out = nn.Linear(d_inner, d_model, bias=False)

    def forward(self, x_BTD: Tensor, state: State, padding: Padding | None) -> Tensor:
        """(B, T, D) -> (B, T, D).  ``state``: ``time_shift`` (B, D), and ``numerator``, ``denominator``, ``maximum``
        (B, A) as in ``WKVState``."""
        previous_BTD = previous_tokens(x_BTD, state["time_shift"], padding)
        for_key, for_value, for_receptance = mixtures(previous_BTD, x_BTD, self.mix_31D)
        before = WKVState(*(read_state(state[name]) for name in WKVState._fields))
        y_BTA, after = wkv(
            self.key(for_key),
            self.value(for_value),
            self.log_decay_A.float().exp(),
            self.bonus_A,
            before,
            None if padding is None else padding.real_BT,
        )
        for name, value in zip(WKVState._fields, after):
            write_state(state[name], value)
        return self.out(torch.sigmoid(self.receptance(for_receptance)) * y_BTA)


class ChannelMix(nn.Module):
    """``sigmoid(receptance) * down(relu(up)^2)`` on mixes of the token and the token before."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.mix_21D = nn.Parameter(torch.full((2, 1, d_model), 0.5))
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x_BTD: Tensor, state: State, padding: Padding | None) -> Tensor:
        """(B, T, D) -> (B, T, D).  ``state``: ``channel_shift`` (B, D)."""
        previous_BTD = previous_tokens(x_BTD, state["channel_shift"], padding)
        for_up, for_receptance = mixtures(previous_BTD, x_BTD, self.mix_21D)
        hidden_BTD = self.down(F.relu(self.up(for_up)).square())
        return torch.sigmoid(self.receptance(for_receptance)) * hidden_BTD


def mixtures(a_BTD: Tensor, b_BTD: Tensor, share_M1D: Tensor) -> tuple[Tensor, ...]:
    """``a + share (b - a)`` for each of M shares: M tensors (B, T, D)."""
    return torch.lerp(a_BTD, b_BTD, share_M1D[:, None].to(a_BTD.dtype)).unbind(0)
