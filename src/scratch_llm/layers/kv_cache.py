"""The key/value cache: what attention has computed for earlier positions, kept for the next one.

Memory for ``max_length`` positions is taken once.  A *slot* is a place in that memory; all rows of a
batch fill the same slots at the same time, so a batch of prompts of unequal length is padded, and the
cache remembers which slots hold real tokens.  A token's *position* is the number of real tokens before it
in its row: padding takes up slots but no positions.
"""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Preallocated keys and values of every layer, each (B, K, max_length, d).

    Attributes:
        length: slots filled so far.
        real_BS: which slots hold real tokens, bool (B, max_length); None while nothing was padded.
        n_real_B: real tokens per row, int64 (B,); None while nothing was padded (then it is ``length``).
    """

    def __init__(
        self,
        n_layers: int,
        batch_size: int,
        n_kv_heads: int,
        max_length: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ):
        if batch_size < 1 or max_length < 1:
            raise ValueError(
                f"a cache of batch_size {batch_size} and max_length {max_length} holds nothing: both must be at least 1"
            )
        shape = (batch_size, n_kv_heads, max_length, head_dim)
        # Zeros, not empty: a masked slot is multiplied by weight 0, and 0 * NaN would be NaN.
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layers)]
        self.batch_size, self.max_length, self.dtype = batch_size, max_length, dtype
        # Attention of one bfloat16 query per head takes a CPU's kernel 400 us (batch 8, 6 heads, 200 keys, Zen 5), in float32
        # 165 us, conversion of all keys and values included.  One workspace serves all layers and so stays in the CPU's cache.
        self._workspace: tuple[Tensor, Tensor] | None = None
        if self.device.type == "cpu" and dtype != torch.float32:
            self._workspace = torch.zeros(shape), torch.zeros(shape)
        self.length = 0
        self.real_BS: Tensor | None = None
        self.n_real_B: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.keys[0].device

    def n_bytes(self) -> int:
        """Memory taken by keys and values."""
        return sum(part.numel() * part.element_size() for part in self.keys + self.values)

    def reset(self) -> None:
        """Forget everything; the memory is kept."""
        self.length, self.real_BS, self.n_real_B = 0, None, None

    def check_room(self, batch_size: int, n_new: int) -> None:
        """ValueError where ``n_new`` more tokens of ``batch_size`` rows do not fit."""
        if batch_size != self.batch_size:
            raise ValueError(
                f"tokens have {batch_size} rows but the cache was made for {self.batch_size}: "
                f"call init_cache(batch_size={batch_size})"
            )
        if self.length + n_new > self.max_length:
            raise ValueError(
                f"the cache holds {self.max_length} positions, {self.length} are taken and {n_new} more do not fit: "
                "make it longer with init_cache(max_length=...), or generate with scratch_llm.generation, "
                "which slides the window"
            )

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
            self.real_BS = torch.zeros(batch_size, self.max_length, dtype=torch.bool, device=self.device)
            self.real_BS[:, :start] = True
            self.n_real_B = torch.full((batch_size,), start, device=self.device)
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

    def _begin_step(self) -> tuple[Tensor, Tensor]:
        """``begin`` for one real token per row, in as few operations as can be."""
        self.real_BS[:, self.length] = True
        positions_B1 = self.n_real_B[:, None]
        self.n_real_B = self.n_real_B + 1
        return positions_B1, self.real_BS[:, None, None, : self.length + 1]

    def write(self, layer: int, k_BKTd: Tensor, v_BKTd: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values of one layer; return what attention should read, (B, K, S, d).

        Into an empty cache that is what was just given, else all slots filled so far: in the cache's dtype,
        but on a CPU in float32 for a single query (valid until the next call).
        """
        start, end = self.length, self.length + k_BKTd.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, start:end] = k_BKTd
        values[:, :, start:end] = v_BKTd
        if start == 0:
            return k_BKTd, v_BKTd
        keys, values = keys[:, :, :end], values[:, :, :end]
        if self._workspace is not None and k_BKTd.shape[2] == 1:
            return tuple(wide[:, :, :end].copy_(part) for wide, part in zip(self._workspace, (keys, values)))
        return keys, values

    def advance(self, n_new: int) -> None:
        """Count ``n_new`` slots as filled, once per forward pass, after all layers wrote."""
        self.length += n_new

    def replace_rows(self, rows: list[int], other: KVCache) -> None:
        """Let ``rows`` hold what ``other`` holds (one of its rows each, nothing padded), ending at the last slot filled.

        What the rows held before is forgotten, so their tokens take the positions 0, 1, ... of ``other``.
        """
        start = self.length - other.length
        index = torch.tensor(rows, device=self.device)
        for mine, theirs in zip(self.keys + self.values, other.keys + other.values):
            mine[index, :, start : self.length] = theirs[:, :, : other.length].to(mine.dtype)
        if self.real_BS is None:
            self.real_BS = torch.zeros(self.batch_size, self.max_length, dtype=torch.bool, device=self.device)
            self.real_BS[:, : self.length] = True
            self.n_real_B = torch.full((self.batch_size,), self.length, device=self.device)
        self.real_BS[index, :start] = False
        self.real_BS[index, start : self.length] = True
        self.n_real_B = self.n_real_B.index_fill(0, index, other.length)

    def compact(self) -> None:
        """Move everything to the front, over the slots in which no row has a real token any more."""
        if self.real_BS is None:
            return
        first = int(self.real_BS[:, : self.length].any(dim=0).int().argmax())
        kept = self.length - first
        if first:
            for tensor in self.keys + self.values:
                tensor[:, :, :kept] = tensor[:, :, first : self.length].clone()
            self.real_BS[:, :kept] = self.real_BS[:, first : self.length].clone()
            self.real_BS[:, kept:] = False
            self.length = kept
        if bool(self.real_BS[:, :kept].all()):
            # No padding left: back to the way without a mask.
            self.real_BS, self.n_real_B = None, None


def positions_and_mask(n_tokens: int, padding_mask: Tensor | None) -> tuple[Tensor | slice, Tensor | None]:
    """What ``KVCache.begin`` returns, for a forward pass without a cache."""
    if padding_mask is None:
        return slice(0, n_tokens), None
    return padded_positions(padding_mask), padded_mask(padding_mask.bool(), n_tokens)


def causal_mask(n_queries: int, n_keys: int, device: torch.device | None = None) -> Tensor:
    """(T, S) bool: the last ``n_queries`` of ``n_keys`` positions each look at themselves and what is before."""
    ones = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    return ones.tril(diagonal=n_keys - n_queries)


def padded_positions(real_BT: Tensor, n_before_B: Tensor | int = 0) -> Tensor:
    """(B, T) int64: for each token the number of real tokens before it (padding gets a harmless 0 or more)."""
    before = n_before_B[:, None] if isinstance(n_before_B, Tensor) else n_before_B
    return (real_BT.long().cumsum(dim=1) - 1 + before).clamp_(min=0)


def padded_mask(real_BS: Tensor, n_queries: int) -> Tensor:
    """(B, 1, T, S) bool: causal, and no key that is padding.

    Each query may always look at itself: a row of nothing but False would make softmax divide by zero.
    What padding computes is finite and seen by no real token.
    """
    n_keys = real_BS.shape[1]
    causal_TS = causal_mask(n_queries, n_keys, real_BS.device)
    self_TS = causal_TS & ~causal_TS.tril(diagonal=n_keys - n_queries - 1)
    return ((causal_TS & real_BS[:, None, :]) | self_TS)[:, None]
