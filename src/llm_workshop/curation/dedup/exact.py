"""Exact duplicates: texts that are the same but for case, white space and Unicode form."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable

import numpy as np

from llm_workshop.curation.dedup.lsh import SORT_AT_ONCE, key_ranges


def fold(text: str) -> str:
    """NFC, lower case, every run of white space as one space: what does not make two texts different."""
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.lower().split())


def digest(folded: str) -> bytes:
    """16 bytes of BLAKE2b: two of 10^9 different texts agree with probability 10^-21."""
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def exact_duplicates(
    shards: int, load: Callable[[int], tuple[np.ndarray, np.ndarray]], texts: int, at_once: int = SORT_AT_ONCE
) -> tuple[np.ndarray, np.ndarray]:
    """(dropped, kept), int64: of the texts with one digest, the one with the least rank (then the first) stays.

    ``load(shard)`` gives the digests (texts, 2) and the ranks (texts) of a shard; they are read once for each range of
    ``at_once`` texts, so that memory does not grow with the corpus.
    """
    dropped, kept = [], []
    for low, high in key_ranges(texts, at_once):
        start, parts = 0, []
        for shard in range(shards):
            digests, ranks = load(shard)
            inside = np.flatnonzero((digests[:, 0] >= np.uint64(low)) & (digests[:, 0] <= np.uint64(high)))
            parts.append((digests[inside, 0], digests[inside, 1], ranks[inside], inside + start))
            start += len(digests)
        if not parts:
            continue
        high_half, low_half, ranks, numbers = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((numbers, ranks, low_half, high_half))
        high_half, low_half, numbers = high_half[order], low_half[order], numbers[order]
        again = np.flatnonzero((high_half[1:] == high_half[:-1]) & (low_half[1:] == low_half[:-1])) + 1
        begins = np.arange(len(numbers))
        begins[again] = 0
        dropped.append(numbers[again])
        kept.append(numbers[np.maximum.accumulate(begins)][again])
    if not dropped:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(dropped), np.concatenate(kept)
