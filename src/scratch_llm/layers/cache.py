"""What every cache offers to the generation engine, and the masks and positions of batches with padding.

Memory for ``max_length`` positions is taken once.  A *slot* is a place in that memory; all rows of a
batch fill the same slots at the same time, so a batch of prompts of unequal length is padded, and the
cache remembers which slots hold real tokens.  A token's *position* is the number of real tokens before it
in its row: padding takes up slots but no positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from scratch_llm.layers.segments import SegmentMask, is_segments


class Cache(ABC):
    """What a model keeps of the tokens it has seen.

    Attributes:
        batch_size: rows.
        length: slots filled so far (tokens seen, padding included).
        max_length: slots there are; None: no limit.
        dtype: of what is kept.
    """

    def __init__(self, batch_size: int, max_length: int | None, dtype: torch.dtype):
        if batch_size < 1 or (max_length is not None and max_length < 1):
            raise ValueError(
                f"a cache of batch_size {batch_size} and max_length {max_length} holds nothing: both must be at least 1"
            )
        self.batch_size, self.max_length, self.dtype = batch_size, max_length, dtype
        self.length = 0

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """Everything that takes memory."""

    @property
    def device(self) -> torch.device:
        return self.tensors()[0].device

    def n_bytes(self) -> int:
        """Memory taken."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def reset(self) -> None:
        """Forget everything; the memory is kept."""
        self.length = 0

    def advance(self, n_new: int) -> None:
        """Count ``n_new`` slots as filled, once per forward pass, after all layers wrote."""
        self.length += n_new

    def select_rows(self, rows: list[int]) -> None:
        """Let the cache consist of these of its rows, in this order; one may come several times."""
        index = torch.tensor(rows, device=self.device)
        for tensor in self.tensors():
            tensor.set_(tensor.index_select(0, index))
        self.batch_size = len(rows)

    def replace_rows(self, rows: list[int], other: Cache) -> None:
        """Let ``rows`` hold what ``other`` holds, one of its rows each."""
        index = torch.tensor(rows, device=self.device)
        for mine, theirs in zip(self.tensors(), other.tensors()):
            mine[index] = theirs.to(mine.dtype)

    def check_room(self, batch_size: int, n_new: int) -> None:
        """ValueError where ``n_new`` more tokens of ``batch_size`` rows do not fit."""
        if batch_size != self.batch_size:
            raise ValueError(
                f"tokens have {batch_size} rows but the cache was made for {self.batch_size}: "
                f"call init_cache(batch_size={batch_size})"
            )
        if self.max_length is not None and self.length + n_new > self.max_length:
            raise ValueError(
                f"the cache holds {self.max_length} positions, {self.length} are taken and {n_new} more do not fit: "
                "make it longer with init_cache(max_length=...), or generate with scratch_llm.generation, "
                "which slides the window"
            )


class SlotCache(Cache):
    """A cache with one slot per token: which slots are real, what a query may look at, and how rows are replaced.

    Every tensor of ``tensors()`` has its slots in dimension 2 (``_text_tensors``: one slot for every token).

    Attributes:
        real_BS: which slots hold real tokens, bool (B, max_length); None while nothing was padded.
        n_real_B: real tokens per row, int64 (B,); None while nothing was padded (then it is ``length``).
    """

    max_length: int

    def __init__(self, batch_size: int, max_length: int, dtype: torch.dtype):
        super().__init__(batch_size, max_length, dtype)
        self.real_BS: Tensor | None = None
        self.n_real_B: Tensor | None = None

    def reset(self) -> None:
        super().reset()
        self.real_BS, self.n_real_B = None, None

    def begin(
        self, batch_size: int, n_new: int, padding_mask: Tensor | None
    ) -> tuple[Tensor | slice, Tensor | None]:
        """Prepare ``n_new`` slots, once per forward pass, before any layer writes.

        ``padding_mask`` (B, n_new) bool is True at real tokens; None means all are real.
        Returns the positions of the new tokens, a slice that holds for all rows or int64 (B, T), and the attention
        mask, None (plain causal), or bool of shape (T, S) or (B, 1, T, S), True where a query may look.
        """
        self.check_room(batch_size, n_new)
        start, end = self.length, self.length + n_new
        if padding_mask is not None and self.real_BS is None and not padding_mask.all():
            self._note_padding()
        if self.real_BS is None:
            mask = None if start == 0 or n_new == 1 else causal_mask(n_new, end, self.device)
            return slice(start, end), mask
        if n_new == 1 and padding_mask is None:
            return self._begin_step()
        new_real_BT = (
            padding_mask.bool()
            if padding_mask is not None
            else torch.ones(batch_size, n_new, dtype=torch.bool, device=self.device)
        )
        self.real_BS[:, start:end] = new_real_BT
        positions_BT = padded_positions(new_real_BT, self.n_real_B)
        self.n_real_B = self.n_real_B + new_real_BT.sum(dim=1)
        return positions_BT, padded_mask(self.real_BS[:, :end], n_new)

    def window_mask(self, window: int, n_new: int) -> Tensor | None:
        """The mask of layers that see ``window`` tokens, after ``begin``; None: causal within the window.

        It fits the keys that ``write`` returns in such a layer.
        """
        start, end = self.length, self.length + n_new
        if self.real_BS is None:
            return None if start == 0 or n_new == 1 else causal_mask(n_new, end, self.device, window)
        return padded_mask(self.real_BS[:, :end], n_new, window)

    def _text_tensors(self) -> list[Tensor]:
        """The tensors that have a slot for every token."""
        return self.tensors()

    def _copy_rows(self, index: Tensor, other: SlotCache) -> None:
        """The part of ``replace_rows`` that moves keys and values."""
        start = self.length - other.length
        for mine, theirs in zip(self.tensors(), other.tensors()):
            mine[index, :, start : self.length] = theirs[:, :, : other.length].to(mine.dtype)

    def _begin_step(self) -> tuple[Tensor, Tensor]:
        """``begin`` for one real token per row, in as few operations as can be."""
        self.real_BS[:, self.length] = True
        positions_B1 = self.n_real_B[:, None]
        self.n_real_B = self.n_real_B + 1
        return positions_B1, self.real_BS[:, None, None, : self.length + 1]

    def replace_rows(self, rows: list[int], other: SlotCache) -> None:
        """Let ``rows`` hold what ``other`` holds (one of its rows each, nothing padded), ending at the last slot filled.

        What the rows held before is forgotten, so their tokens take the positions 0, 1, ... of ``other``.
        """
        self.lengthen(other.length)
        start = self.length - other.length
        index = torch.tensor(rows, device=self.device)
        self._copy_rows(index, other)
        self._note_padding()
        self.real_BS[index, :start] = False
        self.real_BS[index, start : self.length] = True
        self.n_real_B = self.n_real_B.index_fill(0, index, other.length)

    def select_rows(self, rows: list[int]) -> None:
        super().select_rows(rows)
        if self.real_BS is not None:
            index = torch.tensor(rows, device=self.device)
            self.real_BS, self.n_real_B = self.real_BS[index], self.n_real_B[index]

    def lengthen(self, length: int) -> None:
        """Move everything back, so that at least ``length`` slots are filled: room for a longer row to replace one."""
        n_new = length - self.length
        if n_new <= 0:
            return
        self._note_padding()
        for tensor in [*self._text_tensors(), self.real_BS[:, None]]:
            tensor[:, :, n_new:length] = tensor[:, :, : self.length].clone()
        self.real_BS[:, :n_new] = False
        self.length = length

    def _note_padding(self) -> None:
        """From now on, keep account of which slots are real."""
        if self.real_BS is None:
            self.real_BS = torch.zeros(self.batch_size, self.max_length, dtype=torch.bool, device=self.device)
            self.real_BS[:, : self.length] = True
            self.n_real_B = torch.full((self.batch_size,), self.length, device=self.device)

    def compact(self) -> None:
        """Move everything to the front, over the slots in which no row has a real token any more."""
        if self.real_BS is None:
            return
        first = int(self.real_BS[:, : self.length].any(dim=0).int().argmax())
        kept = self.length - first
        if first:
            for tensor in self._text_tensors():
                tensor[:, :, :kept] = tensor[:, :, first : self.length].clone()
            self.real_BS[:, :kept] = self.real_BS[:, first : self.length].clone()
            self.real_BS[:, kept:] = False
            self.length = kept
        if bool(self.real_BS[:, :kept].all()):
            # No padding left: back to the way without a mask.
            self.real_BS, self.n_real_B = None, None


def positions_and_mask(
    n_tokens: int, padding_mask: Tensor | None, window: int | None = None
) -> tuple[Tensor | slice, Tensor | SegmentMask | None]:
    """What ``SlotCache.begin`` returns, for a forward pass without a cache; with ``window`` the mask is that of
    ``SlotCache.window_mask``.  A mask of whole numbers gives the ``SegmentMask`` of packed texts, for any window."""
    if padding_mask is None or (n_tokens == 1 and is_segments(padding_mask)):
        return slice(0, n_tokens), None
    if is_segments(padding_mask):
        segments = SegmentMask.of(padding_mask)
        return segments.positions_BT, segments
    return padded_positions(padding_mask), padded_mask(padding_mask.bool(), n_tokens, window)


def check_window(window: int | None) -> None:
    """ValueError where no query could see even itself."""
    if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
        raise ValueError(
            f"window is {window!r}: it must be a whole number of at least 1 (a query sees itself and window - 1 tokens "
            "before it), or None to see all"
        )


def causal_mask(
    n_queries: int, n_keys: int, device: torch.device | None = None, window: int | None = None
) -> Tensor:
    """(T, S) bool: the last ``n_queries`` of ``n_keys`` positions each look at themselves and what is before.

    With ``window`` they look at no more than so many positions, themselves included.
    """
    last = n_keys - n_queries
    mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril_(last)
    return mask if window is None else mask.triu_(last - window + 1)


def padded_positions(real_BT: Tensor, n_before_B: Tensor | int = 0) -> Tensor:
    """(B, T) int64: for each token the number of real tokens before it (padding gets a harmless 0 or more)."""
    before = n_before_B[:, None] if isinstance(n_before_B, Tensor) else n_before_B
    return (real_BT.long().cumsum(dim=1) - 1 + before).clamp_(min=0)


def padded_mask(real_BS: Tensor, n_queries: int, window: int | None = None) -> Tensor:
    """(B, 1, T, S) bool: causal, and no key that is padding; ``window`` counts real tokens only.

    Each query may always look at itself: a row of nothing but False would make softmax divide by zero.
    What padding computes is finite and seen by no real token.
    """
    n_keys = real_BS.shape[1]
    causal_TS = causal_mask(n_queries, n_keys, real_BS.device)
    self_TS = causal_TS & ~causal_TS.tril(diagonal=n_keys - n_queries - 1)
    seen_BTS = causal_TS & real_BS[:, None, :]
    if window is not None and n_keys > window:
        number_BS = real_BS.long().cumsum(dim=1)
        seen_BTS &= number_BS[:, None, :] > number_BS[:, -n_queries:, None] - window
    return (seen_BTS | self_TS)[:, None]
