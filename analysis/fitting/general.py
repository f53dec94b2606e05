"""Solve any law, and the objective `huber`.

From every start the linear parameters are eliminated in closed form while the others are searched (variable
projection), then all are polished together on the objective itself (`scipy.optimize.least_squares`). Weights of `log`
come from the fitted line of each size: a law that misses badly, and may predict L above 1, must not choose the weights
it is judged by. The result is deterministic to the byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import least_squares

from analysis.fitting.objectives import HUBER, _criterion, _linearise
from analysis.fitting.points import Points
from analysis.fitting.problem import Problem
from analysis.fitting.solution import Solution
from analysis.laws import TINY, Law

HUGE = 1e60  # derivatives beyond it tell a search no more, and their squares leave the range of numbers


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
        for part, solved in zip(parts, each, strict=True):
            eta[part] = solved.eta
        joined = {name: np.concatenate([solved.per_size[name] for solved in each]) for name in each[0].per_size}
        return Solution(
            {}, joined, eta, *(np.concatenate([getattr(f, name) for f in each]) for name in ("slope", "intercept")),
            objective=_criterion(points, objective, eta),
            information=np.concatenate([solved.information for solved in each]),
            starts=[{"num_params": float(n), **s} for n, f in zip(points.sizes, each, strict=True) for s in f.starts],
            bound_hits=list(dict.fromkeys(name for solved in each for name in solved.bound_hits)),
            rounds=max(solved.rounds for solved in each), converged=all(solved.converged for solved in each),
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
    held &= problem.low < problem.high
    searched = [p.name for p in law.parameters if not p.linear and not p.fixed]
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
    return problem.values(_polish(problem, problem.entries(values), 1e-8, 200)[0])


def _plain(value: Any) -> float | list[float]:
    return float(value) if np.ndim(value) == 0 else [float(v) for v in value]


def _projected(problem: Problem, begin: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Variable projection: the searched entries by least squares, the linear ones in closed form at each step.

    On the law's own scale, where they are linear; weights make its errors those of ln L, or for `linear` of L.
    """
    loss = np.maximum(np.exp(response), 1e-3)
    aim, per_log = (response, 1.0) if problem.law.link == "log" else (loss, loss**-2)
    weight = problem.weight * per_log * (loss**2 / problem.each if problem.objective == "linear" else 1.0)
    searched = ~problem.linear & (problem.low < problem.high)
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
        vector_there = vector.copy()
        vector_there[free] = part
        return vector_there

    def missed(part: np.ndarray) -> np.ndarray:
        return np.nan_to_num(problem.residual(problem.eta(whole(part)))[0], nan=1e6, posinf=1e6, neginf=-1e6)

    def jacobian(part: np.ndarray) -> np.ndarray:
        at = whole(part)
        slope = problem.residual(problem.eta(at))[1]
        if problem.law.link == "identity":
            slope = slope / np.maximum(problem.curve(at), TINY)
        return np.clip(np.nan_to_num(problem.columns(at, free) * slope[:, None]), -HUGE, HUGE)

    loss = {"loss": "huber", "f_scale": HUBER} if problem.objective == "huber" else {}
    search = least_squares(
        missed, vector[free], jacobian, (problem.low[free], problem.high[free]), x_scale="jac", max_nfev=most,
        ftol=tolerance, xtol=tolerance, gtol=tolerance, **loss,
    )  # fmt: skip
    vector = whole(search.x)
    return vector, problem.criterion(problem.eta(vector)), search.status > 0


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
            there, reached, _ = _polish(problem, trial, 1e-14, 100, free)
            if reached <= value + 1e-9 * abs(value) + 1e-14:
                vector, value = there, reached
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
    covariance = inverse @ (by_run.T @ by_run) @ inverse * runs / (runs - free.sum()) / np.outer(norm, norm)
    slots = [problem.slots[i] for i in np.flatnonzero(free)]
    shared = [j for j, (_, i) in enumerate(slots) if i < 0]
    names = [slots[j][0].name for j in shared]
    own = problem.in_own_units(vector, names)
    return (names, own @ covariance[np.ix_(shared, shared)] @ own.T), condition
