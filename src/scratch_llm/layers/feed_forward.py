"""Position-wise feed-forward networks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """``down(silu(gate(x)) * up(x))`` (Shazeer 2020, "GLU Variants Improve Transformer", section 2).

    ``gate`` and ``up`` are one matrix, gate rows first: one large product is faster than two small ones.
    """

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.gate_up = nn.Linear(d_model, 2 * d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)"""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class GeGLU(SwiGLU):
    """``down(gelu(gate(x)) * up(x))`` with the tanh form of GELU, as in Gemma (Shazeer 2020, section 2)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)"""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.gelu(gate, approximate="tanh") * up)


class GELUFeedForward(nn.Module):
    """``down(gelu(up(x)))`` with biases and the tanh form of GELU, as in GPT-2 (Hendrycks and Gimpel 2016)."""

    def __init__(self, d_model: int, d_ff: int, dropout: float = 0.0):
        super().__init__()
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)"""
        hidden = self.down(F.gelu(self.up(x), approximate="tanh"))
        return F.dropout(hidden, self.dropout, self.training)
