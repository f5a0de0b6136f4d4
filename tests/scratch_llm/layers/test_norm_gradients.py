"""RMSNorm's gradient by hand: the library's function, in float32 to rounding, in bfloat16 nearer the truth."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scratch_llm.layers import RMSNorm

SHAPES = [(3, 5, 33), (2, 7, 4, 10), (1, 1, 2), (2, 300, 64)]


def example(shape, dtype, zero_centred):
    torch.manual_seed(0)
    norm = RMSNorm(shape[-1], 1e-3, zero_centred=zero_centred)
    torch.nn.init.normal_(norm.weight)
    x, grad = torch.randn(shape).to(dtype).requires_grad_(), torch.randn(shape).to(dtype)
    return norm, x, grad


def errors(got, truth):
    pairs = [(a.detach().double(), b.detach()) for a, b in zip(got, truth)]
    return [float((a - b).norm() / b.norm()) for a, b in pairs]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("zero_centred", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_and_gradients(shape, zero_centred, dtype):
    norm, x, grad = example(shape, dtype, zero_centred)
    y = norm(x)
    assert "TrainedRMSNorm" in y.grad_fn.name() and y.dtype == dtype
    y.backward(grad)
    exact_x, exact_scale = x.detach().double().requires_grad_(), norm.scale.detach().double().requires_grad_()
    exact = exact_x * (exact_x.square().mean(-1, keepdim=True) + 1e-3).rsqrt() * exact_scale
    exact.backward(grad.double())
    lib_x, lib_scale = x.detach().clone().requires_grad_(), norm.scale.detach().to(dtype).requires_grad_()
    library = F.rms_norm(lib_x, shape[-1:], lib_scale, 1e-3)
    library.backward(grad)
    truth = (exact, exact_x.grad, exact_scale.grad)
    ours, theirs = errors((y, x.grad, norm.weight.grad), truth), errors((library, lib_x.grad, lib_scale.grad), truth)
    assert all(a < max(1e-6, 1.5 * b) for a, b in zip(ours, theirs)), (ours, theirs)


def test_gradient_of_rows_that_do_not_lie_side_by_side():
    """As the heads of queries do, cut out of a projection."""
    norm, x, _ = example((2, 6, 5, 8), torch.float32, True)
    grad = torch.randn(2, 3, 6, 8).transpose(1, 2)
    norm(x[:, :, 1:4]).backward(grad)
    other = x.detach().clone().requires_grad_()
    norm.clear_forward(other[:, :, 1:4]).backward(grad)
    torch.testing.assert_close(x.grad, other.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("zero_centred", [False, True])
def test_the_same_with_and_without_gradients_and_for_frozen_inputs(zero_centred):
    norm, x, grad = example((2, 7, 12), torch.float32, zero_centred)
    with torch.no_grad():
        expected = norm(x)
    torch.testing.assert_close(norm(x), expected)
    norm(x.detach()).backward(grad)
    frozen = norm.weight.grad.clone()
    norm.weight.grad = None
    norm(x).backward(grad)
    torch.testing.assert_close(norm.weight.grad, frozen)
    norm.weight.requires_grad_(False)
    before = x.grad.clone()
    norm(x).backward(grad)
    torch.testing.assert_close(x.grad, 2 * before)


def test_autocast_takes_what_it_is_given():
    norm, x, grad = example((2, 7, 12), torch.float32, True)
    with torch.autocast("cpu", torch.bfloat16):
        low = norm(x.bfloat16())
        assert norm(x).dtype == torch.float32 and low.dtype == torch.bfloat16
    low.backward(grad.bfloat16())
    assert norm.weight.grad.dtype == torch.float32 and x.grad.dtype == torch.float32
