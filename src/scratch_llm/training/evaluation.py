"""How good a model is on text that it does not learn from."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from scratch_llm.data import IGNORE, Windows
from scratch_llm.training.gradients import loss_function
from scratch_llm.training.ranks import ALONE, Ranks


@torch.no_grad()
def evaluate(model: nn.Module, windows: Windows, n_batches: int, dtype: torch.dtype,
             token_bytes: np.ndarray | None = None, ranks: Ranks = ALONE) -> dict[str, float]:
    """Held-out loss over the first ``n_batches`` batches, and bits per byte where ``token_bytes`` is given.

    Bits per byte = sum of nats / ln 2 / sum of the targets' bytes: unlike the loss it does not depend on how
    the tokenizer cuts the text.  Special tokens cost nats and have no bytes, so document ends are paid for.
    Several ranks share the batches out.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    compute_loss = loss_function(model, device, dtype, compiled=False)
    bytes_of = None if token_bytes is None else torch.as_tensor(np.asarray(token_bytes, dtype=np.int64))
    nats = n_targets = n_bytes = 0.0
    for number, counts in ranks.deal(range(min(n_batches, windows.n_batches))):
        inputs, targets = windows.batch(number)
        kept = targets[targets != IGNORE] if counts else targets.flatten()[:0]
        if len(kept) == 0:
            if ranks.size == 1:
                continue
            targets = torch.zeros_like(targets)  # the others wait for it; it weighs nothing
        nats += compute_loss(inputs.to(device), targets.to(device)).item() * len(kept)
        n_targets += len(kept)
        n_bytes += 0 if bytes_of is None else bytes_of[kept].sum().item()
    model.train(was_training)
    nats, n_targets, n_bytes = ranks.sum(nats, n_targets, n_bytes)
    result = {"valid_loss": nats / max(1, n_targets)}
    return result | ({"bits_per_byte": nats / math.log(2) / n_bytes} if n_bytes else {})


def call_in_eval_mode(on_eval: Callable[[nn.Module, int], None], model: nn.Module, step: int) -> None:
    """Run the hook without dropout, and without letting it switch the rest of the training off."""
    model.eval()
    with torch.no_grad():
        on_eval(model, step)
    model.train()
