"""Bands of the curves of a fitted law that are no straight lines, by the covariance of its parameters.

A law with straight lines has bands from the lines of its runs (`analysis.intervals.run_test`). Here the curve itself
is linearised: its variance at X is that of the parameters, which the scatter of runs or of sizes gives
(`analysis.intervals.profile`). One run per size borrows the spread between seeds; a law that few sizes share is taken
to hold exactly. Both are said in `basis`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from analysis.fitting.problem import Problem
from analysis.fitting.record import Fit
from analysis.intervals.law_test import LEVEL
from analysis.intervals.profile import ProfileTest, tests_of
from analysis.intervals.run_test import band
from analysis.intervals.scatter import NoScatter, Scatter, scatter, seed_scatter
from analysis.intervals.size_test import Gap
from scaling.schema import InputError


@dataclass(frozen=True)
class CurveValues:
    """ln L of one size at m values of X, with its variances.

    Fields:
        ln_loss: (m,). gradient: (m, entries) by the parameters of `test`.
        missed: (m,) variance of a size about a law that sizes share; seeds: (m,) of a run about its size; noise: (m,)
            of one evaluation about its run. df: degrees of freedom.
    """

    ln_loss: np.ndarray
    gradient: np.ndarray
    test: ProfileTest
    missed: np.ndarray
    seeds: np.ndarray
    noise: np.ndarray
    df: float

    @property
    def variance(self) -> np.ndarray:
        """(m,) of the mean curve of the size."""
        return np.einsum("ij,jk,ik->i", self.gradient, self.test.covariance, self.gradient) + self.missed

    def ends(self, *more: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """95 % ends of ln L of the mean curve, or with the variances of what is added to it; never above 0."""
        half = student.isf(LEVEL / 2, self.df) * np.sqrt(sum(more, self.variance))
        return self.ln_loss - half, np.minimum(self.ln_loss + half, 0.0)


class CurveBand:
    """The curves of a fitted law at its sizes, each with a covariance. Raises InputError where no run tells of noise.

    Attributes:
        basis: what the bands rest on, in words.
    """

    def __init__(self, fit: Fit):
        points, law = fit.points, fit.law
        if points is None or fit.solution is None:
            raise InputError("this fit has no points behind it (it was loaded from its record); fit the source again.")
        self.fit, self.points, self.law = fit, points, law
        problem = Problem(points, law, "log", False)
        vector = problem.vector(fit.solution)
        try:
            self._seeds = seed_scatter(problem, vector)
        except NoScatter as reason:
            raise InputError(f"no band: {reason}.") from None
        of_law = scatter(problem, vector)
        self._of_law: Scatter = self._seeds if isinstance(of_law, str) else of_law
        self._tests = tests_of(problem, fit.solution, self._of_law)
        self.basis = self._of_law.basis

    def at(self, num_params: float, ln_x: np.ndarray, **columns: Any) -> CurveValues:
        """The law at a size: a fitted one, or any where the law predicts it."""
        sizes, law = self.points.sizes, self.law
        ln_x = np.atleast_1d(np.asarray(ln_x, float))
        near = np.flatnonzero(np.isclose(sizes, num_params, rtol=1e-6))
        if len(near) == 0 and not law.predicts_unseen:
            raise InputError(f"no curve of {law.letter} = {num_params:.4g} in this fit; there are {sizes.tolist()}.")
        size = int(near[0]) if len(near) else None
        test = self._tests[0] if law.shared or size is None else self._tests[size]

        def eta(vector: np.ndarray) -> np.ndarray:
            known = test.problem.values(vector)
            own = 0 if not law.shared else size
            values = {name: v if np.ndim(v) == 0 else v[own] for name, v in known.items()}
            return law.ln_loss(num_params, np.exp(ln_x), values, **columns) + np.zeros(len(ln_x))

        gradient = np.empty((len(ln_x), len(test.vector)))
        for entry, value in enumerate(test.vector):
            h = np.zeros(len(test.vector))
            h[entry] = 1e-5 * max(1.0, abs(value))
            gradient[:, entry] = (eta(test.vector + h) - eta(test.vector - h)) / (2 * h[entry])
        seeds, missed = self._shift(self._seeds, size, ln_x), np.zeros(len(ln_x))
        if self._of_law is not self._seeds and law.predicts_unseen:
            missed = self._shift(self._of_law, size, ln_x)
        centre = eta(test.vector)
        return CurveValues(centre, gradient, test, missed, seeds, self._noise(centre), test.df)

    def _shift(self, spread: Scatter, size: int | None, ln_x: np.ndarray) -> np.ndarray:
        """(m,) variance of the shift of a run or a size; of a size that was not fitted, that of those that were."""
        mine = np.ones(len(self.points), bool) if size is None else self.points.size == size
        groups = np.unique(spread.group[mine])
        middle = float(np.mean(self.points.x[mine] - spread.away[mine]))
        return spread.level[groups].mean() + spread.slope[groups].mean() * (ln_x - middle) ** 2

    def _noise(self, ln_loss: np.ndarray) -> np.ndarray:
        """(m,) variance of one evaluation about its run's curve, in ln L."""
        loss, trials = np.exp(np.minimum(ln_loss, 0.0)), self.points.trials
        counts = 0.0 if trials is None else (1 - loss) / np.maximum(loss, 1e-6) / float(np.median(trials))
        return np.asarray(self._seeds.dispersion * (counts + self._seeds.extra))

    def gap(self, one: float, other: float, ln_x: float, **columns: Any) -> Gap:
        """Mean curve of one size minus that of another, in ln L."""
        a, b = (self.at(size, np.array([ln_x]), **columns) for size in (one, other))
        variance = a.variance + b.variance
        if a.test is b.test:
            slope = a.gradient - b.gradient
            variance = (slope @ a.test.covariance @ slope.T)[0] + a.missed + b.missed
        return Gap(np.ones(1), a.ln_loss - b.ln_loss, variance, min(a.df, b.df))


def curve_band(fit: Fit) -> CurveBand:
    """The bands of a fit, made once for it."""
    if fit.curve_band is None:
        fit.curve_band = CurveBand(fit)
    return fit.curve_band


def size_band(fit: Fit, num_params: float, x: np.ndarray, **columns: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """95 % band of the mean curve of a fitted size over X: (low, high) in test loss, and what it rests on. By the lines
    of its runs where the law is straight, by the law's own curve where it is not."""
    if fit.law.slope is not None:
        return band(fit, num_params, x)
    curves = curve_band(fit)
    low, high = curves.at(num_params, np.log(x), **columns).ends()
    return np.exp(low), np.exp(high), curves.basis
