"""The key/value cache of models in which some layers see only a window of the last tokens.

Such a layer never reads again what has left its window, so it needs no memory for it: five in six of Gemma 3's
layers keep 1024 tokens, whatever the length of the text (Gemma Team 2025, section 2 and figure 5).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scratch_llm.layers.cache import causal_mask, check_window, padded_mask
from scratch_llm.layers.kv_cache import KVCache

# A full window is moved to the front once in so many tokens (at least): a quarter more memory, and per token the
# copying of 4 slots beside the reading of all.
MIN_SPARE = 16


class SlidingKVCache(KVCache):
    """Keys and values, where a layer with a window has slots for its window only, and some to spare.

    ``windows``: per layer the tokens that a query sees, itself included; None: all, so the layer has a slot for
    every token.  ``length``, ``max_length`` and the bookkeeping of ``SlotCache`` count the tokens of the text.
    """

    def __init__(
        self,
        windows: Sequence[int | None],
        batch_size: int,
        n_kv_heads: int,
        max_length: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ):
        for window in windows:
            check_window(window)
        # A window as long as the cache never slides.
        self._by_window = {w: WindowSlots(w, max_length) for w in windows if w is not None and w < max_length}
        self._of_layer = [self._by_window.get(window) for window in windows]
        super().__init__(len(windows), batch_size, n_kv_heads, max_length, head_dim, dtype, device)
        for slots, *parts in zip(self._of_layer, self.keys, self.values):
            if slots is not None:
                slots.tensors += parts

    def _capacities(self, n_layers: int) -> list[int]:
        return [self.max_length if slots is None else slots.capacity for slots in self._of_layer]

    def reset(self) -> None:
        super().reset()
        for slots in self._by_window.values():
            slots.reset()

    def begin(
        self, batch_size: int, n_new: int, padding_mask: Tensor | None
    ) -> tuple[Tensor | slice, Tensor | None]:
        result = super().begin(batch_size, n_new, padding_mask)
        for slots in self._by_window.values():
            slots.begin(n_new, None if self.real_BS is None else padding_mask)
        return result

    def window_mask(self, window: int, n_new: int) -> Tensor | None:
        slots = self._by_window.get(window)
        return super().window_mask(window, n_new) if slots is None else slots.mask(n_new)

    def write(self, layer: int, k_BKTd: Tensor, v_BKTd: Tensor) -> tuple[Tensor, Tensor]:
        """As ``KVCache.write``, but a layer with a window returns no more than its queries see."""
        slots = self._of_layer[layer]
        if slots is None:
            return super().write(layer, k_BKTd, v_BKTd)
        keys, values = self.keys[layer], self.values[layer]
        if slots.rebuilds:
            return slots.rebuild(keys, k_BKTd), slots.rebuild(values, v_BKTd)
        keys[:, :, slots.length : slots.end] = k_BKTd
        values[:, :, slots.length : slots.end] = v_BKTd
        return keys[:, :, slots.first : slots.end], values[:, :, slots.first : slots.end]

    def advance(self, n_new: int) -> None:
        super().advance(n_new)
        for slots in self._by_window.values():
            slots.advance()

    def select_rows(self, rows: list[int]) -> None:
        super().select_rows(rows)
        for slots in self._by_window.values():
            if slots.real_BS is not None:
                slots.real_BS = slots.real_BS[torch.tensor(rows, device=self.device)]

    def lengthen(self, length: int) -> None:
        super().lengthen(length)
        for slots in self._by_window.values():
            slots.lengthen(slots.n_kept(self.length))

    def _text_tensors(self) -> list[Tensor]:
        parts = zip(self._of_layer, self.keys, self.values)
        return [part for slots, *both in parts if slots is None for part in both]

    def _copy_rows(self, index: Tensor, other: SlidingKVCache) -> None:
        # What is a window here may be a whole layer in a shorter cache, so ends are looked up on both sides.
        for layer, slots in enumerate(self._of_layer):
            n_slots = other.length if slots is None else slots.n_kept(other.length)
            end, their_end = self._end(layer), other._end(layer)
            assert n_slots <= their_end, "the other cache has dropped what this one needs"
            for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
                rows = theirs[layer][:, :, their_end - n_slots : their_end]
                mine[layer][index, :, end - n_slots : end] = rows.to(self.dtype)
        for slots in self._by_window.values():
            slots.mark_rows(index, slots.n_kept(other.length))

    def _end(self, layer: int) -> int:
        """Slots filled in a layer."""
        slots = self._of_layer[layer]
        return self.length if slots is None else slots.length


class WindowSlots:
    """Which slots the layers of one window have filled, and with what.

    A row's real tokens lie side by side and end at the last slot filled, wherever the batch had padding.

    Attributes:
        capacity: slots there are.
        length: slots filled.
        real_BS: which of them hold real tokens, bool (B, capacity); None: all.
        tensors: keys and values of these layers, (B, K, capacity, d) each.
        first, end: of the slots that the queries at work read.
        rebuilds: the tokens at work do not simply go into the next slots; see ``rebuild``.
    """

    def __init__(self, window: int, max_length: int):
        self.window = window
        self.capacity = min(max_length, window - 1 + max(MIN_SPARE, window // 4))
        self.tensors: list[Tensor] = []
        self.reset()

    def reset(self) -> None:
        self.length = self.first = self.end = 0
        self.rebuilds = False
        self.real_BS: Tensor | None = None
        self._seen_real_BS: Tensor | None = None
        self._order_Bn: Tensor | None = None

    def n_kept(self, n_tokens: int) -> int:
        """Of so many tokens those that the next one will see."""
        return min(n_tokens, self.window - 1)

    def begin(self, n_new: int, new_real_BT: Tensor | None) -> None:
        """Make room for ``n_new`` tokens, in all layers; ``new_real_BT`` None: all are real."""
        n_kept = self.n_kept(self.length)
        self.rebuilds = new_real_BT is not None or n_kept + n_new > self.capacity
        if not self.rebuilds and self.length + n_new > self.capacity:
            self._move_to_front(n_kept)
        self.first, self.end = self.length - n_kept, self.length + n_new
        if self.rebuilds:
            self._plan(n_new, new_real_BT)
        elif self.real_BS is not None:
            self.real_BS[:, self.length : self.end] = True
            self._seen_real_BS = self.real_BS[:, self.first : self.end]

    def mask(self, n_new: int) -> Tensor | None:
        """Of the keys that ``write`` returns; see ``SlotCache.window_mask``."""
        n_keys, real_BS = self.end - self.first, self._seen_real_BS
        if real_BS is None:
            plain = n_new == 1 or n_keys == n_new
            return None if plain else causal_mask(n_new, n_keys, self.tensors[0].device, self.window)
        if n_new == 1 and not self.rebuilds:
            return real_BS[:, None, None]
        return padded_mask(real_BS, n_new, self.window)

    def rebuild(self, tensor: Tensor, new_BKTd: Tensor) -> Tensor:
        """What the window still needs and the new tokens, (B, K, S, d); the end of it is all that stays in ``tensor``.

        For more tokens than there are slots, and for padding among them: it is left out.
        """
        seen = new_BKTd
        if self.first < self.length:
            seen = torch.cat((tensor[:, :, self.first : self.length], new_BKTd.to(tensor.dtype)), dim=2)
        n_kept = self.n_kept(seen.shape[2])
        kept = seen[:, :, seen.shape[2] - n_kept :]
        if self._order_Bn is not None:
            _, K, _, d = seen.shape
            kept = seen.gather(2, self._order_Bn[:, None, :, None].expand(-1, K, -1, d))
        tensor[:, :, :n_kept] = kept
        return seen

    def advance(self) -> None:
        """The tokens at work are written."""
        if not self.rebuilds:
            self.length = self.end
            return
        self.length = self.n_kept(self.end - self.first)
        self.real_BS = None
        if self._order_Bn is not None:
            self._set_real(self._seen_real_BS.gather(1, self._order_Bn))
        self._seen_real_BS, self._order_Bn = None, None

    def mark_rows(self, index: Tensor, n_tokens: int) -> None:
        """The rows ``index`` hold ``n_tokens`` real tokens now."""
        self._note_padding()
        self.real_BS[index, : self.length - n_tokens] = False
        self.real_BS[index, self.length - n_tokens : self.length] = True

    def lengthen(self, length: int) -> None:
        """As ``SlotCache.lengthen``."""
        n_new = length - self.length
        if n_new <= 0:
            return
        self._note_padding()
        for tensor in [*self.tensors, self.real_BS[:, None]]:
            tensor[:, :, n_new:length] = tensor[:, :, : self.length].clone()
        self.real_BS[:, :n_new] = False
        self.length = length

    def _note_padding(self) -> None:
        if self.real_BS is None:
            first = self.tensors[0]
            self._set_real(
                torch.ones(first.shape[0], self.length, dtype=torch.bool, device=first.device), keep=True
            )

    def _plan(self, n_new: int, new_real_BT: Tensor | None) -> None:
        """What ``rebuild`` will do: real tokens to the end, in their order."""
        if new_real_BT is None and self.real_BS is None:
            return
        before = slice(self.first, self.length)
        tensor = self.tensors[0]
        B, n_before = tensor.shape[0], self.length - self.first
        every = torch.ones(B, max(n_new, n_before), dtype=torch.bool, device=tensor.device)
        self._seen_real_BS = torch.cat(
            (
                every[:, :n_before] if self.real_BS is None else self.real_BS[:, before],
                every[:, :n_new] if new_real_BT is None else new_real_BT.bool(),
            ),
            dim=1,
        )
        order_BS = self._seen_real_BS.byte().argsort(dim=1, stable=True)
        self._order_Bn = order_BS[:, order_BS.shape[1] - self.n_kept(order_BS.shape[1]) :]

    def _move_to_front(self, n_kept: int) -> None:
        kept = slice(self.length - n_kept, self.length)
        for tensor in self.tensors:
            tensor[:, :, :n_kept] = tensor[:, :, kept].clone()
        if self.real_BS is not None:
            self._set_real(self.real_BS[:, kept])
        self.length = n_kept

    def _set_real(self, real_Bn: Tensor, keep: bool = False) -> None:
        """Of the first slots; unless ``keep``, nothing is noted where all are real."""
        self.real_BS, self._seen_real_BS = None, None
        if keep or not bool(real_Bn.all()):
            self.real_BS = torch.zeros(
                real_Bn.shape[0], self.capacity, dtype=torch.bool, device=real_Bn.device
            )
            self.real_BS[:, : real_Bn.shape[1]] = real_Bn
