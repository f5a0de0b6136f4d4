"""Instruction tuning: a pretrained model learns to answer (Wei et al. 2022, FLAN; Ouyang et al. 2022, InstructGPT, section 3.5).

It is next-token prediction as before, on rows that hold a question and an answer; what is new is which targets count
(those of the answer) and how short texts of many lengths fill a batch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from scratch_llm.data import IGNORE
from scratch_llm.data.windows import best_fit, permuted
from scratch_llm.finetuning.templates import Example, flat, shorten, turns_of
from scratch_llm.models.base import LanguageModel
from scratch_llm.tokenizers import Tokenizer

LAYOUTS = ("packed", "grouped", "padded")
LEARN = ("answers", "all")
ROUND = 16
"""Widths of grouped batches are multiples of it, so that few shapes occur."""


@dataclass(frozen=True)
class Row:
    """One example as tokens: ``ids`` int32 (n,), and which of them the model is to learn to write, bool (n,)."""

    ids: np.ndarray
    learn: np.ndarray
    example: Example


@dataclass
class Preparation:
    """What became of the examples."""

    given: int = 0
    kept: int = 0
    shortened: int = 0
    """Kept, but the prompt lost turns or the middle of a text; the answer never does."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> examples."""

    def __str__(self) -> str:
        lost = "".join(f", {number:,} dropped: {reason}" for reason, number in sorted(self.dropped.items()))
        return f"{self.kept:,} of {self.given:,} examples, {self.shortened:,} with a shortened prompt{lost}"


def prepare(
    examples: Iterable[Example], tokenizer: Tokenizer, context_length: int, *, template: str = "chat", learn: str = "answers"
) -> tuple[list[Row], Preparation]:
    """Examples as rows of at most ``context_length`` + 1 tokens (the last is only a target).

    Args:
        template: see ``scratch_llm.finetuning.templates``.
        learn: "answers": the prompt is masked.  "all": every token is a target, as in pretraining.

    Raises:
        ValueError: an unknown template or ``learn``, or not one example that can be learnt from; the message counts why.
    """
    if learn not in LEARN:
        raise ValueError(f"learn {learn!r} is unknown; choose one of {', '.join(LEARN)}")
    rows, count = [], Preparation()
    for example in examples:
        count.given += 1
        if not any(message.get("role") == "assistant" for message in example.messages):
            count.dropped["no turn of the assistant"] += 1
            continue
        if not any(message["role"] == "assistant" and message["content"].strip() for message in example.messages):
            count.dropped["empty answer"] += 1
            continue
        fitting, shortened = shorten(turns_of(example, tokenizer, template), context_length + 1, tokenizer)
        ids, is_answer = flat(fitting)
        if len(ids) > context_length + 1:
            count.dropped[f"answer longer than the context of {context_length}"] += 1
            continue
        rows.append(Row(ids, is_answer if learn == "answers" else np.ones_like(is_answer), example))
        count.kept += 1
        count.shortened += shortened
    if not rows:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in count.dropped.items()) or "none was given"
        raise ValueError(f"no example is left to learn from ({reasons}): give questions with answers, or a longer context")
    return rows, count


class InstructionWindows:
    """Windows for ``train`` over rows from ``prepare``: ``batch(step)`` is a pure function of the step.

    layout="packed": several examples side by side in rows of ``context_length``, which attention keeps apart
    (``PackedTexts`` takes these batches); "grouped": one example a row, those of like length together and rows as long as
    the batch's longest; "padded": one example a row of ``context_length``.  Each example comes once an epoch.

    Attributes:
        n_batches: batches per epoch, rounded up: the last one is filled from the next epoch.
        fill: share of the computed positions that hold a token.
        learnt: share of these whose target is learnt.
        sha256: digest of the rows, part of what makes a run.
    """

    def __init__(self, rows: Sequence[Row], context_length: int, batch_size: int, *, seed: int = 0, layout: str = "packed",
                 pad_id: int = 0):
        if layout not in LAYOUTS:
            raise ValueError(f"layout {layout!r} is unknown; choose one of {', '.join(LAYOUTS)}")
        for name, value in (("context_length", context_length), ("batch_size", batch_size), ("rows", len(rows))):
            if value < 1:
                raise ValueError(f"{name} {value} must be at least 1")
        lengths = np.array([len(row.ids) - 1 for row in rows])
        if lengths.max() > context_length:
            raise ValueError(f"row {lengths.argmax()} has {lengths.max() + 1} tokens, more than context_length + 1 = "
                             f"{context_length + 1}: prepare the examples for this length")
        if not any(row.learn[1:].any() for row in rows):
            raise ValueError("every target is masked: there is nothing to learn in these rows")
        self.context_length, self.batch_size, self.seed, self.layout, self.pad_id = context_length, batch_size, seed, layout, pad_id
        self._rows, self._lengths = list(rows), lengths
        self._windows = self._pack() if layout == "packed" else [[index] for index in range(len(rows))]
        self._epoch: tuple[int, list[list[int]]] = (-1, [])
        self.sha256 = hashlib.sha256(b"".join(row.ids.tobytes() + row.learn.tobytes() for row in rows)).hexdigest()

    @property
    def n_batches(self) -> int:
        return -(-len(self._windows) // self.batch_size)

    @property
    def packing(self) -> str:
        """How rows are filled (see ``training.identity``)."""
        return self.layout

    @property
    def fill(self) -> float:
        if self.layout != "grouped":
            return float(self._lengths.sum()) / (len(self._windows) * self.context_length)
        batches = self._grouped_order(0)
        return float(self._lengths.sum()) / sum(len(batch) * self._width(batch) for batch in batches)

    @property
    def learnt(self) -> float:
        return sum(int(row.learn[1:].sum()) for row in self._rows) / float(self._lengths.sum())

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, int64.

        Inputs are (B, T), or, packed, (B, 2, T): tokens and the number of the example that each belongs to, 0 for
        padding.  Targets are (B, T), -100 where nothing is learnt.
        """
        if step < 0:
            raise ValueError(f"step {step} must be at least 0")
        windows = self._windows_of(step)
        width = self._width(windows)
        inputs = np.full((len(windows), width), self.pad_id, dtype=np.int64)
        targets, numbers = np.full_like(inputs, IGNORE), np.zeros_like(inputs)
        for place, window in enumerate(windows):
            at = 0
            for number, index in enumerate(self._windows[window], 1):
                row, end = self._rows[index], at + self._lengths[index]
                inputs[place, at:end] = row.ids[:-1]
                targets[place, at:end] = np.where(row.learn[1:], row.ids[1:], IGNORE)
                numbers[place, at:end] = number
                at = end
        if self.layout == "packed":
            inputs = np.stack((inputs, numbers), axis=1)
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def rows_of(self, step: int) -> list[list[Row]]:
        """The examples of batch ``step``: those of each of its rows, side by side."""
        return [[self._rows[index] for index in self._windows[window]] for window in self._windows_of(step)]

    def _windows_of(self, step: int) -> list[int]:
        """Which windows batch ``step`` holds."""
        if self.layout != "grouped":
            epochs, places = np.divmod(step * self.batch_size + np.arange(self.batch_size), len(self._windows))
            n = len(self._windows)
            return [int(permuted(np.array([place]), n, (self.seed, int(epoch)))[0]) for epoch, place in zip(epochs, places)]
        epoch, number = divmod(step, self.n_batches)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._grouped_order(epoch))
        return self._epoch[1][number]

    def _grouped_order(self, epoch: int) -> list[list[int]]:
        """Batches of like lengths, in random order; the longest texts may fill only a part of one."""
        random = np.random.default_rng([self.seed & (2**64 - 1), epoch])
        # The noise brings others together in each epoch, at the price of less than ROUND tokens of padding.
        order = np.argsort(self._lengths + random.random(len(self._lengths)) * ROUND).tolist()
        batches = [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]
        return [batches[number] for number in random.permutation(len(batches))]

    def _width(self, windows: Sequence[int]) -> int:
        if self.layout != "grouped":
            return self.context_length
        longest = max(int(self._lengths[window]) for window in windows)
        return min(self.context_length, -(-longest // ROUND) * ROUND)

    def _pack(self) -> list[list[int]]:
        """Examples of each window, best-fit decreasing, in random order inside."""
        shuffled = np.random.default_rng([self.seed & (2**64 - 1), 1]).permutation(len(self._lengths))
        by_length = shuffled[np.argsort(-self._lengths[shuffled], kind="stable")]
        row_of = best_fit(self._lengths[by_length], self.context_length)
        windows: list[list[int]] = [[] for _ in range(int(row_of.max()) + 1)]
        for index, row in zip(by_length.tolist(), row_of.tolist()):
            windows[row].append(index)
        return windows


class PackedTexts(nn.Module):
    """A language model that takes the batches of packed windows; trained by ``train`` in its place, ``model`` is what learns."""

    def __init__(self, model: LanguageModel):
        super().__init__()
        if model.recurrent or not model.packs_texts:
            raise ValueError(f"{type(model).__name__} cannot keep packed texts apart: use layout=grouped")
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor | None = None) -> Tensor:
        """``inputs`` (B, 2, T) tokens and the text that each belongs to, or plain tokens (B, T)."""
        if inputs.dim() == 2:
            return self.model(inputs, targets=targets)
        return self.model(inputs[:, 0], padding_mask=inputs[:, 1], targets=targets)

    # -- what the training loop asks of a model -----------------------------------------------------------------------

    @property
    def config(self):
        return self.model.config

    @property
    def no_decay(self) -> tuple[str, ...]:
        return self.model.no_decay

    def after_step(self) -> None:
        self.model.after_step()

    def flops_per_token(self, context_length: int | None = None, training: bool = True) -> int:
        """As the model's, which counts attention over the whole row: packed texts take less."""
        return self.model.flops_per_token(context_length, training)
