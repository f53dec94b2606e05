"""Learning efficiency with a level linear in ln N, so that an unseen size is predicted with nothing tuned on it.

    ln L(N, X) = -k(N) ln X + e0 - e1 ln N,   k(N) = k_max / (1 + n0 / N)

The slopes are those of Tan et al. (arXiv 2509.25300), whose levels are free. On their curves the level at the early
steps is near linear in ln N; it misses 72B by -.06 in ln L.
"""

from __future__ import annotations

import numpy as np

from analysis.laws import BOTH, K_MAX, N0, SATURATING, Law, Parameter, saturating_slope

LAW = Law(
    name="efficiency_log_level",
    formula="ln L = -k(N) ln X + e0 - e1 ln N, k(N) = k_max / (1 + n0/N)",
    citation="slopes of Tan et al., arXiv 2509.25300, with a level of N",
    parameters=(
        K_MAX,
        N0,
        Parameter("e0", "1", "ln L at X = 1 and N = 1", BOTH, linear=True, symbol="E0"),
        Parameter("e1", "1", "fall of ln L at X = 1 per ln N", BOTH, linear=True, symbol="E1"),
    ),
    curve=lambda n, x, values: values["e0"] - values["e1"] * np.log(n) - saturating_slope(n, values) * np.log(x),
    predicts="any size and any X",
    level_at_one=True,
    **SATURATING,
)
