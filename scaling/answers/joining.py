"""Parts of an answer cut apart and put together: splitting outside brackets, lists, unions, sets of numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from scaling.answers import regions
from scaling.answers.regions import REALS, End, Piece
from scaling.answers.shapes import Assigned, Named, Quantity, Region, Several, Shape, Text, value_of


def split(text: str, pattern: re.Pattern[str]) -> list[str]:
    """Parts of a text between matches that stand in no bracket."""
    parts, start, depth, place = [], 0, 0, 0
    while place < len(text):
        match = pattern.match(text, place) if depth <= 0 else None
        if match is not None and match.end() > place:
            parts.append(text[start:place])
            start = place = match.end()
            continue
        depth += text.startswith("\\begin", place) - text.startswith("\\end", place)
        escaped = text[place] == "\\" and place + 1 < len(text) and not text[place + 1].isalpha()
        place += escaped
        depth += (text[place] in "([{") - (text[place] in ")]}")
        place += 1
    return [*parts, text[start:]]


def blank(part: str) -> bool:
    return not part.strip(" ‹›")


def rejoined(part: str) -> str:
    """A part whose mark of text was cut: `1‹ ` and ` ›2` are 1 and 2."""
    opened, closed = part.rfind("‹"), part.find("›")
    if opened >= 0 and "›" not in part[opened:]:
        part = part[:opened] + " " + part[opened + 1 :]
        closed = part.find("›")
    if closed >= 0 and "‹" not in part[:closed]:
        part = part[:closed] + " " + part[closed + 1 :]
    return part.strip()


def whole(text: str) -> bool:
    """Whether the first bracket closes with the last sign."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth == 0:
            return place == len(text) - 1
    return False


# ---------------------------------------------------------------- together


def union(shapes: list[Shape]) -> Shape:
    if all(isinstance(shape, Region) for shape in shapes):
        names = {shape.name for shape in shapes if isinstance(shape, Region)}
        if len(names - {""}) <= 1:
            pieces = tuple(piece for shape in shapes if isinstance(shape, Region) for piece in shape.pieces)
            return Region(max(names), regions.canonical(pieces))
    sets = [as_region(shape) for shape in shapes]
    bounded = [
        isinstance(shape, Several) and (shape.ends != "()" or any(isinstance(i, Text) for i in shape.items))
        for shape in shapes
    ]
    if None not in sets and any(bounded):  # intervals, not pairs
        return Region("", regions.canonical(tuple(piece for region in sets if region for piece in region.pieces)))
    return flat(shapes)


def conjunction(shapes: list[Shape]) -> Shape:
    if all(isinstance(shape, Region) for shape in shapes):
        pieces, names = REALS, set()
        for shape in shapes:
            if isinstance(shape, Region):
                pieces, names = regions.intersection(pieces, shape.pieces), names | {shape.name}
        if len(names - {""}) <= 1 and "" not in names:
            return Region(max(names), pieces) if pieces else union(shapes)
        return Several("list", tuple(shapes))
    return assigned(shapes) or flat(shapes)


def assigned(shapes: list[Shape]) -> Assigned | None:
    """Values of as many different names, where all shapes are that."""
    named = [shape for shape in shapes if isinstance(shape, Named)]
    every = len(named) == len(shapes) and len({shape.name for shape in named}) == len(named)
    return Assigned(tuple(named)) if every else None


def items_of(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    """The shapes, and in place of a list what it holds."""
    return tuple(
        item
        for shape in shapes
        for item in (shape.items if isinstance(shape, Several) and shape.kind == "list" else (shape,))
    )


def flat(shapes: list[Shape]) -> Shape:
    """One list of them: x = 1, x = 4 is 1 and 4, and n = 3, 4, 5 is three values of n."""
    named = [shape for shape in shapes if isinstance(shape, Named)]
    names = {shape.name for shape in named}
    if len(names) == 1 and isinstance(shapes[0], Named) and all(shape.equation is None for shape in named):
        return Named(names.pop(), Several("list", items_of(map(value_of, shapes))))
    return Several("list", items_of(shapes))


def as_region(shape: Shape) -> Region | None:
    """A shape as a set of numbers, where it is one: (2, 5] and {1, 2} as well."""
    if isinstance(shape, Region):
        return shape
    if isinstance(shape, Several) and shape.kind == "set" and all(isinstance(item, Quantity) for item in shape.items):
        return Region("", tuple(regions.point(item.tree) for item in shape.items if isinstance(item, Quantity)))
    if not isinstance(shape, Several) or shape.kind != "tuple" or len(shape.items) != 2 or "tuple" in shape.ends:
        return None
    found = []
    for item, bracket, side in zip(shape.items, shape.ends, ("-infinity", "infinity"), strict=True):
        if isinstance(item, Quantity):
            found.append(End(item.tree, bracket in "[]"))
        elif item == Text(side):
            found.append(regions.OPEN)
        else:
            return None
    return Region("", (Piece(*found),))
