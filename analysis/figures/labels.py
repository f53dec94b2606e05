"""Words inside a figure: direct labels at the ends of curves, notes, and text beside the frame.

Labels are placed in points on the finished layout, so that none covers a curve or another label.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from scipy.optimize import isotonic_regression

from analysis.figures.style import HALO, NOTE


class EndLabel(NamedTuple):
    """A direct label: text beside the end of a curve whose points are `xs`, `ys`."""

    text: str
    colour: str
    xs: np.ndarray
    ys: np.ndarray


LABEL_SIZE, LABEL_GAP = 7.5, 8.6  # points


def lay_out(figure: Any) -> None:
    """Place the axes, once: labels are positioned on the finished layout, and drawing again would repeat the work."""
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine("none")


def end_labels(ax: Axes, labels: Sequence[EndLabel], marks: Sequence[tuple[float, float]] = ()) -> None:
    """Direct labels in bold: at the right end of each curve, or where something passes there at its left or above it.

    `marks` are other things (x, y) that a label must not cover. Positions are worked out in points on the finished
    layout, so call it last; the axis limits must be final.
    """
    figure: Any = ax.figure
    lay_out(figure)
    to_points = 72 / figure.dpi

    def in_points(xs: Any, ys: Any) -> np.ndarray:
        return ax.transData.transform(np.column_stack([xs, ys])) * to_points

    curves = [in_points(label.xs, label.ys) for label in labels]
    crowd = np.vstack([dense(curve) for curve in curves])
    if len(marks):
        crowd = np.vstack([crowd, *[in_points(*np.array(marks).T) + shift for shift in ((0, 0), (3, 0), (-3, 0))]])
    texts = [
        ax.annotate(
            label.text,
            (0, 0),
            xycoords="data",
            fontsize=LABEL_SIZE,
            fontweight="bold",
            color=label.colour,
            va="center",
            path_effects=HALO,
            zorder=6,
            annotation_clip=False,
        )
        for label in labels
    ]
    frame = ax.get_window_extent().extents * to_points
    edge = figure.bbox.width * to_points
    places = []
    for curve, text in zip(curves, texts, strict=True):
        width = text.get_window_extent().width * to_points
        right, left = curve[curve[:, 0].argmax()], curve[curve[:, 0].argmin()]
        spots = [
            (right[0] + 4, right[1]),
            (left[0] - 4 - width, left[1]),
            (left[0], left[1] + 7.5),
            (right[0] + 2, right[1] + 7.5),
            (right[0] + 2, right[1] - 7.5),
        ]
        covered = [
            int(((crowd[:, 0] > x - 1) & (crowd[:, 0] < x + width) & (np.abs(crowd[:, 1] - y) < LABEL_GAP / 2)).sum())
            if frame[0] + 1 < x < edge - width and y < frame[3] + 2
            else 10**6
            for x, y in spots
        ]
        x, y = spots[int(np.argmin(covered))]
        places.append((x - 2, x + width + 2, y))
    heights = spread_groups(places, LABEL_GAP, (frame[1], frame[3]))
    for text, (left, _, _), y in zip(texts, places, heights, strict=True):
        in_data = ax.transData.inverted().transform(((left + 2) / to_points, y / to_points))
        text.set_position((float(in_data[0]), float(in_data[1])))
        text.set_in_layout(False)


def dense(curve: np.ndarray) -> np.ndarray:
    """Points every 3 pt along a curve given in points."""
    parts = [curve[:1]]
    for a, b in pairwise(curve):
        parts.append(np.linspace(a, b, max(2, int(np.hypot(*(b - a)) / 3) + 1))[1:])
    return np.vstack(parts)


def spread_groups(
    spans: Sequence[tuple[float, float, float]], gap: float, limits: tuple[float, float] = (-np.inf, np.inf)
) -> np.ndarray:
    """New heights for labels given as (left, right, height): those that share some width keep `gap` between them.

    A group that would leave the limits is moved back as a whole; where it is higher than they are, it ends at the top.
    """
    heights = np.array([height for _, _, height in spans], dtype=float)
    group = list(range(len(spans)))
    for i, (left, right, _) in enumerate(spans):
        for j, (other_left, other_right, _) in enumerate(spans[:i]):
            if left < other_right and other_left < right:
                group = [group[j] if g == group[i] else g for g in group]
    for g in set(group):
        members = np.array([i for i in range(len(spans)) if group[i] == g])
        order = members[np.argsort(heights[members], kind="stable")]
        ladder = gap * np.arange(len(order))
        # Least total movement that keeps the order and the gap: isotonic regression of what is left after the gaps.
        spread = isotonic_regression(heights[order] - ladder).x + ladder
        spread += max(0.0, limits[0] - spread[0])
        heights[order] = spread - max(0.0, spread[-1] - limits[1])
    return heights


def note(ax: Axes, x: float, y: float, text: str, **more: Any) -> None:
    """Grey words inside a panel, at axes coordinates."""
    more = {"ha": "left", "va": "top", "fontsize": 7, "color": NOTE, "path_effects": HALO, "zorder": 6} | more
    ax.text(x, y, text, transform=ax.transAxes, **more)


def beside(ax: Axes, y: float, text: str, **more: Any) -> None:
    """Words at the right of the frame, at a fixed distance: the layout then knows what room they take."""
    more = {"va": "center", "fontsize": 7.5, "linespacing": 1.1} | more
    ax.annotate(text, (1, y), xycoords=ax.get_yaxis_transform(), xytext=(5, 0), textcoords="offset points", **more)
