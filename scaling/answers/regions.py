"""Sets of real numbers as unions of intervals, and how two of them are compared."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from scaling.answers import UnreadableError
from scaling.answers.arithmetic import equal, real
from scaling.answers.expressions import Tree, variables


class End(NamedTuple):
    """`at`: None is infinity, its sign being that of the side it ends."""

    at: Tree | None
    closed: bool


class Piece(NamedTuple):
    low: End
    high: End


OPEN = End(None, False)
REALS = (Piece(OPEN, OPEN),)
Pieces = tuple[Piece, ...]


def symbolic(pieces: Pieces) -> bool:
    """Whether an end holds a variable, so that there is no order."""
    return any(end.at is not None and variables(end.at) for piece in pieces for end in piece)


def _order(left: Tree, right: Tree) -> int:
    if equal(left, right):
        return 0
    return -1 if real(left) < real(right) else 1


def _lows(left: End, right: End) -> int:
    """Order of two lower ends: a closed one begins before an open one."""
    if left.at is None or right.at is None:
        return (left.at is not None) - (right.at is not None)
    return _order(left.at, right.at) or right.closed - left.closed


def _highs(left: End, right: End) -> int:
    if left.at is None or right.at is None:
        return (left.at is None) - (right.at is None)
    return _order(left.at, right.at) or left.closed - right.closed


def _empty(piece: Piece) -> bool:
    if piece.low.at is None or piece.high.at is None:
        return False
    order = _order(piece.low.at, piece.high.at)
    return order > 0 or (order == 0 and not (piece.low.closed and piece.high.closed))


def canonical(pieces: Pieces) -> Pieces:
    """Pieces in order that neither overlap nor touch. Raises UnreadableError where an end is no real number."""
    if symbolic(pieces):
        return pieces
    ordered = sorted(
        (piece for piece in pieces if not _empty(piece)), key=functools.cmp_to_key(lambda a, b: _lows(a.low, b.low))
    )
    merged: list[Piece] = []
    for piece in ordered:
        if merged and _touch(merged[-1].high, piece.low):
            high = merged[-1].high if _highs(merged[-1].high, piece.high) >= 0 else piece.high
            merged[-1] = Piece(merged[-1].low, high)
        else:
            merged.append(piece)
    return tuple(merged)


def _touch(high: End, low: End) -> bool:
    if high.at is None or low.at is None:
        return True
    order = _order(low.at, high.at)
    return order < 0 or (order == 0 and (low.closed or high.closed))


def intersection(left: Pieces, right: Pieces) -> Pieces:
    """What lies in both."""
    if symbolic(left) or symbolic(right):
        if left == REALS or right == REALS:
            return right if left == REALS else left
        return _symbolic_both(left, right)
    found = []
    for one in left:
        for other in right:
            low = one.low if _lows(one.low, other.low) >= 0 else other.low
            high = one.high if _highs(one.high, other.high) <= 0 else other.high
            found.append(Piece(low, high))
    return canonical(tuple(found))


def _symbolic_both(left: Pieces, right: Pieces) -> Pieces:
    """x > a and x < b: one half line each way, which is all that is said without an order."""
    if len(left) == len(right) == 1:
        (one,), (other,) = left, right
        if one.high.at is None and other.low.at is None:
            return (Piece(one.low, other.high),)
        if one.low.at is None and other.high.at is None:
            return (Piece(other.low, one.high),)
    raise UnreadableError("an intersection of sets whose order is not known")


def complement(pieces: Pieces) -> Pieces:
    """What lies in none of them."""
    if symbolic(pieces) and len(pieces) > 1:
        raise UnreadableError("a complement of sets whose order is not known")
    low, found = OPEN, []
    for piece in canonical(pieces):
        if piece.low.at is not None:
            found.append(Piece(low, End(piece.low.at, not piece.low.closed)))
        low = End(piece.high.at, not piece.high.closed)
        if piece.high.at is None:
            return tuple(found)
    return (*found, Piece(low, OPEN))


def same_regions(left: Pieces, right: Pieces) -> bool:
    """Whether two are one set; where an end holds a variable, whether their pieces are equal one by one."""
    left, right = canonical(left), canonical(right)
    return len(left) == len(right) and all(
        _same_end(one, other) for a, b in zip(left, right, strict=True) for one, other in zip(a, b, strict=True)
    )


def _same_end(left: End, right: End) -> bool:
    if left.at is None or right.at is None:
        return left.at is right.at
    return left.closed == right.closed and equal(left.at, right.at)


def point(tree: Any) -> Piece:
    return Piece(End(tree, True), End(tree, True))
