"""AWQ (Lin et al. 2024): the weights that loud inputs meet are rounded more finely.

The inputs, not the weights themselves, tell which weights matter (section 3.1).  Multiplying column j of the weight
by s_j > 1 before rounding and dividing input j by it keeps the product, and as long as the group's step stays the
same, shrinks the error that column j causes by s_j (section 3.2, eq. 2).  Columns made too large widen the step for
all others, so that a compromise is searched:

    s = s_X^alpha,  s_X,j = mean |X_j|,   alpha* = argmin over 0 .. 1 of |Q(W diag(s)) diag(s)^-1 X - W X|    (eq. 4, 5)

alpha = 0 is round-to-nearest, so that on the inputs of the search the result is never worse.  As in SmoothQuant,
the division is folded into what comes before the layer (``divide_outputs`` of ``smoothquant``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scratch_llm.quantization.affine import Granularity, QuantizedTensor, check_weight, quantize

QUIETEST = 1e-4
"""An input quieter than this part of the mean is taken for as loud: 0 ^ alpha would erase its column."""


@dataclass(frozen=True, eq=False)
class ScaledWeight:
    """The result of the search: ``y = (x / scales_D) @ quantized.dequantize().T``."""

    quantized: QuantizedTensor
    """of W diag(s), (out, D)"""
    scales_D: Tensor
    alpha: float
    error: float
    """mean square of the outputs' error on the inputs of the search"""

    def dequantize(self) -> Tensor:
        """(out, D) float32: the weight that multiplies ``x`` itself, Q(W diag(s)) diag(s)^-1."""
        return self.quantized.dequantize() / self.scales_D


def activation_scales(x_ND: Tensor, alpha: float) -> Tensor:
    """s (D,) float32: mean |X_j| relative to that of all channels, to the power alpha.

    Only the ratios matter, a common factor of s leaves all roundings as they are.
    """
    loudness = x_ND.detach().float().abs().mean(0)
    mean = loudness.mean()
    if mean == 0:
        raise ValueError(
            "x_ND holds only zeros, which tell no input from another; calibrate with real activations"
        )
    return (loudness / mean).clamp(min=QUIETEST) ** alpha


@torch.no_grad()
def awq(
    weight: Tensor,
    x_ND: Tensor,
    n_bits: int = 4,
    *,
    symmetric: bool = False,
    granularity: Granularity = "channel",
    n_steps: int = 20,
) -> ScaledWeight:
    """The best of ``n_steps`` + 1 exponents alpha, evenly from 0 to 1, for ``weight`` (out, D).

    ``x_ND``: inputs of the layer for calibration, a row for each token.
    """
    check_weight(weight)
    check_weight(x_ND, "x_ND")
    if weight.shape[1] != x_ND.shape[1]:
        raise ValueError(
            f"weight {tuple(weight.shape)} reads {weight.shape[1]} features, x_ND has {x_ND.shape[1]}"
        )
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; it must be 1 or more, e.g. 20")
    weight, x_ND = weight.float(), x_ND.float()
    best = None
    for step in range(n_steps + 1):
        alpha = step / n_steps
        scales_D = activation_scales(x_ND, alpha)
        quantized = quantize(weight * scales_D, n_bits, symmetric=symmetric, granularity=granularity)
        difference = quantized.dequantize() / scales_D - weight
        error = float((x_ND @ difference.T).square().mean())
        if best is None or error < best.error:
            best = ScaledWeight(quantized, scales_D, alpha, error)
    return best
