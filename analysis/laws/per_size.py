"""Independent lines: slope and level free for each size. The reference against which a law of N is judged.

ln L(N, X) = -k_N ln X + E_N
"""

from __future__ import annotations

from math import inf

import numpy as np

from analysis.laws import Law, Parameter

LAW = Law(
    name="per_size",
    formula="ln L = -k ln X + E, k and E free for each size",
    citation="straight lines; as the independent slopes of Tan et al., arXiv 2509.25300",
    parameters=(
        Parameter(
            "efficiency",
            "1",
            "learning efficiency, -d ln L / d ln X",
            (-inf, inf),
            per_size=True,
            linear=True,
            symbol="k",
        ),
        Parameter("intercept", "1", "ln L at X = 1", (-inf, inf), per_size=True, linear=True, symbol="E"),
    ),
    curve=lambda n, x, values: values["intercept"] - values["efficiency"] * np.log(x),
    predicts="more X at fitted sizes",
    slope=lambda n, values: values["efficiency"],
)
