"""The exact Jaccard similarity of candidate pairs: LSH proposes, this decides, so nothing is dropped by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from llm_workshop.curation.dedup.lsh import unpack
from llm_workshop.curation.dedup.shingles import shingles

#: Pairs and bytes of text looked at together; bounds the memory.
PAIRS_AT_ONCE, BYTES_AT_ONCE = 2048, 1_000_000


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """|A and B| / |A or B| of two sorted arrays without repetitions; two empty sets have nothing in common: 0."""
    if not len(first) or not len(second):
        return 0.0
    if len(first) > len(second):
        first, second = second, first
    places = np.searchsorted(second, first)
    places[places == len(second)] = 0  # beyond the end: greater than all, equal to none
    common = int(np.count_nonzero(second[places] == first))
    return common / (len(first) + len(second) - common)


def similarities(pairs: np.ndarray, texts: Callable[[Sequence[int]], list[str]], sizes: np.ndarray, unit: str, size: int) -> np.ndarray:
    """float64, one for each packed pair.  ``texts(numbers)`` gives folded texts, ``sizes`` the bytes of each text."""
    parts = [_together(part, texts, unit, size) for part in _portions(pairs, sizes)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _portions(pairs: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
    waiting = [pairs[i : i + PAIRS_AT_ONCE] for i in range(0, len(pairs), PAIRS_AT_ONCE)][::-1]
    while waiting:
        part = waiting.pop()
        if len(part) > 1 and sizes[np.unique(np.concatenate(unpack(part)))].sum() > BYTES_AT_ONCE:
            waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
        else:
            yield part


def _together(pairs: np.ndarray, texts: Callable[[Sequence[int]], list[str]], unit: str, size: int) -> np.ndarray:
    first, second = unpack(pairs)
    numbers, places = np.unique(np.concatenate((first, second)), return_inverse=True)
    found = shingles(texts(numbers.tolist()), unit, size)
    sets = [found.unique(i) for i in range(len(numbers))]
    return np.array([jaccard(sets[a], sets[b]) for a, b in places.reshape(2, -1).T.tolist()])
