"""The rows of a batch that is never whole: some leave, others come, while the rest decodes on.

All rows share one cache and end at its last slot (``SlotCache``), or have one state each (``StateCache``).  So a prompt is
computed in a cache of its own, whose rows then replace free ones: ``lengthen`` makes room in front where
the prompt is longer than all texts in the batch, ``compact`` drops what has become empty there.

A step costs as much as the cache has rows, so there are 1, 2, 4, 8, ... of them: twice as many when they do not suffice,
half as many when half would do.  In between, free rows compute on, for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scratch_llm.generation.decoder import cache_dtype
from scratch_llm.generation.packing import Weights, pack
from scratch_llm.layers.cache import Cache, SlotCache
from scratch_llm.models.base import LanguageModel


class RunningRows:
    """Up to ``max_rows`` texts with a key each, decoded together.

    Attributes:
        keys: whose text a row of the cache holds; None: free.
        n_tokens: tokens that each row has in the cache, with what a free row computed in vain.
    """

    def __init__(
        self, model: LanguageModel, max_rows: int, max_tokens: int | None, weights: Weights = "same"
    ):
        """``max_tokens``: of one text; None for recurrent models, whose state has one size."""
        # One copy for every number of rows: each holds all matrices, and their layouts differ little.
        self.model = pack(model, max_rows, weights)
        self.max_rows, self.max_tokens = max_rows, max_tokens
        # Rows need not be moved to the front at every step.
        self.max_slots = None if max_tokens is None else max_tokens + _spare(max_tokens)
        self.dtype = cache_dtype(model, max_rows * (self.max_slots or 1))
        self.cache: Cache | None = None
        self.keys: list[object | None] = []
        self.n_tokens: list[int] = []

    @property
    def active(self) -> list[int]:
        """Rows that are not free."""
        return [row for row, key in enumerate(self.keys) if key is not None]

    def add(self, keys: Sequence[object], prompts: Sequence[list[int]]) -> Tensor:
        """Take in new texts, (n, V) logits after each; ``keys`` and ``prompts`` go in pairs.

        Prompts of the same length are computed together.
        """
        first = not self.active
        self._make_rows(len(keys))
        if first and len(keys) == len(self.keys) and len(set(map(len, prompts))) == 1:
            return self._begin(keys, prompts)
        if isinstance(self.cache, SlotCache):
            self.cache.lengthen(max(map(len, prompts)))
        by_length: dict[int, list[int]] = {}
        for number, prompt in enumerate(prompts):
            by_length.setdefault(len(prompt), []).append(number)
        logits: list[Tensor | None] = [None] * len(prompts)
        free = (row for row, key in enumerate(self.keys) if key is None)
        for length, numbers in by_length.items():
            rows = [next(free) for _ in numbers]
            fresh = self.model.init_cache(len(rows), length, self.dtype)
            tokens_nT = torch.tensor([prompts[number] for number in numbers], device=self.model.device)
            hidden_nTD = self.model.hidden_states(tokens_nT, fresh, None)
            self.cache.replace_rows(rows, fresh)
            for row, number, logits_V in zip(rows, numbers, self.model.logits(hidden_nTD[:, -1])):
                logits[number] = logits_V
                self.keys[row], self.n_tokens[row] = keys[number], length
        if (
            isinstance(self.cache, SlotCache)
            and len(self.active) == len(self.keys)
            and len(set(self.n_tokens)) == 1
        ):
            # Nothing is padded, which steps then need no mask for.
            self.cache.compact()
        return torch.stack(logits)

    def _begin(self, keys: Sequence[object], prompts: Sequence[list[int]]) -> Tensor:
        """``add`` for an empty cache whose rows these texts, of one length, all take: nothing need be copied there."""
        hidden_BTD = self.model.hidden_states(
            torch.tensor(prompts, device=self.model.device), self.cache, None
        )
        self.keys, self.n_tokens = list(keys), [len(prompt) for prompt in prompts]
        return self.model.logits(hidden_BTD[:, -1])

    def remove(self, key: object) -> None:
        """Free the row of a text.  The memory stays for the next one: fresh pages would cost it a millisecond."""
        self.keys[self.keys.index(key)] = None

    def step(self, token_of: dict[object, int]) -> tuple[list[object], Tensor]:
        """Append a token to every text; the keys in their order here, and logits (n, V) after each."""
        self._shrink()
        if isinstance(self.cache, SlotCache):
            self._make_slot()
        active = self.active
        tokens_B1 = torch.tensor(
            [[0 if key is None else token_of[key]] for key in self.keys], device=self.model.device
        )
        hidden_BD = self.model.hidden_states(tokens_B1, self.cache, None)[:, 0]
        self.n_tokens = [n + 1 for n in self.n_tokens]
        if len(active) < len(self.keys):
            hidden_BD = hidden_BD[active]
        return [self.keys[row] for row in active], self.model.logits(hidden_BD)

    def _make_rows(self, n_new: int) -> None:
        """At least so many free rows."""
        needed = len(self.active) + n_new
        if self.active and needed <= len(self.keys):
            return
        n_rows = min(self.max_rows, 1 << (needed - 1).bit_length())
        if self.active:
            self._select(n_rows)
            return
        if self.cache is not None and self.cache.batch_size == n_rows:
            self.cache.reset()
        else:
            self.cache = self.model.init_cache(n_rows, self.max_slots, self.dtype)
        self.keys, self.n_tokens = [None] * n_rows, [0] * n_rows

    def _shrink(self) -> None:
        """Half the rows, or fewer, where they suffice."""
        n_rows = 1 << (len(self.active) - 1).bit_length()
        if n_rows <= len(self.keys) // 2:
            self._select(n_rows)

    def _select(self, n_rows: int) -> None:
        """A cache of ``n_rows`` rows: the active ones, then free ones."""
        active = self.active
        n_free = n_rows - len(active)
        self.cache.select_rows(active + active[:1] * n_free)
        self.keys = [self.keys[row] for row in active] + [None] * n_free
        self.n_tokens = [self.n_tokens[row] for row in active] + [0] * n_free
        self._clear_free()

    def _make_slot(self) -> None:
        """Room for one more token, and nothing in vain before the longest text."""
        longest = max(self.n_tokens[row] for row in self.active)
        in_vain = self.cache.length - longest
        # A free row's positions go on too, and must not leave the tables of the model.
        if in_vain >= _spare(longest) or max(self.n_tokens) >= self.max_tokens:
            self._clear_free()
            self.cache.compact()

    def _clear_free(self) -> None:
        """Free rows hold nothing, so that ``compact`` need not keep it."""
        free = [row for row, key in enumerate(self.keys) if key is None]
        if free and isinstance(self.cache, SlotCache):
            self.cache.replace_rows(free, self.model.init_cache(len(free), 1, self.dtype))
        for row in free:
            self.n_tokens[row] = 0


def _spare(n_tokens: int) -> int:
    """Empty slots before the longest text that are not worth moving everything: 1/4 of its reading."""
    return max(16, n_tokens // 4)
