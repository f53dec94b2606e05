"""A power law that ends on a plateau, one curve for each size: the classic form, and a contrast to the sigmoid.

    L(X) = l_inf + amplitude X^-b

With an error rate as L it has no upper end, so it fits the early points worse and over-predicts the asymptote.
"""

from __future__ import annotations

from math import inf

from analysis.laws import Law, Parameter

LAW = Law(
    name="power_plateau",
    formula="L = l_inf + amplitude X^-b for each size",
    citation="classic; set beside the sigmoid in arXiv 2510.13786",
    parameters=(
        Parameter("l_inf", "1", "loss without end of training", (0.0, inf), per_size=True, linear=True, symbol="L∞"),
        Parameter("amplitude", "1", "L - l_inf at X = 1", (0.0, inf), per_size=True, linear=True, at_x="b", symbol="A"),
        Parameter("b", "1", "exponent", (1e-3, 5.0), per_size=True, symbol="b", starts=(0.03, 0.15, 0.5)),
    ),
    curve=lambda n, x, values: values["l_inf"] + values["amplitude"] * x ** -values["b"],
    predicts="more X at fitted sizes",
    link="identity",
    cross_entropy=True,
)
