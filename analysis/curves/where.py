"""The row filter: the conditions that `where` takes, such as `num_params <= 32e9 and algorithm == grpo`.

A condition is read by Python's own parser, and only its syntax tree is walked: nothing is ever evaluated as code.
"""

from __future__ import annotations

import ast
import operator
from typing import Any

import numpy as np
import pandas as pd

from scaling.schema import InputError, did_you_mean

# ---------------------------------------------------------------- the row filter

OPERATORS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
MOST_LEVELS = 50
EXAMPLE = "write e.g. num_params <= 32e9 and algorithm == grpo"


def _clip(text: str, most: int = 120) -> str:
    """What was given, cut where it would fill the screen."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _parse(expression: str) -> ast.expr:
    """The syntax tree of a condition. Raises InputError for what is none, or is nested so deep that no one wrote it."""
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    level = [] if tree is None else [tree]
    for _ in range(MOST_LEVELS):
        level = [below for node in level for below in ast.iter_child_nodes(node)]
    if tree is None or level:
        again = " Equality is ==." if "=" in expression and "==" not in expression else ""
        raise InputError(
            f"where: {_clip(expression)!r} is not a condition; {EXAMPLE}.{again} "
            "Text that is no plain word needs quotes."
        )
    return tree


def _filter(table: pd.DataFrame, expression: str) -> tuple[np.ndarray, str]:
    """(mask of the rows to keep, a hint for the case that it keeps none). Only the syntax tree is walked: no eval."""
    tree = _parse(expression)
    hints: list[str] = []

    def fail(what: str) -> InputError:
        return InputError(f"where: {what} in {_clip(expression)!r}; {EXAMPLE}.")

    def column(node: ast.expr) -> pd.Series | None:
        name = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else None
        return table[name] if name is not None and name in table else None

    def literal(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | bool):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = literal(node.operand)
            if isinstance(value, int | float):
                return -value
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return [literal(item) for item in node.elts]
        if isinstance(node, ast.Name | ast.Attribute):
            word = ast.unparse(node)
            return {"true": True, "false": False}.get(word.lower(), word)
        raise fail(f"{_clip(ast.unparse(node))!r} is neither a column nor a value")

    def fitting(values: pd.Series, given: Any) -> Any:
        """`given` as the column's type; a number is never compared with text."""
        kinds = pd.api.types
        if isinstance(given, list):
            if any(isinstance(item, list) for item in given):
                raise fail(f"{given!r} is a list of lists")
            return [fitting(values, item) for item in given]
        if kinds.is_bool_dtype(values):
            good = isinstance(given, bool)
        elif kinds.is_numeric_dtype(values):
            good = isinstance(given, int | float) and not isinstance(given, bool)
        else:
            words = sorted({str(value) for value in values.dropna()})
            if str(given) not in words:
                hints.append(f" {values.name} is one of {', '.join(words[:12])}.{did_you_mean(str(given), words)}")
            return str(given)
        if not good:
            raise fail(f"{given!r} cannot be compared with column {values.name}, which holds {values.dtype} values,")
        return given

    def compare(left: ast.expr, sign: ast.cmpop, right: ast.expr) -> np.ndarray:
        values, other = column(left), column(right)
        if values is None and other is None:
            word = next((ast.unparse(n) for n in (left, right) if isinstance(n, ast.Name | ast.Attribute)), None)
            if word is None:
                raise fail("a comparison without a column")
            raise InputError(
                f"where: {word!r} is not a column; there are: {', '.join(table.columns)}."
                f"{did_you_mean(word, table.columns)}"
            )
        if isinstance(sign, ast.In | ast.NotIn):
            if values is None:
                raise fail("`in` wants a column on its left")
            given = literal(right)
            given = fitting(values, given if isinstance(given, list) else [given])
            inside = values.isin(given)
            return (inside if isinstance(sign, ast.In) else ~inside & values.notna()).to_numpy(bool)
        if type(sign) not in OPERATORS:
            raise fail("`is` is not legal")
        a = values if values is not None else fitting(other, literal(left))  # type: ignore[arg-type]
        b = other if other is not None else fitting(values, literal(right))  # type: ignore[arg-type]
        if not isinstance(sign, ast.Eq | ast.NotEq) and (isinstance(a, str) or isinstance(b, str)):
            raise fail("text has no order: use == or != or `in`,")
        known = np.ones(len(table), bool)
        for side in (a, b):
            if isinstance(side, pd.Series):
                known &= side.notna().to_numpy()
        try:
            return np.asarray(OPERATORS[type(sign)](a, b), bool) & known
        except TypeError:
            raise fail("columns of different kinds are compared") from None

    def walk(node: ast.expr) -> np.ndarray:
        if isinstance(node, ast.BoolOp):
            parts = [walk(value) for value in node.values]
            return np.logical_and.reduce(parts) if isinstance(node.op, ast.And) else np.logical_or.reduce(parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~walk(node.operand)
        if isinstance(node, ast.Compare):
            items = [node.left, *node.comparators]
            return np.logical_and.reduce([compare(items[i], op, items[i + 1]) for i, op in enumerate(node.ops)])
        raise fail(f"{_clip(ast.unparse(node))!r} is not a comparison")

    mask = walk(tree)
    return mask, hints[0] if hints else ""
