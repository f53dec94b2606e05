"""Each run as one line, with sampling variances: points on one curve are not independent, runs are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.fitting.points import Points

# Seed sd of slope and level of the reference replicates: borrowed for bands where each size has one run.
BORROWED = (0.0025, 0.004)


@dataclass(frozen=True)
class RunLines:
    """One line per run, ln L = level - slope (ln X - centre); arrays of n_runs.

    Fields:
        size: index into `sizes`; centre: weighted mean of ln X; points: number of points.
        slope_variance, level_variance: sampling variances within the run, autocorrelation included.
        slope_counts, level_counts: the part of them that the counts of errors alone make, by Q; 0 where Q is unknown.
        dispersion: scatter in units of the modelled noise (phi); extra: variance of ln L beyond the counts (s2u).
        trials: mean Q of the run, nan where unknown.
        curvature: Z of the common quadratic term left after the lines; nan where no run has four points.
    """

    runs: list[str]
    sizes: np.ndarray
    size: np.ndarray
    slope: np.ndarray
    level: np.ndarray
    centre: np.ndarray
    slope_variance: np.ndarray
    level_variance: np.ndarray
    slope_counts: np.ndarray
    level_counts: np.ndarray
    points: np.ndarray
    dispersion: np.ndarray
    extra: float
    trials: np.ndarray
    curvature: float

    @property
    def num_params(self) -> np.ndarray:
        return self.sizes[self.size]

    def at(self, ln_x: float) -> tuple[np.ndarray, np.ndarray]:
        """(ln L of each run's line at ln X, its sampling variance)."""
        away = ln_x - self.centre
        return self.level - self.slope * away, self.level_variance + self.slope_variance * away**2

    def counts_at(self, ln_x: float) -> np.ndarray:
        """Variance of ln L of each run's line at ln X by the counts of errors alone: no interval is narrower."""
        return self.level_counts + self.slope_counts * (ln_x - self.centre) ** 2


def run_lines(points: Points) -> RunLines:
    """Quasi-likelihood line of each run with log link, noise = counts of errors + a common extra variance.

    Where counts are unknown every point weighs the same and the scatter alone gives the variance. A loss of 0 is fine.
    Runs without two different X have no line and are absent.
    """
    spread = [np.ptp(points.x[points.run == i]) > 0 for i in range(len(points.runs))]
    points = points.take(np.array(spread)[points.run])
    run, x, loss = points.run, points.x, points.loss
    n_runs = len(points.runs)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(run, values, minlength=n_runs)

    count = total(np.ones(len(x)))
    if points.trials is None:
        floor, low, high = np.min(loss[loss > 0], initial=1.0) / 2, 1e-9, np.inf
    else:
        floor, low, high = 0.5 / points.trials, 0.1 / points.trials, 1 - 0.5 / points.trials

    def line(response: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(slope, level, centre, sum of squares of ln X) of weighted least squares per run."""
        all_ = total(weight)
        centre = total(weight * x) / all_
        away = x - centre[run]
        square = total(weight * away**2)
        return -total(weight * away * response) / square, total(weight * response) / all_, centre, square

    def noise(mu: np.ndarray) -> np.ndarray:
        return np.zeros(len(mu)) if points.trials is None else (1 - mu) / (mu * points.trials)

    slope, level, centre, square = line(np.log(np.maximum(loss, floor)), np.ones(len(x)))
    extra = 4e-4
    mu = residual = weight = np.ones(len(x))
    for refit in (False, True):
        for _ in range(6):
            eta = level[run] - slope[run] * (x - centre[run])
            mu = np.clip(np.exp(eta), low, high)
            weight = 1 / (noise(mu) + extra)
            slope, level, centre, square = line(np.log(mu) + np.clip((loss - mu) / mu, -1, 2), weight)
        mu = np.clip(np.exp(level[run] - slope[run] * (x - centre[run])), low, high)
        weight, residual = 1 / (noise(mu) + extra), (loss - mu) / mu
        if not refit and (count > 2).any():
            extra = extra_variance(residual, noise(mu), weight, run, count)
    all_ = total(weight)
    dispersion, scale = noise_scale(residual, weight, run, count)
    by_counts = weight**2 * noise(mu)
    # Points without any noise have variance 0 up to rounding; no slope is known to better than a millionth.
    scale = np.maximum(scale, (1e-6 * np.abs(slope).max()) ** 2 * square)
    return RunLines(
        points.runs, points.sizes, points.run_sizes(), slope, level, centre,
        slope_variance=scale / square, level_variance=scale / all_,
        slope_counts=total(by_counts * (x - centre[run]) ** 2) / square**2, level_counts=total(by_counts) / all_**2,
        points=count.astype(int), dispersion=dispersion, extra=extra,
        trials=np.full(n_runs, np.nan) if points.trials is None else total(points.trials) / count,
        curvature=_curvature(x - centre[run], residual, weight, total, run, count, scale),
    )  # fmt: skip


def extra_variance(
    residual: np.ndarray, counts: np.ndarray, weight: np.ndarray, run: np.ndarray, count: np.ndarray,
    least: float = 2.5e-5,
) -> float:  # fmt: skip
    """Variance of ln L beyond the counts of errors, one for all runs: what is left of the squares of residuals from
    each run's line. Needs a run with three points."""
    some = count[run] > 2  # two points lie on their line and say nothing about noise
    share = (residual**2 * (count / np.maximum(count - 2, 1))[run] - counts)[some]
    return float(np.clip(np.average(share, weights=weight[some] ** 2), least, 0.09))


def noise_scale(
    residual: np.ndarray, weight: np.ndarray, run: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(scatter in units of the modelled noise, the same times the factor for autocorrelation), (n_runs,) each; the
    former is shrunk to its mean with 10 degrees of freedom."""
    scatter, df = np.bincount(run, weight * residual**2, minlength=len(count)), np.maximum(count - 2, 0)
    pooled = scatter.sum() / df.sum() if df.sum() > 0 else 1.0
    dispersion = (scatter + 10 * pooled) / (df + 10)
    return dispersion, dispersion * _inflation(np.sqrt(weight) * residual, run, count)


def _inflation(scaled: np.ndarray, run: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Factor on each run's variance for autocorrelated residuals: Bartlett weights, correlations pooled over runs."""
    longest = int(min(20, count.max() // 5))
    power = float(scaled @ scaled)
    rho = np.zeros(longest + 1)
    for lag in range(1, longest + 1):
        same = run[lag:] == run[:-lag]
        rho[lag] = float(np.sum(scaled[lag:][same] * scaled[:-lag][same])) / power if power > 0 else 0.0
    factors = []
    for points in count:
        m = int(min(20, points // 5))
        lags = np.arange(1, m + 1)
        factors.append(1 + 2 * np.sum((1 - lags / (m + 1)) * (rho[lags] + 2 / points)))
    return np.clip(factors, 1, 25)


def _curvature(away, residual, weight, total, run, count, scale) -> float:
    """Z of the quadratic coefficient that the runs share, after the lines are taken out."""
    bend = away**2
    bend = bend - (total(weight * bend) / total(weight))[run]
    bend = bend - (total(weight * bend * away) / total(weight * away**2))[run] * away
    square = total(weight * bend**2)
    ok = (count > 3) & (square > 1e-12 * total(weight * away**2))
    if not ok.any():
        return float("nan")
    coefficient = total(weight * bend * residual)[ok] / square[ok]
    variance = scale[ok] / square[ok]
    return float(np.sum(coefficient / variance) / np.sqrt(np.sum(1 / variance)))
