"""Training that leaves part of the model alone: only what learns is optimised and saved.

A checkpoint of adapters is a thousandth of the model, and useless beside other frozen weights: so a digest of these, and the
adapters' settings, are part of what makes two runs the same run (see ``training.identity``).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def check_learns(model: nn.Module) -> None:
    """ValueError where no weight can change."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "every weight of the model is frozen, so there is nothing to train: inject or activate an adapter, "
            "or call requires_grad_() on what shall learn"
        )


def learnt_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict without frozen weights; all of it where none is frozen.  Buffers are in it but for those of quantised
    layers, which are weights."""
    frozen = _frozen_names(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def load_learnt_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take over what ``learnt_state`` gave; RuntimeError, as from ``load_state_dict``, where names or shapes differ."""
    frozen = {name: tensor for name, tensor in model.state_dict().items() if name not in learnt_state(model)}
    model.load_state_dict({**state, **frozen})


def frozen_identity(model: nn.Module) -> dict[str, str]:
    """A digest of the frozen weights and the settings of adapters; {} where all weights learn."""
    names = _frozen_names(model)
    frozen = {name: tensor for name, tensor in model.state_dict().items() if name in names}
    if not frozen:
        return {}
    digest = hashlib.sha256()
    for name, tensor in sorted(frozen.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return {"frozen weights (SHA-256)": digest.hexdigest(), **_adapter_settings(model)}


def _frozen_names(model: nn.Module) -> set[str]:
    """Parameters that do not learn, and the buffers of modules whose buffers are their weights (``holds_weights``)."""
    names = {name for name, parameter in model.named_parameters(remove_duplicate=False) if not parameter.requires_grad}
    for path, module in model.named_modules():
        if getattr(module, "holds_weights", False):
            names |= {f"{path}.{name}" for name, _ in module.named_buffers()}
    return names


def _adapter_settings(model: nn.Module) -> dict[str, str]:
    """Settings of the adapters at work (``scratch_llm.peft``), which no weight shows."""
    settings: dict[str, str] = {}
    for module in model.modules():
        config = getattr(getattr(module, "adapter", None), "config", None)
        if dataclasses.is_dataclass(config):
            fields = dataclasses.asdict(config)
            settings |= {"adapter": type(config).__name__, **{f"adapter.{name}": str(value) for name, value in fields.items()}}
    return settings
