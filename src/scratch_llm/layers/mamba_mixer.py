"""The layer of Mamba (Gu & Dao 2023, section 3.4 and figure 3): convolution, selective scan and gate in one.

Shape suffixes: E channels inside (d_inner), N state size of a channel; others as in ``scratch_llm.layers``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.causal_conv import CausalConv
from scratch_llm.layers.selective_scan import LOG2_E, selective_scan, selective_scan_step
from scratch_llm.layers.state_cache import write_state


class MambaMixer(nn.Module):
    """``out(scan(silu(conv(x))) * silu(gate))``, with ``x, gate = in_proj(input)``.

    The scan's step sizes, B and C come from its input; delta through a bottleneck of ``dt_rank``.
    """

    def __init__(
        self,
        d_model: int,
        d_inner: int,
        d_state: int,
        dt_rank: int,
        conv_width: int,
        *,
        bias: bool = False,
        conv_bias: bool = True,
    ):
        """``bias``: of the projections in and out.  ``conv_bias``: of the convolution."""
        super().__init__()
        self.d_state, self.dt_rank = d_state, dt_rank
        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=bias)
        self.conv = CausalConv(d_inner, conv_width, bias=conv_bias)
        self.x_proj = nn.Linear(d_inner, dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(dt_rank, d_inner, bias=False)
        # Apart from the product, which may be in bfloat16: the sum goes through an exponential.
        self.dt_bias = nn.Parameter(torch.zeros(d_inner))
        self.A_log = nn.Parameter(torch.zeros(d_inner, d_state))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out = nn.Linear(d_inner, d_model, bias=bias)
        self.packed_A_NE: Tensor | None = None

    def forward(self, x_BTD: Tensor, state: dict[str, Tensor], real_BT: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D).

        ``state``: "conv" (B, K - 1, E) and "scan" (B, N, E), read and overwritten.  ``real_BT``: bool, False at padding,
        which leaves the state as it is; None: nothing is padded.
        """
        x_BTE, gate_BTE = self.in_proj(x_BTD.to(self.A_log.dtype)).chunk(2, dim=-1)
        x_BTE = F.silu(self.conv(x_BTE, state["conv"], real_BT))
        dt, B_BTN, C_BTN = self.x_proj(x_BTE).split((self.dt_rank, self.d_state, self.d_state), dim=-1)
        delta_BTE = F.softplus(self.dt_proj(dt).float() + self.dt_bias.float())
        if x_BTE.shape[1] == 1 and real_BT is None and not torch.is_grad_enabled():
            return self._step(x_BTE, gate_BTE, delta_BTE, B_BTN, C_BTN, state["scan"])
        if real_BT is not None:
            delta_BTE = delta_BTE.masked_fill(~real_BT[..., None], 0.0)
        A_EN = -torch.exp(self.A_log.float())
        y_BTE, last_BNE = selective_scan(x_BTE, delta_BTE, A_EN, B_BTN, C_BTN, state["scan"])
        write_state(state["scan"], last_BNE)
        return self.out((y_BTE + x_BTE * self.D) * F.silu(gate_BTE))

    def _step(self, x_B1E, gate_B1E, delta_B1E, B_B1N, C_B1N, state_BNE) -> Tensor:
        """One token per row, from the scan on, in float32: (B, 1, D)."""
        A_NE = self.scaled_A() if self.packed_A_NE is None else self.packed_A_NE
        x_float = x_B1E.float()
        y_B1E = selective_scan_step(x_float, delta_B1E, A_NE, B_B1N.float(), C_B1N.float(), state_BNE)
        y_B1E = y_B1E.addcmul_(x_float, self.D).mul_(F.silu(gate_B1E))
        return self.out(y_B1E.to(x_B1E.dtype))

    def scaled_A(self) -> Tensor:
        """What a step multiplies delta by: A^T log2(e), float32 (N, E)."""
        return (-torch.exp(self.A_log.detach().float()) * LOG2_E).t().contiguous()

    def packed(self, n_rows: int) -> MambaMixer:
        """A copy for decoding, with A computed once (``generation.packing``)."""
        from scratch_llm.generation.packing import pack_children

        twin = pack_children(self, n_rows)
        twin.packed_A_NE = self.scaled_A()
        return twin
