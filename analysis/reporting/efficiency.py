"""Section: learning efficiency by size, the parameters that sizes share, and whether a limit is in sight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.fitting.record import Fit
from analysis.reporting.curves import open_ends
from analysis.reporting.study import Study
from analysis.reporting.tables import Column, Table, ends_of, of
from analysis.words import AXES, AXIS_SHORT, SYMBOL, amount, contains_zero, interval, joined, parameter, show_of, whole


def efficiency_table(study: Study) -> Table | None:
    """k of each size alone and by the law, on each axis."""
    if study.main is None:
        return None
    rows: dict[float, dict[str, Any]] = {}
    columns = [Column("size", of("size"))]
    for axis, fitted in study.fits.items():
        short = AXIS_SHORT.get(axis, axis)
        for line in fitted.json()["per_size"]:
            row = rows.setdefault(line["num_params"], {"num_params": line["num_params"]})
            low, high = line["efficiency_ci95"] or (None, None)
            row |= {"size": study.labels.get(line["num_params"]), "runs": line["n_runs"]}
            row |= {f"k_{short}": line["efficiency"], f"k_{short}_low": low, f"k_{short}_high": high}
            row |= {f"k_law_{short}": line["efficiency_law"], f"r2_{short}": line["r2"]}
        columns += [
            Column(f"k against {short}", of(f"k_{short}", amount)),
            Column("95 %", lambda row, s=short: interval(ends_of(row, f"k_{s}_"))),
            Column(f"k by the law, {short}", of(f"k_law_{short}", amount)),
            Column("R2 within the size", of(f"r2_{short}", "{:.2f}".format)),
        ]
    columns.insert(1, Column("runs", of("runs", whole)))
    note = "Each size alone, a line through its runs; R2 within the size compares that line with a constant."
    return Table("efficiency", "Learning efficiency of each size", pd.DataFrame(list(rows.values())), columns, note)


def parameters_table(study: Study) -> Table | None:
    """The shared parameters of the law on each axis, each with its interval and whether the data identify it."""
    rows = []
    for axis, fitted in study.fits.items():
        document = fitted.json()
        for name, value in document["values"].items():
            low, high = value["ci95"] or (None, None)
            rows.append({"axis": axis, "parameter": SYMBOL.get(name, name), "law": document["law"], **value})
            rows[-1] |= {"ci95_low": low, "ci95_high": high, "points": document["n_points"], "runs": document["n_runs"]}
            del rows[-1]["ci95"]
    if not rows:
        return None
    columns = [
        Column("parameter", of("parameter")),
        Column("status", lambda row: "identified" if row["identified"] else "not identified", status=True),
        Column("axis", of("axis", lambda axis: str(AXES.get(axis, axis))), left=True),
        Column("optimum", lambda row: show_of(row)(row["value"])),
        Column("95 %", lambda row: interval(ends_of(row, "ci95_"), show_of(row))),
        Column("runs", of("runs", whole)),
        Column("points", of("points", whole)),
    ]
    note = "An optimum that is not identified is where the search ended; the data do not bound it."
    return Table("parameters", "Parameters that all sizes share", pd.DataFrame(rows), columns, note)


def efficiency_sentence(fitted: Fit, labels: Mapping[float, str]) -> str:
    """k of the smallest and the largest size, and whether the intervals tell them apart."""
    document = fitted.json()
    lines = [line for line in document["per_size"] if line["efficiency"] is not None]
    axis = AXES.get(document["x"], document["x"])
    shown = [
        f"{amount(one['efficiency'])} {interval(one['efficiency_ci95'])} ({labels[one['num_params']]})" for one in lines
    ]
    if len(lines) == 1:
        return f"Learning efficiency against {axis}: k = {shown[0]}, one size only."
    first, last = lines[0]["efficiency_ci95"], lines[-1]["efficiency_ci95"]
    if first is None or last is None:
        return f"Learning efficiency against {axis} is k = {shown[0]} and {shown[-1]}; one of them has no interval."
    if last[0] is not None and first[1] is not None and last[0] > first[1]:
        return f"Learning efficiency grows with size: against {axis}, k goes from {shown[0]} to {shown[-1]}."
    return (
        f"Against {axis}, k is {shown[0]} and {shown[-1]}: the intervals overlap, growth with size is not established."
    )


def limit_sentence(fitted: Fit) -> str:
    """Kmax and N0 where the data identify both; else which is not, between what bounds and why."""
    document = fitted.json()
    values = document["values"]
    texts = {SYMBOL.get(name, name): parameter(value) for name, value in values.items()}
    if all(value["identified"] for value in values.values()):
        return f"Half of the limit Kmax = {texts['Kmax']} is reached at N0 = {texts['N0']}."
    said = [
        f"{SYMBOL.get(name, name)} is {'' if v['identified'] else 'not identified, 95 % '}{bounds(v)}"
        for name, v in values.items()
    ]
    reasons = list(dict.fromkeys(text.partition(": ")[2] for text in open_ends(document) if ": " in text))
    return f"A limit is not in sight: {joined(said)}" + (f" ({'; '.join(reasons)})." if reasons else ".")


def bounds(value: Mapping[str, Any]) -> str:
    """The interval of a parameter; with its value in front where it is identified."""
    return parameter(value) if value["identified"] else interval(value["ci95"], show_of(value))


def zero_sentence(fitted: Fit, labels: Mapping[float, str]) -> str:
    lines = [line for line in fitted.json()["per_size"] if contains_zero(line["efficiency_ci95"])]
    names = [f"{labels[line['num_params']]} {interval(line['efficiency_ci95'])}" for line in lines]
    return f"The k of {joined(names)} cannot be told from zero." if names else ""
