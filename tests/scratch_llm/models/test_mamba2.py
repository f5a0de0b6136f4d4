"""Mamba-2: what ``StateSpaceTests`` asks for, operations, starting weights, sizes as published."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
import transformers
from support.operations import count_operations
from support.parity import batch, reference_of, spread_out
from support.state_space import StateSpaceTests

from scratch_llm.layers.mamba2_mixer import GatedRMSNorm
from scratch_llm.layers.state_space_duality import clear_ssd
from scratch_llm.models import MAMBA2_SIZES, Mamba2, Mamba2Config, build_model, mamba2_preset
from scratch_llm.training import parameter_groups

CONFIGS = {
    "tied": Mamba2Config(vocab_size=97, context_length=40, n_layers=3, d_model=33, d_state=5, head_dim=6, chunk_size=7),
    "untied-groups": Mamba2Config(
        vocab_size=59, context_length=40, n_layers=2, d_model=28, d_state=9, expand=3, head_dim=7, n_groups=4,
        conv_width=7, norm_eps=1e-4, tie_embeddings=False, conv_bias=False, bos_token_id=1, eos_token_id=(2, 3),
    ),
    "biased": Mamba2Config(
        vocab_size=53, context_length=40, n_layers=2, d_model=18, d_state=3, expand=1, head_dim=3, n_groups=2,
        conv_width=2, bias=True, residual_in_float32=False, pad_token_id=0, chunk_size=16,
    ),
}  # fmt: skip


class TestMamba2(StateSpaceTests):
    CONFIGS = CONFIGS

    def state_size(self, config):
        c = config
        convolved = c.d_inner + 2 * c.n_groups * c.d_state
        return (c.conv_width - 1) * convolved + c.d_inner * c.d_state


def test_clamped_step_sizes(tmp_path):
    """Without a cache: transformers' decoding step leaves the clamp out, ours does not."""
    config = Mamba2Config(
        vocab_size=61, context_length=40, n_layers=2, d_model=16, d_state=4, head_dim=8, dt_limit=(0.3, 0.6)
    )
    ours = spread_out(build_model(config, seed=0))
    theirs = reference_of(ours, tmp_path)
    tokens, _ = batch(config, False)
    with torch.inference_mode():
        logits = ours(tokens)
        torch.testing.assert_close(logits, theirs(tokens, use_cache=False).logits, atol=1e-5, rtol=1e-5)
        cache = ours.init_cache(3)
        steps = torch.stack([ours.step(column, cache) for column in tokens.unbind(1)], dim=1)
    torch.testing.assert_close(steps, logits, atol=1e-5, rtol=1e-5)
    assert Mamba2.from_pretrained(tmp_path).config == config


def test_the_configuration_is_json_that_any_reader_takes(tmp_path):
    """No limit is left out, and read in transformers' spellings, old and new."""
    build_model(CONFIGS["tied"]).save_pretrained(tmp_path)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    values = json.loads((tmp_path / "config.json").read_text(), parse_constant=refuse)
    assert Mamba2.config_from_huggingface(values).dt_limit == (0.0, math.inf)
    for spelling in ("[0.0, Infinity]", '[0.0, {"__float__": "Infinity"}]'):
        read = Mamba2.config_from_huggingface(values | {"time_step_limit": json.loads(spelling)})
        assert read == CONFIGS["tied"]
    half = Mamba2.config_to_huggingface(dataclasses.replace(CONFIGS["tied"], dt_limit=(0.1, math.inf)))
    assert Mamba2.config_from_huggingface(json.loads(json.dumps(half, allow_nan=False))).dt_limit == (0.1, math.inf)


@pytest.mark.parametrize("n_groups", [1, 3])
def test_gated_norm(n_groups):
    norm = GatedRMSNorm(12, n_groups, eps=1e-3)
    torch.manual_seed(0)
    with torch.no_grad():
        norm.weight.normal_()
    x, gate = torch.randn(2, 5, 12), torch.randn(2, 5, 12)
    gated = x * gate * torch.sigmoid(gate)
    parts = [part / (part.square().mean(-1, keepdim=True) + 1e-3).sqrt() for part in gated.chunk(n_groups, dim=-1)]
    expected = torch.cat(parts, dim=-1) * norm.weight
    torch.testing.assert_close(norm(x, gate), expected)
    with torch.inference_mode():
        torch.testing.assert_close(norm.packed(2)(x, gate), expected)


def test_flops_of_the_recurrence_are_counted_from_its_definition():
    """One for every number that the clear recurrence computes."""
    T, c = 6, CONFIGS["untied-groups"]
    H, P, G, N = c.n_heads, c.head_dim, c.n_groups, c.d_state
    inputs = torch.rand(1, T, H, P), torch.rand(1, T, H), -torch.rand(H), torch.rand(1, T, G, N), torch.rand(1, T, G, N)
    model = build_model(c)
    assert count_operations(clear_ssd, *inputs) * c.n_layers == T * model.context_flops_per_token(40)
    assert model.context_flops_per_token(40) == model.context_flops_per_token(4000)


def test_starting_weights():
    model = build_model(Mamba2Config(vocab_size=50, context_length=8, n_layers=2, d_model=512, head_dim=4), seed=1)
    for block in model.blocks:
        dt, rates = torch.nn.functional.softplus(block.mixer.dt_bias), block.mixer.A_log.exp()
        assert 0.001 <= dt.min() < 0.002 and 0.05 < dt.max() <= 0.1001
        assert 1 <= rates.min() < 1.5 and 15.5 < rates.max() <= 16
        assert block.mixer.D.eq(1).all() and block.mixer.norm.weight.eq(1).all()


def test_decay_rates_are_left_alone_by_weight_decay():
    model = build_model(CONFIGS["tied"])
    _, kept = parameter_groups(model, 0.1)
    kept = {id(parameter) for parameter in kept["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in kept) == (name.endswith(("A_log", ".D", "bias")) or "norm" in name), name


@pytest.mark.parametrize("name", MAMBA2_SIZES)
def test_published_sizes(name):
    """As many weights as the reference has for the same shape, and as the name says."""
    config = mamba2_preset(name)
    values = Mamba2.config_to_huggingface(config)
    with torch.device("meta"):
        ours, theirs = Mamba2(config), transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**values))
    assert ours.n_parameters() == theirs.num_parameters()
    said = float(name[:-1]) * {"m": 1e6, "b": 1e9}[name[-1]]
    assert ours.n_parameters() == pytest.approx(said, rel=0.04)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"head_dim": 5}, "d_inner 16 is not divisible by head_dim 5"),
        ({"n_groups": 3}, "n_heads 4 is not divisible by n_groups 3"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"dt_limit": (0.5, 0.1)}, r"dt_limit is \(0.5, 0.1\): it must be a lower bound"),
    ],
)
def test_impossible_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        Mamba2Config(**{"vocab_size": 50, "context_length": 8, "n_layers": 1, "d_model": 8, "head_dim": 4} | changes)


def test_bad_input():
    config = CONFIGS["tied"]
    with pytest.raises(ValueError, match="size '7b' is no known Mamba-2: use one of 130m"):
        mamba2_preset("7b")
    with pytest.raises(ValueError, match="hidden_act = 'relu'"):
        Mamba2.config_from_huggingface(Mamba2.config_to_huggingface(config) | {"hidden_act": "relu"})
    with pytest.raises(ValueError, match=r"num_heads = 3: expand \* hidden_size / head_dim is 11"):
        Mamba2.config_from_huggingface(Mamba2.config_to_huggingface(config) | {"num_heads": 3})
