"""Whether an answer says what the key says."""

from __future__ import annotations

import re
from fractions import Fraction

from scaling.answers import TooLargeError, UnreadableError, arithmetic, single
from scaling.answers.expressions import GREEK, Tree, variables
from scaling.answers.joining import as_region, assigned, items_of
from scaling.answers.normalise import normalise, words
from scaling.answers.reading import read
from scaling.answers.regions import same_regions
from scaling.answers.shapes import (
    Assigned,
    Clock,
    Either,
    Named,
    Nonsense,
    Quantity,
    Region,
    Relation,
    Several,
    Shape,
    Text,
    number,
    value_of,
)

_CHOICE = re.compile(r"[‹\s(\[]*([A-J])[›\s)\]]*")
_CHOSEN = re.compile(
    r"(?:[‹\s(\[]*(?:option|choice)\s*[›:]?\s*)?[‹\s(\[]*([A-Ja-j])(?:[›\s]*[)\].:›-]+|[›\s]*$|[›\s]*(?=[\\$\d‹]|\s-))(.*)",
    re.DOTALL | re.IGNORECASE,
)


def says(truth: str, parts: tuple[str, ...]) -> bool:
    """Whether an answer of these parts (one, or several boxes) equals a ground truth. Raises TooLargeError."""
    key = normalise(truth)
    given = [normalise(part) for part in parts]
    if len(given) == 1 and same_text(key, given[0]):
        return bool(key)
    choices = _choices(key)
    if choices is not None:
        return _chosen(choices, key, given)
    shape = read(key)
    answer = read(given[0]) if len(given) == 1 else _together([read(part) for part in given])
    if same(_single(shape), answer) or (_is_set(answer) and same(shape, _single(answer))):
        return True
    # A key such as 2,500 is one number or two; a list that is given decides.
    if re.fullmatch(r"-?\d{1,3}(?:,[1-9]\d{2})+", truth.strip()) and len(given) == 1 and isinstance(answer, Several):
        return same(read(truth.strip().replace(",", ", ")), answer)
    return False


def says_all(truth: str, parts: tuple[str, ...]) -> bool:
    """Whether all boxes of a response together are a key of as many parts: the roots, each in a sentence of its own."""
    shape = value_of(read(normalise(truth)))
    several = isinstance(shape, Several) and shape.kind in ("list", "set") and len(shape.items) == len(parts)
    assigned = isinstance(shape, Assigned) and len(shape.values) == len(parts)
    return (several or assigned) and says(truth, parts)


def _is_set(shape: Shape) -> bool:
    value = value_of(shape)
    return isinstance(value, Several) and value.kind == "set"


def _single(shape: Shape) -> Shape:
    """A key of {0}, or of 3, 3, is one number."""
    if isinstance(shape, Several) and shape.kind in ("list", "set") and isinstance(shape.items[0], Quantity):
        return shape.items[0] if all(same(shape.items[0], item) for item in shape.items) else shape
    return shape._replace(value=_single(shape.value)) if isinstance(shape, Named) else shape


def same_text(left: str, right: str) -> bool:
    """Whether two are one text but for spaces and marks, and for the case of words."""
    if re.findall(r"\d+", left) != re.findall(r"\d+", right):
        return False  # 7 8 is not 78
    bare = [re.sub(r"[\s‹›]", "", text) for text in (left, right)]
    said = [words(text) for text in (left, right)]
    if bare[0] == bare[1]:
        return True
    plain = "\\" not in left + right and re.fullmatch(r"[^\W\d_]{3,}|no", said[0]) is not None
    return plain and said[0] == said[1]


def _together(shapes: list[Shape]) -> Shape:
    """Several boxes as one answer: a list, or the assignments of several names."""
    if (names := assigned(shapes)) is not None:
        return names
    if all(isinstance(shape, Region) for shape in shapes):
        return Nonsense("several sets of numbers")
    return Several("list", items_of(map(value_of, shapes)))


# ---------------------------------------------------------------- choices


def _choices(key: str) -> tuple[str, str] | None:
    """Letters of a key of choices, and what stands behind a single one: C, (C), (C) 12, A, C."""
    if _CHOICE.fullmatch(key) is not None:
        return _CHOICE.fullmatch(key)[1], ""  # type: ignore[index]
    if re.fullmatch(r"[‹\s(]*[A-J][›\s)]*(?:(?:,|‹?\s*and\s*›?)\s*[‹\s(]*[A-J][›\s)]*)+", key):
        return "".join(sorted(re.findall(r"[A-J]", key))), ""
    marked = re.fullmatch(r"[‹\s]*(?:\(([A-J])\)|([A-J])[.:)])[›\s]*(.+)", key, re.DOTALL)
    return (marked[1] or marked[2], marked[3].strip()) if marked is not None else None


def _chosen(choices: tuple[str, str], key: str, given: list[str]) -> bool:
    letters, behind = choices
    if len(given) > 1 or len(letters) > 1:
        found = [letter for part in given for letter in re.findall(r"(?<![A-Za-z])[A-J](?![A-Za-z])", part)]
        if len(given) == 1 and re.fullmatch(r"[A-J]{2,}", given[0]):
            found = list(given[0])
        rest = re.sub(r"(?<![A-Za-z])(?:[A-J]|and)(?![A-Za-z])|[\s,()‹›;]", "", "".join(given))
        return "".join(sorted(set(found))) == letters and (not rest or re.fullmatch(r"[A-J]+", rest) is not None)
    match = _CHOSEN.fullmatch(given[0])
    if match is not None:
        rest = match[2].strip("‹› .:)")
        if re.search(r"(?<![A-Za-z\\])(?:[A-J]|or|not)(?![A-Za-z])", rest) and not behind:
            return False
        if match[1].upper() != letters:
            return False
        return not behind or not rest or _agree(behind, rest)
    return bool(behind) and _agree(behind, given[0])


def _agree(left: str, right: str) -> bool:
    return same_text(left, right) or same(read(left), read(right))


# ---------------------------------------------------------------- shapes


def same(truth: Shape, given: Shape) -> bool:
    """Whether two shapes are one answer; what cannot be compared differs. Raises TooLargeError."""
    try:
        return _same(truth, given)
    except TooLargeError:
        raise
    except UnreadableError:
        return False


def _same(truth: Shape, given: Shape) -> bool:
    if isinstance(truth, Nonsense) or isinstance(given, Nonsense):
        return False
    if isinstance(given, Either):
        return any(_same(truth, reading) for reading in given.readings)
    if isinstance(truth, Either):
        return _same(truth.readings[0], given) or _same(truth.readings[-1], given)
    for pairs in ((Named, _same_named), (Assigned, _same_assigned), (Relation, _same_relation)):
        kind, compare = pairs
        if isinstance(truth, kind) or isinstance(given, kind):
            return compare(truth, given)
    if isinstance(truth, Region) or isinstance(given, Region):
        return _same_region(truth, given)
    if isinstance(truth, Clock) or isinstance(given, Clock):
        return _same_clock(truth, given)
    if isinstance(truth, Several) or isinstance(given, Several):
        return _same_several(truth, given)
    if isinstance(truth, Text) or isinstance(given, Text):
        return isinstance(truth, Text) and isinstance(given, Text) and bool(truth.words) and _same_words(truth, given)
    return single.same_amount(truth, given)


def _same_words(truth: Text, given: Text) -> bool:
    """Spaces tell words and numbers apart, and nothing else: k = 1 is k=1."""
    parts = [re.findall(r"[^\W\d_]+|\d+|[^\w\s]", text.words) for text in (truth, given)]
    return parts[0] == parts[1]


def _same_named(truth: Shape, given: Shape) -> bool:
    if isinstance(truth, Named) and isinstance(given, Named):
        if _one_name(truth.name, given.name) and _same(truth.value, given.value):
            return True
        return truth.equation is not None and given.equation is not None and _one_curve(truth.equation, given.equation)
    if isinstance(truth, Named):
        if isinstance(given, Relation):
            return truth.equation is not None and _same_relation(Relation("=", *truth.equation), given)
        if isinstance(given, Region | Assigned):
            return isinstance(given, Region) and _one_name(truth.name, given.name) and _same(truth.value, given)
        return _same(truth.value, given)
    assert isinstance(given, Named)
    if isinstance(truth, Relation):
        return given.equation is not None and _same_relation(truth, Relation("=", *given.equation))
    if isinstance(truth, Assigned):
        return given.name == _tuple_name(truth) and _same(
            Several("tuple", tuple(v.value for v in truth.values), "()"), given.value
        )
    if isinstance(truth, Quantity) and given.equation is not None and given.name in variables(truth.tree):
        return False
    return _same(truth, given.value)


def _tuple_name(assigned: Assigned) -> str:
    return f"({','.join(value.name for value in assigned.values)})"


def _one_name(left: str, right: str) -> bool:
    """Two variables differ; a name in words, or one of a function, goes with any."""
    letters = [
        re.fullmatch(r"[A-Za-z]'*", name) is not None or name in GREEK or name[:1] == "(" for name in (left, right)
    ]
    return not left or not right or left == right or not all(letters)


def _same_assigned(truth: Shape, given: Shape) -> bool:
    if isinstance(truth, Assigned) and isinstance(given, Assigned):
        values = {value.name: value.value for value in given.values}
        if len(values) != len(truth.values):
            return False
        return all(value.name in values and _same(value.value, values[value.name]) for value in truth.values)
    if isinstance(truth, Assigned):
        if isinstance(given, Named):
            return _same_named(truth, given)
        items = tuple(value.value for value in truth.values)
        return isinstance(given, Several) and given.kind in ("tuple", "list") and _in_order(items, given.items)
    assert isinstance(given, Assigned)
    if isinstance(truth, Named):
        return truth.name == _tuple_name(given) and _same_assigned(truth.value, given)
    items = tuple(value.value for value in given.values)
    return isinstance(truth, Several) and truth.kind in ("tuple", "list") and _in_order(truth.items, items)


def _as_relation(shape: Shape) -> Shape:
    """y > 3 - x, which is read as a bound of y, as an inequality in both."""
    if isinstance(shape, Region) and shape.name and len(shape.pieces) == 1:
        low, high = shape.pieces[0]
        name = ("variable", shape.name)
        if low.at is None and high.at is not None:
            return Relation("<=" if high.closed else "<", name, high.at)
        if high.at is None and low.at is not None:
            return Relation("<=" if low.closed else "<", low.at, name)
    return shape


def _same_relation(truth: Shape, given: Shape) -> bool:
    truth, given = _as_relation(truth), _as_relation(given)
    if isinstance(truth, Quantity) and isinstance(given, Relation):
        return _states(given, truth)
    if not isinstance(truth, Relation) or not isinstance(given, Relation) or truth.sign != given.sign:
        return False
    if truth.sign == "=" and len(variables(truth.left) | variables(truth.right)) < 2:
        return _proportional(truth, given, signed=False) and variables(truth.left) | variables(truth.right) == (
            variables(given.left) | variables(given.right)
        )
    if truth.sign in ("=", "!="):
        return _proportional(truth, given, signed=False) or (
            truth.sign == "=" and _one_curve((truth.left, truth.right), (given.left, given.right))
        )
    return _proportional(truth, given, signed=True)


_ASKED = {"sin", "cos", "tan", "cot", "sec", "csc"}


def _states(relation: Relation, amount: Quantity) -> bool:
    """m + n = 7 and sin A = 7/25 state a value of what was asked for; 2x = 7 and |x| = 7 are still to be solved."""
    left, right = relation.left, relation.right
    if not variables(left):
        left, right = right, left
    asked = len(variables(left)) > 1 or (left[0] == "call" and left[1] in _ASKED)
    if relation.sign != "=" or not asked or variables(right) or variables(amount.tree):
        return False
    return not arithmetic.equal(right, number(0)) and arithmetic.equal(right, amount.tree)


def _proportional(truth: Relation, given: Relation, *, signed: bool) -> bool:
    """Whether one side less the other is a constant times that of the other relation; signed: a positive one."""
    left, right = (("+", relation.left, ("-", relation.right)) for relation in (truth, given))
    if variables(left) != variables(right) or not variables(left):
        return False
    # (f/g)(x) at one point is (f/g)(y) at another: f(x) g(y) = f(y) g(x), without a division.
    ratios = arithmetic.at_points(lambda at: arithmetic.ratio(left, right, at), left, right)
    return len(ratios) >= arithmetic.LEAST_POINTS and arithmetic.constant(ratios, positive=signed)


def _one_curve(truth: tuple[Tree, Tree], given: tuple[Tree, Tree]) -> bool:
    """Whether two equations, each of first degree in one of their variables, have one solution for it."""
    left, right = (("+", sides[0], ("-", sides[1])) for sides in (truth, given))
    if variables(left) != variables(right) or len(variables(left)) < 2:
        return False
    for name in sorted(variables(left)):
        solved = [arithmetic.solved(tree, name) for tree in (left, right)]
        if None not in solved and arithmetic.equal(*solved):  # type: ignore[arg-type]
            return True
    relation = [Relation("=", *sides) for sides in (truth, given)]
    return _proportional(relation[0], relation[1], signed=False)


def _same_region(truth: Shape, given: Shape) -> bool:
    relations = _as_relation(truth), _as_relation(given)
    bounds = all(isinstance(relation, Relation) and relation.sign in ("<", "<=") for relation in relations)
    if bounds and _same_relation(*relations):  # a >= b is b <= a
        return True
    left, right = as_region(truth), as_region(given)
    if left is None or right is None:
        return bool(left is not None and not left.pieces and given == Text("no solution"))
    return _one_name(left.name, right.name) and same_regions(left.pieces, right.pieces)


def _same_clock(truth: Shape, given: Shape) -> bool:
    if isinstance(truth, Clock) and isinstance(given, Clock):
        return bool(truth.minutes == given.minutes and (truth.half == given.half or "24" in (truth.half, given.half)))
    if isinstance(given, Clock) and isinstance(truth, Several) and truth.kind == "ratio" and not given.half.strip("24"):
        hours, minutes = divmod(given.minutes, 60)
        return _same_several(truth, Several("ratio", (Quantity(number(hours)), Quantity(number(minutes)))))
    return False


def _in_order(left: tuple[Shape, ...], right: tuple[Shape, ...]) -> bool:
    return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))


def _same_several(truth: Shape, given: Shape) -> bool:
    if not isinstance(truth, Several) or not isinstance(given, Several):
        several, other = (truth, given) if isinstance(truth, Several) else (given, truth)
        assert isinstance(several, Several)
        if several.kind == "ratio" and len(several.items) == 2 and isinstance(other, Quantity):
            top, bottom = (item.tree for item in several.items if isinstance(item, Quantity))
            return other.tree[0] == "/" and arithmetic.equal(("/", top, bottom), other.tree)
        return False
    kinds = {truth.kind, given.kind}
    if kinds == {"ratio"}:
        return _same_ratio(truth, given)
    if kinds <= {"list", "set"}:
        dotted = any(isinstance(item, Text) and "ldots" in item.words for item in truth.items)
        return _in_order(truth.items, given.items) if dotted else _same_items(truth.items, given.items)
    if kinds == {"tuple"}:
        return _in_order(truth.items, given.items) and _same_ends(truth, given)
    if kinds == {"tuple", "list"}:
        return "()" in (truth.ends, given.ends) and _in_order(truth.items, given.items)
    if kinds == {"matrix", "tuple"}:
        matrix, pair = (truth, given) if truth.kind == "matrix" else (given, truth)
        rows = [item.items for item in matrix.items if isinstance(item, Several)]
        if len(rows) == 1 or all(len(row) == 1 for row in rows):
            cells = tuple(cell for row in rows for cell in row)
            return pair.ends == "()" and (
                _in_order(cells, pair.items) if truth is matrix else _in_order(pair.items, cells)
            )
        return False
    return truth.kind == given.kind and _in_order(truth.items, given.items)


def _same_ends(truth: Several, given: Several) -> bool:
    """Of two numbers the brackets tell an interval from another; of more, they are of no account."""
    return truth.ends == given.ends or len(truth.items) != 2


def _same_items(left: tuple[Shape, ...], right: tuple[Shape, ...]) -> bool:
    """Whether two collections hold the same, in any order and however often."""

    def holds(items: tuple[Shape, ...], others: tuple[Shape, ...], swapped: bool) -> bool:
        return all(any(same(other, item) if swapped else same(item, other) for other in others) for item in items)

    if len(right) > 3 * len(left) + 3:
        return False
    return holds(left, right, False) and holds(right, left, True)


def _same_ratio(truth: Several, given: Several) -> bool:
    trees = [[item.tree for item in side.items if isinstance(item, Quantity)] for side in (truth, given)]
    if len(trees[0]) != len(trees[1]):
        return False
    return all(
        arithmetic.equal(("*", trees[0][0], right), ("*", left, trees[1][0]))
        for left, right in zip(trees[0][1:], trees[1][1:], strict=True)
    ) and arithmetic.number(trees[1][0]) != Fraction(0)
