"""In-context learning in its smallest form: a model of one or two layers learns to copy what it has heard before.

Rows say random tokens twice, at a distance that differs from batch to batch.  The first half cannot be predicted; the
second can, by a model that finds where its present token stood before and looks at what came after it.  That takes two
attention layers, one that tells each token what stood before it and one that looks for it (Olsson et al. 2022,
"In-context Learning and Induction Heads"); a single layer finds the place only when it is always equally far away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from scratch_llm.models import LlamaConfig, build_model

VOCAB, LENGTHS, ROWS = 64, (8, 24), 32


@dataclass(frozen=True)
class Learning:
    """Losses (nats) of each step: of tokens heard for the first time, and of those heard before."""

    n_layers: int
    first: list[float]
    again: list[float]


def learn_to_copy(n_layers: int, steps: int, seed: int = 0) -> Learning:
    """Train a Llama of width 64 on repetitions; takes a few seconds."""
    config = LlamaConfig(
        vocab_size=VOCAB, context_length=2 * LENGTHS[1], n_layers=n_layers, n_heads=2, n_kv_heads=2, d_model=64, d_ff=128,
        tie_embeddings=False,
    )  # fmt: skip
    model, generator = build_model(config, seed=seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.0)
    learning = Learning(n_layers, [], [])
    with one_thread():
        for _ in range(steps):
            rows = repetitions(generator)
            first, again = repetition_losses(model(rows), rows)
            again.mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            learning.first.append(first.mean().item())
            learning.again.append(again.mean().item())
    return learning


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Products this small take longer to hand out to threads than to compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def repetitions(generator: torch.Generator) -> torch.Tensor:
    """(ROWS, 2 T) random tokens said twice, T drawn anew."""
    length = int(torch.randint(LENGTHS[0], LENGTHS[1] + 1, (1,), generator=generator))
    once = torch.randint(VOCAB, (ROWS, length), generator=generator)
    return torch.cat([once, once], dim=1)


def repetition_losses(logits: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of the tokens of the first saying and of the second, without the second's first, where the repetition is
    not yet to be seen.  ``logits`` (B, 2 T, V), ``rows`` (B, 2 T)."""
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), rows[:, 1:], reduction="none")
    length = rows.shape[1] // 2
    return losses[:, : length - 1], losses[:, length:]
