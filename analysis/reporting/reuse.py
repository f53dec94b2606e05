"""Section: from which data reuse on the final loss is worse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.curves.frame import Curves
from analysis.questions.reuse import reuse_threshold
from analysis.reporting.section import Section
from analysis.reporting.tables import Column, Table, ends_column, ends_of, of, put_ends
from analysis.words import signed
from scaling.schema import InputError


def reuse_costs(curves: Curves, replicates: Curves | None) -> Section:
    """From which reuse on the final loss is worse."""
    try:
        threshold = reuse_threshold(curves, replicates)
    except InputError:
        return Section([], {})  # the figure in its place says why
    rows = []
    for entry in threshold["rows"]:
        row = {key: entry[key] for key in ("reuse_factor", "difference", "basis")}
        put_ends(row, "", entry["ci95"] if any(end is not None for end in entry["ci95"]) else None)
        rows.append(row | {"worse": entry["ci95"][0] is not None and entry["ci95"][0] > 0})
    columns = [
        Column("τ", of("reuse_factor", "{:.3g}".format)),
        Column("status", lambda row: reuse_status(row), status=True),
        Column(f"final L minus that at τ = {threshold['baseline']:.3g}", of("difference", signed)),
        ends_column("95 %", "", signed),
        Column("rests on", of("basis"), left=True),
    ]
    note = (
        f"Final L: mean of the evaluations at {threshold['window']}. Each τ against τ = {threshold['baseline']:.3g}; "
        "not adjusted for their number."
    )
    rule = "the lowest τ whose interval, and that of every higher one, lies above 0"
    if threshold["identified"]:
        lower = [threshold["baseline"], *(row["reuse_factor"] for row in rows)]
        lower = max(tau for tau in lower if tau < threshold["threshold"])
        said = (
            f"The final loss is worse from τ = {threshold['threshold']:.3g} on, {rule}; the next lower that was run is "
            f"{lower:.3g}."
        )
    else:
        said = (
            "The τ from which the final loss is worse is not identified up to "
            f"{threshold['highest_run']:.3g}, the highest that was run ({rule})."
        )
    return Section(
        [said],
        {
            "reuse_differences": Table(
                "reuse_differences", "Final loss by data reuse", pd.DataFrame(rows), columns, note
            )
        },
    )


def reuse_status(row: Mapping[str, Any]) -> str:
    ends = ends_of(row)
    return "no interval" if ends is None else "worse" if row["worse"] else "not established"
