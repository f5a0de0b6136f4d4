"""Prefill and decode with a cache, inside the context and past it.

**What the model sees past the context.**  A model knows ``C = context_length`` positions.  While a row is
no longer than C tokens, the model sees all of it.  A longer row is seen from ``window_start`` on: the window
drops its oldest ``stride`` tokens whenever it would grow beyond C, and the rest is computed anew at
positions 0, 1, ....  So the model sees the last C - stride + 1 to C tokens, and every logit is exactly
that of a forward pass without a cache over this window: for rotary and for learned positions, and for each row of a batch
on its own, whatever the others hold.  ``stride=1`` is "always the last C tokens", at the price of a
prefill per token; the default, a quarter of C, needs one per C / 4 tokens.

A recurrent model has no such limit: its state has one size, and nothing is ever computed anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scratch_llm.generation.packing import Weights, check_weights, pack
from scratch_llm.models.base import LanguageModel


def window_start(n_tokens: int, context_length: int, stride: int) -> int:
    """Index of the first token the model sees when a row has ``n_tokens``: a multiple of ``stride``."""
    return -(-max(0, n_tokens - context_length) // stride) * stride


def default_stride(context_length: int) -> int:
    """A quarter of the context."""
    return max(1, context_length // 4)


class Decoder:
    """Rows of tokens that grow by one token per step; gives the logits of the next."""

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        *,
        stride: int | None = None,
        packed: bool = True,
        weights: Weights = "same",
    ):
        """``packed=False`` computes with the model as it is, which is slower on a CPU.  ``weights``: as in ``pack``."""
        check_weights(weights)
        if weights != "same" and not packed:
            raise ValueError(
                f"weights is {weights!r} with packed=False: only a packed model has other weights"
            )
        C = model.config.context_length
        self.stride = default_stride(C) if stride is None else stride
        if not 1 <= self.stride <= C:
            raise ValueError(f"window stride is {self.stride}: it must be from 1 to the context_length, {C}")
        if not prompts or not all(len(prompt) for prompt in prompts):
            raise ValueError(
                "a prompt is empty: give each row at least one token, such as the model's bos_token_id"
            )
        self.rows = [list(prompt) for prompt in prompts]
        self.model = pack(model, len(self.rows), weights) if packed else model
        longest = max(map(len, self.rows)) + max_new_tokens
        self.slides = longest > C and not model.recurrent
        # Sliding rows of different lengths need slots beyond C; see KVCache.replace_rows and compact.
        n_slots = C + self.stride if self.slides else longest
        self.cache = model.init_cache(len(self.rows), n_slots, cache_dtype(model, len(self.rows) * n_slots))
        self.lengths_in_cache: list[int] = []

    def prefill(self) -> Tensor:
        """Logits (B, V) after the prompts; rows of different lengths are padded on the left."""
        windows = [row[self._start(len(row)) :] for row in self.rows]
        tokens_BT, real_BT = pad_left(windows, self.model.device)
        hidden_BTD = self.model.hidden_states(tokens_BT, self.cache, real_BT)
        self.lengths_in_cache = [len(window) for window in windows]
        return self.model.logits(hidden_BTD[:, -1])

    def step(self, tokens_B: Tensor, token_list: Sequence[int]) -> Tensor:
        """Append one token to every row, given as a tensor and as numbers; logits (B, V) of the next."""
        for row, token in zip(self.rows, token_list):
            row.append(token)
        if self.slides:
            self._slide()
            self.lengths_in_cache = [length + 1 for length in self.lengths_in_cache]
        return self.model.logits(self.model.hidden_states(tokens_B[:, None], self.cache, None)[:, 0])

    def _start(self, n_tokens: int) -> int:
        """Index of the first token of a row that the model sees."""
        if self.model.recurrent:
            return 0
        return window_start(n_tokens, self.model.config.context_length, self.stride)

    def _slide(self) -> None:
        """Make room: rows whose window is full are computed anew without their oldest tokens."""
        C = self.model.config.context_length
        full = [row for row, length in enumerate(self.lengths_in_cache) if length == C]
        if full:
            # The newest token is not in the cache yet: it is this step's input.
            windows = [self.rows[row][self._start(len(self.rows[row])) : -1] for row in full]
            self._recompute(full, windows)
        if self.cache.length == self.cache.max_length:
            self.cache.compact()

    def _recompute(self, full: list[int], windows: list[list[int]]) -> None:
        length = len(windows[0])
        fresh = self.model.init_cache(len(full), max(1, length), self.cache.dtype)
        if length:
            self.model.hidden_states(torch.tensor(windows, device=self.model.device), fresh, None)
        self.cache.replace_rows(full, fresh)
        for row in full:
            self.lengths_in_cache[row] = length


def cache_dtype(model: LanguageModel, n_slots: int) -> torch.dtype:
    """The model's dtype, but float32 for a small bfloat16 cache on a CPU.

    There one step's attention runs in float32 anyhow (see ``KVCache``); while one layer's keys take below 1 MiB,
    reading twice the bytes costs less than converting them each time (1.36 against 1.51 ms per step).
    """
    if model.device.type != "cpu" or model.recurrent:
        return model.dtype
    per_slot = model.init_cache(1, 1, device="meta").tensors()[0].numel()
    return torch.float32 if n_slots * per_slot * 4 < 1 << 20 else model.dtype


def pad_left(
    rows: Sequence[Sequence[int]], device: torch.device | None = None
) -> tuple[Tensor, Tensor | None]:
    """Rows of tokens -> (B, T) int64 ending at the same place, and which are real (None when all are)."""
    longest = max(map(len, rows))
    tokens_BT = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    if all(len(row) == longest for row in rows):
        return tokens_BT, None
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return tokens_BT, torch.arange(longest, device=device) >= longest - lengths[:, None]
