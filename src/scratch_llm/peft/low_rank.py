"""``y + scale * (x A^T) B^T`` for several matrices at once, with little memory.

As autograd would do it, each matrix has a product with its A, one with its B, a multiplication by the scale and an
addition, and the last three each write a tensor as large as ``y``.  Here all the A are one matrix, so ``x`` is read once,
and the product with B adds itself to ``y`` where it lies: no tensor of that size is made, and backward keeps only ``x`` and
the few columns ``x A^T``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def add_low_rank(y: Tensor, x: Tensor, A: Tensor, B: Tensor, rows: Sequence[slice], scale: float) -> Tensor:
    """``y`` with the low-rank products added to some of its columns; ``y`` itself is used up.

    Args:
        y: (..., out), the output of the frozen layer.
        x: (..., in).
        A: (P r, in): the A of P matrices, one below the other.
        B: (rows of all P, r): likewise.
        rows: of each matrix, its columns in ``y``.
        scale: of the products.
    """
    A, B = A.to(y.dtype), B.to(y.dtype)  # adapters are float32 though the model may compute in bfloat16
    if torch.compiler.is_compiling():  # which fuses by itself, and takes no function that writes in place
        return clear_add_low_rank(y, x, A, B, rows, scale)
    return _AddLowRank.apply(y, x.to(y.dtype), A, B, tuple(rows), scale)


def in_autocast_dtype(x: Tensor) -> Tensor:
    """``x`` as autocast would give it to each product: converted once, and its gradients summed before going back."""
    device = x.device.type
    if device == "meta":  # shapes alone, which autocast does not know
        return x
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def clear_add_low_rank(y: Tensor, x: Tensor, A: Tensor, B: Tensor, rows: Sequence[slice], scale: float) -> Tensor:
    """The same as it stands in the paper: one matrix after the other, gradients by autograd."""
    columns = list(y.split(_widths(rows, y.shape[-1]), dim=-1))
    places = [i for i, (_, is_adapted) in enumerate(_pieces(rows, y.shape[-1])) if is_adapted]
    for place, A_rD, B_Rr in zip(places, _cut(A, rows), B.split([r.stop - r.start for r in rows])):
        columns[place] = columns[place] + scale * F.linear(F.linear(x, A_rD), B_Rr)
    return torch.cat(columns, dim=-1)


class _AddLowRank(torch.autograd.Function):
    """Forward and backward of one step; N tokens, D inputs, r the rank, R a matrix's rows."""

    @staticmethod
    def forward(ctx, y: Tensor, x: Tensor, A: Tensor, B: Tensor, rows: tuple[slice, ...], scale: float) -> Tensor:
        x_ND = x.reshape(-1, x.shape[-1])
        h_NPr = x_ND @ A.t()
        y_NO = y.view(-1, y.shape[-1])
        for columns, h_Nr, B_Rr in _triples(h_NPr, B, rows):
            y_NO[:, columns].addmm_(h_Nr, B_Rr.t(), alpha=scale)
        ctx.mark_dirty(y)
        ctx.save_for_backward(x_ND, h_NPr, A, B)
        ctx.rows, ctx.scale, ctx.x_shape = rows, scale, x.shape
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        x_ND, h_NPr, A, B = ctx.saved_tensors
        dy_NO = dy.reshape(-1, dy.shape[-1])
        dh_NPr, dB = torch.empty_like(h_NPr), torch.empty_like(B)
        places = zip(_triples(h_NPr, B, ctx.rows), _triples(dh_NPr, dB, ctx.rows))
        for (columns, h_Nr, B_Rr), (_, dh_Nr, dB_Rr) in places:
            dy_NR = dy_NO[:, columns]
            dh_Nr.copy_(dy_NR @ B_Rr)
            dB_Rr.copy_((h_Nr.t() @ dy_NR).t())  # a third faster than dy^T h: the long side stays in place
        dh_NPr *= ctx.scale
        dB *= ctx.scale
        dx = (dh_NPr @ A).view(ctx.x_shape) if ctx.needs_input_grad[1] else None
        return dy, dx, dh_NPr.t() @ x_ND, dB, None, None


def _triples(h_NPr: Tensor, B: Tensor, rows: Sequence[slice]):
    """For each matrix: its columns of y, of ``h`` and its rows of B."""
    return zip(rows, h_NPr.split(B.shape[1], dim=1), B.split([r.stop - r.start for r in rows]))


def _cut(A: Tensor, rows: Sequence[slice]) -> tuple[Tensor, ...]:
    return A.chunk(len(rows))


def _pieces(rows: Sequence[slice], width: int) -> list[tuple[int, bool]]:
    """Widths of the columns in order, and whether they are adapted."""
    pieces, end = [], 0
    for r in rows:
        if r.start > end:
            pieces.append((r.start - end, False))
        pieces.append((r.stop - r.start, True))
        end = r.stop
    return [*pieces, (width - end, False)] if end < width else pieces


def _widths(rows: Sequence[slice], width: int) -> list[int]:
    return [n for n, _ in _pieces(rows, width)]
