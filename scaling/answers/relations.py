"""What stands on the two sides of a relation: names, chains of equations, bounds."""

from __future__ import annotations

import re
from itertools import pairwise

from scaling.answers import UnreadableError, regions, single
from scaling.answers.expressions import FUNCTIONS, GREEK, Tree, parse, variables
from scaling.answers.normalise import words
from scaling.answers.regions import End, Piece
from scaling.answers.shapes import Either, Nonsense, Quantity, Region, Relation, Shape

_NAME = re.compile(
    r"(?:\\?(?P<greek>[A-Za-z]+)|[A-Za-z])(?:_(?:\{[^{}]*\}|\w))?'*(?:\^\{?-1\}?)?'*(?:\([^()]*\))?"
    r"|\\frac ?\{d\^?\d?[a-zA-Z]?\}\{d[a-z](?:\^\d)?\}(?:\([^()]*\))?"
    r"|\\angle [A-Z ]+°?|m\\angle [A-Z ]+"
    r"|\|(?:[A-Z]{1,4}|z)\||\|?(?:\\(?:overline|vec|overrightarrow|hat|bar) ?\{?)[A-Za-z]{1,4}\}?\|?|[A-Z]{2,4}"
)


def plain(name: str) -> str:
    return re.sub(r"[‹›{}\s\\]", "", name)


def name_of(side: str) -> str | None:
    """The name that a side is: a variable, f(x), an angle or words; None for an expression."""
    side = side.strip()
    if side.startswith("(") and side.endswith(")"):
        names = side[1:-1].split(",")
        if len(names) > 1 and all(name_of(name) for name in names):
            return f"({','.join(map(plain, names))})"
    match = _NAME.fullmatch(side)
    if match is not None:
        greek = match.group("greek")
        if greek is None or len(greek) == 1 or greek in GREEK or (greek.isupper() and len(greek) < 5):
            return None if plain(side) in ("e", "i", "π") else plain(side)
        if greek in FUNCTIONS or greek in ("frac", "sqrt", "pi", "binom", "emptyset", "infty", "reals"):
            return None
    said = words(side)
    if re.fullmatch(r"[a-z一-鿿][a-z一-鿿' -]*", said) and (len(said) > 3 or "‹" in side) and "\\" not in side:
        return f"~{said}" if said not in FUNCTIONS else None
    return None


def letters(text: str) -> bool:
    return re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", text)) is not None


def chained(values: list[Shape], signs: list[str]) -> Shape:
    """The value of 14/2 = 7 or 22/7 = 3.14...; Nonsense where its sides differ."""
    for (left, right), sign in zip(pairwise(values), signs, strict=True):
        if isinstance(left, Quantity) and isinstance(right, Quantity):
            holds = single.same_amount(left, right) or (sign == "approx" and single.rounds_to(left, right))
        else:
            holds = left == right
        if not holds:
            return Nonsense("an equation that does not hold")
    return Either((values[signs.index("approx")], values[-1])) if "approx" in signs else values[-1]


_FLIPPED = {"<": ">", ">": "<", "le": "ge", "ge": "le", "ne": "ne"}


def inequality(sides: list[str], signs: list[str]) -> Shape:
    try:
        trees = [None if re.fullmatch(r"[-+]?\s*\\infty", side) else _tree_of(side) for side in sides]
    except UnreadableError:
        return Nonsense("a bound that is not read")
    for place, side in enumerate(sides):
        if re.fullmatch(r"[A-Za-z]'*\([a-z]\)", plain(side)):  # the values of a function
            trees[place] = ("variable", plain(side))
    if not any(tree is not None and variables(tree) for tree in trees):
        return Nonsense("an inequality of numbers")
    if len(trees) == 3 and "ne" not in signs and (trees[1] or ("",))[0] == "variable":
        low, high = (trees[0], signs[0]), (trees[2], signs[1])
        if signs[0] in (">", "ge") and signs[1] in (">", "ge"):
            low, high = (trees[2], _FLIPPED[signs[1]]), (trees[0], _FLIPPED[signs[0]])
        elif not (signs[0] in ("<", "le") and signs[1] in ("<", "le")):
            return Nonsense("bounds of both ways")
        piece = Piece(
            End(low[0], low[0] is not None and low[1] == "le"), End(high[0], high[0] is not None and high[1] == "le")
        )
        return Region(plain(sides[1]), (piece,))
    if len(trees) != 2:
        return Nonsense("a chain of inequalities")
    left, right = trees
    if left is None or right is None:
        return Nonsense("a bound at infinity")
    sign = signs[0]
    if left[0] != "variable" and right[0] == "variable":
        left, right, sign, sides = right, left, _FLIPPED[sign], sides[::-1]
    if left[0] == "variable" and left[1] not in variables(right):
        name, end = plain(sides[0]), End(right, sign in ("le", "ge"))
        if sign == "ne":
            return Region(name, (Piece(regions.OPEN, End(right, False)), Piece(End(right, False), regions.OPEN)))
        return Region(name, (Piece(regions.OPEN, end) if sign in ("<", "le") else Piece(end, regions.OPEN),))
    if left[:2] == ("call", "abs") and left[2][0] == "variable" and sign != "ne" and not variables(right):
        inside = sign in ("<", "le")  # |x| < 2 is -2 < x < 2
        closed = sign in ("le", ">")  # of -2 to 2, which is left out by |x| > 2
        piece = Piece(End(("-", right), closed), End(right, closed))
        return Region(left[2][1], (piece,) if inside else regions.complement((piece,)))
    if sign in (">", "ge"):
        left, right, sign = right, left, _FLIPPED[sign]
    return Relation({"<": "<", "le": "<=", "ne": "!="}[sign], left, right)


def _tree_of(side: str) -> Tree:
    amount = single.quantity(side)
    return amount.tree if isinstance(amount, Quantity) else parse(side)
