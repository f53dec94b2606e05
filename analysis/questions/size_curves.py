"""The mean curve of each size of a fit, and the test that two of them meet.

Of a law with straight lines they are the sizes' own lines, tested on the lines of runs; of a law with curves they are
the law's curves, tested with the covariance of its parameters. One run per size borrows the spread between seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq

from analysis.fitting.record import Fit
from analysis.intervals.curve_band import curve_band
from analysis.intervals.run_lines import BORROWED
from analysis.intervals.shape import Deviation
from analysis.intervals.size_test import NORMAL, Gap, SizeTest
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
        assert fit.points is not None
        self._size = np.searchsorted(fit.points.sizes, self.values)
        self._line = np.searchsorted(self._test.lines.sizes, self.values)
        # Several questions are asked at each place.
        self._away: dict[tuple[int, float], Deviation] = {}
        self._tests: dict[float, SizeTest] = {}
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

    def p_equal(self, ln_x: float, i: int, others: Sequence[int], doubt: bool = True) -> np.ndarray:
        """p of "the mean curves of i and j meet at ln X" for each j. With doubt about the law they may be off the
        fitted ones as far as their windows show (`Shape`); a p is never smaller for it."""
        gaps = self._gaps(ln_x, i, others)
        p = np.array([gap.p_zero() for gap in gaps])
        if doubt and self._has_shape(i, *others):
            away = [self._shift(ln_x, i, j) for j in others]
            moved = [gap.p_zero(*shift) for gap, shift in zip(gaps, away, strict=True)]
            p = np.maximum(p, moved)
        return p

    def gap(self, ln_x: float, i: int, j: int, doubt: bool) -> float:
        """Mean curve of i minus that of j at ln X: by the runs, or with the mean of the doubt about the law."""
        (gap,) = self._gaps(ln_x, i, [j])
        value = float(gap.weight @ gap.value)
        if doubt and self._has_shape(i, j):
            posterior, shift, _ = self._shift(ln_x, i, j)
            value += float(posterior @ shift)
        return value

    def _has_shape(self, *sizes: int) -> bool:
        shape = self.fit.shape
        return shape is not None and all(int(self._size[i]) in shape.sizes for i in sizes)

    def _shift(self, ln_x: float, i: int, j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(posterior, mean, variance beyond the law's) of how far i minus j is from the fitted curves, (K,) each."""
        shape = self.fit.shape
        assert shape is not None
        for size in (i, j):
            if (size, ln_x) not in self._away:
                self._away[size, ln_x] = shape.deviation(int(self._size[size]), np.array([ln_x]))
        one, other = self._away[i, ln_x], self._away[j, ln_x]
        return shape.posterior, (one.shift - other.shift)[:, 0], (one.excess + other.excess)[:, 0]

    def _gaps(self, ln_x: float, i: int, others: Sequence[int]) -> list[Gap]:
        """Mean curve of i minus that of each j at ln X, if the law holds."""
        if not self.straight:
            band, one = curve_band(self.fit), float(self.values[i])
            return [band.gap(one, float(self.values[j]), ln_x, **self._columns) for j in others]
        test, own, at = self._test, int(self._line[i]), [int(self._line[j]) for j in others]
        if ln_x not in self._tests:
            self._tests[ln_x] = test.at(ln_x)
        sizes = self._tests[ln_x]
        if sizes.df > 0:
            return [sizes.gap(own, j) for j in at]
        heights, variance = test.lines.at(ln_x)
        variance = variance + (BORROWED[0] * (ln_x - test.lines.centre)) ** 2 + BORROWED[1] ** 2
        run = {size: position for position, size in enumerate(test.lines.size)}
        a = [run[own]]
        return [Gap(np.ones(1), heights[a] - heights[[run[j]]], variance[a] + variance[[run[j]]], NORMAL) for j in at]

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
