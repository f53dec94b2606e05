"""A law on points as a problem of least squares: a vector of parameters, its bounds, its curve and its derivatives."""

from __future__ import annotations

import itertools
import math
from copy import copy
from typing import Any

import numpy as np

from analysis.fitting.lines import _solve_lines
from analysis.fitting.objectives import _criterion, _linearise, _mean
from analysis.fitting.points import Points
from analysis.fitting.solution import Solution
from analysis.laws import TINY, Law, Parameter, get_law
from scaling.schema import InputError

FAR = 120.0  # ln of the largest unit that its fifth power, the steepest bound of an exponent, can be written in


class Problem:
    """A law on points as a function of one vector: shared and per-size parameters in the law's order, scales in logs.

    All stands at the geometric mean of X and N, so that units do not matter: a scale is the log of its ratio to it, and
    an amplitude with a unit (`Parameter.at_x`, `at_size`) its part of the loss there; with `plain` its own log.

    Attributes:
        slots: (parameter, index of the size or -1) of each entry of the vector. logs: mask of the entries in logs.
        low, high: bounds of each entry. linear: mask of the entries that the curve is linear in.
        weight: (n,) weights of `log`, else 1. each: (n,) number of points of the point's size.
    """

    def __init__(self, points: Points, law: Law, objective: str, published_bounds: bool, plain: bool = False):
        self.points, self.law, self.n, self.x = points, law, points.sizes[points.size], np.exp(points.x)
        self.objective, self.each = objective, points.sum_by_size(np.ones(len(points)))[points.size]
        self.weight = np.ones(len(points))
        if objective == "log" and points.trials is not None:
            lines = _solve_lines(points, get_law("per_size"), "log", False, points.ln_loss(), None)
            self.weight = _linearise(points, "log", lines.eta)[0]
        self.slots: list[tuple[Parameter, int]] = []
        for parameter in law.parameters:
            sizes = range(len(points.sizes)) if parameter.per_size else [-1]
            self.slots += [(parameter, i) for i in sizes]
        middle = np.array([np.mean(points.x), np.mean(np.log(self.n))])  # ln X, ln N
        self.middle = np.clip(middle, -FAR, FAR).tolist()
        with_unit = np.array([bool(p.at_x or p.at_size) for p, _ in self.slots])
        self.linear = np.array([p.linear for p, _ in self.slots]) & ~(with_unit & plain)
        self.logs = np.array([p.scale for p, _ in self.slots]) | (with_unit & plain)
        self._centred = [] if plain else [p for p in law.parameters if p.at_x or p.at_size]
        self._zero = np.array([self.middle[0] * p.of_x + self.middle[1] * p.of_size for p, _ in self.slots])
        limits = [self._limits(p, i, published_bounds) for p, i in self.slots]
        self.low, self.high = (np.array([ends[j] for ends in limits]) for j in (0, 1))
        with np.errstate(divide="ignore"):
            self.low, self.high = (self._logged(ends) for ends in (self.low, self.high))
        self._entries: dict[str, slice] = {}  # of each parameter, in the vector
        for j, (parameter, _) in enumerate(self.slots):
            first = self._entries.get(parameter.name, slice(j, j)).start
            self._entries[parameter.name] = slice(first, j + 1)

    def _x_of(self, i: int) -> np.ndarray:
        return self.x if i < 0 else self.x[self.points.size == i]

    def _limits(self, parameter: Parameter, i: int, published_bounds: bool) -> tuple[float, float]:
        return parameter.limits(self.points.sizes, published_bounds, self._x_of(i))

    def values(self, vector: np.ndarray) -> dict[str, Any]:
        """Values by name: a float for a shared parameter, (n_sizes,) for the others."""
        own = vector.copy()
        own[self.logs] = np.exp((own + self._zero)[self.logs])
        values: dict[str, Any] = {
            parameter.name: own[self._entries[parameter.name]] if parameter.per_size
            else float(own[self._entries[parameter.name].start])
            for parameter in self.law.parameters
        }  # fmt: skip
        for parameter in self._centred:
            values[parameter.name] = values[parameter.name] * self._unit(parameter, values)
        return values

    def _unit(self, parameter: Parameter, values: dict[str, Any]) -> Any:
        """An amplitude over its part of the loss at the middle of the data."""
        powers = zip((parameter.at_x, parameter.at_size), self.middle, strict=True)
        return np.exp(sum(values[name] * middle for name, middle in powers if name))

    def own(self, entry: int, coordinate: float) -> float:
        """The parameter's own value where its entry of the vector is this one; an amplitude stays at the middle."""
        return float(np.exp(min(coordinate + self._zero[entry], 700.0))) if self.logs[entry] else float(coordinate)

    def coordinate(self, entry: int, value: float) -> float:
        """The inverse of `own`."""
        return math.log(value) - float(self._zero[entry]) if self.logs[entry] else value

    def in_own_units(self, vector: np.ndarray, names: list[str]) -> np.ndarray:
        """Derivative of shared parameters by their entries of the vector; scales and their entries both in logs."""
        values, slopes = self.values(vector), np.eye(len(names))
        for parameter in self._centred:
            if parameter.name in names:
                row = names.index(parameter.name)
                slopes[row, row] = self._unit(parameter, values)
                for name, middle in zip((parameter.at_x, parameter.at_size), self.middle, strict=True):
                    if name in names:
                        slopes[row, names.index(name)] = values[parameter.name] * middle
        return slopes

    def vector(self, solution: Solution, size: int | None = None) -> np.ndarray:
        """The entries of a solution; with `size` those of the shared parameters and of that size."""
        per_size = {k: np.asarray(v)[[size]] if size is not None else v for k, v in solution.per_size.items()}
        return np.clip(self.entries({**solution.values, **per_size}), self.low, self.high)

    def entries(self, values: dict[str, Any]) -> np.ndarray:
        """The vector of values by name, the inverse of `values`."""
        known = dict(values)
        for parameter in self._centred:
            known[parameter.name] = values[parameter.name] / self._unit(parameter, values)
        entries = np.array([np.atleast_1d(known[p.name])[max(i, 0)] for p, i in self.slots], float)
        with np.errstate(divide="ignore"):
            return self._logged(entries)

    def _logged(self, entries: np.ndarray) -> np.ndarray:
        """Scales by the log of their ratio to the middle of the data."""
        return np.where(self.logs, np.log(np.where(self.logs, entries, 1.0)) - self._zero, entries)

    def at(self, points: Points) -> Problem:
        """The same entries at other points of the same sizes: for curves and their derivatives, not for a fit."""
        other = copy(self)
        other.points, other.n, other.x = points, points.sizes[points.size], np.exp(points.x)
        return other

    def curve(self, vector: np.ndarray) -> np.ndarray:
        """(n,) the law on its own scale."""
        values = self.values(vector)
        for parameter in self.law.parameters:
            if parameter.per_size:  # one size needs no copy at each of its points
                value = values[parameter.name]
                values[parameter.name] = value[0] if len(value) == 1 else value[self.points.size]
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.law.curve(self.n, self.x, values, **self.points.columns), float)

    def eta(self, vector: np.ndarray) -> np.ndarray:
        curve = self.curve(vector)
        return curve if self.law.link == "log" else np.log(np.maximum(curve, TINY))

    def columns(self, vector: np.ndarray, which: np.ndarray) -> np.ndarray:
        """(n, entries) derivative of the curve by the entries of the mask: exact where linear, else by differences."""
        slopes = np.empty((len(self.points), int(which.sum())))
        at = np.where(self.linear, 0.0, vector)
        base = self.curve(at) if self.linear[which].any() else np.zeros(len(self.points))
        # A shared and a per-size parameter cost one evaluation each: sizes do not see each other's values.
        done: dict[str, np.ndarray] = {}
        for j, slot in enumerate(np.flatnonzero(which)):
            parameter, i = self.slots[slot]
            if parameter.name not in done:
                same = np.zeros(len(vector))
                same[self._entries[parameter.name]] = 1.0
                if parameter.linear:
                    done[parameter.name] = self.curve(at + same) - base
                else:
                    h = 1e-6 * np.maximum(1.0, np.abs(vector)) * same
                    mine = h[self._entries[parameter.name]]
                    up, down = self.curve(vector + h), self.curve(vector - h)
                    step = mine if i < 0 else mine[self.points.size]
                    done[parameter.name] = (up - down) / (2 * step)
            slopes[:, j] = done[parameter.name] if i < 0 else done[parameter.name] * (self.points.size == i)
        return slopes

    def log_columns(self, vector: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        """(n, entries) derivative of the fitted ln L by the entries of the mask, or by all."""
        slopes = self.columns(vector, np.ones(len(vector), bool) if which is None else which)
        return slopes if self.law.link == "log" else slopes / np.maximum(self.curve(vector), TINY)[:, None]

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
        solved = vector.copy()
        solved[self.linear] = np.clip(best / norm, self.low[self.linear], self.high[self.linear])
        return solved

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
        searched = [p for p in self.law.parameters if not p.linear and not p.fixed]
        combinations = list(itertools.product(*(range(len(p.starts)) for p in searched)))
        chosen: list[dict[str, Any]] = [
            {p.name: k for p, k in zip(searched, combination, strict=True)} for combination in combinations
        ]
        if own:
            unknown = set(own) - {p.name for p in searched}
            if unknown or len(own) < len(searched):
                names = ", ".join(p.name for p in searched)
                raise InputError(f"start: wants a value for each of {names}; there is {', '.join(own)}.")
        vectors = []
        for choice in [*([None] if own else []), *chosen]:
            vector = np.zeros(len(self.slots))
            for slot, (parameter, i) in enumerate(self.slots):
                if parameter.linear or parameter.fixed:
                    vector[slot] = self.low[slot] if parameter.fixed else 0.0
                    continue
                value = (
                    own[parameter.name] if choice is None and own
                    else parameter.start_values(self.points.sizes, self._x_of(i))[choice[parameter.name]]  # type: ignore[index]
                )  # fmt: skip
                value = math.log(value) - self._zero[slot] if parameter.scale else value
                gap = min(1e-6, (self.high[slot] - self.low[slot]) / 4)
                vector[slot] = np.clip(value, self.low[slot] + gap, self.high[slot] - gap)
            vectors.append(vector)
        return vectors
