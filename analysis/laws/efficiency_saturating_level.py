"""Learning efficiency with a level that saturates with N, so that an unseen size is predicted with nothing tuned on it.

    ln L(N, X) = -k(N) ln X + e_inf + e1 / (1 + n_e / N),   k(N) = k_max / (1 + n0 / N)

The slopes are those of Tan et al. (arXiv 2509.25300), whose levels are free. ln L at X = 1 goes from e_inf at small N
to e_inf + e1 at large N.
"""

from __future__ import annotations

from math import inf

import numpy as np

from analysis.laws import K_MAX, N0, SATURATING, Law, Parameter, saturating_slope, saturation

BOTH = (-inf, inf)


LAW = Law(
    name="efficiency_saturating_level",
    formula="ln L = -k(N) ln X + e_inf + e1 / (1 + n_e/N), k(N) = k_max / (1 + n0/N)",
    citation="slopes of Tan et al., arXiv 2509.25300, with a level of N",
    parameters=(
        K_MAX,
        N0,
        Parameter("e_inf", "1", "ln L at X = 1 of small models", BOTH, linear=True, symbol="E∞"),
        Parameter(
            "e1", "1", "difference of ln L at X = 1 between large and small models", BOTH, linear=True, symbol="E1"
        ),
        Parameter(
            "n_e",
            "parameters",
            "size at half of that difference",
            (1e-3, 1e3),
            of_size=True,
            starts=(-0.5, 0.5, 1.5),
            symbol="Ne",
        ),
    ),
    curve=lambda n, x, values: (
        values["e_inf"] + values["e1"] * saturation(n, values["n_e"]) - saturating_slope(n, values) * np.log(x)
    ),
    predicts="any size and any X",
    level_at_one=True,
    **SATURATING,
)
