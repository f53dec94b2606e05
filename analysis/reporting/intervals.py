"""Section: what the intervals rest on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.missing import Missing
from analysis.reporting.runs import test_set
from analysis.reporting.study import Study
from analysis.words import counted, span, whole


def interval_sentences(study: Study) -> list[str]:
    table, said = study.fitted().table, []
    if "eval_problems" in table and table["eval_problems"].notna().any():
        scale = float(np.sqrt(500 / table["eval_problems"].max()))
        said.append(
            f"One test set: {test_set(table)}, the same for every run and step. Intervals hold for this set. For new "
            f"problems of the same kind add in quadrature about {3.5 * scale:.1f} % of Kmax and {5 * scale:.1f} % of "
            "N0 "
            "(measured on the reference study, scaled to this number of problems); no number of seeds can show it."
        )
    if study.main:
        document = study.main.json()
        per_size = [line["n_runs"] for line in document["per_size"]]
        said.append(
            "Runs are independent, points of one curve are not: intervals rest on "
            f"{counted(document['n_runs'], 'run')} "
            f"({span(per_size, whole)} at each size), not on {counted(document['n_points'], 'point')}."
        )
        if max(per_size) == 1:
            degrees = counted(max(document["n_runs"] - 2, 0), "degree")
            said.append(
                f"One run per size: the interval of the law assumes the law; scatter about it has {degrees} of freedom."
            )
        else:
            said.append(
                "The shared parameters allow that sizes miss the law by a little; the interval of one size's k rests "
                "on the spread between its own runs and that of the other sizes."
            )
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


def self_test_sentence(tested: Mapping[str, Any] | Missing) -> str:
    if isinstance(tested, Missing):
        return f"No coverage self-test: {tested.reason}"
    return f"Coverage self-test, {tested['studies']} simulated studies: {tested['text']}."
