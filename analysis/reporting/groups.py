"""Section: the best number of rollouts by budget."""

from __future__ import annotations

from analysis.fitting.record import Fit
from analysis.questions.envelope import Envelope
from analysis.reporting.budgets import one_run_each, segments_table
from analysis.reporting.section import Section


def group_budgets(fitted: Fit, envelope: Envelope) -> Section:
    """G*(C): the best number of rollouts by budget."""
    labels = {float(value): f"G = {value:.0f}" for value in envelope.values}
    rest = (
        "one run per group size borrows the spread between seeds." if one_run_each(fitted) else "at the level of runs."
    )
    table = segments_table(
        envelope, labels, "group_segments", "Best group size by budget", "train_flops", "group size", rest
    )
    return Section([], {"group_segments": table})
