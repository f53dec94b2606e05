"""Test of the law k(N) = k_max / (1 + n0/N) on the slopes of runs: the inverted profile F test behind the intervals.

Points on one curve are not independent, runs are. Each run is reduced to a line of its own (slope, level, their
sampling variances), and the law is tested on the slopes. An interval holds every value that the test does not reject at
5 %, averaged over possible shapes of the seed variance by their posterior weight. Two assumptions are priors, not data:
how the variance between seeds grows with the slope (POWER, RATIO) and that sizes may miss the law a little (MISFIT). An
end at which nothing is rejected is open (None) and never clipped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc

from analysis.laws import saturation as shape

LEVEL = 0.05
POWER = {0.0: 0.4, 1.0: 0.3, 1.5: 0.3}  # seed sd grows as slope ** g: prior weight
RATIO = (0.0, 0.1, 0.32, 1.0, 3.2, 10.0, 100.0)  # seed variance / median sampling variance, equal weights
MISFIT = {0.0: 0.7, 4.0: 0.12, 16.0: 0.12, 64.0: 0.06}  # variance of sizes about the law, in run variances: weight
EXACT = {0.0: 1.0}
NOTHING = 1e-12  # least weighted sum of squares: data without any noise still have a scale


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
