"""Section: forecasts of the runs that were not paid for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices
from analysis.fitting.record import Fit
from analysis.questions.finals import evaluations
from analysis.questions.forecast import forecast
from analysis.reporting.section import Section
from analysis.reporting.tables import Column, Table, ends_of, of, put_ends
from analysis.words import AXIS_SHORT, Labels, as_sentence, at_x, ended, interval, number, short_number, show_x
from scaling.schema import InputError


def loss(value: float) -> str:
    """A loss with three decimals; one that would round to zero is not shown as if it were."""
    return "< .001" if 0 < value < 0.0005 else number(value)


FURTHER = 4.0  # how far beyond its largest X the largest size is predicted
SIZE_STEPS = 2.0, 4.0  # the next size is the ratio of the two largest beyond them, within these


def next_runs(curves: Curves, fitted: Fit, choices: Choices, labels: Labels) -> Section:
    """The runs that were not paid for: the next size at the most X that was run, and the largest size with more; of a
    law of other things than sizes the latter alone. Where the largest size is held out it stands in the place of the
    next. `curves`: without what is held out.
    """
    points, axis = fitted.points, fitted.record["x"]
    assert points is not None
    sizes, x = points.sizes, np.exp(points.x)
    factor = float(np.clip(sizes[-1] / sizes[-2], *SIZE_STEPS)) if len(sizes) > 1 else SIZE_STEPS[0]
    most, own = float(x.max()), float(x[points.size == len(sizes) - 1].max())
    label = labels[float(sizes[-1])]
    rows, larger = [], float(sizes[-1]) * factor
    wanted = [(f"{label}, {FURTHER:g} × its longest run", float(sizes[-1]), FURTHER * own)]
    first = f"{wanted[0][0]}, at {at_x(axis, FURTHER * own)}"
    if not fitted.law.group:
        wanted.insert(0, (f"next size, {short_number(larger)}", larger, most))
        first = f"the next size, {short_number(larger)} ({factor:.3g} × {label}), at {at_x(axis, most)}"
    held = held_size(fitted)
    if held is not None:
        size, at = held
        wanted[0] = (f"{labels[size]}, held out", size, at)
        first = f"{labels[size]}, which was held out, at the end of its run, {at_x(axis, at)}"
    for what, n, at in wanted:
        row: dict[str, Any] = {"what": what, "num_params": n, "x": at, "loss": None, "reason": ""}
        rows.append(row)
        try:
            prediction = forecast(curves, replace(choices, x=axis), n, at)
        except InputError as error:
            row["reason"] = str(error)
            continue
        predicted = prediction["predictions"][0]
        row |= {"loss": predicted["loss"], "x_factor": predicted["x_factor"], "size_factor": prediction["size_factor"]}
        row |= {"law": prediction["law"], "tuned": prediction["tuned_on_size"], "rests_on": prediction["rests_on"]}
        row["warnings"] = "; ".join(text for text in prediction["warnings"] if text not in fitted.warnings)
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
        "One run: as it would be measured, on this test set. Both allow for curves that leave the law later on. "
        "Not identified: the interval of the mean curve goes up to "
        "a loss of 1, so the data do not bound it."
    )
    if held is None and not fitted.law.group:
        note += (
            " The next size is as far from the largest as that is from "
            f"the one before, but {SIZE_STEPS[0]:g} to {SIZE_STEPS[1]:g} ×, at the most {AXIS_SHORT.get(axis, 'X')} "
            "that any run had."
        )
    said = [next_sentence(rows[0], first)]
    said += [as_sentence(f"For {row['what']}: {row['warnings']}") for row in rows if row.get("warnings")]
    title = "Runs that were not made" if fitted.record["held_out"] is None else "Runs that the fits have not seen"
    table = Table("next_runs", title, pd.DataFrame(rows), columns, note)
    return Section(said, {"next_runs": table})


def held_size(fitted: Fit) -> tuple[float, float] | None:
    """The size that the page's split holds out and its largest X; None where none is."""
    held = fitted.record["held_out"] or {}
    if "num_params" not in held:
        return None
    rows = evaluations(fitted.curves, fitted.record["size_column"])
    return held["num_params"], float(rows.loc[rows["size"] == held["num_params"], fitted.record["x"]].max())


def next_status(row: Mapping[str, Any]) -> str:
    if row["reason"]:
        return "not made"
    if ends_of(row, "mean_") is None:
        return "no interval"
    return "predicted" if row["identified"] else "not identified"


def next_sentence(row: Mapping[str, Any], where: str) -> str:
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
