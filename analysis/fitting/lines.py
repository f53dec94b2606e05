"""Solve laws of straight lines with a free level per size: the learning-efficiency law, and lines per size.

Each round linearises the objective around the present curve (`analysis.fitting.objectives`) and solves the weighted
problem exactly: levels E in closed form by centring within sizes, k_max >= 0 in closed form given n0, n0 by a search in
one dimension. A fixed point is a stationary point of the objective itself. The result is deterministic to the byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from analysis.fitting.objectives import _criterion, _linearise
from analysis.fitting.points import Points
from analysis.fitting.solution import Solution
from analysis.laws import Law

MAX_ROUNDS = 200
TOLERANCE = 1e-11


# ---------------------------------------------------------------- straight lines with free levels


def _solve_lines(
    points: Points, law: Law, objective: str, published_bounds: bool, response: np.ndarray,
    start: dict[str, float] | None,
) -> Solution:  # fmt: skip
    """The first start is the optimum of unweighted least squares on ln L; for a law of N three more begin with the
    scale from a tenth of the smallest to ten times the largest size."""
    weight = np.ones(len(points))
    fixed = [None] if law.shape is None else [None, *np.geomspace(points.sizes[0] / 10, points.sizes[-1] * 10, 3)]
    if start and law.shape is not None:
        fixed = [start[law.scale], *fixed]
    begun = [_solve_weighted(points, weight, response, law, published_bounds, scale) for scale in fixed]
    ended = [_iterate(points, objective, law, published_bounds, begin, 1e-3) for begin in begun]
    best = min(ended, key=lambda end: end[1])
    line, value, rounds, converged = _iterate(points, objective, law, published_bounds, best[0], TOLERANCE)
    if law.shape is None and (apart := _runs_apart(points)).any():
        line = _between_runs(points, objective, law, line, apart, response)
        value = _criterion(points, objective, line.eta(points))
    values, starts = {}, []
    if law.shape is not None:
        values = {law.amplitude: float(line.amplitude), law.scale: float(line.scale)}
        starts = [
            {
                f"start_{law.scale}": begin.scale, law.amplitude: end.amplitude, law.scale: end.scale,
                "objective": reached, "best": bool(abs(math.log(end.scale / line.scale)) < 0.01),
            }
            for begin, (end, reached, _, _) in zip(begun, ended, strict=True)
        ]  # fmt: skip
    hits = [
        p.name
        for p in law.shared
        if not p.fixed and _at_bound(values[p.name], p.limits(points.sizes, published_bounds))
    ]
    free = {"efficiency": line.slope, "intercept": line.intercept}
    return Solution(
        values, {p.name: free[p.name] for p in law.parameters if p.per_size}, line.eta(points), line.slope,
        line.intercept, value, line.information, starts, hits, rounds, converged,
    )  # fmt: skip


def _runs_apart(points: Points) -> np.ndarray:
    """(n_sizes,) whether runs of the size stand at different X. At the same X one line through all is their mean."""
    first: dict[int, np.ndarray] = {}
    apart = np.zeros(len(points.sizes), bool)
    for run in range(len(points.runs)):
        mine = points.run == run
        x, size = points.x[mine], int(points.size[mine][0])
        apart[size] |= not np.array_equal(first.setdefault(size, x), x)
    return apart


def _between_runs(
    points: Points, objective: str, law: Law, line: _Lines, apart: np.ndarray, response: np.ndarray
) -> _Lines:
    """The lines with those of the sizes `apart` in place of one line through all points of the size: the mean of its
    runs' slopes by their information, through the middle of its points.

    One level for runs at different X turns a difference of their levels into a slope that none of them has.
    """
    mine = np.flatnonzero(apart[points.size])
    some = points.take(np.isin(np.arange(len(points)), mine))
    each = replace(some, sizes=np.arange(len(some.runs)) + 1.0, size=some.run)
    begin = _solve_weighted(each, np.ones(len(each)), response[mine], law, False)
    solved, *_ = _iterate(each, objective, law, False, begin, TOLERANCE)
    eta, of_size = solved.eta(each), points.size[mine]
    weight, _response = _linearise(each, objective, eta)
    # Of the objective linear a size has weight 1, whatever the number of its points: so had each run here.
    share = np.bincount(each.run)[each.run] if objective == "linear" else np.ones(len(each))
    weight = weight * share

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(of_size, values, minlength=len(points.sizes))

    run_size, run_share = np.zeros(len(some.runs), int), np.ones(len(some.runs))
    run_size[some.run], run_share[some.run] = of_size, share
    by_run = solved.information * run_share
    information = np.bincount(run_size, by_run, minlength=len(points.sizes))
    known = apart & (information > 0)  # where each run is one point, they lie on the line through all of them
    mean = np.bincount(run_size, by_run * solved.slope, minlength=len(known)) / np.where(known, information, 1.0)
    every = np.where(known, total(weight), 1.0)
    middle_x, middle = total(weight * points.x[mine]) / every, total(weight * eta) / every
    slope = np.where(known, mean, line.slope)
    intercept = np.where(known, middle + mean * middle_x, line.intercept)
    return _Lines(line.amplitude, line.scale, slope, intercept, line.information)


@dataclass(frozen=True)
class _Lines:
    """The curve of a law: shared values, and slope, level at X = 1 and information of each size, (n_sizes,)."""

    amplitude: float
    scale: float
    slope: np.ndarray
    intercept: np.ndarray
    information: np.ndarray

    def eta(self, points: Points) -> np.ndarray:
        return self.intercept[points.size] - self.slope[points.size] * points.x

    def mix(self, other: _Lines, share: float, law: Law, sizes: np.ndarray) -> _Lines:
        """A step of `share` from `self` towards `other`, in (amplitude, ln scale, levels)."""
        if law.shape is None:
            slope, amplitude, scale = self.slope + share * (other.slope - self.slope), 0.0, 0.0
        else:
            amplitude = self.amplitude + share * (other.amplitude - self.amplitude)
            scale = self.scale * (other.scale / self.scale) ** share
            slope = amplitude * law.shape(sizes, scale)
        intercept = self.intercept + share * (other.intercept - self.intercept)
        return _Lines(amplitude, scale, slope, intercept, other.information)


def _iterate(
    points: Points, objective: str, law: Law, published_bounds: bool, lines: _Lines, tolerance: float
) -> tuple[_Lines, float, int, bool]:
    """Rounds of linearise and solve until ln L moves less than `tolerance`: (lines, criterion, rounds, converged)."""
    value, share, before = _criterion(points, objective, lines.eta(points)), 1.0, np.inf
    for rounds in range(1, MAX_ROUNDS + 1):
        weight, response = _linearise(points, objective, lines.eta(points))
        aim = _solve_weighted(points, weight, response, law, published_bounds, exact=tolerance < 1e-8)
        moved = float(np.max(np.abs(aim.eta(points) - lines.eta(points))))
        if objective == "log":  # weights that depend on the fit may make it swing to and fro: then smaller steps
            share = max(share / 2, 1 / 16) if moved > 0.9 * before else share
            lines, before = lines.mix(aim, share, law, points.sizes), moved
        elif moved < 1e-6:  # here the criterion is flat to rounding, and the full step contracts
            lines = aim
        else:  # never uphill
            share, after, step = 2.0, np.inf, lines
            while after > value and share > 1e-6:
                share /= 2
                step = lines.mix(aim, share, law, points.sizes)
                after = _criterion(points, objective, step.eta(points))
            if after > value:
                return lines, value, rounds, False
            lines, value = step, after
        if moved < tolerance:
            return lines, _criterion(points, objective, lines.eta(points)), rounds, True
    return lines, _criterion(points, objective, lines.eta(points)), MAX_ROUNDS, False


def _solve_weighted(
    points: Points,
    weight: np.ndarray,
    response: np.ndarray,
    law: Law,
    published_bounds: bool,
    scale: float | None = None,
    exact: bool = True,
) -> _Lines:
    """Weighted least squares of `response` on ln X: levels and amplitude in closed form, the scale by a 1-D search.

    Centred within sizes, size i has slope k_i and information S_i = sum w (x - mean)^2, and the misfit of a law with
    k(N) = K f(N) is sum S_i (k_i - K f_i)^2: everything below needs k and S only. With `scale` the scale is held.
    """
    total = points.sum_by_size(weight)
    x_mean, z_mean = points.sum_by_size(weight * points.x) / total, points.sum_by_size(weight * response) / total
    x = points.x - x_mean[points.size]
    information = points.sum_by_size(weight * x * x)
    # One distinct X carries no slope; rounding must not invent one.
    information = np.where(information > 1e-18 * total * (1 + x_mean**2), information, 0.0)
    slope = -points.sum_by_size(weight * x * response) / np.where(information > 0, information, 1.0)
    # Rounding must not invent one of losses that are all equal either.
    rise = np.abs(slope) * np.sqrt(information / total)
    slope = np.where((information > 0) & (rise > 1e-12 * (1 + np.abs(z_mean))), slope, 0.0)
    if law.shape is None:
        return _Lines(0.0, 0.0, slope, z_mean + slope * x_mean, information)
    limits = {p.name: p.limits(points.sizes, published_bounds) for p in law.shared}
    if scale is None:
        scale = _search_scale(
            law.shape,
            points.sizes,
            slope,
            information,
            limits[law.amplitude],
            limits[law.scale],
            1e-13 if exact else 1e-6,
        )
    shape = law.shape(points.sizes, scale)
    amplitude = _amplitude(shape, slope, information, limits[law.amplitude])
    return _Lines(amplitude, scale, amplitude * shape, z_mean + amplitude * shape * x_mean, information)


def _amplitude(shape: np.ndarray, slope: np.ndarray, information: np.ndarray, limits: tuple[float, float]) -> float:
    """K that minimises sum S (k - K f)^2 within its bounds: exact, the sum is a parabola in K."""
    weighted = information * shape
    bottom = float(weighted @ shape)
    best = float(weighted @ slope) / bottom if bottom > 0 else 0.0
    return min(max(best, limits[0]), limits[1])


def _search_scale(
    shape: Callable, sizes: np.ndarray, slope: np.ndarray, information: np.ndarray,
    amplitude_limits: tuple[float, float], limits: tuple[float, float], tolerance: float,
) -> float:  # fmt: skip
    """The scale (n0) whose best amplitude misses least: a grid over its bounds, then the root of the derivative."""

    def misses(log_scale: np.ndarray) -> np.ndarray:
        f = shape(sizes, np.exp(log_scale)[:, None])
        bottom = f**2 @ information  # 0 where no size has a slope, or the shape vanishes at those that have one
        best = np.clip((f @ (information * slope)) / np.where(bottom > 0, bottom, 1.0), *amplitude_limits)
        return ((slope - best[:, None] * f) ** 2) @ information

    def derivative(log_scale: float, h: float = 1e-4) -> float:
        """Of the profile by ln scale; the amplitude's own part vanishes at its optimum (and at its bound)."""
        at = math.exp(log_scale)
        low, f, high = shape(sizes, np.array([[at * math.exp(-h)], [at], [at * math.exp(h)]]))
        best = _amplitude(f, slope, information, amplitude_limits)
        return -best * float((information * (slope - best * f)) @ (high - low)) / h

    if limits[0] == limits[1]:
        return limits[0]
    grid = np.linspace(math.log(limits[0]), math.log(limits[1]), 101)
    missed = misses(grid)
    i = int(np.argmin(missed))
    if 0 < i < len(grid) - 1 and derivative(grid[i - 1]) < 0 < derivative(grid[i + 1]):
        return math.exp(brentq(derivative, grid[i - 1], grid[i + 1], xtol=tolerance, rtol=tolerance))
    if missed.max() - missed.min() <= 1e-13 * float(np.sum(information * slope**2)):
        # Flat (no slope above 0): any scale fits, take one inside.
        return float(np.clip(np.sqrt(sizes[0] * sizes[-1]), *limits))
    edge = (grid[0], grid[1]) if i == 0 else (grid[-2], grid[-1])
    if i in (0, len(grid) - 1) and derivative(edge[0]) < 0 < derivative(edge[1]):
        return math.exp(brentq(derivative, *edge, xtol=tolerance, rtol=tolerance))
    return limits[0] if i == 0 else limits[1] if i == len(grid) - 1 else math.exp(grid[i])


def _at_bound(value: float, limits: tuple[float, float]) -> bool:
    return any(np.isclose(value, limit, rtol=1e-6, atol=1e-12) for limit in limits)
