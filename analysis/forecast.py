"""Predict the run that was not paid for, with an interval, and score such predictions on points that no fit saw.

Three situations, each with its recipe (coverage measured in simulated studies where the recipe comes from; see
`analysis.intervals` for what the tests of runs assume):

    a fitted size             by its own runs: mean curve, and a new run as it would be measured
    a new size, predicted     slope by the law; level in the middle of a curve linear in ln N; nothing tuned on the size
    a new size, calibrated    the level from the mean of its first m points, a number that is declared

Draws: a shape of variance by its posterior weight, a scale, n0 and k_max from their test, then level, misfit, seeds and
the noise of an evaluation. One run per size: the spread between seeds is borrowed from the reference replicates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from analysis.curves import Curves, load
from analysis.fit import Fit, fit_curves, select_points
from analysis.intervals import BORROWED, LEVEL, RATIO, LawTest, RunTest, add_intervals
from analysis.laws import get_law, saturation
from analysis.run_lines import RunLines
from analysis.solve import Points
from analysis.splits import held_out, parse_split, rmse
from scaling.schema import InputError

DRAWS = 4000
# Misfit of levels about a line in ln N, in run variances: levels miss it by far more than slopes miss k(N).
LEVEL_MISFIT = (0.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)


@dataclass(frozen=True)
class Prediction:
    """ln L at n values of X: the point, and 95 % ends for the mean curve and for one measured run; ends are None where
    no method with measured coverage is known. `rests_on`: in words."""

    ln_loss: np.ndarray
    mean: tuple[np.ndarray, np.ndarray] | None
    run: tuple[np.ndarray, np.ndarray] | None
    rests_on: str


def _ends(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(draws, (LEVEL / 2, 1 - LEVEL / 2), axis=0)
    return np.minimum(low, 0.0), np.minimum(high, 0.0)


def _noise(lines: RunLines, ln_loss: np.ndarray, dispersion: float) -> np.ndarray:
    """Variance of one evaluation about its run's curve, in ln L."""
    known = lines.trials[np.isfinite(lines.trials)]
    loss = np.exp(np.minimum(ln_loss, 0.0))
    counts = (1 - loss) / np.maximum(loss, 1e-6) / float(np.median(known)) if len(known) else 0.0
    return np.asarray(dispersion * (counts + lines.extra))


def _test(fit: Fit) -> RunTest:
    if fit.test is None:
        raise InputError("a forecast needs the runs behind the fit: fit the source again, and add their intervals.")
    return fit.test


# ---------------------------------------------------------------- a fitted size


def predict_fitted_size(fit: Fit, num_params: float, ln_x: np.ndarray, seed: int = 0) -> Prediction:
    """Mean curve and a new measured run of a size that was fitted, by its own runs; the point is the law's."""
    test = _test(fit)
    found = np.flatnonzero(np.isclose(test.lines.sizes, num_params, rtol=1e-6))
    if len(found) == 0 or not (test.lines.size == found[0]).any():
        raise InputError(f"size {num_params:.4g} has no run with a line in this fit; there are {test.lines.sizes}.")
    i, rng = int(found[0]), np.random.default_rng([seed, 2])
    own = np.flatnonzero(test.lines.size == i)
    dispersion = float(test.lines.dispersion[own].mean())
    means, runs, basis = [], [], test.basis
    for at in ln_x:
        h, variance = test.lines.at(float(at))
        sizes = test.sizes(h, variance)
        if sizes.df > 0:
            cell = rng.choice(len(sizes.weight), DRAWS, p=sizes.weight)
            spread, centre, n = sizes.variance[cell, i], sizes.mean[cell, i], sizes.runs_per_size[i]
            t = rng.standard_t(sizes.degrees(i), DRAWS)
            mean, run = centre + t * np.sqrt(spread / n), centre + t * np.sqrt(spread * (1 + 1 / n))
        else:
            seeds = (BORROWED[0] * (at - test.lines.centre[own[0]])) ** 2 + BORROWED[1] ** 2
            z = rng.standard_normal((2, DRAWS))
            mean = h[own[0]] + z[0] * math.sqrt(variance[own[0]] + seeds)
            run = mean + z[1] * math.sqrt(seeds)
            basis = "one run per size: its own noise and a borrowed seed spread (slope .0025, level .004)"
        means.append(mean)
        runs.append(run + rng.standard_normal(DRAWS) * np.sqrt(_noise(test.lines, run, dispersion)))
    point = np.log(fit.predict(num_params, np.exp(ln_x)))
    return Prediction(point, _ends(np.array(means).T), _ends(np.array(runs).T), basis)


def predict_same_run(fit: Fit, run: str, ln_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % ends of ln L of a run that goes on, as it would be measured: its own line and noise, t(points - 2)."""
    lines = _test(fit).lines
    if run not in lines.runs:
        raise InputError(f"run {run} has no line in this fit.")
    i = lines.runs.index(run)
    h, variance = zip(*((a[i], v[i]) for a, v in (lines.at(float(at)) for at in ln_x)), strict=True)
    total = np.array(variance) + _noise(lines, np.array(h), float(lines.dispersion[i]))
    half = student.isf(LEVEL / 2, max(lines.points[i] - 2, 1)) * np.sqrt(total)
    return np.array(h) - half, np.minimum(np.array(h) + half, 0.0)


# ---------------------------------------------------------------- a new size


@dataclass(frozen=True)
class _SlopeDraws:
    """Draws of a new size's slope: of its mean curve, and the variance that a seed adds; (DRAWS,) each."""

    mean: np.ndarray
    seed_sd: np.ndarray


def _slopes(law: LawTest, num_params: float, rng: np.random.Generator, repeats: bool) -> _SlopeDraws:
    cell = rng.choice(len(law.weight), DRAWS, p=law.weight)
    scale = law.scale[cell] * law.df / rng.chisquare(law.df, DRAWS)
    # n0 where the signed root of the profile equals a normal draw.
    excess = np.sqrt(np.maximum(law.square - law.least[:, None], 0))
    best = law.square.argmin(1)
    signed = np.where(np.arange(excess.shape[1]) < best[:, None], -excess, excess)
    signed = np.maximum.accumulate(signed, axis=1)
    z = rng.standard_normal(DRAWS) * np.sqrt(scale)
    ln_n0 = np.array([np.interp(z[i], signed[c], law.ln_n0) for i, c in enumerate(cell)])
    near = np.clip(np.searchsorted(law.ln_n0, ln_n0), 0, len(law.ln_n0) - 1)
    k_max = law.slope_at[cell, near] + rng.standard_normal(DRAWS) * np.sqrt(scale / law.information[cell, near])
    g, r, w = (np.array(law.cells)[:, j] for j in range(3))
    f = saturation(np.append(law.sizes, num_params), math.exp(law.centre))
    u = np.clip(f / f[:-1].max(), 0.03, None)
    per_run = np.repeat(u[:-1], law.runs_per_size.astype(int))
    grown = u[-1] ** (2 * g) / np.array([np.median(per_run ** (2 * power)) for power in g])
    missed = (w * (1 + r) * law.median * grown)[cell] / law.runs_per_size.mean() * scale
    mean = np.maximum(k_max, 0) * saturation(num_params, np.exp(ln_n0)) + rng.standard_normal(DRAWS) * np.sqrt(missed)
    seeds = np.sqrt((r * law.median * grown)[cell] * scale) if repeats else np.full(DRAWS, BORROWED[0])
    return _SlopeDraws(mean, seeds)


@dataclass(frozen=True)
class _Levels:
    """Levels of runs at the middle of their curves against ln N: the new size's centre and level."""

    centre: float
    point: float
    mean: np.ndarray
    seed_sd: np.ndarray


def _levels(lines: RunLines, num_params: float, rng: np.random.Generator) -> _Levels:
    """Level in the middle of the curve, linear in ln N, with a misfit of its own; so is where the middle is."""
    sizes, index = np.unique(lines.num_params, return_inverse=True)
    ln_n, new = np.log(sizes), np.array([1.0, math.log(num_params)])
    count = np.bincount(index)
    design = np.column_stack([np.ones(len(sizes)), ln_n])
    centre = np.bincount(index, lines.centre) / count
    centre_new = float(new @ np.linalg.lstsq(design, centre, rcond=None)[0])
    level, variance = lines.level - lines.slope * (centre[index] - lines.centre), lines.level_variance
    median, repeats = float(np.median(variance)), count.max() > 1
    df = len(level) - 2
    cells, log_weight, found = [], [], []
    for r in RATIO if repeats else (BORROWED[1] ** 2 / median,):
        for w in LEVEL_MISFIT:
            v = variance + r * median
            summed = np.bincount(index, 1 / v)
            mean = np.bincount(index, level / v) / summed
            within = float(np.sum((level - mean[index]) ** 2 / v))
            of_mean = 1 / summed + w * (1 + r) * median / count.mean()
            information = design.T @ (design / of_mean[:, None])
            b = np.linalg.solve(information, design.T @ (mean / of_mean))
            square = within + float(np.sum((mean - design @ b) ** 2 / of_mean))
            cells.append((r, w))
            found.append((b, np.linalg.inv(information), max(square, 1e-12) / df))
            log_weight.append(
                -0.5 * (np.log(v).sum() + np.log(summed).sum() + np.log(of_mean).sum()
                        + np.linalg.slogdet(information)[1] + df * math.log(max(square, 1e-12)))
            )  # fmt: skip
    weight = np.exp(np.array(log_weight) - max(log_weight))
    cell = rng.choice(len(cells), DRAWS, p=weight / weight.sum())
    scale = np.array([f[2] for f in found])[cell] * df / rng.chisquare(df, DRAWS)
    r, w = (np.array(cells)[cell, j] for j in (0, 1))
    point = np.array([new @ f[0] for f in found])
    spread = np.array([new @ f[1] @ new for f in found])[cell] + w * (1 + r) * median / count.mean()
    mean = point[cell] + rng.standard_normal(DRAWS) * np.sqrt(spread * scale)
    seeds = np.sqrt(r * median * scale) if repeats else np.full(DRAWS, BORROWED[1])
    best = float(np.sum(weight * point) / weight.sum())
    return _Levels(centre_new, best, mean, seeds)


def _seed_correlation(lines: RunLines) -> float:
    """Correlation of slope and level between runs of one size; 0 where each size has one run."""
    count = np.bincount(lines.size, minlength=len(lines.sizes))
    if count.max() < 2:
        return 0.0
    away = [v - (np.bincount(lines.size, v, len(count)) / np.maximum(count, 1))[lines.size]
            for v in (lines.slope, lines.level)]  # fmt: skip
    power = math.sqrt(float(away[0] @ away[0]) * float(away[1] @ away[1]))
    return float(away[0] @ away[1]) / power if power > 0 else 0.0


def predict_new_size(
    fit: Fit, num_params: float, ln_x: np.ndarray, first: Points | None = None, seed: int = 0
) -> Prediction:
    """A size that was not fitted: level predicted, or calibrated on its `first` points.

    A law with a level of N gives the point by itself; no method with measured coverage is known for its interval.
    """
    test, law = _test(fit), fit.law
    if first is None and law.predicts_unseen:
        if law.columns:
            raise InputError(f"law {law.name} predicts at a given {law.columns[0]}; use fit.predict.")
        return Prediction(np.log(fit.predict(num_params, np.exp(ln_x))), None, None, "the law's own level of N")
    if law.shape is None or test.law is None:
        raise InputError(
            f"law {law.name} says nothing of a size that was not fitted (N = {num_params:.4g}): use efficiency or a "
            "law with a level of N, with three runs at two sizes or more."
        )
    rng = np.random.default_rng([seed, 3])
    lines, repeats = test.lines, np.bincount(test.lines.size).max() > 1
    slopes = _slopes(test.law, num_params, rng, bool(repeats))
    k, dispersion = float(fit.efficiency(num_params)), float(lines.dispersion.mean())
    z = rng.standard_normal((2, DRAWS, 1))
    rho = _seed_correlation(lines)
    seed_slope = slopes.seed_sd[:, None] * z[0]
    if first is None:
        levels = _levels(lines, num_params, rng)
        away = ln_x - levels.centre
        mean = levels.mean[:, None] - slopes.mean[:, None] * away
        seeds = levels.seed_sd[:, None] * (rho * z[0] + math.sqrt(1 - rho**2) * z[1]) - seed_slope * away
        point = levels.point - k * away
        basis = (
            f"slope by law {law.name}, level linear in ln N over {len(lines.sizes)} sizes, nothing tuned on the size"
        )
    else:
        centre, level = float(first.x.mean()), float(first.ln_loss().mean())
        away = ln_x - centre
        error = math.sqrt(float(_noise(lines, np.array(level), dispersion)) / len(first))
        at = level + rng.standard_normal((DRAWS, 1)) * error
        # These points are of one run: its seed is in them, and what follows is the same run.
        mean = at - slopes.mean[:, None] * away
        seeds = -seed_slope * away
        point = level - k * away
        basis = f"slope by law {law.name}, level from the first {len(first)} points of the size"
    run = mean + seeds
    run = run + rng.standard_normal(run.shape) * np.sqrt(_noise(lines, run, dispersion))
    if not repeats:
        basis += "; one run per size: borrowed seed spread (slope .0025, level .004)"
    return Prediction(point, _ends(mean + (seeds if first is not None else 0)), _ends(run), basis)


# ---------------------------------------------------------------- a forecast


def forecast(
    source: Any,
    num_params: float,
    at: float | list[float],
    law: str = "efficiency",
    x: str = "train_flops",
    objective: str = "log",
    where: str | None = None,
    steps: str | None = None,
    points: str | None = None,
    size_column: str | None = None,
    calibrate: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """The loss of a size at X = `at`, with 95 % intervals of the mean curve and of one run as it would be measured.

    Args:
        num_params: N in the unit of the size column; at: one X or several.
        calibrate: m, the number of first points of that size (in the data, left out of the fit) that set its level.
        The others as for `analysis.fit`.

    Returns:
        A document: `law`, `size`, `fitted_size`, `x_factor` (X beyond the fitted), `size_factor`, `rests_on`,
        `tuned_on_size`, `predictions` [{x, loss, ci95_mean, ci95_run}], `warnings`.

    Raises:
        InputError: where the law cannot predict, or the size has no points to calibrate on.
    """
    curves = load(source)
    at_x = np.atleast_1d(np.asarray(at, float))
    if not (np.isfinite(at_x).all() and (at_x > 0).all() and math.isfinite(num_params) and num_params > 0):
        raise InputError(f"forecast: size {num_params:g} and at {at} must be numbers above 0.")
    first = None
    if calibrate:
        formula = get_law(law)
        every, _notes = select_points(curves.where(where) if where else curves, x, size_column, steps, points, formula)
        here = np.isclose(every.sizes[every.size], num_params, rtol=1e-6)
        if here.sum() < calibrate:
            raise InputError(
                f"forecast: size {num_params:.4g} has {int(here.sum())} points in the data, calibrate asks for "
                f"{calibrate}; sizes: {', '.join(f'{s:.4g}' for s in every.sizes)}."
            )
        first = first_points(every.take(here), calibrate)
        column = size_column or (
            "num_params_non_embedding" if "num_params_non_embedding" in curves.table else "num_params"
        )
        curves = replace(curves, table=curves.table[~np.isclose(curves.table[column], num_params, rtol=1e-6)])
    fit = add_intervals(fit_curves(curves, law, x, objective, where, steps, points, "none", size_column, seed))
    known = [row["num_params"] for row in fit.per_size]
    seen = any(math.isclose(size, num_params, rel_tol=1e-6) for size in known)
    if seen:
        found = predict_fitted_size(fit, num_params, np.log(at_x), seed)
    else:
        found = predict_new_size(fit, num_params, np.log(at_x), first, seed)
    assert fit.points is not None
    furthest = (
        fit.points.x[np.isclose(fit.points.sizes[fit.points.size], num_params, rtol=1e-6)] if seen else fit.points.x
    )
    furthest = float(np.exp(furthest.max()))
    rows = [
        {
            "x": float(value), "loss": float(np.exp(min(found.ln_loss[i], 0.0))), "x_factor": float(value / furthest),
            **{name: None if ends is None else [float(np.exp(ends[0][i])), float(np.exp(ends[1][i]))]
               for name, ends in (("ci95_mean", found.mean), ("ci95_run", found.run))},
        }
        for i, value in enumerate(at_x)
    ]  # fmt: skip
    warnings = [*fit.warnings]
    if (found.ln_loss > 0).any():
        warnings.append("the law says a loss above 1 there: shown as 1")
    warnings += [
        f"at X = {row['x']:.3g} the law is outside what the size's own runs say: it misses them"
        for row in rows
        if seen and row["ci95_mean"] and not row["ci95_mean"][0] <= row["loss"] <= row["ci95_mean"][1]
    ]
    return {
        "law": law, "formula": fit.law.formula, "x": x, "size_column": fit.record["size_column"],
        "size": float(num_params), "fitted_size": seen, "size_factor": float(num_params / max(known)),
        "n_points": fit.record["n_points"], "n_runs": fit.record["n_runs"], "sizes": known,
        "window": fit.record["window"],
        "rests_on": found.rests_on, "tuned_on_size": f"level on its first {calibrate} points" if calibrate else
        "its own runs" if seen else "nothing", "predictions": rows, "warnings": warnings,
    }  # fmt: skip


def first_points(points: Points, count: int) -> Points:
    """The `count` points with the lowest steps of the first run. Raises InputError where that run has fewer."""
    mine = np.flatnonzero(points.run == points.run.min())
    # Never topped up from the next run: that one is to be predicted.
    if len(mine) < count:
        raise InputError(f"run {points.runs[0]} has {len(mine)} points; its first {count} cannot set a level.")
    mask = np.zeros(len(points), bool)
    mask[mine[np.argsort(points.step[mine], kind="stable")[:count]]] = True
    return points.take(mask)


# ---------------------------------------------------------------- scores


def detect_leak(protocol: Callable[[Curves], np.ndarray], curves: Curves, held: pd.Series) -> bool:
    """Whether the predictions of a protocol move when the held-out values (mask over the rows) are disturbed."""
    table = curves.table
    other = np.clip(1 - 0.9 * table["test_loss"], 0.02, 1.0)  # far from the truth, and legal
    disturbed = replace(curves, table=table.assign(test_loss=table["test_loss"].where(~held.to_numpy(), other)))
    one, two = protocol(curves), protocol(disturbed)
    return not np.array_equal(one, two)


def score_protocols(
    source: Any,
    law: str = "efficiency",
    x: str = "train_flops",
    objective: str = "log",
    where: str | None = None,
    steps: str | None = None,
    points: str | None = None,
    size_column: str | None = None,
    calibrate: int = 10,
    fraction: float = 0.3,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Held-out scores of the leak-free protocols, in ln L: inter-model with the level predicted and calibrated on the
    first `calibrate` points, intra-model on the first `fraction` of each curve.

    Each entry: `protocol`, `tuned_on_held_out`, `n_points`, `x_factor`, `size_factor`, `rmse_ln_loss` by rule (law and
    the rules without a law), `bias_ln_loss`, `interval_coverage` (share of held-out points inside the interval of a
    measured run), `leak` (whether disturbing the held-out values moved a prediction; it must be false), or `error`.
    """
    curves = load(source)
    options = {"law": law, "x": x, "objective": objective, "steps": steps, "points": points, "seed": seed}
    chosen = curves.where(where) if where else curves
    formula = get_law(law)
    found = []
    protocols = [
        ("inter-model, level predicted", "inter", 0),
        (f"inter-model, level from {calibrate} points", "inter", calibrate),
        (f"intra-model, first {100 * fraction:.0f} %", f"intra:{fraction:g}", 0),
    ]
    for name, split, count in protocols:
        try:
            entry = _score_one(chosen, formula, split, count, options, size_column)
        except InputError as error:
            entry = {"error": str(error)}
        found.append({"protocol": name, "split": split, **entry})
    return found


def _score_one(
    curves: Curves, law: Any, split: str, count: int, options: dict[str, Any], size_column: str | None
) -> dict[str, Any]:
    every, _notes = select_points(curves, options["x"], size_column, options["steps"], options["points"], law)
    held = held_out(parse_split(split), every.run, every.size)
    inter = split == "inter"
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
        fit = add_intervals(
            fit_curves(part, options["law"], options["x"], options["objective"], None, options["steps"],
                       options["points"], split, size_column, options["seed"])
        )  # fmt: skip
        used = fit.points
        assert used is not None
        rules: dict[str, np.ndarray | None] = {}
        if not inter:
            at = np.array([fit.points.runs.index(name) for name in test.runs])[test.run]  # type: ignore[union-attr]
            sizes = test.sizes[test.size]
            rules["law"] = np.log(fit.predict(sizes, np.exp(test.x)))
            last = {i: j for j, i in enumerate(used.run)}
            rules["last value"] = used.ln_loss()[np.array([last[i] for i in at])]
            line = {row["num_params"]: row for row in fit.per_size}
            if all(line[n]["efficiency"] is not None for n in test.sizes):
                rules["line per size"] = np.array(
                    [line[n]["intercept"] - line[n]["efficiency"] * v for n, v in zip(sizes, test.x, strict=True)]
                )
            low, high = np.empty(len(test)), np.empty(len(test))
            for i, name in enumerate(test.runs):
                here = test.run == i
                low[here], high[here] = predict_same_run(fit, name, test.x[here])
            return fit, rules, (low, high), "each run's own line and noise"
        new = float(test.sizes[0])
        mine = None
        if count:
            again, _more = select_points(part, options["x"], size_column, options["steps"], options["points"], law)
            mine = first_points(again.take(np.isclose(again.sizes[again.size], new, rtol=1e-6)), count)
        made = predict_new_size(fit, new, test.x, mine, options["seed"])
        rules["law"] = made.ln_loss
        near = used.size == used.size.max()
        order = np.argsort(used.x[near], kind="stable")
        rules["nearest size"] = np.interp(test.x, used.x[near][order], used.ln_loss()[near][order])
        if mine is not None:
            rules["last value"] = np.full(len(test), float(mine.ln_loss()[-1]))
            if np.ptp(mine.x) > 0 and len(mine) > 2:
                rules["line per size"] = np.polyval(np.polyfit(mine.x, mine.ln_loss(), 1), test.x)
        return fit, rules, made.run, made.rests_on

    fit, rules, ends, basis = run(curves)
    observed = test.ln_loss()
    if not np.isfinite(observed).all():
        raise InputError("a held-out test loss is 0 and eval_problems is unknown, so its log has no floor.")
    names, step = np.array(test.runs)[test.run], test.step
    keys = pd.MultiIndex.from_arrays([names, step])
    rows = pd.MultiIndex.from_arrays([curves.table["run_id"].astype(str), curves.table["step"]]).isin(keys)
    together = lambda part: np.concatenate([v for v in run(part)[1].values() if v is not None])  # noqa: E731
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
