"""Is one run unlike the others? A run that collapsed moves a law of all sizes, so it is named.

Each run is left out in turn and its slope is held against what the law says by the others (an externally studentised
residual), with the largest tested among all runs (Bonferroni). The unit is the scatter of the other runs alone, so a
run cannot hide behind the scatter that it makes. False alarms in simulated studies: see tests/test_outlier.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from analysis.intervals.law_test import LawTest
from analysis.intervals.run_lines import RunLines

LEVEL = 0.04  # at .05, six null designs of 200 studies each had 1.5 to 5.5 % false alarms
FEWEST = 5  # runs: with four, two of the three others decide the law and one its scatter


@dataclass(frozen=True)
class Outlier:
    """The run that is unlike the others.

    Fields:
        run: its name; num_params: its N; slope: its own; expected: by the law from the other runs.
        distance: of the two in standard deviations of the others' scatter. p: of so large a distance among all runs.
    """

    run: str
    num_params: float
    slope: float
    expected: float
    distance: float
    p: float


def outlier(lines: RunLines, test: LawTest) -> Outlier | None:
    """The run whose slope is furthest from the law by the others, where that is too far for chance; else None."""
    n, df = len(lines.runs), len(lines.runs) - 3
    if n < FEWEST:
        return None
    variance = test.weight @ test.variance
    outliers = [_left_out(i, lines.slope, variance, lines.num_params, test) for i in range(n)]
    expected, spread = (np.array(values) for values in zip(*outliers, strict=True))
    distance = (lines.slope - expected) / spread
    worst = int(np.argmax(np.abs(distance)))
    p = min(1.0, n * 2 * float(student.sf(abs(distance[worst]), df)))
    if p >= LEVEL or _like_its_size(worst, lines, spread[worst]):
        return None
    return Outlier(
        lines.runs[worst], float(lines.num_params[worst]), float(lines.slope[worst]), float(expected[worst]),
        float(distance[worst]), p,
    )  # fmt: skip


def _left_out(
    i: int, slope: np.ndarray, variance: np.ndarray, num_params: np.ndarray, test: LawTest
) -> tuple[float, float]:
    """(slope of run i by the law from the others, standard deviation of the difference)."""
    rest = np.arange(len(slope)) != i
    weight, k, sizes = 1 / variance[rest], slope[rest], num_params[rest]
    f = test.shape(sizes, np.exp(test.ln_scale)[:, None])
    amplitude = np.maximum((f @ (weight * k)) / (f**2 @ weight), 0)
    square = ((k - amplitude[:, None] * f) ** 2) @ weight
    best = int(square.argmin())
    a, scale = float(amplitude[best]), float(np.exp(test.ln_scale[best]))
    unit = max(float(square[best]) / (len(k) - 2), 1e-12)

    def jacobian(n: np.ndarray) -> np.ndarray:
        return np.column_stack([test.shape(n, scale), test.by_scale(n, a, scale)])

    design, own = jacobian(sizes), jacobian(num_params[[i]])[0]
    covariance = np.linalg.pinv(design.T @ (design * weight[:, None]), hermitian=True)
    expected = a * float(test.shape(num_params[[i]], scale)[0])
    return expected, float(np.sqrt(unit * (variance[i] + own @ covariance @ own)))


def _like_its_size(i: int, lines: RunLines, spread: float) -> bool:
    """Whether the other runs of its size say the same: then the law misses the size, and no run is at fault."""
    others = (lines.size == lines.size[i]) & (np.arange(len(lines.runs)) != i)
    return bool(others.any()) and abs(lines.slope[i] - float(lines.slope[others].mean())) < 2 * spread
