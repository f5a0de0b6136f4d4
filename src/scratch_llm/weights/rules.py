"""How one of our tensors corresponds to tensors of a Hugging Face checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scratch_llm.layers.rope_scaling import scaling_from_huggingface


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
    dtype: torch.dtype | None = None
    """What it is kept in whatever the rest of the model is in; None: as the rest."""

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Theirs -> ours."""
        parts = [part.t() if self.transpose else part for part in parts]
        joined = torch.cat(tuple(parts), dim=0) if len(parts) > 1 else parts[0].contiguous()
        if self.order is not None:
            joined = joined[torch.tensor(self.order)]
        return joined if self.stack is None else joined.view(self.stack, -1, *joined.shape[1:])

    def fill(self, ours: Tensor, number: int, first: int, piece: Tensor) -> None:
        """``join`` bit by bit: write the rows ``first``, ``first + 1``, ... of theirs ``number`` to their place in ours."""
        if self.stack is not None:
            ours = ours.flatten(0, 1)
        start = 0 if self.rows is None else sum(self.rows[:number])
        stop = ours.shape[0] if self.rows is None else start + self.rows[number]
        if piece.dim() == 0:
            ours.copy_(piece)
            return
        if self.transpose and piece.dim() == 2:
            ours, piece = ours[:, first : first + len(piece)], piece.t()
        else:
            start, stop = start + first, start + first + len(piece)
        if self.order is None:
            ours[start:stop].copy_(piece)
        else:
            places = torch.tensor(self.order).argsort()[start:stop]
            ours[places] = piece.to(ours.dtype)

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


def rope_of(values: Mapping[str, Any], default_theta: float = 10_000.0) -> dict[str, Any]:
    """``rope_theta`` and ``rope_scaling`` of a ``TransformerConfig`` from a ``config.json``.

    The spelling is old (``rope_theta`` beside ``rope_scaling``) or new (both in ``rope_parameters``); where a file
    has both, the old one counts, as in transformers.
    """
    refuse_unless(values, "partial_rotary_factor", 1.0)
    nested = dict(values.get("rope_scaling") or values.get("rope_parameters") or {})
    if nested.get("partial_rotary_factor") is not None:
        refuse_unless(nested, "partial_rotary_factor", 1.0)
        del nested["partial_rotary_factor"]
    original = "original_max_position_embeddings"
    if nested and values.get(original) is not None:
        nested[original] = values[original]
    theta = nested.get("rope_theta", values.get("rope_theta"))
    return {
        "rope_theta": float(default_theta if theta is None else theta),
        "rope_scaling": scaling_from_huggingface(nested, values.get("max_position_embeddings", 2048)),
    }
