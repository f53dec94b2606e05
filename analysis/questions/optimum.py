"""The continuous optimum N*(X) of a law with a level of N, with a band from draws of its parameters."""

from __future__ import annotations

import math
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

DRAWS = 400  # of the parameters, for the band of a continuous frontier


# --- a continuous frontier --------------------------------------------------------------------------------------------
def optimal_sizes(
    law: Law, values: dict[str, float], x: np.ndarray, sizes: np.ndarray, per_prompt: float | None = None
) -> np.ndarray:
    """(m,) N at which the law has the least loss at each budget, for a law with a level of N; 0 or inf where that lies
    beyond a tenth of the smallest or ten times the largest size. The budget is X, or with `per_prompt` (phi, FLOPs per
    prompt and parameter) compute C = N X phi. No prompt is repeated."""
    grid = np.geomspace(sizes.min() / 10, sizes.max() * 10, 801)
    at = x[None, :] if per_prompt is None else x[None, :] / (per_prompt * grid[:, None])
    loss = law.ln_loss(grid[:, None], at, values, **law_columns(law))
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


def continuous(fit: Fit, x: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """N* at budgets x on the axis of `budgets_of`, of a law with a level of N, with a band from draws of its parameters
    (`analysis.intervals.profile`): how the sizes scatter about the law is in it.

    `rows`: x, num_params (None beyond a tenth of the smallest or ten times the largest size), ci95 (an end beyond that
    is None), identified: closed at both ends. `x`: the column of the budgets. `band`: what it rests on, or why there is
    none. `per_prompt`: FLOPs per prompt and parameter, where a law of data is read at budgets of compute.
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
    bands, basis = optimum_band(points, law, fit.solution, x, seed, per_prompt)
    rows = [{"x": float(v), "num_params": _seen(n), "ci95": e, "identified": bool(e) and _seen(n) is not None and
             None not in e} for v, n, e in zip(x, best, bands, strict=True)]  # fmt: skip
    return {"law": law.name, "x": axis, "per_prompt": per_prompt, "band": basis, "rows": rows}


def optimum_band(
    points: Points, law: Law, solution: Solution, x: np.ndarray, seed: int = 0, per_prompt: float | None = None
) -> tuple[list[list[float | None] | None], str]:
    """([low, high] of N* at each budget, None where there is no band; what the band rests on)."""
    tests, basis = profile_tests(points, law, solution)
    if not tests:
        return [None] * len(x), f"none: {basis}"
    drawn = tests[0].draws(DRAWS, np.random.default_rng([seed, 4]))
    known = [tests[0].problem.values(vector) for vector in drawn]
    optima = np.array([optimal_sizes(law, values, x, points.sizes, per_prompt) for values in known])
    # Order statistics: no mean of a size and of an optimum out of sight.
    both = np.quantile(optima, (LEVEL / 2, 1 - LEVEL / 2), axis=0, method="nearest")
    return [[_seen(low), _seen(high)] for low, high in both.T], basis


def _seen(size: float) -> float | None:
    """An optimum inside the range that was looked at."""
    return float(size) if 0 < size < math.inf else None
