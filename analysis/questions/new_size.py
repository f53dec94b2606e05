"""Predict a size that was not fitted, with its level predicted or calibrated on its first points.

    predicted     slope by the law; level in the middle of a curve linear in ln N; nothing tuned on the size
    calibrated    the level from the mean of its first m points, a number that is declared; the slope by the law and by
                  the line through these points, each weighed by its variance

A slope by both, over 24 trials on the reference curves (two axes, the three largest sizes, 5 to 30 points): rmse of
ln L .047, by the law alone .065, by the run's own line .055.

Draws: a shape of variance by its posterior weight and its size, scale and amplitude of k(N) from their test, then
level, misfit, seeds and the noise of an evaluation. One run per size: the spread between seeds is borrowed from the
reference replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.fitting.points import Points
from analysis.fitting.record import Fit
from analysis.intervals.law_doubt import LawDoubt
from analysis.intervals.law_test import RATIO, LawTest
from analysis.intervals.run_lines import RunLines
from analysis.intervals.run_test import BORROWED
from analysis.intervals.scatter import LEAST_VARIANCE
from analysis.questions.prediction import DRAWS, Prediction, _ends, _hull, _noise, _test
from analysis.questions.size_curves import law_columns
from analysis.questions.unseen_size import predict_by_level
from scaling.schema import InputError

# Misfit of levels about a line in ln N, in run variances: levels miss it by far more than slopes miss k(N).
LEVEL_MISFIT = (0.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)
# How far the slope of levels in ln N wanders, with prior weights: not at all, and where the law is in doubt.
STRAIGHT, BENT = {0.0: 1.0}, {0.0: 0.3, 0.03: 0.2, 0.06: 0.2, 0.12: 0.2, 0.25: 0.1}


# ---------------------------------------------------------------- a new size


@dataclass(frozen=True)
class _SlopeDraws:
    """Draws of a new size's slope: of its mean curve, and the variance that a seed adds; (DRAWS,) each."""

    mean: np.ndarray
    seed_sd: np.ndarray


def _slopes(test: LawTest, num_params: float, rng: np.random.Generator, repeats: bool) -> _SlopeDraws:
    cell = rng.choice(len(test.weight), DRAWS, p=test.weight)
    unit = test.scale[cell] * test.df / rng.chisquare(test.df, DRAWS)
    # The scale of k(N) where the signed root of the profile equals a normal draw.
    excess = np.sqrt(np.maximum(test.square - test.least[:, None], 0))
    best = test.square.argmin(1)
    signed = np.where(np.arange(excess.shape[1]) < best[:, None], -excess, excess)
    signed = np.maximum.accumulate(signed, axis=1)
    z = rng.standard_normal(DRAWS) * np.sqrt(unit)
    ln_scale = np.array([np.interp(z[i], signed[c], test.ln_scale) for i, c in enumerate(cell)])
    near = np.clip(np.searchsorted(test.ln_scale, ln_scale), 0, len(test.ln_scale) - 1)
    amplitude = test.slope_at[cell, near] + rng.standard_normal(DRAWS) * np.sqrt(unit / test.information[cell, near])
    g, r, w = (np.array(test.cells)[:, j] for j in range(3))
    f = test.shape(np.append(test.sizes, num_params), math.exp(test.centre))
    u = np.clip(f / f[:-1].max(), 0.03, None)
    per_run = np.repeat(u[:-1], test.runs_per_size.astype(int))
    grown = u[-1] ** (2 * g) / np.array([np.median(per_run ** (2 * power)) for power in g])
    missed = (w * (1 + r) * test.median * grown)[cell] / test.runs_per_size.mean() * unit
    mean = np.maximum(amplitude, 0) * test.shape(num_params, np.exp(ln_scale))
    mean = mean + rng.standard_normal(DRAWS) * np.sqrt(missed)
    seeds = np.sqrt((r * test.median * grown)[cell] * unit) if repeats else np.full(DRAWS, BORROWED[0])
    return _SlopeDraws(mean, seeds)


@dataclass(frozen=True)
class _Levels:
    """Levels of runs at the middle of their curves against ln N: the new size's centre and level."""

    centre: float
    point: float
    mean: np.ndarray
    seed_sd: np.ndarray


def _levels(lines: RunLines, num_params: float, rng: np.random.Generator, bend: Mapping[float, float]) -> _Levels:
    """Level in the middle of the curve, linear in ln N, with a misfit of its own; so is where the middle is. `bend`:
    how far the slope in ln N may wander, in ln L per e-fold of N to 3/2, with prior weights."""
    sizes, index = np.unique(lines.num_params, return_inverse=True)
    middle = float(np.mean(np.log(sizes)))
    ln_n, new, n = np.log(sizes) - middle, np.array([1.0, math.log(num_params) - middle]), len(sizes)
    count = np.bincount(index)
    design = np.column_stack([np.ones(n), ln_n])
    centre = np.bincount(index, lines.centre) / count
    centre_new = float(new @ np.linalg.lstsq(design, centre, rcond=None)[0])
    level, variance = lines.level - lines.slope * (centre[index] - lines.centre), lines.level_variance
    variance = np.maximum(variance, LEAST_VARIANCE)
    median, repeats = float(np.median(variance)), count.max() > 1
    df = len(level) - 2
    # It wanders from the size that is farthest from the new one.
    away = np.abs(np.append(ln_n, new[1]) - (ln_n[0] if new[1] >= ln_n[0] else ln_n[-1]))
    low, high = np.minimum.outer(away, away), np.maximum.outer(away, away)
    wander = low**2 * (3 * high - low) / 6
    cells, log_weight, levels = [], [], []
    for r in RATIO if repeats else (BORROWED[1] ** 2 / median,):
        for w in LEVEL_MISFIT:
            v = variance + r * median
            summed = np.bincount(index, 1 / v)
            mean = np.bincount(index, level / v) / summed
            within = float(np.sum((level - mean[index]) ** 2 / v))
            missed = w * (1 + r) * median / count.mean()
            for s, prior in bend.items():
                covariance = np.diag(1 / summed + missed) + s * s * wander[:n, :n]
                inverse = np.linalg.inv(covariance)
                information = design.T @ inverse @ design
                b = np.linalg.solve(information, design.T @ inverse @ mean)
                away_from_line = inverse @ (mean - design @ b)
                square = max(within + float((mean - design @ b) @ away_from_line), 1e-12)
                to_new = s * s * wander[:n, n]
                left = new - design.T @ inverse @ to_new
                spread = s * s * wander[n, n] - to_new @ inverse @ to_new + left @ np.linalg.solve(information, left)
                cells.append(r)
                levels.append((new @ b + to_new @ away_from_line, spread + missed, square / df))
                log_weight.append(
                    math.log(prior) - 0.5 * (np.log(v).sum() + np.log(summed).sum() + np.linalg.slogdet(covariance)[1]
                            + np.linalg.slogdet(information)[1] + df * math.log(square))
                )  # fmt: skip
    weight = np.exp(np.array(log_weight) - max(log_weight))
    cell = rng.choice(len(cells), DRAWS, p=weight / weight.sum())
    point, spread, per_df = np.array(levels).T
    scale = per_df[cell] * df / rng.chisquare(df, DRAWS)
    mean = point[cell] + rng.standard_normal(DRAWS) * np.sqrt(np.maximum(spread[cell], 0.0) * scale)
    seeds = np.sqrt(np.array(cells)[cell] * median * scale) if repeats else np.full(DRAWS, BORROWED[1])
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
    fit: Fit,
    num_params: float,
    ln_x: np.ndarray,
    first: Points | None = None,
    seed: int = 0,
    columns: Mapping[str, np.ndarray] | None = None,
) -> Prediction:
    """A size that was not fitted: level predicted, or calibrated on its `first` points.

    A law with a level of N is `analysis.questions.unseen_size`, at the `columns` it asks for (by default no prompt
    repeated).
    """
    law = fit.law
    if first is None and law.predicts_unseen:
        known = law_columns(law) if columns is None else {name: columns[name] for name in law.columns}
        return predict_by_level(fit, num_params, ln_x, known, seed)
    if law.group:
        raise InputError(f"law {law.name} says nothing of a {law.each} that was not fitted ({num_params:.4g}).")
    if law.shape is None and law.predicts_unseen:
        raise InputError(
            f"law {law.name} has no level of its own to calibrate: its level is that of N, and its slope depends on X. "
            "Predict with nothing tuned on the size."
        )
    test = _test(fit)
    if law.shape is None or test.law is None:
        raise InputError(
            f"law {law.name} says nothing of a size that was not fitted (N = {num_params:.4g}): use efficiency or a "
            "law with a level of N, with three runs at two sizes or more."
        )
    rng, more = np.random.default_rng([seed, 3]), np.random.default_rng([seed, 4])
    lines, repeats = test.lines, np.bincount(test.lines.size).max() > 1
    slopes = _slopes(test.law, num_params, rng, bool(repeats))
    k, dispersion = float(fit.efficiency(num_params)), float(lines.dispersion.mean())
    misfit = (doubt := LawDoubt(fit)).slope_misfit(num_params, k) * more.standard_normal((DRAWS, 1))
    z = rng.standard_normal((2, DRAWS, 1))
    rho = _seed_correlation(lines)
    seed_slope = slopes.seed_sd[:, None] * z[0]
    if first is None:
        levels = _levels(lines, num_params, rng, STRAIGHT)
        centre, level, at = levels.centre, levels.point, levels.mean[:, None]
        doubted = _levels(lines, num_params, more, BENT).mean[:, None]
        away = ln_x - centre
        seeds = levels.seed_sd[:, None] * (rho * z[0] + math.sqrt(1 - rho**2) * z[1]) - seed_slope * away
        of_mean = 0.0
        basis = (
            f"slope by law {law.name}, level linear in ln N over {len(lines.sizes)} sizes, nothing tuned on the size"
        )
    else:
        centre, level = float(first.x.mean()), float(first.ln_loss().mean())
        error = math.sqrt(float(_noise(lines, np.array(level), dispersion)) / len(first))
        at = doubted = level + rng.standard_normal((DRAWS, 1)) * error
        away = ln_x - centre
        # These points are of one run: its seed is in them, and what follows is the same run.
        of_mean = seeds = -seed_slope * away
        basis = f"slope by law {law.name}, level from the first {len(first)} points of the size"
        own = _own_slope(fit, first, k)
        if own is not None:
            known = float(np.var(slopes.mean) + np.var(seed_slope) + np.var(misfit))
            share = known / (known + own[1])
            steps = own[0] + rng.standard_normal((DRAWS, 1)) * math.sqrt(own[1])
            mixed = (1 - share) * slopes.mean[:, None] + share * steps
            slopes, misfit = _SlopeDraws(mixed[:, 0], slopes.seed_sd), (1 - share) * misfit
            k, seeds = (1 - share) * k + share * own[0], (1 - share) * seeds
            of_mean = seeds
            basis += f"; {100 * share:.0f} % of the slope is that of those points"
    mean = at - slopes.mean[:, None] * away
    by_others = doubt.new_size(num_params, ln_x, k, DRAWS, more, None if first is None else centre)
    changed = doubted - (slopes.mean[:, None] + misfit) * away + by_others
    noise = rng.standard_normal(mean.shape)
    run = lambda of_mean: (r := of_mean + seeds) + noise * np.sqrt(_noise(lines, r, dispersion))  # noqa: E731
    if not repeats:
        basis += "; one run per size: borrowed seed spread (slope .0025, level .004)"
    mean_by_law, run_by_law = _ends(mean + of_mean), _ends(run(mean))
    return Prediction(
        level - k * away,
        _hull(_ends(changed + of_mean), mean_by_law),
        _hull(_ends(run(changed)), run_by_law),
        basis,
        mean_by_law,
        run_by_law,
        np.minimum(np.median(changed, 0), 0.0) if doubt.flagged else None,
    )


def _own_slope(fit: Fit, first: Points, efficiency: float) -> tuple[float, float] | None:
    """(slope of the first points of a run, variance of what it says of the rest of the run); None where fewer than two
    fitted runs go on after as many points.

    How far an early slope misleads is seen in the fitted runs: the slope of their later points less that of their
    first, in units of the law's slope there, since what bends a curve grows with it.
    """
    points, count = fit.points, len(first)
    assert points is not None
    if count < 3 or np.ptp(first.x) == 0:
        return None
    misled = []
    for run in range(len(points.runs)):
        mine = np.flatnonzero(points.run == run)
        mine = mine[np.argsort(points.step[mine], kind="stable")]
        early, late = mine[:count], mine[count:]
        law = float(fit.efficiency(points.sizes[points.size[mine[0]]]))
        if len(late) < 3 or law <= 0 or np.ptp(points.x[early]) == 0 or np.ptp(points.x[late]) == 0:
            continue
        slopes = [-np.polyfit(points.x[part], points.ln_loss()[part], 1)[0] for part in (early, late)]
        misled.append((slopes[1] - slopes[0]) / law)
    if len(misled) < 2:
        return None
    slope = -float(np.polyfit(first.x, first.ln_loss(), 1)[0])
    return slope, float(np.mean(np.square(misled))) * efficiency**2


def first_points(points: Points, count: int) -> Points:
    """The `count` points with the lowest steps of the first run. Raises InputError where that run has fewer."""
    mine = np.flatnonzero(points.run == points.run.min())
    # Never topped up from the next run: that one is to be predicted.
    if len(mine) < count:
        raise InputError(f"run {points.runs[0]} has {len(mine)} points; its first {count} cannot set a level.")
    mask = np.zeros(len(points), bool)
    mask[mine[np.argsort(points.step[mine], kind="stable")[:count]]] = True
    return points.take(mask)
