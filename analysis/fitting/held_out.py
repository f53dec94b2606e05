"""Hold points out before anything is fitted, and score their prediction: no fit uses a value of a held-out point."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.fitting.choices import Split
from analysis.fitting.goodness import rmse
from analysis.fitting.points import Points
from analysis.fitting.record import Fit
from analysis.fitting.solution import Solution
from analysis.fitting.solve import solve
from analysis.laws import get_law
from scaling.schema import InputError


def held_out(split: Split, run: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Mask of the held-out points; points stand in order of step within their run.

    Args:
        run: index of the run of each point, (n,).
        size: index of the size of each point, ascending with size, (n,).
    """
    if split.kind == "none":
        return np.zeros(len(run), bool)
    if split.kind == "inter":
        if size.max() < 2:
            raise InputError(
                f"split: inter needs three sizes or more, the data have {size.max() + 1}; use intra:FRACTION."
            )
        return size == size.max()
    count = np.bincount(run)
    order = np.arange(len(run)) - np.concatenate([[0], np.cumsum(count)])[run]  # 0, 1, 2, ... in each run
    fitted = np.floor(split.fraction * count + 1e-9)
    if (fitted < 2).any():
        raise InputError(
            f"split: intra:{split.fraction:g} leaves {int(fitted.min())} of {count[fitted.argmin()]} points to fit "
            "in a curve, a line needs two; raise the fraction."
        )
    return order >= fitted[run]


def score(
    ln_loss: np.ndarray,
    predictions: dict[str, np.ndarray | None],
    x: np.ndarray,
    x_fitted: np.ndarray,
) -> dict[str, Any]:
    """Held-out errors of a law beside the baselines that know no law.

    Args:
        ln_loss: ln of the observed test loss of the held-out points, (n,).
        predictions: ln of the predicted loss by name, (n,) each, or None where a rule cannot predict.
        x: X of the held-out points, (n,); x_fitted: the largest fitted X of the curve of each, (n,).

    Returns:
        `n_points`, `rmse_ln_loss` and `bias_ln_loss` by name, `x_factor`: how far X is extrapolated at most.
    """
    known = {name: None if p is None else p - ln_loss for name, p in predictions.items()}
    return {
        "n_points": len(ln_loss),
        "rmse_ln_loss": {name: None if r is None else rmse(r) for name, r in known.items()},
        "bias_ln_loss": {name: None if r is None else float(np.mean(r)) for name, r in known.items()},
        "x_factor": float(np.max(x / x_fitted)),
    }


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
    scored = score(
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
        **scored,
    }
