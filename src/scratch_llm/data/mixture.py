"""Texts of several sources in chosen shares: rows of all parts in one endless line, a pure function of (seed, step).

How much of each source a model reads decides much of what it can do (Xie et al. 2023, "DoReMi").  Sizes alone are a poor
guide: of a small good source one wants more than its share, up to some four readings (Muennighoff et al. 2023), and of a
huge one less.  A temperature above 1 moves shares towards equal ones, as mT5 does with its languages (Xue et al. 2021).

Which part a row comes from is not drawn by lot but laid out evenly, like the pixels of a sloped line: after n rows every part
has had its share of n to within a few rows, in every batch too, so the gradient does not sway with the luck of the draw.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from scratch_llm.data.windows import Windows

_STEPS = 1 << 20  # shares that are no simple fractions are rounded to this many parts


@dataclass(frozen=True)
class MixedText:
    """What a run must know of the texts behind a mixture: their digest with the shares, vocabulary and length."""

    sha256: str
    vocab_size: int
    n_tokens: int

    def __len__(self) -> int:
        return self.n_tokens


class Mixture:
    """Windows over several texts, ``weights`` rows of each; ``batch(step)`` as of ``Windows``, rows of all parts in it.

    Args:
        parts: windows by name, of equal batch_size, context_length and packing.
        weights: any numbers above 0, by the same names; None: the parts' tokens, as if all texts were one.
        temperature: shares are proportional to ``weight ** (1 / temperature)``; above 1 they come nearer to each other.
        seed: of the layout; each part's own order comes from its windows' seed.

    Each part goes through its own epochs: a part whose share is twice that of its size is read twice as often.
    """

    def __init__(self, parts: Mapping[str, Windows], weights: Mapping[str, float] | None = None,
                 temperature: float = 1.0, seed: int = 0):
        self.parts = dict(parts)
        weights = {name: len(part.token_file) for name, part in parts.items()} if weights is None else dict(weights)
        _check(self.parts, weights, temperature)
        self.names, windows = list(self.parts), list(self.parts.values())
        self.batch_size, self.context_length = windows[0].batch_size, windows[0].context_length
        self.packing, self.seed = windows[0].packing, seed
        self._weights = _whole_numbers([weights[name] for name in self.names], temperature)
        # What is left for a part and those after it, and where its sloped line begins.
        self._left = [sum(self._weights[number:]) for number in range(len(self._weights))]
        generator = np.random.default_rng([seed & (2**64 - 1), 2])
        self._offsets = [int(generator.integers(left)) for left in self._left]

    @property
    def shares(self) -> dict[str, float]:
        """Share of the rows that come from each part."""
        return {name: weight / self._left[0] for name, weight in zip(self.names, self._weights)}

    @property
    def n_batches(self) -> int:
        """Batches until every part was read once, rounded up: others are then read for another time."""
        rows = max(part.n_windows * self._left[0] / weight for part, weight in zip(self.parts.values(), self._weights))
        return math.ceil(rows / self.batch_size)

    @property
    def token_file(self) -> MixedText:
        """Stands for all texts: another text, share or order of parts has another digest."""
        files = [part.token_file for part in self.parts.values()]
        content = json.dumps([[file.sha256, weight] for file, weight in zip(files, self._weights)])
        return MixedText(hashlib.sha256(content.encode()).hexdigest(), max(file.vocab_size for file in files),
                         sum(len(file) for file in files))

    def readings(self, steps: int) -> dict[str, float]:
        """How often each part is read in so many steps: its epochs."""
        return {name: steps * self.batch_size * share / self.parts[name].n_windows for name, share in self.shares.items()}

    def source(self, place: int) -> tuple[int, int]:
        """Which part the row at a place of the endless line comes from, and how many of that part came before it.

        Of the rows that the parts before it left, part k takes those at which ``floor((n w + offset) / left)`` takes a step.
        """
        for part, (weight, left, offset) in enumerate(zip(self._weights, self._left, self._offsets)):
            before = (place * weight + offset) // left
            if ((place + 1) * weight + offset) // left > before:
                return part, before
            place -= before
        raise AssertionError("the last part takes all that is left")

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of one step, counted from 0: int64, each (batch_size, context_length)."""
        if step < 0:
            raise ValueError(f"step {step} must be at least 0")
        sources = [self.source(step * self.batch_size + row) for row in range(self.batch_size)]
        inputs, targets = (torch.empty(self.batch_size, self.context_length, dtype=torch.int64) for _ in range(2))
        for number, part in enumerate(self.parts.values()):
            here = [row for row, (source, _) in enumerate(sources) if source == number]
            if here:
                inputs[here], targets[here] = part.rows(np.array([sources[row][1] for row in here]))
        return inputs, targets


def _whole_numbers(weights: list[float], temperature: float) -> list[int]:
    """Weights without a common divisor: exact for decimal fractions at temperature 1, else rounded."""
    if temperature == 1:
        exact = [Fraction(str(weight)) for weight in weights]
        numbers = [int(weight * math.lcm(*(one.denominator for one in exact))) for weight in exact]
    else:
        largest = max(weights)  # divided out first: no power overflows
        powers = [(weight / largest) ** (1 / temperature) for weight in weights]
        numbers = [max(1, round(power / sum(powers) * _STEPS)) for power in powers]
    return [number // math.gcd(*numbers) for number in numbers]


def _check(parts: dict[str, Windows], weights: dict[str, float], temperature: float) -> None:
    if not parts:
        raise ValueError("a mixture of nothing: give at least one part")
    if set(weights) != set(parts):
        raise ValueError(f"weights are given for {', '.join(map(repr, weights)) or 'nothing'}: give one for each of "
                         f"{', '.join(map(repr, parts))}")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"the weight of {name!r} is {weight}: it must be above 0; leave the part out instead")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature {temperature} must be above 0: 1 keeps the weights, more makes them alike")
    for attribute in ("batch_size", "context_length", "packing"):
        values = {name: getattr(part, attribute) for name, part in parts.items()}
        if len(set(values.values())) > 1:
            raise ValueError(f"the parts have {attribute} {values}: give all the same")
