"""How one of our tensors corresponds to tensors of a Hugging Face checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """Our tensor ``ours`` is theirs, joined along dimension 0 and, with ``transpose``, each transposed before."""

    ours: str
    theirs: Sequence[str]
    rows: Sequence[int] | None = None
    """Rows that each of theirs takes in ours; None when there is just one."""
    transpose: bool = False
    stack: int | None = None
    """The joined rows lie in so many equal groups, which ours has as an axis of its own: (stack, rows / stack, ...).
    So the matrices of all experts become one tensor."""
    order: Sequence[int] | None = None
    """Row i of ours is row ``order[i]`` of theirs joined (rotary pairing; see ``layers.rotary``)."""

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Theirs -> ours."""
        parts = [part.t() if self.transpose else part for part in parts]
        joined = torch.cat(tuple(parts), dim=0) if len(parts) > 1 else parts[0].contiguous()
        if self.order is not None:
            joined = joined[torch.tensor(self.order)]
        return joined if self.stack is None else joined.view(self.stack, -1, *joined.shape[1:])

    def split(self, tensor: Tensor) -> list[Tensor]:
        """Ours -> theirs."""
        if self.stack is not None:
            tensor = tensor.flatten(0, 1)
        if self.order is not None:
            tensor = tensor[torch.tensor(self.order).argsort().to(tensor.device)]
        parts = [tensor] if self.rows is None else tensor.split(tuple(self.rows), dim=0)
        return [(part.t() if self.transpose else part).contiguous() for part in parts]

    def their_shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Shapes of theirs when ours has ``shape``."""
        if self.stack is not None:
            shape = (shape[0] * shape[1], *shape[2:])
        shapes = [tuple(shape)] if self.rows is None else [(rows, *shape[1:]) for rows in self.rows]
        return [one[::-1] if self.transpose else one for one in shapes]


def to_huggingface(rules: Sequence[Rule], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and split: a state dict (or gradients under the same names) of ours -> theirs."""
    return {name: part for rule in rules for name, part in zip(rule.theirs, rule.split(ours[rule.ours]))}


def from_huggingface(rules: Sequence[Rule], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and join: a state dict of theirs -> ours.  All keys must be there; see ``load_model`` for files."""
    return {rule.ours: rule.join([theirs[name] for name in rule.theirs]) for rule in rules}


def refuse_unless(values: Mapping[str, Any], field: str, allowed: Any) -> None:
    """ValueError where ``config.json`` asks for a variant that we do not implement."""
    if values.get(field, allowed) not in (allowed, None):
        raise ValueError(
            f"config.json has {field} = {values[field]!r}: only {allowed!r} is implemented; choose another checkpoint"
        )


def rope_theta_of(values: Mapping[str, Any]) -> float:
    """The rotary base from a ``config.json``, old spelling (``rope_theta``) or new (``rope_parameters``)."""
    for field in ("rope_parameters", "rope_scaling"):
        nested = values.get(field) or {}
        kind = nested.get("rope_type", nested.get("type", "default"))
        if kind != "default":
            raise ValueError(
                f"config.json has {field} of type {kind!r}: only 'default' is implemented; choose another checkpoint"
            )
        if "rope_theta" in nested:
            return float(nested["rope_theta"])
    return float(values.get("rope_theta", 10_000.0))
