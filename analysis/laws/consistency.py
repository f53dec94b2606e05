"""Compute and data as one law (Tan et al., arXiv 2509.25300): where C = N D phi, one k(N) serves both axes.

    ln L = -k(N) ln D + E_D(N),   k_C = k_D,   E_C(N) = E_D(N) + k(N) ln(N phi)

phi, FLOPs per prompt and parameter, is the median of C / (N D) over the data. One constrained fit: X is the mean, on a
log axis, of D and C / (N phi), which are equal where the constraint holds. The record says how far the free fits are
from it and tests it.
"""

from __future__ import annotations

from math import inf

import numpy as np

from analysis.laws import K_MAX, N0, SATURATING, Law, Parameter, saturating_slope

LAW = Law(
    name="consistency",
    formula="ln L = -k(N) ln D + E(N) and C = N D phi, k(N) = k_max / (1 + n0/N)",
    citation="Tan et al., arXiv 2509.25300",
    parameters=(
        K_MAX,
        N0,
        Parameter("intercept", "1", "ln L at D = 1", (-inf, inf), per_size=True, linear=True, symbol="E"),
    ),
    curve=lambda n, x, values: values["intercept"] - saturating_slope(n, values) * np.log(x),
    predicts="more D or C at fitted sizes; of an unseen size only the slope",
    **SATURATING,
    axes=("prompts_seen", "train_flops"),
    x=("prompts_seen",),
)
