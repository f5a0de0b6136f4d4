"""Parameter-efficient fine-tuning: a few learnt numbers beside each frozen matrix.

    AdapterConfig    what is asked for: the method's settings, and which matrices get an adapter
    Adapter          what is learnt beside one linear layer; LoRA, DoRA and the others are subclasses
    AdaptedLinear    the frozen layer and its adapters, standing in the model where the layer stood
    Part             one matrix as a checkpoint names it: our ``qkv`` is three of theirs, each adapted by itself

``inject`` puts them into a model, ``merge`` computes them into its weights, ``unload`` takes them out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """Rows ``start`` to ``stop`` of a linear layer: one matrix of the Hugging Face checkpoint.

    ``order``: row i of ours is their row ``order[i]``, both counted from the part's start; None: the same order.
    """

    name: str
    """Its name there without ``.weight``, such as ``model.layers.0.self_attn.q_proj``."""
    start: int
    stop: int
    transposed: bool = False
    """Whether it is stored as (in, out) there, as GPT-2's are."""
    order: tuple[int, ...] | None = None

    @property
    def n_rows(self) -> int:
        return self.stop - self.start

    @property
    def rows(self) -> slice:
        """Its rows in the layer's weight, its columns in the layer's output."""
        return slice(self.start, self.stop)

    def to_their_order(self, ours: Tensor) -> Tensor:
        """A tensor whose first axis counts the part's rows, in the order of the checkpoint."""
        return ours if self.order is None else ours[torch.tensor(self.order, device=ours.device).argsort()]

    def to_our_order(self, theirs: Tensor) -> Tensor:
        """The inverse of ``to_their_order``."""
        return theirs if self.order is None else theirs[torch.tensor(self.order, device=theirs.device)]


class Adapter(nn.Module, ABC):
    """What is learnt beside one frozen linear layer.  Its parameters are all that training changes.

    It adapts the rows of its ``parts`` and leaves the others as the layer computes them.  It does not own the layer,
    which may have several adapters and may be an ``nn.Linear`` or anything with ``weight`` (out, in), ``bias``,
    ``in_features`` and ``out_features`` (such as one that holds its weight in four bits).
    """

    config: AdapterConfig
    """What it was made from; ``inject`` notes it."""

    def __init__(self, base: nn.Module, parts: Sequence[Part]):
        super().__init__()
        self.in_features, self.out_features = base.in_features, base.out_features
        self.parts = tuple(parts)

    @abstractmethod
    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        """The adapted layer: (..., in) -> (..., out)."""

    @abstractmethod
    def merged(self, base: nn.Module) -> tuple[Tensor, Tensor | None]:
        """Weight (out, in) and bias (out,) of a plain linear layer that computes the same; differentiable."""

    @abstractmethod
    def to_peft(self) -> dict[str, Tensor]:
        """Its tensors under the names of PEFT's files without their first part ``base_model.model.``, such as
        ``model.layers.0.self_attn.q_proj.lora_A.weight``; one set for each part."""

    @abstractmethod
    def from_peft(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors that ``to_peft`` would give; ValueError names one that is missing or of a wrong shape."""

    def new_parameter(self, base: nn.Module, *shape: int) -> nn.Parameter:
        """Zeros where ``base`` lies, in float32 at least: in bfloat16 small updates would vanish."""
        weight = base.weight
        dtype = torch.float32 if weight.dtype in (torch.bfloat16, torch.float16) else weight.dtype
        return nn.Parameter(torch.zeros(*shape, dtype=dtype, device=weight.device))

    @staticmethod
    def take(tensors: Mapping[str, Tensor], name: str, shape: Sequence[int]) -> Tensor:
        """``tensors[name]``, of that shape; ValueError otherwise."""
        if name not in tensors:
            raise ValueError(f"the adapter's file has no tensor {name}: it was made for other matrices or another model")
        if tuple(tensors[name].shape) != tuple(shape):
            raise ValueError(
                f"{name} has shape {tuple(tensors[name].shape)} in the adapter's file and {tuple(shape)} here: "
                "it was made for a model of another size, or its configuration was changed"
            )
        return tensors[name]


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(ABC):
    """Settings of a method; a subclass adds its own fields and checks them."""

    targets: tuple[str, ...] | str = ("q_proj", "v_proj")
    """Which matrices of the blocks.  Names: each stands for all whose name, ours or Hugging Face's, is it or ends with a
    dot and it (``"v_proj"``, ``"attention.qkv"``, ``"blocks.0.mlp.down"``).  ``"all-linear"``: all.  Any other string is a
    regular expression for the whole Hugging Face name, as in PEFT."""

    peft_type: ClassVar[str]
    """The method's name in ``adapter_config.json``."""

    def __post_init__(self):
        if not isinstance(self.targets, str):
            object.__setattr__(self, "targets", tuple(self.targets))
        if not self.targets:
            raise ValueError("targets is empty: name the matrices to adapt, such as ('q_proj', 'v_proj'), or 'all-linear'")

    @abstractmethod
    def make(self, base: nn.Module, parts: Sequence[Part]) -> Adapter:
        """A new adapter that leaves ``base`` computing what it did."""

    @abstractmethod
    def to_peft(self) -> dict[str, Any]:
        """The method's own fields of ``adapter_config.json``."""

    @classmethod
    @abstractmethod
    def from_peft(cls, values: Mapping[str, Any]) -> AdapterConfig:
        """The configuration in an ``adapter_config.json``; ValueError names a field that asks for what is not here."""


class AdaptedLinear(nn.Module):
    """A frozen linear layer with adapters by name, of which one is active, or none, or one for each row of the batch.

    ``base`` and ``adapters`` are its children: in a state dict ``...qkv.weight`` becomes ``...qkv.base.weight``, and an
    adapter's tensors are ``...qkv.adapters.<name>.<tensor>``.
    """

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.adapters = nn.ModuleDict()
        self.active: str | tuple[str | None, ...] | None = None
        """Set by ``scratch_llm.peft.activate``."""

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features

    @property
    def adapter(self) -> Adapter | None:
        """The active one; None where this layer has none of the active name.  ValueError where rows have their own."""
        if isinstance(self.active, tuple):
            raise ValueError("rows of the batch have adapters of their own: activate a single one first")
        return self.adapters[self.active] if self.active in self.adapters else None

    @property
    def weight(self) -> Tensor:
        """(out, in) with the adapter in it: for code that reads a layer's weight instead of calling the layer."""
        return self.base.weight if self.adapter is None else self.adapter.merged(self.base)[0]

    @property
    def bias(self) -> Tensor | None:
        """(out,) with the adapter in it, or None."""
        return self.base.bias if self.adapter is None else self.adapter.merged(self.base)[1]

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if isinstance(self.active, tuple):
            return self._row_by_row(x)
        adapter = self.adapter
        return self.base(x) if adapter is None else adapter(x, self.base)

    def _row_by_row(self, x: Tensor) -> Tensor:
        """(B, ..., in) -> (B, ..., out), row i with the adapter ``active[i]``: each group of rows in one go."""
        if len(x) != len(self.active):
            raise ValueError(f"adapters are activated for {len(self.active)} rows and the batch has {len(x)}")
        groups = {name: [i for i, other in enumerate(self.active) if other == name] for name in self.active}
        done = [self._with(name, x[rows]) for name, rows in groups.items()]
        order = torch.tensor([i for rows in groups.values() for i in rows], device=x.device)
        return torch.cat(done)[order.argsort()]

    def _with(self, name: str | None, x: Tensor) -> Tensor:
        return self.adapters[name](x, self.base) if name in self.adapters else self.base(x)

    def packed(self, n_rows: int) -> nn.Module:
        """The same merged, for decoding; see ``scratch_llm.generation.packing``."""
        from scratch_llm.generation.packing import linear

        if isinstance(self.active, tuple):
            return self
        return linear(self.weight, self.bias, n_rows)


def is_adaptable(module: nn.Module) -> bool:
    """Whether a module can be the base of adapters: ``nn.Linear`` itself, or a class that says ``adaptable = True``."""
    return type(module) is nn.Linear or getattr(module, "adaptable", False)
