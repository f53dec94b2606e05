"""Figure: which pairs of values of two parameters the runs do not reject together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.figures.axes import new_figure
from analysis.figures.style import ALGORITHMS, INK, Layout, style
from analysis.figures.svg import Drawn, drawn
from analysis.fitting.record import Fit
from analysis.intervals.contours import LEVELS, Region
from analysis.words import joined

FAR = 8.0  # largest over smallest value from which an axis is a log axis


def contours(fit: Fit, regions: Sequence[Region], *, layout: Layout = "full") -> Drawn:
    """The regions of each pair of parameters, one panel a pair, with the optimum of the fit."""
    symbols, pairs = fit.law.symbols, list(dict.fromkeys(region.names for region in regions))
    columns = min(len(pairs), 3 if layout == "full" else 1)
    rows = -(-len(pairs) // columns)
    colour = ALGORITHMS["papo"][0]
    with style("contours"):
        figure = new_figure(layout, 2.6 * rows if rows < 3 else 4.5, 4.5)
        for panel, names in enumerate(pairs):
            ax = figure.add_subplot(rows, columns, panel + 1)
            for region in (region for region in regions if region.names == names):
                x, y = np.vstack([region.outline, region.outline[:1]] if region.closed else [region.outline]).T
                line = {"color": colour, "linewidth": 1.4 if region.level == LEVELS[-1] else 0.9}
                ax.plot(x, y, "-" if region.closed else "--", label=f"{100 * region.level:.0f} %", **line)
            ax.plot(*(fit.values[name]["value"] for name in names), "+", color=INK, markersize=6, label="optimum")
            ends = np.vstack([region.outline for region in regions if region.names == names])
            for axis, values in ((ax.set_xscale, ends[:, 0]), (ax.set_yscale, ends[:, 1])):
                if values.min() > 0 and values.max() > FAR * values.min():
                    axis("log")
            ax.set_xlabel(symbols[names[0]])
            ax.set_ylabel(symbols[names[1]])
            if panel == 0:
                ax.legend()
        opened = sorted({f"{symbols[r.names[0]]}, {symbols[r.names[1]]} at {100 * r.level:.0f} %"
                         for r in regions if not r.closed})  # fmt: skip
        finding = "Every region is closed." if not opened else f"Without an end on a side: {joined(opened)}."
        caption = (
            "Pairs of values that the runs do not reject together, at 68 and 95 %, the other parameters free. An "
            "outline is wider than the two intervals, each of which asks about one parameter alone. " + finding
        )
        rows = [[*r.names, r.level, x, y] for r in regions for x, y in r.outline]
        table = pd.DataFrame(rows, columns=["x", "y", "level", "x_value", "y_value"])
        return drawn(figure, "Two parameters at once.", [caption], finding, table)
