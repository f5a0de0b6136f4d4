"""Self-attention with one head, built up step by step for reading; ``multi_head`` goes on from here.

    attention_without_weights   scores are dot products of the tokens themselves
    ParameterSelfAttention      trainable projections to queries, keys and values, as bare matrices
    LinearSelfAttention         the same with ``nn.Linear``
    CausalSelfAttention         no look at what is to come, dropout, and a mask that is a buffer

All take (B, T, D), or (T, D) for a single text.  Source: Vaswani et al. 2017, sections 3.2.1 and 3.2.3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attention_without_weights(x_BTD: Tensor) -> tuple[Tensor, Tensor]:
    """Mix every token with those that resemble it: (B, T, D) -> contexts (B, T, D), weights (B, T, T).

    Three steps: a score for each pair of tokens, their dot product; softmax, so that the weights of a row are positive
    and sum to 1; and the mean of all tokens under these weights.  Nothing is trainable here.
    """
    scores_BTT = x_BTD @ x_BTD.transpose(-1, -2)
    weights_BTT = torch.softmax(scores_BTT, dim=-1)
    return weights_BTT @ x_BTD, weights_BTT


def scaled_scores(q_BTd: Tensor, k_BSd: Tensor) -> Tensor:
    """``q k^T / sqrt(d)``: (B, T, d), (B, S, d) -> (B, T, S).

    A sum of d products of independent numbers of variance 1 has variance d.  Without the division the scores of a wide
    head would lie so far apart that softmax picks one key and its gradient vanishes (section 3.2.1, footnote 4).
    """
    return q_BTd @ k_BSd.transpose(-1, -2) / k_BSd.shape[-1] ** 0.5


class ParameterSelfAttention(nn.Module):
    """``softmax(q k^T / sqrt(d)) v`` with ``q = x W_q``, ``k = x W_k``, ``v = x W_v`` and bare matrices W of (D, d)."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        # Variance 1 / D, so that the entries of q, k and v have the variance of those of x.
        self.W_query = nn.Parameter(torch.randn(d_in, d_out) / d_in**0.5)
        self.W_key = nn.Parameter(torch.randn(d_in, d_out) / d_in**0.5)
        self.W_value = nn.Parameter(torch.randn(d_in, d_out) / d_in**0.5)

    def weights(self, x_BTD: Tensor) -> Tensor:
        """How much each token (row) takes from each (column): (B, T, D) -> (B, T, T)."""
        return torch.softmax(scaled_scores(x_BTD @ self.W_query, x_BTD @ self.W_key), dim=-1)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, d)."""
        return self.weights(x_BTD) @ (x_BTD @ self.W_value)


class LinearSelfAttention(nn.Module):
    """``ParameterSelfAttention`` with ``nn.Linear``, which initialises itself and may have a bias.

    ``nn.Linear`` keeps its weight as (d, D), rows are outputs: the transpose of the bare matrix.
    """

    def __init__(self, d_in: int, d_out: int, *, bias: bool = False):
        super().__init__()
        self.query = nn.Linear(d_in, d_out, bias=bias)
        self.key = nn.Linear(d_in, d_out, bias=bias)
        self.value = nn.Linear(d_in, d_out, bias=bias)

    def weights(self, x_BTD: Tensor) -> Tensor:
        """How much each token (row) takes from each (column): (B, T, D) -> (B, T, T)."""
        return torch.softmax(scaled_scores(self.query(x_BTD), self.key(x_BTD)), dim=-1)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, d)."""
        return self.weights(x_BTD) @ self.value(x_BTD)


def future_mask(n_tokens: int, device: torch.device | None = None) -> Tensor:
    """(T, T) bool, True above the diagonal: where the key (column) comes after the query (row)."""
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=device).triu(1)


def causal_weights_by_multiplication(scores_BTT: Tensor) -> Tensor:
    """Softmax over everything, then the future times 0, then rows that sum to 1 again: (B, T, T) -> (B, T, T).

    Right on paper: the softmax's denominator, in which the future had its share, cancels.  In floating point it may not
    be: where a future score is far larger, the weights of the past have underflowed to 0, and the row is 0 / 0 = NaN.
    """
    weights_BTT = torch.softmax(scores_BTT, dim=-1)
    past_BTT = weights_BTT * ~future_mask(scores_BTT.shape[-1], scores_BTT.device)
    return past_BTT / past_BTT.sum(dim=-1, keepdim=True)


def causal_weights_by_infinity(scores_BTT: Tensor) -> Tensor:
    """Future scores become -inf before softmax, whose exp(-inf) is exactly 0: (B, T, T) -> (B, T, T).

    One pass, nothing to normalise twice, and the largest score that softmax subtracts is one of the past, so that no
    row can underflow.
    """
    future_TT = future_mask(scores_BTT.shape[-1], scores_BTT.device)
    return torch.softmax(scores_BTT.masked_fill(future_TT, float("-inf")), dim=-1)


class CausalSelfAttention(LinearSelfAttention):
    """One head of a GPT: each token looks at itself and what came before, and some weights are dropped in training.

    Dropout sets each weight to 0 with probability p and multiplies the others by 1 / (1 - p), so that the mean of what is
    read stays the same; in ``eval()`` it does nothing.

    The mask is a buffer: a tensor that belongs to the module but is not trained.  As a parameter the optimiser would
    change it; as a plain attribute ``to("cuda")`` would leave it on the CPU, and the next forward pass would fail.
    ``persistent=False`` keeps it out of ``state_dict``: it follows from ``context_length`` and need not be saved.
    """

    def __init__(self, d_in: int, d_out: int, context_length: int, *, dropout: float = 0.0, bias: bool = False):
        super().__init__(d_in, d_out, bias=bias)
        self.dropout = dropout
        self.register_buffer("future_TT", future_mask(context_length), persistent=False)

    def weights(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, T), rows that sum to 1 (before dropout) and are 0 above the diagonal.

        ValueError if the text is longer than ``context_length``.
        """
        T, longest = x_BTD.shape[-2], len(self.future_TT)
        if T > longest:
            raise ValueError(f"{T} tokens are more than context_length {longest}: shorten the text or make it longer")
        scores_BTT = scaled_scores(self.query(x_BTD), self.key(x_BTD))
        scores_BTT = scores_BTT.masked_fill(self.future_TT[:T, :T], float("-inf"))
        return F.dropout(torch.softmax(scores_BTT, dim=-1), self.dropout, self.training)
