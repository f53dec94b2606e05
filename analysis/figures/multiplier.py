"""Figure: the effective-compute multiplier of one algorithm against the other, by loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures.axes import LOSS_LABEL, new_figure, plain_log_axis
from analysis.figures.labels import LABEL_SIZE, EndLabel, end_labels
from analysis.figures.style import HALO, INK, Layout, size_colours, style
from analysis.figures.svg import Drawn, drawn
from analysis.questions.pairs import FEW_PAIRS, Effects
from analysis.words import amount, counted, interval, number, span, whole
from scaling.schema import InputError

OPEN = (1e-6, 1e6)  # drawn for a band without ends: all over the panel


def multiplier(given: Effects, sizes: Sequence[float], *, layout: Layout = "full") -> Drawn:
    """Effective-compute multiplier against the loss, per size, with its band over pairs.

    Args:
        sizes: all sizes of the study, so that a size keeps its colour.

    Raises:
        InputError: no comparison has two pairs or more and a range of losses.
    """
    base, other = given.names
    kept = [
        (label, one) for label, one in zip(given.labels, given.record["comparisons"], strict=True)
        if one["multiplier"] and one["n_pairs"] > 1
    ]  # fmt: skip
    if not kept:
        raise InputError("needs two pairs or more at one size whose runs pass the same losses.")
    colours = size_colours(sizes)
    lines = [
        np.array([[r["loss"], r["multiplier"], *(r["ci95"] or OPEN)] for r in one["multiplier"]]) for _, one in kept
    ]
    losses = np.concatenate([line[:, 0] for line in lines])
    centre = np.concatenate([line[:, 1] for line in lines])
    every = np.concatenate([line[:, 2:].ravel() for line in lines])
    # A band of two or three pairs can span decades: the frame shows where the lines lie.
    reach = max(3.0 * float(np.exp(np.abs(np.log(centre)).max())), 1.5)
    low, high = max(every.min(), 1 / reach), min(every.max(), reach)
    cut = bool(every.min() < low or every.max() > high)

    with style("multiplier"):
        figure = new_figure(layout, 2.6, 2.8)
        ax = figure.subplots()
        ax.axhline(1, color=INK, linewidth=1, zorder=1)
        ends = []
        for (label, one), line in zip(kept, lines, strict=True):
            colour = colours[one["num_params"]]
            ax.fill_between(line[:, 0], line[:, 2], line[:, 3], color=colour, alpha=0.16, linewidth=0, zorder=1.5)
            crosses = bool((line[:, 2] <= 1).all() and (line[:, 3] >= 1).all())
            face: dict[str, Any] = {"markerfacecolor": "white"} if crosses else {"markeredgecolor": "white"}
            ax.plot(line[:, 0], line[:, 1], "o-", color=colour, linewidth=1.6, zorder=3, **face)
            ends.append(EndLabel(label, colour, line[:, 0], line[:, 1]))
        span_of = losses.max() / losses.min()
        room = span_of ** ((0.16 if layout == "full" else 0.3) * max(map(len, given.labels)) / 10)
        plain_log_axis(ax.xaxis, losses.min() / span_of**0.04, losses.max() * room, most=6)
        plain_log_axis(ax.yaxis, low / 1.06, high * 1.06, most=6)
        name = "compute multiplier" if layout == "column" else "effective-compute multiplier"
        ax.set(xlabel=LOSS_LABEL, ylabel=f"{name} of {other}")
        words = {"fontsize": LABEL_SIZE - 0.5, "color": "#52606D", "path_effects": HALO, "transform": ax.transAxes}
        ax.text(0.01, 0.98, f"↑ {other} needs less", ha="left", va="top", **words)
        ax.text(0.01, 0.02, f"↓ {other} needs more", ha="left", va="bottom", **words)
        end_labels(ax, ends)

    first_label, first = max(kept, key=lambda pair: (pair[1]["n_pairs"], pair[1]["num_params"]))
    last, own = first["multiplier"][-1], str(first["algorithm"]).upper()
    band = interval(last["ci95"]) if last["ci95"] else "(its band is open)"
    finding = (
        f"At {first_label} and a loss of {number(last['loss'], 2)} the effective-compute multiplier of {own} is "
        f"{amount(last['multiplier'])} {band} over {counted(first['n_pairs'], 'pair')}. "
        f"{'; '.join(given.verdicts())}."
    )
    single = [label for label in given.labels if label not in [name for name, _ in kept]]
    pairs = span([one["n_pairs"] for _, one in kept], whole)
    caption = [
        f"Lines: C that {base} needs for a loss over what {other} needs, each run by its own line against C, mean over "
        f"{pairs} pairs of one seed; above 1 {other} needs less. Only losses that every run of the pairs passes.",
        "Bands: 95 % at all losses together, with the spread between pairs of all sizes; open markers: it contains 1 "
        "all along"
        + ("; a band goes on outside the panel." if cut else ".")
        + (
            " A band is thin where few pairs agree by chance."
            if min(one["n_pairs"] for _, one in kept) <= FEW_PAIRS
            else ""
        ),
        f"Not identified (one pair, or no shared losses): {', '.join(single)}." if single else "",
        finding,
    ]
    rows = [
        {"label": label, "num_params": one["num_params"], "pairs": r["n_pairs"], "test_loss": r["loss"],
         "multiplier": r["multiplier"], "ci95_low": (r["ci95"] or [None])[0], "ci95_high": (r["ci95"] or [None])[-1]}
        for label, one in kept for r in one["multiplier"]
    ]  # fmt: skip
    return drawn(figure, f"Effective compute of {other} against {base}.", caption, finding, pd.DataFrame(rows))
