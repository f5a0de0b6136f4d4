"""Codes of 2 to 8 bits side by side, without gaps: eight codes of 3 bits in three bytes, two of 4 bits in one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scratch_llm.quantization.int4 import pack_int4, unpack_int4


def n_packed_bytes(n_codes: int, n_bits: int) -> int:
    return math.ceil(n_codes * n_bits / 8)


def pack_bits(codes: Tensor, n_bits: int) -> Tensor:
    """Whole numbers 0 .. 2^n - 1 of any shape -> bytes (ceil(count n / 8),), the lowest bit of the first code first."""
    codes = codes.flatten()
    if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) >= 2**n_bits):
        raise ValueError(f"codes {int(codes.min())} .. {int(codes.max())} do not fit {n_bits} bits (0 .. {2**n_bits - 1})")
    codes = codes.to(torch.uint8)
    if n_bits == 8:
        return codes.clone()
    if n_bits == 4 and len(codes) % 2 == 0:
        return pack_int4(codes)
    bits = (codes[:, None] >> _places(n_bits, codes)) & 1
    bits = torch.nn.functional.pad(bits.flatten(), (0, -bits.numel() % 8))
    return (bits.view(-1, 8) << _places(8, codes)).sum(1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, n_bits: int, n_codes: int) -> Tensor:
    """Bytes -> the codes, uint8 (n_codes,)."""
    if n_bits == 8:
        return packed
    if n_bits == 4 and n_codes % 2 == 0:
        return unpack_int4(packed)
    bits = (packed[:, None] >> _places(8, packed)) & 1
    bits = bits.flatten()[: n_codes * n_bits].view(n_codes, n_bits)
    return (bits << _places(n_bits, packed)).sum(1, dtype=torch.uint8)


def _places(n: int, like: Tensor) -> Tensor:
    return torch.arange(n, dtype=torch.uint8, device=like.device)
