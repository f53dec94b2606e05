"""Intervals of any law's parameters: all values that the runs do not reject, the other parameters free.

The curve of the fit stays; what is asked is how far a parameter can move before the misfit to the runs grows by more
than their own scatter (`analysis.intervals.scatter`). A value is rejected where the weighted squares grow by more than
t^2 (Venzon and Moolgavkar 1988; t with the degrees of freedom of the scatter). An end is the parameter's own limit
where it has one (a loss of 0), and open (None) where only the search ended.
"""

from __future__ import annotations

from copy import copy
from functools import cached_property, partial

import numpy as np
from scipy.optimize import brentq, least_squares
from scipy.stats import t as student

from analysis.fitting.general import HUGE
from analysis.fitting.points import Points
from analysis.fitting.problem import Problem
from analysis.fitting.solution import Solution
from analysis.intervals.scatter import Scatter, scatter
from analysis.laws import Law

End = float | None


class ProfileTest:
    """Tests of the parameters of a law on points, or of one size's where sizes share none.

    Attributes: problem; vector: the weighted optimum, in the order of `problem.slots`, and its covariance; least: its
    squares; df.
    """

    def __init__(self, whole: Problem, solution: Solution, noise: Scatter, size: int | None = None):
        problem, at = whole, np.arange(len(whole.points))
        if size is not None:
            mine = whole.points.size == size
            problem, at = Problem(whole.points.take(mine), whole.law, "log", False), np.flatnonzero(mine)
        self.problem = problem
        self._whiten = noise.whitener(at)
        self.df = float(noise.df[np.unique(noise.group[at])].min())
        self._aim = self._whiten(noise.response[at])
        self.vector, self.least = self._minimum(problem.vector(solution, size))
        self.covariance = self._covariance()

    def _covariance(self) -> np.ndarray:
        """(entries, entries) of the vector, by the derivatives there."""
        design = self._slopes(self.vector) * (self.problem.low < self.problem.high)
        size = np.abs(design).max(axis=0)
        size = np.where(size > 0, size, 1.0)  # entries of other units would look singular
        return np.linalg.pinv((design / size).T @ (design / size), hermitian=True) / np.outer(size, size)

    def _slopes(self, vector: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        """(m, entries) derivative of the whitened curve by the entries of the mask, or by all."""
        with np.errstate(all="ignore"):  # far from the optimum a curve may leave the range of numbers
            slopes = np.clip(np.nan_to_num(self.problem.log_columns(vector, which)), -HUGE, HUGE)
        return self._whiten(slopes)

    def _minimum(self, start: np.ndarray, *held: int) -> tuple[np.ndarray, float]:
        """(vector, weighted squares) at the optimum near a start; the entries `held` stay."""
        problem = self.problem
        free = ~np.isin(np.arange(len(start)), held) & (problem.low < problem.high)

        def whole(part: np.ndarray) -> np.ndarray:
            vector = start.copy()
            vector[free] = part
            return vector

        def missed(part: np.ndarray) -> np.ndarray:
            with np.errstate(all="ignore"):
                eta = np.clip(np.nan_to_num(problem.eta(whole(part)), nan=50.0), -50, 50)
            return self._aim - self._whiten(eta)

        if not free.any():
            return start, float(np.sum(missed(start[free]) ** 2))
        bounds = (problem.low[free], problem.high[free])
        with np.errstate(all="ignore"):  # scipy's own arithmetic, where a bound is infinite
            optimum = least_squares(
                missed, np.clip(start[free], *bounds), lambda part: -self._slopes(whole(part), free), bounds, "dogbox",
                x_scale="jac", max_nfev=30, ftol=1e-6, xtol=1e-6, gtol=1e-6,
            )  # fmt: skip
        return whole(optimum.x), 2 * float(optimum.cost)

    def growth(self, entry: int, value: float, *starts: np.ndarray) -> tuple[float, np.ndarray]:
        """(growth of the squares where an entry has this value, the vector there), the best from the starts; without
        any from the optimum."""
        ends = []
        for start in starts or (self.vector,):
            held = start.copy()
            held[entry] = value
            ends.append(self._minimum(held, entry))
        there, square = min(ends, key=lambda end: end[1])
        return max(square - self.least, 0.0), there

    @cached_property
    def own_units(self) -> ProfileTest:
        """The same test with amplitudes in their own units, by their logs."""
        test, problem = copy(self), self.problem
        test.problem = Problem(problem.points, problem.law, "log", False, plain=True)
        test.vector = np.clip(test.problem.entries(problem.values(self.vector)), test.problem.low, test.problem.high)
        test.covariance = test._covariance()
        return test

    def growth_of_pair(self, pair: list[int], values: np.ndarray) -> float:
        """Growth of the squares where two entries have these values, or stand at their bounds short of them."""
        held = self.vector.copy()
        held[pair] = np.clip(values, self.problem.low[pair], self.problem.high[pair])
        return max(self._minimum(held, *pair)[1] - self.least, 0.0)

    def rejects(self, entry: int, value: float, level: float = 0.05) -> bool:
        """Whether a value of an entry, in the parameter's own unit, is rejected."""
        test = self.own_units if self._has_unit(entry) and self.vector[entry] > 0 else self
        grown, _ = test.growth(entry, test.problem.coordinate(entry, value))
        return grown > student.isf(level / 2, self.df) ** 2

    def _has_unit(self, entry: int) -> bool:
        """Whether the entry is an amplitude at the middle of the data."""
        parameter = self.problem.slots[entry][0]
        return bool(parameter.at_x or parameter.at_size) and not self.problem.logs[entry]

    def draws(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, entries) vectors as far from the optimum as the runs allow: t about it, within the bounds."""
        spread = np.sqrt(self.df / rng.chisquare(self.df, (count, 1)))
        away = rng.multivariate_normal(np.zeros(len(self.vector)), self.covariance, count) * spread
        return np.clip(self.vector + away, self.problem.low, self.problem.high)

    def interval(self, entry: int, level: float = 0.05) -> tuple[End, End]:
        """All values of an entry that are not rejected, in the parameter's own unit."""
        if self._has_unit(entry):
            return (0.0, None) if self.vector[entry] <= 0 else self.own_units.interval(entry, level)
        most = float(student.isf(level / 2, self.df) ** 2)
        own = partial(self.problem.own, entry)
        best = self.vector[entry]
        error = float(np.sqrt(max(self.covariance[entry, entry], 0.0)))
        step = np.sqrt(most) * (error if error > 0 else 1e-6 * max(abs(best), 1.0))

        def end(side: int) -> End:
            limit = self.problem.low[entry] if side < 0 else self.problem.high[entry]
            most_at_once = 5.0 if self.problem.logs[entry] else 5.0 * max(1.0, abs(best))
            near, start, reach = best, self.vector, min(step, most_at_once)
            for _ in range(12):
                far = float(np.clip(best + side * reach, self.problem.low[entry], self.problem.high[entry]))
                grown, ended = self.growth(entry, far, self.vector, start)
                if grown > most:
                    crossing = self._crossing(entry, (near, start), (far, ended), most)
                    if crossing is not None:
                        return own(crossing)
                if far == limit:
                    # A share has a natural end at 0 or 1; a scale or an exponent was only searched so far, but not
                    # beyond the bound of a user.
                    natural = self.problem.linear[entry] or self.problem.slots[entry][0].chosen is not None
                    return own(far) if natural else None
                near, start, reach = far, ended, 2 * reach
            return None

        return end(-1), end(1)

    def _crossing(self, entry: int, near: tuple[float, np.ndarray], far: tuple[float, np.ndarray], most: float) -> End:
        """Where the growth passes `most` between two values; the others go from one optimum to the other. The root of
        the growth is nearly straight. None where a search from there ends lower, so that `far` is not beyond."""

        latest = near[1]
        known: dict[float, float] = {}

        def excess(value: float) -> float:
            nonlocal latest
            if value in known:  # it depends on where the search came from, and is asked for the ends again
                return known[value]
            share = (value - near[0]) / (far[0] - near[0])
            with np.errstate(invalid="ignore"):  # the log of an amplitude of 0 has no middle
                between = near[1] + share * (far[1] - near[1])
            between = np.where(np.isfinite(between), between, near[1])
            grown, latest = self.growth(entry, value, self.vector, between, latest)
            known[value] = float(np.sqrt(grown) - np.sqrt(most))
            return known[value]

        if excess(near[0]) >= 0:
            return near[0]
        if excess(far[0]) <= 0:
            return None
        return brentq(excess, near[0], far[0], xtol=max(1e-3 * abs(far[0] - near[0]), 1e-12))


def profile_tests(points: Points, law: Law, solution: Solution) -> tuple[list[ProfileTest], str]:
    """One test for the law, or one for each size where sizes share no parameter, and what they rest on; no test, and
    the reason, where there is none."""
    problem = Problem(points, law, "log", False)
    noise = scatter(problem, problem.vector(solution))
    if isinstance(noise, str):
        return [], noise
    return tests_of(problem, solution, noise), noise.basis


def tests_of(problem: Problem, solution: Solution, noise: Scatter) -> list[ProfileTest]:
    sizes = [None] if problem.law.shared else range(len(problem.points.sizes))
    return [ProfileTest(problem, solution, noise, size) for size in sizes]
