"""The optimiser that a run asks for: one interface (``param_groups``, ``step``, ``zero_grad``, ``state_dict``)."""

from __future__ import annotations

import torch
from torch import nn

from scratch_llm.training.adafactor import Adafactor
from scratch_llm.training.adamw import parameter_groups
from scratch_llm.training.config import TrainingConfig
from scratch_llm.training.muon import Muon, muon_groups
from scratch_llm.training.precision import bfloat16_units


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser named ``config.optimizer`` over the weights of ``model`` that learn.

    The loop sets ``lr`` of every group before each step; weight decay is on matrices only (``parameter_groups``).
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameter_groups(model, config.weight_decay), betas=config.betas, fused=True)
    if config.optimizer == "adafactor":
        return Adafactor(parameter_groups(model, config.weight_decay))
    if config.optimizer == "muon":
        device = next(model.parameters()).device
        dtype = torch.bfloat16 if bfloat16_units(device.type) else torch.float32  # emulated, bfloat16 is slower
        return Muon(muon_groups(model, config.weight_decay), betas=config.betas, dtype=dtype)
    raise ValueError(f"optimizer {config.optimizer!r} is unknown; choose one of adamw, muon, adafactor")
