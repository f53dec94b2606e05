"""Section: what the intervals rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.fitting.record import Fit
from analysis.missing import Missing
from analysis.reporting.runs import test_set
from analysis.reporting.study import Study
from analysis.words import counted, joined, span, whole


def interval_sentences(study: Study) -> list[str]:
    table, said = study.fitted().table, []
    if "eval_problems" in table and table["eval_problems"].notna().any():
        more = "For new problems of the same kind they are too narrow, by how much was not measured for this law; "
        if study.main is not None and study.main.law.saturates:
            more = f"For new problems of the same kind add in quadrature about {question_shares(study.main, table)}; "
        said.append(
            f"One test set: {test_set(table)}, the same for every run and step. Intervals hold for this set. {more}"
            "no number of seeds can show it."
        )
    if study.main:
        document, each = study.main.json(), study.main.law.each
        per_size = [line["n_runs"] for line in document["per_size"]]
        said.append(
            "Runs are independent, points of one curve are not: intervals rest on "
            f"{counted(document['n_runs'], 'run')} "
            f"({span(per_size, whole)} at each {each}), not on {counted(document['n_points'], 'point')}."
        )
        said += law_basis(study.main, max(per_size))
    if study.bases:
        bases = {(base["recipe"]["size"], base["recipe"].get("base_seed")) for base in study.bases}
        seeds = study.curves.table.groupby(study.size_column)["seed"].nunique()
        own = len(bases) >= int(seeds.sum())
        said.append(
            "Each seed starts from a base model of its own, so the spread between seeds contains that of the base, the "
            "largest source of variance here."
            if own
            else "Seeds of one size share a base model: the intervals are too narrow for another base."
        )
    if "n_runs" in table:
        said.append(
            "Curves are means over runs; their scatter is what is left after the mean, and the seeds are not seen "
            "singly."
        )
    said.append(
        "The choice of window, objective and axis is not in the intervals; what it moves is in the section above."
    )
    return [*said, self_test_sentence(study.coverage)] if study.main else said


def question_shares(fitted: Fit, table: Any) -> str:
    """What other questions would add to the intervals of a saturating k(N)."""
    scale = float(np.sqrt(500 / table["eval_problems"].max()))
    big, small = (fitted.law.symbols[name] for name in fitted.law.tested_on_slopes)
    return (
        f"{3.5 * scale:.1f} % of {big} and {5 * scale:.1f} % of {small} "
        "(measured on the reference study, scaled to this number of problems)"
    )


def law_basis(fitted: Fit, most_runs: int) -> list[str]:
    """What the intervals of the law's parameters and of each k rest on."""
    law, intervals = fitted.law, fitted.record["intervals"]
    basis = intervals["parameters_basis"]
    others = [p.symbol for p in law.parameters if p.name not in law.tested_on_slopes]
    rest = [f"Intervals of {joined(others)}: {basis}."] if basis and not law.closed_form else []
    if law.shape is not None and most_runs == 1:
        degrees = counted(max(fitted.record["n_runs"] - 2, 0), "degree")
        return [
            f"One run per size: the interval of the law assumes the law; scatter about it has {degrees} of freedom.",
            *rest,
        ]
    if law.shape is not None:
        return [
            "The shared parameters allow that sizes miss the law by a little; the interval of one size's k rests "
            "on the spread between its own runs and that of the other sizes.",
            *rest,
        ]
    return [*rest, f"The interval of the k of one {law.each}: {intervals['per_size_basis']}."]


def self_test_sentence(tested: Mapping[str, Any] | Missing) -> str:
    if isinstance(tested, Missing):
        return f"No coverage self-test: {tested.reason}"
    return f"Coverage self-test, {tested['studies']} simulated studies: {tested['text']}."
