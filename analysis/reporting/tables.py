"""Tables that are shown on a page, saved as CSV and set in LaTeX alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.frame import Frame
from analysis.words import amount, interval


def blank(show: Callable[[Any], str]) -> Callable[[Any], str]:
    """Missing values as a dash."""
    return lambda value: "–" if value is None or (isinstance(value, float) and np.isnan(value)) else show(value)


@dataclass(frozen=True)
class Column:
    """One column as shown: its heading and the text of a row. `status`: the text is a word to be tagged."""

    heading: str
    text: Callable[[Any], str]
    left: bool = False
    status: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page: raw numbers in `frame` (the CSV), shown by `columns` (the page and the LaTeX)."""

    name: str
    title: str
    frame: Frame
    columns: list[Column]
    note: str = ""

    def text(self) -> list[list[str]]:
        """The cells as shown, row by row."""
        rows = self.frame.to_dict("records")
        return [[column.text(row) for column in self.columns] for row in rows]

    def latex(self) -> str:
        """A booktabs tabular; the title and the note stand in its caption."""
        lines = [[latex(column.heading) for column in self.columns], *([latex(c) for c in row] for row in self.text())]
        rows = [" & ".join(cells) + r" \\" for cells in lines]
        align = "".join("l" if i == 0 or column.left or column.status else "r" for i, column in enumerate(self.columns))
        body = ["  \\toprule", f"  {rows[0]}", "  \\midrule", *(f"  {row}" for row in rows[1:]), "  \\bottomrule"]
        caption = latex(f"{self.title}. {self.note}".strip())
        parts = ["\\begin{table}", f"  \\caption{{{caption}}}", f"  \\begin{{tabular}}{{{align}}}", *body]
        return "\n".join([*parts, "  \\end{tabular}", "\\end{table}", ""])

    def write(self, folder: Path) -> None:
        self.frame.to_csv(folder / f"{self.name}.csv", index=False, float_format="%.9g")
        (folder / f"{self.name}.tex").write_text(self.latex(), encoding="utf-8")


LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "−": "$-$", "–": "--", "τ": "$\\tau$", "≥": "$\\geq$", "≤": "$\\leq$", "×": "$\\times$", "∞": "$\\infty$",
}  # fmt: skip


def latex(text: str) -> str:
    text = "".join(LATEX.get(character, character) for character in text)
    text = re.sub("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda m: f"$^{{{m[0].translate(SUPERSCRIPTS)}}}$", text)
    return re.sub(r"\b(?:N0|Kmax|R2)\b", lambda m: {"N0": "$N_0$", "Kmax": "$K_{\\max}$", "R2": "$R^2$"}[m[0]], text)


SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def of(name: str, show: Callable[[Any], str] = str) -> Callable[[Any], str]:
    """The text of a row's value `name`."""
    return lambda row: blank(show)(row.get(name))


def ends_of(row: Mapping[str, Any], prefix: str = "") -> tuple[float | None, float | None] | None:
    """The interval in the columns PREFIXlow and PREFIXhigh; None where both are missing."""
    low, high = (None if pd.isna(row.get(f"{prefix}{end}")) else row[f"{prefix}{end}"] for end in ("low", "high"))
    return None if low is None and high is None else (low, high)


def put_ends(row: dict[str, Any], prefix: str, ends: Sequence[float | None] | None) -> None:
    """The interval as the columns PREFIXlow and PREFIXhigh."""
    row[f"{prefix}low"], row[f"{prefix}high"] = ends if ends is not None else (None, None)


def ends_column(heading: str, prefix: str, show: Callable[[float], str] = amount) -> Column:
    return Column(heading, lambda row: interval(ends_of(row, prefix), show))
