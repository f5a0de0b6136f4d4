"""Int4 weights: two codes a byte, one grid for g neighbouring inputs of a row, and the product with activations.

    w_hat[o, k] = (u[o, k] - 8) * scale[o, k // g] + zero[o, k // g],          u in 0 .. 15

A symmetric code q in -7 .. 7 is u = q + 8 with zero 0; an affine code is u itself with zero = (8 - z) * scale (z: its
zero point), since (u - z) * s = (u - 8) * s + (8 - z) * s.  Group-wise scales of small weights come from
Dettmers and Zettlemoyer 2023 ("The case for 4-bit precision", section 2, "block-wise quantization").

Decoding one token reads each weight once, so 4 bits read a quarter of bfloat16's bytes: that is what can be won at most.
The kernel restores the weights in registers and multiplies in floating point.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.quantization.affine import QuantizedTensor

MIDDLE = 8
KERNEL_GROUP_SIZES = (32, 64, 128, 256)
KERNEL_ROW_MULTIPLE = 16


def pack_int4(codes: Tensor) -> Tensor:
    """Whole numbers 0 .. 15 (..., K) -> bytes (..., K / 2); the even column in the low half of the byte."""
    if codes.shape[-1] % 2:
        raise ValueError(
            f"{codes.shape[-1]} columns do not pair up into bytes; pad with one column of code 8 (zero)"
        )
    if codes.numel() and (codes.min() < 0 or codes.max() > 15):
        raise ValueError(
            f"codes {int(codes.min())} .. {int(codes.max())} do not fit 4 bits (0 .. 15); quantize with n_bits=4 "
            "and add 8 to symmetric codes"
        )
    codes = codes.to(torch.uint8)
    return codes[..., 0::2] | codes[..., 1::2] << 4


def unpack_int4(packed: Tensor) -> Tensor:
    """Bytes (..., K / 2) -> the codes 0 .. 15 (..., K), uint8."""
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)


def shifted_codes(weight: QuantizedTensor) -> tuple[Tensor, Tensor, Tensor]:
    """(u, scale, zero) of the formula above: u (out, in) uint8, the others (out, in / g) float32."""
    if weight.n_bits != 4:
        raise ValueError(f"weight has {weight.n_bits} bits; quantize it with n_bits=4")
    scale = weight.scale.expand(weight.shape[0], -1)
    if weight.shape[1] != scale.shape[1] * weight.group_size:
        raise ValueError(
            f"weight {tuple(weight.shape)} has scales {tuple(scale.shape)} for groups of {weight.group_size}"
        )
    if weight.zero_point is None:
        return (weight.codes + MIDDLE).to(torch.uint8), scale, torch.zeros_like(scale)
    return weight.codes, scale, (MIDDLE - weight.zero_point.float()) * scale


def kernel_takes(weight: QuantizedTensor) -> bool:
    """Whether PyTorch's CPU kernel has this shape (it asks for 16 rows at a time and one of four group sizes)."""
    return (
        hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu")
        and weight.codes.device.type == "cpu"
        and weight.shape[0] % KERNEL_ROW_MULTIPLE == 0
        and weight.group_size in KERNEL_GROUP_SIZES
    )


class Int4Linear(nn.Module):
    """A linear layer with a weight (out, in) of 4 bits, from ``quantize(weight, 4, granularity=32)``.

    ``kernel``: PyTorch's CPU kernel, which holds the bytes in an order of its own; by default where it takes the
    shape.  Without it the weight is restored for each product: correct on every device, and slow.
    """

    def __init__(self, weight: QuantizedTensor, bias: Tensor | None = None, *, kernel: bool | None = None):
        super().__init__()
        codes, scale, zero = shifted_codes(weight)
        if kernel and not kernel_takes(weight):
            raise ValueError(
                f"no int4 kernel for a weight {tuple(weight.shape)} with groups of {weight.group_size} on "
                f"{weight.codes.device}: it takes outputs in multiples of {KERNEL_ROW_MULTIPLE}, groups of "
                f"{KERNEL_GROUP_SIZES} and the CPU; leave kernel=None for the product without it"
            )
        self.in_features, self.group_size = weight.shape[1], weight.group_size
        self.kernel = kernel_takes(weight) if kernel is None else kernel
        packed = (
            torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
            if self.kernel
            else pack_int4(codes)
        )
        self.register_buffer("packed", packed)
        # (in / g, out, 2), the kernel's order: scale and zero of a group lie side by side.
        self.register_buffer(
            "scale_and_zero", torch.stack([scale, zero], dim=-1).transpose(0, 1).contiguous()
        )
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the dtype of ``x``."""
        if x.shape[-1] != self.in_features:
            raise ValueError(f"x has {x.shape[-1]} features; this layer takes {self.in_features}")
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if not self.kernel:
            return F.linear(x, self.restored().to(x.dtype), bias)
        if x.device.type != "cpu":
            raise ValueError(
                f"x is on {x.device}, this layer's bytes are in the CPU kernel's order; build it with kernel=False"
            )
        rows = x.reshape(-1, self.in_features)
        scale_and_zero = self.scale_and_zero.to(x.dtype)
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, self.group_size, scale_and_zero)
        y = y.view(*x.shape[:-1], y.shape[-1])
        return y if bias is None else y + bias

    def get_extra_state(self) -> str:
        """The order of the bytes, saved with them: the kernel's depends on the CPU's vector instructions."""
        return torch.backends.cpu.get_cpu_capability() if self.kernel else "portable"

    def set_extra_state(self, state: str) -> None:
        if state != self.get_extra_state():
            raise ValueError(
                f"these bytes are in the order {state!r}, this layer reads {self.get_extra_state()!r}; save layers "
                "built with kernel=False, or quantize the weight again here"
            )

    def restored(self) -> Tensor:
        """(out, in) float32: the formula, from the bytes of the layer without a kernel."""
        scale, zero = self.scale_and_zero.transpose(0, 1).unbind(-1)
        grouped = unpack_int4(self.packed).unflatten(1, (-1, self.group_size)).float()
        return ((grouped - MIDDLE) * scale[..., None] + zero[..., None]).flatten(1)
