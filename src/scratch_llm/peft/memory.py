"""What a training step holds in memory, by what it is for: where each method saves, and where none does.

    training_memory(model)                   weights, gradients and optimiser, from the tensors as they are
    training_memory(model, tokens, targets)  and the activations of a step on that batch

A model on the meta device has shapes and no memory, so that eight billion weights are counted in a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scratch_llm.analysis.activations import count_activations, saved_bytes
from scratch_llm.models.base import LanguageModel
from scratch_llm.peft.inject import trainable_parameters


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a step of AdamW holds."""

    frozen: int
    """Weights that are not trained."""
    trained: int
    """Weights that are."""
    gradients: int
    optimizer: int
    """Two averages for each trained weight."""
    activations: int = 0
    """What forward keeps for backward; 0 where no batch was given."""

    @property
    def total(self) -> int:
        """All of it: a bound that a step reaches but for the gradients, which come while activations go."""
        return self.frozen + self.trained + self.gradients + self.optimizer + self.activations


def training_memory(model: nn.Module, inputs: Tensor | None = None, targets: Tensor | None = None) -> TrainingMemory:
    """Counted from the tensors as they are; shared ones once, tables that follow from the configuration too.

    Args:
        model: called as ``model(inputs, targets=targets)``, returns the loss.
        inputs, targets: a batch, to count activations with the kernels (and the autocast) at work; None: without them.  Of a
            language model on the meta device the count is with the fused kernels of a GPU (see ``count_activations``).
    """
    learnt = {_address(parameter) for parameter in trainable_parameters(model).values()}
    tensors = {_address(tensor): tensor.nbytes for tensor in (*model.parameters(), *model.buffers()) if tensor.numel()}
    own = sum(n_bytes for address, n_bytes in tensors.items() if address in learnt)
    kept = 0 if inputs is None else _activations(model, inputs, targets)
    return TrainingMemory(sum(tensors.values()) - own, own, own, 2 * own, kept)


def _address(tensor: Tensor) -> int:
    """The same for tensors that share their numbers (tied weights); on the meta device no pointer would tell."""
    return tensor.untyped_storage()._cdata if tensor.is_meta else tensor.data_ptr()


def _activations(model: nn.Module, inputs: Tensor, targets: Tensor | None) -> int:
    if isinstance(model, LanguageModel) and inputs.is_meta:
        return count_activations(model, *inputs.shape).total
    was_training = model.training
    try:
        return saved_bytes(_Loss(model.train(), targets), inputs)
    finally:
        model.train(was_training)


class _Loss(nn.Module):
    """The model with its targets: a module of one input."""

    def __init__(self, model: nn.Module, targets: Tensor | None):
        super().__init__()
        self.model, self.targets = model, targets

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.enable_grad():
            return self.model(inputs, targets=self.targets)
