"""The loss of a batch and its gradient, in as many pieces as fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from scratch_llm.data import IGNORE
from scratch_llm.training.config import TrainingConfig


def loss_function(model: nn.Module, device: torch.device, dtype: torch.dtype, compiled: bool) -> Callable[..., Tensor]:
    """``(inputs, targets) -> loss``, its products in ``dtype``, as one compiled graph or as written."""

    def compute_loss(inputs: Tensor, targets: Tensor) -> Tensor:
        # Weights and optimiser state stay float32: small updates would vanish in bfloat16's 8 bits.
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            return model(inputs, targets=targets)

    return torch.compile(compute_loss) if compiled else compute_loss


def gradients(compute_loss: Callable[..., Tensor], model: nn.Module, batch: tuple[Tensor, Tensor],
              config: TrainingConfig) -> tuple[float, float]:
    """Put the batch's clipped gradient into ``.grad``; return its mean loss and the norm before clipping.

    A micro-batch's mean weighs as much as it has targets, so that the sum is the mean over the whole batch
    (equal weights would be wrong where padding is masked).
    """
    device = next(model.parameters()).device
    inputs, targets = (part.to(device, non_blocking=True) for part in batch)
    n_targets = (targets != IGNORE).sum().clamp(min=1)
    total = torch.zeros((), device=device)
    for micro_inputs, micro_targets in zip(inputs.split(config.micro_batch_size), targets.split(config.micro_batch_size)):
        share = (micro_targets != IGNORE).sum() / n_targets
        if config.micro_batch_size < config.batch_size and share == 0:
            continue  # nothing to learn in it, and a mean over no target is nan
        loss = compute_loss(micro_inputs, micro_targets) * share
        loss.backward()
        total += loss.detach()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
    return total.item(), norm.item()
