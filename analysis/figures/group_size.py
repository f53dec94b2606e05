"""Figure: the best number of rollouts per prompt by budget."""

from __future__ import annotations

from typing import Any

from analysis.figures.envelope import ChoiceWords, best_in_words, draw_envelope, envelope_words
from analysis.figures.style import ORDER_RAMP, Layout, ramp_colours
from analysis.figures.svg import Drawn, drawn
from analysis.questions.groups import GroupLines, group_lines
from analysis.questions.residuals import fitted_points
from analysis.words import between, size_labels


def group_size(
    curves: Any, *, steps: str | None = None, lines: GroupLines | None = None, layout: Layout = "full"
) -> Drawn:
    """Which number of rollouts per prompt has the lowest loss at a budget, at the size where most were run.

    `lines`: what `group_lines` gives for these curves, where it is known already.
    """
    fit, chosen, shown = group_lines(curves, steps) if lines is None else lines
    label = size_labels(chosen)[chosen["size"].iloc[0]]
    points = fitted_points(fit)
    colours = ramp_colours(shown.values, ORDER_RAMP)
    labels = {value: f"G = {value:.0f}" for value in shown.values}
    titles = (
        "One line per group size",
        "Which group size with a budget C" if layout == "full" else "Which group size at a budget",
    )
    words = ChoiceWords("group_size", titles, "best G", "group size")
    figure = draw_envelope(fit, points, shown, words, labels, colours, None, layout)
    finding = f"At {label}: {best_in_words(shown, labels, 'C')[0].lower()}{best_in_words(shown, labels, 'C')[1:]}"
    runs = [row["n_runs"] for row in fit.per_size]
    caption = [
        f"{label}, {between(min(runs), max(runs), 'run')} at each group size.",
        *envelope_words(shown, words, labels, "C", fit),
        "Another group size changes what a step costs, so lines are compared at equal compute and not at equal steps.",
        finding,
    ]
    table = shown.table().rename(columns={"value": "group_size", "x": "train_flops", "line": "test_loss_line"})
    return drawn(figure, "Group size.", caption, finding, table)
