"""Predict a size that was fitted, by its own runs: its mean curve, a new run as it is measured, a run that goes on.

Two intervals stand beside each other: if the law goes on as it is, and with the doubt about that
(`analysis.intervals.law_doubt`). Where each size has one run, the spread between seeds is borrowed from the reference
replicates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.fitting.record import Fit
from analysis.intervals.curve_band import CurveValues, curve_band
from analysis.intervals.law_doubt import LawDoubt
from analysis.intervals.law_test import LEVEL
from analysis.intervals.run_lines import RunLines
from analysis.intervals.run_test import BORROWED, RunTest
from analysis.questions.size_curves import law_columns
from scaling.schema import InputError

DRAWS = 4000
SCORE_DRAWS = 1000  # of each of many held-out points


Ends = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Prediction:
    """ln L at n values of X.

    Fields:
        ln_loss: (n,) the point. mean, run: 95 % ends for the mean curve and for one measured run, doubt about the law
            included; None where no method with measured coverage is known. mean_by_law, run_by_law: the same if the
            law goes on as it is.
        median: (n,) of the draws of the mean curve, where the curves are not the law's; else None.
        rests_on: in words.
    """

    ln_loss: np.ndarray
    mean: Ends | None
    run: Ends | None
    rests_on: str
    mean_by_law: Ends | None = None
    run_by_law: Ends | None = None
    median: np.ndarray | None = None

    def parts(self) -> dict[str, np.ndarray] | None:
        """Half-widths (n,) in loss of the interval of a measured run: what `evaluation` and seeds, the `parameters` and
        the `law` bring; their squares add up."""
        if self.run is None or self.mean_by_law is None or self.run_by_law is None:
            return None
        half = lambda ends: (np.exp(ends[1]) - np.exp(ends[0])) / 2  # noqa: E731
        total, by_law, parameters = half(self.run), half(self.run_by_law), half(self.mean_by_law)
        rest = lambda whole, part: np.sqrt(np.maximum(whole**2 - part**2, 0.0))  # noqa: E731
        return {"evaluation": rest(by_law, parameters), "parameters": parameters, "law": rest(total, by_law)}


def _ends(draws: np.ndarray) -> Ends:
    low, high = np.quantile(draws, (LEVEL / 2, 1 - LEVEL / 2), axis=0)
    return np.minimum(low, 0.0), np.minimum(high, 0.0)


def _hull(one: Ends, other: Ends) -> Ends:
    """Doubt never narrows an interval."""
    return np.minimum(one[0], other[0]), np.maximum(one[1], other[1])


def _noise(lines: RunLines, ln_loss: np.ndarray, dispersion: float) -> np.ndarray:
    """Variance of one evaluation about its run's curve, in ln L."""
    known = lines.trials[np.isfinite(lines.trials)]
    loss = np.exp(np.minimum(ln_loss, 0.0))
    counts = (1 - loss) / np.maximum(loss, 1e-6) / float(np.median(known)) if len(known) else 0.0
    return np.asarray(dispersion * (counts + lines.extra))


def _test(fit: Fit) -> RunTest:
    if fit.test is None:
        raise InputError("a forecast needs the runs behind the fit: fit the source again, and add their intervals.")
    return fit.test


# ---------------------------------------------------------------- a fitted size


def predict_fitted_size(fit: Fit, num_params: float, ln_x: np.ndarray, seed: int = 0) -> Prediction:
    """Mean curve and a new measured run of a size that was fitted, by its own runs; the point is the law's. Of a law
    with curves the intervals are about its curve (`analysis.intervals.curve_band`), where no prompt is repeated."""
    rng = np.random.default_rng([seed, 2])
    columns: dict[str, float] = {}
    if fit.law.slope is None:
        columns = law_columns(fit.law)
        said = "".join(f"; at {name} {value:g}" for name, value in columns.items())
        point = np.log(fit.predict(num_params, np.exp(ln_x), **columns))
        try:
            bands = curve_band(fit)
        except InputError as error:
            return Prediction(point, None, None, f"the law's own curve, without an interval: {error}{said}")
        mean, seeds, noise = _curve_draws(bands.at(num_params, ln_x, **columns), rng)
        basis = f"the law's own curve; {bands.basis}{said}"
    else:
        point = np.log(fit.predict(num_params, np.exp(ln_x)))
        mean, seeds, noise, basis = _line_draws(fit, num_params, ln_x, rng)
    z = rng.standard_normal(mean.shape)
    run = lambda law: (r := mean + law + seeds) + z * np.sqrt(noise(r))  # noqa: E731
    doubt, size = LawDoubt(fit), _size_of(fit, num_params)
    law = doubt.at_size(size, ln_x, np.median(mean, 0), DRAWS, np.random.default_rng([seed, 4]))
    median = np.minimum(np.median(mean + law, 0), 0.0) if doubt.flagged else None
    return Prediction(point, _ends(mean + law), _ends(run(law)), basis, _ends(mean), _ends(run(0.0)), median)


def _size_of(fit: Fit, num_params: float) -> int:
    assert fit.points is not None
    return int(np.flatnonzero(np.isclose(fit.points.sizes, num_params, rtol=1e-6))[0])


def _line_draws(
    fit: Fit, num_params: float, ln_x: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray], str]:
    """(draws (DRAWS, n) of ln L of the mean curve, of what a seed adds, variance of an evaluation by ln L, basis)."""
    test = _test(fit)
    at_size = np.flatnonzero(np.isclose(test.lines.sizes, num_params, rtol=1e-6))
    if len(at_size) == 0 or not (test.lines.size == at_size[0]).any():
        raise InputError(f"size {num_params:.4g} has no run with a line in this fit; there are {test.lines.sizes}.")
    i = int(at_size[0])
    own = np.flatnonzero(test.lines.size == i)
    dispersion = float(test.lines.dispersion[own].mean())
    mean, seeds = np.empty((2, DRAWS, len(ln_x)))
    basis = f"the lines of its own runs; {test.basis}"
    for j, at in enumerate(ln_x):
        h, variance = test.lines.at(float(at))
        sizes = test.at(float(at))
        if sizes.df > 0:
            cell = rng.choice(len(sizes.weight), DRAWS, p=sizes.weight)
            spread, n = sizes.variance[cell, i], sizes.runs_per_size[i]
            t = rng.standard_t(sizes.degrees(i), DRAWS)
            mean[:, j] = sizes.mean[cell, i] + t * np.sqrt(spread / n)
            seeds[:, j] = t * (np.sqrt(spread * (1 + 1 / n)) - np.sqrt(spread / n))
        else:
            of_seed = (BORROWED[0] * (at - test.lines.centre[own[0]])) ** 2 + BORROWED[1] ** 2
            z = rng.standard_normal((2, DRAWS))
            mean[:, j] = h[own[0]] + z[0] * math.sqrt(variance[own[0]] + of_seed)
            seeds[:, j] = z[1] * math.sqrt(of_seed)
            basis = "the line of its own run: its own noise and a borrowed seed spread (slope .0025, level .004)"
    return mean, seeds, lambda ln_loss: _noise(test.lines, ln_loss, dispersion), basis


def _curve_draws(
    at: CurveValues, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The same draws about the curve of a law."""
    t = rng.standard_t(min(at.df, 1e6), (DRAWS, 1))
    mean = at.ln_loss + t * np.sqrt(at.variance)
    seeds = at.ln_loss + t * np.sqrt(at.variance + at.seeds) - mean
    return mean, seeds, lambda ln_loss: at.noise


def predict_same_run(fit: Fit, run: str, ln_x: np.ndarray, seed: int = 0, **columns: np.ndarray) -> Ends:
    """95 % ends of ln L of a run that goes on, as it would be measured: its own line and noise, t(points - 2), and the
    doubt about the law. Of a law with curves: the curve of its size, the spread of seeds and the noise of an
    evaluation."""
    assert fit.points is not None
    size = int(fit.points.run_sizes()[fit.points.runs.index(run)])
    num_params = float(fit.points.sizes[size])
    if fit.law.slope is None:
        at = curve_band(fit).at(num_params, ln_x, **columns)
        centre, middle, df = at.ln_loss, at.ln_loss, at.df
        variance = at.variance + at.seeds + at.noise
    else:
        lines = _test(fit).lines
        if run not in lines.runs:
            raise InputError(f"run {run} has no line in this fit.")
        i = lines.runs.index(run)
        h, spread = zip(*((a[i], v[i]) for a, v in (lines.at(float(at)) for at in ln_x)), strict=True)
        row, centre, df = fit.per_size[size], np.array(h), float(max(lines.points[i] - 2, 1))
        middle = row["intercept"] - row["efficiency"] * ln_x
        variance = np.array(spread) + _noise(lines, centre, float(lines.dispersion[i]))
    rng = np.random.default_rng([seed, 5])
    law = LawDoubt(fit).at_size(size, ln_x, middle, SCORE_DRAWS, rng)
    return _ends(centre + rng.standard_t(min(df, 1e6), (SCORE_DRAWS, 1)) * np.sqrt(variance) + law)
