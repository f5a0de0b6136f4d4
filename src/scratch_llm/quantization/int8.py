"""Symmetric int8 with one scale per row: ``weight[o, i] ~ quantized[o, i] * scale[o]``.

A row of a linear layer's weight makes one output, so its scale can be multiplied after the product: the kernels read
one byte per weight (LLM.int8, Dettmers et al. 2022, section 2.1, "row-wise" and "vector-wise" quantisation).
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 127
"""-128 is left out, so that the range is symmetric and 0 stays 0."""


def quantize_rows(weight: Tensor, scale_dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """(..., rows, columns) floating -> int8 of the same shape and scales (..., rows), none of which is 0.

    The scale is the row's largest magnitude / 127, rounded to ``scale_dtype`` (default: that of ``weight``) before the
    division, so that no weight is further than half a scale from what it is restored to.  A row of zeros has scale 1.

    Raises:
        ValueError: a weight without columns or that is not floating, or one with infinities or NaN.
    """
    if not weight.is_floating_point():
        raise ValueError(f"weight is {weight.dtype}: quantize_rows takes float32, bfloat16 or float16")
    if weight.dim() < 2 or not weight.shape[-1]:
        raise ValueError(f"weight has shape {tuple(weight.shape)}: quantize_rows takes (..., rows, columns)")
    exact = weight.detach().float()
    largest = exact.abs().amax(dim=-1)
    if not largest.isfinite().all():
        raise ValueError(
            f"a weight of shape {tuple(weight.shape)} holds infinities or NaN: only finite weights can be quantized"
        )
    scale = (largest / LARGEST).to(scale_dtype or weight.dtype)
    # A row of zeros, or one so small that its scale is 0 in this dtype.
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    quantized = (exact / scale.float()[..., None]).round_().clamp_(-LARGEST, LARGEST)
    return quantized.to(torch.int8), scale


def dequantize_rows(quantized: Tensor, scale: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """int8 (..., rows, columns) and scales (..., rows) -> weights in ``dtype`` (default: that of the scales)."""
    dtype = dtype or scale.dtype
    return quantized.to(dtype).mul_(scale.to(dtype)[..., None])
