"""LoRA, rsLoRA and DoRA: against PEFT on the same weights, and what holds for every size."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.parity import reference_of, spread_out
from support.tiny_configs import TINY
from torch import nn

from scratch_llm.models import build_model
from scratch_llm.peft import LoRAConfig, Part, inject, merge, trainable_parameters
from scratch_llm.peft.low_rank import add_low_rank, clear_add_low_rank

peft = pytest.importorskip("peft")

TOLERANCE = 1e-5
CASES = {
    "llama": ("q_proj", "v_proj", "down_proj", "gate_proj"),
    "llama-untied-mqa": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "gpt2": ("c_attn", "c_proj"),
    "gpt2-untied": ("c_fc",),
}
METHODS = {
    "lora": ({}, {}),
    "rslora": ({"rank_stabilized": True}, {"use_rslora": True}),
    "dora": ({"dora": True}, {"use_dora": True}),
}


def their_adapter(reference, targets, is_gpt2, **options):
    """PEFT's model with an adapter of rank 3 whose tensors are all random, and those tensors by name."""
    config = peft.LoraConfig(
        r=3, lora_alpha=5, target_modules=list(targets), task_type="CAUSAL_LM", fan_in_fan_out=is_gpt2, **options
    )
    model = peft.get_peft_model(reference, config)
    tensors = peft.get_peft_model_state_dict(model)
    generator = torch.Generator().manual_seed(7)
    for tensor in tensors.values():
        tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.2)
    peft.set_peft_model_state_dict(model, tensors)
    return model.eval(), {key.removeprefix("base_model.model."): value for key, value in tensors.items()}


@pytest.fixture
def tokens():
    return torch.randint(1, 61, (3, 20), generator=torch.Generator().manual_seed(4))


def relative(ours, theirs):
    """Largest difference, against the largest number there is (or 1)."""
    return (ours - theirs).abs().max().item() / max(1.0, theirs.abs().max().item())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_forward_gradients_and_merge_equal_pefts(name, method, tokens, tmp_path):
    our_options, their_options = METHODS[method]
    ours = spread_out(build_model(TINY[name], seed=0))
    plain = ours(tokens)
    theirs, tensors = their_adapter(reference_of(ours, tmp_path), CASES[name], "gpt2" in name, **their_options)
    adapters = inject(ours, LoRAConfig(rank=3, alpha=5, targets=CASES[name], **our_options))
    assert {key for adapter in adapters for key in adapter.to_peft()} == set(tensors)
    for adapter in adapters:
        adapter.from_peft(tensors)

    our_logits, their_logits = ours(tokens), theirs(tokens).logits
    assert (our_logits - plain).abs().max() > 0.1
    assert relative(our_logits, their_logits) < TOLERANCE

    weights = torch.randn(our_logits.shape, generator=torch.Generator().manual_seed(5))
    (our_logits * weights).mean().backward()
    (their_logits * weights).mean().backward()
    their_grads = {
        key.replace(".default", "").removeprefix("base_model.model."): parameter.grad
        for key, parameter in theirs.named_parameters()
        if parameter.requires_grad
    }
    assert not any(parameter.grad is not None for key, parameter in ours.named_parameters() if ".base." in key)
    for adapter in adapters:
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.copy_(parameter.grad)
        for key, grad in adapter.to_peft().items():
            their_grad = their_grads[key if key in their_grads else f"{key}.weight"]
            assert their_grad.abs().max() > 1e-6, key
            assert (grad - their_grad).abs().max() < TOLERANCE * max(1, their_grad.abs().max()), key
        adapter.from_peft(tensors)

    merged = merge(ours)
    theirs = theirs.merge_and_unload()
    assert relative(merged(tokens), their_logits) < TOLERANCE
    assert relative(merged(tokens), theirs(tokens).logits) < TOLERANCE
    assert set(merged.state_dict()) == set(build_model(TINY[name], seed=0).state_dict())


@given(
    in_features=st.integers(1, 9), heights=st.lists(st.integers(1, 7), min_size=1, max_size=4), data=st.data(),
    bias=st.booleans(), dora=st.booleans(), rank_stabilized=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_any_shape_starts_unchanged_and_merges_into_itself(in_features, heights, data, bias, dora, rank_stabilized, seed):
    torch.manual_seed(seed)
    base = nn.Linear(in_features, sum(heights), bias=bias).double().requires_grad_(False)
    chosen = data.draw(st.sets(st.integers(0, len(heights) - 1), min_size=1))
    starts = [sum(heights[:i]) for i in range(len(heights))]
    parts = [Part(f"p{i}", starts[i], starts[i] + heights[i]) for i in sorted(chosen)]
    rank = data.draw(st.integers(1, min(in_features, *(heights[i] for i in chosen))))
    config = LoRAConfig(rank=rank, alpha=3, dora=dora, rank_stabilized=rank_stabilized, dropout=0.5)
    adapter = config.make(base, parts).eval()
    x = torch.randn(2, 3, in_features, dtype=torch.float64)
    torch.testing.assert_close(adapter(x, base), base(x), rtol=1e-12, atol=1e-12)

    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn_like(parameter))
    weight, merged_bias = adapter.merged(base)
    torch.testing.assert_close(adapter(x, base), nn.functional.linear(x, weight, merged_bias), rtol=1e-9, atol=1e-9)
    untouched = [row for i, start in enumerate(starts) if i not in chosen for row in range(start, start + heights[i])]
    assert torch.equal(weight[untouched], base.weight[untouched])
    # Of rank r, and no less: the change is a product of matrices of full rank.
    if not dora:
        for part in parts:
            assert torch.linalg.matrix_rank((weight - base.weight)[part.rows]) == rank


def test_lora_by_hand():
    """W = 1 (2 x 2), A = (1, 2), B = (3, 4)^T, alpha / r = 2: W + 2 B A = (7, 12; 8, 17)."""
    base = nn.Linear(2, 2, bias=False)
    adapter = LoRAConfig(rank=1, alpha=2).make(base, [Part("w", 0, 2)])
    with torch.no_grad():
        base.weight.copy_(torch.eye(2))
        adapter.A.copy_(torch.tensor([[1.0, 2.0]]))
        adapter.B.copy_(torch.tensor([[3.0], [4.0]]))
    assert adapter.merged(base)[0].tolist() == [[7, 12], [8, 17]]
    assert adapter(torch.tensor([[1.0, 0.0]]), base).tolist() == [[7, 8]]


def test_dora_by_hand():
    """Rows (3, 4) and (0, 2) of lengths 5 and 2; A = (0, 1), B = (0, 1): V = (3, 4), (0, 3).  With magnitudes 10 and 6 the
    rows are twice themselves."""
    base = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    adapter = LoRAConfig(rank=1, alpha=1, dora=True).make(base, [Part("w", 0, 2)])
    assert adapter.magnitude.tolist() == [5, 2]
    with torch.no_grad():
        adapter.A.copy_(torch.tensor([[0.0, 1.0]]))
        adapter.B.copy_(torch.tensor([[0.0], [1.0]]))
        adapter.magnitude.copy_(torch.tensor([10.0, 6.0]))
    torch.testing.assert_close(adapter.merged(base)[0], torch.tensor([[6.0, 8.0], [0.0, 6.0]]))


def test_scale_of_the_stabilised_rank():
    assert LoRAConfig(rank=16, alpha=8).scale == 0.5
    assert LoRAConfig(rank=16, alpha=8, rank_stabilized=True).scale == 2


def test_starting_values_have_the_spread_of_each_scheme():
    base = nn.Linear(400, 300)
    even = LoRAConfig(rank=50).make(base, [Part("w", 0, 300)])
    normal = LoRAConfig(rank=50, init="gaussian").make(base, [Part("w", 0, 300)])
    assert even.A.abs().max() <= 400**-0.5 and even.A.std().item() == pytest.approx(400**-0.5 / 3**0.5, rel=0.02)
    assert normal.A.std().item() == pytest.approx(1 / 50, rel=0.02)
    assert not even.B.any() and not normal.B.any()


@pytest.mark.parametrize("rows", [(slice(0, 4),), (slice(0, 4), slice(7, 9)), (slice(2, 4), slice(4, 9))])
def test_fused_step_equals_the_clear_one(rows):
    torch.manual_seed(0)
    height = sum(r.stop - r.start for r in rows)
    def leaves():
        generator = torch.Generator().manual_seed(1)
        shapes = ((2, 3, 9), (2, 3, 5), (2 * len(rows), 5), (height, 2))
        return [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]

    y, x, A, B = first = leaves()
    fused = add_low_rank(y * 1, x, A, B, rows, 0.7)
    clear_y, clear_x, clear_A, clear_B = second = leaves()
    clear = clear_add_low_rank(clear_y, clear_x, clear_A, clear_B, rows, 0.7)
    torch.testing.assert_close(fused, clear)
    assert not torch.allclose(fused, y)
    (fused**3).sum().backward()
    (clear**3).sum().backward()
    for one, other in zip(first, second):
        torch.testing.assert_close(one.grad, other.grad)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    rows = (slice(0, 2), slice(3, 6))
    leaves = [torch.randn(s, dtype=torch.float64).requires_grad_() for s in ((4, 7), (4, 5), (4, 5), (5, 2))]
    assert torch.autograd.gradcheck(lambda y, x, A, B: add_low_rank(y * 2, x, A, B, rows, 0.3), leaves)


def test_dropout_drops_what_A_sees_in_training_alone():
    torch.manual_seed(0)
    base = nn.Linear(6, 6)
    adapter = LoRAConfig(rank=2, dropout=0.5).make(base, [Part("w", 0, 6)])
    nn.init.normal_(adapter.B)
    x = torch.randn(64, 6)
    assert not torch.equal(adapter(x, base), adapter(x, base))
    adapter.eval()
    assert torch.equal(adapter(x, base), adapter(x, base))


def test_bfloat16_base_has_float32_adapters_and_answers_in_bfloat16(tokens):
    model = spread_out(build_model(TINY["llama"], seed=0)).bfloat16()
    for dora in (False, True):
        inject(model, LoRAConfig(rank=2, targets="all-linear", dora=dora), f"dora-{dora}")
        assert {parameter.dtype for parameter in trainable_parameters(model).values()} == {torch.float32}
        loss = model(tokens, targets=tokens)
        loss.backward()
        assert model(tokens).dtype == torch.bfloat16 and torch.isfinite(loss)
    assert all(parameter.grad.abs().sum() > 0 for key, parameter in trainable_parameters(model).items() if key.endswith(".B"))


@pytest.mark.parametrize("dora", [False, True])
def test_autocast_and_compiled_forms_stay_close(dora, tokens):
    model = spread_out(build_model(TINY["llama"], seed=0))
    for adapter in inject(model, LoRAConfig(rank=2, targets="all-linear", dora=dora)):
        nn.init.normal_(adapter.B, std=0.1)
    exact = model(tokens, targets=tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(tokens, targets=tokens)
    rough.backward()
    assert rough.item() == pytest.approx(exact.item(), rel=0.05) and rough.item() != exact.item()
    grads = {}
    for form in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        form(tokens, targets=tokens).backward()
        grads[form] = {key: parameter.grad.clone() for key, parameter in trainable_parameters(model).items()}
    for key, grad in grads[model].items():
        torch.testing.assert_close(list(grads.values())[1][key], grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank is 0: it must be a whole number of 1 or more"),
        ({"rank": 2.5}, "rank is 2.5"),
        ({"rank": True}, "rank is True"),
        ({"alpha": 0}, "alpha is 0: it must be above 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"dropout": 1.0}, "dropout is 1.0: it must be at least 0 and below 1"),
        ({"init": "zeros"}, "init is 'zeros': choose"),
        ({"targets": ()}, "targets is empty"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        LoRAConfig(**options)


def test_rank_above_the_matrix_is_refused_and_leaves_the_model_alone():
    config = dataclasses.replace(TINY["llama"])
    model = build_model(config, seed=0)
    names = list(model.state_dict())
    inject(build_model(config, seed=0), LoRAConfig(rank=12, targets=("v_proj",)))
    with pytest.raises(ValueError, match=r"rank 13 is more than model.layers.0.self_attn.v_proj of 12 x 24 can have; choose 12"):
        inject(model, LoRAConfig(rank=13, targets=("o_proj", "v_proj")))
    assert list(model.state_dict()) == names and all(p.requires_grad for p in model.parameters())
