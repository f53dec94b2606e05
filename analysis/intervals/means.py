"""95 % intervals of a mean: of independent values, and of differences between pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2, norm
from scipy.stats import t as student

from analysis.intervals.law_test import LEVEL
from scaling.schema import InputError


def paired_difference(
    values_a: Sequence[float] | np.ndarray, values_b: Sequence[float] | np.ndarray, noise: float = 0.0
) -> dict[str, Any]:
    """Mean of b - a over pairs with a 95 % t interval: `{"mean", "ci95", "n"}`; ci95 is None with one pair.

    Pairs share what is not compared (seed and with it base model and prompts). `noise` is a known standard error of one
    difference, by the counts of errors: where pairs agree better than it allows at 5 %, as copies do, it makes the
    interval. Raises InputError where lengths differ.
    """
    a, b = np.asarray(values_a, float), np.asarray(values_b, float)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise InputError(f"paired_difference wants two lists of one length, not {a.shape} and {b.shape}.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("paired_difference: a value is missing; leave out the pair and say so.")
    difference = b - a
    mean, n = float(difference.mean()), len(difference)
    if n == 1:
        return {"mean": mean, "ci95": None, "n": 1}
    spread = float(difference.std(ddof=1))
    half = float(student.isf(LEVEL / 2, n - 1)) * spread / math.sqrt(n)
    if noise > 0 and chi2.cdf((n - 1) * (spread / noise) ** 2, n - 1) < LEVEL:
        half = max(half, float(norm.isf(LEVEL / 2)) * noise / math.sqrt(n))
    return {"mean": mean, "ci95": [mean - half, mean + half], "n": n}


def t_interval(values: np.ndarray, noise: float = 0.0) -> tuple[float, float]:
    """95 % interval of the mean of independent values; open on both sides for a single one.

    `noise` is a known standard error of one value (the finite test set): values that agree better than it allows do so
    by chance, so the interval is never narrower than it says.
    """
    n = len(values)
    if n < 2:
        return -np.inf, np.inf
    half = max(student.ppf(0.975, n - 1) * np.std(values, ddof=1), norm.ppf(0.975) * noise) / np.sqrt(n)
    return float(values.mean() - half), float(values.mean() + half)
