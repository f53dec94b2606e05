"""What to do with a budget: which size, which group size, how often to reuse a prompt, what a loss costs.

Every choice comes with what the data cannot tell apart, or with "not identified". Lines are each size's own, over the
range in which it was run; step 0 is free, so at small budgets a frontier ranks base models and says nothing of
training.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices
from analysis.fitting.record import Fit
from analysis.intervals.fitted import fit_with_intervals
from analysis.questions.cost import cost_to_target, crossovers
from analysis.questions.envelope import _switches, envelope, segments
from analysis.questions.finals import evaluations
from analysis.questions.groups import group_fit, group_law
from analysis.questions.optimum import continuous
from analysis.questions.reuse import reuse_threshold
from scaling.schema import InputError


def frontier(
    curves: Curves, choices: Choices, target: float | None = None, replicates: Curves | None = None
) -> dict[str, Any]:
    """Everything above for one source; see `analysis.frontier`. No point is held out."""
    choices = replace(choices, split="none")
    found: dict[str, Any] = {"source": curves.source, "law": choices.law, "x": choices.x, "target": target}

    def part(name: str, make: Any) -> None:
        try:
            found[name] = make()
        except InputError as error:
            found[name] = {"error": str(error)}

    fit: Fit | None = None
    try:
        fit = fit_with_intervals(curves, choices)
    except InputError as error:
        if "two sizes" not in str(error):
            raise
        reason = {"error": str(error)}
        found |= dict.fromkeys(("sizes", "continuous", "crossovers", "cost"), reason)
        found["warnings"] = []
    if fit is not None:
        ladder = fit
        found["warnings"] = ladder.warnings
        part("sizes", lambda: {"segments": segments(e := envelope(ladder)), "switches": _switches(e)})
        budgets = np.geomspace(*np.exp([ladder.points.x.min(), ladder.points.x.max()]), 13)  # type: ignore[union-attr]
        part("continuous", lambda: continuous(ladder, budgets, choices.seed))
        part("crossovers", lambda: crossovers(ladder))
        if target is not None:
            part("cost", lambda: cost_to_target(ladder, target))
        frame = evaluations(ladder.curves, ladder.record["size_column"])
        before = frame[frame["step"] == 0]
        found["untrained"] = None if before.empty else float(before.groupby("size")["test_loss"].mean().min())

    def of_groups() -> dict[str, Any]:
        groups, rows = group_fit(curves, choices.steps)
        e = envelope(groups)
        return {"num_params": float(rows["size"].iloc[0]), "segments": segments(e), "switches": _switches(e),
                "law": group_law(e)}  # fmt: skip

    part("group_size", of_groups)
    part("reuse", lambda: reuse_threshold(curves, replicates))
    return found
