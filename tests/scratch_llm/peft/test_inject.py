"""Adapters into every model, several at once, and out again."""

import pytest
import torch
from support.parity import spread_out
from support.tiny_configs import TINY
from torch import nn

from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.models import build_model
from scratch_llm.peft import (
    LoRAConfig,
    activate,
    adapted_layers,
    adapter_names,
    inject,
    merge,
    trainable_parameters,
    unload,
)
from scratch_llm.peft.inject import adaptable_layers

TOKENS = torch.randint(1, 61, (2, 16), generator=torch.Generator().manual_seed(0))


def model_of(name="llama"):
    return spread_out(build_model(TINY[name], seed=0))


def shake(adapters, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for adapter in adapters:
            for parameter in adapter.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_every_architecture_takes_adapters_and_gives_them_back(name):
    model = model_of(name)
    before, state = model(TOKENS), {key: value.clone() for key, value in model.state_dict().items()}
    adapters = inject(model, LoRAConfig(rank=2, targets="all-linear"))
    torch.testing.assert_close(model(TOKENS), before, rtol=1e-4, atol=1e-4)
    shake(adapters)
    adapted = model(TOKENS)
    assert (adapted - before).abs().max() > 1e-3

    assert unload(model) is model
    assert torch.equal(model(TOKENS), before)
    assert {key: value.tolist() for key, value in model.state_dict().items()} == {k: v.tolist() for k, v in state.items()}

    shake(inject(model, LoRAConfig(rank=2, targets="all-linear")), seed=0)
    merge(model)
    assert list(model.state_dict()) == list(state) and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_merged_and_unmerged_are_one_function(name):
    model = model_of(name)
    shake(inject(model, LoRAConfig(rank=2, targets="all-linear", dora="gpt2" not in name)))
    adapted = model(TOKENS)
    torch.testing.assert_close(merge(model)(TOKENS), adapted, rtol=2e-4, atol=2e-4)


def test_only_adapters_learn():
    model = model_of()
    inject(model, LoRAConfig(rank=2, targets=("q_proj",)))
    names = list(trainable_parameters(model))
    assert names == [f"blocks.{i}.attention.qkv.adapters.default.{t}" for i in (0, 1) for t in "AB"]
    model(TOKENS, targets=TOKENS).backward()
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name not in names)
    # 2 layers x (A: 2 x 24, B: 24 x 2)
    assert sum(parameter.numel() for parameter in trainable_parameters(model).values()) == 2 * (48 + 48)


def test_untargeted_rows_of_a_joined_matrix_stay():
    model = model_of()
    shake(inject(model, LoRAConfig(rank=2, targets=("k_proj",))))
    layer = model.blocks[0].attention.qkv
    x = torch.randn(3, 24)
    changed = (layer(x) - layer.base(x)).abs().amax(0) > 0
    assert changed.tolist() == [False] * 24 + [True] * 12 + [False] * 12


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (("down_proj",), ["mlp.down"]),
        (("mlp.down",), ["mlp.down"]),
        (("blocks.1.attention.out",), ["attention.out"]),
        (("attention.qkv",), ["attention.qkv"]),
        (r".*\.1\.mlp\.(gate|down)_proj", ["mlp.gate_up", "mlp.down"]),
        ("all-linear", ["attention.qkv", "attention.out", "mlp.gate_up", "mlp.down"]),
    ],
)
def test_targets_by_our_names_theirs_and_patterns(targets, names):
    model = model_of()
    inject(model, LoRAConfig(rank=2, targets=targets))
    found = [name for name, _ in adapted_layers(model)]
    assert list(dict.fromkeys(name.split(".", 2)[2] for name in found)) == names
    if targets == ("blocks.1.attention.out",) or (isinstance(targets, str) and "1" in targets):
        assert all(name.startswith("blocks.1.") for name in found)


def test_heads_and_routers_get_none():
    layers = adaptable_layers(model_of("qwen3_moe"))
    assert not any("gate." in name or "router" in name or "head" in name for name in layers)
    assert "blocks.0.attention.qkv" in layers
    assert "lm_head" not in adaptable_layers(model_of("llama-untied-mqa"))


@torch.no_grad()
def test_several_adapters_on_one_base():
    model = model_of()
    plain = model(TOKENS)
    shake(inject(model, LoRAConfig(rank=2, targets=("q_proj",)), "one"), seed=1)
    one = model(TOKENS)
    shake(inject(model, LoRAConfig(rank=3, targets=("v_proj", "down_proj"), dora=True), "two"), seed=2)
    two = model(TOKENS)
    assert adapter_names(model) == ["one", "two"]
    assert (one - two).abs().max() > 1e-3 and (two - plain).abs().max() > 1e-3
    activate(model, "one")
    assert torch.equal(model(TOKENS), one)
    assert all(".one." in name for name in trainable_parameters(model))
    activate(model, None)
    torch.testing.assert_close(model(TOKENS), plain)
    assert not trainable_parameters(model)
    activate(model, "two")
    unload(model, "one")
    assert adapter_names(model) == ["two"] and torch.equal(model(TOKENS), two)
    unload(model, "two")
    assert torch.equal(model(TOKENS), plain) and not list(adapted_layers(model))


@torch.no_grad()
def test_rows_of_one_batch_with_adapters_of_their_own():
    model = model_of()
    shake(inject(model, LoRAConfig(rank=2, targets=("q_proj",)), "one"), seed=1)
    shake(inject(model, LoRAConfig(rank=3, targets=("q_proj", "down_proj"), dora=True), "two"), seed=2)
    tokens = torch.randint(1, 61, (5, 9), generator=torch.Generator().manual_seed(1))
    names = ["two", None, "one", "two", "one"]
    expected = []
    for row, name in zip(tokens, names):
        activate(model, name)
        expected.append(model(row[None])[0])
    activate(model, names)
    torch.testing.assert_close(model(tokens), torch.stack(expected), rtol=1e-5, atol=1e-5)
    assert {name.split(".")[-2] for name in trainable_parameters(model)} == {"one", "two"}
    with pytest.raises(ValueError, match="activated for 5 rows and the batch has 2"):
        model(tokens[:2])
    with pytest.raises(ValueError, match="rows of the batch have adapters of their own"):
        merge(model)
    with pytest.raises(ValueError, match="has no adapter 'three'"):
        activate(model, ["one", "three"])


def test_unloading_the_active_adapter_leaves_the_base():
    model = model_of()
    with torch.no_grad():
        plain = model(TOKENS)
        inject(model, LoRAConfig(rank=2), "one")
        shake(inject(model, LoRAConfig(rank=2), "two"))
        unload(model, "two")
        torch.testing.assert_close(model(TOKENS), plain)


@pytest.mark.parametrize("dora", [False, True])
def test_generation_uses_the_adapter_and_follows_a_swap(dora):
    model = model_of()
    greedy = SamplingConfig(max_new_tokens=12, temperature=0)
    plain = generate_tokens(model, [[1, 2, 3]], greedy)
    shake(inject(model, LoRAConfig(rank=4, alpha=40, targets="all-linear", dora=dora)))
    adapted = generate_tokens(model, [[1, 2, 3]], greedy)
    assert adapted != plain
    activate(model, None)
    assert generate_tokens(model, [[1, 2, 3]], greedy) == plain
    activate(model, "default")
    assert generate_tokens(model, [[1, 2, 3]], greedy) == adapted
    assert generate_tokens(merge(model), [[1, 2, 3]], greedy) == adapted


def test_a_module_that_holds_the_model_will_do():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = model_of(), nn.Linear(24, 2)

    classifier = Classifier()
    adapters = inject(classifier, LoRAConfig(rank=2))
    classifier.head.requires_grad_()
    assert "model.layers.0.self_attn.q_proj.lora_A.weight" in adapters[0].to_peft()
    assert {name.split(".")[0] for name in trainable_parameters(classifier)} == {"backbone", "head"}
    merge(classifier)
    assert not list(adapted_layers(classifier))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: inject(m, LoRAConfig(targets=("query",))), r"fit no matrix of the blocks; there are q_proj, k_proj"),
        (lambda m: inject(m, LoRAConfig(targets=("q_proj", "query"))), "targets query fit no matrix"),
        (lambda m: inject(m, LoRAConfig(targets="query.*")), "fit no matrix"),
        (lambda m: inject(m, LoRAConfig(), "a.b"), "cannot be called 'a.b'"),
        (lambda m: inject(m, LoRAConfig(), ""), "cannot be called ''"),
        (lambda m: activate(m, "other"), "has no adapter 'other'; it has none"),
        (lambda m: unload(m, "other"), "has no adapter 'other'"),
        (lambda m: (inject(m, LoRAConfig(rank=2)), inject(m, LoRAConfig(rank=2))), "has an adapter 'default' already"),
        (lambda m: inject(nn.Linear(2, 2), LoRAConfig()), "adapters go into one language model; Linear holds 0"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(model_of())
