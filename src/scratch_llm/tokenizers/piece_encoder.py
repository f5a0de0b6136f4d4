"""Encoding one piece of text with ranked merges, and remembering the pieces already met.

Natural text repeats itself: a cache of pieces answers most look-ups, and keeping each answer as packed
uint32 bytes lets a whole document be joined by one ``b"".join`` at C speed.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, pairwise, repeat

from .batch_encoder import BatchEncoder, in_learned_order
from .patterns import surrogate_error

ID_TYPE = next(code for code in "IL" if array(code).itemsize == 4)  # array type code of a 4-byte unsigned int

_NEVER = 1 << 62
_LONG = 256  # bytes; longer pieces take the O(n log n) way and are not remembered
_FEW = 64  # unknown pieces; below, numpy's overhead does not pay
_BATCH = 1 << 15  # pieces encoded together; small enough for the processor's caches


class MergeTable:
    """Merges for look-up: ``ranks[left, right]`` is the place in the order, ``new[rank]`` the id they become."""

    def __init__(self, merges: Iterable[tuple[int, int, int]]):
        self.ranks: dict[tuple[int, int], int] = {}
        self.new: list[int] = []
        for rank, (left, right, new) in enumerate(merges):
            self.ranks.setdefault((left, right), rank)
            self.new.append(new)


class PieceCache(dict[str, bytes]):
    """piece -> its token ids as packed uint32; computes what is missing, forgets the oldest half when full.

    Args:
        byte_ids: (256,) id of every byte.
        merges: (left, right, new) in order.
        vocab_size: greater than every id.
        capacity: pieces kept; 2**19 Korean pieces take about 110 MB.
        whole: token -> id, looked up before any merging, so that a piece that is a token stays one even where no merges
            lead to it (``ignore_merges`` in files of Llama 3).
    """

    def __init__(
        self,
        byte_ids: Sequence[int],
        merges: Sequence[tuple[int, int, int]],
        vocab_size: int,
        capacity: int = 1 << 19,
        whole: Mapping[bytes, int] | None = None,
    ):
        super().__init__()
        self._arguments = (byte_ids, merges, vocab_size, capacity, whole)
        self._whole = whole or {}
        self._byte_ids = byte_ids
        self._table = MergeTable(merges)
        self._batch = (
            BatchEncoder(byte_ids, merges, vocab_size) if len(byte_ids) and in_learned_order(byte_ids, merges) else None
        )
        self._capacity = capacity

    def prepare(self, lists_of_pieces: Iterable[list[str]]) -> None:
        """Encode the unknown ones among many pieces together, which is quicker than one by one."""
        pieces = set()
        for some in lists_of_pieces:
            pieces.update(some)
        unknown = [piece for piece in pieces if piece not in self]
        if self._batch is None or len(unknown) < _FEW:
            return
        for start in range(0, len(unknown), _BATCH):
            some = [piece for piece in unknown[start : start + _BATCH] if len(piece) <= _LONG // 4]
            if self._whole:
                some = [piece for piece in some if to_bytes(piece) not in self._whole]
            self._make_room(len(some))
            self.update(zip(some, self._batch.encode([to_bytes(piece) for piece in some])))

    def __missing__(self, piece: str) -> bytes:
        ids = self._start(piece)
        if len(ids) > _LONG:
            return array(ID_TYPE, merge_long(ids, self._table)).tobytes()
        packed = array(ID_TYPE, merge_short(ids, self._table)).tobytes()
        self._make_room(1)
        self[piece] = packed
        return packed

    def _start(self, piece: str) -> list[int]:
        """The ids that merging starts from: those of the bytes, or of the whole piece."""
        data = to_bytes(piece)
        if (token := self._whole.get(data)) is not None:
            return [token]
        return [self._byte_ids[byte] for byte in data]

    def _make_room(self, n: int) -> None:
        if len(self) + n > self._capacity:
            for old in list(islice(self, max(n, self._capacity // 2))):
                self.pop(old, None)

    def __reduce__(self):
        # Copies start with an empty cache.
        return type(self), self._arguments


class SegmentedPieces(PieceCache):
    """piece -> ids by any function of the piece alone, remembered in the same way.

    Args:
        segment: piece -> its ids; must be picklable.
    """

    def __init__(self, segment: Callable[[str], list[int]]):
        super().__init__([], [], 1)
        self._batch = None  # it knows merges only
        self._arguments = (segment,)
        self._segment = segment

    def __missing__(self, piece: str) -> bytes:
        to_bytes(piece)  # a lone surrogate is refused, as everywhere
        packed = array(ID_TYPE, self._segment(piece)).tobytes()
        if len(piece) <= _LONG:
            self._make_room(1)
            self[piece] = packed
        return packed


def to_bytes(piece: str) -> bytes:
    """UTF-8 of a piece.

    Raises:
        ValueError: a lone surrogate.
    """
    try:
        return piece.encode()
    except UnicodeEncodeError:
        raise surrogate_error(piece) from None


def merge_short(ids: list[int], merges: MergeTable) -> list[int]:
    """Apply the leftmost pair of least rank until none is left; changes ``ids``.  Fastest for words.

    ``found[i]`` is the rank of the pair (ids[i], ids[i+1]); a merge changes only its two neighbours.
    """
    rank_of, new = merges.ranks.get, merges.new
    found = list(map(rank_of, pairwise(ids), repeat(_NEVER)))
    while found:
        best = min(found)
        if best == _NEVER:
            break
        i = found.index(best)
        ids[i] = new[best]
        del ids[i + 1], found[i]
        if i < len(found):
            found[i] = rank_of((ids[i], ids[i + 1]), _NEVER)
        if i:
            found[i - 1] = rank_of((ids[i - 1], ids[i]), _NEVER)
    return ids


def merge_long(ids: list[int], merges: MergeTable) -> list[int]:
    """The same result with a heap and a linked list: O(n log n), for pieces such as 50,000 times "ㅋ"."""
    ranks, n = merges.ranks, len(ids)
    following = [*range(1, n), -1]
    preceding = [-1, *range(n - 1)]
    heap = [(ranks[pair], i) for i, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapq.heapify(heap)

    def offer(i: int, j: int) -> None:
        if i >= 0 and j >= 0 and (rank := ranks.get((ids[i], ids[j]))) is not None:
            heapq.heappush(heap, (rank, i))

    while heap:
        rank, i = heapq.heappop(heap)
        j = following[i] if ids[i] is not None else -1
        if j < 0 or ranks.get((ids[i], ids[j])) != rank:
            continue  # an earlier merge took one of the two
        ids[i], ids[j] = merges.new[rank], None
        following[i] = following[j]
        if following[j] >= 0:
            preceding[following[j]] = i
        offer(preceding[i], i)
        offer(i, following[i])
    return [number for number in ids if number is not None]
