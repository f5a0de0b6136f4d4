"""Smoothing changes no output before quantisation, and makes int8 better where some channels are loud."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scratch_llm.layers.norms import LayerNorm, RMSNorm
from scratch_llm.quantization.affine import quantization_error
from scratch_llm.quantization.dynamic import DynamicInt8Linear
from scratch_llm.quantization.smoothquant import divide_outputs, smooth, smoothing_scales

D = 64
NORMS = {
    "LayerNorm": lambda: LayerNorm(D),
    "RMSNorm": lambda: RMSNorm(D),
    "zero-centred RMSNorm": lambda: RMSNorm(D, zero_centred=True),
    "torch's LayerNorm": lambda: nn.LayerNorm(D),
    "torch's RMSNorm": lambda: nn.RMSNorm(D),
}


def block(make_norm):
    """A norm with three loud channels and two layers that read it; inputs (tokens, D)."""
    torch.manual_seed(0)
    norm, linears = make_norm(), [nn.Linear(D, 48), nn.Linear(D, 16, bias=False)]
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn(D) * 0.1)
        norm.weight[[3, 20, 41]] = 60.0
    return (
        norm.requires_grad_(False),
        [linear.requires_grad_(False) for linear in linears],
        torch.randn(200, D),
    )


@pytest.mark.parametrize("make_norm", NORMS.values(), ids=NORMS.keys())
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.75, 1.0])
def test_function_is_preserved(make_norm, alpha):
    norm, linears, x = block(make_norm)
    before = [linear(norm(x)) for linear in linears]
    scales = smooth(norm, linears, norm(x), alpha)
    assert scales.shape == (D,) and (scales > 0).all()
    for linear, want in zip(linears, before):
        torch.testing.assert_close(linear(norm(x)), want, rtol=1e-4, atol=1e-4)


def test_half_gives_both_sides_the_same_maximum():
    norm, linears, x = block(NORMS["RMSNorm"])
    smooth(norm, linears, norm(x))
    loudest_w = torch.cat([linear.weight for linear in linears]).abs().amax(0)
    torch.testing.assert_close(norm(x).abs().amax(0), loudest_w)


def test_equation_by_hand():
    x, weight = torch.tensor([[8.0, -1.0], [-2.0, 0.5]]), torch.tensor([[0.5, 4.0]])
    torch.testing.assert_close(smoothing_scales(x, [weight], 0.5), torch.tensor([4.0, 0.5]))
    torch.testing.assert_close(smoothing_scales(x, [weight], 1.0), torch.tensor([8.0, 1.0]))
    torch.testing.assert_close(smoothing_scales(x, [weight], 0.0), torch.tensor([2.0, 0.25]))
    assert torch.equal(smoothing_scales(x, [weight, 4 * weight]), smoothing_scales(x, [4 * weight]))


@pytest.mark.parametrize("make_norm", NORMS.values(), ids=NORMS.keys())
def test_int8_is_better_with_loud_channels(make_norm):
    norm, linears, x = block(make_norm)
    truth = [linear(norm(x)) for linear in linears]
    plain = [DynamicInt8Linear(linear.weight, linear.bias)(norm(x)) for linear in linears]
    smooth(norm, linears, norm(x[:100]))  # half of the tokens calibrate
    smoothed = [DynamicInt8Linear(linear.weight, linear.bias)(norm(x)) for linear in linears]
    for want, without, with_smoothing in zip(truth, plain, smoothed):
        assert quantization_error(want, with_smoothing).rms < 0.5 * quantization_error(want, without).rms


def test_channels_of_zeros_are_left_alone():
    x, weight = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0, 0.0, 8.0]])
    assert smoothing_scales(x, [weight]).tolist() == [1, 1, 0.5]
    assert smoothing_scales(x, [weight], 0.0).tolist() == [1, 1, 0.125]


def test_refusals():
    x, weight = torch.ones(3, 4), torch.ones(2, 4)
    with pytest.raises(ValueError, match=r"alpha is 1\.5; it must be 0"):
        smoothing_scales(x, [weight], 1.5)
    with pytest.raises(ValueError, match="weights is empty"):
        smoothing_scales(x, [])
    with pytest.raises(ValueError, match=r"\(2, 5\) reads 5 features, x_ND has 4"):
        smoothing_scales(x, [torch.ones(2, 5)])
    with pytest.raises(ValueError, match="x_ND holds 12 NaN"):
        smoothing_scales(x * torch.nan, [weight])
    with pytest.raises(ValueError, match="elementwise_affine=True"):
        divide_outputs(nn.LayerNorm(4, elementwise_affine=False), torch.ones(4))
    with pytest.raises(ValueError, match=r"\(4,\) features, the scales \(1,\)"):
        divide_outputs(RMSNorm(4), torch.ones(1))
