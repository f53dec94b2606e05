"""A size that was not fitted, by a law with a level of N: its interval is how far such a law misses the sizes it has.

Two variances, of a level and of a slope each: how far the law misses the sizes that it was fitted to, and how far the
law that is fitted to the others misses a size that is left out. The latter grows with the distance in ln N to the
nearest sizes, as a walk does: q d, and q d1 d2 / (d1 + d2) between two. The doubt about the shape in X comes besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.fitting.general import solve_near
from analysis.fitting.record import Fit
from analysis.intervals.curve_band import curve_band
from analysis.intervals.law_doubt import LawDoubt
from analysis.questions.prediction import DRAWS, Prediction, _ends
from scaling.schema import InputError

LEAST_SIZES = 4


def predict_by_level(
    fit: Fit, num_params: float, ln_x: np.ndarray, columns: Mapping[str, Any], seed: int = 0
) -> Prediction:
    """The law's own curve at an unseen size, with intervals where it has enough sizes."""
    said = "".join(f"; at {name} 1" for name, value in columns.items() if np.all(np.asarray(value) == 1.0))
    assert fit.points is not None
    sizes, middle = np.log(fit.points.sizes), float(fit.points.x.mean())
    point = np.log(fit.predict(num_params, np.exp(ln_x), **columns))
    try:
        level, slope = _misses(fit, float(np.log(num_params)))
        bands = curve_band(fit).at(num_params, ln_x, **columns)
    except InputError as reason:
        return Prediction(point, None, None, f"the law's own level of N, without an interval: {reason}{said}")
    rng, more = np.random.default_rng([seed, 3]), np.random.default_rng([seed, 4])
    t = rng.standard_t(len(sizes), (2, DRAWS, 1))
    mean = point + t[0] * np.sqrt(level) - t[1] * np.sqrt(slope) * (ln_x - middle)
    doubt = LawDoubt(fit)
    known = {name: entry["value"] for name, entry in fit.values.items()}
    there = {name: float(np.mean(value)) for name, value in columns.items()}
    slope = float(fit.law.efficiency(num_params, np.exp(middle), known, **there))
    changed = mean + doubt.new_size(num_params, ln_x, slope, DRAWS, more)
    z = rng.standard_normal((2, *mean.shape))
    run = lambda curve: curve + z[0] * np.sqrt(bands.seeds) + z[1] * np.sqrt(bands.noise)  # noqa: E731
    basis = f"the law's own level of N; how far it misses its {len(sizes)} sizes, fitted and left out in turn{said}"
    median = np.minimum(np.median(changed, 0), 0.0) if doubt.flagged else None
    return Prediction(point, _ends(changed), _ends(run(changed)), basis, _ends(mean), _ends(run(mean)), median)


def _distance(ln_n: np.ndarray, at: float) -> float:
    """How far a place stands from the sizes, in ln N: from the nearest beyond them, of a bridge between two."""
    below, above = ln_n[ln_n < at], ln_n[ln_n > at]
    if not len(below) or not len(above):
        return float(np.abs(ln_n - at).min())
    one, other = at - below.max(), above.min() - at
    return float(one * other / (one + other))


def _misses(fit: Fit, ln_n: float) -> tuple[float, float]:
    """Variances of level and slope of a size at ln N about the law. Raises InputError where there are too few sizes."""
    points, law, objective = fit.points, fit.law, fit.record["objective"]
    assert points is not None
    n, sizes = len(points.sizes), np.log(points.sizes)
    if n < LEAST_SIZES:
        raise InputError(f"it wants {LEAST_SIZES} sizes, each left out in turn, and there are {n}")
    known = {name: entry["value"] for name, entry in fit.values.items()}

    def missed(i: int, values: dict[str, float]) -> np.ndarray:
        mine = points.take(points.size == i)
        away = mine.x - mine.x.mean()
        gap = mine.ln_loss() - law.ln_loss(points.sizes[i], np.exp(mine.x), values, **mine.columns)
        power = float(away @ away)
        return np.array([gap.mean(), float(away @ gap) / power if power > 0 else 0.0]) ** 2

    fitted = np.mean([missed(i, known) for i in range(n)], axis=0)
    per_distance = [
        missed(i, solve_near(points.take(points.size != i), law, objective, known))
        / _distance(np.delete(sizes, i), sizes[i])
        for i in range(n)
    ]
    level, slope = fitted + np.mean(per_distance, axis=0) * _distance(sizes, ln_n)
    return float(level), float(slope)
