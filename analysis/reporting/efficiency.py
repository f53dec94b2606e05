"""Section: learning efficiency by size, the parameters that sizes share, and whether a limit is in sight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from analysis.fitting.record import Fit
from analysis.laws import Parameter
from analysis.reporting.curves import open_ends
from analysis.reporting.study import Study
from analysis.reporting.tables import Column, Table, ends_of, of, put_ends
from analysis.words import (
    AXES,
    AXIS_SHORT,
    amount,
    contains_zero,
    interval,
    joined,
    parameter,
    power_of_ten,
    show_of,
    whole,
)


def efficiency_table(study: Study) -> Table | None:
    """k of each size alone and by the law, on each axis."""
    if study.main is None:
        return None
    law, rows = study.main.law, {}
    columns = [Column(law.each, of("size"))]
    by_law = "k by the law" if law.slope is not None else "k by the law, middle"
    for axis, fitted in study.fits.items():
        short = AXIS_SHORT.get(axis, axis)
        for line in fitted.json()["per_size"]:
            row: dict[str, Any] = rows.setdefault(line["num_params"], {"num_params": line["num_params"]})
            low, high = line["efficiency_ci95"] or (None, None)
            row |= {"size": study.fit_labels.get(line["num_params"]), "runs": line["n_runs"]}
            row |= {f"k_{short}": line["efficiency"], f"k_{short}_low": low, f"k_{short}_high": high}
            row |= {f"k_law_{short}": line["efficiency_law"], f"r2_{short}": line["r2"]}
        columns += [
            Column(f"k against {short}", of(f"k_{short}", amount)),
            Column("95 %", lambda row, s=short: interval(ends_of(row, f"k_{s}_"))),
            Column(f"{by_law}, {short}", of(f"k_law_{short}", amount)),
            Column(f"R2 within the {law.each}", of(f"r2_{short}", "{:.2f}".format)),
        ]
    columns.insert(1, Column("runs", of("runs", whole)))
    note = (
        f"Each {law.each} alone, a line through its runs; R2 within the {law.each} compares that line with a constant."
    )
    if law.slope is None:
        note += (
            f" The law's curves are no straight lines: its k is that of the curve in the middle of the {law.each}'s "
            "points on the log axis."
        )
    title = f"Learning efficiency of each {law.each}"
    return Table("efficiency", title, pd.DataFrame(list(rows.values())), columns, note)


def parameters_table(study: Study) -> Table | None:
    """The shared parameters of the law on each axis, each with its interval and whether the data identify it."""
    rows = []
    for axis, fitted in study.fits.items():
        document, symbols = fitted.json(), fitted.law.symbols
        for name, value in document["values"].items():
            low, high = value["ci95"] or (None, None)
            rows.append({"axis": axis, "parameter": symbols[name], "law": document["law"], **value})
            rows[-1] |= {"ci95_low": low, "ci95_high": high, "points": document["n_points"], "runs": document["n_runs"]}
            del rows[-1]["ci95"]
    if not rows:
        return None
    columns = [
        Column("parameter", of("parameter")),
        Column("status", status, status=True),
        Column("axis", of("axis", axis_name), left=True),
        Column("optimum", lambda row: show_of(row)(row["value"])),
        Column("95 %", lambda row: interval(ends_of(row, "ci95_"), show_of(row))),
        Column("runs", of("runs", whole)),
        Column("points", of("points", whole)),
    ]
    note = "An optimum that is not identified is where the search ended; the data do not bound it."
    return Table("parameters", "Parameters that all sizes share", pd.DataFrame(rows), columns, note)


def status(row: Mapping[str, Any]) -> str:
    return "identified" if row["identified"] else "not identified"


def axis_name(axis: str) -> str:
    return AXES.get(axis, axis)


def own_parameters_table(study: Study) -> Table | None:
    """The parameters that each size has of its own, for a law that is more than a line of each."""
    main = study.main
    if main is None or main.law.closed_form or not any(p.per_size for p in main.law.parameters):
        return None
    law, rows = main.law, []
    own = [parameter for parameter in law.parameters if parameter.per_size]
    for axis, fitted in study.fits.items():
        for line in fitted.json()["per_size"]:
            row: dict[str, Any] = {"axis": axis, "num_params": line["num_params"]}
            for p in own:
                row[p.name] = line["values"][p.name]
                put_ends(row, f"{p.name}_", line["values_ci95"].get(p.name))
            rows.append(row)
    columns = [
        Column(law.each, lambda row: study.fit_labels.get(row["num_params"], "–")),
        Column("axis", of("axis", axis_name), left=True),
        *(Column(p.symbol, partial(own_value, parameter=p)) for p in own),
    ]
    meanings = "; ".join(f"{p.symbol} {p.meaning}" for p in own)
    basis = (main.record["intervals"] or {}).get("parameters_basis")
    note = f"{meanings}. 95 % intervals: {basis or 'none'}."
    title = f"Parameters that each {law.each} has of its own"
    return Table("own_parameters", title, pd.DataFrame(rows), columns, note)


def own_value(row: Mapping[str, Any], parameter: Parameter) -> str:
    """An optimum with its interval; without one the optimum alone would say too much."""
    ends, show = ends_of(row, f"{parameter.name}_"), power_of_ten if parameter.of_x else amount
    return f"{show(row[parameter.name])} {interval(ends, show) if ends else '(no interval)'}"


def efficiency_sentence(fitted: Fit, labels: Mapping[float, str]) -> str:
    """k of the smallest and the largest size, and whether the intervals tell them apart."""
    document, each = fitted.json(), fitted.law.each
    lines = [line for line in document["per_size"] if line["efficiency"] is not None]
    axis = axis_name(document["x"])
    shown = [with_interval(one["efficiency"], one["efficiency_ci95"], labels[one["num_params"]]) for one in lines]
    if not lines:
        return f"No {each} has two evaluated points at different X, so there is no learning efficiency."
    if len(lines) == 1:
        alone = ", without an interval" if lines[0]["efficiency_ci95"] is None else ""
        return f"Learning efficiency against {axis}: k = {shown[0]}{alone}, one {each} only."
    first, last = lines[0]["efficiency_ci95"], lines[-1]["efficiency_ci95"]
    if first is None or last is None:
        without = [labels[one["num_params"]] for one in (lines[0], lines[-1]) if one["efficiency_ci95"] is None]
        no = "both without an interval" if len(without) == 2 else f"that of {without[0]} without an interval"
        return f"Learning efficiency against {axis} is k = {shown[0]} and {shown[-1]}, {no}."
    if last[0] is not None and first[1] is not None and last[0] > first[1]:
        return f"Learning efficiency grows with {each}: against {axis}, k goes from {shown[0]} to {shown[-1]}."
    if first[0] is not None and last[1] is not None and last[1] < first[0]:
        return f"Learning efficiency falls with {each}: against {axis}, k goes from {shown[0]} to {shown[-1]}."
    return (
        f"Against {axis}, k is {shown[0]} and {shown[-1]}: the intervals overlap, growth with {each} is not "
        "established."
    )


def with_interval(value: float, ends: Sequence[float | None] | None, label: str) -> str:
    """`.12 [.10, .14] (7B)`; without an interval the value and its label."""
    return f"{amount(value)}{f' {interval(ends)}' if ends is not None else ''} ({label})"


def limit_sentence(fitted: Fit) -> str:
    """The shared parameters of the law where the data identify all; else which are not, between what bounds and why."""
    document, law = fitted.json(), fitted.law
    values = document["values"]
    slopes = {law.symbols[name]: values[name] for name in law.tested_on_slopes}
    others = {law.symbols[name]: value for name, value in values.items() if name not in law.tested_on_slopes}
    said = []
    if slopes and all(value["identified"] for value in slopes.values()):
        (big, limit), (small, size) = slopes.items()
        told = [f"{big} = {parameter(limit)}", f"{small} = {parameter(size)}"]
        said.append(f"Half of the limit {told[0]} is reached at {told[1]}." if law.saturates else f"{joined(told)}.")
    elif slopes:
        parts = [f"{symbol} is {'' if v['identified'] else 'not identified, 95 % '}{bounds(v)}"
                 for symbol, v in slopes.items()]  # fmt: skip
        reasons = list(dict.fromkeys(text.partition(": ")[2] for text in open_ends(document) if ": " in text))
        why = f" ({'; '.join(reasons)})." if reasons else "."
        said.append(f"{'A limit is not in sight: ' if law.saturates else ''}{joined(parts)}{why}")
    if others:
        known = [f"{symbol} = {parameter(value)}" for symbol, value in others.items() if value["identified"]]
        rest = [f"{symbol}, 95 % {bounds(value)}" for symbol, value in others.items()
                if value["ci95"] and not value["identified"]]  # fmt: skip
        without = [symbol for symbol, value in others.items() if not value["ci95"]]
        said += [f"{joined(known)}."] if known else []
        said += [f"Not identified: {joined(rest)}."] if rest else []
        said += [f"No interval: {joined(without)}."] if without else []
    return " ".join(said)


def bounds(value: Mapping[str, Any]) -> str:
    """The interval of a parameter; with its value in front where it is identified."""
    return parameter(value) if value["identified"] else interval(value["ci95"], show_of(value))


def zero_sentence(fitted: Fit, labels: Mapping[float, str]) -> str:
    lines = [line for line in fitted.json()["per_size"] if contains_zero(line["efficiency_ci95"])]
    names = [f"{labels[line['num_params']]} {interval(line['efficiency_ci95'])}" for line in lines]
    return f"The k of {joined(names)} is indistinguishable from zero." if names else ""
