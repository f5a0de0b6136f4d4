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

    def packed(self, n_rows: int) -> nn.Module:
        """For decoding; see ``DecodingTimeMix``."""
        from scratch_llm.generation.packing import pack_children

        return DecodingTimeMix(pack_children(self, n_rows))


class DecodingTimeMix(nn.Module):
    """``TimeMix`` with a step of half as many operations, whose cost is that of calling them.

    Output and new state weigh past and present alike, but for bonus and decay: so both are computed as one (``wkv_step``
    is the clear form).
    """

    def __init__(self, layer: TimeMix):
        super().__init__()
        self.layer = layer
        zero_A = torch.zeros_like(layer.bonus_A, dtype=torch.float32)
        decay_A, bonus_A = layer.log_decay_A.detach().float().exp(), layer.bonus_A.detach().float()
        # What is added to the exponents of (past, present): for the output (0, u), for the new state (-w, 0).
        self.shift_221A = torch.stack((zero_A, bonus_A, -decay_A, zero_A)).view(2, 2, 1, -1)
        self.mix_31D = layer.mix_31D.detach()

    def forward(self, x_BTD: Tensor, state: State, padding: Padding | None) -> Tensor:
        """As ``TimeMix.forward``."""
        if x_BTD.shape[1] > 1 or padding is not None:
            return self.layer(x_BTD, state, padding)
        x_BD, layer, top_BA = x_BTD[:, 0], self.layer, state["maximum"]
        for_key, for_value, for_receptance = torch.lerp(state["time_shift"], x_BD, self.mix_31D).unbind(0)
        state["time_shift"].copy_(x_BD)
        k_BA, v_BA = layer.key(for_key).to(top_BA.dtype), layer.value(for_value).to(top_BA.dtype)
        exponents_22BA = torch.stack((top_BA, k_BA)) + self.shift_221A
        tops_21BA = exponents_22BA.amax(dim=1, keepdim=True)
        past_2BA, now_2BA = exponents_22BA.sub_(tops_21BA).exp_().unbind(1)
        num_2BA = torch.addcmul(now_2BA * v_BA, past_2BA, state["numerator"])
        den_2BA = torch.addcmul(now_2BA, past_2BA, state["denominator"])
        state["numerator"].copy_(num_2BA[1])
        state["denominator"].copy_(den_2BA[1])
        top_BA.copy_(tops_21BA[1, 0])
        y_BA = (num_2BA[0] / den_2BA[0]).to(x_BD.dtype)
        return layer.out(layer.receptance(for_receptance).sigmoid_().mul_(y_BA))[:, None]


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

    def packed(self, n_rows: int) -> nn.Module:
        """For decoding; see ``DecodingChannelMix``."""
        from scratch_llm.generation.packing import pack_children

        return DecodingChannelMix(pack_children(self, n_rows))


class DecodingChannelMix(nn.Module):
    """``ChannelMix`` with its step in place and without the axis of time."""

    def __init__(self, layer: ChannelMix):
        super().__init__()
        self.layer = layer
        self.mix_21D = layer.mix_21D.detach()

    def forward(self, x_BTD: Tensor, state: State, padding: Padding | None) -> Tensor:
        """As ``ChannelMix.forward``."""
        if x_BTD.shape[1] > 1 or padding is not None:
            return self.layer(x_BTD, state, padding)
        x_BD, layer = x_BTD[:, 0], self.layer
        for_up, for_receptance = torch.lerp(state["channel_shift"], x_BD, self.mix_21D).unbind(0)
        state["channel_shift"].copy_(x_BD)
        hidden_BD = layer.down(layer.up(for_up).relu_().square_())
        return layer.receptance(for_receptance).sigmoid_().mul_(hidden_BD)[:, None]


def mixtures(a_BTD: Tensor, b_BTD: Tensor, share_M1D: Tensor) -> tuple[Tensor, ...]:
    """``a + share (b - a)`` for each of M shares: M tensors (B, T, D)."""
    return torch.lerp(a_BTD, b_BTD, share_M1D[:, None].to(a_BTD.dtype)).unbind(0)
