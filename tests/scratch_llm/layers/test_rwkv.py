"""The recurrences of RWKV-4 and RWKV-7: fast forms against plain loops in float64 numpy, states, padding, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scratch_llm.layers.token_shift import Padding, previous_tokens
from scratch_llm.layers.wkv import WKVState, clear_wkv, wkv
from scratch_llm.layers.wkv7 import clear_wkv7, wkv7

B, T, D, H = 3, 37, 6, 2


def wkv_inputs(spread: float, dtype=torch.float64):
    torch.manual_seed(0)
    k, v = spread * torch.randn(B, T, D, dtype=dtype), torch.randn(B, T, D, dtype=dtype)
    return k, v, torch.rand(D, dtype=dtype) * 3, torch.randn(D, dtype=dtype)


def summed_wkv(k, v, w, u):
    """The definition: every weight of every pair of tokens, in numpy's longest float, which holds e^(11000)."""
    k, v, w, u = (x.numpy().astype(np.longdouble) for x in (k, v, w, u))
    y = np.empty_like(v)
    for t in range(T):
        weights = np.exp(np.stack([k[:, i] - (t - 1 - i) * w for i in range(t)] + [u + k[:, t]], axis=1))
        y[:, t] = (weights * v[:, : t + 1]).sum(1) / weights.sum(1)
    return torch.from_numpy(y.astype(np.float64))


@pytest.mark.parametrize("spread", [1.0, 30.0, 300.0], ids=["small", "beyond float32", "beyond float64"])
@pytest.mark.parametrize("chunk", [None, 1, 5, 64])
def test_wkv_is_its_definition(spread, chunk):
    """Also where e^k has no float32, or no float64."""
    k, v, w, u = wkv_inputs(spread)
    expected = summed_wkv(k, v, w, u)
    clear, _ = clear_wkv(k, v, w, u, WKVState.empty(B, D, torch.float64))
    torch.testing.assert_close(clear, expected, atol=1e-10, rtol=1e-10)
    exact, _ = wkv(k, v, w, u, WKVState.empty(B, D, torch.float64), chunk=chunk)
    torch.testing.assert_close(exact, expected, atol=1e-10, rtol=1e-10)
    if spread == 1.0:
        fast, _ = wkv(*(x.float() for x in (k, v, w, u)), WKVState.empty(B, D), chunk=chunk)
        torch.testing.assert_close(fast.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [T, 5])
@pytest.mark.parametrize("padded", [False, True])
def test_wkv_states_and_gradients(chunk, padded):
    """From a state to a state, gradients of everything that has one, against autograd through the clear form."""
    real = torch.rand(B, T, generator=torch.Generator().manual_seed(1)) > 0.3 if padded else None
    inputs = [*wkv_inputs(3.0), torch.randn(B, D).double(), torch.rand(B, D).double() + 0.5]
    top = torch.randn(B, D).double()
    results = []
    for function, options in ((clear_wkv, {}), (wkv, {"chunk": chunk})):
        leaves = [x.clone().requires_grad_() for x in inputs]
        k, v, w, u, num, den = leaves
        y, after = function(k, v, w, u, WKVState(num, den, top), real, **options)
        y = y if real is None else y * real[..., None]
        # The scale of numerator and denominator is free: only what they stand for has to agree.
        ratio = after.numerator / after.denominator
        (y.square().sum() + ratio.sin().sum()).backward()
        results.append([y, *after, *(x.grad for x in leaves)])
    for clear, fast in zip(*results):
        torch.testing.assert_close(fast, clear, atol=1e-9, rtol=1e-9)


def test_wkv_in_pieces():
    k, v, w, u = wkv_inputs(3.0)
    whole, end = wkv(k, v, w, u, WKVState.empty(B, D, torch.float64), chunk=4)
    state, pieces = WKVState.empty(B, D, torch.float64), []
    for piece in (slice(0, 9), slice(9, 10), slice(10, T)):
        y, state = wkv(k[:, piece], v[:, piece], w, u, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), whole)
    for mine, other in zip(state, end):
        torch.testing.assert_close(mine, other)


# -- RWKV-7 ---------------------------------------------------------------------------------------------------------


def wkv7_inputs(n_tokens=T, d=D):
    torch.manual_seed(0)
    r, k, v, c = (torch.randn(B, n_tokens, H, d, dtype=torch.float64) for _ in range(4))
    log_decay = -0.6065 * torch.rand(B, n_tokens, H, d, dtype=torch.float64).sqrt()
    rate = torch.rand(B, n_tokens, H, d, dtype=torch.float64)
    return [r, log_decay, k, v, F.normalize(c, dim=-1), rate, torch.randn(B, H, d, d, dtype=torch.float64)]


def looped_wkv7(r, log_decay, k, v, c, a, state):
    """The equation, head by head, in numpy."""
    r, w, k, v, c, a, state = (x.numpy() for x in (r, log_decay.exp(), k, v, c, a, state))
    y, state = np.empty_like(v), state.copy()
    for b in range(v.shape[0]):
        for t in range(v.shape[1]):
            for h in range(v.shape[2]):
                at = (b, t, h)
                transition = np.diag(w[at]) - np.outer(c[at], a[at] * c[at])
                state[b, h] = state[b, h] @ transition + np.outer(v[at], k[at])
                y[at] = state[b, h] @ r[at]
    return torch.from_numpy(y), torch.from_numpy(state)


@pytest.mark.parametrize("chunk", [1, 5, 32, 64])
def test_wkv7_is_its_equation(chunk):
    inputs = wkv7_inputs()
    expected = looped_wkv7(*inputs)
    for mine in (clear_wkv7(*inputs), wkv7(*inputs, chunk=chunk)):
        for one, other in zip(mine, expected):
            torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


def test_wkv7_in_float32_with_the_fastest_decay():
    """A chunk of nothing but the fastest decay is where the divided decays are largest."""
    inputs = wkv7_inputs(100, 16)
    inputs[1] = torch.full_like(inputs[1], -0.6066)
    expected = looped_wkv7(*inputs)
    for mine, other in zip(wkv7(*(x.float() for x in inputs)), expected):
        assert (mine.double() - other).abs().max() < 1e-5 * other.abs().max()


@pytest.mark.parametrize("padded", [False, True])
def test_wkv7_gradients(padded):
    real = torch.rand(B, T, generator=torch.Generator().manual_seed(1)) > 0.3 if padded else None
    results = []
    for function, options in ((clear_wkv7, {}), (wkv7, {"chunk": 8})):
        leaves = [x.clone().requires_grad_() for x in wkv7_inputs()]
        y, after = function(*leaves, real, **options)
        y = y if real is None else y * real[..., None, None]
        (y.square().sum() + after.sin().sum()).backward()
        results.append([y, after, *(x.grad for x in leaves)])
    for clear, fast in zip(*results):
        torch.testing.assert_close(fast, clear, atol=1e-8, rtol=1e-8)


# -- token shift ------------------------------------------------------------------------------------------------------


def test_token_shift_steps_over_padding():
    torch.manual_seed(0)
    x, before = torch.randn(2, 6, 3), torch.randn(2, 3)
    real = torch.tensor([[0, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    state = before.clone()
    shifted = previous_tokens(x, state, Padding.of(real))
    assert torch.equal(shifted[0, [1, 3, 4]], torch.stack((before[0], x[0, 1], x[0, 3])))
    assert torch.equal(state, torch.stack((x[0, 4], before[1])))
    state = before.clone()
    assert torch.equal(previous_tokens(x, state, None), torch.cat((before[:, None], x[:, :-1]), 1))
    assert torch.equal(state, x[:, -1])
