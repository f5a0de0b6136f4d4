"""MinHash estimates the Jaccard similarity, and LSH proposes pairs as its S-curve says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_workshop.curation.dedup.lsh import (
    Bands,
    band_keys,
    choose_bands,
    collision_probability,
    equal_key_pairs,
    key_ranges,
    pairs_of_band,
    unpack,
)
from llm_workshop.curation.dedup.minhash import NOTHING, MinHash, estimate
from llm_workshop.curation.dedup.shingles import Shingles
from llm_workshop.curation.dedup.verify import jaccard


def sets_with(similarity: float, pairs: int, size: int = 200, seed: int = 0) -> Shingles:
    """2 x ``pairs`` random sets, every two neighbours of the given similarity, ``size`` elements in their union."""
    random, common = np.random.default_rng(seed), round(size * similarity)
    parts = []
    for _ in range(pairs):
        union = random.integers(0, 1 << 64, size, dtype=np.uint64)
        middle = common + (size - common) // 2
        parts += [union[:middle], np.concatenate((union[:common], union[middle:]))]
    return Shingles(np.concatenate(parts), np.concatenate(([0], np.cumsum([len(part) for part in parts]))))


def test_a_signature_is_the_least_value_of_each_permutation():
    hasher = MinHash(3, seed=4)
    hashes = np.array([7, 2**40 + 9, 11], dtype=np.uint64)
    signature = hasher.signatures(Shingles(hashes, np.array([0, 2, 2, 3])))
    for k in range(3):
        a, b = int(hasher.a[k]), int(hasher.b[k])
        assert a % 2 == 1
        assert signature[k, 0] == min((a * (x % 2**32) + b) % 2**32 for x in (7, 2**40 + 9))
        assert signature[k, 1] == NOTHING
        assert signature[k, 2] == (a * 11 + b) % 2**32


def test_the_size_of_the_batch_changes_nothing():
    sets = sets_with(0.6, pairs=40, size=1500)  # 48,000 elements: several blocks, and sets across their ends
    together = MinHash(16).signatures(sets)
    for number in range(80):
        part = sets.hashes[sets.bounds[number] : sets.bounds[number + 1]]
        alone = MinHash(16).signatures(Shingles(part, np.array([0, len(part)])))
        assert np.array_equal(alone[:, 0], together[:, number])


@pytest.mark.parametrize("similarity", [0.1, 0.5, 0.8, 0.95])
def test_the_estimate_has_the_mean_and_the_spread_of_theory(similarity):
    permutations, pairs = 128, 400
    signatures = MinHash(permutations, seed=3).signatures(sets_with(similarity, pairs, seed=2))
    estimates = np.array([estimate(signatures, 2 * i, 2 * i + 1) for i in range(pairs)])
    deviation = (similarity * (1 - similarity) / permutations) ** 0.5
    assert abs(estimates.mean() - similarity) < 5 * deviation / pairs**0.5 + 0.005  # 200 elements cannot hit 0.8 exactly
    assert 0.8 * deviation < estimates.std() < 1.25 * deviation


@given(st.sets(st.integers(0, 2**64 - 1), max_size=40), st.sets(st.integers(0, 2**64 - 1), max_size=40))
def test_jaccard_is_that_of_the_sets(first, second):
    expected = len(first & second) / len(first | second) if first and second else 0.0
    assert jaccard(*(np.array(sorted(s), dtype=np.uint64) for s in (first, second))) == expected


def test_jaccard_of_seven_and_five_elements():
    first, second = np.arange(7, dtype=np.uint64), np.arange(4, 9, dtype=np.uint64)
    assert jaccard(first, second) == 3 / 9


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.65, 0.75, 0.9])
def test_pairs_collide_as_often_as_the_s_curve_says(similarity):
    bands, pairs = Bands(10, 5), 1500
    sets = sets_with(similarity, pairs, size=100, seed=5)
    keys = band_keys(MinHash(50, seed=9).signatures(sets), bands)
    share = np.mean((keys[:, ::2] == keys[:, 1::2]).any(axis=0))
    theory = collision_probability(similarity, bands)
    # One set of permutations for all pairs: about as variable as independent draws, with some room.
    assert abs(share - theory) < 6 * (theory * (1 - theory) / pairs) ** 0.5 + 0.01


def test_the_s_curve_by_hand():
    assert collision_probability(0.8, Bands(2, 3)) == pytest.approx(1 - (1 - 0.512) ** 2)


def test_bands_are_as_wide_as_the_recall_allows():
    assert choose_bands(0.8, 128, 0.98) == Bands(18, 7)  # 0.9855; with 8 rows 16 bands give 0.947
    assert collision_probability(0.8, Bands(16, 8)) < 0.98 <= collision_probability(0.8, Bands(18, 7))
    with pytest.raises(ValueError, match="4 permutations cannot find 99%"):
        choose_bands(0.3, 4, 0.99)


def pairs_as_set(pairs: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(*(part.tolist() for part in unpack(pairs))))


def test_equal_keys_give_all_pairs_of_a_bucket():
    keys = np.array([5, 9, 5, 9, 5, 1], dtype=np.uint64)
    numbers = np.array([10, 11, 12, 13, 14, 15])
    assert pairs_as_set(equal_key_pairs(keys, numbers)) == {(10, 12), (10, 14), (12, 14), (11, 13)}


def test_a_large_bucket_gives_neighbours_and_the_first():
    pairs = pairs_as_set(equal_key_pairs(np.full(6, 3, np.uint64), np.arange(6), neighbours=2))
    assert pairs == {(i, j) for i in range(6) for j in range(i + 1, 6) if j - i <= 2 or i == 0}


def test_texts_without_shingles_are_like_no_other():
    signatures = MinHash(4).signatures(Shingles(np.zeros(0, np.uint64), np.zeros(4, np.int64)))
    assert len(equal_key_pairs(band_keys(signatures, Bands(2, 2))[0], np.arange(3))) == 0


@given(st.lists(st.lists(st.integers(0, 6), max_size=8), min_size=1, max_size=4), st.integers(1, 30), st.data())
def test_shards_and_ranges_change_no_pair(shards, at_once, data):
    width = (1 << 64) // 7
    keys = [np.array([value * width for value in shard], dtype=np.uint64) for shard in shards]
    values = [value for shard in shards for value in shard]
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))), dtype=bool)
    found = pairs_as_set(pairs_of_band(keys, alive, neighbours=64, at_once=at_once))
    expected = {(i, j) for j in range(len(values)) for i in range(j) if values[i] == values[j] and alive[i] and alive[j]}
    assert found == expected


@given(st.integers(0, 10_000), st.integers(1, 999))
def test_ranges_cover_every_hash_once(texts, at_once):
    ranges = list(key_ranges(texts, at_once))
    assert ranges[0][0] == 0 and ranges[-1][1] == 2**64 - 1
    assert all(low == high + 1 for (_, high), (low, _) in pairwise(ranges))
