"""The box at the top of the report: what was run, what the data say, what they do not."""

from __future__ import annotations

from collections.abc import Mapping

from analysis.missing import Missing
from analysis.reporting.algorithms import algorithms_title
from analysis.reporting.curves import other_warnings
from analysis.reporting.drawing import Drawing, findings, link
from analysis.reporting.efficiency import efficiency_sentence, limit_sentence, zero_sentence
from analysis.reporting.rollouts import drift_sentence
from analysis.reporting.runs import cut_sentence, failed_sentence, other_sets, test_set
from analysis.reporting.study import Study
from analysis.reporting.tables import Table, ends_of
from analysis.words import AXES, contains_zero, counted, interval, joined, show_of, span


def summary(
    study: Study, drawings: Mapping[str, Drawing | Missing], tables: Mapping[str, Table | None]
) -> dict[str, list[tuple[str, str]]]:
    """The box at the top: (tag or "", sentence)."""
    return {
        "run": summary_run(study),
        "says": summary_verdict(study) + [("", sentence) for sentence in summary_says(study, drawings)],
        "unknown": summary_unknown(study, drawings, tables),
    }


def summary_run(study: Study) -> list[tuple[str, str]]:
    table, runs = study.curves.table, study.curves.runs()
    sizes = [study.labels[n] for n in sorted(study.labels)]
    which = f"{counted(len(sizes), 'size')} ({sizes[0]} to {sizes[-1]})" if len(sizes) > 1 else f"one size ({sizes[0]})"
    kind = "mean curve" if "n_runs" in table else "run"
    said = [f"{counted(len(runs), kind)} of {which}, {span(runs['last_step'].tolist(), '{:.0f}'.format)} steps"]
    if "seed" in runs and runs["seed"].nunique() > 0:
        said[0] += f", {counted(runs['seed'].nunique(), 'seed')}"
    if "algorithm" in runs:
        said[0] += f", {joined(sorted(str(a).upper() for a in runs['algorithm'].dropna().unique()))}"
    items = [("", f"{said[0]}.")]
    if "eval_problems" in table and table["eval_problems"].notna().any():
        items.append(("", f"Test set: {test_set(table)}."))
    if beside := other_sets(table):
        items.append(("beside it", f"{'; '.join(beside)} at the end of the runs; every step is in curve.jsonl."))
    left = [item for item in study.curves.left_out if not item["reason"].startswith("not in the current")]
    if left:
        names = joined([item["run"] for item in left[:4]] + ([f"{len(left) - 4} more"] if len(left) > 4 else []))
        items.append((f"{len(left)} missing", f"{names}: not in any number of this page."))
    elif study.curves.folder:
        items.append(("complete", "Every run of the study is done."))
    if "n_runs" in table and (table["n_runs"].isna().any() or table.groupby("run_id")["n_runs"].nunique().max() > 1):
        items.append(("uneven", "The number of runs behind a mean changes within curves or is unknown."))
    return items


def summary_verdict(study: Study) -> list[tuple[str, str]]:
    """Whether the law describes the curves, before anything that it says."""
    verdict = study.main.verdict if study.main else None
    return [("verdict", f"Law {study.main.record['law']}: {verdict['text']}.")] if study.main and verdict else []


def summary_says(study: Study, drawings: Mapping[str, Drawing | Missing]) -> list[str]:
    """Three sentences: the first three of what this study can say."""
    said = []
    if study.main:
        figure = link(drawings["efficiency"])
        said.append(efficiency_sentence(study.main, study.fit_labels).rstrip(".") + f"{figure}.")
        values = study.main.json()["values"].values()
        means_nothing = (study.main.verdict or {}).get("verdict") == "does not describe"
        if values and all(value["identified"] for value in values) and not means_nothing:
            said.append(limit_sentence(study.main))
    others = [drawings[name] for name in ("reuse", "algorithm_comparison", "frontier", "group_size")]
    said += [f"{finding.rstrip('.')}{link(other)}." for other in others for finding in findings(other)]
    return said[:3] or ["No law could be fitted and no comparison be made; see below."]


def summary_unknown(
    study: Study, drawings: Mapping[str, Drawing | Missing], tables: Mapping[str, Table | None]
) -> list[tuple[str, str]]:
    items = []
    for axis, missing in study.no_fit.items():
        if axis in ("train_flops", study.main_axis):
            instead = ""
            if study.main and axis in study.fits:
                instead = f"; lines of each {study.main.law.each} stand in its place"
            items.append(("no fit", f"against {AXES.get(axis, axis)}: {missing.reason.rstrip('.')}{instead}."))
    if study.main:
        law, values = study.main.law, study.main.json()["values"]
        without = [law.symbols[name] for name, value in values.items() if not value["ci95"]]
        if len(without) > 2:
            items.append(("not identified", f"{joined(without)}: no interval{link(drawings['efficiency'])}."))
        for name, value in values.items():
            if not value["identified"] and (value["ci95"] or len(without) <= 2):
                show, symbol = show_of(value), law.symbols[name]
                text = f"{symbol}: optimum {show(value['value'])}, 95 % {interval(value['ci95'], show)}"
                items.append(("not identified", f"{text}{link(drawings['efficiency'])}."))
        zero = zero_sentence(study.main, study.fit_labels)
        if zero:
            items.append(("not established", zero))
        warnings = [text for text in other_warnings(study.main.json()) if not text.startswith("Verdict: ")]
        items += [("warning", text) for text in warnings[:2]]
    if cut := cut_sentence(study):
        items.append(("warning", cut))
    if failed := failed_sentence(study):
        items.append(("warning", failed))
    if drift := drift_sentence(study):
        items.append(("warning", drift))
    if compared := tables["algorithms"]:
        rows = compared.frame.to_dict("records")
        unclear = [row["label"] for row in rows if contains_zero(ends_of(row)) or row["pairs"] == 1]
        if unclear:
            figure = link(drawings["algorithm_comparison"])
            items.append(("not established", f"{algorithms_title(study.algorithms)} at {joined(unclear)}{figure}."))
    return items or [("", f"Every parameter of the law has a finite interval; what moves with the choices is in "
                          f"{link(drawings['sensitivity']).strip(' ()') or 'the section on choices'}.")]  # fmt: skip
