"""The law of data reuse (Tan et al., arXiv 2509.25300): a line for each reuse factor tau, at one size.

    ln L(tau, X) = -k(tau) ln X + E(tau)

tau is the number of passes over the distinct prompts at the end of the run; the study takes the step as X. At a fixed
number of steps its final loss is flat in tau up to about 25.
"""

from __future__ import annotations

from math import inf

import numpy as np

from analysis.laws import Law, Parameter

LAW = Law(
    name="tau",
    formula="ln L = -k(tau) ln X + E(tau), k and E free for each reuse factor tau",
    citation="Tan et al., arXiv 2509.25300",
    parameters=(
        Parameter(
            "efficiency", "1", "-d ln L / d ln X at this tau", (-inf, inf), per_size=True, linear=True, symbol="k"
        ),
        Parameter("intercept", "1", "ln L at X = 1 at this tau", (-inf, inf), per_size=True, linear=True, symbol="E"),
    ),
    curve=lambda tau, x, values: values["intercept"] - values["efficiency"] * np.log(x),
    predicts="more X at fitted reuse factors",
    slope=lambda tau, values: values["efficiency"],
    x=("step", "train_flops"),
    group="reuse_factor",
    each="reuse factor",
    letter="τ",
)
