"""Which document of a group of similar ones stays.

Similarity is no equivalence: A can be like B and B like C while A and C differ.  Two answers are here.  ``clusters``
takes everything that hangs together as one group (union-find), as most tools do; a chain of small changes then carries
two quite different documents into one group.  ``drop_similar`` drops a document only if it is similar to one that stays.
"""

from __future__ import annotations

import numpy as np


class UnionFind:
    """Disjoint sets of 0 ... count - 1 (Tarjan 1975): union by size, and paths halved while they are walked."""

    def __init__(self, count: int):
        self._parent = list(range(count))
        self._size = [1] * count

    def find(self, item: int) -> int:
        """The representative of the set that holds ``item``."""
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def union(self, first: int, second: int) -> bool:
        """Join two sets; False if they were one already."""
        first, second = self.find(first), self.find(second)
        if first == second:
            return False
        if self._size[first] < self._size[second]:
            first, second = second, first
        self._parent[second] = first
        self._size[first] += self._size[second]
        return True


def clusters(first: np.ndarray, second: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """int64, one for each item: which item stays in its place, -1 for itself.

    ``first[k]`` and ``second[k]`` are similar; of everything that hangs together the least ``rank`` stays.
    """
    joined = UnionFind(len(rank))
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        joined.union(a, b)
    best: dict[int, int] = {}
    for item in np.argsort(rank, kind="stable").tolist():
        best.setdefault(joined.find(item), item)
    kept = np.array([best[joined.find(item)] for item in range(len(rank))], dtype=np.int64)
    kept[kept == np.arange(len(rank))] = -1
    return kept


def drop_similar(first: np.ndarray, second: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """As ``clusters``, but in order of rank each item stays unless it is similar to one that stayed before it."""
    source, target = np.concatenate((first, second)), np.concatenate((second, first))
    order = np.argsort(source, kind="stable")
    source, target = source[order], target[order]
    bounds = np.searchsorted(source, np.arange(len(rank) + 1))
    kept = np.full(len(rank), -1, dtype=np.int64)
    for item in np.argsort(rank, kind="stable").tolist():
        if kept[item] < 0:
            near = target[bounds[item] : bounds[item + 1]]
            kept[near[kept[near] < 0]] = item
    return kept
