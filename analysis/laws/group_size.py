"""Pass rate against compute for each group size G, and the G that is best at a budget (arXiv 2603.12151).

    R(G, C) = r0 + (a(G) - r0(G)) / (1 + (c_mid(G) / C)^b(G)),   L = 1 - R

At one model size: the upper envelope over G of these sigmoids gives G*(C), and ln G*(C) is itself a sigmoid in ln C
(`optimal_group`; `analysis.frontier` fits it where the envelope changes its G often enough).
"""

from __future__ import annotations

import numpy as np

from analysis.laws import SIGMOID, Law, sigmoid_rate


def optimal_group(x, smallest, largest, c_mid, steepness):
    """G*(C): ln G* rises from ln smallest to ln largest as a sigmoid in ln C, half of the way at c_mid."""
    ends = {"r0": np.log(smallest), "a": np.log(largest)}
    return np.exp(sigmoid_rate(np.asarray(x, float), {**ends, "c_mid": c_mid, "b": steepness}))


LAW = Law(
    name="group_size",
    formula="1 - L = r0 + (a - r0) / (1 + (c_mid/X)^b) for each group size",
    citation="arXiv 2603.12151",
    parameters=SIGMOID,
    curve=lambda group, x, values: 1 - sigmoid_rate(x, values),
    predicts="more X at fitted group sizes",
    link="identity",
    group="group_size",
    each="group size",
    letter="G",
)
