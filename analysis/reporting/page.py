"""The page of the report: its contents, its tables in order, and the template filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from analysis import figures
from analysis.laws import Law
from analysis.missing import Missing
from analysis.reporting.algorithms import algorithm_sentences, algorithms_table
from analysis.reporting.curves import fit_sentences, unseen_slope
from analysis.reporting.drawing import Drawing, curve_figures, findings
from analysis.reporting.efficiency import (
    axis_name,
    efficiency_sentence,
    efficiency_table,
    limit_sentence,
    own_parameters_table,
    parameters_table,
    zero_sentence,
)
from analysis.reporting.intervals import interval_sentences
from analysis.reporting.markup import TEMPLATES, environment
from analysis.reporting.provenance import provenance
from analysis.reporting.rollouts import rollouts
from analysis.reporting.runs import conditions_table, left_out_table, runs_table
from analysis.reporting.section import Section, added_sections, contents
from analysis.reporting.sensitivity import sensitivity_sentences, sensitivity_table
from analysis.reporting.settings import covariates_table, settings_table, what_was_held
from analysis.reporting.study import Study
from analysis.reporting.summary import summary
from analysis.reporting.tables import Table
from analysis.words import as_sentence, counted

SYMBOLS = (
    "N parameters of the policy; D prompts seen, repeats included; U distinct prompts; τ = D / U data reuse; G "
    "rollouts per prompt; T tokens processed, prompt and response; C = 6 N T training compute in FLOPs; L test loss, 1 "
    "− pass@1; k(N) learning efficiency, −d ln L / d ln X for X = C or D; "
)


def symbols_line(study: Study) -> str:
    """What the letters of the page mean, with those of the law."""
    if study.main is None:
        return f"{SYMBOLS}E(N) intercept, ln L at X = 1. Brackets hold 95 % intervals."
    law = study.main.law
    own = [] if law.saturates else [f"{p.symbol} {in_symbols(p.meaning, law)}" for p in law.shared]
    if law.saturates:
        big, small = (law.symbols[name] for name in law.tested_on_slopes)
        own = [f"{big} its limit as N grows", f"{small} the size at which k = {big}/2"]
        own += [f"{p.symbol} {in_symbols(p.meaning, law)}" for p in law.shared if p.name not in law.tested_on_slopes]
    if "E" not in law.symbols.values() or any(p.symbol == "E" and p.name == "intercept" for p in law.parameters):
        own.append("E(N) intercept, ln L at X = 1")
    own += ["t step"] if study.main_axis == "step" else []
    return f"{SYMBOLS}{'; '.join(own)}. Brackets hold 95 % intervals."


def in_symbols(meaning: str, law: Law) -> str:
    return re.sub(r"[A-Za-z]\w*", lambda word: law.symbols.get(word[0], word[0]), meaning).replace(" - ", " − ")


def all_tables(study: Study, sections: Mapping[str, Section]) -> dict[str, Table | None]:
    """The tables by name, in the order of the page; None where the study has nothing to fill one."""
    return {
        "conditions": conditions_table(study),
        "left_out": left_out_table(study),
        "covariates": covariates_table(study),
        "runs": runs_table(study),
        "settings": settings_table(study),
        "efficiency": efficiency_table(study),
        "parameters": parameters_table(study),
        "own_parameters": own_parameters_table(study),
        "algorithms": algorithms_table(study),
        "sensitivity": sensitivity_table(study),
        **dict.fromkeys(SECTION_TABLES),
        **{name: table for section in sections.values() for name, table in section.tables.items()},
    }


# What the sections make, for a study that lacks some of them.
SECTIONS = ("forecasts", "next_runs", "laws", "frontier", "reuse", "algorithms", "consistency")
SECTION_TABLES = (
    "forecasts", "next_runs", "laws", "segments", "crossovers", "cost", "continuous", "reuse_differences",
    "group_segments", "algorithm_effects", "consistency",
)  # fmt: skip


def curve_parts(study: Study) -> list[dict[str, Any]]:
    """For each axis its heading, the sentences on its fit and the name of its figure; the law is explained once."""
    sentences = {axis: fit_sentences(fitted) for axis, fitted in study.fits.items()}
    parts, told = [], False
    for axis, figure in curve_figures(study).items():
        said = sentences.get(axis, [])
        parts.append(
            {"heading": f"Against {axis_name(axis)}", "sentences": said[1:] if told else said, "figure": figure}
        )
        told = told or bool(said)
    return parts


def render(
    study: Study,
    sections: Mapping[str, Section],
    drawings: Mapping[str, Drawing | Missing],
    tables: Mapping[str, Table | None],
) -> str:
    left_out = [] if tables["left_out"] else ["Runs left out: none."]
    left_out += [as_sentence(text) for text in study.curves.notes]
    limits = [limit_sentence(study.main)] if study.main and study.main.json()["values"] else []
    sizes = [study.labels[n].split()[0] for n in sorted(study.labels)]
    return (
        environment(list(study.main.law.symbols.values()) if study.main else [])
        .get_template("report.html.j2")
        .render(
            css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8").strip()),
            title=f"How test loss scales with size and compute: {study.name}",
            subtitle=" · ".join(
                [
                    f"{len(sizes)} sizes, {sizes[0]}–{sizes[-1]}" if len(sizes) > 1 else f"one size, {sizes[0]}",
                    counted(
                        study.curves.table["run_id"].nunique(),
                        "mean curve" if "n_runs" in study.curves.table else "run",
                    ),
                    counted(int(study.curves.table["test_loss"].notna().sum()), "evaluation"),
                ]
            ),
            contents=contents().items(),
            added=[(section, sections[section.id]) for section in added_sections()],
            figures_of=figures.BY_SECTION,
            figures=drawings,
            tables=tables,
            summary=summary(study, drawings, tables),
            runs={"left_out": left_out, **what_was_held(study)},
            sections={name: sections[name].sentences if name in sections else [] for name in SECTIONS},
            curve_parts=curve_parts(study),
            unseen=[unseen_slope(study)],
            efficiency=[
                efficiency_sentence(study.main, study.fit_labels),
                *limits,
                zero_sentence(study.main, study.fit_labels),
            ]
            if study.main
            else [],
            efficiency_question=efficiency_question(study),
            frontier=[*said, FREE_STEP] if (said := findings(drawings["frontier"])) else [],
            reuse=findings(drawings["reuse"]),
            group_size=findings(drawings["group_size"]),
            algorithms=algorithm_sentences(tables["algorithms"]),
            compute=findings(drawings["compute_split"]),
            choices=sensitivity_sentences(study, tables["sensitivity"]),
            rollouts=rollouts(study),
            intervals=interval_sentences(study),
            provenance=provenance(study),
            symbols_line=symbols_line(study),
        )
        + "\n"
    )


def efficiency_question(study: Study) -> str:
    if study.main is not None and study.main.law.group:
        return f"How does learning depend on the {study.main.law.each}?"
    limit = study.main is None or study.main.law.saturates or not study.main.law.shared
    return f"How much faster do larger models learn{', and is a limit in sight' if limit else ''}?"


FREE_STEP = (
    "Step 0 costs no training compute: where budgets are small the frontier ranks base models and says nothing of RL."
)
