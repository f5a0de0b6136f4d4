"""Selective scan, state space duality and causal convolution: fast forms against the definitions in float64."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.layers import selective_scan as scan_module
from scratch_llm.layers.causal_conv import CausalConv, causal_conv, clear_causal_conv
from scratch_llm.layers.selective_scan import (
    LOG2_E,
    clear_selective_scan,
    selective_scan,
    selective_scan_step,
)
from scratch_llm.layers.state_space_duality import clear_ssd, ssd, ssd_step

TOLERANCE = 1e-5


def scan_inputs(B, T, E, N, largest_step, largest_rate):
    return [
        torch.randn(B, T, E), torch.rand(B, T, E) * largest_step, -torch.rand(E, N) * largest_rate,
        torch.randn(B, T, N), torch.randn(B, T, N), torch.randn(B, N, E),
    ]  # fmt: skip


def ssd_inputs(B, T, H, P, G, N, largest_step, largest_rate):
    return [
        torch.randn(B, T, H, P), torch.rand(B, T, H) * largest_step, -torch.rand(H) * largest_rate,
        torch.randn(B, T, G, N), torch.randn(B, T, G, N), torch.randn(B, H, P, N),
    ]  # fmt: skip


def assert_equal_with_gradients(fast, clear, inputs):
    """Outputs and all gradients within 1e-5 of the largest number, against the clear form in float64."""
    inputs = [tensor.requires_grad_() for tensor in inputs]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    mine, truth = fast(*inputs), clear(*exact)
    grads = [torch.randn_like(output) for output in mine]
    my_grads = torch.autograd.grad(mine, inputs, grads)
    true_grads = torch.autograd.grad(truth, exact, [grad.double() for grad in grads])
    for one, other in zip((*mine, *my_grads), (*truth, *true_grads)):
        assert torch.isfinite(one).all()
        assert (one - other).abs().max() <= TOLERANCE * max(1.0, other.detach().abs().max().item())


# Strong: decays down to exp(-2500), far below what float32 holds, beside decays near 1.
STRENGTHS = {"usual": (0.1, 16.0), "strong": (50.0, 50.0), "none": (0.0, 1.0)}


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("B, T, E, N", [(2, 1, 3, 2), (3, 37, 5, 3), (1, 1500, 7, 4)])
def test_selective_scan(B, T, E, N, strength):
    torch.manual_seed(0)
    assert_equal_with_gradients(selective_scan, clear_selective_scan, scan_inputs(B, T, E, N, *STRENGTHS[strength]))


@pytest.mark.parametrize("plan", [(1, 8, 1), (2, 5, 1), (3, 64, 16), (3, 40, 8), (1, 1, 1)])
def test_selective_scan_whatever_its_segments(plan, monkeypatch):
    """Rows in groups, segments that do not divide the text, blocks side by side as on a GPU."""
    monkeypatch.setattr(scan_module, "_plan", lambda x_BTE, N: plan)
    torch.manual_seed(0)
    assert_equal_with_gradients(selective_scan, clear_selective_scan, scan_inputs(3, 203, 5, 3, 1.0, 4.0))


def test_selective_scan_in_float64_and_bfloat16():
    torch.manual_seed(0)
    inputs = [tensor.double() for tensor in scan_inputs(2, 30, 5, 3, 1.0, 4.0)]
    for mine, truth in zip(selective_scan(*inputs), clear_selective_scan(*inputs)):
        torch.testing.assert_close(mine, truth, atol=1e-12, rtol=1e-12)
    half = [tensor.bfloat16() for tensor in inputs]
    y_BTE, state = selective_scan(*half)
    truth = clear_selective_scan(*(tensor.float() for tensor in half))[0]
    assert y_BTE.dtype == torch.bfloat16 and state.dtype == torch.float32
    torch.testing.assert_close(y_BTE, truth.bfloat16())


def test_selective_scan_is_not_touched_by_autocast():
    torch.manual_seed(0)
    inputs = [tensor.requires_grad_() for tensor in scan_inputs(2, 30, 5, 3, 1.0, 4.0)]
    plain = selective_scan(*inputs)[0]
    with torch.autocast("cpu", torch.bfloat16):
        cast = selective_scan(*inputs)[0]
    assert torch.equal(plain, cast)
    for one, other in zip(*(torch.autograd.grad(y.sum(), inputs) for y in (plain, cast))):
        assert torch.equal(one, other)


def test_selective_scan_is_one_operator_to_the_compiler():
    torch.manual_seed(0)
    inputs = scan_inputs(2, 30, 5, 3, 1.0, 4.0)
    compiled = torch.compile(selective_scan, backend="aot_eager", fullgraph=True)
    assert_equal_with_gradients(compiled, clear_selective_scan, inputs)
    torch.library.opcheck(
        torch.ops.scratch_llm.selective_scan.default,
        (inputs[0], inputs[1], inputs[2].t().contiguous(), *inputs[3:], 2, 8, 1),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("B, T, H, P, G, N", [(2, 1, 2, 3, 1, 2), (3, 37, 4, 3, 2, 5), (1, 1000, 3, 5, 3, 4)])
def test_ssd(B, T, H, P, G, N, strength):
    torch.manual_seed(0)
    assert_equal_with_gradients(ssd, clear_ssd, ssd_inputs(B, T, H, P, G, N, *STRENGTHS[strength]))


@pytest.mark.parametrize("chunk", [1, 5, 16, 37, 256])
def test_ssd_whatever_its_chunks(chunk):
    torch.manual_seed(0)
    inputs = ssd_inputs(2, 37, 4, 3, 2, 5, 1.0, 4.0)
    assert_equal_with_gradients(lambda *args: ssd(*args, chunk=chunk), clear_ssd, inputs)


def test_weak_decays_behind_strong_ones_keep_their_digits():
    """Where chunks sum logarithms in float32, 1000 forgets the digits of 0.001."""
    inputs = ssd_inputs(1, 64, 1, 2, 1, 2, 1.0, 1.0)
    inputs[1][:], inputs[2][:] = 1e-3, -1.0
    inputs[1][:, ::8] = 1000.0
    assert_equal_with_gradients(ssd, clear_ssd, inputs)


def test_ssd_with_one_channel_per_head_is_a_selective_scan():
    """The two definitions meet: Mamba-2 with heads of width 1 is Mamba with one rate per channel."""
    torch.manual_seed(0)
    x, delta, A, B, C, _ = scan_inputs(2, 40, 6, 3, 1.0, 4.0)
    rate_H = A[:, 0]
    mamba, _ = selective_scan(x, delta, rate_H[:, None].expand(6, 3), B, C)
    mamba2, _ = ssd(x[..., None], delta, rate_H, B[:, :, None], C[:, :, None])
    torch.testing.assert_close(mamba, mamba2[..., 0], atol=TOLERANCE, rtol=TOLERANCE)


@torch.inference_mode()
def test_steps():
    torch.manual_seed(0)
    x, delta, A, B, C, state = scan_inputs(2, 9, 5, 3, 1.0, 4.0)
    truth, last = clear_selective_scan(x, delta, A, B, C, state)
    scaled_A = (A * LOG2_E).t().contiguous()
    steps = [selective_scan_step(*(p[:, t : t + 1] for p in (x, delta)), scaled_A, B[:, t : t + 1], C[:, t : t + 1], state)
             for t in range(9)]  # fmt: skip
    torch.testing.assert_close(torch.cat(steps, 1), truth, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(state, last, atol=TOLERANCE, rtol=TOLERANCE)

    x, delta, A, B, C, state = ssd_inputs(2, 9, 4, 3, 2, 5, 1.0, 4.0)
    truth, last = clear_ssd(x, delta, A, B, C, state)
    steps = [ssd_step(x[:, t], delta[:, t], A * LOG2_E, B[:, t], C[:, t], state) for t in range(9)]
    torch.testing.assert_close(torch.stack(steps, 1), truth, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(state, last, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("B, T, C, K", [(2, 1, 3, 4), (3, 17, 5, 4), (2, 3, 4, 7), (1, 9, 2, 2)])
def test_causal_conv(B, T, C, K, bias):
    torch.manual_seed(0)
    inputs = [torch.randn(B, T, C), torch.randn(K, C), torch.randn(C) if bias else None, torch.randn(B, K - 1, C)]

    def with_bias(function):
        return lambda x, taps, state, *b: function(x, taps, b[0] if b else None, state)

    given = [inputs[0], inputs[1], inputs[3], *inputs[2:3][: int(bias)]]
    assert_equal_with_gradients(with_bias(causal_conv), with_bias(clear_causal_conv), given)


def test_causal_conv_steps_over_padding():
    torch.manual_seed(0)
    conv = CausalConv(3, 4)
    x_BTC, real = torch.randn(4, 12, 3), torch.rand(4, 12) > 0.4
    real[3] = False
    state = torch.randn(4, 3, 3)
    after = state.clone()
    y_BTC = conv(x_BTC, after, real)
    for row in range(4):
        alone = state[row : row + 1].clone()
        if real[row].any():
            expected = conv(x_BTC[row, real[row]][None], alone)[0]
            torch.testing.assert_close(y_BTC[row, real[row]], expected)
        torch.testing.assert_close(after[row], alone[0])


def test_work_is_linear_in_the_length():
    """The recurrence keeps one state per segment for the backward pass, not one per token."""
    B, E, N = 1, 64, 16
    outputs = torch.ops.scratch_llm.selective_scan(
        torch.rand(B, 512, E), torch.rand(B, 512, E), -torch.rand(N, E), torch.rand(B, 512, N), torch.rand(B, 512, N),
        torch.zeros(B, N, E), 1, 64, 1,
    )  # fmt: skip
    assert outputs[2].shape == (8, B, N, E)
