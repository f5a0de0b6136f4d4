"""The key/value cache gives what a forward pass without it gives."""

from __future__ import annotations

import pytest
import torch
from support.tiny_configs import TINY

from scratch_llm.models import GPT2Config, LlamaConfig, build_model

CONFIGS = {
    "llama": LlamaConfig(
        vocab_size=61,
        context_length=32,
        n_layers=2,
        n_heads=4,
        n_kv_heads=4,
        d_model=24,
        d_ff=40,
        init_std=0.2,
    ),
    "llama-gqa": LlamaConfig(
        vocab_size=61,
        context_length=32,
        n_layers=3,
        n_heads=6,
        n_kv_heads=2,
        d_model=36,
        d_ff=40,
        init_std=0.2,
    ),
    "gpt2": GPT2Config(vocab_size=61, context_length=32, n_layers=2, n_heads=4, d_model=24, init_std=0.2),
}


@pytest.fixture(params=CONFIGS)
def model(request):
    return build_model(CONFIGS[request.param], seed=0).eval()


def tokens_and_padding(side: str):
    torch.manual_seed(1)
    tokens = torch.randint(0, 61, (3, 32))
    real = torch.ones(3, 32, dtype=torch.bool)
    if side == "left":
        real[1, :5], real[2, :11] = False, False
    if side == "right":
        real[1, 9:12], real[2, 4:12] = False, False
    return tokens, None if side == "none" else real


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("pieces", [(12, *[1] * 20), (12, 5, 1, 1, 13), (32,)])
@torch.inference_mode()
def test_cache_equals_no_cache(model, side, pieces):
    """Prefill, chunks and single steps; padding on the left, or on the right of the prompt."""
    tokens, real = tokens_and_padding(side)
    expected = model(tokens, padding_mask=real)
    cache, got, start = model.init_cache(3), [], 0
    for length in pieces:
        piece = slice(start, start + length)
        # After the prompt nothing is padded, and nothing has to be said about it.
        mask = real[:, piece] if real is not None and start == 0 else None
        got.append(model(tokens[:, piece], cache=cache, padding_mask=mask))
        start += length
    keep = torch.ones(3, 32, dtype=torch.bool) if real is None else real
    torch.testing.assert_close(torch.cat(got, 1)[keep], expected[keep], atol=2e-5, rtol=1e-4)
    assert cache.length == 32


@torch.inference_mode()
def test_padding_changes_nothing_for_a_row(model):
    """A padded row gives the logits it gives alone, without padding."""
    tokens, real = tokens_and_padding("left")
    together = model(tokens, padding_mask=real)
    for row, n_padding in ((1, 5), (2, 11)):
        alone = model(tokens[row : row + 1, n_padding:])
        torch.testing.assert_close(together[row, n_padding:], alone[0], atol=2e-5, rtol=1e-4)
    assert torch.isfinite(together).all()


def test_gradients_of_a_padded_batch_are_finite_and_ignore_padding(model):
    tokens, real = tokens_and_padding("left")
    targets = tokens.roll(-1, 1).masked_fill(~real, -100)
    model(tokens, padding_mask=real, targets=targets).backward()
    grads = [p.grad.clone() for p in model.parameters()]
    assert all(torch.isfinite(grad).all() for grad in grads)
    model.zero_grad()
    model(tokens.masked_fill(~real, 7), padding_mask=real, targets=targets).backward()
    for grad, parameter in zip(grads, model.parameters()):
        torch.testing.assert_close(grad, parameter.grad, atol=1e-6, rtol=1e-4)


@torch.inference_mode()
def test_a_mask_of_nothing_but_real_tokens_is_no_mask(model):
    tokens, _ = tokens_and_padding("none")
    cache = model.init_cache(3)
    model(tokens, cache=cache, padding_mask=torch.ones_like(tokens, dtype=torch.bool))
    assert cache.real_BS is None


@torch.inference_mode()
def test_a_cache_can_be_used_again(model):
    tokens, real = tokens_and_padding("left")
    cache = model.init_cache(3)
    model(tokens, cache=cache, padding_mask=real)
    cache.reset()
    torch.testing.assert_close(model(tokens[:, :9], cache=cache), model(tokens[:, :9]))


@torch.inference_mode()
def test_bfloat16_model_and_cache(model):
    tokens, real = tokens_and_padding("left")
    model = model.bfloat16()
    for dtype in (None, torch.float32):
        cache = model.init_cache(3, dtype=dtype)
        assert cache.dtype == (dtype or torch.bfloat16)
        got = [model(tokens[:, :12], cache=cache, padding_mask=real[:, :12])]
        got += [model(tokens[:, i : i + 1], cache=cache) for i in range(12, 32)]
        difference = (torch.cat(got, 1) - model(tokens, padding_mask=real)).float()[real].abs()
        assert difference.mean() < 0.02


def test_cache_errors(model):
    with pytest.raises(ValueError, match="batch_size 0 and max_length 32"):
        model.init_cache(0)
    cache = model.init_cache(2, max_length=8)
    tokens = torch.zeros(2, 6, dtype=torch.long)
    with torch.inference_mode():
        model(tokens, cache=cache)
        with pytest.raises(
            ValueError, match=r"holds 8 positions, 6 are taken and 6 more do not fit.*init_cache"
        ):
            model(tokens, cache=cache)
        with pytest.raises(ValueError, match="3 rows but the cache was made for 2"):
            model(torch.zeros(3, 1, dtype=torch.long), cache=cache)
    assert cache.length == 6


def test_cache_memory_is_what_it_says(model):
    config = model.config
    cache = model.init_cache(2, max_length=8)
    assert cache.n_bytes() == config.n_layers * 2 * 2 * config.n_kv_heads * 8 * config.head_dim * 4


@pytest.mark.parametrize("name, other", [("llama", "mamba"), ("mamba", "llama"), ("deepseek_v3", "llama"), ("gemma3_text", "rwkv")])
def test_a_cache_of_another_family_is_refused(name, other):
    model, cache = build_model(TINY[name], seed=0), build_model(TINY[other], seed=0).init_cache(1)
    with pytest.raises(ValueError, match=rf"a {type(cache).__name__} is no cache for {type(model).__name__}: .*init_cache"):
        model(torch.tensor([[1, 2]]), cache=cache)
