"""A law as a user would add it: one file. Its slopes rise with ln N and have no limit, unlike those of any shipped law.

ln L(N, X) = -k(N) ln X + E(N),   k(N) = k_one ln(1 + N / n_one)
"""

from __future__ import annotations

from math import inf

import numpy as np

from analysis.laws import Law, Parameter


def shape(n, n_one):
    return np.log1p(n / n_one)


LAW = Law(
    name="log_slope",
    formula="ln L = -k(N) ln X + E(N), k(N) = k_one ln(1 + N/n_one)",
    citation="a test",
    parameters=(
        Parameter("k_one", "1", "k at N = 1.7 n_one", (0.0, inf), linear=True, symbol="K1"),
        Parameter("n_one", "parameters", "size from which k grows with ln N", (1e-3, 1e3), of_size=True,
                  starts=(-0.5, 0.5, 1.5), symbol="N1"),
        Parameter("intercept", "1", "ln L at X = 1", (-inf, inf), per_size=True, linear=True, symbol="E"),
    ),
    curve=lambda n, x, values: values["intercept"] - values["k_one"] * shape(n, values["n_one"]) * np.log(x),
    predicts="more X at fitted sizes; of an unseen size only the slope",
    shape=shape,
    amplitude="k_one",
    scale="n_one",
)  # fmt: skip
