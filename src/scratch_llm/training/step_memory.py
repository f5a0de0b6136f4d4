"""How much memory a training step will take, told before the first one, and the largest micro-batch that fits.

Weights, gradients and the optimiser's state follow from the shapes.  Activations are measured, not modelled: one forward pass
on one row and one on two, with the kernels and the dtype of the run, while autograd says what it keeps
(``analysis.activations``); what it keeps is a constant and so much a row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from scratch_llm.analysis.activations import Activations, count_activations
from scratch_llm.layers.loss import chunk_rows
from scratch_llm.models.base import LanguageModel
from scratch_llm.training.config import TrainingConfig
from scratch_llm.training.muon import muon_groups

#: ``resident`` is held to the measured growth of a process within this share (test_step_memory.py).
TOLERANCE = 0.15
_SHARE_OF_FREE = 0.9  # other programs want to live, too
# What a process takes beyond its tensors: gaps of malloc, and the libraries' own buffers (measured on two cores).
_GAPS, _LIBRARIES = 1.18, 45 * 2**20


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step on ``rows`` rows at a time."""

    rows: int
    weights: int
    """Parameters and buffers: they are there before the first step."""
    gradients: int
    optimizer: int
    activations: int
    """What the forward pass keeps for the backward pass; with autocast the converted weights too."""
    workspace: int
    """The output layer's logits, in chunks, and what a block's backward pass needs at once."""
    accumulated: bool
    """Whether the gradients of one micro-batch wait for the next."""

    @property
    def peak(self) -> int:
        """The highest moment.  Gradients come while activations go: the two are there together only if gradients of an
        earlier micro-batch wait."""
        passing = self.activations + self.workspace
        moving = self.gradients + passing if self.accumulated else max(passing, self.gradients + self.workspace)
        return self.weights + self.optimizer + moving

    @property
    def resident(self) -> int:
        """What the process, or the GPU's allocator, grows by from before the model is there to the peak."""
        return round(_GAPS * self.peak) + _LIBRARIES

    @property
    def to_come(self) -> int:
        """Of ``resident`` what is not there yet when the model is."""
        return self.resident - self.weights

    def parts(self) -> dict[str, int]:
        """Bytes by part, for people."""
        return {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer,
                "activations": self.activations, "workspace": self.workspace}


class StepMemoryEstimate:
    """The memory of steps of a model, for any micro-batch: measured once, when this is made.

    Args:
        model: as it will be trained, where it lies; with ``gradient_checkpointing`` that is taken into account.
        config: ``optimizer`` and ``batch_size`` are of use here.
        context_length: tokens in a row.
        dtype: in which products are computed, as from ``choose_dtype``.
    """

    def __init__(self, model: LanguageModel, config: TrainingConfig, context_length: int, dtype: torch.dtype):
        self.model, self.config, self.context_length, self.dtype = model, config, context_length, dtype
        learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.checkpointing = model.gradient_checkpointing
        self.weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
        self.gradients = sum(parameter.nbytes for parameter in learnt)
        self.optimizer = optimizer_bytes(model, config.optimizer) + (self.gradients if getattr(config, "ema_decay", None) else 0)
        self._one, self._two = (self._count(rows) for rows in (1, 2))

    def of(self, rows: int) -> StepMemory:
        """The memory of a step that takes ``rows`` rows at once."""
        kept, largest = self._kept(rows)
        return StepMemory(rows, self.weights, self.gradients, self.optimizer, kept, self._workspace(rows, largest),
                          accumulated=rows < self.config.batch_size)

    def largest_that_fits(self, free: int) -> tuple[int, StepMemory]:
        """The largest divisor of the batch whose step fits into ``free`` bytes beside the model, which is there already.

        ValueError where not even one row does.
        """
        for rows in range(self.config.batch_size, 0, -1):
            if self.config.batch_size % rows == 0:
                memory = self.of(rows)
                if memory.to_come <= _SHARE_OF_FREE * free:
                    return rows, memory
        cure = "train a smaller model" if self.checkpointing else "turn on gradient_checkpointing"
        raise ValueError(f"a step on a single row takes {memory.to_come / 2**20:,.0f} MiB beside the model, and "
                         f"{free / 2**20:,.0f} MiB are free: {cure}, take shorter rows, or free some memory")

    def _kept(self, rows: int) -> tuple[int, int]:
        """Bytes that wait for the backward pass, and those of the largest block."""
        def grown(one: int, two: int) -> int:
            return max(0, one + (rows - 1) * (two - one))

        one, two = self._one, self._two
        blocks = [grown(*pair) for pair in zip(one.blocks, two.blocks)]
        outside, largest = grown(one.outside, two.outside), max(blocks, default=0)
        if not self.checkpointing:
            return sum(blocks) + outside, largest
        inputs = sum(grown(*pair) for pair in zip(one.block_inputs, two.block_inputs))
        return inputs + outside + largest, largest

    def _workspace(self, rows: int, largest_block: int) -> int:
        """Logits, their logarithms, their exponentials and the gradient of a chunk, and the output matrix converted with
        its gradient; or half a block's activations once more, as gradients on their way: whichever is more."""
        head, n_rows = self.model.head_weight, rows * self.context_length
        size = self.dtype.itemsize
        chunk = min(n_rows, chunk_rows(head.device.type, len(head))) * len(head) * (8 + size)
        if self.model.logit_softcap is not None:
            chunk = n_rows * len(head) * (8 + size)
        return max(chunk + 2 * head.numel() * size, largest_block // 2)

    def _count(self, rows: int) -> Activations:
        model, device = self.model, self.model.device
        rows_before = [(buffer, buffer.clone()) for buffer in model.buffers()]
        with _without_checkpointing(model), torch.random.fork_rng(), \
                torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            counted = count_activations(model, rows, self.context_length)
        with torch.no_grad():  # routers count their visitors
            for buffer, before in rows_before:
                buffer.copy_(before)
        return counted


def optimizer_bytes(model: nn.Module, optimizer: str = "adamw") -> int:
    """Bytes of the optimiser's state: AdamW keeps two numbers for each weight that learns, Muon one for each of a hidden
    matrix, Adafactor one for each row and column."""
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if optimizer == "adafactor":
        return sum(parameter.element_size() * (parameter.numel() if parameter.dim() < 2 else
                                               parameter.numel() // parameter.shape[-1] + parameter.numel() // parameter.shape[-2])
                   for parameter in learnt)
    hidden = 0
    if optimizer == "muon":
        hidden = sum(parameter.nbytes for group in muon_groups(model, 0.0) if group["muon"] for parameter in group["params"])
    return 2 * sum(parameter.nbytes for parameter in learnt) - hidden


@contextlib.contextmanager
def _without_checkpointing(model: LanguageModel) -> Iterator[None]:
    """Blocks show what they keep; the formula of ``Activations`` then says what checkpointing leaves."""
    before, model.gradient_checkpointing = model.gradient_checkpointing, False
    try:
        yield
    finally:
        model.gradient_checkpointing = before
