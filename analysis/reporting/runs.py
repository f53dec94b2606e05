"""Section: what was run, by condition and by run, on which test set, and which runs are left out."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.curves.frame import Frame
from analysis.questions.runs import last_evaluations
from analysis.reporting.settings import setting_name
from analysis.reporting.study import Study
from analysis.reporting.tables import Column, Table, of
from analysis.words import counted, number, span, whole
from scaling import files, schema

MUCH_CUT = 0.05  # of the responses of an evaluation


def condition_keys(study: Study) -> list[str]:
    """The columns that tell conditions apart: size, algorithm, tau, G and every setting that differs between runs."""
    runs = study.curves.runs()
    keys = [study.size_column, *(name for name in ("model", "algorithm", "reuse_factor", "group_size") if name in runs)]
    return [
        *keys,
        *(name for name in study.curves.settings if name not in keys and runs[name].nunique(dropna=False) > 1),
    ]


def run_names(study: Study) -> dict[str, str]:
    """A name of each run that people can read: the config's, else its id."""
    return {run: (study.configs.get(run) or {}).get("name") or run for run in study.curves.table["run_id"].unique()}


def runs_frame(study: Study) -> Frame:
    runs = last_evaluations(study.curves)
    names = run_names(study)
    return runs.assign(
        name=runs["run_id"].map(names),
        size=runs[study.size_column].map(study.labels),
        status="done",
        fitted=in_the_fits(study, runs["run_id"]),
    )


def in_the_fits(study: Study, runs: Sequence[str]) -> list[str]:
    """Of each run whether the fits use it: yes, in part, held out or no."""
    if study.main is None:
        return ["no" for _ in runs]
    record, rows = study.main.record, set(study.choices.rows(study.curves).table["run_id"])
    held = record["held_out"] is not None
    used = "in part" if held and record["split"] != "inter" else "yes"
    return [used if run in record["runs"] else "held out" if held and run in rows else "no" for run in runs]


def run_columns(study: Study, frame: Frame) -> list[Column]:
    """The columns that both tables of runs share: N, and the settings in which runs differ."""
    columns = []
    size = study.size_column
    if frame[size].max() < 1e7:  # else the label is as good
        columns.append(Column("N", of(size, whole)))
    shown: dict[str, Column] = {
        "algorithm": Column("algorithm", of("algorithm", lambda name: str(name).upper()), left=True),
        "reuse_factor": Column("τ", of("reuse_factor", "{:.3g}".format)),
        "group_size": Column("G", of("group_size", whole)),
    }
    runs = study.curves.runs()
    columns += [column for key, column in shown.items() if key in runs and runs[key].nunique(dropna=False) > 1]
    known = {size, "num_params", "model", *shown}
    others = [key for key in condition_keys(study) if key not in known]
    return columns + [Column(setting_name(key), of(key), left=True) for key in others]


def conditions_table(study: Study) -> Table:
    """One row per condition: how many runs, how far, what came out, at what cost."""
    runs = runs_frame(study)
    rows = []
    for _, group in runs.groupby(condition_keys(study), dropna=False, sort=True):
        first = group.iloc[0].to_dict()
        rows.append(
            {
                **{key: first[key] for key in [*condition_keys(study), "size", "num_params"] if key in first},
                **({key: first[key] for key in ("num_params_non_embedding",) if key in first}),
                "status": "done",
                "runs": len(group),
                "seeds": ", ".join(f"{seed:g}" for seed in sorted(group["seed"].dropna())) if "seed" in group else None,
                "steps": span(group["last_step"].tolist(), "{:.0f}".format),
                "first_test_loss": group["first_test_loss"].mean(),
                "final_test_loss": group["final_test_loss"].mean(),
                "final_test_loss_min": group["final_test_loss"].min(),
                "final_test_loss_max": group["final_test_loss"].max(),
                **({"cpu_seconds": group["cpu_seconds"].sum()} if "cpu_seconds" in group else {}),
                **(
                    {
                        n: group[n].agg((n[:5] == "least" and "min") or "max")
                        for n in ("least_runs", "most_runs")
                        if n in group
                    }
                ),
            }
        )
    frame = pd.DataFrame(rows)
    columns = [Column("size", of("size"))]
    columns += [Column("status", lambda row: f"{row['runs']} done", left=True, status=True)]
    columns += run_columns(study, frame)
    if frame["seeds"].notna().any():
        columns.append(Column("seeds", of("seeds"), left=True))
    if "least_runs" in frame:
        columns.append(Column("runs in the mean", lambda row: mean_of(row["least_runs"], row["most_runs"])))
    columns.append(Column("steps", of("steps")))
    if frame["first_test_loss"].notna().any():
        columns.append(Column("L at step 0", of("first_test_loss", number)))
    columns.append(Column("final L", of("final_test_loss", number)))
    if (frame["runs"] > 1).any():
        columns.append(
            Column("range", lambda row: span([row["final_test_loss_min"], row["final_test_loss_max"]], number))
        )
    if "cpu_seconds" in frame:
        columns.append(Column("CPU s", of("cpu_seconds", whole)))
    note = "N counts parameters without the embedding table. " if "num_params_non_embedding" in frame else ""
    note += "L: last evaluation" + (", mean over the seeds." if (frame["runs"] > 1).any() else ".")
    return Table("conditions", "Runs by condition", frame, columns, note)


def mean_of(least: float, most: float) -> str:
    return "unknown" if np.isnan(least) else span([least, most], whole)


def runs_table(study: Study) -> Table:
    frame = runs_frame(study)
    columns = [
        Column("run", of("name")),
        Column("status", of("status"), status=True),
        Column("size", of("size"), left=True),
        *run_columns(study, frame),
    ]
    if "seed" in frame and frame["seed"].notna().any():
        columns.append(Column("seed", of("seed", whole)))
    columns += [
        Column("step reached", of("last_step", whole)),
        Column("evaluations", of("evaluations", whole)),
        Column("final L", of("final_test_loss", number)),
        Column("in the fits", of("fitted"), left=True),
    ]
    if "cpu_seconds" in frame:
        columns.insert(-1, Column("CPU s", of("cpu_seconds", whole)))
    return Table("runs", f"Every run ({len(frame)})", frame, columns)


def left_out_table(study: Study) -> Table | None:
    """Runs that the study names and the fits lack, each with its reason."""
    if not study.curves.left_out:
        return None
    cells = (files.read_json(study.curves.folder / schema.CELLS) or {}) if study.curves.folder else {}
    axes = {cell["run_id"]: cell.get("axes") or {} for cell in cells.get("cells", [])}
    rows = []
    for item in study.curves.left_out:
        word, _, reason = item["reason"].partition(": ")
        settings = ", ".join(f"{k} {v}" for k, v in axes.get(re.sub(r".*\((\w+)\)$", r"\1", item["run"]), {}).items())
        known = word in ("damaged", "failed", "incomplete", "missing")
        rows.append({"run": item["run"], "status": word if known else "not used", "settings": settings or None})
        rows[-1]["reason"] = reason if known else item["reason"]
    columns = [
        Column("run", of("run")),
        Column("status", of("status"), status=True),
        Column("settings", of("settings"), left=True),
        Column("reason", of("reason"), left=True),
    ]
    return Table("left_out", "Runs that are not in any number below", pd.DataFrame(rows), columns)


def other_sets(table: Frame) -> list[str]:
    """`amc pass@4 0.21–0.35` for each set that was evaluated beside the test set, over the runs' last values."""
    names = []
    for column in table.columns:
        parts = str(column).removeprefix(schema.SETS).rsplit(".pass_at_", 1)
        if str(column).startswith(schema.SETS) and len(parts) == 2 and parts[1].isdigit():
            last = table.groupby("run_id")[column].last().dropna()
            if len(last):
                names.append(f"{parts[0]} pass@{parts[1]} {span(sorted(last.unique()), '{:.3g}'.format)}")
    return names


def test_set(table: Frame) -> str:
    problems = span(sorted(table["eval_problems"].dropna().unique()), whole)
    samples = sorted(table["eval_samples"].dropna().unique()) if "eval_samples" in table else []
    each = (
        "one sample each"
        if samples == [1]
        else f"{span(samples, whole)} samples each"
        if samples
        else "samples unknown"
    )
    return f"{problems} fixed problems, {each}"


def failed_sentence(study: Study) -> str:
    """How many answers were graded wrong because their verifier failed; empty where none was."""
    table = study.curves.table
    if "verifier_failures" not in table:
        return ""
    failed = table.groupby("run_id")["verifier_failures"].sum()
    failed = failed[failed > 0]
    if failed.empty:
        return ""
    return (
        f"The verifier failed on {counted(int(failed.sum()), 'answer')} in {counted(len(failed), 'run')}, most of them "
        f"in {run_names(study)[str(failed.idxmax())]} ({failed.max():.0f}): each was graded wrong, right or not."
    )


def cut_sentence(study: Study) -> str:
    """Which runs end with so many responses cut at their limit that it matters for L; empty where none does."""
    table = study.curves.table
    if "eval_truncated_share" not in table:
        return ""
    known = table[table["test_loss"].notna()].sort_values("step")
    last = known.groupby("run_id")["eval_truncated_share"].last()
    cut = last[last >= MUCH_CUT]
    if cut.empty:
        return ""
    return (
        f"{counted(len(cut), 'run')} had {100 * MUCH_CUT:.0f} % or more of the responses of the last evaluation cut at "
        f"their limit of tokens, most of them {run_names(study)[str(cut.idxmax())]} "
        f"({100 * cut.max():.0f} %): a cut answer counts as wrong, so a part of L is length."
    )
