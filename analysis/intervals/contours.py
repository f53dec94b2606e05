"""Regions of two parameters at once: every pair of values that the runs do not reject together.

The test is that of the intervals with two values held instead of one, so F(2, df) in the place of F(1, df): a region of
68 or 95 % is wider in each parameter than its interval. A law with a shape has the test of slopes, others the profile.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from contourpy import contour_generator
from scipy.optimize import brentq
from scipy.stats import f as fisher

from analysis.fitting.record import Fit
from analysis.intervals.law_test import LawTest
from analysis.intervals.profile import ProfileTest, profile_tests
from scaling.schema import InputError

LEVELS = (0.68, 0.95)
DIRECTIONS = 16  # of the outline of a profile region
FARTHEST = 64.0  # standard errors: an outline that has not ended there is open


@dataclass(frozen=True)
class Region:
    """The outline of the values of two parameters that are not rejected at 1 - level.

    Fields:
        names: of the parameters. outline: (n, 2) values in their own units, in order around the optimum.
        closed: whether it ends on every side; where it does not, the outline stops where the search did.
    """

    names: tuple[str, str]
    level: float
    outline: np.ndarray
    closed: bool

    def json(self) -> dict:
        return {
            "parameters": list(self.names), "level": self.level, "outline": self.outline.tolist(), "closed": self.closed
        }  # fmt: skip


def contours(fit: Fit) -> list[Region]:
    """Regions of each pair of shared parameters of a fit with intervals. Raises InputError where there is no pair, or
    nothing tells how far runs scatter."""
    names = [parameter.name for parameter in fit.law.shared if not parameter.fixed]
    if len(names) < 2:
        raise InputError(
            f"contours: law {fit.law.name} has {len(names) or 'no'} free parameter{'' if len(names) == 1 else 's'} "
            f"that all {fit.law.each}s share; a contour wants two."
        )
    regions = []
    if fit.test is not None and fit.test.law is not None:
        regions = _of_slopes(fit.test.law)
        names = [name for name in names if name not in fit.law.tested_on_slopes]
    pairs = list(itertools.combinations(names, 2))
    if not pairs:
        return regions
    assert fit.points is not None and fit.solution is not None
    tests, basis = profile_tests(fit.points, fit.law, fit.solution)
    if not tests:
        raise InputError(f"contours: {basis}.")
    return regions + [region for pair in pairs for region in _of_profile(tests[0], pair)]


def _of_slopes(test: LawTest) -> list[Region]:
    """Of amplitude and scale, by the test of runs on slopes."""
    low, high = test.efficiency_interval()
    middle = float(test.slope_at[test.weight.argmax(), test.square[test.weight.argmax()].argmin()])
    ends = (0.2 * (low or 0.1 * middle), 5 * (high or 20 * middle))
    limits = test.law.parameter(test.law.amplitude).chosen or ends
    amplitude = np.geomspace(max(ends[0], limits[0]), min(ends[1], limits[1]), 240)
    p = test.p_pair(amplitude)
    generator, names = contour_generator(test.ln_scale, np.log(amplitude), p), test.law.tested_on_slopes
    regions = []
    for level in LEVELS:
        lines = generator.lines(1 - level)
        if lines:
            line = np.asarray(max(lines, key=len))
            closed = len(lines) == 1 and bool(np.allclose(line[0], line[-1]))
            regions.append(Region((names[0], names[1]), level, np.exp(line[:, ::-1]), closed))
    return regions


def _of_profile(test: ProfileTest, names: tuple[str, str]) -> list[Region]:
    """Of two shared parameters, by how far they can move together: outlines met along rays from the optimum.

    An amplitude stands at the middle of the data where its exponent is the other one: there the two hardly depend on
    each other. Beside any other parameter it stands in its own unit, by its log.
    """
    parameters = {parameter.name: parameter for parameter, i in test.problem.slots if i < 0}
    units = [{parameters[name].at_x, parameters[name].at_size} - {""} for name in names]
    if any(unit and not unit <= set(names) for unit in units):
        test = test.own_units
    problem, slots = test.problem, test.problem.slots
    pair = [next(e for e, (parameter, i) in enumerate(slots) if i < 0 and parameter.name == name) for name in names]
    best, low, high = test.vector[pair], problem.low[pair], problem.high[pair]
    covariance = test.covariance[np.ix_(pair, pair)]
    spread = np.linalg.cholesky(covariance + np.diag(1e-9 * np.maximum(np.diag(covariance), 1e-300)))

    def grown(far: float, ray: np.ndarray) -> float:
        return float(np.sqrt(test.growth_of_pair(pair, best + far * ray)))

    outlines: dict[float, list[list[float]]] = {level: [] for level in LEVELS}
    closed = dict.fromkeys(LEVELS, True)
    for angle in np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False):
        ray = spread @ np.array([np.cos(angle), np.sin(angle)])
        end = tried = 0.0  # where the outline of the last level is, and the farthest place that was tried
        for level in LEVELS:
            most = float(np.sqrt(2 * fisher.isf(1 - level, 2, test.df)))
            near, far = end, tried if tried > end else max(end, most / 2)
            while (there := grown(far, ray)) < most and far < FARTHEST:
                near, far = far, min(2 * far, FARTHEST)
            tried = end = far
            if there < most:
                ends = (np.clip(best + reach * ray, low, high) for reach in (far, far / 2))
                closed[level] &= bool(np.allclose(*ends, rtol=1e-6))  # a bound of its own ends it
            else:
                root = lambda at, ray=ray, most=most: grown(at, ray) - most  # noqa: E731
                end = brentq(root, near, far, xtol=0.02 * far)
            vector = test.vector.copy()
            vector[pair] = np.clip(best + end * ray, low, high)
            values = problem.values(vector)
            outlines[level].append([float(values[name]) for name in names])
    return [Region(names, level, np.array(outlines[level]), closed[level]) for level in LEVELS]
