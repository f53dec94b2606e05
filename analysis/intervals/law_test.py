"""Test of a law k(N) = amplitude x shape(N, scale) on the slopes of runs: the inverted profile F test of the intervals.

Points on one curve are not independent, runs are. Each run is reduced to a line of its own (slope, level, their
sampling variances), and the law is tested on the slopes, with its own shape. An interval holds every value that the
test does not reject at 5 %, averaged over possible shapes of the seed variance by their posterior weight. Two
assumptions are priors, not data: how the variance between seeds grows with the slope (POWER, RATIO) and that sizes may
miss the law a little (MISFIT). An end at which nothing is rejected is open (None) and never clipped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc
from scipy.stats import chi2, norm
from scipy.stats import t as student

from analysis.laws import Law

LEVEL = 0.05
POWER = {0.0: 0.4, 1.0: 0.3, 1.5: 0.3}  # seed sd grows as slope ** g: prior weight
RATIO = (0.0, 0.1, 0.32, 1.0, 3.2, 10.0, 100.0)  # seed variance / median sampling variance, equal weights
MISFIT = {0.0: 0.7, 4.0: 0.12, 16.0: 0.12, 64.0: 0.06}  # variance of sizes about the law, in run variances: weight
EXACT = {0.0: 1.0}
ROUNDING = 1e-22  # least variance of a slope: lines without any noise are still not known beyond rounding
NOTHING = 1e-12  # least weighted sum of squares: data without any noise still have a scale
STEP = 0.05  # of the grid of ln scale
SAME = 0.01  # relative change of the shape below which sizes cannot tell where the scale is


def f_tail(value, df):
    """P(F(1, df) > value), the two-sided tail of t with t^2 = value."""
    return betainc(df / 2, 0.5, df / (df + np.maximum(value, 0)))


def share_of_normal(df: float) -> float:
    """Of a variance that is known, the share which makes a t interval of `df` degrees of freedom a normal one."""
    return float((norm.isf(LEVEL / 2) / student.isf(LEVEL / 2, df)) ** 2)


def too_alike(values: np.ndarray, least: np.ndarray, size: np.ndarray) -> bool:
    """Whether runs of one size agree better than the variances by their counts of errors (`least`, (runs,)) allow, at
    5 %: then they say nothing of how far runs differ, as copies do not, and the counts alone must say it."""
    known = least > 0
    if not known.any():
        return False
    h, weight, size = values[known], 1 / least[known], np.unique(size[known], return_inverse=True)[1]
    summed = np.bincount(size, weight)
    square = float(weight @ (h - (np.bincount(size, weight * h) / summed)[size]) ** 2)
    df = len(h) - len(summed)
    return df > 0 and float(chi2.cdf(square, df)) < LEVEL


# ---------------------------------------------------------------- amplitude and scale


def _grid_min(values: np.ndarray) -> np.ndarray:
    """Minimum over the last axis, refined by a parabola through the lowest three."""
    i = np.clip(values.argmin(-1), 1, values.shape[-1] - 2)[..., None]
    a, b, c = (np.take_along_axis(values, i + d, -1)[..., 0] for d in (-1, 0, 1))
    low = np.minimum(np.minimum(a, b), c)
    a, c = (np.where(np.isfinite(side), side, b) for side in (a, c))  # beyond a bound nothing bends
    with np.errstate(invalid="ignore"):  # nothing within the bounds: infinite throughout
        bend = a - 2 * b + c
        ok = (bend > 1e-12) & (abs(a - c) <= 2 * bend)
        return np.where(ok, b - (a - c) ** 2 / (8 * np.where(ok, bend, 1)), low)


def _scale_grid(law: Law, sizes: np.ndarray) -> tuple[np.ndarray, tuple[bool, bool]]:
    """(grid of ln scale, whether each end is the parameter's own bound).

    It spans the parameter's bounds, or ends short of them where the shape over the sizes changes no more: five below
    the smallest and six above the largest size on the log axis. Beyond such an end no slopes could tell.
    """
    assert law.shape is not None
    low, high = np.log(sizes[[0, -1]])
    bounds = np.log(law.parameter(law.scale).limits(sizes))
    if law.parameter(law.scale).chosen is not None:  # a user's bounds are no place where the data end: not open there
        return np.linspace(bounds[0], bounds[1], max(int(np.ptp(bounds) / STEP) + 2, 64)), (False, False)
    bounds = np.where(np.isfinite(bounds), bounds, (low - 12, high + 12))
    if not law.parameter(law.scale).of_size:
        return np.linspace(bounds[0], bounds[1], max(int(np.ptp(bounds) / STEP) + 2, 64)), (True, True)
    pattern = [(f := law.shape(sizes, np.exp(at))) / f.max() for at in (low - 5, bounds[0], high + 6, bounds[1])]
    still = [bool(np.abs(a - b).max() > SAME) for a, b in (pattern[:2], pattern[2:])]
    ends = (bounds[0] if still[0] else max(low - 5, bounds[0]), bounds[1] if still[1] else min(high + 6, bounds[1]))
    bound = (still[0] or bounds[0] > low - 5, still[1] or bounds[1] < high + 6)
    return np.linspace(*ends, int((ends[1] - ends[0]) / STEP) + 2), bound


class LawTest:
    """Tests of k(N) = a f(N, scale) on the slopes of runs (arrays over cells = shapes of variance, then scale grid).

    a and f are the amplitude and the shape of the law. A run's slope has variance q (s2 + r m U): its sampling
    variance, and a seed variance of r medians that scales with size as U = f ** 2g. The mean of a size has besides
    w (1 + r) m U / runs: it may miss the law. Each cell (g, r, w) has posterior weight `weight`; the scale q is
    integrated out, which leaves F(1, runs - 2). Where runs agree better than `least` allows, the variances of slopes
    by the counts of errors alone, it is not below what that says (`too_alike`).

    Attributes:
        ln_scale: grid; p_scale: p of each. centre: ln scale with the least squares. df: runs - 2.
        at_bound: whether each end of the grid is the parameter's own bound, and not where the shape stops changing.
        variance: (cells, runs); size_variance: (cells, sizes); scale: (cells,) q. trend: (sizes,) u.
        square: (cells, grid) profile of the weighted squares over the scale; least: (cells,) its minimum. slope_at,
            information: (cells, grid) the best amplitude at each scale and its weight.
    """

    def __init__(
        self,
        law: Law,
        slope: np.ndarray,
        variance: np.ndarray,
        num_params: np.ndarray,
        misfit: dict[float, float] | None = None,
        ln_scale: np.ndarray | None = None,
        least: np.ndarray | None = None,
    ):
        assert law.shape is not None
        self.law, shape, self._exact = law, law.shape, bool((variance <= ROUNDING).all())
        variance = np.maximum(variance, ROUNDING)
        sizes, index = np.unique(num_params, return_inverse=True)
        belongs = (index == np.arange(len(sizes))[:, None]) * 1.0
        self._limits = law.parameter(law.amplitude).limits(sizes)
        self.free = sum(not law.parameter(name).fixed for name in law.tested_on_slopes)
        self.sizes, self.runs_per_size, self.df = sizes, belongs.sum(1), len(slope) - self.free
        prior = MISFIT if misfit is None else misfit
        if self.runs_per_size.max() == 1:
            prior = EXACT  # without repeats misfit cannot be told from seeds: the scatter about the law has both
        low, high = np.log(sizes[[0, -1]])
        wide, at_bound = _scale_grid(law, sizes)
        self.ln_scale, self.at_bound = (wide, at_bound) if ln_scale is None else (ln_scale, (False, False))
        inner = (low - 1, high + 1) if law.parameter(law.scale).of_size else (wide[0], wide[-1])
        f = shape(sizes, np.exp(self.ln_scale)[:, None])
        self.median = float(np.median([np.median(variance[index == i]) for i in range(len(sizes))]))
        cells, centre = [(0.0, 1.0, 0.0)], (inner[0] + inner[1]) / 2
        for _ in range(3):  # the first turn finds the scale for the trend of the seed variance with size
            at = np.exp(np.clip(centre, *inner))
            f0 = shape(sizes, at)
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
            self._best_at = b / self.information
            self.slope_at = np.clip(self._best_at, *self._limits)
            square = (precision * mean**2).sum(1)[:, None] - 2 * self.slope_at * b + self.slope_at**2 * self.information
            self.square, self.least = square, np.maximum(_grid_min(square), NOTHING)
            h = self.by_scale(sizes, 1.0, at)  # the Jeffreys-like volume of (amplitude, ln scale)
            volume = (precision @ f0**2) * (precision @ h**2) - (precision @ (f0 * h)) ** 2
            log_weight = [math.log(POWER[g] * prior[x]) for g, _, x in cells] - 0.5 * (
                np.log(runs).sum(1) + np.log(summed).sum(1) + np.log(self.size_variance).sum(1)
                + np.log(np.maximum(volume, 1e-300)) + self.df * np.log(self.within + self.least)
            )  # fmt: skip
            self.weight = np.exp(log_weight - log_weight.max())
            self.weight /= self.weight.sum()
            self.scale, self.cells = (self.within + self.least) / self.df, cells
            if least is not None and too_alike(slope, least, index):
                by_counts = np.median(least / runs, axis=1)
                self.scale = np.maximum(self.scale, share_of_normal(self.df) * by_counts)
            self.variance, self.mean = runs, mean
            centre = self.ln_scale[((self.weight / self.scale) @ square).argmin()]
            cells = [(g, r, x) for g in POWER for r in RATIO for x in prior if r or x or g == 0]
        self.centre = float(centre)
        self.p_scale = self.weight @ f_tail((self.square - self.least[:, None]) / self.scale[:, None], self.df)

    def shape(self, num_params, scale):
        assert self.law.shape is not None
        return self.law.shape(num_params, scale)

    def by_scale(self, num_params, amplitude: float, scale):
        """Derivative of k(N) by ln scale."""
        if self.law.by_scale is not None:
            return self.law.by_scale(num_params, amplitude, scale)
        up, down = (self.shape(num_params, scale * math.exp(h)) for h in (1e-5, -1e-5))
        return amplitude * (up - down) / 2e-5

    def _squares(self, value: float, num_params: float | None) -> np.ndarray:
        """(cells, grid) profile of the squares where k(num_params), or without a size the amplitude, is `value`."""
        g = 1.0 if num_params is None else self.shape(num_params, np.exp(self.ln_scale))
        amplitude, (low, high) = value / g, self._limits
        grown = (amplitude - self._best_at) ** 2 - (self.slope_at - self._best_at) ** 2
        return np.where((amplitude < low) | (amplitude > high), np.inf, self.square + self.information * grown)

    def p_efficiency(self, value: float, num_params: float | None = None) -> float:
        """p of k(num_params) = value; of amplitude = value without a size."""
        square = self._squares(value, num_params)
        return float(self.weight @ f_tail((_grid_min(square) - self.least) / self.scale, self.df))

    def p_pair(self, amplitude: np.ndarray) -> np.ndarray:
        """(m, grid) p of amplitude and scale together, F(2, df): at m amplitudes and every scale of the grid."""
        grown = self.square + self.information * (
            (amplitude[:, None, None] - self._best_at) ** 2 - (self.slope_at - self._best_at) ** 2
        )
        unit = np.maximum(grown - self.least[:, None], 0) / self.scale[:, None]
        return np.einsum("c,mcg->mg", self.weight, (self.df / (self.df + unit)) ** (self.df / 2))

    def scale_interval(self) -> tuple[float | None, float | None]:
        """All scales with p > .05; None at an end where the grid ends before p falls below."""
        inside = np.flatnonzero(self.p_scale > LEVEL)
        if len(inside) == 0:  # data without any noise
            return math.exp(self.centre), math.exp(self.centre)
        low, high = inside[0], inside[-1]

        def crossing(i: int, j: int) -> float:
            share = (LEVEL - self.p_scale[i]) / (self.p_scale[j] - self.p_scale[i])
            return float(np.exp(self.ln_scale[i] + share * (self.ln_scale[j] - self.ln_scale[i])))

        last = len(self.ln_scale) - 1
        chosen = self.law.parameter(self.law.scale).chosen or (None, None)  # the bound of a user is an end
        return (
            chosen[0] if low == 0 else crossing(low - 1, low),
            chosen[1] if high == last else crossing(high, high + 1),
        )

    def efficiency_interval(self, num_params: float | None = None) -> tuple[float | None, float | None]:
        """All k(num_params), or all amplitudes, with p > .05, on a log grid; an end that only the bound of the scale
        closes is None, as one beyond the grid."""
        if self._limits[0] == self._limits[1]:  # the amplitude is fixed: a slope moves with the scale alone
            at = [self._limits[0] * float(self.shape(num_params, scale)) for scale in self.scale_interval() if scale]
            return (min(at), max(at)) if len(at) == 2 else (None, None)
        largest = float((self.weight @ self.mean).max())
        if largest <= 0:
            return None, None
        first, last, count = self._reach() if num_params is None else (1e-3, 60, 110)
        grid = np.geomspace(first, last, count) * largest
        # The optimum stands on the grid, or a narrow interval would fall between two of its values.
        best = self.square.argmin(1)[:, None]
        slope = np.take_along_axis(self.slope_at, best, 1)[:, 0]
        if num_params is not None:
            slope = slope * self.shape(num_params, np.exp(self.ln_scale[best[:, 0]]))
        optimum = float(self.weight @ slope)
        if optimum > 0:
            grid = np.unique(np.append(grid, optimum))
        p = np.array([self.p_efficiency(value, num_params) for value in grid])
        inside = np.flatnonzero(p > LEVEL)
        if len(inside) == 0:  # data without any noise
            return optimum, optimum

        def crossing(i: int, j: int) -> float | None:
            excess = lambda ln_value: self.p_efficiency(math.exp(ln_value), num_params) - LEVEL  # noqa: E731
            end = math.exp(brentq(excess, math.log(grid[i]), math.log(grid[j]), xtol=1e-6))
            at = int(((self.weight / self.scale) @ self._squares(end, num_params)).argmin())
            return (
                None if (at == 0 and self.at_bound[0]) or (at == len(self.ln_scale) - 1 and self.at_bound[1]) else end
            )

        low, high = int(inside[0]), int(inside[-1])
        return (
            None if low == 0 else crossing(low - 1, low),
            None if high == len(grid) - 1 else crossing(high, high + 1),
        )

    def _reach(self) -> tuple[float, float, int]:
        """First, last and number of the amplitudes that are tried, in units of the largest mean slope.

        Where k(N) tends to the amplitude, from a tenth to 60 of them. Else what the largest size would need over the
        grid of scales, as the amplitude may then have any relation to the slopes.
        """
        if self.law.saturates:
            return 0.1, 60, 64
        wanted = 1 / self.shape(self.sizes[-1], np.exp(self.ln_scale))
        first, last = 0.1 * float(wanted.min()), max(60 * float(wanted.min()), float(wanted.max()))
        return first, last, int(10 * math.log(last / first))

    def far_shapes(self) -> tuple[str, str]:
        """What the slopes do over the sizes at the low and the high end of the grid, in words; "" for neither: what it
        means that the scale has no bound on that side."""

        def words(at: float) -> str:
            f = self.shape(self.sizes, math.exp(at))
            if float(np.abs(f / f[0] - 1).max()) < SAME:
                return "slopes do not differ"
            rising = np.abs(f / f[0] / (self.sizes / self.sizes[0]) - 1).max() < SAME
            return "slopes still rise in proportion to N" if rising else ""

        return words(self.ln_scale[0]), words(self.ln_scale[-1])

    def misfit_p(self) -> float | None:
        """p of "sizes miss k(N) by no more than seeds do", at the best shape without misfit; None without repeats."""
        n, runs, free = len(self.sizes), self.df + self.free, self.free
        if n <= free or runs <= n or self._exact:
            return None
        exact = np.array([x == 0 for _, _, x in self.cells])
        best = np.where(exact, self.weight, -1).argmax()
        ratio = (self.least[best] / (n - free)) / max(self.within[best] / (runs - n), 1e-300)
        return float(betainc((runs - n) / 2, (n - free) / 2, (runs - n) / (runs - n + (n - free) * ratio)))

    def covariance(self, amplitude: float, scale: float) -> np.ndarray | None:
        """(2, 2) covariance of (amplitude, ln scale) at run level, averaged over the shapes of variance; None where it
        is singular."""
        jacobian = np.column_stack([self.shape(self.sizes, scale), self.by_scale(self.sizes, amplitude, scale)])
        free = [not self.law.parameter(name).fixed for name in self.law.tested_on_slopes]
        jacobian, total = jacobian[:, free], np.zeros((2, 2))
        if not any(free):
            return total
        for weight, unit, variance in zip(self.weight, self.scale, self.size_variance, strict=True):
            information = jacobian.T @ (jacobian / variance[:, None])
            if not np.linalg.cond(information) < 1e14:
                return None
            total[np.ix_(free, free)] += weight * unit * np.linalg.inv(information)
        return total


def law_test(
    law: Law, slope: np.ndarray, variance: np.ndarray, num_params: np.ndarray,
    misfit: dict[float, float] | None = None, least: np.ndarray | None = None,
) -> LawTest:  # fmt: skip
    """The test of the law on the slopes of runs; where its scale is known very well, on a finer grid around it."""
    test = LawTest(law, slope, variance, num_params, misfit, least=least)
    while (test.p_scale > LEVEL).sum() < 8 and test.ln_scale[1] - test.ln_scale[0] > 1e-7:
        reach = 8 * (test.ln_scale[1] - test.ln_scale[0])
        test = LawTest(law, slope, variance, num_params, misfit, test.centre + np.linspace(-reach, reach, 321), least)
    return test


def trend_variance(powers: Sequence[float], trend: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(cells, sizes) relative seed variance u ** 2g, 1 at the median run."""
    apart, cell = np.unique(powers, return_inverse=True)
    grown = trend ** (2 * apart[:, None])
    return (grown / np.median(grown[:, index], axis=1)[:, None])[cell]
