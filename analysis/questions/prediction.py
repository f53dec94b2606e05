"""Predict a size that was fitted, by its own runs: its mean curve, a new run as it is measured, a run that goes on.

Where each size has one run, the spread between seeds is borrowed from the reference replicates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from analysis.fitting.record import Fit
from analysis.intervals.curve_band import curve_band
from analysis.intervals.law_test import LEVEL
from analysis.intervals.run_lines import RunLines
from analysis.intervals.run_test import BORROWED, RunTest
from analysis.questions.size_curves import law_columns
from scaling.schema import InputError

DRAWS = 4000


@dataclass(frozen=True)
class Prediction:
    """ln L at n values of X: the point, and 95 % ends for the mean curve and for one measured run; ends are None where
    no method with measured coverage is known. `rests_on`: in words."""

    ln_loss: np.ndarray
    mean: tuple[np.ndarray, np.ndarray] | None
    run: tuple[np.ndarray, np.ndarray] | None
    rests_on: str


def _ends(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(draws, (LEVEL / 2, 1 - LEVEL / 2), axis=0)
    return np.minimum(low, 0.0), np.minimum(high, 0.0)


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
    if fit.law.slope is None:
        return _predict_curve(fit, num_params, ln_x)
    test = _test(fit)
    found = np.flatnonzero(np.isclose(test.lines.sizes, num_params, rtol=1e-6))
    if len(found) == 0 or not (test.lines.size == found[0]).any():
        raise InputError(f"size {num_params:.4g} has no run with a line in this fit; there are {test.lines.sizes}.")
    i, rng = int(found[0]), np.random.default_rng([seed, 2])
    own = np.flatnonzero(test.lines.size == i)
    dispersion = float(test.lines.dispersion[own].mean())
    means, runs, basis = [], [], test.basis
    for at in ln_x:
        h, variance = test.lines.at(float(at))
        sizes = test.at(float(at))
        if sizes.df > 0:
            cell = rng.choice(len(sizes.weight), DRAWS, p=sizes.weight)
            spread, centre, n = sizes.variance[cell, i], sizes.mean[cell, i], sizes.runs_per_size[i]
            t = rng.standard_t(sizes.degrees(i), DRAWS)
            mean, run = centre + t * np.sqrt(spread / n), centre + t * np.sqrt(spread * (1 + 1 / n))
        else:
            seeds = (BORROWED[0] * (at - test.lines.centre[own[0]])) ** 2 + BORROWED[1] ** 2
            z = rng.standard_normal((2, DRAWS))
            mean = h[own[0]] + z[0] * math.sqrt(variance[own[0]] + seeds)
            run = mean + z[1] * math.sqrt(seeds)
            basis = "one run per size: its own noise and a borrowed seed spread (slope .0025, level .004)"
        means.append(mean)
        runs.append(run + rng.standard_normal(DRAWS) * np.sqrt(_noise(test.lines, run, dispersion)))
    point = np.log(fit.predict(num_params, np.exp(ln_x)))
    return Prediction(point, _ends(np.array(means).T), _ends(np.array(runs).T), basis)


def _predict_curve(fit: Fit, num_params: float, ln_x: np.ndarray) -> Prediction:
    columns = law_columns(fit.law)
    point = np.log(fit.predict(num_params, np.exp(ln_x), **columns))
    said = "".join(f"; at {name} {value:g}" for name, value in columns.items())
    try:
        bands = curve_band(fit)
    except InputError as error:
        return Prediction(point, None, None, f"the law's own curve, without an interval: {error}{said}")
    at = bands.at(num_params, ln_x, **columns)
    return Prediction(point, at.ends(), at.ends(at.seeds, at.noise), f"the law's own curve; {bands.basis}{said}")


def predict_same_run(fit: Fit, run: str, ln_x: np.ndarray, **columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % ends of ln L of a run that goes on, as it would be measured: its own line and noise, t(points - 2). Of a law
    with curves: the curve of its size, the spread of seeds and the noise of an evaluation."""
    if fit.law.slope is None:
        assert fit.points is not None
        size = fit.points.sizes[fit.points.run_sizes()[fit.points.runs.index(run)]]
        at = curve_band(fit).at(float(size), ln_x, **columns)
        return at.ends(at.seeds, at.noise)
    lines = _test(fit).lines
    if run not in lines.runs:
        raise InputError(f"run {run} has no line in this fit.")
    i = lines.runs.index(run)
    h, variance = zip(*((a[i], v[i]) for a, v in (lines.at(float(at)) for at in ln_x)), strict=True)
    total = np.array(variance) + _noise(lines, np.array(h), float(lines.dispersion[i]))
    half = student.isf(LEVEL / 2, max(lines.points[i] - 2, 1)) * np.sqrt(total)
    return np.array(h) - half, np.minimum(np.array(h) + half, 0.0)
