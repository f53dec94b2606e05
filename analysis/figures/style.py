"""The house style of figures: layouts, colours and matplotlib settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.colors import to_hex, to_rgb

Layout = Literal["full", "column"]
WIDTH = {"full": 6.8, "column": 3.3}  # inches
HEIGHTS = 2.6, 4.5


INK, TEXT, NOTE, UNUSED, GRID = "#1F2933", "#323F4B", "#52606D", "#9AA5B1", "#E4E7EB"
LOOK_HERE = "#C2410C"  # once a figure
SIZE_RAMP = ["#CE8703", "#D15928", "#BA3852", "#962169", "#691572", "#3C0F6B", "#160A4A"]
ORDER_RAMP = ["#36A17A", "#0B9385", "#047C83", "#06657B", "#014F74", "#003675", "#1C1E5F"]  # group size, reuse
# Colour and marker of algorithms, the baseline first; those that are known keep theirs.
ALGORITHMS = {"grpo": ("#3E4C59", "o"), "papo": ("#0A7DC2", "s")}
MORE_ALGORITHMS = [
    ("#3E4C59", "o"), ("#0A7DC2", "s"), ("#B4561A", "D"), ("#5B8C3A", "^"), ("#8A4F9E", "v"), ("#C9A66B", "P"),
]  # fmt: skip
Styles = dict[str, tuple[str, str]]
COMPUTE_COLOURS = ["#0B4F7A", "#3E8FB8", "#9CC9DD", "#C9A66B", "#D5DAE0"]
DIVERGING = ["#8C4A0B", "#D69A4C", "#F3EEE6", "#6CA6C1", "#0B4F7A"]
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 6,
    "axes.labelpad": 3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.which": "major",
    "axes.axisbelow": True,
    "axes.linewidth": 0.6,
    "axes.edgecolor": NOTE,
    "axes.labelcolor": INK,
    "axes.unicode_minus": True,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.color": NOTE,
    "ytick.color": NOTE,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 1.6,
    "ytick.minor.size": 1.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "text.hinting": "none",  # else words are wider in the saved file than in the layout
    "mathtext.fontset": "custom",
    "mathtext.rm": "sans",
    "mathtext.it": "sans:italic",
    "mathtext.bf": "sans:bold",
    "mathtext.bfit": "sans:italic:bold",
    "mathtext.cal": "sans",
    "mathtext.default": "regular",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "figure.dpi": 100,
}
HALO = [patheffects.withStroke(linewidth=2.4, foreground="white")]
DASHED = (0, (4, 2))


@contextmanager
def style(name: str = "figure") -> Iterator[None]:
    """The house style inside a `with` block; `name` salts the ids in an SVG, so that equal input gives equal bytes."""
    rc: Any = {**STYLE, "svg.hashsalt": name}
    with mpl.rc_context(rc):
        yield


def ramp_colours(values: Iterable[float], ramp: list[str]) -> dict[float, str]:
    """One colour per value: evenly by rank along the ramp, both ends kept."""
    values = sorted(set(values))
    places = np.linspace(0, len(ramp) - 1, len(values)) if len(values) > 1 else np.array([len(ramp) // 2])
    channels = np.array([to_rgb(colour) for colour in ramp]).T
    stops = np.arange(len(ramp))
    return {value: to_hex(mixed(place, stops, channels)) for value, place in zip(values, places, strict=True)}


def mixed(place: float, stops: np.ndarray, channels: np.ndarray) -> tuple[float, float, float]:
    """The colour at `place` of a ramp: (3, n) channels at (n,) stops."""
    red, green, blue = (float(np.interp(place, stops, channel)) for channel in channels)
    return red, green, blue


def size_colours(sizes: Iterable[float]) -> dict[float, str]:
    """The colour of each model size, small to large; pass all sizes of a study: one colour per size on a page."""
    return ramp_colours(sizes, SIZE_RAMP)


def algorithm_styles(names: Sequence[str]) -> Styles:
    """Colour and marker of each algorithm, the baseline first; no two alike up to six."""
    known = {name: ALGORITHMS[name] for name in names if name in ALGORITHMS}
    free = [one for one in MORE_ALGORITHMS if one not in known.values()] or MORE_ALGORITHMS
    others = [name for name in names if name not in known]
    return known | {name: free[i % len(free)] for i, name in enumerate(others)}
