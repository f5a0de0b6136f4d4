"""Batches of windows from a token file, as a pure function of (seed, step).

No state is kept between batches, so training resumes at step n by asking for batch n, on any machine and
with any number of processes.  Windows of all epochs form one endless line; batch ``step`` takes places
``step * batch_size`` to ``(step + 1) * batch_size - 1`` of it, and each epoch is a fresh permutation.
"""

from __future__ import annotations

import numpy as np
import torch

from scratch_llm.data.token_file import TokenFile

IGNORE = -100  # the target that F.cross_entropy leaves out by default


class Windows:
    """Training windows over a token file.

    packing="stream" (GPT-style): the file is one long text cut every ``context_length`` tokens; a window may
    begin in the middle of a document.  In each epoch every token but the first is a target exactly once (the
    last window is shorter: padded with ``pad_id``, its padding masked).

    packing="documents": a row holds whole documents, longest first, each put into the fullest row that still
    has room (best-fit decreasing); only documents longer than the context are cut.  In each epoch every token
    is an input exactly once and every token but the first of each document a target exactly once: the targets
    at a document's last token and on padding are masked.  Attention still sees the earlier documents of a row;
    what is masked is being graded on guessing an unrelated beginning.

    ``batch(step)`` returns ``(inputs, targets)``, int64, each (batch_size, context_length); masked targets
    are -100.  Memory: the file is memory-mapped; "stream" keeps nothing, "documents" about 30 bytes per
    document.
    """

    def __init__(self, token_file: TokenFile, context_length: int, batch_size: int, seed: int = 0,
                 packing: str = "stream", pad_id: int = 0):
        if packing not in ("stream", "documents"):
            raise ValueError(f"packing {packing!r} is unknown; choose 'stream' or 'documents'")
        for name, value in (("context_length", context_length), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} {value} must be at least 1")
        if len(token_file) < context_length + 1:
            raise ValueError(f"{token_file.path} has {len(token_file)} tokens, fewer than context_length + 1 = "
                             f"{context_length + 1}; use a longer text or a smaller context_length")
        self.token_file = token_file
        self.context_length = context_length
        self.batch_size = batch_size
        self.seed = seed
        self.packing = packing
        self.pad_id = pad_id
        if packing == "stream":
            self.n_windows = -(-(len(token_file) - 1) // context_length)
        else:
            self._first, self._start, self._stop, self._ends_document = _pack(token_file, context_length, seed)
            self.n_windows = len(self._first) - 1

    @property
    def n_batches(self) -> int:
        """Batches per epoch, rounded up: the last batch of an epoch is filled from the next one."""
        return -(-self.n_windows // self.batch_size)

    @property
    def fill(self) -> float:
        """Share of the positions of all windows that hold a token, not padding."""
        n_tokens = len(self.token_file) - (self.packing == "stream")
        return n_tokens / (self.n_windows * self.context_length)

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of one step, counted from 0."""
        if step < 0:
            raise ValueError(f"step {step} must be at least 0")
        return self.rows(step * self.batch_size + np.arange(self.batch_size))

    def rows(self, place: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets at any places of the endless line, int64 (n,), in the order asked for."""
        inputs = np.full((len(place), self.context_length), self.pad_id, dtype=np.int64)
        targets = np.full((len(place), self.context_length), IGNORE, dtype=np.int64)
        fill_row = self._fill_stream if self.packing == "stream" else self._fill_documents
        for row, window in enumerate(self._window_at(place)):
            fill_row(int(window), inputs[row], targets[row])
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def _window_at(self, place: np.ndarray) -> np.ndarray:
        """Which windows stand at these places of the endless line."""
        epochs, order = np.divmod(place, self.n_windows)
        windows = np.empty_like(order)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            windows[here] = permuted(order[here], self.n_windows, (self.seed, int(epoch)))
        return windows

    def _fill_stream(self, window: int, inputs: np.ndarray, targets: np.ndarray) -> None:
        start = window * self.context_length
        piece = self.token_file.tokens[start : start + self.context_length + 1]
        inputs[: len(piece) - 1] = piece[:-1]
        targets[: len(piece) - 1] = piece[1:]

    def _fill_documents(self, window: int, inputs: np.ndarray, targets: np.ndarray) -> None:
        tokens, at = self.token_file.tokens, 0
        for piece in range(self._first[window], self._first[window + 1]):
            start, stop = self._start[piece], self._stop[piece]
            length = stop - start
            inputs[at : at + length] = tokens[start:stop]
            # A piece cut from a long document also predicts the token that follows it in the file.
            n_targets = length - 1 if self._ends_document[piece] else length
            targets[at : at + n_targets] = tokens[start + 1 : start + 1 + n_targets]
            at += length


def permuted(index: np.ndarray, n: int, key: tuple[int, ...]) -> np.ndarray:
    """Where a permutation of 0..n-1 chosen by ``key`` takes each ``index``, without storing the permutation.

    A Feistel network (Luby & Rackoff, 1988) permutes 0..4**k-1, the next such size at or above n; results
    beyond n - 1 are sent through again until they fall inside ("cycle walking", Black & Rogaway, 2002).
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    round_keys = np.random.SeedSequence([part & (2**64 - 1) for part in key]).generate_state(6, np.uint64)

    def network(x: np.ndarray) -> np.ndarray:
        left, right = x >> np.uint64(half), x & mask
        for round_key in round_keys:
            left, right = right, left ^ (_mix(right + round_key) & mask)
        return left << np.uint64(half) | right

    result = network(np.asarray(index).astype(np.uint64))
    while (outside := result >= n).any():
        result[outside] = network(result[outside])
    return result.astype(np.int64)


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea & Flood, 2014): every output bit depends on every input bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _pack(token_file: TokenFile, context_length: int, seed: int):
    """Pack documents into rows of ``context_length``, best-fit decreasing.

    Returns ``first`` (n_rows + 1): row r holds pieces first[r] to first[r + 1] - 1; and per piece, in row
    order, ``start`` and ``stop`` in the file and whether it ends its document.
    """
    start, stop, ends_document = _pieces(np.asarray(token_file.document_ends), context_length)
    lengths = stop - start
    # Equal lengths in random order, so that neighbours in the file do not end up together in a row.
    shuffled = np.random.default_rng([seed & (2**64 - 1), 1]).permutation(len(start))
    by_length = shuffled[np.argsort(-lengths[shuffled], kind="stable")]

    row_of = np.empty(len(start), dtype=np.int64)
    row_of[by_length] = best_fit(lengths[by_length], context_length)
    n_rows = int(row_of.max()) + 1

    # Inside a row: random order too, else every row would begin with its longest document.
    in_rows = shuffled[np.argsort(row_of[shuffled], kind="stable")]
    first = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(row_of, minlength=n_rows), out=first[1:])
    return first, start[in_rows], stop[in_rows], ends_document[in_rows]


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """The row of each length, in the order given: the fullest row of ``capacity`` that still has room, else a new one."""
    row_of = np.empty(len(lengths), dtype=np.int64)
    open_rows: list[list[int]] = [[] for _ in range(capacity + 1)]  # rows by their free room
    has_rows = 0  # bit r is set where open_rows[r] is not empty: finding the best fit is one shift
    n_rows = 0
    for piece, length in enumerate(lengths.tolist()):
        fitting = has_rows >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[room].pop()
            if not open_rows[room]:
                has_rows ^= 1 << room
        else:
            room, row = capacity, n_rows
            n_rows += 1
        row_of[piece] = row
        if room > length:
            open_rows[room - length].append(row)
            has_rows |= 1 << (room - length)
    return row_of


def _pieces(document_ends: np.ndarray, context_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut documents longer than the context into pieces of ``context_length`` and a remainder."""
    begins = np.concatenate([[0], document_ends[:-1]])
    counts = -(-(document_ends - begins) // context_length)
    document = np.repeat(np.arange(len(document_ends)), counts)
    nth = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = begins[document] + nth * context_length
    stop = np.minimum(start + context_length, document_ends[document])
    return start, stop, stop == document_ends[document]
