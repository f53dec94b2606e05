"""The continuous optimum N*(X) of a law with a level of N, with a band from draws of its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.fitting.points import Points, axis_ratio
from analysis.fitting.record import Fit
from analysis.fitting.solution import Solution
from analysis.intervals.law_test import LEVEL
from analysis.intervals.profile import profile_tests
from analysis.laws import Law
from analysis.questions.size_curves import law_columns
from scaling.schema import InputError

Band = list[float | None] | None
DRAWS = 400  # of the parameters, for the band of a continuous frontier


# --- a continuous frontier --------------------------------------------------------------------------------------------
def optimal_sizes(
    law: Law, values: dict[str, float], x: np.ndarray, sizes: np.ndarray, per_prompt: float | None = None,
    missed: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:  # fmt: skip
    """(m,) N at which the law has the least loss at each budget, for a law with a level of N; 0 or inf where that lies
    beyond a tenth of the smallest or ten times the largest size. The budget is X, or with `per_prompt` (phi, FLOPs per
    prompt and parameter) compute C = N X phi. No prompt is repeated. `missed`: what ln L is beyond the law's, by ln N
    (g,) and ln X (1, m) or (g, m)."""
    grid = np.geomspace(sizes.min() / 10, sizes.max() * 10, 801)
    at = x[None, :] if per_prompt is None else x[None, :] / (per_prompt * grid[:, None])
    loss = law.ln_loss(grid[:, None], at, values, **law_columns(law))
    if missed is not None:
        loss = loss + missed(np.log(grid), np.log(at))
    best = loss.argmin(0)
    i = np.clip(best, 1, len(grid) - 2)
    a, b, c = (loss[i + d, np.arange(len(x))] for d in (-1, 0, 1))
    bend = a - 2 * b + c
    shift = np.where(bend > 0, (a - c) / (2 * np.where(bend > 0, bend, 1)), 0.0)
    step = math.log(grid[1] / grid[0])
    inner = grid[i] * np.exp(step * np.clip(shift, -1, 1))
    return np.where(best == 0, 0.0, np.where(best == len(grid) - 1, np.inf, inner))


class Budgets(NamedTuple):
    """The axis of a continuous frontier: `ends` of its ln over the fitted points; `per_prompt`: phi where the axis is
    compute and the law one of data, else None."""

    axis: str
    ends: tuple[float, float]
    per_prompt: float | None


def budgets_of(fit: Fit) -> Budgets:
    """The fit's own axis; for a law of data the training compute, where the curves have it."""
    points, axis = fit.points, fit.record["x"]
    assert points is not None and fit.curves is not None
    table = fit.curves.table
    if not fit.law.of_data or axis == "train_flops" or "train_flops" not in table:
        return Budgets(axis, (float(points.x.min()), float(points.x.max())), None)
    keys = pd.MultiIndex.from_arrays([table["run_id"].astype(str), table["step"]])
    fitted = pd.MultiIndex.from_arrays([np.array(points.runs)[points.run], points.step])
    flops = table["train_flops"].to_numpy(float)[keys.get_indexer(fitted)]
    if not (flops > 0).all():
        return Budgets(axis, (float(points.x.min()), float(points.x.max())), None)
    per_prompt, _ = axis_ratio(flops / np.exp(points.x) / points.sizes[points.size], points.size)
    return Budgets("train_flops", (float(np.log(flops.min())), float(np.log(flops.max()))), per_prompt)


class Misses(NamedTuple):
    """How far n sizes are from a law, each as a line in ln X.

    Fields:
        ln_sizes: (n,) ln N. line: (2, n) ln L minus the law's at ln X = `middle`, and its slope. variance: (2, n) of
            both, by the runs. between: (2,) variance of sizes about the law that the runs do not explain.
    """

    ln_sizes: np.ndarray
    middle: float
    line: np.ndarray
    variance: np.ndarray
    between: np.ndarray

    def draw(self, rng: np.random.Generator) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """ln L of sizes minus the law's by ln N (g,) and ln X (g, m) or (1, m): drawn at each size as its runs and the
        other sizes allow, linear in ln N between, constant beyond."""
        known = self.between[:, None] / (self.between[:, None] + self.variance)
        level, slope = known * self.line + np.sqrt(known * self.variance) * rng.standard_normal(self.line.shape)

        def missed(ln_n: np.ndarray, ln_x: np.ndarray) -> np.ndarray:
            of = [np.interp(ln_n, self.ln_sizes, values)[:, None] for values in (level, slope)]
            return of[0] + of[1] * (ln_x - self.middle)

        return missed


def misses(points: Points, law: Law, values: dict[str, float]) -> Misses:
    """How far the sizes of a fit are from its law: lines through the residuals of runs, averaged by size. What runs of
    a size differ by, pooled over sizes, is their variance; with one run a size, the scatter about those lines."""
    sizes, middle, n = points.sizes, float(points.x.mean()), len(points.sizes)
    gap = points.ln_loss() - law.ln_loss(sizes[points.size], np.exp(points.x), values, **points.columns)
    of_run, noise = [], []
    for run in range(len(points.runs)):
        mine = points.run == run
        design = np.column_stack([np.ones(mine.sum()), points.x[mine] - middle])
        inverse = np.linalg.pinv(design.T @ design)
        line = inverse @ design.T @ gap[mine]
        left = float(np.sum((gap[mine] - design @ line) ** 2)) / max(mine.sum() - 2, 1)
        of_run.append(line)
        noise.append(left * np.diag(inverse))
    lines, size = np.array(of_run), points.run_sizes()
    count = np.bincount(size, minlength=n)
    mean = np.array([np.bincount(size, lines[:, j], n) / count for j in (0, 1)])
    within = ((lines.T - mean[:, size]) ** 2).sum(1) / max(len(size) - n, 1)
    variance = np.maximum(within[:, None], np.mean(noise, axis=0)[:, None]) / count
    between = np.maximum((mean**2 - variance).mean(1), 0.0)
    return Misses(np.log(sizes), middle, mean, np.maximum(variance, 1e-300), between)


def continuous(fit: Fit, x: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """N* at budgets x on the axis of `budgets_of`, of a law with a level of N, with a band from draws of its parameters
    (`analysis.intervals.profile`), and of how far the sizes are from it (`Misses`).

    `rows`: x, num_params (None beyond a tenth of the smallest or ten times the largest size), ci95 (an end beyond that
    is None), if_law_holds: its ci95 without the latter, identified: closed at both ends. `x`: the column of the
    budgets. `band`: what it rests on, or why there is none. `per_prompt`: FLOPs per prompt and parameter, where a law
    of data is read at budgets of compute.
    """
    law, points = fit.law, fit.points
    assert points is not None and fit.solution is not None
    if not law.predicts_unseen:
        raise InputError(
            f"law {law.name} has parameters of each {law.each}: its frontier is the ladder's. For a continuous N* use "
            "a law with a level of N, such as efficiency_log_level."
        )
    axis, _, per_prompt = budgets_of(fit)
    values = {name: entry["value"] for name, entry in fit.values.items()}
    best = optimal_sizes(law, values, x, points.sizes, per_prompt)
    bands, by_law, basis = optimum_band(points, law, fit.solution, x, seed, per_prompt)
    rows = [{"x": float(v), "num_params": _seen(n), "ci95": e, "if_law_holds": {"ci95": narrow},
             "identified": bool(e) and _seen(n) is not None and None not in e}
            for v, n, e, narrow in zip(x, best, bands, by_law, strict=True)]  # fmt: skip
    return {"law": law.name, "x": axis, "per_prompt": per_prompt, "band": basis, "rows": rows}


def optimum_band(
    points: Points, law: Law, solution: Solution, x: np.ndarray, seed: int = 0, per_prompt: float | None = None
) -> tuple[Sequence[Band], Sequence[Band], str]:
    """([low, high] of N* at each budget, None where there is no band; the same if the law holds; what it rests on)."""
    tests, basis = profile_tests(points, law, solution)
    if not tests:
        return [None] * len(x), [None] * len(x), f"none: {basis}"
    rng = np.random.default_rng([seed, 4])
    known = [tests[0].problem.values(vector) for vector in tests[0].draws(DRAWS, rng)]
    by_law = np.array([optimal_sizes(law, values, x, points.sizes, per_prompt) for values in known])
    away = misses(points, law, tests[0].problem.values(tests[0].vector))
    moved = np.array([optimal_sizes(law, values, x, points.sizes, per_prompt, away.draw(rng)) for values in known])
    # Order statistics: no mean of a size and of an optimum out of sight. Doubt never narrows a band.
    ends = [np.quantile(of, (LEVEL / 2, 1 - LEVEL / 2), axis=0, method="nearest") for of in (by_law, moved)]
    wide = np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1])
    bands, narrow = ([[_seen(low), _seen(high)] for low, high in zip(*pair, strict=True)] for pair in (wide, ends[0]))
    return bands, narrow, basis


def _seen(size: float) -> float | None:
    """An optimum inside the range that was looked at."""
    return float(size) if 0 < size < math.inf else None
