"""The learning-efficiency law of Tan et al. (arXiv 2509.25300): slopes saturate with size, one free level per size.

    ln L(N, X) = -k(N) ln X + E(N),   k(N) = k_max / (1 + n0 / N)

L is the test loss 1 - pass@1, X any axis of cost (training FLOPs, prompts, ...). k does not depend on the base of the
logarithm; E does (natural here, base 10 in the published tables).
"""

from __future__ import annotations

from math import inf

import numpy as np

from analysis.laws import K_MAX, N0, SATURATING, Law, Parameter, saturating_slope

LAW = Law(
    name="efficiency",
    formula="ln L = -k(N) ln X + E(N), k(N) = k_max / (1 + n0/N)",
    citation="Tan et al., arXiv 2509.25300",
    parameters=(
        K_MAX,
        N0,
        Parameter("intercept", "1", "ln L at X = 1", (-inf, inf), per_size=True, linear=True, symbol="E"),
    ),
    curve=lambda n, x, values: values["intercept"] - saturating_slope(n, values) * np.log(x),
    predicts="more X at fitted sizes; of an unseen size only the slope",
    **SATURATING,
)
