"""Fit a law to curves: choose the points, have the optimum found, keep a record of everything that was chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.frame import CONVENTION, Curves, run_label
from analysis.curves.where import read_condition
from analysis.fitting.choices import OBJECTIVES, Choices, choose_size_column, legal_x, parse_split, parse_window
from analysis.fitting.consistency import _consistency
from analysis.fitting.goodness import _diagnostics, _goodness, _r2, _warnings, suspect_columns
from analysis.fitting.held_out import _score, held_out
from analysis.fitting.points import Points, select_points
from analysis.fitting.record import FIT_SCHEMA_VERSION, Fit
from analysis.fitting.solution import Solution
from analysis.fitting.solve import solve
from analysis.laws import Law, get_law
from scaling import schema
from scaling.schema import InputError


def fit_curves(curves: Curves, choices: Choices) -> Fit:
    """The point fit of `analysis.fit`, without intervals.

    Returns a Fit whose record has, besides what the command line documents: the law's formula and citation, the data
    hash, the runs used and left out, the window, every start, bound hits, condition number and correlation.
    """
    formula, rule, objective = choices.formula, parse_split(choices.split), choices.objective
    chosen = choices.rows(curves)
    x = choices.axis(chosen)
    every, notes, held = _fitted_points(curves, chosen, choices)
    used = every.take(~held)
    _check_losses(used, objective, curves.source)
    solution = solve(used, formula, objective, choices.bounds == "published")
    if not np.isfinite(solution.eta).all():
        raise InputError(f"{curves.source}: law {formula.name} is not finite at these points, whatever its parameters.")
    own = "log" if objective == "huber" else objective  # a size's own line knows no outliers
    lines = solution if choices.law == "per_size" else solve(used, get_law("per_size"), own)
    known = solution.values
    record = {
        "schema_version": FIT_SCHEMA_VERSION,
        "law": choices.law,
        "formula": formula.formula,
        "citation": formula.citation,
        "verdict": None,
        "source": curves.source,
        "data_hash": curves.data_hash,
        "points_hash": used.hash(),
        "x": x,
        "x_unit": schema.COLUMNS[x].unit if x in schema.COLUMNS else "",
        "size_column": choose_size_column(chosen, choices.size_column, formula),
        "size_convention": _convention(chosen),
        "objective": objective,
        "objective_meaning": OBJECTIVES[objective],
        "weights": _weights(used, objective, "loss_error" in chosen.table and used.trials is not None),
        "window": {
            "where": chosen.condition,
            "steps": choices.steps, "points": choices.points, "smoothing": None, "first_step": int(used.step.min()),
            "last_step": int(used.step.max()),
        },
        "split": rule.text,
        "seed": choices.seed,
        "bounds": choices.bounds or "wide",
        "n_points": len(used),
        "n_runs": len(used.runs),
        "n_sizes": len(used.sizes),
        "runs": used.runs,
        "run_names": [curves.names.get(run, run) for run in used.runs],
        "left_out": [*curves.left_out, *_not_used(curves, chosen, every)],
        "status": "ok" if solution.converged else "not converged",
        "warnings": [
            *_axis_warning(choices, x),
            *suspect_columns(used, lines, choose_size_column(chosen, choices.size_column, formula)),
            *_warnings(chosen, used, solution, formula),
        ],
        "notes": [*curves.notes, *_axis_note(choices, x), *_unit_note(formula, x), *notes],
        "values": {
            p.name: {
                "value": known[p.name], "stderr": None, "ci95": None, "unit": p.unit, "identified": False,
                "at_bound": p.name in solution.bound_hits, "meaning": formula.meaning(p), "log_scale": p.scale,
                **({"fixed": True, "identified": True, "ci95": list(p.chosen or ()), "stderr": 0.0} if p.fixed else {}),
            }
            for p in formula.shared
        },
        "per_size": _per_size(used, solution, lines),
        "goodness": _goodness(used, solution, formula),
        "diagnostics": _diagnostics(used, solution, formula),
        "held_out": None,
    }  # fmt: skip
    record |= {name: text for name in ("fix", "bound") if (text := getattr(choices, name)) is not None}
    fit = Fit(record, used, solution, curves=chosen, formula=formula)
    if held.any():
        record["held_out"] = _score(fit, rule, lines, every, held)
    if formula.axes:
        record["consistency"] = _consistency(fit)
    return fit


def _unit_note(law: Law, x: str) -> list[str]:
    """What a reader must know of a law that changes with the unit of X."""
    if not law.level_at_one:
        return []
    unit = schema.COLUMNS[x].unit if x in schema.COLUMNS else ""
    return [f"its level is that at X = 1{' ' + unit if unit else ''}: with X in another unit it is another law"]


def _fitted_points(curves: Curves, chosen: Curves, choices: Choices) -> tuple[Points, list[str], np.ndarray]:
    """The points, what was left out of them, and which are held out. Raises InputError where the rest is too few."""
    every, notes = select_points(chosen, choices)
    held = held_out(parse_split(choices.split), every.run, every.size)
    _check_enough(every.take(~held), choices.formula, curves.source)
    return every, notes, held


def check_planned(choices: Choices, expected: Curves, by: str | None = None) -> str | None:
    """Raise InputError where `fit_curves` would refuse curves of these sizes and steps, whatever their losses are.

    Args:
        expected: a study that has not run, as `analysis.curves.load.expect` makes it.
        by: a column; it is refused where every group would be.

    Returns what the fit would have to warn of; None also where only the runs can tell which points there will be.
    """
    law, table = choices.formula, expected.table
    asked = {*read_condition(choices.where).words()} if choices.where else set()
    asked |= {law.group or choose_size_column(expected, choices.size_column), *([by] if by else [])}
    if table[[name for name in asked if name in table]].isna().any(axis=None):
        return None
    if table["step"].isna().any():  # as many as there may be
        low, high = parse_window(choices.steps, "steps")
        low = max(low or 0, 1)
        steps = pd.DataFrame({"step": np.arange(low, 1 + min(low + 40, high or low + 40))})
        table, choices = table.drop(columns="step").merge(steps, how="cross"), replace(choices, points=None)
    table = table.assign(test_loss=0.5, eval_problems=np.nan, reuse_factor_so_far=table["reuse_factor"].fillna(1.0))
    for name in legal_x(table):
        table[name] = table["step"].where(table[name].isna(), table[name])
    curves = choices.rows(replace(expected, source="the runs of the plan", table=table))
    warning, refused = None, []
    groups = [curves] if by is None else [part for _, part in curves.groups(by)]
    for part in groups:
        try:
            every, _, _ = _fitted_points(part, part, replace(choices, where=None))
        except InputError as error:
            refused.append(error)
        else:
            if law.group and len(every.sizes) == 1:
                warning = f"law {law.name} compares values of {law.group}, and there is only {every.sizes[0]:g}"
    if len(refused) == len(groups):
        raise refused[0]
    return warning


def _axis_note(choices: Choices, x: str) -> list[str]:
    """What a reader must know of an axis that nobody chose."""
    law = choices.formula
    if choices.x is not None or law.axes or law.x == ("train_flops",):
        return []
    if x == law.x[0]:
        return [f"x is {x}, the axis of law {law.name}"]
    return [f"x is {x}: the source has no {law.x[0]}, the axis of law {law.name}"]


def _axis_warning(choices: Choices, x: str) -> list[str]:
    """A law of data on an axis of compute has other exponents than its source: N stands in both of its terms."""
    law = choices.formula
    if law.axes or law.x[0].endswith("_flops") or not x.endswith("_flops"):
        return []
    return [
        f"law {law.name} is about {law.x[0]}, and x is {x}, which grows with N: its parameters are not those of its "
        f"source; fit --x {law.x[0]}"
    ]


def _check_enough(points: Points, law: Law, source: str) -> None:
    """Slopes need two points of a size; a law of N needs two sizes; a curve needs as many points as parameters."""
    distinct = np.array([len(set(points.x[points.size == i])) for i in range(len(points.sizes))])
    per_size = sum(p.per_size for p in law.parameters)
    if per_size and not law.closed_form and (distinct < per_size).any():
        i = int(np.argmin(distinct))
        raise InputError(
            f"{source}: law {law.name} has {per_size} parameters for each size, size {points.sizes[i]:.4g} has points "
            f"at {distinct[i]} different X; widen --steps and --points, leave the size out, or use --law per_size."
        )
    if not per_size and len(points) < len(law.parameters):
        raise InputError(
            f"{source}: law {law.name} has {len(law.parameters)} parameters, there are {len(points)} points."
        )
    if not per_size and len(points.sizes) < 2:
        raise InputError(f"{source}: law {law.name} needs two sizes or more; use --law per_size.")
    if not per_size and np.ptp(points.x) == 0:
        raise InputError(f"{source}: every point has the same X, so there is nothing to fit; evaluate more often.")
    if law.slope is None:
        return
    lines = int(np.sum(distinct >= 2))
    if lines == 0:
        raise InputError(
            f"{source}: no size has two evaluated points at different X, so there is no slope to fit; "
            "widen --steps and --points, or evaluate more often."
        )
    if law.shape is not None and lines < 2:
        raise InputError(
            f"{source}: law {law.name} describes how slopes change with size and needs two sizes or more, here "
            f"{lines} of {len(points.sizes)} has a slope; use --law per_size."
        )


def _check_losses(points: Points, objective: str, source: str) -> None:
    """Squared error on L has no best line where every loss of a size is 0: it falls with ln L without end."""
    nothing = points.sum_by_size(points.loss) == 0
    if objective == "linear" and nothing.any():
        sizes = ", ".join(f"{size:.4g}" for size in points.sizes[nothing])
        raise InputError(
            f"{source}: every loss at size {sizes} is 0, and objective linear has no optimum there; use --objective "
            "log or binomial, which count half an error, or leave the size out by --where."
        )


def _weights(points: Points, objective: str, by_errors: bool) -> str:
    if objective == "linear":
        return "equal in total for each size"
    if objective == "huber":
        return "equal for each point"
    if by_errors:
        return "by loss_error"
    return "counts of evaluated samples" if points.trials is not None else "equal for each point: no counts"


def _convention(curves: Curves) -> str:
    return str(curves.table[CONVENTION].iloc[0]) if CONVENTION in curves.table else "not stated"


def _not_used(curves: Curves, chosen: Curves, used: Points) -> list[dict[str, str]]:
    """Runs of the source that bring no point to the fit, and why."""
    loaded, kept, runs = (
        list(dict.fromkeys(t["run_id"])) for t in (curves.table, chosen.table, pd.DataFrame({"run_id": used.runs}))
    )
    reasons = {
        run: "not selected by where" if run not in kept else "no evaluated point in the window" for run in loaded
    }
    return [
        {"run": run_label(str(run), curves.names.get(run)), "reason": reason}
        for run, reason in reasons.items()
        if str(run) not in runs
    ]


def _per_size(points: Points, solution: Solution, lines: Solution) -> list[dict[str, Any]]:
    """One entry per size: the independent line (null without two different X), and the law there."""
    rows = []
    runs = np.bincount(points.run_sizes(), minlength=len(points.sizes))
    for i, size in enumerate(points.sizes):
        here = points.size == i
        x, loss = points.x[here], points.loss[here]
        known = lines.information[i] > 0
        rows.append({
            "num_params": float(size),
            "efficiency": float(lines.slope[i]) if known else None,
            "efficiency_ci95": None,
            "intercept": float(lines.intercept[i]) if known else None,
            "r2": _r2(loss, np.exp(lines.intercept[i] - lines.slope[i] * x)) if known else None,
            "efficiency_law": float(solution.slope[i]),
            "intercept_law": float(solution.intercept[i]),
            "values": {name: float(values[i]) for name, values in solution.per_size.items()},
            "values_ci95": {},
            "r2_law": _r2(loss, np.exp(solution.eta[here])),
            "n_runs": int(runs[i]),
            "n_points": int(here.sum()),
        })  # fmt: skip
    return rows
