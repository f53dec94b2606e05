"""How often a prompt may be reused before the final loss is worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.frame import Curves, Frame
from analysis.intervals.means import t_interval
from analysis.questions.finals import Finals, Spread, already_there, evaluations, final_losses, pooled_spread
from analysis.words import counted, size_labels
from scaling.schema import InputError


def reuse_frame(curves: Any, replicates: Any) -> Frame:
    """The runs that differ in data reuse only, at the size where most values of it were run."""
    frame = evaluations(curves)
    frame = frame[frame["reuse_factor"].notna()]
    groups = [
        rows
        for _, rows in frame.groupby(["size", "algorithm", "group_size", "condition"], dropna=False)
        if rows["reuse_factor"].nunique() > 1
    ]
    if not groups:
        values = ", ".join(f"{tau:.3g}" for tau in sorted(frame["reuse_factor"].unique()))
        there = f"there is only τ = {values}" if values else "the source has no values of it"
        raise InputError(f"needs runs at two values of data reuse at one size; {there}.")
    chosen = max(groups, key=lambda rows: rows["reuse_factor"].nunique())
    if replicates is None:
        return chosen
    more = evaluations(replicates)
    more = more[(more["size"] == chosen["size"].iloc[0]) & more["reuse_factor"].isin(chosen["reuse_factor"])]
    more = more[more["step"] <= chosen["step"].max()]
    more = more.groupby("run_id").filter(lambda run: not already_there(run, chosen))
    return pd.concat([chosen, more], ignore_index=True)


def repeats_spread(finals: Finals, replicates: Curves | None) -> Spread:
    """The spread between repeats of the size that was reused at: of its own runs, else of the replicates of that size.

    Other sizes spread several times more or less (.002 to .012 of ln L in the reference study), so they are asked only
    where that size was never repeated; the words say so. At the same steps as the runs: the spread depends on them.
    """
    size = float(finals.runs["size"].iloc[0])
    name = size_labels(finals.runs)[size]
    own = pooled_spread(finals.runs, ["reuse_factor"], f"of {name}")
    if own.degrees or replicates is None:
        return own
    several = evaluations(replicates).groupby("size").filter(lambda rows: rows["run_id"].nunique() > 1)
    if several.empty:
        return own
    repeated = pd.concat([final_losses(rows, finals.last).runs for _, rows in several.groupby("size")])
    mine = repeated[repeated["size"] == size]
    if len(mine) > 1:
        return pooled_spread(mine, ["size"], f"of {name}")
    return pooled_spread(repeated, ["size"], f"of {counted(repeated['size'].nunique(), 'other size')}")


def refuse_idle_replicates(curves: Curves, replicates: Curves) -> None:
    """Raise InputError for replicates that the reuse threshold would not use: no run added, no spread borrowed."""
    what = f"replicates: {replicates.source} would not be used"
    try:
        frame, more = reuse_frame(curves, None), reuse_frame(curves, replicates)
        finals = final_losses(frame)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    if len(more) > len(frame):
        return
    if repeats_spread(finals, None).degrees:
        raise InputError(f"{what}: {curves.source} has repeats of its own at the size of its reuse; leave it out.")
    if evaluations(replicates).groupby("size")["run_id"].nunique().max() < 2:
        raise InputError(f"{what}: it has no two runs of one size; give runs that were repeated, or leave it out.")


def reuse_summary(runs: Frame, spread: Spread) -> Frame:
    rows = []
    for tau, values in runs.groupby("reuse_factor")["final"]:
        centre, half = float(values.mean()), spread.half_width(len(values))
        rows.append((tau, len(values), centre, centre * np.exp(-half), min(centre * np.exp(half), 1.0)))
    return pd.DataFrame(rows, columns=["reuse_factor", "runs", "mean", "low", "high"])


def reuse_difference(runs: Frame, spread: Spread, base: float, tau: float) -> tuple[float, float, float, str]:
    """Difference of final loss, its 95 % interval and what it rests on: pairs by seed where there are two or more."""
    sides = [runs[runs["reuse_factor"] == value] for value in (base, tau)]
    pairs = sides[0].dropna(subset="seed").merge(sides[1], on="seed")
    if len(pairs) > 1:
        draws = pairs["eval_problems_x"] * pairs["final_evaluations_x"]
        loss = (pairs["final_x"] + pairs["final_y"]) / 2
        noise = float(np.nan_to_num(np.sqrt(2 * loss * (1 - loss) / draws).mean()))
        differences = (pairs["final_y"] - pairs["final_x"]).to_numpy()
        return differences.mean(), *t_interval(differences, noise), f"{len(pairs)} pairs by seed, t interval"
    means = [float(side["final"].mean()) for side in sides]
    relative = [spread.half_width(len(side)) * mean for side, mean in zip(sides, means, strict=True)]
    half, difference = float(np.hypot(relative[0], relative[1])), means[1] - means[0]
    return difference, difference - half, difference + half, f"{counted(len(sides[1]), 'run')}, spread of the repeats"


# --- data reuse -------------------------------------------------------------------------------------------------------
def reuse_threshold(curves: Curves, replicates: Curves | None = None) -> dict[str, Any]:
    """The reuse factor from which the final loss is worse than at the lowest: the smallest tau whose interval of the
    difference, and that of every larger one, lies above 0; None and `identified` false where there is none."""
    frame = reuse_frame(curves, replicates)
    finals = final_losses(frame)
    spread = repeats_spread(finals, replicates)
    taus = sorted(frame["reuse_factor"].unique())
    rows = []
    for tau in taus[1:]:
        difference, low, high, basis = reuse_difference(finals.runs, spread, taus[0], tau)
        ends = [None if not np.isfinite(end) else float(end) for end in (low, high)]
        rows.append({"reuse_factor": float(tau), "difference": float(difference), "ci95": ends, "basis": basis})
    worse = [row["ci95"][0] is not None and row["ci95"][0] > 0 for row in rows]
    first = next((i for i in range(len(rows)) if all(worse[i:])), None)
    return {
        "num_params": float(frame["size"].iloc[0]), "baseline": float(taus[0]), "window": finals.window(),
        "spread": spread.words,
        "threshold": None if first is None else rows[first]["reuse_factor"], "identified": first is not None,
        "highest_run": float(taus[-1]), "rows": rows,
    }  # fmt: skip
