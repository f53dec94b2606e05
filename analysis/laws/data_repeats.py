"""Repeated data at one size: `data_constrained` (Muennighoff et al., arXiv 2305.16264) without its part of N.

    L(D) = e + b / D'^beta,   D' = U (1 + r_star (1 - exp(-R / r_star))),   R = D / U - 1

With one size the amplitude of N and the loss without end are one number: what is left is what repeats are worth. Where
there are several sizes each has a floor and an amplitude of its own.
"""

from __future__ import annotations

from math import inf

from analysis.laws import DATA, R_STAR, Law, Parameter, effective

LAW = Law(
    name="data_repeats",
    formula="L = e + b/X'^beta for each size, X' = (X/reuse) (1 + r_star (1 - exp(-(reuse - 1)/r_star)))",
    citation="Muennighoff et al., arXiv 2305.16264, at each size by itself",
    parameters=(
        Parameter("e", "unit of L", "loss without end of data", (0.0, inf), per_size=True, linear=True, symbol="E"),
        Parameter("b", "1", "amplitude of data", (0.0, inf), per_size=True, linear=True, at_x="beta", symbol="B"),
        Parameter("beta", "1", "exponent of data", (0.01, 3.0), symbol="β", starts=(0.1, 0.6)),
        R_STAR,
    ),
    curve=lambda n, x, values, reuse: (
        values["e"] + values["b"] * effective(x, reuse, values["r_star"]) ** -values["beta"]
    ),
    predicts="more X and any reuse at fitted sizes",
    link="identity",
    columns=("reuse",),
    cross_entropy=True,
    x=DATA,
)
