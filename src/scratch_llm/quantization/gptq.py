"""GPTQ (Frantar et al. 2023): a column is rounded, and the columns after it make up for its error.

Round-to-nearest minimises |W - W_hat|; what counts is the output, sum over tokens of |(W - W_hat) x|^2.  That is a
quadratic in each row of W, with the same Hessian H = 2 X X^T for all rows (section 3, "Layer-Wise Quantization").
When column j is rounded with error e = w_j - w_hat_j, the best change of the columns not yet rounded is
- e / [H^-1]_jj * [H^-1]_j,: (eq. 2).  All rows take the columns in the same order (section 3, step 1), so the inverses
over the columns that remain are the rows of one upper Cholesky factor U, H^-1 = U^T U (step 3):

    for each column j:    q_j = round(w_j)       e = (w_j - q_j) / U_jj       w_k -= e U_jk   for k > j

Columns go in blocks, and what lies past the block is brought up to date once at its end (step 2, algorithm 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from scratch_llm.quantization.affine import (
    Granularity,
    QuantizedTensor,
    check_bits,
    check_weight,
    choose_grid,
    decode,
    encode,
    group_size_of,
)


def hessian(x_ND: Tensor) -> Tensor:
    """H = 2 X X^T / N, (D, D) float64, of inputs (tokens, D); the mean of several batches is that of all their tokens."""
    check_weight(x_ND, "x_ND")
    x_ND = x_ND.detach().double()
    return 2 / x_ND.shape[0] * x_ND.T @ x_ND


@torch.no_grad()
def gptq(
    weight: Tensor,
    hessian_DD: Tensor,
    n_bits: int = 4,
    *,
    symmetric: bool = True,
    granularity: Granularity = "channel",
    damping: float = 0.01,
    block_size: int = 128,
) -> QuantizedTensor:
    """Algorithm 1 for ``weight`` (out, D) and ``hessian_DD`` (see ``hessian``).

    ``damping``: this part of H's mean diagonal is added to its diagonal (section 3, step 3: 1 %), against inputs that
    depend on each other.  Groups choose their grid when their first column is reached, from the weight as it is then.
    """
    check_weight(weight)
    check_bits(n_bits)
    n_columns = weight.shape[1]
    group_size = group_size_of(granularity, n_columns)
    _check_settings(hessian_DD, n_columns, damping, block_size, group_size)
    upper = inverse_cholesky(hessian_DD, damping).float()
    remaining = weight.float().clone()
    codes, scales, zero_points = [], [], []
    shared = (
        choose_grid(remaining.reshape(1, -1), n_bits, symmetric=symmetric)
        if granularity == "tensor"
        else None
    )
    for start in range(0, n_columns, block_size):
        end = min(start + block_size, n_columns)
        errors = torch.zeros_like(remaining[:, start:end])
        for j in range(start, end):
            if j % group_size == 0:
                group = remaining[:, j : j + group_size]
                scale, zero_point = shared or choose_grid(group, n_bits, symmetric=symmetric)
                scales.append(scale)
                zero_points.append(zero_point)
            column = remaining[:, j : j + 1]
            codes.append(encode(column, scale, zero_point, n_bits))
            error = (column - decode(codes[-1], scale, zero_point)) / upper[j, j]
            remaining[:, j + 1 : end] -= error * upper[j, j + 1 : end]
            errors[:, j - start : j - start + 1] = error
        remaining[:, end:] -= errors @ upper[start:end, end:]
    zero_point = None if symmetric else torch.cat(zero_points, 1)
    return QuantizedTensor(torch.cat(codes, 1), torch.cat(scales, 1), zero_point, group_size, n_bits)


def inverse_cholesky(hessian_DD: Tensor, damping: float) -> Tensor:
    """Upper U (D, D) float64 with U^T U = (H + damping * mean(diag H) * I)^-1.

    An input that was always 0 has a row and column of zeros: its diagonal becomes 1, so that H has an inverse.  No
    other column depends on it, and its weights are rounded to nearest.
    """
    damped = hessian_DD.double().clone()
    diagonal = damped.diagonal()
    dead = diagonal == 0
    diagonal += damping * diagonal.mean()
    diagonal[dead] = 1.0
    lower, failed = torch.linalg.cholesky_ex(damped)
    if not failed:
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    if failed:
        raise ValueError(
            f"hessian_DD with damping {damping} is not positive definite: its inputs depend on each other; raise the "
            f"damping, e.g. to {max(0.01, 10 * damping)}, or calibrate with more tokens than the {len(damped)} inputs"
        )
    return upper


def _check_settings(
    hessian_DD: Tensor, n_columns: int, damping: float, block_size: int, group_size: int
) -> None:
    check_weight(hessian_DD, "hessian_DD")
    if hessian_DD.shape != (n_columns, n_columns):
        raise ValueError(
            f"hessian_DD has shape {tuple(hessian_DD.shape)}; a weight with {n_columns} inputs needs "
            f"({n_columns}, {n_columns}), e.g. hessian(x) of its inputs x (tokens, {n_columns})"
        )
    if not 0 <= damping < float("inf"):
        raise ValueError(f"damping is {damping}; it must be 0 or more, e.g. 0.01")
    if block_size < 1:
        raise ValueError(f"block_size is {block_size}; it must be 1 or more, e.g. 128")
    if group_size < n_columns and block_size % group_size:
        raise ValueError(
            f"block_size {block_size} is not a multiple of the group size {group_size}, so that a group would choose "
            f"its grid from columns that are not up to date; choose e.g. {max(1, block_size // group_size) * group_size}"
        )
