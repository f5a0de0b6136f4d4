"""Bits per byte against a count by hand, the divergence of distributions, and weights with folded factors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from llm_workshop.quantization.evaluation import (
    bits_per_byte,
    divergence,
    log_probabilities,
    weight_snr_db,
)
from scratch_llm.models import GPT2Config, LlamaConfig, build_model
from scratch_llm.quantization import Scheme, quantize_model

CONFIGS = {
    "llama": LlamaConfig(vocab_size=40, context_length=32, n_layers=2, n_heads=2, n_kv_heads=1, d_model=32, d_ff=48),
    "gpt2": GPT2Config(vocab_size=40, context_length=32, n_layers=2, n_heads=2, d_model=32),
}


def test_bits_per_byte_of_known_probabilities():
    """Two tokens with probability 1/4 and one with 1/8 are 2 + 2 + 3 bits; their bytes are 1 + 3 + 0."""
    probabilities = torch.tensor([0.25, 0.125, 0.5, 0.125])
    inputs = torch.zeros(2, 2, dtype=torch.long)
    targets = torch.tensor([[0, 0], [1, -100]])
    bits = bits_per_byte(lambda ids: probabilities.log().expand(*ids.shape, 4), [(inputs, targets)], np.array([2, 3, 1, 1]))
    assert bits == pytest.approx((2 + 2 + 3) / (2 + 2 + 3))
    with pytest.raises(ValueError, match="hold no text"):
        bits_per_byte(lambda ids: probabilities.log().expand(*ids.shape, 4), [(inputs, targets)], np.zeros(4))


def test_divergence_is_zero_for_the_same_and_right_for_a_pair():
    p, q = torch.tensor([[[0.5, 0.5]]]).log(), torch.tensor([[[0.9, 0.1]]]).log()
    assert divergence(p, p) == 0
    assert divergence(p, q) == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1), rel=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_evaluation_agrees_with_the_models_own_loss(name):
    model = build_model(CONFIGS[name], seed=0).eval()
    ids = torch.randint(0, 40, (3, 33), generator=torch.Generator().manual_seed(0))
    loss = float(model(ids[:, :-1], targets=ids[:, 1:]).detach())
    assert bits_per_byte(model, [(ids[:, :-1], ids[:, 1:])], np.full(40, 2)) == pytest.approx(loss / math.log(2) / 2, rel=1e-5)
    assert log_probabilities(model, ids[:, :-1]).exp().sum(-1).allclose(torch.ones(3, 32))


@pytest.mark.parametrize("name", CONFIGS)
def test_factors_that_moved_into_a_norm_are_no_error_of_the_weights(name):
    """Smoothing multiplies columns by up to 30 here; with 8 bits the weights are near the original all the same."""
    model = build_model(CONFIGS[name], seed=0)
    with torch.no_grad():
        for block in model.blocks:
            block.attention_norm.weight.mul_(torch.logspace(-1, 1, 32))
    batches = [torch.randint(0, 40, (4, 32), generator=torch.Generator().manual_seed(1))]
    assert weight_snr_db(model, model) is None
    plain, smooth = (weight_snr_db(model, quantize_model(model, scheme, batches)) for scheme in (Scheme(dynamic=True), Scheme("smoothquant")))
    assert 40 < plain < 50 and plain - 10 < smooth < plain + 3
