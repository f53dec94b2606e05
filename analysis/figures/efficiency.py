"""Figure: learning efficiency k(N), with its limit and the size at half of it where the law and the data have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from analysis.curves.frame import Frame
from analysis.figures.axes import X_AXES, clipped_bar, new_figure, power_axis
from analysis.figures.labels import LABEL_SIZE, lay_out, note
from analysis.figures.style import DASHED, HALO, INK, NOTE, UNUSED, Layout, size_colours, style
from analysis.figures.svg import Drawn, drawn
from analysis.laws import get_law
from analysis.questions.efficiency import efficiency_rows, law_efficiency, run_slopes
from analysis.questions.finals import evaluations
from analysis.words import (
    counted,
    interval_text,
    joined,
    labels_of,
    law_in_words,
    math_symbol,
    number,
    short_number,
    unidentified_in_words,
    window_in_words,
)
from scaling.schema import InputError


def efficiency(curves: Any, fit: Any, *, layout: Layout = "full") -> Drawn:
    """k(N): each size's slope with its interval, and the law's with its band; the limit of a law that has one, and the
    size at half of it, where identified."""
    record, law, rows = fit.record, fit.law, efficiency_rows(fit)
    if rows.empty:
        raise InputError(f"no {law.each} has two evaluated points at different X, so there is no slope to draw.")
    frame = evaluations(fit.curves if law.group else curves, record["size_column"])
    colours, labels = size_colours(frame["size"]), labels_of(law, frame)
    values = record["values"]
    known = {name for name in law.tested_on_slopes if values[name]["identified"]}
    half_way = law.saturates and law.scale in known
    drawn_law = law_efficiency(fit, rows["num_params"], extrapolate=law.scale in known) if has_slopes(law) else None
    limit = values[law.amplitude] if law.saturates and law.amplitude in known else None
    letter = X_AXES.get(record["x"], ("", "X"))[1]
    top = efficiency_top(rows, drawn_law, limit)

    with style("efficiency"):
        figure = new_figure(layout, 2.9, 2.8)
        if limit is not None:
            ax, side = figure.subplots(1, 2, width_ratios=[1, 0.1 if layout == "full" else 0.16], sharey=True)
            draw_limit(side, limit, law.symbols[law.amplitude], top)
        else:
            ax = figure.subplots()
        ax.axhline(0, color=UNUSED, linewidth=0.6, zorder=1)
        if drawn_law is not None:
            draw_law_efficiency(ax, drawn_law)
        elif not law.closed_form:
            ax.plot(rows["num_params"], rows["efficiency_law"], "s", markersize=4.5, markerfacecolor="none",
                    markeredgecolor=INK, zorder=4.5)  # fmt: skip
        sizes = np.concatenate([rows["num_params"], [] if drawn_law is None else drawn_law["num_params"]])
        low, high = sizes.min() / (1.5 if layout == "full" else 2.2), sizes.max() * (1.05 if half_way else 1.5)
        power_axis(ax.xaxis, low, high, 5 if layout == "full" else 2.2)
        if half_way:
            draw_half_way(ax, fit, top, (low, high), layout)
        if len(known) < len(law.tested_on_slopes):
            note(ax, 0.02, 0.98, not_identified(record))
        floor = min(0.0, 1.1 * float(rows["low"].fillna(rows["efficiency"]).min()))
        ax.set_ylim(max(floor, -0.5 * top), top)
        draw_size_slopes(ax, rows, run_slopes(fit), colours, labels)
        ax.yaxis.set_major_locator(MaxNLocator(6))
        name = rf"$\mathit{{{law.letter}}}$"
        ax.set_xlabel(f"{law.each} {name}" if law.group else f"model size {name} (parameters)")
        definition = rf" = −d ln $\mathit{{L}}$ / d ln $\mathit{{{letter}}}$" if layout == "full" else ""
        ax.set_ylabel(rf"learning efficiency $\mathit{{k}}$({name}){definition}")
        lay_out(figure)

    title = f"Learning efficiency against {law.each if law.group else 'model size'}."
    intervals = record.get("intervals") or {}
    identified = [f"{law.symbols[name]} {value_in_words(values[name])}." for name in law.tested_on_slopes[::-1]
                  if name in known]  # fmt: skip
    caption = [
        f"Points: slope k of each {law.each}'s own line, −d ln L / d ln {letter}"
        + ("; small dots beside them: single runs. " if rows["n_runs"].max() > 1 else ". ")
        + f"Thin bars: 95 % interval ({intervals.get('per_size_basis', 'no intervals')})"
        + ("; thick: scatter within the run alone." if rows["within_run_half_width"].notna().any() else "."),
        law_curve_in_words(record, letter, beyond=law.scale in known) if drawn_law is not None else
        "" if law.closed_form else
        f"Open squares: the law's own slope in the middle of the points of each {law.each}; its curves are no straight "
        f"lines: {law_in_words(record, letter)}.",
        *identified,
        "N counts parameters without embeddings." if record["size_column"].endswith("non_embedding") else "",
        unidentified_in_words(record),
        *(f"{sentence}." for sentence in intervals.get("open", [])),
    ]  # fmt: skip
    first, last = rows.iloc[0], rows.iloc[-1]
    finding = (
        f"The learning efficiency is {slope_in_words(first)} at {labels[first['num_params']]} and "
        f"{slope_in_words(last)} at {labels[last['num_params']]}"
    )
    if limit is not None:
        finding += f"; by the law its limit {law.symbols[law.amplitude]} is {value_in_words(limit)}"
    elif law.saturates:
        finding += "; no limit is identified"
    parts = [rows.assign(mark=law.each), run_slopes(fit).assign(mark="run")]
    table = pd.concat([*parts, *([] if drawn_law is None else [drawn_law.assign(mark="law")])], ignore_index=True)
    table = table.rename(columns={"low": "ci95_low", "high": "ci95_high"})
    return drawn(figure, title, caption, f"{finding}.", table)


def has_slopes(law: Any) -> bool:
    """Whether the law says of any size what its k is, so that a curve can be drawn."""
    return law.slope_of_any_size and bool(law.shared)


def law_curve_in_words(record: dict[str, Any], letter: str, *, beyond: bool) -> str:
    intervals = record.get("intervals") or {}
    degrees = intervals.get("degrees_of_freedom")
    return (
        f"Curve: {law_in_words(record, letter)}, {record['objective']} objective, "
        f"{counted(record['n_runs'], 'curve')}, "
        f"{counted(record['n_points'], 'point')}, {window_in_words(record)}; "
        + ("dashed beyond the sizes that were run; " if beyond else "not drawn beyond the sizes that were run; ")
        + (
            f"band: 95 %, k(N) by the law, {intervals.get('misfit', '')}, {counted(degrees, 'degree')} of freedom."
            if degrees
            else "no band: its k(N) was not tested."
        )
    )


def efficiency_top(rows: Frame, law: Frame | None, limit: dict[str, Any] | None) -> float:
    """Upper end of the k axis: all that was measured, the limit where identified, never more than thrice the slopes."""
    shown = [*rows["efficiency"], *rows["high"].dropna()]
    if law is not None:
        shown += [*law["efficiency"], *law["high"].dropna()]
    if limit is not None:
        shown.append(limit["ci95"][1])
    return 1.3 * min(max(shown), max(3 * float(rows["efficiency"].max()), 1e-3))


def draw_law_efficiency(ax: Axes, law: Frame) -> None:
    ax.fill_between(law["num_params"], law["low"], law["high"], color=INK, alpha=0.1, linewidth=0, zorder=1)
    inside, beyond = law[law["part"] == "fitted"], law[law["part"] == "extrapolated"]
    ax.plot(inside["num_params"], inside["efficiency"], color=INK, linewidth=1.6, zorder=2)
    if len(beyond):
        both = pd.concat([inside.tail(1), beyond])
        ax.plot(both["num_params"], both["efficiency"], color=INK, linewidth=1.4, linestyle=DASHED, zorder=2)


def draw_size_slopes(ax: Axes, rows: Frame, runs: Frame, colours: dict[float, str], labels: dict[float, str]) -> None:
    """k of each size with its bars, single runs beside it, and its name where there is room for it."""
    for row in rows.itertuples():
        colour, size, k = colours[row.num_params], row.num_params, row.efficiency
        ax.plot([size, size], [row.low, row.high], color=colour, linewidth=1, solid_capstyle="butt", zorder=3)
        if np.isfinite(row.within_run_half_width):
            ends = [k - row.within_run_half_width, k + row.within_run_half_width]
            ax.plot([size, size], ends, color=colour, linewidth=2.6, solid_capstyle="butt", zorder=3)
        face, edge = ("white", colour) if row.low <= 0 <= row.high else (colour, "white")
        ax.plot(size, k, "o", markersize=5.5, markerfacecolor=face, markeredgecolor=edge, zorder=4)
        single = runs.loc[runs["num_params"] == size, "efficiency"]
        if len(single) > 1:
            aside = ax.transData + ScaledTranslation(6 / 72, 0, ax.figure.dpi_scale_trans)
            ax.plot(
                [size] * len(single), single, "o", color=colour, markersize=2.2, alpha=0.8, transform=aside, zorder=3
            )
        low, high = (np.nan_to_num(end, nan=k) for end in (row.low, row.high))
        # Beneath only where the words do not run into the axis.
        bottom, top = ax.get_ylim()
        above = k >= row.efficiency_law or low - bottom < 0.2 * (top - bottom)
        ax.annotate(
            labels[size].replace(" ", "\n"),
            (size, high if above else low),
            xytext=(-9, 4) if above else (9, -4),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=LABEL_SIZE,
            fontweight="bold",
            linespacing=0.95,
            color=colour,
            path_effects=HALO,
            zorder=6,
        )


def draw_half_way(ax: Axes, fit: Any, top: float, limits: tuple[float, float], layout: Layout) -> None:
    """The size at half of the limit, with its interval along x, near the top of the panel, and where it meets the
    law."""
    law, entry = fit.law, fit.values[fit.law.scale]
    value, (low, high) = entry["value"], entry["ci95"]
    height, half = 0.92 * top, float(fit.efficiency(value))
    clipped_bar(ax, low, high, height, limits, INK)
    ax.plot(value, height, "s", color=INK, markersize=5, markeredgecolor="white", zorder=4)
    ax.plot([value, value], [0, height], color=UNUSED, linewidth=0.8, linestyle=":", zorder=1.5)
    words = rf"{math_symbol(law.symbols[law.scale])}  {short_number(value)}" + ("  " if layout == "full" else "\n")
    words += f"[{short_number(low)}, {short_number(high)}]"
    left, right = max(low, limits[0]), min(high, limits[1])
    on_the_left = left / limits[0] > limits[1] / right
    shown = {"textcoords": "offset points", "va": "center", "zorder": 6, "path_effects": HALO}
    at, side, align = (left, -6, "right") if on_the_left else (right, 6, "left")
    ax.annotate(words, (at, height), xytext=(side, 0), ha=align, fontsize=7.5, **shown)
    half_way = rf"$\mathit{{k}}$ = {math_symbol(law.symbols[law.amplitude])}/2"
    ax.annotate(half_way, (value, 0.4 * half), xytext=(4, 0), fontsize=7, color=NOTE, **shown)


def draw_limit(ax: Axes, entry: dict[str, Any], symbol: str, top: float) -> None:
    """The limit of k with its interval beside the y axis; an end above the panel is an arrow."""
    value, (low, high) = entry["value"], entry["ci95"]
    ax.plot([0, 0], [low, min(high, top)], color=INK, linewidth=1.6, solid_capstyle="butt")
    if high > top:
        ax.plot([0], [top], "^", color=INK, markersize=5, clip_on=False)
    ax.plot(0, min(value, top), "s", color=INK, markersize=5, markeredgecolor="white", zorder=4)
    ends: Any = {"textcoords": "offset points", "ha": "center"}
    ax.annotate(
        number(value), (0, min(value, top)), xytext=(5, 0), textcoords="offset points", va="center", fontsize=7.5
    )
    ax.annotate(math_symbol(symbol), (0, min(high, top)), xytext=(0, 4), va="bottom", fontsize=7.5, **ends)
    ax.annotate(interval_text(low, high), (0, low), xytext=(0, -4), va="top", fontsize=7, **ends)
    ax.set_xlim(-1, 1)
    ax.set_axis_off()


def not_identified(record: dict[str, Any]) -> str:
    """The words that stand where the amplitude and the scale of k(N) would be, and why."""
    law = get_law(record["law"])
    names = [name for name in law.tested_on_slopes if not record["values"][name]["identified"]]
    missing = [math_symbol(law.symbols[name]) for name in names]
    reasons = [sentence.split(":")[-1].strip() for sentence in (record.get("intervals") or {}).get("open", [])[:1]]
    return "\n".join([f"{joined(missing[::-1])} not identified" + (":" if reasons else ""), *reasons])


def value_in_words(entry: dict[str, Any]) -> str:
    low, high = entry["ci95"]
    if entry["unit"] == "parameters":
        return f"{short_number(entry['value'])} [{short_number(low)}, {short_number(high)}]"
    return f"{number(entry['value'])} {interval_text(low, high)}"


def slope_in_words(row: Any) -> str:
    interval = f" {interval_text(row['low'], row['high'])}" if np.isfinite(row["low"]) else ""
    return f"{number(row['efficiency'])}{interval}"
