"""Tokens that keep the same company get similar vectors."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.analysis.token_vectors import token_vectors


def text_of_two_kinds(n_sentences: int = 3000) -> torch.Tensor:
    """Sentences "subject verb object": tokens 0-4 and 5-9 stand for two kinds of subject, each with its own verbs and
    objects (10-14 with 20-24, 15-19 with 25-29)."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.randint(0, 2, (n_sentences, 1), generator=generator) * 5
    word = torch.randint(0, 5, (n_sentences, 3), generator=generator)
    return (word + kind + torch.tensor([0, 10, 20])).flatten()


def test_tokens_of_a_kind_are_alike():
    vectors = token_vectors(text_of_two_kinds(), vocab_size=31, d_model=6, window=2)
    unit = torch.nn.functional.normalize(vectors, dim=1)
    alike = unit[:30] @ unit[:30].T
    for start in (0, 10, 20):
        same = alike[start : start + 5, start : start + 5].mean()
        other = alike[start : start + 5, start + 5 : start + 10].mean()
        assert same > 0.9 and same > other + 0.3, (start, same, other)


def test_rows_have_variance_one_and_unseen_tokens_none():
    vectors = token_vectors(text_of_two_kinds(), vocab_size=31, d_model=6)
    torch.testing.assert_close(vectors[:30].var(dim=1, correction=0), torch.ones(30))
    assert vectors[30].abs().max() < 1e-3, "token 30 does not occur"
    assert vectors.dtype == torch.float32 and vectors.isfinite().all()


def test_the_same_text_gives_the_same_vectors_and_leaves_the_random_state_alone():
    state = torch.random.get_rng_state()
    one, other = (token_vectors(text_of_two_kinds(200), 31, 4) for _ in range(2))
    assert torch.equal(one, other) and torch.equal(state, torch.random.get_rng_state())


def test_more_numbers_than_tokens_are_refused():
    with pytest.raises(ValueError, match="d_model is 32: 31 tokens"):
        token_vectors(text_of_two_kinds(10), 31, 32)
