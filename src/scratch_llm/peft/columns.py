"""Some columns of a tensor replaced, as autograd likes it: nothing is written in place."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def with_columns(y: Tensor, changed: Iterable[tuple[slice, Tensor]]) -> Tensor:
    """``y`` (..., D) with other values in some of its columns.

    Args:
        changed: columns in ascending order, none twice, and what is to stand there, (..., width).
    """
    pieces, end = [], 0
    for columns, values in changed:
        pieces += [y[..., end : columns.start], values.to(y.dtype)]
        end = columns.stop
    pieces.append(y[..., end:])
    pieces = [piece for piece in pieces if piece.shape[-1]]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)
