"""Exponential saturation (arXiv 2507.18014), one curve for each size.

R(X) = r_inf - (r_inf - r0) exp(-X / x0),   L = 1 - R
"""

from __future__ import annotations

import numpy as np

from analysis.laws import Law, Parameter

LAW = Law(
    name="exponential",
    formula="1 - L = r_inf - (r_inf - r0) exp(-X/x0) for each size",
    citation="arXiv 2507.18014",
    parameters=(
        Parameter(
            "r_inf", "1", "pass rate without end of training", (0.0, 1.0), per_size=True, linear=True, symbol="R∞"
        ),
        Parameter("r0", "1", "pass rate before training", (0.0, 1.0), per_size=True, linear=True, symbol="R0"),
        Parameter(
            "x0",
            "unit of X",
            "X at 63 % of the way",
            (1e-2, 1e3),
            of_x=True,
            per_size=True,
            starts=(0.4, 0.8, 1.2),
            symbol="X0",
        ),
    ),
    curve=lambda n, x, values: 1 - values["r_inf"] * (1 - (e := np.exp(-x / values["x0"]))) - values["r0"] * e,
    predicts="more X at fitted sizes",
    link="identity",
)
