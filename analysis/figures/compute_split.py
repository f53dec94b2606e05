"""Figure: where the compute of a run went, by kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import to_rgb

from analysis.figures.axes import new_figure
from analysis.figures.labels import beside, lay_out
from analysis.figures.style import COMPUTE_COLOURS, INK, NOTE, Layout, style
from analysis.figures.svg import Drawn, drawn
from analysis.questions.finals import evaluations
from analysis.words import between, joined, labelled, power_of_ten, size_labels
from scaling.schema import InputError

COMPUTE_PARTS = {
    "rollout_flops": "rollouts",
    "update_flops": "update",
    "logprob_flops": "log-probs",
    "judge_flops": "judge",
    "eval_flops": "evaluation",
}


def compute_split(curves: Any, *, layout: Layout = "full") -> Drawn:
    """Share of each kind of compute in a run's total, per size and algorithm."""
    frame = curves.frame()
    lacking = [words for name, words in COMPUTE_PARTS.items() if name not in frame or frame[name].isna().all()]
    if lacking:
        raise InputError(f"needs compute by kind; {curves.source} does not count that of {joined(lacking)}.")
    frame = evaluations(curves)
    last = frame.sort_values("step").groupby("run_id").tail(1)
    labels = size_labels(frame)
    groups = last.groupby(["size", "algorithm", "condition"], dropna=False, sort=True)
    means, counts = groups[list(COMPUTE_PARTS)].mean(), groups.size()
    several = last.groupby("size")["algorithm"].nunique().max() > 1
    totals = means.sum(axis=1)
    shares = means.div(totals, axis=0) * 100
    names = [
        labelled(labels[size] + (f", {str(algorithm).upper()}" if several else ""), condition)
        for size, algorithm, condition in shares.index
    ]

    with style("compute_split"):
        figure = new_figure(layout, 1.1 + 0.28 * len(names))
        ax = figure.subplots()
        places = range(len(names))
        left = np.zeros(len(names))
        for colour, (column, part) in zip(COMPUTE_COLOURS, COMPUTE_PARTS.items(), strict=True):
            widths = shares[column].to_numpy()
            ax.barh(places, widths, 0.62, left=left, color=colour, edgecolor="white", linewidth=0.8, label=part)
            for place, start, width in zip(places, left, widths, strict=True):
                if width >= (4 if layout == "full" else 9):
                    dark = sum(to_rgb(colour)) < 1.6
                    shown = {"color": "white" if dark else INK, "ha": "center", "va": "center", "fontsize": 7.5}
                    ax.text(start + width / 2, place, f"{width:.0f}", **shown)
            left += widths
        for place, total in zip(places, totals, strict=True):
            beside(ax, place, power_of_ten(total, math=True))
        beside(ax, -0.62, "total FLOPs" if layout == "full" else "FLOPs", fontsize=7, color=NOTE, va="bottom")
        ax.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.6), xlabel="share of total FLOPs (%)")
        ax.set_yticks(places, names)
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False)
        ax.spines["left"].set_visible(False)
        handles = [bar for bar in ax.containers if any(patch.get_width() > 0 for patch in bar)]
        figure.legend(
            handles=handles,
            loc="outside upper left",
            ncols=5 if layout == "full" else 3,
            handlelength=0.9,
            columnspacing=1.6,
        )
        lay_out(figure)

    update = shares["update_flops"].to_numpy()
    title = "Where the compute went."
    ends = "" if len(update) == 1 else f"from {update[0]:.0f} % ({names[0]}) to {update[-1]:.0f} % ({names[-1]})"
    finding = f"The update takes {ends or f'{update[0]:.0f} %'} of a run's total FLOPs; the rest is paid beside it."
    absent = [part for column, part in COMPUTE_PARTS.items() if (means[column] == 0).all()]
    caption = [
        "Bars: share of each kind in the total FLOPs of a run at its last step, counted from the tokens and passes "
        f"that were really computed; mean over {between(counts.min(), counts.max(), 'run')} a row.",
        "Groups without an advantage skip the backward pass and count 0 in the update.",
        f"No compute went to: {', '.join(absent)}." if absent else "",
        "Making the base models is not counted.",
    ]
    table = means.assign(total_flops=totals, runs=counts).reset_index()
    table = table.rename(columns={"size": "num_params"})
    for column in COMPUTE_PARTS:
        table[column.replace("_flops", "_share_percent")] = shares[column].to_numpy()
    return drawn(figure, title, caption, finding, table)
