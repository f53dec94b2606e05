"""What to do with a budget: which size, which group size, how often to reuse a prompt, what a loss costs.

Every choice comes with what the data cannot tell apart, or with "not identified". Lines are each size's own, over the
range in which it was run; step 0 is free, so at small budgets a frontier ranks base models and says nothing of
training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices
from analysis.fitting.record import Fit
from analysis.intervals.fitted import fit_with_intervals
from analysis.missing import Missing, attempt
from analysis.questions.cost import check_target, cost_to_target, crossovers
from analysis.questions.envelope import Envelope, envelope, segments, switches
from analysis.questions.finals import evaluations
from analysis.questions.groups import group_law, group_lines
from analysis.questions.optimum import budgets_of, continuous
from analysis.questions.reuse import refuse_idle_replicates, reuse_threshold
from scaling.schema import InputError


def frontier(
    curves: Curves, choices: Choices, target: float | None = None, replicates: Curves | None = None
) -> dict[str, Any]:
    """Everything above for one source; see `analysis.frontier`. No point is held out."""
    if target is not None:
        check_target(target, curves)
    if replicates is not None:
        refuse_idle_replicates(curves, replicates)
    document: dict[str, Any] = {
        "source": curves.source,
        "where": choices.where,
        "law": choices.law,
        "x": choices.axis(curves),
        "each": choices.formula.each,
        "target": target,
    }

    def put(name: str, make: Callable[[], Any]) -> None:
        part = attempt(make)
        document[name] = part.json() if isinstance(part, Missing) else part

    try:
        fit = fit_with_intervals(curves, replace(choices, split="none"))
    except InputError as error:
        if "two sizes" not in str(error):
            raise
        document |= dict.fromkeys(("sizes", "continuous", "crossovers", "cost"), Missing(str(error)).json())
        document |= {"verdict": None, "warnings": []}
    else:
        document |= {"verdict": fit.verdict, "warnings": fit.warnings}
        put("sizes", lambda: best_by_budget(envelope(fit)))
        put("continuous", lambda: continuous(fit, _budgets(fit), choices.seed))
        put("crossovers", lambda: crossovers(fit))
        if target is not None:
            put("cost", lambda: cost_to_target(fit, target))
        frame = evaluations(fit.curves, fit.record["size_column"])
        before = frame[frame["step"] == 0]
        document["untrained"] = None if before.empty else float(before.groupby("size")["test_loss"].mean().min())
    put("group_size", lambda: best_group(curves, choices.steps))
    put("reuse", lambda: reuse_threshold(curves, replicates))
    return document


def best_by_budget(envelope: Envelope) -> dict[str, Any]:
    return {"segments": segments(envelope), "switches": switches(envelope)}


def best_group(curves: Curves, steps: str | None) -> dict[str, Any]:
    """The best group size by budget, and the law of it. Raises InputError where no two group sizes were run."""
    lines = group_lines(curves, steps)
    law = attempt(lambda: group_law(lines.envelope))
    return {
        "num_params": float(lines.rows["size"].iloc[0]), **best_by_budget(lines.envelope),
        "law": law.json() if isinstance(law, Missing) else law,
    }  # fmt: skip


def _budgets(fit: Fit) -> np.ndarray:
    """(13,) X in equal ratios over the range at which the best size is asked for."""
    low, high = np.exp(budgets_of(fit).ends)
    return np.geomspace(float(low), float(high), 13)
