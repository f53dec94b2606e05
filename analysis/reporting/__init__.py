"""The report of a study: one page that a reader can trust and a reviewer can check, with its figures, tables and fits.

    DIR/report/index.html      the page: figures inside it, no script, no network
    DIR/report/tables/*        every table of the page as CSV (raw numbers) and LaTeX (as shown)
    DIR/figures/*              every figure as SVG, PNG and CSV
    DIR/fits/*.json            the fits that the sentences quote

Sentences are written here from the numbers of the fits, in plain text; the template holds what is true of any study and
turns symbols (k, N0, Kmax, "Figure 2") into markup. Nothing is read from the clock: equal records, equal bytes.
"""

from __future__ import annotations

from pathlib import Path

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices
from analysis.reporting.drawing import draw, figure_makers
from analysis.reporting.page import all_tables, render
from analysis.reporting.sections import compare
from analysis.reporting.study import read_study, write_fits
from scaling import files


def report(curves: Curves, choices: Choices, out: Path | None = None) -> Path:
    """Write the report of curves; returns the path of the page. A split holds points out of the page's own fits.

    Args:
        out: folder for report/, figures/ and fits/; by default the study folder, else `report-NAME` in this directory.

    Raises:
        InputError: the law does not describe sizes.
    """
    study = read_study(curves, choices)
    folder = out or curves.folder or Path(f"report-{study.name}")
    sections = compare(study)
    drawings = draw(figure_makers(study), folder / "figures")
    tables = all_tables(study, sections)
    symbols = list(study.main.law.symbols.values()) if study.main else []
    (folder / "report" / "tables").mkdir(parents=True, exist_ok=True)
    for table in filter(None, tables.values()):
        table.write(folder / "report" / "tables", symbols)
    write_fits(study, folder / "fits")
    page = folder / "report" / "index.html"
    files.write_atomic(page, render(study, sections, drawings, tables))
    return page
