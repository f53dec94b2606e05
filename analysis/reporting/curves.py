"""Section: what was fitted to the learning curves, how well, and what the law says of a size that it has not seen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.fitting.record import Fit
from analysis.laws import get_law
from analysis.missing import Missing
from analysis.questions.residuals import fitted_points, residual_means
from analysis.reporting.study import Study
from analysis.words import (
    AXIS_SHORT,
    amount,
    as_sentence,
    counted,
    interval,
    joined,
    labels_of,
    largest_miss,
    law_in_words,
    number,
)


def open_ends(document: Mapping[str, Any]) -> list[str]:
    """What a fit says of the ends of its intervals that are open."""
    return (document.get("intervals") or {}).get("open", [])


def other_warnings(document: Mapping[str, Any]) -> list[str]:
    """The warnings of a fit that no sentence about the parameters of k(N) says already."""
    symbols = get_law(document["law"]).symbols
    return [
        as_sentence(with_symbols(text, symbols), list(symbols.values()))
        for text in document["warnings"]
        if text not in open_ends(document)
    ]


def with_symbols(text: str, symbols: Mapping[str, str]) -> str:
    """A warning of a fit with the symbols of parameters in place of their names: where it begins with them, lists those
    without an interval, or has a name that no word of a sentence is, k_max or n0."""
    head, colon, rest = text.partition(": ")
    if head.startswith("no interval for "):
        names = head.removeprefix("no interval for ").split(", ")
        return f"no interval for {joined([symbols.get(name, name) for name in names])}{colon}{rest}"
    begins = re.match(r"(\w+(?:, \w+)*(?: and \w+)?) (?=(?:is|are) at a bound|of the fit)", text)
    if begins:
        names = re.split(r", | and ", begins[1])
        return f"{joined([symbols.get(name, name) for name in names])} {text[begins.end() :]}"
    return re.sub(r"\b[A-Za-z]+[\d_]\w*", lambda word: symbols.get(word[0], word[0]), text)


def fit_sentences(fitted: Fit) -> list[str]:
    """What was fitted to what, and how well, R2 beside that of no learning."""
    document = fitted.json()
    goodness, window = document["goodness"], document["window"]
    each = fitted.law.each
    sizes = counted(len(document["per_size"]), each)
    said = [
        f"{law_sentence(fitted)}; a line is drawn solid only over the steps that were fitted.",
        f"It rests on {counted(document['n_points'], 'evaluation')} of {counted(document['n_runs'], 'run')} of "
        f"{sizes}, "
        f"steps {window['first_step']}–{window['last_step']}, {document['objective']} objective.",
    ]
    pooled, constant, within = (goodness.get(name) for name in ("r2_pooled", "r2_pooled_constant", "r2_within"))
    if pooled is not None and constant is not None and within is not None:
        how = f"It explains {100 * within:.0f} % of the variation of L within {each}s"
        if within < 0:
            how = f"A constant for each {each} is nearer to the points than it (R2 within {each}s {number(within)})"
        said.append(
            f"{how}; pooled over {each}s its R2 is {number(pooled)}, beside {number(constant)} for the same with k = "
            "0, no learning at all."
        )
    if goodness.get("rmse_ln_loss") is not None:
        said.append(f"The points scatter about it by {number(goodness['rmse_ln_loss'])} in ln L (root mean square).")
    points = fitted_points(fitted)
    miss = largest_miss(residual_means(points), labels_of(fitted.law, points))
    said.append(f"{as_sentence(miss).rstrip('.')} (panel b).")
    return [*said, *other_warnings(document)]


def law_sentence(fitted: Fit) -> str:
    """What the law says of the curves, and what of it belongs to all sizes and what to each."""
    law, document = fitted.law, fitted.json()
    axis = AXIS_SHORT.get(document["x"], "X")
    if law.closed_form and law.shared and not law.axes:
        return (
            f"The law ln L = −k(N) ln {axis} + E(N) has one function k(N) for all sizes and a level of its own for each"
        )
    if law.closed_form and not law.shared:
        return f"Each {law.each} has a line of its own, ln L = −k ln {axis} + E; no law joins the {law.each}s"
    shared, own = ([p.symbol for p in law.parameters if p.per_size == per_size] for per_size in (False, True))
    told = [f"{joined(shared)} for all {law.each}s"] if shared else []
    told += [f"{joined(own)} for each {law.each}"] if own else []
    return f"The law {law_in_words(document, axis)} has {' and '.join(told)}"


def unseen_slope(study: Study) -> str:
    """Whether the law that has not seen the largest size predicts its k."""
    smaller, main = study.without_largest, study.main
    held = {} if isinstance(smaller, Missing) else smaller.json()["held_out"]
    if main is None or held.get("efficiency_law") is None or held["efficiency_own_line"] is None:
        return ""
    label = study.fit_labels[held["num_params"]]
    rows = [row["efficiency_ci95"] for row in main.per_size if row["num_params"] == held["num_params"]]
    own_ends = f" {interval(rows[0])}" if rows else ""  # a page that holds the size out has no line of it
    inside = verdict(held["efficiency_law_ci95"], held["efficiency_own_line"])
    return (
        f"Fitted without {label}, the law predicts k = {amount(held['efficiency_law'])} "
        f"{interval(held['efficiency_law_ci95'])} there; its own line has "
        f"{amount(held['efficiency_own_line'])}{own_ends}: {inside}."
    )


def verdict(ends: Sequence[float | None] | None, value: float) -> str:
    if ends is None:
        return "without an interval this says little"
    low, high = ends
    held = (low is None or low <= value) and (high is None or value <= high)
    return "inside the predicted interval" if held else "outside the predicted interval"
