"""Chinchilla (Hoffmann et al., arXiv 2203.15556): loss of a language model by its size and its data.

    L(N, D) = e + a / N^alpha + b / D^beta

Fitted as its source did with objective huber: Huber loss (delta 1e-3) of ln L. Replicated on the points of figure 4 by
Besiroglu et al. (arXiv 2404.10102).
"""

from __future__ import annotations

from math import inf

from analysis.laws import DATA, Law, Parameter


def optimal_size(flops, values):
    """N* at which L is least where flops = 6 N D: G (flops / 6)^(beta / (alpha + beta))."""
    alpha, beta = values["alpha"], values["beta"]
    g = (alpha * values["a"] / (beta * values["b"])) ** (1 / (alpha + beta))
    return g * (flops / 6) ** (beta / (alpha + beta))


LAW = Law(
    name="chinchilla",
    formula="L = e + a/N^alpha + b/X^beta",
    citation="Hoffmann et al., arXiv 2203.15556",
    parameters=(
        Parameter("e", "unit of L", "loss that neither size nor data removes", (0.0, inf), linear=True, symbol="E"),
        Parameter("a", "1", "amplitude of size", (0.0, inf), linear=True, at_size="alpha", symbol="A"),
        Parameter("b", "1", "amplitude of data", (0.0, inf), linear=True, at_x="beta", symbol="B"),
        Parameter("alpha", "1", "exponent of size", (0.01, 3.0), symbol="α", starts=(0.1, 0.4, 0.9)),
        Parameter("beta", "1", "exponent of data", (0.01, 3.0), symbol="β", starts=(0.1, 0.4, 0.9)),
    ),
    curve=lambda n, x, values: values["e"] + values["a"] * n ** -values["alpha"] + values["b"] * x ** -values["beta"],
    predicts="any size and any X",
    link="identity",
    cross_entropy=True,
    x=DATA,
)
