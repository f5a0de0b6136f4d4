"""Our training windows as NeMo AutoModel reads them; imported there, by the Python of ``.envs/nemo``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from scratch_llm.data import TokenFile, Windows


class TrainingWindows(Dataset):
    """The rows of ``scratch_llm.data.Windows``, one after the other: row i is row ``i % batch_size`` of step ``i // batch_size``.

    So a loader that does not shuffle sees what our training loop sees, in the same order; with several processes the
    rows of a step are dealt out, and the step's gradient is the same sum.

    Args:
        path: a token file, with or without ``.bin``.
        batch_size: rows of an optimiser step.
        steps: optimiser steps; the data set ends there.
        first_step: the step that comes first.

    Items: ``input_ids`` and ``labels``, int64 (context_length,).  Labels are shifted already, and -100 where nothing is
    to be predicted.
    """

    def __init__(self, path: str, context_length: int, batch_size: int, steps: int, seed: int = 0, packing: str = "stream",
                 first_step: int = 0):  # fmt: skip
        self.windows = Windows(TokenFile(Path(path)), context_length, batch_size, seed=seed, packing=packing)
        self.steps, self.first_step = steps, first_step
        self._step, self._batch = -1, None

    def __len__(self) -> int:
        return self.steps * self.windows.batch_size

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        step, row = divmod(index, self.windows.batch_size)
        if step != self._step:
            self._step, self._batch = step, self.windows.batch(self.first_step + step)
        inputs, labels = self._batch
        return {"input_ids": inputs[row], "labels": labels[row]}


def stack(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Rows of equal length as a batch (B, T).  Nothing is padded, so no attention mask is needed."""
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}
