"""A power law that changes its exponent once, smoothly (Caballero et al., arXiv 2210.14891, one break).

    L(X) = l_inf + amplitude X^-b_early (1 + (X / x_break)^(1/f))^(-(b_late - b_early) f)

One curve of its own for each size. Their c0 is b_early and their c1 is b_late - b_early: so both exponents can be kept
above 0 and the curve falls. f is the width of the break in ln X; six parameters ask for a long curve.
"""

from __future__ import annotations

from math import inf

import numpy as np

from analysis.laws import Law, Parameter


def fall(x, values):
    """(L - l_inf) / amplitude; by logs, the power of a narrow break overflows."""
    broken = np.logaddexp(0.0, np.log(x / values["x_break"]) / values["f"]) * values["f"]
    return np.exp(-values["b_early"] * np.log(x) - (values["b_late"] - values["b_early"]) * broken)


LAW = Law(
    name="broken_power",
    formula="L = l_inf + amplitude X^-b_early (1 + (X/x_break)^(1/f))^(-(b_late - b_early) f) for each size",
    citation="Caballero et al., arXiv 2210.14891, one break",
    parameters=(
        Parameter("l_inf", "1", "loss without end of training", (0.0, inf), per_size=True, linear=True),
        Parameter("amplitude", "1", "L - l_inf at X = 1", (0.0, inf), per_size=True, linear=True),
        Parameter("b_early", "1", "exponent before the break", (0.0, 5.0), per_size=True, starts=(0.02, 0.4)),
        Parameter("b_late", "1", "exponent after the break", (0.0, 5.0), per_size=True, starts=(0.05, 0.5)),
        Parameter("x_break", "unit of X", "X of the break", (1e-1, 1e1), of_x=True, per_size=True, starts=(0.3, 0.7)),
        Parameter("f", "1", "width of the break in ln X", (0.05, 3.0), per_size=True, starts=(0.4,)),
    ),
    curve=lambda n, x, values: values["l_inf"] + values["amplitude"] * fall(x, values),
    predicts="more X at fitted sizes",
    link="identity",
    cross_entropy=True,
)
