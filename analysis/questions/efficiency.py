"""The learning efficiency k(N): the slope of each size and of each run, and the law with its band."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.frame import Frame
from analysis.intervals.run_test import efficiency_interval

BEYOND = 4  # how far past the largest size the law is drawn, as a factor


def efficiency_rows(fit: Any) -> Frame:
    """One row per size that has a slope: k, its interval, and the part of it that is scatter within the runs."""
    scatter = {}
    if fit.test is not None:
        lines = fit.test.lines
        for i, size in enumerate(lines.sizes):
            variance = lines.slope_variance[lines.size == i]
            scatter[size] = 1.96 * np.sqrt(variance.sum()) / max(len(variance), 1)
    rows = []
    for row in fit.per_size:
        if row["efficiency"] is not None:
            low, high = row["efficiency_ci95"] or (np.nan, np.nan)
            within = scatter.get(row["num_params"], np.nan)
            rows.append((row["num_params"], row["efficiency"], low, high, within, row["n_runs"], row["efficiency_law"]))
    columns = ["num_params", "efficiency", "low", "high", "within_run_half_width", "n_runs", "efficiency_law"]
    frame = pd.DataFrame(rows, columns=columns)
    # Where seeds agree better than a run with itself (a bent curve), the thick bar would say less than the thin one.
    wider = frame["within_run_half_width"] > (frame["high"] - frame["low"]) / 2
    return frame.assign(within_run_half_width=frame["within_run_half_width"].mask(wider))


def run_slopes(fit: Any) -> Frame:
    """Slope of each run's own line."""
    lines = fit.test.lines
    return pd.DataFrame({"run_id": lines.runs, "num_params": lines.num_params, "efficiency": lines.slope})


def law_efficiency(fit: Any, sizes: Any, *, extrapolate: bool) -> Frame:
    """The law's k(N) with its band, over the sizes and, where its scale is identified, beyond them."""
    grid = np.geomspace(sizes.min(), sizes.max(), 16)
    part = ["fitted"] * len(grid)
    if extrapolate:
        scale = fit.values[fit.law.scale]
        reach = 1.1 * scale["ci95"][1] if scale["unit"] == "parameters" else 0.0
        end = max(sizes.max() * BEYOND, min(reach, 20 * sizes.max()))
        grid = np.concatenate([grid, np.geomspace(sizes.max(), end, 7)[1:]])
        part += ["extrapolated"] * 6
    ends = [efficiency_interval(fit, size) if fit.test is not None else (None, None) for size in grid]
    low, high = (np.array([np.nan if end is None else end for end in side]) for side in zip(*ends, strict=True))
    law = {"num_params": grid, "efficiency": fit.efficiency(grid), "low": low, "high": high, "part": part}
    return pd.DataFrame(law)
