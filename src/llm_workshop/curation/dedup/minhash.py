"""MinHash: a set of any size becomes a short row of numbers, and the rows tell how alike the sets are.

Put the elements of A and B in one random order.  The first element of the union is equally likely any of its
elements, and it lies in both sets with probability |A and B| / |A or B|: the Jaccard similarity J.  So the two sets
have the same first element with probability J.  With K random orders, the share of the K in which the first elements
agree estimates J, with standard deviation sqrt(J (1 - J) / K): 0.035 for J = 0.8 and K = 128.

A random order need not be written down: h(x) = (a x + b) mod 2^32 with odd a is a permutation of the 32-bit numbers,
and the "first" element is the one with the least h.  A signature is the K least values.

Broder 1997, "On the resemblance and containment of documents"; Broder, Charikar, Frieze and Mitzenmacher 1998,
"Min-wise independent permutations" (linear ones are nearly so); Leskovec, Rajaraman and Ullman, "Mining of Massive
Datasets", chapter 3.
"""

from __future__ import annotations

import numpy as np

from llm_workshop.curation.dedup.shingles import Shingles

#: What an empty set has instead of a least value.
NOTHING = np.uint32(0xFFFFFFFF)
#: Shingles worked on at once: 64 KiB of them, so that all K passes find them in the nearest cache.
_BLOCK = 16_384


class MinHash:
    """``permutations`` orders, always the same for one ``seed``."""

    def __init__(self, permutations: int = 128, seed: int = 1):
        if permutations < 1:
            raise ValueError(f"{permutations} permutations: choose 1 or more")
        random = np.random.Generator(np.random.PCG64(seed))
        self.a = random.integers(0, 1 << 32, permutations, dtype=np.uint32) | np.uint32(1)
        self.b = random.integers(0, 1 << 32, permutations, dtype=np.uint32)

    def signatures(self, shingles: Shingles) -> np.ndarray:
        """uint32 (permutations, texts): column d is the signature of text d."""
        hashes = shingles.hashes.astype(np.uint32)  # the low half of a well mixed hash is one too
        bounds = shingles.bounds
        rows = np.full((len(self.a), len(bounds) - 1), NOTHING, dtype=np.uint32)
        filled = np.flatnonzero(np.diff(bounds))  # reduceat knows no empty slices
        starts = bounds[filled]
        for begin in range(0, len(hashes), _BLOCK):
            block = hashes[begin : begin + _BLOCK]
            first = np.searchsorted(starts, begin, side="right") - 1
            last = np.searchsorted(starts, begin + len(block), side="left")
            least = self._least(block, np.maximum(starts[first:last] - begin, 0))
            # A text that reaches over the end of a block goes on in the next: the lesser of both counts.
            texts = filled[first:last]
            rows[:, texts] = np.minimum(rows[:, texts], least)
        return rows

    def _least(self, block: np.ndarray, starts: np.ndarray) -> np.ndarray:
        least = np.empty((len(self.a), len(starts)), dtype=np.uint32)
        ordered = np.empty_like(block)
        for k in range(len(self.a)):
            np.multiply(block, self.a[k], out=ordered)  # modulo 2^32 by itself
            np.add(ordered, self.b[k], out=ordered)
            np.minimum.reduceat(ordered, starts, out=least[k])
        return least


def estimate(signatures: np.ndarray, first: int, second: int) -> float:
    """Estimated Jaccard similarity of two texts: the share of permutations in which their least values agree."""
    return float(np.mean(signatures[:, first] == signatures[:, second]))
