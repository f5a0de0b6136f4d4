"""(IA)^3 (Liu et al. 2022): one learnt factor for each output of a frozen matrix, or for each of its inputs.

The paper scales keys, values and what lies inside the feed-forward network; the last is the input of its second matrix.
All factors begin as 1, so the model begins as what it was.  Of all methods here it learns the fewest numbers: a row or a
column of the matrix instead of the matrix.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.peft.adapter import Adapter, AdapterConfig, Part
from scratch_llm.peft.columns import with_columns


@dataclass(frozen=True, kw_only=True)
class IA3Config(AdapterConfig):
    """Settings of (IA)^3: which matrices, and which of them have their inputs scaled."""

    targets: tuple[str, ...] | str = ("k_proj", "v_proj", "down_proj")
    feedforward: tuple[str, ...] | str = ("down_proj", "mlp.c_proj")
    """Of the targets, those whose inputs are scaled instead of their outputs.  Hugging Face names, each for all that it is
    or that end with a dot and it; or a regular expression for the whole name."""

    peft_type: ClassVar[str] = "IA3"

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.feedforward, str):
            object.__setattr__(self, "feedforward", tuple(self.feedforward))
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"feedforward is {self.feedforward!r}, no regular expression: {error}") from None

    @property
    def pattern(self) -> str:
        """A regular expression for the names whose inputs are scaled."""
        if isinstance(self.feedforward, str):
            return self.feedforward
        return rf"(.*\.)?({'|'.join(map(re.escape, self.feedforward))})"

    def scales_inputs(self, part: Part) -> bool:
        """Whether a matrix has a factor for each input."""
        return re.fullmatch(self.pattern, part.name) is not None

    def make(self, base: nn.Module, parts: Sequence[Part]) -> IA3:
        return IA3(base, parts, self)

    def to_peft(self) -> dict[str, Any]:
        return {"feedforward_modules": self.pattern, "init_ia3_weights": True}

    @classmethod
    def from_peft(cls, values: Mapping[str, Any]) -> IA3Config:
        named = values.get("feedforward_modules") or []
        if not isinstance(named, str):  # to PEFT a name stands for all that end with it, dot or not
            named = f".*({'|'.join(map(re.escape, named))})" if named else "(?!)"
        return cls(targets=values["target_modules"], feedforward=named)


class IA3(Adapter):
    """``l * (W x + b)`` for matrices whose outputs are scaled, ``W (l * x) + b`` for those whose inputs are."""

    def __init__(self, base: nn.Module, parts: Sequence[Part], config: IA3Config):
        super().__init__(base, parts)
        self._of_inputs = [config.scales_inputs(part) for part in self.parts]
        sizes = [self.in_features if inputs else part.n_rows for part, inputs in zip(self.parts, self._of_inputs)]
        self._sizes = sizes
        self.factors = self.new_parameter(base, sum(sizes))
        nn.init.ones_(self.factors)

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        if self._of_inputs == [True] and self.parts[0].n_rows == self.out_features:
            return base((x * self.factors).to(x.dtype))
        y = base(x)
        return with_columns(y, ((matrix[0].rows, self._scaled(x, y, base, *matrix)) for matrix in self._matrices()))

    def _scaled(self, x: Tensor, y: Tensor, base: nn.Module, part: Part, of_inputs: bool, factors: Tensor) -> Tensor:
        """A part's columns of the result, where ``y`` is what the frozen layer gives."""
        if not of_inputs:
            return y[..., part.rows] * factors
        bias = None if base.bias is None else base.bias[part.rows].to(x.dtype)
        return F.linear((x * factors).to(x.dtype), base.weight[part.rows].to(x.dtype), bias)

    def merged(self, base: nn.Module) -> tuple[Tensor, Tensor | None]:
        weight = base.weight.to(self.factors.dtype, copy=True)
        bias = None if base.bias is None else base.bias.to(self.factors.dtype, copy=True)
        for part, of_inputs, factors in self._matrices():
            weight[part.rows] = weight[part.rows] * (factors if of_inputs else factors[:, None])
            if bias is not None and not of_inputs:
                bias[part.rows] = bias[part.rows] * factors
        return weight.to(base.weight.dtype), None if bias is None else bias.to(base.bias.dtype)

    def to_peft(self) -> dict[str, Tensor]:
        return {
            f"{part.name}.ia3_l": factors[None, :] if of_inputs else part.to_their_order(factors)[:, None]
            for part, of_inputs, factors in self._matrices()
        }

    @torch.no_grad()
    def from_peft(self, tensors: Mapping[str, Tensor]) -> None:
        for part, of_inputs, factors in self._matrices():
            shape = (1, len(factors)) if of_inputs else (len(factors), 1)
            theirs = self.take(tensors, f"{part.name}.ia3_l", shape).flatten()
            factors.copy_(theirs if of_inputs else part.to_our_order(theirs))

    def _matrices(self) -> Iterator[tuple[Part, bool, Tensor]]:
        """Each part, whether its inputs are scaled, and its factors: a view of the parameter."""
        return zip(self.parts, self._of_inputs, self.factors.split(self._sizes))
