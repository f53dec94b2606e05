"""Conditions such as `num_params <= 32e9 and algorithm == grpo`: one grammar for `--where` and for a study's blocks.

    condition    comparison | not condition | condition and condition | condition or condition | (condition)
    comparison   operand == operand, likewise != < <= > >=, and several in a row: 1e9 < num_params < 8e9
                 name in [value, ...], name not in [value, ...]
    operand      name | value
    value        number | 'text' | word | true | false | null

A name is a column of a table or a field of a block, dotted or not. A word without quotes is a name wherever there is
one of that name, else text; in a list it is always text. A condition is read by Python's own parser and only its syntax
tree is walked: nothing is ever evaluated as code. `Condition.holds` says what a comparison means for one row of values,
`analysis/curves/where.py` what it means for a table.
"""

from __future__ import annotations

import ast
import operator
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

from scaling.schema import InputError, clip

Value = bool | int | float | str | None
CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}
ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"==": operator.eq, "!=": operator.ne, **ORDERS}
SIGNS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.In: "in",
    ast.NotIn: "not in",
}  # fmt: skip
MOST_LEVELS = 50
TOKEN = re.compile(
    r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""  # text in quotes
    r"|(?:[~.]{0,2}/)?\w(?:[\w.+/:-]*\w)?"  # a word: step, 5e-4, qwen2.5-0.5b, ./data/train.jsonl
)
NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
FORM = "`field == value` (or != < <= > >= in)"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Word:
    """A word without quotes, not in a list: the name of a column or field where there is one, else a value."""

    text: str

    @property
    def value(self) -> Value:
        return CONSTANTS.get(self.text.lower(), self.text)


Operand = Word | Value | tuple[Value, ...]


def value_of(operand: Operand) -> Value | tuple[Value, ...]:
    """What an operand is worth where it names nothing."""
    return operand.value if isinstance(operand, Word) else operand


@dataclass(frozen=True)
class Comparison:
    left: Operand
    sign: str  # a key of OPERATORS, "in" or "not in"
    right: Operand  # a tuple only after "in" and "not in"


@dataclass(frozen=True)
class Not:
    part: Node


@dataclass(frozen=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    parts: tuple[Node, ...]


Node = Comparison | Not | And | Or


@dataclass(frozen=True)
class Setting:
    """What the errors of a condition say of the place where it stands."""

    place: str  # `where`, `study.yaml: main.where`
    noun: str  # what a name is there: column, field
    example: str  # a condition that is legal there

    def refusal(self, text: str, what: str) -> InputError:
        return InputError(f"{self.place}: {what} in {clip(text)!r}; write e.g. {self.example}.")


@dataclass(frozen=True)
class Condition:
    """A condition that was read."""

    text: str  # as written
    setting: Setting
    tree: Node

    def refusal(self, what: str) -> InputError:
        """The error that says what is wrong with it."""
        return self.setting.refusal(self.text, what)

    def comparisons(self) -> list[Comparison]:
        """Every comparison in it, from left to right."""
        return list(_comparisons(self.tree))

    def words(self) -> list[str]:
        """Every word in place of an operand: names, and text without quotes."""
        return [side.text for c in self.comparisons() for side in (c.left, c.right) if isinstance(side, Word)]

    def evaluate(self, test: Callable[[Comparison], Result]) -> Result:
        """Join what `test` says of each comparison: a bool, or an array of bools."""

        def join(node: Node) -> Any:
            match node:
                case Comparison():
                    return test(node)
                case Not(part):
                    return operator.xor(join(part), True)  # `not`, for arrays too
                case And(parts):
                    return reduce(operator.and_, map(join, parts))
                case Or(parts):
                    return reduce(operator.or_, map(join, parts))

        return join(self.tree)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds for one row of values by name. Null is a value like any other: it equals only null.

        Raises InputError where a comparison asks which of two values is larger that have no order.
        """

        def test(comparison: Comparison) -> bool:
            left, right = (
                values[side.text] if isinstance(side, Word) and side.text in values else value_of(side)
                for side in (comparison.left, comparison.right)
            )
            if comparison.sign in ("in", "not in"):
                return (left in (right if isinstance(right, tuple) else (right,))) is (comparison.sign == "in")
            try:
                return bool(OPERATORS[comparison.sign](left, right))
            except TypeError:
                raise self.refusal(f"{clip(repr(left))} and {clip(repr(right))} have no order") from None

        return self.evaluate(test)


def parse(text: str, setting: Setting) -> Condition:
    """Read a condition. Raises InputError for what is none, or is nested so deep that no one wrote it."""
    one_line = text.replace("\n", " ").strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about text that looks odd as code
            tree = ast.parse(TOKEN.sub(_quoted, one_line), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    level = [] if tree is None else [tree]
    for _ in range(MOST_LEVELS):
        level = [below for node in level for below in ast.iter_child_nodes(node)]
    if tree is None or level or "#" in TOKEN.sub("", one_line):  # a comment would hide what stands behind it
        again = " Equality is ==." if re.search(r"(?<![=!<>])=(?!=)", text) else ""
        raise InputError(
            f"{setting.place}: {clip(text)!r} is not a condition, that is {FORM}, joined by and, or, not; write e.g. "
            f"{setting.example}.{again} Text that is no plain word needs quotes."
        )
    return Condition(text, setting, _Reader(text, setting).node(tree))


def _quoted(token: re.Match[str]) -> str:
    """Put quotes around a word that Python would not take for one word, such as qwen2.5-0.5b or 5d3cb9ce15b4."""
    word = token[0]
    if token[1] or NAME.fullmatch(word) or not re.search(r"[^\W\d]", word):
        return word
    try:
        float(word)
    except ValueError:
        return repr(word)
    return word


def _comparisons(node: Node) -> Iterator[Comparison]:
    match node:
        case Comparison():
            yield node
        case Not(part):
            yield from _comparisons(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from _comparisons(part)


@dataclass(frozen=True)
class _Reader:
    """From Python's syntax tree to ours."""

    text: str
    setting: Setting

    def fail(self, what: str) -> InputError:
        return self.setting.refusal(self.text, what)

    def node(self, tree: ast.expr) -> Node:
        match tree:
            case ast.BoolOp(op=sign, values=values):
                parts = tuple(map(self.node, values))
                return And(parts) if isinstance(sign, ast.And) else Or(parts)
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return Not(self.node(part))
            case ast.Compare(left=first, ops=signs, comparators=others):
                sides = [first, *others]
                pairs = tuple(self.comparison(sides[i], sign, sides[i + 1]) for i, sign in enumerate(signs))
                return pairs[0] if len(pairs) == 1 else And(pairs)
        raise self.fail(f"{clip(ast.unparse(tree))!r} is not a comparison: it is not of the form {FORM},")

    def comparison(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> Comparison:
        if not any(isinstance(side, ast.Name | ast.Attribute) for side in (left, right)):
            raise self.fail(f"a comparison without a {self.setting.noun}")
        if type(sign) not in SIGNS:
            raise self.fail("`is` is not legal")
        made = Comparison(self.operand(left), SIGNS[type(sign)], self.operand(right))
        if isinstance(made.left, tuple) or (isinstance(made.right, tuple) and made.sign in OPERATORS):
            raise self.fail("a list that does not stand behind `in`")
        return made

    def operand(self, tree: ast.expr) -> Operand:
        match tree:
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return tuple(self.item(item) for item in items)
            case ast.Name() | ast.Attribute() if NAME.fullmatch(word := ast.unparse(tree)):
                return Word(word)
            case ast.Constant(value=int() as value) if value > sys.float_info.max:
                raise self.fail(f"{clip(str(value))} is larger than any number that is compared here")
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return value
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=part):
                number = self.operand(part)
                if isinstance(number, int | float) and not isinstance(number, bool):
                    return -number if isinstance(sign, ast.USub) else number
        raise self.fail(f"{clip(ast.unparse(tree))!r} is neither a {self.setting.noun} nor a value")

    def item(self, tree: ast.expr) -> Value:
        """One value of a list; a word is text there."""
        value = value_of(self.operand(tree))
        if isinstance(value, tuple):
            raise self.fail(f"{clip(ast.unparse(tree))!r} is a list in a list")
        return value
