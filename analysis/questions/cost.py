"""What a loss costs: where the lines of sizes cross, and the X at which each size reaches a target loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.curves.frame import Curves
from analysis.fitting.record import Fit
from analysis.intervals.curve_band import size_band
from analysis.laws import TINY
from analysis.questions.envelope import indistinguishable, run_ranges
from analysis.questions.prediction import predict_fitted_size
from analysis.questions.size_curves import SizeCurves, in_range, law_columns
from scaling.schema import InputError

FAR = 1e3  # how far beyond the data a cost to a target loss is looked for


# --- what a loss costs ------------------------------------------------------------------------------------------------
def crossovers(fit: Fit) -> list[dict[str, Any]]:
    """Where the curves of neighbouring sizes cross (lines: ln X = (E2 - E1) / (k2 - k1)), and the X at which they are
    not told apart; `identified` where that is closed on both sides in the range that both were run. Curves of a law
    are followed in that range alone. `ci95` holds the doubt about the law; without it, it stands in `if_law_holds`."""
    curves = SizeCurves(fit)
    crossings: list[dict[str, Any]] = []
    ranges = run_ranges(fit, curves.values)
    for a, b in zip(range(len(ranges)), range(1, len(ranges)), strict=False):
        entry: dict[str, Any] = {"smaller": float(curves.values[a]), "larger": float(curves.values[b]), "x": None,
                                 "ci95": [None, None], "identified": False, "inside": False,
                                 "if_law_holds": {"ci95": [None, None]}}  # fmt: skip
        crossings.append(entry)
        low, high = max(ranges[a, 0], ranges[b, 0]), min(ranges[a, 1], ranges[b, 1])
        if low >= high and not curves.straight:
            continue
        ends = (math.log(low), math.log(high))
        ln_x = curves.meeting(a, b, ends)
        entry["x"] = in_range(ln_x)
        if ln_x is None or low >= high:
            continue
        entry["inside"] = bool(ends[0] <= ln_x <= ends[1])
        entry["ci95"] = indistinguishable(curves, a, b, ln_x, ends)
        entry["if_law_holds"] = {"ci95": indistinguishable(curves, a, b, ln_x, ends, doubt=False)}
        entry["identified"] = entry["inside"] and None not in entry["ci95"]
    return crossings


def check_target(target: float, curves: Curves) -> None:
    """Raises InputError for a loss that the curves cannot have: a test loss lies in (0, 1), a cross-entropy above 0."""
    shares = "test_loss" in curves.table
    if 0 < target < (1 if shares else math.inf):
        return
    legal = "a test loss between 0 and 1" if shares else "a loss above 0"
    raise InputError(f"target: {target:g} is not {legal}; give a loss that the runs may reach, such as 0.3.")


def cost_to_target(fit: Fit, target: float) -> list[dict[str, Any]]:
    """X at which each size reaches a test loss, by its own line (a law with curves: by the law), with its band.

    `ci95` holds the doubt about the law beyond the window; without it, it stands in `if_law_holds`.
    Where it is not reached `x` is None and `why` says "never" (a line that does not fall, a floor of the law above the
    target) or that it lies beyond 1000 times the largest X that was run, or below a thousandth of the smallest. An end
    of the band is None beyond that too.
    """
    assert fit.curves is not None
    check_target(target, fit.curves)
    straight = fit.law.slope is not None
    entries = []
    for row in fit.per_size:
        size = row["num_params"]
        entry: dict[str, Any] = {"num_params": size, "x": None, "ci95": None, "extrapolated": False, "why": "",
                                 "if_law_holds": {"ci95": None}}  # fmt: skip
        entries.append(entry)
        if row["efficiency"] is None:
            entry["why"] = "no line: fewer than two points"
            continue
        low, high = run_ranges(fit, np.array([size]))[0]
        grid = np.geomspace(low / FAR, high * FAR, 241)
        if straight:
            line = row["intercept"] - row["efficiency"] * np.log(grid)
        else:
            line = np.log(fit.predict(size, grid, **law_columns(fit.law)))
        entry["x"] = _first_below(grid, line, math.log(target))
        if entry["x"] is None:
            below = float(line[0]) <= math.log(target)
            end = math.inf if straight else float(fit.predict(size, high * 1e60, **law_columns(fit.law)))
            if below:
                entry["why"] = f"below it from the start: a {FAR:g}th of the smallest X that was run is enough"
            elif straight and row["efficiency"] <= 0:
                entry["why"] = "never: the line does not fall"
            elif not straight and end > target:
                entry["why"] = f"never: the law ends at {end:.3g}"
            else:
                entry["why"] = f"not within {FAR:g} times the largest X that was run"
        entry["extrapolated"] = entry["x"] is not None and not low <= entry["x"] <= high
        try:
            lower, upper, _basis = size_band(fit, size, grid, **law_columns(fit.law))
        except InputError:
            continue
        by_law = [np.log(np.maximum(side, TINY)) for side in (lower, upper)]
        entry["ci95"] = _cost_interval(grid, _with_doubt(fit, size, grid, by_law), target, entry["x"])
        entry["if_law_holds"]["ci95"] = _cost_interval(grid, by_law, target, entry["x"])
    return entries


def _cost_interval(
    grid: np.ndarray, sides: Sequence[np.ndarray], target: float, x: float | None
) -> list[float | None] | None:
    ends = [_first_below(grid, side, math.log(target)) for side in sides]
    return ends if x is not None or ends[0] is not None else None


def _with_doubt(fit: Fit, size: float, grid: np.ndarray, by_law: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """The ends of ln L with the doubt about the law, at every eighth X and between them on straight lines."""
    ln_x = np.log(grid[::8])
    mean = predict_fitted_size(fit, size, ln_x).mean
    if mean is None:
        return by_law
    low, high = (np.interp(np.log(grid), ln_x, side) for side in mean)
    return np.minimum(low, by_law[0]), np.maximum(high, by_law[1])


def _first_below(grid: np.ndarray, line: np.ndarray, level: float) -> float | None:
    """First X at which a line is at or below a level; None where it stays above, or is below from the first X on."""
    below = np.flatnonzero(line <= level)
    if len(below) == 0 or below[0] == 0:
        return None
    i = int(below[0])
    share = (line[i - 1] - level) / (line[i - 1] - line[i])
    return float(np.exp(np.log(grid[i - 1]) + share * (np.log(grid[i]) - np.log(grid[i - 1]))))
