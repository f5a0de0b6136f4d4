"""Rotary frequencies for contexts longer than the one a model was pretrained on.

A pair of frequency f turns ``r = L f / 2 pi`` times within the pretrained context L.  At s times the context, pairs
of low frequency reach angles they have never met.  All remedies divide frequencies by s ("interpolate" positions);
they differ in which pairs they spare.  Pairs that turn often tell near from far neighbours and have met all angles,
so they are best left alone:

    f' = (1 - keep) f / s + keep f,    keep from 0 (interpolated) to 1 (as pretrained)

which is "NTK by parts" (Peng et al. 2023, YaRN, section 3.2).  ``linear`` keeps nothing, ``llama3`` lets ``keep``
grow with the number of turns, as that section has it, and ``yarn`` with the index of the pair, as its authors'
code does.  Each kind says how it scales frequencies, and the factor on cosines and sines.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RopeScaling(ABC):
    """How a context is stretched.  Frozen and validated."""

    rope_type: ClassVar[str]
    """The name in a ``config.json``."""

    factor: float
    """s: how many times longer the context becomes."""

    def __post_init__(self):
        self._check(self.factor >= 1, "factor", "at least 1")

    @abstractmethod
    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        """Frequencies ``theta^(-2i/d)`` of the pairs i, float64 (d/2,) -> the stretched ones."""

    @property
    def table_factor(self) -> float:
        """What cosines and sines are multiplied by; scores of queries and keys grow by its square."""
        return 1.0

    def _check(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            raise ValueError(f"{name} of {self.rope_type} scaling is {getattr(self, name)!r}: it must be {allowed}")


@dataclass(frozen=True, kw_only=True)
class LinearScaling(RopeScaling):
    """Position interpolation (Chen et al. 2023, "Extending context window ...", section 2.3): every position is divided by s."""

    rope_type: ClassVar[str] = "linear"

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        return frequencies / self.factor


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling(RopeScaling):
    """Llama 3.1's: NTK by parts, with ``keep`` a ramp over the number of turns within the pretrained context."""

    rope_type: ClassVar[str] = "llama3"

    original_context_length: int
    """L: positions of the pretraining."""
    low_freq_factor: float = 1.0
    """Pairs of at most so many turns are interpolated."""
    high_freq_factor: float = 4.0
    """Pairs of at least so many turns are kept."""

    def __post_init__(self):
        super().__post_init__()
        self._check(self.original_context_length >= 1, "original_context_length", "at least 1")
        self._check(self.low_freq_factor > 0, "low_freq_factor", "above 0")
        self._check(
            self.high_freq_factor > self.low_freq_factor,
            "high_freq_factor",
            f"above low_freq_factor, {self.low_freq_factor}",
        )

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        turns = self.original_context_length * frequencies / (2 * math.pi)
        keep = ramp(turns, self.low_freq_factor, self.high_freq_factor)
        return interpolate(frequencies, self.factor, keep)


@dataclass(frozen=True, kw_only=True)
class YarnScaling(RopeScaling):
    """YaRN (Peng et al. 2023): NTK by parts, and sharper attention for the longer context (section 3.4)."""

    rope_type: ClassVar[str] = "yarn"

    original_context_length: int
    """L: positions of the pretraining."""
    beta_fast: float = 32.0
    """Pairs of at least so many turns are kept."""
    beta_slow: float = 1.0
    """Pairs of at most so many turns are interpolated."""
    attention_factor: float | None = None
    """Factor on cosines and sines.  None: from the rule of ``table_factor``."""
    mscale: float | None = None
    """DeepSeek's weight of the logarithm in ``table_factor``."""
    mscale_all_dim: float | None = None
    """DeepSeek's share of it that goes to the scores of all dimensions instead: see ``score_factor``."""
    truncate: bool = True
    """Round the ramp's ends outwards to whole pairs."""

    def __post_init__(self):
        super().__post_init__()
        self._check(self.original_context_length >= 1, "original_context_length", "at least 1")
        self._check(self.beta_slow > 0, "beta_slow", "above 0")
        self._check(self.beta_fast >= self.beta_slow, "beta_fast", f"at least beta_slow, {self.beta_slow}")
        self._check(self.attention_factor is None or self.attention_factor > 0, "attention_factor", "above 0")

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        n_pairs = len(frequencies)
        first = self._pair_that_turns(self.beta_fast, n_pairs, theta)
        last = self._pair_that_turns(self.beta_slow, n_pairs, theta)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * n_pairs - 1)
        pairs = torch.arange(n_pairs, dtype=torch.float64, device=frequencies.device)
        # A ramp without width is a step just after the pair; the width is the reference implementations'.
        interpolated = ramp(pairs, first, last if last != first else last + 0.001)
        return interpolate(frequencies, self.factor, 1 - interpolated)

    def _pair_that_turns(self, turns: float, n_pairs: int, theta: float) -> float:
        """The index i (a fraction) with ``L theta^(-i / n_pairs) / 2 pi = turns``."""
        return n_pairs * math.log(self.original_context_length / (2 * math.pi * turns)) / math.log(theta)

    @property
    def table_factor(self) -> float:
        """``0.1 ln(s) + 1``, the paper's sqrt(1/t); DeepSeek divides what the scores get elsewhere."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._log_growth(self.mscale) / self._log_growth(self.mscale_all_dim)
        return self._log_growth(1.0)

    @property
    def score_factor(self) -> float:
        """DeepSeek-V2 and V3: what the scores of all dimensions, rotated or not, are multiplied by; 1 without
        ``mscale_all_dim``.  Other architectures do not know it."""
        return self._log_growth(self.mscale_all_dim) ** 2 if self.mscale_all_dim else 1.0

    def _log_growth(self, weight: float) -> float:
        return 0.1 * weight * math.log(self.factor) + 1.0


def ramp(x: Tensor, start: float, end: float) -> Tensor:
    """0 up to ``start``, 1 from ``end`` on, a straight line between."""
    return ((x - start) / (end - start)).clamp(0, 1)


def interpolate(frequencies: Tensor, factor: float, keep: Tensor) -> Tensor:
    """``(1 - keep) f / s + keep f``: see the module."""
    return (1 - keep) * frequencies / factor + keep * frequencies


KINDS: dict[str, type[RopeScaling]] = {kind.rope_type: kind for kind in (LinearScaling, Llama3Scaling, YarnScaling)}


# -- Hugging Face's spelling ----------------------------------------------------------------------------------------

_ORIGINAL = {"original_context_length": "original_max_position_embeddings"}


def scaling_to_huggingface(scaling: RopeScaling | None) -> dict[str, object]:
    """``rope_scaling`` of a ``config.json``, without the base; None is the type "default"."""
    if scaling is None:
        return {"rope_type": "default"}
    values = {_ORIGINAL.get(name, name): value for name, value in dataclasses.asdict(scaling).items()}
    return {"rope_type": scaling.rope_type} | {name: value for name, value in values.items() if value is not None}


def scaling_from_huggingface(values: dict[str, object], context_length: int) -> RopeScaling | None:
    """The reverse; ``context_length`` stands in where the file does not tell the original one, or the factor.

    Raises:
        ValueError: a kind, or a field of it, that is not implemented, or one that is missing.
    """
    name = values.get("rope_type", values.get("type", "default"))
    if name == "default":
        return None
    if name not in KINDS:
        raise ValueError(
            f"config.json has rotary scaling of type {name!r}: only default, {', '.join(KINDS)} are implemented; "
            "choose another checkpoint"
        )
    fields = {_ORIGINAL.get(field.name, field.name): field.name for field in dataclasses.fields(KINDS[name])}
    given = {
        key: value for key, value in values.items() if key not in ("rope_type", "type", "rope_theta") and value is not None
    }
    unknown = given.keys() - fields.keys()
    if unknown:
        raise ValueError(
            f"config.json has {', '.join(sorted(unknown))} in its {name} scaling: only {', '.join(fields)} are implemented; "
            "choose another checkpoint"
        )
    arguments = {fields[key]: value for key, value in given.items()}
    if "original_context_length" in fields.values():
        original = arguments.setdefault("original_context_length", context_length)
        arguments.setdefault("factor", context_length / original)
    if "factor" not in arguments:
        raise ValueError(f"config.json has {name} scaling without a factor: copy the checkpoint's config.json again")
    return KINDS[name](**arguments)
