"""Chinchilla where data repeat (Muennighoff et al., arXiv 2305.16264): a repeated prompt is worth less and less.

    L(N, D) = e + a / N^alpha + b / D'^beta,   D' = U (1 + r_star (1 - exp(-R / r_star))),   R = D / U - 1

U is the distinct data consumed so far and R how often they were repeated; `reuse` is D / U at each point. Without
repeats D' = D; r_star is the number of repeats after which they are worth 1 - 1/e of all they can be.
"""

from __future__ import annotations

from math import inf

from analysis.laws import DATA, R_STAR, Law, Parameter, effective

LAW = Law(
    name="data_constrained",
    formula="L = e + a/N^alpha + b/X'^beta, X' = (X/reuse) (1 + r_star (1 - exp(-(reuse - 1)/r_star)))",
    citation="Muennighoff et al., arXiv 2305.16264",
    parameters=(
        Parameter("e", "unit of L", "loss that neither size nor data removes", (0.0, inf), linear=True, symbol="E"),
        Parameter("a", "1", "amplitude of size", (0.0, inf), linear=True, at_size="alpha", symbol="A"),
        Parameter("b", "1", "amplitude of data", (0.0, inf), linear=True, at_x="beta", symbol="B"),
        Parameter("alpha", "1", "exponent of size", (0.01, 3.0), symbol="α", starts=(0.1, 0.6)),
        Parameter("beta", "1", "exponent of data", (0.01, 3.0), symbol="β", starts=(0.1, 0.6)),
        R_STAR,
    ),
    curve=lambda n, x, values, reuse: (
        values["e"]
        + values["a"] * n ** -values["alpha"]
        + values["b"] * effective(x, reuse, values["r_star"]) ** -values["beta"]
    ),
    predicts="any size, any X and any reuse",
    link="identity",
    columns=("reuse",),
    cross_entropy=True,
    x=DATA,
)
