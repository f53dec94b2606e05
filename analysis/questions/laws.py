"""Compare laws on the same curves by what they predict of points they have not seen.

A law is judged by held-out errors first (rolling origin within curves, the largest size left out), then by QAIC where
that is valid. Errors are averaged within a run and compared between laws over runs, because points of one run are not
independent. Where the data cannot tell laws apart the comparison says so in a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import nnls

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices
from analysis.fitting.fit import fit_curves
from analysis.fitting.goodness import rmse
from analysis.fitting.points import Points, select_points
from analysis.fitting.record import Fit
from analysis.fitting.solve import solve
from analysis.intervals.means import paired_difference
from analysis.intervals.record import add_intervals
from analysis.laws import get_law, law_names
from analysis.questions.new_size import predict_new_size
from scaling.schema import InputError, check_name

COMMON = "train_flops"  # axis on which laws are compared where none is chosen: each law's own would be no comparison
ORIGINS = (0.4, 0.6, 0.8)  # fitted share of each curve; the points up to the next origin are predicted
BASELINES = ("last value", "line per size")


# ---------------------------------------------------------------- laws


def compare_laws(curves: Curves, laws: Sequence[str], choices: Choices) -> dict[str, Any]:
    """Held-out scores, QAIC and stacked weights of laws on the same curves; see `analysis.compare_laws`.

    Law and split of the choices do not count.
    """
    curves, choices = choices.rows(curves), replace(choices, x=choices.x or COMMON)
    laws = list(dict.fromkeys(laws))
    for name in laws:
        check_name(name, law_names(), "law")
        law = get_law(name)
        if law.group or law.axes:
            raise InputError(f"law {name} does not describe the same curves as the others (it groups or ties axes).")
    if len(laws) < 2:
        raise InputError(f"a comparison needs two laws or more; there is {', '.join(laws) or 'none'}.")

    def fitted(law: str, split: str) -> Fit:
        return fit_curves(curves, replace(choices.with_law(law), where=None, split=split))

    every, _notes = select_points(curves, choices.with_law("per_size"))
    count = np.bincount(every.run)
    order = np.arange(len(every)) - np.concatenate([[0], np.cumsum(count)])[every.run]
    observed = every.ln_loss()
    if not np.isfinite(observed).all():
        raise InputError("a test loss is 0 and eval_problems is unknown, so its log has no floor; add the column.")
    origins, predicted = _origins(count), {}
    blocks = np.full(len(every), -1)
    for i, share in enumerate(origins):
        end = origins[i + 1] if i + 1 < len(origins) else 1.0
        low, high = (np.floor(f * count + 1e-9)[every.run] for f in (share, end))
        blocks[(order >= low) & (order < high)] = i
    held = blocks >= 0
    rows: list[dict[str, Any]] = [{"law": name, "error": None} for name in laws]
    for row in rows:
        try:
            own = select_points(curves, choices.with_law(row["law"]))[0]  # with the columns that this law asks for
            predicted[row["law"]] = _roll(own, blocks, [fitted(row["law"], f"intra:{f:g}") for f in origins])
        except InputError as error:
            row["error"] = str(error)
    if not predicted:
        raise InputError(f"no law could be scored: {rows[0]['error']}")
    baselines = _baselines(every, blocks, order, origins, count, choices.objective)
    error = {name: value[held] - observed[held] for name, value in {**predicted, **baselines}.items()}
    by_run = {name: np.bincount(every.run[held], e**2) / np.bincount(every.run[held]) for name, e in error.items()}
    best = min(predicted, key=lambda name: float(by_run[name].mean()))
    weights = _stack(np.array([values[held] for values in predicted.values()]), observed[held])
    stacked = dict(zip(predicted, weights, strict=True))
    qaic = _qaic({name: fitted(name, "none") for name in predicted}, every)
    for row in rows:
        name = row["law"]
        if name not in predicted:
            continue
        row |= {
            "rmse_rolling": rmse(error[name]), "difference": None, "weight": float(stacked[name]), "qaic": qaic[name],
            "n_parameters": sum(len(every.sizes) if p.per_size else 1 for p in get_law(name).parameters),
        }  # fmt: skip
        if name != best and len(count) > 1:
            row["difference"] = paired_difference(by_run[best].tolist(), by_run[name].tolist())
        row |= _largest_size(name, select_points(curves, choices.with_law(name))[0], fitted)
    return {
        "source": curves.source, "where": curves.condition, "x": choices.x, "objective": choices.objective,
        "n_points": len(every), "n_runs": len(count),
        "n_held_out": int(held.sum()), "origins": list(origins), "rows": rows, "best": best,
        "baselines": {name: rmse(error[name]) for name in baselines},
        "qaic": "weights of the fit; dispersion of the law with the least; points of a run taken as independent",
        "verdict": _verdict(rows, best, {name: rmse(error[name]) for name in baselines}),
    }  # fmt: skip


def _origins(count: np.ndarray) -> tuple[float, ...]:
    usable = tuple(f for f in ORIGINS if math.floor(f * count.min()) >= 2 and math.floor(f * count.min()) < count.min())
    if not usable:
        raise InputError(f"a rolling origin needs curves of five points or more; the shortest has {count.min()}.")
    return usable


def _roll(every: Points, blocks: np.ndarray, fits: list[Fit]) -> np.ndarray:
    """(n,) ln L predicted at each held-out point by the fit before its block; nan elsewhere."""
    predicted = np.full(len(every), np.nan)
    for i, fit in enumerate(fits):
        here = blocks == i
        columns = {name: values[here] for name, values in every.columns.items()}
        predicted[here] = np.log(fit.predict(every.sizes[every.size[here]], np.exp(every.x[here]), **columns))
    return predicted


def _baselines(
    every: Points, blocks: np.ndarray, order: np.ndarray, origins: Sequence[float], count: np.ndarray, objective: str
) -> dict[str, np.ndarray]:
    """The last fitted value of the run, and the size's own line through the fitted points."""
    last, line = np.full(len(every), np.nan), np.full(len(every), np.nan)
    observed = every.ln_loss()
    for i, share in enumerate(origins):
        fitted = order < np.floor(share * count + 1e-9)[every.run]
        value = np.zeros(len(count))
        value[every.run[fitted]] = observed[fitted]  # in order of step: the last one stays
        here = blocks == i
        last[here] = value[every.run[here]]
        own = solve(every.take(fitted), get_law("per_size"), "linear" if objective == "linear" else "log")
        line[here] = own.intercept[every.size[here]] - own.slope[every.size[here]] * every.x[here]
    return dict(zip(BASELINES, (last, line), strict=True))


def _stack(predictions: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Weights >= 0 that sum to 1 whose mixture of predictions (laws, n) has the least squared error in ln L."""
    strong = 1e3 * math.sqrt(len(observed))
    weights, _rest = nnls(np.vstack([predictions.T, strong * np.ones(len(predictions))]), np.append(observed, strong))
    return weights / weights.sum()


def _qaic(fits: dict[str, Fit], every: Points) -> dict[str, float | None]:
    """Squares over the dispersion plus twice the parameters, less the smallest; None where it is not valid: weights
    that are no variances (linear, huber), a fit that did not converge, a parameter at a bound, or no scatter at all."""
    sums, qaic = {}, dict.fromkeys(fits)
    loss = np.exp(every.ln_loss())
    line = solve(every, get_law("per_size"))
    mu = np.clip(np.exp(line.eta), 1e-3, 0.999)
    weight = np.ones(len(every)) if every.trials is None else every.trials * mu / (1 - mu)
    for name, fit in fits.items():
        record, solution = fit.record, fit.solution
        assert solution is not None
        valid = record["objective"] in ("log", "binomial") and solution.converged and not solution.bound_hits
        if valid:
            parameters = record["goodness"]["n_parameters"]
            sums[name] = (float(np.sum(weight * (np.log(loss) - solution.eta) ** 2)), parameters)
    if len(sums) < 2:
        return qaic
    dispersion = min(s / (len(every) - p) for s, p in sums.values())
    if dispersion < 1e-20:  # rounding
        return qaic
    values = {name: s / dispersion + 2 * p for name, (s, p) in sums.items()}
    return qaic | {name: value - min(values.values()) for name, value in values.items()}


def _largest_size(name: str, own: Points, fitted: Any) -> dict[str, Any]:
    """Error on the largest size, left out; a law with free levels borrows a level linear in ln N, and says so."""
    if len(own.sizes) < 3:
        return {"rmse_largest_size": None, "largest_size": "needs three sizes"}
    nothing = {"rmse_largest_size": None, "largest_size": "says nothing of a size that was not fitted"}
    if (law := get_law(name)).shape is None and not law.predicts_unseen:
        return nothing
    largest = own.take(own.size == own.size.max())
    try:
        fit = add_intervals(fitted(name, "inter"))
        made = predict_new_size(fit, float(own.sizes[-1]), largest.x, columns=largest.columns)
    except InputError:
        return nothing
    return {"rmse_largest_size": rmse(made.ln_loss - largest.ln_loss()), "largest_size": made.rests_on}


def _verdict(rows: list[dict[str, Any]], best: str, baselines: dict[str, float]) -> str:
    """What the rolling origin says of the laws, in a sentence or two."""
    equal, worse = [], []
    for row in rows:
        if row["law"] == best or row["error"]:
            continue
        ends = row["difference"]["ci95"] if row["difference"] else None
        (worse if ends is not None and ends[0] > 0 else equal).append(row["law"])
    score = {row["law"]: row["rmse_rolling"] for row in rows if not row["error"]}
    if equal:
        said = f"The data cannot tell {best} and {', '.join(equal)} apart by what they predict of the rest of a curve."
    else:
        said = f"{best} predicts the rest of a curve best."
    if worse:
        said += f" Worse than {best}: {', '.join(worse)}."
    name = min(baselines, key=lambda rule: baselines[rule])
    if baselines[name] <= score[best]:
        said += f" No law predicts better than a rule without one ({name}, rmse {baselines[name]:.3g})."
    return said
