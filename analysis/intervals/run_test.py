"""The run-level tests behind a fit, and what they give: intervals of k for each size and bands of its mean curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from analysis.fitting.points import Points
from analysis.fitting.record import Fit
from analysis.intervals.law_test import EXACT, LEVEL, LawTest, f_tail, law_test
from analysis.intervals.run_lines import BORROWED, RunLines, run_lines
from analysis.intervals.size_test import SizeTest, _spread_out
from analysis.laws import Law
from analysis.laws.efficiency import LAW as SMOOTH
from scaling.schema import InputError


@dataclass(frozen=True)
class RunTest:
    """What stands behind the intervals of a fit.

    Fields:
        lines: the runs' lines.
        law: the test of the law's own k(N); None for a law without one, below three runs and for a single size.
        law_exact: whether the test takes it that sizes follow the law exactly.
        basis: what the intervals per size rest on, in words.
        trend: (sizes,) slope relative to the largest, with which the spread between seeds may grow.
    """

    lines: RunLines
    law: LawTest | None
    law_exact: bool
    basis: str
    trend: np.ndarray

    def slopes(self) -> SizeTest:
        """The test of each size's mean slope."""
        return self._sizes(self.lines.slope, self.lines.slope_variance, self.lines.slope_counts)

    def at(self, ln_x: float) -> SizeTest:
        """The test of each size's mean ln L at ln X."""
        return self._sizes(*self.lines.at(ln_x), self.lines.counts_at(ln_x))

    def _sizes(self, h: np.ndarray, variance: np.ndarray, least: np.ndarray) -> SizeTest:
        return SizeTest(h, variance, self.lines.size, len(self.lines.sizes), self.trend, least)


def run_test(points: Points, law: Law, law_exact: bool = False) -> RunTest:
    """The run-level tests of the points of a fit of this law."""
    lines = run_lines(points)
    slopes = lines.slope, lines.slope_variance, lines.num_params
    enough = len(lines.runs) > 2 and len(np.unique(lines.size)) > 1
    more = EXACT if law_exact else None, lines.slope_counts
    test = law_test(law, *slopes, *more) if enough and law.shape is not None else None
    trend = np.ones(len(lines.sizes))
    if test is not None:
        trend = test.trend
    elif enough and not law.group:
        # No interval comes from it: it only smooths the slopes with which the spread between seeds may grow.
        trend = law_test(SMOOTH, *slopes, *more).trend
    repeats = np.bincount(lines.size, minlength=len(lines.sizes))
    spread = int(np.maximum(repeats - 1, 0).sum())
    if spread > 0:
        basis = f"spread between runs of one {law.each}, {spread} degrees of freedom"
    elif test is not None:
        basis = f"one run per size: assumes the law, {test.df} degrees of freedom"
    elif law.shape is not None:
        basis = "none: one run per size and too few runs"
    else:
        basis = f"none: one run per {law.each}, and law {law.name} joins no slopes that they could scatter about"
    return RunTest(lines, test, law_exact, basis, trend)


def efficiency_intervals(test: RunTest) -> list[tuple[float, float] | None]:
    """Interval of k of each size, by its own runs; with one run per size by the scatter of the sizes about the law."""
    lines = test.lines
    sizes = test.slopes()
    present = np.bincount(lines.size, minlength=len(lines.sizes)) > 0
    if sizes.df > 0:
        return [sizes.interval(i) if present[i] else None for i in range(len(present))]
    law = test.law
    if law is None:
        return [None] * len(present)
    index = np.searchsorted(law.sizes, lines.sizes)
    slope = np.zeros(len(present))
    slope[lines.size] = lines.slope

    def interval(i: int) -> tuple[float, float]:
        spread = law.scale * law.size_variance[:, index[i]]
        p = lambda value: float(law.weight @ f_tail((slope[i] - value) ** 2 / spread, law.df))  # noqa: E731
        reach = math.sqrt(float(spread.max())) * student.isf(LEVEL / 2, law.df)
        return _spread_out(p, float(slope[i]), reach)

    return [interval(i) if present[i] else None for i in range(len(present))]


def efficiency_interval(fit: Fit, num_params: float) -> tuple[float | None, float | None]:
    """95 % interval of the law's own k(num_params), also for a size that was not fitted; (None, None) where no test of
    the law's k(N) could be made."""
    test = _tested(fit)
    return (None, None) if test.law is None else test.law.efficiency_interval(num_params)


def band(fit: Fit, num_params: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """95 % band of the mean curve of a fitted size over X: (low, high) in test loss, and what it rests on.

    By the size's own runs; where each size has one run, by that run's own noise and a seed spread borrowed from the
    reference replicates (slope .0025, level .004), which is too narrow where seeds differ more.
    """
    test = _tested(fit)
    at = np.flatnonzero(np.isclose(test.lines.sizes, num_params, rtol=1e-6))
    if len(at) == 0 or not (test.lines.size == at[0]).any():
        raise InputError(
            f"no run of size {num_params:.4g} has a line in this fit; there are {test.lines.sizes.tolist()}."
        )
    i = int(at[0])
    low, high = np.empty(len(x)), np.empty(len(x))
    basis = test.basis
    for j, ln_x in enumerate(np.log(x)):
        h, variance = test.lines.at(float(ln_x))
        sizes = test.at(float(ln_x))
        if sizes.df > 0:
            low[j], high[j] = sizes.interval(i)
            continue
        run = int(np.flatnonzero(test.lines.size == i)[0])
        away = ln_x - test.lines.centre[run]
        half = 1.96 * math.sqrt(variance[run] + (BORROWED[0] * away) ** 2 + BORROWED[1] ** 2)
        low[j], high[j] = h[run] - half, h[run] + half
        basis = "one run per size: its own noise and a borrowed seed spread (slope .0025, level .004)"
    return np.exp(low), np.minimum(np.exp(high), 1.0), basis


def _tested(fit: Fit) -> RunTest:
    if fit.test is None:
        raise InputError("this fit has no runs behind it (it was loaded from its record); fit the source again.")
    return fit.test
