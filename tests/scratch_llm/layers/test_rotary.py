"""Rotary frequencies and their scalings against the equations and transformers; the two pairings and the way between."""

from __future__ import annotations

import math

import pytest
import torch

from scratch_llm.layers import (
    GroupedQueryAttention,
    LinearScaling,
    Llama3Scaling,
    YarnScaling,
    apply_rotary,
    half_to_interleaved,
    interleaved_to_half,
    rotary_tables,
)
from scratch_llm.layers.attention import clear_attention
from scratch_llm.layers.rope_scaling import KINDS, scaling_from_huggingface, scaling_to_huggingface
from scratch_llm.layers.rotary import rotary_frequencies, rotate_halves, rotate_neighbours
from scratch_llm.weights.rules import rope_of

SCALINGS = [
    LinearScaling(factor=3.0),
    Llama3Scaling(factor=8.0, original_context_length=8192),
    Llama3Scaling(factor=32.0, original_context_length=64, low_freq_factor=0.5, high_freq_factor=6.0),
    YarnScaling(factor=4.0, original_context_length=32_768),
    YarnScaling(factor=40.0, original_context_length=4096, mscale=1.0, mscale_all_dim=0.7),
    YarnScaling(factor=40.0, original_context_length=4096, mscale=1.0, mscale_all_dim=1.0),
    YarnScaling(factor=16.0, original_context_length=300, truncate=False, beta_fast=8.0, beta_slow=2.0),
    YarnScaling(factor=4.0, original_context_length=128, attention_factor=1.3),
    # All pairs turn less than beta_slow times, or a ramp without width.
    YarnScaling(factor=4.0, original_context_length=20),
    YarnScaling(factor=4.0, original_context_length=4096, beta_fast=1.0, truncate=False),
]


# -- frequencies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", SCALINGS, ids=str)
@pytest.mark.parametrize("head_dim, theta", [(16, 10_000.0), (64, 500_000.0), (128, 1e6), (10, 50.0)])
def test_frequencies_and_factor_are_the_references(scaling, head_dim, theta):
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    transformers.logging.set_verbosity_error()
    values = scaling_to_huggingface(scaling) | {"rope_theta": theta}
    config = transformers.LlamaConfig(head_dim=head_dim, max_position_embeddings=131_072, rope_parameters=values)
    frequencies, factor = ROPE_INIT_FUNCTIONS[scaling.rope_type](config)
    mine = rotary_frequencies(head_dim, theta, scaling)
    torch.testing.assert_close(mine, frequencies.double(), atol=0, rtol=1e-6)
    assert scaling.table_factor == pytest.approx(factor)


def test_linear_scaling_is_a_division_of_positions():
    cos, sin = rotary_tables(16, 40)
    stretched_cos, stretched_sin = rotary_tables(16, 160, scaling=LinearScaling(factor=4.0))
    torch.testing.assert_close(stretched_cos[::4], cos)
    torch.testing.assert_close(stretched_sin[::4], sin)


@pytest.mark.parametrize("kind", [Llama3Scaling, YarnScaling])
def test_pairs_that_turn_often_are_kept_and_slow_ones_interpolated(kind):
    scaling = kind(factor=8.0, original_context_length=2048)
    plain, scaled = rotary_frequencies(128, 500_000.0), rotary_frequencies(128, 500_000.0, scaling)
    turns = 2048 * plain / (2 * math.pi)
    ratio = scaled / plain
    # YaRN rounds the ends of its ramp outwards to whole pairs: stay clear of them.
    assert torch.equal(ratio[turns > 64], torch.ones_like(ratio[turns > 64]))
    torch.testing.assert_close(ratio[turns < 0.75], torch.full_like(ratio[turns < 0.75], 1 / 8))
    assert (ratio.diff() <= 1e-12).all() and ((ratio > 0.13) & (ratio < 0.99)).sum() >= 3


def test_llama3_written_out_pair_by_pair():
    """The conditions on wavelengths as Meta's code has them, in plain numbers."""
    s, low, high, length, theta, d = 8.0, 1.0, 4.0, 8192, 500_000.0, 128
    expected = []
    for i in range(d // 2):
        frequency = theta ** (-2 * i / d)
        wavelength = 2 * math.pi / frequency
        if wavelength < length / high:
            expected.append(frequency)
        elif wavelength > length / low:
            expected.append(frequency / s)
        else:
            smooth = (length / wavelength - low) / (high - low)
            expected.append((1 - smooth) * frequency / s + smooth * frequency)
    scaling = Llama3Scaling(factor=s, original_context_length=length, low_freq_factor=low, high_freq_factor=high)
    torch.testing.assert_close(rotary_frequencies(d, theta, scaling), torch.tensor(expected, dtype=torch.float64))


def test_yarn_temperature():
    """sqrt(1/t) = 0.1 ln s + 1 on queries and keys: scores grow by its square (section 3.4)."""
    scaling = YarnScaling(factor=16.0, original_context_length=128)
    cos, sin = rotary_tables(16, 5, scaling=scaling)
    q = torch.randn(16, generator=torch.Generator().manual_seed(0))
    turned = apply_rotary(q, cos[3], sin[3])
    assert float(turned @ turned) == pytest.approx(float(q @ q) * (0.1 * math.log(16) + 1) ** 2, rel=1e-5)
    assert scaling.score_factor == 1.0


def test_deepseek_moves_the_temperature_to_all_dimensions():
    scaling = YarnScaling(factor=40.0, original_context_length=4096, mscale=1.0, mscale_all_dim=1.0)
    assert scaling.table_factor == 1.0
    assert scaling.score_factor == pytest.approx((0.1 * math.log(40) + 1) ** 2)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LinearScaling(factor=0.5), "factor of linear scaling is 0.5: it must be at least 1"),
        (lambda: Llama3Scaling(factor=8.0, original_context_length=0), "original_context_length of llama3"),
        (lambda: Llama3Scaling(factor=8.0, original_context_length=9, low_freq_factor=0.0), "low_freq_factor"),
        (
            lambda: Llama3Scaling(factor=8.0, original_context_length=9, low_freq_factor=4.0),
            r"high_freq_factor of llama3 scaling is 4\.0: it must be above low_freq_factor, 4\.0",
        ),
        (lambda: YarnScaling(factor=8.0, original_context_length=9, beta_slow=0.0), "beta_slow of yarn"),
        (lambda: YarnScaling(factor=8.0, original_context_length=9, beta_fast=0.5), "at least beta_slow, 1.0"),
        (lambda: YarnScaling(factor=8.0, original_context_length=9, attention_factor=0.0), "attention_factor"),
        (lambda: rotary_tables(7, 4, scaling=LinearScaling(factor=2.0)), "head_dim is 7"),
    ],
)
def test_impossible_scalings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- config.json -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", [None, *SCALINGS], ids=str)
def test_both_spellings_are_read(scaling):
    values = scaling_to_huggingface(scaling)
    expected = {"rope_theta": 77.0, "rope_scaling": scaling}
    assert rope_of({"rope_parameters": values | {"rope_theta": 77.0}}) == expected
    assert rope_of({"rope_scaling": values, "rope_theta": 77.0}) == expected
    old = {"type" if name == "rope_type" else name: value for name, value in values.items()}
    assert rope_of({"rope_scaling": old, "rope_theta": 77.0}) == expected


def test_what_a_file_may_leave_out():
    assert rope_of({}) == {"rope_theta": 10_000.0, "rope_scaling": None}
    assert rope_of({"rope_scaling": None, "rope_parameters": None}, default_theta=1e6)["rope_theta"] == 1e6
    yarn = rope_of({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "max_position_embeddings": 640})
    assert yarn["rope_scaling"] == YarnScaling(factor=4.0, original_context_length=640)
    nulls = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "mscale": None}
    assert rope_of({"rope_parameters": nulls})["rope_scaling"] == YarnScaling(factor=4.0, original_context_length=64)
    implied = {"rope_type": "yarn", "original_max_position_embeddings": 64}
    assert rope_of({"rope_scaling": implied, "max_position_embeddings": 256})["rope_scaling"].factor == 4.0


@pytest.mark.parametrize(
    "values, message",
    [
        ({"rope_type": "dynamic", "factor": 2.0}, f"type 'dynamic': only default, {', '.join(KINDS)}"),
        ({"rope_type": "linear"}, "linear scaling without a factor"),
        ({"rope_type": "llama3", "factor": 2.0, "short_factor": [1.0]}, "short_factor in its llama3 scaling"),
    ],
)
def test_scalings_we_do_not_have_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        scaling_from_huggingface(values, 64)


def test_partial_rotation_is_refused_and_a_bare_base_is_read():
    with pytest.raises(ValueError, match=r"partial_rotary_factor = 0\.25"):
        rope_of({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}})
    assert rope_of({"rope_theta": 5.0}) == {"rope_theta": 5.0, "rope_scaling": None}


# -- pairings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", [None, SCALINGS[1], SCALINGS[7]], ids=str)
def test_fast_rotation_is_the_clear_one(scaling):
    x = torch.randn(3, 50, 2, 12, generator=torch.Generator().manual_seed(0))
    cos, sin = rotary_tables(12, 50, 100.0, scaling)
    angles = torch.arange(50)[:, None, None] * rotary_frequencies(12, 100.0, scaling)
    factor = 1.0 if scaling is None else scaling.table_factor
    expected = rotate_halves(x, angles) * factor
    torch.testing.assert_close(apply_rotary(x, cos[:, None], sin[:, None]), expected)


def test_rotation_while_compiling_is_the_same_function():
    """It swaps the halves in another way there; the gradient is the rotation back."""
    cos, sin = rotary_tables(8, 5)
    x = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(0))
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    torch.compiler.reset()
    compiled = torch.compile(apply_rotary, backend="aot_eager", fullgraph=True)
    turned = [rotate(y, cos[:, None], sin[:, None]) for rotate, y in zip((apply_rotary, compiled), inputs)]
    for y in turned:
        y.backward(x)
    torch.testing.assert_close(turned[1], turned[0])
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    torch.testing.assert_close(inputs[0].grad, apply_rotary(x, cos[:, None], -sin[:, None]))
    torch.compiler.reset()


@pytest.mark.parametrize("n_heads, head_dim", [(1, 2), (3, 6), (4, 10)])
def test_permutations_undo_each_other_and_pair_the_same_dimensions(n_heads, head_dim):
    generator = torch.Generator().manual_seed(0)
    for shape in ((n_heads * head_dim, 5), (n_heads * head_dim,)):
        weight = torch.randn(shape, generator=generator)
        assert torch.equal(half_to_interleaved(interleaved_to_half(weight, n_heads), n_heads), weight)
        assert torch.equal(interleaved_to_half(half_to_interleaved(weight, n_heads), n_heads), weight)
    # On one vector per head: rotating neighbours, then permuting, is permuting, then rotating halves.
    x = torch.randn(n_heads * head_dim, generator=generator)
    angles = torch.randn(n_heads, head_dim // 2, generator=generator)
    turned = rotate_neighbours(x.view(n_heads, -1), angles).flatten()
    permuted = rotate_halves(interleaved_to_half(x, n_heads).view(n_heads, -1), angles).flatten()
    torch.testing.assert_close(interleaved_to_half(turned, n_heads), permuted)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_heads, n_kv_heads, head_dim", [(4, 4, 6), (6, 2, 10), (3, 1, 4)])
def test_attention_is_equal_after_permuting_the_rows_of_q_and_k(seed, n_heads, n_kv_heads, head_dim):
    """Neighbour pairing with the original weights is half pairing with the permuted ones, keys and biases too."""
    torch.manual_seed(seed)
    T, D = 11, 9
    layer = GroupedQueryAttention(D, n_heads, n_kv_heads, head_dim, bias=True)
    torch.nn.init.normal_(layer.qkv.bias)
    x = torch.randn(2, T, D)
    angles = torch.arange(T)[:, None, None] * rotary_frequencies(head_dim, 100.0)
    sizes = [n * head_dim for n in (n_heads, n_kv_heads, n_kv_heads)]
    q, k, v = (part.view(2, T, -1, head_dim) for part in layer.qkv(x).split(sizes, dim=-1))
    q, k = rotate_neighbours(q, angles), rotate_neighbours(k, angles)
    attended = clear_attention(*(part.transpose(1, 2) for part in (q, k, v)))
    expected = layer.out(attended.transpose(1, 2).flatten(2))

    cos, sin = rotary_tables(head_dim, T, 100.0)
    before = layer(x, (cos[:, None], sin[:, None]))
    with torch.no_grad():
        for parameter in (layer.qkv.weight, layer.qkv.bias):
            q, k, v = parameter.split(sizes)
            parameter.copy_(torch.cat((interleaved_to_half(q, n_heads), interleaved_to_half(k, n_kv_heads), v)))
    torch.testing.assert_close(layer(x, (cos[:, None], sin[:, None])), expected, atol=1e-5, rtol=1e-5)
    assert (before - expected).abs().max() > 1e-3


def test_permuting_with_a_wrong_number_of_heads_is_refused():
    with pytest.raises(ValueError, match="12 rows has no 5 heads of even width"):
        interleaved_to_half(torch.zeros(12, 3), 5)
    with pytest.raises(ValueError, match="12 rows has no 4 heads of even width"):
        half_to_interleaved(torch.zeros(12, 3), 4)
