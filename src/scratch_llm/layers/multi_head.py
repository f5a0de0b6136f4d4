"""Multi-head attention written in several ways, all the same function (Vaswani et al. 2017, section 3.2.2).

    head_i = softmax(q_i k_i^T / sqrt(d), causal) v_i        y = concat(head_1 ... head_H) W_out

Here the ways that can be read from top to bottom; those that call a kernel of PyTorch are in ``multi_head_kernels``,
as is the table of all.  Every one maps (B, T, D) to (B, T, D) and takes its weights from any other by
``copy_weights``.  What they differ in is how many operations there are, how large, and what is kept for the backward
pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.self_attention import CausalSelfAttention, future_mask, scaled_scores


@dataclass(frozen=True)
class AttentionWeights:
    """The weights of multi-head attention, however a class arranges them; biases are None where there are none.

    Attributes:
        qkv: (3, H, d, D), of queries, keys and values.
        qkv_bias: (3, H, d).
        out: (D, D), its columns head after head.
        out_bias: (D,).
    """

    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None

    @classmethod
    def empty(cls, d_model: int, n_heads: int, bias: bool, like: Tensor) -> AttentionWeights:
        """Room for weights, of the dtype and on the device of ``like``."""
        head_dim = d_model // n_heads
        return cls(
            qkv=like.new_empty(3, n_heads, head_dim, d_model),
            qkv_bias=like.new_empty(3, n_heads, head_dim) if bias else None,
            out=like.new_empty(d_model, d_model),
            out_bias=like.new_empty(d_model) if bias else None,
        )


class MultiHead(nn.Module, ABC):
    """What all members of the family share: causal, (B, T, D) -> (B, T, D), with weights that can be exchanged."""

    def __init__(
        self, d_model: int, n_heads: int, context_length: int, *, dropout: float = 0.0, bias: bool = True
    ):
        """``dropout``: of the attention weights, in training.  ``bias``: of the input and the output projection."""
        super().__init__()
        if n_heads < 1 or d_model % n_heads:
            raise ValueError(f"n_heads is {n_heads}: it must divide d_model {d_model} into heads of equal width")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}: it must be at least 0 and below 1")
        self.d_model, self.n_heads, self.head_dim = d_model, n_heads, d_model // n_heads
        self.context_length, self.dropout, self.bias = context_length, dropout, bias

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D).  ValueError for another width, a text that is too long, or what cannot run here."""
        if x_BTD.ndim != 3 or x_BTD.shape[2] != self.d_model or x_BTD.shape[1] > self.context_length:
            raise ValueError(
                f"x has the shape {tuple(x_BTD.shape)}: give (batch, tokens, {self.d_model}) "
                f"with at most {self.context_length} tokens (context_length)"
            )
        if reason := self.cannot_run(x_BTD):
            raise ValueError(reason)
        return self.mix(x_BTD)

    @abstractmethod
    def mix(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D), the attention itself."""

    @abstractmethod
    def views(self, weights: AttentionWeights) -> list[tuple[nn.Parameter, Tensor]]:
        """Each parameter with its place in ``weights``: a view of the parameter's own shape."""

    def cannot_run(self, x_BTD: Tensor) -> str | None:
        """Why this member cannot take ``x`` on its device, and what to do; None: it can."""
        return None

    def read(self, of: Callable[[nn.Parameter], Tensor] = lambda parameter: parameter) -> AttentionWeights:
        """A copy of the weights, or of what ``of`` takes from each parameter: ``lambda p: p.grad``."""
        weights = AttentionWeights.empty(self.d_model, self.n_heads, self.bias, next(self.parameters()).detach())
        with torch.no_grad():
            for parameter, place in self.views(weights):
                place.copy_(of(parameter))
        return weights

    def load(self, weights: AttentionWeights) -> None:
        """Take over ``weights``."""
        with torch.no_grad():
            for parameter, place in self.views(weights):
                parameter.copy_(place)


def copy_weights(source: MultiHead, target: MultiHead) -> None:
    """Make ``target`` the same function as ``source``; ValueError where their shapes differ."""
    for name in ("d_model", "n_heads", "bias"):
        mine, theirs = getattr(source, name), getattr(target, name)
        if mine != theirs:
            raise ValueError(f"{name} is {mine} in the source and {theirs} in the target: build both with the same")
    target.load(source.read())


class StackedHeads(MultiHead):
    """One ``CausalSelfAttention`` per head, side by side: the definition, as it stands in the paper.

    Three small matrix products per head, one head after the other: the slow way.
    """

    def __init__(self, d_model: int, n_heads: int, context_length: int, **options):
        super().__init__(d_model, n_heads, context_length, **options)
        self.heads = nn.ModuleList(
            CausalSelfAttention(d_model, self.head_dim, context_length, dropout=self.dropout, bias=self.bias)
            for _ in range(n_heads)
        )
        self.out = nn.Linear(d_model, d_model, bias=self.bias)

    def mix(self, x_BTD: Tensor) -> Tensor:
        return self.out(torch.cat([head(x_BTD) for head in self.heads], dim=-1))

    def views(self, weights: AttentionWeights) -> list[tuple[nn.Parameter, Tensor]]:
        pairs = output_views(self.out, weights)
        for i, head in enumerate(self.heads):
            for j, projection in enumerate((head.query, head.key, head.value)):
                pairs.append((projection.weight, weights.qkv[j, i]))
                if self.bias:
                    pairs.append((projection.bias, weights.qkv_bias[j, i]))
        return pairs


class SplitWeights(MultiHead):
    """One projection each for queries, keys and values of all heads; its output is split into heads.

    Heads become a batch dimension, so that one batched product serves all of them.
    """

    def __init__(self, d_model: int, n_heads: int, context_length: int, **options):
        super().__init__(d_model, n_heads, context_length, **options)
        self.query = nn.Linear(d_model, d_model, bias=self.bias)
        self.key = nn.Linear(d_model, d_model, bias=self.bias)
        self.value = nn.Linear(d_model, d_model, bias=self.bias)
        self.out = nn.Linear(d_model, d_model, bias=self.bias)
        self.register_buffer("future_TT", future_mask(context_length), persistent=False)

    def mix(self, x_BTD: Tensor) -> Tensor:
        q_BHTd, k_BHTd, v_BHTd = (
            split_heads(projection(x_BTD), self.n_heads) for projection in (self.query, self.key, self.value)
        )
        y_BHTd = masked_attention(q_BHTd, k_BHTd, v_BHTd, self.future_TT, self.dropout if self.training else 0.0)
        return self.out(merge_heads(y_BHTd))

    def views(self, weights: AttentionWeights) -> list[tuple[nn.Parameter, Tensor]]:
        pairs = output_views(self.out, weights)
        for j, projection in enumerate((self.query, self.key, self.value)):
            pairs.append((projection.weight, weights.qkv[j].view(self.d_model, self.d_model)))
            if self.bias:
                pairs.append((projection.bias, weights.qkv_bias[j].view(self.d_model)))
        return pairs


class CombinedQKV(MultiHead):
    """Queries, keys and values by one matrix of 3 D rows: one large product instead of three.

    Its descendants override ``attend`` alone.
    """

    def __init__(self, d_model: int, n_heads: int, context_length: int, **options):
        super().__init__(d_model, n_heads, context_length, **options)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=self.bias)
        self.out = nn.Linear(d_model, d_model, bias=self.bias)
        self.make_mask()

    def make_mask(self) -> None:
        """Register the mask that ``attend`` needs."""
        self.register_buffer("future_TT", future_mask(self.context_length), persistent=False)

    def mix(self, x_BTD: Tensor) -> Tensor:
        q_BTD, k_BTD, v_BTD = self.qkv(x_BTD).chunk(3, dim=-1)
        y_BHTd = self.attend(*(split_heads(part, self.n_heads) for part in (q_BTD, k_BTD, v_BTD)))
        return self.out(merge_heads(y_BHTd))

    def attend(self, q_BHTd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor) -> Tensor:
        """(B, H, T, d) of each -> (B, H, T, d)."""
        return masked_attention(q_BHTd, k_BHTd, v_BHTd, self.future_TT, self.dropout_now())

    def dropout_now(self) -> float:
        return self.dropout if self.training else 0.0

    def views(self, weights: AttentionWeights) -> list[tuple[nn.Parameter, Tensor]]:
        return [*output_views(self.out, weights), *stacked_views(self.qkv.weight, self.qkv.bias, weights)]


class AdditiveMask(CombinedQKV):
    """The mask as numbers, 0 or -inf, added to the scores by the product itself: ``mask + scale * q k^T``.

    Scaling, masking and the product are one operation (``baddbmm``) where ``masked_attention`` has three.
    """

    def make_mask(self) -> None:
        mask_TT = torch.zeros(self.context_length, self.context_length)
        mask_TT.masked_fill_(future_mask(self.context_length), float("-inf"))
        self.register_buffer("mask_TT", mask_TT, persistent=False)

    def attend(self, q_BHTd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor) -> Tensor:
        B, H, T, d = q_BHTd.shape
        q_NTd, k_NTd, v_NTd = (part.reshape(B * H, T, d) for part in (q_BHTd, k_BHTd, v_BHTd))
        mask_TT = self.mask_TT[:T, :T].to(q_NTd.dtype)
        scores_NTT = torch.baddbmm(mask_TT, q_NTd, k_NTd.transpose(1, 2), alpha=d**-0.5)
        weights_NTT = F.dropout(torch.softmax(scores_NTT, dim=-1), self.dropout_now())
        return (weights_NTT @ v_NTd).view(B, H, T, d)


class EinsumHeads(MultiHead):
    """Every product as an ``einsum`` over named dimensions: no reshape, no transpose, and the formula is the code."""

    def __init__(self, d_model: int, n_heads: int, context_length: int, **options):
        super().__init__(d_model, n_heads, context_length, **options)
        H, d, D = n_heads, self.head_dim, d_model
        self.qkv = nn.Parameter(torch.randn(3, H, d, D) / D**0.5)
        self.qkv_bias = nn.Parameter(torch.zeros(3, H, d)) if self.bias else None
        self.out = nn.Parameter(torch.randn(D, H, d) / D**0.5)
        self.out_bias = nn.Parameter(torch.zeros(D)) if self.bias else None
        self.register_buffer("future_TT", future_mask(context_length), persistent=False)

    def mix(self, x_BTD: Tensor) -> Tensor:
        T = x_BTD.shape[1]
        qkv = torch.einsum("BTD,nHdD->nBHTd", x_BTD, self.qkv)
        if self.bias:
            qkv = qkv + self.qkv_bias[:, None, :, None]
        q_BHTd, k_BHSd, v_BHSd = qkv.unbind(0)
        scores_BHTS = torch.einsum("BHTd,BHSd->BHTS", q_BHTd, k_BHSd) / self.head_dim**0.5
        scores_BHTS = scores_BHTS.masked_fill(self.future_TT[:T, :T], float("-inf"))
        weights_BHTS = F.dropout(torch.softmax(scores_BHTS, dim=-1), self.dropout, self.training)
        y_BHTd = torch.einsum("BHTS,BHSd->BHTd", weights_BHTS, v_BHSd)
        y_BTD = torch.einsum("BHTd,DHd->BTD", y_BHTd, self.out)
        return y_BTD + self.out_bias if self.bias else y_BTD

    def views(self, weights: AttentionWeights) -> list[tuple[nn.Parameter, Tensor]]:
        pairs = [(self.qkv, weights.qkv), (self.out, weights.out.view(self.out.shape))]
        if self.bias:
            pairs += [(self.qkv_bias, weights.qkv_bias), (self.out_bias, weights.out_bias)]
        return pairs


# -- Steps that several members share --------------------------------------------------------------------------------


def split_heads(x_BTD: Tensor, n_heads: int) -> Tensor:
    """(B, T, D) -> (B, H, T, d): the width is cut into heads, which then stand before time."""
    B, T, D = x_BTD.shape
    return x_BTD.view(B, T, n_heads, D // n_heads).transpose(1, 2)


def merge_heads(y_BHTd: Tensor) -> Tensor:
    """(B, H, T, d) -> (B, T, D): the heads side by side again."""
    return y_BHTd.transpose(1, 2).flatten(2)


def masked_attention(q_BHTd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor, future: Tensor, dropout: float) -> Tensor:
    """(B, H, T, d) of each -> (B, H, T, d); ``future`` (at least T, at least T) bool is True where nobody may look."""
    T = q_BHTd.shape[2]
    scores_BHTT = scaled_scores(q_BHTd, k_BHTd).masked_fill(future[:T, :T], float("-inf"))
    return F.dropout(torch.softmax(scores_BHTT, dim=-1), dropout) @ v_BHTd


def output_views(out: nn.Linear, weights: AttentionWeights) -> list[tuple[nn.Parameter, Tensor]]:
    """``views`` of an output projection that is a Linear."""
    return [(out.weight, weights.out)] + ([(out.bias, weights.out_bias)] if out.bias is not None else [])


def stacked_views(
    weight: nn.Parameter, bias: nn.Parameter | None, weights: AttentionWeights
) -> list[tuple[nn.Parameter, Tensor]]:
    """``views`` of an input projection of 3 D rows, in the order q, k, v and head after head."""
    pairs = [(weight, weights.qkv.view(weight.shape))]
    return pairs if bias is None else [*pairs, (bias, weights.qkv_bias.view(bias.shape))]
