"""Mixtures: exact shares, complete parts, and a pure function of (seed, step)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch_llm.data import Mixture, TokenFile, TokenFileWriter, TokenSlice, Windows

CONTEXT, BATCH = 8, 4


def token_file(path, begin: int, lengths) -> TokenFile:
    """Ids count upwards from ``begin``: every token tells which text it is from."""
    with TokenFileWriter(path, vocab_size=5000) as writer:
        for length in lengths:
            writer.append(np.arange(begin, begin + length))
            begin += length
    return TokenFile(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    sizes = {"small": (1000, [9, 30, 5]), "middle": (2000, [20] * 12), "large": (3000, [40] * 25)}
    return {name: token_file(folder / name, begin, lengths) for name, (begin, lengths) in sizes.items()}


def mixture(files, weights=None, names=("small", "middle", "large"), seed=0, packing="stream", **options):
    parts = {name: Windows(files[name], CONTEXT, BATCH, seed, packing) for name in names}
    return Mixture(parts, None if weights is None else dict(zip(names, weights)), seed=seed, **options)


def sources_of(mixed, steps) -> list[str]:
    """The part of each row, told from its first token."""
    names = {1: "small", 2: "middle", 3: "large"}
    return [names[int(row[0]) // 1000] for step in range(steps) for row in mixed.batch(step)[0]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 2**70))
def test_shares_are_exact(weights, seed):
    """After every sum(weights) places each part has come exactly weight times, and never strays far in between."""

    class Part:
        batch_size, context_length, packing, n_windows = 4, 8, "stream", 10

    mixed = Mixture({str(n): Part() for n in range(len(weights))}, {str(n): w for n, w in enumerate(weights)}, seed=seed)
    seen: Counter = Counter()
    for place in range(3 * sum(weights)):
        part, before = mixed.source(place)
        assert before == seen[part]
        seen[part] += 1
        for n, weight in enumerate(weights):
            assert abs(seen[n] - (place + 1) * weight / sum(weights)) < len(weights)
        if (place + 1) % sum(weights) == 0:
            assert all(seen[n] == (place + 1) // sum(weights) * weight for n, weight in enumerate(weights))


def test_every_batch_has_its_shares(files):
    mixed = mixture(files, (1, 2, 1))
    assert mixed.shares == {"small": 0.25, "middle": 0.5, "large": 0.25}
    rows = sources_of(mixed, 25)
    assert Counter(rows) == {"small": 25, "middle": 50, "large": 25}
    # Not the same order whatever the seed.
    assert len({tuple(sources_of(mixture(files, (1, 2, 1), seed=seed), 3)) for seed in range(8)}) > 1


@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_the_rows_of_a_part_are_its_own_in_order(files, packing):
    mixed = mixture(files, (0.5, 0.2, 0.3), seed=5, packing=packing)
    rows = {name: [] for name in mixed.names}
    for step in range(30):
        for name, *row in zip(sources_of(mixed, step + 1)[-BATCH:], *mixed.batch(step)):
            rows[name].append(row)
    for name, part in mixed.parts.items():
        alone = [row for step in range(len(rows[name]) // BATCH + 1) for row in zip(*part.batch(step))]
        assert len(rows[name]) > part.n_windows or name != "small"  # several epochs of the small one
        for (inputs, targets), (expected_inputs, expected_targets) in zip(rows[name], alone):
            assert torch.equal(inputs, expected_inputs) and torch.equal(targets, expected_targets)


def test_one_part_is_itself(files):
    mixed, alone = mixture(files, names=("middle",)), Windows(files["middle"], CONTEXT, BATCH)
    assert all(torch.equal(a, b) for step in range(20) for a, b in zip(mixed.batch(step), alone.batch(step)))
    assert mixed.n_batches == alone.n_batches


def test_asked_in_any_order(files):
    one, other = mixture(files, (5, 3, 1), seed=2), mixture(files, (5, 3, 1), seed=2)
    ahead = [one.batch(step) for step in range(30)]
    for step in (29, 0, 13, 0):
        for a, b in zip(other.batch(step), ahead[step]):
            assert torch.equal(a, b) and a.dtype == torch.int64 and a.shape == (BATCH, CONTEXT)
    assert one.batch(10**9)[0].shape == (BATCH, CONTEXT)


def test_sizes_and_temperature(files):
    tokens = np.array([44, 240, 1000])
    assert list(mixture(files).shares.values()) == pytest.approx(tokens / tokens.sum())
    hot = list(mixture(files, temperature=2).shares.values())
    assert hot == pytest.approx(np.sqrt(tokens) / np.sqrt(tokens).sum(), abs=1e-5)
    assert list(mixture(files, temperature=1e9).shares.values()) == pytest.approx([1 / 3] * 3, abs=1e-5)
    cold = mixture(files, (1, 1000, 3), temperature=0.05).shares
    assert cold["middle"] > 0.9999 and min(cold.values()) > 0


def test_readings(files):
    mixed = mixture(files, (1, 1, 2))
    # 44, 240 and 1000 tokens make 6, 30 and 125 windows; 16 steps have 64 rows.
    assert mixed.readings(16) == pytest.approx({"small": 16 / 6, "middle": 16 / 30, "large": 32 / 125})
    assert mixed.n_batches == 63  # 250 rows until the largest was read once


def test_the_digest_knows_texts_and_shares(files):
    digests = [mixture(files, weights, names).token_file.sha256 for weights, names in (
        ((1, 1, 1), ("small", "middle", "large")), ((1, 1, 2), ("small", "middle", "large")),
        ((1, 1), ("small", "middle")), ((1, 1), ("small", "large")), ((1, 1), ("middle", "small")))]
    assert len(set(digests)) == 5
    assert mixture(files, (2, 2, 2)).token_file.sha256 == digests[0]
    assert mixture(files).token_file.vocab_size == 5000 and len(mixture(files).token_file) == 1284


@pytest.mark.parametrize("weights, options, message", [
    ((1, 0, 1), {}, "the weight of 'middle' is 0: it must be above 0; leave the part out"),
    ((1, float("nan"), 1), {}, "the weight of 'middle' is nan"),
    ((1, 1), {}, "weights are given for 'small', 'middle': give one for each of 'small', 'middle', 'large'"),
    ((1, 1, 1), {"temperature": 0}, "temperature 0 must be above 0"),
])
def test_bad_weights(files, weights, options, message):
    with pytest.raises(ValueError, match=message):
        mixture(files, weights, **options)


def test_bad_parts(files):
    with pytest.raises(ValueError, match="a mixture of nothing"):
        Mixture({})
    parts = {name: Windows(files[name], context, BATCH) for name, context in (("small", 8), ("large", 16))}
    with pytest.raises(ValueError, match=r"context_length \{'small': 8, 'large': 16\}: give all the same"):
        Mixture(parts)
    with pytest.raises(ValueError, match="step -1"):
        mixture(files).batch(-1)


@pytest.mark.parametrize("first, stop", [(0, 1), (1, 3), (2, 3), (0, 3)])
@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_a_slice_is_a_file_of_its_documents(files, tmp_path, first, stop, packing):
    lengths = [9, 30, 5]
    part = TokenSlice(files["small"], first, stop)
    alone = token_file(tmp_path / "alone", 1000 + sum(lengths[:first]), lengths[first:stop])
    assert (len(part), part.n_documents, part.vocab_size) == (len(alone), alone.n_documents, 5000)
    if len(alone) > 4:
        for a, b in zip(*(Windows(file, 4, 2, packing=packing).batch(3) for file in (part, alone))):
            assert torch.equal(a, b)


def test_slices_have_digests_of_their_own_and_limits(files):
    assert len({TokenSlice(files["middle"], first, stop).sha256 for first, stop in ((0, 2), (2, 4), (0, 4))}) == 3
    with pytest.raises(ValueError, match="has documents 0 to 2: 1 to 3 are not among them"):
        TokenSlice(files["small"], 1, 4)
    with pytest.raises(ValueError, match="are not among them"):
        TokenSlice(files["small"], 2, 2)
