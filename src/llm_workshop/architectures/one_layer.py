"""A language model of a single attention layer, small enough to be trained while one looks on, and where its heads look."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.data import Windows
from scratch_llm.layers import RMSNorm
from scratch_llm.layers.multi_head import StackedHeads, copy_weights
from scratch_llm.layers.multi_head_kernels import SDPACausal

FIRST_SEEN = 16
"""``describe_heads`` leaves out the positions before it: they have little to look at."""


class OneLayer(nn.Module):
    """Embedding, one attention layer, and an output that shares the embedding; starts from ``vectors`` (V, D)."""

    def __init__(self, vectors: Tensor, n_heads: int, context_length: int):
        super().__init__()
        width = vectors.shape[1]
        # A tenth of variance-1 vectors: logits of a shared output would be far too large with the whole.
        self.embedding = nn.Embedding.from_pretrained(0.1 * vectors, freeze=False)
        self.register_buffer("positions_TD", 0.1 * sinusoids(context_length, width))
        self.attention = SDPACausal(width, n_heads, context_length)
        self.norm, self.final_norm = RMSNorm(width), RMSNorm(width)

    def embed(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) -> (B, T, D), with the positions added."""
        return self.embedding(tokens_BT) + self.positions_TD[: tokens_BT.shape[1]]

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) -> logits (B, T, V)."""
        x_BTD = self.embed(tokens_BT)
        return F.linear(self.final_norm(x_BTD + self.attention(self.norm(x_BTD))), self.embedding.weight)


def sinusoids(n_positions: int, width: int) -> Tensor:
    """Sines and cosines of many frequencies, of variance 1: (T, D).  Source: Vaswani et al. 2017, section 3.5."""
    frequencies = 100.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(n_positions)[:, None] * frequencies
    return math.sqrt(2) * torch.cat((angles.sin(), angles.cos()), dim=1)


def fit(model: OneLayer, windows: Windows, steps: int) -> list[float]:
    """Train in place with AdamW, a warm-up of 20 steps and a linear decay; the loss of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 20) * (1 - step / steps) + 0.02)
    losses = []
    for step in range(steps):
        inputs, targets = windows.batch(step)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def head_weights(model: OneLayer, tokens_BT: Tensor) -> list[Tensor]:
    """Each head's weights (B, T, T).  A fast kernel leaves none behind, so its matrices are copied into a readable layer."""
    fast = model.attention
    readable = StackedHeads(fast.d_model, fast.n_heads, fast.context_length)
    copy_weights(fast, readable)
    normed_BTD = model.norm(model.embed(tokens_BT))
    return [head.weights(normed_BTD) for head in readable.heads]


def describe_heads(model: OneLayer, tokens_BT: Tensor) -> list[dict[str, float]]:
    """Where each head looks, in the mean: the weight of the token itself and of the one before it, the distance, and to
    how many tokens its weights amount (the exponential of their entropy)."""
    place = torch.arange(tokens_BT.shape[1])
    distance_TT = (place[:, None] - place).clamp(min=0)
    rows = []
    for number, w_BTT in enumerate(head_weights(model, tokens_BT), 1):
        late = w_BTT[:, FIRST_SEEN:]
        entropy = -(late * late.clamp(min=1e-12).log()).sum(-1).mean()
        rows.append({
            "머리": number,
            "자기 자신": w_BTT.diagonal(0, 1, 2)[:, FIRST_SEEN:].mean().item(),
            "바로 앞": w_BTT.diagonal(-1, 1, 2)[:, FIRST_SEEN - 1 :].mean().item(),
            "평균 거리": (late * distance_TT[FIRST_SEEN:]).sum(-1).mean().item(),
            "실질 개수": entropy.exp().item(),
        })
    return rows
