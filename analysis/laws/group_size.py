"""Pass rate against compute for each group size G, and the G that is best at a budget (arXiv 2603.12151).

    R(G, C) = r0 + (a(G) - r0(G)) / (1 + (c_mid(G) / C)^b(G)),   L = 1 - R

At one model size: the upper envelope over G of these sigmoids gives G*(C), and ln G*(C) is itself a sigmoid in ln C
(`optimal_group`; `analysis.frontier` fits it where the envelope changes its G often enough).
"""

from __future__ import annotations

import numpy as np

from analysis.laws import Law, Parameter, sigmoid_rate


def optimal_group(x, smallest, largest, c_mid, steepness):
    """G*(C): ln G* rises from ln smallest to ln largest as a sigmoid in ln C, half of the way at c_mid."""
    gone = 1 / (1 + (c_mid / np.asarray(x, float)) ** steepness)
    return np.exp((1 - gone) * np.log(smallest) + gone * np.log(largest))


LAW = Law(
    name="group_size",
    formula="1 - L = r0 + (a - r0) / (1 + (c_mid/X)^b) for each group size",
    citation="arXiv 2603.12151",
    parameters=(
        Parameter("r0", "1", "pass rate before training", (0.0, 1.0), per_size=True, linear=True),
        Parameter("a", "1", "pass rate without end of compute", (0.0, 1.0), per_size=True, linear=True),
        Parameter(
            "c_mid", "unit of X", "X at half of the way", (1e-2, 1e4), of_x=True, per_size=True, starts=(0.3, 0.7, 1.2)
        ),
        Parameter("b", "1", "steepness", (0.05, 10.0), per_size=True, starts=(0.5, 1.5)),
    ),
    curve=lambda group, x, values: 1 - sigmoid_rate(x, values),
    predicts="more X at fitted group sizes",
    link="identity",
    group="group_size",
)
