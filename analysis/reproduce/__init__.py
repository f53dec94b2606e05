"""The reference study (Tan et al., arXiv 2509.25300) from the shipped curves: tables and figures beside what it prints.

    DIR/report/index.html      the page; DIR/report/tables/*  every table as CSV and LaTeX; DIR/figures/*

Each number of ours is computed here from the curves; each published one stands in `PUBLISHED` and nowhere else. Where
the published protocol uses what it predicts, the page says so and shows the version that does not. What the shipped
data do not support is listed, and so is what is odd in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analysis.curves.frame import Curves
from analysis.reporting.drawing import draw
from analysis.reproduce.tan2025.figures import decomposition_figure, figure_makers
from analysis.reproduce.tan2025.findings import findings_table, late_table, odd_table
from analysis.reproduce.tan2025.page import MISSING, PLACES, render
from analysis.reproduce.tan2025.predictions import decomposition_table, inter_table, intra_table
from analysis.reproduce.tan2025.study import Study, perturbed
from analysis.reproduce.tan2025.tables import (
    all_tables,
    efficiency_table,
    final_table,
    fits_table,
    group_table,
    reuse_table,
    table_frame,
    windows_table,
)
from scaling import files
from scaling.schema import check_name

__all__ = [
    "MISSING",
    "PLACES",
    "Study",
    "all_tables",
    "decomposition_figure",
    "decomposition_table",
    "efficiency_table",
    "final_table",
    "findings_table",
    "fits_table",
    "group_table",
    "inter_table",
    "intra_table",
    "late_table",
    "odd_table",
    "perturbed",
    "render",
    "reproduce",
    "reuse_table",
    "table_frame",
    "windows_table",
]


def reproduce(name: str = "tan2025", out: str | Path | None = None, curves: Mapping[str, Curves] | None = None) -> Path:
    """Write the page that sets ours beside the published; returns its path.

    Args:
        name: the study; there is tan2025. out: default `reproduce-NAME` in this directory.
        curves: by name of `SOURCES`, in the place of the shipped ones.
    """
    check_name(name, ["tan2025"], "study to reproduce")
    folder = Path(out) if out else Path(f"reproduce-{name}")
    study = Study(curves)
    tables = all_tables(study)
    drawings = draw(figure_makers(study), folder / "figures")
    (folder / "report" / "tables").mkdir(parents=True, exist_ok=True)
    for table in tables.values():
        table.write(folder / "report" / "tables")
    page = folder / "report" / "index.html"
    files.write_atomic(page, render(study, drawings, tables))
    return page
