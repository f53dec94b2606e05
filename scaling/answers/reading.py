r"""Answers read into shapes: lists, relations, intervals, quantities with units, times, words."""

from __future__ import annotations

import re

from scaling.answers import UnreadableError, regions, single
from scaling.answers.arithmetic import equal
from scaling.answers.expressions import parse, variables
from scaling.answers.joining import as_region, blank, conjunction, flat, rejoined, split, union, whole
from scaling.answers.regions import REALS
from scaling.answers.relations import chained, inequality, letters, name_of, plain
from scaling.answers.shapes import Named, Nonsense, Quantity, Region, Relation, Several, Shape, Text

DEPTH = 24
_OR = re.compile(r"(?<![A-Za-z\\])(?:or|\|\|)(?![A-Za-z])|或者?", re.IGNORECASE)
_AND = re.compile(r"(?<![A-Za-z\\])(?:and|where)(?![A-Za-z])|和|且|与|及", re.IGNORECASE)
_RELATION = re.compile(r"\\(le|ge|ne|in|notin|approx|sim|equiv|to|cong|subset|subseteq)(?![A-Za-z])|[=<>]")
_RATIO = re.compile(":")
_MATRIX = re.compile(
    r"\\begin\s*\{([pbBvV]?matrix|smallmatrix|array)\}(?:\s*\{[clr|\s]*\})?(.*)\\end\s*\{\1\}", re.DOTALL
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
    if ("\\pm" not in text and "\\mp" not in text) or text.startswith("\\{"):
        return None
    one, other = (
        text.replace("\\pm", upper).replace("\\mp", lower) for upper, lower in ((" + ", " - "), (" - ", " + "))
    )
    return flat([read(one, depth + 1), read(other, depth + 1)])


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
    rows = [row.split("&") for row in re.split(r"\\\\(?:\[[^\]]*\])?", match.group(2)) if not blank(row)]
    if len({len(row) for row in rows}) != 1 or sum(map(len, rows)) > 64:
        return None
    kind = "determinant" if match.group(1) in ("vmatrix", "Vmatrix") else "matrix"
    return Several(kind, tuple(Several("row", tuple(read(cell, depth + 1) for cell in row)) for row in rows))


# ---------------------------------------------------------------- splitting


_COMMA = re.compile(r"[,;]|\\\\(?![A-Za-z])|\n")


def _listed(text: str, depth: int) -> Shape | None:
    either = [
        part.strip(" ,;‹›") if blank(part) else part.strip(" ,;") for part in split(text.replace("›‹", "› ‹"), _OR)
    ]
    if len(either) > 1:
        shapes = [read(rejoined(part), depth + 1) for part in either if not blank(part)]
        if len(shapes) != len(either) or not shapes:
            return Nonsense("or of nothing")
        return union(shapes)
    parts = [part for commas in split(text, _AND) for part in split(commas, _COMMA)]
    if len(parts) < 2:
        return None
    amount = single.compound(text) or single.date(text)
    if amount is not None:
        return amount
    parts = [rejoined(part) for part in parts if not blank(part)]
    shapes = [read(part, depth + 1) for part in parts if _INTEGERS.fullmatch(part) is None]
    if not shapes:
        return None
    if len(shapes) == 1:
        return shapes[0]
    return conjunction(shapes)


# Says of a name that it stands for whole numbers: x = k pi, k in Z.
_INTEGERS = re.compile(
    r"‹?\s*(?:where|for)?\s*›?\s*[a-z]\s*"
    r"(?:\\in\s*(?:\\mathbb\s*\{?\s*[ZN]\s*\}?|‹?[ZN]›?)|‹?\s*(?:is )?(?:an )?(?:any )?integers?\s*›?)(?:\^?[+*])?"
)


# ---------------------------------------------------------------- relations


def _related(text: str, depth: int) -> Shape | None:
    sides = split(text, _RELATION)
    if len(sides) < 2:
        return None
    signs = _signs(text, sides)
    sides = [side.strip(" ‹›") if blank(side) else side.strip() for side in sides]
    if signs == ["approx"] and not sides[0]:
        return read(sides[1], depth + 1)
    if any(not side for side in sides):
        return Nonsense("a relation of nothing")
    if signs[0] in ("in", "notin") and len(signs) == 1:
        return _membership(signs[0], sides, depth)
    if set(signs) <= {"=", "approx", "equiv"}:
        return _equation(sides, signs, depth)
    if set(signs) <= {"<", ">", "le", "ge", "ne"}:
        return inequality(sides, signs)
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
        return None if region is None else Region(plain(sides[0]), regions.complement(region.pieces))
    if region is not None and not (isinstance(inner, Several) and inner.kind == "set"):
        return Region(plain(sides[0]), region.pieces)
    return Named(plain(sides[0]), inner)


def _equation(sides: list[str], signs: list[str], depth: int) -> Shape:
    name = name_of(sides[0])
    if name is None and len(sides) == 2 and signs == ["="] and name_of(sides[1]) and not letters(sides[0]):
        sides = sides[::-1]
        name = name_of(sides[0])
    if name is None:
        return _nameless(sides, signs, depth)
    while len(sides) > 2 and signs[0] != "approx" and name_of(sides[1]) and letters(sides[1]):
        sides, signs = [sides[0], *sides[2:]], signs[1:]  # y = f(x) = 2x
    values = [read(side, depth + 1) for side in sides[1:]]
    value = chained(values, signs[1:])
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


def _nameless(sides: list[str], signs: list[str], depth: int) -> Shape:
    values = [read(side, depth + 1) for side in sides]
    if all(isinstance(value, Quantity) for value in values):
        trees = [value.tree for value in values if isinstance(value, Quantity)]
        if any(map(variables, trees)) and not (len(trees) > 1 and all(equal(trees[0], tree) for tree in trees[1:])):
            return (
                Relation("=", trees[0], trees[1])
                if len(trees) == 2 and signs == ["="]
                else Nonsense("a chain of equations")
            )
        return chained(values, signs)
    if len(values) == 2 and isinstance(values[0], Text):
        return Named(f"~{values[0].words}", values[1])
    return Nonsense("an equation that is not read")


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
    if len(text) > 2 and text[0] in "([" and text[-1] in ")]" and whole(text):
        parts = split(text[1:-1], re.compile(r"[,;]"))
        if len(parts) > 1:
            items = tuple(_end_or(part, depth) for part in parts)
            return Several("tuple", items, text[0] + text[-1])
        inner = text[1:-1].strip()
        if inner.startswith("\\begin"):
            return read(inner, depth + 1)
        return read(inner, depth + 1) if text[0] == "(" and text[-1] == ")" else None
    return None


def _end_or(part: str, depth: int) -> Shape:
    part = part.strip()
    if re.fullmatch(r"[-+]?\s*(?:\\infty|‹?inf(?:inity)?›?|oo)", part):
        return Text("-infinity" if part.startswith("-") else "infinity")
    return read(part, depth + 1)


def _set(inner: str, depth: int) -> Shape:
    builder = split(inner, re.compile(r"\||:"))
    if len(builder) == 2 and (
        builder[0].strip()[:1].isalpha() or "\\in" in builder[0] or builder[0].strip()[:1] == "("
    ):
        condition = read(builder[1], depth + 1)
        return condition._replace(name="") if isinstance(condition, Region) else condition
    if not inner:
        return Text("no solution")
    parts = [part for part in split(inner, _COMMA) if not blank(part)]
    shapes = [read(part, depth + 1) for part in parts]
    flat = [
        item
        for shape in shapes
        for item in (shape.items if isinstance(shape, Several) and shape.kind == "list" else (shape,))
    ]
    return Several("set", tuple(flat))


_UNION = re.compile(
    r"\\(cup|cap|setminus)(?![A-Za-z])|(?<=\s)U(?=\s)|(?<=[)\]])\s*U\s*(?=[(\[])|(?<=\\reals )[-/](?=\s*\\\{)"
)


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
