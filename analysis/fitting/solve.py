"""Find the optimum of a law: points in, parameters out. Nothing here knows where the points come from.

There are two solvers. Straight lines with a free level per size take `analysis.fitting.lines`; every other law, and the
objective `huber`, take `analysis.fitting.general`.
"""

from __future__ import annotations

import numpy as np

from analysis.fitting.choices import OBJECTIVES
from analysis.fitting.general import _solve_general
from analysis.fitting.lines import _solve_lines
from analysis.fitting.points import Points
from analysis.fitting.solution import Solution
from analysis.laws import Law
from scaling.schema import InputError, check_name


def solve(
    points: Points,
    law: Law,
    objective: str = "log",
    published_bounds: bool = False,
    start: dict[str, float] | None = None,
) -> Solution:
    """Minimise the objective over the law's parameters. Deterministic: equal data give equal bytes.

    `start` adds a start of one's own (values of parameters that are not linear) in front of the law's; every start is
    reported with what it reached.
    """
    check_name(objective, OBJECTIVES, "objective")
    response = points.ln_loss()
    if objective == "binomial" and points.trials is None:
        raise InputError("objective binomial needs the counts: a column eval_problems; without it use log or linear.")
    if objective in ("log", "huber") and np.isinf(response).any():
        raise InputError(
            f"a test loss is 0 at {int(np.isinf(response).sum())} points and eval_problems is unknown, so its log has "
            "no floor: add the column eval_problems, or use objective linear."
        )
    # Only a start: linear needs no log, and the least positive loss is as good a place as any.
    response = np.where(np.isinf(response), np.log(np.min(points.loss[points.loss > 0], initial=1.0)), response)
    if law.closed_form and objective != "huber":
        return _solve_lines(points, law, objective, published_bounds, response, start)
    return _solve_general(points, law, objective, published_bounds, response, start)
