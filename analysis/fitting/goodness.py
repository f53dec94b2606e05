"""How well a law describes the fitted points: R2, errors, diagnostics of the optimum, and warnings to the reader."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.curves.frame import Curves
from analysis.fitting.points import Points
from analysis.fitting.solution import Solution
from analysis.laws import Law


def rmse(residual: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(residual))))


def _warnings(curves: Curves, points: Points, solution: Solution, law: Law) -> list[str]:
    """What a reader must know before trusting the values."""
    warnings = []
    table = curves.table[curves.table["run_id"].isin(points.runs)]
    size_of = dict(zip(points.runs, points.run_sizes(), strict=True))
    covered = {"reuse_factor"} if "reuse" in law.columns else set()  # the law says what a difference in it does
    for name in curves.settings:
        if name in table and name not in covered:
            values = table.groupby("run_id")[name].first()
            mixed = values.groupby(values.index.map(size_of)).nunique(dropna=False).max() > 1  # type: ignore[arg-type]
            if mixed:
                shown = ", ".join(str(value) for value in sorted(values.unique(), key=str)[:6])
                warnings.append(f"runs of one size differ in {name} ({shown}) and are fitted together; use where or by")
    if any(word in " ".join(curves.filters) for word in ("test_loss", "pass_at_1")):
        warnings.append("where selects points by their result, which biases the fit")
    counts = np.bincount(points.size)
    few = [f"{points.sizes[i]:.4g}" for i in np.flatnonzero(counts < 3)]
    if few and law.slope is not None:
        warnings.append(f"fewer than 3 points at N = {', '.join(few)}: nothing there tests the line")
    zeros = int((points.loss == 0).sum())
    if zeros and points.trials is not None:
        warnings.append(f"{zeros} points have no error at all: ln L is taken at half an error there")
    if law.group and len(points.sizes) == 1:
        warnings.append(
            f"there is one {law.each} only, {law.letter} = {points.sizes[0]:.4g}: nothing to compare; choose rows with "
            "more of them by where"
        )
    if law.shape is not None and len(points.sizes) == 2:
        warnings.append("two sizes determine the law exactly: nothing is left to test it")
    warnings += [f"{name} is at a bound of its range" for name in solution.bound_hits]
    elsewhere = sum(not start["best"] for start in solution.starts)
    if elsewhere:
        warnings.append(f"{elsewhere} of {len(solution.starts)} starts ended in a worse optimum than the one given")
    if solution.condition_number is not None and solution.condition_number > 1e5:
        warnings.append(
            f"the parameters are hardly distinguishable (condition number {solution.condition_number:.1g}): the curve "
            "is determined, its parameters are not"
        )
    if law.shape is not None and solution.values[law.amplitude] == 0:
        warnings.append(f"no size improves with X: {law.amplitude} is 0 and {law.scale} is undetermined")
    if not solution.converged:
        warnings.append("the fit did not converge")
    return warnings


BILLIONS = 2000  # no policy that is trained has fewer parameters; 0.5 to 2000 is N in billions or millions
RISE = 0.02  # of the loss over the data: less is noise about a flat curve


def suspect_columns(points: Points, lines: Solution, size_column: str) -> list[str]:
    """Columns that are not what they are called, in words: N in billions, an accuracy in the place of the loss.

    `lines`: each size's own line.
    """
    suspects, sizes = [], points.sizes
    if size_column.startswith("num_params") and sizes[-1] < BILLIONS:
        suspects.append(
            f"{size_column} is {sizes[0]:.4g} to {sizes[-1]:.4g}, and N counts parameters, 7e9 for 7 billion: is the "
            "column in billions? Multiply it"
        )
    known = lines.information > 0
    if known.any() and (lines.slope[known] < 0).all():
        rises = [
            float(np.ptp(np.exp(lines.intercept[i] - lines.slope[i] * points.x[points.size == i])))
            for i in np.flatnonzero(known)
        ]
        if min(rises) > RISE:
            sized = "every size" if len(rises) > 1 else "the only size"
            suspects.append(
                f"the loss rises with X at {sized}: is the column an accuracy? test_loss is 1 - pass@1: take 1 minus it"
            )
    return suspects


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
        "n_parameters": sum(len(points.sizes) if p.per_size else 1 for p in law.parameters if not p.fixed),
    }


def _diagnostics(points: Points, solution: Solution, law: Law) -> dict[str, Any]:
    """Starts, share that reached the best optimum, bound hits, condition number and correlation.

    The last two are of the Jacobian in (ln amplitude, ln scale) at the optimum, levels eliminated.
    """
    diagnostics: dict[str, Any] = {
        "rounds": solution.rounds, "objective_value": solution.objective, "bound_hits": solution.bound_hits,
        "starts": solution.starts, "share_best": None, "condition_number": None, "correlation": None,
    }  # fmt: skip
    if not law.closed_form:
        if solution.starts:
            diagnostics["share_best"] = float(np.mean([start["best"] for start in solution.starts]))
        diagnostics["condition_number"] = solution.condition_number
        if solution.covariance is not None:
            names, covariance = solution.covariance
            sd = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
            diagnostics["correlation"] = {
                f"{names[i]}, {names[j]}": float(covariance[i, j] / sd[i] / sd[j])
                for i in range(len(names)) for j in range(i)
            }  # fmt: skip
        return diagnostics
    if law.shape is None or not solution.starts or any(parameter.fixed for parameter in law.shared):
        return diagnostics
    scale, h = solution.values[law.scale], 1e-5
    diagnostics["share_best"] = float(np.mean([start["best"] for start in solution.starts]))
    f = law.shape(points.sizes, scale)
    df = (law.shape(points.sizes, scale * np.exp(h)) - law.shape(points.sizes, scale * np.exp(-h))) / (2 * h)
    jacobian = np.sqrt(solution.information)[:, None] * solution.values[law.amplitude] * np.column_stack([f, df])
    singular = np.linalg.svd(jacobian, compute_uv=False)
    if singular[-1] > 1e-12 * singular[0] > 0:
        covariance = np.linalg.inv(jacobian.T @ jacobian)
        diagnostics["condition_number"] = float(singular[0] / singular[-1])
        diagnostics["correlation"] = float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    return diagnostics
