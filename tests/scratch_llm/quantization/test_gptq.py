"""GPTQ against its own definition (the update without Cholesky), round-to-nearest, and inputs that break inverses."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.quantization.affine import decode, encode, quantize
from scratch_llm.quantization.gptq import gptq, hessian, inverse_cholesky

GRIDS = [(3, True, "channel"), (4, True, 16), (4, False, "channel"), (3, False, 32), (4, True, "tensor")]


def correlated(n_tokens=512, n_inputs=64):
    """Inputs (tokens, D) that share a few directions, as a transformer's do, and a weight (24, D)."""
    torch.manual_seed(0)
    mixing = torch.randn(n_inputs // 4, n_inputs)
    x = torch.randn(n_tokens, n_inputs // 4) @ mixing + 0.3 * torch.randn(n_tokens, n_inputs)
    return torch.randn(24, n_inputs), x


def output_error(weight, quantized, x):
    return float(((quantized.dequantize() - weight) @ x.T).square().mean())


@pytest.mark.parametrize(("n_bits", "symmetric", "granularity"), GRIDS)
def test_better_than_nearest_on_correlated_inputs(n_bits, symmetric, granularity):
    weight, x = correlated()
    calibration, fresh = x[:400], x[400:]
    nearest = quantize(weight, n_bits, symmetric=symmetric, granularity=granularity)
    fitted = gptq(weight, hessian(calibration), n_bits, symmetric=symmetric, granularity=granularity)
    assert output_error(weight, fitted, calibration) < 0.5 * output_error(weight, nearest, calibration)
    assert output_error(weight, fitted, fresh) < 0.6 * output_error(weight, nearest, fresh)
    assert fitted.codes.dtype == nearest.codes.dtype and fitted.scale.shape == nearest.scale.shape


@pytest.mark.parametrize(("n_bits", "symmetric", "granularity"), GRIDS)
def test_identity_hessian_is_round_to_nearest(n_bits, symmetric, granularity):
    weight, _ = correlated()
    options = {"symmetric": symmetric, "granularity": granularity}
    fitted, nearest = gptq(weight, torch.eye(64), n_bits, **options), quantize(weight, n_bits, **options)
    assert torch.equal(fitted.codes, nearest.codes) and torch.equal(fitted.scale, nearest.scale)
    assert torch.equal(fitted.dequantize(), nearest.dequantize())


def by_definition(weight, hessian_DD, n_bits):
    """Equation 2 with a fresh inverse over the columns that remain, in float64."""
    remaining, codes = weight.double().clone(), torch.empty(weight.shape, dtype=torch.int8)
    scale = quantize(weight, n_bits).scale.double()
    for j in range(weight.shape[1]):
        inverse = torch.linalg.inv(hessian_DD[j:, j:])
        codes[:, j : j + 1] = encode(remaining[:, j : j + 1], scale, None, n_bits)
        error = remaining[:, j : j + 1] - decode(codes[:, j : j + 1], scale, None)
        remaining[:, j:] -= error / inverse[0, 0] * inverse[0]
    return codes


@pytest.mark.parametrize("block_size", [1, 7, 16, 128])
def test_the_definition_whatever_the_block(block_size):
    weight, x = correlated(n_inputs=32)
    got = gptq(weight, hessian(x), 4, damping=0, block_size=block_size)
    assert torch.equal(got.codes, by_definition(weight, hessian(x), 4))


def test_groups_do_not_depend_on_the_block():
    weight, x = correlated()
    first, second = (gptq(weight, hessian(x), 4, granularity=16, block_size=size) for size in (16, 64))
    assert torch.equal(first.codes, second.codes)
    torch.testing.assert_close(first.scale, second.scale)


def test_hessian():
    _, x = correlated(n_tokens=20)
    torch.testing.assert_close(hessian(x), 2 * sum(torch.outer(row, row) for row in x.double()) / 20)
    torch.testing.assert_close(hessian(x), (hessian(x[:10]) + hessian(x[10:])) / 2)


def test_inverse_cholesky():
    _, x = correlated(n_inputs=16)
    upper = inverse_cholesky(hessian(x), 0.1)
    damped = hessian(x) + 0.1 * hessian(x).diagonal().mean() * torch.eye(16)
    assert torch.equal(upper, upper.triu())
    torch.testing.assert_close(upper.T @ upper @ damped, torch.eye(16, dtype=torch.float64))


@pytest.mark.parametrize("damping", [0.0, 0.01])
def test_dead_columns_are_rounded_to_nearest_and_disturb_no_other(damping):
    weight, x = correlated()
    dead = torch.tensor([0, 5, 63])
    x[:, dead] = 0
    alive = torch.tensor([j for j in range(64) if j not in dead])
    fitted, nearest = gptq(weight, hessian(x), 8, damping=damping), quantize(weight, 8)
    assert torch.equal(fitted.codes[:, dead], nearest.codes[:, dead])
    assert output_error(weight, fitted, x) < 0.5 * output_error(weight, nearest, x)
    other = weight.clone()
    other[:, dead] *= 0.5
    same_step = ~torch.isin(weight.abs().argmax(1), dead)
    again = gptq(other, hessian(x), 8, damping=damping)
    assert torch.equal(again.codes[same_step][:, alive], fitted.codes[same_step][:, alive])
    silent = gptq(weight, torch.zeros(64, 64), 8, damping=damping)
    assert torch.equal(silent.codes, nearest.codes)


def test_damping_makes_fewer_tokens_than_inputs_enough():
    weight, x = correlated(n_tokens=8)
    with pytest.raises(
        ValueError, match=r"damping 0 is not positive definite.*e\.g\. to 0\.01.*more tokens than the 64"
    ):
        gptq(weight, hessian(x), damping=0)
    assert output_error(weight, gptq(weight, hessian(x)), x) < 0.5 * output_error(
        weight, quantize(weight, 4), x
    )
    much = gptq(weight, hessian(x), damping=1e9)  # the identity, in effect
    assert torch.equal(much.codes, quantize(weight, 4).codes)


def test_leaves_its_arguments_alone():
    weight, x = correlated()
    before, hessian_DD = weight.clone(), hessian(x)
    hessian_before = hessian_DD.clone()
    gptq(weight.requires_grad_(), hessian_DD)
    assert torch.equal(weight, before) and torch.equal(hessian_DD, hessian_before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hessian_DD": torch.eye(3)}, r"\(3, 3\); a weight with 64 inputs needs \(64, 64\)"),
        ({"hessian_DD": torch.full((64, 64), torch.nan)}, "hessian_DD holds 4096 NaN"),
        ({"weight": torch.full((2, 64), torch.inf)}, "weight holds 128 NaN or infinite"),
        ({"n_bits": 16}, "n_bits is 16"),
        ({"damping": -1.0}, "damping is -1.0; it must be 0 or more"),
        ({"block_size": 0}, "block_size is 0"),
        ({"granularity": 16, "block_size": 40}, "40 is not a multiple of the group size 16.*e.g. 32"),
        ({"granularity": 48}, "48 does not divide the 64 inputs"),
        ({"hessian_DD": -torch.eye(64), "damping": 0.1}, "not positive definite"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(ValueError, match=message):
        gptq(**({"weight": torch.ones(2, 64), "hessian_DD": torch.eye(64)} | change))
