"""Daubechies' wavelets and the inverse discrete wavelet transform of a matrix (one level).

A signal of 2 n numbers is as well described by n coarse ones (where it lies) and n fine ones (how neighbours differ).  Back
from these: each coarse number places a copy of the low-pass filter at every second place, each fine one a copy of the
high-pass filter, and all copies are added.  For a matrix that is done along the columns, then along the rows.

Sources: Daubechies 1988 (Orthonormal bases of compactly supported wavelets); Mallat 1989 for the transform in two
dimensions.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

N_MOMENTS = range(1, 11)
"""Daubechies' family from db1, which is Haar's, to db10; a filter has twice as many numbers."""


@functools.cache
def low_pass(n_moments: int) -> tuple[float, ...]:
    """The ``2 n`` numbers of Daubechies' filter with n vanishing moments, for going back; they sum to sqrt(2).

    It is ``((1 + z) / 2)^n`` times the polynomial whose squared length on the unit circle is P(y), with y = sin^2 of half
    the angle and P(y) the sum over k < n of ``binomial(n - 1 + k, k) y^k``.  Each root of P gives two of
    the polynomial sought, z and 1/z, since y = (2 - z - 1/z) / 4; the one inside the circle is taken.
    """
    if n_moments not in N_MOMENTS:
        raise ValueError(f"Daubechies' filters are here from db{N_MOMENTS[0]} to db{N_MOMENTS[-1]}, not db{n_moments}")
    highest_first = [math.comb(n_moments - 1 + k, k) for k in reversed(range(n_moments))]
    roots = [-1.0] * n_moments
    for y in np.roots(highest_first):
        half = 1 - 2 * y  # z + 1/z = 2 - 4 y
        outside = half + np.sqrt(half**2 - 1 + 0j)
        roots.append(1 / outside if abs(outside) > 1 else outside)
    filter_ = np.poly(roots).real
    return tuple((filter_ * math.sqrt(2) / filter_.sum()).tolist())


def high_pass(low: tuple[float, ...]) -> tuple[float, ...]:
    """Its partner: backwards, every second sign turned, so that the two are orthogonal."""
    return tuple((-1) ** i * value for i, value in enumerate(reversed(low)))


def synthesize(coarse: Tensor, fine: Tensor, low: tuple[float, ...]) -> Tensor:
    """Along the last axis: (..., n) and (..., n) -> (..., 2 n + 2 - L) for filters of L numbers.

    Of the 2 n + L - 2 sums, L - 2 at either end lack a part of the copies that should meet there, and are left out.
    """
    high, n_pairs = high_pass(low), len(low) // 2
    # Even places of the result see the filters' even numbers, odd ones the odd numbers.
    phases = []
    for phase in (0, 1):
        shifted = [
            F.pad(coarse * low[2 * i + phase] + fine * high[2 * i + phase], (i, n_pairs - 1 - i)) for i in range(n_pairs)
        ]
        phases.append(torch.stack(shifted).sum(0) if n_pairs > 1 else shifted[0])
    whole = torch.stack(phases, dim=-1).flatten(-2)
    cut = len(low) - 2
    return whole[..., cut : whole.shape[-1] - cut]


def inverse_wavelet_transform(coarse: Tensor, horizontal: Tensor, vertical: Tensor, diagonal: Tensor, low: tuple[float, ...]) -> Tensor:
    """Four bands (H, W) each -> (2 H + 2 - L, 2 W + 2 - L).

    ``horizontal`` is fine from row to row (it shows horizontal edges), ``vertical`` from column to column, ``diagonal``
    in both directions.
    """
    coarse_rows = synthesize(coarse, vertical, low)
    fine_rows = synthesize(horizontal, diagonal, low)
    return synthesize(coarse_rows.mT, fine_rows.mT, low).mT
