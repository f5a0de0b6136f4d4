"""The layer of Mamba-2 (Dao & Gu 2024, section 7): everything that a token decides comes from one projection.

Shape suffixes: E channels inside (d_inner = H * P), H heads, P their width, G groups of B and C, N state size; others as
in ``scratch_llm.layers``.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.causal_conv import CausalConv
from scratch_llm.layers.norms import RMSNorm
from scratch_llm.layers.state_cache import write_state
from scratch_llm.layers.state_space_duality import LOG2_E, ssd, ssd_step


class GatedRMSNorm(nn.Module):
    """``RMSNorm(x * silu(gate)) * weight``, each of ``n_groups`` equal parts normed by itself (Dao & Gu 2024, section 7.1)."""

    def __init__(self, width: int, n_groups: int = 1, eps: float = 1e-5):
        super().__init__()
        self.n_groups, self.eps = n_groups, eps
        self.weight = nn.Parameter(torch.ones(width))
        self.packed_norm: nn.Module | None = None

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """(..., E) twice -> (..., E) in the dtype of the gate, computed in float32."""
        parts = (x.float() * F.silu(gate.float())).unflatten(-1, (self.n_groups, -1))
        if self.packed_norm is not None:
            return self.packed_norm(parts).flatten(-2).to(gate.dtype)
        return (F.rms_norm(parts, parts.shape[-1:], eps=self.eps).flatten(-2) * self.weight.float()).to(gate.dtype)

    def packed(self, n_rows: int) -> GatedRMSNorm:
        """A copy for decoding (``generation.packing``)."""
        from scratch_llm.generation.packing import FastRMSNorm

        twin, scale = copy.copy(self), self.weight.view(self.n_groups, -1)
        twin._modules = {}
        twin.packed_norm = FastRMSNorm(RMSNorm(scale.shape[1], self.eps), scale)
        return twin


class Mamba2Mixer(nn.Module):
    """``out(norm(ssd(silu(conv(x, B, C))), gate))``, where one projection gives gate, x, B, C and the step sizes."""

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        head_dim: int,
        n_groups: int,
        d_state: int,
        conv_width: int,
        *,
        chunk_size: int = 256,
        dt_limit: tuple[float, float] = (0.0, math.inf),
        norm_eps: float = 1e-5,
        bias: bool = False,
        conv_bias: bool = True,
    ):
        """``dt_limit``: what the step sizes are clamped to.  Others as in ``MambaMixer`` and ``ssd``."""
        super().__init__()
        self.n_heads, self.head_dim, self.n_groups, self.d_state = n_heads, head_dim, n_groups, d_state
        self.chunk_size, self.dt_limit = chunk_size, dt_limit
        d_inner = n_heads * head_dim
        self.widths = d_inner, d_inner + 2 * n_groups * d_state, n_heads
        """Of the parts of the projection: gate; x, B and C; step sizes."""
        self.in_proj = nn.Linear(d_model, sum(self.widths), bias=bias)
        self.conv = CausalConv(self.widths[1], conv_width, bias=conv_bias)
        self.dt_bias = nn.Parameter(torch.zeros(n_heads))
        self.A_log = nn.Parameter(torch.zeros(n_heads))
        self.D = nn.Parameter(torch.ones(n_heads))
        self.norm = GatedRMSNorm(d_inner, n_groups, norm_eps)
        self.out = nn.Linear(d_inner, d_model, bias=bias)
        self.packed_A_H: Tensor | None = None

    def forward(self, x_BTD: Tensor, state: dict[str, Tensor], real_BT: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D).

        ``state``: "conv" (B, K - 1, E + 2 G N) and "scan" (B, H, P, N), read and overwritten.  ``real_BT``: bool, False
        at padding, which leaves the state as it is; None: nothing is padded.
        """
        H, P, G, N = self.n_heads, self.head_dim, self.n_groups, self.d_state
        gate_BTE, xBC, dt_BTH = self.in_proj(x_BTD.to(self.A_log.dtype)).split(self.widths, dim=-1)
        xBC = F.silu(self.conv(xBC, state["conv"], real_BT))
        x, B, C = xBC.split((H * P, G * N, G * N), dim=-1)
        x_BTHP, B_BTGN, C_BTGN = x.unflatten(-1, (H, P)), B.unflatten(-1, (G, N)), C.unflatten(-1, (G, N))
        delta_BTH = F.softplus(dt_BTH.float() + self.dt_bias.float())
        if self.dt_limit != (0.0, math.inf):
            delta_BTH = delta_BTH.clamp(*self.dt_limit)
        if x.shape[1] == 1 and real_BT is None and not torch.is_grad_enabled():
            y_BTHP = self._step(x_BTHP, delta_BTH, B_BTGN, C_BTGN, state["scan"])
        else:
            if real_BT is not None:
                delta_BTH = delta_BTH.masked_fill(~real_BT[..., None], 0.0)
            A_H = -torch.exp(self.A_log.float())
            y_BTHP, last = ssd(x_BTHP, delta_BTH, A_H, B_BTGN, C_BTGN, state["scan"], chunk=self.chunk_size)
            write_state(state["scan"], last)
        y_BTHP = torch.addcmul(y_BTHP, x_BTHP, self.D[:, None])
        return self.out(self.norm(y_BTHP.flatten(2), gate_BTE))

    def _step(self, x_B1HP, delta_B1H, B_B1GN, C_B1GN, state_BHPN) -> Tensor:
        """The recurrence for one token per row, in float32: y (B, 1, H, P)."""
        A_H = self.scaled_A() if self.packed_A_H is None else self.packed_A_H
        x_BHP, delta_BH, B_BGN, C_BGN = (part[:, 0].float() for part in (x_B1HP, delta_B1H, B_B1GN, C_B1GN))
        return ssd_step(x_BHP, delta_BH, A_H, B_BGN, C_BGN, state_BHPN)[:, None]

    def scaled_A(self) -> Tensor:
        """What a step multiplies delta by: A log2(e), float32 (H,)."""
        return -torch.exp(self.A_log.detach().float()) * LOG2_E

    def packed(self, n_rows: int) -> Mamba2Mixer:
        """A copy for decoding, with A computed once (``generation.packing``)."""
        from scratch_llm.generation.packing import pack_children

        twin = pack_children(self, n_rows)
        twin.packed_A_H = self.scaled_A()
        return twin
