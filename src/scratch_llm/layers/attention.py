"""Causal self-attention with grouped key/value heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.block_attention import block_attention, keeps_little, pays_without_gradients
from scratch_llm.layers.cache import causal_mask, check_window
from scratch_llm.layers.kv_cache import KVCache
from scratch_llm.layers.norms import RMSNorm
from scratch_llm.layers.rotary import apply_rotary
from scratch_llm.layers.segments import SegmentMask
from scratch_llm.layers.side_by_side import SideBySide


class GroupedQueryAttention(nn.Module):
    """``softmax(scale * q k^T) v`` where ``H / K`` query heads share one key/value head (Ainslie et al. 2023).

    ``n_kv_heads == n_heads`` is multi-head attention (Vaswani et al. 2017, section 3.2.2), 1 is multi-query.
    The three input projections are one matrix, rows ordered q, k, v: one product instead of three.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int,
        head_dim: int,
        *,
        bias: bool = False,
        dropout: float = 0.0,
        scale: float | None = None,
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
        window: int | None = None,
    ):
        """``scale``: of the scores; None is 1 / sqrt(head_dim).  ``q_norm``, ``k_norm``: applied to each head's query
        and key before rotation (Dehghani et al. 2023, section 2).  ``window``: a query sees so many tokens, itself
        included (Beltagy et al. 2020, Longformer, section 3.1); None: all before it."""
        super().__init__()
        check_window(window)
        self.window = window
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, head_dim
        self.dropout, self.scale = dropout, head_dim**-0.5 if scale is None else scale
        self.q_norm, self.k_norm = q_norm, k_norm
        self.qkv = nn.Linear(d_model, (n_heads + 2 * n_kv_heads) * head_dim, bias=bias)
        self.out = nn.Linear(n_heads * head_dim, d_model, bias=bias)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | SegmentMask | Sequence[Tensor | None] | None = None,
        cache: KVCache | SideBySide | None = None,
        layer: int = 0,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D).

        ``rotary``: cosines and sines that broadcast against (B, T, heads, d).  ``mask``: bool, True where a query may
        look, broadcasting against (B, H, T, S); None is plain causal, within the window.  A
        ``SegmentMask`` keeps packed texts apart.  ``cache`` is written at ``layer``; where it is that of several batches
        ``SideBySide``, there is a mask for each.
        """
        q_k_v = self._project(x_BTD, rotary)
        if isinstance(cache, SideBySide):
            return self.out(cache.attend(self._attend, q_k_v, mask, layer))
        return self.out(self._attend(*q_k_v, mask, cache, layer))

    def _attend(
        self,
        q_BTHd: Tensor,
        k_BTKd: Tensor,
        v_BTKd: Tensor,
        mask: Tensor | SegmentMask | None,
        cache: KVCache | None,
        layer: int,
    ) -> Tensor:
        """Of what ``_project`` gives: (B, T, H * d)."""
        B, T = q_BTHd.shape[:2]
        q_BHTd, k_BKSd, v_BKSd = q_BTHd.transpose(1, 2), k_BTKd.transpose(1, 2), v_BTKd.transpose(1, 2)
        if cache is not None:
            k_BKSd, v_BKSd = cache.write(layer, k_BKSd, v_BKSd)
        if T == 1:
            y_BHTd = self._attend_one(q_BHTd, k_BKSd, v_BKSd, mask, cache)
        elif self._in_blocks(q_BHTd, k_BKSd, mask, cache):
            y_BHTd = block_attention(q_BHTd, k_BKSd, v_BKSd, self.scale, self.window, mask)
        else:
            if isinstance(mask, SegmentMask):
                mask = mask.dense(self.window)
            if mask is None and self._passes_window(k_BKSd):
                mask = causal_mask(T, k_BKSd.shape[2], q_BTHd.device, self.window)
            y_BHTd = F.scaled_dot_product_attention(
                q_BHTd.to(k_BKSd.dtype),
                k_BKSd,
                v_BKSd,
                attn_mask=mask,
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=mask is None,
                scale=self.scale,
                enable_gqa=self.n_kv_heads != self.n_heads,
            ).to(q_BTHd.dtype)
        return y_BHTd.transpose(1, 2).reshape(B, T, self.n_heads * self.head_dim)

    def _project(self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, H, d), keys and values (B, T, K, d).

        Queries and keys lie side by side in the projection, so one call rotates both.
        """
        B, T, _ = x_BTD.shape
        n_qk = self.n_heads + self.n_kv_heads
        qkv = self.qkv(x_BTD).view(B, T, n_qk + self.n_kv_heads, self.head_dim)
        qk, v = qkv.split((n_qk, self.n_kv_heads), dim=2)
        if self.q_norm is not None:
            qk = self._norm_heads(qk)
        if rotary is not None:
            qk = apply_rotary(qk, *rotary)
        q, k = qk.split((self.n_heads, self.n_kv_heads), dim=2)
        return q, k, v

    def _norm_heads(self, qk: Tensor) -> Tensor:
        """``q_norm`` on the first H heads and ``k_norm`` on the others, (B, T, H + K, d) -> the same."""
        q, k = qk.split((self.n_heads, self.n_kv_heads), dim=2)
        return torch.cat((self.q_norm(q), self.k_norm(k)), dim=2)

    def packed(self, n_rows: int) -> GroupedQueryAttention:
        """The same for decoding, see ``scratch_llm.generation.packing``: one norm serves queries and keys."""
        from scratch_llm.generation.packing import FastRMSNorm, pack_children

        twin = pack_children(self, n_rows)
        q_norm, k_norm = self.q_norm, self.k_norm
        if type(q_norm) is RMSNorm and type(k_norm) is RMSNorm and q_norm.eps == k_norm.eps:
            scales = (q_norm.scale.expand(self.n_heads, -1), k_norm.scale.expand(self.n_kv_heads, -1))
            object.__setattr__(twin, "_norm_heads", FastRMSNorm(q_norm, torch.cat(scales)))
        return twin

    def _passes_window(self, k_BKSd: Tensor) -> bool:
        """Whether there are more keys than a query sees."""
        return self.window is not None and k_BKSd.shape[2] > self.window

    def _in_blocks(self, q_BHTd: Tensor, k_BKSd: Tensor, mask: Tensor | SegmentMask | None, cache: KVCache | None) -> bool:
        """Where ``block_attention`` is faster than the library's kernel: see there."""
        if isinstance(mask, Tensor) or q_BHTd.device.type != "cpu" or (self.dropout and self.training):
            return False
        if q_BHTd.requires_grad:
            return cache is None and keeps_little(q_BHTd.shape[2], self.window)
        if k_BKSd.shape[2] != q_BHTd.shape[2] or k_BKSd.dtype != q_BHTd.dtype:
            return False
        # Where the window leaves out most of the keys, in any dtype: the library's kernel reads them all.
        return self._passes_window(k_BKSd) or pays_without_gradients(q_BHTd, k_BKSd.shape[2])

    def _attend_one(
        self, q_BH1d: Tensor, k_BKSd: Tensor, v_BKSd: Tensor, mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """Attention of one query per row, which may look at all keys (but masked ones): (B, H, 1, d).

        The query heads of a group stand in for time, so keys and values are read once per group and not
        repeated.
        """
        B, H, _, d = q_BH1d.shape
        if mask is None and self._passes_window(k_BKSd):
            k_BKSd, v_BKSd = k_BKSd[:, :, -self.window :], v_BKSd[:, :, -self.window :]
        q_BKGd = q_BH1d.reshape(B, self.n_kv_heads, H // self.n_kv_heads, d)
        groups = cache.in_groups(k_BKSd, v_BKSd) if isinstance(cache, KVCache) else [(slice(None), k_BKSd, v_BKSd)]
        one_for_all = mask is None or mask.dim() < 4 or len(mask) == 1
        y_BKGd = [
            F.scaled_dot_product_attention(
                q_BKGd[rows].to(keys.dtype),
                keys,
                values,
                attn_mask=mask if one_for_all else mask[rows],
                dropout_p=self.dropout if self.training else 0.0,
                scale=self.scale,
            )
            for rows, keys, values in groups
        ]
        y_BKGd = y_BKGd[0] if len(y_BKGd) == 1 else torch.cat(y_BKGd)
        return y_BKGd.reshape(B, H, 1, d).to(q_BH1d.dtype)


def clear_attention(
    q_BHTd: Tensor,
    k_BKSd: Tensor,
    v_BKSd: Tensor,
    mask: Tensor | None = None,
    *,
    scale: float | None = None,
    window: int | None = None,
) -> Tensor:
    """Attention written out, to compare the library's kernel with: (B, H, T, d) -> (B, H, T, d).

    ``mask``, ``scale`` and ``window`` are as in ``GroupedQueryAttention``; a mask of None is causal within the window,
    with the queries at the end of the keys.
    """
    check_window(window)
    group = q_BHTd.shape[1] // k_BKSd.shape[1]
    k_BHSd, v_BHSd = k_BKSd.repeat_interleave(group, dim=1), v_BKSd.repeat_interleave(group, dim=1)
    scores_BHTS = q_BHTd @ k_BHSd.transpose(-1, -2) * (q_BHTd.shape[-1] ** -0.5 if scale is None else scale)
    if mask is None:
        T, S = scores_BHTS.shape[-2:]
        query_T1 = torch.arange(S - T, S, device=q_BHTd.device)[:, None]
        key_S = torch.arange(S, device=q_BHTd.device)
        mask = key_S <= query_T1
        if window is not None:
            mask &= query_T1 - key_S < window
    scores_BHTS = scores_BHTS.masked_fill(~mask, float("-inf"))
    return torch.softmax(scores_BHTS, dim=-1) @ v_BHSd
