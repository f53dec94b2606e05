"""Predict the run that was not paid for, with an interval.

There are three situations, each with its recipe: a fitted size (`analysis.questions.prediction`), and a new size with
its level predicted or calibrated (`analysis.questions.new_size`). Coverage was measured in simulated studies where the
recipe comes from; see `analysis.intervals.law_test` for what the tests of runs assume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices
from analysis.fitting.points import select_points
from analysis.intervals.fitted import fit_with_intervals
from analysis.questions.new_size import first_points, predict_new_size
from analysis.questions.prediction import Ends, predict_fitted_size
from scaling.schema import InputError

# ---------------------------------------------------------------- a forecast


def _interval(ends: Ends | None, i: int) -> list[float] | None:
    return None if ends is None else [float(np.exp(ends[0][i])), float(np.exp(ends[1][i]))]


def forecast(
    curves: Curves, choices: Choices, num_params: float, at: float | Sequence[float], calibrate: int = 0
) -> dict[str, Any]:
    """The loss of a size at X = `at` with its intervals; see `analysis.forecast`. No point is held out."""
    choices = replace(choices, split="none")
    at_x = np.atleast_1d(np.asarray(at, float))
    if not (np.isfinite(at_x).all() and (at_x > 0).all() and math.isfinite(num_params) and num_params > 0):
        raise InputError(f"forecast: size {num_params:g} and at {at} must be numbers above 0.")
    first = None
    if calibrate:
        every, _notes = select_points(choices.rows(curves), choices)
        here = np.isclose(every.sizes[every.size], num_params, rtol=1e-6)
        if here.sum() < calibrate:
            raise InputError(
                f"forecast: size {num_params:.4g} has {int(here.sum())} points in the data, calibrate asks for "
                f"{calibrate}; sizes: {', '.join(f'{s:.4g}' for s in every.sizes)}."
            )
        first = first_points(every.take(here), calibrate)
        column = choices.size_column or (
            "num_params_non_embedding" if "num_params_non_embedding" in curves.table else "num_params"
        )
        curves = replace(curves, table=curves.table[~np.isclose(curves.table[column], num_params, rtol=1e-6)])
    fit = fit_with_intervals(curves, choices, parameters=False)
    known = [row["num_params"] for row in fit.per_size]
    seen = any(math.isclose(size, num_params, rel_tol=1e-6) for size in known)
    assert fit.points is not None
    first_x = float(np.exp(fit.points.x.min()))
    if (at_x < first_x / FAR).any():
        raise InputError(
            f"forecast: X = {at_x.min():.4g} is {first_x / at_x.min():.2g} times below the smallest X of the data; "
            f"nothing speaks of it there: give X from {first_x / FAR:.3g} on."
        )
    if seen:
        forecast = predict_fitted_size(fit, num_params, np.log(at_x), choices.seed)
    else:
        forecast = predict_new_size(fit, num_params, np.log(at_x), first, choices.seed)
    furthest = (
        fit.points.x[np.isclose(fit.points.sizes[fit.points.size], num_params, rtol=1e-6)] if seen else fit.points.x
    )
    furthest = float(np.exp(furthest.max()))
    parts = forecast.parts()
    rows = [
        {
            "x": float(value), "loss": float(np.exp(min(forecast.ln_loss[i], 0.0))),
            "x_factor": float(value / furthest),
            "ci95_mean": _interval(forecast.mean, i), "ci95_run": _interval(forecast.run, i),
            "if_law_holds": {
                "ci95_mean": _interval(forecast.mean_by_law, i), "ci95_run": _interval(forecast.run_by_law, i)
            },
            "parts": None if parts is None else {name: float(half[i]) for name, half in parts.items()},
            "median": None if forecast.median is None else float(np.exp(forecast.median[i])),
        }
        for i, value in enumerate(at_x)
    ]  # fmt: skip
    for row in rows:
        row["identified"] = _identified(row["ci95_mean"])
    warnings = [*_reach(num_params, known, rows, fit.law.each), *fit.warnings]
    unknown = [f"{row['x']:.3g}" for row in rows if row["ci95_mean"] and not row["identified"]]
    if unknown:
        warnings.append(f"at X = {', '.join(unknown)} the loss is not identified: its interval holds nearly every loss")
    if (forecast.ln_loss > 0).any():
        warnings.append("the law says a loss above 1 there: shown as 1")
    warnings += [
        f"at X = {row['x']:.3g} the law is outside what the {fit.law.each}'s own runs say: it misses them"
        for row in rows
        if seen and (by_law := row["if_law_holds"]["ci95_mean"]) and not by_law[0] <= row["loss"] <= by_law[1]
    ]
    return {
        "verdict": fit.verdict,
        "law": choices.law, "formula": fit.law.formula, "x": fit.record["x"], "size_column": fit.record["size_column"],
        "size": float(num_params), "fitted_size": seen, "size_factor": float(num_params / max(known)),
        "n_points": fit.record["n_points"], "n_runs": fit.record["n_runs"], "sizes": known,
        "window": fit.record["window"],
        "rests_on": forecast.rests_on, "tuned_on_size": f"level on its first {calibrate} points" if calibrate else
        "its own runs" if seen else "nothing", "predictions": rows, "warnings": warnings,
    }  # fmt: skip


WIDEST = 20.0  # times from end to end of an interval: one that is wider says nothing of a loss
FAR = 10.0  # times beyond the data: from there on a forecast says how far it reaches
UNITS = {1e9: "e9", 1e6: "e6", 1e3: "e3"}  # that are left out of a number of parameters by mistake


def _identified(ends: list[float] | None) -> bool:
    """Whether the interval of the mean curve bounds the loss: within WIDEST from end to end, and not at 1, where it is
    only cut off."""
    return ends is not None and ends[1] <= WIDEST * ends[0] and ends[0] < 1


def _reach(num_params: float, sizes: Sequence[float], rows: Sequence[dict[str, Any]], each: str) -> list[str]:
    """How far a forecast reaches beyond the data, in words, where that is far."""
    words, low, high = [], min(sizes), max(sizes)
    if each == "size" and not low / FAR <= num_params <= high * FAR:
        far = (
            f"{low / num_params:.2g} times below the smallest fitted size {low:.4g}"
            if num_params < low
            else f"{num_params / high:.2g} times above the largest fitted size {high:.4g}"
        )
        meant = [
            f"{num_params:.6g}{unit}" for power, unit in UNITS.items() if low / FAR <= num_params * power <= high * FAR
        ]
        asked = f": were {meant[0]} parameters meant?" if meant else ": nothing in the data speaks of it"
        words.append(f"size {num_params:.6g} is {far}{asked}")
    beyond = [row for row in rows if row["x_factor"] > FAR]
    if beyond:
        each_x = ", ".join(f"{row['x']:.3g} is {row['x_factor']:.2g} times" for row in beyond)
        words.append(f"X = {each_x} the largest X of the data: nothing tests the law so far")
    return words
