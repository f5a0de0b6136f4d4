"""Sliding-window attention: the clear form, the one in blocks and the library's kernel are one function."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from scratch_llm.layers import GroupedQueryAttention, KVCache, block_attention
from scratch_llm.layers.attention import clear_attention
from scratch_llm.layers.block_attention import BLOCK, MAX_CONTEXT, keeps_little
from scratch_llm.layers.cache import causal_mask, padded_mask


def random_qkv(length: int, n_kv_heads: int = 2, d: int = 8):
    generator = torch.Generator().manual_seed(length)
    return [
        torch.randn(2, heads, length, d, generator=generator).requires_grad_()
        for heads in (4, n_kv_heads, n_kv_heads)
    ]


def test_the_window_is_its_definition():
    """Query t sees t - W + 1 to t: changing a token changes its own and the W - 1 outputs after it."""
    q, k, v = (part.detach() for part in random_qkv(30))
    for window in (1, 2, 7, 30):
        base = clear_attention(q, k, v, window=window)
        k2, v2 = k.clone(), v.clone()
        k2[:, :, 11] += 1
        v2[:, :, 11] += 1
        changed = (clear_attention(q, k2, v2, window=window) - base).abs().amax((0, 1, 3)) > 1e-6
        assert changed.nonzero().flatten().tolist() == list(range(11, min(30, 11 + window)))
    torch.testing.assert_close(clear_attention(q, k, v, window=1), v.repeat_interleave(2, dim=1))
    assert torch.equal(clear_attention(q, k, v, window=30), clear_attention(q, k, v))


@pytest.mark.parametrize("n_queries, n_keys", [(1, 1), (5, 5), (3, 9), (1, 9)])
@pytest.mark.parametrize("window", [1, 2, 4, 9, 50])
def test_masks_are_the_definition(n_queries, n_keys, window):
    expected = torch.zeros(n_queries, n_keys, dtype=torch.bool)
    for row in range(n_queries):
        query = n_keys - n_queries + row
        expected[row, max(0, query - window + 1) : query + 1] = True
    assert torch.equal(causal_mask(n_queries, n_keys, window=window), expected)
    nothing_padded = torch.ones(2, n_keys, dtype=torch.bool)
    assert torch.equal(padded_mask(nothing_padded, n_queries, window), expected.expand(2, 1, -1, -1))


def test_padding_takes_no_place_in_a_window():
    real = torch.tensor([[True, False, False, True, True, False, True]])
    mask = padded_mask(real, 7, window=3)[0, 0]
    assert mask[6].nonzero().flatten().tolist() == [3, 4, 6]
    assert mask[4].nonzero().flatten().tolist() == [0, 3, 4]
    assert mask.diagonal().all()


@pytest.mark.parametrize("length", [2, BLOCK, BLOCK + 1, 300, 3 * BLOCK])
@pytest.mark.parametrize("window", [1, 2, 31, BLOCK - 1, BLOCK, BLOCK + 1, 290, 1000])
def test_blocks_and_their_gradients(length, window):
    ours, plain = random_qkv(length), random_qkv(length)
    a = block_attention(*ours, 0.3, window)
    b = clear_attention(*plain, scale=0.3, window=window)
    grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    a.backward(grad), b.backward(grad)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    for mine, other in zip(ours, plain):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_the_hand_written_gradient_against_finite_differences(monkeypatch):
    monkeypatch.setattr(sys.modules[block_attention.__module__], "BLOCK", 4)
    qkv = [part.detach().double().requires_grad_() for part in random_qkv(11, d=3)]
    assert torch.autograd.gradcheck(lambda q, k, v: block_attention(q, k, v, None, 3), qkv)


def test_blocks_skip_what_no_query_of_theirs_sees():
    """Work grows with the window, not with the length: counted in the operations of the products."""
    from torch.utils.flop_counter import FlopCounterMode

    def flops(length, window):
        with FlopCounterMode(display=False) as counter:
            block_attention(*random_qkv(length), None, window).sum().backward()
        return counter.get_total_flops()

    narrow, whole = flops(8 * BLOCK, 64), flops(8 * BLOCK, None)
    # Per block 128 + 63 keys instead of 4.5 blocks on average.
    assert narrow / whole == pytest.approx((128 + 7 * 191) / (36 * 128), rel=1e-6)


@pytest.mark.parametrize("window", [1, 5, 40, 150])
def test_the_layer_takes_each_path_to_the_same_result(window):
    torch.manual_seed(0)
    layer = GroupedQueryAttention(32, 4, 2, 8, window=window)
    x = torch.randn(2, 150, 32)
    qkv = layer.qkv(x).view(2, 150, 8, 8).transpose(1, 2)
    expected = layer.out(clear_attention(*qkv.split((4, 2, 2), 1), window=window).transpose(1, 2).reshape(2, 150, 32))
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    mask = causal_mask(150, 150, window=window)
    torch.testing.assert_close(layer(x, None, mask), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
        cache, got = KVCache(1, 2, 2, 150, 8), []
        for t in range(150):
            cache.begin(2, 1, None)
            got.append(layer(x[:, t : t + 1], None, None, cache, 0))
            cache.advance(1)
        torch.testing.assert_close(torch.cat(got, 1), expected, rtol=1e-5, atol=1e-5)


def test_dropout_and_windows_go_together():
    """Where weights are dropped the library's kernel runs, with a mask for the window."""
    torch.manual_seed(0)
    layer = GroupedQueryAttention(8, 2, 2, 4, window=3, dropout=1e-9)
    x = torch.randn(1, 40, 8)
    torch.testing.assert_close(layer.train()(x), layer.eval()(x), rtol=1e-5, atol=1e-6)


def test_decoding_reads_the_window_only(monkeypatch):
    lengths, kernel = [], F.scaled_dot_product_attention

    def watch(q, k, v, **options):
        lengths.append(k.shape[2])
        return kernel(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watch)
    layer, cache = GroupedQueryAttention(8, 2, 1, 4, window=6), KVCache(1, 1, 1, 20, 4)
    with torch.no_grad():
        for _ in range(20):
            cache.begin(1, 1, None)
            layer(torch.randn(1, 1, 8), None, None, cache, 0)
            cache.advance(1)
    assert lengths == [min(n, 6) for n in range(1, 21)]


def test_long_contexts_fit_where_the_window_is_short():
    assert keeps_little(MAX_CONTEXT, None) and not keeps_little(MAX_CONTEXT + 1, None)
    assert keeps_little(4096, 128) and not keeps_little(4096, 129)
    assert not keeps_little(2 * MAX_CONTEXT, 10**6)


@pytest.mark.parametrize("window", [0, -1, 1.5, True, "3"])
def test_windows_that_show_nothing(window):
    q, k, v = random_qkv(4)
    for call in (
        lambda: GroupedQueryAttention(8, 2, 2, 4, window=window),
        lambda: block_attention(q, k, v, None, window),
        lambda: clear_attention(q, k, v, window=window),
    ):
        with pytest.raises(ValueError, match=r"window is .*: it must be a whole number of at least 1.*or None") as caught:
            call()
        assert "\n" not in str(caught.value)
