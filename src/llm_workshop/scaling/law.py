"""Scaling laws: the loss as a power of the model's size, fitted, with a confidence band.

    L(N) = floor + scale * N**-exponent         (Kaplan et al. 2020, section 3; Hoffmann et al. 2022, section 3.3)

For a given exponent the law is linear in floor and scale, so they follow by least squares and only the exponent is
searched ("variable projection", Golub and Pereyra 1973).  Residuals count relative to the loss, which is, to first order,
least squares in the logarithm of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_LOWEST, _HIGHEST = 0.01, 3.0  # exponents; published ones lie between 0.05 and 0.5
_ZOOMS, _GRID = 5, 41


@dataclass(frozen=True)
class ScalingLaw:
    """``floor + scale * (size / unit)**-exponent``; losses in nats."""

    floor: float
    """What no size gets below: the text's own uncertainty, and what the number of tokens leaves unlearnt."""
    scale: float
    exponent: float
    unit: float = 1.0
    """Size at which ``scale`` is the reducible loss."""

    def loss(self, sizes: Sequence[float] | np.ndarray) -> np.ndarray:
        return self.floor + self.scale * (np.asarray(sizes, float) / self.unit) ** -self.exponent


@dataclass(frozen=True)
class FittedLaw:
    """A law, and the same fitted to resampled residuals."""

    law: ScalingLaw
    samples: tuple[ScalingLaw, ...]
    spread: tuple[float, ...]
    """Relative residuals, widened by the degrees of freedom that the fit took."""

    def band(self, sizes: Sequence[float] | np.ndarray, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Where the law itself lies: low and high, shaped like ``sizes``."""
        return self._quantiles(np.stack([sample.loss(sizes) for sample in self.samples]), level)

    def prediction(self, size: float, level: float = 0.9, seed: int = 0) -> tuple[float, float]:
        """Where the loss of one new run of ``size`` lies: the band, and a residual on top."""
        noise = np.random.default_rng(seed).choice(self.spread, len(self.samples))
        losses = np.array([float(sample.loss(size)) for sample in self.samples]) * (1 + noise)
        low, high = self._quantiles(losses, level)
        return float(low), float(high)

    @property
    def exponents(self) -> tuple[float, float]:
        """The exponent's 5th and 95th percentile."""
        low, high = np.quantile([sample.exponent for sample in self.samples], (0.05, 0.95))
        return float(low), float(high)

    @property
    def is_determined(self) -> bool:
        """Whether the runs say anything of the exponent: neither end of its interval is where the search for it ends."""
        low, high = self.exponents
        return low > 1.02 * _LOWEST and high < 0.98 * _HIGHEST

    @staticmethod
    def _quantiles(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.quantile(values, ((1 - level) / 2, (1 + level) / 2), axis=0))


def fit_law(sizes: Sequence[float], losses: Sequence[float]) -> ScalingLaw:
    """The law that comes nearest to the losses; floor and scale are never negative.

    Raises:
        ValueError: fewer than three sizes, or a size or loss that is not a number above 0.
    """
    sizes, losses = _checked(sizes, losses)
    return _fit(sizes, losses[None])[0]


def fit_with_band(sizes: Sequence[float], losses: Sequence[float], n_samples: int = 400, seed: int = 0) -> FittedLaw:
    """``fit_law``, and ``n_samples`` fits to losses made of the law and resampled residuals (Efron 1979).

    Raises:
        ValueError: as ``fit_law``; also for three runs, which the law's three numbers fit whatever they are.
    """
    sizes, losses = _checked(sizes, losses)
    if len(losses) < 4:
        raise ValueError(f"{len(losses)} runs leave no residuals to judge a law of three numbers by: give at least 4 widths or seeds")
    law = _fit(sizes, losses[None])[0]
    expected = law.loss(sizes)
    residuals = (losses / expected - 1) * (len(losses) / (len(losses) - 3)) ** 0.5
    drawn = np.random.default_rng(seed).choice(residuals, (n_samples, len(losses)))
    return FittedLaw(law, tuple(_fit(sizes, expected * (1 + drawn))), tuple(residuals.tolist()))


def _checked(sizes: Sequence[float], losses: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    sizes, losses = np.asarray(sizes, float), np.asarray(losses, float)
    if sizes.shape != losses.shape or sizes.ndim != 1:
        raise ValueError(f"sizes have shape {sizes.shape}, losses {losses.shape}: give one loss for each size")
    for name, values in (("size", sizes), ("loss", losses)):
        bad = values[~(np.isfinite(values) & (values > 0))]
        if len(bad):
            raise ValueError(f"a {name} is {bad[0]}: a scaling law needs finite numbers above 0; leave out the run that diverged")
    if len(np.unique(sizes)) < 3:
        raise ValueError(f"{len(np.unique(sizes))} sizes are too few for a law of three numbers: give at least 3")
    return sizes, losses


def _fit(sizes: np.ndarray, losses_SN: np.ndarray) -> list[ScalingLaw]:
    """One law for each row of losses: a grid of exponents, closed in on the best one."""
    unit = float(np.exp(np.log(sizes).mean()))
    x_N = np.log(sizes / unit)
    grid_SG = np.broadcast_to(np.geomspace(_LOWEST, _HIGHEST, _GRID), (len(losses_SN), _GRID))
    rows = np.arange(len(losses_SN))
    for _ in range(_ZOOMS):
        floor_SG, scale_SG, error_SG = _project(x_N, losses_SN, grid_SG)
        best_S = error_SG.argmin(axis=1)
        low_S = grid_SG[rows, np.maximum(best_S - 1, 0)]
        high_S = grid_SG[rows, np.minimum(best_S + 1, _GRID - 1)]
        found = [ScalingLaw(float(floor_SG[s, b]), float(scale_SG[s, b]), float(grid_SG[s, b]), unit) for s, b in zip(rows, best_S)]
        grid_SG = np.geomspace(low_S, high_S, _GRID, axis=1)
    return found


def _project(x_N: np.ndarray, losses_SN: np.ndarray, exponent_SG: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Floor, scale and squared relative error that are best for each exponent, each (samples, exponents)."""
    power_SGN = np.exp(-exponent_SG[..., None] * x_N)
    weight_S1N = 1 / losses_SN[:, None] ** 2
    target_S1N = losses_SN[:, None]

    def weighted(values: np.ndarray) -> np.ndarray:
        return (weight_S1N * values).sum(-1)

    total, power, square = weight_S1N.sum(-1), weighted(power_SGN), weighted(power_SGN**2)
    target, product = weighted(target_S1N), weighted(power_SGN * target_S1N)
    determinant = np.maximum(total * square - power**2, 1e-300)
    scale = (total * product - power * target) / determinant
    floor = (target - scale * power) / total
    # Where a bound is crossed the other number is fitted alone: no floor, or no slope at all.
    scale, floor = np.where(floor < 0, product / square, scale), np.maximum(floor, 0)
    floor, scale = np.where(scale < 0, target / total, floor), np.maximum(scale, 0)
    error = weighted((floor[..., None] + scale[..., None] * power_SGN - target_S1N) ** 2)
    return floor, scale, error


@dataclass(frozen=True)
class Valley:
    """The best size at one budget: the lowest point of a parabola in the logarithm of the size."""

    size: float
    loss: float
    curvature: float

    def at(self, sizes: Sequence[float] | np.ndarray) -> np.ndarray:
        return self.loss + self.curvature * np.log(np.asarray(sizes, float) / self.size) ** 2


def fit_valley(sizes: Sequence[float], losses: Sequence[float]) -> Valley | None:
    """The parabola through the runs of one budget (Hoffmann et al. 2022, approach 2).

    None where the losses have no lowest point between the smallest and the largest size: the best size lies outside.

    Raises:
        ValueError: as ``fit_law``.
    """
    sizes, losses = _checked(sizes, losses)
    unit = float(np.exp(np.log(sizes).mean()))
    curvature, slope, constant = np.polyfit(np.log(sizes / unit), losses, 2)
    if curvature <= 0:
        return None
    size = unit * float(np.exp(-slope / (2 * curvature)))
    if not sizes.min() <= size <= sizes.max():
        return None
    return Valley(size, float(constant - slope**2 / (4 * curvature)), float(curvature))


def power_of(budgets: Sequence[float], sizes: Sequence[float]) -> float | None:
    """a of ``size ~ budget**a``, the slope of a line in logarithms; None for fewer than two budgets.

    Hoffmann et al. found 0.5: twice the size for four times the operations.
    """
    if len(set(budgets)) < 2:
        return None
    return float(np.polyfit(np.log(budgets), np.log(sizes), 1)[0])
