"""The search never loses to round-to-nearest, wins where some inputs are loud, and folds into the norm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scratch_llm.layers.norms import RMSNorm
from scratch_llm.quantization.affine import quantize
from scratch_llm.quantization.awq import activation_scales, awq
from scratch_llm.quantization.smoothquant import divide_outputs

GRIDS = [(3, True, "channel"), (4, True, 16), (4, False, 32), (3, False, "channel"), (4, True, "tensor")]


def loud_and_correlated():
    """Inputs (600, 64) that share directions, some channels 20 times as loud, and a weight (24, 64)."""
    torch.manual_seed(0)
    x = torch.randn(600, 16) @ torch.randn(16, 64) + torch.randn(600, 64)
    x[:, ::11] *= 20
    return torch.randn(24, 64), x


def output_error(weight, approximation, x):
    return float((x @ (approximation - weight).T).square().mean())


@pytest.mark.parametrize(("n_bits", "symmetric", "granularity"), GRIDS)
def test_better_than_nearest_where_inputs_are_loud(n_bits, symmetric, granularity):
    weight, x = loud_and_correlated()
    calibration, fresh = x[:400], x[400:]
    options = {"symmetric": symmetric, "granularity": granularity}
    nearest = quantize(weight, n_bits, **options).dequantize()
    found = awq(weight, calibration, n_bits, **options)
    assert 0 < found.alpha <= 1
    assert output_error(weight, found.dequantize(), calibration) == pytest.approx(found.error, rel=1e-4)
    assert output_error(weight, found.dequantize(), fresh) < 0.7 * output_error(weight, nearest, fresh)


def test_the_best_of_the_grid():
    weight, x = loud_and_correlated()
    found = awq(weight, x, 4, n_steps=5)
    errors = []
    for alpha in (0, 0.2, 0.4, 0.6, 0.8, 1):
        scales = activation_scales(x, alpha)
        errors.append(
            output_error(weight, quantize(weight * scales, 4, symmetric=False).dequantize() / scales, x)
        )
    assert found.error == pytest.approx(min(errors), rel=1e-4)
    assert found.alpha == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1)[errors.index(min(errors))])


def test_equally_loud_inputs_are_rounded_to_nearest():
    weight, x = torch.randn(8, 32), torch.randint(0, 2, (50, 32)) * 2.0 - 1
    found = awq(weight, x)
    assert found.alpha == 0 and torch.equal(found.scales_D, torch.ones(32))
    assert torch.equal(found.dequantize(), quantize(weight, 4, symmetric=False).dequantize())


def test_scales_by_hand():
    x = torch.tensor([[8.0, -2.0, 0.0], [-8.0, 2.0, 2.0]])  # mean magnitudes 8, 2, 1; their mean is 11 / 3
    torch.testing.assert_close(activation_scales(x, 1.0), torch.tensor([24.0, 6.0, 3.0]) / 11)
    torch.testing.assert_close(activation_scales(x, 0.5), (torch.tensor([24.0, 6.0, 3.0]) / 11).sqrt())
    assert torch.equal(activation_scales(x, 0.0), torch.ones(3))


def test_silent_inputs_keep_their_weights():
    weight, x = loud_and_correlated()
    x[:, [2, 30]] = 0
    found = awq(weight, x)
    assert torch.isfinite(found.dequantize()).all() and (found.scales_D > 0).all()
    assert found.error <= output_error(weight, quantize(weight, 4, symmetric=False).dequantize(), x)


def test_scales_fold_into_the_norm():
    weight, x = loud_and_correlated()
    norm = RMSNorm(64).requires_grad_(False)
    norm.weight.uniform_(0.1, 10)
    found = awq(weight, norm(x))
    want = F.linear(norm(x), found.dequantize())
    divide_outputs(norm, found.scales_D)
    torch.testing.assert_close(F.linear(norm(x), found.quantized.dequantize()), want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_ND": torch.ones(5, 3)}, r"\(2, 4\) reads 4 features, x_ND has 3"),
        ({"x_ND": torch.ones(2, 5, 4)}, r"x_ND has shape \(2, 5, 4\).*flatten"),
        ({"x_ND": torch.zeros(5, 4)}, "only zeros"),
        ({"x_ND": torch.full((5, 4), torch.nan)}, "x_ND holds 20 NaN"),
        ({"weight": torch.full((2, 4), torch.inf)}, "weight holds 8 NaN"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"n_bits": 12}, "n_bits is 12"),
        ({"granularity": 3}, "3 does not divide the 4 inputs"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(ValueError, match=message):
        awq(**({"weight": torch.ones(2, 4), "x_ND": torch.ones(5, 4)} | change))
