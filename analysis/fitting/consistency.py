"""Test of the constraint that ties a law's two axes together, by the fits on each axis alone and by runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp

from analysis.fitting.points import axis_ratio, select_points
from analysis.fitting.record import Fit
from analysis.fitting.solve import solve
from analysis.laws import get_law


def _consistency(fit: Fit) -> dict[str, Any]:
    """How far the fits on each axis alone are from the constraint, and a test of it by runs.

    A run has two lines, one on each axis, through the same losses: what is left between them is how far its C / (N D)
    is from constant. `p`: two-sided t test over runs that their mean difference k_C - k_D is 0; None below three runs.
    """
    law, curves, record = fit.law, fit.curves, fit.record
    assert law.axes is not None and curves is not None and fit.points is not None
    tested: dict[str, Any] = {"axes": list(law.axes), "free": {}, "per_size": [], "by_run": {}}
    lines, run_slopes = [], []
    for axis in law.axes:
        chosen, _ = select_points(curves, replace(fit.choices, law="per_size", x=axis))
        # The fitted points and no others: held-out ones of the same runs drop out too.
        fitted = pd.MultiIndex.from_arrays([np.array(fit.points.runs)[fit.points.run], fit.points.step])
        own = pd.MultiIndex.from_arrays([np.array(chosen.runs)[chosen.run], chosen.step])
        chosen = chosen.take(own.isin(fitted))
        free = solve(chosen, get_law("efficiency"), record["objective"])
        tested["free"][axis] = free.values
        lines.append(solve(chosen, get_law("per_size"), record["objective"]))
        run_slopes.append([np.polyfit(chosen.x[here], chosen.ln_loss()[here], 1)[0] * -1 if np.ptp(chosen.x[here]) else
                           np.nan for here in (chosen.run == i for i in range(len(chosen.runs)))])  # fmt: skip
        tested.setdefault("x", []).append(chosen.x)
    data, cost = tested.pop("x")
    sizes = fit.points.sizes
    phi, each = axis_ratio(np.exp(cost - data) / sizes[fit.points.size], fit.points.size)
    tested["phi"] = phi
    for i, size in enumerate(sizes):
        expected = lines[0].intercept[i] + lines[0].slope[i] * math.log(size * phi)
        tested["per_size"].append({
            "num_params": float(size), "phi": float(each[i]),
            "efficiency_data": float(lines[0].slope[i]), "efficiency_compute": float(lines[1].slope[i]),
            "difference": float(lines[1].slope[i] - lines[0].slope[i]),
            "intercept_compute": float(lines[1].intercept[i]), "intercept_by_constraint": float(expected),
        })  # fmt: skip
    difference = np.array(run_slopes[1]) - np.array(run_slopes[0])
    difference = difference[np.isfinite(difference)]
    n = len(difference)
    mean = float(difference.mean()) if n else None
    tested["by_run"] = {"n_runs": n, "mean_difference": mean, "p": None}
    if n > 2 and np.abs(difference).max() > 1e-9:  # below it is rounding
        tested["by_run"]["p"] = float(ttest_1samp(difference, 0.0).pvalue)
    elif n > 2:
        tested["by_run"]["p"] = 1.0 if mean == 0 else 0.0
    return tested
