"""Intervals of any law's parameters: all values that the runs do not reject, the other parameters free.

The curve of the fit stays; what is asked is how far a parameter can move before the misfit to the runs grows by more
than their own scatter. Residuals have noise from point to point (counts of errors, extra variance, autocorrelation)
and, for a whole curve, a shift in level and slope. Where each size has parameters of its own, that shift is what runs
of one size show; a law that all sizes share may miss them, so there it is how the sizes scatter about the law. A value
is rejected where the weighted squares grow by more than t^2 (Venzon and Moolgavkar 1988; t with the degrees of freedom
of the scatter). An end is the parameter's own limit where it has one (a loss of 0), and open (None) where only the
search ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, least_squares
from scipy.stats import t as student

from analysis.fitting.general import HUGE
from analysis.fitting.points import Points
from analysis.fitting.problem import Problem
from analysis.fitting.solution import Solution
from analysis.intervals.run_lines import extra_variance, noise_scale
from analysis.laws import Law

End = float | None
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
        basis: what the shifts rest on, in words.
    """

    response: np.ndarray
    variance: np.ndarray
    group: np.ndarray
    away: np.ndarray
    level: np.ndarray
    slope: np.ndarray
    df: np.ndarray
    basis: str

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
            found = values / (sd if values.ndim == 1 else sd[:, None])
            for here, q, shrink in blocks:
                found[here] += q @ (shrink @ (q.T @ found[here]))
            return found

        return whiten


def scatter(problem: Problem, vector: np.ndarray) -> Scatter | str:
    """The scatter of the points about a fitted law; a sentence where nothing was repeated that could tell."""
    points, eta = problem.points, problem.eta(vector)
    n_runs, run, trials = len(points.runs), points.run, points.trials
    mu = np.exp(eta) if trials is None else np.clip(np.exp(eta), 0.1 / trials, 1 - 0.5 / trials)
    relative = (points.loss - mu) / mu
    counts = np.zeros(len(mu)) if trials is None else (1 - mu) / (mu * trials)

    def total(values: np.ndarray, by: np.ndarray, size: int) -> np.ndarray:
        return np.bincount(by, values, minlength=size)

    def shifts(weight: np.ndarray, by: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
        """(level, slope, sum of weights, sum of squares of ln X, ln X from the middle) of the residuals by group."""
        every = np.maximum(total(weight, by, size), 1e-300)
        away = points.x - (total(weight * points.x, by, size) / every)[by]
        square = total(weight * away**2, by, size)
        some = square > 1e-12 * every
        slope = np.where(some, total(weight * away * relative, by, size) / np.where(some, square, 1.0), 0.0)
        return total(weight * relative, by, size) / every, slope, every, np.where(some, square, 0.0), away

    count = total(np.ones(len(mu)), run, n_runs)
    extra, residual = 4e-4, relative
    if not (count > 2).any():
        return "no run has three points"
    for _ in range(3):
        weight = 1 / (counts + extra)
        level, slope, _, _, away = shifts(weight, run, n_runs)
        residual = relative - level[run] - slope[run] * away
        extra = extra_variance(residual, counts, weight, run, count, 1e-12 if trials is None else 2.5e-5)
    weight = 1 / (counts + extra)
    _, scale = noise_scale(residual, weight, run, count)
    variance = np.maximum(scale[run] / weight, LEAST_VARIANCE)
    response = eta + np.clip(relative, -1, 2)
    if problem.law.predicts_unseen:
        n, parameters = len(points.sizes), len(problem.slots)
        level, slope, every, square, away = shifts(1 / variance, points.size, n)
        free = n - parameters / 2  # a level and a slope of each size, less the parameters
        if free < LEAST or (square == 0).any():
            return f"{n} sizes say too little of how sizes scatter about a law of {parameters} parameters"
        columns = problem.log_columns(vector) / variance[:, None]
        design = np.vstack([
            np.array([total(c, points.size, n) / every for c in columns.T]).T,
            np.array([total(c * away, points.size, n) / square for c in columns.T]).T,
        ])  # fmt: skip
        of_level, of_slope = _two_variances(np.r_[level, slope], np.r_[1 / every, 1 / square], design)
        return Scatter(
            response, variance, points.size, away, np.full(n, of_level), np.full(n, of_slope), np.full(n, free),
            f"scatter of {n} sizes about the law, {free:g} degrees of freedom",
        )  # fmt: skip
    level, slope, every, square, away = shifts(1 / variance, run, n_runs)
    of_size, whole = points.run_sizes(), (square > 0) & (count > 2)
    repeats = np.bincount(of_size[whole], minlength=len(points.sizes))
    free = int(np.maximum(repeats - 1, 0).sum())
    if free == 0:
        return f"one run of each {problem.law.each} does not tell how far seeds differ"
    spread = []
    for value, information in ((level, every), (slope, square)):
        mean = total(value[whole], of_size[whole], len(repeats)) / np.maximum(repeats, 1)
        own = total((value - mean[of_size])[whole] ** 2, of_size[whole], len(repeats))
        noise = total(1 / information[whole], of_size[whole], len(repeats)) / np.maximum(repeats, 1)
        of_runs = (POOLED * own.sum() / free + own) / (POOLED + np.maximum(repeats - 1, 0))
        spread.append(np.maximum(of_runs - noise, 0)[of_size])
    own_df = np.minimum(POOLED + np.maximum(repeats - 1, 0), free)[of_size]
    basis = f"spread between runs of one {problem.law.each}, {free} degrees of freedom"
    if problem.law.shared and len(points.sizes) > 1:
        basis += "; sizes are taken to follow the law exactly"
    return Scatter(response, variance, run, away, spread[0], spread[1], own_df, basis)


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


class ProfileTest:
    """Tests of the parameters of a law on points, or of one size's where sizes share none.

    Attributes: problem; vector: the weighted optimum, in the order of `problem.slots`, and its covariance; least: its
    squares; df.
    """

    def __init__(self, whole: Problem, solution: Solution, found: Scatter, size: int | None = None):
        problem, at = whole, np.arange(len(whole.points))
        if size is not None:
            mine = whole.points.size == size
            problem, at = Problem(whole.points.take(mine), whole.law, "log", False), np.flatnonzero(mine)
        self.problem = problem
        self._whiten = found.whitener(at)
        self.df = float(found.df[np.unique(found.group[at])].min())
        self._aim = self._whiten(found.response[at])
        self.vector, self.least = self._minimum(problem.vector(solution, size), None)
        design = self._slopes(self.vector)
        self.covariance = np.linalg.pinv(design.T @ design, hermitian=True)

    def _slopes(self, vector: np.ndarray) -> np.ndarray:
        """(m, entries) derivative of the whitened curve."""
        with np.errstate(all="ignore"):  # far from the optimum a curve may leave the range of numbers
            found = np.clip(np.nan_to_num(self.problem.log_columns(vector)), -HUGE, HUGE)
        return self._whiten(found)

    def _minimum(self, start: np.ndarray, held: int | None) -> tuple[np.ndarray, float]:
        """(vector, weighted squares) at the optimum near a start; the entry `held` stays."""
        problem = self.problem
        free = np.arange(len(start)) != (-1 if held is None else held)

        def whole(part: np.ndarray) -> np.ndarray:
            found = start.copy()
            found[free] = part
            return found

        def missed(part: np.ndarray) -> np.ndarray:
            eta = np.clip(problem.eta(whole(part)), -50, 50)
            return self._aim - self._whiten(eta)

        if not free.any():
            return start, float(np.sum(missed(start[free]) ** 2))
        bounds = (problem.low[free], problem.high[free])
        found = least_squares(
            missed, np.clip(start[free], *bounds), lambda part: -self._slopes(whole(part))[:, free], bounds, "dogbox",
            x_scale="jac", max_nfev=30, ftol=1e-6, xtol=1e-6, gtol=1e-6,
        )  # fmt: skip
        return whole(found.x), 2 * float(found.cost)

    def growth(self, entry: int, value: float, *starts: np.ndarray) -> tuple[float, np.ndarray]:
        """(growth of the squares where an entry has this value, the vector there), the best from the starts; without
        any from the optimum."""
        ends = []
        for start in starts or (self.vector,):
            held = start.copy()
            held[entry] = value
            ends.append(self._minimum(held, entry))
        found, square = min(ends, key=lambda end: end[1])
        return max(square - self.least, 0.0), found

    def rejects(self, entry: int, value: float, level: float = 0.05) -> bool:
        """Whether a value of an entry (a scale by its log) is rejected."""
        return self.growth(entry, value)[0] > student.isf(level / 2, self.df) ** 2

    def draws(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, entries) vectors as far from the optimum as the runs allow: t about it, within the bounds."""
        spread = np.sqrt(self.df / rng.chisquare(self.df, (count, 1)))
        away = rng.multivariate_normal(np.zeros(len(self.vector)), self.covariance, count) * spread
        return np.clip(self.vector + away, self.problem.low, self.problem.high)

    def interval(self, entry: int, level: float = 0.05) -> tuple[End, End]:
        """All values of an entry that are not rejected, in the parameter's own unit."""
        parameter = self.problem.slots[entry][0]
        most = float(student.isf(level / 2, self.df) ** 2)
        own = (lambda v: float(np.exp(v))) if parameter.scale else float
        best = self.vector[entry]
        error = float(np.sqrt(max(self.covariance[entry, entry], 0.0)))
        step = np.sqrt(most) * (error if error > 0 else 1e-6 * max(abs(best), 1.0))

        def end(side: int) -> End:
            limit = self.problem.low[entry] if side < 0 else self.problem.high[entry]
            near, start, reach = best, self.vector, min(step, 5.0)
            for _ in range(12):
                far = float(np.clip(best + side * reach, self.problem.low[entry], self.problem.high[entry]))
                grown, ended = self.growth(entry, far, self.vector, start)
                if grown > most:
                    found = self._crossing(entry, (near, start), (far, ended), most)
                    if found is not None:
                        return own(found)
                if far == limit:
                    # A share has a natural end at 0 or 1; a scale or an exponent was only searched so far.
                    return own(far) if parameter.linear else None
                near, start, reach = far, ended, 2 * reach
            return None

        return end(-1), end(1)

    def _crossing(self, entry: int, near: tuple[float, np.ndarray], far: tuple[float, np.ndarray], most: float) -> End:
        """Where the growth passes `most` between two values; the others go from one optimum to the other. The root of
        the growth is nearly straight. None where a search from there ends lower, so that `far` is not beyond."""

        def excess(value: float) -> float:
            share = (value - near[0]) / (far[0] - near[0])
            between = near[1] + share * (far[1] - near[1])
            return np.sqrt(self.growth(entry, value, self.vector, between)[0]) - np.sqrt(most)

        if excess(near[0]) >= 0:
            return near[0]
        if excess(far[0]) <= 0:
            return None
        return brentq(excess, near[0], far[0], xtol=max(5e-3 * abs(far[0] - near[0]), 1e-12))


def profile_tests(points: Points, law: Law, solution: Solution) -> tuple[list[ProfileTest], str]:
    """One test for the law, or one for each size where sizes share no parameter, and what they rest on; no test, and
    the reason, where there is none."""
    problem = Problem(points, law, "log", False)
    found = scatter(problem, problem.vector(solution))
    if isinstance(found, str):
        return [], found
    sizes = [None] if law.shared else range(len(points.sizes))
    return [ProfileTest(problem, solution, found, size) for size in sizes], found.basis
