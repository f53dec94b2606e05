"""Section: the held-out error of the law beside rules without a law, by leak-free protocols."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices
from analysis.fitting.record import Fit
from analysis.missing import Missing
from analysis.questions.scores import ProtocolScore, score_protocols
from analysis.reporting.section import Section
from analysis.reporting.tables import Column, Table, of
from analysis.words import Labels, as_sentence, counted, joined, number, signed, span, whole

CALIBRATE = 10  # points of the largest size that set its level, where its curve is long
SHARE = 0.3  # ... and else this share of its first run; also the part of each curve that the intra-model score fits
LEAST = 5  # points: where SHARE of a curve has fewer, a line through them says nothing, and half is fitted
RULES = {"last value": "the last value", "line per size": "a line per size", "nearest size": "the nearest size"}


def forecasts(curves: Curves, fitted: Fit, choices: Choices, labels: Labels) -> Section:
    """The leak-free protocols, scored in ln L beside the rules without a law."""
    points = fitted.points
    assert points is not None
    length = np.bincount(points.run)
    largest = int(length[points.run_sizes() == points.run_sizes().max()][0])
    count = min(CALIBRATE, max(2, int(SHARE * largest)))
    fraction = SHARE if SHARE * length.min() >= LEAST else 0.5
    scores = score_protocols(curves, replace(choices, x=fitted.record["x"]), count, fraction)
    rows = [score_row(entry) for entry in scores]
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


def score_row(entry: ProtocolScore) -> dict[str, Any]:
    score = entry.score
    names = ["protocol", "status", "reason", "tuned", "points", "x_factor", "size_factor"]
    row = dict.fromkeys([*names, *(f"rmse_{rule}" for rule in ("law", *RULES)), "bias_law", "coverage"])
    row["protocol"] = entry.protocol
    if isinstance(score, Missing):
        return row | {"status": "not made", "reason": score.reason}
    row |= {f"rmse_{rule}": error for rule, error in score["rmse_ln_loss"].items()}
    return row | {
        "status": "leaks" if score["leak"] else "scored", "tuned": score["tuned_on_held_out"],
        "points": score["n_points"], "x_factor": score["x_factor"], "size_factor": score["size_factor"],
        "bias_law": score["bias_ln_loss"].get("law"), "coverage": score["interval_coverage"],
    }  # fmt: skip


def score_verdict(scores: Sequence[ProtocolScore]) -> str:
    """Whether the law beat the rules without a law, over all protocols that could be scored; a tie is lost."""
    made = [(s.protocol, s.score) for s in scores if not isinstance(s.score, Missing) and not s.score["leak"]]
    if not made:
        return "No forecast could be scored, so nothing here says that the law predicts."
    lost = []
    for protocol, score in made:
        errors = score["rmse_ln_loss"]
        better = [rule for rule in RULES if errors.get(rule, math.inf) <= errors["law"]]
        beaten = joined([f"{number(errors[rule])} by {RULES[rule]}" for rule in better])
        if better:
            lost.append(f"{protocol}: {beaten}, {number(errors['law'])} by the law")
    of_all = {1: "the one test", 2: "both tests"}.get(len(made), f"all {len(made)} tests")
    if not lost:
        return f"The law beats every simple baseline in {of_all}."
    where = of_all if len(lost) == len(made) else f"{len(lost)} of the {len(made)} tests"
    return f"The law loses to a simple baseline in {where}, in ln L: {'; '.join(lost)}."
