"""Exponential saturation (arXiv 2507.18014) across sizes, so that a size that was not run has a curve too.

R(N, X) = r_inf(N) - (r_inf(N) - r0(N)) exp(-X / x0(N)),   L = 1 - R
logit r0 = r0_at + r0_by ln(N/1e9),   logit r_inf = r_inf_at + r_inf_by ln(N/1e9),   x0(N) = x0 (N/1e9)^x_by
"""

from __future__ import annotations

import numpy as np

from analysis.laws import R0_OF_SIZE, Law, Parameter, odds_of_size


def curve(n, x, values):
    gone = np.exp(-x / (values["x0"] * (n / 1e9) ** values["x_by"]))
    return 1 - odds_of_size(n, values, "r_inf") * (1 - gone) - odds_of_size(n, values, "r0") * gone


LAW = Law(
    name="exponential_of_size",
    formula="1 - L = r_inf(N) - (r_inf(N) - r0(N)) exp(-X / (x0 (N/1e9)^x_by)), log odds of both straight in ln N",
    citation="arXiv 2507.18014, across sizes",
    parameters=(
        *R0_OF_SIZE,
        Parameter(
            "r_inf_at",
            "1",
            "log odds of the pass rate without end of training at N = 1e9",
            (-10.0, 10.0),
            starts=(1.0,),
        ),
        Parameter("r_inf_by", "1", "rise of the log odds without end of training per ln N", (-5.0, 5.0), starts=(0.2,)),
        Parameter(
            "x0", "unit of X", "X at 63 % of the way at N = 1e9", (1e-9, 1e9), of_x=True, starts=(0.4, 0.8), symbol="X0"
        ),
        Parameter("x_by", "1", "exponent of N in that X", (-3.0, 3.0), starts=(0.0, 0.6)),
    ),
    curve=curve,
    predicts="any size and any X",
    link="identity",
)
