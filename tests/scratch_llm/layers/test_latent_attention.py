"""Latent attention: both forms against the equations, and the cache they share."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.generation.packing import can_pack
from scratch_llm.layers import GroupedQueryAttention, KVCache, apply_rotary, rotary_tables
from scratch_llm.layers.cache import causal_mask, padded_mask
from scratch_llm.layers.latent_attention import LatentAttention
from scratch_llm.layers.latent_cache import LatentCache

D, H, C, N, R, V = 20, 3, 9, 7, 6, 5
KINDS = pytest.mark.parametrize("q_lora_rank", [None, 8])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(q_lora_rank=8, **changes):
    sizes = {"kv_lora_rank": C, "nope_dim": N, "rope_dim": R, "v_dim": V} | changes
    layer = LatentAttention(D, H, q_lora_rank=q_lora_rank, **sizes)
    for name, parameter in layer.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.4)
    return layer


def rotary(start, end):
    cos, sin = rotary_tables(R, 64)
    return cos[start:end, None], sin[start:end, None]


def by_the_equations(layer, x_TD):
    """One row without a batch axis: DeepSeek-V2, eq. 9 to 19, head by head and query by query."""
    T = len(x_TD)
    cos, sin = rotary_tables(R, 64)
    parts = (layer.compress.weight @ x_TD.t()).t()
    q, latent, k_rope = parts.split((layer.first_dim, C, R), dim=-1)
    if layer.q_expand is not None:
        q = layer.q_norm.clear_forward(q) @ layer.q_expand.weight.t()
    q = q.view(T, H, N + R)
    latent = layer.kv_norm.clear_forward(latent)
    up = layer.kv_expand.weight.view(H, N + V, C)
    rows = []
    for t in range(T):
        heads = []
        for h in range(H):
            query = torch.cat((q[t, h, :N], apply_rotary(q[t, h, N:], cos[t], sin[t])))
            scores, values = [], []
            for s in range(t + 1):
                key = torch.cat((up[h, :N] @ latent[s], apply_rotary(k_rope[s], cos[s], sin[s])))
                scores.append(query @ key / (N + R) ** 0.5)
                values.append(up[h, N:] @ latent[s])
            heads.append(torch.stack(scores).softmax(0) @ torch.stack(values))
        rows.append(layer.out.weight @ torch.cat(heads))
    return torch.stack(rows)


@KINDS
def test_expanded_form_is_the_equations(q_lora_rank):
    layer, x = make(q_lora_rank), torch.randn(2, 8, D)
    expected = torch.stack([by_the_equations(layer, row) for row in x])
    torch.testing.assert_close(layer(x, rotary(0, 8)), expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, rotary(0, 8)), expected, atol=1e-5, rtol=1e-5)


@KINDS
@pytest.mark.parametrize("rank", [C, 40])
@pytest.mark.parametrize("steps", [(1,) * 6, (2, 3, 1), (6,)])
def test_cache_in_pieces_is_one_forward_pass(q_lora_rank, rank, steps):
    """With a latent of 9 all pieces are absorbed or expanded as is cheaper, with one of 40 small ones are absorbed."""
    layer, x = make(q_lora_rank, kv_lora_rank=rank), torch.randn(2, 10, D)
    with torch.inference_mode():
        whole = layer(x, rotary(0, 10))
        cache, pieces, start = LatentCache(1, 2, 12, rank, R), [], 0
        for width in (4, *steps):
            end = start + width
            mask = None if start == 0 or width == 1 else causal_mask(width, end)
            pieces.append(layer(x[:, start:end], rotary(start, end), mask, cache, 0))
            cache.advance(width)
            start = end
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=1e-5)


def test_absorbed_and_expanded_forms_are_equal_with_padding_and_gradients():
    layer, x = make(), torch.randn(2, 5, D, requires_grad=True)
    real = torch.ones(2, 5, dtype=torch.bool)
    real[1, :2] = False
    mask = padded_mask(real, 5)
    q_nope, q_rope, latent, k_rope = layer._project(x, rotary(0, 5))
    expanded = layer._expanded(q_nope, q_rope, latent, k_rope, mask)
    absorbed = layer._absorbed(q_nope, q_rope, torch.cat((latent, k_rope), dim=-1), mask)
    torch.testing.assert_close(absorbed, expanded, atol=1e-5, rtol=1e-5)
    up = torch.randn_like(expanded)
    inputs = [x, layer.compress.weight, layer.q_expand.weight, layer.kv_expand.weight]
    one, two = (torch.autograd.grad((y * up).sum(), inputs, retain_graph=True) for y in (expanded, absorbed))
    for a, b in zip(one, two):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def test_training_kernel_agrees_with_the_library():
    layer, x = make(), torch.randn(2, 9, D)
    grads = []
    for mask in (None, causal_mask(9, 9)):  # without a mask by block_attention, with one by the library
        y = layer(x, rotary(0, 9), mask)
        grads.append((y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))))
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-5)


def test_the_cheaper_form_is_chosen():
    """DeepSeek-V3's sizes: absorbing pays up to c (n + v) / (2 c - n - v) = 170 queries."""
    with torch.device("meta"):
        layer = LatentAttention(64, 2, q_lora_rank=None, kv_lora_rank=512, nope_dim=128, rope_dim=64, v_dim=128)
        assert layer.absorbs(170) and not layer.absorbs(171)
        # A latent no wider than half of a head's key and value: always.
        narrow = LatentAttention(64, 2, q_lora_rank=None, kv_lora_rank=64, nope_dim=128, rope_dim=64, v_dim=128)
        assert narrow.absorbs(100_000)


def test_cache_memory_is_that_of_the_latent():
    cache = LatentCache(4, 2, 30, C, R)
    assert cache.n_bytes() == 4 * 2 * 30 * (C + R) * 4
    grouped = KVCache(4, 2, H, 30, V)
    assert grouped.n_bytes() == 4 * 2 * 30 * (2 * H * V) * 4
    assert cache.n_bytes() / grouped.n_bytes() == (C + R) / (2 * H * V)


def test_what_is_kept_is_the_normed_latent_and_the_rotated_key():
    layer, x = make(), torch.randn(1, 4, D)
    cache = LatentCache(2, 1, 6, C, R)
    layer(x, rotary(0, 4), None, cache, 1)
    _, _, latent, k_rope = layer._project(x, rotary(0, 4))
    assert torch.equal(cache.latents[1][:, 0, :4], torch.cat((latent, k_rope), dim=-1))
    assert not cache.latents[0].any() and not cache.latents[1][:, :, 4:].any()


def test_with_a_latent_as_wide_as_the_keys_it_is_multi_head_attention():
    """W_UK and W_UV the identity on their part of the latent, no rotation at work: plain attention on given keys."""
    width = H * (N + V)
    layer = make(None, kv_lora_rank=width)
    plain = GroupedQueryAttention(D, H, H, N + R, scale=layer.scale)
    x = torch.randn(1, 6, D)
    still = torch.ones(6, 1, R), torch.zeros(6, 1, R)
    with torch.no_grad():
        layer.kv_expand.weight.copy_(torch.eye(width))
        _, _, latent, k_rope = layer._project(x, still)
        k_nope, v = latent.view(1, 6, H, N + V).split((N, V), dim=-1)
        q = layer.compress(x)[..., : layer.first_dim].view(1, 6, H, N + R)
        k = torch.cat((k_nope, k_rope[:, :, None].expand(-1, -1, H, -1)), dim=-1)
        scores = torch.einsum("bthd,bshd->bhts", q, k) * plain.scale
        weights = scores.masked_fill(~causal_mask(6, 6), float("-inf")).softmax(-1)
        expected = layer.out(torch.einsum("bhts,bshv->bthv", weights, v).flatten(2))
        torch.testing.assert_close(layer(x, still), expected, atol=1e-5, rtol=1e-5)


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_form_agrees(q_lora_rank, dtype):
    if not can_pack(dtype):
        pytest.skip(f"no packed products in {dtype} on this CPU")
    layer = make(q_lora_rank).to(dtype)
    x = torch.randn(2, 6, D).to(dtype)
    with torch.inference_mode():
        packed, results = layer.packed(2), []
        for one in (layer, packed):
            cache = LatentCache(1, 2, 8, C, R, dtype)
            first = one(x[:, :5], tuple(part.to(dtype) for part in rotary(0, 5)), None, cache, 0)
            cache.advance(5)
            second = one(x[:, 5:], tuple(part.to(dtype) for part in rotary(5, 6)), None, cache, 0)
            results.append(torch.cat((first, second), dim=1))
    assert results[1].dtype == dtype
    assert (results[0] - results[1]).float().norm() <= (1e-5 if dtype == torch.float32 else 0.03) * results[0].float().norm()
