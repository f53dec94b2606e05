"""The figures of the reference study's page."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from analysis import figures
from analysis.figures.axes import (
    LOSS_LABEL,
    X_AXES,
    loss_limits,
    new_figure,
    outside_legend,
    panel_title,
    plain_log_axis,
    two_panels,
    x_axis,
)
from analysis.figures.labels import EndLabel, end_labels
from analysis.figures.loss_curves import draw_size, label_curve, loss_legend, loss_marks, loss_table
from analysis.figures.style import Layout, size_colours, style
from analysis.figures.svg import drawn
from analysis.questions.finals import evaluations
from analysis.questions.residuals import fitted_points, law_line
from analysis.reproduce.tan2025.decomposition import PART, decomposition_scores
from analysis.reproduce.tan2025.study import Study
from analysis.words import as_sentence, counted, law_in_words, number, size_labels


def decomposition_figure(study: Study, *, layout: Layout = "full") -> figures.Drawn:
    """Both protocols of the loss decomposition: curves of the law, solid where fitted and dashed where predicted."""
    decomposition, base = study.decomposition, evaluations(study.curves["base"])
    colours, labels = size_colours(base["size"]), size_labels(base)
    intra, inter = fitted_points(decomposition.intra), fitted_points(decomposition.smaller)
    lines = [
        pd.concat([law_line(one, points, n) for n in sorted(points["size"].unique())], ignore_index=True)
        for one, points in ((decomposition.intra, intra), (decomposition.smaller, inter))
    ]
    largest = float(decomposition.early.sizes[0])
    held = base[(base["size"] == largest) & (base["step"] > 0)].copy()
    held["x"], held["loss_floored"] = held["prompts_seen"], held["test_loss"]
    held["state"] = np.where(held["step"].isin(decomposition.early.step), "fitted", "held out")
    x = np.geomspace(held["x"].min(), held["x"].max(), 60)
    part = np.where(x <= math.exp(decomposition.early.x.max()), "fitted", "extrapolated")
    own = pd.DataFrame({"size": largest, "x": x, "loss": decomposition.largest(np.log(x)), "part": part, "low": np.nan,
                        "high": np.nan, "basis": ""})  # fmt: skip
    drawn_lines = lines[0], pd.concat([lines[1], own], ignore_index=True)
    # The law is not bounded, a loss is.
    panels = [
        (points, rows[rows["loss"] <= 1])
        for points, rows in zip((intra, pd.concat([inter, held])), drawn_lines, strict=True)
    ]
    titles = [f"First {100 * PART:.0f} % of each curve", f"Shape of the others for {labels[largest]}"]

    with style("decomposition"):
        figure = new_figure(layout, 3.1, 4.5)
        axes = two_panels(figure, layout, [1, 1], [1, 1])
        shown = pd.concat([points for points, _ in panels])
        limits = loss_limits([*shown["loss_floored"], *(v for _, rows in panels for v in rows["loss"])])
        for ax, letter, title, (points, rows) in zip(axes, "ab", titles, panels, strict=True):
            panel_title(ax, letter, title)
            plain_log_axis(ax.yaxis, *limits)
            for n in labels:
                draw_size(ax, points[points["size"] == n], rows[rows["size"] == n], colours[n])
            x_axis(ax, points["x"], max(map(len, labels.values())), 2.7)
            ax.set(xlabel=X_AXES["prompts_seen"][0], ylabel=LOSS_LABEL)
        outside_legend(figure, loss_legend(shown), layout)
        for ax, (points, rows) in zip(axes, panels, strict=True):
            ends = [EndLabel(labels[n], colours[n], *label_curve(points, rows, n)) for n in labels]
            end_labels(ax, ends)

    said = [
        f"{row['protocol']}: rmse of ln L {number(row['rmse_law'])}, beside "
        f"{number(row['rmse_per_size'])} for a line per size and {number(row['rmse_last_value'])} for "
        "the last value"
        for row in decomposition_scores(decomposition)
    ]
    finding = as_sentence("; ".join(said))
    hits = [
        f"{', '.join(names)} ({letter})"
        for letter, one in (("a", decomposition.intra), ("b", decomposition.smaller))
        if (names := one.record["diagnostics"]["bound_hits"])
    ]
    record = decomposition.intra.record
    caption = [
        loss_marks(intra),
        f"Lines: {law_in_words(record, 'D').replace('X/', 'D/')}, {record['objective']} objective; solid where "
        "fitted, dashed where predicted.",
        f"a: fitted to the first {100 * PART:.0f} % of every curve ({counted(record['n_points'], 'point')} of "
        f"{counted(record['n_runs'], 'curve')}), nothing tuned on the rest. b: l_inf, N0, alpha and beta from all "
        f"{counted(decomposition.smaller.record['n_points'], 'point')} of the smaller sizes; amplitude and d0 of "
        f"{labels[largest]} tuned on its first {counted(len(decomposition.early), 'point')}.",
        "No bands: one curve per size, and no interval of this law has a measured coverage.",
        f"At a bound, so not identified: {'; '.join(hits)}." if hits else "",
        finding,
    ]
    tables = [
        loss_table(points, rows, "prompts_seen", "num_params").assign(panel=letter)
        for letter, (points, rows) in zip("ab", panels, strict=True)
    ]
    return drawn(figure, "Loss decomposition.", caption, finding, pd.concat(tables, ignore_index=True))


def figure_makers(study: Study) -> dict[str, Callable[..., Any]]:
    """The figures by name, in the order of the page; each takes `layout`."""
    base = study.curves["base"]

    def curve(x: str, split: str) -> Callable[..., Any]:
        fit = study.fit(x=x, objective="linear", split=split)
        return lambda **o: figures.loss_curves(base, fit, x=x, **o)

    windows = study.fit(steps="11:")
    return {
        "windows": lambda **o: figures.sensitivity(base, windows, **o),
        "inter_compute": curve("train_flops", "inter"),
        "inter_prompts": curve("prompts_seen", "inter"),
        "intra_compute": curve("train_flops", "intra:0.239"),
        "intra_prompts": curve("prompts_seen", "intra:0.239"),
        "efficiency_compute": lambda **o: figures.efficiency(base, study.fit(x="train_flops"), **o),
        "efficiency_prompts": lambda **o: figures.efficiency(base, study.fit(x="prompts_seen"), **o),
        "decomposition": lambda **o: decomposition_figure(study, **o),
        "reuse": lambda **o: figures.reuse(study.curves["reuse"], replicates=study.curves["replicates"], **o),
        "group_size": lambda **o: figures.group_size(study.curves["group_size"], **o),
        "frontier": lambda **o: figures.frontier(base, windows, **o),
    }
