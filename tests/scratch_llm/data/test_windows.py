"""Windows: complete, in a fresh order each epoch, and a pure function of (seed, step)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch_llm.data import IGNORE, TokenFile, TokenFileWriter, Windows
from scratch_llm.data.windows import permuted


def token_file(folder, lengths) -> TokenFile:
    """A file whose ids are its positions, so that every token can be recognised."""
    n_tokens = sum(lengths)
    with TokenFileWriter(folder / "x", vocab_size=max(n_tokens, 2)) as writer:
        position = 0
        for length in lengths:
            writer.append(np.arange(position, position + length))
            position += length
    return TokenFile(folder / "x")


def epoch(windows: Windows, number: int = 0):
    """Inputs and targets of exactly one epoch, row by row."""
    rows = []
    first = number * windows.n_windows
    for step in range(first // windows.batch_size, (first + windows.n_windows) // windows.batch_size + 1):
        inputs, targets = windows.batch(step)
        rows += zip(inputs, targets, range(step * windows.batch_size, (step + 1) * windows.batch_size))
    return [(i, t) for i, t, place in rows if first <= place < first + windows.n_windows]


lengths_and_context = st.integers(1, 12).flatmap(
    lambda context: st.tuples(
        st.lists(st.integers(1, 30), min_size=1, max_size=40).filter(lambda ls: sum(ls) > context),
        st.just(context), st.integers(1, 5), st.integers(0, 2**32)))


@settings(max_examples=60, deadline=None)
@given(lengths_and_context, st.integers(0, 2))
def test_stream_predicts_every_token_once_per_epoch(tmp_path_factory, case, number):
    lengths, context, batch_size, seed = case
    windows = Windows(token_file(tmp_path_factory.mktemp("w"), lengths), context, batch_size, seed)
    targets = torch.cat([t for _, t in epoch(windows, number)])
    assert sorted(targets[targets != IGNORE].tolist()) == list(range(1, sum(lengths)))
    for inputs, row in epoch(windows, number):
        kept = row != IGNORE
        assert torch.equal(row[kept], inputs[kept] + 1)


@settings(max_examples=60, deadline=None)
@given(lengths_and_context, st.integers(0, 1))
def test_documents_are_covered_once_and_not_cut_where_they_fit(tmp_path_factory, case, number):
    lengths, context, batch_size, seed = case
    file = token_file(tmp_path_factory.mktemp("w"), lengths)
    windows = Windows(file, context, batch_size, seed, packing="documents", pad_id=10**6)
    document_of = np.repeat(np.arange(len(lengths)), lengths)
    rows_of_document: dict[int, set[int]] = {}
    inputs_seen, targets_seen = Counter(), Counter()
    for row, (inputs, targets) in enumerate(epoch(windows, number)):
        for token, target in zip(inputs.tolist(), targets.tolist()):
            if token == 10**6:
                assert target == IGNORE
                continue
            inputs_seen[token] += 1
            rows_of_document.setdefault(int(document_of[token]), set()).add(row)
            if target != IGNORE:
                assert target == token + 1 and document_of[target] == document_of[token]
                targets_seen[target] += 1
    begins = set((np.cumsum(lengths) - lengths).tolist())
    assert inputs_seen == Counter(range(sum(lengths)))
    assert targets_seen == Counter(set(range(sum(lengths))) - begins)
    for document, rows in rows_of_document.items():
        assert lengths[document] > context or len(rows) == 1


def test_packing_wastes_little(tmp_path):
    lengths = np.random.default_rng(0).integers(1, 100, 2000)
    windows = Windows(token_file(tmp_path, lengths), 128, 4, packing="documents")
    assert windows.fill > 0.98
    shown = sum(int((targets != IGNORE).sum()) for _, targets in epoch(windows))
    assert shown == lengths.sum() - len(lengths)


@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_order_is_a_pure_function_of_seed_and_step(packing, tmp_path):
    file = token_file(tmp_path, [7, 30, 11, 4] * 20)
    one, other = (Windows(file, 16, 4, seed=3, packing=packing) for _ in range(2))
    ahead = [one.batch(step) for step in range(40)]
    for step in (39, 0, 17, 5, 17):  # asked in any order, by a fresh object: as after a restart
        for a, b in zip(other.batch(step), ahead[step]):
            assert torch.equal(a, b) and a.dtype == torch.int64 and a.shape == (4, 16)
    first, second = ([i.tolist() for i, _ in epoch(one, n)] for n in (0, 1))
    assert first != second and sorted(first) == sorted(second)
    another_seed = Windows(file, 16, 4, seed=4, packing=packing)
    assert [i.tolist() for i, _ in epoch(another_seed)] != first


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permuted_is_a_permutation(n, seed):
    assert sorted(permuted(np.arange(n), n, (seed, 0)).tolist()) == list(range(n))


def test_permuted_mixes_evenly():
    """Over many keys, index 0 lands everywhere equally often (chi-square, 9 degrees of freedom)."""
    landed = np.bincount([int(permuted(np.array([0]), 10, (key,))[0]) for key in range(3000)], minlength=10)
    assert ((landed - 300) ** 2 / 300).sum() < 27.9  # 99.9th percentile


def test_text_shorter_than_the_context(tmp_path):
    with pytest.raises(ValueError, match=r"has 8 tokens, fewer than .* = 9; use a longer text or a smaller"):
        Windows(token_file(tmp_path, [8]), 8, 1)


@pytest.mark.parametrize("arguments, message", [
    ({"packing": "best"}, "choose 'stream' or 'documents'"),
    ({"context_length": 0}, "context_length 0 must be at least 1"),
    ({"batch_size": 0}, "batch_size 0 must be at least 1"),
])
def test_bad_arguments(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Windows(token_file(tmp_path, [20]), **({"context_length": 4, "batch_size": 2} | arguments))


def test_negative_step(tmp_path):
    with pytest.raises(ValueError, match="step -1"):
        Windows(token_file(tmp_path, [20]), 4, 2).batch(-1)
