"""Several texts in one row, each blind to the others: where each token's text begins is all that attention needs.

Short texts are packed side by side so that no place of a batch is padding.  Plain causal attention would let a text read
its neighbours.  A token may look back to the beginning of its own text and no further, which is a block-diagonal mask:

    text 1  x . . . .
            x x . . .
    text 2  . . x . .
            . . x x .
            . . x x x
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor


class SegmentMask:
    """The attention mask of packed rows; stands where a bool mask would.

    Attributes:
        start_BT: for each token where its text begins in the row, int64 (B, T).
    """

    def __init__(self, start_BT: Tensor):
        self.start_BT = start_BT
        self._dense: dict[int | None, Tensor] = {}

    @classmethod
    def of(cls, segments_BT: Tensor) -> SegmentMask:
        """From whole numbers (B, T): neighbours with the same number belong to the same text."""
        begins_BT = torch.ones_like(segments_BT, dtype=torch.bool)
        begins_BT[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
        place_T = torch.arange(segments_BT.shape[1], device=segments_BT.device)
        return cls(torch.where(begins_BT, place_T, 0).cummax(dim=1).values)

    @property
    def positions_BT(self) -> Tensor:
        """Each token's position in its own text, int64 (B, T)."""
        return torch.arange(self.start_BT.shape[1], device=self.start_BT.device) - self.start_BT

    @cached_property
    def earliest(self) -> list[int] | None:
        """For each place the earliest token that a row's query there sees, so that keys before it need not be read at all.

        None in a compiled graph, whose shapes may not depend on values.
        """
        if torch.compiler.is_compiling() or self.start_BT.device.type != "cpu":
            return None
        return self.start_BT.amin(dim=0).tolist()

    def hidden(self, first_key: int, start: int, end: int, window: int | None = None) -> Tensor:
        """(B, 1, end - start, end - first_key) bool, True where a query of start..end - 1 may not look."""
        key_K = torch.arange(first_key, end, device=self.start_BT.device)
        query_Q1 = torch.arange(start, end, device=self.start_BT.device)[:, None]
        outside_QK = key_K > query_Q1
        if window is not None:
            outside_QK |= key_K <= query_Q1 - window
        return (outside_QK | (key_K < self.start_BT[:, start:end, None]))[:, None]

    def dense(self, window: int | None = None) -> Tensor:
        """(B, 1, T, T) bool, True where a query may look; made once for all layers."""
        if window not in self._dense:
            self._dense[window] = ~self.hidden(0, 0, self.start_BT.shape[1], window)
        return self._dense[window]


def is_segments(padding_mask: Tensor | None) -> bool:
    """Whether a ``padding_mask`` numbers texts (whole numbers) and does not only tell padding from text (bool)."""
    return padding_mask is not None and padding_mask.dtype != torch.bool
