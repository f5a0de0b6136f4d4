"""Counts of operations against torch's own counter, on the meta device: real code, no arithmetic."""

from __future__ import annotations

import pytest
import torch
from support.tiny_configs import TINY
from torch.utils.flop_counter import FlopCounterMode

from scratch_llm.analysis import (
    as_shapes,
    context_share,
    decode_flops,
    forward_flops,
    generation_flops,
    prefill_flops,
    published_config,
    six_n,
    training_flops,
)
from scratch_llm.analysis.flops import CONTEXT
from scratch_llm.models import build_model

ATTENTION = [name for name, config in TINY.items() if not as_shapes(config).recurrent]
RECURRENT = [name for name in TINY if name not in ATTENTION]


def counted(function, *arguments) -> int:
    with FlopCounterMode(display=False) as counter:
        function(*arguments)
    return counter.get_total_flops()


def train(model, tokens):
    model(tokens).sum().backward()


def beyond_windows(config, length: int) -> int:
    """Operations per token on keys outside the windows: attention written out computes them and masks them."""
    windows = (window for window in getattr(config, "windows", ()) if window is not None)
    return sum(4 * max(0, length - window) * config.n_heads * config.head_dim for window in windows)


def tokens_on_meta(*shape):
    return torch.zeros(shape, dtype=torch.long, device="meta")


@pytest.mark.parametrize("name", TINY)
def test_components_add_up(name):
    model = build_model(TINY[name], seed=0)
    for length in (1, 17, 64):
        parts = forward_flops(model, length)
        assert sum(parts.values()) == model.flops_per_token(length, training=False)
        assert all(value > 0 for value in parts.values())
        assert parts == forward_flops(TINY[name], length)
    assert forward_flops(model) == forward_flops(model, TINY[name].context_length)
    assert training_flops(model, 17) == model.flops_per_token(17)
    assert training_flops(model, 17, checkpointing=True) * 3 == training_flops(model, 17) * 4


@pytest.mark.parametrize("name", ATTENTION)
def test_forward_and_training_agree_with_torch(name):
    model, B = as_shapes(TINY[name]), 3
    for T in (7, 64):
        tokens, masked = tokens_on_meta(B, T), beyond_windows(TINY[name], T)
        with torch.no_grad():
            assert counted(model, tokens) == B * T * (sum(forward_flops(model, T).values()) + masked)
        assert counted(train, model, tokens) == B * T * (training_flops(model, T) + 3 * masked)


@pytest.mark.parametrize("name", RECURRENT)
def test_matrices_of_recurrent_models_agree_with_torch(name):
    """torch's counter sees products of matrices; what a recurrence does element by element is counted by us alone."""
    model, B = as_shapes(TINY[name]), 3
    parts = forward_flops(model, 1)
    matrices = sum(parts.values()) - parts[CONTEXT]
    assert matrices == 2 * model.n_matrix_parameters()
    with torch.no_grad():
        cache = model.init_cache(B)
        for _ in range(2):
            flops = counted(model.step, tokens_on_meta(B), cache)
            assert B * matrices <= flops <= B * sum(parts.values())
        # In chunks, for speed, a whole sequence may need more products than the recurrence counts; never fewer.
        assert counted(model, tokens_on_meta(B, 16)) >= 16 * B * matrices
    assert decode_flops(model, 10) == decode_flops(model, 10**6)


@pytest.mark.parametrize("name", ATTENTION)
def test_prefill_and_decoding_agree_with_torch(name):
    model = as_shapes(TINY[name])

    @torch.no_grad()
    def prefill():
        model.logits(model.hidden_states(tokens_on_meta(1, 20), cache, None)[:, -1])

    cache = model.init_cache(1)
    assert counted(prefill) == prefill_flops(model, 20) + 20 * beyond_windows(TINY[name], 20)
    for length in (21, 22):
        with torch.no_grad():
            assert counted(model.step, tokens_on_meta(1), cache) == decode_flops(model, length)


@pytest.mark.parametrize("name", ATTENTION)
def test_generation_is_a_prefill_and_steps(name):
    model = as_shapes(TINY[name])
    prefill, decoding = generation_flops(model, 10, 4)
    assert prefill == prefill_flops(model, 10)
    assert decoding == sum(decode_flops(model, length) for length in (11, 12, 13))


@pytest.mark.parametrize("name", ["GPT-2 124M", "Llama 3.2 1B", "Qwen3 0.6B"])
def test_published_models_agree_with_torch(name):
    model = as_shapes(published_config(name))
    with torch.no_grad():
        flops = counted(model, tokens_on_meta(1, 512))
    assert flops == 512 * sum(forward_flops(model, 512).values())


def test_parts_of_gpt2_by_hand():
    D, L, V, T = 768, 12, 50257, 1024
    parts = forward_flops(published_config("GPT-2 124M"))
    assert parts == {
        "head": 2 * V * D,
        "attention": 2 * L * 4 * D * D,
        "feed-forward": 2 * L * 8 * D * D,
        CONTEXT: 4 * L * T * D,
    }
    assert six_n(published_config("GPT-2 124M")) == 6 * (12 * L * D * D + V * D)


def test_the_share_of_the_context_grows_and_passes_half():
    model = as_shapes(published_config("Llama 3.2 1B"))
    shares = [context_share(model, 2**exponent) for exponent in range(8, 18)]
    assert shares == sorted(shares) and shares[0] < 0.05 and shares[-1] > 0.5
    # Without the output layer, 4 L H d T = 2 N where T is N / (2 L D): there the share is exactly a half.
    parts = forward_flops(model, 1)
    half = sum(value for part, value in parts.items() if part != CONTEXT) / parts[CONTEXT]
    assert context_share(model, round(half)) == pytest.approx(0.5, abs=1e-4)
