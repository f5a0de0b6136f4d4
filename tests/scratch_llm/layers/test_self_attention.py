"""The steps of self-attention against sums written out, and what each step is there for."""

from __future__ import annotations

import math

import pytest
import torch

from scratch_llm.layers.self_attention import (
    CausalSelfAttention,
    LinearSelfAttention,
    ParameterSelfAttention,
    attention_without_weights,
    causal_weights_by_infinity,
    causal_weights_by_multiplication,
    future_mask,
    scaled_scores,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def attend_by_hand(queries, keys, values, scale, causal):
    """Attention of one text in plain Python: lists of lists of numbers."""
    contexts = []
    for i, query in enumerate(queries):
        seen = range(i + 1) if causal else range(len(keys))
        exps = [math.exp(scale * sum(a * b for a, b in zip(query, keys[j]))) for j in seen]
        weights = [e / sum(exps) for e in exps]
        contexts.append([sum(w * values[j][n] for w, j in zip(weights, seen)) for n in range(len(values[0]))])
    return torch.tensor(contexts)


def test_attention_without_weights_is_its_sums():
    x = torch.randn(5, 3)
    contexts, weights = attention_without_weights(x)
    torch.testing.assert_close(contexts, attend_by_hand(x.tolist(), x.tolist(), x.tolist(), 1.0, causal=False))
    torch.testing.assert_close(weights.sum(-1), torch.ones(5))


@pytest.mark.parametrize("causal", [False, True])
def test_trained_attention_is_its_sums(causal):
    x = torch.randn(2, 6, 5)
    layer = CausalSelfAttention(5, 3, 9, bias=True) if causal else LinearSelfAttention(5, 3, bias=True)
    for b in range(2):
        q, k, v = (part(x[b]).tolist() for part in (layer.query, layer.key, layer.value))
        torch.testing.assert_close(layer(x)[b], attend_by_hand(q, k, v, 3**-0.5, causal))


def test_parameters_and_linear_layers_are_the_same_function():
    bare, linear = ParameterSelfAttention(7, 4), LinearSelfAttention(7, 4)
    with torch.no_grad():
        for matrix, layer in ((bare.W_query, linear.query), (bare.W_key, linear.key), (bare.W_value, linear.value)):
            layer.weight.copy_(matrix.T)
    x = torch.randn(2, 5, 7)
    torch.testing.assert_close(bare(x), linear(x))
    assert bare(x).shape == (2, 5, 4) and len(list(bare.parameters())) == 3


def test_scaling_keeps_the_variance_of_scores_at_one():
    for d in (16, 1024):
        q, k = torch.randn(400, d), torch.randn(400, d)
        assert scaled_scores(q, k).var().item() == pytest.approx(1, abs=0.1)
        assert (q @ k.T).var().item() == pytest.approx(d, rel=0.1)


def test_the_two_ways_to_mask_agree_on_ordinary_scores():
    scores = torch.randn(3, 6, 6)
    one, other = causal_weights_by_multiplication(scores), causal_weights_by_infinity(scores)
    torch.testing.assert_close(one, other)
    assert (other * future_mask(6)).abs().max() == 0
    torch.testing.assert_close(other.sum(-1), torch.ones(3, 6))


def test_multiplication_loses_the_past_where_the_future_scores_far_higher():
    scores = torch.zeros(3, 3)
    scores[0, 2] = 200.0
    assert causal_weights_by_multiplication(scores)[0].isnan().any()
    assert causal_weights_by_infinity(scores)[0].tolist() == [1, 0, 0]


def test_the_past_does_not_see_the_future():
    layer = CausalSelfAttention(6, 4, 8)
    x = torch.randn(1, 8, 6)
    changed = x.clone()
    changed[:, 5:] += 1
    assert torch.equal(layer(x)[:, :5], layer(changed)[:, :5])
    assert not torch.allclose(layer(x)[:, 5:], layer(changed)[:, 5:])


def test_dropout_zeroes_weights_in_training_and_keeps_their_mean():
    layer = CausalSelfAttention(6, 4, 64, dropout=0.25)
    x = torch.randn(200, 64, 6)
    clean, dropped = layer.eval().weights(x), layer.train().weights(x)
    kept = dropped > 0
    torch.testing.assert_close(dropped[kept], clean[kept] / 0.75)
    assert ((dropped > 0).sum() / (clean > 0).sum()).item() == pytest.approx(0.75, abs=0.01)
    assert dropped.sum(-1).mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(layer.eval()(x), layer.eval()(x))


def test_the_mask_is_a_buffer():
    layer = CausalSelfAttention(6, 4, 8)
    assert "future_TT" in dict(layer.named_buffers())
    assert "future_TT" not in layer.state_dict() and "future_TT" not in dict(layer.named_parameters())
    assert layer.to("meta").future_TT.device.type == "meta", "it goes where the module goes"


def test_a_text_that_is_too_long_is_refused():
    layer = CausalSelfAttention(6, 4, 8)
    assert layer(torch.randn(8, 6)).shape == (8, 4)
    with pytest.raises(ValueError, match="9 tokens are more than context_length 8"):
        layer(torch.randn(1, 9, 6))
