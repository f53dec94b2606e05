"""Figure: the compute-optimal model size by budget."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.figures.axes import X_AXES
from analysis.figures.envelope import ChoiceWords, best_in_words, draw_envelope, envelope_words
from analysis.figures.style import Layout, size_colours
from analysis.figures.svg import Drawn, drawn
from analysis.questions.envelope import Envelope, envelope
from analysis.questions.finals import evaluations
from analysis.questions.residuals import fitted_points
from analysis.words import number, power_of_ten, size_labels


def frontier(curves: Any, fit: Any, *, shown: Envelope | None = None, layout: Layout = "full") -> Drawn:
    """Which size has the lowest loss at a budget: each size's own line, the envelope and what it cannot separate.

    `shown`: the envelope of this fit, where it is known already.
    """
    points = fitted_points(fit)
    shown = envelope(fit) if shown is None else shown
    frame = evaluations(curves, fit.record["size_column"])
    colours, labels = size_colours(frame["size"]), size_labels(frame)
    letter = X_AXES.get(fit.record["x"], ("", "X"))[1]
    words = ChoiceWords(
        "frontier", ("Lower envelope over sizes", f"Which size to train with a budget {letter}"), "best size", "size"
    )
    if layout == "column":
        words = words._replace(titles=(words.titles[0], "Which size at a budget"))
    start = evaluations(fit.curves, fit.record["size_column"])
    start = start[(start["step"] == 0) & start["size"].isin(shown.values)].groupby("size")["test_loss"].mean()
    base = None
    untrained = (
        "The losses of the untrained models are not in the data, so it cannot be said where this only ranks them."
    )
    if len(start):
        size, level = float(start.idxmin()), float(start.min())
        base = (f"untrained {labels[size].split()[0]}", level)
        covered = np.flatnonzero(shown.lowest >= level)
        untrained = f"Step 0 costs no {letter}: the untrained {labels[size]} has loss {number(level)} (dotted)" + (
            f", so below {letter} = {power_of_ten(float(shown.x[covered[-1]]))} this ranks base models and says "
            "nothing of RL."
            if len(covered)
            else "; every budget that was run gets below it."
        )
    figure = draw_envelope(fit, points, shown, words, labels, colours, base, layout)
    finding = best_in_words(shown, labels, letter)
    title = "Compute-optimal model size."
    caption = [*envelope_words(shown, words, labels, letter, fit), untrained, finding]
    table = shown.table().rename(columns={"value": "num_params", "x": fit.record["x"], "line": "test_loss_line"})
    return drawn(figure, title, caption, finding, table)
