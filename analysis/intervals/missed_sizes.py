"""Which sizes a law that they share is far from: their own lines against the law's curves there.

The shape of the curves says nothing of that: a law can have the right slopes on average and the wrong one everywhere.
A size is missed where its level and slope about the law are more than runs of a size differ (F(2, df), Holm over sizes
at 5 %), and the law is farther from its line than half of what the loss falls there, root mean square over its points.
False alarms: none in 60 simulated studies each of a Chinchilla surface and of a law with a level of N, with three, two
and one runs of a size, seeds 5 % in slope and 2 % in level, or twice that.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import f as fisher

from analysis.fitting.points import Points
from analysis.fitting.problem import Problem
from analysis.fitting.solution import Solution
from analysis.intervals.paired_test import holm
from analysis.intervals.scatter import NoScatter, seed_scatter, shifts_of
from analysis.laws import Law

LEVEL = 0.05
FAR = 1 / 2  # of the root mean square fall of a size's own line
MANY = 1 / 2  # share of the sizes from which a law does not describe the curves
FAR_ALONE = 1.0  # with one run of each size: a seed may differ by more than the borrowed spread says
LEAST_FALL = 1 / 3  # of the mean over sizes, below which a fall counts as this: flat curves are missed by little


def missed_sizes(points: Points, law: Law, solution: Solution) -> np.ndarray:
    """(n_sizes,) whether the law is far from the size; all False where nothing tells how far runs differ."""
    problem = Problem(points, law, "log", False)
    vector, n = problem.vector(solution), len(points.sizes)
    try:
        noise = seed_scatter(problem, vector)
    except NoScatter:
        return np.zeros(n, bool)
    residual = noise.response - problem.eta(vector)
    level, slope, weight, square, away = shifts_of(residual, points.x, 1 / noise.variance, points.size, n)
    runs = np.bincount(points.run_sizes(), minlength=n)
    of_level, of_slope, df = (
        np.array([values[np.unique(noise.group[points.size == i])].mean() for i in range(n)])
        for values in (noise.level, noise.slope, noise.df)
    )
    squares = level**2 / (1 / weight + of_level / runs)
    some = square > 0
    squares += np.where(some, slope**2 / (1 / np.where(some, square, 1.0) + of_slope / runs), 0.0)
    p = holm(np.asarray(fisher.sf(squares / 2, 2, np.minimum(df, 1e6))))
    width = np.sqrt(points.sum_by_size(away**2) / points.sum_by_size(np.ones(len(away))))
    # The slope of the law there less that of its residual is the size's own.
    fall = np.abs(solution.slope - slope) * width
    fall = np.maximum(fall, LEAST_FALL * fall.mean())
    repeated = bool(np.isfinite(noise.df).any())
    far = np.sqrt(level**2 + (slope * width) ** 2) > (FAR if repeated else FAR_ALONE) * fall
    missed = far & (p < LEVEL)
    # One run of each size may be far by its seed; half of the sizes are not.
    return missed if repeated or missed.mean() >= MANY else np.zeros(n, bool)
