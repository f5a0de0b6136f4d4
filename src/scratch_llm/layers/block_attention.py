"""Causal attention on a CPU, for training above all: matrix products over blocks of queries, gradient by hand.

torch's fused CPU kernel is made for long contexts: it works on small tiles, in which a processor's bfloat16
units do not reach their speed.  At training lengths the scores of a block of queries fit in the cache, so
batched products of whole blocks are 2 to 3 times as fast (26 against 69 ms of one core's time for forward
and backward of 16 x 6 heads x 256 tokens x 64 on a Zen 5).  Keys after a block's last query are left out, so
the masked half of the square is mostly not computed at all; nor, with a sliding window, are keys that lie before
the window of a block's first query.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from scratch_llm.layers.cache import causal_mask, check_window
from scratch_llm.layers.segments import SegmentMask

BLOCK = 128
# The probabilities are kept for the backward pass, which grows with the square of the context; beyond this
# the fused kernel, which recomputes them, is the better choice.
MAX_CONTEXT = 1024


def keeps_little(n_tokens: int, window: int | None) -> bool:
    """Whether the probabilities kept for the backward pass are no more than those of ``MAX_CONTEXT`` tokens."""
    n_keys = n_tokens if window is None else min(n_tokens, window + BLOCK)
    return n_tokens * n_keys <= MAX_CONTEXT**2


def pays_without_gradients(q_BHTd: Tensor, n_keys: int) -> bool:
    """Whether blocks are faster where nothing is kept: in bfloat16, for causal attention of as many queries as keys.

    Measured on a Zen 5, one core, 6 heads x 64: 128 tokens 377 against 513 us of the fused kernel, 1024 tokens 8.9 against
    15.9 ms, 4096 tokens 125 against 200.  In float32 they are not.
    """
    if torch.compiler.is_compiling():
        return False
    if q_BHTd.device.type != "cpu" or q_BHTd.dtype != torch.bfloat16 or q_BHTd.requires_grad:
        return False
    return q_BHTd.shape[2] == n_keys >= BLOCK and _has_bfloat16_units()


@functools.cache
def _has_bfloat16_units() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def block_attention(
    q_BHTd: Tensor,
    k_BKTd: Tensor,
    v_BKTd: Tensor,
    scale: float | None = None,
    window: int | None = None,
    segments: SegmentMask | None = None,
) -> Tensor:
    """``softmax(scale * q k^T, causal) v``: (B, H, T, d) -> (B, H, T, d), all of one dtype; scale None: 1 / sqrt(d).

    H is a multiple of K: groups of H / K query heads share a key/value head.  ``window``: each query sees so many
    tokens, itself included; None: all before it.  ``segments``: only those of its own text; keys before the texts of a
    block's queries are not read.
    """
    check_window(window)
    q_BHTd = q_BHTd * (q_BHTd.shape[-1] ** -0.5 if scale is None else scale)
    groups = q_BHTd.shape[1] // k_BKTd.shape[1]
    if groups > 1:
        k_BKTd, v_BKTd = (part.repeat_interleave(groups, dim=1) for part in (k_BKTd, v_BKTd))
    q_BHTd, k_BHTd, v_BHTd = (part.contiguous() for part in (q_BHTd, k_BKTd, v_BKTd))
    if torch.is_grad_enabled():
        return _BlockAttention.apply(q_BHTd, k_BHTd, v_BHTd, window, segments)
    blocks = _blocks(q_BHTd.shape[2], window, segments)
    return torch.cat([_attend(q_BHTd, k_BHTd, v_BHTd, *block, window, segments)[0] for block in blocks], dim=2)


class _BlockAttention(torch.autograd.Function):
    """p = softmax(q k^T), y = p v; q comes scaled.

    Compiled, what is kept is e = p times its row's denominator, and rows of y and of dL/dy, d numbers each, are
    divided instead of those of e: so e leaves the one pass over the scores in their dtype.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, window: int | None, segments: SegmentMask | None) -> Tensor:
        ctx.blocks = _blocks(q.shape[2], window, segments)
        blocks, probabilities, denominators = zip(*[_attend(q, k, v, *block, window, segments) for block in ctx.blocks])
        y = torch.cat(blocks, dim=2)
        whole = None if denominators[0] is None else torch.cat(denominators, dim=2)
        ctx.save_for_backward(q, k, v, y, whole, *probabilities)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """With g = dL/dy: dv = p^T g, ds = p * (g v^T - rowsum(g * y)), dq = ds k, dk = ds^T q.

        The row sum stands for rowsum(p * (g v^T)) in softmax's gradient (Dao et al. 2022, FlashAttention,
        appendix B.2): a product over d numbers instead of T.
        """
        q, k, v, y, denominator, *probabilities = ctx.saved_tensors
        grad = grad.contiguous() if denominator is None else (grad / denominator).to(q.dtype).contiguous()
        row_sums = (grad.float() * y.float()).sum(dim=-1, keepdim=True).to(q.dtype)
        grad_q, grad_k, grad_v = [], torch.zeros_like(k), torch.zeros_like(v)
        for (first, start, end), p in zip(ctx.blocks, probabilities):
            g = grad[:, :, start:end]
            ds = (g @ v[:, :, first:end].transpose(-1, -2)).sub_(row_sums[:, :, start:end]).mul_(p)
            grad_q.append(ds @ k[:, :, first:end])
            grad_k[:, :, first:end] += ds.transpose(-1, -2) @ q[:, :, start:end]
            grad_v[:, :, first:end] += p.transpose(-1, -2) @ g
        return torch.cat(grad_q, dim=2), grad_k, grad_v, None, None


def _attend(
    q: Tensor, k: Tensor, v: Tensor, first: int, start: int, end: int, window: int | None, segments: SegmentMask | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(y, p, denominator) of the queries from ``start`` to ``end``, whose keys begin at ``first``."""
    scores = q[:, :, start:end] @ k[:, :, first:end].transpose(-1, -2)
    if segments is None:
        hidden = ~causal_mask(end - start, end - first, q.device, window)
    else:
        hidden = segments.hidden(first, start, end, window)
    p, denominator = _softmax(scores.masked_fill_(hidden, float("-inf")))
    y = p @ v[:, :, first:end]
    return y if denominator is None else (y / denominator).to(y.dtype), p, denominator


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor | None]:
    """(p, None); while compiling p times its denominator, in the dtype of ``scores``, and the float32 denominator."""
    if not torch.compiler.is_compiling():
        return torch.softmax(scores, dim=-1), None
    exponentials = (scores.float() - scores.amax(dim=-1, keepdim=True).float()).exp().to(scores.dtype)
    return exponentials, exponentials.sum(dim=-1, keepdim=True, dtype=torch.float32)


def _blocks(length: int, window: int | None, segments: SegmentMask | None = None) -> list[tuple[int, int, int]]:
    """(first key, first query, end of both) of each block."""
    earliest = None if segments is None else segments.earliest
    blocks = []
    for start in range(0, length, BLOCK):
        first = 0 if window is None else max(0, start - window + 1)
        first = first if earliest is None else max(first, earliest[start])
        blocks.append((first, start, min(start + BLOCK, length)))
    return blocks
