"""Counts of weights: the parts add up, and whole models have the sizes that their makers publish."""

from __future__ import annotations

import pytest
import torch
from support.tiny_configs import TINY

from scratch_llm.analysis import (
    PUBLISHED,
    active_parameters,
    as_shapes,
    count_parameters,
    published_config,
    total_parameters,
)
from scratch_llm.models import MODELS, LlamaConfig, build_model


def test_every_architecture_has_a_tiny_configuration():
    covered = {kind.model_type for kind in MODELS.values() for config in TINY.values() if type(config) is kind.config_class}
    assert covered == set(MODELS), "add the new architecture to tests/support/tiny_configs.py"


@pytest.mark.parametrize("name", TINY)
def test_components_add_up_to_the_model(name):
    model = build_model(TINY[name], seed=0)
    components = count_parameters(model)
    assert sum(part.total for part in components) == sum(weight.numel() for weight in model.parameters())
    assert [part.total for part in components] == sorted((part.total for part in components), reverse=True)
    assert all(0 < part.active <= part.total for part in components)
    assert "other" not in {part.name for part in components}
    # A configuration is counted without memory and gives the same.
    assert count_parameters(TINY[name]) == components
    assert {weight.device.type for weight in as_shapes(TINY[name]).parameters()} == {"meta"}
    assert as_shapes(model) is model


def test_components_of_a_llama_by_hand():
    V, D, F, H, K, d, L = 61, 24, 40, 4, 2, 6, 2
    config = LlamaConfig(
        vocab_size=V, context_length=8, n_layers=L, n_heads=H, n_kv_heads=K, d_model=D, d_ff=F, tie_embeddings=False
    )
    assert {part.name: part.total for part in count_parameters(config)} == {
        "embedding": V * D,
        "head": V * D,
        "attention": L * (D * (H + 2 * K) * d + H * d * D),
        "feed-forward": L * 3 * D * F,
        "norms": (2 * L + 1) * D,
    }


def test_experts_are_active_in_part():
    config = TINY["qwen3_moe"]
    parts = {part.name: part for part in count_parameters(config)}
    one_expert = 3 * config.d_model * config.expert_d_ff
    assert parts["experts"].total == 2 * config.n_experts * one_expert  # two layers of three have experts
    assert parts["experts"].active == 2 * config.n_experts_per_token * one_expert
    assert parts["router"].total == 2 * config.n_experts * config.d_model
    assert active_parameters(config) == build_model(config).n_parameters(active=True)
    assert active_parameters(config) < total_parameters(config)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    entry = PUBLISHED[name]
    model = as_shapes(published_config(name))
    assert model.n_parameters() == entry.parameters
    if entry.active is None:
        assert active_parameters(model) == entry.parameters
    else:
        # Their figures are rounded, and some leave out the embedding.
        assert active_parameters(model) == pytest.approx(entry.active, rel=0.03)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no published model 'Llama 9'.*Llama 3\.2 1B"):
        published_config("Llama 9")



def test_counting_takes_no_memory():
    model = as_shapes(published_config("Llama 3.1 70B"))
    assert all(weight.is_meta for weight in (*model.parameters(), *model.buffers()))
    assert model.dtype == torch.float32
