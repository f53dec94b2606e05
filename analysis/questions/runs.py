"""Quantities of single runs and their means: the last evaluation of each run, the mean curve over runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.frame import Curves, Frame

MOST_KNOTS = 20


def mean_curve(frame: Frame, x: str = "step") -> Frame:
    """Mean loss against x over the runs, at the steps that all runs share; of a long curve, over equal ratios of steps.

    No law is assumed, so a plateau or a rise at the end of a curve stays visible.
    """
    frame = frame[frame["step"] > 0]
    runs = frame["run_id"].nunique()
    shared = frame.groupby("step").filter(lambda rows: rows["run_id"].nunique() == runs)
    frame = frame if shared.empty else shared
    groups = frame.groupby(step_bins(frame["step"]))
    return pd.DataFrame({x: groups[x].mean(), "test_loss": groups["test_loss"].mean()}).reset_index(drop=True)


def step_bins(steps: Any) -> np.ndarray:
    """The steps themselves as groups; where there are many, groups of equal ratio."""
    values = steps.to_numpy(float)
    if len(np.unique(values)) <= MOST_KNOTS:
        return values
    return np.digitize(values, np.geomspace(values.min(), values.max() * 1.001, MOST_KNOTS // 2 + 1)).astype(float)


def last_evaluations(curves: Curves) -> Frame:
    """One row per run: what is constant in it, loss at step 0 and at the end, steps and CPU seconds."""
    table = curves.table
    runs = curves.runs().set_index("run_id")
    known = table[table["test_loss"].notna()].sort_values("step")
    runs["last_evaluation"] = known.groupby("run_id")["step"].last()
    runs["final_test_loss"] = known.groupby("run_id")["test_loss"].last()
    runs["first_test_loss"] = known[known["step"] == 0].groupby("run_id")["test_loss"].last()
    if "cpu_seconds" in table:
        runs["cpu_seconds"] = table.groupby("run_id")["cpu_seconds"].sum()
    if "train_flops" in table:
        runs["train_flops"] = table.groupby("run_id")["train_flops"].last()
    if "n_runs" in table:
        runs["least_runs"], runs["most_runs"] = (table.groupby("run_id")["n_runs"].agg(how) for how in ("min", "max"))
    return runs.reset_index()
