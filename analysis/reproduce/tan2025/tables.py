"""Tables that set ours beside the published: parameters, efficiency, final loss, reuse, group size, windows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.curves.frame import Frame
from analysis.fitting.choices import Choices
from analysis.intervals.fitted import fit_with_intervals
from analysis.questions.envelope import segments
from analysis.questions.finals import evaluations
from analysis.questions.groups import group_lines
from analysis.questions.reuse import reuse_threshold
from analysis.reporting.tables import Column, Table, of
from analysis.reproduce.tan2025.cells import _ends, _split, billions, digits, size
from analysis.reproduce.tan2025.findings import findings_table, late_table, odd_table
from analysis.reproduce.tan2025.predictions import decomposition_table, inter_table, intra_table
from analysis.reproduce.tan2025.study import AXES, PROTOCOLS, PUBLISHED, WINDOWS, Study
from analysis.words import interval


def all_tables(study: Study) -> dict[str, Table]:
    """Every table by name: `fits`, `inter`, `intra`, `efficiency`, `decomposition`, `final`, `reuse`, `group_size`,
    `windows`, `late`, `odd`, `findings`."""
    return {
        "fits": fits_table(study),
        "inter": inter_table(study),
        "intra": intra_table(study),
        "efficiency": efficiency_table(study),
        "decomposition": decomposition_table(study),
        "final": final_table(study),
        "reuse": reuse_table(study),
        "group_size": group_table(study),
        "windows": windows_table(study),
        "late": late_table(study),
        "odd": odd_table(study),
        "findings": findings_table(study),
    }


def fits_table(study: Study) -> Table:
    rows = []
    for (x, protocol), (k_max, n0, r2) in PUBLISHED["fits"].items():
        words, choices = PROTOCOLS[protocol]
        fit = study.fit_choices(replace(choices, x=x))
        values, good = fit.values, fit.record["goodness"]
        row = {
            "protocol": f"L(N, {AXES[x]}), {protocol}", "points": words,
            "k_max": values["k_max"]["value"], "k_max_published": k_max,
            "n0": values["n0"]["value"] / 1e9, "n0_published": n0,
            "r2": good["r2_pooled"], "r2_published": r2, "r2_without_slope": good["r2_pooled_constant"],
        }  # fmt: skip
        for name in ("k_max", "n0", "r2"):
            row[f"{name}_difference"] = row[name] - row[f"{name}_published"]
        _split(row, "k_max", values["k_max"]["ci95"])
        _split(row, "n0", values["n0"]["ci95"])
        rows.append(row)
    columns = [
        Column("protocol", of("protocol")),
        Column("Kmax", of("k_max", digits(4))), Column("published", of("k_max_published", digits(3))),
        Column("difference", of("k_max_difference", digits(4, sign=True))),
        Column("95 %", lambda row: interval(_ends(row, "k_max"), lambda v: f"{v:.3f}")),
        Column("N0, 1e9", of("n0", digits(2))), Column("published", of("n0_published", digits(1))),
        Column("difference", of("n0_difference", digits(2, sign=True))),
        Column("95 %", lambda row: billions(_ends(row, "n0"))),
        Column("R2", of("r2", digits(4))), Column("published", of("r2_published", digits(3))),
        Column("difference", of("r2_difference", digits(4, sign=True))),
        Column("R2 of k = 0", of("r2_without_slope", digits(3))),
    ]  # fmt: skip
    note = (
        f"Points: intra, {PROTOCOLS['intra'][0]}; inter, {PROTOCOLS['inter'][0]}. "
        "Objective of the study: squared error on L, equal weight per size. Intervals: inverted profile F test on the "
        "slopes of the mean curves, one per size, so they assume the law. R2 is pooled and unweighted; a level per "
        "size without any slope has the R2 of the last column, so R2 alone says nothing."
    )
    return Table("fits", "Kmax, N0 and R2 by protocol and axis", pd.DataFrame(rows), columns, note)


def efficiency_table(study: Study) -> Table:
    fits = {x: study.fit(x=x) for x in AXES}
    rows = []
    for i, line in enumerate(fits["train_flops"].per_size):
        row: dict[str, Any] = {"num_params": line["num_params"]}
        for x, letter in AXES.items():
            own = fits[x].per_size[i]
            row |= {f"k_{letter}": own["efficiency"], f"k_law_{letter}": own["efficiency_law"],
                    f"E_{letter}": own["intercept"], f"E_law_{letter}": own["intercept_law"]}  # fmt: skip
            _split(row, f"k_{letter}", own["efficiency_ci95"])
        rows.append(row)
    columns = [Column("N", of("num_params", size))]
    for letter in AXES.values():
        columns += [
            Column(f"k on {letter}", of(f"k_{letter}", digits(4))),
            Column("95 %", lambda row, name=f"k_{letter}": interval(_ends(row, name), lambda v: f"{v:.3f}")),
            Column("law", of(f"k_law_{letter}", digits(4))),
            Column(f"E on {letter}", of(f"E_{letter}", digits(2))),
        ]
    test = study.fit(law="consistency").record["consistency"]
    p = test["by_run"]["p"]
    note = (
        "k: slope of the size's own line, E: ln L at X = 1 (natural log). If C were N D phi with one phi, k would be "
        f"the same on both axes: mean difference {test['by_run']['mean_difference']:+.4f}"
        + (f" over {test['by_run']['n_runs']} curves, p = {p:.2g}." if p is not None else ".")
        + " The study prints these as figures only."
    )
    return Table("efficiency", "k(N) and E(N) on both axes", pd.DataFrame(rows), columns, note.replace("-", "−"))


def final_table(study: Study) -> Table:
    base = evaluations(study.curves["base"])
    repeats = evaluations(study.curves["replicates"])
    rows = []
    for n, curve in base.groupby("size"):
        last = curve.iloc[-1]
        published = PUBLISHED["final"].get(round(float(n) / 1e9, 3))
        own = repeats[(repeats["size"] == n) & (repeats["step"] >= curve["step"].max() - 10)]
        means = own.groupby("run_id").filter(lambda run: len(run) >= 5).groupby("run_id")["test_loss"].mean()
        rows.append({
            "num_params": n, "step": int(last["step"]), "runs_behind": last.get("n_runs"), "ours": last["test_loss"],
            "published": published, "difference": None if published is None else last["test_loss"] - published,
            "last_ten": curve["test_loss"].tail(10).mean(), "repeats": len(means),
            "mean_of_repeats": means.mean() if len(means) else None,
            "sd": means.std(ddof=1) if len(means) > 1 else None,
            "sem": means.std(ddof=1) / math.sqrt(len(means)) if len(means) > 1 else None,
        })  # fmt: skip
    columns = [
        Column("N", of("num_params", size)), Column("last step", of("step")),
        Column("runs there", of("runs_behind", lambda v: f"{v:.0f}")),
        Column("final L", of("ours", digits(4))), Column("published", of("published", digits(3))),
        Column("difference", of("difference", digits(4, sign=True))),
        Column("mean of the last ten", of("last_ten", digits(4))), Column("whole repeats", of("repeats")),
        Column("their mean", of("mean_of_repeats", digits(4))), Column("sd", of("sd", digits(4))),
        Column("SEM", of("sem", digits(4))),
    ]  # fmt: skip
    low, high = PUBLISHED["sd"]
    note = (
        "The published value is the last evaluation of the mean curve, where fewer runs stand behind it than before. "
        f"Repeats: mean over the last eleven steps of each whole run. The study prints an average sd of {low} to "
        f"{high} per evaluation and divides by √3 everywhere; here SEM divides by the runs that there are."
    )
    return Table("final", "Final test loss by size", pd.DataFrame(rows), columns, note)


def reuse_table(study: Study) -> Table:
    threshold = reuse_threshold(study.curves["reuse"], study.curves["replicates"])
    lines = fit_with_intervals(study.curves["reuse"], Choices("tau", "step", steps="10:100"))
    difference = {row["reuse_factor"]: row for row in threshold["rows"]}
    frame = evaluations(study.curves["reuse"])
    rows = []
    for line in lines.per_size:
        tau = line["num_params"]
        row = {
            "reuse_factor": tau, "efficiency": line["efficiency"], "intercept": line["intercept"],
            "final": frame[(frame["reuse_factor"] == tau) & frame["step"].between(90, 100)]["test_loss"].mean(),
            "difference": difference[tau]["difference"] if tau in difference else None,
        }  # fmt: skip
        _split(row, "difference", difference[tau]["ci95"] if tau in difference else None)
        rows.append(row)
    columns = [
        Column("tau", of("reuse_factor", lambda v: f"{v:.0f}")), Column("final L", of("final", digits(4))),
        Column("minus tau = 1", of("difference", digits(4, sign=True))),
        Column("95 %", lambda row: "" if row["difference"] is None or pd.isna(row["difference"]) else
               interval(_ends(row, "difference"), digits(3, sign=True))),
        Column("k(tau)", of("efficiency", digits(4))), Column("E(tau)", of("intercept", digits(3))),
    ]  # fmt: skip
    said = (
        f"worse from tau = {threshold['threshold']:.0f} on" if threshold["identified"]
        else f"the tau from which it is worse is not identified up to {threshold['highest_run']:.0f}"
    )  # fmt: skip
    note = (
        f"7B, group size 8, one run at each tau; final: {threshold['window']}. The study finds the loss flat up to "
        f"about {PUBLISHED['flat_reuse']} and worse at 100; with the spread between repeats {said}. k and E: lines "
        "over steps 10-100. The study draws k and E and prints no numbers."
    )
    return Table("reuse", "Data reuse", pd.DataFrame(rows), columns, note)


def group_table(study: Study) -> Table:
    rows = [
        {"from": row["from"], "to": row["to"], "best": row["best"], "compared": row["compared"],
         "not_rejected": ", ".join(f"{v:.0f}" for v in row["not_rejected"])}
        for row in segments(group_lines(study.curves["group_size"]).envelope)
    ]  # fmt: skip
    columns = [
        Column("C from", of("from", lambda v: f"{v:.2e}")), Column("to", of("to", lambda v: f"{v:.2e}")),
        Column("best G", lambda row: f"{row['best']:.0f}" + ("" if row["compared"] else " (no other was run here)")),
        Column("indistinguishable from it", of("not_rejected"), left=True),
    ]  # fmt: skip
    note = "7B, one run at each group size: intervals borrow the spread between seeds from the replicates."
    return Table("group_size", "Best group size by budget", pd.DataFrame(rows), columns, note)


def windows_table(study: Study) -> Table:
    rows = []
    for steps in WINDOWS:
        for objective in ("log", "linear"):
            fit = study.fit(steps=steps, objective=objective)
            row = {
                "steps": steps, "objective": objective, "k_max": fit.values["k_max"]["value"],
                "n0": fit.values["n0"]["value"] / 1e9, "identified": fit.values["n0"]["identified"],
                "r2": fit.record["goodness"]["r2_pooled"],
                "r2_without_slope": fit.record["goodness"]["r2_pooled_constant"],
            }  # fmt: skip
            _split(row, "n0", fit.values["n0"]["ci95"])
            rows.append(row)
    columns = [
        Column("steps", of("steps", lambda v: v.replace(":", "–") if not v.endswith(":") else f"≥ {v[:-1]}")),
        Column("objective", of("objective"), left=True), Column("Kmax", of("k_max", digits(3))),
        Column("N0, 1e9", of("n0", lambda v: f"{v:.3g}")), Column("95 %", lambda row: billions(_ends(row, "n0"))),
        Column("N0 is", lambda row: "identified" if row["identified"] else "not identified", status=True),
        Column("R2", of("r2", digits(4))), Column("R2 of k = 0", of("r2_without_slope", digits(3))),
    ]  # fmt: skip
    note = f"All seven sizes, compute axis. {window_sentence(rows)}"
    return Table("windows", "Kmax and N0 by window and objective", pd.DataFrame(rows), columns, note)


def window_sentence(rows: list[dict[str, Any]]) -> str:
    """How far N0 moves with the choice, and how little of that R2 shows."""
    n0, r2 = ([row[name] for row in rows] for name in ("n0", "r2"))
    return (
        f"N0 is {min(n0):.3g}e9 to {max(n0):.3g}e9 by window and objective, a factor of {max(n0) / min(n0):.2g}, while "
        f"pooled R2 stays between {min(r2):.4f} and {max(r2):.4f}."
    )


def fits_sentence(frame: Frame) -> str:
    """Whether the published values come out to the digits printed."""
    worst, digits_off = frame["k_max_difference"].abs().max(), frame["n0_difference"].abs().max()
    if worst <= 0.0005 and digits_off <= 0.0501:
        return (
            f"With the study's own objective all {len(frame)} come out to the digits printed: Kmax differs by at most "
            f"{worst:.4f}, N0 by {digits_off:.2f}e9."
        )
    return f"They do not come out: Kmax differs by up to {worst:.4f}, N0 by up to {digits_off:.2f}e9."


def table_frame(table: Table) -> Frame:
    """The table as shown, for a notebook."""
    return pd.DataFrame(table.text(), columns=[column.heading for column in table.columns])
