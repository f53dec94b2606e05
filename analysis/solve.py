"""Find the optimum of a law: points in, parameters out. Nothing here knows where the points come from.

Two solvers. Straight lines with a free level per size (the learning-efficiency law, lines per size) take the first: one
solver for three objectives. Each round linearises around the present curve, which gives a working response z and a
weight w per point (eta = ln mu is the fitted log loss, Q the number of evaluated samples):

    log        z = ln L                   w = Q mu / (1 - mu)   the inverse variance of ln L for a count of errors
    binomial   z = eta - g / w            w = g', g the derivative of -ln likelihood of the counts by eta (Newton)
    linear     z = eta + (L - mu) / mu    w = mu^2 / n_size     Gauss-Newton for squared error on L itself,
                                                                equal total weight per size (Tan et al. 2025)

and solves the weighted problem exactly: levels E in closed form by centring within sizes, k_max >= 0 in closed form
given n0, n0 by a search in one dimension. A fixed point is a stationary point of the objective itself. Weights of `log`
come from the *fitted* curve: weights from the observed loss favour points that happen to be high.

Every other law, and the objective `huber`, take the second: from every start the linear parameters are eliminated in
closed form while the others are searched (variable projection), then all are polished together on the objective
itself (`scipy.optimize.least_squares`). Its weights of `log` come from the fitted line of each size: a law that misses
badly, and may predict L above 1, must not choose the weights it is judged by. Both are deterministic to the byte.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import brentq, least_squares

from analysis.laws import TINY, Law, Parameter, get_law
from scaling.schema import InputError, check_name

OBJECTIVES = {
    "log": "least squares on ln L, weights Q L / (1 - L) from the fitted curve",
    "binomial": "likelihood of the counts of errors",
    "linear": "squared error on L, equal total weight per size",
    "huber": "Huber loss of ln L, delta 1e-3: errors beyond a thousandth count in proportion, not squared",
}
MAX_ROUNDS = 200
TOLERANCE = 1e-11
HUBER = 1e-3
HUGE = 1e60  # derivatives beyond it tell a search no more, and their squares leave the range of numbers


# ---------------------------------------------------------------- points


@dataclass(frozen=True)
class Points:
    """The points of a fit; arrays of n points, ordered by run and step.

    Fields:
        sizes: (n_sizes,) distinct N, ascending; size: (n,) index into it.
        runs: names of the runs; run: (n,) index into it.
        x: (n,) ln X; loss: (n,) L; trials: (n,) Q = eval_problems x eval_samples, or None where not known.
        step: (n,).
        columns: what else the law asks of a point (`reuse`: D / U there), (n,) each.
    """

    sizes: np.ndarray
    size: np.ndarray
    runs: list[str]
    run: np.ndarray
    x: np.ndarray
    loss: np.ndarray
    trials: np.ndarray | None
    step: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    def take(self, mask: np.ndarray) -> Points:
        """The points of the mask; sizes and runs without points drop out."""
        sizes, size = np.unique(self.size[mask], return_inverse=True)
        runs, run = np.unique(self.run[mask], return_inverse=True)
        return Points(
            self.sizes[sizes], size, [self.runs[i] for i in runs], run, self.x[mask], self.loss[mask],
            None if self.trials is None else self.trials[mask], self.step[mask],
            {name: values[mask] for name, values in self.columns.items()},
        )  # fmt: skip

    def draw(self, runs: list[np.ndarray]) -> Points:
        """Points at these indices, a list for each run; a run that stands twice counts as two."""
        at, run = np.concatenate(runs), np.repeat(np.arange(len(runs)), [len(r) for r in runs])
        sizes, size = np.unique(self.size[at], return_inverse=True)
        return Points(
            self.sizes[sizes], size, [str(i) for i in range(len(runs))], run, self.x[at], self.loss[at],
            None if self.trials is None else self.trials[at], self.step[at],
            {name: values[at] for name, values in self.columns.items()},
        )  # fmt: skip

    def sum_by_size(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.size, values, minlength=len(self.sizes))

    def run_sizes(self) -> np.ndarray:
        """(n_runs,) index of the size of each run."""
        sizes = np.zeros(len(self.runs), int)
        sizes[self.run] = self.size
        return sizes

    def ln_loss(self) -> np.ndarray:
        """ln L with the floor of half an error where no error was counted; -inf only where counts are unknown."""
        loss = self.loss if self.trials is None else np.maximum(self.loss, 0.5 / self.trials)
        with np.errstate(divide="ignore"):
            return np.log(loss)

    def hash(self) -> str:
        digest = hashlib.sha256()
        for part in (
            self.sizes,
            self.size,
            self.run,
            self.x,
            self.loss,
            self.trials,
            self.step,
            *self.columns.values(),
        ):
            digest.update(b"none" if part is None else np.ascontiguousarray(part, float).tobytes())
        return digest.hexdigest()[:12]


# ---------------------------------------------------------------- the optimum


@dataclass(frozen=True)
class Solution:
    """An optimum.

    Fields:
        values: shared parameters by name, floats. per_size: the others by name, (n_sizes,) each.
        eta: (n,) fitted ln L of the points.
        slope, intercept: (n_sizes,) k(N) and E(N), E at X = 1; of a law without straight lines its tangent at the
            middle of the size's points on the log axis.
        objective: the criterion at the optimum, in the objective's own unit.
        information: (n_sizes,) weighted sum of squares of ln X within each size, at the optimum's weights.
        starts: one entry per start: where it began, what it reached, its `objective`, whether that is the `best`.
        bound_hits: names of parameters at a bound.
        covariance: names and covariance matrix of the shared parameters, scales in logs, by the scatter between runs
            (cluster sandwich); None where the first solver was used, or where it is singular.
        condition_number: of the scaled Jacobian of the second solver, else None.
    """

    values: dict[str, float]
    per_size: dict[str, np.ndarray]
    eta: np.ndarray
    slope: np.ndarray
    intercept: np.ndarray
    objective: float
    information: np.ndarray
    starts: list[dict[str, Any]]
    bound_hits: list[str]
    rounds: int
    converged: bool
    covariance: tuple[list[str], np.ndarray] | None = None
    condition_number: float | None = None


def solve(
    points: Points,
    law: Law,
    objective: str = "log",
    published_bounds: bool = False,
    start: dict[str, float] | None = None,
) -> Solution:
    """Minimise the objective over the law's parameters. Deterministic: equal data give equal bytes.

    `start` adds a start of one's own (values of parameters that are not linear) in front of the law's; every start is
    reported with what it reached.
    """
    check_name(objective, OBJECTIVES, "objective")
    response = points.ln_loss()
    if objective == "binomial" and points.trials is None:
        raise InputError("objective binomial needs the counts: a column eval_problems; without it use log or linear.")
    if objective in ("log", "huber") and np.isinf(response).any():
        raise InputError(
            f"a test loss is 0 at {int(np.isinf(response).sum())} points and eval_problems is unknown, so its log has "
            "no floor: add the column eval_problems, or use objective linear."
        )
    # Only a start: linear needs no log, and the least positive loss is as good a place as any.
    response = np.where(np.isinf(response), np.log(np.min(points.loss[points.loss > 0], initial=1.0)), response)
    if law.closed_form and objective != "huber":
        return _solve_lines(points, law, objective, published_bounds, response, start)
    return _solve_general(points, law, objective, published_bounds, response, start)


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
    hits = [p.name for p in law.shared if _at_bound(values[p.name], p.limits(points.sizes, published_bounds))]
    free = {"efficiency": line.slope, "intercept": line.intercept}
    return Solution(
        values, {p.name: free[p.name] for p in law.parameters if p.per_size}, line.eta(points), line.slope,
        line.intercept, value, line.information, starts, hits, rounds, converged,
    )  # fmt: skip


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


def _mean(points: Points, eta: np.ndarray) -> np.ndarray:
    """Fitted loss, kept a tenth of an error away from 0 and half an error away from 1, where it has no variance."""
    assert points.trials is not None
    return np.clip(np.exp(np.minimum(eta, 1.0)), 0.1 / points.trials, 1 - 0.5 / points.trials)


def _linearise(points: Points, objective: str, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weight, working response) around the curve eta; see the head of this file."""
    if objective == "linear":
        mu = np.exp(np.minimum(eta, 2.0))
        return mu**2 / points.sum_by_size(np.ones(len(points)))[points.size], np.log(mu) + (points.loss - mu) / mu
    if points.trials is None:
        return np.ones(len(points)), points.ln_loss()
    mu = _mean(points, eta)
    if objective == "log":
        return points.trials * mu / (1 - mu), points.ln_loss()
    weight = points.trials * mu * np.maximum(1 - points.loss, 0.5 / points.trials) / (1 - mu) ** 2
    return weight, np.log(mu) + points.trials * (points.loss - mu) / (1 - mu) / weight


def _criterion(points: Points, objective: str, eta: np.ndarray) -> float:
    """What is minimised. linear: squared error on L, mean over points, then over sizes. binomial: -2 ln likelihood per
    sample. log: -2 ln of the normal likelihood of ln L with the fitted variances, per point (it compares starts).
    huber: the sum over points."""
    if objective == "linear":
        square = (points.loss - np.exp(np.minimum(eta, 2.0))) ** 2
        return float(np.mean(points.sum_by_size(square) / points.sum_by_size(np.ones(len(points)))))
    if objective == "huber":
        away = np.abs(points.ln_loss() - eta)
        return float(np.sum(np.where(away <= HUBER, away**2 / 2, HUBER * (away - HUBER / 2))))
    weight, response = _linearise(points, objective, eta)
    if objective == "log":
        return float(np.mean(weight * (response - eta) ** 2 - np.log(weight)))
    mu, trials = _mean(points, eta), np.asarray(points.trials)
    likelihood = trials * (points.loss * np.log(mu) + (1 - points.loss) * np.log1p(-mu))
    # Beyond the limits of mu the likelihood goes on as the parabola that touches it there: no flat ground.
    beyond = eta - np.log(mu)
    likelihood += weight * ((response - np.log(mu)) * beyond - beyond**2 / 2)
    return float(-2 * np.sum(likelihood) / np.sum(trials))


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
            share, after = 2.0, np.inf
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
    slope = np.where(information > 0, slope, 0.0)
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
        best = np.clip((f @ (information * slope)) / (f**2 @ information), *amplitude_limits)
        return ((slope - best[:, None] * f) ** 2) @ information

    def derivative(log_scale: float, h: float = 1e-4) -> float:
        """Of the profile by ln scale; the amplitude's own part vanishes at its optimum (and at its bound)."""
        at = math.exp(log_scale)
        low, f, high = shape(sizes, np.array([[at * math.exp(-h)], [at], [at * math.exp(h)]]))
        best = _amplitude(f, slope, information, amplitude_limits)
        return -best * float((information * (slope - best * f)) @ (high - low)) / h

    grid = np.linspace(math.log(limits[0]), math.log(limits[1]), 101)
    missed = misses(grid)
    i = int(np.argmin(missed))
    if 0 < i < len(grid) - 1 and derivative(grid[i - 1]) < 0 < derivative(grid[i + 1]):
        return math.exp(brentq(derivative, grid[i - 1], grid[i + 1], xtol=tolerance, rtol=tolerance))
    if missed.max() - missed.min() <= 1e-13 * float(np.sum(information * slope**2)):
        return float(np.sqrt(sizes[0] * sizes[-1]))  # flat (no slope above 0): any scale fits, take one inside
    edge = (grid[0], grid[1]) if i == 0 else (grid[-2], grid[-1])
    if i in (0, len(grid) - 1) and derivative(edge[0]) < 0 < derivative(edge[1]):
        return math.exp(brentq(derivative, *edge, xtol=tolerance, rtol=tolerance))
    return limits[0] if i == 0 else limits[1] if i == len(grid) - 1 else math.exp(grid[i])


def _at_bound(value: float, limits: tuple[float, float]) -> bool:
    return any(np.isclose(value, limit, rtol=1e-6, atol=1e-12) for limit in limits)


# ---------------------------------------------------------------- any other law


class Problem:
    """A law on points as a function of one vector: shared and per-size parameters in the law's order, scales in logs.

    Attributes:
        slots: (parameter, index of the size or -1) of each entry of the vector.
        low, high: bounds of each entry. linear: mask of the entries that the curve is linear in.
        weight: (n,) weights of `log`, else 1. each: (n,) number of points of the point's size.
    """

    def __init__(self, points: Points, law: Law, objective: str, published_bounds: bool):
        self.points, self.law, self.n, self.x = points, law, points.sizes[points.size], np.exp(points.x)
        self.objective, self.each = objective, points.sum_by_size(np.ones(len(points)))[points.size]
        self.weight = np.ones(len(points))
        if objective == "log" and points.trials is not None:
            self.weight = _linearise(points, "log", solve(points, get_law("per_size")).eta)[0]
        self.slots: list[tuple[Parameter, int]] = []
        for parameter in law.parameters:
            sizes = range(len(points.sizes)) if parameter.per_size else [-1]
            self.slots += [(parameter, i) for i in sizes]
        limits = [self._limits(p, i, published_bounds) for p, i in self.slots]
        self.low, self.high = (np.array([ends[j] for ends in limits]) for j in (0, 1))
        self.linear = np.array([p.linear for p, _ in self.slots])

    def _x_of(self, i: int) -> np.ndarray:
        return self.x if i < 0 else self.x[self.points.size == i]

    def _limits(self, parameter: Parameter, i: int, published_bounds: bool) -> tuple[float, float]:
        low, high = parameter.limits(self.points.sizes, published_bounds, self._x_of(i))
        return (math.log(low), math.log(high)) if parameter.scale else (low, high)

    def values(self, vector: np.ndarray) -> dict[str, Any]:
        """Values by name: a float for a shared parameter, (n_sizes,) for the others."""
        found: dict[str, Any] = {}
        for (parameter, i), value in zip(self.slots, vector, strict=True):
            value = math.exp(value) if parameter.scale else float(value)
            if i < 0:
                found[parameter.name] = value
            else:
                found.setdefault(parameter.name, np.empty(len(self.points.sizes)))[i] = value
        return found

    def vector(self, solution: Solution, size: int | None = None) -> np.ndarray:
        """The entries of a solution; with `size` those of the shared parameters and of that size."""
        values = {**solution.values, **solution.per_size}
        known = [np.atleast_1d(values[p.name])[i if size is None else size if p.per_size else 0] for p, i in self.slots]
        found = [math.log(v) if p.scale else v for v, (p, _) in zip(known, self.slots, strict=True)]
        return np.clip(found, self.low, self.high)

    def curve(self, vector: np.ndarray) -> np.ndarray:
        """(n,) the law on its own scale."""
        values = {k: v if np.ndim(v) == 0 else v[self.points.size] for k, v in self.values(vector).items()}
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.law.curve(self.n, self.x, values, **self.points.columns), float)

    def eta(self, vector: np.ndarray) -> np.ndarray:
        found = self.curve(vector)
        return found if self.law.link == "log" else np.log(np.maximum(found, TINY))

    def columns(self, vector: np.ndarray, which: np.ndarray) -> np.ndarray:
        """(n, entries) derivative of the curve by the entries of the mask: exact where linear, else by differences."""
        found = np.empty((len(self.points), int(which.sum())))
        at = np.where(self.linear, 0.0, vector)
        base = self.curve(at)
        # A shared and a per-size parameter cost one evaluation each: sizes do not see each other's values.
        done: dict[str, np.ndarray] = {}
        for j, slot in enumerate(np.flatnonzero(which)):
            parameter, i = self.slots[slot]
            if parameter.name not in done:
                same = np.array([p is parameter for p, _ in self.slots])
                if parameter.linear:
                    done[parameter.name] = self.curve(at + same) - base
                else:
                    h = 1e-6 * np.maximum(1.0, np.abs(vector)) * same
                    up, down = self.curve(vector + h), self.curve(vector - h)
                    step = h[same] if i < 0 else h[same][self.points.size]
                    done[parameter.name] = (up - down) / (2 * step)
            found[:, j] = done[parameter.name] if i < 0 else done[parameter.name] * (self.points.size == i)
        return found

    def log_columns(self, vector: np.ndarray) -> np.ndarray:
        """(n, entries) derivative of the fitted ln L by every entry."""
        found = self.columns(vector, np.ones(len(vector), bool))
        return found if self.law.link == "log" else found / np.maximum(self.curve(vector), TINY)[:, None]

    def with_linear(self, vector: np.ndarray, weight: np.ndarray, response: np.ndarray) -> np.ndarray:
        """The vector with its linear entries replaced by their weighted least squares optimum within bounds."""
        design = self.columns(vector, self.linear)
        offset = self.curve(np.where(self.linear, 0.0, vector))
        root = np.sqrt(weight)
        a, b = design * root[:, None], (response - offset) * root
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return np.where(self.linear, np.clip(0.0, self.low, self.high), vector)
        norm = np.abs(a).max(axis=0)
        norm = np.where(norm > 0, norm, 1.0)
        low, high = self.low[self.linear] * norm, self.high[self.linear] * norm
        best, free = np.zeros(len(norm)), np.ones(len(norm), bool)
        for _ in range(4):  # entries beyond a bound are set to it, and the rest solved again
            rest = b - (a / norm)[:, ~free] @ best[~free]
            best[free] = np.linalg.lstsq((a / norm)[:, free], rest, rcond=1e-14)[0]
            beyond = (best < low) | (best > high)
            best = np.clip(best, low, high)
            if not beyond.any() or not (free := free & ~beyond).any():
                break
        found = vector.copy()
        found[self.linear] = np.clip(best / norm, self.low[self.linear], self.high[self.linear])
        return found

    def residual(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(residuals whose squares, or Huber losses, sum to the objective; their derivative by eta), (n,) each."""
        points = self.points
        if self.objective == "linear":
            mu = np.exp(np.minimum(eta, 2.0))
            return (points.loss - mu) / np.sqrt(self.each), -mu / np.sqrt(self.each)
        if self.objective != "binomial":
            root = np.sqrt(self.weight)
            return root * (points.ln_loss() - eta), -root
        assert points.trials is not None
        mu, trials, loss = _mean(points, eta), points.trials, points.loss
        with np.errstate(divide="ignore", invalid="ignore"):
            deviance = np.where(loss > 0, loss * np.log(loss / mu), 0.0)
            deviance += np.where(loss < 1, (1 - loss) * np.log((1 - loss) / (1 - mu)), 0.0)
        size = np.sqrt(np.maximum(2 * trials * deviance, 0))
        away = np.where(loss >= mu, size, -size)
        flat = -np.sqrt(trials * mu / (1 - mu))
        slope = np.where(size > 1e-5, trials * (mu - loss) / (1 - mu) / np.where(size > 1e-5, away, 1.0), flat)
        # Beyond the limits of mu the residual goes on along its tangent: no flat ground.
        return away + slope * (eta - np.log(mu)), slope

    def criterion(self, eta: np.ndarray) -> float:
        """What is minimised: as `_criterion`; for log the weighted mean square, for binomial the deviance a sample."""
        if self.objective == "log":
            return float(np.mean(self.residual(eta)[0] ** 2))
        if self.objective == "binomial":
            return float(np.sum(self.residual(eta)[0] ** 2) / np.sum(self.points.trials))  # type: ignore[arg-type]
        return _criterion(self.points, self.objective, eta)

    def starts(self, own: dict[str, float] | None) -> list[np.ndarray]:
        """Vectors with every combination of the parameters' starts; sizes move together."""
        searched = [p for p in self.law.parameters if not p.linear]
        combinations = list(itertools.product(*(range(len(p.starts)) for p in searched)))
        chosen: list[dict[str, Any]] = [
            {p.name: k for p, k in zip(searched, combination, strict=True)} for combination in combinations
        ]
        if own:
            unknown = set(own) - {p.name for p in searched}
            if unknown or len(own) < len(searched):
                names = ", ".join(p.name for p in searched)
                raise InputError(f"start: wants a value for each of {names}; there is {', '.join(own)}.")
        found = []
        for choice in [*([None] if own else []), *chosen]:
            vector = np.zeros(len(self.slots))
            for slot, (parameter, i) in enumerate(self.slots):
                if parameter.linear:
                    continue
                value = (
                    own[parameter.name] if choice is None and own
                    else parameter.start_values(self.points.sizes, self._x_of(i))[choice[parameter.name]]  # type: ignore[index]
                )  # fmt: skip
                value = math.log(value) if parameter.scale else value
                gap = min(1e-6, (self.high[slot] - self.low[slot]) / 4)
                vector[slot] = np.clip(value, self.low[slot] + gap, self.high[slot] - gap)
            found.append(vector)
        return found


def _solve_general(
    points: Points, law: Law, objective: str, published_bounds: bool, response: np.ndarray,
    start: dict[str, float] | None,
) -> Solution:  # fmt: skip
    """See the head of this file. A law that shares nothing between sizes is solved size by size."""
    if not law.shared and len(points.sizes) > 1:
        parts = [points.size == i for i in range(len(points.sizes))]
        each = [
            _solve_general(points.take(part), law, objective, published_bounds, response[part], start) for part in parts
        ]
        eta = np.empty(len(points))
        for part, found in zip(parts, each, strict=True):
            eta[part] = found.eta
        joined = {name: np.concatenate([found.per_size[name] for found in each]) for name in each[0].per_size}
        return Solution(
            {}, joined, eta, *(np.concatenate([getattr(f, name) for f in each]) for name in ("slope", "intercept")),
            objective=_criterion(points, objective, eta),
            information=np.concatenate([found.information for found in each]),
            starts=[{"num_params": float(n), **s} for n, f in zip(points.sizes, each, strict=True) for s in f.starts],
            bound_hits=list(dict.fromkeys(name for found in each for name in found.bound_hits)),
            rounds=max(found.rounds for found in each), converged=all(found.converged for found in each),
        )  # fmt: skip
    problem = Problem(points, law, objective, published_bounds)
    ended = []
    for begin in problem.starts(start):
        near = _projected(problem, begin, response)
        ended.append((begin, *_polish(problem, near, 1e-9, 100)))
    best = min(ended, key=lambda end: end[2])
    # The last round goes as far as rounding allows; what it could still move is told by `moved`.
    vector, value, _ = _polish(problem, best[1], 1e-15, 300)
    moved = float(np.max(np.abs(problem.eta(vector) - problem.eta(best[1]))))
    vector, value, held = _at_bounds(problem, vector, value)
    converged = best[3] or moved < 1e-6
    names = [parameter.name for parameter, _ in problem.slots]
    searched = [p.name for p in law.parameters if not p.linear]
    starts = []
    for begin, end, reached, _ in ended:
        start_values, end_values = problem.values(begin), problem.values(end)
        starts.append({
            **{f"start_{name}": _plain(start_values[name]) for name in searched},
            **{p.name: _plain(end_values[p.name]) for p in law.shared},
            "objective": reached, "best": bool(reached <= value + 1e-4 * abs(value) + 1e-12),
        })  # fmt: skip
    values = problem.values(vector)
    eta = problem.eta(vector)
    total = points.sum_by_size(weight := _linearise(points, objective, eta)[0])
    centre = points.sum_by_size(weight * points.x) / total
    information = points.sum_by_size(weight * (points.x - centre[points.size]) ** 2)
    plain = points.sum_by_size(points.x) / points.sum_by_size(np.ones(len(points)))
    middle = {k: points.sum_by_size(v) / points.sum_by_size(np.ones(len(points))) for k, v in points.columns.items()}
    slope = np.broadcast_to(law.efficiency(points.sizes, np.exp(plain), values, **middle), points.sizes.shape)
    level = np.broadcast_to(law.ln_loss(points.sizes, np.exp(plain), values, **middle), points.sizes.shape)
    covariance, condition = _sandwich(problem, vector, held)
    return Solution(
        {p.name: values[p.name] for p in law.shared},
        {p.name: np.asarray(values[p.name]) for p in law.parameters if p.per_size},
        eta, np.array(slope, float), level + slope * plain, value, information, starts,
        list(dict.fromkeys(name for name, hit in zip(names, held, strict=True) if hit)), len(ended), converged,
        covariance, condition,
    )  # fmt: skip


def solve_near(points: Points, law: Law, objective: str, values: dict[str, float]) -> dict[str, float]:
    """Shared values of a law without parameters per size on other points, from values near the optimum: one start."""
    problem = Problem(points, law, objective, False)
    begin = np.array([math.log(values[p.name]) if p.scale else values[p.name] for p, _ in problem.slots])
    return problem.values(_polish(problem, begin, 1e-8, 200)[0])


def _plain(value: Any) -> float | list[float]:
    return float(value) if np.ndim(value) == 0 else [float(v) for v in value]


def _projected(problem: Problem, begin: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Variable projection: the searched entries by least squares, the linear ones in closed form at each step.

    On the law's own scale, where they are linear; weights make its errors those of ln L, or for `linear` of L.
    """
    loss = np.maximum(np.exp(response), 1e-3)
    aim, per_log = (response, 1.0) if problem.law.link == "log" else (loss, loss**-2)
    weight = problem.weight * per_log * (loss**2 / problem.each if problem.objective == "linear" else 1.0)
    searched = ~problem.linear
    if not searched.any():
        return problem.with_linear(begin, weight, aim)
    root = np.sqrt(weight)

    def whole(part: np.ndarray) -> np.ndarray:
        vector = begin.copy()
        vector[searched] = part
        return problem.with_linear(vector, weight, aim)

    def missed(part: np.ndarray) -> np.ndarray:
        return np.nan_to_num(root * (aim - problem.curve(whole(part))), nan=1e6, posinf=1e6, neginf=-1e6)

    bounds = (problem.low[searched], problem.high[searched])
    return whole(least_squares(missed, begin[searched], bounds=bounds, max_nfev=40, ftol=1e-7, xtol=1e-7).x)


def _polish(
    problem: Problem, begin: np.ndarray, tolerance: float, most: int, free: np.ndarray | None = None
) -> tuple[np.ndarray, float, bool]:
    """Least squares over all free entries on the objective itself: (vector, criterion, converged)."""
    free = problem.low < problem.high if free is None else free
    width = np.where(np.isfinite(problem.high - problem.low), problem.high - problem.low, 1.0)
    vector = np.where(free, np.clip(begin, problem.low + 1e-9 * width, problem.high - 1e-9 * width), begin)
    if not free.any():
        return vector, problem.criterion(problem.eta(vector)), True

    def whole(part: np.ndarray) -> np.ndarray:
        found = vector.copy()
        found[free] = part
        return found

    def missed(part: np.ndarray) -> np.ndarray:
        return np.nan_to_num(problem.residual(problem.eta(whole(part)))[0], nan=1e6, posinf=1e6, neginf=-1e6)

    def jacobian(part: np.ndarray) -> np.ndarray:
        at = whole(part)
        slope = problem.residual(problem.eta(at))[1]
        if problem.law.link == "identity":
            slope = slope / np.maximum(problem.curve(at), TINY)
        return np.clip(np.nan_to_num(problem.columns(at, free) * slope[:, None]), -HUGE, HUGE)

    loss = {"loss": "huber", "f_scale": HUBER} if problem.objective == "huber" else {}
    found = least_squares(
        missed, vector[free], jacobian, (problem.low[free], problem.high[free]), x_scale="jac", max_nfev=most,
        ftol=tolerance, xtol=tolerance, gtol=tolerance, **loss,
    )  # fmt: skip
    vector = whole(found.x)
    return vector, problem.criterion(problem.eta(vector)), found.status > 0


def _at_bounds(problem: Problem, vector: np.ndarray, value: float) -> tuple[np.ndarray, float, np.ndarray]:
    """(vector, criterion, mask of the entries at a bound): an interior method only comes near a bound, so entries that
    are near are set to it, where that costs nothing."""
    held = np.zeros(len(vector), bool)
    reach = np.maximum(1e-3, 1e-3 * np.abs(vector))
    for slot in range(len(vector)):
        for bound in (problem.low[slot], problem.high[slot]):
            if not np.isfinite(bound) or abs(vector[slot] - bound) > reach[slot]:
                continue
            trial, free = vector.copy(), ~held & (problem.low < problem.high)
            trial[slot], free[slot] = bound, False
            found, reached, _ = _polish(problem, trial, 1e-14, 100, free)
            if reached <= value + 1e-9 * abs(value) + 1e-14:
                vector, value = found, reached
                held[slot] = True
                break
    return vector, value, held


def _sandwich(
    problem: Problem, vector: np.ndarray, held: np.ndarray
) -> tuple[tuple[list[str], np.ndarray] | None, float | None]:
    """Covariance of the shared parameters from the scatter of the runs' gradients, and the condition number."""
    points, free = problem.points, ~held & (problem.low < problem.high)
    eta = problem.eta(vector)
    slope = problem.columns(vector, free)
    if problem.law.link == "identity":
        slope = slope / np.maximum(problem.curve(vector), TINY)[:, None]
    missed, by_eta = problem.residual(eta)
    weight = by_eta**2
    if problem.objective == "huber":  # the curvature is the density of residuals near 0, from a window of their scatter
        window = max(HUBER, 0.7 * float(np.median(np.abs(missed))))
        weight = np.where(np.abs(missed) <= window, HUBER / window, 0.0)
        missed = np.clip(missed, -HUBER, HUBER)
    gradient = slope * (-missed * by_eta)[:, None]
    if not np.isfinite(slope).all() or free.sum() == 0:
        return None, None
    norm = np.abs(slope * np.sqrt(weight)[:, None]).max(axis=0)
    if not (np.isfinite(norm) & (norm > 0)).all():
        return None, None
    information = (slope / norm).T @ (slope / norm * weight[:, None])
    singular = np.linalg.svd(information, compute_uv=False)
    condition = float(np.sqrt(singular[0] / singular[-1])) if singular[-1] > 0 else None
    runs = len(points.runs)
    if condition is None or condition > 1e7 or runs <= free.sum():
        return None, condition
    by_run = np.zeros((runs, int(free.sum())))
    np.add.at(by_run, points.run, gradient / norm)
    inverse = np.linalg.inv(information)
    found = inverse @ (by_run.T @ by_run) @ inverse * runs / (runs - free.sum()) / np.outer(norm, norm)
    slots = [problem.slots[i] for i in np.flatnonzero(free)]
    shared = [j for j, (_, i) in enumerate(slots) if i < 0]
    return ([slots[j][0].name for j in shared], found[np.ix_(shared, shared)]), condition
