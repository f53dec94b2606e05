"""Figure: one algorithm against the other, learning curves and final losses paired by seed."""

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
from analysis.figures.style import ALGORITHMS, INK, NOTE, Layout, style
from analysis.figures.svg import Drawn, drawn
from analysis.questions.finals import evaluations
from analysis.questions.pairs import FEW_PAIRS, algorithm_pairs, pair_summary
from analysis.questions.runs import mean_curve
from analysis.words import counted, interval_text, joined, number


def algorithm_comparison(curves: Any, *, baseline: str = "grpo", other: str = "papo", layout: Layout = "full") -> Drawn:
    """Learning curves of two algorithms at one size, and their final losses paired by seed at every size."""
    frame = evaluations(curves)
    pairs = algorithm_pairs(curves, baseline, other)
    summary = pair_summary(pairs)
    # The curves of the setting with most pairs; of several, of the largest size.
    shown = summary.sort_values(["pairs", "size"], kind="stable")["label"].iloc[-1]
    up, base = other.upper(), baseline.upper()

    with style("algorithm_comparison"):
        rows = len(summary)
        figure = new_figure(layout, min(2.4 + 0.1 * rows, 4.5), 3.2 + 0.35 * rows)
        left, right = two_panels(figure, layout, [1, 1.15], [2, 0.45 + 0.35 * rows])
        runs = pairs[pairs["label"] == shown]
        ids = {baseline: list(runs["run_baseline"]), other: list(runs["run_other"])}
        draw_algorithm_curves(left, frame, ids)
        panel_title(left, "a", f"{shown}, {counted(len(runs), 'seed')}")
        cut = draw_differences(right, summary, pairs, other, layout)
        panel_title(right, "b", f"Final loss of {up} − {base}")
        right.set_xlabel(f"difference in final test loss, {up} − {base}")
        lay_out(figure)
        ends = []
        for algorithm in (baseline, other):
            mean = mean_curve(frame[frame["run_id"].isin(ids[algorithm])])
            xs, ys = mean["step"].to_numpy(), mean["test_loss"].to_numpy()
            ends.append(EndLabel(algorithm.upper(), ALGORITHMS.get(algorithm, (INK, "D"))[0], xs, ys))
        end_labels(left, ends)

    chosen = summary[summary["label"] == shown].iloc[0]
    few_pairs = f", on {counted(int(chosen.pairs), 'pair')} only" if chosen.pairs <= FEW_PAIRS else ""
    title = f"{base} against {up}."
    finding = (
        f"At {shown} the final loss of {up} minus {base} is {number(chosen.difference, sign=True)}"
        + (f" {interval_text(chosen.low, chosen.high, sign=True)}" if chosen.pairs > 1 else "")
        + f" over {counted(int(chosen.pairs), 'pair')}: "
        + ("not established." if chosen.low <= 0 <= chosen.high else f"the interval excludes 0{few_pairs}.")
    )
    single = list(summary.loc[summary["pairs"] == 1, "label"])
    few = summary[summary["pairs"].between(2, FEW_PAIRS)]
    caption = [
        f"a: thin lines are single runs, thick lines their mean ({base} circles, {up} squares), {shown}; step 0 "
        "is not on the log axis.",
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
    table = pairs.merge(more, on="label").rename(
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


def draw_algorithm_curves(ax: Axes, frame: Frame, ids: dict[str, list[str]]) -> None:
    used = frame[frame["run_id"].isin([run for runs in ids.values() for run in runs]) & (frame["step"] > 0)]
    for algorithm, runs in ids.items():
        colour, marker = ALGORITHMS.get(algorithm, (INK, "D"))
        for run in runs:
            rows = used[used["run_id"] == run]
            ax.plot(rows["step"], rows["test_loss"], color=colour, linewidth=0.6, alpha=0.4)
        mean = mean_curve(used[used["run_id"].isin(runs)])
        ax.plot(mean["step"], mean["test_loss"], color=colour, linewidth=1.6, marker=marker, markeredgecolor="white")
    plain_log_axis(ax.yaxis, *loss_limits(used["test_loss"]))
    first, last = used["step"].min(), used["step"].max()
    plain_log_axis(ax.xaxis, first * 0.9, last * (last / first) ** 0.24, most=6)
    ax.set(xlabel="step", ylabel=LOSS_LABEL)


def draw_differences(ax: Axes, summary: Frame, pairs: Frame, other: str, layout: Layout) -> bool:
    """Draw panel b; tells whether an interval had to be cut at the frame."""
    names = [label.replace(" (", "\n(", 1) for label in summary["label"]]
    colour, marker = ALGORITHMS.get(other, (INK, "D"))
    scatter = pairs["difference"].abs().max()
    finite = summary[["low", "high"]].abs().to_numpy()
    finite = finite[np.isfinite(finite)]
    limit = 1.12 * max(min(finite.max(initial=0), 8 * scatter), scatter, 1e-3)
    ax.axvline(0, color=INK, linewidth=1)
    for place, row in enumerate(summary.itertuples()):
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
    name = other.upper()
    ax.text(-0.03 * limit, -0.52, f"{name} lower ←", ha="right", va="center", fontsize=7, color=NOTE)
    ax.text(0.03 * limit, -0.52, "→ higher", ha="left", va="center", fontsize=7, color=NOTE)
    return bool(finite.max(initial=0) > limit)
