"""What a page is written with: numbers as words, and tables that are shown, saved as CSV and set in LaTeX alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures import Frame, number, short_number

AXES = {
    "train_flops": "training compute",
    "prompts_seen": "prompts seen",
    "total_flops": "total compute",
    "step": "steps",
}

# ---------------------------------------------------------------- numbers as words


def amount(value: float) -> str:
    """A number of at most three digits: .043, 1.25, 17.4, 482."""
    if abs(value) < 1:
        return number(value)
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return number(value, digits)


def interval(ends: Sequence[float | None] | None, show: Callable[[float], str] = amount) -> str:
    """`[.02, .05]`; an open end is said in words, a missing interval too."""
    if ends is None:
        return "no interval"
    low, high = ends
    if low is None and high is None:
        return "no bounds"
    return f"[{'no lower bound' if low is None else show(low)}, {'no upper bound' if high is None else show(high)}]"


def parameter(value: Mapping[str, Any]) -> str:
    """A value of a fit with its interval, or that it is not identified; never the value alone."""
    show = show_of(value)
    return f"{show(value['value'])} {interval(value['ci95'], show)}" if value["identified"] else "not identified"


def show_of(value: Mapping[str, Any]) -> Callable[[float], str]:
    return short_number if value["unit"] == "parameters" else amount


def contains_zero(ends: Sequence[float | None] | None) -> bool:
    return ends is not None and (ends[0] is None or ends[0] <= 0) and (ends[1] is None or ends[1] >= 0)


def span(values: Sequence[float], show: Callable[[float], str] = amount) -> str:
    """`.21–.28`, or the one value where all are shown alike."""
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low}–{high}"


def whole(value: float) -> str:
    return f"{value:,.0f}"


def blank(show: Callable[[Any], str]) -> Callable[[Any], str]:
    """Missing values as a dash."""
    return lambda value: "–" if value is None or (isinstance(value, float) and np.isnan(value)) else show(value)


AXIS_SHORT = {"train_flops": "C", "prompts_seen": "D"}


# ---------------------------------------------------------------- tables


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


def as_sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
