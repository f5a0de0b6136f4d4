"""Configurations, initialisation, counting, and the errors a model reports."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scratch_llm.models import GPT2, MODELS, GPT2Config, Llama, LlamaConfig, build_model, model_class

LLAMA = LlamaConfig(
    vocab_size=61, context_length=32, n_layers=2, n_heads=4, n_kv_heads=2, d_model=24, d_ff=40
)
GPT = GPT2Config(vocab_size=61, context_length=32, n_layers=2, n_heads=4, d_model=24)
BOTH = pytest.mark.parametrize("config", [LLAMA, GPT], ids=["llama", "gpt2"])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"vocab_size": 0}, r"vocab_size is 0: it must be a whole number of at least 1"),
        ({"context_length": -3}, r"context_length is -3"),
        ({"n_layers": 1.5}, r"n_layers is 1\.5"),
        ({"d_model": True}, r"d_model is True"),
        (
            {"n_heads": 5, "head_dim": None, "n_kv_heads": 5},
            r"d_model 24 is not divisible by n_heads 5.*multiple",
        ),
        ({"n_heads": 5, "head_dim": 8, "n_kv_heads": 5}, r"d_model 24 is not divisible by n_heads 5"),
        ({"n_kv_heads": 3}, r"n_kv_heads is 3: it must divide n_heads, 4"),
        ({"n_kv_heads": 8}, r"n_kv_heads is 8: it must divide"),
        ({"head_dim": 5}, r"head_dim is 5.*even"),
        ({"rope_theta": 0}, r"rope_theta is 0"),
        ({"norm_eps": 0.0}, r"norm_eps is 0\.0"),
        ({"dropout": 1.0}, r"dropout is 1\.0: it must be at least 0 and below 1"),
        ({"eos_token_id": 61}, r"eos_token_id is 61: it must be None or in 0\.\.60"),
        ({"eos_token_id": (3, 99)}, r"eos_token_id is 99"),
    ],
)
def test_impossible_llama_configurations(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        dataclasses.replace(LLAMA, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_heads": 5}, r"d_model 24 is not divisible by n_heads 5"),
        ({"d_ff": 0}, r"d_ff is 0"),
        ({"dropout": -0.1}, r"dropout is -0\.1"),
        ({"init_std": 0.0}, r"init_std is 0\.0"),
        ({"pad_token_id": -1}, r"pad_token_id is -1"),
    ],
)
def test_impossible_gpt2_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(GPT, **changes)


def test_derived_fields():
    config = LlamaConfig(vocab_size=10, context_length=8, n_layers=1, n_heads=6, d_model=384)
    assert (config.n_kv_heads, config.head_dim, config.d_ff) == (6, 64, 1024)
    assert (
        LlamaConfig(
            vocab_size=10, context_length=8, n_layers=1, n_heads=2, d_model=100, eos_token_id=[1, 2]
        ).d_ff
        == 320
    )
    assert GPT2Config(vocab_size=10, context_length=8, n_layers=1, n_heads=2, d_model=6).d_ff == 24


def test_registry():
    assert MODELS["llama"] is Llama and MODELS["gpt2"] is GPT2
    assert all(kind.model_type == name for name, kind in MODELS.items())
    # build_model finds a model by its configuration.
    assert len({kind.config_class for kind in MODELS.values()}) == len(MODELS)
    with pytest.raises(ValueError, match=f"model_type is 'bert': it must be one of {', '.join(sorted(MODELS))}"):
        model_class("bert")
    with pytest.raises(ValueError, match=r"no model is built from a dict.*LlamaConfig"):
        build_model({"vocab_size": 3})


@BOTH
def test_seed_fixes_the_weights_and_leaves_the_global_state(config):
    state = torch.get_rng_state()
    one, two, other = (build_model(config, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name])
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


@pytest.mark.parametrize("kind", [LlamaConfig, GPT2Config])
def test_initialisation_scales_residual_projections(kind):
    n_layers = 8
    model = build_model(
        kind(vocab_size=512, context_length=64, n_layers=n_layers, n_heads=4, d_model=256, init_std=0.03),
        seed=0,
    )
    for name, weight in model.named_parameters():
        if "norm" in name:
            assert torch.equal(
                weight, torch.ones_like(weight) if name.endswith("weight") else torch.zeros_like(weight)
            )
        elif name.endswith("bias"):
            assert not weight.any()
        else:
            residual = name.endswith(("out.weight", "down.weight"))
            expected = 0.03 / (2 * n_layers) ** 0.5 if residual else 0.03
            assert weight.std().item() == pytest.approx(expected, rel=0.03), name


@BOTH
def test_loss_at_the_start_is_that_of_a_uniform_guess(config):
    model = build_model(config, seed=0)
    tokens = torch.randint(0, 61, (4, 32))
    assert model(tokens, targets=tokens.roll(-1, 1)).item() == pytest.approx(
        torch.tensor(61.0).log().item(), abs=0.1
    )


@BOTH
def test_targets_give_the_mean_cross_entropy_of_the_logits(config):
    model = build_model(config, seed=0)
    tokens, targets = torch.randint(0, 61, (2, 2, 10)).unbind()
    targets[0, :4] = -100
    expected = torch.nn.functional.cross_entropy(
        model(tokens).flatten(0, 1), targets.flatten(), ignore_index=-100
    )
    torch.testing.assert_close(model(tokens, targets=targets), expected)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("base", [LLAMA, GPT], ids=["llama", "gpt2"])
def test_parameters_and_flops_agree_with_torch(base, tie):
    config = dataclasses.replace(base, tie_embeddings=tie)
    model = build_model(config)
    assert model.n_parameters() == sum(p.numel() for p in model.parameters())
    looked_up = 0 if tie else 61 * 24
    positions = 32 * 24 if isinstance(config, GPT2Config) else 0
    assert model.n_parameters(embeddings=False) == model.n_parameters() - looked_up - positions

    B, T = 2, 16
    tokens = torch.randint(0, 61, (B, T))
    # The math kernel, so that the counter sees attention's products (it has no rule for the CPU's fused one).
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            loss = model(tokens).float().sum()
        assert counter.get_total_flops() == B * T * model.flops_per_token(T, training=False)
        with FlopCounterMode(display=False) as counter:
            loss = model(tokens).float().sum()
            loss.backward()
        assert counter.get_total_flops() == B * T * model.flops_per_token(T)


@BOTH
def test_input_errors(config):
    model = build_model(config)
    with pytest.raises(ValueError, match=r"token id 61 is not in the vocabulary 0\.\.60.*tokenizer"):
        model(torch.tensor([[1, 61]]))
    with pytest.raises(ValueError, match="token id -1 is not"):
        model(torch.tensor([[-1]]))
    with pytest.raises(ValueError, match="33 tokens are more than the model's context_length of 32"):
        model(torch.zeros(1, 33, dtype=torch.long))
    with pytest.raises(ValueError, match=r"tokens have shape \(1, 0\)"):
        model(torch.zeros(1, 0, dtype=torch.long))
    with pytest.raises(ValueError, match=r"tokens have shape \(4,\)"):
        model(torch.zeros(4, dtype=torch.long))
    tokens = torch.zeros(2, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"padding_mask has shape \(2, 5\), tokens \(2, 4\)"):
        model(tokens, padding_mask=torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="targets has shape"):
        model(tokens, targets=tokens[:1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the GPU path is not tested here")
@BOTH
def test_cuda_agrees_with_cpu(config):
    model = build_model(config, seed=0).eval()
    tokens = torch.randint(0, 61, (2, 20))
    expected = model(tokens)
    torch.testing.assert_close(model.cuda()(tokens.cuda()).cpu(), expected, atol=1e-4, rtol=1e-4)
