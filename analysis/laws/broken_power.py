"""A power law that changes its exponent once, smoothly (Caballero et al., arXiv 2210.14891, one break).

    L(X) = l_inf + amplitude z^-b_early ((1 + z^(1/f)) / 2)^(-(b_late - b_early) f),   z = X / x_break

One curve of its own for each size. Their c0 is b_early and their c1 is b_late - b_early: so both exponents can be kept
above 0 and the curve falls. Their b is the amplitude at X = 1, ours stands at the break, where the data are. f is the
width of the break in ln X; six parameters ask for a long curve.
"""

from __future__ import annotations

from math import inf

import numpy as np

from analysis.laws import Law, Parameter


def fall(x, values):
    """(L - l_inf) / amplitude; by logs, the power of a narrow break overflows."""
    ln_z = np.log(x / values["x_break"])
    broken = (np.logaddexp(0.0, ln_z / values["f"]) - np.log(2)) * values["f"]
    return np.exp(-values["b_early"] * ln_z - (values["b_late"] - values["b_early"]) * broken)


LAW = Law(
    name="broken_power",
    formula="L = l_inf + amplitude z^-b_early ((1 + z^(1/f))/2)^(-(b_late - b_early) f) for each size, z = X/x_break",
    citation="Caballero et al., arXiv 2210.14891, one break",
    parameters=(
        Parameter("l_inf", "1", "loss without end of training", (0.0, inf), per_size=True, linear=True, symbol="L∞"),
        Parameter("amplitude", "1", "L - l_inf at the break", (0.0, inf), per_size=True, linear=True, symbol="A"),
        Parameter("b_early", "1", "exponent before the break", (0.0, 5.0), per_size=True, starts=(0.1,), symbol="b1"),
        Parameter(
            "b_late", "1", "exponent after the break", (0.0, 5.0), per_size=True, starts=(0.05, 0.5), symbol="b2"
        ),
        Parameter(
            "x_break",
            "unit of X",
            "X of the break",
            (1e-1, 1e1),
            of_x=True,
            per_size=True,
            starts=(0.3, 0.7),
            symbol="X0",
        ),
        Parameter("f", "1", "width of the break in ln X", (0.05, 3.0), per_size=True, starts=(0.4,), symbol="f"),
    ),
    curve=lambda n, x, values: values["l_inf"] + values["amplitude"] * fall(x, values),
    predicts="more X at fitted sizes",
    link="identity",
    cross_entropy=True,
)
