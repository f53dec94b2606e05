"""The sections of the report that set several fits or runs side by side."""

from __future__ import annotations

from functools import partial

from analysis.fitting.record import Fit
from analysis.missing import Missing, attempt
from analysis.questions.envelope import Envelope
from analysis.reporting.budgets import size_budgets
from analysis.reporting.consistency import consistency
from analysis.reporting.effects import algorithm_effects
from analysis.reporting.forecasts import forecasts
from analysis.reporting.groups import group_budgets
from analysis.reporting.laws import laws
from analysis.reporting.next_runs import next_runs
from analysis.reporting.reuse import reuse_costs
from analysis.reporting.section import Section, added_sections
from analysis.reporting.study import Study, companion, replicates


def compare(study: Study) -> dict[str, Section]:
    """By place on the page: forecasts, laws, budgets, reuse and algorithms, and the sections that files add; what
    cannot be made says why there."""
    curves = study.curves
    sections = {
        "algorithms": algorithm_effects(study.pairs),
        "reuse": reuse_costs(companion(curves, "reuse"), replicates(curves)),
    }
    if not isinstance(study.groups, Missing):
        sections["group_size"] = group_budgets(study.groups.fit, study.groups.envelope)
    return sections | added(study) | of_law(study)


def of_law(study: Study) -> dict[str, Section]:
    """The sections that rest on the law of the study."""
    curves, main = study.seen(), study.main
    if main is None:
        return {}
    sections = {
        "forecasts": forecasts(curves, main, study.choices, study.fit_labels),
        "next_runs": next_runs(curves, main, study.choices, study.fit_labels),
    }
    sections["laws"], scored = laws(curves, main, study.choices)
    if isinstance(study.compute, Fit) and isinstance(study.ladder, Envelope):
        sections["frontier"] = size_budgets(study.compute, study.ladder, study.labels, scored, main)
    if "consistency" in main.record:
        sections["consistency"] = consistency(main, study.labels)
    return sections


def added(study: Study) -> dict[str, Section]:
    """The sections that files of this folder add, by their id."""
    sections = {}
    for page_section in added_sections():
        section = attempt(partial(page_section.make, study))
        sections[page_section.id] = Section([section.reason], {}) if isinstance(section, Missing) else section
    return sections
