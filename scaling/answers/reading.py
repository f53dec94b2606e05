r"""Answers read into shapes: lists, relations, intervals, quantities with units, times, words."""

from __future__ import annotations

import re
from itertools import pairwise

from scaling.answers import UnreadableError, regions, single
from scaling.answers.arithmetic import equal
from scaling.answers.expressions import FUNCTIONS, GREEK, Tree, parse, variables
from scaling.answers.normalise import words
from scaling.answers.regions import REALS, End, Piece
from scaling.answers.shapes import (
    Assigned,
    Either,
    Named,
    Nonsense,
    Quantity,
    Region,
    Relation,
    Several,
    Shape,
    Text,
)

DEPTH = 24
_OR = re.compile(r"(?<![A-Za-z\\])(?:or|\|\|)(?![A-Za-z])|或者?", re.IGNORECASE)
_AND = re.compile(r"(?<![A-Za-z\\])(?:and|where)(?![A-Za-z])|和|且|与|及", re.IGNORECASE)
_RELATION = re.compile(r"\\(le|ge|ne|in|notin|approx|sim|equiv|to|cong|subset|subseteq)(?![A-Za-z])|[=<>]")
_RATIO = re.compile(":")
_MATRIX = re.compile(
    r"\\begin\s*\{([pbBvV]?matrix|smallmatrix|array)\}(?:\s*\{[clr|\s]*\})?(.*)\\end\s*\{\1\}", re.DOTALL
)
_NAME = re.compile(
    r"(?:\\?(?P<greek>[A-Za-z]+)|[A-Za-z])(?:_(?:\{[^{}]*\}|\w))?'*(?:\^\{?-1\}?)?'*(?:\([^()]*\))?"
    r"|\\frac ?\{d\^?\d?[a-zA-Z]?\}\{d[a-z](?:\^\d)?\}(?:\([^()]*\))?"
    r"|\\angle [A-Z ]+°?|m\\angle [A-Z ]+|\|?(?:\\(?:overline|vec|overrightarrow|hat|bar) ?\{?)?[A-Za-z]{1,4}\}?\|?|S_\{[^{}]*\}"
)


def read(text: str, depth: int = 0) -> Shape:
    """The shape of a normalised answer. Text where it is nothing else. Raises TooLargeError."""
    if depth > DEPTH:
        raise UnreadableError("too deeply nested")
    text = text.strip()
    if text[:1] == "‹" and text[-1:] == "›" and text.count("‹") == 1 and re.search(r"[\d=<>,]", text):
        text = text[1:-1].strip()
    french = re.fullmatch(r"([\[\]])([^\[\](){}]*)[,;]([^\[\](){}]*)([\[\]])", text)
    if french is not None and (french[1] == "]" or french[4] == "["):  # ]2,5[ is (2,5)
        text = f"{'(' if french[1] == ']' else '['}{french[2]},{french[3]}{')' if french[4] == '[' else ']'}"
    for reader in (_matrix, _listed, _plus_minus, _related, _bracketed, _joined, _ratio, _single):
        found = reader(text, depth)
        if found is not None:
            return found
    return single.spoken(text)


def _single(text: str, depth: int) -> Shape | None:
    return single.clock(text) or single.date(text) or single.quantity(text)


def _plus_minus(text: str, depth: int) -> Shape | None:
    if "\\pm" not in text and "\\mp" not in text:
        return None
    one, other = (
        text.replace("\\pm", upper).replace("\\mp", lower) for upper, lower in ((" + ", " - "), (" - ", " + "))
    )
    return _flat([read(one, depth + 1), read(other, depth + 1)])


def _ratio(text: str, depth: int) -> Shape | None:
    parts = split(text, _RATIO)
    if len(parts) < 2 or single.clock(text) is not None:
        return None
    found = [single.quantity(part.strip()) for part in parts]
    items = tuple(item for item in found if isinstance(item, Quantity))
    return Several("ratio", items) if len(items) == len(parts) else None


def _matrix(text: str, depth: int) -> Shape | None:
    cases = re.fullmatch(r"\\begin\s*\{(cases|aligned|gathered)\}(.*)\\end\s*\{\1\}", text, re.DOTALL)
    if cases is not None and "&" not in cases.group(2).replace("&=", "="):
        return read(cases.group(2).replace("&=", "="), depth + 1)
    match = _MATRIX.fullmatch(text)
    if match is None or "\\begin" in match.group(2):
        return None
    rows = [row.split("&") for row in re.split(r"\\\\(?:\[[^\]]*\])?", match.group(2)) if not _blank(row)]
    if len({len(row) for row in rows}) != 1 or sum(map(len, rows)) > 64:
        return None
    kind = "determinant" if match.group(1) in ("vmatrix", "Vmatrix") else "matrix"
    return Several(kind, tuple(Several("row", tuple(read(cell, depth + 1) for cell in row)) for row in rows))


# ---------------------------------------------------------------- splitting


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


_COMMA = re.compile(r"[,;]|\\\\(?![A-Za-z])|\n")


def _listed(text: str, depth: int) -> Shape | None:
    either = [part.strip(" ,;‹›") if _blank(part) else part.strip(" ,;") for part in split(text.replace("›‹", "› ‹"), _OR)]
    if len(either) > 1:
        shapes = [read(_rejoined(part), depth + 1) for part in either if not _blank(part)]
        if len(shapes) != len(either) or not shapes:
            return Nonsense("or of nothing")
        return _union(shapes)
    parts = [part for commas in split(text, _AND) for part in split(commas, _COMMA)]
    if len(parts) < 2:
        return None
    whole = single.compound(text) or single.date(text)
    if whole is not None:
        return whole
    parts = [_rejoined(part) for part in parts if not _blank(part)]
    shapes = [read(part, depth + 1) for part in parts if _INTEGERS.fullmatch(part) is None]
    if not shapes:
        return None
    if len(shapes) == 1:
        return shapes[0]
    return _conjunction(shapes)


# Says of a name that it stands for whole numbers: x = k pi, k in Z.
_INTEGERS = re.compile(
    r"‹?\s*(?:where|for)?\s*›?\s*[a-z]\s*(?:\\in\s*(?:\\mathbb\s*\{?\s*[ZN]\s*\}?|‹?[ZN]›?)|‹?\s*(?:is )?(?:an )?(?:any )?integers?\s*›?)"
    r"(?:\^?[+*])?"
)


def _blank(part: str) -> bool:
    return not part.strip(" ‹›")


def _rejoined(part: str) -> str:
    """A part whose mark of text was cut: `1‹ ` and ` ›2` are 1 and 2."""
    opened, closed = part.rfind("‹"), part.find("›")
    if opened >= 0 and "›" not in part[opened:]:
        part = part[:opened] + " " + part[opened + 1 :]
        closed = part.find("›")
    if closed >= 0 and "‹" not in part[:closed]:
        part = part[:closed] + " " + part[closed + 1 :]
    return part.strip()


def _union(shapes: list[Shape]) -> Shape:
    if all(isinstance(shape, Region) for shape in shapes):
        names = {shape.name for shape in shapes if isinstance(shape, Region)}
        if len(names - {""}) <= 1:
            pieces = tuple(piece for shape in shapes if isinstance(shape, Region) for piece in shape.pieces)
            return Region(max(names), regions.canonical(pieces))
    sets = [as_region(shape) for shape in shapes]
    bounded = [isinstance(shape, Several) and (shape.ends != "()" or any(isinstance(i, Text) for i in shape.items)) for shape in shapes]
    if None not in sets and any(bounded):  # intervals, not pairs
        return Region("", regions.canonical(tuple(piece for region in sets if region for piece in region.pieces)))
    return _flat(shapes)


def _conjunction(shapes: list[Shape]) -> Shape:
    if all(isinstance(shape, Region) for shape in shapes):
        pieces, names = REALS, set()
        for shape in shapes:
            if isinstance(shape, Region):
                pieces, names = regions.intersection(pieces, shape.pieces), names | {shape.name}
        if len(names - {""}) <= 1 and "" not in names:
            return Region(max(names), pieces) if pieces else _union(shapes)
        return Several("list", tuple(shapes))
    named = [shape for shape in shapes if isinstance(shape, Named)]
    if len(named) == len(shapes) and len({shape.name for shape in named}) == len(named):
        return Assigned(tuple(named))
    return _flat(shapes)


def _flat(shapes: list[Shape]) -> Shape:
    """One list of them: x = 1, x = 4 is 1 and 4, and n = 3, 4, 5 is three values of n."""
    named = [shape for shape in shapes if isinstance(shape, Named)]
    names = {shape.name for shape in named}
    if len(names) == 1 and isinstance(shapes[0], Named):
        values = tuple(
            item
            for shape in shapes
            for value in [shape.value if isinstance(shape, Named) else shape]
            for item in (value.items if isinstance(value, Several) and value.kind == "list" else (value,))
        )
        if all(shape.equation is None for shape in named):
            return Named(names.pop(), Several("list", values))
    items = tuple(
        item for shape in shapes for item in (shape.items if isinstance(shape, Several) and shape.kind == "list" else (shape,))
    )
    return Several("list", items)


# ---------------------------------------------------------------- relations


def _related(text: str, depth: int) -> Shape | None:
    sides = split(text, _RELATION)
    if len(sides) < 2:
        return None
    signs = _signs(text, sides)
    sides = [side.strip(" ‹›") if _blank(side) else side.strip() for side in sides]
    if signs == ["approx"] and not sides[0]:
        return read(sides[1], depth + 1)
    if any(not side for side in sides):
        return Nonsense("a relation of nothing")
    if signs[0] in ("in", "notin") and len(signs) == 1:
        return _membership(signs[0], sides, depth)
    if set(signs) <= {"=", "approx", "equiv"}:
        return _equation(sides, signs, depth)
    if set(signs) <= {"<", ">", "le", "ge", "ne"}:
        return _inequality(sides, signs)
    if signs == ["to"]:
        return None
    return None


def _signs(text: str, sides: list[str]) -> list[str]:
    found, place = [], 0
    for side in sides[:-1]:
        match = _RELATION.match(text, place + len(side))
        assert match is not None
        found.append(match.group(1) or match.group())
        place = match.end()
    return found


def _membership(sign: str, sides: list[str], depth: int) -> Shape | None:
    if name_of(sides[0]) is None:
        return Nonsense("a member that is no name")
    inner = read(sides[1], depth + 1)
    region = as_region(inner)
    if sign == "notin":
        return None if region is None else Region(_plain(sides[0]), regions.complement(region.pieces))
    if region is not None and not (isinstance(inner, Several) and inner.kind == "set"):
        return Region(_plain(sides[0]), region.pieces)
    return Named(_plain(sides[0]), inner)


def _plain(name: str) -> str:
    return re.sub(r"[‹›{}\s\\]", "", name)


def name_of(side: str) -> str | None:
    """The name that a side is: a variable, f(x), an angle or words; None for an expression."""
    side = side.strip()
    if side.startswith("(") and side.endswith(")"):
        names = side[1:-1].split(",")
        if len(names) > 1 and all(name_of(name) for name in names):
            return f"({','.join(map(_plain, names))})"
    match = _NAME.fullmatch(side)
    if match is not None:
        greek = match.group("greek")
        if greek is None or len(greek) == 1 or greek in GREEK or (greek.isupper() and len(greek) < 5):
            return None if _plain(side) in ("e", "i", "π") else _plain(side)
        if greek in FUNCTIONS or greek in ("frac", "sqrt", "pi", "binom", "emptyset", "infty", "reals"):
            return None
    plain = words(side)
    if re.fullmatch(r"[a-z一-鿿][a-z一-鿿' -]*", plain) and (len(plain) > 3 or "‹" in side) and "\\" not in side:
        return f"~{plain}" if plain not in FUNCTIONS else None
    return None


def _equation(sides: list[str], signs: list[str], depth: int) -> Shape:
    name = name_of(sides[0])
    if name is None and len(sides) == 2 and signs == ["="] and name_of(sides[1]) and not _letters(sides[0]):
        sides = sides[::-1]
        name = name_of(sides[0])
    if name is None:
        return _nameless(sides, signs, depth)
    while len(sides) > 2 and signs[0] != "approx" and name_of(sides[1]) and _letters(sides[1]):
        sides, signs = [sides[0], *sides[2:]], signs[1:]  # y = f(x) = 2x
    values = [read(side, depth + 1) for side in sides[1:]]
    value = _chained(values, signs[1:])
    if isinstance(value, Nonsense):
        return value
    equation = None
    if isinstance(value, Quantity) and variables(value.tree):
        try:
            left = parse(sides[0])
        except UnreadableError:
            left = None
        if left is not None and len(sides) == 2:
            if variables(left) & variables(value.tree) and left[0] == "variable":
                return Relation("=", left, value.tree)
            equation = (left, value.tree)
    return Named(name, value, equation)


def _letters(text: str) -> bool:
    return re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", text)) is not None


def _nameless(sides: list[str], signs: list[str], depth: int) -> Shape:
    values = [read(side, depth + 1) for side in sides]
    if all(isinstance(value, Quantity) for value in values):
        trees = [value.tree for value in values if isinstance(value, Quantity)]
        if any(map(variables, trees)) and not (len(trees) > 1 and all(equal(trees[0], tree) for tree in trees[1:])):
            return Relation("=", trees[0], trees[1]) if len(trees) == 2 and signs == ["="] else Nonsense("a chain of equations")
        return _chained(values, signs)
    if len(values) == 2 and isinstance(values[0], Text):
        return Named(f"~{values[0].words}", values[1])
    return Nonsense("an equation that is not read")


def _chained(values: list[Shape], signs: list[str]) -> Shape:
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


def _inequality(sides: list[str], signs: list[str]) -> Shape:
    try:
        trees = [None if re.fullmatch(r"[-+]?\s*\\infty", side) else _tree_of(side) for side in sides]
    except UnreadableError:
        return Nonsense("a bound that is not read")
    if not any(tree is not None and variables(tree) for tree in trees):
        return Nonsense("an inequality of numbers")
    if len(trees) == 3 and "ne" not in signs and (trees[1] or ("",))[0] == "variable":
        low, high = (trees[0], signs[0]), (trees[2], signs[1])
        if signs[0] in (">", "ge") and signs[1] in (">", "ge"):
            low, high = (trees[2], _FLIPPED[signs[1]]), (trees[0], _FLIPPED[signs[0]])
        elif not (signs[0] in ("<", "le") and signs[1] in ("<", "le")):
            return Nonsense("bounds of both ways")
        piece = Piece(End(low[0], low[0] is not None and low[1] == "le"), End(high[0], high[0] is not None and high[1] == "le"))
        return Region(_plain(sides[1]), (piece,))
    if len(trees) != 2:
        return Nonsense("a chain of inequalities")
    left, right = trees
    if left is None or right is None:
        return Nonsense("a bound at infinity")
    sign = signs[0]
    if left[0] != "variable" and right[0] == "variable":
        left, right, sign, sides = right, left, _FLIPPED[sign], sides[::-1]
    if left[0] == "variable" and left[1] not in variables(right):
        name, end = _plain(sides[0]), End(right, sign in ("le", "ge"))
        if sign == "ne":
            return Region(name, (Piece(regions.OPEN, End(right, False)), Piece(End(right, False), regions.OPEN)))
        return Region(name, (Piece(regions.OPEN, end) if sign in ("<", "le") else Piece(end, regions.OPEN),))
    if sign in (">", "ge"):
        left, right, sign = right, left, _FLIPPED[sign]
    return Relation({"<": "<", "le": "<=", "ne": "!="}[sign], left, right)


def _tree_of(side: str) -> Tree:
    quantity = single.quantity(side)
    return parse(side) if quantity is None else quantity.tree


# ---------------------------------------------------------------- brackets, sets, intervals


def _bracketed(text: str, depth: int) -> Shape | None:
    if re.fullmatch(r"\\emptyset", text):
        return Text("no solution")
    if text == "\\reals":
        return Region("", REALS)
    if re.match(r"[A-Z]'?\s*\([^()]*,", text):  # a point with its name
        text = text[text.index("(") :]
    braces = re.fullmatch(r"\\\{(.*)\\\}", text, re.DOTALL)
    if braces is not None and len(split(text[:-2] + " ", re.compile(r"\\\}"))) == 1:
        return _set(braces.group(1).strip(), depth)
    if len(text) > 2 and text[0] in "([" and text[-1] in ")]" and _whole(text):
        parts = split(text[1:-1], re.compile(r"[,;]"))
        if len(parts) > 1:
            items = tuple(_end_or(part, depth) for part in parts)
            return Several("tuple", items, text[0] + text[-1])
        inner = text[1:-1].strip()
        return read(inner, depth + 1) if text[0] == "(" and text[-1] == ")" else None
    return None


def _end_or(part: str, depth: int) -> Shape:
    part = part.strip()
    if re.fullmatch(r"[-+]?\s*(?:\\infty|‹?inf(?:inity)?›?|oo)", part):
        return Text("-infinity" if part.startswith("-") else "infinity")
    return read(part, depth + 1)


def _whole(text: str) -> bool:
    """Whether the first bracket closes with the last sign."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth == 0:
            return place == len(text) - 1
    return False


def _set(inner: str, depth: int) -> Shape:
    builder = split(inner, re.compile(r"\||:"))
    if len(builder) == 2 and (builder[0].strip()[:1].isalpha() or "\\in" in builder[0] or builder[0].strip()[:1] == "("):
        return read(builder[1], depth + 1)
    if not inner:
        return Text("no solution")
    parts = [part for part in split(inner, _COMMA) if not _blank(part)]
    shapes = [read(part, depth + 1) for part in parts]
    flat = [item for shape in shapes for item in (shape.items if isinstance(shape, Several) and shape.kind == "list" else (shape,))]
    return Several("set", tuple(flat))


_UNION = re.compile(r"\\(cup|cap|setminus)(?![A-Za-z])|(?<=\s)U(?=\s)|(?<=[)\]])\s*U\s*(?=[(\[])|(?<=\\reals )[-/](?=\s*\\\{)")


def _joined(text: str, depth: int) -> Shape | None:
    parts = split(text, _UNION)
    if len(parts) < 2:
        return None
    place, pieces = 0, None
    for number_, part in enumerate(parts):
        sign = ""
        if number_:
            match = _UNION.match(text, place)
            assert match is not None
            sign = match.group(1) or ("setminus" if match.group() in "-/" else "cup")
            place = match.end()
        place += len(part)
        region = as_region(read(part, depth + 1))
        if region is None:
            return None
        if pieces is None:
            pieces = region.pieces
        elif sign == "cup":
            pieces = regions.canonical((*pieces, *region.pieces))
        else:
            other = region.pieces if sign == "cap" else regions.complement(region.pieces)
            pieces = regions.intersection(pieces, other)
    return Region("", pieces or ())


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
