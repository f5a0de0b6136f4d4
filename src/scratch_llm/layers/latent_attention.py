"""Multi-head latent attention (DeepSeek-V2 2024, section 2.1): keys and values of all heads from one short vector.

Shape suffixes beside those of the package: c width of the latent (the paper's d_c), r width of the rotated part,
n width of a head's part without rotation, v width of a head's value.

A token's latent is ``norm(W_DKV x)``; head h makes its key ``[W_UK_h latent; k_rope]`` and its value ``W_UV_h latent``.
Rotation cannot pass through W_UK, so positions go into r more dimensions, whose key is shared by all heads
("decoupled", section 2.1.3).  Two forms of the same function:

* expanded, to train and to read prompts: make every head's keys and values, then attention as usual;
* absorbed, to decode: ``q . (W_UK latent) = (W_UK^T q) . latent``, so queries are taken into the latent's space, attention
  runs on the cache as it is (one key and value for all heads), and W_UV is applied to the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.block_attention import MAX_CONTEXT, block_attention, pays_without_gradients
from scratch_llm.layers.latent_cache import LatentCache
from scratch_llm.layers.norms import RMSNorm
from scratch_llm.layers.rotary import apply_rotary
from scratch_llm.layers.segments import SegmentMask
from scratch_llm.layers.side_by_side import SideBySide


class LatentAttention(nn.Module):
    """Causal self-attention on a latent; called as ``GroupedQueryAttention``, with a ``LatentCache``."""

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        q_lora_rank: int | None,
        kv_lora_rank: int,
        nope_dim: int,
        rope_dim: int,
        v_dim: int,
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
        score_factor: float = 1.0,
    ):
        """``q_lora_rank``: queries are made from a latent of their own, too; None: from x.  ``score_factor``: multiplies
        the usual scale, 1 / sqrt(nope_dim + rope_dim)."""
        super().__init__()
        self.n_heads, self.nope_dim, self.rope_dim, self.v_dim = n_heads, nope_dim, rope_dim, v_dim
        self.kv_lora_rank, self.dropout = kv_lora_rank, dropout
        self.scale = score_factor * (nope_dim + rope_dim) ** -0.5
        q_dim = n_heads * (nope_dim + rope_dim)
        # All that is made from x is one matrix: queries (or their latent), the latent, the shared key.
        self.first_dim = q_dim if q_lora_rank is None else q_lora_rank
        self.compress = nn.Linear(d_model, self.first_dim + kv_lora_rank + rope_dim, bias=False)
        self.q_norm = None if q_lora_rank is None else RMSNorm(q_lora_rank, norm_eps)
        self.q_expand = None if q_lora_rank is None else nn.Linear(q_lora_rank, q_dim, bias=False)
        self.kv_norm = RMSNorm(kv_lora_rank, norm_eps)
        self.kv_expand = nn.Linear(kv_lora_rank, n_heads * (nope_dim + v_dim), bias=False)
        self.out = nn.Linear(n_heads * v_dim, d_model, bias=False)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | SegmentMask | Sequence[Tensor | None] | None = None,
        cache: LatentCache | SideBySide | None = None,
        layer: int = 0,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); arguments as in ``GroupedQueryAttention``."""
        projected = self._project(x_BTD, rotary)
        if isinstance(cache, SideBySide):
            return self.out(cache.attend(self._attend, projected, mask, layer))
        return self.out(self._attend(*projected, mask, cache, layer))

    def _attend(
        self,
        q_nope: Tensor,
        q_rope: Tensor,
        latent: Tensor,
        k_rope: Tensor,
        mask: Tensor | SegmentMask | None,
        cache: LatentCache | None,
        layer: int,
    ) -> Tensor:
        """Of what ``_project`` gives: (B, T, H * v)."""
        if cache is None or cache.length == 0:
            if cache is not None:
                cache.write(layer, torch.cat((latent, k_rope), dim=-1))
            return self._expanded(q_nope, q_rope, latent, k_rope, mask, train=cache is None)
        kept = cache.write(layer, torch.cat((latent, k_rope), dim=-1))
        if self.absorbs(q_nope.shape[1]):
            return self._absorbed(q_nope, q_rope, kept, mask)
        kept = kept.to(latent.dtype)
        latent, k_rope = kept.split((self.kv_lora_rank, self.rope_dim), dim=-1)
        return self._expanded(q_nope, q_rope, latent, k_rope, mask)

    def absorbs(self, n_queries: int) -> bool:
        """Whether the absorbed form is the cheaper one for so many queries on a cache.

        Per head and key it costs ``2 T (2 c + r)`` operations, against ``2 T (n + r + v)`` and ``2 c (n + v)`` to expand.
        """
        c, head = self.kv_lora_rank, self.nope_dim + self.v_dim
        return n_queries * (2 * c - head) <= c * head

    def _project(self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries (B, T, H, n) and (B, T, H, r), latent (B, T, c), shared key (B, T, r); r is rotated."""
        q, latent, k_rope = self.compress(x_BTD).split(
            (self.first_dim, self.kv_lora_rank, self.rope_dim), dim=-1
        )
        if self.q_expand is not None:
            q = self.q_expand(self.q_norm(q))
        q = q.unflatten(-1, (self.n_heads, self.nope_dim + self.rope_dim))
        q_nope, q_rope = q.split((self.nope_dim, self.rope_dim), dim=-1)
        k_rope = apply_rotary(k_rope.unsqueeze(-2), *rotary).squeeze(-2)
        return q_nope, apply_rotary(q_rope, *rotary), self.kv_norm(latent), k_rope

    def _expanded(
        self,
        q_nope: Tensor,
        q_rope: Tensor,
        latent_BSc: Tensor,
        k_rope_BSr: Tensor,
        mask: Tensor | SegmentMask | None,
        train: bool = False,
    ) -> Tensor:
        """Every head with keys and values of its own: -> (B, T, H * v)."""
        k_nope, v = (
            self.kv_expand(latent_BSc)
            .unflatten(-1, (self.n_heads, -1))
            .split((self.nope_dim, self.v_dim), dim=-1)
        )
        k_rope = k_rope_BSr.unsqueeze(-2).expand(-1, -1, self.n_heads, -1)
        q_BHTd = torch.cat((q_nope, q_rope), dim=-1).transpose(1, 2)
        k_BHSd = torch.cat((k_nope, k_rope.to(k_nope.dtype)), dim=-1).transpose(1, 2)
        dropout = self.dropout if self.training else 0.0
        if self._in_blocks(q_BHTd, k_BHSd.shape[2], mask, dropout, train):
            y_BHTv = block_attention(q_BHTd, k_BHSd, v.transpose(1, 2), self.scale, segments=mask)
        else:
            if isinstance(mask, SegmentMask):
                mask = mask.dense()
            y_BHTv = F.scaled_dot_product_attention(
                q_BHTd,
                k_BHSd,
                v.transpose(1, 2),
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=mask is None,
                scale=self.scale,
            )
        return y_BHTv.transpose(1, 2).flatten(2)

    def _in_blocks(
        self, q_BHTd: Tensor, n_keys: int, mask: Tensor | SegmentMask | None, dropout: float, train: bool
    ) -> bool:
        """Where ``block_attention`` is faster than the library's kernel: see there."""
        if isinstance(mask, Tensor) or dropout:
            return False
        if train and q_BHTd.requires_grad:
            return q_BHTd.device.type == "cpu" and q_BHTd.shape[2] <= MAX_CONTEXT
        return pays_without_gradients(q_BHTd, n_keys)

    def _absorbed(self, q_nope: Tensor, q_rope: Tensor, kept_BSk: Tensor, mask: Tensor | None) -> Tensor:
        """All heads on the cache itself, (B, S, c + r): -> (B, T, H * v)."""
        B, T, H, _ = q_nope.shape
        k_up_Hnc, v_up_Hcv = self._up_matrices()
        # (H, B * T, n) times (H, n, c): a head's queries are rows of one product.
        q_HNn = q_nope.flatten(0, 1).transpose(0, 1).to(k_up_Hnc.dtype)
        q_latent = torch.bmm(q_HNn, k_up_Hnc).transpose(0, 1).view(B, T, H, -1)
        q_BTHk = torch.cat((q_latent, q_rope.to(q_latent.dtype)), dim=-1).to(kept_BSk.dtype)
        # Heads and queries are all rows that look at the same keys.
        scores = torch.bmm(q_BTHk.flatten(1, 2), kept_BSk.transpose(1, 2)).mul_(self.scale).view(B, T, H, -1)
        if mask is not None:
            mask_BT1S = mask.unsqueeze(-2) if mask.dim() == 2 else mask.transpose(1, 2)
            scores = scores.masked_fill(~mask_BT1S, float("-inf"))
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(kept_BSk.dtype)
        weights = F.dropout(weights, self.dropout, self.training)
        y_latent = torch.bmm(weights.flatten(1, 2), kept_BSk[:, :, : self.kv_lora_rank]).to(v_up_Hcv.dtype)
        y = torch.bmm(y_latent.view(B * T, H, -1).transpose(0, 1), v_up_Hcv)
        return y.transpose(0, 1).reshape(B, T, H * self.v_dim).to(q_nope.dtype)

    def _up_matrices(self) -> tuple[Tensor, Tensor]:
        """W_UK (H, n, c) and W_UV transposed (H, c, v): views of ``kv_expand``."""
        both = self.kv_expand.weight.unflatten(0, (self.n_heads, self.nope_dim + self.v_dim))
        k_up, v_up = both.split((self.nope_dim, self.v_dim), dim=1)
        return k_up, v_up.transpose(1, 2)

    def packed(self, n_rows: int) -> LatentAttention:
        """The same for decoding, see ``scratch_llm.generation.packing``: each head's matrices lie in one piece.

        They do so in float32: a CPU's batched product of one row takes 3 us then, and 14 in bfloat16 (6 heads, 64 x 128).
        """
        from scratch_llm.generation.packing import pack_children

        twin = pack_children(self, n_rows)
        layer = twin if hasattr(twin.kv_expand, "weight") else self  # int8 layers restore theirs
        matrices = tuple(matrix.float().contiguous() for matrix in layer._up_matrices())
        object.__setattr__(twin, "_up_matrices", lambda: matrices)
        return twin
