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

from scratch_llm.layers.rope_scaling import RopeScaling


def rotary_frequencies(head_dim: int, theta: float = 10_000.0, scaling: RopeScaling | None = None) -> Tensor:
    """Radians per position of each pair, ``theta^(-2i/head_dim)`` and then scaled: float64 (head_dim / 2,)."""
    if head_dim % 2:
        raise ValueError(f"head_dim is {head_dim}: rotary embedding rotates pairs, so it must be even")
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    return frequencies if scaling is None else scaling.scale(frequencies, theta)


def rotary_tables(
    head_dim: int, n_positions: int, theta: float = 10_000.0, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines for ``apply_rotary``: two float32 tensors of shape (n_positions, head_dim).

    Each angle stands twice (once per half); the sines of the first half carry the minus sign of the
    rotation, so that applying it is two products and one sum.  Angles are computed in float64, because
    at position 100,000 a float32 angle is already wrong in the third digit.
    """
    frequencies = rotary_frequencies(head_dim, theta, scaling)
    angles = torch.arange(n_positions, dtype=torch.float64)[:, None] * frequencies  # (positions, d/2)
    factor = 1.0 if scaling is None else scaling.table_factor
    cos, sin = angles.cos() * factor, angles.sin() * factor
    return torch.cat((cos, cos), dim=-1).float(), torch.cat((-sin, sin), dim=-1).float()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate ``x`` (..., d) by tables from ``rotary_tables`` that broadcast against it; keeps the dtype.

    For a pair (a, b): (a cos - b sin, b cos + a sin); swapping the halves brings b to a's place.
    """
    if torch.compiler.is_compiling():  # Inductor vectorises a flip of whole halves, and reads a roll number by number
        halves, cos, sin = (t.unflatten(-1, (2, -1)) for t in (x, cos.to(x.dtype), sin.to(x.dtype)))
        return torch.addcmul(halves * cos, halves.flip(-2), sin).flatten(-2)
    swapped = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * cos.to(x.dtype), swapped, sin.to(x.dtype))


# -- the two pairings, to be read --------------------------------------------------------------------------------


def rotate_halves(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the pairs (i, i + d/2) of ``x`` (..., d) by ``angles`` (..., d/2): the clear form of ``apply_rotary``."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def rotate_neighbours(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the pairs (2i, 2i + 1) of ``x`` (..., d) by ``angles`` (..., d/2), as RoFormer writes it."""
    a, b = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


def interleaved_to_half(weight: Tensor, n_heads: int) -> Tensor:
    """Permute rows of a q or k projection, (n_heads * d, D) or its bias, from neighbour pairing to half pairing.

    With the permuted weights and half pairing, attention gives the same result as the original weights
    with neighbour pairing (Meta's own Llama files, CS336).
    """
    head_dim = _head_dim(weight, n_heads)
    return weight.reshape(n_heads, head_dim // 2, 2, -1).transpose(1, 2).reshape(weight.shape)


def half_to_interleaved(weight: Tensor, n_heads: int) -> Tensor:
    """The reverse of ``interleaved_to_half``."""
    head_dim = _head_dim(weight, n_heads)
    return weight.reshape(n_heads, 2, head_dim // 2, -1).transpose(1, 2).reshape(weight.shape)


def _head_dim(weight: Tensor, n_heads: int) -> int:
    if len(weight) % (2 * n_heads):
        raise ValueError(
            f"a projection of {len(weight)} rows has no {n_heads} heads of even width: give the number of heads "
            "of this projection (n_kv_heads for keys)"
        )
    return len(weight) // n_heads
