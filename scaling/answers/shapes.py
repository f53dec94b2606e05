"""What an answer can be, after reading."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from scaling.answers.expressions import Tree
from scaling.answers.regions import Pieces
from scaling.answers.units import NO_UNIT, Unit


class Text(NamedTuple):
    """Words, compared as words."""

    words: str


class Quantity(NamedTuple):
    """An expression with its unit. `places`: decimals of a number that is written with a point, else None."""

    tree: Tree
    unit: Unit = NO_UNIT
    places: int | None = None


class Several(NamedTuple):
    """`kind`: list (bare, or joined by `or`), set (in braces), tuple (in brackets, `ends`), ratio, matrix (of rows)."""

    kind: str
    items: tuple[Shape, ...]
    ends: str = ""


class Region(NamedTuple):
    """Numbers between bounds; `name` of the variable that is said to lie there, or "" """

    name: str
    pieces: Pieces


class Named(NamedTuple):
    """x = 3, f(x) = x + 1, Area = 5. `equation`: both sides where the value holds variables."""

    name: str
    value: Shape
    equation: tuple[Tree, Tree] | None = None


class Assigned(NamedTuple):
    """a = 1, b = 2, in order."""

    values: tuple[Named, ...]


class Relation(NamedTuple):
    """An equation, or an inequality in several variables; `sign` is =, < or <=, and left is the lesser side."""

    sign: str
    left: Tree
    right: Tree


class Either(NamedTuple):
    """Exact and rounded, 22/7 = 3.142857...: right where one of them is."""

    readings: tuple[Shape, ...]


class Clock(NamedTuple):
    """A time of day in minutes; `half` am, pm or "" where it is not said."""

    minutes: int
    half: str


class Nonsense(NamedTuple):
    """What is read and cannot be right: 8 = 7, a bound of nothing."""

    why: str


Shape = Text | Quantity | Several | Region | Named | Assigned | Relation | Either | Clock | Nonsense


def number(value: int | Fraction) -> Tree:
    """The tree of a number."""
    return ("number", Fraction(value))


def value_of(shape: Shape) -> Shape:
    """What is said of a name; any other shape itself."""
    return shape.value if isinstance(shape, Named) else shape
