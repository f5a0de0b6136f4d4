"""Grids and products against libraries that do the same arithmetic; those not installed are skipped."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.quantization.affine import code_range, quantize
from scratch_llm.quantization.dynamic import DynamicInt8Linear, integer_product
from scratch_llm.quantization.int8 import quantize_rows

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def a_weight():
    torch.manual_seed(0)
    return torch.randn(16, 64) * torch.logspace(-2, 1, 16)[:, None] + 0.1


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("n_bits", [2, 3, 4, 8])
def test_pytorch(n_bits, symmetric):
    """Its fake quantisation rounds to the grid, and its observer chooses it."""
    weight, (low, high) = a_weight(), code_range(n_bits, symmetric=symmetric)
    ours = quantize(weight, n_bits, symmetric=symmetric)
    zero_point = torch.zeros(16, dtype=torch.int32) if symmetric else ours.zero_point[:, 0].int()
    rounded = torch.fake_quantize_per_channel_affine(weight, ours.scale[:, 0], zero_point, 0, low, high)
    torch.testing.assert_close(ours.dequantize(), rounded)
    observers = pytest.importorskip("torch.ao.quantization.observer", reason="this PyTorch has no observers")
    observer = observers.PerChannelMinMaxObserver(
        ch_axis=0,
        dtype=torch.qint8 if symmetric else torch.quint8,
        qscheme=torch.per_channel_symmetric if symmetric else torch.per_channel_affine,
        quant_min=low,
        quant_max=high,
    )
    observer(weight)
    scale, their_zero_point = observer.calculate_qparams()
    torch.testing.assert_close(ours.scale[:, 0], scale)
    assert torch.equal(zero_point, their_zero_point.int())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [16, 32, 64])
@pytest.mark.parametrize("n_bits", [4, 8])
def test_torchao(n_bits, group_size, symmetric):
    """Scales, zero points, codes and restored weights of groups."""
    theirs = pytest.importorskip("torchao.quantization.quant_primitives", reason="torchao is not installed")
    weight, (low, high) = a_weight(), code_range(n_bits, symmetric=symmetric)
    ours = quantize(weight, n_bits, symmetric=symmetric, granularity=group_size)
    block, dtype = (1, group_size), torch.int8 if symmetric else torch.uint8
    mapping = theirs.MappingType.SYMMETRIC if symmetric else theirs.MappingType.ASYMMETRIC
    scale, zero_point = theirs.choose_qparams_affine(
        weight, mapping, block, dtype, low, high, scale_dtype=torch.float32, zero_point_dtype=torch.int32
    )
    codes = theirs.quantize_affine(weight, block, scale, zero_point, dtype, low, high)
    restored = theirs.dequantize_affine(codes, block, scale, zero_point, dtype, low, high)
    torch.testing.assert_close(ours.scale, scale.view_as(ours.scale))
    if not symmetric:
        assert torch.equal(ours.zero_point.int(), zero_point.view_as(ours.zero_point))
    # A number halfway between two points may go to either: one step of a few.
    assert (ours.codes.int() - codes.int()).abs().max() <= 1
    assert (ours.codes != codes).float().mean() < 0.01
    steps = ours.scale.repeat_interleave(group_size, 1)
    assert (
        (ours.dequantize() - restored).abs() <= 1.001 * steps * (ours.codes != codes) + 1e-5 * steps * high
    ).all()


def test_bitsandbytes():
    """Its row-wise int8 and the product of two such factors (LLM.int8 without outliers)."""
    theirs = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
    weight, x = a_weight().half(), torch.randn(32, 64).half()
    codes, largest, _ = theirs.int8_vectorwise_quant(weight)
    our_codes, scale = quantize_rows(weight, torch.float32)
    torch.testing.assert_close(scale, largest / 127)
    assert (our_codes.int() - codes.int()).abs().max() <= 1 and (our_codes != codes).float().mean() < 0.01
    codes_x, largest_x, _ = theirs.int8_vectorwise_quant(x)
    product = theirs.int8_linear_matmul(codes_x, codes)
    assert torch.equal(integer_product(codes_x, codes), product)
    want = theirs.int8_mm_dequant(product, largest_x, largest)
    got = DynamicInt8Linear(weight)(x)
    assert (got - want).float().norm() < 3e-3 * want.float().norm()
