"""The integer product is exact, and the layer is the product of the two restored factors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scratch_llm.quantization.affine import quantization_error
from scratch_llm.quantization.dynamic import LONGEST_SUM, DynamicInt8Linear, integer_product, readable_product
from scratch_llm.quantization.int8 import dequantize_rows, quantize_rows

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the GPU path is not tested here")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("n_tokens", "in_features", "out_features"), [(1, 1, 1), (3, 5, 7), (17, 64, 48), (40, 131, 9)]
)
def test_integer_product_is_exact(n_tokens, in_features, out_features, device):
    left = torch.randint(-127, 128, (n_tokens, in_features), dtype=torch.int8, device=device)
    right = torch.randint(-127, 128, (out_features, in_features), dtype=torch.int8, device=device)
    got = integer_product(left, right)
    assert got.dtype == torch.int32 and torch.equal(got, readable_product(left, right))


@pytest.mark.parametrize("device", DEVICES)
def test_the_greatest_sums_do_not_saturate(device):
    """Kernels that add pairs of products in 16 bits would: 2 * 127 * 127 is just below 2^15."""
    ones = torch.full((32, 4096), 127, dtype=torch.int8, device=device)
    assert (integer_product(ones, ones) == 4096 * 127**2).all()
    assert (integer_product(ones, -ones) == -4096 * 127**2).all()
    assert LONGEST_SUM * 127**2 < 2**31 <= (LONGEST_SUM + 1) * 127**2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(48,), (3, 48), (2, 5, 48), (0, 48)])
def test_layer_is_the_product_of_the_restored_factors(shape, dtype, device):
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 48), torch.randn(24), torch.randn(shape).to(dtype)
    got = DynamicInt8Linear(weight, bias).to(device)(x.to(device)).cpu()
    rounded_x = dequantize_rows(*quantize_rows(x.reshape(-1, 48), torch.float32)).view(shape)
    want = F.linear(rounded_x, dequantize_rows(*quantize_rows(weight)), bias)
    assert got.dtype == dtype and got.shape == (*shape[:-1], 24)
    torch.testing.assert_close(got, want.to(dtype), rtol=1e-5 if dtype == torch.float32 else 8e-3, atol=1e-4)


def test_near_the_layer_in_floating_point():
    torch.manual_seed(0)
    weight, x = torch.randn(64, 256), torch.randn(100, 256)
    layer = DynamicInt8Linear(weight)
    assert quantization_error(x @ weight.T, layer(x)).snr_db > 35
    # One loud token does not spoil the others: each has its own scale.
    loud = torch.cat([x, 1000 * x[:1]])
    assert torch.equal(layer(loud)[:-1], layer(x))


def test_state_dict_round_trip():
    layer, other = (
        DynamicInt8Linear(torch.randn(8, 16), torch.ones(8)),
        DynamicInt8Linear(torch.ones(8, 16), torch.zeros(8)),
    )
    other.load_state_dict(layer.state_dict())
    x = torch.randn(3, 16)
    assert torch.equal(layer(x), other(x)) and layer.codes.dtype == torch.int8


def test_refusals():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\); a linear layer's is \(out, in\)"):
        DynamicInt8Linear(torch.ones(2, 3, 4))
    with pytest.raises(ValueError, match="split the layer"):
        DynamicInt8Linear(torch.ones(1, LONGEST_SUM + 1))
    with pytest.raises(ValueError, match="x has 5 features; this layer takes 4"):
        DynamicInt8Linear(torch.ones(2, 4))(torch.ones(3, 5))
    with pytest.raises(ValueError, match="NaN"):
        DynamicInt8Linear(torch.ones(2, 4))(torch.full((3, 4), torch.nan))
