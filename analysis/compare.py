"""Compare: laws on the same curves by what they predict of points they have not seen, and algorithms by pairs of runs.

A law is judged by held-out errors first (rolling origin within curves, the largest size left out), then by QAIC where
that is valid. Errors are averaged within a run and compared between laws over runs, because points of one run are not
independent. Where the data cannot tell laws apart the comparison says so in a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls

from analysis.curves import Curves, load
from analysis.fit import Fit, fit_curves, select_points
from analysis.forecast import predict_new_size
from analysis.frontier import conditions
from analysis.intervals import add_intervals, paired_difference
from analysis.laws import get_law, law_names
from analysis.run_lines import run_lines
from analysis.solve import Points, solve
from analysis.splits import rmse
from scaling.schema import InputError, check_name

ORIGINS = (0.4, 0.6, 0.8)  # fitted share of each curve; the points up to the next origin are predicted
BASELINES = ("last value", "line per size")
LOSSES = 7  # losses at which compute is compared


# ---------------------------------------------------------------- laws


def compare_laws(
    source: Any,
    laws: Sequence[str],
    x: str = "train_flops",
    objective: str = "log",
    where: str | None = None,
    steps: str | None = None,
    points: str | None = None,
    size_column: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Held-out scores, QAIC and stacked weights of laws on the same curves, beside the rules without a law.

    Returns:
        `rows`: per law `rmse_rolling`, `difference` (of its mean squared error per run to the best law's, with 95 %
        interval over runs), `rmse_largest_size`, `qaic`, `weight` (stacked), `n_parameters`, `error`; `baselines`;
        `n_held_out`; `verdict`: a sentence.

    Raises:
        InputError: for fewer than two laws, an unknown law, a law of another grouping or tied axes, and where no law
        could be fitted.
    """
    curves = load(source)
    curves = curves.where(where) if where is not None else curves
    laws = list(dict.fromkeys(laws))
    for name in laws:
        check_name(name, law_names(), "law")
        law = get_law(name)
        if law.group or law.axes:
            raise InputError(f"law {name} does not describe the same curves as the others (it groups or ties axes).")
    if len(laws) < 2:
        raise InputError(f"a comparison needs two laws or more; there is {', '.join(laws) or 'none'}.")

    def fitted(law: str, split: str) -> Fit:
        return fit_curves(curves, law, x, objective, None, steps, points, split, size_column, seed)

    every, _notes = select_points(curves, x, size_column, steps, points)
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
            predicted[row["law"]] = _roll(every, blocks, [fitted(row["law"], f"intra:{f:g}") for f in origins])
        except InputError as error:
            row["error"] = str(error)
    if not predicted:
        raise InputError(f"no law could be scored: {rows[0]['error']}")
    baselines = _baselines(every, blocks, order, origins, count, objective)
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
        row |= _largest_size(name, every, fitted)
    return {
        "source": curves.source, "x": x, "objective": objective, "n_points": len(every), "n_runs": len(count),
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
    found = np.full(len(every), np.nan)
    for i, fit in enumerate(fits):
        here = blocks == i
        if fit.law.columns:
            raise InputError(f"law {fit.law.name} needs {fit.law.columns[0]} at each point; it is not compared.")
        found[here] = np.log(fit.predict(every.sizes[every.size[here]], np.exp(every.x[here])))
    return found


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
    that are no variances (linear, huber), a fit that did not converge, or a parameter at a bound."""
    sums, found = {}, dict.fromkeys(fits)
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
        return found
    dispersion = min(s / (len(every) - p) for s, p in sums.values())
    values = {name: s / dispersion + 2 * p for name, (s, p) in sums.items()}
    return found | {name: value - min(values.values()) for name, value in values.items()}


def _largest_size(name: str, every: Points, fitted: Any) -> dict[str, Any]:
    """Error on the largest size, left out; a law with free levels borrows a level linear in ln N, and says so."""
    if len(every.sizes) < 3:
        return {"rmse_largest_size": None, "largest_size": "needs three sizes"}
    nothing = {"rmse_largest_size": None, "largest_size": "says nothing of a size that was not fitted"}
    if (law := get_law(name)).shape is None and not law.predicts_unseen:
        return nothing
    largest = every.take(every.size == every.size.max())
    try:
        fit = add_intervals(fitted(name, "inter"))
        made = predict_new_size(fit, float(every.sizes[-1]), largest.x)
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


# ---------------------------------------------------------------- algorithms


def compare_by(
    source: Any,
    by: str = "algorithm",
    x: str = "train_flops",
    where: str | None = None,
    steps: str | None = None,
    points: str | None = None,
    size_column: str | None = None,
    baseline: str | None = None,
) -> dict[str, Any]:
    """Runs that differ in one column, paired by seed at each size: what the other value changes.

    Args:
        by: a column with two values or more that is constant in a run; `baseline`: one of its values, default grpo or
        the first. The others as for `analysis.fit`.

    Returns:
        `comparisons`: per size, condition and other value `n_pairs`, `efficiency`, `level` and `intercept` (other minus
        baseline: slope k, and ln L at the middle of the shared range of X and at X = 1; mean and 95 % interval over
        pairs) and `multiplier`:
        rows {loss, multiplier, ci95, n_pairs, identified}; above 1 the other needs that much less X for the same loss.
        `unpaired`: runs without a partner.
    """
    curves = load(source)
    curves = curves.where(where) if where is not None else curves
    groups = dict(curves.groups(by))
    if len(groups) < 2:
        raise InputError(f"by {by}: there is only {', '.join(map(str, groups))}; a comparison needs two values.")
    if baseline is not None:
        base = {str(value): value for value in groups}[check_name(baseline, map(str, groups), f"value of {by}")]
    else:
        base = "grpo" if "grpo" in groups else next(iter(groups))
    if "seed" not in curves.table or curves.table["seed"].isna().any():
        raise InputError(f"by {by}: pairs need a seed for every run; column seed is missing or blank.")
    # Runs of another task or learning rate are another condition: they are never paired or averaged with these.
    condition = conditions(curves, apart=(by,))
    lines = {value: _Lines(part, x, size_column, steps, points, condition) for value, part in groups.items()}
    comparisons, unpaired = [], []
    for value, other in lines.items():
        if value == base:
            continue
        of_base, of_other = lines[base].runs, other.runs
        twice = [key for runs in (of_base, of_other) for key, found in runs.items() if len(found) > 1]
        if twice:
            raise InputError(
                f"by {by}: several runs of size {twice[0][0]:.4g} share seed {twice[0][2]:g}; give every run a "
                "seed of its own, or choose among them with where."
            )
        keys = sorted(set(of_base) & set(of_other))
        unpaired += [f"{by} {base}: {of_base[k][0]}" for k in sorted(set(of_base) - set(keys))]
        unpaired += [f"{by} {value}: {of_other[k][0]}" for k in sorted(set(of_other) - set(keys))]
        for size, setting in sorted({key[:2] for key in keys}):
            pairs = [(of_base[k][0], of_other[k][0]) for k in keys if k[:2] == (size, setting)]
            comparisons.append({
                by: value if isinstance(value, str) else float(value), "baseline": str(base), "num_params": float(size),
                "condition": setting,
                **_pairs(lines[base], other, pairs),
            })  # fmt: skip
    if not comparisons:
        raise InputError(f"by {by}: no size and seed has a run of {base} and one of another value; nothing is paired.")
    return {"source": curves.source, "by": by, "x": x, "comparisons": comparisons, "unpaired": unpaired}


class _Lines:
    """One line per run of one value: `runs` {(size, condition, seed): [names]}; slope, level, range of X by name."""

    def __init__(
        self, curves: Curves, x: str, size_column: str | None, steps: str | None, points: str | None,
        condition: dict[str, str],
    ):  # fmt: skip
        chosen, _notes = select_points(curves, x, size_column, steps, points)
        lines = run_lines(chosen)
        seed = curves.table.groupby("run_id")["seed"].first()
        self.runs: dict[tuple[float, str, float], list[str]] = {}
        self.line: dict[str, tuple[float, float, float, float, float]] = {}
        for i, name in enumerate(lines.runs):
            key = (float(lines.num_params[i]), condition[name], float(seed[name]))
            self.runs.setdefault(key, []).append(name)
            of_run = chosen.x[np.array(chosen.runs)[chosen.run] == name]
            self.line[name] = (lines.slope[i], lines.level[i], lines.centre[i], of_run.min(), of_run.max())


def _pairs(base: _Lines, other: _Lines, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    ends = [base.line[a][3:] for a, _ in pairs] + [other.line[b][3:] for _, b in pairs]
    low, high = max(e[0] for e in ends), min(e[1] for e in ends)
    middle = (low + high) / 2

    def at(line: tuple[float, ...], ln_x: float) -> float:
        return line[1] - line[0] * (ln_x - line[2])

    sides = [(base.line[a], other.line[b]) for a, b in pairs]
    slope = paired_difference([a[0] for a, _ in sides], [b[0] for _, b in sides])
    level, intercept = (
        paired_difference([at(a, ln_x) for a, _ in sides], [at(b, ln_x) for _, b in sides]) for ln_x in (middle, 0.0)
    )
    # Losses that every run of the pairs passes between the ends of its own line.
    highest = min(at(line, line[3]) for pair in sides for line in pair)
    lowest = max(at(line, line[4]) for pair in sides for line in pair)
    rows = []
    falling = all(line[0] > 0 for pair in sides for line in pair)
    if falling and lowest < highest:
        for ln_loss in np.linspace(highest, lowest, LOSSES):
            reach = [[line[2] + (line[1] - ln_loss) / line[0] for line in pair] for pair in sides]
            gain = paired_difference([r[1] for r in reach], [r[0] for r in reach])  # ln X of the base minus the other's
            interval = None if gain["ci95"] is None else [math.exp(min(max(e, -700), 700)) for e in gain["ci95"]]
            rows.append({
                "loss": math.exp(ln_loss), "multiplier": math.exp(gain["mean"]), "ci95": interval, "n_pairs": gain["n"],
                "identified": interval is not None,
            })  # fmt: skip
    why = "" if rows else "a run's loss does not fall" if not falling else "the runs share no range of losses"
    return {"n_pairs": len(pairs), "efficiency": slope, "level": level, "level_at": math.exp(middle),
            "intercept": intercept, "multiplier": rows, "no_multiplier": why}  # fmt: skip
