"""RWKV-4's WKV operator: an average of values with weights that fade with distance (Peng et al. 2023, section 3.1).

    wkv_t = (sum_{i<t} e^{-(t-1-i) w + k_i} v_i + e^{u + k_t} v_t) / (the same sum of the weights alone)

per channel, with a decay w > 0 and a bonus u for the current token.  ``clear_wkv`` is the recurrence of its appendix
on numerical stability, token by token.  ``wkv`` computes the same for a whole text: the running maxima first, then two linear recurrences,
both in chunks that run side by side, everything else at once.

Numerical safety: e^k overflows for k > 88, so numerator and denominator are kept divided by e^m, where m is the largest
exponent among the terms so far, faded as they fade.  All powers taken are then at most 1, and the denominator is at
least 1.  The result does not depend on m, so gradients take it as a constant.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Below any exponent that occurs, and far enough from float32's end to subtract from.
NO_EXPONENT = -1e38


class WKVState(NamedTuple):
    """What the past has come to: float32 (B, D) each."""

    numerator: Tensor
    denominator: Tensor
    maximum: Tensor
    """The exponent that both were divided by; ``NO_EXPONENT`` before the first token."""

    @classmethod
    def empty(cls, batch_size: int, width: int, dtype: torch.dtype = torch.float32, device=None) -> WKVState:
        zeros = torch.zeros(batch_size, width, dtype=dtype, device=device)
        return cls(zeros, zeros.clone(), zeros + NO_EXPONENT)


def wkv_step(
    k_BD: Tensor, v_BD: Tensor, decay_D: Tensor, bonus_D: Tensor, state: WKVState
) -> tuple[Tensor, WKVState]:
    """One token of the recurrence: output (B, D) and new state."""
    num, den, top = state
    now = k_BD + bonus_D
    largest = torch.maximum(top, now)
    past_weight, now_weight = torch.exp(top - largest), torch.exp(now - largest)
    y_BD = (past_weight * num + now_weight * v_BD) / (past_weight * den + now_weight)

    faded = top - decay_D
    largest = torch.maximum(faded, k_BD)
    past_weight, now_weight = torch.exp(faded - largest), torch.exp(k_BD - largest)
    return y_BD, WKVState(past_weight * num + now_weight * v_BD, past_weight * den + now_weight, largest)


def clear_wkv(
    k_BTD: Tensor,
    v_BTD: Tensor,
    decay_D: Tensor,
    bonus_D: Tensor,
    state: WKVState,
    real_BT: Tensor | None = None,
) -> tuple[Tensor, WKVState]:
    """``wkv``, token by token."""
    outputs = []
    for t in range(k_BTD.shape[1]):
        y_BD, after = wkv_step(k_BTD[:, t], v_BTD[:, t], decay_D, bonus_D, state)
        outputs.append(y_BD)
        if real_BT is not None:
            after = WKVState(*(torch.where(real_BT[:, t, None], new, old) for new, old in zip(after, state)))
        state = after
    return torch.stack(outputs, dim=1), state


def wkv(
    k_BTD: Tensor,
    v_BTD: Tensor,
    decay_D: Tensor,
    bonus_D: Tensor,
    state: WKVState,
    real_BT: Tensor | None = None,
    *,
    chunk: int | None = None,
) -> tuple[Tensor, WKVState]:
    """The operator for a whole text.

    Args:
        k_BTD, v_BTD: keys (exponents) and values, of any dtype; computed in float32 (float64 for float64).
        decay_D: w, at least 0.
        bonus_D: u.
        state: of the tokens before; gradients flow into and out of numerator and denominator.
        real_BT: bool, False at padding, which leaves the state as it is; its own output means nothing.
        chunk: tokens per chunk; None: see ``_chunk_length``.

    Returns:
        (B, T, D) in the dtype of ``v_BTD``, and the state after the last token.
    """
    dtype = torch.promote_types(v_BTD.dtype, torch.float32)
    k_BTD, v, decay_D, bonus_D = (part.to(dtype) for part in (k_BTD, v_BTD, decay_D, bonus_D))
    if k_BTD.shape[1] == 1 and real_BT is None:
        y_BD, state = wkv_step(k_BTD[:, 0], v[:, 0], decay_D, bonus_D, state)
        return y_BD[:, None].to(v_BTD.dtype), state
    chunk = chunk or _chunk_length(k_BTD.shape[1], k_BTD.device)
    y_BTD, num, den, top = _WKV.apply(k_BTD, v, decay_D, bonus_D, *state, real_BT, chunk)
    return y_BTD.to(v_BTD.dtype), WKVState(num, den, top)


def _chunk_length(n_tokens: int, device: torch.device) -> int:
    """Chunks cost three more passes over the data and save Python steps: on a CPU the steps are cheap, on a GPU each
    is a kernel launch, and about sqrt(T) chunks of sqrt(T) tokens have the fewest."""
    return n_tokens if device.type == "cpu" else max(1, round(n_tokens**0.5))


class _WKV(torch.autograd.Function):
    """With m the running maxima and s = (numerator, denominator):

    keep_t = e^{m_{t-1} - w - m_t},  write_t = e^{k_t - m_t},  s_t = keep_t s_{t-1} + write_t (v_t, 1)
    """

    @staticmethod
    def forward(ctx, k, v, decay, bonus, num, den, top, real, chunk):
        k_kept = k if real is None else k.masked_fill(~real[..., None], float("-inf"))
        fade = decay if real is None else decay * real[..., None]
        tops = _running_maxima(k_kept, fade, top, chunk)
        keep = (tops[:, :-1] - tops[:, 1:]).sub_(fade).exp_()
        write = (k_kept - tops[:, 1:]).exp_()
        s = _recurrence(keep, torch.stack((write * v, write)), torch.stack((num, den)), chunk)

        now = k + bonus
        largest = torch.maximum(tops[:, :-1], now)
        past_weight, now_weight = (tops[:, :-1] - largest).exp_(), now.sub_(largest).exp_()
        total = torch.addcmul(now_weight, past_weight, s[1, :, :-1])
        past_weight.div_(total), now_weight.div_(total)
        y = torch.addcmul(now_weight * v, past_weight, s[0, :, :-1])
        ctx.save_for_backward(v, keep, write, past_weight, now_weight, s, y, real)
        ctx.chunk = chunk
        last_top = tops[:, -1].clone()
        ctx.mark_non_differentiable(last_top)
        return y, s[0, :, -1].clone(), s[1, :, -1].clone(), last_top

    @staticmethod
    def backward(ctx, grad, grad_num, grad_den, _):
        """The gradient a_t of s_t runs backwards: a_{t-1} = (g_t, -g_t y_t) p_t + keep_t a_t, where g_t is the gradient
        of y_t and p_t the past's weight over the total."""
        v, keep, write, past_weight, now_weight, s, y, real = ctx.saved_tensors
        past = grad * past_weight
        a = _recurrence(
            keep.flip(1), torch.stack((past, -past * y)).flip(2), torch.stack((grad_num, grad_den)), ctx.chunk
        ).flip(2)
        now = grad * now_weight
        by_now = now * (v - y)
        a_num, a_den = a[:, :, 1:]
        grad_v = torch.addcmul(now, write, a_num)
        grad_k = torch.addcmul(by_now, write, torch.addcmul(a_den, a_num, v))
        faded = keep * (a[:, :, 1:] * s[:, :, :-1]).sum(0)
        if real is not None:
            faded = faded * real[..., None]
        return grad_k, grad_v, -faded.sum((0, 1)), by_now.sum((0, 1)), a[0, :, 0], a[1, :, 0], None, None, None


def _running_maxima(k: Tensor, fade: Tensor, start: Tensor, chunk: int) -> Tensor:
    """m_0 = start, m_t = max(m_{t-1} - fade_t, k_t): (B, T, D) -> (B, T + 1, D)."""
    B, T, D = k.shape
    tops = k.new_empty(B, T + 1, D)
    tops[:, 0] = start
    fade = fade.expand_as(k)
    if chunk >= T:
        for before, after, k_t, fade_t in zip(
            tops[:, :-1].unbind(1), tops[:, 1:].unbind(1), k.unbind(1), fade.unbind(1)
        ):
            torch.maximum(torch.sub(before, fade_t, out=after), k_t, out=after)
        return tops
    k, fade = _in_chunks(k, chunk, float("-inf")), _in_chunks(fade, chunk, 0.0)
    local = k.clone()  # (B, chunks, chunk, D): maxima of the chunk's own tokens
    for j in range(1, chunk):
        torch.maximum(local[:, :, j], local[:, :, j - 1] - fade[:, :, j], out=local[:, :, j])
    total_fade = fade.cumsum(2)
    starts = torch.empty_like(local[:, :, 0])
    for c in range(starts.shape[1]):
        starts[:, c] = start
        start = torch.maximum(local[:, c, -1], start - total_fade[:, c, -1])
    tops[:, 1:] = torch.maximum(local, starts[:, :, None] - total_fade).flatten(1, 2)[:, :T]
    return tops


def _recurrence(keep: Tensor, x: Tensor, start: Tensor, chunk: int) -> Tensor:
    """s_0 = start, s_t = keep_t s_{t-1} + x_t: keep (B, T, D), x (2, B, T, D) -> (2, B, T + 1, D)."""
    _, B, T, D = x.shape
    s = x.new_empty(2, B, T + 1, D)
    s[:, :, 0] = start
    if chunk >= T:
        for before, after, keep_t, x_t in zip(
            s[:, :, :-1].unbind(2), s[:, :, 1:].unbind(2), keep.unbind(1), x.unbind(2)
        ):
            torch.addcmul(x_t, keep_t, before, out=after)
        return s
    keep = _in_chunks(keep, chunk, 1.0)
    local = _in_chunks(x.flatten(0, 1), chunk, 0.0).unflatten(0, (2, B)).clone()
    for j in range(1, chunk):
        local[:, :, :, j].addcmul_(keep[:, :, j], local[:, :, :, j - 1])
    total_keep = keep.cumprod(2)
    starts = torch.empty_like(local[:, :, :, 0])
    for c in range(starts.shape[2]):
        starts[:, :, c] = start
        start = torch.addcmul(local[:, :, c, -1], total_keep[:, c, -1], start)
    s[:, :, 1:] = local.addcmul_(total_keep, starts[:, :, :, None]).flatten(2, 3)[:, :, :T]
    return s


def _in_chunks(x: Tensor, chunk: int, fill: float) -> Tensor:
    """(B, T, D) -> (B, chunks, chunk, D), filled up at the end."""
    missing = -x.shape[1] % chunk
    if missing:
        x = torch.cat((x, x.new_full((x.shape[0], missing, x.shape[2]), fill)), dim=1)
    return x.unflatten(1, (-1, chunk))
