"""The drawing that figures of choices share: the best of several choices at a budget, and what the test does not
reject.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.curves.frame import Frame
from analysis.figures.axes import (
    LOSS_LABEL,
    X_AXES,
    loss_limits,
    new_figure,
    outside_legend,
    panel_title,
    plain_log_axis,
    x_axis,
)
from analysis.figures.labels import EndLabel, end_labels
from analysis.figures.style import DASHED, INK, NOTE, UNUSED, Layout, style
from analysis.questions.envelope import Envelope
from analysis.words import crossing_interval, joined, power_of_ten, window_in_words


class ChoiceWords(NamedTuple):
    """What the two panels of a figure of choices are called."""

    name: str
    titles: tuple[str, str]
    axis: str
    one: str  # "size"


def draw_envelope(
    fit: Any,
    points: Frame,
    envelope: Envelope,
    words: ChoiceWords,
    labels: dict[float, str],
    colours: dict[float, str],
    base: tuple[str, float] | None,
    layout: Layout,
) -> Figure:
    """Panel a: the lines and their lower envelope. Panel b: which choice is lowest, and which are not rejected."""
    axis_label, _ = X_AXES.get(fit.record["x"], (fit.record["x"].replace("_", " "), "X"))
    order = list(envelope.values)
    with style(words.name):
        rows = len(order)
        figure = new_figure(layout, min(2.9 + 0.2 * rows, 4.4), min(3.1 + 0.2 * rows, 4.5))
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.1, 0.5 + 0.14 * rows])
        shown = points[points["size"].isin(order)]
        drawn_losses = [
            *shown["loss_floored"],
            *envelope.loss[np.isfinite(envelope.loss)],
            *([base[1]] if base else []),
        ]
        plain_log_axis(top.yaxis, *loss_limits(drawn_losses))
        wide = 6.0 if layout == "full" else 2.6
        x_axis(top, pd.Series(envelope.x), max(map(len, labels.values())) + (3 if base else 0), wide)
        envelope_lines(top, shown, envelope, colours)
        if base:
            top.axhline(base[1], color=NOTE, linewidth=0.8, linestyle=":", zorder=1)
        top.set_ylabel(LOSS_LABEL)
        panel_title(top, "a", words.titles[0])
        envelope_choices(bottom, envelope, colours)
        bottom.set_yticks(range(rows), [labels[value] for value in order])
        bottom.set(ylabel=words.axis, xlabel=axis_label)
        panel_title(bottom, "b", words.titles[1])
        outside_legend(figure, envelope_legend(envelope), layout)
        ends = []
        for i, value in enumerate(order):
            known = np.isfinite(envelope.loss[i])
            ends.append(EndLabel(labels[value], colours[value], envelope.x[known], envelope.loss[i][known]))
        if base:
            ends.append(EndLabel(base[0], NOTE, envelope.x[[0, -1]], np.full(2, base[1])))
        heights = np.interp(np.log(envelope.switches["x"]), np.log(envelope.x), envelope.lowest)
        end_labels(top, ends, list(zip(envelope.switches["x"], heights, strict=True)))
    return figure


def envelope_lines(ax: Axes, points: Frame, envelope: Envelope, colours: dict[float, str]) -> None:
    ax.plot(envelope.x, envelope.lowest, color="#D5DAE0", linewidth=5, solid_capstyle="butt", zorder=1.2)
    for i, value in enumerate(envelope.values):
        rows = points[points["size"] == value]
        dots = {"linestyle": "none", "marker": "o", "markersize": 1.8, "markeredgewidth": 0, "alpha": 0.3}
        ax.plot(rows["x"], rows["loss_floored"], color=colours[value], zorder=1.5, **dots)
        outside = np.where(envelope.fitted[i], np.nan, envelope.loss[i])
        ax.plot(envelope.x, outside, color=colours[value], linewidth=0.9, linestyle=DASHED, zorder=2)
        solid = np.where(envelope.fitted[i], envelope.loss[i], np.nan)
        ax.plot(envelope.x, solid, color=colours[value], linewidth=1.6, zorder=3)
    for row in envelope.switches.itertuples():
        height = float(np.interp(np.log(row.x), np.log(envelope.x), envelope.lowest))
        marker = {"crossover": "o", "first step": "v", "end of run": ">"}[row.kind]
        ax.plot(row.x, height, marker, markersize=5, markerfacecolor="white", markeredgecolor=INK, zorder=4)


def envelope_choices(ax: Axes, envelope: Envelope, colours: dict[float, str]) -> None:
    for i, value in enumerate(envelope.values):
        ran, best = np.isfinite(envelope.loss[i]), envelope.best == i
        ax.plot(envelope.x[ran], np.full(ran.sum(), i), color=UNUSED, linewidth=0.8, zorder=2)
        for start, end in stretches(envelope.as_good[i]):
            span = [envelope.x[start], envelope.x[end]]
            ax.fill_between(span, i - 0.36, i + 0.36, color="#D5DAE0", alpha=0.75, linewidth=0, zorder=1)
        for start, end in stretches(best):
            end = min(end + 1, len(envelope.x) - 1)
            ax.plot(
                [envelope.x[start], envelope.x[end]],
                [i, i],
                color=colours[value],
                linewidth=4.2,
                solid_capstyle="butt",
                zorder=3,
            )
        for start, end in stretches(best & ~envelope.fitted[i]):
            ax.plot(
                [envelope.x[start], envelope.x[end]],
                [i, i],
                color="white",
                linewidth=2,
                solid_capstyle="butt",
                zorder=4,
            )
    ax.set_ylim(-0.6, len(envelope.values) - 0.4)
    ax.tick_params(axis="y", length=0)


def stretches(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [(int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def envelope_legend(envelope: Envelope) -> list[Any]:
    kinds = set(envelope.switches["kind"])
    handles: list[Any] = [Line2D([], [], color="#D5DAE0", linewidth=5, label="lowest; b: not rejected")]
    hollow = {"linestyle": "none", "markersize": 5, "markerfacecolor": "white", "markeredgecolor": INK}
    marks = {"crossover": ("o", "crossover"), "first step": ("v", "next one starts")}
    for kind, (marker, words) in (marks | {"end of run": (">", "not run further")}).items():
        if kind in kinds:
            handles.append(Line2D([], [], marker=marker, label=words, **hollow))
    return handles


def envelope_words(
    envelope: Envelope, words: ChoiceWords, labels: dict[float, str], letter: str, fit: Any
) -> list[str]:
    """The sentences of the caption that both figures of choices share."""
    assert envelope.curves is not None
    basis = envelope.curves.basis
    line = "line" if envelope.curves.straight else "curve"
    drawn_as = f"each {words.one}'s own line without a law"
    if not envelope.curves.straight:
        drawn_as = f"the curve of each {words.one} by law {fit.law.name}"
    crossed = [
        f"{labels[row.before]} to {labels[row.after]} at {power_of_ten(row.x)} {crossing_interval(row.low, row.high)}"
        for row in envelope.switches[envelope.switches["kind"] == "crossover"].itertuples()
    ]
    one = words.one
    return [
        f"a: points are single evaluations, lines {drawn_as}, solid over the fitted steps "
        f"({window_in_words(fit.record)}), dashed over other steps that were run; grey: the lowest of them.",
        f"b: thin, the range of {letter} that was run; thick, the lowest {line} (hollow outside the fitted steps); "
        f"grey blocks, each {one} not rejected as best at 5 % ({basis}), only where more than one was run.",
        f"Crossovers with 95 % intervals: {'; '.join(crossed)}."
        if crossed
        else f"No two {line}s cross where both were run.",
    ]


def best_in_words(envelope: Envelope, labels: dict[float, str], letter: str) -> str:
    """The best choice at the largest budget at which two or more were run, and which the test does not reject there."""
    compared = np.flatnonzero(np.isfinite(envelope.loss).sum(0) > 1)
    if not len(compared):
        return f"No {letter} was run with more than one choice, so nothing can be compared."
    at = compared[-1]
    best = labels[float(envelope.values[envelope.best[at]])]
    rivals = [labels[envelope.values[i]] for i in np.flatnonzero(envelope.as_good[:, at]) if i != envelope.best[at]]
    others = [
        labels[envelope.values[i]] for i in np.flatnonzero(np.isfinite(envelope.loss[:, at])) if i != envelope.best[at]
    ]
    line = "line" if envelope.curves is None or envelope.curves.straight else "curve"
    told = (
        f"{joined(rivals)} {'is' if len(rivals) == 1 else 'are'} indistinguishable from it"
        if rivals
        else f"{joined(others)} {'is' if len(others) == 1 else 'are'} rejected"
    )
    return (
        f"At the largest budget at which more than one was run, {letter} = "
        f"{power_of_ten(float(envelope.x[at]))} FLOPs, {best} has "
        f"the lowest {line}; {told}."
    )
