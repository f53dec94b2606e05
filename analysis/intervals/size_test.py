"""Test of one size at a time, on the mean over its runs of a slope or of ln L at some X."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t as student

from analysis.intervals.law_test import LEVEL, NOTHING, POWER, RATIO, f_tail, share_of_normal, too_alike, trend_variance

# ---------------------------------------------------------------- one size: slopes, levels, bands, crossings


NORMAL = 1e6  # degrees of freedom from which t is the normal distribution


class Gap(NamedTuple):
    """A difference of two means by the cells of a variance: weight, value and variance (cells,); degrees of freedom."""

    weight: np.ndarray
    value: np.ndarray
    variance: np.ndarray
    df: float

    def p_zero(
        self, posterior: np.ndarray = np.ones(1), shift: np.ndarray = np.zeros(1), excess: np.ndarray = np.zeros(1)
    ) -> float:
        """p of "the difference is 0"; with the probabilities `posterior` it is by `shift` larger and by the variance
        `excess` less sure, (K,) each."""
        square = (self.value[:, None] + shift) ** 2 / np.maximum(self.variance[:, None] + excess, 1e-300)
        return float(self.weight @ f_tail(square, min(self.df, NORMAL)) @ posterior)


class SizeTest:
    """Tests of the mean over runs of any quantity h of a run (a slope, ln L at some X), size by size.

    The same shapes of variance as LawTest, without misfit; weights from the spread within sizes, sum(R - 1) degrees of
    freedom. A size's variance is its own squares pooled with four degrees of freedom of the common shape. Where
    runs agree better than `least` allows, the variances by their counts of errors alone, no interval is narrower than
    those make it (`too_alike`).

    Attributes:
        df: sum over sizes of runs - 1; 0 where each size has one run: then nothing can be tested.
        mean: (cells, sizes); variance: (cells, sizes) of a run about its size's mean.
    """

    def __init__(
        self, h: np.ndarray, variance: np.ndarray, size: np.ndarray, n_sizes: int, trend: np.ndarray,
        least: np.ndarray | None = None,
    ):  # fmt: skip
        belongs = (size == np.arange(n_sizes)[:, None]) * 1.0
        self.runs_per_size = belongs.sum(1)
        self.df = int(np.maximum(self.runs_per_size - 1, 0).sum())
        if self.df == 0:
            return
        medians = [np.median(variance[size == i]) for i in range(n_sizes) if (size == i).any()]
        cells = [(g, r) for g in POWER for r in RATIO if r or g == 0]
        grown = trend_variance([g for g, _ in cells], trend, size)
        runs = variance + np.array([[r] for _, r in cells]) * float(np.median(medians)) * grown[:, size]
        weight = 1 / runs
        summed = np.maximum(weight @ belongs.T, 1e-300)
        self.mean = (weight * h) @ belongs.T / summed
        squares = (weight * (h - self.mean[:, size]) ** 2) @ belongs.T
        within = np.maximum(squares.sum(1), NOTHING)
        log_weight = [math.log(POWER[g]) for g, _ in cells] - 0.5 * (
            np.log(runs).sum(1) + np.log(summed).sum(1) + self.df * np.log(within)
        )
        self.weight = np.exp(log_weight - log_weight.max())
        self.weight /= self.weight.sum()
        count = np.maximum(self.runs_per_size, 1)
        self.variance = count / summed * (4 * (within / self.df)[:, None] + squares) / (3 + count)
        if least is not None and too_alike(h, least, size):
            known = np.array([share_of_normal(self.degrees(i)) for i in range(n_sizes)])
            self.variance = np.maximum(self.variance, known * np.bincount(size, least, n_sizes) / count)

    def degrees(self, i: int) -> float:
        return float(min(3 + self.runs_per_size[i], self.df))

    def centre(self, i: int) -> float:
        return float(self.weight @ self.mean[:, i])

    def p(self, i: int, value: float) -> float:
        """p of "the mean of size i is value"."""
        spread = self.variance[:, i] / self.runs_per_size[i]
        return float(self.weight @ f_tail((self.mean[:, i] - value) ** 2 / spread, self.degrees(i)))

    def gap(self, i: int, j: int) -> Gap:
        """Mean of size i minus that of size j."""
        spread = self.variance[:, i] / self.runs_per_size[i] + self.variance[:, j] / self.runs_per_size[j]
        return Gap(self.weight, self.mean[:, i] - self.mean[:, j], spread, min(self.degrees(i), self.degrees(j)))

    def interval(self, i: int) -> tuple[float, float]:
        """All means of size i with p > .05."""
        reach = math.sqrt(float(np.max(self.variance[:, i]))) * student.isf(LEVEL / 2, self.degrees(i))
        reach += float(np.ptp(self.mean[:, i])) + 1e-300
        return _spread_out(lambda value: self.p(i, value), self.centre(i), reach)


def _spread_out(p: Callable[[float], float], centre: float, reach: float) -> tuple[float, float]:
    """The ends at which p falls to .05, within `reach` of the centre or beyond."""

    def end(direction: float) -> float:
        far = reach
        while p(centre + direction * far) > LEVEL:
            far *= 2
        return centre + direction * brentq(lambda d: p(centre + direction * d) - LEVEL, 0, far, xtol=1e-9 * far)

    return (end(-1.0), end(1.0)) if p(centre) > LEVEL and reach > 1e-150 else (centre, centre)
