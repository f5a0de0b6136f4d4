"""Dynamic int8: activations are quantised as they come, one scale per token, and multiplied as whole numbers.

    x[t, k] ~ s_x[t] * q_x[t, k]            w[o, k] ~ s_w[o] * q_w[o, k]
    y[t, o] = s_x[t] * s_w[o] * sum_k q_x[t, k] * q_w[o, k]

Neither scale depends on k, so both leave the sum, which is then an integer product of bytes ("vector-wise
quantization", Dettmers et al. 2022, LLM.int8, section 2.1; "per-token", Xiao et al. 2023, SmoothQuant, section 2).
"Dynamic", because s_x is the greatest |x| of the very token; a static scale would come from calibration.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.quantization.int8 import LARGEST, quantize_rows

LONGEST_SUM = (2**31 - 1) // LARGEST**2
"""So many products of two codes fit the int32 in which they are added: 133,144."""
FEWEST_CUDA_ROWS, CUDA_MULTIPLE = 17, 8
"""What cuBLAS asks of an int8 product: more than 16 rows, and both other sizes multiples of 8."""


class DynamicInt8Linear(nn.Module):
    """A linear layer with an int8 weight (out, in), whose inputs become int8 for each token."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        super().__init__()
        codes, scale = quantize_rows(weight, torch.float32)
        if codes.dim() != 2:
            raise ValueError(f"weight has shape {tuple(weight.shape)}; a linear layer's is (out, in)")
        if codes.shape[1] > LONGEST_SUM:
            raise ValueError(
                f"weight has {codes.shape[1]} inputs; int32 holds the sum of at most {LONGEST_SUM} products: "
                "split the layer along its inputs and add the outputs"
            )
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the dtype of ``x``."""
        if x.shape[-1] != self.codes.shape[1]:
            raise ValueError(f"x has {x.shape[-1]} features; this layer takes {self.codes.shape[1]}")
        return dynamic_linear(x, self.codes, self.scale, self.bias)


def dynamic_linear(x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """The formula above: (..., in) by int8 (out, in) with float32 scales (out,) or (1,) -> (..., out) like ``x``."""
    codes_x, scale_x = quantize_rows(x.reshape(-1, x.shape[-1]), torch.float32)
    y = integer_product(codes_x, codes) * scale_x[:, None] * scale
    if bias is not None:
        y = y + bias
    return y.to(x.dtype).view(*x.shape[:-1], y.shape[-1])


def integer_product(left: Tensor, right: Tensor) -> Tensor:
    """int8 (T, K) and (N, K) -> int32 (T, N): ``left @ right.T``, added up in int32."""
    n_rows, n_columns = left.shape[0], right.shape[0]
    if left.is_cuda:  # zeros added up to the sizes that the kernel takes change no sum
        inputs = -left.shape[1] % CUDA_MULTIPLE
        left = F.pad(left, (0, inputs, 0, max(0, FEWEST_CUDA_ROWS - n_rows)))
        right = F.pad(right, (0, inputs, 0, -n_columns % CUDA_MULTIPLE))
    return torch._int_mm(left, right.T)[:n_rows, :n_columns]


def readable_product(left: Tensor, right: Tensor) -> Tensor:
    """What ``integer_product`` computes, one product of codes at a time; (T, K), (N, K) -> int32 (T, N)."""
    return (left[:, None, :].int() * right[None, :, :].int()).sum(-1, dtype=torch.int32)
