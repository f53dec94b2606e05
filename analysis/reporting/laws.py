"""Section: the study's own law and the usual others on the same curves, by held-out error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices
from analysis.fitting.record import Fit
from analysis.laws import get_law
from analysis.questions.laws import compare_laws
from analysis.reporting.forecasts import RULES
from analysis.reporting.section import Section
from analysis.reporting.tables import Column, Table, ends_of, of, put_ends
from analysis.words import amount, as_sentence, counted, ended, interval, joined, number, whole
from scaling.schema import InputError

LAWS = ("efficiency", "per_size", "sigmoid", "power_plateau", "efficiency_log_level")


def laws(curves: Curves, fitted: Fit, choices: Choices) -> tuple[Section, dict[str, float]]:
    """The study's own law and the usual others by held-out error; beside it the rolling rmse by law."""
    own = fitted.law
    if own.group:
        said = (
            f"Law {own.name} describes {own.each}s at one size, the usual laws describe sizes: they are not compared."
        )
        return Section([said], {}), {}
    names = list(dict.fromkeys([own.name, *LAWS]))
    other_data = [name for name in names if (law := get_law(name)).group or law.axes]
    names = [name for name in names if name not in other_data]
    try:
        compared = compare_laws(curves, names, replace(choices, x=fitted.record["x"]))
    except InputError as error:
        return Section([f"Laws are not compared: {ended(str(error))}"], {}), {}
    rows = []
    for entry in compared["rows"]:
        difference = entry.get("difference") or {}
        row = {"law": entry["law"], "status": law_status(entry, compared["best"]), "reason": entry["error"]}
        row |= {
            name: entry.get(name) for name in ("n_parameters", "rmse_rolling", "rmse_largest_size", "qaic", "weight")
        }
        row |= {"difference": difference.get("mean"), "largest_size": entry.get("largest_size")}
        put_ends(row, "difference_", difference.get("ci95"))
        rows.append(row)
    rows.sort(key=lambda row: (row["rmse_rolling"] is None, row["rmse_rolling"] or 0.0))
    rules = [
        {"law": f"no law: {RULES[rule]}", "status": "rule", "rmse_rolling": value}
        for rule, value in compared["baselines"].items()
    ]
    four = lambda value: number(value, 4)  # noqa: E731
    columns = [
        Column("law", of("law")),
        Column("status", of("status"), status=True),
        Column("parameters", of("n_parameters", whole)),
        Column("rmse, rolling", of("rmse_rolling", four)),
        Column("excess square, 10⁻³", of("difference", thousandths)),
        Column(
            "95 %",
            lambda row: "–" if pd.isna(row["difference"]) else interval(ends_of(row, "difference_"), thousandths),
        ),
        Column("largest size", of("rmse_largest_size", four)),
        Column("QAIC", of("qaic", "{:,.1f}".format)),
        Column("weight", of("weight", "{:.2f}".format)),
    ]
    shares = joined([f"{100 * share:.0f} %" for share in compared["origins"]])
    levels = [
        f"{row['law']}, {row['largest_size'].partition(';')[0]}" for row in rows if pd.notna(row["rmse_largest_size"])
    ]
    note = (
        f"rmse of ln L. Rolling: the first {shares} of each curve fitted and what follows up to the next "
        f"share predicted ({counted(compared['n_held_out'], 'point')}). Excess square: mean squared error per run "
        f"minus that of the best law, with its interval over {counted(compared['n_runs'], 'run')}. Largest size: left "
        "out and predicted whole"
        + (f" ({'; '.join(levels)})" if levels else "")
        + "; a dash: the law says nothing of a size that was not fitted, or there are too few. QAIC: less the "
        f"smallest, {compared['qaic']}; a dash: not valid for this fit. Weight: of the mixture of laws with the least "
        "rolling error."
    )
    failed = [as_sentence(f"{row['law']}: {row['reason']}") for row in rows if row["reason"]]
    note += f" Not fitted: {' '.join(failed)}" if failed else ""
    note += f" Not on these axes: {joined(other_data)}." if other_data else ""
    table = Table("laws", "Laws on the same curves", pd.DataFrame([*rows, *rules]), columns, note)
    scored = {row["law"]: row["rmse_rolling"] for row in rows if row["rmse_rolling"] is not None}
    return Section([compared["verdict"]], {"laws": table}), scored


def thousandths(value: float) -> str:
    """A difference of squares in 10⁻³, at most three digits, signed: errors of a few percent have tiny squares."""
    text = amount(1000 * value)
    return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def law_status(entry: Mapping[str, Any], best: str) -> str:
    if entry["error"]:
        return "not fitted"
    if entry["law"] == best:
        return "least error"
    ends = (entry["difference"] or {}).get("ci95")
    return "no interval" if ends is None else "worse" if ends[0] > 0 else "indistinguishable"
