"""The loss of a batch and its gradient, in as many pieces as fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from scratch_llm.data import IGNORE
from scratch_llm.training.config import TrainingConfig
from scratch_llm.training.ranks import ALONE, Ranks


def loss_function(model: nn.Module, device: torch.device, dtype: torch.dtype, compiled: bool) -> Callable[..., Tensor]:
    """``(inputs, targets) -> loss``, its products in ``dtype``, as one compiled graph or as written."""

    def compute_loss(inputs: Tensor, targets: Tensor) -> Tensor:
        # Weights and optimiser state stay float32: small updates would vanish in bfloat16's 8 bits.
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            return model(inputs, targets=targets)

    return torch.compile(compute_loss) if compiled else compute_loss


def gradients(compute_loss: Callable[..., Tensor], model: nn.Module, batch: tuple[Tensor, Tensor],
              config: TrainingConfig, ranks: Ranks = ALONE) -> tuple[float, float]:
    """Put the batch's clipped gradient into ``.grad``; return its mean loss and the norm before clipping.

    A micro-batch's mean weighs as much as it has targets, so that the sum is the mean over the whole batch
    (equal weights would be wrong where padding is masked).  All ranks know the whole batch and compute their rows of it.
    """
    device = next(model.parameters()).device
    n_targets = (batch[1] != IGNORE).sum().clamp(min=1).to(device)
    inputs, targets = (ranks.rows(part).to(device, non_blocking=True) for part in batch)
    total = torch.zeros((), device=device)
    micro_batches = list(zip(inputs.split(config.micro_batch_size), targets.split(config.micro_batch_size)))
    for number, (micro_inputs, micro_targets) in enumerate(micro_batches, 1):
        share = (micro_targets != IGNORE).sum() / n_targets
        if len(micro_batches) * ranks.size > 1 and share == 0:  # a mean over no target is nan
            if ranks.size == 1:
                continue
            micro_targets = torch.zeros_like(micro_targets)  # the others wait for it; it weighs nothing
        with ranks.sync_gradients(model, now=number == len(micro_batches)):
            loss = compute_loss(micro_inputs, micro_targets) * share
            (loss * ranks.size).backward()  # what ranks do with gradients is to average them
        total += loss.detach()
    norm = ranks.clip_gradients(model, config.grad_clip)
    return ranks.sum(total.item())[0], norm
