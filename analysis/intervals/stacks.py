"""Curves in bins, with their noise and what a law leaves free in each: the input of the model of shape.

Runs of one size with one grid and one number of questions stand in a stack: they share everything but their losses.
Every run has a line of its own, or of a law with curves all directions in which the law's parameters move the curve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.fitting.points import Points
from analysis.fitting.problem import Problem
from analysis.fitting.solution import Solution
from analysis.laws import Law

CORRELATION = (0.3, 0.6, 0.8, 0.9)  # of neighbouring evaluations of a run, about its curve
MOST_BINS, WIDEST = 24, 0.15  # a bin has up to a 24th of a run's points, within .15 of ln X


@dataclass(frozen=True)
class Stack:
    """R runs of one size on one grid of T points in B bins.

    Fields:
        size: index. x: (B,) mean ln X of the bins. response: (R, B) ln L of the bins; of a law with curves minus the
            law's. level: (B,) the mean ln L over the runs. reference: (B,) ln L of the law, 0 of a line.
        counts: (B,) variance of one evaluation by the questions; n: (B,) points of a bin.
        correlated: (cells of CORRELATION, B, B) covariance of the bins' means of noise of variance 1.
        free: (B, p) directions that the law leaves free. columns: ln X -> (m, p), the same at other places.
    """

    size: int
    x: np.ndarray
    response: np.ndarray
    level: np.ndarray
    reference: np.ndarray
    counts: np.ndarray
    n: np.ndarray
    correlated: np.ndarray
    free: np.ndarray
    columns: Callable[[np.ndarray], np.ndarray]


def bin_edges(x: np.ndarray) -> list[int]:
    """First point of each bin of ascending ln X, and the number of points."""
    edges = [0]
    for end in range(1, len(x)):
        if end - edges[-1] >= len(x) / MOST_BINS or x[end] - x[edges[-1]] > WIDEST:
            edges.append(end)
    return [*edges, len(x)]


def mean_correlation(count: np.ndarray, rho: float) -> np.ndarray:
    """(B, B) covariance of the means of consecutive bins of `count` points, noise AR(1) of variance 1."""
    start = np.cumsum(count) - count
    power = (1 - rho**count) / (1 - rho)
    gap = start[None, :] - (start + count - 1)[:, None]  # from the last point of one to the first of the other
    apart = rho ** np.maximum(gap, 0) * power[:, None] * power[None, :]
    between = np.triu(apart, 1)
    own = count * (1 + rho) / (1 - rho) - 2 * rho * (1 - rho**count) / (1 - rho) ** 2
    return (between + between.T + np.diag(own)) / np.outer(count, count)


def stacks_of(points: Points, law: Law, solution: Solution) -> list[Stack]:
    """The stacks of the runs that have more bins than their law leaves free; sizes whose runs are single points make
    one curve of them."""
    curve = None if law.slope is not None else _LawCurve(points, law, solution)
    grids: dict[tuple, list[np.ndarray]] = {}
    for rows in _curves(points):
        rows = rows[np.argsort(points.x[rows], kind="stable")]
        trials = () if points.trials is None else tuple(points.trials[rows])
        more = tuple(tuple(values[rows]) for values in points.columns.values())
        key = (int(points.size[rows[0]]), tuple(np.round(points.x[rows], 9)), trials, more)
        grids.setdefault(key, []).append(rows)
    steepness = _steepness(points)
    expected = steepness[points.size] * points.x if curve is None else curve.ln_loss(np.arange(len(points)))
    unknown = _neighbours(points, expected, [rows for runs in grids.values() for rows in runs])
    stacks = [_stack(points, runs, curve, expected, unknown) for runs in grids.values()]
    return [stack for stack in stacks if stack is not None]


def _curves(points: Points) -> list[np.ndarray]:
    """Indices of the points of each curve: a run's, or where no run of a size has three, all of that size."""
    runs = [np.flatnonzero(points.run == i) for i in range(len(points.runs))]
    longest = np.zeros(len(points.sizes), int)
    np.maximum.at(longest, [points.size[rows[0]] for rows in runs], [len(rows) for rows in runs])
    long = [rows for rows in runs if longest[points.size[rows[0]]] > 2]
    return long + [np.flatnonzero(points.size == i) for i in np.flatnonzero(longest < 3)]


def _steepness(points: Points) -> np.ndarray:
    """(sizes,) slope of ln L by plain least squares within runs, to even out the points of a bin."""
    y = _ln_loss(points)
    count = np.bincount(points.run, minlength=len(points.runs))
    away, rest = (v - (np.bincount(points.run, v) / count)[points.run] for v in (points.x, y))
    square = points.sum_by_size(away**2)
    return np.where(square > 1e-12, points.sum_by_size(away * rest) / np.maximum(square, 1e-12), 0.0)


def _ln_loss(points: Points) -> np.ndarray:
    """(n,) ln L; a loss of 0 is half an error, or half of the least loss where counts are unknown."""
    if points.trials is not None:
        return points.ln_loss()
    return np.log(np.maximum(points.loss, np.min(points.loss[points.loss > 0], initial=1.0) / 2))


def _neighbours(points: Points, expected: np.ndarray, curves: list[np.ndarray]) -> float:
    """Variance of one evaluation by how far neighbours on a curve differ: where no count of questions tells it."""
    away = _ln_loss(points) - expected
    gaps = np.concatenate([np.diff(away[rows]) for rows in curves])
    return max(float(np.mean(gaps**2)) / 2, 1e-12) if len(gaps) else 1.0


def _stack(
    points: Points, runs: list[np.ndarray], curve: _LawCurve | None, expected: np.ndarray, unknown: float
) -> Stack | None:
    rows, size = runs[0], int(points.size[runs[0][0]])
    x = points.x[rows]
    edges = bin_edges(x)
    count = np.diff(edges)
    mean = np.repeat(np.eye(len(count)), count, axis=1) / count[:, None]  # (B, T)
    at, loss = mean @ x, np.array([points.loss[mine] for mine in runs])
    eta = expected[rows]
    evened = loss * np.exp(np.clip(np.repeat(mean @ eta, count) - eta, -30, 30))
    if points.trials is None:
        trials, least = None, np.min(points.loss[points.loss > 0], initial=1.0) / 2
    else:
        trials = mean @ points.trials[rows]
        least = 0.5 / (trials * count)
    y = np.log(np.maximum(evened @ mean.T, least))
    level = y.mean(0)
    counts = np.full(len(count), unknown)
    if trials is not None:
        mu = np.clip(np.exp(level), 0.5 / trials, 1 - 0.5 / trials)
        counts = (1 - mu) / (mu * trials)
    if curve is None:
        reference, centre = np.zeros(len(at)), float(at.mean())
        columns = lambda ln_x: np.vander(ln_x - centre, 2)  # noqa: E731
        free = columns(at)
    else:
        reference = mean @ eta
        free, turn = _independent(mean @ curve.columns(rows))
        columns = lambda ln_x: curve.columns_at(size, ln_x) @ turn  # noqa: E731
    if len(at) < free.shape[1] + 1 or np.ptp(at) <= 0:
        return None
    correlated = np.array([mean_correlation(count, rho) for rho in CORRELATION])
    return Stack(size, at, y - reference, level, reference, counts, count, correlated, free, columns)


def _independent(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((B, p) orthonormal basis of the columns, the (entries, p) map that makes it of them)."""
    norm = np.linalg.norm(columns, axis=0)
    used = np.isfinite(norm) & (norm > 1e-12)
    scale = np.where(used, 1 / np.where(used, norm, 1.0), 0.0)
    u, s, v = np.linalg.svd(np.where(used, columns, 0.0) * scale, full_matrices=False)
    keep = s > 1e-6 * max(s[0], 1e-300)
    return u[:, keep], scale[:, None] * v[keep].T / s[keep]


class _LawCurve:
    """ln L of a fitted law, and its derivatives by the parameters that bear on a size."""

    def __init__(self, points: Points, law: Law, solution: Solution):
        problem = Problem(points, law, "log", False)
        self.points, self._problem, self._slots = points, problem, problem.slots
        self.vector = problem.vector(solution)
        self._eta = np.clip(np.nan_to_num(problem.eta(self.vector), nan=0.0), -30.0, 5.0)
        self._columns = np.nan_to_num(problem.log_columns(self.vector), posinf=0.0, neginf=0.0)

    def _of_size(self, size: int) -> np.ndarray:
        return np.array([i in (-1, size) for _, i in self._slots])

    def ln_loss(self, rows: np.ndarray) -> np.ndarray:
        return self._eta[rows]

    def columns(self, rows: np.ndarray) -> np.ndarray:
        return self._columns[rows][:, self._of_size(int(self.points.size[rows[0]]))]

    def columns_at(self, size: int, ln_x: np.ndarray) -> np.ndarray:
        """At other X of a size; where nothing else is known of a point, no prompt is repeated."""
        n, m = len(self.points.sizes), len(ln_x)
        own = Points(
            self.points.sizes, np.repeat(np.arange(n), m), ["elsewhere"], np.zeros(n * m, int), np.tile(ln_x, n),
            np.full(n * m, 0.5), None, np.zeros(n * m, int),
            {name: np.ones(n * m) for name in self.points.columns},
        )  # fmt: skip
        columns = self._problem.at(own).log_columns(self.vector)
        return np.nan_to_num(columns[size * m : (size + 1) * m, self._of_size(size)], posinf=0.0, neginf=0.0)
