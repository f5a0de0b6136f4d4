"""Every layer against its formula written out, or against another implementation of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scratch_llm.layers import (
    GELUFeedForward,
    GroupedQueryAttention,
    LayerNorm,
    RMSNorm,
    SwiGLU,
    apply_rotary,
    interleaved_to_half,
    linear_cross_entropy,
    rotary_tables,
)
from scratch_llm.layers.attention import clear_attention
from scratch_llm.layers.cache import causal_mask, padded_mask, padded_positions


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("norm_class", [RMSNorm, LayerNorm])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_norm_is_its_formula(norm_class, dtype, tolerance):
    norm = norm_class(37, eps=1e-3)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    norm.to(dtype)
    x = (torch.randn(2, 5, 37) * 3 + 1).to(dtype)
    assert norm(x).dtype == dtype
    torch.testing.assert_close(norm(x), norm.clear_forward(x), atol=tolerance, rtol=tolerance)


def test_layer_norm_centres_and_rms_norm_does_not():
    x = torch.randn(4, 16) + 5
    assert LayerNorm(16)(x).mean(-1).abs().max() < 1e-5
    assert RMSNorm(16)(x).mean(-1).abs().min() > 0.5
    torch.testing.assert_close(RMSNorm(16)(x).square().mean(-1), torch.ones(4), atol=1e-4, rtol=0)


def test_rotary_turns_each_pair_by_position_times_frequency():
    cos, sin = rotary_tables(8, 50, theta=100.0)
    x = torch.randn(50, 8)
    turned = apply_rotary(x, cos, sin)
    for position in (0, 1, 49):
        for pair in range(4):
            angle = position * 100.0 ** (-2 * pair / 8)
            z = complex(x[position, pair], x[position, pair + 4]) * complex(
                torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
            )
            assert turned[position, pair].item() == pytest.approx(z.real, abs=1e-5)
            assert turned[position, pair + 4].item() == pytest.approx(z.imag, abs=1e-5)


def test_rotary_products_depend_on_distance_only():
    cos, sin = rotary_tables(16, 100)
    q, k = torch.randn(16), torch.randn(16)
    product = [apply_rotary(q, cos[i], sin[i]) @ apply_rotary(k, cos[i - 7], sin[i - 7]) for i in (7, 30, 99)]
    torch.testing.assert_close(product[0], product[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(product[0], product[2], atol=1e-4, rtol=0)


def test_rotary_refuses_an_odd_width():
    with pytest.raises(ValueError, match=r"head_dim is 7.*even"):
        rotary_tables(7, 4)


def test_interleaved_pairing_is_half_pairing_of_permuted_rows():
    """q.k is the same for neighbour pairs (the paper) and for halves after permuting the projections."""
    n_heads, d, width = 3, 8, 20
    wq, wk, x = torch.randn(n_heads * d, width), torch.randn(n_heads * d, width), torch.randn(6, width)
    cos, sin = rotary_tables(d, 6)

    def neighbours(vectors):  # (T, heads * d), pairs (2i, 2i+1), as complex numbers
        z = torch.view_as_complex(vectors.view(6, n_heads, d // 2, 2).contiguous())
        turn = torch.complex(cos[:, : d // 2], sin[:, d // 2 :])
        return torch.view_as_real(z * turn[:, None]).flatten(-2)

    def halves(weight):
        vectors = (x @ interleaved_to_half(weight, n_heads).T).view(6, n_heads, d)
        return apply_rotary(vectors, cos[:, None], sin[:, None])

    expected = torch.einsum("thd,shd->hts", neighbours(x @ wq.T), neighbours(x @ wk.T))
    torch.testing.assert_close(
        torch.einsum("thd,shd->hts", halves(wq), halves(wk)), expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("n_heads, n_kv_heads", [(4, 4), (6, 2), (5, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_its_formula(n_heads, n_kv_heads, masked):
    B, T, d, width = 2, 7, 6, 10
    layer = GroupedQueryAttention(width, n_heads, n_kv_heads, d, bias=True)
    x = torch.randn(B, T, width)
    cos, sin = rotary_tables(d, T)
    rotary = (cos[:, None], sin[:, None])
    real = torch.ones(B, T, dtype=torch.bool)
    real[1, :3] = not masked
    mask = padded_mask(real, T) if masked else None
    qkv = layer.qkv(x).view(B, T, -1, d).transpose(1, 2)
    q, k, v = qkv[:, :n_heads], qkv[:, n_heads : n_heads + n_kv_heads], qkv[:, n_heads + n_kv_heads :]
    q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
    expected = layer.out(clear_attention(q, k, v, mask).transpose(1, 2).reshape(B, T, -1))
    torch.testing.assert_close(layer(x, rotary, mask), expected, atol=1e-5, rtol=1e-5)


def test_attention_cannot_see_the_future():
    layer = GroupedQueryAttention(12, 4, 2, 4)
    x = torch.randn(1, 9, 12)
    changed = x.clone()
    changed[:, 6:] += 1
    torch.testing.assert_close(layer(x)[:, :6], layer(changed)[:, :6])
    assert not torch.allclose(layer(x)[:, 6:], layer(changed)[:, 6:])


def test_attention_weights_are_dropped_in_training_only():
    layer = GroupedQueryAttention(12, 4, 4, 4, dropout=0.5)
    x = torch.randn(1, 9, 12)
    assert not torch.equal(layer.train()(x), layer.train()(x))
    assert torch.equal(layer.eval()(x), layer.eval()(x))


def test_feed_forward_formulas():
    x = torch.randn(3, 5, 8)
    swiglu = SwiGLU(8, 11)
    gate, up = swiglu.gate_up.weight.split(11)
    expected = ((x @ gate.T) * torch.sigmoid(x @ gate.T) * (x @ up.T)) @ swiglu.down.weight.T
    torch.testing.assert_close(swiglu(x), expected)

    mlp = GELUFeedForward(8, 11)
    h = x @ mlp.up.weight.T + mlp.up.bias
    gelu = 0.5 * h * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (h + 0.044715 * h**3)))
    torch.testing.assert_close(mlp(x), gelu @ mlp.down.weight.T + mlp.down.bias)


def test_masks_and_positions():
    assert causal_mask(2, 4).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    real = torch.tensor([[False, True, True], [True, True, True]])
    assert padded_positions(real).tolist() == [[0, 0, 1], [0, 1, 2]]
    assert padded_positions(real, torch.tensor([5, 2])).tolist() == [[4, 5, 6], [2, 3, 4]]
    # Padding (query 0 of row 0) sees itself alone, and nobody else sees it.
    assert padded_mask(real, 3)[0, 0].int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert padded_mask(real, 1)[:, 0].int().tolist() == [[[0, 1, 1]], [[1, 1, 1]]]


def test_linear_cross_entropy_is_cross_entropy_with_gradients():
    hidden = torch.randn(3, 50, 16, requires_grad=True)
    weight = torch.randn(101, 16, requires_grad=True)
    targets = torch.randint(0, 101, (3, 50))
    targets[0, :20] = -100
    loss = linear_cross_entropy(hidden, weight, targets)
    expected = F.cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten(), ignore_index=-100)
    torch.testing.assert_close(loss, expected)
    ours, theirs = (
        torch.autograd.grad(loss, (hidden, weight)),
        torch.autograd.grad(expected, (hidden, weight)),
    )
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
