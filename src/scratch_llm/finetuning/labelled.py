"""Batches of labelled texts, short ones with short ones, so that little is padding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scratch_llm.finetuning.classification import PAD

PADDINGS = ("grouped", "longest", "fixed")
GROUP = 50
"""Batches among which texts are sorted by length: enough to bring like to like, few enough to stay random."""


class LabelledTexts:
    """Windows for ``train``: ``batch(step)`` is a pure function of the step, each text comes once an epoch.

    Attributes:
        batch_size: texts per batch (the last of an epoch may have fewer).
        context_length: the longest row, in tokens.
        n_batches: batches per epoch.
        n_cut: texts that were cut to ``max_length``.
        mean_tokens: tokens per batch, padding included: what the model computes.
        sha256: digest of texts and labels, in the order given.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], labels: Sequence[int], batch_size: int, *, n_classes: int,
                 max_length: int | None = None, padding: str = "grouped", seed: int = 0, shuffle: bool = True):
        """
        Args:
            sequences: token ids of each text, at least one.
            labels: the class of each, 0 to n_classes - 1.
            max_length: longer texts lose their end; None: none is cut.
            padding: "grouped": rows as long as the batch's longest, texts of like length together; "longest": as long as the
                batch's longest; "fixed": all as long as the longest of all.
            seed: of the order.
            shuffle: another order each epoch; False: always by rising length ("grouped") or as given.

        Raises:
            ValueError: no texts, as many labels as texts are not there, an empty text, a label out of range.
        """
        if len(sequences) == 0 or len(sequences) != len(labels):
            raise ValueError(f"{len(sequences)} texts and {len(labels)} labels: give as many labels as texts, at least one")
        if padding not in PADDINGS:
            raise ValueError(f"padding {padding!r} is unknown; choose one of {', '.join(PADDINGS)}")
        if batch_size < 1 or (max_length is not None and max_length < 1):
            raise ValueError(f"batch_size {batch_size} and max_length {max_length} must be at least 1")
        labels = np.asarray(labels, dtype=np.int64)
        if (wrong := np.flatnonzero((labels < 0) | (labels >= n_classes))).size:
            raise ValueError(f"text {wrong[0]} has class {labels[wrong[0]]}, which is not one of 0..{n_classes - 1}")
        if (empty := [i for i, sequence in enumerate(sequences) if len(sequence) == 0]):
            raise ValueError(f"text {empty[0]} has no token: leave empty texts out, or begin each with a start token")
        self._rows = [np.asarray(sequence[:max_length], dtype=np.int64) for sequence in sequences]
        if (bad := [i for i, row in enumerate(self._rows) if row.min() < 0]):
            raise ValueError(f"text {bad[0]} has a token id below 0: tokens only, batches are padded here")
        self.n_cut = sum(len(sequence) > len(row) for sequence, row in zip(sequences, self._rows))
        self.labels, self.lengths = labels, np.array([len(row) for row in self._rows])
        self.batch_size, self.n_classes, self.padding, self.seed, self.shuffle = batch_size, n_classes, padding, seed, shuffle
        self.context_length = int(self.lengths.max())
        self.n_batches = -(-len(labels) // batch_size)
        self.sha256 = self._digest()
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])
        self.mean_tokens = sum(len(rows) * self._width(rows) for rows in self.rows_of_epoch(0)) / self.n_batches

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def packing(self) -> str:
        """How rows are filled, part of what makes a run (see ``training.identity``)."""
        return f"{self.padding}, {'shuffled' if self.shuffle else 'in order'}"

    @property
    def padding_share(self) -> float:
        """Share of the computed tokens that are padding."""
        return 1 - float(self.lengths.sum()) / (self.mean_tokens * self.n_batches)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs int64 (B, T), ``PAD`` behind each text, and classes int64 (B,)."""
        rows = self.rows_of_epoch(step // self.n_batches)[step % self.n_batches]
        inputs = np.full((len(rows), self._width(rows)), PAD, dtype=np.int64)
        for at, row in enumerate(rows):
            inputs[at, : self.lengths[row]] = self._rows[row]
        return torch.from_numpy(inputs), torch.from_numpy(self.labels[rows])

    def rows_of_epoch(self, epoch: int) -> list[np.ndarray]:
        """Which texts each batch of an epoch holds."""
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._order(epoch if self.shuffle else 0))
        return self._epoch[1]

    def _order(self, epoch: int) -> list[np.ndarray]:
        n, size = len(self.labels), self.batch_size
        random = np.random.default_rng([self.seed & (2**64 - 1), epoch])
        order = random.permutation(n) if self.shuffle else np.arange(n)
        if self.padding == "grouped":
            group = size * GROUP if self.shuffle else n
            parts = [order[i : i + group] for i in range(0, n, group)]
            order = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in parts])
        batches = [order[i : i + size] for i in range(0, n, size)]
        # Else an epoch would begin each group with its shortest texts.
        return [batches[i] for i in random.permutation(len(batches))] if self.shuffle else batches

    def _width(self, rows: np.ndarray) -> int:
        return self.context_length if self.padding == "fixed" else int(self.lengths[rows].max())

    def _digest(self) -> str:
        digest = hashlib.sha256(self.labels.tobytes() + self.lengths.tobytes())
        for row in self._rows:
            digest.update(row.tobytes())
        return digest.hexdigest()
