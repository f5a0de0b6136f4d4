"""Scaling laws: known laws are found again, bands hold what they say, bad input is refused."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from llm_workshop.scaling.law import fit_law, fit_valley, fit_with_band, power_of

SIZES = np.array([3e5, 6e5, 1.2e6, 2.5e6, 5e6, 1e7])


def made(floor, scale, exponent, sizes=SIZES):
    return floor + scale * (sizes / 1e6) ** -exponent


@pytest.mark.parametrize("floor, scale, exponent", [(1.7, 1.1, 0.3), (0.0, 2.0, 0.1), (3.0, 0.2, 0.8), (0.5, 4.0, 0.05)])
def test_a_law_without_noise_is_found_again(floor, scale, exponent):
    law = fit_law(SIZES, made(floor, scale, exponent))
    assert law.exponent == pytest.approx(exponent, rel=1e-4) and law.floor == pytest.approx(floor, abs=1e-3)
    # scale is the reducible loss at the law's own unit
    assert law.loss([1e6])[0] - law.floor == pytest.approx(scale, rel=1e-3)
    assert law.loss([1e9])[0] == pytest.approx(made(floor, scale, exponent, np.array([1e9]))[0], rel=1e-4)


def test_noisy_losses_are_fitted_as_well_as_by_scipy():
    losses = made(1.7, 1.1, 0.3) * (1 + 0.01 * np.random.default_rng(3).standard_normal(len(SIZES)))
    law = fit_law(SIZES, losses)
    theirs = least_squares(lambda p: made(*p) / losses - 1, (1.5, 1.0, 0.25), bounds=([0, 0, 0.01], [np.inf, np.inf, 3]), xtol=1e-12)
    ours = ((law.loss(SIZES) / losses - 1) ** 2).sum()
    assert ours == pytest.approx(2 * theirs.cost, rel=1e-5)


def test_losses_that_do_not_fall_have_no_slope():
    law = fit_law(SIZES, np.linspace(2.0, 2.5, len(SIZES)))
    assert law.scale == 0 and 2.0 < law.floor < 2.5


def test_the_band_holds_the_true_law_about_as_often_as_it_says():
    generator, inside, inside_prediction = np.random.default_rng(0), 0, 0
    for number in range(60):
        noisy = made(1.7, 1.1, 0.3) * (1 + 0.01 * generator.standard_normal(len(SIZES)))
        fitted = fit_with_band(SIZES, noisy, n_samples=120, seed=number)
        low, high = fitted.band([2e6], 0.9)
        inside += low[0] <= made(1.7, 1.1, 0.3, 2e6) <= high[0]
        low, high = fitted.prediction(2e7, 0.9)
        inside_prediction += low <= made(1.7, 1.1, 0.3, 2e7) * (1 + 0.01 * generator.standard_normal()) <= high
    assert 42 <= inside <= 60 and 42 <= inside_prediction <= 60


def test_the_band_grows_with_the_noise_and_away_from_the_runs():
    signs = np.array([1, -1, 1, -1, 1, -1])
    quiet, noisy = (fit_with_band(SIZES, made(1.7, 1.1, 0.3) * (1 + size * signs)) for size in (0.001, 0.01))

    def width(fitted, size):
        low, high = fitted.band([size])
        return (high - low)[0]

    assert width(noisy, 2e6) > 3 * width(quiet, 2e6) and width(noisy, 1e9) > 2 * width(noisy, 2e6)
    low, high = noisy.exponents
    assert low < noisy.law.exponent < high
    assert quiet.is_determined and not fit_with_band(SIZES, 3 + 0.05 * signs).is_determined
    below, above = noisy.prediction(2e6)
    assert above - below > width(noisy, 2e6)


@pytest.mark.parametrize("sizes, losses, problem", [
    ([1e6, 2e6], [3, 2], "2 sizes are too few"),
    ([1e6, 1e6, 1e6], [3, 2, 2.5], "1 sizes are too few"),
    ([1e6, 2e6, 4e6], [3, 2, float("inf")], "a loss is inf.*leave out the run that diverged"),
    ([1e6, 0, 4e6], [3, 2, 1], "a size is 0.0"),
    ([1e6, 2e6, 4e6], [3, 2], "one loss for each size"),
])  # fmt: skip
def test_bad_runs_are_refused(sizes, losses, problem):
    with pytest.raises(ValueError, match=problem):
        fit_law(sizes, losses)


def test_three_runs_have_no_band():
    with pytest.raises(ValueError, match="3 runs leave no residuals"):
        fit_with_band([1e6, 2e6, 4e6], [3.0, 2.5, 2.2])


def test_the_valley_of_a_budget():
    losses = 2.0 + 0.08 * np.log(SIZES / 2e6) ** 2
    valley = fit_valley(SIZES, losses)
    assert valley.size == pytest.approx(2e6) and valley.loss == pytest.approx(2.0)
    assert valley.at(SIZES) == pytest.approx(losses)
    assert fit_valley(SIZES, 2.0 + 0.08 * np.log(SIZES / 1e8) ** 2) is None, "the lowest point lies beyond the largest size"
    assert fit_valley(SIZES, 2.0 - 0.08 * np.log(SIZES / 2e6) ** 2) is None, "a hill"


def test_the_power_of_the_best_size():
    assert power_of([1e12, 4e12, 16e12], [1e6, 2e6, 4e6]) == pytest.approx(0.5)
    assert power_of([1e12], [1e6]) is None
