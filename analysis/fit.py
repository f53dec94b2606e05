"""Fit a law to curves: choose the points, find the optimum, keep a record of everything that was chosen.

One solver serves the three objectives. Each round linearises around the present curve, which gives a working response
z and a weight w per point (eta = ln mu is the fitted log loss, Q the number of evaluated samples):

    log        z = ln L                   w = Q mu / (1 - mu)   the inverse variance of ln L for a count of errors
    binomial   z = eta - g / w            w = g', g the derivative of -ln likelihood of the counts by eta (Newton)
    linear     z = eta + (L - mu) / mu    w = mu^2 / n_size     Gauss-Newton for squared error on L itself,
                                                                equal total weight per size (Tan et al. 2025)

and solves the weighted problem exactly: levels E in closed form by centring within sizes, k_max >= 0 in closed form
given n0, n0 by a search in one dimension. A fixed point is a stationary point of the objective itself. Weights of `log`
come from the *fitted* curve: weights from the observed loss favour points that happen to be high.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from analysis.curves import CONVENTION, RUN_KEYS, Curves, check_where, run_label
from analysis.laws import Law, get_law
from analysis.splits import Split, held_out, parse_split, rmse, score
from scaling import record, schema
from scaling.schema import InputError, check_name, did_you_mean

FIT_SCHEMA_VERSION = 1
OBJECTIVES = {
    "log": "least squares on ln L, weights Q L / (1 - L) from the fitted curve",
    "binomial": "likelihood of the counts of errors",
    "linear": "squared error on L, equal total weight per size",
}
MAX_ROUNDS = 200
TOLERANCE = 1e-11


# ---------------------------------------------------------------- points


@dataclass(frozen=True)
class Points:
    """The points of a fit; arrays of n points, ordered by run and step.

    Fields:
        sizes: (n_sizes,) distinct N, ascending; size: (n,) index into it.
        runs: names of the runs; run: (n,) index into it.
        x: (n,) ln X; loss: (n,) L; trials: (n,) Q = eval_problems x eval_samples, or None where not known.
        step: (n,).
    """

    sizes: np.ndarray
    size: np.ndarray
    runs: list[str]
    run: np.ndarray
    x: np.ndarray
    loss: np.ndarray
    trials: np.ndarray | None
    step: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def take(self, mask: np.ndarray) -> Points:
        """The points of the mask; sizes and runs without points drop out."""
        sizes, size = np.unique(self.size[mask], return_inverse=True)
        runs, run = np.unique(self.run[mask], return_inverse=True)
        return Points(
            self.sizes[sizes], size, [self.runs[i] for i in runs], run, self.x[mask], self.loss[mask],
            None if self.trials is None else self.trials[mask], self.step[mask],
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
        for part in (self.sizes, self.size, self.run, self.x, self.loss, self.trials, self.step):
            digest.update(b"none" if part is None else np.ascontiguousarray(part, float).tobytes())
        return digest.hexdigest()[:12]


def parse_window(text: str | None, what: str) -> tuple[int | None, int | None]:
    """(A, B) of `A:B`; either may be empty. Raises InputError."""
    if text is None:
        return None, None
    example = "3: or :60 or 3:60" if what == "steps" else ":-80 or 10: or 10:40"
    parts = str(text).split(":")
    try:
        low, high = (int(part) if part.strip() else None for part in parts)
    except ValueError:
        raise InputError(f"{what}: {text!r} is not A:B with whole numbers; write e.g. {example}.") from None
    if what == "steps" and ((low or 0) < 0 or (high is not None and high < 0)):
        raise InputError(f"steps: {text!r} has a negative step; steps count from 0. For the last points use points.")
    if what == "steps" and high is not None and high < (low or 0):
        raise InputError(f"steps: {text!r} ends before it begins; write e.g. {example}.")
    return low, high


CHOICES = {
    "where": "algorithm == grpo", "steps": "3:60", "points": ":-80", "x": "train_flops", "law": "efficiency",
    "objective": "log", "size_column": "num_params", "by": "algorithm", "split": "inter",
}  # fmt: skip


def check_choices(choices: dict[str, Any], expected: Curves) -> None:
    """Check the analysis section of a study that has not run, on what `analysis.curves.expect` makes of it.

    Whatever a fit would refuse after hours of training is refused here; how many points there are only a run can tell.
    """
    for name, value in choices.items():
        check_name(name, CHOICES, "choice of a fit")
        if not isinstance(value, str):
            raise InputError(f'{name} wants text, such as "{CHOICES[name]}" in quotes, not {value!r}.')
    get_law(choices.get("law", CHOICES["law"]))
    check_name(choices.get("objective", CHOICES["objective"]), OBJECTIVES, "objective")
    for name in ("steps", "points"):
        parse_window(choices.get(name), name)
    parse_split(choices.get("split", "none"))
    choose_size_column(expected, choices.get("size_column"))
    check_name(choices.get("x", CHOICES["x"]), legal_x(expected.table), "x column")
    if "by" in choices:
        constant = [*RUN_KEYS, "reuse_factor", *expected.settings, "run_id"]
        check_name(
            choices["by"], [n for n in constant if n in expected.table], "column that is constant in a run, for by"
        )
    if "where" in choices:
        check_where(expected, choices["where"])


def legal_x(table: pd.DataFrame) -> list[str]:
    """The columns that may stand on the horizontal axis."""
    never = ("num_params", "num_params_non_embedding", "seed", "reuse_factor", *schema.EVAL_COLUMNS)
    return [name for name in table.select_dtypes("number").columns if name not in never]


def select_points(
    curves: Curves, x: str, size_column: str | None = None, steps: str | None = None, points: str | None = None
) -> tuple[Points, list[str]]:
    """The points that a fit uses, and what was left out of the evaluations and why.

    Step 0 (before training, X = 0) is always left out; then `steps` "A:B" keeps the steps A to B, both included; then
    `points` "A:B" slices the points of each curve as Python does (":-80" drops the last 80).
    """
    table = curves.table
    if "test_loss" not in table:
        raise InputError(
            f"{curves.source}: it has no test_loss (its loss is a cross-entropy in nats); this law needs one."
        )
    size_column = choose_size_column(curves, size_column)
    legal = legal_x(table)
    if x not in legal:
        raise InputError(
            f"{curves.source}: x {x!r} is not a column of it; there are: {', '.join(legal)}.{did_you_mean(x, legal)}"
        )
    notes = []
    used = table[table["test_loss"].notna()]
    keep = (used["step"] > 0).to_numpy()
    if not keep.all():
        notes.append(f"step 0 is left out ({int((~keep).sum())} evaluations before training, where X = 0)")
    used = used[keep]
    missing = used[x].isna().to_numpy()
    if missing.any():
        first = used[missing].iloc[0]
        raise InputError(
            f"{curves.source}: x {x} is blank in {missing.sum()} evaluated rows, first in run {first['run_id']} at "
            f"step {first['step']}; choose another x, or leave such runs out with --where."
        )
    bad = (used[x] <= 0).to_numpy()
    if bad.any():
        first = used[bad].iloc[0]
        raise InputError(
            f"{curves.source}: x {x} is {first[x]:g} in run {first['run_id']} at step {first['step']}; "
            "after step 0 it must be above 0, its log is taken."
        )
    low, high = parse_window(steps, "steps")
    if steps is not None:
        step = used["step"].to_numpy()
        keep = (step >= (low or 0)) & (step <= (np.inf if high is None else high))
        notes.append(f"steps {steps} (both included) leaves out {int((~keep).sum())} evaluations")
        used = used[keep]
    low, high = parse_window(points, "points")
    if points is not None and len(used):
        order = used.groupby("run_id").cumcount().to_numpy()
        count = used.groupby("run_id")["step"].transform("size").to_numpy()
        start, stop = (np.array([slice(low, high).indices(n)[i] for n in count]) for i in (0, 1))
        keep = (order >= start) & (order < stop)
        notes.append(f"points {points} of each curve leaves out {int((~keep).sum())} evaluations")
        used = used[keep]
    if used.empty:
        raise InputError(
            f"{curves.source}: no evaluated point is left after --where, --steps and --points; widen them."
        )
    sizes, size = np.unique(used[size_column].to_numpy(float), return_inverse=True)
    run, runs = pd.factorize(used["run_id"])
    return (
        Points(
            sizes, size, [str(name) for name in runs], run, np.log(used[x].to_numpy(float)),
            used["test_loss"].to_numpy(float), _trials(used, notes), used["step"].to_numpy(),
        ),
        notes,
    )  # fmt: skip


def choose_size_column(curves: Curves, name: str | None) -> str:
    """The column that holds N: the one named, else without embeddings where present, else `num_params`."""
    present = [c for c in ("num_params_non_embedding", "num_params") if c in curves.table]
    if name is not None and name not in present:
        raise InputError(
            f"size_column: {name!r} is not a size of {curves.source}; it has {', '.join(present)}."
            f"{did_you_mean(name, present)}"
        )
    return name or present[0]


def _trials(used: pd.DataFrame, notes: list[str]) -> np.ndarray | None:
    """Q per point, or None, with a note, where the data carry no counts."""
    missing = len(used) if "eval_problems" not in used else int(used["eval_problems"].isna().sum())
    if missing:
        notes.append(f"eval_problems is unknown for {missing} of {len(used)} points: every point weighs the same")
        return None
    samples = used["eval_samples"].fillna(1.0) if "eval_samples" in used else 1.0
    return (used["eval_problems"] * samples).to_numpy(float)


# ---------------------------------------------------------------- the optimum


@dataclass(frozen=True)
class Solution:
    """An optimum.

    Fields:
        values: shared parameters by name (k_max, n0), floats.
        slope, intercept: (n_sizes,) k(N) and E(N), E at X = 1.
        objective: the criterion at the optimum, in the objective's own unit.
        information: (n_sizes,) weighted sum of squares of ln X within each size, at the optimum's weights.
        starts: one entry per start: `n0` it began with, `k_max`, `n0`, `objective` it reached.
        bound_hits: names of parameters at a bound.
    """

    values: dict[str, float]
    slope: np.ndarray
    intercept: np.ndarray
    objective: float
    information: np.ndarray
    starts: list[dict[str, float]]
    bound_hits: list[str]
    rounds: int
    converged: bool


def solve(points: Points, law: Law, objective: str = "log", published_bounds: bool = False) -> Solution:
    """Minimise the objective over the law's parameters. Deterministic: equal data give equal bytes.

    The first start is the optimum of unweighted least squares on ln L; for a law of N three more begin with n0 from
    a tenth of the smallest to ten times the largest size.
    """
    check_name(objective, OBJECTIVES, "objective")
    response = points.ln_loss()
    if objective == "binomial" and points.trials is None:
        raise InputError("objective binomial needs the counts: a column eval_problems; without it use log or linear.")
    if objective == "log" and np.isinf(response).any():
        raise InputError(
            f"a test loss is 0 at {int(np.isinf(response).sum())} points and eval_problems is unknown, so its log has "
            "no floor: add the column eval_problems, or use objective linear."
        )
    # Only a start: linear needs no log, and the least positive loss is as good a place as any.
    response = np.where(np.isinf(response), np.log(np.min(points.loss[points.loss > 0], initial=1.0)), response)
    weight = np.ones(len(points))
    fixed = [None] if law.shape is None else [None, *np.geomspace(points.sizes[0] / 10, points.sizes[-1] * 10, 3)]
    begun = [_solve_weighted(points, weight, response, law, published_bounds, scale) for scale in fixed]
    ended = [_iterate(points, objective, law, published_bounds, start, 1e-4) for start in begun]
    best = min(ended, key=lambda end: end[1])
    line, value, rounds, converged = _iterate(points, objective, law, published_bounds, best[0], TOLERANCE)
    values, starts = {}, []
    if law.shape is not None:
        values = {law.amplitude: float(line.amplitude), law.scale: float(line.scale)}
        starts = [
            {
                f"start_{law.scale}": start.scale,
                law.amplitude: end.amplitude,
                law.scale: end.scale,
                "objective": reached,
            }
            for start, (end, reached, _, _) in zip(begun, ended, strict=True)
        ]
    hits = [p.name for p in law.shared if _at_bound(values[p.name], p.limits(points.sizes, published_bounds))]
    return Solution(values, line.slope, line.intercept, value, line.information, starts, hits, rounds, converged)


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
    sample. log: -2 ln of the normal likelihood of ln L with the fitted variances, per point (it compares starts)."""
    if objective == "linear":
        square = (points.loss - np.exp(np.minimum(eta, 2.0))) ** 2
        return float(np.mean(points.sum_by_size(square) / points.sum_by_size(np.ones(len(points)))))
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
        aim = _solve_weighted(points, weight, response, law, published_bounds)
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
        scale = _search_scale(law.shape, points.sizes, slope, information, limits[law.amplitude], limits[law.scale])
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
    amplitude_limits: tuple[float, float], limits: tuple[float, float],
) -> float:  # fmt: skip
    """The scale (n0) whose best amplitude misses least: a grid over its bounds, then the root of the derivative."""

    def misses(log_scale: np.ndarray) -> np.ndarray:
        f = shape(sizes, np.exp(log_scale)[:, None])
        best = np.clip((f @ (information * slope)) / (f**2 @ information), *amplitude_limits)
        return ((slope - best[:, None] * f) ** 2) @ information

    def derivative(log_scale: float, h: float = 1e-4) -> float:
        """Of the profile by ln scale; the amplitude's own part vanishes at its optimum (and at its bound)."""
        f = shape(sizes, math.exp(log_scale))
        df = (shape(sizes, math.exp(log_scale + h)) - shape(sizes, math.exp(log_scale - h))) / (2 * h)
        best = _amplitude(f, slope, information, amplitude_limits)
        return -2 * best * float((information * (slope - best * f)) @ df)

    grid = np.linspace(math.log(limits[0]), math.log(limits[1]), 101)
    missed = misses(grid)
    i = int(np.argmin(missed))
    if 0 < i < len(grid) - 1 and derivative(grid[i - 1]) < 0 < derivative(grid[i + 1]):
        return math.exp(brentq(derivative, grid[i - 1], grid[i + 1], xtol=1e-13, rtol=1e-13))
    if missed.max() - missed.min() <= 1e-13 * float(np.sum(information * slope**2)):
        return float(np.sqrt(sizes[0] * sizes[-1]))  # flat (no slope above 0): any scale fits, take one inside
    edge = (grid[0], grid[1]) if i == 0 else (grid[-2], grid[-1])
    if i in (0, len(grid) - 1) and derivative(edge[0]) < 0 < derivative(edge[1]):
        return math.exp(brentq(derivative, *edge, xtol=1e-13, rtol=1e-13))
    return limits[0] if i == 0 else limits[1] if i == len(grid) - 1 else math.exp(grid[i])


def _at_bound(value: float, limits: tuple[float, float]) -> bool:
    return any(np.isclose(value, limit, rtol=1e-6, atol=1e-12) for limit in limits)


# ---------------------------------------------------------------- the record


@dataclass
class Fit:
    """A fitted law and the record of how it was made.

    Fields:
        record: the document that `json()` prints and `save()` writes; see `fit_curves`.
        points: the fitted points, None for a fit that was loaded from its record.
        solution: the optimum, None likewise.
        test: the run-level test behind the intervals (`analysis.intervals.RunTest`), None until intervals were made.
        curves: the curves the fit was made from (before the window), None for a loaded fit.
    """

    record: dict[str, Any]
    points: Points | None = None
    solution: Solution | None = None
    test: Any = None
    curves: Curves | None = None

    @property
    def law(self) -> Law:
        return get_law(self.record["law"])

    @property
    def values(self) -> dict[str, dict[str, Any]]:
        """Shared parameters by name: value, stderr, ci95, unit, identified, at_bound."""
        return self.record["values"]

    @property
    def per_size(self) -> list[dict[str, Any]]:
        return self.record["per_size"]

    @property
    def warnings(self) -> list[str]:
        return self.record["warnings"]

    @property
    def status(self) -> str:
        return self.record["status"]

    def frame(self) -> pd.DataFrame:
        """One row per size: its own line with interval, and the law's values there."""
        return pd.DataFrame(self.per_size)

    def json(self) -> dict[str, Any]:
        """The record, plain JSON values."""
        return self.record

    def efficiency(self, num_params):
        """k(N) by the law, for any N where the law has one."""
        if self.law.shape is None:
            return np.vectorize(lambda n: self._size(n)["efficiency"])(np.asarray(num_params, float))
        values = {name: entry["value"] for name, entry in self.values.items()}
        return self.law.slope(np.asarray(num_params, float), values)

    def predict(self, num_params, x):
        """Test loss by the law at sizes and X that broadcast; a scalar for scalars.

        Raises InputError for a size that was not fitted, where the law has a free level per size.
        """
        num_params, x = np.broadcast_arrays(np.asarray(num_params, float), np.asarray(x, float))
        intercept = np.vectorize(lambda n: self._size(n)["intercept_law"], otypes=[float])(num_params)
        loss = np.exp(intercept - self.efficiency(num_params) * np.log(x))
        return float(loss) if loss.ndim == 0 else loss

    def _size(self, num_params: float) -> dict[str, Any]:
        for row in self.per_size:
            if math.isclose(row["num_params"], num_params, rel_tol=1e-6):
                return row
        sizes = ", ".join(f"{row['num_params']:.4g}" for row in self.per_size)
        raise InputError(
            f"law {self.record['law']} has a free level per size and cannot predict an unseen size (N = "
            f"{num_params:.4g}; fitted: {sizes}); it gives only the slope there. Use a law with a parametric E(N), or "
            "calibrate the level on a declared number of points of the new size."
        )

    def plot(self, **options):
        """The figure of the fit; see `analysis.figures`."""
        return importlib.import_module("analysis.figures").plot_fit(self, **options)

    def save(self, path: str | Path) -> Path:
        """Write the record, atomically; two fits of the same data are equal to the byte."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        record.write_json(path, self.record)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Fit:
        """A fit from its record. Raises InputError for an unknown schema version."""
        found = record.read_json(Path(path))
        if found is None:
            raise InputError(f"{path}: no such file.")
        return cls.from_json(found, str(path))

    @classmethod
    def from_json(cls, found: Any, where: str = "fit record") -> Fit:
        version = found.get("schema_version") if isinstance(found, dict) else None
        if version != FIT_SCHEMA_VERSION:
            raise InputError(
                f"{where}: schema_version {version!r} of a fit is not known, this program reads {FIT_SCHEMA_VERSION}; "
                "fit again, or read it with the program that wrote it."
            )
        return cls(found)


def fit_curves(
    curves: Curves,
    law: str = "efficiency",
    x: str = "train_flops",
    objective: str = "log",
    where: str | None = None,
    steps: str | None = None,
    points: str | None = None,
    split: str = "none",
    size_column: str | None = None,
    seed: int = 0,
    bounds: str | None = None,
) -> Fit:
    """The point fit of `analysis.fit`, without intervals.

    Returns a Fit whose record has, besides what the command line documents: the law's formula and citation, the data
    hash, the runs used and left out, the window, every start, bound hits, condition number and correlation.
    """
    formula, rule = get_law(law), parse_split(split)
    check_name(objective, OBJECTIVES, "objective")
    if bounds is not None:
        check_name(bounds, ["published"], "set of bounds")
    chosen = curves.where(where) if where is not None else curves
    size_column = choose_size_column(chosen, size_column)
    every, notes = select_points(chosen, x, size_column, steps, points)
    held = held_out(rule, every.run, every.size)
    used = every.take(~held)
    _check_enough(used, formula, curves.source)
    solution = solve(used, formula, objective, bounds == "published")
    lines = solution if formula.shape is None else solve(used, get_law("per_size"), objective)
    known = solution.values
    found = {
        "schema_version": FIT_SCHEMA_VERSION,
        "law": law,
        "formula": formula.formula,
        "citation": formula.citation,
        "source": curves.source,
        "data_hash": curves.data_hash,
        "points_hash": used.hash(),
        "x": x,
        "x_unit": schema.COLUMNS[x].unit if x in schema.COLUMNS else "",
        "size_column": size_column,
        "size_convention": _convention(chosen),
        "objective": objective,
        "objective_meaning": OBJECTIVES[objective],
        "weights": _weights(used, objective),
        "window": {
            "where": " and ".join(f"({e})" for e in chosen.filters) or None,
            "steps": steps, "points": points, "smoothing": None, "first_step": int(used.step.min()),
            "last_step": int(used.step.max()),
        },
        "split": rule.text,
        "seed": seed,
        "bounds": bounds or "wide",
        "n_points": len(used),
        "n_runs": len(used.runs),
        "n_sizes": len(used.sizes),
        "runs": used.runs,
        "run_names": [curves.names.get(run, run) for run in used.runs],
        "left_out": [*curves.left_out, *_not_used(curves, chosen, every)],
        "status": "ok" if solution.converged else "not converged",
        "warnings": _warnings(chosen, used, solution, formula),
        "notes": [*curves.notes, *notes],
        "values": {
            p.name: {
                "value": known[p.name], "stderr": None, "ci95": None, "unit": p.unit, "identified": False,
                "at_bound": p.name in solution.bound_hits, "meaning": p.meaning,
            }
            for p in formula.shared
        },
        "per_size": _per_size(used, solution, lines),
        "goodness": _goodness(used, solution),
        "diagnostics": _diagnostics(used, solution, formula),
        "held_out": None,
    }  # fmt: skip
    fit = Fit(found, used, solution, curves=chosen)
    if held.any():
        found["held_out"] = _score(fit, rule, lines, every, held)
    return fit


def _check_enough(points: Points, law: Law, source: str) -> None:
    """Slopes need two points of a size; a law of N needs slopes at two sizes."""
    distinct = [len(set(points.x[points.size == i])) for i in range(len(points.sizes))]
    lines = sum(count >= 2 for count in distinct)
    if lines == 0:
        raise InputError(
            f"{source}: no size has two evaluated points at different X, so there is no slope to fit; "
            "widen --steps and --points, or evaluate more often."
        )
    if law.shape is not None and lines < 2:
        raise InputError(
            f"{source}: law {law.name} describes how slopes change with size and needs two sizes or more, here "
            f"{lines} of {len(points.sizes)} has a slope; use --law per_size."
        )


def _weights(points: Points, objective: str) -> str:
    if objective == "linear":
        return "equal in total for each size"
    return "counts of evaluated samples" if points.trials is not None else "equal for each point: no counts"


def _convention(curves: Curves) -> str:
    return str(curves.table[CONVENTION].iloc[0]) if CONVENTION in curves.table else "not stated"


def _not_used(curves: Curves, chosen: Curves, used: Points) -> list[dict[str, str]]:
    """Runs of the source that bring no point to the fit, and why."""
    loaded, kept, runs = (
        list(dict.fromkeys(t["run_id"])) for t in (curves.table, chosen.table, pd.DataFrame({"run_id": used.runs}))
    )
    reasons = {
        run: "not selected by where" if run not in kept else "no evaluated point in the window" for run in loaded
    }
    return [
        {"run": run_label(str(run), curves.names.get(run)), "reason": reason}
        for run, reason in reasons.items()
        if str(run) not in runs
    ]


def _warnings(curves: Curves, points: Points, solution: Solution, law: Law) -> list[str]:
    """What a reader must know before trusting the values."""
    found = []
    table = curves.table[curves.table["run_id"].isin(points.runs)]
    size_of = dict(zip(points.runs, points.run_sizes(), strict=True))
    for name in curves.settings:
        if name in table:
            values = table.groupby("run_id")[name].first()
            mixed = values.groupby(values.index.map(size_of)).nunique(dropna=False).max() > 1  # type: ignore[arg-type]
            if mixed:
                shown = ", ".join(str(value) for value in sorted(values.unique(), key=str)[:6])
                found.append(f"runs of one size differ in {name} ({shown}) and are fitted together; use where or by")
    if any(word in " ".join(curves.filters) for word in ("test_loss", "pass_at_1")):
        found.append("where selects points by their result, which biases the fit")
    counts = np.bincount(points.size)
    few = [f"{points.sizes[i]:.4g}" for i in np.flatnonzero(counts < 3)]
    if few:
        found.append(f"fewer than 3 points at N = {', '.join(few)}: nothing there tests the line")
    zeros = int((points.loss == 0).sum())
    if zeros and points.trials is not None:
        found.append(f"{zeros} points have no error at all: ln L is taken at half an error there")
    if law.shape is not None and len(points.sizes) == 2:
        found.append("two sizes determine the law exactly: nothing is left to test it")
    found += [f"{name} is at a bound of its range" for name in solution.bound_hits]
    if law.shape is not None and solution.values[law.amplitude] == 0:
        found.append(f"no size improves with X: {law.amplitude} is 0 and {law.scale} is undetermined")
    if not solution.converged:
        found.append(f"the fit did not converge in {MAX_ROUNDS} rounds")
    return found


def _per_size(points: Points, solution: Solution, lines: Solution) -> list[dict[str, Any]]:
    """One entry per size: the independent line (null without two different X), and the law there."""
    rows = []
    runs = np.bincount(points.run_sizes(), minlength=len(points.sizes))
    for i, size in enumerate(points.sizes):
        here = points.size == i
        x, loss = points.x[here], points.loss[here]
        known = lines.information[i] > 0
        rows.append({
            "num_params": float(size),
            "efficiency": float(lines.slope[i]) if known else None,
            "efficiency_ci95": None,
            "intercept": float(lines.intercept[i]) if known else None,
            "r2": _r2(loss, np.exp(lines.intercept[i] - lines.slope[i] * x)) if known else None,
            "efficiency_law": float(solution.slope[i]),
            "intercept_law": float(solution.intercept[i]),
            "r2_law": _r2(loss, np.exp(solution.intercept[i] - solution.slope[i] * x)),
            "n_runs": int(runs[i]),
            "n_points": int(here.sum()),
        })  # fmt: skip
    return rows


def _r2(observed: np.ndarray, fitted: np.ndarray) -> float | None:
    """1 - SSE/SST on L; None where the observations do not vary."""
    total = float(np.sum((observed - observed.mean()) ** 2))
    return 1 - float(np.sum((observed - fitted) ** 2)) / total if total > 0 else None


def _goodness(points: Points, solution: Solution) -> dict[str, Any]:
    """All R2 are on L, unweighted. `r2_pooled_constant`: the law with k = 0, a mean level per size. `r2_within`: the
    part of the variation within sizes that the law explains."""
    eta = solution.intercept[points.size] - solution.slope[points.size] * points.x
    count = points.sum_by_size(np.ones(len(points)))
    level = (points.sum_by_size(points.loss) / count)[points.size]
    within = float(np.sum((points.loss - level) ** 2))
    residual = points.ln_loss() - eta
    return {
        "r2_pooled": _r2(points.loss, np.exp(eta)),
        "r2_pooled_constant": _r2(points.loss, level),
        "r2_within": 1 - float(np.sum((points.loss - np.exp(eta)) ** 2)) / within if within > 0 else None,
        "rmse_ln_loss": rmse(residual) if np.isfinite(residual).all() else None,
        "rmse_loss": rmse(points.loss - np.exp(eta)),
    }


def _diagnostics(points: Points, solution: Solution, law: Law) -> dict[str, Any]:
    """Starts, share that reached the best optimum, bound hits, condition number and correlation.

    The last two are of the Jacobian in (ln amplitude, ln scale) at the optimum, levels eliminated.
    """
    found: dict[str, Any] = {
        "rounds": solution.rounds, "objective_value": solution.objective, "bound_hits": solution.bound_hits,
        "starts": solution.starts, "share_best": None, "condition_number": None, "correlation": None,
    }  # fmt: skip
    if law.shape is None or not solution.starts:
        return found
    scale, h = solution.values[law.scale], 1e-5
    near = [abs(np.log(start[law.scale] / scale)) < 0.01 for start in solution.starts]
    found["share_best"] = float(np.mean(near))
    f = law.shape(points.sizes, scale)
    df = (law.shape(points.sizes, scale * np.exp(h)) - law.shape(points.sizes, scale * np.exp(-h))) / (2 * h)
    jacobian = np.sqrt(solution.information)[:, None] * solution.values[law.amplitude] * np.column_stack([f, df])
    singular = np.linalg.svd(jacobian, compute_uv=False)
    if singular[-1] > 1e-12 * singular[0] > 0:
        covariance = np.linalg.inv(jacobian.T @ jacobian)
        found["condition_number"] = float(singular[0] / singular[-1])
        found["correlation"] = float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    return found


def _score(fit: Fit, rule: Split, lines: Solution, every: Points, held: np.ndarray) -> dict[str, Any]:
    """Held-out errors of the law beside the no-law baselines; nothing of the held-out points was used to fit."""
    used, solution = fit.points, fit.solution
    assert used is not None and solution is not None
    test = every.take(held)
    observed = test.ln_loss()
    if not np.isfinite(observed).all():
        raise InputError(
            "split: a held-out test loss is 0 and eval_problems is unknown, so its log has no floor; add the column."
        )
    if rule.kind == "intra":
        size = np.searchsorted(used.sizes, test.sizes)[test.size]
        position = {name: i for i, name in enumerate(used.runs)}
        run = np.array([position[name] for name in test.runs])[test.run]
        last = {i: j for j, i in enumerate(used.run)}  # the last fitted point of each run
        index = np.array([last[i] for i in run])
        furthest = np.array([used.x[used.run == i].max() for i in range(len(used.runs))])[run]
        predictions: dict[str, np.ndarray | None] = {
            "law": solution.intercept[size] - solution.slope[size] * test.x,
            "per_size": lines.intercept[size] - lines.slope[size] * test.x,
            "last_value": used.ln_loss()[index],
        }
        return {
            "split": rule.text,
            "tuned_on_held_out": "nothing",
            **score(observed, predictions, np.exp(test.x), np.exp(furthest)),
        }
    new = float(test.sizes[0])
    nearest = used.size == used.size.max()
    order = np.argsort(used.x[nearest], kind="stable")
    level = np.interp(test.x, used.x[nearest][order], used.ln_loss()[nearest][order])
    own = solve(test, get_law("per_size"), fit.record["objective"])
    found = score(
        observed, {"law": None, "nearest_size": level}, np.exp(test.x), np.full(len(test), np.exp(used.x.max()))
    )
    return {
        "split": rule.text,
        "num_params": new,
        "size_factor": new / float(used.sizes[-1]),
        "tuned_on_held_out": "nothing",
        "reason": f"law {fit.law.name} has a free level per size: of an unseen size it predicts only the slope",
        "efficiency_law": float(fit.efficiency(new)) if fit.law.shape is not None else None,
        "efficiency_law_ci95": None,
        "efficiency_own_line": float(own.slope[0]) if own.information[0] > 0 else None,
        "efficiency_own_line_ci95": None,
        **found,
    }
