"""The rows of a batch that is never whole: some leave, others come, while the rest decodes on.

All rows share one cache and end at its last slot (``SlotCache``), or have one state each (``StateCache``).  So a prompt is
computed in a cache of its own, whose rows then replace free ones: ``lengthen`` makes room in front where
the prompt is longer than all texts in the batch, ``compact`` drops what has become empty there.

A step costs as much as the cache has rows, so there are 1, 2, 4, 8, ... of them: twice as many when they do not suffice,
half as many when half would do.  In between, free rows compute on, for nobody.
"""

from __future__ import annotations

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

    def step(
        self, token_of: dict[object, int], prompts: dict[object, list[int]]
    ) -> tuple[list[object], Tensor]:
        """Append a token to every text and take in new ones; all keys, and logits (n, V) after each.

        ``token_of`` has the key of every text here, ``prompts`` those of new texts.  Prompts of one length are a batch, and
        all batches go through the model together.
        """
        running = bool(self.active)
        assert running == bool(token_of), "every text gets a token"
        if prompts:
            self._make_rows(len(prompts))
        else:
            self._shrink()
        if not running and len(prompts) == len(self.keys) and len(set(map(len, prompts.values()))) == 1:
            # Nothing need be copied where new texts take all rows.
            return self._begin(prompts)
        active, batches = self.active, []
        if running:
            if isinstance(self.cache, SlotCache):
                self._make_slot()
            tokens = [[0 if key is None else token_of[key]] for key in self.keys]
            batches.append((self._tensor(tokens), self.cache))
        groups = _by_length(prompts)
        for length, keys in groups.items():
            fresh = self.model.init_cache(len(keys), length, self.dtype)
            batches.append((self._tensor([prompts[key] for key in keys]), fresh))
        hidden = self.model.hidden_states_side_by_side(batches)
        last = [hidden_BTD[:, -1] for hidden_BTD in hidden]
        if running:
            self.n_tokens = [n + 1 for n in self.n_tokens]
            if len(active) < len(self.keys):
                last[0] = last[0][active]
        running_keys = [self.keys[row] for row in active]
        self._take_in(groups, [cache for _, cache in batches[running:]])
        return running_keys + [key for keys in groups.values() for key in keys], self.model.logits(torch.cat(last))

    def _begin(self, prompts: dict[object, list[int]]) -> tuple[list[object], Tensor]:
        """``step`` of an empty cache whose rows these texts, of one length, all take."""
        hidden_BTD = self.model.hidden_states(self._tensor(list(prompts.values())), self.cache, None)
        self.keys, self.n_tokens = list(prompts), [len(prompt) for prompt in prompts.values()]
        return self.keys.copy(), self.model.logits(hidden_BTD[:, -1])

    def _take_in(self, groups: dict[int, list[object]], caches: list[Cache]) -> None:
        """Let free rows hold new texts, keys by length, computed in caches of their own."""
        if isinstance(self.cache, SlotCache):
            self.cache.lengthen(max(groups, default=0))
        free = (row for row, key in enumerate(self.keys) if key is None)
        for (length, keys), fresh in zip(groups.items(), caches):
            rows = [next(free) for _ in keys]
            self.cache.replace_rows(rows, fresh)
            for row, key in zip(rows, keys):
                self.keys[row], self.n_tokens[row] = key, length
        if (
            groups
            and isinstance(self.cache, SlotCache)
            and len(self.active) == len(self.keys)
            and len(set(self.n_tokens)) == 1
        ):
            # Nothing is padded, which steps then need no mask for.
            self.cache.compact()

    def _tensor(self, tokens: list[list[int]]) -> Tensor:
        return torch.tensor(tokens, device=self.model.device)

    def remove(self, key: object) -> None:
        """Free the row of a text.  The memory stays for the next one: fresh pages would cost it a millisecond."""
        self.keys[self.keys.index(key)] = None

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


def _by_length(prompts: dict[object, list[int]]) -> dict[int, list[object]]:
    """Keys of the prompts of each length."""
    groups: dict[int, list[object]] = {}
    for key, prompt in prompts.items():
        groups.setdefault(len(prompt), []).append(key)
    return groups


def _spare(n_tokens: int) -> int:
    """Empty slots before the longest text that are not worth moving everything: 1/4 of its reading."""
    return max(16, n_tokens // 4)
