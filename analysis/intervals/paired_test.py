"""Two conditions over sizes, in pairs by seed: one test for the study, adjusted tests of sizes, a band over losses.

The variance of the difference of a pair is q (v + r m): v its sampling variance, m the median of those, r the variance
between seeds in units of m, with a posterior weight for each r of RATIO; the scale q comes from the spread of pairs
within sizes. Measured on null studies of 4 sizes and 128 questions: the study's test is wrong in 4.6, 6.0 and 5.8 %
with 2, 3 and 5 seeds; a multiplier of 1.5 is shown in 93 to 100 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct
from scipy.stats import t as student

from analysis.intervals.law_test import LEVEL, RATIO

OWN = 4  # degrees of freedom that a size's own spread is given of the common one
FALLS = 2.0  # standard errors of the mean slope beyond which losses fall
ROUNDING = 1e-6  # of ln L
ANCHORS = 3  # losses at which a band is made; between them it is a straight line, as the multiplier of two lines is


class Lines(NamedTuple):
    """One straight line of each of m runs, ln L = level - slope (ln X - centre), with its sampling variances; (m,)."""

    slope: np.ndarray
    level: np.ndarray
    centre: np.ndarray
    slope_variance: np.ndarray
    level_variance: np.ndarray

    def at(self, ln_x: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """(ln L, its sampling variance) at ln X of each run, or at one for all."""
        away = ln_x - self.centre
        return self.level - self.slope * away, self.level_variance + self.slope_variance * away**2


@dataclass(frozen=True)
class PairedTest:
    """The mean differences of sizes, from pairs.

    Fields:
        mean, n: (sizes,) mean difference and number of pairs. weight: (cells,) posterior of the ratios of RATIO.
        variance: (cells, sizes) of the mean by the common scale; own: (cells, sizes) with the size's own spread in it.
        df: degrees of freedom, pairs less sizes.
    """

    mean: np.ndarray
    n: np.ndarray
    weight: np.ndarray
    variance: np.ndarray
    own: np.ndarray
    df: int

    def pooled(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """((cells,) mean of difference / unit over sizes, weighted by precision; (cells,) its standard error)."""
        precision = unit**2 / self.variance
        total = precision.sum(1)
        return (precision * self.mean / unit).sum(1) / total, 1 / np.sqrt(total)

    def p_study(self, unit: np.ndarray, value: float = 0.0) -> float:
        """p of "the difference is `value` units at every size"; unit: (sizes,)."""
        centre, error = self.pooled(unit)
        return float(self.weight @ (2 * student.sf(np.abs(centre - value) / error, self.df)))

    def study_interval(self, unit: np.ndarray) -> tuple[float, float, float]:
        """(pooled difference in units, and the ends of its 95 % interval)."""
        centre, error = self.pooled(unit)
        middle = float(self.weight @ centre)
        reach = float(np.max(np.abs(centre - middle) + error * student.isf(LEVEL / 8, self.df)))
        excess = lambda value: self.p_study(unit, value) - LEVEL  # noqa: E731
        return middle, brentq(excess, middle - 4 * reach, middle), brentq(excess, middle, middle + 4 * reach)

    def power(self, unit: np.ndarray, effect: float, level: float) -> float:
        """Chance that `p_study` is below `level` where the difference is `effect` units at every size."""
        error, critical = self.pooled(unit)[1], student.isf(level / 2, self.df)
        away = np.minimum(abs(effect) / error, 30.0)  # beyond it the chance is 1 to all digits
        return float(self.weight @ nct.sf(critical, self.df, away))  # to claim the opposite is no power

    def p_sizes(self) -> np.ndarray:
        """(sizes,) p of "the mean difference of this size is 0"."""
        away = np.abs(self.mean) / np.sqrt(self.own)
        return self.weight @ (2 * student.sf(away, np.minimum(OWN - 1 + self.n, self.df)))


def paired_test(difference: np.ndarray, variance: np.ndarray, size: np.ndarray) -> PairedTest:
    """The test of (m,) differences of pairs with sampling variances, by index of size; some size has two pairs."""
    n = np.bincount(size)
    df = int((n - 1).sum())
    mean, sampling = (np.bincount(size, values) / n for values in (difference, variance))
    of_pair = sampling + np.array(RATIO)[:, None] * np.median(sampling)  # (cells, sizes)
    square = np.bincount(size, (difference - mean[size]) ** 2)
    scale = np.maximum((square / of_pair).sum(1), 1e-300)
    log_weight = -0.5 * (((n - 1) * np.log(of_pair)).sum(1) + df * np.log(scale))
    weight = np.exp(log_weight - log_weight.max())
    scale = scale[:, None] / df
    own = (OWN * scale * of_pair + square) / (OWN - 1 + n) / n
    return PairedTest(mean, n, weight / weight.sum(), scale * of_pair / n, own, df)


def holm(p: np.ndarray) -> np.ndarray:
    """p values adjusted for their number (Holm 1979)."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    return adjusted


class StudyTest(NamedTuple):
    """What pairs say over all sizes.

    Fields:
        p_level, p_slope: of the level in the middle of the shared range and of the slope; p: twice the lesser, the
        verdict. multiplier: C of the baseline over that of the other for one loss, pooled, and its 95 % interval;
        power: chance to show 1.5; all three None where the losses do not fall (`fall`). p_sizes: (sizes,) adjusted for
        their number. df: degrees of freedom.
    """

    p_level: float
    p_slope: float
    p: float
    multiplier: float | None
    ci95: tuple[float, float] | None
    power: float | None
    p_sizes: np.ndarray
    df: int


def fall(lines: Sequence[Lines], ln_range: np.ndarray | float) -> bool:
    """Whether the losses of runs fall at all: their mean slope stands out of its sampling error, and over a range of
    ln X (of each run, or one for all) it is more than rounding."""
    slope, variance = (np.concatenate([getattr(side, name) for side in lines]) for name in ("slope", "slope_variance"))
    weight = 1 / np.maximum(variance, 1e-300)
    mean, error = float(weight @ slope) / weight.sum(), 1 / np.sqrt(weight.sum())
    return bool(mean > FALLS * error and mean * np.max(ln_range) > ROUNDING)


def study_test(base: Lines, other: Lines, size: np.ndarray, low: np.ndarray, high: np.ndarray) -> StudyTest:
    """Lines of the two sides of m pairs, the index of their size, and (sizes,) ends of ln X that all runs share."""
    slope = np.bincount(size, (base.slope + other.slope) / 2) / np.bincount(size)
    falls = fall((base, other), high - low)
    # A size that does not learn has no multiplier to speak of; where none does, differences count as they are.
    slope = np.maximum(slope, 0.05 * slope.max()) if falls else np.ones(len(slope))

    def at(ln_x: np.ndarray) -> PairedTest:
        (left, one), (right, two) = base.at(ln_x[size]), other.at(ln_x[size])
        return paired_test(right - left, one + two, size)

    level = at((low + high) / 2)
    steep = paired_test(other.slope - base.slope, base.slope_variance + other.slope_variance, size)
    p_level, p_slope = level.p_study(slope), steep.p_study(slope)
    places = np.array([at(low + share * (high - low)).p_sizes() for share in (0.0, 0.5, 1.0)])
    multiplier = ends = power = None
    if falls:
        gain, least, most = level.study_interval(slope)
        multiplier, ends = float(np.exp(-gain)), (float(np.exp(-most)), float(np.exp(-least)))
        power = level.power(slope, float(np.log(1.5)), LEVEL / 2)
    p_sizes = holm(np.minimum(1.0, len(places) * places.min(0)))
    return StudyTest(p_level, p_slope, min(1.0, 2 * min(p_level, p_slope)), multiplier, ends, power, p_sizes, level.df)


def multiplier_band(base: Lines, other: Lines, size: np.ndarray, i: int, ln_losses: np.ndarray) -> np.ndarray:
    """(losses, 2) ends of ln multiplier of size i at losses, highest first; they hold together in 95 %; infinite where
    open. Other sizes lend their spread alone."""
    mine = size == i
    k_base, k_other = (lines.slope[mine].mean() for lines in (base, other))
    e_base, e_other = ((lines.level + lines.slope * lines.centre)[mine].mean() for lines in (base, other))
    middle = [lines.centre[mine].mean() for lines in (base, other)]

    def excess(eta: float, ln_x: float) -> float:
        (left, one), (right, two) = (
            base.at(ln_x - middle[0] + base.centre), other.at(ln_x - eta - middle[1] + other.centre),
        )  # fmt: skip
        return float(paired_test(right - left, one + two, size).p_sizes()[i]) - LEVEL / ANCHORS

    anchors = np.linspace(ln_losses[0], ln_losses[-1], ANCHORS)
    ends = np.empty((ANCHORS, 2))
    for row, ln_loss in enumerate(anchors):
        ln_x = (e_base - ln_loss) / k_base
        best = ln_x - (e_other - ln_loss) / k_other
        for column, side in enumerate((-1, 1)):
            steps = best + side * np.r_[0.0, np.geomspace(1e-3, 8, 60)]
            beyond = next((j for j in range(1, len(steps)) if excess(steps[j], ln_x) <= 0), None)
            ends[row, column] = side * np.inf if beyond is None else brentq(
                excess, steps[beyond - 1], steps[beyond], args=(ln_x,), xtol=1e-6
            )  # fmt: skip
    nearest = np.abs(ln_losses[:, None] - anchors).argmin(1)
    band = np.empty((len(ln_losses), 2))
    for column in (0, 1):
        one = ends[:, column]
        known = np.isfinite(one).all()
        band[:, column] = np.interp(-ln_losses, -anchors, one) if known else one[nearest]
    return band
