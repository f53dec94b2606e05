"""Section: what to do with a budget, as best size, crossings, cost of a loss and continuous best size."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.fitting.record import Fit
from analysis.questions.cost import cost_to_target, crossovers
from analysis.questions.envelope import Envelope, segments
from analysis.questions.finals import evaluations, final_losses
from analysis.questions.optimum import budgets_of, continuous
from analysis.reporting.section import Section
from analysis.reporting.tables import Column, Table, ends_column, ends_of, of, put_ends
from analysis.words import (
    AXIS_SHORT,
    Labels,
    as_sentence,
    at_x,
    counted,
    interval,
    joined,
    number,
    overlap,
    power_of_ten,
    short_number,
    show_x,
)
from scaling.schema import InputError


def segments_table(envelope: Envelope, labels: Labels, name: str, title: str, axis: str, what: str, rest: str) -> Table:
    """The best choice by budget, and which others the test does not reject as best somewhere in the stretch."""
    rows = segments(envelope)
    for row in rows:
        row["not_rejected"] = ", ".join(labels[value] for value in row["not_rejected"])
    letter, show = AXIS_SHORT.get(axis, "X"), show_x(axis)
    columns = [
        Column(f"{letter} from", of("from", show)),
        Column("to", of("to", show)),
        Column(f"best {what}", lambda row: labels[row["best"]], left=True),
        Column(
            "indistinguishable from it",
            lambda row: (
                (row["not_rejected"] or "none: the others are rejected")
                if row["compared"]
                else f"no other {what} was run here"
            ),
            left=True,
        ),
    ]
    note = (
        f"Best: the lowest {own_line(envelope)} at the budget. Indistinguishable: not rejected as best at 5 % "
        f"somewhere in the stretch; {rest}"
    )
    return Table(name, title, pd.DataFrame(rows), columns, note)


def own_line(envelope: Envelope) -> str:
    return "own line" if envelope.curves is None or envelope.curves.straight else "curve by the law"


def size_budgets(
    fitted: Fit, envelope: Envelope, labels: Labels, scored: Mapping[str, float], main: Fit | None = None
) -> Section:
    """Best size by budget, crossings, cost of a loss, continuous N*; `scored`: rolling rmse of laws by name; `main`:
    the page's own fit where it is another one, whose law says which size is best between those that were run."""
    main = main or fitted
    axis = fitted.record["x"]
    rest = "one run per size borrows the spread between seeds." if one_run_each(fitted) else "at the level of runs."
    sized = segments_table(envelope, labels, "segments", "Best size by budget", axis, "size", rest)
    crossed, crossings = crossings_table(fitted, labels)
    cost_said, costs = cost_table(fitted, labels)
    curve_said, curve = continuous_table(main if main.law.predicts_unseen else fitted, scored)
    made = {"segments": sized, "crossovers": crossings, "cost": costs, "continuous": curve}
    tables = {name: table for name, table in made.items() if table is not None}
    of_lines = []
    if main.law.name != fitted.law.name:
        why = "is one of data" if main.law.of_data else "ties two axes" if main.law.axes else f"is of {main.law.each}s"
        of_lines = [f"Law {main.law.name} {why}: against compute each size has a line of its own here."]
        of_lines += [as_sentence(text) for text in fitted.warnings if "fitted together" in text]
    return Section([*of_lines, crossed, *cost_said, curve_said], tables)


def one_run_each(fitted: Fit) -> bool:
    return max(row["n_runs"] for row in fitted.per_size) == 1


def crossings_table(fitted: Fit, labels: Labels) -> tuple[str, Table]:
    axis, rows = fitted.record["x"], []
    lines = "lines" if fitted.law.slope is not None else "curves"
    for entry in crossovers(fitted):
        row = {key: entry[key] for key in ("smaller", "larger", "x", "identified", "inside")}
        low, high = entry["ci95"]
        if entry["identified"]:
            why = ""
        elif not entry["inside"]:
            why = (
                f"the {lines} meet where not both sizes were run"
                if entry["x"]
                else "they do not meet where both were run"
            )
        else:
            sides = [side for side, end in (("smaller", low), ("larger", high)) if end is None]
            why = f"indistinguishable up to the {' and the '.join(sides)} end of what both were run for"
        put_ends(row, "", entry["ci95"])
        rows.append(row | {"reason": why})
    frame = pd.DataFrame(rows)
    with_what = "with its own line: ln X = (E2 − E1)/(k2 − k1)"
    if fitted.law.slope is None:
        with_what = f"with its curve by law {fitted.law.name}, where both were run"
    columns = [
        Column("sizes", lambda row: f"{labels[row['smaller']]} and {labels[row['larger']]}"),
        Column("status", lambda row: "identified" if row["identified"] else "not identified", status=True),
        Column(f"{lines} meet at {AXIS_SHORT.get(axis, 'X')}", of("x", show_x(axis))),
        Column("indistinguishable within", lambda row: crossing_ends(row, show_x(axis))),
        Column("why", of("reason"), left=True),
    ]
    note = (
        f"Neighbouring sizes, each {with_what}. Between the ends of the interval the two mean curves are somewhere "
        "indistinguishable at 5 %, the doubt about the law included. "
        f"A crossing that is not identified is where two {lines} meet on paper."
    )
    known = int(frame["identified"].sum()) if len(frame) else 0
    verb = "are" if known > 1 else "is"
    said = f"Of {counted(len(frame), 'crossing')} of neighbouring sizes {known or 'none'} {verb} identified."
    return said, Table("crossovers", "Where neighbouring sizes cross", frame, columns, note)


def by_what(fitted: Fit) -> str:
    return "each size's own line" if fitted.law.slope is not None else f"the curves of law {fitted.law.name}"


def crossing_ends(row: Mapping[str, Any], show: Callable[[float], str]) -> str:
    ends = ends_of(row)
    return "–" if ends is None and not row["inside"] else interval(ends or (None, None), show)


def cost_table(fitted: Fit, labels: Labels) -> tuple[list[str], Table | None]:
    """What each size pays for a loss that half of the sizes reached."""
    axis = fitted.record["x"]
    finals = {
        float(n): final_losses(rows)
        for n, rows in evaluations(fitted.curves, fitted.record["size_column"]).groupby("size")
    }
    target = float(np.median([side.runs["final"].mean() for side in finals.values()]))
    if not 0 < target < 1:
        what = "solved nothing" if target >= 1 else "left nothing unsolved"
        return [
            f"What a loss costs is not asked: at their end half of the sizes or more {what}, L = {target:.0f}."
        ], None
    rows = []
    for entry in cost_to_target(fitted, target):
        row = {"num_params": entry["num_params"], "target": target, "x": entry["x"], "why": entry["why"]}
        never = entry["why"].startswith("never")
        status = (
            "never"
            if never
            else "not reached"
            if entry["x"] is None
            else "extrapolated"
            if entry["extrapolated"]
            else "reached"
        )
        row |= {"status": status, "why": entry["why"].removeprefix("never: ")}
        put_ends(row, "", entry["ci95"])
        put_ends(row, "by_law_", entry["if_law_holds"]["ci95"])
        rows.append(row)
    goes_on = "line" if fitted.law.slope is not None else "law"
    columns = [
        Column("size", lambda row: labels[row["num_params"]]),
        Column("status", of("status"), status=True),
        Column(f"{AXIS_SHORT.get(axis, 'X')} to L = {number(target)}", of("x", show_x(axis))),
        Column("95 %", lambda row: "–" if row["status"] == "never" else interval(ends_of(row), show_x(axis))),
        Column(
            f"95 % if the {goes_on} goes on",
            lambda row: "–" if row["status"] == "never" else interval(ends_of(row, "by_law_"), show_x(axis)),
        ),
        Column("why not", of("why"), left=True),
    ]
    rule = "the median over the sizes of their mean final loss"
    note = (
        f"Target: L = {number(target)}, {rule}. By {by_what(fitted)}; extrapolated: outside the "
        f"{AXIS_SHORT.get(axis, 'X')} that the size was run for. An end "
        "without a bound: curves that leave their line beyond the points may never get there."
    )
    table = Table("cost", "What a loss costs", pd.DataFrame(rows), columns, note)
    paid = sorted((row for row in rows if row["status"] == "reached"), key=lambda row: row["x"])
    if not paid:
        return [
            f"No size reaches L = {number(target)} ({rule}) by {by_what(fitted)} within what it was run for."
        ], table
    first = paid[0]
    # Overlap of two 95 % intervals is a weaker test than that of the segments: it is said as what it is.
    own = ends_of(first)
    near = [labels[row["num_params"]] for row in paid[1:] if own and (ends := ends_of(row)) and overlap(own, ends)]
    said = (
        f"L = {number(target)}, {rule}, costs least at {labels[first['num_params']]}: {at_x(axis, first['x'])} "
        f"{interval(own, show_x(axis)) if own else '(no interval)'}"
        + (f"; the interval of {joined(near)} overlaps." if near else ".")
    )
    others = []
    for status, why in dict.fromkeys((row["status"], row["why"]) for row in rows if row["why"]):
        names = [labels[row["num_params"]] for row in rows if (row["status"], row["why"]) == (status, why)]
        many = len(names) > 1
        verb = (
            ("never reach" if many else "never reaches") if status == "never" else f"do{'' if many else 'es'} not reach"
        )
        others.append(f"{joined(names)} {verb} it: {why}.")
    return [said, *others], table


BUDGETS = 7  # of the continuous frontier, in equal ratios


def continuous_table(fitted: Fit, scored: Mapping[str, float]) -> tuple[str, Table | None]:
    """N*(X) by the fit's own law, or which law would give it and how that one predicts."""
    try:
        optimum = continuous(fitted, np.exp(np.linspace(*budgets_of(fitted).ends, BUDGETS)))
    except InputError as error:
        said = f"No continuous best size: {error}"
        named = [name for name in scored if re.search(rf"\b{name}\b", said) and name != fitted.law.name]
        best = min(scored, key=lambda name: scored[name]) if scored else ""
        if named and named[0] != best:
            said += (
                f" On these curves {named[0]} predicts the rest of a curve with an rmse of "
                f"{number(scored[named[0]])} in ln L, beside {number(scored[best])} for {best}."
            )
        return said, None
    axis, rows = optimum["x"], []
    for entry in optimum["rows"]:
        row = {"x": entry["x"], "num_params": entry["num_params"], "identified": entry["identified"]}
        put_ends(row, "", entry["ci95"])
        rows.append(row)
    columns = [
        Column(AXIS_SHORT.get(axis, "X"), of("x", show_x(axis))),
        Column("status", lambda row: "identified" if row["identified"] else "not identified", status=True),
        Column("best size", of("num_params", short_number)),
        ends_column("95 %", "", short_number),
    ]
    frame = pd.DataFrame(rows)
    note = (
        f"By law {optimum['law']}; band: {optimum['band']}. A dash: the least loss is at an end of the sizes that were "
        "run."
    )
    if optimum["per_prompt"] is not None:
        note += (
            f" A budget of compute C buys D = C / (N φ) prompts, φ = {power_of_ten(optimum['per_prompt'])} FLOPs per "
            "prompt and parameter, the median of the runs."
        )
    known = int(frame["identified"].sum())
    budgets = counted(len(frame), "budget")
    said = f"By law {optimum['law']} the best size is identified at {known} of {budgets} (band: {optimum['band']})."
    return said, Table("continuous", "Best size by budget, between the sizes that were run", frame, columns, note)
