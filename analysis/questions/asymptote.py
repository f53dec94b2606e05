"""The pass rate that training tends to, by the protocol of ScaleRL (Khatri et al., arXiv 2510.13786).

The rate before training is measured and not fitted, the first part of the curve is left out, a sigmoid is fitted to
the first share of the compute and set against the rest. Recipes are compared by their asymptotes A.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices, choose_size_column
from analysis.fitting.record import Fit
from analysis.intervals.fitted import fit_with_intervals
from analysis.intervals.profile import End
from analysis.missing import Missing, attempt
from analysis.questions.finals import conditions
from analysis.questions.prediction import predict_fitted_size
from scaling.schema import InputError

LEAST_POINTS = 5  # of a curve in the fitted part: the sigmoid has three free parameters


def asymptotes(
    curves: Curves, choices: Choices, by: str | None = None, share: float = 0.5, cut: float = 0.02
) -> dict[str, Any]:
    """The asymptote of each size and condition, with `by` of each value of a column; see `analysis.asymptote`."""
    if not (0 <= cut < share <= 1):
        raise InputError(f"asymptote: cut {cut:g} and share {share:g} are parts of the compute: 0 <= cut < share <= 1.")
    choices = replace(choices.with_law("sigmoid"), split="none")
    chosen = choices.rows(curves)
    x, size_column = choices.axis(chosen), choose_size_column(chosen, choices.size_column)
    groups = [("", chosen)] if by is None else [(value, part) for value, part in chosen.groups(by)]
    if by is not None and len(groups) < 2:
        raise InputError(f"asymptote: {by} has one value, {groups[0][0]}; leave out by.")
    condition = _conditions(chosen, by)
    rows = []
    for value, group in groups:
        table = group.table.assign(condition=group.table["run_id"].map(condition))
        for (_, setting), part in table.groupby([size_column, "condition"]):
            here = replace(group, table=part)
            curve = attempt(lambda here=here: _one(here, choices, x, share, cut))
            row = {"num_params": float(part[size_column].iloc[0]), "condition": setting}
            curve = curve.json() if isinstance(curve, Missing) else curve
            rows.append({**row, **({} if by is None else {by: value}), **curve})
    compared = [] if by is None else _compared(rows, by)
    return {"source": curves.source, "x": x, "where": choices.where, "by": by, "share": share, "cut": cut,
            "rows": rows, "differences": compared}  # fmt: skip


def _conditions(curves: Curves, by: str | None) -> dict[str, str]:
    """The condition of each run: runs of another reuse, group size or algorithm tend to another asymptote."""
    condition = conditions(curves, apart=(by,) if by else ())
    algorithm = curves.table.groupby("run_id")["algorithm"].first() if "algorithm" in curves.table else None
    if by == "algorithm" or algorithm is None or algorithm.nunique() < 2:
        return condition
    return {run: ", ".join(filter(None, (str(algorithm[run]), words))) for run, words in condition.items()}


def _one(part: Curves, choices: Choices, x: str, share: float, cut: float) -> dict[str, Any]:
    table = part.table[part.table["test_loss"].notna()]
    start = table[table["step"] == 0]["test_loss"]
    last = float(table[x].max())
    kept = table[(table["step"] > 0) & (table[x] > cut * last) & (table[x] <= share * last)]
    points = kept.groupby("run_id").size()
    if points.empty or points.max() < LEAST_POINTS:
        raise InputError(f"{0 if points.empty else int(points.max())} evaluations of a run in the fitted part, and "
                         f"it wants {LEAST_POINTS}; widen share, narrow cut")  # fmt: skip
    fix = {} if start.empty else {"fix": f"r0={float(1 - start.mean()):.9g}"}
    fit = fit_with_intervals(replace(part, table=kept), replace(choices, x=x, where=None, **fix))
    size = fit.per_size[0]
    values, ends = size["values"], size["values_ci95"]
    return {
        "r0": values["r0"], "r0_measured": bool(fix), "asymptote": values["a"], "ci95": ends.get("a"),
        "c_mid": values["c_mid"], "c_mid_ci95": ends.get("c_mid"), "b": values["b"], "n_runs": size["n_runs"],
        "verdict": fit.verdict, "rest": _rest(fit, table, x, share, last), "warnings": fit.warnings,
    }  # fmt: skip


def _rest(fit: Fit, table: Any, x: str, share: float, last: float) -> dict[str, Any] | None:
    """The sigmoid against what it was not fitted to: the last evaluation and the whole rest; None without a rest."""
    rest = table[table[x] > share * last]
    if rest.empty:
        return None
    size, at = fit.per_size[0]["num_params"], rest[x].to_numpy(float)
    predicted = np.atleast_1d(fit.predict(size, at))
    end = rest[rest[x] == rest[x].max()]["test_loss"]
    ends = predict_fitted_size(fit, size, np.log([last])).mean
    return {
        "x": last, "x_factor": 1 / share, "predicted": float(1 - fit.predict(size, last)),
        "ci95": None if ends is None else [float(1 - math.exp(side[0])) for side in reversed(ends)],
        "observed": float(1 - end.mean()),
        "rmse": float(np.sqrt(np.mean((predicted - rest["test_loss"].to_numpy(float)) ** 2))),
    }  # fmt: skip


def _compared(rows: Sequence[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """Differences of asymptotes at each size and condition, with 95 % intervals from those of the two (Zou and Donner
    2008)."""
    differences = []
    for size, condition in sorted({(row["num_params"], row["condition"]) for row in rows}):
        here = [r for r in rows if (r["num_params"], r["condition"]) == (size, condition) and r.get("ci95")]
        for base, other in itertools.combinations(here, 2):
            low, high = difference_ends((other["asymptote"], other["ci95"]), (base["asymptote"], base["ci95"]))
            differences.append({
                "num_params": size, "condition": condition, by: other[by], "baseline": base[by],
                "difference": other["asymptote"] - base["asymptote"], "ci95": [low, high],
                "established": low is not None and high is not None and (low > 0 or high < 0),
            })  # fmt: skip
    return differences


def difference_ends(one: tuple[float, Sequence[End]], other: tuple[float, Sequence[End]]) -> tuple[End, End]:
    """Ends of one minus other from the intervals of two independent estimates: each end is as far from the difference
    as the two near ends are together, squared. Open where one of them is."""
    (a, (a_low, a_high)), (b, (b_low, b_high)) = one, other
    low = None if a_low is None or b_high is None else a - b - math.hypot(a - a_low, b_high - b)
    high = None if a_high is None or b_low is None else a - b + math.hypot(a_high - a, b - b_low)
    return low, high
