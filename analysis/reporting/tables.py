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
from analysis.words import GREEK, amount, interval, latex_symbol, symbol_pattern


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

    def latex(self, known: Sequence[str] = ()) -> str:
        """A booktabs tabular; the title and the note stand in its caption. `known`: the symbols of the page's law."""
        cells = [[column.heading for column in self.columns], *self.text()]
        lines = [[latex(cell, known) for cell in row] for row in cells]
        rows = [" & ".join(cells) + r" \\" for cells in lines]
        align = "".join("l" if i == 0 or column.left or column.status else "r" for i, column in enumerate(self.columns))
        body = ["  \\toprule", f"  {rows[0]}", "  \\midrule", *(f"  {row}" for row in rows[1:]), "  \\bottomrule"]
        caption = latex(f"{self.title}. {self.note}".strip(), known)
        parts = ["\\begin{table}", f"  \\caption{{{caption}}}", f"  \\begin{{tabular}}{{{align}}}", *body]
        return "\n".join([*parts, "  \\end{tabular}", "\\end{table}", ""])

    def write(self, folder: Path, known: Sequence[str] = ()) -> None:
        self.frame.to_csv(folder / f"{self.name}.csv", index=False, float_format="%.9g")
        (folder / f"{self.name}.tex").write_text(self.latex(known), encoding="utf-8")


LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "−": "$-$", "–": "--", **{letter: f"${name}$" for letter, name in GREEK.items()},
    "≥": "$\\geq$", "≤": "$\\leq$", "×": "$\\times$", "∞": "$\\infty$",
}  # fmt: skip


def latex(text: str, known: Sequence[str] = ()) -> str:
    """Plain text as LaTeX, its symbols (those `known` of a law too) in math mode."""
    parts = symbol_pattern(known).split(text)  # every second one is a symbol
    return "".join(latex_symbol(part) if i % 2 else latex_text(part) for i, part in enumerate(parts))


def latex_text(text: str) -> str:
    text = "".join(LATEX.get(character, character) for character in text)
    return re.sub("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda m: f"$^{{{m[0].translate(SUPERSCRIPTS)}}}$", text)


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
