"""Mamba: what ``StateSpaceTests`` asks for, operations, starting weights, sizes as published."""

from __future__ import annotations

import pytest
import torch
from support.operations import count_operations
from support.state_space import StateSpaceTests

from scratch_llm.layers.selective_scan import clear_selective_scan
from scratch_llm.models import MAMBA_SIZES, Mamba, MambaConfig, build_model, mamba_preset
from scratch_llm.training import parameter_groups

CONFIGS = {
    "tied": MambaConfig(vocab_size=97, context_length=40, n_layers=3, d_model=33, d_state=5, dt_rank=3),
    "untied-wide-kernel": MambaConfig(
        vocab_size=59, context_length=40, n_layers=2, d_model=28, expand=3, conv_width=7, norm_eps=1e-4,
        tie_embeddings=False, conv_bias=False, bos_token_id=1, eos_token_id=(2, 3),
    ),
    "biased": MambaConfig(
        vocab_size=53, context_length=40, n_layers=2, d_model=17, d_state=3, expand=1, conv_width=2, bias=True,
        residual_in_float32=False, pad_token_id=0,
    ),
}  # fmt: skip


class TestMamba(StateSpaceTests):
    CONFIGS = CONFIGS

    def state_size(self, config):
        return (config.conv_width - 1 + config.d_state) * config.d_inner


def test_flops_of_the_scan_are_counted_from_its_definition():
    """One for every number that the clear scan computes."""
    T, c = 6, CONFIGS["tied"]
    E, N = c.d_inner, c.d_state
    inputs = torch.rand(1, T, E), torch.rand(1, T, E), -torch.rand(E, N), torch.rand(1, T, N), torch.rand(1, T, N)
    model = build_model(c)
    assert count_operations(clear_selective_scan, *inputs) * c.n_layers == T * model.context_flops_per_token(40)
    assert model.context_flops_per_token(40) == model.context_flops_per_token(4000)


def test_starting_weights():
    c = MambaConfig(vocab_size=50, context_length=8, n_layers=4, d_model=256)
    model = build_model(c, seed=1)
    for block in model.blocks:
        mixer = block.mixer
        dt = torch.nn.functional.softplus(mixer.dt_bias)
        assert 0.001 <= dt.min() < 0.002 and 0.05 < dt.max() <= 0.1001
        # Log-uniform: as many below 0.01 as above.
        assert abs((dt < 0.01).float().mean() - 0.5) < 0.1
        torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 17.0).expand(512, 16))
        assert mixer.D.eq(1).all() and mixer.conv.bias.eq(0).all()
        assert mixer.out.weight.std().item() == pytest.approx((3 * 512 * 4) ** -0.5, rel=0.05)
    assert model.embedding.weight.std().item() == pytest.approx(c.init_std, rel=0.05)
    assert model(torch.randint(0, 50, (2, 8))).std() > 0


def test_decay_rates_are_left_alone_by_weight_decay():
    model = build_model(CONFIGS["tied"])
    _, kept = parameter_groups(model, 0.1)
    kept = {id(parameter) for parameter in kept["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in kept) == (name.endswith(("A_log", ".D", "bias")) or "norm" in name), name


@pytest.mark.parametrize("name, millions", zip(MAMBA_SIZES, (129.1, 371.5, 793.2, 1372.2, 2768.3)))
def test_published_sizes(name, millions):
    with torch.device("meta"):
        model = Mamba(mamba_preset(name))
    assert model.n_parameters() / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"conv_width": 1}, "conv_width is 1: it must be at least 2"),
        ({"d_state": 0}, "d_state is 0"),
        ({"dt_rank": -1}, "dt_rank is -1"),
        ({"dt_min": 0.5}, "dt_min is 0.5: it must not be above dt_max, 0.1"),
        ({"dt_floor": 0.0}, "dt_floor is 0.0: it must be above 0"),
    ],
)
def test_impossible_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        MambaConfig(**{"vocab_size": 50, "context_length": 8, "n_layers": 1, "d_model": 8} | changes)


def test_bad_input():
    model = build_model(CONFIGS["tied"])
    with pytest.raises(ValueError, match="size '7b' is no known Mamba: use one of 130m"):
        mamba_preset("7b")
    with pytest.raises(ValueError, match="hidden_act = 'relu'"):
        Mamba.config_from_huggingface(Mamba.config_to_huggingface(model.config) | {"hidden_act": "relu"})
    with pytest.raises(ValueError, match="tokens have 3 rows but the cache was made for 2"):
        model(torch.zeros(3, 4, dtype=torch.long), cache=model.init_cache(2))
    with pytest.raises(ValueError, match="token id 97 is not in the vocabulary"):
        model(torch.tensor([[97]]))
