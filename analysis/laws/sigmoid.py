"""The sigmoid of ScaleRL (arXiv 2510.13786): pass rate against compute, with an asymptote below 1.

    R(C) = r0 + (a - r0) / (1 + (c_mid / C)^b),   L = 1 - R

One curve of its own for each size. On a log axis a power law has no asymptote and a sigmoid has one: early points
hardly tell them apart.
"""

from __future__ import annotations

import numpy as np

from analysis.laws import SIGMOID, Law, sigmoid_rate


def cost_to(pass_rate, values):
    """X at which R is reached: c_mid ((R - r0) / (a - R))^(1/b); inf where R is never reached."""
    rate, r0, a = np.asarray(pass_rate, float), values["r0"], values["a"]
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = values["c_mid"] * (np.maximum(rate - r0, 0) / (a - rate)) ** (1 / values["b"])
    return np.where(rate < a, cost, np.inf)


LAW = Law(
    name="sigmoid",
    formula="1 - L = r0 + (a - r0) / (1 + (c_mid/X)^b) for each size",
    citation="ScaleRL, arXiv 2510.13786",
    parameters=SIGMOID,
    curve=lambda n, x, values: 1 - sigmoid_rate(x, values),
    predicts="more X at fitted sizes",
    link="identity",
)
