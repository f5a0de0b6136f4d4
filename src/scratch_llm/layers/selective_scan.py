"""The selective scan of Mamba (Gu & Dao 2023, section 3.2, algorithm 2).

Each of E channels has a state of N numbers, and for every token

    h_t = exp(delta_t A) * h_(t-1) + delta_t B_t x_t        y_t = C_t h_t

where delta, B and C depend on the token ("selective").  ``A`` is negative, so the decay is between 0 and 1.
The step size delta says how much of a token enters: at delta = 0 the state stays as it is, which is what padding does.

Shape suffixes: E channels, N state size of a channel, S steps of a segment; others as in ``scratch_llm.layers``.
States lie as (B, N, E): neighbouring channels side by side, as a processor's vector units want them.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

LOG2_E = math.log2(math.e)
# Numbers per buffer of a segment and thread: the 2 or 3 buffers at work (2 MiB each) stay in the last cache.
SEGMENT_NUMBERS = 1 << 19
MAX_SEGMENT = 64
# Rows are scanned together until one step has so many numbers per thread: torch gives a second thread only to
# operations of over 32768 numbers, and still more rows would only shorten the segments.
STEP_NUMBERS = 1 << 16
GPU_SEGMENT, GPU_BLOCK = 256, 16


def clear_selective_scan(
    x_BTE: Tensor, delta_BTE: Tensor, A_EN: Tensor, B_BTN: Tensor, C_BTN: Tensor, state_BNE: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """y (B, T, E) and the last state (B, N, E), one token after the other."""
    h_BNE = x_BTE.new_zeros(x_BTE.shape[0], *A_EN.t().shape) if state_BNE is None else state_BNE
    outputs = []
    for x, delta, B, C in zip(x_BTE.unbind(1), delta_BTE.unbind(1), B_BTN.unbind(1), C_BTN.unbind(1)):
        decay_BNE = torch.exp(delta[:, None, :] * A_EN.t())
        h_BNE = decay_BNE * h_BNE + B[:, :, None] * (delta * x)[:, None, :]
        outputs.append((C[:, :, None] * h_BNE).sum(dim=1))
    return torch.stack(outputs, dim=1), h_BNE


def selective_scan(
    x_BTE: Tensor, delta_BTE: Tensor, A_EN: Tensor, B_BTN: Tensor, C_BTN: Tensor, state_BNE: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``clear_selective_scan``, fast: y in the dtype of x, and the last state; computed in float32 (float64 for float64).

    Time is cut into segments whose decays and states fit in a cache.  In a segment everything but the recurrence runs
    over all tokens at once, and the recurrence itself is one in-place multiply-add per token.  The backward pass keeps
    only the state before each segment and computes the others anew, as the paper's kernel does (section 3.3.2).
    Decays are products of numbers below 1, never quotients, so nothing overflows however strong they are.
    """
    dtype = torch.promote_types(x_BTE.dtype, torch.float32)
    if state_BNE is None:
        state_BNE = x_BTE.new_zeros(x_BTE.shape[0], *A_EN.t().shape, dtype=dtype)
    A_NE = (A_EN.t().to(dtype) * LOG2_E).contiguous()
    x, delta, B, C, state = (tensor.to(dtype).contiguous() for tensor in (x_BTE, delta_BTE, B_BTN, C_BTN, state_BNE))
    y_BTE, last_BNE, _ = _scan(x, delta, A_NE, B, C, state, *_plan(x_BTE, A_EN.shape[1]))
    return y_BTE.to(x_BTE.dtype), last_BNE


def selective_scan_step(
    x_B1E: Tensor, delta_B1E: Tensor, A_NE: Tensor, B_B1N: Tensor, C_B1N: Tensor, state_BNE: Tensor
) -> Tensor:
    """One token per row, all in float32: y (B, 1, E).  ``state_BNE`` is overwritten; ``A_NE`` is A^T log2(e)."""
    state_BNE.mul_((delta_B1E * A_NE).exp2_()).addcmul_(B_B1N.mT, delta_B1E * x_B1E)
    return torch.bmm(C_B1N, state_BNE)


def _plan(x_BTE: Tensor, N: int) -> tuple[int, int, int]:
    """Rows scanned together, steps of a segment, steps of the blocks in it that are scanned side by side (1: see
    ``_recur``)."""
    B, T, E = x_BTE.shape
    if x_BTE.device.type != "cpu":
        return B, GPU_SEGMENT, GPU_BLOCK
    threads, B = _n_threads(), max(1, B)
    most_rows = max(1, min(B, STEP_NUMBERS * threads // (N * E)))
    n_rows = math.ceil(B / math.ceil(B / most_rows))  # groups of one size
    return n_rows, max(1, min(T, MAX_SEGMENT, SEGMENT_NUMBERS * threads // (n_rows * N * E))), 1


@torch.compiler.assume_constant_result
def _n_threads() -> int:
    return torch.get_num_threads()


def _segments(T: int, segment: int, block: int) -> list[slice]:
    """Slices of time: whole segments, then the whole blocks that are left, then the rest."""
    whole = T - T % segment
    blocks = T - T % block
    ends = [*range(0, whole + 1, segment), blocks, T]
    return [slice(start, end) for start, end in pairwise(ends) if end > start]


def _recur(decay: Tensor, h: Tensor, before: Tensor, block: int, reverse: bool = False) -> None:
    """``h[:, t] += decay[:, t] * h[:, t - 1]`` in place, over time (dimension 1), from the state ``before``.

    ``reverse``: ``h[:, t] += decay[:, t + 1] * h[:, t + 1]`` from the last step on, to which ``before`` is added as it is.
    With ``block`` > 1 (for a GPU, where each operation costs a launch) blocks of so many steps are scanned side by side
    as if each began at 0; the state before a block then adds its part, decayed by the product of the decays so far.
    """
    B, S, *rest = h.shape
    direction = -1 if reverse else 1
    if block == 1 or S % block:
        if reverse:
            h[:, -1] += before
            decay, h, before = decay[:, 1:], h[:, :-1], h[:, -1]
        for decay_t, h_t in list(zip(decay.unbind(1), h.unbind(1)))[::direction]:
            before = h_t.addcmul_(decay_t, before)
        return
    if reverse:
        decay = torch.cat((decay[:, 1:], torch.ones_like(decay[:, :1])), dim=1)
    shape = (B, S // block, block, *rest)
    product, h = decay.reshape(shape).clone(), h.view(shape)
    steps = list(zip(product.unbind(2), h.unbind(2)))[::direction]
    for (product_before, h_before), (product_t, h_t) in pairwise(steps):
        h_t.addcmul_(product_t, h_before)
        product_t.mul_(product_before)
    for product_k, h_k in list(zip(product.unbind(1), h.unbind(1)))[::direction]:
        h_k.addcmul_(product_k, before[:, None])
        before = h_k[:, 0 if reverse else -1]


def _states(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, before: Tensor, block: int, buffers: Tensor
) -> tuple[Tensor, Tensor]:
    """Decays and states of a segment, (B, S, N, E) each, in the first two of ``buffers``."""
    decay, h = _views(buffers[:2], x, A)
    # exp2 because torch's exp takes 4 to 14 times as long on a CPU; A comes times log2(e).
    torch.mul(delta[:, :, None], A, out=decay).exp2_()
    torch.mul(B[..., None], (delta * x)[:, :, None], out=h)
    _recur(decay, h, before, block)
    return decay, h


def _buffers(n: int, x: Tensor, A: Tensor, segment: int) -> Tensor:
    """Memory for ``n`` tensors of a segment, taken once: new memory for every segment costs page faults."""
    return x.new_empty(n, x.shape[0] * min(segment, x.shape[1]) * A.numel())


def _views(buffers: Tensor, x: Tensor, A: Tensor) -> list[Tensor]:
    """Buffers as (B, S, N, E) of a segment ``x``, without gaps also in a shorter one: matmul would copy those."""
    shape = (*x.shape[:2], *A.shape)
    return [buffer[: math.prod(shape)].view(shape) for buffer in buffers]


# Operators of their own: to torch.compile one opaque call each, not thousands of steps to unroll.


@torch.library.custom_op("scratch_llm::selective_scan", mutates_args=())
def _scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, n_rows: int, segment: int, block: int
) -> tuple[Tensor, Tensor, Tensor]:
    """y (B, T, E), the last state (B, N, E) and the states before each segment (segments, B, N, E)."""
    segments = _segments(x.shape[1], segment, block)
    y, last, befores = torch.empty_like(x), state.clone(), x.new_empty(len(segments), *state.shape)
    buffers = _buffers(2, x[:n_rows], A, segment)
    with torch.autocast(x.device.type, enabled=False):
        for rows in _segments(len(x), n_rows, 1):
            for now, before in zip(segments, befores[:, rows]):
                before.copy_(last[rows])
                x_s, delta_s, B_s, C_s = (tensor[rows, now] for tensor in (x, delta, B, C))
                _, h = _states(x_s, delta_s, A, B_s, before, block, buffers)
                y[rows, now] = torch.matmul(C_s[:, :, None], h)[:, :, 0]
                last[rows] = h[:, -1]
    return y, last, befores


@_scan.register_fake
def _(x, delta, A, B, C, state, n_rows, segment, block):
    n_segments = len(_segments(x.shape[1], segment, block))
    return torch.empty_like(x), torch.empty_like(state), state.new_empty(n_segments, *state.shape)


@torch.library.custom_op("scratch_llm::selective_scan_backward", mutates_args=())
def _scan_backward(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, befores: Tensor, grad_y: Tensor, grad_last: Tensor,
    n_rows: int, segment: int, block: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, delta, A, B, C and the first state."""
    grads = [torch.empty_like(x), torch.empty_like(x), torch.empty_like(B), torch.empty_like(C)]
    grad_A, grad_state = torch.zeros_like(A), grad_last.clone()
    buffers = _buffers(3, x[:n_rows], A, segment)
    with torch.autocast(x.device.type, enabled=False):
        for rows in _segments(len(x), n_rows, 1):
            for now, before in reversed(list(zip(_segments(x.shape[1], segment, block), befores[:, rows]))):
                inputs = [tensor[rows, now] for tensor in (x, delta, B, C, grad_y)]
                segment_grads = _segment_gradients(*inputs, A, before, grad_state[rows], grad_A, block, buffers)
                for grad, segment_grad in zip(grads, segment_grads):
                    grad[rows, now] = segment_grad
    grad_x, grad_delta, grad_B, grad_C = grads
    return grad_x, grad_delta, grad_A.mul_(math.log(2)), grad_B, grad_C, grad_state


def _segment_gradients(
    x: Tensor, delta: Tensor, B: Tensor, C: Tensor, grad_y: Tensor, A: Tensor, before: Tensor, grad_state: Tensor,
    grad_A: Tensor, block: int, buffers: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of a segment's x, delta, B and C.  ``grad_state``, that of the state after the segment, becomes that of
    the state before it; to ``grad_A`` the segment's part is added.

    With g_t = dL/dh_t the recurrence runs backwards: g_t = C_t dL/dy_t + exp(delta_(t+1) A) g_(t+1).
    """
    decay, h = _states(x, delta, A, B, before, block, buffers)
    # (1, E) by (E, N) and not (N, E) by (E, 1), which takes torch's CPU kernel 12 times as long.
    grad_C = torch.matmul(grad_y[:, :, None], h.mT)[:, :, 0]
    g = torch.mul(C[..., None], grad_y[:, :, None], out=_views(buffers[2:], x, A)[0])
    _recur(decay, g, grad_state, block, reverse=True)
    torch.mul(decay[:, 0], g[:, 0], out=grad_state)

    grad_input = torch.matmul(B[:, :, None], g)[:, :, 0]
    grad_B = torch.matmul((delta * x)[:, :, None], g.mT)[:, :, 0]
    # dL/d(delta A) = g * decay * h_before, into the memory of the decays.
    decay.mul_(g)
    decay[:, 0] *= before
    decay[:, 1:] *= h[:, :-1]
    grad_delta = torch.mul(decay, A, out=g).sum(dim=2).mul_(math.log(2)).addcmul_(grad_input, x)
    grad_A += decay.mul_(delta[:, :, None]).sum(dim=(0, 1))
    return grad_input * delta, grad_delta, grad_B, grad_C


@_scan_backward.register_fake
def _(x, delta, A, B, C, befores, grad_y, grad_last, n_rows, segment, block):
    return tuple(torch.empty_like(tensor) for tensor in (x, delta, A, B, C, grad_last))


def _save(ctx, inputs, output) -> None:
    tensors, ctx.plan = inputs[:6], inputs[6:]
    ctx.save_for_backward(*tensors[:5], output[2])
    # No zeros are made for the states, of which no gradient comes back.
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_y: Tensor | None, grad_last: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # asked for once: with gradient checkpointing each asking computes them again
    x, befores = saved[0], saved[-1]
    grad_y = torch.zeros_like(x) if grad_y is None else grad_y.contiguous()
    grad_last = torch.zeros_like(befores[0]) if grad_last is None else grad_last.contiguous()
    grads = _scan_backward(*saved, grad_y, grad_last, *ctx.plan)
    return (*grads, None, None, None)


_scan.register_autograd(_gradients, setup_context=_save)
