"""Axes, panels, legends and marks that several figures share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatterMathtext, LogLocator, NullFormatter

from analysis.figures.style import HEIGHTS, WIDTH, Layout
from scaling.schema import InputError

# Axis label and the letter of the quantity.
X_AXES = {
    "train_flops": (r"training compute $\mathit{C}$ (FLOPs)", "C"),
    "total_flops": ("total compute (FLOPs)", "C"),
    "prompts_seen": (r"prompts seen $\mathit{D}$", "D"),
    "rollouts_seen": ("rollouts seen", "X"),
    "tokens_seen": (r"tokens seen $\mathit{T}$", "T"),
    "step": ("step", "t"),
}
LOSS_LABEL = "test loss 1 − pass@1"
ROUND_STEPS = [[1], [1, 3], [1, 2, 5], [1, 2, 3, 5, 7], [1, 1.5, 2, 3, 4, 6, 8], [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]]


def new_figure(layout: Layout, height: float, column_height: float | None = None) -> Figure:
    if layout not in WIDTH:
        raise InputError(f"{layout!r} is not a layout; there are: full, column.")
    wanted = height if layout == "full" or column_height is None else column_height
    return Figure(figsize=(WIDTH[layout], min(max(wanted, HEIGHTS[0]), HEIGHTS[1])), layout="constrained")


def two_panels(figure: Figure, layout: Layout, widths: list[float], heights: list[float]) -> tuple[Any, Any]:
    """Two axes, side by side in the full layout and one above the other in the column."""
    if layout == "full":
        return figure.subplots(1, 2, width_ratios=widths)
    return figure.subplots(2, 1, height_ratios=heights)


def panel_title(ax: Axes, letter: str, text: str) -> None:
    ax.set_title(f"{letter}  {text}")


def plain_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round values between `low` and `high` for a log axis of a small range: as many as fit, at most `most`."""
    decades = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
    fine = [np.arange(100, 1000, 100 * width) / 100 for width in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)]
    best: list[float] = []
    for steps in [*ROUND_STEPS, *fine]:
        ticks = [float(f"{s * 10.0**d:.6g}") for d in decades for s in steps]
        ticks = [t for t in ticks if low * 0.999 <= t <= high * 1.001]
        if len(ticks) <= most and len(ticks) > len(best):
            best = ticks
    return best


def plain_log_axis(axis: Any, low: float, high: float, most: int = 7) -> None:
    """A log axis with plain numbers at round values, for loss, steps and reuse."""
    if low == high:  # a single value still has room around it
        low, high = low / 1.05, high * 1.05
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (low, high)})
    axis.set_major_locator(FixedLocator(plain_ticks(low, high, most)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    axis.set_minor_locator(FixedLocator([]))
    axis.set_minor_formatter(NullFormatter())


def power_axis(axis: Any, low: float, high: float, inches: float) -> None:
    """A log axis with ticks 10^k and bare minor ticks, for compute and size."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (low, high)})
    decades = np.log10(high / low)
    axis.set_major_locator(LogLocator(numticks=max(2, int(min(decades + 2, inches / 0.45)))))
    axis.set_major_formatter(LogFormatterMathtext())
    axis.set_minor_locator(LogLocator(subs=np.arange(2, 10).tolist(), numticks=200))
    axis.set_minor_formatter(NullFormatter())


def outside_legend(figure: Figure, handles: Sequence[Any], layout: Layout, columns: int | None = None) -> None:
    """A legend for kinds of marks, in a row under the panels: never over data."""
    if columns is None:
        columns = len(handles) if layout == "full" else min(2, len(handles))
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        handlelength=1.6,
        columnspacing=1.6,
        handletextpad=0.6,
        borderpad=0.2,
    )


def dot(colour: str, label: str, **more: Any) -> Line2D:
    return Line2D([], [], linestyle="none", marker="o", markersize=3.6, color=colour, label=label, **more)


def loss_limits(losses: Iterable[float], margin: float = 0.06) -> tuple[float, float]:
    """Limits of a log axis of loss: all positive values with a margin, never above 1 by more than a hair. Raises
    InputError where there is none."""
    values = np.array([value for value in losses if np.isfinite(value) and value > 0])
    if not len(values):
        raise InputError("needs a loss above 0: every loss is 0, which a log axis cannot show.")
    low, high = values.min(), min(values.max(), 1.0)
    room = (high / low) ** margin * 1.01
    return low / room, min(high * room, 1.03)


def clipped_bar(ax: Axes, low: float, high: float, place: float, limits: tuple[float, float], colour: str) -> None:
    """A horizontal interval without caps; an end outside the limits becomes an arrow at the frame."""
    start, end = max(low, limits[0]), min(high, limits[1])
    ax.plot([start, end], [place, place], color=colour, solid_capstyle="butt", linewidth=1.6)
    for outside, at, marker in [(low < limits[0], start, "<"), (high > limits[1], end, ">")]:
        if outside:
            ax.plot([at], [place], marker=marker, markersize=5, color=colour, clip_on=False, zorder=5)


def spaced_ticks(values: np.ndarray, ratio: float = 1.35) -> list[float]:
    """The values themselves as ticks of a log axis, those too near to the one before left out."""
    ticks: list[float] = []
    for value in values:
        if not ticks or value / ticks[-1] >= ratio:
            ticks.append(float(value))
    return ticks


def x_axis(ax: Axes, values: Any, words: int, inches: float) -> None:
    """Log axis over the values, with room on the right for labels of `words` letters."""
    low, high = float(values.min()), float(values.max())
    plain = high < 300 * low and high < 1e6
    span = np.log(high / low) or 1.0  # a single step still has room around it
    room = min(0.065 * words, 0.4 * inches)
    low, high = low * np.exp(-0.03 * span), high * np.exp(0.03 * span + span * room / (inches - room))
    if plain:
        plain_log_axis(ax.xaxis, low, high, most=int(inches / (0.12 + 0.075 * len(f"{high:.0f}"))))
    else:
        power_axis(ax.xaxis, low, high, inches)
