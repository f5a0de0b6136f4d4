"""LoRA (Hu et al. 2022) and its relatives: the change of a matrix is a product of two thin ones.

    LoRA     W + (alpha / r) B A            A (r, in) random, B (out, r) zero: at the start the model is what it was
    rsLoRA   W + (alpha / sqrt(r)) B A      so that a larger rank does not learn more slowly (Kalajdzievski 2023)
    DoRA     m * (W + s B A) / |W + s B A|  length and direction of each row apart (Liu et al. 2024, equation 5)

One adapter serves all matrices that lie in a layer: for our ``qkv`` it holds three A and three B, one below the other, and
each learns as if it were alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.peft.adapter import Adapter, AdapterConfig, Part
from scratch_llm.peft.low_rank import add_low_rank, in_autocast_dtype


@dataclass(frozen=True, kw_only=True)
class LoRAConfig(AdapterConfig):
    """Settings of LoRA, rsLoRA (``rank_stabilized``) and DoRA (``dora``)."""

    rank: int = 8
    """r: columns of B.  At most the smaller side of the matrix."""
    alpha: float = 16.0
    """Numerator of the scale: what is learnt counts ``alpha / rank`` times (``alpha / sqrt(rank)`` in rsLoRA), so that
    another rank needs no other learning rate."""
    dropout: float = 0.0
    """Probability of dropping an input of A during training; the frozen layer sees all inputs."""
    rank_stabilized: bool = False
    dora: bool = False
    init: Literal["kaiming", "gaussian"] = "kaiming"
    """A is drawn evenly from -1/sqrt(in) to 1/sqrt(in), or from N(0, 1/r); B is 0."""

    peft_type: ClassVar[str] = "LORA"

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f"rank is {self.rank!r}: it must be a whole number of 1 or more, such as 8")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha is {self.alpha}: it must be above 0; the rank or twice the rank is usual")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: it must be at least 0 and below 1")
        if self.init not in ("kaiming", "gaussian"):
            raise ValueError(f"init is {self.init!r}: choose 'kaiming' or 'gaussian'")

    @property
    def scale(self) -> float:
        """What B A counts."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)

    def make(self, base: nn.Module, parts: Sequence[Part]) -> LoRA:
        return (DoRA if self.dora else LoRA)(base, parts, self)

    def to_peft(self) -> dict[str, Any]:
        return {
            "r": self.rank,
            "lora_alpha": int(self.alpha) if self.alpha == int(self.alpha) else self.alpha,
            "lora_dropout": self.dropout,
            "use_rslora": self.rank_stabilized,
            "use_dora": self.dora,
            "init_lora_weights": "gaussian" if self.init == "gaussian" else True,
            "bias": "none",
        }

    @classmethod
    def from_peft(cls, values: Mapping[str, Any]) -> LoRAConfig:
        for field, allowed in _ONLY.items():
            if values.get(field, allowed[0]) not in allowed:
                raise ValueError(
                    f"adapter_config.json has {field} = {values[field]!r}, which is not implemented here (only "
                    f"{allowed[0]!r}): train the adapter without it, or use it with PEFT"
                )
        return cls(
            targets=values["target_modules"],
            rank=values["r"],
            alpha=values["lora_alpha"],
            dropout=values.get("lora_dropout", 0.0),
            rank_stabilized=values.get("use_rslora", False),
            dora=values.get("use_dora", False),
            init="gaussian" if values.get("init_lora_weights") == "gaussian" else "kaiming",
        )


# PEFT's variants of LoRA that compute something else.  (PiSSA, OLoRA and their kin also change the base's weights.)
_ONLY: dict[str, tuple] = {
    "bias": ("none",),
    "lora_bias": (False,),
    "init_lora_weights": (True, False, "gaussian"),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "use_qalora": (False,),
    **dict.fromkeys(
        ("trainable_token_indices", "layer_replication", "target_parameters", "alora_invocation_tokens", "use_bdlora",
         "arrow_config", "kasa_config", "velora_config", "monteclora_config"), (None,)),
}  # fmt: skip


class LoRA(Adapter):
    """``base(x) + scale * (dropout(x) A^T) B^T``, where ``A`` (P r, in) and ``B`` (rows, r) hold P matrices."""

    def __init__(self, base: nn.Module, parts: Sequence[Part], config: LoRAConfig):
        super().__init__(base, parts)
        self.rank, self.scale, self.dropout = config.rank, config.scale, config.dropout
        for part in self.parts:
            if config.rank > min(part.n_rows, self.in_features):
                raise ValueError(
                    f"rank {config.rank} is more than {part.name} of {part.n_rows} x {self.in_features} can have; "
                    f"choose {min(part.n_rows, self.in_features)} at most"
                )
        self.A = self.new_parameter(base, config.rank * len(self.parts), self.in_features)
        self.B = self.new_parameter(base, sum(part.n_rows for part in self.parts), config.rank)
        self._rows = [part.rows for part in self.parts]
        with torch.no_grad():
            if config.init == "gaussian":
                self.A.normal_(std=1 / config.rank)
            else:
                self.A.uniform_(-(self.in_features**-0.5), self.in_features**-0.5)

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        x = in_autocast_dtype(x)
        return add_low_rank(base(x), self._dropped(x), self.A, self.B, self._rows, self.scale)

    def merged(self, base: nn.Module) -> tuple[Tensor, Tensor | None]:
        weight = base.weight.to(self.A.dtype, copy=True)
        for part, A_rD, B_Rr in self._matrices():
            weight[part.rows] += self.scale * (B_Rr @ A_rD)
        return weight.to(base.weight.dtype), base.bias

    def to_peft(self) -> dict[str, Tensor]:
        tensors = {}
        for part, A_rD, B_Rr in self._matrices():
            tensors[f"{part.name}.lora_A.weight"] = A_rD
            tensors[f"{part.name}.lora_B.weight"] = part.to_their_order(B_Rr)
        return tensors

    @torch.no_grad()
    def from_peft(self, tensors: Mapping[str, Tensor]) -> None:
        for part, A_rD, B_Rr in self._matrices():
            A_rD.copy_(self.take(tensors, f"{part.name}.lora_A.weight", A_rD.shape))
            B_Rr.copy_(part.to_our_order(self.take(tensors, f"{part.name}.lora_B.weight", B_Rr.shape)))

    def _matrices(self) -> list[tuple[Part, Tensor, Tensor]]:
        """Each part with its A (r, in) and B (rows, r): views of the parameters."""
        heights = [part.n_rows for part in self.parts]
        return list(zip(self.parts, self.A.split(self.rank), self.B.split(heights)))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class DoRA(LoRA):
    """``m * V / |V| x`` with ``V = W + scale * B A`` and a learnt length ``m`` for each row, which begins as that of W.

    |V| is a constant to the gradient (section 4.3): training then needs as little memory as LoRA, and learns as well.
    Dropout is of what B A sees alone; PEFT's, in training, is also of what ``m / |V|`` adds to the frozen layer.
    """

    def __init__(self, base: nn.Module, parts: Sequence[Part], config: LoRAConfig):
        super().__init__(base, parts, config)
        self.magnitude = self.new_parameter(base, self.B.shape[0])
        with torch.no_grad():
            self.magnitude.copy_(self._lengths(base.weight))

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        x = in_autocast_dtype(x)
        y, bias = base(x), base.bias
        if bias is not None:
            y = y - bias.to(y.dtype)
        y = add_low_rank(y, self._dropped(x), self.A, self.B, self._rows, self.scale) * self._gain(base).to(y.dtype)
        return y if bias is None else y + bias.to(y.dtype)

    def merged(self, base: nn.Module) -> tuple[Tensor, Tensor | None]:
        weight, bias = super().merged(base)
        return (weight * self._gain(base)[:, None]).to(weight.dtype), bias

    def to_peft(self) -> dict[str, Tensor]:
        lengths = {
            f"{part.name}.lora_magnitude_vector": part.to_their_order(m_R) for part, m_R in self._magnitudes()
        }
        return super().to_peft() | lengths

    @torch.no_grad()
    def from_peft(self, tensors: Mapping[str, Tensor]) -> None:
        super().from_peft(tensors)
        for part, m_R in self._magnitudes():
            m_R.copy_(part.to_our_order(self.take(tensors, f"{part.name}.lora_magnitude_vector", m_R.shape)))

    def _magnitudes(self) -> list[tuple[Part, Tensor]]:
        return list(zip(self.parts, self.magnitude.split([part.n_rows for part in self.parts])))

    @torch.no_grad()
    def _lengths(self, weight: Tensor) -> Tensor:
        """|V| of every adapted row, (rows,)."""
        weight = weight.to(self.A.dtype)
        changed = [torch.addmm(weight[p.rows], B_Rr, A_rD, alpha=self.scale) for p, A_rD, B_Rr in self._matrices()]
        return torch.cat([matrix.norm(dim=1) for matrix in changed])

    def _gain(self, base: nn.Module) -> Tensor:
        """m / |V| of every row of the layer, 1 where none is adapted: (out,)."""
        ratio = self.magnitude / self._lengths(base.weight)
        if len(ratio) == self.out_features:
            return ratio
        gain = torch.ones(self.out_features, dtype=ratio.dtype, device=ratio.device)
        return gain.index_put((self._adapted_rows(),), ratio)

    def _adapted_rows(self) -> Tensor:
        return torch.cat([torch.arange(p.start, p.stop, device=self.magnitude.device) for p in self.parts])
