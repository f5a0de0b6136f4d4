"""The grid's promises: half a step, an exact zero, the same codes again, and clear refusals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch_llm.quantization.affine import encode, quantization_error, quantize
from scratch_llm.quantization.int8 import quantize_rows

GRANULARITIES = ("tensor", "channel", 2, 4)
numbers = st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(-4, 4, width=32)
weights = st.integers(1, 4).flatmap(
    lambda rows: st.lists(st.lists(numbers, min_size=8, max_size=8), min_size=rows, max_size=rows)
)
grids = {
    "n_bits": st.integers(2, 8),
    "symmetric": st.booleans(),
    "granularity": st.sampled_from(GRANULARITIES),
}


def steps(quantized):
    """(out, in): the step at each number."""
    return quantized.scale.repeat_interleave(quantized.group_size, 1).expand(quantized.shape)


@given(rows=weights, **grids)
@settings(max_examples=200, deadline=None)
def test_error_is_at_most_half_a_step(rows, n_bits, symmetric, granularity):
    weight = torch.tensor(rows)
    quantized = quantize(weight, n_bits, symmetric=symmetric, granularity=granularity)
    error = (quantized.dequantize().double() - weight.double()).abs()
    assert (error <= steps(quantized).double() * (0.5 + 1e-4)).all()


@given(rows=weights, zeros=st.integers(0, 255), **grids)
@settings(max_examples=100, deadline=None)
def test_zero_is_kept(rows, zeros, n_bits, symmetric, granularity):
    weight = torch.tensor(rows)
    mask = torch.tensor([bool(zeros >> j & 1) for j in range(8)])
    weight[:, mask] = 0
    got = quantize(weight, n_bits, symmetric=symmetric, granularity=granularity).dequantize()
    assert (got[:, mask] == 0).all()


@given(rows=weights, **grids)
@settings(max_examples=100, deadline=None)
def test_points_of_the_grid_keep_their_codes(rows, n_bits, symmetric, granularity):
    quantized = quantize(torch.tensor(rows), n_bits, symmetric=symmetric, granularity=granularity)
    values = quantized.dequantize().unflatten(1, (-1, quantized.group_size))
    zero_point = None if quantized.zero_point is None else quantized.zero_point[..., None]
    again = encode(values, quantized.scale[..., None], zero_point, n_bits).flatten(1)
    assert torch.equal(again, quantized.codes)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_symmetric_grid_is_found_again_from_its_own_points(granularity):
    first = quantize(torch.randn(6, 32), 4, granularity=granularity)
    second = quantize(first.dequantize(), 4, granularity=granularity)
    assert torch.equal(first.codes, second.codes)
    torch.testing.assert_close(first.scale, second.scale)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("constant", [0.0, 3.7, -0.02, 1e-44])
def test_constant_rows(constant, symmetric):
    weight = torch.full((2, 8), constant)
    got = quantize(weight, 4, symmetric=symmetric).dequantize()
    torch.testing.assert_close(got, weight, rtol=1e-6, atol=1e-37)


def test_by_hand():
    """Two bits, affine: -1 .. 2 is cut at -1, 0, 1, 2; symmetric at -2, 0, 2."""
    weight = torch.tensor([[-1.0, 0.2, 0.9, 2.0]])
    affine = quantize(weight, 2, symmetric=False)
    assert (
        affine.codes.tolist() == [[0, 1, 2, 3]] and affine.zero_point.item() == 1 and affine.scale.item() == 1
    )
    symmetric = quantize(torch.tensor([[-2.0, -0.9, 1.1, 2.0]]), 2)
    assert symmetric.dequantize().tolist() == [[-2, 0, 2, 2]]


def test_shapes_and_bytes():
    weight = torch.randn(3, 64)
    per_group = quantize(weight, 4, symmetric=False, granularity=32)
    assert per_group.shape == (3, 64) and per_group.scale.shape == per_group.zero_point.shape == (3, 2)
    assert per_group.n_bytes() == 3 * 64 // 2 + 6 * 4 + 3
    assert quantize(weight, 3).n_bytes() == 72 + 3 * 4
    assert quantize(weight, 8, granularity="tensor").scale.shape == (1, 1)
    assert per_group.dequantize(torch.bfloat16).dtype == torch.bfloat16


def test_a_finer_grid_has_a_smaller_error():
    torch.manual_seed(0)
    weight = torch.randn(16, 128) * torch.logspace(-1, 1, 16)[:, None]
    by_bits = [quantization_error(weight, quantize(weight, n).dequantize()).snr_db for n in range(2, 9)]
    assert by_bits == sorted(by_bits) and 5 < by_bits[-1] - by_bits[-2] < 7  # 6.02 dB a bit
    tensor, channel, group = (
        quantization_error(weight, quantize(weight, 4, granularity=g).dequantize()).snr_db
        for g in ("tensor", "channel", 32)
    )
    assert tensor < channel < group
    one_sided = weight.abs()
    symmetric, affine = (quantize(one_sided, 4, symmetric=s).dequantize() for s in (True, False))
    assert quantization_error(one_sided, affine).rms < 0.6 * quantization_error(one_sided, symmetric).rms


def test_error_measures():
    error = quantization_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
    assert error.max == 0.5 and error.rms == math.sqrt(0.125) and error.snr_db == pytest.approx(20)
    assert quantization_error(torch.ones(2), torch.ones(2)).snr_db == math.inf
    assert quantization_error(torch.zeros(2), torch.ones(2)).snr_db == -math.inf
    with pytest.raises(ValueError, match="differ; compare"):
        quantization_error(torch.ones(2), torch.ones(3))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_without_a_grid(bad):
    with pytest.raises(ValueError, match=r"1 NaN or infinite .* torch\.nan_to_num"):
        quantize(torch.tensor([[1.0, bad]]))


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        (torch.ones(2, 3, 4), {}, r"\(2, 3, 4\).*flatten"),
        (torch.ones(0, 4), {}, r"neither of them 0"),
        (torch.ones(2, 4, dtype=torch.int32), {}, r"torch\.int32.*\.float\(\)"),
        (torch.ones(2, 4), {"n_bits": 9}, "n_bits is 9; it must be 2 to 8"),
        (torch.ones(2, 4), {"n_bits": 1}, "n_bits is 1; it must be 2 to 8"),
        (torch.ones(2, 64), {"granularity": 48}, "48 does not divide the 64 inputs.*e.g. 64"),
        (torch.ones(2, 5), {"granularity": 2}, "e.g. 'channel'"),
        (torch.ones(2, 4), {"granularity": "row"}, "'row'; choose 'tensor'"),
        (torch.ones(2, 4), {"granularity": 0}, "granularity is 0"),
    ],
)
def test_refusals(weight, options, message):
    with pytest.raises(ValueError, match=message):
        quantize(weight, **options)


def test_eight_bits_by_channel_are_the_rows_of_int8():
    weight = torch.randn(5, 48)
    codes, scale = quantize_rows(weight)
    quantized = quantize(weight, 8)
    assert torch.equal(quantized.codes, codes) and torch.equal(quantized.scale[:, 0], scale)
