"""Fit a law to curves: choose the points, have the optimum found, keep a record of everything that was chosen."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp

from analysis.curves import CONVENTION, RUN_KEYS, Curves, check_where, run_label
from analysis.laws import Law, get_law
from analysis.solve import OBJECTIVES, Points, Solution, solve
from analysis.splits import Split, held_out, parse_split, rmse, score
from scaling import record, schema
from scaling.schema import InputError, check_name, did_you_mean

FIT_SCHEMA_VERSION = 1


# ---------------------------------------------------------------- points


def parse_window(text: str | None, what: str) -> tuple[int | None, int | None]:
    """(A, B) of `A:B`; either may be empty. Raises InputError."""
    if text is None:
        return None, None
    example = "3: or :60 or 3:60" if what == "steps" else ":-80 or 10: or 10:40"
    parts = str(text).split(":")
    try:
        low, high = (int(part) if part.strip() else None for part in parts)
    except ValueError:
        raise InputError(f"{what}: {text!r} is not A:B with whole numbers; write e.g. {example}.") from None
    if what == "steps" and ((low or 0) < 0 or (high is not None and high < 0)):
        raise InputError(f"steps: {text!r} has a negative step; steps count from 0. For the last points use points.")
    if what == "steps" and high is not None and high < (low or 0):
        raise InputError(f"steps: {text!r} ends before it begins; write e.g. {example}.")
    return low, high


CHOICES = {
    "where": "algorithm == grpo", "steps": "3:60", "points": ":-80", "x": "train_flops", "law": "efficiency",
    "objective": "log", "size_column": "num_params", "by": "algorithm", "split": "inter",
}  # fmt: skip


def check_choices(choices: dict[str, Any], expected: Curves) -> None:
    """Check the analysis section of a study that has not run, on what `analysis.curves.expect` makes of it.

    Whatever a fit would refuse after hours of training is refused here; how many points there are only a run can tell.
    """
    for name, value in choices.items():
        check_name(name, CHOICES, "choice of a fit")
        if not isinstance(value, str):
            raise InputError(f'{name} wants text, such as "{CHOICES[name]}" in quotes, not {value!r}.')
    law = get_law(choices.get("law", CHOICES["law"]))
    check_name(choices.get("objective", CHOICES["objective"]), OBJECTIVES, "objective")
    for name in ("steps", "points"):
        parse_window(choices.get(name), name)
    parse_split(choices.get("split", "none"))
    if not law.group:
        choose_size_column(expected, choices.get("size_column"))
    check_name(choices.get("x", CHOICES["x"]), legal_x(expected.table), "x column")
    if "by" in choices:
        constant = [*RUN_KEYS, "reuse_factor", *expected.settings, "run_id"]
        check_name(
            choices["by"], [n for n in constant if n in expected.table], "column that is constant in a run, for by"
        )
    if "where" in choices:
        check_where(expected, choices["where"])


def legal_x(table: pd.DataFrame) -> list[str]:
    """The columns that may stand on the horizontal axis."""
    never = ("num_params", "num_params_non_embedding", "seed", "reuse_factor", *schema.EVAL_COLUMNS)
    return [name for name in table.select_dtypes("number").columns if name not in never]


def select_points(
    curves: Curves,
    x: str,
    size_column: str | None = None,
    steps: str | None = None,
    points: str | None = None,
    law: Law | None = None,
) -> tuple[Points, list[str]]:
    """The points that a fit uses, and what was left out of the evaluations and why.

    Step 0 (before training, X = 0) is always left out; then `steps` "A:B" keeps the steps A to B, both included; then
    `points` "A:B" slices the points of each curve as Python does (":-80" drops the last 80). A law may ask for another
    column in the place of N, for `reuse` (D / U at the point), or tie two axes together; see `Law`.
    """
    table = curves.table
    response = "test_loss"
    if "test_loss" not in table:
        if law is None or not law.cross_entropy:
            raise InputError(
                f"{curves.source}: it has no test_loss (its loss is a cross-entropy in nats); this law needs one. "
                "Laws for a cross-entropy: chinchilla, data_constrained, power_plateau."
            )
        response = "loss"
    size_column = choose_size_column(curves, size_column, law)
    if law is not None and law.axes:
        x = law.axes[0]
    legal = legal_x(table)
    if x not in legal:
        raise InputError(
            f"{curves.source}: x {x!r} is not a column of it; there are: {', '.join(legal)}.{did_you_mean(x, legal)}"
        )
    notes = []
    used = table[table[response].notna()]
    keep = (used["step"] > 0).to_numpy()
    if not keep.all():
        notes.append(f"step 0 is left out ({int((~keep).sum())} evaluations before training, where X = 0)")
    used = used[keep]
    for axis in [x] if law is None or not law.axes else law.axes:
        if axis not in legal:
            raise InputError(
                f"{curves.source}: law {law and law.name} ties {x} to {axis}, which is not a column of it."
            )
        _check_axis(used, axis, curves.source)
    low, high = parse_window(steps, "steps")
    if steps is not None:
        step = used["step"].to_numpy()
        keep = (step >= (low or 0)) & (step <= (np.inf if high is None else high))
        notes.append(f"steps {steps} (both included) leaves out {int((~keep).sum())} evaluations")
        used = used[keep]
    low, high = parse_window(points, "points")
    if points is not None and len(used):
        order = used.groupby("run_id").cumcount().to_numpy()
        count = used.groupby("run_id")["step"].transform("size").to_numpy()
        start, stop = (np.array([slice(low, high).indices(n)[i] for n in count]) for i in (0, 1))
        keep = (order >= start) & (order < stop)
        notes.append(f"points {points} of each curve leaves out {int((~keep).sum())} evaluations")
        used = used[keep]
    if used.empty:
        raise InputError(
            f"{curves.source}: no evaluated point is left after --where, --steps and --points; widen them."
        )
    sizes, size = np.unique(used[size_column].to_numpy(float), return_inverse=True)
    run, runs = pd.factorize(used["run_id"])
    ln_x = np.log(used[x].to_numpy(float)) if law is None or not law.axes else _tie_axes(used, law.axes, size, sizes)
    return (
        Points(
            sizes, size, [str(name) for name in runs], run, ln_x, used[response].to_numpy(float),
            _trials(used, notes) if response == "test_loss" else None, used["step"].to_numpy(),
            {name: _reuse(used, curves) for name in (law.columns if law is not None else ())},
        ),
        notes,
    )  # fmt: skip


def _check_axis(used: pd.DataFrame, x: str, source: str) -> None:
    missing = used[x].isna().to_numpy()
    if missing.any():
        first = used[missing].iloc[0]
        raise InputError(
            f"{source}: x {x} is blank in {missing.sum()} evaluated rows, first in run {first['run_id']} at "
            f"step {first['step']}; choose another x, or leave such runs out with --where."
        )
    bad = (used[x] <= 0).to_numpy()
    if bad.any():
        first = used[bad].iloc[0]
        raise InputError(
            f"{source}: x {x} is {first[x]:g} in run {first['run_id']} at step {first['step']}; "
            "after step 0 it must be above 0, its log is taken."
        )


def _reuse(used: pd.DataFrame, curves: Curves) -> np.ndarray:
    """D / U at each point: row by row where the source has it, else from the run's tau and its last D."""
    if "prompts_unique" in used and "prompts_seen" in used and used["prompts_unique"].notna().all():
        found = used["prompts_seen"] / used["prompts_unique"]
    elif "reuse_factor_so_far" in used:
        found = used["reuse_factor_so_far"]
    elif "reuse_factor" in used and "prompts_seen" in used:
        last = used["run_id"].map(curves.table.groupby("run_id")["prompts_seen"].max())
        found = used["prompts_seen"] * used["reuse_factor"] / last
    else:
        raise InputError(
            f"{curves.source}: law data_constrained needs how often data repeat: columns prompts_seen and "
            "prompts_unique, or reuse_factor; without repeats use law chinchilla."
        )
    if found.isna().any():
        raise InputError(f"{curves.source}: reuse is blank at step {used['step'][found.isna()].iloc[0]}; fill it.")
    return np.maximum(found.to_numpy(float), 1.0)


def _tie_axes(used: pd.DataFrame, axes: tuple[str, str], size: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n,) ln X of a law that ties two axes: the mean of ln D and ln(C / (N phi)); phi see `axis_ratio`."""
    data, cost = (used[name].to_numpy(float) for name in axes)
    phi, _ = axis_ratio(cost / data / sizes[size], size)
    return 0.5 * (np.log(data) + np.log(cost / (sizes[size] * phi)))


def axis_ratio(ratio: np.ndarray, size: np.ndarray) -> tuple[float, np.ndarray]:
    """phi = the median over sizes of the median of C / (N D) over the later half of the points, and those medians."""
    each = np.array([np.median(r[len(r) // 2 :]) for r in (ratio[size == i] for i in range(size.max() + 1))])
    return float(np.median(each)), each


def choose_size_column(curves: Curves, name: str | None, law: Law | None = None) -> str:
    """The column that holds N: the one named, else without embeddings where present, else `num_params`; or the column
    that the law has in its place."""
    if law is not None and law.group:
        if law.group not in curves.table or curves.table[law.group].isna().any():
            raise InputError(f"{curves.source}: law {law.name} needs column {law.group} in every row.")
        return law.group
    present = [c for c in ("num_params_non_embedding", "num_params") if c in curves.table]
    if name is not None and name not in present:
        raise InputError(
            f"size_column: {name!r} is not a size of {curves.source}; it has {', '.join(present)}."
            f"{did_you_mean(name, present)}"
        )
    return name or present[0]


def _trials(used: pd.DataFrame, notes: list[str]) -> np.ndarray | None:
    """Q per point, or None, with a note, where the data carry no counts."""
    missing = len(used) if "eval_problems" not in used else int(used["eval_problems"].isna().sum())
    if missing:
        notes.append(f"eval_problems is unknown for {missing} of {len(used)} points: every point weighs the same")
        return None
    samples = used["eval_samples"].fillna(1.0) if "eval_samples" in used else 1.0
    return (used["eval_problems"] * samples).to_numpy(float)


# ---------------------------------------------------------------- the record


@dataclass
class Fit:
    """A fitted law and the record of how it was made.

    Fields:
        record: the document that `json()` prints and `save()` writes; see `fit_curves`.
        points: the fitted points, None for a fit that was loaded from its record.
        solution: the optimum, None likewise.
        test: the run-level test behind the intervals (`analysis.intervals.RunTest`), None until intervals were made.
        curves: the curves the fit was made from (before the window), None for a loaded fit.
    """

    record: dict[str, Any]
    points: Points | None = None
    solution: Solution | None = None
    test: Any = None
    curves: Curves | None = None

    @property
    def law(self) -> Law:
        return get_law(self.record["law"])

    @property
    def values(self) -> dict[str, dict[str, Any]]:
        """Shared parameters by name: value, stderr, ci95, unit, identified, at_bound."""
        return self.record["values"]

    @property
    def per_size(self) -> list[dict[str, Any]]:
        return self.record["per_size"]

    @property
    def warnings(self) -> list[str]:
        return self.record["warnings"]

    @property
    def status(self) -> str:
        return self.record["status"]

    def frame(self) -> pd.DataFrame:
        """One row per size: its own line with interval, and the law's values there."""
        return pd.DataFrame(self.per_size)

    def json(self) -> dict[str, Any]:
        """The record, plain JSON values."""
        return self.record

    def _known(self, num_params: np.ndarray) -> dict[str, Any]:
        """Values of every parameter of the law at sizes (an array): those per size looked up, or InputError."""
        known: dict[str, Any] = {name: entry["value"] for name, entry in self.values.items()}
        for parameter in self.law.parameters:
            if parameter.per_size:
                look_up = np.vectorize(lambda n, name=parameter.name: self._size(n)["values"][name], otypes=[float])
                known[parameter.name] = look_up(num_params)
        return known

    def efficiency(self, num_params):
        """k(N) by the law, for any N where the law has one; of a law without straight lines that of the middle of the
        points of a fitted size."""
        num_params = np.asarray(num_params, float)
        if self.law.slope is not None and self.law.shape is not None:
            return self.law.slope(num_params, {name: entry["value"] for name, entry in self.values.items()})
        return np.vectorize(lambda n: self._size(n)["efficiency_law"], otypes=[float])(num_params)

    def predict(self, num_params, x, **columns):
        """Loss by the law at sizes and X that broadcast; a scalar for scalars. `reuse` for a law that asks for it.

        Raises InputError for a size that was not fitted, where the law has parameters of each size.
        """
        num_params, x = np.broadcast_arrays(np.asarray(num_params, float), np.asarray(x, float))
        missing = [name for name in self.law.columns if name not in columns]
        if missing:
            raise InputError(f"law {self.law.name} predicts at a given {missing[0]}: give {missing[0]}=...")
        loss = np.exp(self.law.ln_loss(num_params, x, self._known(num_params), **columns))
        return float(loss) if loss.ndim == 0 else loss

    def _size(self, num_params: float) -> dict[str, Any]:
        for row in self.per_size:
            if math.isclose(row["num_params"], num_params, rel_tol=1e-6):
                return row
        sizes = ", ".join(f"{row['num_params']:.4g}" for row in self.per_size)
        raise InputError(
            f"law {self.record['law']} has free parameters per size and cannot predict an unseen size (N = "
            f"{num_params:.4g}; fitted: {sizes}){'; it gives only the slope there' if self.law.shape else ''}. Use a "
            "law with a parametric E(N), or calibrate the level on a declared number of points of the new size."
        )

    def plot(self, **options):
        """The figure of the fit; see `analysis.figures`."""
        return importlib.import_module("analysis.figures").plot_fit(self, **options)

    def save(self, path: str | Path) -> Path:
        """Write the record, atomically; two fits of the same data are equal to the byte."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        record.write_json(path, self.record)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Fit:
        """A fit from its record. Raises InputError for an unknown schema version."""
        found = record.read_json(Path(path))
        if found is None:
            raise InputError(f"{path}: no such file.")
        return cls.from_json(found, str(path))

    @classmethod
    def from_json(cls, found: Any, where: str = "fit record") -> Fit:
        version = found.get("schema_version") if isinstance(found, dict) else None
        if version != FIT_SCHEMA_VERSION:
            raise InputError(
                f"{where}: schema_version {version!r} of a fit is not known, this program reads {FIT_SCHEMA_VERSION}; "
                "fit again, or read it with the program that wrote it."
            )
        return cls(found)


def fit_curves(
    curves: Curves,
    law: str = "efficiency",
    x: str = "train_flops",
    objective: str = "log",
    where: str | None = None,
    steps: str | None = None,
    points: str | None = None,
    split: str = "none",
    size_column: str | None = None,
    seed: int = 0,
    bounds: str | None = None,
) -> Fit:
    """The point fit of `analysis.fit`, without intervals.

    Returns a Fit whose record has, besides what the command line documents: the law's formula and citation, the data
    hash, the runs used and left out, the window, every start, bound hits, condition number and correlation.
    """
    formula, rule = get_law(law), parse_split(split)
    check_name(objective, OBJECTIVES, "objective")
    if bounds is not None:
        check_name(bounds, ["published"], "set of bounds")
    chosen = curves.where(where) if where is not None else curves
    x = formula.axes[0] if formula.axes else x
    size_column = choose_size_column(chosen, size_column, formula)
    every, notes = select_points(chosen, x, size_column, steps, points, formula)
    held = held_out(rule, every.run, every.size)
    used = every.take(~held)
    _check_enough(used, formula, curves.source)
    solution = solve(used, formula, objective, bounds == "published")
    own = "log" if objective == "huber" else objective  # a size's own line knows no outliers
    lines = solution if law == "per_size" else solve(used, get_law("per_size"), own)
    known = solution.values
    found = {
        "schema_version": FIT_SCHEMA_VERSION,
        "law": law,
        "formula": formula.formula,
        "citation": formula.citation,
        "source": curves.source,
        "data_hash": curves.data_hash,
        "points_hash": used.hash(),
        "x": x,
        "x_unit": schema.COLUMNS[x].unit if x in schema.COLUMNS else "",
        "size_column": size_column,
        "size_convention": _convention(chosen),
        "objective": objective,
        "objective_meaning": OBJECTIVES[objective],
        "weights": _weights(used, objective),
        "window": {
            "where": " and ".join(f"({e})" for e in chosen.filters) or None,
            "steps": steps, "points": points, "smoothing": None, "first_step": int(used.step.min()),
            "last_step": int(used.step.max()),
        },
        "split": rule.text,
        "seed": seed,
        "bounds": bounds or "wide",
        "n_points": len(used),
        "n_runs": len(used.runs),
        "n_sizes": len(used.sizes),
        "runs": used.runs,
        "run_names": [curves.names.get(run, run) for run in used.runs],
        "left_out": [*curves.left_out, *_not_used(curves, chosen, every)],
        "status": "ok" if solution.converged else "not converged",
        "warnings": _warnings(chosen, used, solution, formula),
        "notes": [*curves.notes, *notes],
        "values": {
            p.name: {
                "value": known[p.name], "stderr": None, "ci95": None, "unit": p.unit, "identified": False,
                "at_bound": p.name in solution.bound_hits, "meaning": p.meaning, "log_scale": p.scale,
            }
            for p in formula.shared
        },
        "per_size": _per_size(used, solution, lines),
        "goodness": _goodness(used, solution, formula),
        "diagnostics": _diagnostics(used, solution, formula),
        "held_out": None,
    }  # fmt: skip
    fit = Fit(found, used, solution, curves=chosen)
    if held.any():
        found["held_out"] = _score(fit, rule, lines, every, held)
    if formula.axes:
        found["consistency"] = _consistency(fit, steps, points)
    return fit


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


def _weights(points: Points, objective: str) -> str:
    if objective == "linear":
        return "equal in total for each size"
    if objective == "huber":
        return "equal for each point"
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


def _warnings(curves: Curves, points: Points, solution: Solution, law: Law) -> list[str]:
    """What a reader must know before trusting the values."""
    found = []
    table = curves.table[curves.table["run_id"].isin(points.runs)]
    size_of = dict(zip(points.runs, points.run_sizes(), strict=True))
    for name in curves.settings:
        if name in table:
            values = table.groupby("run_id")[name].first()
            mixed = values.groupby(values.index.map(size_of)).nunique(dropna=False).max() > 1  # type: ignore[arg-type]
            if mixed:
                shown = ", ".join(str(value) for value in sorted(values.unique(), key=str)[:6])
                found.append(f"runs of one size differ in {name} ({shown}) and are fitted together; use where or by")
    if any(word in " ".join(curves.filters) for word in ("test_loss", "pass_at_1")):
        found.append("where selects points by their result, which biases the fit")
    counts = np.bincount(points.size)
    few = [f"{points.sizes[i]:.4g}" for i in np.flatnonzero(counts < 3)]
    if few and law.slope is not None:
        found.append(f"fewer than 3 points at N = {', '.join(few)}: nothing there tests the line")
    zeros = int((points.loss == 0).sum())
    if zeros and points.trials is not None:
        found.append(f"{zeros} points have no error at all: ln L is taken at half an error there")
    if law.shape is not None and len(points.sizes) == 2:
        found.append("two sizes determine the law exactly: nothing is left to test it")
    found += [f"{name} is at a bound of its range" for name in solution.bound_hits]
    elsewhere = sum(not start["best"] for start in solution.starts)
    if elsewhere:
        found.append(f"{elsewhere} of {len(solution.starts)} starts ended in a worse optimum than the one given")
    if solution.condition_number is not None and solution.condition_number > 1e5:
        found.append(
            f"the parameters are hardly told apart (condition number {solution.condition_number:.1g}): the curve is "
            "determined, its parameters are not"
        )
    if law.shape is not None and solution.values[law.amplitude] == 0:
        found.append(f"no size improves with X: {law.amplitude} is 0 and {law.scale} is undetermined")
    if not solution.converged:
        found.append("the fit did not converge")
    return found


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


def _r2(observed: np.ndarray, fitted: np.ndarray) -> float | None:
    """1 - SSE/SST on L; None where the observations do not vary."""
    total = float(np.sum((observed - observed.mean()) ** 2))
    return 1 - float(np.sum((observed - fitted) ** 2)) / total if total > 0 else None


def _goodness(points: Points, solution: Solution, law: Law) -> dict[str, Any]:
    """All R2 are on L, unweighted. `r2_pooled_constant`: the law with k = 0, a mean level per size. `r2_within`: the
    part of the variation within sizes that the law explains."""
    eta = solution.eta
    count = points.sum_by_size(np.ones(len(points)))
    level = (points.sum_by_size(points.loss) / count)[points.size]
    within = float(np.sum((points.loss - level) ** 2))
    residual = points.ln_loss() - eta
    return {
        "r2_pooled": _r2(points.loss, np.exp(eta)),
        "r2_pooled_constant": _r2(points.loss, level),
        "r2_within": 1 - float(np.sum((points.loss - np.exp(eta)) ** 2)) / within if within > 0 else None,
        "rmse_ln_loss": rmse(residual) if np.isfinite(residual).all() else None,
        "rmse_loss": rmse(points.loss - np.exp(eta)),
        "n_parameters": sum(len(points.sizes) if p.per_size else 1 for p in law.parameters),
    }


def _diagnostics(points: Points, solution: Solution, law: Law) -> dict[str, Any]:
    """Starts, share that reached the best optimum, bound hits, condition number and correlation.

    The last two are of the Jacobian in (ln amplitude, ln scale) at the optimum, levels eliminated.
    """
    found: dict[str, Any] = {
        "rounds": solution.rounds, "objective_value": solution.objective, "bound_hits": solution.bound_hits,
        "starts": solution.starts, "share_best": None, "condition_number": None, "correlation": None,
    }  # fmt: skip
    if not law.closed_form:
        if solution.starts:
            found["share_best"] = float(np.mean([start["best"] for start in solution.starts]))
        found["condition_number"] = solution.condition_number
        if solution.covariance is not None:
            names, covariance = solution.covariance
            sd = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
            found["correlation"] = {
                f"{names[i]}, {names[j]}": float(covariance[i, j] / sd[i] / sd[j])
                for i in range(len(names)) for j in range(i)
            }  # fmt: skip
        return found
    if law.shape is None or not solution.starts:
        return found
    scale, h = solution.values[law.scale], 1e-5
    found["share_best"] = float(np.mean([start["best"] for start in solution.starts]))
    f = law.shape(points.sizes, scale)
    df = (law.shape(points.sizes, scale * np.exp(h)) - law.shape(points.sizes, scale * np.exp(-h))) / (2 * h)
    jacobian = np.sqrt(solution.information)[:, None] * solution.values[law.amplitude] * np.column_stack([f, df])
    singular = np.linalg.svd(jacobian, compute_uv=False)
    if singular[-1] > 1e-12 * singular[0] > 0:
        covariance = np.linalg.inv(jacobian.T @ jacobian)
        found["condition_number"] = float(singular[0] / singular[-1])
        found["correlation"] = float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    return found


def _score(fit: Fit, rule: Split, lines: Solution, every: Points, held: np.ndarray) -> dict[str, Any]:
    """Held-out errors of the law beside the no-law baselines; nothing of the held-out points was used to fit."""
    used, solution = fit.points, fit.solution
    assert used is not None and solution is not None
    test = every.take(held)
    observed = test.ln_loss()
    if not np.isfinite(observed).all():
        raise InputError(
            "split: a held-out test loss is 0 and eval_problems is unknown, so its log has no floor; add the column."
        )
    if rule.kind == "intra":
        size = np.searchsorted(used.sizes, test.sizes)[test.size]
        position = {name: i for i, name in enumerate(used.runs)}
        run = np.array([position[name] for name in test.runs])[test.run]
        last = {i: j for j, i in enumerate(used.run)}  # the last fitted point of each run
        index = np.array([last[i] for i in run])
        furthest = np.array([used.x[used.run == i].max() for i in range(len(used.runs))])[run]
        known = {**solution.values, **{name: values[size] for name, values in solution.per_size.items()}}
        predictions: dict[str, np.ndarray | None] = {
            "law": fit.law.ln_loss(used.sizes[size], np.exp(test.x), known, **test.columns),
            "per_size": lines.intercept[size] - lines.slope[size] * test.x,
            "last_value": used.ln_loss()[index],
        }
        return {
            "split": rule.text,
            "tuned_on_held_out": "nothing",
            **score(observed, predictions, np.exp(test.x), np.exp(furthest)),
        }
    new = float(test.sizes[0])
    nearest = used.size == used.size.max()
    order = np.argsort(used.x[nearest], kind="stable")
    level = np.interp(test.x, used.x[nearest][order], used.ln_loss()[nearest][order])
    own = solve(test, get_law("per_size"), "linear" if fit.record["objective"] == "linear" else "log")
    unseen = fit.law.predicts_unseen
    law = fit.law.ln_loss(new, np.exp(test.x), solution.values, **test.columns) if unseen else None
    found = score(
        observed, {"law": law, "nearest_size": level}, np.exp(test.x), np.full(len(test), np.exp(used.x.max()))
    )
    return {
        "split": rule.text,
        "num_params": new,
        "size_factor": new / float(used.sizes[-1]),
        "tuned_on_held_out": "nothing",
        "reason": "level and slope by the law"
        if unseen
        else f"law {fit.law.name} has a free level per size: of an unseen size it predicts only the slope",
        "efficiency_law": float(fit.efficiency(new)) if fit.law.shape is not None else None,
        "efficiency_law_ci95": None,
        "efficiency_own_line": float(own.slope[0]) if own.information[0] > 0 else None,
        "efficiency_own_line_ci95": None,
        **found,
    }


def _consistency(fit: Fit, steps: str | None, points: str | None) -> dict[str, Any]:
    """How far the fits on each axis alone are from the constraint, and a test of it by runs.

    A run has two lines, one on each axis, through the same losses: what is left between them is how far its C / (N D)
    is from constant. `p`: two-sided t test over runs that their mean difference k_C - k_D is 0; None below three runs.
    """
    law, curves, record = fit.law, fit.curves, fit.record
    assert law.axes is not None and curves is not None and fit.points is not None
    found: dict[str, Any] = {"axes": list(law.axes), "free": {}, "per_size": [], "by_run": {}}
    lines, run_slopes = [], []
    for axis in law.axes:
        chosen, _ = select_points(curves, axis, record["size_column"], steps, points)
        # The fitted points and no others: held-out ones of the same runs drop out too.
        fitted = pd.MultiIndex.from_arrays([np.array(fit.points.runs)[fit.points.run], fit.points.step])
        own = pd.MultiIndex.from_arrays([np.array(chosen.runs)[chosen.run], chosen.step])
        chosen = chosen.take(own.isin(fitted))
        free = solve(chosen, get_law("efficiency"), record["objective"])
        found["free"][axis] = free.values
        lines.append(solve(chosen, get_law("per_size"), record["objective"]))
        run_slopes.append([np.polyfit(chosen.x[here], chosen.ln_loss()[here], 1)[0] * -1 if np.ptp(chosen.x[here]) else
                           np.nan for here in (chosen.run == i for i in range(len(chosen.runs)))])  # fmt: skip
        found.setdefault("x", []).append(chosen.x)
    data, cost = found.pop("x")
    sizes = fit.points.sizes
    phi, each = axis_ratio(np.exp(cost - data) / sizes[fit.points.size], fit.points.size)
    found["phi"] = phi
    for i, size in enumerate(sizes):
        expected = lines[0].intercept[i] + lines[0].slope[i] * math.log(size * phi)
        found["per_size"].append({
            "num_params": float(size), "phi": float(each[i]),
            "efficiency_data": float(lines[0].slope[i]), "efficiency_compute": float(lines[1].slope[i]),
            "difference": float(lines[1].slope[i] - lines[0].slope[i]),
            "intercept_compute": float(lines[1].intercept[i]), "intercept_by_constraint": float(expected),
        })  # fmt: skip
    difference = np.array(run_slopes[1]) - np.array(run_slopes[0])
    difference = difference[np.isfinite(difference)]
    n = len(difference)
    mean = float(difference.mean()) if n else None
    found["by_run"] = {"n_runs": n, "mean_difference": mean, "p": None}
    if n > 2 and np.ptp(difference) > 0:
        found["by_run"]["p"] = float(ttest_1samp(difference, 0.0).pvalue)
    elif n > 2:
        found["by_run"]["p"] = 1.0 if mean == 0 else 0.0
    return found
