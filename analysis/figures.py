"""The figures of a study, each drawn from curves and a fit, with the caption and the table that belong to it.

A figure is a function that returns `Drawn`. It is drawn twice, "full" (6.8 in, panels side by side) and "column"
(3.3 in, panels stacked). Captions and findings are written from the fit: no number in them is typed here. A figure that
its data cannot carry is not drawn: the function raises InputError with the reason.

Read it from the top: style and colours, numbers and names, axes and marks, saving, then one section per figure.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatterMathtext, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation
from scipy.optimize import isotonic_regression

from analysis.fit import fit_curves
from analysis.frontier import (
    Envelope,
    Finals,
    Frame,
    conditions,
    counted,
    envelope,
    evaluations,
    final_losses,
    group_fit,
    pooled_spread,
    reuse_difference,
    reuse_frame,
    reuse_summary,
    t_interval,
)
from analysis.intervals import band, efficiency_interval
from scaling.schema import InputError

Layout = Literal["full", "column"]
WIDTH = {"full": 6.8, "column": 3.3}  # inches
HEIGHTS = 2.6, 4.5


class Drawn(NamedTuple):
    """A figure with everything that a page needs around it."""

    figure: Figure
    caption: str  # HTML-safe text; begins with `title`
    table: Frame  # what every mark and line was drawn from
    title: str
    finding: str  # one sentence with numbers, for readers who do not see the figure

    def _repr_html_(self) -> str:
        """In a notebook: the figure and its caption."""
        return f"{inline_svg(self.figure, 'notebook')}<p>{self.caption}</p>"


# --- style and colours ------------------------------------------------------------------------------------------------

INK, TEXT, NOTE, UNUSED, GRID = "#1F2933", "#323F4B", "#52606D", "#9AA5B1", "#E4E7EB"
LOOK_HERE = "#C2410C"  # once a figure
SIZE_RAMP = ["#CE8703", "#D15928", "#BA3852", "#962169", "#691572", "#3C0F6B", "#160A4A"]
ORDER_RAMP = ["#36A17A", "#0B9385", "#047C83", "#06657B", "#014F74", "#003675", "#1C1E5F"]  # group size, reuse
ALGORITHMS = {"grpo": ("#3E4C59", "o"), "papo": ("#0A7DC2", "s")}
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


# --- numbers and names ------------------------------------------------------------------------------------------------


def short_number(value: float) -> str:
    """At most three digits and a word for the size: 145k, 0.5B, 7B, 1.2T."""
    steps = [(999.5, 1, ""), (999.5e3, 1e3, "k"), (5e8, 1e6, "M"), (999.5e9, 1e9, "B"), (np.inf, 1e12, "T")]
    for limit, divisor, unit in steps:
        if value < limit:
            return f"{value / divisor:.3g}{unit}"
    return "∞"


def number(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """A number for a caption: `digits` decimals, true minus, no zero before the point; `sign` also writes a plus."""
    text = f"{abs(value):.{digits}f}".removeprefix("0")
    if float(f"{value:.{digits}f}") == 0:
        return "." + "0" * digits
    return ("−" if value < 0 else "+" if sign else "") + text


def power_of_ten(value: float, *, math: bool = False) -> str:
    """2.1×10¹⁸, for captions (plain) or figures (mathtext)."""
    head, _, exponent = f"{value:.1e}".partition("e")
    head, exponent = head.removesuffix(".0"), int(exponent)
    if math:
        return rf"{head}×10$^{{{exponent}}}$"
    return f"{head}×10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def between(low: int, high: int, word: str) -> str:
    """`2 runs` or `1–3 runs`."""
    return counted(int(low), word) if low == high else f"{low}–{high} {word}s"


def joined(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`; nothing for no words."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


# --- axes and marks ---------------------------------------------------------------------------------------------------

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


def note(ax: Axes, x: float, y: float, text: str, **more: Any) -> None:
    """Grey words inside a panel, at axes coordinates."""
    more = {"ha": "left", "va": "top", "fontsize": 7, "color": NOTE, "path_effects": HALO, "zorder": 6} | more
    ax.text(x, y, text, transform=ax.transAxes, **more)


def beside(ax: Axes, y: float, text: str, **more: Any) -> None:
    """Words at the right of the frame, at a fixed distance: the layout then knows what room they take."""
    more = {"va": "center", "fontsize": 7.5, "linespacing": 1.1} | more
    ax.annotate(text, (1, y), xycoords=ax.get_yaxis_transform(), xytext=(5, 0), textcoords="offset points", **more)


# --- saving -----------------------------------------------------------------------------------------------------------

MOST_SVG_BYTES = 300_000
COORDINATES = re.compile(r'(\s(?:d|x|y|points|width|height|viewBox)=")([^"]*)"')
DECIMAL = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def rounded(match: re.Match[str]) -> str:
    text = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def inline_svg(figure: Figure, prefix: str) -> str:
    """The figure as an <svg> element for a page: ids start with `prefix`, coordinates have two decimals, no date.

    Numbers inside transforms keep their digits: glyphs are scaled by them, and rounding breaks the text.
    """
    buffer = io.StringIO()
    with style(prefix):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].rstrip()
    svg = re.sub(r"<!--.*?-->\n?|<metadata>.*?</metadata>\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\n\s*", "\n", svg).replace('"\n/>', '"/>')
    svg = short_ids(svg, prefix)
    svg = COORDINATES.sub(lambda match: match[1] + DECIMAL.sub(rounded, match[2]) + '"', svg)
    svg = shared_styles(svg)
    title, _, finding = str(figure.get_label()).partition("\n")
    opening = (
        f'<svg role="img" aria-labelledby="{prefix}-title" aria-describedby="{prefix}-finding"'
        f"{svg[4 : svg.index('>') + 1]}"
        f'<title id="{prefix}-title">{html.escape(title)}</title>'
        f'<desc id="{prefix}-finding">{html.escape(finding)}</desc>'
    )
    svg = opening + svg[svg.index(">") + 1 :]
    if len(svg.encode()) > MOST_SVG_BYTES:
        raise InputError(f"figure {prefix} takes {len(svg) // 1000} kB as SVG; {MOST_SVG_BYTES // 1000} is the most.")
    return svg


def short_ids(svg: str, prefix: str) -> str:
    """Number the ids that something refers to, with the figure's prefix, and drop the others."""
    used = dict.fromkeys(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    short = {name: f"{prefix}-{number}" for number, name in enumerate(used)}
    svg = re.sub(r'\sid="([^"]*)"', lambda match: f' id="{short[match[1]]}"' if match[1] in short else "", svg)
    return re.sub(r'(url\(#|href="#)([^")]+)', lambda match: match[1] + short[match[2]], svg)


def shared_styles(svg: str) -> str:
    """Write the style of equal markers once, on their group: a cloud of a thousand points is then a third as large."""

    def hoist(match: re.Match[str]) -> str:
        styles = set(re.findall(r'<use [^>]*?( style="[^"]*")/>', match[2]))
        if len(styles) != 1:
            return match[0]
        shared = styles.pop()
        return f"<g{match[1]}{shared}>{match[2].replace(shared, '')}</g>"

    return re.sub(r"<g([^<>]*)>((?:\s*<use [^<>]*/>)+\s*)</g>", hoist, svg)


def save(full: Drawn, column: Drawn, folder: Path | str, name: str) -> tuple[str, str]:
    """Write NAME.svg and NAME.png (full), NAME_col.svg (column) and NAME.csv (the data); equal input, equal bytes.

    Returns the two drawings as <svg> elements for a page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    elements = inline_svg(full.figure, f"{name}-full"), inline_svg(column.figure, f"{name}-col")
    for element, ending in zip(elements, ("", "_col"), strict=True):
        text = f'<?xml version="1.0" encoding="utf-8"?>\n{element}\n'
        (folder / f"{name}{ending}.svg").write_text(text, encoding="utf-8")
    with style(name):
        full.figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    full.table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    return elements


def drawn(figure: Figure, title: str, caption: Sequence[str], finding: str, table: Frame) -> Drawn:
    """Put the pieces together; the figure's label carries title and finding into its SVG."""
    figure.set_label(f"{title}\n{finding}")
    text = " ".join([title, *(sentence for sentence in caption if sentence)])
    return Drawn(figure, html.escape(text, quote=False), table.reset_index(drop=True), title, finding)


# --- data -------------------------------------------------------------------------------------------------------------


def labelled(size: str, condition: str) -> str:
    """`xs 20.8k`, or `xs 20.8k (modulus 10)` where a condition has to be told."""
    return f"{size} ({condition})" if condition else size


def size_labels(frame: Frame) -> dict[float, str]:
    """`0.5B`, and `s 55.8k` where the model's name is a short one that does not say its size."""
    labels = {}
    for size, rows in frame.groupby("size"):
        name = rows["model"].iloc[0]
        bare = not isinstance(name, str) or len(name) > 6 or re.search(r"\d[kMBT]\b", name)
        labels[size] = short_number(float(size)) if bare else f"{name} {short_number(float(size))}"
    return labels


MOST_KNOTS = 20


def mean_curve(frame: Frame, x: str = "step") -> Frame:
    """Mean loss against x over the runs, at the steps that all runs share; of a long curve, over equal ratios of steps.

    No law is assumed, so a plateau or a rise at the end of a curve stays visible.
    """
    frame = frame[frame["step"] > 0]
    runs = frame["run_id"].nunique()
    shared = frame.groupby("step").filter(lambda rows: rows["run_id"].nunique() == runs)
    frame = frame if shared.empty else shared
    groups = frame.groupby(step_bins(frame["step"]))
    return pd.DataFrame({x: groups[x].mean(), "test_loss": groups["test_loss"].mean()}).reset_index(drop=True)


def step_bins(steps: Any) -> np.ndarray:
    """The steps themselves as groups; where there are many, groups of equal ratio."""
    values = steps.to_numpy(float)
    if len(np.unique(values)) <= MOST_KNOTS:
        return values
    return np.digitize(values, np.geomspace(values.min(), values.max() * 1.001, MOST_KNOTS // 2 + 1)).astype(float)


def loss_limits(losses: Iterable[float], margin: float = 0.06) -> tuple[float, float]:
    """Limits of a log axis of loss: all positive values with a margin, never above 1 by more than a hair."""
    values = np.array([value for value in losses if np.isfinite(value) and value > 0])
    low, high = values.min(), min(values.max(), 1.0)
    room = (high / low) ** margin * 1.01
    return low / room, min(high * room, 1.03)


def interval_text(low: float, high: float, digits: int = 3, *, sign: bool = False) -> str:
    return f"[{number(low, digits, sign=sign)}, {number(high, digits, sign=sign)}]"


# --- where the compute went -------------------------------------------------------------------------------------------

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
    lacking = [name for name in COMPUTE_PARTS if name not in frame or frame[name].isna().all()]
    if lacking:
        raise InputError(f"needs compute by kind; {curves.source} has no values for {', '.join(lacking)}.")
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


# --- one algorithm against the other ----------------------------------------------------------------------------------


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


FEW_PAIRS = 3  # an interval from so few is named as such


def pair_summary(pairs: Frame) -> Frame:
    """One row per size and condition, large to small: number of pairs, mean losses, mean difference with its 95 %
    interval, noise of one difference."""
    rows = []
    for (size, label), alike in pairs.groupby(["size", "label"]):
        differences, noise = alike["difference"].to_numpy(), test_set_noise(alike)
        means = alike["baseline"].mean(), alike["other"].mean()
        rows.append((size, label, len(alike), *means, differences.mean(), *t_interval(differences, noise), noise))
    columns = ["size", "label", "pairs", "mean_baseline", "mean_other", "difference", "low", "high", "noise"]
    return pd.DataFrame(rows[::-1], columns=columns)


def algorithm_pairs(curves: Any, baseline: str = "grpo", other: str = "papo") -> Frame:
    """One row per pair of runs that differ in the algorithm only: their final losses and the difference.

    `label` names size and condition: pairs of another task or learning rate are never averaged with these.
    """
    frame = evaluations(curves)
    frame["condition"] = frame["run_id"].map(conditions(curves, apart=()))
    labels = size_labels(frame)
    present = sorted({str(name) for name in frame["algorithm"].dropna()})
    if baseline not in present or other not in present:
        raise InputError(
            f"needs runs of two algorithms, {baseline} and {other}; there is only {', '.join(present) or 'none named'}."
        )
    if frame["seed"].isna().any():
        raise InputError("needs the column seed: the comparison is paired by seed.")
    # Settings of the estimator itself differ by definition; all others, the condition, must be equal within a pair.
    found = []
    both_kinds = frame[frame["algorithm"].isin([baseline, other])]
    for (size, condition), rows in both_kinds.groupby(["size", "condition"]):
        finals = final_losses(rows)
        sides = [finals.runs[finals.runs["algorithm"] == name] for name in (baseline, other)]
        both = sides[0].merge(sides[1][["seed", "run_id", "final"]], on="seed", suffixes=("_baseline", "_other"))
        found.append(both.assign(window=finals.window(), size=size, label=labelled(labels[size], condition)))
    pairs = pd.concat(found, ignore_index=True)
    if pairs.empty:
        raise InputError(f"needs runs of {baseline} and {other} at one size with the same seed; no two runs match.")
    pairs = pairs.rename(
        columns={
            "final_baseline": "baseline",
            "final_other": "other",
            "run_id_baseline": "run_baseline",
            "run_id_other": "run_other",
        }
    )
    pairs["difference"] = pairs["other"] - pairs["baseline"]
    kept = ["size", "label", "seed", "run_baseline", "run_other", "baseline", "other", "difference", "window"]
    return pairs[[*kept, "final_evaluations", "eval_problems"]]


def test_set_noise(pairs: Frame) -> float:
    """Standard error that the finite test set alone gives to one difference; 0 where the counts are not known."""
    loss = (pairs["baseline"] + pairs["other"]) / 2
    draws = pairs["eval_problems"] * pairs["final_evaluations"]
    return float(np.nan_to_num(np.sqrt(2 * loss * (1 - loss) / draws).mean()))


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


def clipped_bar(ax: Axes, low: float, high: float, place: float, limits: tuple[float, float], colour: str) -> None:
    """A horizontal interval without caps; an end outside the limits becomes an arrow at the frame."""
    start, end = max(low, limits[0]), min(high, limits[1])
    ax.plot([start, end], [place, place], color=colour, solid_capstyle="butt", linewidth=1.6)
    for outside, at, marker in [(low < limits[0], start, "<"), (high > limits[1], end, ">")]:
        if outside:
            ax.plot([at], [place], marker=marker, markersize=5, color=colour, clip_on=False, zorder=5)


# --- data reuse -------------------------------------------------------------------------------------------------------


def reuse(curves: Any, *, replicates: Any = None, layout: Layout = "full") -> Drawn:
    """Final loss for each data reuse, with single runs and intervals; and the curves beside those without reuse.

    `replicates`: curves of repeated runs from which the spread between repeats is taken where `curves` repeat nothing.
    """
    frame = reuse_frame(curves, replicates)
    size = frame["size"].iloc[0]
    label = size_labels(frame)[size]
    finals = final_losses(frame)
    if replicates is None:
        spread = pooled_spread(finals.runs, ["reuse_factor"], f"of {label}")
    else:
        # At the same steps as the runs compared: how far repeats scatter depends on the window.
        several = evaluations(replicates).groupby("size").filter(lambda rows: rows["run_id"].nunique() > 1)
        repeated = pd.concat([final_losses(rows, finals.last).runs for _, rows in several.groupby("size")])
        spread = pooled_spread(repeated, ["size"], f"of {counted(repeated['size'].nunique(), 'size')}")
    taus = np.array(sorted(frame["reuse_factor"].unique()))
    colours = ramp_colours(taus, ORDER_RAMP)
    summary = reuse_summary(finals.runs, spread)

    with style("reuse"):
        others = [tau for tau in taus if tau != taus[0]]
        columns = min(3, len(others))
        rows = int(np.ceil(len(others) / columns))
        curve_inches = 0.4 + (0.95 * rows if len(others) > 1 else 1.6)
        figure = new_figure(layout, 2.7, 2 + curve_inches)
        sides: Any = (
            figure.subfigures(1, 2, width_ratios=[1, 0.9 if columns == 1 else 1.5])
            if layout == "full"
            else figure.subfigures(2, 1, height_ratios=[2, curve_inches])
        )
        left, right = sides
        ax = left.subplots()
        draw_reuse_finals(ax, finals, summary, colours, layout)
        panel_title(ax, "a", "Final loss")
        panels = right.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        draw_reuse_curves(panels, frame, taus, colours)
        first = f"τ = {taus[0]:.3g}"
        panels[0, 0].set_title(f"b  Against {first} (grey)")
        lay_out(figure)

    unit = summary.iloc[-1]
    difference, low, high, basis = reuse_difference(finals.runs, spread, taus[0], taus[-1])
    bounded = np.isfinite(low)
    pairs = int(basis.split()[0]) if "pairs" in basis else 0
    few_pairs = f", on {pairs} pairs only" if 0 < pairs <= FEW_PAIRS else ""
    excluded = f"the interval excludes 0{few_pairs}"
    verdict = "no interval" if not bounded else "not established" if low <= 0 <= high else excluded
    finding = (
        f"The final loss of {label} at τ = {unit.reuse_factor:.3g} minus that at τ = {taus[0]:.3g} is "
        f"{number(difference, sign=True)} "
        + (f"{interval_text(low, high, sign=True)} " if bounded else "")
        + f"({basis}): {verdict}."
    )
    counts = summary["runs"]
    caption = [
        f"{label}{constants_in_words(frame)}. a: mean over the evaluations at {finals.window()}; "
        f"{between(counts.min(), counts.max(), 'run')} at each τ"
        + (" (small dots: single runs)" if counts.max() > 1 else "")
        + ("; grey lines join runs of one seed." if "pairs" in basis else "."),
        f"Bars: 95 % from the spread over {spread.words} (sd {spread.sd * 100:.1f} % of the loss, "
        f"{counted(spread.degrees, 'degree')} of freedom), for each mean alone"
        + ("; the comparison is made within pairs." if "pairs" in basis else ".")
        if spread.degrees
        else "No setting was run twice, so there are no intervals.",
        "b: points are single evaluations, lines means over runs"
        + (" and over equal ratios of steps" if frame["step"].nunique() > MOST_KNOTS else "")
        + ", no law assumed.",
        finding,
    ]
    title = "Data reuse."
    table = finals.runs.merge(summary, on="reuse_factor").rename(columns={"size": "num_params"})
    table = table.rename(columns={"final": "final_test_loss", "low": "mean_ci95_low", "high": "mean_ci95_high"})
    return drawn(figure, title, caption, finding, table.drop(columns=["model", "eval_problems"]))


def constants_in_words(frame: Frame) -> str:
    """What all runs of the frame share, for a caption: `, group size 8`."""
    group = frame["group_size"].iloc[0]
    return f", group size {group:.0f}" if np.isfinite(group) else ""


def draw_reuse_finals(ax: Axes, finals: Finals, summary: Frame, colours: dict[float, str], layout: Layout) -> None:
    runs = finals.runs
    for _, same_seed in runs.dropna(subset="seed").groupby("seed"):
        if same_seed["reuse_factor"].nunique() > 1:
            line = same_seed.sort_values("reuse_factor")
            ax.plot(line["reuse_factor"], line["final"], color=UNUSED, linewidth=0.6, zorder=1)
    base = summary.iloc[0]
    for row in summary.itertuples():
        colour = colours[row.reuse_factor]
        if np.isfinite(row.low) and row.low > 0:
            ax.plot([row.reuse_factor] * 2, [row.low, row.high], color=colour, linewidth=1.6, solid_capstyle="butt")
        ax.plot(row.reuse_factor, row.mean, "o", color=colour, markersize=5.5, markeredgecolor="white", zorder=3)
        singles = runs.loc[runs["reuse_factor"] == row.reuse_factor, "final"]
        if len(singles) > 1:
            ax.plot([row.reuse_factor * 1.12] * len(singles), singles, "o", color=colour, markersize=2.2, alpha=0.8)
    finite = [
        value for value in [*summary["low"], *summary["high"], *runs["final"]] if np.isfinite(value) and value > 0
    ]
    if base.runs > 1 and np.isfinite(base.low):
        ax.axhspan(base.low, base.high, color=INK, alpha=0.08, linewidth=0, zorder=0)
    taus = summary["reuse_factor"].to_numpy(float)
    ax.set(xscale="log", xlim=(taus[0] / 1.35, taus[-1] * 1.35))
    plain_log_axis(ax.yaxis, *loss_limits(finite))
    ax.xaxis.set_major_locator(FixedLocator(spaced_ticks(taus)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.set(xlabel="data reuse τ (passes over the prompts)", ylabel=f"final test loss ({finals.window()})")


def spaced_ticks(values: np.ndarray, ratio: float = 1.35) -> list[float]:
    """The values themselves as ticks of a log axis, those too near to the one before left out."""
    ticks: list[float] = []
    for value in values:
        if not ticks or value / ticks[-1] >= ratio:
            ticks.append(float(value))
    return ticks


def draw_reuse_curves(panels: np.ndarray, frame: Frame, taus: np.ndarray, colours: dict[float, str]) -> None:
    frame = frame[frame["step"] > 0]
    reference = frame[frame["reuse_factor"] == taus[0]]
    reference_mean = mean_curve(reference)
    limits = loss_limits(frame["test_loss"])
    steps = frame["step"].min() / 1.1, frame["step"].max() * 1.1
    flat = panels.ravel()
    for ax in flat[len(taus) - 1 :]:
        ax.set_visible(False)
    for ax, tau in zip(flat, taus[1:], strict=False):
        rows = frame[frame["reuse_factor"] == tau]
        for data, colour in [(reference, UNUSED), (rows, colours[tau])]:
            ax.plot(data["step"], data["test_loss"], "o", color=colour, markersize=1.8, alpha=0.35, markeredgewidth=0)
        mean = mean_curve(rows)
        ax.plot(reference_mean["step"], reference_mean["test_loss"], color=UNUSED, linewidth=1.2)
        ax.plot(mean["step"], mean["test_loss"], color=colours[tau], linewidth=1.5)
        words = {"fontsize": LABEL_SIZE, "fontweight": "bold", "color": colours[tau], "path_effects": HALO}
        ax.text(0.97, 0.95, f"τ = {tau:.3g}", transform=ax.transAxes, ha="right", va="top", zorder=6, **words)
        plain_log_axis(ax.yaxis, *limits, most=5)
        plain_log_axis(ax.xaxis, *steps, most=4)
    for ax in panels[:, 0]:
        ax.set_ylabel("test loss")
    panels[-1, panels.shape[1] // 2].set_xlabel("step")


# --- learning curves --------------------------------------------------------------------------------------------------


def plot_fit(fit: Any, *, layout: Layout = "full") -> Drawn:
    """The learning curves of a fit: what `fit.plot()` shows."""
    if fit.curves is None:
        raise InputError("this fit was loaded from its record, which has no points to draw; fit the curves again.")
    return loss_curves(fit.curves, fit, layout=layout)


def loss_curves(curves: Any, fit: Any, *, x: str | None = None, layout: Layout = "full") -> Drawn:
    """Test loss against x, per size: evaluations, the fitted law with its band, and what the law leaves over."""
    record = fit.record
    x = x or record["x"]
    if x != record["x"]:
        raise InputError(f"loss_curves: the fit is against {record['x']}, not {x}; fit the curves against {x} first.")
    points = fitted_points(fit)
    sizes = sorted(points["size"].unique())
    colours, labels = size_colours(evaluations(curves, record["size_column"])["size"]), size_labels(points)
    lines = pd.concat([law_line(fit, points, size) for size in sizes if size in fitted_sizes(fit)], ignore_index=True)
    residuals = residual_means(points)
    axis_label, letter = X_AXES.get(x, (x.replace("_", " "), "X"))

    with style("loss_curves"):
        figure = new_figure(layout, 3.1, 4.5)
        left, right = two_panels(figure, layout, [1.9, 1], [2.2, 1])
        left.set_ylabel(LOSS_LABEL)
        panel_title(left, "a", "Test loss and the fitted law")
        plain_log_axis(left.yaxis, *loss_limits([*points["loss_floored"], *lines["loss"]]))
        for size in sizes:
            draw_size(left, points[points["size"] == size], lines[lines["size"] == size], colours[size])
        draw_residuals(right, residuals, colours, layout)
        panel_title(right, "b", "Measured against the law")
        wide = 3.6 if layout == "full" else 2.6
        x_axis(left, points["x"], max(map(len, labels.values())), wide)
        left.set_xlabel(axis_label)
        x_axis(right, residuals["step"], max(map(len, labels.values())), 1.6 if layout == "full" else wide)
        outside_legend(figure, loss_legend(points), layout)
        end_labels(left, [EndLabel(labels[n], colours[n], *label_curve(points, lines, n)) for n in sizes])
        ends = [(n, rows["step"].to_numpy(), rows["percent"].to_numpy()) for n, rows in residuals.groupby("size")]
        end_labels(right, [EndLabel(labels[n], colours[n], xs, ys) for n, xs, ys in ends])

    error = record["goodness"]["rmse_ln_loss"]
    title = f"Test loss against {re.sub(r' [$].*', '', axis_label)}."
    caption = [
        loss_marks(points),
        f"Lines: {law_in_words(record, letter)}, {record['objective']} objective, from "
        f"{counted(record['n_runs'], 'curve')} of {counted(record['n_sizes'], 'size')} "
        f"({counted(record['n_points'], 'point')}, {window_in_words(record)}).",
        held_out_in_words(record, labels),
        band_in_words(lines),
        f"Root mean square error in ln L {number(error) if error is not None else 'unknown'}; "
        f"{largest_miss(residuals, labels)}.",
        "b: means of ln(measured/law), in percent"
        + (", over equal ratios of steps" if points["step"].nunique() > MOST_KNOTS else "")
        + "; a slope or a bend that repeats from size to size is something the law does not describe.",
        unidentified_in_words(record),
    ]
    finding = (
        f"{law_in_words(record, letter)}: over {counted(record['n_sizes'], 'size')} the root mean square error in ln L "
        f"is {number(error) if error is not None else 'unknown'}; {largest_miss(residuals, labels)}."
    )
    return drawn(figure, title, caption, finding, loss_table(points, lines, x))


def fitted_sizes(fit: Any) -> set[float]:
    return {row["num_params"] for row in fit.per_size}


def fitted_points(fit: Any) -> Frame:
    """The evaluations of the fit's curves after step 0, each with its `state`: fitted, held out or not used."""
    record = fit.record
    frame = evaluations(fit.curves, record["size_column"])
    frame = frame[(frame["step"] > 0) & (frame[record["x"]] > 0)].copy()
    frame["x"] = frame[record["x"]]
    names = np.array(fit.points.runs)[fit.points.run]
    used = pd.MultiIndex.from_arrays([names, fit.points.step])
    here = pd.MultiIndex.from_arrays([frame["run_id"].astype(str), frame["step"]])
    frame["state"] = np.where(here.isin(used), "fitted", "not used")
    if record["held_out"] is not None:
        frame.loc[held_out_rows(frame, fit), "state"] = "held out"
    # The floor of half an error, as in the fit: a loss of 0 has no place on a log axis.
    problems = frame["eval_problems"].fillna(np.inf)
    frame["loss_floored"] = np.maximum(frame["test_loss"], 0.5 / problems)
    known = frame["size"].isin(fitted_sizes(fit)) & (not fit.law.columns)
    frame["law"] = np.nan
    frame.loc[known, "law"] = fit.predict(frame.loc[known, "size"], frame.loc[known, "x"])
    return frame.reset_index(drop=True)


def held_out_rows(frame: Frame, fit: Any) -> Any:
    """Rows that the split held out: the largest size, or of each run what comes after its last fitted point."""
    record = fit.record
    if record["split"] == "inter":
        return frame["size"] == record["held_out"]["num_params"]
    names = np.array(fit.points.runs)[fit.points.run]
    last = pd.Series(fit.points.step).groupby(names).max()
    until = record["window"]["steps"]
    stop = float(until.split(":")[1] or np.inf) if until else np.inf
    return (frame["step"] > frame["run_id"].astype(str).map(last)) & (frame["step"] <= stop)


def law_line(fit: Any, points: Frame, size: float) -> Frame:
    """The law at one size over the fitted x (solid) and on to its last held-out point (dashed), with its band."""
    rows = points[points["size"] == size]
    fitted, shown = rows[rows["state"] == "fitted"]["x"], rows[rows["state"] != "not used"]["x"]
    solid = np.geomspace(fitted.min(), fitted.max(), 40)
    beyond = np.geomspace(fitted.max(), shown.max(), 20) if shown.max() > fitted.max() * 1.001 else np.array([])
    xs = np.concatenate([solid, beyond])
    low, high, basis = mean_band(fit, size, xs)
    part = ["fitted"] * len(solid) + ["extrapolated"] * len(beyond)
    found = {
        "size": size,
        "x": xs,
        "loss": fit.predict(size, xs, **dict.fromkeys(fit.law.columns, 1.0)),
        "low": low,
        "high": high,
    }
    return pd.DataFrame(found | {"part": part, "basis": basis})


def mean_band(fit: Any, size: float, xs: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """95 % band of the mean curve of a size and its basis in words; NaN where the fit has none."""
    try:
        return band(fit, size, xs)
    except InputError:
        return np.full(len(xs), np.nan), np.full(len(xs), np.nan), ""


def residual_means(points: Frame) -> Frame:
    """Mean of ln(measured/law) per size in percent, at the evaluated steps or over equal ratios of steps."""
    rows = points[(points["state"] != "not used") & points["law"].notna()]
    found = []
    for size, of_size in rows.groupby("size"):
        residual = np.log(of_size["loss_floored"] / of_size["law"])
        for _, residuals in residual.groupby(step_bins(of_size["step"])):
            here = of_size.loc[residuals.index]
            held = (here["state"] == "held out").mean() > 0.5
            percent = 100 * np.expm1(residuals.mean())
            found.append((size, here["step"].mean(), percent, len(residuals), held))
    return pd.DataFrame(found, columns=["size", "step", "percent", "points", "held_out"])


def largest_miss(residuals: Frame, labels: dict[float, str]) -> str:
    """Where the means of the measured loss are farthest from the law."""
    worst = residuals.loc[residuals["percent"].abs().idxmax()]
    percent = f"{worst['percent']:+.1f}".replace("-", "−")
    return f"the largest mean miss is {percent} % at {labels[worst['size']]}, step {worst['step']:.0f}"


def draw_size(ax: Axes, points: Frame, line: Frame, colour: str) -> None:
    small = {"linestyle": "none", "marker": "o", "markersize": 2, "markeredgewidth": 0}
    states = dict(iter(points.groupby("state")))
    if "not used" in states:
        rows = states["not used"]
        ax.plot(rows["x"], rows["loss_floored"], color=UNUSED, alpha=0.5, zorder=2, **small)
    if "fitted" in states:
        rows = states["fitted"]
        ax.plot(rows["x"], rows["loss_floored"], color=colour, alpha=0.35, zorder=2.2, **small)
    if "held out" in states:
        rows = states["held out"]
        open_marker = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 0.6, "markersize": 2.6}
        ax.plot(rows["x"], rows["loss_floored"], zorder=2.2, **(small | open_marker))
    if joined_runs(points):
        for _, run in points.groupby("run_id"):
            ax.plot(run["x"], run["loss_floored"], color=colour, linewidth=0.6, alpha=0.4, zorder=2.1)
    if line.empty:
        return
    ax.fill_between(line["x"], line["low"], line["high"], color=colour, alpha=0.16, linewidth=0, zorder=1.5)
    fitted, beyond = line[line["part"] == "fitted"], line[line["part"] == "extrapolated"]
    halo = [patheffects.withStroke(linewidth=2.4, foreground="white", alpha=0.7)]
    ax.plot(fitted["x"], fitted["loss"], color=colour, linewidth=1.6, zorder=3, path_effects=halo)
    if len(beyond):
        ax.plot(beyond["x"], beyond["loss"], color=colour, linewidth=1.6, linestyle=DASHED, zorder=3)


def joined_runs(points: Frame) -> bool:
    """Whether single runs are drawn as lines: where a run has few evaluations, and a line does not hide the points."""
    return bool(points.groupby("run_id").size().max() <= MOST_KNOTS)


def draw_residuals(ax: Axes, residuals: Frame, colours: dict[float, str], layout: Layout) -> None:
    ax.axhline(0, color=INK, linewidth=0.8, zorder=1)
    for size, rows in residuals.groupby("size"):
        colour = colours[size]
        ax.plot(rows["step"], rows["percent"], color=colour, linewidth=1, zorder=2)
        for held, some in rows.groupby("held_out"):
            face = "white" if held else colour
            ax.plot(some["step"], some["percent"], "o", color=colour, markerfacecolor=face, markersize=3, zorder=3)
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"))
    ax.set(xlabel="step", ylabel="test loss above the law (%)" if layout == "full" else "above law (%)")


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


def loss_legend(points: Frame) -> list[Line2D]:
    states = set(points["state"])
    handles = [dot(NOTE, "used in the fit")]
    if "held out" in states:
        handles.append(dot(NOTE, "held out", markerfacecolor="white"))
    if "not used" in states:
        handles.append(dot(UNUSED, "not used"))
    handles.append(Line2D([], [], color=NOTE, linewidth=1.6, label="fitted law"))
    return handles


def label_curve(points: Frame, lines: Frame, size: float) -> tuple[np.ndarray, np.ndarray]:
    """The curve that a size's label stands beside: its line, or where the law has none its points."""
    line = lines[lines["size"] == size]
    if len(line):
        return line["x"].to_numpy(), line["loss"].to_numpy()
    rows = points[points["size"] == size].sort_values("x")
    return rows["x"].to_numpy(), rows["loss_floored"].to_numpy()


def loss_marks(points: Frame) -> str:
    problems = sorted(points["eval_problems"].dropna().unique())
    words = f" ({' or '.join(f'{n:.0f}' for n in problems)} questions)" if problems else ""
    runs = "; thin lines join the evaluations of one run" if joined_runs(points) else ""
    means = "" if not points["run_id"].str.endswith("-mean").any() else ", where the source gives means over its runs"
    unused = "; grey points not used" if (points["state"] == "not used").any() else ""
    return f"Points: one evaluation each{words}{means}{runs}{unused}."


def law_in_words(record: dict[str, Any], letter: str) -> str:
    """The law's formula with this figure's x, and Unicode for what the record spells in ASCII."""
    formula = record["formula"].replace("k_max", "Kmax").replace("n0", "N0").replace(" X", f" {letter}")
    return formula.replace("-", "−")


def window_in_words(record: dict[str, Any]) -> str:
    window = record["window"]
    words = [f"steps {window['first_step']}–{window['last_step']}"]
    if window["points"]:
        words.append(f"points {window['points']} of each curve")
    if window["where"]:
        one = ") and (" not in window["where"]
        words.append(f"where {window['where'][1:-1] if one else window['where']}")
    return ", ".join(words)


def held_out_in_words(record: dict[str, Any], labels: dict[float, str]) -> str:
    held = record["held_out"]
    if held is None:
        return "No point was held out."
    errors = held["rmse_ln_loss"]
    beside = ", ".join(
        f"{name.replace('_', ' ')} {number(error)}" for name, error in errors.items() if error is not None
    )
    what = (
        f"{labels.get(held['num_params'], 'the largest size')}"
        if record["split"] == "inter"
        else (f"the last {100 - 100 * float(record['split'].split(':')[1]):.0f} % of each curve")
    )
    reason = f" ({held['reason']})" if held.get("reason") else ""
    return (
        f"Held out (open): {what}, {counted(held['n_points'], 'point')}; tuned on it: "
        f"{held['tuned_on_held_out']}{reason}; "
        f"rmse in ln L: {beside}."
    )


def unidentified_in_words(record: dict[str, Any]) -> str:
    missing = [NAMES.get(name, name) for name, entry in record["values"].items() if not entry["identified"]]
    return f"Not identified by these data: {joined([str(name) for name in missing])}." if missing else ""


def loss_table(points: Frame, lines: Frame, x: str) -> Frame:
    """Points and lines of the figure in one tidy table, told apart by `mark`."""
    kept = points[["size", "run_id", "step", "x", "test_loss", "state"]].assign(mark="evaluation")
    drawn_lines = lines.drop(columns="basis").rename(
        columns={"loss": "test_loss", "part": "state", "low": "ci95_low", "high": "ci95_high"}
    )
    table = pd.concat([kept, drawn_lines.assign(mark="law")], ignore_index=True)
    return table.rename(columns={"size": "num_params", "x": x})


def band_in_words(lines: Frame) -> str:
    """What the bands are and what they rest on."""
    basis = lines["basis"].iloc[0]
    if not basis:
        return "No band: these runs give no interval."
    meaning = "a law that leaves its band is not what the runs do"
    return f"Bands: 95 %, mean curve of a size by its own runs ({basis}); {meaning}."


# --- learning efficiency ----------------------------------------------------------------------------------------------

BEYOND = 4  # how far past the largest size the law is drawn, as a factor


def efficiency(curves: Any, fit: Any, *, layout: Layout = "full") -> Drawn:
    """k(N): each size's slope with its interval, the law through them with its band, N0 and Kmax where identified."""
    record, rows = fit.record, efficiency_rows(fit)
    frame = evaluations(curves, record["size_column"])
    colours, labels = size_colours(frame["size"]), size_labels(frame)
    values = record["values"]
    known = {name for name, entry in values.items() if entry["identified"]}
    law = law_efficiency(fit, rows["num_params"], extrapolate="n0" in known) if values else None
    letter = X_AXES.get(record["x"], ("", "X"))[1]
    top = efficiency_top(rows, law, values)

    with style("efficiency"):
        figure = new_figure(layout, 2.9, 2.8)
        if "k_max" in known:
            ax, side = figure.subplots(1, 2, width_ratios=[1, 0.1 if layout == "full" else 0.16], sharey=True)
            draw_k_max(side, values["k_max"], top)
        else:
            ax = figure.subplots()
        ax.axhline(0, color=UNUSED, linewidth=0.6, zorder=1)
        if law is not None:
            draw_law_efficiency(ax, law)
        sizes = np.concatenate([rows["num_params"], [] if law is None else law["num_params"]])
        low, high = sizes.min() / (1.5 if layout == "full" else 2.2), sizes.max() * (1.05 if "n0" in known else 1.5)
        power_axis(ax.xaxis, low, high, 5 if layout == "full" else 2.2)
        if "n0" in known:
            draw_n0(ax, fit, top, (low, high), layout)
        if values and len(known) < len(values):
            note(ax, 0.02, 0.98, not_identified(record))
        floor = min(0.0, 1.1 * float(rows["low"].fillna(rows["efficiency"]).min()))
        ax.set_ylim(max(floor, -0.5 * top), top)
        draw_size_slopes(ax, rows, run_slopes(fit), colours, labels)
        ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.set_xlabel(r"model size $\mathit{N}$ (parameters)")
        definition = rf" = −d ln $\mathit{{L}}$ / d ln $\mathit{{{letter}}}$" if layout == "full" else ""
        ax.set_ylabel(rf"learning efficiency $\mathit{{k}}$($\mathit{{N}}$){definition}")
        lay_out(figure)

    title = "Learning efficiency against model size."
    intervals = record.get("intervals") or {}
    caption = [
        f"Points: slope k of each size's own line, −d ln L / d ln {letter}"
        + ("; small dots beside them: single runs. " if rows["n_runs"].max() > 1 else ". ")
        + f"Thin bars: 95 % interval ({intervals.get('per_size_basis', 'no intervals')})"
        + ("; thick: scatter within the run alone." if rows["within_run_half_width"].notna().any() else "."),
        f"Curve: {law_in_words(record, letter)}, {record['objective']} objective, "
        f"{counted(record['n_runs'], 'curve')}, "
        f"{counted(record['n_points'], 'point')}, {window_in_words(record)}; "
        + ("dashed beyond the sizes that were run; " if "n0" in known else "not drawn beyond the sizes that were run; ")
        + f"band: 95 %, k(N) by the law, {intervals.get('misfit', '')}, "
        f"{counted(intervals.get('degrees_of_freedom') or 0, 'degree')} of freedom."
        if law is not None
        else "",
        *(f"{NAMES[key]} {value_in_words(key, values[key])}." for key in ("n0", "k_max") if key in known),
        "N counts parameters without embeddings." if record["size_column"].endswith("non_embedding") else "",
        unidentified_in_words(record),
        *(f"{sentence}." for sentence in intervals.get("open", [])),
    ]
    first, last = rows.iloc[0], rows.iloc[-1]
    limit = f"by the law its limit Kmax is {value_in_words('k_max', values['k_max'])}" if "k_max" in known else ""
    finding = (
        f"The learning efficiency is {slope_in_words(first)} at {labels[first['num_params']]} and "
        f"{slope_in_words(last)} at {labels[last['num_params']]}; {limit or 'no limit is identified'}."
    )
    parts = [rows.assign(mark="size"), run_slopes(fit).assign(mark="run")]
    table = pd.concat([*parts, *([] if law is None else [law.assign(mark="law")])], ignore_index=True)
    return drawn(figure, title, caption, finding, table.rename(columns={"low": "ci95_low", "high": "ci95_high"}))


def efficiency_rows(fit: Any) -> Frame:
    """One row per size that has a slope: k, its interval, and the part of it that is scatter within the runs."""
    scatter = {}
    if fit.test is not None:
        lines = fit.test.lines
        for i, size in enumerate(lines.sizes):
            variance = lines.slope_variance[lines.size == i]
            scatter[size] = 1.96 * np.sqrt(variance.sum()) / max(len(variance), 1)
    rows = []
    for row in fit.per_size:
        if row["efficiency"] is not None:
            low, high = row["efficiency_ci95"] or (np.nan, np.nan)
            within = scatter.get(row["num_params"], np.nan)
            rows.append((row["num_params"], row["efficiency"], low, high, within, row["n_runs"], row["efficiency_law"]))
    columns = ["num_params", "efficiency", "low", "high", "within_run_half_width", "n_runs", "efficiency_law"]
    found = pd.DataFrame(rows, columns=columns)
    # Where seeds agree better than a run with itself (a bent curve), the thick bar would say less than the thin one.
    wider = found["within_run_half_width"] > (found["high"] - found["low"]) / 2
    return found.assign(within_run_half_width=found["within_run_half_width"].mask(wider))


def run_slopes(fit: Any) -> Frame:
    """Slope of each run's own line."""
    lines = fit.test.lines
    return pd.DataFrame({"run_id": lines.runs, "num_params": lines.num_params, "efficiency": lines.slope})


def law_efficiency(fit: Any, sizes: Any, *, extrapolate: bool) -> Frame:
    """The law's k(N) with its band, over the sizes and, where N0 is identified, beyond them."""
    grid = np.geomspace(sizes.min(), sizes.max(), 16)
    part = ["fitted"] * len(grid)
    if extrapolate:
        end = max(sizes.max() * BEYOND, min(1.1 * fit.values["n0"]["ci95"][1], 20 * sizes.max()))
        grid = np.concatenate([grid, np.geomspace(sizes.max(), end, 7)[1:]])
        part += ["extrapolated"] * 6
    ends = [efficiency_interval(fit, size) if fit.test is not None else (None, None) for size in grid]
    low, high = (np.array([np.nan if end is None else end for end in side]) for side in zip(*ends, strict=True))
    law = {"num_params": grid, "efficiency": fit.efficiency(grid), "low": low, "high": high, "part": part}
    return pd.DataFrame(law)


def efficiency_top(rows: Frame, law: Frame | None, values: dict[str, Any]) -> float:
    """Upper end of the k axis: all that was measured, Kmax where identified, never more than thrice the slopes."""
    shown = [*rows["efficiency"], *rows["high"].dropna()]
    if law is not None:
        shown += [*law["efficiency"], *law["high"].dropna()]
    if values and values["k_max"]["identified"]:
        shown.append(values["k_max"]["ci95"][1])
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


def draw_n0(ax: Axes, fit: Any, top: float, limits: tuple[float, float], layout: Layout) -> None:
    """N0 with its interval along x, near the top of the panel, and where it meets the law."""
    value, (low, high) = fit.values["n0"]["value"], fit.values["n0"]["ci95"]
    height, half = 0.92 * top, float(fit.efficiency(value))
    clipped_bar(ax, low, high, height, limits, INK)
    ax.plot(value, height, "s", color=INK, markersize=5, markeredgecolor="white", zorder=4)
    ax.plot([value, value], [0, height], color=UNUSED, linewidth=0.8, linestyle=":", zorder=1.5)
    words = rf"$\mathit{{N}}_0$  {short_number(value)}" + ("  " if layout == "full" else "\n")
    words += f"[{short_number(low)}, {short_number(high)}]"
    left, right = max(low, limits[0]), min(high, limits[1])
    on_the_left = left / limits[0] > limits[1] / right
    shown = {"textcoords": "offset points", "va": "center", "zorder": 6, "path_effects": HALO}
    at, side, align = (left, -6, "right") if on_the_left else (right, 6, "left")
    ax.annotate(words, (at, height), xytext=(side, 0), ha=align, fontsize=7.5, **shown)
    half_way = r"$\mathit{k}$ = $\mathit{K}_{max}$/2"
    ax.annotate(half_way, (value, 0.4 * half), xytext=(4, 0), fontsize=7, color=NOTE, **shown)


def draw_k_max(ax: Axes, entry: dict[str, Any], top: float) -> None:
    """Kmax with its interval beside the y axis; an end above the panel is an arrow."""
    value, (low, high) = entry["value"], entry["ci95"]
    ax.plot([0, 0], [low, min(high, top)], color=INK, linewidth=1.6, solid_capstyle="butt")
    if high > top:
        ax.plot([0], [top], "^", color=INK, markersize=5, clip_on=False)
    ax.plot(0, min(value, top), "s", color=INK, markersize=5, markeredgecolor="white", zorder=4)
    ends: Any = {"textcoords": "offset points", "ha": "center"}
    ax.annotate(
        number(value), (0, min(value, top)), xytext=(5, 0), textcoords="offset points", va="center", fontsize=7.5
    )
    ax.annotate(r"$\mathit{K}_{max}$", (0, min(high, top)), xytext=(0, 4), va="bottom", fontsize=7.5, **ends)
    ax.annotate(interval_text(low, high), (0, low), xytext=(0, -4), va="top", fontsize=7, **ends)
    ax.set_xlim(-1, 1)
    ax.set_axis_off()


NAMES = {"k_max": "Kmax", "n0": "N0"}
MATH_NAMES = {"k_max": r"$\mathit{K}_{max}$", "n0": r"$\mathit{N}_0$"}


def not_identified(record: dict[str, Any]) -> str:
    """The words that stand where N0 and Kmax would be, and why."""
    missing = [MATH_NAMES[name] for name, entry in record["values"].items() if not entry["identified"]]
    reasons = [sentence.split(":")[-1].strip() for sentence in (record.get("intervals") or {}).get("open", [])[:1]]
    return "\n".join([f"{joined(missing[::-1])} not identified" + (":" if reasons else ""), *reasons])


def value_in_words(name: str, entry: dict[str, Any]) -> str:
    low, high = entry["ci95"]
    if name == "n0":
        return f"{short_number(entry['value'])} [{short_number(low)}, {short_number(high)}]"
    return f"{number(entry['value'])} {interval_text(low, high)}"


def slope_in_words(row: Any) -> str:
    interval = f" {interval_text(row['low'], row['high'])}" if np.isfinite(row["low"]) else ""
    return f"{number(row['efficiency'])}{interval}"


# --- the best of several choices at a budget --------------------------------------------------------------------------


class ChoiceWords(NamedTuple):
    """What the two panels of a figure of choices are called."""

    name: str
    titles: tuple[str, str]
    axis: str
    one: str  # "size"


def draw_envelope(
    fit: Any,
    points: Frame,
    found: Envelope,
    words: ChoiceWords,
    labels: dict[float, str],
    colours: dict[float, str],
    base: tuple[str, float] | None,
    layout: Layout,
) -> Figure:
    """Panel a: the lines and their lower envelope. Panel b: which choice is lowest, and which are not rejected."""
    axis_label, _ = X_AXES.get(fit.record["x"], (fit.record["x"].replace("_", " "), "X"))
    order = list(found.values)
    with style(words.name):
        rows = len(order)
        figure = new_figure(layout, min(2.9 + 0.2 * rows, 4.4), min(3.1 + 0.2 * rows, 4.5))
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.1, 0.5 + 0.14 * rows])
        shown = points[points["size"].isin(order)]
        drawn_losses = [*shown["loss_floored"], *found.loss[np.isfinite(found.loss)], *([base[1]] if base else [])]
        plain_log_axis(top.yaxis, *loss_limits(drawn_losses))
        wide = 6.0 if layout == "full" else 2.6
        x_axis(top, pd.Series(found.x), max(map(len, labels.values())) + (3 if base else 0), wide)
        envelope_lines(top, shown, found, colours)
        if base:
            top.axhline(base[1], color=NOTE, linewidth=0.8, linestyle=":", zorder=1)
        top.set_ylabel(LOSS_LABEL)
        panel_title(top, "a", words.titles[0])
        envelope_choices(bottom, found, colours)
        bottom.set_yticks(range(rows), [labels[value] for value in order])
        bottom.set(ylabel=words.axis, xlabel=axis_label)
        panel_title(bottom, "b", words.titles[1])
        outside_legend(figure, envelope_legend(found), layout)
        ends = []
        for i, value in enumerate(order):
            known = np.isfinite(found.loss[i])
            ends.append(EndLabel(labels[value], colours[value], found.x[known], found.loss[i][known]))
        if base:
            ends.append(EndLabel(base[0], NOTE, found.x[[0, -1]], np.full(2, base[1])))
        heights = np.interp(np.log(found.switches["x"]), np.log(found.x), found.lowest)
        end_labels(top, ends, list(zip(found.switches["x"], heights, strict=True)))
    return figure


def envelope_lines(ax: Axes, points: Frame, found: Envelope, colours: dict[float, str]) -> None:
    ax.plot(found.x, found.lowest, color="#D5DAE0", linewidth=5, solid_capstyle="butt", zorder=1.2)
    for i, value in enumerate(found.values):
        rows = points[points["size"] == value]
        dots = {"linestyle": "none", "marker": "o", "markersize": 1.8, "markeredgewidth": 0, "alpha": 0.3}
        ax.plot(rows["x"], rows["loss_floored"], color=colours[value], zorder=1.5, **dots)
        outside = np.where(found.fitted[i], np.nan, found.loss[i])
        ax.plot(found.x, outside, color=colours[value], linewidth=0.9, linestyle=DASHED, zorder=2)
        solid = np.where(found.fitted[i], found.loss[i], np.nan)
        ax.plot(found.x, solid, color=colours[value], linewidth=1.6, zorder=3)
    for row in found.switches.itertuples():
        height = float(np.interp(np.log(row.x), np.log(found.x), found.lowest))
        marker = {"crossover": "o", "first step": "v", "end of run": ">"}[row.kind]
        ax.plot(row.x, height, marker, markersize=5, markerfacecolor="white", markeredgecolor=INK, zorder=4)


def envelope_choices(ax: Axes, found: Envelope, colours: dict[float, str]) -> None:
    for i, value in enumerate(found.values):
        ran, best = np.isfinite(found.loss[i]), found.best == i
        ax.plot(found.x[ran], np.full(ran.sum(), i), color=UNUSED, linewidth=0.8, zorder=2)
        for start, end in stretches(found.as_good[i]):
            span = [found.x[start], found.x[end]]
            ax.fill_between(span, i - 0.36, i + 0.36, color="#D5DAE0", alpha=0.75, linewidth=0, zorder=1)
        for start, end in stretches(best):
            end = min(end + 1, len(found.x) - 1)
            ax.plot(
                [found.x[start], found.x[end]],
                [i, i],
                color=colours[value],
                linewidth=4.2,
                solid_capstyle="butt",
                zorder=3,
            )
        for start, end in stretches(best & ~found.fitted[i]):
            ax.plot([found.x[start], found.x[end]], [i, i], color="white", linewidth=2, solid_capstyle="butt", zorder=4)
    ax.set_ylim(-0.6, len(found.values) - 0.4)
    ax.tick_params(axis="y", length=0)


def stretches(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [(int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def envelope_legend(found: Envelope) -> list[Any]:
    kinds = set(found.switches["kind"])
    handles: list[Any] = [Line2D([], [], color="#D5DAE0", linewidth=5, label="lowest; b: not rejected")]
    hollow = {"linestyle": "none", "markersize": 5, "markerfacecolor": "white", "markeredgecolor": INK}
    marks = {"crossover": ("o", "crossover"), "first step": ("v", "next one starts")}
    for kind, (marker, words) in (marks | {"end of run": (">", "not run further")}).items():
        if kind in kinds:
            handles.append(Line2D([], [], marker=marker, label=words, **hollow))
    return handles


def envelope_words(found: Envelope, words: ChoiceWords, labels: dict[float, str], letter: str, fit: Any) -> list[str]:
    """The sentences of the caption that both figures of choices share."""
    df = fit.test.sizes(*fit.test.lines.at(float(fit.test.lines.centre.mean()))).df
    basis = fit.test.basis if df else "one run each: its own noise and a borrowed seed spread, slope .0025, level .004"
    crossed = [
        f"{labels[row.before]} to {labels[row.after]} at {power_of_ten(row.x)} {crossing_interval(row.low, row.high)}"
        for row in found.switches[found.switches["kind"] == "crossover"].itertuples()
    ]
    one = words.one
    return [
        f"a: points are single evaluations, lines each {one}'s own line without a law, solid over the fitted steps "
        f"({window_in_words(fit.record)}), dashed over other steps that were run; grey: the lowest of them.",
        f"b: thin, the range of {letter} that was run; thick, the lowest line (hollow outside the fitted steps); grey "
        f"blocks, each {one} not rejected as best at 5 % ({basis}), only where more than one was run.",
        f"Crossovers with 95 % intervals: {'; '.join(crossed)}."
        if crossed
        else "No two lines cross where both were run.",
    ]


def crossing_interval(low: float, high: float) -> str:
    if np.isnan(low) and np.isnan(high):
        return "(not bounded in the range that both were run)"
    ends = ["open" if np.isnan(end) else power_of_ten(end) for end in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"


def best_in_words(found: Envelope, labels: dict[float, str], letter: str) -> str:
    """The best choice at the largest budget at which two or more were run, and which the test does not reject there."""
    compared = np.flatnonzero(np.isfinite(found.loss).sum(0) > 1)
    if not len(compared):
        return f"No {letter} was run with more than one choice, so nothing can be compared."
    at = compared[-1]
    best = labels[float(found.values[found.best[at]])]
    rivals = [labels[found.values[i]] for i in np.flatnonzero(found.as_good[:, at]) if i != found.best[at]]
    others = [labels[found.values[i]] for i in np.flatnonzero(np.isfinite(found.loss[:, at])) if i != found.best[at]]
    told = (
        f"{joined(rivals)} cannot be told from it"
        if rivals
        else f"{joined(others)} {'is' if len(others) == 1 else 'are'} rejected"
    )
    return (
        f"At the largest budget at which more than one was run, {letter} = {power_of_ten(float(found.x[at]))} FLOPs, "
        f"{best} has "
        f"the lowest line; {told}."
    )


def frontier(curves: Any, fit: Any, *, found: Envelope | None = None, layout: Layout = "full") -> Drawn:
    """Which size has the lowest loss at a budget: each size's own line, the envelope and what it cannot separate.

    `found`: the envelope of this fit, where it is known already.
    """
    points = fitted_points(fit)
    found = envelope(fit) if found is None else found
    frame = evaluations(curves, fit.record["size_column"])
    colours, labels = size_colours(frame["size"]), size_labels(frame)
    letter = X_AXES.get(fit.record["x"], ("", "X"))[1]
    words = ChoiceWords(
        "frontier", ("Lower envelope over sizes", f"Which size to train with a budget {letter}"), "best size", "size"
    )
    if layout == "column":
        words = words._replace(titles=(words.titles[0], "Which size at a budget"))
    start = evaluations(fit.curves, fit.record["size_column"])
    start = start[(start["step"] == 0) & start["size"].isin(found.values)].groupby("size")["test_loss"].mean()
    base = None
    untrained = (
        "The losses of the untrained models are not in the data, so it cannot be said where this only ranks them."
    )
    if len(start):
        size, level = float(start.idxmin()), float(start.min())
        base = (f"untrained {labels[size].split()[0]}", level)
        covered = np.flatnonzero(found.lowest >= level)
        untrained = f"Step 0 costs no {letter}: the untrained {labels[size]} has loss {number(level)} (dotted)" + (
            f", so below {letter} = {power_of_ten(float(found.x[covered[-1]]))} this ranks base models and says "
            "nothing of RL."
            if len(covered)
            else "; every budget that was run gets below it."
        )
    figure = draw_envelope(fit, points, found, words, labels, colours, base, layout)
    finding = best_in_words(found, labels, letter)
    title = "Compute-optimal model size."
    caption = [*envelope_words(found, words, labels, letter, fit), untrained, finding]
    table = found.table().rename(columns={"value": "num_params", "x": fit.record["x"], "line": "test_loss_line"})
    return drawn(figure, title, caption, finding, table)


# --- group size -------------------------------------------------------------------------------------------------------


def group_size(
    curves: Any, *, steps: str | None = None, lines: tuple[Any, Frame, Envelope] | None = None, layout: Layout = "full"
) -> Drawn:
    """Which number of rollouts per prompt has the lowest loss at a budget, at the size where most were run.

    `lines`: what `group_fit` gives for these curves, and its envelope, where they are known already.
    """
    fit, chosen = group_fit(curves, steps) if lines is None else lines[:2]
    label = size_labels(chosen)[chosen["size"].iloc[0]]
    points = fitted_points(fit)
    found = envelope(fit) if lines is None else lines[2]
    colours = ramp_colours(found.values, ORDER_RAMP)
    labels = {value: f"G = {value:.0f}" for value in found.values}
    titles = (
        "One line per group size",
        "Which group size with a budget C" if layout == "full" else "Which group size at a budget",
    )
    words = ChoiceWords("group_size", titles, "best G", "group size")
    figure = draw_envelope(fit, points, found, words, labels, colours, None, layout)
    finding = f"At {label}: {best_in_words(found, labels, 'C')[0].lower()}{best_in_words(found, labels, 'C')[1:]}"
    runs = [row["n_runs"] for row in fit.per_size]
    caption = [
        f"{label}, {between(min(runs), max(runs), 'run')} at each group size.",
        *envelope_words(found, words, labels, "C", fit),
        "Another group size changes what a step costs, so lines are compared at equal compute and not at equal steps.",
        finding,
    ]
    table = found.table().rename(columns={"value": "group_size", "x": "train_flops", "line": "test_loss_line"})
    return drawn(figure, "Group size.", caption, finding, table)


# --- choices ----------------------------------------------------------------------------------------------------------


def sensitivity(curves: Any, fit: Any, *, windows: Frame | None = None, layout: Layout = "full") -> Drawn:
    """What the window moves: N0 where the data identify it, else k of the largest size; and pooled R2 beside it.

    `windows`: what `window_fits` gives for this fit, where it is known already.
    """
    record = fit.record
    size, values = fit.per_size[-1], record["values"]
    by_n0 = shows_n0(fit)
    label = size_labels(evaluations(curves, record["size_column"]))[size["num_params"]].split()[0]
    first, last = record["window"]["first_step"], record["window"]["last_step"]
    table = window_fits(fit) if windows is None else windows
    owns = table[(table["first_step"] == first) & (table["last_step"] == last)]
    if len(table) < 3 or owns.empty:
        raise InputError("needs more evaluated steps: fewer than three windows of four steps fit into these curves.")
    own = owns.iloc[0]
    centre = own["value"]
    ends = values["n0"]["ci95"] if by_n0 else size["efficiency_ci95"]
    unit, unit_words = n0_unit(centre) if by_n0 else (1.0, "")
    what = r"$\mathit{N}_0$" if by_n0 else rf"$\mathit{{k}}$({label})"
    plain = "N0" if by_n0 else f"k({label})"
    title_a = f"Best {what}{unit_words} by window" if by_n0 else f"{what} by window"

    with style("sensitivity"):
        figure = new_figure(layout, 2.9, 4.4)
        left, right = two_panels(figure, layout, [1.5, 1], [1.15, 1])
        draw_windows(left, table, centre, unit, (first, last))
        panel_title(left, "a", title_a)
        draw_pooled(right, table, own, unit, ends)
        panel_title(right, "b", r"Pooled $\mathit{R}^2$ of the same fits")
        right.set_xlabel(f"best {what}{unit_words}" if by_n0 else what)
        hollow: Any = {"linestyle": "none", "markerfacecolor": "white", "markeredgecolor": INK}
        handles = [
            dot(NOTE, "the law"),
            Line2D([], [], marker="o", markersize=5.5, label="own window", **hollow),
            dot(LOOK_HERE, "the same with k = 0"),
        ]  # fmt: skip
        outside_legend(figure, handles, layout, columns=3)
        lay_out(figure)

    finite = table.loc[~table["no_finite_optimum"], "value"]
    show = short_number if by_n0 else number
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
        if by_n0
        else "a: slope of the largest size's own line over other windows; the outlined one is the page's own; colour: "
        f"{by_colour}; blank: fewer than four evaluated steps.",
        "Kmax and N0 are not identified, so the slope is shown and not N0." if values and not by_n0 else "",
        f"b: pooled R2 on L of those fits ({number(r2.min())}–{number(r2.max())}), and of the same with k = 0, a level "
        f"per size and no learning ({number(flat.min())}–{number(flat.max())}); grey: 95 % interval from the page's "
        "own window.",
        finding,
    ]
    table = table.rename(columns={"value": "n0" if by_n0 else "efficiency"})
    return drawn(figure, "Sensitivity to the window.", caption, finding, table)


def interval_words(ends: Sequence[float | None], show: Any) -> str:
    return "[" + ", ".join("open" if end is None else show(end) for end in ends) + "]"


def n0_unit(value: float) -> tuple[float, str]:
    """The unit that makes N0 a short number, and its words."""
    return next(
        ((u, w) for u, w in [(1e9, " (billions)"), (1e6, " (millions)"), (1e3, " (thousands)")] if value >= u),
        (1.0, ""),
    )


def shows_n0(fit: Any) -> bool:
    return "n0" in fit.values and fit.values["n0"]["identified"]


def window_fits(fit: Any) -> Frame:
    """The fit repeated over windows of steps: first and last step, N0 or k of the largest size, both pooled R2."""
    record, by_n0 = fit.record, shows_n0(fit)
    frame = evaluations(fit.curves, record["size_column"])
    steps = np.array(sorted(step for step in frame["step"].unique() if step > 0))
    own = record["window"]["first_step"], record["window"]["last_step"]
    rows = []
    for last in window_ends(steps, own[1], 5, falling=True):
        for first in window_ends(steps, own[0], 7):
            if ((steps >= first) & (steps <= last)).sum() < 4:
                continue
            try:
                found = fit_curves(
                    fit.curves, record["law"], record["x"], record["objective"], steps=f"{first}:{last}",
                    size_column=record["size_column"], bounds=None if record["bounds"] == "wide" else record["bounds"],
                )  # fmt: skip
            except InputError:
                continue
            goodness, largest = found.record["goodness"], found.per_size[-1]
            if largest["efficiency"] is None or goodness["r2_pooled"] is None:
                continue
            value = found.values["n0"]["value"] if by_n0 else largest["efficiency"]
            endless = by_n0 and found.values["n0"]["at_bound"]
            rows.append((first, last, value, endless, goodness["r2_pooled"], goodness["r2_pooled_constant"]))
    columns = ["first_step", "last_step", "value", "no_finite_optimum", "r2_pooled", "r2_pooled_constant"]
    return pd.DataFrame(rows, columns=columns)


def window_ends(steps: np.ndarray, own: int, most: int, *, falling: bool = False) -> list[int]:
    """At most `most` evaluated steps to begin or end a window at, in equal ratios, with the fit's own among them."""
    low, high = (steps[min(9, len(steps) // 2)], steps[-1]) if falling else (steps[0], steps[-1] / 2)
    wanted = np.geomspace(low, max(high, low), most)
    nearest = {int(steps[np.abs(np.log(steps / step)).argmin()]) for step in wanted}
    if own not in nearest:
        nearest.discard(min(nearest, key=lambda step: abs(np.log(step / own))))
        nearest.add(int(own))
    return sorted(nearest, reverse=falling)


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
