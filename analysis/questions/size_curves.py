"""The mean curve of each size of a fit, and the test that two of them meet.

Of a law with straight lines they are the sizes' own lines, tested on the lines of runs; of a law with curves they are
the law's curves, tested with the covariance of its parameters. One run per size borrows the spread between seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from analysis.fitting.record import Fit
from analysis.intervals.curve_band import curve_band
from analysis.intervals.run_lines import BORROWED
from analysis.laws import Law
from scaling.schema import InputError


class SizeCurves:
    """The curves of the sizes of a fit, ascending; an index counts them.

    Attributes:
        values: (n,) N, or what the fit groups by. straight: whether they are each size's own line.
        basis: what their test rests on, in words.
    """

    def __init__(self, fit: Fit):
        if fit.test is None:
            raise InputError("no run has two evaluated points at different X, so there are no curves to compare.")
        self.fit, self._test = fit, fit.test
        self._rows = [row for row in fit.per_size if row["efficiency"] is not None]
        self.values = np.array([row["num_params"] for row in self._rows])
        self.straight = fit.law.slope is not None
        self._line = np.searchsorted(self._test.lines.sizes, self.values)
        self._columns = law_columns(fit.law)
        if self.straight:
            df = self._test.at(float(self._test.lines.centre.mean())).df
            borrowed = "one run each: its own noise and a borrowed seed spread, slope .0025, level .004"
            self.basis = self._test.basis if df else borrowed
        else:
            self.basis = curve_band(fit).basis

    def ln_loss(self, i: int, ln_x: np.ndarray) -> np.ndarray:
        row = self._rows[i]
        if self.straight:
            return row["intercept"] - row["efficiency"] * ln_x
        return np.log(self.fit.predict(row["num_params"], np.exp(ln_x), **self._columns))

    def p_equal(self, ln_x: float, i: int, others: Sequence[int]) -> np.ndarray:
        """p of "the mean curves of i and j meet at ln X" for each j."""
        if not self.straight:
            band = curve_band(self.fit)
            p = lambda j: band.p_equal(float(self.values[i]), float(self.values[j]), ln_x, **self._columns)  # noqa: E731
            return np.array([1.0 if j == i else p(j) for j in others])
        test, at = self._test, [int(self._line[j]) for j in others]
        own = int(self._line[i])
        heights, variance = test.lines.at(ln_x)
        sizes = test.at(ln_x)
        if sizes.df > 0:
            return np.array([1.0 if j == own else sizes.p_equal(own, j) for j in at])
        variance = variance + (BORROWED[0] * (ln_x - test.lines.centre)) ** 2 + BORROWED[1] ** 2
        run = {size: position for position, size in enumerate(test.lines.size)}
        gaps = [abs(heights[run[own]] - heights[run[j]]) / np.sqrt(variance[run[own]] + variance[run[j]]) for j in at]
        return np.asarray(2 * norm.sf(gaps))

    def meeting(self, i: int, j: int, ends: tuple[float, float]) -> float | None:
        """ln X at which the curves of i and j cross: lines anywhere, curves between the ends, the first; else None."""
        if self.straight:
            gap = self._rows[j]["efficiency"] - self._rows[i]["efficiency"]
            return None if gap == 0 else (self._rows[j]["intercept"] - self._rows[i]["intercept"]) / gap
        grid = np.linspace(*ends, 120)
        apart = lambda ln_x: self.ln_loss(j, np.atleast_1d(ln_x)) - self.ln_loss(i, np.atleast_1d(ln_x))  # noqa: E731
        sign = np.sign(apart(grid))
        change = np.flatnonzero(sign[1:] * sign[:-1] < 0)
        if not len(change):
            return None
        one = lambda ln_x: float(apart(ln_x)[0])  # noqa: E731
        return brentq(one, float(grid[change[0]]), float(grid[change[0] + 1]))


def in_range(value: float | None) -> float | None:
    """X of ln X, where it is a number that a float can hold."""
    return None if value is None or abs(value) >= 700 else math.exp(value)


def law_columns(law: Law) -> dict[str, float]:
    """What else the law asks of a point, where nothing else is known: no prompt repeated."""
    return dict.fromkeys(law.columns, 1.0)
