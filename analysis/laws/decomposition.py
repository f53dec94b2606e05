"""Loss decomposition (Tan et al., arXiv 2509.25300, appendix): a floor, a part of size, a part that training removes.

    L(N, D) = l_inf + (n0 / N)^alpha + amplitude(N) / (1 + (D / d0(N))^beta)

l_inf, n0, alpha and beta are shared; the amplitude (their lambda) and d0 are free for each size.
"""

from __future__ import annotations

from analysis.laws import Law, Parameter


def fixed_part(n, values):
    """What training does not remove: l_inf + (n0 / N)^alpha."""
    return values["l_inf"] + (values["n0"] / n) ** values["alpha"]


def steepest_slope(n, values):
    """-d ln L / d ln D at D = d0: (beta / 2) / (1 + S), S = 2 (l_inf + (n0 / N)^alpha) / amplitude."""
    return values["beta"] / 2 / (1 + 2 * fixed_part(n, values) / values["amplitude"])


LAW = Law(
    name="decomposition",
    formula="L = l_inf + (n0/N)^alpha + amplitude(N) / (1 + (X/d0(N))^beta)",
    citation="Tan et al., arXiv 2509.25300, appendix",
    parameters=(
        Parameter("l_inf", "1", "loss that neither size nor training removes", (0.0, 1.0), linear=True, symbol="L∞"),
        Parameter(
            "n0",
            "parameters",
            "size at which its own part is 1",
            (1e-9, 1e2),
            of_size=True,
            starts=(-0.3,),
            symbol="N0",
        ),
        Parameter("alpha", "1", "exponent of size", (0.01, 3.0), symbol="α", starts=(0.15, 0.6)),
        Parameter("beta", "1", "exponent of training", (0.05, 10.0), symbol="β", starts=(0.5, 1.2)),
        Parameter("amplitude", "1", "loss that training removes", (0.0, 1.0), per_size=True, linear=True, symbol="λ"),
        Parameter(
            "d0", "unit of X", "X at half of it", (1e-3, 1e3), of_x=True, per_size=True, starts=(0.6, 1.1), symbol="X0"
        ),
    ),
    curve=lambda n, x, values: fixed_part(n, values) + values["amplitude"] / (1 + (x / values["d0"]) ** values["beta"]),
    predicts="more X at fitted sizes",
    link="identity",
)
