"""Self-test of the intervals: how often they hold the truth in simulated studies of the same shape."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from analysis.fitting.points import Points
from analysis.fitting.record import Fit
from analysis.intervals.law_test import EXACT, LEVEL, LawTest
from analysis.intervals.run_lines import RunLines, run_lines
from analysis.intervals.run_test import _tested
from scaling.schema import InputError

# ---------------------------------------------------------------- self-test


def coverage(fit: Fit, studies: int = 200, seed: int = 0) -> dict[str, Any]:
    """Share of simulated studies of the same shape whose interval holds the fit's own amplitude and scale of k(N).

    Each study draws a shape of the seed variance from its posterior, then slopes and levels of runs, noise and counts
    of errors; the same code makes the intervals. It cannot see what the simulation lacks: a plateau, a floor of the
    loss, other questions. Reads up to 5 points low on small or noisy studies.

    Returns `{"nominal", NAME: share, ..., "studies", "text"}` with the names of the law's amplitude and scale (`k_max`,
    `n0`), shares in [0, 1]. Raises InputError where the law has no test of slopes.
    """
    test, points, formula = _tested(fit), fit.points, fit.law
    law, lines = test.law, test.lines
    if formula.shape is None:
        raise InputError(f"a coverage self-test simulates the test of k(N); law {formula.name} has none.")
    amplitude_name, scale_name = formula.tested_on_slopes
    amplitude, scale = (fit.values[name]["value"] for name in formula.tested_on_slopes)
    if law is None or points is None or amplitude <= 0:
        raise InputError(
            f"a coverage self-test needs a law of N with {amplitude_name} above 0 and three runs at two sizes or more."
        )
    points = points.take(np.isin(points.run, [points.runs.index(name) for name in lines.runs]))
    index = np.searchsorted(law.sizes, lines.num_params)  # sizes with a line; a size may have none
    repeats = law.runs_per_size
    level = np.bincount(index, lines.level) / repeats
    # Spread of levels between runs of one size, by moments: what is left of it after the noise within runs.
    spread, df = float(np.sum((lines.level - level[index]) ** 2)), float(np.sum(repeats - 1))
    level_sd = math.sqrt(max(spread / df - float(lines.level_variance.mean()), 0.0)) if df > 0 else 0.0
    persistence = _persistence(points, lines)
    hits = dict.fromkeys(formula.tested_on_slopes, 0)
    for study in range(studies):
        rng = np.random.default_rng([seed, study])
        cell = rng.choice(len(law.weight), p=law.weight)
        unit = law.scale[cell] * law.df / rng.chisquare(law.df)
        between = np.maximum(law.variance[cell] * unit - lines.slope_variance, 0)
        summed = np.bincount(index, 1 / law.variance[cell])
        missed = np.maximum(law.size_variance[cell] - 1 / summed, 0) * unit
        slope = amplitude * law.shape(law.sizes, scale) + rng.standard_normal(len(law.sizes)) * np.sqrt(missed)
        slope = slope[index] + rng.standard_normal(len(index)) * np.sqrt(between)
        height = level[index] + rng.standard_normal(len(index)) * level_sd
        loss = _draw(rng, points, lines, slope, height, persistence)
        drawn = run_lines(replace(points, loss=loss))
        misfit = EXACT if test.law_exact else None
        again = LawTest(formula, drawn.slope, drawn.slope_variance, drawn.num_params, misfit, least=drawn.slope_counts)
        hits[scale_name] += float(np.interp(math.log(scale), again.ln_scale, again.p_scale)) > LEVEL
        hits[amplitude_name] += again.p_efficiency(amplitude) > LEVEL
    share = {name: count / studies for name, count in hits.items()}
    least = min(share.values())
    error = 100 * math.sqrt(max(least * (1 - least), 0.01) / studies)
    measured = ", ".join(f"{formula.symbols[name]} {100 * value:.0f}" for name, value in share.items())
    text = (
        f"nominal 95 %, measured {measured} ± {error:.2g} (simulated from this fit: blind to plateau, floor, questions)"
    )
    return {"nominal": 1 - LEVEL, **share, "studies": studies, "text": text}


def _persistence(points: Points, lines: RunLines) -> float:
    """Correlation from point to point of the extra noise: that of all noise, divided by the extra part's share."""
    eta = lines.level[points.run] - lines.slope[points.run] * (points.x - lines.centre[points.run])
    residual = points.loss / np.exp(eta) - 1
    same = points.run[1:] == points.run[:-1]
    power = float(residual @ residual)
    if power == 0:
        return 0.0
    rho = float(np.sum(residual[1:][same] * residual[:-1][same])) / power
    share = lines.extra * len(residual) / power
    return float(np.clip(rho / min(max(share, 0.05), 1.0), 0, 0.95))


def _draw(
    rng: np.random.Generator, points: Points, lines: RunLines, slope: np.ndarray, level: np.ndarray, persistence: float
) -> np.ndarray:
    """Test losses of one simulated study: lines of runs, AR(1) extra noise, counts of errors where they are known."""
    run = points.run
    shock = rng.standard_normal(len(run))
    for i in range(1, len(run)):
        if run[i] == run[i - 1]:
            shock[i] = persistence * shock[i - 1] + math.sqrt(1 - persistence**2) * shock[i]
    extra = lines.extra if points.trials is not None else lines.extra * lines.dispersion[run]
    eta = level[run] - slope[run] * (points.x - lines.centre[run]) + shock * np.sqrt(extra)
    mu = np.minimum(np.exp(eta), 1.0)
    if points.trials is None:
        return mu
    # Noise of phi times the binomial variance: as many evaluations as Q / phi independent ones.
    trials = np.maximum(np.round(points.trials / lines.dispersion[run]), 1).astype(int)
    return rng.binomial(trials, mu) / trials
