"""The optimum that a solver returns: parameters, fitted losses, and what each start reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# ---------------------------------------------------------------- the optimum


@dataclass(frozen=True)
class Solution:
    """An optimum.

    Fields:
        values: shared parameters by name, floats. per_size: the others by name, (n_sizes,) each.
        eta: (n,) fitted ln L of the points.
        slope, intercept: (n_sizes,) k(N) and E(N), E at X = 1; of a law without straight lines its tangent at the
            middle of the size's points on the log axis.
        objective: the criterion at the optimum, in the objective's own unit.
        information: (n_sizes,) weighted sum of squares of ln X within each size, at the optimum's weights.
        starts: one entry per start: where it began, what it reached, its `objective`, whether that is the `best`.
        bound_hits: names of parameters at a bound.
        covariance: names and covariance matrix of the shared parameters, scales in logs, by the scatter between runs
            (cluster sandwich); None where the first solver was used, or where it is singular.
        condition_number: of the scaled Jacobian of the second solver, else None.
    """

    values: dict[str, float]
    per_size: dict[str, np.ndarray]
    eta: np.ndarray
    slope: np.ndarray
    intercept: np.ndarray
    objective: float
    information: np.ndarray
    starts: list[dict[str, Any]]
    bound_hits: list[str]
    rounds: int
    converged: bool
    covariance: tuple[list[str], np.ndarray] | None = None
    condition_number: float | None = None
