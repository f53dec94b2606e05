"""The sections of the report that set several fits or runs side by side."""

from __future__ import annotations

from functools import partial

from analysis.missing import Missing, attempt
from analysis.reporting.budgets import size_budgets
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
    curves, main = study.curves, study.main
    if main is None:
        return {}
    if main.law.axes:
        return {"forecasts": Section([f"Law {main.law.name} says nothing of sizes along one axis: no forecast."], {})}
    sections = {
        "forecasts": forecasts(curves, main, study.choices, study.labels),
        "next_runs": next_runs(curves, main, study.choices, study.labels),
    }
    sections["laws"], scored = laws(curves, main, study.choices)
    if not isinstance(study.ladder, Missing):
        sections["frontier"] = size_budgets(study.fits["train_flops"], study.ladder, study.labels, scored)
    return sections


def added(study: Study) -> dict[str, Section]:
    """The sections that files of this folder add, by their id."""
    sections = {}
    for page_section in added_sections():
        section = attempt(partial(page_section.make, study))
        sections[page_section.id] = Section([section.reason], {}) if isinstance(section, Missing) else section
    return sections
