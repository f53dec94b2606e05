"""Parts of the report that set several fits or rules side by side: forecasts, budgets, laws, algorithms.

Each function returns a `Section`: sentences and tables, both written from what `analysis.forecast`, `frontier` and
`compare` found. What the data cannot carry stands there with its reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.compare import compare_by, compare_laws
from analysis.curves import Curves
from analysis.figures import (
    FEW_PAIRS,
    HALO,
    INK,
    LABEL_SIZE,
    LOSS_LABEL,
    Drawn,
    EndLabel,
    Layout,
    drawn,
    end_labels,
    joined,
    labelled,
    new_figure,
    number,
    plain_log_axis,
    power_of_ten,
    short_number,
    size_colours,
    style,
)
from analysis.fit import Fit
from analysis.forecast import forecast, score_protocols
from analysis.frontier import (
    Envelope,
    continuous,
    cost_to_target,
    counted,
    crossovers,
    evaluations,
    final_losses,
    reuse_threshold,
    segments,
)
from analysis.laws import get_law
from analysis.tables import (
    AXIS_SHORT,
    Column,
    Table,
    amount,
    as_sentence,
    contains_zero,
    ends_of,
    interval,
    of,
    span,
    whole,
)
from scaling.schema import InputError

Labels = Mapping[float, str]


class Section(NamedTuple):
    """Sentences in their order, and the tables by name; no table where the data have nothing to fill it."""

    sentences: list[str]
    tables: dict[str, Table]


def signed(value: float) -> str:
    return number(value, sign=True)


def ended(text: str) -> str:
    """A reason after a colon, with its full stop."""
    return text.strip().rstrip(".") + "."


def put_ends(row: dict[str, Any], prefix: str, ends: Sequence[float | None] | None) -> None:
    """The interval as the columns PREFIXlow and PREFIXhigh."""
    row[f"{prefix}low"], row[f"{prefix}high"] = ends if ends is not None else (None, None)


def ends_column(heading: str, prefix: str, show: Callable[[float], str] = amount) -> Column:
    return Column(heading, lambda row: interval(ends_of(row, prefix), show))


def at_x(axis: str, value: float) -> str:
    """`C = 3.5×10¹¹ FLOPs`, `D = 960`."""
    letter = AXIS_SHORT.get(axis, "X")
    return f"{letter} = {power_of_ten(value)} FLOPs" if axis.endswith("flops") else f"{letter} = {value:,.4g}"


def show_x(axis: str) -> Callable[[float], str]:
    return power_of_ten if axis.endswith("flops") else "{:,.4g}".format


# ---------------------------------------------------------------- forecasts

CALIBRATE = 10  # points of the largest size that set its level, where its curve is long
SHARE = 0.3  # ... and else this share of its first run; also the part of each curve that the intra-model score fits
LEAST = 5  # points: where SHARE of a curve has fewer, a line through them says nothing, and half is fitted
RULES = {"last value": "the last value", "line per size": "a line per size", "nearest size": "the nearest size"}


def forecasts(curves: Curves, fitted: Fit, choices: Mapping[str, Any], labels: Labels) -> Section:
    """The leak-free protocols, scored in ln L beside the rules without a law."""
    points = fitted.points
    assert points is not None
    length = np.bincount(points.run)
    largest = int(length[points.run_sizes() == points.run_sizes().max()][0])
    count = min(CALIBRATE, max(2, int(SHARE * largest)))
    fraction = SHARE if SHARE * length.min() >= LEAST else 0.5
    given = {**choices, "x": fitted.record["x"]}
    scores = score_protocols(curves, **given, calibrate=count, fraction=fraction)
    rows = []
    for entry in scores:
        status = "not made" if "error" in entry else "leaks" if entry["leak"] else "scored"
        row = {"protocol": entry["protocol"], "status": status, "reason": entry.get("error")}
        row |= {"tuned": entry.get("tuned_on_held_out"), "points": entry.get("n_points")}
        row |= {"x_factor": entry.get("x_factor"), "size_factor": entry.get("size_factor")}
        row |= {f"rmse_{rule}": (entry.get("rmse_ln_loss") or {}).get(rule) for rule in ("law", *RULES)}
        row |= {"bias_law": (entry.get("bias_ln_loss") or {}).get("law"), "coverage": entry.get("interval_coverage")}
        rows.append(row)
    columns = [
        Column("protocol", of("protocol")),
        Column("status", of("status"), status=True),
        *(Column(rule, of(f"rmse_{rule}", number)) for rule in ("law", *RULES)),
        Column("bias", of("bias_law", signed)),
        Column("inside 95 %", of("coverage", lambda share: f"{100 * share:.0f} %")),
        Column("points", of("points", whole)),
        Column("X factor", of("x_factor", "{:.1f} ×".format)),
        Column("N factor", of("size_factor", "{:.1f} ×".format)),
        Column("tuned on it", of("tuned", lambda text: text.partition(" on ")[0]), left=True),
    ]
    note = (
        "Law and rules: root mean square error of ln L on the held-out points; a dash: the rule cannot predict them. "
        "Bias: of the law, predicted minus measured. Inside 95 %: share of the held-out points in the interval of a "
        "measured run. Factors: how far X and N lie beyond the fitted. Scored: the held-out losses were disturbed and "
        f"no prediction moved. The level rests on the first {counted(count, 'point')} of one run and the last protocol "
        f"fits the first {100 * fraction:.0f} % of each curve: {CALIBRATE} points and {100 * SHARE:.0f} % where curves "
        "are long enough."
    )
    title = "Held-out error of the law and of rules without a law"
    table = Table("forecasts", title, pd.DataFrame(rows), columns, note)
    missing = [as_sentence(f"Not made: {row['protocol']}: {row['reason']}") for row in rows if row["reason"]]
    leaks = [f"{row['protocol']} uses what it predicts: a leak." for row in rows if row["status"] == "leaks"]
    shares = [100 * row["coverage"] for row in rows if row["coverage"] is not None]
    said = [score_verdict(scores), *missing, *leaks]
    if shares:
        said.insert(
            1, f"Of the held-out points {span(shares, whole)} % lie inside the 95 % interval of a measured run."
        )
    return Section(said, {"forecasts": table})


def score_verdict(scores: Sequence[Mapping[str, Any]]) -> str:
    """Whether the law beat the rules without a law, over all protocols that could be scored."""
    made = [entry for entry in scores if "error" not in entry and not entry["leak"]]
    if not made:
        return "No forecast could be scored, so nothing here says that the law predicts."
    lost = []
    for entry in made:
        errors = entry["rmse_ln_loss"]
        better = [rule for rule in RULES if errors.get(rule, math.inf) <= errors["law"]]
        beaten = joined([f"{number(errors[rule])} by {RULES[rule]}" for rule in better])
        if better:
            lost.append(f"{entry['protocol']}: {beaten}, {number(errors['law'])} by the law")
    several = len(made) > 1
    of_all = counted(len(made), "protocol")
    if not lost:
        return f"The law beats every rule without a law in {'all ' if several else 'the '}{of_all}."
    won = len(made) - len(lost)
    beaten = f"only {won} of the {of_all}" if won else f"none of the {of_all}" if several else "no protocol"
    said = f"The law beats every rule without a law in {beaten}; as good or better without one, in ln L"
    return f"{said}: {'; '.join(lost)}."


def loss(value: float) -> str:
    """A loss with three decimals; one that would round to zero is not shown as if it were."""
    return "< .001" if 0 < value < 0.0005 else number(value)


FURTHER = 4.0  # how far beyond its largest X the largest size is predicted
SIZE_STEPS = 2.0, 4.0  # the next size is the ratio of the two largest beyond them, within these


def next_runs(curves: Curves, fitted: Fit, choices: Mapping[str, Any], labels: Labels) -> Section:
    """The runs that were not paid for: the next size at the most X that was run, and the largest size with more."""
    points, axis = fitted.points, fitted.record["x"]
    assert points is not None
    sizes, x = points.sizes, np.exp(points.x)
    factor = float(np.clip(sizes[-1] / sizes[-2], *SIZE_STEPS)) if len(sizes) > 1 else SIZE_STEPS[0]
    most, own = float(x.max()), float(x[points.size == len(sizes) - 1].max())
    label = labels[float(sizes[-1])]
    rows = []
    for what, n, at in [
        (f"next size, {short_number(float(sizes[-1]) * factor)}", float(sizes[-1]) * factor, most),
        (f"{label}, {FURTHER:g} × its longest run", float(sizes[-1]), FURTHER * own),
    ]:
        row: dict[str, Any] = {"what": what, "num_params": n, "x": at, "loss": None, "reason": ""}
        rows.append(row)
        try:
            found = forecast(curves, n, at, **{**choices, "x": axis})
        except InputError as error:
            row["reason"] = str(error)
            continue
        predicted = found["predictions"][0]
        row |= {"loss": predicted["loss"], "x_factor": predicted["x_factor"], "size_factor": found["size_factor"]}
        row |= {"law": found["law"], "tuned": found["tuned_on_size"], "rests_on": found["rests_on"]}
        row["warnings"] = "; ".join(text for text in found["warnings"] if text not in fitted.warnings)
        put_ends(row, "mean_", predicted["ci95_mean"])
        put_ends(row, "run_", predicted["ci95_run"])
        row["identified"] = predicted["ci95_mean"] is not None and predicted["ci95_mean"][1] < 1
    columns = [
        Column("forecast", of("what")),
        Column("status", next_status, status=True),
        Column(AXIS_SHORT.get(axis, "X"), of("x", show_x(axis))),
        Column("L", of("loss", loss)),
        Column("mean curve, 95 %", lambda row: "–" if row["reason"] else interval(ends_of(row, "mean_"), loss)),
        Column("one run, 95 %", lambda row: "–" if row["reason"] else interval(ends_of(row, "run_"), loss)),
        Column("rests on", of("rests_on"), left=True),
    ]
    note = (
        "One run: as it would be measured, on this test set. Not identified: the interval of the mean curve goes up to "
        "a loss of 1, so the data do not bound it. The next size is as far from the largest as that is from "
        f"the one before, but {SIZE_STEPS[0]:g} to {SIZE_STEPS[1]:g} ×, at the most {AXIS_SHORT.get(axis, 'X')} that "
        "any run had."
    )
    said = [next_sentence(rows[0], label, axis, factor)]
    said += [as_sentence(f"For {row['what']}: {row['warnings']}") for row in rows if row.get("warnings")]
    table = Table("next_runs", "Runs that were not made", pd.DataFrame(rows), columns, note)
    return Section(said, {"next_runs": table})


def next_status(row: Mapping[str, Any]) -> str:
    if row["reason"]:
        return "not made"
    if ends_of(row, "mean_") is None:
        return "no interval"
    return "predicted" if row["identified"] else "not identified"


def next_sentence(row: Mapping[str, Any], label: str, axis: str, factor: float) -> str:
    where = f"the next size, {short_number(row['num_params'])} ({factor:.3g} × {label}), at {at_x(axis, row['x'])}"
    if row["reason"]:
        return f"No forecast of {where}: {ended(row['reason'])}"
    if ends_of(row, "mean_") is None:
        bands = "without an interval, as none with measured coverage is known for it"
    else:
        mean, run = (interval(ends_of(row, prefix), loss) for prefix in ("mean_", "run_"))
        bands = f"95 % {mean} for the mean curve and {run} for one run as it would be measured"
    told = f"L = {loss(row['loss'])}, {bands}"
    if next_status(row) == "not identified":
        told = f"the loss is not identified, {bands} (optimum {loss(row['loss'])})"
    return f"Forecast of {where}: {told}. It rests on law {row['law']} ({row['rests_on']})."


# ---------------------------------------------------------------- what to do with a budget


def segments_table(found: Envelope, labels: Labels, name: str, title: str, axis: str, what: str, rest: str) -> Table:
    """The best choice by budget, and which others the test does not reject as best somewhere in the stretch."""
    rows = segments(found)
    for row in rows:
        row["not_rejected"] = ", ".join(labels[value] for value in row["not_rejected"])
    letter, show = AXIS_SHORT.get(axis, "X"), show_x(axis)
    columns = [
        Column(f"{letter} from", of("from", show)),
        Column("to", of("to", show)),
        Column(f"best {what}", lambda row: labels[row["best"]], left=True),
        Column(
            "not told apart from it",
            lambda row: (row["not_rejected"] or "none: the others are rejected") if row["compared"] else "only one run",
            left=True,
        ),
    ]
    note = (
        "Best: the lowest own line at the budget. Not told apart: not rejected as best at 5 % somewhere in the "
        f"stretch; {rest}"
    )
    return Table(name, title, pd.DataFrame(rows), columns, note)


def size_budgets(fitted: Fit, found: Envelope, labels: Labels, scored: Mapping[str, float]) -> Section:
    """Best size by budget, crossings, cost of a loss, continuous N*; `scored`: rolling rmse of laws by name."""
    axis = fitted.record["x"]
    rest = "one run per size borrows the spread between seeds." if one_run_each(fitted) else "at the level of runs."
    sized = segments_table(found, labels, "segments", "Best size by budget", axis, "size", rest)
    crossed, crossings = crossings_table(fitted, labels)
    cost_said, costs = cost_table(fitted, labels)
    curve_said, curve = continuous_table(fitted, scored)
    tables = {"segments": sized, "crossovers": crossings, "cost": costs} | ({"continuous": curve} if curve else {})
    return Section([crossed, *cost_said, curve_said], tables)


def one_run_each(fitted: Fit) -> bool:
    return max(row["n_runs"] for row in fitted.per_size) == 1


def crossings_table(fitted: Fit, labels: Labels) -> tuple[str, Table]:
    axis, rows = fitted.record["x"], []
    for entry in crossovers(fitted):
        row = {key: entry[key] for key in ("smaller", "larger", "x", "identified", "inside")}
        low, high = entry["ci95"]
        if entry["identified"]:
            why = ""
        elif not entry["inside"]:
            why = "the lines meet where not both sizes were run"
        else:
            sides = [side for side, end in (("smaller", low), ("larger", high)) if end is None]
            why = f"not told apart up to the {' and the '.join(sides)} end of what both were run for"
        put_ends(row, "", entry["ci95"])
        rows.append(row | {"reason": why})
    frame = pd.DataFrame(rows)
    columns = [
        Column("sizes", lambda row: f"{labels[row['smaller']]} and {labels[row['larger']]}"),
        Column("status", lambda row: "identified" if row["identified"] else "not identified", status=True),
        Column(f"lines meet at {AXIS_SHORT.get(axis, 'X')}", of("x", show_x(axis))),
        Column("not told apart within", lambda row: crossing_ends(row, show_x(axis))),
        Column("why", of("reason"), left=True),
    ]
    note = (
        "Neighbouring sizes, each with its own line: ln X = (E2 − E1)/(k2 − k1). Within the interval the two mean "
        "curves are not told apart at 5 %. A crossing that is not identified is where two lines meet on paper."
    )
    known = int(frame["identified"].sum())
    verb = "are" if known > 1 else "is"
    said = f"Of {counted(len(frame), 'crossing')} of neighbouring sizes {known or 'none'} {verb} identified."
    return said, Table("crossovers", "Where neighbouring sizes cross", frame, columns, note)


def crossing_ends(row: Mapping[str, Any], show: Callable[[float], str]) -> str:
    ends = ends_of(row)
    return "–" if ends is None and not row["inside"] else interval(ends or (None, None), show)


def cost_table(fitted: Fit, labels: Labels) -> tuple[list[str], Table]:
    """What each size pays for a loss that half of the sizes reached."""
    axis = fitted.record["x"]
    finals = {
        float(n): final_losses(rows)
        for n, rows in evaluations(fitted.curves, fitted.record["size_column"]).groupby("size")
    }
    target = float(np.median([found.runs["final"].mean() for found in finals.values()]))
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
        rows.append(row)
    columns = [
        Column("size", lambda row: labels[row["num_params"]]),
        Column("status", of("status"), status=True),
        Column(f"{AXIS_SHORT.get(axis, 'X')} to L = {number(target)}", of("x", show_x(axis))),
        Column("95 %", lambda row: "–" if row["status"] == "never" else interval(ends_of(row), show_x(axis))),
        Column("why not", of("why"), left=True),
    ]
    rule = "the median over the sizes of their mean final loss"
    note = (
        f"Target: L = {number(target)}, {rule}. By each size's own line; extrapolated: outside the "
        f"{AXIS_SHORT.get(axis, 'X')} that the size was run for."
    )
    table = Table("cost", "What a loss costs", pd.DataFrame(rows), columns, note)
    paid = sorted((row for row in rows if row["status"] == "reached"), key=lambda row: row["x"])
    if not paid:
        return [f"No size reaches L = {number(target)} ({rule}) by its line within what it was run for."], table
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


def overlap(one: Sequence[float | None], two: Sequence[float | None]) -> bool:
    """Whether two intervals of positive values share one; an open end, None, goes on."""
    (a, b), (c, d) = ((low or 0.0, math.inf if high is None else high) for low, high in (one, two))
    return a <= d and c <= b


BUDGETS = 7  # of the continuous frontier, in equal ratios


def continuous_table(fitted: Fit, scored: Mapping[str, float]) -> tuple[str, Table | None]:
    """N*(X) by the fit's own law, or which law would give it and how that one predicts."""
    axis, points = fitted.record["x"], fitted.points
    assert points is not None
    try:
        found = continuous(fitted, np.exp(np.linspace(points.x.min(), points.x.max(), BUDGETS)))
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
    rows = []
    for entry in found["rows"]:
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
        f"By law {found['law']}; band: {found['band']}. A dash: the least loss is at an end of the sizes that were run."
    )
    known = int(frame["identified"].sum())
    budgets = counted(len(frame), "budget")
    said = f"By law {found['law']} the best size is identified at {known} of {budgets} (band: {found['band']})."
    return said, Table("continuous", "Best size by budget, between the sizes that were run", frame, columns, note)


def group_budgets(fitted: Fit, found: Envelope) -> Section:
    """G*(C): the best number of rollouts by budget."""
    labels = {float(value): f"G = {value:.0f}" for value in found.values}
    rest = (
        "one run per group size borrows the spread between seeds." if one_run_each(fitted) else "at the level of runs."
    )
    table = segments_table(
        found, labels, "group_segments", "Best group size by budget", "train_flops", "group size", rest
    )
    return Section([], {"group_segments": table})


def reuse_costs(curves: Curves, replicates: Curves | None) -> Section:
    """From which reuse on the final loss is worse."""
    try:
        found = reuse_threshold(curves, replicates)
    except InputError:
        return Section([], {})  # the figure in its place says why
    rows = []
    for entry in found["rows"]:
        row = {key: entry[key] for key in ("reuse_factor", "difference", "basis")}
        put_ends(row, "", entry["ci95"] if any(end is not None for end in entry["ci95"]) else None)
        rows.append(row | {"worse": entry["ci95"][0] is not None and entry["ci95"][0] > 0})
    columns = [
        Column("τ", of("reuse_factor", "{:.3g}".format)),
        Column("status", lambda row: reuse_status(row), status=True),
        Column(f"final L minus that at τ = {found['baseline']:.3g}", of("difference", signed)),
        ends_column("95 %", "", signed),
        Column("rests on", of("basis"), left=True),
    ]
    note = (
        f"Final L: mean of the evaluations at {found['window']}. Each τ against τ = {found['baseline']:.3g}; not "
        "adjusted for their number."
    )
    rule = "the lowest τ whose interval, and that of every higher one, lies above 0"
    if found["identified"]:
        lower = [found["baseline"], *(row["reuse_factor"] for row in rows)]
        lower = max(tau for tau in lower if tau < found["threshold"])
        said = (
            f"The final loss is worse from τ = {found['threshold']:.3g} on, {rule}; the next lower that was run is "
            f"{lower:.3g}."
        )
    else:
        said = (
            "The τ from which the final loss is worse is not identified up to "
            f"{found['highest_run']:.3g}, the highest that was run ({rule})."
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


# ---------------------------------------------------------------- laws on the same curves

LAWS = ("efficiency", "per_size", "sigmoid", "power_plateau", "efficiency_log_level")


def laws(curves: Curves, fitted: Fit, choices: Mapping[str, Any]) -> tuple[Section, dict[str, float]]:
    """The study's own law and the usual others by held-out error; beside it the rolling rmse by law."""
    own = fitted.law
    names = list(dict.fromkeys([own.name, *LAWS]))
    other_data = [name for name in names if (law := get_law(name)).group or law.axes or law.columns]
    names = [name for name in names if name not in other_data]
    given = {name: value for name, value in choices.items() if name != "law"} | {"x": fitted.record["x"]}
    try:
        found = compare_laws(curves, names, **given)
    except InputError as error:
        return Section([f"Laws are not compared: {ended(str(error))}"], {}), {}
    rows = []
    for entry in found["rows"]:
        difference = entry.get("difference") or {}
        row = {"law": entry["law"], "status": law_status(entry, found["best"]), "reason": entry["error"]}
        row |= {
            name: entry.get(name) for name in ("n_parameters", "rmse_rolling", "rmse_largest_size", "qaic", "weight")
        }
        row |= {"difference": difference.get("mean"), "largest_size": entry.get("largest_size")}
        put_ends(row, "difference_", difference.get("ci95"))
        rows.append(row)
    rows.sort(key=lambda row: (row["rmse_rolling"] is None, row["rmse_rolling"] or 0.0))
    rules = [
        {"law": f"no law: {RULES[rule]}", "status": "rule", "rmse_rolling": value}
        for rule, value in found["baselines"].items()
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
    shares = joined([f"{100 * share:.0f} %" for share in found["origins"]])
    levels = [
        f"{row['law']}, {row['largest_size'].partition(';')[0]}" for row in rows if pd.notna(row["rmse_largest_size"])
    ]
    note = (
        f"rmse of ln L. Rolling: the first {shares} of each curve fitted and what follows up to the next share "
        f"predicted ({counted(found['n_held_out'], 'point')}). Excess square: mean squared error per run minus that of "
        f"the best law, with its interval over {counted(found['n_runs'], 'run')}. Largest size: left out and predicted "
        "whole"
        + (f" ({'; '.join(levels)})" if levels else "")
        + "; a dash: the law says nothing of a size that was not fitted, or there are too few. QAIC: less the "
        "smallest, "
        f"{found['qaic']}; a dash: not valid for this fit. Weight: of the mixture of laws with the least rolling error."
    )
    failed = [as_sentence(f"{row['law']}: {row['reason']}") for row in rows if row["reason"]]
    note += f" Not fitted: {' '.join(failed)}" if failed else ""
    note += f" Not on these axes: {joined(other_data)}." if other_data else ""
    table = Table("laws", "Laws on the same curves", pd.DataFrame([*rows, *rules]), columns, note)
    scored = {row["law"]: row["rmse_rolling"] for row in rows if row["rmse_rolling"] is not None}
    return Section([found["verdict"]], {"laws": table}), scored


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
    return "no interval" if ends is None else "worse" if ends[0] > 0 else "not told apart"


# ---------------------------------------------------------------- one algorithm against the other


class Effects(NamedTuple):
    """What `compare_by` found on the algorithms, with the label of each comparison."""

    found: dict[str, Any]
    labels: list[str]
    names: tuple[str, str]  # baseline, other


def effects(curves: Curves, choices: Mapping[str, Any], labels: Labels) -> Effects:
    """Pairs of runs that differ in the algorithm, on training compute. Raises InputError: there are none."""
    given = {name: choices[name] for name in ("steps", "points", "size_column") if name in choices}
    found = compare_by(curves, "algorithm", **given)
    others = {str(one["algorithm"]) for one in found["comparisons"]}
    names = found["comparisons"][0]["baseline"].upper(), "/".join(sorted(others)).upper()
    shown = [
        labelled(
            labels[one["num_params"]] + (f" {one['algorithm'].upper()}" if len(others) > 1 else ""), one["condition"]
        )
        for one in found["comparisons"]
    ]
    return Effects(found, shown, names)


def algorithm_effects(given: Effects | str) -> Section:
    """Difference of k, level and E, and the effective-compute multiplier at the ends of the shared losses."""
    if isinstance(given, str):
        return Section([f"Slopes and compute are not compared: {ended(given)}"], {})
    base, other = given.names
    rows = []
    for label, one in zip(given.labels, given.found["comparisons"], strict=True):
        row: dict[str, Any] = {"label": label, "num_params": one["num_params"], "pairs": one["n_pairs"]}
        for name in ("efficiency", "level", "intercept"):
            row[name] = one[name]["mean"]
            put_ends(row, f"{name}_", one[name]["ci95"])
        for name, entry in zip(("first", "last"), ends_of_list(one["multiplier"]), strict=True):
            row |= {f"{name}_{key}": (entry or {}).get(key) for key in ("loss", "multiplier")}
            put_ends(row, f"{name}_", (entry or {}).get("ci95"))
        known = [entry["ci95"] for entry in one["multiplier"] if entry["identified"]]
        row |= {"losses": len(known), "excluding_1": sum(not overlap((1.0, 1.0), ends) for ends in known)}
        rows.append(row | {"reason": one["no_multiplier"]})
    frame = pd.DataFrame(rows)
    columns = [
        Column("size", of("label")),
        Column("pairs", of("pairs", whole)),
        Column("k", lambda row: with_ends(row, "efficiency", signed)),
        Column("ln L, middle", lambda row: with_ends(row, "level", signed)),
        Column("E", lambda row: with_ends(row, "intercept", lambda value: number(value, 1, sign=True))),
        Column("multiplier, highest L", lambda row: multiplier_cell(row, "first")),
        Column("multiplier, lowest L", lambda row: multiplier_cell(row, "last")),
    ]  # fmt: skip
    note = (
        f"k, ln L, E: {other} minus {base}, mean over pairs of one seed with its t interval; each run's own line "
        "against C. Middle: at the middle of the C that all runs of the pairs had; E is ln L at C = 1, far outside the "
        f"data, and follows k. Multiplier: C that {base} needs for a loss over what {other} needs for it, at both ends "
        f"of the losses that every run passes, not adjusted for their number; above 1 {other} needs less. Where curves "
        "bend, it is that of the lines."
    )
    without = [f"{row['label']}: {row['reason']}" for row in rows if row["reason"]]
    note += f" No multiplier: {'; '.join(without)}." if without else ""
    unpaired = given.found["unpaired"]
    note += f" {counted(len(unpaired), 'run')} without a partner." if unpaired else ""
    table = Table(
        "algorithm_effects", f"{base} and {other}: learning efficiency and effective compute", frame, columns, note
    )
    return Section([effect_sentence(row, base, other) for row in rows], {"algorithm_effects": table})


def ends_of_list(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    return (rows[0], rows[-1]) if rows else (None, None)


def with_ends(row: Mapping[str, Any], name: str, show: Callable[[float], str]) -> str:
    """A difference with its interval, or that it has none: one pair."""
    ends = ends_of(row, f"{name}_")
    return f"{show(row[name])} {interval(ends, show) if ends else '(one pair)'}"


def multiplier_cell(row: Mapping[str, Any], name: str) -> str:
    ends, value = ends_of(row, f"{name}_"), row[f"{name}_multiplier"]
    if pd.isna(value):
        return "–"
    return "not identified" if ends is None else f"{amount(value)} {interval(ends)} at {number(row[f'{name}_loss'], 2)}"


def effect_sentence(row: Mapping[str, Any], base: str, other: str) -> str:
    """k and the multiplier of one comparison in words that their intervals allow."""
    ends = ends_of(row, "efficiency_")
    said = f"{row['label']}: k of {other} minus {base} is {signed(row['efficiency'])} "
    if ends is None:
        return said + "in one pair, so neither that difference nor an effective-compute multiplier is identified."
    said += f"{interval(ends, signed)}, {'not told from zero' if contains_zero(ends) else 'the interval excludes 0'}"
    if pd.isna(row["last_multiplier"]):
        return f"{said}; no effective-compute multiplier: {row['reason']}."
    last = ends_of(row, "last_")
    assert last is not None
    told = f"not told from 1 at any of {row['losses']} losses"
    if row["excluding_1"]:
        few = f", on {counted(int(row['pairs']), 'pair')} only" if row["pairs"] <= FEW_PAIRS else ""
        told = f"the interval excludes 1 at {row['excluding_1']} of {row['losses']} losses{few}"
    return (
        f"{said}; for L = {number(row['last_loss'], 2)} {base} needs {amount(row['last_multiplier'])} {interval(last)} "
        f"times the compute of {other} ({told})."
    )


def multiplier(given: Effects, sizes: Sequence[float], *, layout: Layout = "full") -> Drawn:
    """Effective-compute multiplier against the loss, per size, with its band over pairs.

    Args:
        sizes: all sizes of the study, so that a size keeps its colour.

    Raises:
        InputError: no comparison has two pairs or more and a range of losses.
    """
    base, other = given.names
    kept = [
        (label, one) for label, one in zip(given.labels, given.found["comparisons"], strict=True)
        if one["multiplier"] and one["multiplier"][0]["identified"]
    ]  # fmt: skip
    if not kept:
        raise InputError("needs two pairs or more at one size whose runs pass the same losses.")
    colours = size_colours(sizes)
    lines = [np.array([[r["loss"], r["multiplier"], *r["ci95"]] for r in one["multiplier"]]) for _, one in kept]
    losses = np.concatenate([line[:, 0] for line in lines])
    centre = np.concatenate([line[:, 1] for line in lines])
    every = np.concatenate([line[:, 2:].ravel() for line in lines])
    # A band of two or three pairs can span decades: the frame shows where the lines lie.
    reach = max(3.0 * float(np.exp(np.abs(np.log(centre)).max())), 1.5)
    low, high = max(every.min(), 1 / reach), min(every.max(), reach)
    cut = bool(every.min() < low or every.max() > high)

    with style("multiplier"):
        figure = new_figure(layout, 2.6, 2.8)
        ax = figure.subplots()
        ax.axhline(1, color=INK, linewidth=1, zorder=1)
        ends = []
        for (label, one), line in zip(kept, lines, strict=True):
            colour = colours[one["num_params"]]
            ax.fill_between(line[:, 0], line[:, 2], line[:, 3], color=colour, alpha=0.16, linewidth=0, zorder=1.5)
            crosses = bool((line[:, 2] <= 1).all() and (line[:, 3] >= 1).all())
            face: dict[str, Any] = {"markerfacecolor": "white"} if crosses else {"markeredgecolor": "white"}
            ax.plot(line[:, 0], line[:, 1], "o-", color=colour, linewidth=1.6, zorder=3, **face)
            ends.append(EndLabel(label, colour, line[:, 0], line[:, 1]))
        span_of = losses.max() / losses.min()
        room = span_of ** ((0.16 if layout == "full" else 0.3) * max(map(len, given.labels)) / 10)
        plain_log_axis(ax.xaxis, losses.min() / span_of**0.04, losses.max() * room, most=6)
        plain_log_axis(ax.yaxis, low / 1.06, high * 1.06, most=6)
        name = "compute multiplier" if layout == "column" else "effective-compute multiplier"
        ax.set(xlabel=LOSS_LABEL, ylabel=f"{name} of {other}")
        words = {"fontsize": LABEL_SIZE - 0.5, "color": "#52606D", "path_effects": HALO, "transform": ax.transAxes}
        ax.text(0.01, 0.98, f"↑ {other} needs less", ha="left", va="top", **words)
        ax.text(0.01, 0.02, f"↓ {other} needs more", ha="left", va="bottom", **words)
        end_labels(ax, ends)

    first_label, first = max(kept, key=lambda pair: (pair[1]["n_pairs"], pair[1]["num_params"]))
    last = first["multiplier"][-1]
    told = "not told from 1" if overlap((1.0, 1.0), last["ci95"]) else "the interval excludes 1"
    finding = (
        f"At {first_label} and a loss of {number(last['loss'], 2)} the effective-compute multiplier of {other} is "
        f"{amount(last['multiplier'])} {interval(last['ci95'])} over {counted(first['n_pairs'], 'pair')}: {told}."
    )
    single = [label for label in given.labels if label not in [name for name, _ in kept]]
    pairs = span([one["n_pairs"] for _, one in kept], whole)
    caption = [
        f"Lines: C that {base} needs for a loss over what {other} needs, each run by its own line against C, mean over "
        f"{pairs} pairs of one seed; above 1 {other} needs less. Only losses that every run of the pairs passes.",
        "Bands: 95 %, t interval of the mean of ln multiplier over pairs; open markers: it contains 1 all along"
        + ("; a band goes on outside the panel." if cut else ".")
        + (
            " A band is thin where few pairs agree by chance."
            if min(one["n_pairs"] for _, one in kept) <= FEW_PAIRS
            else ""
        ),
        f"Not identified (one pair, or no shared losses): {', '.join(single)}." if single else "",
        finding,
    ]
    rows = [
        {"label": label, "num_params": one["num_params"], "pairs": r["n_pairs"], "test_loss": r["loss"],
         "multiplier": r["multiplier"], "ci95_low": r["ci95"][0], "ci95_high": r["ci95"][1]}
        for label, one in kept for r in one["multiplier"]
    ]  # fmt: skip
    return drawn(figure, f"Effective compute of {other} against {base}.", caption, finding, pd.DataFrame(rows))
