"""Section: whether the fits on two axes agree with the constraint that ties them."""

from __future__ import annotations

import pandas as pd

from analysis.fitting.record import Fit
from analysis.reporting.section import Section
from analysis.reporting.tables import Column, Table, of
from analysis.words import AXIS_SHORT, Labels, counted, number, power_of_ten, signed


def consistency(fitted: Fit, labels: Labels) -> Section:
    """Slopes and levels of each size on both axes, beside what the constraint says, and its test by runs."""
    record = fitted.record["consistency"]
    data, cost = (AXIS_SHORT.get(axis, axis) for axis in record["axes"])
    frame = pd.DataFrame(record["per_size"])
    frame["level_off"] = frame["intercept_compute"] - frame["intercept_by_constraint"]
    columns = [
        Column("size", lambda row: labels.get(row["num_params"], "–")),
        Column(f"{cost} / (N {data})", of("phi", power_of_ten)),
        Column(f"k against {data}", of("efficiency_data", number)),
        Column(f"k against {cost}", of("efficiency_compute", number)),
        Column("difference", of("difference", signed)),
        Column("E off the constraint", of("level_off", signed)),
    ]
    note = (
        f"Each size's own line on each axis. The constraint is {cost} = N {data} φ with one φ, the median of "
        f"{cost} / (N {data}), {power_of_ten(record['phi'])} FLOPs per prompt and parameter: then both slopes are one."
    )
    test = record["by_run"]
    sentence = f"Over {counted(test['n_runs'], 'run')} k against {cost} minus k against {data} is "
    if test["p"] is None:
        said = f"{sentence}{signed(test['mean_difference'])}; there is no test below three runs."
    else:
        word = "the runs reject the constraint" if test["p"] < 0.05 else "the constraint is not rejected"
        said = (
            f"{sentence}{signed(test['mean_difference'])} on average (t test over runs, p = {test['p']:.2g}): {word}."
        )
    return Section([said], {"consistency": Table("consistency", "Compute and data as one law", frame, columns, note)})
