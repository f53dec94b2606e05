"""How points, runs and sizes scatter about the curves of a fitted law, and the map that makes residuals independent.

Residuals have noise from point to point (counts of errors, extra variance, autocorrelation) and, for a whole curve, a
shift in level and slope. Where each size has parameters of its own, that shift is what runs of one size show; a law
that all sizes share may miss them, so there it is how the sizes scatter about the law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.fitting.problem import Problem
from analysis.intervals.run_lines import BORROWED, extra_variance, noise_scale
from scaling.schema import InputError

LEAST = 3  # degrees of freedom below which two variances of sizes are not known
LEAST_VARIANCE = 1e-16  # of ln L: points without any noise are still not known beyond rounding
POOLED = 4  # degrees of freedom that a size's own scatter is given of the common one


@dataclass(frozen=True)
class Scatter:
    """The residuals of a fit: ln L (linearised) and their covariance.

    Fields:
        response: (n,) fitted ln L plus the relative residual, so a loss of 0 is fine.
        variance: (n,) of one point about its curve. group: (n,) whose points share a shift; away: (n,) ln X from the
            group's middle. level, slope: (n_groups,) variances of the shifts. df: (n_groups,) degrees of freedom.
        basis: what the shifts rest on, in words. extra, dispersion: the parts of the variance of a point beyond its
        counts, as in `RunLines`.
    """

    response: np.ndarray
    variance: np.ndarray
    group: np.ndarray
    away: np.ndarray
    level: np.ndarray
    slope: np.ndarray
    df: np.ndarray
    basis: str
    extra: float = 0.0
    dispersion: float = 1.0

    def whitener(self, at: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The map of (m, ...) values of the points `at` to independent ones of variance 1: V^(-1/2), by groups."""
        sd, blocks = np.sqrt(self.variance[at]), []
        for g in np.unique(self.group[at]):
            here = np.flatnonzero(self.group[at] == g)
            ones = np.full(len(here), np.sqrt(self.level[g]))
            shifts = np.column_stack([ones, np.sqrt(self.slope[g]) * self.away[at][here]]) / sd[here, None]
            q, r = np.linalg.qr(shifts)
            scale, turn = np.linalg.eigh(r @ r.T)
            blocks.append((here, q, turn @ ((1 / np.sqrt(1 + np.maximum(scale, 0)) - 1)[:, None] * turn.T)))

        def whiten(values: np.ndarray) -> np.ndarray:
            white = values / (sd if values.ndim == 1 else sd[:, None])
            for here, q, shrink in blocks:
                white[here] += q @ (shrink @ (q.T @ white[here]))
            return white

        return whiten


class _Noise:
    """The residuals of the points about a fitted law, in shares of the loss, and the noise from point to point.

    Attributes:
        relative: (n,) residuals; response: (n,) fitted ln L plus the residual, so a loss of 0 is fine.
        variance: (n,) of one point about its curve. extra, dispersion: its parts beyond the counts (`RunLines`).
        count: (n_runs,) points.
    """

    def __init__(self, problem: Problem, vector: np.ndarray):
        points, eta = problem.points, problem.eta(vector)
        self.problem, self.vector, self.points = problem, vector, points
        n_runs, run, trials = len(points.runs), points.run, points.trials
        mu = np.exp(eta) if trials is None else np.clip(np.exp(eta), 0.1 / trials, 1 - 0.5 / trials)
        self.relative = (points.loss - mu) / mu
        self.response = eta + np.clip(self.relative, -1, 2)
        counts = np.zeros(len(mu)) if trials is None else (1 - mu) / (mu * trials)
        self.count = _total(np.ones(len(mu)), run, n_runs)
        extra, residual = 4e-4, self.relative
        if not (self.count > 2).any():
            raise NoScatter("no run has three points")
        for _ in range(3):
            weight = 1 / (counts + extra)
            level, slope, _, _, away = self.shifts(weight, run, n_runs)
            residual = self.relative - level[run] - slope[run] * away
            extra = extra_variance(residual, counts, weight, run, self.count, 1e-12 if trials is None else 2.5e-5)
        weight = 1 / (counts + extra)
        dispersion, scale = noise_scale(residual, weight, run, self.count)
        self.variance = np.maximum(scale[run] / weight, LEAST_VARIANCE)
        self.extra, self.dispersion = extra, float(dispersion.mean())

    def shifts(self, weight: np.ndarray, by: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
        """(level, slope, sum of weights, sum of squares of ln X, ln X from the middle) of the residuals by group."""
        return shifts_of(self.relative, self.points.x, weight, by, size)

    def by_sizes(self) -> Scatter:
        """How sizes scatter about a law that they share. Raises NoScatter."""
        problem, points = self.problem, self.points
        searched = problem.low < problem.high
        n, parameters = len(points.sizes), int(searched.sum())
        level, slope, every, square, away = self.shifts(1 / self.variance, points.size, n)
        free = n - parameters / 2  # a level and a slope of each size, less the parameters
        if free < LEAST or (square == 0).any():
            raise NoScatter(f"{n} sizes say too little of how sizes scatter about a law of {parameters} parameters")
        columns = problem.log_columns(self.vector, searched) / self.variance[:, None]
        design = np.vstack([
            np.array([_total(c, points.size, n) / every for c in columns.T]).T,
            np.array([_total(c * away, points.size, n) / square for c in columns.T]).T,
        ])  # fmt: skip
        of_level, of_slope = _two_variances(np.r_[level, slope], np.r_[1 / every, 1 / square], design)
        basis = f"scatter of {n} sizes about the law, {free:g} degrees of freedom"
        return self._scatter(points.size, away, np.full(n, of_level), np.full(n, of_slope), np.full(n, free), basis)

    def by_runs(self) -> Scatter:
        """How runs of one size differ. Raises NoScatter."""
        points, each = self.points, self.problem.law.each
        level, slope, every, square, away = self.shifts(1 / self.variance, points.run, len(points.runs))
        of_size, whole = points.run_sizes(), (square > 0) & (self.count > 2)
        repeats = np.bincount(of_size[whole], minlength=len(points.sizes))
        free = int(np.maximum(repeats - 1, 0).sum())
        if free == 0:
            raise NoScatter(f"one run of each {each} does not tell how far seeds differ")
        spread = []
        for value, information in ((level, every), (slope, square)):
            mean = _total(value[whole], of_size[whole], len(repeats)) / np.maximum(repeats, 1)
            own = _total((value - mean[of_size])[whole] ** 2, of_size[whole], len(repeats))
            noise = _total(1 / information[whole], of_size[whole], len(repeats)) / np.maximum(repeats, 1)
            of_runs = (POOLED * own.sum() / free + own) / (POOLED + np.maximum(repeats - 1, 0))
            spread.append(np.maximum(of_runs - noise, 0)[of_size])
        own_df = np.minimum(POOLED + np.maximum(repeats - 1, 0), free)[of_size]
        basis = f"spread between runs of one {each}, {free} degrees of freedom"
        if self.problem.law.shared and len(points.sizes) > 1:
            basis += f"; {each}s are taken to follow the law exactly"
        return self._scatter(points.run, away, spread[0], spread[1], own_df, basis)

    def borrowed(self) -> Scatter:
        """Seeds that differ as those of the reference replicates."""
        points, n = self.points, len(self.points.runs)
        *_, away = self.shifts(1 / self.variance, points.run, n)
        slope, level = (np.full(n, sd**2) for sd in BORROWED)
        basis = (
            f"one run per {self.problem.law.each}: its own noise and a borrowed seed spread (slope .0025, level .004)"
        )
        return self._scatter(points.run, away, level, slope, np.full(n, np.inf), basis)

    def _scatter(self, group, away, level, slope, df, basis: str) -> Scatter:
        return Scatter(self.response, self.variance, group, away, level, slope, df, basis, self.extra, self.dispersion)


def shifts_of(
    residual: np.ndarray, x: np.ndarray, weight: np.ndarray, by: np.ndarray, size: int
) -> tuple[np.ndarray, ...]:
    """As `_Noise.shifts`, of any residuals (n,) at ln X (n,)."""
    every = np.maximum(_total(weight, by, size), 1e-300)
    away = x - (_total(weight * x, by, size) / every)[by]
    square = _total(weight * away**2, by, size)
    some = square > 1e-12 * every
    slope = np.where(some, _total(weight * away * residual, by, size) / np.where(some, square, 1.0), 0.0)
    return _total(weight * residual, by, size) / every, slope, every, np.where(some, square, 0.0), away


class NoScatter(InputError):
    """Nothing was repeated that could tell how far runs or sizes scatter; the message says what."""


def _total(values: np.ndarray, by: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(by, values, minlength=size)


def scatter(problem: Problem, vector: np.ndarray) -> Scatter | str:
    """The scatter of the points about a fitted law; a sentence where nothing was repeated that could tell."""
    try:
        noise = _Noise(problem, vector)
        return noise.by_sizes() if problem.law.predicts_unseen else noise.by_runs()
    except NoScatter as reason:
        return str(reason)


def seed_scatter(problem: Problem, vector: np.ndarray) -> Scatter:
    """The scatter of runs about the fitted curves: by repeats, else with a borrowed spread. Raises NoScatter."""
    noise = _Noise(problem, vector)
    try:
        return noise.by_runs()
    except NoScatter:
        return noise.borrowed()


def _two_variances(shift: np.ndarray, noise: np.ndarray, design: np.ndarray) -> tuple[float, float]:
    """Variances of the level and the slope of sizes about a law (first and second half of `shift`) by restricted
    likelihood, which allows for what the parameters (columns of `design`) took up."""
    n = len(shift) // 2
    scale = np.abs(design).max(axis=0)
    design = design / np.where(scale > 0, scale, 1.0)
    grids = [np.r_[0.0, np.median(noise[part]) * np.geomspace(0.1, 1e6, 36)] for part in (slice(n), slice(n, None))]
    best = (-np.inf, 0.0, 0.0)
    for level in grids[0]:
        for slope in grids[1]:
            weight = 1 / (noise + np.repeat([level, slope], n))
            information = design.T @ (design * weight[:, None])
            left = shift - design @ np.linalg.lstsq(information, design.T @ (weight * shift), rcond=1e-12)[0]
            value = np.sum(np.log(weight)) - np.linalg.slogdet(information)[1] - float(weight @ left**2)
            best = max(best, (value, level, slope))
    return best[1], best[2]
