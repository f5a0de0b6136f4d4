"""Uniform quantisation of a weight: the grid, the rounding, and what the rounding costs.

A grid has a step s (``scale``) and, if it is affine, the code z that stands for 0 (``zero_point``):

    q = clamp(round(w / s) + z, q_min, q_max)        w_hat = (q - z) * s

(Jacob et al. 2018, section 2.1, eq. 1; Nagel et al. 2021, "A White Paper on Neural Network Quantization", section 2.1.)

    symmetric   z = 0,  s = max|w| / q_max,          q in -(2^(n-1) - 1) .. 2^(n-1) - 1
    affine      s = (max w - min w) / (2^n - 1),     q in 0 .. 2^n - 1,   z = round(-min w / s)

The range of an affine grid always holds 0, so that 0 is kept exactly: zero padding and pruned weights stay 0.
Numbers that share one grid: the whole tensor, a row (an output channel), or g neighbouring inputs of a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Granularity = int | Literal["tensor", "channel"]
SMALLEST_SCALE = torch.finfo(torch.float32).tiny  # the grid of a row of zeros; dividing by it is defined


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """A weight (out, in) as whole numbers.

    ``codes`` (out, in): int8 if symmetric, uint8 if affine; one byte each here, ``n_bits`` when packed.
    ``scale`` (out, in / group_size) in float32, or (1, 1) for one grid of the whole tensor.
    ``zero_point``: uint8 of the same shape, None if symmetric.
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None
    group_size: int
    n_bits: int

    @property
    def shape(self) -> torch.Size:
        return self.codes.shape

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """(out, in): the numbers that the codes stand for."""
        zero_point = None if self.zero_point is None else self.zero_point[..., None]
        codes = self.codes.unflatten(1, (-1, self.group_size))
        return decode(codes, self.scale[..., None], zero_point).flatten(1).to(dtype)

    def n_bytes(self) -> int:
        """Bytes when the codes and zero points are packed without gaps; scales in their own dtype."""
        n_zero_points = 0 if self.zero_point is None else self.zero_point.numel()
        packed = math.ceil(self.codes.numel() * self.n_bits / 8) + math.ceil(n_zero_points * self.n_bits / 8)
        return packed + self.scale.numel() * self.scale.element_size()


def quantize(
    weight: Tensor, n_bits: int = 8, *, symmetric: bool = True, granularity: Granularity = "channel"
) -> QuantizedTensor:
    """Each number of ``weight`` (out, in) to the nearest point of its grid.

    ``granularity``: "tensor", "channel" (a row), or a whole number g (g neighbouring inputs of a row).
    """
    check_weight(weight)
    check_bits(n_bits)
    group_size = group_size_of(granularity, weight.shape[1])
    grouped = weight.detach().float().unflatten(1, (-1, group_size))  # (out, n_groups, g)
    sharing = grouped.reshape(1, 1, -1) if granularity == "tensor" else grouped
    scale, zero_point = choose_grid(sharing, n_bits, symmetric=symmetric)
    codes = encode(grouped, scale, zero_point, n_bits).flatten(1)
    return QuantizedTensor(
        codes, scale[..., 0], None if zero_point is None else zero_point[..., 0], group_size, n_bits
    )


def choose_grid(values: Tensor, n_bits: int, *, symmetric: bool) -> tuple[Tensor, Tensor | None]:
    """The smallest grid over each row of ``values`` (..., g): scale and zero point, both (..., 1)."""
    low, high = code_range(n_bits, symmetric=symmetric)
    if symmetric:
        return (values.abs().amax(-1, keepdim=True) / high).clamp(min=SMALLEST_SCALE), None
    least = values.amin(-1, keepdim=True).clamp(max=0)
    greatest = values.amax(-1, keepdim=True).clamp(min=0)
    scale = (greatest / high - least / high).clamp(min=SMALLEST_SCALE)  # apart: the difference may overflow
    return scale, torch.round(-least / scale).clamp(low, high).to(torch.uint8)


def encode(values: Tensor, scale: Tensor, zero_point: Tensor | None, n_bits: int) -> Tensor:
    """The code of the nearest point of the grid, same shape as ``values``; what lies outside goes to its end."""
    low, high = code_range(n_bits, symmetric=zero_point is None)
    codes = torch.round(values / scale)
    if zero_point is None:
        return codes.clamp(low, high).to(torch.int8)
    return (codes + zero_point).clamp(low, high).to(torch.uint8)


def decode(codes: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """(q - z) * s, in the scale's dtype."""
    offsets = codes.to(scale.dtype)
    return (offsets if zero_point is None else offsets - zero_point) * scale


def code_range(n_bits: int, *, symmetric: bool) -> tuple[int, int]:
    """The least and the greatest code.  Symmetric grids leave one code unused, so that -w has the code -q."""
    half = 2 ** (n_bits - 1) - 1
    return (-half, half) if symmetric else (0, 2**n_bits - 1)


@dataclass(frozen=True)
class QuantizationError:
    """How far an approximation lies from the truth."""

    max: float
    rms: float
    snr_db: float
    """10 log10(sum truth^2 / sum error^2): about 6 dB more for each bit; infinite if there is no error."""


def quantization_error(truth: Tensor, approximation: Tensor) -> QuantizationError:
    """Measures of ``approximation - truth`` (same shape), computed in float64."""
    if truth.shape != approximation.shape:
        raise ValueError(
            f"shapes {tuple(truth.shape)} and {tuple(approximation.shape)} differ; compare a tensor with its "
            "own approximation, e.g. weight with quantize(weight).dequantize()"
        )
    error = approximation.detach().double() - truth.detach().double()
    noise, signal = float(error.square().sum()), float(truth.detach().double().square().sum())
    snr_db = math.inf if noise == 0 else -math.inf if signal == 0 else 10 * math.log10(signal / noise)
    return QuantizationError(float(error.abs().max()), math.sqrt(noise / error.numel()), snr_db)


def check_weight(weight: Tensor, name: str = "weight") -> None:
    """Refuses what has no grid: another number of dimensions, no elements, whole numbers, NaN, infinity."""
    if weight.dim() != 2 or weight.numel() == 0:
        raise ValueError(
            f"{name} has shape {tuple(weight.shape)}; it must be (rows, columns), neither of them 0: "
            "flatten the other dimensions first"
        )
    if not weight.is_floating_point():
        raise ValueError(
            f"{name} has dtype {weight.dtype}; quantise floating-point numbers (call .float() first)"
        )
    n_bad = int((~torch.isfinite(weight)).sum())
    if n_bad:
        raise ValueError(
            f"{name} holds {n_bad} NaN or infinite numbers, which have no step size; find where they arise, "
            "or replace them with torch.nan_to_num first"
        )


def check_bits(n_bits: int) -> None:
    if not 2 <= n_bits <= 8:
        raise ValueError(f"n_bits is {n_bits}; it must be 2 to 8 (a code must fit one byte)")


def group_size_of(granularity: Granularity, in_features: int) -> int:
    """How many neighbouring inputs share a grid."""
    if granularity in ("tensor", "channel"):
        return in_features
    if not isinstance(granularity, int) or granularity < 1:
        raise ValueError(
            f"granularity is {granularity!r}; choose 'tensor', 'channel' or a whole number of inputs, e.g. 32"
        )
    if in_features % granularity:
        divisors = [g for g in (16, 32, 64, 128, 256) if in_features % g == 0] or ["'channel'"]
        raise ValueError(
            f"granularity {granularity} does not divide the {in_features} inputs; choose one that does, "
            f"e.g. {divisors[-1]}"
        )
    return granularity
