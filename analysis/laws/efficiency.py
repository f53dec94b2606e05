"""The learning-efficiency law of Tan et al. (arXiv 2509.25300): slopes saturate with size, one free level per size.

    ln L(N, X) = -k(N) ln X + E(N),   k(N) = k_max / (1 + n0 / N)

L is the test loss 1 - pass@1, X any axis of cost (training FLOPs, prompts, ...). k does not depend on the base of the
logarithm; E does (natural here, base 10 in the published tables).
"""

from __future__ import annotations

from math import inf

from analysis.laws import Law, Parameter


def shape(n, n0):
    """k(N) / k_max, in [0, 1]: N / (N + n0)."""
    return 1 / (1 + n0 / n)


LAW = Law(
    name="efficiency",
    formula="ln L = -k(N) ln X + E(N), k(N) = k_max / (1 + n0/N)",
    citation="Tan et al., arXiv 2509.25300",
    parameters=(
        Parameter("k_max", "1", "learning efficiency as N grows without bound", (0.0, inf), published=(0.0, 2.0)),
        Parameter(
            "n0", "parameters", "size at which k = k_max / 2", (1e-3, 1e3), of_size=True, published=(0.1e9, 100e9)
        ),
        Parameter("intercept", "1", "ln L at X = 1", (-inf, inf), per_size=True),
    ),
    slope=lambda n, values: values["k_max"] * shape(n, values["n0"]),
    intercept=lambda n, values: values["intercept"],
    shape=shape,
    amplitude="k_max",
    scale="n0",
)
