"""WaveFT (Bilican et al. 2025): the change of a matrix is the inverse wavelet transform of a few learnt coefficients.

    W + scale * IDWT(C)       C is 0 but at n random places, and the numbers there are all that is learnt

A single coefficient changes a small patch of the matrix, so that a change of full rank needs few numbers, and their count
can be chosen one by one (LoRA's goes in steps of a whole row and column).  The places come from a seed and are not saved.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.peft.adapter import Adapter, AdapterConfig, Part
from scratch_llm.peft.columns import with_columns
from scratch_llm.peft.wavelets import N_MOMENTS, inverse_wavelet_transform, low_pass


@dataclass(frozen=True, kw_only=True)
class WaveFTConfig(AdapterConfig):
    """Settings of WaveFT."""

    n_coefficients: int = 2592
    """Learnt numbers for each matrix, at most as many as it has."""
    scale: float = 25.0
    """Factor of the change: the coefficients begin at 0 and stay small."""
    wavelet: str = "db1"
    """Daubechies' filter: "db1" (Haar's, 2 numbers) to "db10" (20 numbers), or "haar"."""
    transform: bool = True
    """False: the coefficients are entries of the change itself (the paper's SHiRA), for comparison."""
    seed: int = 777
    """For the places of the coefficients."""

    peft_type: ClassVar[str] = "WAVEFT"

    def __post_init__(self):
        super().__post_init__()
        n = self.n_coefficients
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n_coefficients is {n!r}: it must be a whole number of 1 or more, such as 2592")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale is {self.scale}: it must be above 0; 25 is usual")
        if self.wavelet not in ("haar", *(f"db{i}" for i in N_MOMENTS)):
            raise ValueError(
                f"wavelet is {self.wavelet!r}: choose 'haar' or Daubechies' from 'db{N_MOMENTS[0]}' to 'db{N_MOMENTS[-1]}'"
            )

    @property
    def low(self) -> tuple[float, ...]:
        """The wavelet's low-pass filter."""
        return low_pass(1 if self.wavelet == "haar" else int(self.wavelet.removeprefix("db")))

    def make(self, base: nn.Module, parts: Sequence[Part]) -> WaveFT:
        return WaveFT(base, parts, self)

    def to_peft(self) -> dict[str, Any]:
        return {
            "n_frequency": self.n_coefficients,
            "scaling": self.scale,
            "wavelet_family": "db1" if self.wavelet == "haar" else self.wavelet,
            "use_idwt": self.transform,
            "random_loc_seed": self.seed,
            "init_weights": True,
            "bias": "none",
        }

    @classmethod
    def from_peft(cls, values: Mapping[str, Any]) -> WaveFTConfig:
        for field, allowed in (("bias", ("none",)), ("n_frequency_pattern", ({}, None)), ("proportional_parameters", (False,))):
            if values.get(field, allowed[0]) not in allowed:
                raise ValueError(
                    f"adapter_config.json has {field} = {values[field]!r}, which is not implemented here (only "
                    f"{allowed[0]!r}): train the adapter without it, or use it with PEFT"
                )
        return cls(
            targets=values["target_modules"],
            n_coefficients=values["n_frequency"],
            scale=values["scaling"],
            wavelet=values.get("wavelet_family", "db1"),
            transform=values.get("use_idwt", True),
            seed=values.get("random_loc_seed", 777),
        )


class WaveFT(Adapter):
    """``base(x) + x change^T``, where the change of each matrix comes from its row of ``coefficients`` (P, n)."""

    def __init__(self, base: nn.Module, parts: Sequence[Part], config: WaveFTConfig):
        super().__init__(base, parts)
        self.n, self.scale, self.transform, self.low = config.n_coefficients, config.scale, config.transform, config.low
        self.coefficients = self.new_parameter(base, len(self.parts), self.n)
        for number, part in enumerate(self.parts):
            size = part.n_rows * self.in_features
            if self.n > size:
                raise ValueError(
                    f"n_coefficients {self.n} is more than {part.name} of {part.n_rows} x {self.in_features} has; "
                    f"choose {size} at most"
                )
            # Not saved: they follow from the seed.  Drawn on the CPU, so that they are the same on every device.
            generator = torch.Generator().manual_seed(config.seed)
            places = torch.randperm(size, generator=generator)[: self.n].to(base.weight.device)
            self.register_buffer(f"places_{number}", places, persistent=False)

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        y, changes = base(x), list(self._changes())
        if sum(part.n_rows for part, _ in changes) == self.out_features:  # one product for the whole layer
            return y + F.linear(x, torch.cat([change for _, change in changes]).to(x.dtype)).to(y.dtype)
        return with_columns(y, ((p.rows, y[..., p.rows] + F.linear(x, change.to(x.dtype))) for p, change in changes))

    def merged(self, base: nn.Module) -> tuple[Tensor, Tensor | None]:
        weight = base.weight.to(self.coefficients.dtype, copy=True)
        for part, change in self._changes():
            weight[part.rows] += change
        return weight.to(base.weight.dtype), base.bias

    def to_peft(self) -> dict[str, Tensor]:
        return {f"{part.name}.waveft_spectrum": c_n for part, c_n in zip(self.parts, self.coefficients)}

    @torch.no_grad()
    def from_peft(self, tensors: Mapping[str, Tensor]) -> None:
        for part, c_n in zip(self.parts, self.coefficients):
            c_n.copy_(self.take(tensors, f"{part.name}.waveft_spectrum", c_n.shape))

    def _changes(self) -> Iterator[tuple[Part, Tensor]]:
        """Each part and its change (rows, in), rows in our order."""
        for number, (part, c_n) in enumerate(zip(self.parts, self.coefficients)):
            places = self.get_buffer(f"places_{number}")
            yield part, part.to_our_order(self.scale * self._change(c_n, places, part.n_rows))

    def _change(self, c_n: Tensor, places_n: Tensor, n_rows: int) -> Tensor:
        """(n,) coefficients at ``places_n`` of a matrix read row by row -> (rows, in), not scaled."""
        row, column = places_n // self.in_features, places_n % self.in_features
        if not self.transform:
            return c_n.new_zeros(n_rows, self.in_features).index_put((row, column), c_n)
        # A border, since the transform gives back L - 2 rows and columns less; and an even number of both.
        border = len(self.low) - 2
        height, width = (size + border + (size + border) % 2 for size in (n_rows, self.in_features))
        row, column = row + (height - n_rows) // 2, column + (width - self.in_features) // 2
        spectrum = c_n.new_zeros(height, width).index_put((row, column), c_n)
        upper, lower = spectrum.split(height // 2)
        # The names of the bands are those of PEFT, whose adapters mean the upper right quarter by ``horizontal``.
        coarse, horizontal = upper.split(width // 2, dim=1)
        vertical, diagonal = lower.split(width // 2, dim=1)
        change = inverse_wavelet_transform(coarse, horizontal, vertical, diagonal, self.low)
        return change[:n_rows, : self.in_features]
