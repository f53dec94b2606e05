"""The row filter: which rows of a table a condition of `scaling/where.py` keeps.

A comparison with a blank cell is false; `column == null` finds the blank cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from scaling.schema import InputError, did_you_mean
from scaling.where import OPERATORS, ORDERS, Comparison, Condition, Operand, Setting, Value, Word, parse, value_of

SETTING = Setting("where", "column", "num_params <= 32e9 and algorithm == grpo")
Column = Any  # a pandas Series: its type stubs know too little of what it holds


def read_condition(expression: str) -> Condition:
    """The condition that `--where` or a study's `analysis.where` gives. Raises InputError."""
    return parse(expression, SETTING)


def both(first: str | None, second: str | None) -> str | None:
    """The condition that holds where two hold, each in brackets so that its `or` stays its own; None for no condition.

    Each is read on its own before: brackets that one leaves open never close in the other. Raises InputError.
    """
    given = [text for text in (first, second) if text is not None]
    if len(given) < 2 or first == second:
        return given[0] if given else None
    return " and ".join(f"({read_condition(text).text})" for text in given)


def filter_rows(table: pd.DataFrame, expression: str) -> tuple[np.ndarray, str]:
    """(mask of the rows to keep, a hint for the case that it keeps none). Raises InputError."""
    condition = read_condition(expression)
    rows = _Rows(table, condition)
    mask = condition.evaluate(rows.compare)
    return mask, rows.hints[0] if rows.hints else ""


@dataclass
class _Rows:
    """A table on which one condition is tried."""

    table: pd.DataFrame
    condition: Condition
    hints: list[str] = field(default_factory=list)  # what a column of text holds in place of what was asked for

    def compare(self, comparison: Comparison) -> np.ndarray:
        """For which rows a comparison holds."""
        left, sign, right = self.column(comparison.left), comparison.sign, self.column(comparison.right)
        column = left if left is not None else right
        if column is None:
            word = next(side.text for side in (comparison.left, comparison.right) if isinstance(side, Word))
            raise InputError(
                f"where: {word!r} is not a column; there are: {', '.join(self.table.columns)}."
                f"{did_you_mean(word, self.table.columns)}"
            )
        if sign in ("in", "not in"):
            if left is None:
                raise self.condition.refusal("`in` wants a column on its left")
            inside = self.inside(left, value_of(comparison.right))
            return inside if sign == "in" else ~inside & left.notna().to_numpy()
        left = self.fitting(column, value_of(comparison.left)) if left is None else left
        right = self.fitting(column, value_of(comparison.right)) if right is None else right
        if left is None or right is None:
            if sign in ORDERS:
                raise self.condition.refusal("null has no order: use == or !=,")
            return (column.isna() if sign == "==" else column.notna()).to_numpy()
        if sign in ORDERS and (isinstance(left, str) or isinstance(right, str)):
            raise self.condition.refusal("text has no order: use == or != or `in`,")
        filled = np.logical_and.reduce([s.notna() for s in (left, right) if isinstance(s, pd.Series)])
        try:
            return np.asarray(OPERATORS[sign](left, right), bool) & filled
        except TypeError:
            raise self.condition.refusal("columns of different kinds are compared") from None

    def column(self, operand: Operand) -> Column | None:
        return self.table[operand.text] if isinstance(operand, Word) and operand.text in self.table else None

    def inside(self, column: Column, given: Value | tuple[Value, ...]) -> np.ndarray:
        """For which rows a column holds one of some values; null among them stands for the blank cells."""
        values = [self.fitting(column, value) for value in (given if isinstance(given, tuple) else (given,))]
        inside = np.asarray(column.isin([value for value in values if value is not None]), bool)
        return np.logical_or(inside, column.isna().to_numpy()) if None in values else inside

    def fitting(self, column: Column, given: Any) -> Value:
        """`given` as the column's type; a number is never compared with text."""
        kinds = pd.api.types
        if given is None:
            return None
        if kinds.is_bool_dtype(column):
            fits = isinstance(given, bool)
        elif kinds.is_numeric_dtype(column):
            fits = isinstance(given, int | float) and not isinstance(given, bool)
        else:
            words = sorted({str(value) for value in column.dropna()})
            if str(given) not in words:
                self.hints.append(f" {column.name} is one of {', '.join(words[:12])}.{did_you_mean(str(given), words)}")
            return str(given)
        if not fits:
            raise self.condition.refusal(
                f"{given!r} cannot be compared with column {column.name}, which holds {column.dtype} values,"
            )
        return given
