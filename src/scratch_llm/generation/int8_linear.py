"""A linear layer that keeps its weights in int8 (``scratch_llm.quantization``) and computes in floating point.

One token reads every weight once, so half the bytes is up to half the time.  torch has a product for that on CPUs,
which converts int8 in registers.  It wins by few rows only, as it uses no matrix units; measured on two cores of a Zen 5,
(1152, 384), against packed bfloat16: 9 against 17 us for one row, 17 : 20 for four, 29 : 20 for eight, 215 : 70 for 64.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.mixture_of_experts import product
from scratch_llm.quantization import dequantize_rows, quantize_rows

FEW_ROWS = 4
"""Up to so many rows per step the int8 product is faster than packed bfloat16; for more, restored weights are packed."""
KERNEL_ROWS = 64
"""Up to so many rows it is faster than restoring the weights for one product (a prompt)."""


class Int8Linear(nn.Module):
    """``x -> x W^T + b`` with W in int8, one scale per output.

    Attributes:
        many: a layer with the restored weights for more than ``FEW_ROWS`` rows at a time, where it pays to keep them.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        """``weight``: (out, in), quantized here."""
        super().__init__()
        # The scale in the dtype of the kernel, which takes bfloat16 as fast as memory gives it, but float32 and
        # float16 number by number (154 instead of 9 us).
        self._hold(*quantize_rows(weight, torch.bfloat16), bias, weight.dtype)

    @classmethod
    def from_codes(cls, quantized: Tensor, scale: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Int8Linear:
        """From weights that are in int8 already, (out, in), with scales (out,); ``dtype``: of the restored weights."""
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._hold(quantized, scale.to(torch.bfloat16), bias, dtype)
        return layer

    def _hold(self, quantized: Tensor, scale: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.quantized, self.scale, self.dtype = quantized, scale, dtype
        self.bias = None if bias is None else bias.detach()
        self.many: nn.Module | None = None
        self.kernel_rows = KERNEL_ROWS if has_int8_kernel(quantized.device.type, quantized.shape[1]) else 0

    @property
    def weight(self) -> Tensor:
        """The restored weights, (out, in), made at each call."""
        return dequantize_rows(self.quantized, self.scale, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out) in the dtype of ``x``; the kernel rounds inputs and outputs to bfloat16."""
        if self.many is not None:
            return self.many(x)
        x_NI = x.reshape(-1, x.shape[-1])
        if len(x_NI) <= self.kernel_rows:
            y_NO = torch._weight_int8pack_mm(x_NI.bfloat16(), self.quantized, self.scale).to(x.dtype)
        else:
            y_NO = product(x_NI, self.weight)
        if self.bias is not None:
            y_NO += self.bias
        return y_NO.view(*x.shape[:-1], -1)


def clear_int8_linear(x: Tensor, quantized: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """What ``Int8Linear`` computes, written to be read: restore the weights, then multiply."""
    return F.linear(x, quantized.to(x.dtype) * scale.to(x.dtype)[:, None], bias)


def has_int8_kernel(device_type: str, n_inputs: int) -> bool:
    """Whether torch's product for int8 weights can be used.

    It reads rows in blocks and does not look where they end: other widths give wrong numbers (torch 2.13, 100 inputs).
    """
    return device_type == "cpu" and n_inputs % 32 == 0 and _kernel_works()


@functools.cache
def _kernel_works() -> bool:
    """Tried on a small product: torch may lack it, and it is not part of its public interface."""
    quantized = torch.arange(-64, 64, dtype=torch.int8).view(4, 32)
    x, scale = torch.linspace(-1, 2, 64).view(2, 32).bfloat16(), torch.linspace(0.5, 1, 4).bfloat16()
    try:
        got = torch._weight_int8pack_mm(x, quantized, scale)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.allclose(got, clear_int8_linear(x, quantized, scale), rtol=2e-2, atol=1e-1)
