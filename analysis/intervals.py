"""Intervals that cover: points on one curve are not independent, runs are.

Each run is reduced to a line of its own (slope, level, their sampling variances); the law is then tested on the slopes
of runs. An interval holds every value that the test does not reject at 5 %: the inverted profile F test, averaged over
possible shapes of the seed variance by their posterior weight. Two assumptions are priors, not data: how the variance
between seeds grows with the slope (POWER, RATIO) and that sizes may miss the law a little (MISFIT). An end at which
nothing is rejected is open (None) and never clipped.

Measured coverage of the default over simulated studies with 4 to 7 sizes: 94-99 %. Blind to a plateau in the curves,
to a floor of the loss, and to the choice of questions: see the flags of `add_intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc
from scipy.stats import t as student

from analysis.fit import Fit, Points
from analysis.laws import saturation as shape
from analysis.profile import ProfileTest, profile_tests
from analysis.run_lines import RunLines, run_lines
from analysis.solve import solve_near
from scaling.schema import InputError

LEVEL = 0.05
POWER = {0.0: 0.4, 1.0: 0.3, 1.5: 0.3}  # seed sd grows as slope ** g: prior weight
RATIO = (0.0, 0.1, 0.32, 1.0, 3.2, 10.0, 100.0)  # seed variance / median sampling variance, equal weights
MISFIT = {0.0: 0.7, 4.0: 0.12, 16.0: 0.12, 64.0: 0.06}  # variance of sizes about the law, in run variances: weight
EXACT = {0.0: 1.0}
# Seed sd of slope and level of the reference replicates: borrowed for bands where each size has one run.
BORROWED = (0.0025, 0.004)
MANY_RUNS = 30  # runs beyond the number of parameters from which their scatter alone gives an interval
NOTHING = 1e-12  # least weighted sum of squares: data without any noise still have a scale
QUESTIONS = (0.035, 0.05)  # relative sd of k_max and n0 from the choice of 500 questions


def f_tail(value, df):
    """P(F(1, df) > value), the two-sided tail of t with t^2 = value."""
    return betainc(df / 2, 0.5, df / (df + np.maximum(value, 0)))


# ---------------------------------------------------------------- k_max and n0


def _grid_min(values: np.ndarray) -> np.ndarray:
    """Minimum over the last axis, refined by a parabola through the lowest three."""
    i = np.clip(values.argmin(-1), 1, values.shape[-1] - 2)[..., None]
    a, b, c = (np.take_along_axis(values, i + d, -1)[..., 0] for d in (-1, 0, 1))
    bend, low = a - 2 * b + c, np.minimum(np.minimum(a, b), c)
    ok = (bend > 1e-12) & (abs(a - c) <= 2 * bend)
    return np.where(ok, b - (a - c) ** 2 / (8 * np.where(ok, bend, 1)), low)


class LawTest:
    """Tests of k(N) = k_max / (1 + n0/N) on the slopes of runs (arrays over cells = shapes of variance, then n0 grid).

    A run's slope has variance q (s2 + r m U): its sampling variance, and a seed variance of r medians that scales with
    size as U = (k / k_max) ** 2g. The mean of a size has besides w (1 + r) m U / runs: it may miss the law. Each cell
    (g, r, w) has posterior weight `weight`; the scale q is integrated out, which leaves F(1, runs - 2).

    Attributes:
        ln_n0: grid; p_n0: p of each n0. best: ln n0 with the highest p. df: runs - 2.
        variance: (cells, runs); size_variance: (cells, sizes); scale: (cells,) q. trend: (sizes,) u.
        square: (cells, grid) profile of the weighted squares over n0; least: (cells,) its minimum. slope_at,
            information: (cells, grid) the best k_max at each n0 and its weight.
    """

    def __init__(
        self,
        slope: np.ndarray,
        variance: np.ndarray,
        num_params: np.ndarray,
        misfit: dict[float, float] | None = None,
        ln_n0: np.ndarray | None = None,
    ):
        sizes, index = np.unique(num_params, return_inverse=True)
        belongs = (index == np.arange(len(sizes))[:, None]) * 1.0
        self.sizes, self.runs_per_size, self.df = sizes, belongs.sum(1), len(slope) - 2
        prior = MISFIT if misfit is None else misfit
        if self.runs_per_size.max() == 1:
            prior = EXACT  # without repeats misfit cannot be told from seeds: the scatter about the law has both
        low, high = np.log(sizes[[0, -1]])
        wide = np.linspace(low - 5, high + 6, int((high - low + 11) / 0.05) + 2)
        self.ln_n0 = wide if ln_n0 is None else ln_n0
        f = shape(sizes, np.exp(self.ln_n0)[:, None])
        self.median = float(np.median([np.median(variance[index == i]) for i in range(len(sizes))]))
        cells, centre = [(0.0, 1.0, 0.0)], (low + high) / 2
        for _ in range(3):  # the first turn finds n0 for the trend of the seed variance with size
            f0 = shape(sizes, np.exp(np.clip(centre, low - 1, high + 1)))
            self.trend = np.clip(f0 / f0.max(), 0.03, 1)
            grown = trend_variance([g for g, _, _ in cells], self.trend, index)
            r, w = (np.array(cells)[:, j : j + 1] for j in (1, 2))
            runs = variance + r * self.median * grown[:, index]
            weight = 1 / runs
            summed = weight @ belongs.T
            mean = (weight * slope) @ belongs.T / summed
            self.within = (weight * (slope - mean[:, index]) ** 2).sum(1)
            self.size_variance = 1 / summed + w * (1 + r) * self.median * grown / self.runs_per_size.mean()
            precision = 1 / self.size_variance
            self.information, b = precision @ (f**2).T, (precision * mean) @ f.T
            self.slope_at = np.maximum(b / self.information, 0)
            square = (precision * mean**2).sum(1)[:, None] - 2 * self.slope_at * b + self.slope_at**2 * self.information
            self.square, self.least = square, np.maximum(_grid_min(square), NOTHING)
            h = f0 * (1 - f0)  # the Jeffreys-like volume of (k_max, ln n0)
            volume = (precision @ f0**2) * (precision @ h**2) - (precision @ (f0 * h)) ** 2
            log_weight = [math.log(POWER[g] * prior[x]) for g, _, x in cells] - 0.5 * (
                np.log(runs).sum(1) + np.log(summed).sum(1) + np.log(self.size_variance).sum(1)
                + np.log(np.maximum(volume, 1e-300)) + self.df * np.log(self.within + self.least)
            )  # fmt: skip
            self.weight = np.exp(log_weight - log_weight.max())
            self.weight /= self.weight.sum()
            self.scale, self.cells = (self.within + self.least) / self.df, cells
            self.variance, self.mean = runs, mean
            centre = self.ln_n0[((self.weight / self.scale) @ square).argmin()]
            cells = [(g, r, x) for g in POWER for r in RATIO for x in prior if r or x or g == 0]
        self.centre = float(centre)
        self.p_n0 = self.weight @ f_tail((self.square - self.least[:, None]) / self.scale[:, None], self.df)

    def p_efficiency(self, value: float, num_params: float | None = None) -> float:
        """p of k(num_params) = value; of k_max = value without a size."""
        g = 1.0 if num_params is None else shape(num_params, np.exp(self.ln_n0))
        square = self.square + self.information * (value / g - self.slope_at) ** 2
        return float(self.weight @ f_tail((_grid_min(square) - self.least) / self.scale, self.df))

    def n0_interval(self) -> tuple[float | None, float | None]:
        """All n0 with p > .05; None at an end where the grid ends before p falls below."""
        inside = np.flatnonzero(self.p_n0 > LEVEL)
        if len(inside) == 0:  # data without any noise
            return math.exp(self.centre), math.exp(self.centre)
        low, high = inside[0], inside[-1]

        def crossing(i: int, j: int) -> float:
            share = (LEVEL - self.p_n0[i]) / (self.p_n0[j] - self.p_n0[i])
            return float(np.exp(self.ln_n0[i] + share * (self.ln_n0[j] - self.ln_n0[i])))

        last = len(self.ln_n0) - 1
        return None if low == 0 else crossing(low - 1, low), None if high == last else crossing(high, high + 1)

    def efficiency_interval(self, num_params: float | None = None) -> tuple[float | None, float | None]:
        """All k(num_params), or all k_max, with p > .05, on a log grid of .1 (of k: .001) to 60 largest mean slopes."""
        largest = float((self.weight @ self.mean).max())
        if largest <= 0:
            return None, None
        grid = np.geomspace(0.1 if num_params is None else 1e-3, 60, 64 if num_params is None else 110) * largest
        # The optimum stands on the grid, or a narrow interval would fall between two of its values.
        best = self.square.argmin(1)[:, None]
        slope = np.take_along_axis(self.slope_at, best, 1)[:, 0]
        if num_params is not None:
            slope = slope * shape(num_params, np.exp(self.ln_n0[best[:, 0]]))
        optimum = float(self.weight @ slope)
        if optimum > 0:
            grid = np.unique(np.append(grid, optimum))
        p = np.array([self.p_efficiency(value, num_params) for value in grid])
        inside = np.flatnonzero(p > LEVEL)
        if len(inside) == 0:  # data without any noise
            return optimum, optimum

        def crossing(i: int, j: int) -> float:
            excess = lambda ln_value: self.p_efficiency(math.exp(ln_value), num_params) - LEVEL  # noqa: E731
            return math.exp(brentq(excess, math.log(grid[i]), math.log(grid[j]), xtol=1e-6))

        low, high = int(inside[0]), int(inside[-1])
        return (
            None if low == 0 else crossing(low - 1, low),
            None if high == len(grid) - 1 else crossing(high, high + 1),
        )

    def misfit_p(self) -> float | None:
        """p of "sizes miss k(N) by no more than seeds do", at the best shape without misfit; None without repeats."""
        n, runs = len(self.sizes), self.df + 2
        if n < 3 or runs <= n:
            return None
        exact = np.array([x == 0 for _, _, x in self.cells])
        best = np.where(exact, self.weight, -1).argmax()
        ratio = (self.least[best] / (n - 2)) / max(self.within[best] / (runs - n), 1e-300)
        return float(betainc((runs - n) / 2, (n - 2) / 2, (runs - n) / (runs - n + (n - 2) * ratio)))

    def covariance(self, k_max: float, n0: float) -> np.ndarray | None:
        """(2, 2) covariance of (k_max, ln n0) at run level, averaged over the shapes; None where it is singular."""
        f = shape(self.sizes, n0)
        jacobian = np.column_stack([f, -k_max * f * (1 - f)])
        found = np.zeros((2, 2))
        for weight, scale, variance in zip(self.weight, self.scale, self.size_variance, strict=True):
            information = jacobian.T @ (jacobian / variance[:, None])
            if not np.linalg.cond(information) < 1e14:
                return None
            found += weight * scale * np.linalg.inv(information)
        return found


def law_test(
    slope: np.ndarray, variance: np.ndarray, num_params: np.ndarray, misfit: dict[float, float] | None = None
) -> LawTest:
    """The test of the law on the slopes of runs; where n0 is known very well, on a finer grid around it."""
    found = LawTest(slope, variance, num_params, misfit)
    while (found.p_n0 > LEVEL).sum() < 8 and found.ln_n0[1] - found.ln_n0[0] > 1e-7:
        reach = 8 * (found.ln_n0[1] - found.ln_n0[0])
        found = LawTest(slope, variance, num_params, misfit, found.centre + np.linspace(-reach, reach, 321))
    return found


def trend_variance(powers: Sequence[float], trend: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(cells, sizes) relative seed variance u ** 2g, 1 at the median run."""
    return np.array([trend ** (2 * g) / np.median(trend[index] ** (2 * g)) for g in powers])


# ---------------------------------------------------------------- one size: slopes, levels, bands, crossings


class SizeTest:
    """Tests of the mean over runs of any quantity h of a run (a slope, ln L at some X), size by size.

    The same shapes of variance as LawTest, without misfit; weights from the spread within sizes, sum(R - 1) degrees of
    freedom. A size's variance is its own squares pooled with four degrees of freedom of the common shape.

    Attributes:
        df: sum over sizes of runs - 1; 0 where each size has one run: then nothing can be tested.
        mean: (cells, sizes); variance: (cells, sizes) of a run about its size's mean.
    """

    def __init__(self, h: np.ndarray, variance: np.ndarray, size: np.ndarray, n_sizes: int, trend: np.ndarray):
        belongs = (size == np.arange(n_sizes)[:, None]) * 1.0
        self.runs_per_size = belongs.sum(1)
        self.df = int(np.maximum(self.runs_per_size - 1, 0).sum())
        if self.df == 0:
            return
        medians = [np.median(variance[size == i]) for i in range(n_sizes) if (size == i).any()]
        cells = [(g, r) for g in POWER for r in RATIO if r or g == 0]
        grown = trend_variance([g for g, _ in cells], trend, size)
        runs = variance + np.array([[r] for _, r in cells]) * float(np.median(medians)) * grown[:, size]
        weight = 1 / runs
        summed = np.maximum(weight @ belongs.T, 1e-300)
        self.mean = (weight * h) @ belongs.T / summed
        squares = (weight * (h - self.mean[:, size]) ** 2) @ belongs.T
        within = np.maximum(squares.sum(1), NOTHING)
        log_weight = [math.log(POWER[g]) for g, _ in cells] - 0.5 * (
            np.log(runs).sum(1) + np.log(summed).sum(1) + self.df * np.log(within)
        )
        self.weight = np.exp(log_weight - log_weight.max())
        self.weight /= self.weight.sum()
        count = np.maximum(self.runs_per_size, 1)
        self.variance = count / summed * (4 * (within / self.df)[:, None] + squares) / (3 + count)

    def degrees(self, i: int) -> float:
        return float(min(3 + self.runs_per_size[i], self.df))

    def centre(self, i: int) -> float:
        return float(self.weight @ self.mean[:, i])

    def p(self, i: int, value: float) -> float:
        """p of "the mean of size i is value"."""
        spread = self.variance[:, i] / self.runs_per_size[i]
        return float(self.weight @ f_tail((self.mean[:, i] - value) ** 2 / spread, self.degrees(i)))

    def p_equal(self, i: int, j: int) -> float:
        """p of "sizes i and j have the same mean": the test that a crossover inverts over X."""
        spread = self.variance[:, i] / self.runs_per_size[i] + self.variance[:, j] / self.runs_per_size[j]
        square = (self.mean[:, i] - self.mean[:, j]) ** 2 / spread
        return float(self.weight @ f_tail(square, min(self.degrees(i), self.degrees(j))))

    def interval(self, i: int) -> tuple[float, float]:
        """All means of size i with p > .05."""
        reach = math.sqrt(float(np.max(self.variance[:, i]))) * student.isf(LEVEL / 2, self.degrees(i))
        reach += float(np.ptp(self.mean[:, i])) + 1e-300
        return _spread_out(lambda value: self.p(i, value), self.centre(i), reach)


def _spread_out(p: Callable[[float], float], centre: float, reach: float) -> tuple[float, float]:
    """The ends at which p falls to .05, within `reach` of the centre or beyond."""

    def end(direction: float) -> float:
        far = reach
        while p(centre + direction * far) > LEVEL:
            far *= 2
        return centre + direction * brentq(lambda d: p(centre + direction * d) - LEVEL, 0, far, xtol=1e-9 * far)

    return (end(-1.0), end(1.0)) if p(centre) > LEVEL and reach > 1e-150 else (centre, centre)


@dataclass(frozen=True)
class RunTest:
    """What stands behind the intervals of a fit: the runs' lines, the test of the law (None below three runs or for a
    single size) and the basis of the intervals per size, in words."""

    lines: RunLines
    law: LawTest | None
    law_exact: bool
    basis: str

    def trend(self) -> np.ndarray:
        return self.law.trend if self.law is not None else np.ones(len(self.lines.sizes))

    def sizes(self, h: np.ndarray, variance: np.ndarray) -> SizeTest:
        return SizeTest(h, variance, self.lines.size, len(self.lines.sizes), self.trend())


def run_test(points: Points, law_exact: bool = False, of_sizes: bool = True) -> RunTest:
    """The run-level tests of the points of a fit; `of_sizes` false where the lines are of other things than sizes,
    whose slopes need not follow k(N)."""
    lines = run_lines(points)
    law = None
    if of_sizes and len(lines.runs) > 2 and len(np.unique(lines.size)) > 1:
        law = law_test(lines.slope, lines.slope_variance, lines.num_params, EXACT if law_exact else None)
    repeats = np.bincount(lines.size, minlength=len(lines.sizes))
    spread = int(np.maximum(repeats - 1, 0).sum())
    if spread > 0:
        basis = f"spread between runs of one size, {spread} degrees of freedom"
    elif law is not None:
        basis = f"one run per size: assumes the law, {law.df} degrees of freedom"
    elif of_sizes:
        basis = "none: one run per size and too few runs"
    else:
        basis = "none: one run of each, and nothing says how their slopes differ"
    return RunTest(lines, law, law_exact, basis)


def efficiency_intervals(test: RunTest) -> list[tuple[float, float] | None]:
    """Interval of k of each size, by its own runs; with one run per size by the scatter of the sizes about the law."""
    lines = test.lines
    sizes = test.sizes(lines.slope, lines.slope_variance)
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
    """95 % interval of the law's own k(num_params), also for a size that was not fitted; (None, None) without test."""
    test = _tested(fit)
    return (None, None) if test.law is None else test.law.efficiency_interval(num_params)


def band(fit: Fit, num_params: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """95 % band of the mean curve of a fitted size over X: (low, high) in test loss, and what it rests on.

    By the size's own runs; where each size has one run, by that run's own noise and a seed spread borrowed from the
    reference replicates (slope .0025, level .004), which is too narrow where seeds differ more.
    """
    test = _tested(fit)
    found = np.flatnonzero(np.isclose(test.lines.sizes, num_params, rtol=1e-6))
    if len(found) == 0 or not (test.lines.size == found[0]).any():
        raise InputError(
            f"no run of size {num_params:.4g} has a line in this fit; there are {test.lines.sizes.tolist()}."
        )
    i = int(found[0])
    low, high = np.empty(len(x)), np.empty(len(x))
    basis = test.basis
    for j, ln_x in enumerate(np.log(x)):
        h, variance = test.lines.at(float(ln_x))
        sizes = test.sizes(h, variance)
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


# ---------------------------------------------------------------- into the record


def add_intervals(fit: Fit, law_exact: bool = False, self_test: bool = False, parameters: bool = False) -> Fit:
    """Fill in the intervals, standard errors and flags of a fit's record; returns the fit.

    A shared parameter is `identified` where its interval exists, is closed at both ends, and the optimum is not at a
    bound. `stderr` is the run-level Wald error: a size of the uncertainty, not the interval. With `parameters` also
    those of laws that are not lines: profile intervals (`analysis.profile`), some seconds.
    """
    assert fit.points is not None and fit.solution is not None
    record, warnings = fit.record, fit.record["warnings"]
    if fit.solution.covariance is not None:
        _add_errors(record, *fit.solution.covariance)
    many = len(fit.points.runs) - record["goodness"]["n_parameters"] >= MANY_RUNS
    bootstrapped = many and fit.law.predicts_unseen and fit.law.shape is None
    basis = None  # of the parameters that are not tested on slopes
    if bootstrapped:
        _add_bootstrap(fit)
    elif parameters and not fit.law.closed_form:
        tests, basis = profile_tests(fit.points, fit.law, fit.solution)
        if tests:
            _add_profiles(fit, tests)
        else:
            names = [p.name for p in fit.law.parameters if p.name not in _by_slopes(fit)]
            warnings.append(f"no interval for {', '.join(names)}: {basis}")
            basis = f"none: {basis}"
    if not any(np.ptp(fit.points.x[fit.points.run == i]) > 0 for i in range(len(fit.points.runs))):
        record["intervals"] = {
            "method": "percentile bootstrap over runs, 95 %" if bootstrapped else "none: no run has two points",
            "misfit": None, "degrees_of_freedom": None,
            "per_size_basis": "none", "parameters_basis": basis, "misfit_p": None, "curvature_z": None, "open": [],
            "questions": "each run is taken as independent",
        }  # fmt: skip
        return fit
    fit.test = test = run_test(fit.points, law_exact, not fit.law.group)
    of_law = fit.law.shape is not None
    record["intervals"] = {
        "method": "inverted profile F test on the slopes of runs, 95 %",
        "misfit": "law exact" if law_exact else "sizes may miss the law a little",
        "per_size_basis": test.basis,
        "parameters_basis": basis,
        "degrees_of_freedom": None if test.law is None else test.law.df,
        "misfit_p": None,
        "curvature_z": None if math.isnan(test.lines.curvature) else test.lines.curvature,
        "open": [],
        "questions": _questions(test.lines) if of_law else "intervals hold for this set of test questions",
    }
    for row, interval in zip(record["per_size"], _by_size(fit.points, test), strict=True):
        row["efficiency_ci95"] = None if interval is None else list(interval)
    if of_law and test.law is None:
        warnings.append(f"{len(test.lines.runs)} runs: no interval, an interval needs three runs at two sizes or more")
    elif of_law:
        assert test.law is not None
        _add_law_intervals(record, test.law)
    if abs(test.lines.curvature) > 3:
        warnings.append(f"slopes depend on the window: the curves bend (Z = {test.lines.curvature:.1f})")
    repeats = np.bincount(test.lines.size)
    if repeats.max() == 1 and test.law is not None and of_law:
        warnings.append(f"one run per size: assumes the law, {test.law.df} degrees of freedom")
    elif repeats.max() == 1 and test.law is None:
        warnings.append("one run per size and fewer than three runs: no interval")
    held = record["held_out"]
    if held is not None and held.get("efficiency_law") is not None and test.law is not None:
        held["efficiency_law_ci95"] = list(test.law.efficiency_interval(held["num_params"]))
    if self_test:
        record["intervals"]["coverage"] = coverage(fit, seed=record["seed"])
    return fit


def _add_errors(record: dict[str, Any], names: list[str], covariance: np.ndarray) -> None:
    """Standard errors of shared parameters from the scatter of runs about the law; of a scale from that of its log."""
    for name, variance in zip(names, np.diag(covariance), strict=True):
        error, entry = math.sqrt(max(float(variance), 0.0)), record["values"][name]
        entry["stderr"] = error * entry["value"] if entry["log_scale"] else error


def _add_bootstrap(fit: Fit, draws: int = 300) -> None:
    """Percentile intervals from fits to runs drawn with replacement: for laws without parameters of each size, where
    there are many runs and most of the information is between them."""
    points, values = fit.points, fit.values
    assert points is not None
    known = {name: entry["value"] for name, entry in values.items()}
    at = [np.flatnonzero(points.run == i) for i in range(len(points.runs))]
    rng = np.random.default_rng([fit.record["seed"], 1])
    found: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(draws):
        drawn = points.draw([at[i] for i in rng.integers(len(at), size=len(at))])
        for name, value in solve_near(drawn, fit.law, fit.record["objective"], known).items():
            found[name].append(value)
    for name, entry in values.items():
        low, high = np.quantile(found[name], (LEVEL / 2, 1 - LEVEL / 2))
        entry["ci95"], entry["stderr"] = [float(low), float(high)], float(np.std(found[name], ddof=1))
        entry["identified"] = not entry["at_bound"]


def _by_slopes(fit: Fit) -> tuple[str, ...]:
    """The parameters that LawTest tests on the slopes of runs."""
    return (fit.law.amplitude, fit.law.scale) if fit.law.shape is not None else ()


def _add_profiles(fit: Fit, tests: Sequence[ProfileTest]) -> None:
    """Profile intervals of the parameters that are not tested on slopes, shared and of each size."""
    missed = set()
    for size, test in enumerate(tests):
        for entry, (parameter, i) in enumerate(test.problem.slots):
            if parameter.name in _by_slopes(fit):
                continue
            ends = test.interval(entry)
            if parameter.per_size:
                row = fit.per_size[i if fit.law.shared else size]
                row["values_ci95"][parameter.name] = list(ends)
                value = row["values"][parameter.name]
            else:
                of = fit.values[parameter.name]
                of["ci95"], value = list(ends), of["value"]
                of["identified"] = None not in ends and not of["at_bound"] and _holds(ends, value)
            if not _holds(ends, value):
                missed.add(parameter.name)
    if missed:
        fit.record["warnings"].append(
            f"{', '.join(sorted(missed))} of the fit is outside the interval that weighs runs by their scatter: "
            "the law misses, or the optimum is not unique"
        )


def _holds(ends: Sequence[float | None], value: float) -> bool:
    """Whether a value is inside an interval, up to rounding."""
    return all(end is None or (end - value) * side >= -1e-6 * abs(value)
               for end, side in zip(ends, (-1, 1), strict=True))  # fmt: skip


def _by_size(points: Points, test: RunTest) -> list[tuple[float, float] | None]:
    """The intervals per size in the order of the fit's sizes; None for a size without a line."""
    found = dict(zip(test.lines.sizes, efficiency_intervals(test), strict=True))
    return [found.get(size) for size in points.sizes]


def _add_law_intervals(record: dict[str, Any], law: LawTest) -> None:
    values, warnings = record["values"], record["warnings"]
    k_max, n0 = values["k_max"], values["n0"]
    k_max["ci95"], n0["ci95"] = list(law.efficiency_interval()), list(law.n0_interval())
    covariance = law.covariance(k_max["value"], n0["value"]) if k_max["value"] > 0 else None
    if covariance is not None:
        k_max["stderr"], n0["stderr"] = math.sqrt(covariance[0, 0]), n0["value"] * math.sqrt(covariance[1, 1])
    for name, entry in (("Kmax", k_max), ("N0", n0)):
        entry["identified"] = None not in entry["ci95"] and not entry["at_bound"]
        if not _holds(entry["ci95"], entry["value"]):
            entry["identified"] = False
            warnings.append(
                f"{name} of the fit is outside the interval that the slopes of the runs give: the law misses"
            )
    low, high = n0["ci95"]
    opened = record["intervals"]["open"]
    if high is None and low is not None:
        opened.append(f"N0 > {_short(low)}, no upper bound: slopes still rise in proportion to N")
    if low is None and high is not None:
        opened.append(f"N0 < {_short(high)}, no lower bound: slopes do not differ")
    if low is None and high is None:
        opened.append("N0 has no bound on either side: the slopes say nothing about it")
    low, high = k_max["ci95"]
    if high is None:
        opened.append("Kmax has no upper bound")
    if low is None:
        opened.append("Kmax has no lower bound above 0")
    warnings += opened
    p = record["intervals"]["misfit_p"] = law.misfit_p()
    if p is not None and p < LEVEL:
        warnings.append(f"sizes miss k(N) by more than seeds do (p = {p:.2g})")


def _short(size: float) -> str:
    """32e9, 864e6, 5,296."""
    power = next((power for power in (12, 9, 6) if size >= 10**power), 0)
    return f"{size / 10**power:.3g}e{power}" if power else f"{size:,.0f}"


def _questions(lines: RunLines) -> str:
    known = lines.trials[np.isfinite(lines.trials)]
    text = "intervals hold for this set of test questions; for new questions add in quadrature about"
    factor = math.sqrt(500 / float(np.median(known))) if len(known) else 1.0
    unknown = "" if len(known) else " (500 questions assumed)"
    return f"{text} {100 * QUESTIONS[0] * factor:.2g} % of Kmax and {100 * QUESTIONS[1] * factor:.2g} % of N0{unknown}"


def paired_difference(values_a: Sequence[float], values_b: Sequence[float]) -> dict[str, Any]:
    """Mean of b - a over pairs with a 95 % t interval: `{"mean", "ci95", "n"}`; ci95 is None with one pair.

    Pairs share what is not compared (seed and with it base model and prompts). Raises InputError where lengths differ.
    """
    a, b = np.asarray(values_a, float), np.asarray(values_b, float)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise InputError(f"paired_difference wants two lists of one length, not {a.shape} and {b.shape}.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("paired_difference: a value is missing; leave out the pair and say so.")
    difference = b - a
    mean, n = float(difference.mean()), len(difference)
    if n == 1:
        return {"mean": mean, "ci95": None, "n": 1}
    half = float(student.isf(LEVEL / 2, n - 1) * difference.std(ddof=1) / math.sqrt(n))
    return {"mean": mean, "ci95": [mean - half, mean + half], "n": n}


# ---------------------------------------------------------------- self-test


def coverage(fit: Fit, studies: int = 200, seed: int = 0) -> dict[str, Any]:
    """Share of simulated studies of the same shape whose interval holds the fit's own k_max and n0.

    Each study draws a shape of the seed variance from its posterior, then slopes and levels of runs, noise and counts
    of errors; the same code makes the intervals. It cannot see what the simulation lacks: a plateau, a floor of the
    loss, other questions. Reads up to 5 points low on small or noisy studies.

    Returns `{"nominal", "k_max", "n0", "studies", "text"}`, shares in [0, 1]. Raises InputError without a law test.
    """
    test, points = _tested(fit), fit.points
    law, lines = test.law, test.lines
    if law is None or points is None or fit.law.shape is None or fit.values["k_max"]["value"] <= 0:
        raise InputError(
            "a coverage self-test needs a law of N with k_max above 0 and three runs at two sizes or more."
        )
    k_max, n0 = fit.values["k_max"]["value"], fit.values["n0"]["value"]
    points = points.take(np.isin(points.run, [points.runs.index(name) for name in lines.runs]))
    index = np.searchsorted(law.sizes, lines.num_params)  # sizes with a line; a size may have none
    repeats = law.runs_per_size
    level = np.bincount(index, lines.level) / repeats
    # Spread of levels between runs of one size, by moments: what is left of it after the noise within runs.
    spread, df = float(np.sum((lines.level - level[index]) ** 2)), float(np.sum(repeats - 1))
    level_sd = math.sqrt(max(spread / df - float(lines.level_variance.mean()), 0.0)) if df > 0 else 0.0
    persistence = _persistence(points, lines)
    hits = {"k_max": 0, "n0": 0}
    for study in range(studies):
        rng = np.random.default_rng([seed, study])
        cell = rng.choice(len(law.weight), p=law.weight)
        scale = law.scale[cell] * law.df / rng.chisquare(law.df)
        between = np.maximum(law.variance[cell] * scale - lines.slope_variance, 0)
        summed = np.bincount(index, 1 / law.variance[cell])
        missed = np.maximum(law.size_variance[cell] - 1 / summed, 0) * scale
        slope = k_max * shape(law.sizes, n0) + rng.standard_normal(len(law.sizes)) * np.sqrt(missed)
        slope = slope[index] + rng.standard_normal(len(index)) * np.sqrt(between)
        height = level[index] + rng.standard_normal(len(index)) * level_sd
        loss = _draw(rng, points, lines, slope, height, persistence)
        drawn = run_lines(replace(points, loss=loss))
        misfit = EXACT if test.law_exact else None
        again = LawTest(drawn.slope, drawn.slope_variance, drawn.num_params, misfit)
        hits["n0"] += float(np.interp(math.log(n0), again.ln_n0, again.p_n0)) > LEVEL
        hits["k_max"] += again.p_efficiency(k_max) > LEVEL
    share = {name: count / studies for name, count in hits.items()}
    least = min(share.values())
    error = 100 * math.sqrt(max(least * (1 - least), 0.01) / studies)
    text = (
        f"nominal 95 %, measured Kmax {100 * share['k_max']:.0f}, N0 {100 * share['n0']:.0f} ± {error:.2g} "
        "(simulated from this fit: blind to plateau, floor, questions)"
    )
    return {"nominal": 1 - LEVEL, **share, "studies": studies, "text": text}


def _persistence(points: Points, lines: RunLines) -> float:
    """Correlation from point to point of the extra noise: that of all noise, divided by the extra part's share."""
    eta = lines.level[points.run] - lines.slope[points.run] * (points.x - lines.centre[points.run])
    residual = points.loss / np.exp(eta) - 1
    same = points.run[1:] == points.run[:-1]
    power = float(residual @ residual)
    if power == 0:
        return 0.0
    rho = float(np.sum(residual[1:][same] * residual[:-1][same])) / power
    share = lines.extra * len(residual) / power
    return float(np.clip(rho / min(max(share, 0.05), 1.0), 0, 0.95))


def _draw(
    rng: np.random.Generator, points: Points, lines: RunLines, slope: np.ndarray, level: np.ndarray, persistence: float
) -> np.ndarray:
    """Test losses of one simulated study: lines of runs, AR(1) extra noise, counts of errors where they are known."""
    run = points.run
    shock = rng.standard_normal(len(run))
    for i in range(1, len(run)):
        if run[i] == run[i - 1]:
            shock[i] = persistence * shock[i - 1] + math.sqrt(1 - persistence**2) * shock[i]
    extra = lines.extra if points.trials is not None else lines.extra * lines.dispersion[run]
    eta = level[run] - slope[run] * (points.x - lines.centre[run]) + shock * np.sqrt(extra)
    mu = np.minimum(np.exp(eta), 1.0)
    if points.trials is None:
        return mu
    # Noise of phi times the binomial variance: as many evaluations as Q / phi independent ones.
    trials = np.maximum(np.round(points.trials / lines.dispersion[run]), 1).astype(int)
    return rng.binomial(trials, mu) / trials
