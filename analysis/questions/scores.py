"""Score predictions on points that no fit saw, and check that no held-out value leaks into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices, parse_split
from analysis.fitting.fit import fit_curves
from analysis.fitting.goodness import rmse
from analysis.fitting.held_out import held_out
from analysis.fitting.points import Points, select_points
from analysis.fitting.record import Fit
from analysis.intervals.fitted import fit_with_intervals
from analysis.intervals.record import add_intervals
from analysis.missing import Missing, attempt
from analysis.questions.new_size import first_points, predict_new_size
from analysis.questions.prediction import predict_same_run
from scaling.schema import InputError

# ---------------------------------------------------------------- scores


def detect_leak(protocol: Callable[[Curves], np.ndarray], curves: Curves, held: pd.Series) -> bool:
    """Whether the predictions of a protocol move when the held-out values (mask over the rows) are disturbed."""
    table = curves.table
    other = np.clip(1 - 0.9 * table["test_loss"], 0.02, 1.0)  # far from the truth, and legal
    disturbed = replace(curves, table=table.assign(test_loss=table["test_loss"].where(~held.to_numpy(), other)))
    one, two = protocol(curves), protocol(disturbed)
    return not np.array_equal(one, two)


class Score(TypedDict):
    """Errors in ln L of a law and of the rules without a law on held-out points; see `analysis.score_protocols`."""

    tuned_on_held_out: str
    n_points: int
    x_factor: float
    size_factor: float | None
    rmse_ln_loss: dict[str, float]
    bias_ln_loss: dict[str, float]
    interval_coverage: float | None
    rests_on: str
    leak: bool


@dataclass(frozen=True)
class ProtocolScore:
    protocol: str
    split: str
    score: Score | Missing

    def json(self) -> dict[str, Any]:
        score = self.score.json() if isinstance(self.score, Missing) else self.score
        return {"protocol": self.protocol, "split": self.split, **score}


def score_protocols(
    curves: Curves, choices: Choices, calibrate: int = 10, fraction: float = 0.3
) -> list[ProtocolScore]:
    """Held-out scores of the leak-free protocols, in ln L; see `analysis.score_protocols`."""
    chosen = choices.rows(curves)
    scores = []
    protocols = [
        ("inter-model, level predicted", "inter", 0),
        (f"inter-model, level from {calibrate} points", "inter", calibrate),
        (f"intra-model, first {100 * fraction:.0f} %", f"intra:{fraction:g}", 0),
    ]
    for name, split, count in protocols:
        of_split = replace(choices, where=None, split=split)
        scores.append(
            ProtocolScore(
                name, split, attempt(lambda count=count, of_split=of_split: score_one(chosen, of_split, count))
            )
        )
    return scores


def _ends_of_runs(fit: Fit, test: Points, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) 95 % ends of ln L at n held-out points of runs that go on."""
    low, high = np.empty(len(test)), np.empty(len(test))
    for i, name in enumerate(test.runs):
        here = test.run == i
        columns = {column: values[here] for column, values in test.columns.items()}
        low[here], high[here] = predict_same_run(fit, name, test.x[here], seed, **columns)
    return low, high


def score_one(curves: Curves, choices: Choices, count: int) -> Score:
    """The score of one protocol: the split of the choices, with the level from the first `count` points held out."""
    every, _notes = select_points(curves, choices)
    law = choices.formula
    if law.group and choices.split == "inter":
        raise InputError(f"law {law.name} says nothing of a {law.each} that was not fitted.")
    held = held_out(parse_split(choices.split), every.run, every.size)
    inter = choices.split == "inter"
    first = None
    if count:
        first = first_points(every.take(held), count)
        # The interval of a calibrated run is that of the run going on: other seeds of the size are not predicted by it.
        mine = np.array(every.runs)[every.run] == first.runs[0]
        held = held & mine & ~np.isin(every.step, first.step)
        if not held.any():
            raise InputError(f"run {first.runs[0]} has {count} points or fewer: nothing is left to predict.")
    test = every.take(held)

    def run(part: Curves) -> tuple[Fit, dict[str, np.ndarray | None], tuple[np.ndarray, np.ndarray] | None, str]:
        # Of a run that goes on, intervals are made once, of the real curves (below).
        fit = fit_with_intervals(part, choices, parameters=False) if inter else fit_curves(part, choices)
        used = fit.points
        assert used is not None
        rules: dict[str, np.ndarray | None] = {}
        if not inter:
            at = np.array([fit.points.runs.index(name) for name in test.runs])[test.run]  # type: ignore[union-attr]
            sizes = test.sizes[test.size]
            rules["law"] = np.log(fit.predict(sizes, np.exp(test.x), **test.columns))
            last = {i: j for j, i in enumerate(used.run)}
            rules["last value"] = used.ln_loss()[np.array([last[i] for i in at])]
            line = {row["num_params"]: row for row in fit.per_size}
            if all(line[n]["efficiency"] is not None for n in test.sizes):
                rules["line per size"] = np.array(
                    [line[n]["intercept"] - line[n]["efficiency"] * v for n, v in zip(sizes, test.x, strict=True)]
                )
            own = "each run's own line and noise" if fit.law.slope is not None else "the law's curve of each size"
            return fit, rules, None, own
        new = float(test.sizes[0])
        mine = None
        if count:
            again, _more = select_points(part, choices)
            mine = first_points(again.take(np.isclose(again.sizes[again.size], new, rtol=1e-6)), count)
        made = predict_new_size(fit, new, test.x, mine, choices.seed, test.columns)
        rules["law"] = made.ln_loss
        near = used.size == used.size.max()
        order = np.argsort(used.x[near], kind="stable")
        rules["nearest size"] = np.interp(test.x, used.x[near][order], used.ln_loss()[near][order])
        if mine is not None:
            rules["last value"] = np.full(len(test), float(mine.ln_loss()[-1]))
            if np.ptp(mine.x) > 0 and len(mine) > 2:
                rules["line per size"] = np.polyval(np.polyfit(mine.x, mine.ln_loss(), 1), test.x)
        return fit, rules, made.run, made.rests_on

    made = run(curves)
    fit, rules, ends, basis = made
    if not inter:
        ends = _ends_of_runs(add_intervals(fit), test, choices.seed)
    observed = test.ln_loss()
    if not np.isfinite(observed).all():
        raise InputError("a held-out test loss is 0 and eval_problems is unknown, so its log has no floor.")
    names, step = np.array(test.runs)[test.run], test.step
    keys = pd.MultiIndex.from_arrays([names, step])
    rows = pd.MultiIndex.from_arrays([curves.table["run_id"].astype(str), curves.table["step"]]).isin(keys)

    def together(part: Curves) -> np.ndarray:
        said = made if part is curves else run(part)
        return np.concatenate([value for value in said[1].values() if value is not None])

    leak = detect_leak(together, curves, pd.Series(rows))
    assert fit.points is not None
    furthest = np.exp(fit.points.x.max())
    if not inter:
        reach = np.array([fit.points.x[fit.points.run == fit.points.runs.index(n)].max() for n in test.runs])[test.run]
        x_factor = float(np.exp(np.max(test.x - reach)))
    else:
        x_factor = float(np.exp(test.x.max()) / furthest)
    known = {name: value for name, value in rules.items() if value is not None}
    return {
        "tuned_on_held_out": f"level on the first {count} points of the size" if count else "nothing",
        "n_points": len(test), "x_factor": x_factor,
        "size_factor": float(test.sizes[0] / fit.points.sizes[-1]) if inter else None,
        "rmse_ln_loss": {name: rmse(value - observed) for name, value in known.items()},
        "bias_ln_loss": {name: float(np.mean(value - observed)) for name, value in known.items()},
        "interval_coverage": None if ends is None else
        float(np.mean((ends[0] <= observed) & (observed <= ends[1]))),
        "rests_on": basis, "leak": leak,
    }  # fmt: skip
