"""Rounding of weights to int8."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.quantization import dequantize_rows, quantize_rows

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("scale_dtype", [None, *DTYPES])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 300), (1, 1), (3, 17, 40)])
def test_no_weight_moves_by_more_than_half_a_scale(dtype, scale_dtype, shape):
    """Rows of very different size, each with its own scale."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator) * torch.logspace(-2, 2, shape[-2])[:, None]
    weight = weight.to(dtype)
    quantized, scale = quantize_rows(weight, scale_dtype)
    assert quantized.dtype == torch.int8 and quantized.shape == weight.shape
    assert scale.dtype == (scale_dtype or dtype) and scale.shape == weight.shape[:-1]
    error = (dequantize_rows(quantized, scale, torch.float64) - weight.double()).abs()
    assert (error <= scale.double()[..., None] * (0.5 + 1e-5)).all()
    assert quantized.abs().amax() <= 127 and (quantized.abs().amax(dim=-1) >= 126).all()


def test_values_on_the_grid_come_back_exactly():
    weight = torch.tensor([[-127.0, 3.0, 0.0], [254.0, -2.0, 64.0]])
    quantized, scale = quantize_rows(weight)
    assert quantized.tolist() == [[-127, 3, 0], [127, -1, 32]] and scale.tolist() == [1.0, 2.0]
    assert torch.equal(dequantize_rows(quantized, scale), weight)
    assert dequantize_rows(quantized, scale, torch.bfloat16).dtype == torch.bfloat16


def test_a_row_of_zeros_stays_zero():
    """And one too small for a scale in float16."""
    weight = torch.tensor([[0.0, 0.0], [1e-9, -1e-9], [1.0, -0.5]])
    quantized, scale = quantize_rows(weight, torch.float16)
    assert not quantized[:2].any() and scale[:2].tolist() == [1.0, 1.0]
    assert torch.equal(dequantize_rows(quantized, scale)[:2], torch.zeros(2, 2, dtype=torch.float16))


@pytest.mark.parametrize(
    "weight, message",
    [
        (torch.ones(2, 2, dtype=torch.int32), "weight is torch.int32: quantize_rows takes float32"),
        (torch.ones(4), r"weight has shape \(4,\): quantize_rows takes \(..., rows, columns\)"),
        (torch.ones(4, 0), r"weight has shape \(4, 0\)"),
        (torch.tensor([[1.0, float("nan")]]), r"shape \(1, 2\) holds infinities or NaN"),
        (torch.tensor([[1.0], [float("inf")]]), r"shape \(2, 1\) holds infinities or NaN"),
    ],
)
def test_what_cannot_be_quantized(weight, message):
    with pytest.raises(ValueError, match=message):
        quantize_rows(weight)
