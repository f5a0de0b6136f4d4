"""Locality-sensitive hashing: which few of the n (n - 1) / 2 pairs are worth a look.

A signature is cut into ``bands`` of ``rows`` numbers.  Two texts become a candidate pair if any band agrees as a whole.
With similarity s one number agrees with probability s, a band with s^rows, and at least one band with

    P(s) = 1 - (1 - s^rows)^bands

an S-shaped curve whose steep part lies near (1 / bands)^(1 / rows).  More rows make false candidates rarer, more bands
lose fewer true ones (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4).

Texts with an equal band are found by sorting the band's hashes, not with a dictionary: 8 bytes a text instead of some
200, and the hashes stay in a memory-mapped file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from llm_workshop.curation.dedup.minhash import NOTHING
from llm_workshop.curation.dedup.shingles import mix

#: Texts sorted at once (some 30 bytes each): above it, the range of the hashes is cut into parts.
SORT_AT_ONCE = 500_000
#: The band hash of a text without shingles: it is like no other.
NO_KEY = np.uint64(0xFFFFFFFFFFFFFFFF)
_ROW_BASE = np.uint64(0xA0761D6478BD642F)


class Bands(NamedTuple):
    bands: int
    rows: int


def collision_probability(similarity: float | np.ndarray, bands: Bands) -> float | np.ndarray:
    """The S-curve: how likely two texts of this similarity become a candidate pair."""
    return 1 - (1 - similarity**bands.rows) ** bands.bands


def choose_bands(threshold: float, permutations: int, recall: float) -> Bands:
    """The most rows (fewest false candidates) with which pairs at the threshold are proposed at least so often."""
    for rows in range(permutations, 0, -1):
        bands = Bands(permutations // rows, rows)
        if collision_probability(threshold, bands) >= recall:
            return bands
    raise ValueError(
        f"{permutations} permutations cannot find {recall:.0%} of the pairs with similarity {threshold}: "
        f"use more of them, or a higher threshold"
    )


def band_keys(signatures: np.ndarray, bands: Bands) -> np.ndarray:
    """uint64 (bands, texts): a hash of each band of each signature, from ``signatures`` (permutations, texts)."""
    texts = signatures.shape[1]
    keys = np.empty((bands.bands, texts), dtype=np.uint64)
    empty = signatures[0] == NOTHING
    for band in range(bands.bands):
        key = np.zeros(texts, dtype=np.uint64)
        for row in range(band * bands.rows, (band + 1) * bands.rows):
            key *= _ROW_BASE
            key += signatures[row]
        keys[band] = mix(key)
    keys[:, empty] = NO_KEY
    return keys


def equal_key_pairs(keys: np.ndarray, numbers: np.ndarray, neighbours: int = 32) -> np.ndarray:
    """Pairs of texts with the same key, sorted and unique, each as (smaller number << 32) | larger number.

    A bucket of up to ``neighbours`` + 1 texts gives all its pairs.  In a larger one, whose pairs would grow with the
    square, each text is paired with the ``neighbours`` before it and with the first.
    """
    order = np.argsort(keys, kind="stable")
    keys, numbers = keys[order], numbers[order].astype(np.uint64)
    keep = keys != NO_KEY
    keys, numbers = keys[keep], numbers[keep]
    found = []
    for distance in range(1, neighbours + 1):
        same = np.flatnonzero(keys[distance:] == keys[:-distance])
        if not len(same):
            break
        found.append(pack(numbers[same], numbers[same + distance]))
    else:
        first = np.maximum.accumulate(np.where(np.r_[True, keys[1:] != keys[:-1]], np.arange(len(keys)), 0))
        far = np.flatnonzero(np.arange(len(keys)) - first > neighbours)
        found.append(pack(numbers[first[far]], numbers[far]))
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)


def pack(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A pair of uint64 numbers below 2^32 as one, the smaller in front."""
    return (np.minimum(first, second) << np.uint64(32)) | np.maximum(first, second)


def unpack(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two numbers of each pair, int64."""
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def key_ranges(texts: int, at_once: int = SORT_AT_ONCE) -> Iterator[tuple[int, int]]:
    """Ranges [low, high] of the 64-bit hashes, of equal width: hashes are spread evenly, so are the texts."""
    parts = max(1, -(-texts // at_once))
    width = (1 << 64) // parts
    for part in range(parts):
        yield part * width, (1 << 64) - 1 if part == parts - 1 else (part + 1) * width - 1


def pairs_of_band(keys: Sequence[np.ndarray], alive: np.ndarray, neighbours: int, at_once: int = SORT_AT_ONCE) -> np.ndarray:
    """Candidate pairs of one band over all shards: ``keys[s]`` uint64 (texts of shard s), ``alive`` bool (all texts)."""
    found = []
    for low, high in key_ranges(len(alive), at_once):
        start, chosen_keys, chosen_numbers = 0, [], []
        for shard in keys:
            inside = alive[start : start + len(shard)] & (shard >= np.uint64(low)) & (shard <= np.uint64(high))
            chosen_keys.append(shard[inside])
            chosen_numbers.append(np.flatnonzero(inside) + start)
            start += len(shard)
        if chosen_keys:
            found.append(equal_key_pairs(np.concatenate(chosen_keys), np.concatenate(chosen_numbers), neighbours))
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)
