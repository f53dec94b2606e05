"""The figures of the report: which there are, each drawn in both layouts, saved and numbered, or the reason why
it is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from analysis import figures
from analysis.figures.svg import Drawn
from analysis.missing import Missing, known
from analysis.questions.windows import window_fits
from analysis.reporting.section import contents
from analysis.reporting.study import Study, companion, replicates
from analysis.reporting.tables import Column, Table, of
from scaling.schema import InputError, check_name

MOST_ROWS = 40  # of a figure's table on the page; the CSV has all


@dataclass(frozen=True)
class Drawing:
    """A figure as the page shows it: both layouts as SVG, and the first rows of its data."""

    number: int
    title: str
    caption: str
    finding: str
    full: str
    column: str
    table: Table
    more_rows: int


def curve_figures(study: Study) -> dict[str, str]:
    """The figures of learning curves by axis, in the order of the page: compute and prompts, where the law has a fit
    or a reason why not, and any other axis that was chosen."""
    names = {"train_flops": "loss_vs_compute", "prompts_seen": "loss_vs_prompts"}
    shown = {axis: name for axis, name in names.items() if axis in study.fits or axis in study.no_fit}
    return {axis: f"loss_vs_{axis}" for axis in study.fits if axis not in names} | (shown or names)


def figure_makers(study: Study) -> dict[str, Callable[..., Drawn]]:
    """The figures in the order of the page, those that name their own section last in it; each takes `layout`."""
    curves = study.curves

    windows = window_fits(study.main) if study.main else None
    shipped = {
        "curves": {
            name: lambda axis=axis, **o: figures.loss_curves(curves, study.fit(axis), x=axis, **o)
            for axis, name in curve_figures(study).items()
        },
        "efficiency": {"efficiency": lambda **o: figures.efficiency(curves, study.fit(), **o)},
        "frontier": {
            "frontier": lambda **o: figures.frontier(curves, known(study.compute), shown=known(study.ladder), **o)
        },
        "reuse": {"reuse": lambda **o: figures.reuse(companion(curves, "reuse"), replicates=replicates(curves), **o)},
        "group-size": {"group_size": lambda **o: figures.group_size(curves, lines=known(study.groups), **o)},
        "algorithms": {
            "algorithm_comparison": lambda **o: figures.algorithm_comparison(
                curves, compared=known(study.algorithms), **o
            ),
            "multiplier": lambda **o: figures.multiplier(known(study.pairs), sorted(study.labels), **o),
        },
        "compute": {"compute_split": lambda **o: figures.compute_split(curves, **o)},
        "choices": {"sensitivity": lambda **o: figures.sensitivity(curves, study.fit(), windows=windows, **o)},
    }
    sections = contents()
    for section, added in figures.BY_SECTION.items():
        check_name(section, sections, "section of the report")
        makers = {name: partial(figure, curves, study.main) for name, figure in added.items()}
        shipped[section] = shipped.get(section, {}) | makers
    return {name: make for section in sections for name, make in shipped.get(section, {}).items()}


def draw(makers: Mapping[str, Callable[..., Drawn]], folder: Path) -> dict[str, Drawing | Missing]:
    """Draw every figure in both layouts, save it, and number those that the data can carry."""
    drawings: dict[str, Drawing | Missing] = {}
    numbered = 0
    for name, make in makers.items():
        try:
            full, column = make(layout="full"), make(layout="column")
            inline = figures.save(full, column, folder, name)
        except InputError as error:
            drawings[name] = Missing(str(error))
            continue
        numbered += 1
        drawings[name] = Drawing(
            number=numbered,
            title=full.title,
            caption=full.caption.removeprefix(str(escape(full.title))).strip(),
            finding=full.finding,
            full=Markup(inline[0]),
            column=Markup(inline[1]),
            table=as_table(name, full),
            more_rows=max(0, len(full.table) - MOST_ROWS),
        )
    return drawings


def as_table(name: str, drawn: Drawn) -> Table:
    """The first rows of a figure's data, numbers to four digits."""

    def text(value: Any) -> str:
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        if isinstance(value, float | np.floating):
            return f"{value:.4g}".replace("e+", "e")
        return str(value)

    frame = drawn.table.head(MOST_ROWS)
    columns = [Column(str(c).replace("_", " "), of(str(c), text), left=frame[c].dtype == object) for c in frame]
    return Table(name, drawn.title, frame, columns)


def findings(drawing: Drawing | Missing) -> list[str]:
    return [] if isinstance(drawing, Missing) else [drawing.finding]


def link(drawing: Drawing | Missing) -> str:
    """` (Figure 2)`, for the end of a sentence; nothing where there is no figure."""
    return "" if isinstance(drawing, Missing) else f" (Figure {drawing.number})"
