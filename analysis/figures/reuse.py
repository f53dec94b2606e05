"""Figure: data reuse, the final loss for each tau and the curves beside those without reuse."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from analysis.curves.frame import Frame
from analysis.figures.axes import loss_limits, new_figure, panel_title, plain_log_axis, spaced_ticks
from analysis.figures.labels import LABEL_SIZE, lay_out
from analysis.figures.style import HALO, INK, ORDER_RAMP, UNUSED, Layout, ramp_colours, style
from analysis.figures.svg import Drawn, drawn
from analysis.questions.finals import Finals, final_losses
from analysis.questions.pairs import FEW_PAIRS
from analysis.questions.reuse import repeats_spread, reuse_difference, reuse_frame, reuse_summary
from analysis.questions.runs import MOST_KNOTS, mean_curve
from analysis.words import between, counted, interval_text, number, size_labels


def reuse(curves: Any, *, replicates: Any = None, layout: Layout = "full") -> Drawn:
    """Final loss for each data reuse, with single runs and intervals; and the curves beside those without reuse.

    `replicates`: curves of repeated runs from which the spread between repeats is taken where `curves` repeat nothing.
    """
    frame = reuse_frame(curves, replicates)
    size = frame["size"].iloc[0]
    label = size_labels(frame)[size]
    finals = final_losses(frame)
    spread = repeats_spread(finals, replicates)
    taus = np.array(sorted(frame["reuse_factor"].unique()))
    colours = ramp_colours(taus, ORDER_RAMP)
    summary = reuse_summary(finals.runs, spread)

    with style("reuse"):
        others = [tau for tau in taus if tau != taus[0]]
        columns = min(3, len(others))
        rows = int(np.ceil(len(others) / columns))
        curve_inches = 0.4 + (0.95 * rows if len(others) > 1 else 1.6)
        figure = new_figure(layout, 2.7, 2 + curve_inches)
        sides: Any = (
            figure.subfigures(1, 2, width_ratios=[1, 0.9 if columns == 1 else 1.5])
            if layout == "full"
            else figure.subfigures(2, 1, height_ratios=[2, curve_inches])
        )
        left, right = sides
        ax = left.subplots()
        draw_reuse_finals(ax, finals, summary, colours, layout)
        panel_title(ax, "a", "Final loss")
        panels = right.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        draw_reuse_curves(panels, frame, taus, colours)
        first = f"τ = {taus[0]:.3g}"
        panels[0, 0].set_title(f"b  Against {first} (grey)")
        lay_out(figure)

    unit = summary.iloc[-1]
    difference, low, high, basis = reuse_difference(finals.runs, spread, taus[0], taus[-1])
    bounded = np.isfinite(low)
    pairs = int(basis.split()[0]) if "pairs" in basis else 0
    few_pairs = f", on {pairs} pairs only" if 0 < pairs <= FEW_PAIRS else ""
    excluded = f"the interval excludes 0{few_pairs}"
    verdict = "no interval" if not bounded else "not established" if low <= 0 <= high else excluded
    finding = (
        f"The final loss of {label} at τ = {unit.reuse_factor:.3g} minus that at τ = {taus[0]:.3g} is "
        f"{number(difference, sign=True)} "
        + (f"{interval_text(low, high, sign=True)} " if bounded else "")
        + f"({basis}): {verdict}."
    )
    counts = summary["runs"]
    caption = [
        f"{label}{constants_in_words(frame)}. a: mean over the evaluations at {finals.window()}; "
        f"{between(counts.min(), counts.max(), 'run')} at each τ"
        + (" (small dots: single runs)" if counts.max() > 1 else "")
        + ("; grey lines join runs of one seed." if "pairs" in basis else "."),
        f"Bars: 95 % from the spread over {spread.words} (sd {spread.sd * 100:.1f} % of the loss, "
        f"{counted(spread.degrees, 'degree')} of freedom), for each mean alone"
        + ("; the comparison is made within pairs." if "pairs" in basis else ".")
        if spread.degrees
        else "No setting was run twice, so there are no intervals.",
        "b: points are single evaluations, lines means over runs"
        + (" and over equal ratios of steps" if frame["step"].nunique() > MOST_KNOTS else "")
        + ", no law assumed.",
        finding,
    ]
    title = "Data reuse."
    table = finals.runs.merge(summary, on="reuse_factor").rename(columns={"size": "num_params"})
    table = table.rename(columns={"final": "final_test_loss", "low": "mean_ci95_low", "high": "mean_ci95_high"})
    return drawn(figure, title, caption, finding, table.drop(columns=["model", "eval_problems"]))


def constants_in_words(frame: Frame) -> str:
    """What all runs of the frame share, for a caption: `, group size 8`."""
    group = frame["group_size"].iloc[0]
    return f", group size {group:.0f}" if np.isfinite(group) else ""


def draw_reuse_finals(ax: Axes, finals: Finals, summary: Frame, colours: dict[float, str], layout: Layout) -> None:
    runs = finals.runs
    for _, same_seed in runs.dropna(subset="seed").groupby("seed"):
        if same_seed["reuse_factor"].nunique() > 1:
            line = same_seed.sort_values("reuse_factor")
            ax.plot(line["reuse_factor"], line["final"], color=UNUSED, linewidth=0.6, zorder=1)
    base = summary.iloc[0]
    for row in summary.itertuples():
        colour = colours[row.reuse_factor]
        if np.isfinite(row.low) and row.low > 0:
            ax.plot([row.reuse_factor] * 2, [row.low, row.high], color=colour, linewidth=1.6, solid_capstyle="butt")
        ax.plot(row.reuse_factor, row.mean, "o", color=colour, markersize=5.5, markeredgecolor="white", zorder=3)
        singles = runs.loc[runs["reuse_factor"] == row.reuse_factor, "final"]
        if len(singles) > 1:
            ax.plot([row.reuse_factor * 1.12] * len(singles), singles, "o", color=colour, markersize=2.2, alpha=0.8)
    finite = [
        value for value in [*summary["low"], *summary["high"], *runs["final"]] if np.isfinite(value) and value > 0
    ]
    if base.runs > 1 and np.isfinite(base.low):
        ax.axhspan(base.low, base.high, color=INK, alpha=0.08, linewidth=0, zorder=0)
    taus = summary["reuse_factor"].to_numpy(float)
    ax.set(xscale="log", xlim=(taus[0] / 1.35, taus[-1] * 1.35))
    plain_log_axis(ax.yaxis, *loss_limits(finite))
    ax.xaxis.set_major_locator(FixedLocator(spaced_ticks(taus)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.set(xlabel="data reuse τ (passes over the prompts)", ylabel=f"final test loss ({finals.window()})")


def draw_reuse_curves(panels: np.ndarray, frame: Frame, taus: np.ndarray, colours: dict[float, str]) -> None:
    frame = frame[frame["step"] > 0]
    reference = frame[frame["reuse_factor"] == taus[0]]
    reference_mean = mean_curve(reference)
    limits = loss_limits(frame["test_loss"])
    steps = frame["step"].min() / 1.1, frame["step"].max() * 1.1
    flat = panels.ravel()
    for ax in flat[len(taus) - 1 :]:
        ax.set_visible(False)
    for ax, tau in zip(flat, taus[1:], strict=False):
        rows = frame[frame["reuse_factor"] == tau]
        for data, colour in [(reference, UNUSED), (rows, colours[tau])]:
            ax.plot(data["step"], data["test_loss"], "o", color=colour, markersize=1.8, alpha=0.35, markeredgewidth=0)
        mean = mean_curve(rows)
        ax.plot(reference_mean["step"], reference_mean["test_loss"], color=UNUSED, linewidth=1.2)
        ax.plot(mean["step"], mean["test_loss"], color=colours[tau], linewidth=1.5)
        words = {"fontsize": LABEL_SIZE, "fontweight": "bold", "color": colours[tau], "path_effects": HALO}
        ax.text(0.97, 0.95, f"τ = {tau:.3g}", transform=ax.transAxes, ha="right", va="top", zorder=6, **words)
        plain_log_axis(ax.yaxis, *limits, most=5)
        plain_log_axis(ax.xaxis, *steps, most=4)
    for ax in panels[:, 0]:
        ax.set_ylabel("test loss")
    panels[-1, panels.shape[1] // 2].set_xlabel("step")
