"""The continuous optimum N*(X) of a law with a level of N, with a band from draws of its parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from analysis.fitting.points import Points
from analysis.fitting.record import Fit
from analysis.fitting.solution import Solution
from analysis.intervals.law_test import LEVEL
from analysis.intervals.profile import profile_tests
from scaling.schema import InputError

DRAWS = 400  # of the parameters, for the band of a continuous frontier


# --- a continuous frontier --------------------------------------------------------------------------------------------
def optimal_sizes(law: Any, values: dict[str, float], x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(m,) N at which the law has the least loss at each X, for a law with a level of N; 0 or inf where that lies
    beyond a tenth of the smallest or ten times the largest size."""
    grid = np.geomspace(sizes.min() / 10, sizes.max() * 10, 801)
    loss = law.ln_loss(grid[:, None], x[None, :], values)
    best = loss.argmin(0)
    i = np.clip(best, 1, len(grid) - 2)
    a, b, c = (loss[i + d, np.arange(len(x))] for d in (-1, 0, 1))
    bend = a - 2 * b + c
    shift = np.where(bend > 0, (a - c) / (2 * np.where(bend > 0, bend, 1)), 0.0)
    step = math.log(grid[1] / grid[0])
    inner = grid[i] * np.exp(step * np.clip(shift, -1, 1))
    return np.where(best == 0, 0.0, np.where(best == len(grid) - 1, np.inf, inner))


def continuous(fit: Fit, x: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """N*(X) of a law with a level of N, with a band from draws of its parameters (`analysis.profile`): how the sizes
    scatter about the law is in it.

    `rows`: x, num_params (None beyond a tenth of the smallest or ten times the largest size), ci95 (an end beyond that
    is None), identified: closed at both ends. `band`: what it rests on, or why there is none.
    """
    law, points = fit.law, fit.points
    assert points is not None and fit.solution is not None
    if not law.predicts_unseen:
        raise InputError(
            f"law {law.name} has parameters of each size: its frontier is the ladder's. For a continuous N* use a law "
            "with a level of N, such as efficiency_log_level."
        )
    if law.columns:
        raise InputError(f"law {law.name} needs {law.columns[0]} at each point; there is no frontier over N alone.")
    best = optimal_sizes(law, {name: entry["value"] for name, entry in fit.values.items()}, x, points.sizes)
    ends, basis = optimum_band(points, law, fit.solution, x, seed)
    rows = [{"x": float(v), "num_params": _seen(n), "ci95": e, "identified": bool(e) and _seen(n) is not None and
             None not in e} for v, n, e in zip(x, best, ends, strict=True)]  # fmt: skip
    return {"law": law.name, "band": basis, "rows": rows}


def optimum_band(
    points: Points, law: Any, solution: Solution, x: np.ndarray, seed: int = 0
) -> tuple[list[list[float | None] | None], str]:
    """([low, high] of N*(X) at each X, None where there is no band; what the band rests on)."""
    tests, basis = profile_tests(points, law, solution)
    if not tests:
        return [None] * len(x), f"none: {basis}"
    drawn = tests[0].draws(DRAWS, np.random.default_rng([seed, 4]))
    found = np.array([optimal_sizes(law, tests[0].problem.values(v), x, points.sizes) for v in drawn])
    # Order statistics: no mean of a size and of an optimum out of sight.
    both = np.quantile(found, (LEVEL / 2, 1 - LEVEL / 2), axis=0, method="nearest")
    return [[_seen(low), _seen(high)] for low, high in both.T], basis


def _seen(size: float) -> float | None:
    """An optimum inside the range that was looked at."""
    return float(size) if 0 < size < math.inf else None
