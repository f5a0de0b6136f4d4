"""WaveFT and (IA)^3: against PEFT on the same weights, on disk in both directions, and what holds for every size."""

import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.parity import reference_of, spread_out
from support.tiny_configs import TINY
from torch import nn

from scratch_llm.models import build_model
from scratch_llm.peft import (
    IA3Config,
    Part,
    WaveFTConfig,
    inject,
    load_adapter,
    merge,
    save_adapter,
    trainable_parameters,
)
from scratch_llm.peft.wavelets import N_MOMENTS, high_pass, inverse_wavelet_transform, low_pass, synthesize

peft = pytest.importorskip("peft")

TOKENS = torch.randint(1, 61, (3, 20), generator=torch.Generator().manual_seed(4))
SEVERAL = ("q_proj", "v_proj", "gate_proj", "down_proj")
# Model, our configuration, PEFT's.
CASES = {
    "haar": ("llama", WaveFTConfig(n_coefficients=70, targets=SEVERAL), peft.WaveFTConfig(n_frequency=70, target_modules=list(SEVERAL))),
    "db3-all": (
        "llama-untied-mqa",
        WaveFTConfig(n_coefficients=30, scale=3, wavelet="db3", seed=5, targets="all-linear"),
        peft.WaveFTConfig(n_frequency=30, scaling=3.0, wavelet_family="db3", random_loc_seed=5, target_modules="all-linear"),
    ),
    "db2-gpt2": (
        "gpt2",
        WaveFTConfig(n_coefficients=40, wavelet="db2", targets=("c_attn", "mlp.c_proj")),
        peft.WaveFTConfig(n_frequency=40, wavelet_family="db2", target_modules=["c_attn", "mlp.c_proj"], fan_in_fan_out=True),
    ),
    "entries": (
        "llama",
        WaveFTConfig(n_coefficients=50, transform=False, targets=("o_proj", "k_proj")),
        peft.WaveFTConfig(n_frequency=50, use_idwt=False, target_modules=["o_proj", "k_proj"]),
    ),
    "ia3": ("llama", IA3Config(), peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "ia3-inputs": (
        "llama-untied-mqa",
        IA3Config(targets="all-linear", feedforward=("up_proj", "q_proj")),
        peft.IA3Config(target_modules="all-linear", feedforward_modules=["up_proj", "q_proj"]),
    ),
    "ia3-gpt2": (
        "gpt2",
        IA3Config(targets=("c_attn", "c_fc", "mlp.c_proj")),
        peft.IA3Config(target_modules=["c_attn", "c_fc", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True),
    ),
}  # fmt: skip


def base(name):
    return spread_out(build_model(TINY[name], seed=0))


def shaken(model, seed=7):
    """The trained parameters moved at random, so that the adapter does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def relative(ours, theirs):
    return (ours - theirs).abs().max().item() / max(1.0, theirs.abs().max().item())


@pytest.mark.parametrize("case", CASES)
def test_forward_gradients_and_merge_equal_pefts(case, tmp_path):
    name, our_config, their_config = CASES[case]
    ours = base(name)
    plain = ours(TOKENS)
    theirs = shaken(peft.get_peft_model(reference_of(ours, tmp_path), copy.deepcopy(their_config)))
    tensors = {key.removeprefix("base_model.model."): t for key, t in peft.get_peft_model_state_dict(theirs).items()}
    adapters = inject(ours, our_config)
    assert torch.allclose(ours(TOKENS), plain, atol=1e-6), "a new adapter changes nothing"
    assert {key for adapter in adapters for key in adapter.to_peft()} == set(tensors)
    for adapter in adapters:
        adapter.from_peft(tensors)

    our_logits, their_logits = ours(TOKENS), theirs(TOKENS).logits
    assert (our_logits - plain).abs().max() > 0.1
    assert relative(our_logits, their_logits) < 1e-5

    weights = torch.randn(our_logits.shape, generator=torch.Generator().manual_seed(5))
    (our_logits * weights).mean().backward()
    (their_logits * weights).mean().backward()
    their_grads = {
        key.removeprefix("base_model.model.").replace(".default", ""): parameter.grad
        for key, parameter in theirs.named_parameters()
        if parameter.requires_grad
    }
    for adapter in adapters:
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.copy_(parameter.grad)
        for key, grad in adapter.to_peft().items():
            assert their_grads[key].abs().max() > 1e-6, key
            assert (grad - their_grads[key]).abs().max() < 1e-5 * max(1, their_grads[key].abs().max()), key
        adapter.from_peft(tensors)

    merged = merge(ours)
    assert relative(merged(TOKENS), their_logits) < 1e-5
    assert relative(merged(TOKENS), theirs.merge_and_unload()(TOKENS).logits) < 1e-5
    assert set(merged.state_dict()) == set(build_model(TINY[name], seed=0).state_dict())


@pytest.mark.parametrize("case", CASES)
def test_files_pass_both_ways(case, tmp_path):
    name, our_config, their_config = CASES[case]
    ours = base(name)
    inject(ours, our_config)
    save_adapter(shaken(ours), tmp_path / "ours")
    with warnings.catch_warnings():
        warnings.simplefilter("error", peft.utils.warning.PeftWarning)
        theirs = peft.PeftModel.from_pretrained(reference_of(base(name), tmp_path / "base"), str(tmp_path / "ours")).eval()
    with torch.no_grad():
        assert relative(ours(TOKENS), theirs(TOKENS).logits) < 1e-5

    theirs = shaken(peft.get_peft_model(reference_of(base(name), tmp_path / "base"), copy.deepcopy(their_config)), seed=8)
    theirs.save_pretrained(tmp_path / "theirs")
    again = base(name)
    with pytest.warns(UserWarning, match=r"has no base_model.json"):
        load_adapter(again, tmp_path / "theirs")
    with torch.no_grad():
        assert relative(again(TOKENS), theirs(TOKENS).logits) < 1e-5
        assert relative(again(TOKENS), ours(TOKENS)) > 1e-3


@pytest.mark.parametrize("name", ["deepseek_v3", "rwkv7", "mamba", "qwen3_moe", "gemma3_text", "lstm"])
@pytest.mark.parametrize("config", [WaveFTConfig(n_coefficients=20, targets="all-linear"), IA3Config(targets="all-linear")])
def test_any_architecture_comes_back(name, config, tmp_path):
    ours = base(name)
    inject(ours, config)
    save_adapter(shaken(ours), tmp_path)
    again = base(name)
    load_adapter(again, tmp_path)
    with torch.no_grad():
        assert torch.equal(again(TOKENS), ours(TOKENS))


# -- Wavelets -------------------------------------------------------------------------------------------------------


def test_haar_by_hand():
    """Coarse numbers spread evenly over two places, fine ones with opposite signs, each over sqrt(2)."""
    root = 2**0.5
    both = synthesize(torch.tensor([3 * root, 5 * root]), torch.tensor([root, -2 * root]), low_pass(1))
    torch.testing.assert_close(both, torch.tensor([4.0, 2.0, 3.0, 7.0]))
    one = torch.ones(1, 1)
    bands = {"coarse": [[1, 1], [1, 1]], "horizontal": [[1, 1], [-1, -1]], "vertical": [[1, -1], [1, -1]], "diagonal": [[1, -1], [-1, 1]]}
    for band, patch in bands.items():
        given = {key: 2 * one if key == band else 0 * one for key in bands}
        torch.testing.assert_close(inverse_wavelet_transform(**given, low=low_pass(1)), torch.tensor(patch).float())


def test_daubechies_second_filter_is_the_published_one():
    """(1 + sqrt 3, 3 + sqrt 3, 3 - sqrt 3, 1 - sqrt 3) / (4 sqrt 2); Daubechies 1988, table 1."""
    root = 3**0.5
    expected = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * 2**0.5)
    np.testing.assert_allclose(low_pass(2), expected, atol=1e-14)


@pytest.mark.parametrize("n", N_MOMENTS)
def test_filters_are_orthonormal_and_their_fine_half_is_blind_to_polynomials(n):
    low, high = np.array(low_pass(n)), np.array(high_pass(low_pass(n)))
    assert len(low) == 2 * n and low.sum() == pytest.approx(2**0.5)
    for shift in range(-n + 1, n):
        moved = [np.roll(np.pad(f, 2 * n), 2 * shift) for f in (low, high)]
        still = [np.pad(f, 2 * n) for f in (low, high)]
        np.testing.assert_allclose(np.array(still) @ np.array(moved).T, np.eye(2) * (shift == 0), atol=1e-10)
    places = np.linspace(-1, 1, 2 * n)
    for power in range(n):
        assert abs(high @ places**power) < 1e-8


@pytest.mark.parametrize("wavelet", ["haar", "db4"])
@pytest.mark.parametrize("shape", [(8, 8), (7, 10), (9, 5)])
def test_every_coefficient_changes_a_patch(wavelet, shape):
    """Of as many rows and columns as the filter has numbers, at most; and with Haar's all are at work in their own."""
    layer = nn.Linear(shape[1], shape[0], bias=False).requires_grad_(False).double()
    n = shape[0] * shape[1]
    adapter = WaveFTConfig(n_coefficients=n, wavelet=wavelet, scale=1).make(layer, [Part("w", 0, shape[0])])
    changes = []
    for place in range(n):
        with torch.no_grad():
            adapter.coefficients.zero_()[0, place] = 1
        change = adapter.merged(layer)[0].detach() - layer.weight
        rows, columns = (change.abs().sum(axis).nonzero().flatten() for axis in (1, 0))
        if len(rows):
            width = 2 if wavelet == "haar" else 8
            assert rows.max() - rows.min() < width and columns.max() - columns.min() < width
        changes.append(change.flatten())
    if wavelet == "haar" and shape == (8, 8):
        torch.testing.assert_close(torch.stack(changes) @ torch.stack(changes).T, torch.eye(n).double(), atol=1e-12, rtol=0)


# -- Every size -----------------------------------------------------------------------------------------------------


@given(
    in_features=st.integers(1, 9), heights=st.lists(st.integers(1, 7), min_size=1, max_size=4), data=st.data(),
    bias=st.booleans(), seed=st.integers(0, 99), method=st.sampled_from(["ia3", "haar", "db2", "db10", "entries"]),
)  # fmt: skip
@settings(deadline=None, max_examples=80)
def test_any_shape_starts_unchanged_and_merges_into_itself(in_features, heights, data, bias, seed, method):
    torch.manual_seed(seed)
    layer = nn.Linear(in_features, sum(heights), bias=bias).double().requires_grad_(False)
    chosen = sorted(data.draw(st.sets(st.integers(0, len(heights) - 1), min_size=1)))
    starts = [sum(heights[:i]) for i in range(len(heights))]
    parts = [Part(f"p{i}", starts[i], starts[i] + heights[i]) for i in chosen]
    if method == "ia3":
        inputs = tuple(f"p{i}" for i in data.draw(st.sets(st.sampled_from(chosen))))
        config = IA3Config(feedforward=inputs or "(?!)")
    else:
        n = data.draw(st.integers(1, in_features * min(heights[i] for i in chosen)))
        config = WaveFTConfig(n_coefficients=n, wavelet="haar" if method == "entries" else method, transform=method != "entries")
    adapter = config.make(layer, parts)
    x = torch.randn(2, 3, in_features, dtype=torch.float64)
    torch.testing.assert_close(adapter(x, layer), layer(x), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn_like(parameter))
    weight, merged_bias = adapter.merged(layer)
    torch.testing.assert_close(adapter(x, layer), nn.functional.linear(x, weight, merged_bias), rtol=1e-9, atol=1e-9)
    untouched = [row for i, start in enumerate(starts) if i not in chosen for row in range(start, start + heights[i])]
    assert torch.equal(weight[untouched], layer.weight[untouched])


def test_ia3_by_hand():
    """Outputs of (1, 2; 3, 4) x + (1, 1) times (10, 100); inputs times (10, 100), where the bias stays."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        layer.bias.fill_(1)
    x = torch.tensor([[1.0, 1.0]])
    for inputs, expected in ((False, [40.0, 800.0]), (True, [211.0, 431.0])):
        adapter = IA3Config(feedforward=("w",) if inputs else ("other",)).make(layer, [Part("a.w", 0, 2)])
        assert adapter(x, layer).tolist() == layer(x).tolist() == [[4, 8]]
        with torch.no_grad():
            adapter.factors.copy_(torch.tensor([10.0, 100.0]))
        assert adapter(x, layer).tolist() == [expected]


@pytest.mark.parametrize("config", [WaveFTConfig(n_coefficients=20, targets="all-linear"), IA3Config(targets="all-linear")])
def test_bfloat16_base_has_float32_adapters_and_learns(config):
    model = base("llama").bfloat16()
    adapters = inject(model, config)
    assert {parameter.dtype for parameter in trainable_parameters(model).values()} == {torch.float32}
    optimiser = torch.optim.Adam(trainable_parameters(model).values(), lr=0.01)
    losses = []
    for _ in range(8):
        losses.append(model(TOKENS, targets=TOKENS))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert model(TOKENS).dtype == torch.bfloat16 and losses[-1] < losses[0]
    assert all(parameter.grad.abs().sum() > 0 for adapter in adapters for parameter in adapter.parameters())


def test_other_seeds_mean_other_places():
    layer = nn.Linear(9, 9)
    places = [WaveFTConfig(n_coefficients=20, seed=seed).make(layer, [Part("w", 0, 9)]).places_0.tolist() for seed in (1, 1, 2)]
    assert places[0] == places[1] != places[2]


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (WaveFTConfig, {"n_coefficients": 0}, "n_coefficients is 0: it must be a whole number"),
        (WaveFTConfig, {"n_coefficients": 2.5}, "n_coefficients is 2.5"),
        (WaveFTConfig, {"scale": float("inf")}, "scale is inf: it must be above 0"),
        (WaveFTConfig, {"scale": 0}, "scale is 0"),
        (WaveFTConfig, {"wavelet": "sym4"}, "wavelet is 'sym4': choose 'haar' or"),
        (WaveFTConfig, {"wavelet": "db11"}, "wavelet is 'db11'"),
        (IA3Config, {"feedforward": "(down"}, "no regular expression"),
        (IA3Config, {"targets": ()}, "targets is empty"),
    ],
)
def test_bad_settings_are_named(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_more_coefficients_than_the_matrix_has_are_refused():
    model = base("llama")
    with pytest.raises(ValueError, match=r"n_coefficients 289 is more than model.layers.0.self_attn.v_proj of 12 x 24 has; choose 288"):
        inject(model, WaveFTConfig(n_coefficients=289, targets=("q_proj", "v_proj")))
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("field", [{"n_frequency_pattern": {"q_proj": 3}}, {"proportional_parameters": True}])
def test_settings_of_peft_that_are_not_here_are_refused(field, tmp_path):
    model = peft.get_peft_model(reference_of(base("llama"), tmp_path / "b"), peft.WaveFTConfig(n_frequency=9, target_modules=["v_proj"], **field))
    model.save_pretrained(tmp_path / "a")
    with pytest.raises(ValueError, match=f"{next(iter(field))} = .* not implemented here"):
        load_adapter(base("llama"), tmp_path / "a")
