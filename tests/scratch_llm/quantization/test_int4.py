"""Packing is exact; the layer, with PyTorch's kernel and without, is the product with the restored weight."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch_llm.quantization.affine import quantize
from scratch_llm.quantization.int4 import Int4Linear, kernel_takes, pack_int4, unpack_int4

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
KERNEL = [
    False,
    pytest.param(
        True,
        marks=pytest.mark.skipif(
            not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"),
            reason="this PyTorch has no int4 kernel for CPUs",
        ),
    ),
]


@given(rows=st.lists(st.lists(st.integers(0, 15), min_size=6, max_size=6), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_packing_is_exact(rows):
    codes = torch.tensor(rows)
    packed = pack_int4(codes)
    assert packed.dtype == torch.uint8 and packed.shape == (len(rows), 3)
    assert torch.equal(unpack_int4(packed), codes.to(torch.uint8))


def test_packing_by_hand():
    assert pack_int4(torch.tensor([[1, 2, 15, 0]])).tolist() == [[0x21, 0x0F]]
    for code in range(16):
        assert unpack_int4(torch.tensor([code << 4 | code], dtype=torch.uint8)).tolist() == [code, code]


@pytest.mark.parametrize("kernel", KERNEL)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [32, 64, 128, 256])
def test_layer_is_the_product_with_the_restored_weight(group_size, symmetric, dtype, kernel):
    torch.manual_seed(0)
    weight, bias = torch.randn(48, 256), torch.randn(48)
    quantized = quantize(weight, 4, symmetric=symmetric, granularity=group_size)
    layer = Int4Linear(quantized, bias, kernel=kernel)
    for shape in [(256,), (1, 256), (3, 7, 256)]:
        x = torch.randn(shape).to(dtype)
        got, want = layer(x), F.linear(x.float(), quantized.dequantize(), bias)
        assert got.dtype == dtype and got.shape == want.shape
        assert (got.float() - want).norm() <= TOLERANCE[dtype] * want.norm()
    bytes_of_codes = layer.packed.numel() * layer.packed.element_size()
    assert bytes_of_codes == 48 * 256 // 2


@pytest.mark.parametrize("granularity", ["tensor", "channel", 2, 10])
@pytest.mark.parametrize("symmetric", [True, False])
def test_shapes_that_the_kernel_does_not_take(granularity, symmetric):
    torch.manual_seed(0)
    quantized = quantize(torch.randn(5, 20), 4, symmetric=symmetric, granularity=granularity)
    layer = Int4Linear(quantized)
    assert not kernel_takes(quantized) and not layer.kernel
    torch.testing.assert_close(layer.restored(), quantized.dequantize())
    with pytest.raises(ValueError, match=r"no int4 kernel for a weight \(5, 20\).*multiples of 16"):
        Int4Linear(quantized, kernel=True)


def test_kernel_is_the_default_where_it_exists():
    quantized = quantize(torch.randn(32, 64), 4, granularity=32)
    assert Int4Linear(quantized).kernel == kernel_takes(quantized)


@pytest.mark.parametrize("kernel", KERNEL)
def test_no_rows(kernel):
    layer = Int4Linear(quantize(torch.randn(16, 32), 4, granularity=32), kernel=kernel)
    assert layer(torch.empty(0, 32)).shape == (0, 16)


@pytest.mark.parametrize("kernel", KERNEL)
def test_state_dict_round_trip(kernel):
    weights = [quantize(torch.randn(16, 32), 4, granularity=32) for _ in range(2)]
    first, second = (Int4Linear(weight, kernel=kernel) for weight in weights)
    second.load_state_dict(first.state_dict())
    x = torch.randn(3, 32)
    assert torch.equal(first(x), second(x))


def test_bytes_in_another_order_are_refused():
    """The shapes agree, so that only the name of the order tells them apart."""
    layer = Int4Linear(quantize(torch.randn(16, 32), 4, granularity=32), kernel=False)
    with pytest.raises(ValueError, match="in the order 'AVX2', this layer reads 'portable'; save layers"):
        layer.load_state_dict(layer.state_dict() | {"_extra_state": "AVX2"})


def test_refusals():
    with pytest.raises(ValueError, match="3 columns do not pair up"):
        pack_int4(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"-1 \.\. 3 do not fit 4 bits"):
        pack_int4(torch.tensor([[-1, 3]]))
    with pytest.raises(ValueError, match="weight has 8 bits; quantize it with n_bits=4"):
        Int4Linear(quantize(torch.ones(2, 4)))
    quantized = quantize(torch.ones(2, 4), 4)
    with pytest.raises(ValueError, match="groups of 2"):
        Int4Linear(dataclasses.replace(quantized, group_size=2))
    with pytest.raises(ValueError, match="x has 5 features; this layer takes 4"):
        Int4Linear(quantized)(torch.ones(3, 5))
