"""Figure: algorithms against the baseline, learning curves and final losses paired by seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.curves.frame import Frame
from analysis.figures.axes import (
    LOSS_LABEL,
    clipped_bar,
    loss_limits,
    new_figure,
    panel_title,
    plain_log_axis,
    two_panels,
)
from analysis.figures.labels import EndLabel, beside, end_labels, lay_out
from analysis.figures.style import INK, NOTE, Layout, Styles, algorithm_styles, style
from analysis.figures.svg import Drawn, drawn
from analysis.questions.finals import evaluations
from analysis.questions.pairs import FEW_PAIRS, Compared, compared_algorithms, pair_summary
from analysis.questions.runs import mean_curve
from analysis.words import counted, interval_text, joined, number

MARKS = {"o": "circles", "s": "squares", "D": "diamonds", "^": "triangles", "v": "triangles down", "P": "crosses"}


def algorithm_comparison(curves: Any, *, compared: Compared | None = None, layout: Layout = "full") -> Drawn:
    """Learning curves of algorithms at one size, and their final losses paired by seed with the baseline's at every
    size. `compared`: what `compared_algorithms` gives for these curves, where it is known already."""
    frame = evaluations(curves)
    compared = compared_algorithms(curves) if compared is None else compared
    pairs, baseline, others = compared
    summary = pair_summary(pairs)
    styles = algorithm_styles([baseline, *others])
    # The curves of the setting with most pairs; of several, of the largest size.
    shown = summary.sort_values(["pairs", "size"], kind="stable")["label"].iloc[-1]
    place = pairs.loc[pairs["label"] == shown, "place"].iloc[0]
    base, up = compared.names()
    minus = f"{up} − {base}" if len(others) == 1 else f"each − {base}"

    with style("algorithm_comparison"):
        rows = len(summary)
        figure = new_figure(layout, min(2.4 + 0.1 * rows, 4.5), 3.2 + 0.35 * rows)
        left, right = two_panels(figure, layout, [1, 1.15], [2, 0.45 + 0.35 * rows])
        here = pairs[pairs["place"] == place]
        of_others = {name: list(here.loc[here["algorithm"] == name, "run_other"]) for name in others}
        ids = {baseline: list(dict.fromkeys(here["run_baseline"]))} | {n: runs for n, runs in of_others.items() if runs}
        draw_algorithm_curves(left, frame, ids, styles)
        panel_title(left, "a", f"{place}, {counted(here['seed'].nunique(), 'seed')}")
        cut = draw_differences(right, summary, pairs, styles, layout)
        panel_title(right, "b", f"Final loss of {minus}")
        right.set_xlabel(f"difference in final test loss, {minus}")
        lay_out(figure)
        ends = []
        for algorithm, runs in ids.items():
            mean = mean_curve(frame[frame["run_id"].isin(runs)])
            xs, ys = mean["step"].to_numpy(), mean["test_loss"].to_numpy()
            ends.append(EndLabel(algorithm.upper(), styles[algorithm][0], xs, ys))
        end_labels(left, ends)

    chosen = summary[summary["label"] == shown].iloc[0]
    few_pairs = f", on {counted(int(chosen.pairs), 'pair')} only" if chosen.pairs <= FEW_PAIRS else ""
    title = f"{base} against {up}."
    one = up if len(others) == 1 else pairs.loc[pairs["label"] == shown, "algorithm"].iloc[0].upper()
    marks = ", ".join(f"{name.upper()} {MARKS[styles[name][1]]}" for name in ids)
    finding = (
        f"At {place} the final loss of {one} minus {base} is {number(chosen.difference, sign=True)}"
        + (f" {interval_text(chosen.low, chosen.high, sign=True)}" if chosen.pairs > 1 else "")
        + f" over {counted(int(chosen.pairs), 'pair')}: "
        + ("not established." if chosen.low <= 0 <= chosen.high else f"the interval excludes 0{few_pairs}.")
    )
    single = list(summary.loc[summary["pairs"] == 1, "label"])
    few = summary[summary["pairs"].between(2, FEW_PAIRS)]
    caption = [
        f"a: thin lines are single runs, thick lines their mean ({marks}), {place}; step 0 is not on the log axis.",
        f"b: ticks are pairs (one seed, so one base model and one stream of prompts for both), "
        f"{counted(int(summary['pairs'].sum()), 'pair')} in all; markers their mean, filled where the interval "
        "excludes 0; bars: 95 %, t interval of the mean paired difference (pairs − 1 degrees of freedom)"
        + (
            ", never narrower than the finite test set allows "
            f"(standard error of one difference {number(chosen.noise)})."
            if chosen.noise
            else "."
        ),
        f"With {joined(sorted({str(n) for n in few['pairs']}))} pairs such an interval is many times wider than the "
        "scatter of the pairs." + (" Arrows: it goes on outside the panel." if cut else "")
        if len(few)
        else "",
        f"One pair only, no interval: {', '.join(single)}." if single else "",
        f"Final loss: mean of the evaluations at {pairs['window'].iloc[0]}.",
    ]
    more = summary.drop(columns=["size", "difference", "mean_baseline", "mean_other"])
    other = others[0] if len(others) == 1 else "other"
    table = pairs.drop(columns=["place", *(["algorithm"] if len(others) == 1 else [])])
    table = table.merge(more, on="label").rename(
        columns={
            "size": "num_params",
            "baseline": f"final_test_loss_{baseline}",
            "other": f"final_test_loss_{other}",
            "difference": f"difference_{other}_minus_{baseline}",
            "low": "mean_difference_ci95_low",
            "high": "mean_difference_ci95_high",
        }
    )
    return drawn(figure, title, caption, finding, table)


def draw_algorithm_curves(ax: Axes, frame: Frame, ids: dict[str, list[str]], styles: Styles) -> None:
    used = frame[frame["run_id"].isin([run for runs in ids.values() for run in runs]) & (frame["step"] > 0)]
    for algorithm, runs in ids.items():
        colour, marker = styles[algorithm]
        for run in runs:
            rows = used[used["run_id"] == run]
            ax.plot(rows["step"], rows["test_loss"], color=colour, linewidth=0.6, alpha=0.4)
        mean = mean_curve(used[used["run_id"].isin(runs)])
        ax.plot(mean["step"], mean["test_loss"], color=colour, linewidth=1.6, marker=marker, markeredgecolor="white")
    plain_log_axis(ax.yaxis, *loss_limits(used["test_loss"]))
    first, last = used["step"].min(), used["step"].max()
    plain_log_axis(ax.xaxis, first * 0.9, last * (last / first) ** 0.24, most=6)
    ax.set(xlabel="step", ylabel=LOSS_LABEL)


def draw_differences(ax: Axes, summary: Frame, pairs: Frame, styles: Styles, layout: Layout) -> bool:
    """Draw panel b; tells whether an interval had to be cut at the frame."""
    names = [label.replace(" (", "\n(", 1) for label in summary["label"]]
    others = pairs.groupby("label")["algorithm"].first()
    scatter = pairs["difference"].abs().max()
    finite = summary[["low", "high"]].abs().to_numpy()
    finite = finite[np.isfinite(finite)]
    limit = 1.12 * max(min(finite.max(initial=0), 8 * scatter), scatter, 1e-3)
    ax.axvline(0, color=INK, linewidth=1)
    for place, row in enumerate(summary.itertuples()):
        colour, marker = styles[others[row.label]]
        if row.pairs > 1:
            clipped_bar(ax, row.low, row.high, place, (-limit, limit), colour)
        zero_inside = row.low <= 0 <= row.high
        shown = {"markersize": 5.5, "markeredgecolor": colour, "markerfacecolor": "white" if zero_inside else colour}
        ax.plot([row.difference], [place], marker=marker, markeredgewidth=1.2, zorder=4, **shown)
        ticks = pairs.loc[pairs["label"] == row.label, "difference"]
        ax.plot(ticks, np.full(len(ticks), place + 0.27), linestyle="none", marker="|", markersize=6, color=colour)
        words = number(row.difference, sign=True)
        words += ("\n" if layout == "column" else "  ") if row.pairs > 1 else ""
        words += interval_text(row.low, row.high, sign=True) if row.pairs > 1 else ""
        beside(ax, place, words)
    ax.set(xlim=(-limit, limit), ylim=(len(names) - 0.4, -0.75))
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0, pad=8)
    ax.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}".replace("0.", ".").replace("-", "−")))
    ax.spines["left"].set_visible(False)
    name = f"{others.iloc[0].upper()} " if others.nunique() == 1 else ""
    ax.text(-0.03 * limit, -0.52, f"{name}lower ←", ha="right", va="center", fontsize=7, color=NOTE)
    ax.text(0.03 * limit, -0.52, "→ higher", ha="left", va="center", fontsize=7, color=NOTE)
    return bool(finite.max(initial=0) > limit)
