"""The sigmoid of ScaleRL (arXiv 2510.13786) across sizes, so that a size that was not run has a curve too.

    R(N, X) = r0(N) + (a(N) - r0(N)) / (1 + (c_mid(N) / X)^b),   L = 1 - R
    logit r0 = r0_at + r0_by ln(N/1e9),   logit a = a_at + a_by ln(N/1e9),   c_mid(N) = c_mid (N/1e9)^c_by

Pass rates before and after training are straight in their log odds against ln N, and half of the way is reached at a
power of N: the plainest forms that keep a rate between 0 and 1 (after predictive scaling, arXiv 2507.18014, which
takes the ends as functions of N and of the rate before training).
"""

from __future__ import annotations

from analysis.laws import R0_OF_SIZE, Law, Parameter, odds_of_size, sigmoid_rate


def of_size(n, values):
    """The parameters of the sigmoid of one size."""
    return {
        "r0": odds_of_size(n, values, "r0"), "a": odds_of_size(n, values, "a"),
        "c_mid": values["c_mid"] * (n / 1e9) ** values["c_by"], "b": values["b"],
    }  # fmt: skip


LAW = Law(
    name="sigmoid_of_size",
    formula="1 - L = r0(N) + (a(N) - r0(N)) / (1 + (c_mid (N/1e9)^c_by / X)^b), log odds of r0 and a straight in ln N",
    citation="the sigmoid of ScaleRL, arXiv 2510.13786, across sizes",
    parameters=(
        *R0_OF_SIZE,
        Parameter(
            "a_at", "1", "log odds of the pass rate without end of compute at N = 1e9", (-10.0, 10.0), starts=(1.0,)
        ),
        Parameter("a_by", "1", "rise of the log odds without end of compute per ln N", (-5.0, 5.0), starts=(0.2,)),
        Parameter(
            "c_mid",
            "unit of X",
            "X at half of the way at N = 1e9",
            (1e-9, 1e9),
            of_x=True,
            starts=(0.3, 0.8),
            symbol="Xmid",
        ),
        Parameter("c_by", "1", "exponent of N in the X at half of the way", (-3.0, 3.0), starts=(0.0, 0.6)),
        Parameter("b", "1", "steepness", (0.05, 10.0), starts=(0.5, 1.2), symbol="B"),
    ),
    curve=lambda n, x, values: 1 - sigmoid_rate(x, of_size(n, values)),
    predicts="any size and any X",
    link="identity",
)
