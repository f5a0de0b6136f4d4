"""Learning BPE merges fast: whole-corpus numpy steps instead of a Python loop over words.

The same merges as :mod:`simple_bpe`, one for one (Sennrich et al. 2016, algorithm 1, on bytes).  The ideas:

1.  Only *unique* pieces are kept, each with its count, laid end to end in one array of token ids with -1
    between pieces.  ``next``/``previous`` arrays make it a linked list, so a merge never moves anything.
2.  A pair remembers where it stood when it arose.  Merges elsewhere can only destroy occurrences, so the
    count noted then is an upper bound.  The queue therefore corrects itself lazily: take the pair with the
    greatest noted count, look which of its places still hold it, and if some are gone put it back with
    the true count.  Nobody has to keep every count up to date.
3.  A merge creates pairs only with its neighbours: one sort groups all of them at once.
4.  Rare pairs stay in numpy arrays until the counts in the queue have come down to theirs; most never do.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .byte_table import BYTE_ORDER
from .patterns import surrogate_error

TIE_BREAKS = ("greatest_bytes", "least_ids")
"""Which pair wins among equally frequent ones.

``"greatest_bytes"``: the lexicographically greatest (left bytes, right bytes).
``"least_ids"``: the smallest (left id, right id), that is, the tokens that are oldest; Hugging Face
Tokenizers' BpeTrainer does this.
"""

Progress = Callable[[int, int], None]


class LearnedMerge(NamedTuple):
    """``left`` + ``right`` -> ``new``, all token ids; base tokens are 0..255 in ``BYTE_ORDER``."""

    left: int
    right: int
    new: int


def count_pieces(pieces_of_texts: Iterable[Iterable[str]]) -> Counter[str]:
    """How often each piece occurs.  Holds unique pieces only, whatever the length of the corpus."""
    counts: Counter[str] = Counter()
    for pieces in pieces_of_texts:
        counts.update(pieces)
    return counts


def learn_merges(
    piece_counts: Mapping[str, int],
    n_new_tokens: int,
    *,
    tie_break: str = "greatest_bytes",
    min_frequency: int = 2,
    progress: Progress | None = None,
) -> tuple[list[LearnedMerge], list[bytes]]:
    """Learn merges until ``n_new_tokens`` tokens are new or no pair occurs ``min_frequency`` times.

    Every merge makes a token with new bytes: as long as no merge crosses the border of a stretch of bytes,
    what happens inside it depends on those bytes alone, so equal stretches are merged in equal steps and
    become one token at the same moment, by the same pair.

    Returns:
        The merges in order, and the bytes of every token id (256 base tokens first).
    """
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    corpus = _Corpus(piece_counts)
    queue = _PairQueue(tokens, tie_break, min_frequency)
    queue.add(corpus.all_pairs())
    merges: list[LearnedMerge] = []

    while len(merges) < n_new_tokens and (best := queue.pop()) is not None:
        left, right = best.left, best.right
        positions = corpus.still_there(best.positions, left, right)
        count = corpus.total(positions)
        if count != best.count:
            queue.push(best._replace(count=count, positions=positions))
            continue
        new = len(tokens)
        tokens.append(tokens[left] + tokens[right])
        merges.append(LearnedMerge(left, right, new))
        queue.add(corpus.pairs_around(corpus.merge(positions, left, right, new), new))
        if progress is not None:
            progress(len(merges), n_new_tokens)
    return merges, tokens


class _PairGroups(NamedTuple):
    """Pairs that arose together: pair ``i`` stands at ``positions[starts[i]:starts[i + 1]]`` (ascending)."""

    left: np.ndarray  # (n_pairs,)
    right: np.ndarray  # (n_pairs,)
    counts: np.ndarray  # (n_pairs,) int64, weighted by how often each piece occurs
    starts: np.ndarray  # (n_pairs + 1,)
    positions: np.ndarray  # (n_occurrences,) int32


class _Corpus:
    """All unique pieces as one linked list of token ids; -1 separates pieces, -2 marks what a merge removed."""

    def __init__(self, piece_counts: Mapping[str, int]):
        try:
            # UTF-8 never uses the byte 0xFF, so it can stand between the pieces.
            data = b"\xff".join(piece.encode() for piece in piece_counts)
        except UnicodeEncodeError as error:
            raise surrogate_error(error.object) from None
        raw = np.frombuffer(b"\xff" + data + b"\xff", dtype=np.uint8)
        if len(raw) >= 2**31:
            raise ValueError("more than 2 GiB of different pieces: train on a sample of the corpus")
        ids = np.full(256, -1, dtype=np.int32)
        ids[list(BYTE_ORDER)] = np.arange(256)
        ids[0xFF] = -1
        self.symbol = ids[raw]
        self.next = np.arange(1, len(raw) + 1, dtype=np.int32)
        self.previous = np.arange(-1, len(raw) - 1, dtype=np.int32)
        borders = np.flatnonzero(raw == 0xFF)
        counts = np.fromiter(piece_counts.values(), dtype=np.int64, count=len(piece_counts))
        if counts.size and counts.max() < 2**31:
            counts = counts.astype(np.int32)  # half the memory; sums are taken in int64
        self.weight = np.zeros(len(raw), dtype=counts.dtype)
        if counts.size:
            self.weight[1:] = np.repeat(counts, np.diff(borders))

    def total(self, positions: np.ndarray) -> int:
        return int(self.weight[positions].sum(dtype=np.int64))

    def still_there(self, positions: np.ndarray, left: int, right: int) -> np.ndarray:
        """The positions that still hold the pair."""
        keep = (self.symbol[positions] == left) & (self.symbol[self.next[positions]] == right)
        return positions[keep]

    def merge(self, positions: np.ndarray, left: int, right: int, new: int) -> np.ndarray:
        """Replace the pair at ascending ``positions``; returns where the new token stands."""
        if left == right:
            positions = self._without_overlaps(positions)
        removed = self.next[positions]
        following = self.next[removed]
        self.symbol[positions] = new
        self.symbol[removed] = -2
        self.next[positions] = following
        self.previous[following] = positions
        return positions

    def _without_overlaps(self, positions: np.ndarray) -> np.ndarray:
        """In a run "aaaa" only every second position can merge, counted from the left."""
        order = np.arange(len(positions))
        continues = np.zeros(len(positions), dtype=bool)
        continues[1:] = self.next[positions[:-1]] == positions[1:]
        run_start = np.maximum.accumulate(np.where(continues, 0, order))
        return positions[(order - run_start) % 2 == 0]

    def all_pairs(self) -> _PairGroups:
        """Every adjacent pair of the untouched corpus."""
        left, right = self.symbol[:-1], self.symbol[1:]
        positions = np.flatnonzero((left >= 0) & (right >= 0)).astype(np.int32)
        # 16-bit keys make numpy's stable sort a radix sort.
        keys = (left[positions].astype(np.uint16) << 8) | right[positions].astype(np.uint16)
        keys, counts, starts, positions = self._group(keys, positions)
        return _PairGroups(keys >> 8, keys & 0xFF, counts, starts, positions)

    def pairs_around(self, positions: np.ndarray, new: int) -> _PairGroups:
        """The pairs (x, new) and (new, y) that arose when ``new`` appeared at ``positions``."""
        before = self.previous[positions]
        x = self.symbol[before]
        # (new, new) is counted once, from its left member.
        is_pair = (x >= 0) & (x != new)
        before, x = before[is_pair], x[is_pair]
        y = self.symbol[self.next[positions]]
        is_pair = y >= 0
        here, y = positions[is_pair], y[is_pair]
        # x < new and y <= new, so an offset keeps both kinds of key apart.
        offset = new + 1
        keys, counts, starts, positions = self._group(
            np.concatenate((x, y + offset)), np.concatenate((before, here))
        )
        left = np.where(keys < offset, keys, new)
        right = np.where(keys < offset, new, keys - offset)
        return _PairGroups(left, right, counts, starts, positions)

    def _group(self, keys: np.ndarray, positions: np.ndarray):
        """Sort by key, keeping positions ascending within a key; returns keys, counts, starts, positions."""
        order = np.argsort(keys, kind="stable")
        keys, positions = keys[order], positions[order]
        is_start = np.ones(len(keys), dtype=bool)
        is_start[1:] = keys[1:] != keys[:-1]
        starts = np.flatnonzero(is_start)
        if not len(starts):
            return keys, np.zeros(0, np.int64), np.zeros(1, np.int64), positions
        counts = np.add.reduceat(self.weight[positions], starts, dtype=np.int64)
        return keys[starts], counts, np.append(starts, len(keys)), positions


class _Candidate(NamedTuple):
    """A pair in the queue.  Sorting candidates of equal count puts the winner of the tie-break last."""

    tie_key: tuple  # differs from pair to pair, so sorting never looks further
    left: int
    right: int
    count: int  # an upper bound until checked
    positions: np.ndarray


class _PairQueue:
    """Pairs by noted count, greatest first; ties by the named rule."""

    def __init__(self, tokens: list[bytes], tie_break: str, min_frequency: int):
        self._tokens = tokens
        self._by_bytes = tie_break == "greatest_bytes"
        self._min_frequency = max(1, min_frequency)
        self._levels: dict[int, list[_Candidate]] = {}  # count -> candidates
        self._heap: list[int] = []  # negative counts that have a level
        self._sorted_level: int | None = None
        # Groups with pairs rarer than the floor wait here; the floor falls as the queue runs down.
        self._floor = 0  # set from the first pairs
        self._waiting: list[_PairGroups] = []

    def add(self, groups: _PairGroups) -> None:
        if not len(groups.counts):
            return
        greatest = int(groups.counts.max())
        if not self._floor:
            self._floor = max(self._min_frequency, greatest // 16)
        self._push_between(groups, self._floor, greatest)
        self._let_wait(groups)

    def push(self, candidate: _Candidate) -> None:
        count = candidate.count
        if count < self._min_frequency:
            return
        level = self._levels.get(count)
        if level is None:
            self._levels[count] = [candidate]
            heapq.heappush(self._heap, -count)
        elif count == self._sorted_level:
            insort(level, candidate)
        else:
            level.append(candidate)

    def pop(self) -> _Candidate | None:
        while self._greatest() < self._floor and self._floor > self._min_frequency:
            self._lower_floor()
        top = self._greatest()
        if not top:
            return None
        level = self._levels[top]
        if top != self._sorted_level:
            level.sort()
            self._sorted_level = top
        candidate = level.pop()
        if not level:
            del self._levels[top]
            heapq.heappop(self._heap)
            self._sorted_level = None
        return candidate

    def _greatest(self) -> int:
        return -self._heap[0] if self._heap else 0

    def _lower_floor(self) -> None:
        old, self._floor = self._floor, max(self._min_frequency, self._floor // 2)
        waiting, self._waiting = self._waiting, []
        for groups in waiting:
            self._push_between(groups, self._floor, old - 1)
            self._let_wait(groups)

    def _let_wait(self, groups: _PairGroups) -> None:
        if ((groups.counts < self._floor) & (groups.counts >= self._min_frequency)).any():
            self._waiting.append(groups)

    def _push_between(self, groups: _PairGroups, least: int, greatest: int) -> None:
        chosen = np.flatnonzero((groups.counts >= least) & (groups.counts <= greatest))
        rows = zip(
            groups.left[chosen].tolist(),
            groups.right[chosen].tolist(),
            groups.counts[chosen].tolist(),
            groups.starts[chosen].tolist(),
            groups.starts[chosen + 1].tolist(),
        )
        for left, right, count, start, end in rows:
            tie_key = (self._tokens[left], self._tokens[right]) if self._by_bytes else (-left, -right)
            self.push(_Candidate(tie_key, left, right, count, groups.positions[start:end]))
