"""Rotary position embedding (Su et al. 2021, RoFormer, section 3.2).

Dimension pair ``i`` of a head is rotated by the angle ``position * theta^(-2i/head_dim)``, so that the
product of a query and a key depends only on the distance between them.

Which two dimensions form a pair is a convention.  The paper pairs neighbours (2i, 2i+1); Hugging Face
checkpoints pair halves (i, i + head_dim/2).  Both are the same function after permuting the rows of the
query and key projections; we use halves, and ``interleaved_to_half`` converts the other kind.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_tables(head_dim: int, n_positions: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines for ``apply_rotary``: two float32 tensors of shape (n_positions, head_dim).

    Each angle stands twice (once per half); the sines of the first half carry the minus sign of the
    rotation, so that applying it is two products and one sum.  Angles are computed in float64, because
    at position 100,000 a float32 angle is already wrong in the third digit.
    """
    if head_dim % 2:
        raise ValueError(f"head_dim is {head_dim}: rotary embedding rotates pairs, so it must be even")
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.arange(n_positions, dtype=torch.float64)[:, None] * frequencies  # (positions, d/2)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1).float(), torch.cat((-sin, sin), dim=-1).float()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate ``x`` (..., d) by tables from ``rotary_tables`` that broadcast against it; keeps the dtype.

    For a pair (a, b): (a cos - b sin, b cos + a sin); swapping the halves brings b to a's place.
    """
    swapped = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * cos.to(x.dtype), swapped, sin.to(x.dtype))


def interleaved_to_half(weight: Tensor, n_heads: int) -> Tensor:
    """Permute rows of a q or k projection (n_heads * d, D) from neighbour pairing to half pairing.

    With the permuted weights and half pairing, attention gives the same result as the original weights
    with neighbour pairing (Meta's own Llama files, CS336).
    """
    rows, columns = weight.shape
    head_dim = rows // n_heads
    return weight.view(n_heads, head_dim // 2, 2, columns).transpose(1, 2).reshape(rows, columns)
