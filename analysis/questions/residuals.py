"""The evaluations of a fit beside its law: the state of each point, the line of each size with its band,
and what the law leaves over.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.frame import Curves, Frame
from analysis.fitting.points import reuse_at
from analysis.intervals.curve_band import size_band
from analysis.questions.finals import evaluations
from analysis.questions.runs import step_bins
from scaling.schema import InputError


def fitted_sizes(fit: Any) -> set[float]:
    return {row["num_params"] for row in fit.per_size}


def fitted_points(fit: Any) -> Frame:
    """The evaluations of the fit's curves after step 0, each with its `state`: fitted, held out or not used."""
    record = fit.record
    frame = evaluations(fit.curves, record["size_column"])
    frame = frame[(frame["step"] > 0) & (frame[record["x"]] > 0)].copy()
    frame["x"] = frame[record["x"]]
    names = np.array(fit.points.runs)[fit.points.run]
    used = pd.MultiIndex.from_arrays([names, fit.points.step])
    here = pd.MultiIndex.from_arrays([frame["run_id"].astype(str), frame["step"]])
    frame["state"] = np.where(here.isin(used), "fitted", "not used")
    if record["held_out"] is not None:
        frame.loc[held_out_rows(frame, fit), "state"] = "held out"
    # The floor of half an error, as in the fit: a loss of 0 has no place on a log axis.
    problems = frame["eval_problems"].fillna(np.inf)
    frame["loss_floored"] = np.maximum(frame["test_loss"], 0.5 / problems)
    for name in fit.law.columns:
        frame[name] = reuse_at(frame, fit.curves)
    known = frame["size"].isin(fitted_sizes(fit))
    frame["law"] = np.nan
    columns = {name: frame.loc[known, name] for name in fit.law.columns}
    frame.loc[known, "law"] = fit.predict(frame.loc[known, "size"], frame.loc[known, "x"], **columns)
    return frame.reset_index(drop=True)


def held_out_rows(frame: Frame, fit: Any) -> Any:
    """Rows that the split held out: the largest size, or of each run what comes after its last fitted point."""
    record = fit.record
    if record["split"] == "inter":
        return frame["size"] == record["held_out"]["num_params"]
    names = np.array(fit.points.runs)[fit.points.run]
    last = pd.Series(fit.points.step).groupby(names).max()
    until = record["window"]["steps"]
    stop = float(until.split(":")[1] or np.inf) if until else np.inf
    return (frame["step"] > frame["run_id"].astype(str).map(last)) & (frame["step"] <= stop)


def without_held_out(curves: Curves, fit: Any) -> Curves:
    """The curves without what the fit's split holds out, the largest size or the rest of each run: what else is fitted
    beside it sees no more than the fit itself."""
    if fit.record["held_out"] is None:
        return curves
    table = curves.table
    if fit.record["split"] == "inter":
        held = table[fit.record["size_column"]] == fit.record["held_out"]["num_params"]
    else:
        names = np.array(fit.points.runs)[fit.points.run]
        held = table["step"] > table["run_id"].astype(str).map(pd.Series(fit.points.step).groupby(names).max())
    return replace(curves, table=table[~held])


def law_line(fit: Any, points: Frame, size: float) -> Frame:
    """The law at one size over the fitted x (solid) and on to its last held-out point (dashed), with its band. A law
    that asks for the reuse of a point has a line for each reuse factor, a gap of NaN between them."""
    rows = points[points["size"] == size]
    if not fit.law.columns:
        return one_line(fit, rows, size)
    lines = [one_line(fit, part, size) for _, part in rows.groupby("reuse_factor", dropna=False)]
    gap = pd.DataFrame([lines[0].iloc[-1].to_dict() | {"x": np.nan, "loss": np.nan, "low": np.nan, "high": np.nan}])
    return pd.concat([part for line in lines for part in (line, gap)][:-1], ignore_index=True)


def one_line(fit: Any, rows: Frame, size: float) -> Frame:
    fitted, shown = rows[rows["state"] == "fitted"]["x"], rows[rows["state"] != "not used"]["x"]
    solid = np.geomspace(fitted.min(), fitted.max(), 40)
    beyond = np.geomspace(fitted.max(), shown.max(), 20) if shown.max() > fitted.max() * 1.001 else np.array([])
    xs = np.concatenate([solid, beyond])
    rows = rows.sort_values("x")
    columns = {name: np.interp(xs, rows["x"], rows[name]) for name in fit.law.columns}
    low, high, basis = mean_band(fit, size, xs, **columns)
    part = ["fitted"] * len(solid) + ["extrapolated"] * len(beyond)
    columns_of_line = {"size": size, "x": xs, "loss": fit.predict(size, xs, **columns), "low": low, "high": high}
    return pd.DataFrame(columns_of_line | {"part": part, "basis": basis})


def mean_band(fit: Any, size: float, xs: np.ndarray, **columns: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """95 % band of the mean curve of a size and its basis in words; NaN where the fit has none."""
    try:
        return size_band(fit, size, xs, **columns)
    except InputError:
        return np.full(len(xs), np.nan), np.full(len(xs), np.nan), ""


def residual_means(points: Frame) -> Frame:
    """Mean of ln(measured/law) per size in percent, at the evaluated steps or over equal ratios of steps."""
    rows = points[(points["state"] != "not used") & points["law"].notna()]
    means = []
    for size, of_size in rows.groupby("size"):
        residual = np.log(of_size["loss_floored"] / of_size["law"])
        for _, residuals in residual.groupby(step_bins(of_size["step"])):
            here = of_size.loc[residuals.index]
            held = (here["state"] == "held out").mean() > 0.5
            percent = 100 * np.expm1(residuals.mean())
            means.append((size, here["step"].mean(), percent, len(residuals), held))
    return pd.DataFrame(means, columns=["size", "step", "percent", "points", "held_out"])
