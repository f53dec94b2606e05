"""Figure: learning curves, the fitted law with its band, and what the law leaves over.

Other figures of curves use its marks, legend and table too.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.curves.frame import Frame
from analysis.figures.axes import (
    LOSS_LABEL,
    X_AXES,
    dot,
    loss_limits,
    new_figure,
    outside_legend,
    panel_title,
    plain_log_axis,
    two_panels,
    x_axis,
)
from analysis.figures.labels import EndLabel, end_labels
from analysis.figures.style import DASHED, INK, NOTE, UNUSED, Layout, size_colours, style
from analysis.figures.svg import Drawn, drawn
from analysis.laws import Law
from analysis.questions.finals import evaluations
from analysis.questions.residuals import fitted_points, fitted_sizes, law_line, residual_means
from analysis.questions.runs import MOST_KNOTS
from analysis.words import (
    counted,
    labels_of,
    largest_miss,
    law_in_words,
    number,
    unidentified_in_words,
    window_in_words,
)
from scaling.schema import InputError


def plot_fit(fit: Any, *, layout: Layout = "full") -> Drawn:
    """The learning curves of a fit: what `fit.plot()` shows."""
    if fit.curves is None:
        raise InputError("this fit was loaded from its record, which has no points to draw; fit the curves again.")
    return loss_curves(fit.curves, fit, layout=layout)


def loss_curves(curves: Any, fit: Any, *, x: str | None = None, layout: Layout = "full") -> Drawn:
    """Test loss against x, per size: evaluations, the fitted law with its band, and what the law leaves over."""
    record = fit.record
    x = x or record["x"]
    if x != record["x"]:
        raise InputError(f"loss_curves: the fit is against {record['x']}, not {x}; fit the curves against {x} first.")
    points = fitted_points(fit)
    sizes = sorted(points["size"].unique())
    law = fit.law
    every = evaluations(fit.curves if law.group else curves, record["size_column"])
    colours, labels = size_colours(every["size"]), labels_of(law, points)
    lines = pd.concat([law_line(fit, points, size) for size in sizes if size in fitted_sizes(fit)], ignore_index=True)
    residuals = residual_means(points)
    axis_label, letter = X_AXES.get(x, (x.replace("_", " "), "X"))

    with style("loss_curves"):
        figure = new_figure(layout, 3.1, 4.5)
        left, right = two_panels(figure, layout, [1.9, 1], [2.2, 1])
        left.set_ylabel(LOSS_LABEL)
        panel_title(left, "a", "Test loss and the fitted law")
        plain_log_axis(left.yaxis, *loss_limits([*points["loss_floored"], *lines["loss"].dropna()]))
        for size in sizes:
            draw_size(left, points[points["size"] == size], lines[lines["size"] == size], colours[size])
        draw_residuals(right, residuals, colours, layout)
        panel_title(right, "b", "Measured against the law")
        wide = 3.6 if layout == "full" else 2.6
        x_axis(left, points["x"], max(map(len, labels.values())), wide)
        left.set_xlabel(axis_label)
        x_axis(right, residuals["step"], max(map(len, labels.values())), 1.6 if layout == "full" else wide)
        outside_legend(figure, loss_legend(points), layout)
        end_labels(left, [EndLabel(labels[n], colours[n], *label_curve(points, lines, n)) for n in sizes])
        ends = [(n, rows["step"].to_numpy(), rows["percent"].to_numpy()) for n, rows in residuals.groupby("size")]
        end_labels(right, [EndLabel(labels[n], colours[n], xs, ys) for n, xs, ys in ends])

    error = record["goodness"]["rmse_ln_loss"]
    title = f"Test loss against {re.sub(r' [$].*', '', axis_label)}."
    caption = [
        loss_marks(points),
        f"Lines: {law_in_words(record, letter)}, {record['objective']} objective, from "
        f"{counted(record['n_runs'], 'curve')} of {counted(record['n_sizes'], law.each)} "
        f"({counted(record['n_points'], 'point')}, {window_in_words(record)}).",
        held_out_in_words(record, labels),
        band_in_words(lines, law),
        f"Root mean square error in ln L {number(error) if error is not None else 'unknown'}; "
        f"{largest_miss(residuals, labels)}.",
        "b: means of ln(measured/law), in percent"
        + (", over equal ratios of steps" if points["step"].nunique() > MOST_KNOTS else "")
        + f"; a slope or a bend that repeats from {law.each} to {law.each} is something the law does not describe.",
        unidentified_in_words(record),
    ]
    finding = (
        f"{law_in_words(record, letter)}: over {counted(record['n_sizes'], law.each)} the root mean square error in "
        f"ln L is {number(error) if error is not None else 'unknown'}; {largest_miss(residuals, labels)}."
    )
    return drawn(figure, title, caption, finding, loss_table(points, lines, x, fit.law.group or "num_params"))


def draw_size(ax: Axes, points: Frame, line: Frame, colour: str) -> None:
    small = {"linestyle": "none", "marker": "o", "markersize": 2, "markeredgewidth": 0}
    states = dict(iter(points.groupby("state")))
    if "not used" in states:
        rows = states["not used"]
        ax.plot(rows["x"], rows["loss_floored"], color=UNUSED, alpha=0.5, zorder=2, **small)
    if "fitted" in states:
        rows = states["fitted"]
        ax.plot(rows["x"], rows["loss_floored"], color=colour, alpha=0.35, zorder=2.2, **small)
    if "held out" in states:
        rows = states["held out"]
        open_marker = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 0.6, "markersize": 2.6}
        ax.plot(rows["x"], rows["loss_floored"], zorder=2.2, **(small | open_marker))
    if joined_runs(points):
        for _, run in points.groupby("run_id"):
            ax.plot(run["x"], run["loss_floored"], color=colour, linewidth=0.6, alpha=0.4, zorder=2.1)
    if line.empty:
        return
    ax.fill_between(line["x"], line["low"], line["high"], color=colour, alpha=0.16, linewidth=0, zorder=1.5)
    fitted, beyond = line[line["part"] == "fitted"], line[line["part"] == "extrapolated"]
    halo = [patheffects.withStroke(linewidth=2.4, foreground="white", alpha=0.7)]
    ax.plot(fitted["x"], fitted["loss"], color=colour, linewidth=1.6, zorder=3, path_effects=halo)
    if len(beyond):
        ax.plot(beyond["x"], beyond["loss"], color=colour, linewidth=1.6, linestyle=DASHED, zorder=3)


def joined_runs(points: Frame) -> bool:
    """Whether single runs are drawn as lines: where a run has few evaluations, and a line does not hide the points."""
    return bool(points.groupby("run_id").size().max() <= MOST_KNOTS)


def draw_residuals(ax: Axes, residuals: Frame, colours: dict[float, str], layout: Layout) -> None:
    ax.axhline(0, color=INK, linewidth=0.8, zorder=1)
    for size, rows in residuals.groupby("size"):
        colour = colours[size]
        ax.plot(rows["step"], rows["percent"], color=colour, linewidth=1, zorder=2)
        for held, some in rows.groupby("held_out"):
            face = "white" if held else colour
            ax.plot(some["step"], some["percent"], "o", color=colour, markerfacecolor=face, markersize=3, zorder=3)
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"))
    ax.set(xlabel="step", ylabel="test loss above the law (%)" if layout == "full" else "above law (%)")


def loss_legend(points: Frame) -> list[Line2D]:
    states = set(points["state"])
    handles = [dot(NOTE, "used in the fit")]
    if "held out" in states:
        handles.append(dot(NOTE, "held out", markerfacecolor="white"))
    if "not used" in states:
        handles.append(dot(UNUSED, "not used"))
    handles.append(Line2D([], [], color=NOTE, linewidth=1.6, label="fitted law"))
    return handles


def label_curve(points: Frame, lines: Frame, size: float) -> tuple[np.ndarray, np.ndarray]:
    """The curve that a size's label stands beside: its line, or where the law has none its points."""
    line = lines[lines["size"] == size].dropna(subset=["x"])
    if len(line):
        return line["x"].to_numpy(), line["loss"].to_numpy()
    rows = points[points["size"] == size].sort_values("x")
    return rows["x"].to_numpy(), rows["loss_floored"].to_numpy()


def loss_marks(points: Frame) -> str:
    problems = sorted(points["eval_problems"].dropna().unique())
    words = f" ({' or '.join(f'{n:.0f}' for n in problems)} questions)" if problems else ""
    runs = "; thin lines join the evaluations of one run" if joined_runs(points) else ""
    means = "" if not points["run_id"].str.endswith("-mean").any() else ", where the source gives means over its runs"
    unused = "; grey points not used" if (points["state"] == "not used").any() else ""
    return f"Points: one evaluation each{words}{means}{runs}{unused}."


def held_out_in_words(record: dict[str, Any], labels: dict[float, str]) -> str:
    held = record["held_out"]
    if held is None:
        return "No point was held out."
    errors = held["rmse_ln_loss"]
    beside = ", ".join(
        f"{name.replace('_', ' ')} {number(error)}" for name, error in errors.items() if error is not None
    )
    what = (
        f"{labels.get(held['num_params'], 'the largest size')}"
        if record["split"] == "inter"
        else (f"the last {100 - 100 * float(record['split'].split(':')[1]):.0f} % of each curve")
    )
    reason = f" ({held['reason']})" if held.get("reason") else ""
    return (
        f"Held out (open): {what}, {counted(held['n_points'], 'point')}; tuned on it: "
        f"{held['tuned_on_held_out']}{reason}; "
        f"rmse in ln L: {beside}."
    )


def loss_table(points: Frame, lines: Frame, x: str, size: str) -> Frame:
    """Points and lines of the figure in one tidy table, told apart by `mark`; `size`: the column of N."""
    names = ["size", "run_id", "step", "x", "test_loss", "state"]
    kept = points[[name for name in names if name != x]].assign(mark="evaluation")
    drawn_lines = lines.drop(columns="basis").rename(
        columns={"loss": "test_loss", "part": "state", "low": "ci95_low", "high": "ci95_high"}
    )
    table = pd.concat([kept, drawn_lines.assign(mark="law")], ignore_index=True)
    return table.rename(columns={"size": size, "x": x})


def band_in_words(lines: Frame, law: Law) -> str:
    """What the bands are and what they rest on."""
    basis = lines["basis"].iloc[0]
    if not basis:
        return "No band: these runs give no interval."
    meaning = "a law that leaves its band is not what the runs do"
    if law.slope is None:
        return f"Bands: 95 %, mean curve of each {law.each} by the law ({basis})."
    return f"Bands: 95 %, mean curve of a {law.each} by its own runs ({basis}); {meaning}."
