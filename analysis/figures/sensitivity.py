"""Figure: what the choice of the window moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from analysis.curves.frame import Frame
from analysis.figures.axes import dot, new_figure, outside_legend, panel_title, plain_log_axis, two_panels
from analysis.figures.labels import lay_out
from analysis.figures.style import DIVERGING, INK, LOOK_HERE, NOTE, Layout, mixed, style
from analysis.figures.svg import Drawn, drawn
from analysis.questions.finals import evaluations
from analysis.questions.windows import shows_scale, window_fits
from analysis.words import counted, interval_words, joined, labels_of, math_symbol, number, short_number
from scaling.schema import InputError


def sensitivity(curves: Any, fit: Any, *, windows: Frame | None = None, layout: Layout = "full") -> Drawn:
    """What the window moves: the scale of k(N) (N0) where the data identify it, else k of the largest size; and pooled
    R2 beside it.

    `windows`: what `window_fits` gives for this fit, where it is known already.
    """
    record, law = fit.record, fit.law
    size, values = fit.per_size[-1], record["values"]
    by_scale = shows_scale(fit)
    label = labels_of(law, evaluations(fit.curves if law.group else curves, record["size_column"]))[size["num_params"]]
    label = label if law.group else label.split()[0]
    first, last = record["window"]["first_step"], record["window"]["last_step"]
    table = window_fits(fit) if windows is None else windows
    if record["goodness"]["r2_pooled"] is None:
        raise InputError("needs losses that vary: all fitted losses are equal, so no window has an R2.")
    owns = table[(table["first_step"] == first) & (table["last_step"] == last)]
    if len(table) < 3 or owns.empty:
        raise InputError("needs more evaluated steps: fewer than three windows of four steps fit into these curves.")
    own = owns.iloc[0]
    centre = own["value"]
    ends = values[law.scale]["ci95"] if by_scale else size["efficiency_ci95"]
    of_sizes = by_scale and values[law.scale]["unit"] == "parameters"
    unit, unit_words = size_unit(centre) if of_sizes else (1.0, "")
    plain = law.symbols[law.scale] if by_scale else f"k({label})"
    what = math_symbol(plain) if by_scale else rf"$\mathit{{k}}$({label})"
    title_a = f"Best {what}{unit_words} by window" if by_scale else f"{what} by window"

    with style("sensitivity"):
        figure = new_figure(layout, 2.9, 4.4)
        left, right = two_panels(figure, layout, [1.5, 1], [1.15, 1])
        draw_windows(left, table, centre, unit, (first, last))
        panel_title(left, "a", title_a)
        draw_pooled(right, table, own, unit, ends)
        panel_title(right, "b", r"Pooled $\mathit{R}^2$ of the same fits")
        right.set_xlabel(f"best {what}{unit_words}" if by_scale else what)
        hollow: Any = {"linestyle": "none", "markerfacecolor": "white", "markeredgecolor": INK}
        handles = [
            dot(NOTE, "the law"),
            Line2D([], [], marker="o", markersize=5.5, label="own window", **hollow),
            dot(LOOK_HERE, "the same with k = 0"),
        ]  # fmt: skip
        outside_legend(figure, handles, layout, columns=3)
        lay_out(figure)

    finite = table.loc[~table["no_finite_optimum"], "value"]
    show = short_number if of_sizes else number
    low, high = show(finite.min()), show(finite.max())
    infinite = int(table["no_finite_optimum"].sum())
    by_colour = "ratio to it, log scale" if is_ratio(table["value"], centre) else "difference from it"
    r2, flat = table["r2_pooled"], table["r2_pooled_constant"]
    finding = (
        f"Over {counted(len(table), 'window')} {plain} lies between {low} and {high}"
        + (f" and has no finite optimum in {infinite}" if infinite else "")
        + f"; this page uses steps {first}–{last}, where it is {show(centre)}"
        + (f" {interval_words(ends, show)}." if ends else ".")
    )
    caption = [
        f"a: {plain} of the same fit over other windows; the outlined one is the page's own; colour: ratio to it, log "
        "scale; ∞: no finite optimum; blank: fewer than four evaluated steps."
        if by_scale
        else f"a: slope of the largest {law.each}'s own line over other windows; the outlined one is the page's own; "
        f"colour: {by_colour}; blank: fewer than four evaluated steps.",
        not_shown_in_words(fit) if law.shape is not None and not by_scale else "",
        f"b: pooled R2 on L of those fits ({number(r2.min())}–{number(r2.max())}), and of the same with k = 0, a level "
        f"per {law.each} and no learning ({number(flat.min())}–{number(flat.max())}); grey: 95 % interval from the "
        "page's own window.",
        finding,
    ]
    table = table.rename(columns={"value": law.scale if by_scale else "efficiency"})
    return drawn(figure, "Sensitivity to the window.", caption, finding, table)


def not_shown_in_words(fit: Any) -> str:
    symbols, values = fit.law.symbols, fit.values
    missing = [symbols[name] for name in fit.law.tested_on_slopes if not values[name]["identified"]]
    verb = "are" if len(missing) > 1 else "is"
    return f"{joined(missing)} {verb} not identified, so the slope is shown and not {symbols[fit.law.scale]}."


def size_unit(value: float) -> tuple[float, str]:
    """The unit that makes a size a short number, and its words."""
    return next(
        ((u, w) for u, w in [(1e9, " (billions)"), (1e6, " (millions)"), (1e3, " (thousands)")] if value >= u),
        (1.0, ""),
    )


def is_ratio(values: Any, centre: float) -> bool:
    """Whether values are compared by their ratio to `centre`; a slope may be negative, and is then by difference."""
    return centre > 0 and bool((values > 0).all())


def from_centre(values: Any, centre: float) -> Any:
    """ln of the ratio to `centre`, or the difference from it where there is no ratio."""
    return np.log(values / centre) if is_ratio(values, centre) else values - centre


def draw_windows(ax: Axes, table: Frame, centre: float, unit: float, own: tuple[int, int]) -> None:
    """A cell per window with its value, coloured by how far it is from the page's own."""
    firsts, lasts = sorted(table["first_step"].unique()), sorted(table["last_step"].unique())
    away = from_centre(table["value"], centre)
    least = np.log(1.25) if is_ratio(table["value"], centre) else 1e-3
    reach = max(float(away[~table["no_finite_optimum"]].abs().max()), least)
    stops = np.linspace(-1, 1, len(DIVERGING))
    channels = np.array([to_rgb(colour) for colour in DIVERGING]).T
    for row, distance in zip(table.itertuples(), away, strict=True):
        x, y = firsts.index(row.first_step), lasts.index(row.last_step)
        place = float(np.clip(1.0 if row.no_finite_optimum else distance / reach, -1, 1))
        colour = mixed(place, stops, channels)
        mine = (row.first_step, row.last_step) == own
        edge = {"edgecolor": INK, "linewidth": 1.4, "zorder": 3} if mine else {"edgecolor": "white", "linewidth": 1.5}
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, **edge))
        words = "∞" if row.no_finite_optimum else f"{row.value / unit:.2g}" if unit > 1 else number(row.value, 2)
        ax.text(
            x, y, words, ha="center", va="center", fontsize=7.5, color="white" if sum(colour) < 1.4 else INK, zorder=4
        )
    ax.set(
        xlim=(-0.5, len(firsts) - 0.5), ylim=(-0.5, len(lasts) - 0.5), xlabel="first step used", ylabel="last step used"
    )
    ax.set_xticks(range(len(firsts)), [str(step) for step in firsts])
    ax.set_yticks(range(len(lasts)), [str(step) for step in lasts])
    ax.tick_params(length=0)
    ax.grid(visible=False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)


def draw_pooled(ax: Axes, table: Frame, own: Any, unit: float, ends: Sequence[float | None] | None) -> None:
    finite = table[~table["no_finite_optimum"]]
    x = finite["value"] / unit
    shown = [*x, *(end / unit for end in ends or [] if end is not None)]
    low, high = min(shown), max(shown)
    if low > 0 and high / low > 3:
        plain_log_axis(ax.xaxis, low / 1.15, high * 1.15, most=5)
    else:
        room = 0.08 * (high - low)
        ax.set_xlim(low - room, high + room)
        ax.xaxis.set_major_locator(MaxNLocator(5))
    if ends:
        left, right = ((limit if end is None else end / unit) for end, limit in zip(ends, ax.get_xlim(), strict=True))
        ax.axvspan(left, right, color=INK, alpha=0.07, linewidth=0, zorder=0)
    ax.plot(x, finite["r2_pooled"], "o", color=NOTE, markersize=3.6, markeredgecolor="white", zorder=3)
    ax.plot(x, finite["r2_pooled_constant"], "o", color=LOOK_HERE, markersize=3.6, markeredgecolor="white", zorder=3)
    ax.plot(
        own["value"] / unit,
        own["r2_pooled"],
        "o",
        markersize=5.5,
        markerfacecolor="white",
        markeredgecolor=INK,
        zorder=4,
    )
    values = [*finite["r2_pooled"], *finite["r2_pooled_constant"]]
    room = 0.08 * (max(values) - min(values))
    ax.set_ylim(min(values) - room, min(max(values) + room, 1.0 + room / 2))
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.set_ylabel(r"pooled $\mathit{R}^2$")
