"""Tests of two conditions over sizes, against hand-made vectors (computed by another program) and simulated studies."""

import numpy as np
import pytest

from analysis.intervals.paired_test import Lines, holm, multiplier_band, study_test

SIZE = np.array([0, 0, 1, 1, 2, 2])
MIDDLE, SLOPE_VARIANCE, LEVEL_VARIANCE = np.full(6, 3.0), np.full(6, 1e-5), np.full(6, 2e-5)
BASE = Lines(np.array([0.10, 0.11, 0.16, 0.15, 0.20, 0.21]), np.array([-0.20, -0.21, -0.40, -0.38, -0.62, -0.60]),
             MIDDLE, SLOPE_VARIANCE, LEVEL_VARIANCE)  # fmt: skip
OTHER = Lines(np.array([0.11, 0.11, 0.15, 0.16, 0.21, 0.20]), np.array([-0.24, -0.26, -0.47, -0.44, -0.70, -0.69]),
              MIDDLE, SLOPE_VARIANCE, LEVEL_VARIANCE)  # fmt: skip


def test_the_numbers_of_a_study_worked_elsewhere():
    found = study_test(BASE, OTHER, SIZE, np.ones(3), np.full(3, 5.0))
    assert found.p_level == pytest.approx(0.00018, abs=5e-6)
    assert found.p_slope == pytest.approx(0.838, abs=1e-3)
    assert found.p == pytest.approx(2 * found.p_level)
    assert found.p_sizes == pytest.approx([0.0087, 0.0059, 0.0040], abs=6e-5)
    assert np.log([found.multiplier, *found.ci95]) == pytest.approx([0.417, 0.360, 0.474], abs=2e-3)
    assert found.power > 0.99


def test_the_band_of_the_third_size():
    band = multiplier_band(BASE, OTHER, SIZE, 2, np.array([-0.4, -0.6, -0.8]))
    assert band[1] == pytest.approx([0.26, 0.60], abs=0.006)
    assert (band[:, 0] < band[:, 1]).all()


def test_holm():
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])


def simulated(rng, pairs, gain=0.0):
    """Pairs of lines at four sizes: seeds shift level and slope, and the other needs exp(gain) times less X."""
    size = np.repeat(np.arange(len(pairs)), pairs)
    k = np.array([0.05, 0.08, 0.12, 0.15])[size]
    sides = []
    for shift in (0.0, gain):
        slope = k * (1 + 0.06 * rng.standard_normal(len(k))) + 0.004 * rng.standard_normal(len(k))
        level = -4 * k - k * shift + 0.02 * rng.standard_normal(len(k))
        sides.append(Lines(slope, level, np.full(len(k), 3.0), np.full(len(k), 1.6e-5), np.full(len(k), 1e-4)))
    return (*sides, size, np.ones(4), np.full(4, 5.0))


@pytest.mark.parametrize("pairs", [(2, 2, 2, 2), (5, 5, 5, 5), (1, 2, 3, 4)])
def test_false_claims_and_power(pairs):
    """At most 6 % where nothing differs (plus Monte-Carlo error of 200), by study and by any size named."""
    rng = np.random.default_rng(sum(pairs))
    null = [study_test(*simulated(rng, pairs)) for _ in range(200)]
    claims = np.array([one.p < 0.05 for one in null])
    assert claims.mean() < 0.09
    assert np.mean([one.p < 0.05 and (one.p_sizes < 0.05).any() for one in null]) < 0.05
    inside = np.mean([one.ci95[0] < 1 < one.ci95[1] for one in null])
    assert inside > 0.92
    real = [study_test(*simulated(rng, pairs, np.log(1.5))) for _ in range(80)]
    shown = np.mean([one.p < 0.05 for one in real])
    assert shown == pytest.approx(np.mean([one.power for one in null]), abs=0.15)
