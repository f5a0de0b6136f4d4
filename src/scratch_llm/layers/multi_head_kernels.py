"""Multi-head attention by PyTorch's kernels, and the table of the whole family (see ``multi_head``).

``F.scaled_dot_product_attention`` (SDPA) computes softmax tile by tile and never holds all the scores (Dao et al. 2022,
FlashAttention); FlexAttention writes such a kernel for a mask that is given as a Python function (Dong et al. 2024).
"""

from __future__ import annotations

import os
import shutil

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scratch_llm.layers.attention import GroupedQueryAttention
from scratch_llm.layers.multi_head import (
    AdditiveMask,
    AttentionWeights,
    CombinedQKV,
    EinsumHeads,
    MultiHead,
    SplitWeights,
    StackedHeads,
    output_views,
    stacked_views,
)
from scratch_llm.layers.self_attention import future_mask


class SDPAWithMask(CombinedQKV):
    """SDPA with the mask as a tensor: any mask will do, but the kernel does not know that half of it is never read."""

    def make_mask(self) -> None:
        # SDPA's bool masks are True where a query may look, the reverse of masked_fill's and nn.MultiheadAttention's.
        self.register_buffer("past_TT", ~future_mask(self.context_length), persistent=False)

    def attend(self, q_BHTd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor) -> Tensor:
        T = q_BHTd.shape[2]
        return F.scaled_dot_product_attention(
            q_BHTd, k_BHTd, v_BHTd, attn_mask=self.past_TT[:T, :T], dropout_p=self.dropout_now()
        )


class SDPACausal(CombinedQKV):
    """SDPA told that the mask is causal: no mask in memory, and tiles above the diagonal are skipped."""

    def make_mask(self) -> None:
        pass

    def attend(self, q_BHTd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q_BHTd, k_BHTd, v_BHTd, is_causal=True, dropout_p=self.dropout_now())


class SDPAWithoutFlash(SDPACausal):
    """SDPA held to its plain backend, which computes all the scores: what it does where no fused kernel fits."""

    def attend(self, q_BHTd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return super().attend(q_BHTd, k_BHTd, v_BHTd)


class FlexHeads(CombinedQKV):
    """FlexAttention: the mask is a function of (batch, head, query, key), compiled into a kernel of its own.

    It drops no weights, has no backward pass on a CPU (torch 2.13), and needs a C++ compiler there; where something is
    missing ``forward`` says so and does not go another way.
    """

    def __init__(self, d_model: int, n_heads: int, context_length: int, **options):
        super().__init__(d_model, n_heads, context_length, **options)
        if self.dropout:
            raise ValueError(f"dropout is {self.dropout}: FlexAttention has none; use 0, or SDPACausal")

    def make_mask(self) -> None:
        self._masks: dict[tuple[int, torch.device], object] = {}
        self._kernel = None

    def cannot_run(self, x_BTD: Tensor) -> str | None:
        if x_BTD.device.type != "cpu":
            return None
        if torch.is_grad_enabled() and (x_BTD.requires_grad or self.qkv.weight.requires_grad):
            return "FlexAttention has no backward pass on a CPU: use torch.no_grad(), a GPU, or SDPACausal"
        if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++", "cl")))):
            return "FlexAttention compiles its kernel and there is no C++ compiler: install g++, or use SDPACausal"
        return None

    def attend(self, q_BHTd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor) -> Tensor:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        if self._kernel is None:
            self._kernel = torch.compile(flex_attention, dynamic=False)
        T, device = q_BHTd.shape[2], q_BHTd.device
        if (T, device) not in self._masks:
            self._masks[T, device] = create_block_mask(_causal, None, None, T, T, device=device)
        return self._kernel(q_BHTd, k_BHTd, v_BHTd, block_mask=self._masks[T, device])


def _causal(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return query >= key


class TorchMultiHead(MultiHead):
    """``nn.MultiheadAttention`` asked for its result only (``need_weights=False``), which lets it use SDPA."""

    need_weights = False

    def __init__(self, d_model: int, n_heads: int, context_length: int, **options):
        super().__init__(d_model, n_heads, context_length, **options)
        self.attention = nn.MultiheadAttention(
            d_model, n_heads, dropout=self.dropout, bias=self.bias, batch_first=True
        )
        self.register_buffer("future_TT", future_mask(context_length), persistent=False)

    def mix(self, x_BTD: Tensor) -> Tensor:
        T = x_BTD.shape[1]
        y_BTD, _ = self.attention(
            x_BTD,
            x_BTD,
            x_BTD,
            attn_mask=self.future_TT[:T, :T],
            is_causal=not self.need_weights,  # a hint that the mask is causal, given beside the mask
            need_weights=self.need_weights,
        )
        return y_BTD

    def views(self, weights: AttentionWeights) -> list[tuple[nn.Parameter, Tensor]]:
        a = self.attention
        return [*output_views(a.out_proj, weights), *stacked_views(a.in_proj_weight, a.in_proj_bias, weights)]


class TorchMultiHeadWithWeights(TorchMultiHead):
    """``nn.MultiheadAttention`` as it comes (``need_weights=True``): it computes all the scores to return their mean."""

    need_weights = True


class WorkshopHeads(MultiHead):
    """The layer of our own models, ``GroupedQueryAttention``, with as many key/value heads as query heads."""

    def __init__(self, d_model: int, n_heads: int, context_length: int, **options):
        super().__init__(d_model, n_heads, context_length, **options)
        self.attention = GroupedQueryAttention(
            d_model, n_heads, n_heads, self.head_dim, bias=self.bias, dropout=self.dropout
        )

    def mix(self, x_BTD: Tensor) -> Tensor:
        return self.attention(x_BTD)

    def views(self, weights: AttentionWeights) -> list[tuple[nn.Parameter, Tensor]]:
        a = self.attention
        return [*output_views(a.out, weights), *stacked_views(a.qkv.weight, a.qkv.bias, weights)]


#: Every way to write multi-head attention, from the plainest on; all are the same function.
MULTI_HEAD_VARIANTS: dict[str, type[MultiHead]] = {
    "stacked heads": StackedHeads,
    "split weights": SplitWeights,
    "combined QKV": CombinedQKV,
    "einsum": EinsumHeads,
    "additive mask": AdditiveMask,
    "SDPA, no flash": SDPAWithoutFlash,
    "SDPA, mask tensor": SDPAWithMask,
    "SDPA, is_causal": SDPACausal,
    "FlexAttention": FlexHeads,
    "nn.MultiheadAttention, weights": TorchMultiHeadWithWeights,
    "nn.MultiheadAttention": TorchMultiHead,
    "workshop": WorkshopHeads,
}
