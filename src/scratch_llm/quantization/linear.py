"""A linear layer of a quantised model: it holds packed codes, and knows the fastest way to compute with them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.quantization.affine import QuantizedTensor
from scratch_llm.quantization.dynamic import dynamic_linear
from scratch_llm.quantization.int4 import Int4Linear, kernel_takes
from scratch_llm.quantization.packed_bits import n_packed_bytes, pack_bits, unpack_bits


class QuantizedLinear(nn.Module):
    """``x -> (x / divisor) W_hat^T + b`` with W_hat as codes of ``n_bits``, packed without gaps.

    ``forward`` restores the weight (or, if ``dynamic``, multiplies whole numbers); ``packed`` gives what decodes fast.
    The buffers are all that is stored; scales keep their dtype when the model is cast.
    """

    def __init__(
        self,
        weight: QuantizedTensor,
        bias: Tensor | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        divisor: Tensor | None = None,
        dynamic: bool = False,
    ):
        """``dtype``: of ``weight``, as others see it.  ``divisor`` (in,): of the inputs (AWQ).  ``dynamic``: inputs become
        int8 per token; takes symmetric 8 bits with one scale per row or for all."""
        super().__init__()
        if dynamic and not (weight.n_bits == 8 and weight.zero_point is None and weight.scale.shape[1] == 1):
            raise ValueError(
                "inputs in int8 need a symmetric weight of 8 bits with one scale per row: groups would leave their scales "
                "inside the sum of products; choose granularity 'channel'"
            )
        self.out_features, self.in_features = weight.shape
        self.n_bits, self.group_size, self.symmetric = weight.n_bits, weight.group_size, weight.zero_point is None
        self.dtype, self.dynamic = dtype, dynamic
        self.register_buffer("codes", self._pack(weight.codes))
        self.register_buffer("scale", weight.scale)
        self.register_buffer("zero_point", None if self.symmetric else pack_bits(weight.zero_point, self.n_bits))
        self.register_buffer("divisor", None if divisor is None else divisor.detach().to(dtype))
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    @property
    def quantized(self) -> QuantizedTensor:
        """The codes unpacked, one byte each."""
        shape = (self.out_features, self.in_features)
        if self.n_bits == 8:
            codes = self.codes
        else:
            codes = unpack_bits(self.codes, self.n_bits, shape[0] * shape[1]).view(shape)
            codes = codes.to(torch.int8) - self._shift if self.symmetric else codes
        zero_point = self.zero_point
        if zero_point is not None:
            zero_point = unpack_bits(zero_point, self.n_bits, self.scale.numel()).view(self.scale.shape)
        return QuantizedTensor(codes, self.scale.float(), zero_point, self.group_size, self.n_bits)

    @property
    def weight(self) -> Tensor:
        """(out, in): what multiplies ``x`` itself, restored at each call."""
        restored = self.quantized.dequantize()
        return (restored if self.divisor is None else restored / self.divisor.float()).to(self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the dtype of ``x``."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.divisor is not None:
            x = x / self.divisor.to(x.dtype)
        if self.dynamic:
            return dynamic_linear(x, self.codes, self.scale[:, 0].float(), bias)
        return F.linear(x, self.quantized.dequantize(x.dtype), bias)

    @property
    def execution(self) -> str:
        """"int8", "int4" or "dynamic": whole numbers are what decoding reads; "restored": floating-point weights are."""
        if self.dynamic:
            return "dynamic"
        if self.n_bits == 8 and self.symmetric and self.scale.shape == (self.out_features, 1) and self.divisor is None:
            return "int8"
        return "int4" if self.n_bits == 4 and kernel_takes(self.quantized) else "restored"

    def packed(self, n_rows: int) -> nn.Module:
        """The same for decoding ``n_rows`` rows at a time, see ``scratch_llm.generation.packing``."""
        from scratch_llm.generation.int8_linear import FEW_ROWS, Int8Linear
        from scratch_llm.generation.packing import for_rows, linear

        execution = self.execution
        if execution == "dynamic":
            return self
        if execution == "int8":
            layer = Int8Linear.from_codes(self.codes, self.scale[:, 0], self.bias, self.dtype)
            return for_rows(layer, n_rows)
        if execution == "int4" and n_rows <= FEW_ROWS:
            layer = Int4Linear(self.quantized, self.bias)
            layer.scale_and_zero = layer.scale_and_zero.to(self.dtype)  # once, and not at every step
            return layer if self.divisor is None else Divided(layer, self.divisor)
        return linear(self.weight, self.bias, n_rows, exact=True)

    def extra_repr(self) -> str:
        groups = "" if self.group_size == self.in_features else f", groups of {self.group_size}"
        return f"{self.in_features} -> {self.out_features}, {self.n_bits} bits{groups}{', dynamic' * self.dynamic}"

    @property
    def _shift(self) -> int:
        """What makes symmetric codes positive."""
        return 2 ** (self.n_bits - 1)

    def _pack(self, codes: Tensor) -> Tensor:
        if self.n_bits == 8:
            return codes
        return pack_bits(codes.to(torch.int16) + self._shift if self.symmetric else codes, self.n_bits)

    def _apply(self, fn, recurse=True):
        # A cast of the model must not round the scales.
        scale = self.scale
        super()._apply(fn, recurse)
        if self.scale.dtype != scale.dtype:
            self.scale = scale.to(self.scale.device)
        return self


class Divided(nn.Module):
    """``layer(x / divisor)``."""

    def __init__(self, layer: nn.Module, divisor: Tensor):
        super().__init__()
        self.layer, self.divisor = layer, divisor

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x / self.divisor.to(x.dtype))


def empty_layer(out: int, inputs: int, n_bits: int, group_size: int, symmetric: bool, scales: tuple[int, int],
                dtype: torch.dtype, scale_dtype: torch.dtype, *, bias: bool, divisor: bool, dynamic: bool) -> QuantizedLinear:
    """A layer of zeros in the shape of a stored one, to load its buffers into."""
    kind = torch.int8 if symmetric else torch.uint8
    weight = QuantizedTensor(
        torch.zeros(out, inputs, dtype=kind), torch.zeros(scales, dtype=scale_dtype),
        None if symmetric else torch.zeros(scales, dtype=torch.uint8), group_size, n_bits,
    )  # fmt: skip
    layer = QuantizedLinear(
        weight, torch.zeros(out, dtype=dtype) if bias else None, dtype=dtype,
        divisor=torch.zeros(inputs, dtype=dtype) if divisor else None, dynamic=dynamic,
    )  # fmt: skip
    assert n_bits == 8 or layer.codes.numel() == n_packed_bytes(out * inputs, n_bits)
    return layer
