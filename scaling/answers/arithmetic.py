"""Values of expressions and whether two are equal: exact where they are rational, else to many digits at fixed points.

The work is bounded before it is done: exponents, factorials and sizes beyond those of answer keys are TooLargeError.
Two values are equal if their difference vanishes with the precision: a difference that stays is one, however small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath

from scaling.answers import TooLargeError, UnreadableError
from scaling.answers.expressions import Tree, variables

BITS = 1 << 17  # of an exact numerator or denominator
LARGEST_FACTORIAL = 10_000
LARGEST_EXPONENT = 10**9  # of two, of any value
PRECISIONS = (60, 120)  # digits
# Where variables are put: all positive, then of both signs, then small, then large. Never whole, never related.
_POINTS = [
    [Fraction(1137 + 211 * k + 389 * n, 1009 + 96 * ((k * n) % 7)) * (-1 if k >= 3 and (k + n) % 2 else 1)
     for n in range(12)]
    for k in range(6)
] + [[Fraction(137 + 50 * k + 31 * n, 1013) for n in range(12)] for k in range(3)] + [
    [Fraction(40009 + 1217 * k + 3331 * n, 997) for n in range(12)] for k in range(3)
]  # fmt: skip
_WHOLE = [[Fraction(3 + k + (k * n + 2 * n) % 5) for n in range(12)] for k in range(6)]
LEAST_POINTS = 3

_CONTEXTS = {digits: mpmath.MPContext() for digits in PRECISIONS}
for _digits, _context in _CONTEXTS.items():
    _context.dps = _digits + 10


# ---------------------------------------------------------------- exact


def exact(tree: Tree, at: dict[str, Fraction]) -> Fraction | None:
    """The value where it is rational by arithmetic alone; None else. Raises TooLargeError."""
    kind = tree[0]
    if kind == "number":
        return tree[1]
    if kind == "variable":
        return at.get(tree[1])
    if kind == "constant":
        return None
    parts = [exact(part, at) for part in tree[1:] if isinstance(part, tuple)]
    if any(part is None for part in parts):
        return None
    return _bounded(_exact_of(tree, [part for part in parts if part is not None]))


def _bounded(value: Fraction | None) -> Fraction | None:
    if value is not None and max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
        raise TooLargeError("a value of too many digits")
    return value


def _exact_of(tree: Tree, parts: list[Fraction]) -> Fraction | None:
    kind = tree[1] if tree[0] == "call" else tree[0]
    first = parts[0]
    if kind in ("+", "*"):
        return first + parts[1] if kind == "+" else first * parts[1]
    if kind == "-":
        return -first
    if kind == "/":
        if not parts[1]:
            raise UnreadableError("division by zero")
        return first / parts[1]
    if kind == "^":
        return _exact_power(first, parts[1])
    if kind == "!":
        return Fraction(_factorial(int(first))) if first.denominator == 1 and first >= 0 else None
    if kind == "abs":
        return abs(first)
    if kind in ("floor", "ceil"):
        return Fraction(first.__floor__() if kind == "floor" else first.__ceil__())
    if kind == "binomial":
        if any(part.denominator != 1 for part in parts) or not 0 <= parts[1] <= parts[0]:
            return None
        if parts[0] > LARGEST_FACTORIAL:
            raise TooLargeError("a binomial coefficient that is too large")
        return Fraction(math.comb(int(parts[0]), int(parts[1])))
    if kind in ("sqrt", "root"):
        index = int(parts[1]) if kind == "root" and parts[1].denominator == 1 else 2
        return _exact_root(first, index) if kind == "sqrt" or parts[1] == index else None
    return None


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        root = _exact_root(base, exponent.denominator) if base >= 0 and exponent.denominator < 64 else None
        return None if root is None else _exact_power(root, Fraction(exponent.numerator))
    if base in (0, 1, -1):
        if base == 0 and exponent < 0:
            raise UnreadableError("division by zero")
        return base ** (int(exponent) % 2 if base == -1 else min(int(abs(exponent)), 1))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    return None if bits * abs(exponent) > BITS else base ** int(exponent)


def _exact_root(value: Fraction, index: int) -> Fraction | None:
    if not 2 <= index < 64 or (value < 0 and index % 2 == 0):
        return None
    sign = -1 if value < 0 else 1
    roots = [_whole_root(abs(part), index) for part in (value.numerator, value.denominator)]
    return None if None in roots else sign * Fraction(roots[0] or 0, roots[1] or 1)


def _whole_root(value: int, index: int) -> int | None:
    if value < 2:
        return value
    guess = 1 << -(-value.bit_length() // index)
    while True:  # Newton, from above
        following = ((index - 1) * guess + value // guess ** (index - 1)) // index
        if following >= guess:
            return guess if guess**index == value else None
        guess = following


def _factorial(value: int) -> int:
    if value > LARGEST_FACTORIAL:
        raise TooLargeError("a factorial that is too large")
    return math.factorial(value)


# ---------------------------------------------------------------- numeric


class _Numeric:
    """One evaluation; `left_reals` where a real value went through a root or a logarithm of a negative one."""

    def __init__(self, at: dict[str, Fraction], digits: int):
        self.at, self.mp, self.left_reals = at, _CONTEXTS[digits], False

    def value(self, tree: Tree) -> Any:
        mp, kind = self.mp, tree[0]
        if kind == "number":
            return self.of(tree[1])
        if kind == "variable":
            return self.of(self.at[tree[1]])
        if kind == "constant":
            return {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1)}[tree[1]]
        rational = exact(tree, self.at)
        if rational is not None:
            return self.of(rational)
        parts = [self.value(part) for part in tree[1:] if isinstance(part, tuple)]
        try:
            found = self.applied(tree[1] if kind == "call" else kind, parts)
        except (TooLargeError, UnreadableError):
            raise
        except (ArithmeticError, ValueError) as error:  # at a pole
            raise UnreadableError("no finite value") from error
        if not mp.isfinite(found):
            raise UnreadableError("no finite value")
        if found and abs(mp.mag(found)) > LARGEST_EXPONENT:
            raise TooLargeError("a value that is too large")
        return found

    def of(self, value: Fraction) -> Any:
        return self.mp.mpf(value.numerator) / value.denominator

    def applied(self, kind: str, parts: list[Any]) -> Any:
        mp, first = self.mp, parts[0]
        if kind == "+":
            return first + parts[1]
        if kind == "-":
            return -first
        if kind == "*":
            return first * parts[1]
        if kind == "/":
            if parts[1] == 0:
                raise UnreadableError("division by zero")
            return first / parts[1]
        if kind == "^":
            return self.power(first, parts[1])
        if kind in ("sqrt", "root"):
            index = 2 if kind == "sqrt" else parts[1]
            if index == 0:
                raise UnreadableError("a root of degree 0")
            if mp.im(first) == 0 and mp.re(first) < 0 and index % 2 == 1:
                return -self.power(-first, 1 / mp.mpf(index))
            return self.power(first, 1 / (mp.mpf(2) if kind == "sqrt" else index))
        if kind in ("abs", "floor", "ceil"):
            return abs(first) if kind == "abs" else getattr(mp, kind)(first)
        if kind in ("!", "binomial"):
            if any(abs(part) > 1000 for part in parts):
                raise TooLargeError("a factorial that is too large")
            return mp.gamma(first + 1) if kind == "!" else mp.binomial(first, parts[1])
        return self.function(kind, first, parts[1:])

    def power(self, base: Any, exponent: Any) -> Any:
        mp = self.mp
        if base == 0:
            if mp.re(exponent) <= 0:
                raise UnreadableError("zero to a power that is not positive")
            return mp.mpf(0)
        if abs(exponent) * (abs(mp.mag(base)) + 8) > LARGEST_EXPONENT:
            raise TooLargeError("a power that is too large")
        if mp.im(base) == 0 and mp.re(base) < 0 and not (mp.im(exponent) == 0 and mp.isint(mp.re(exponent))):
            self.left_reals = True
        return mp.power(base, exponent)

    def function(self, name: str, value: Any, more: list[Any]) -> Any:
        mp = self.mp
        if name in ("ln", "log", "lg"):
            base = more[0] if more else mp.e if name == "ln" else mp.mpf(10)
            if value == 0 or base in (0, 1):
                raise UnreadableError("a logarithm without a value")
            self.left_reals |= any(mp.im(part) == 0 and mp.re(part) < 0 for part in (value, base))
            return mp.ln(value) / mp.ln(base)
        if name in ("exp", "sinh", "cosh", "tanh"):
            if abs(value) > LARGEST_EXPONENT / 4:
                raise TooLargeError("an exponential that is too large")
        elif abs(value) > 10**20:
            raise TooLargeError("an angle that is too large")
        if name in ("arcsin", "arccos") and mp.im(value) == 0 and abs(value) > 1:
            self.left_reals = True
        own = {"arcsin": "asin", "arccos": "acos", "arctan": "atan",
               "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh"}  # fmt: skip
        return getattr(mp, own.get(name, name))(value)


def number(tree: Tree) -> Any:
    """The value of a tree without variables, a Fraction or an mpmath number. Raises UnreadableError, TooLargeError."""
    rational = exact(tree, {})
    if rational is not None:
        return rational
    return _Numeric({}, PRECISIONS[1]).value(tree)


def real(tree: Tree) -> Any:
    """The value as a real mpmath number, for putting in order."""
    mp = _CONTEXTS[PRECISIONS[1]]
    value = number(tree)
    if isinstance(value, Fraction):
        return mp.mpf(value.numerator) / value.denominator
    if mp.im(value) != 0:
        raise UnreadableError("not a real number")
    return mp.re(value)


# ---------------------------------------------------------------- equality


def vanishes(tree: Tree, scale: Tree, at: dict[str, Fraction]) -> bool | None:
    """Whether `tree` is 0 at a point, beside `scale`; None where its variables lead out of the reals on the way."""
    rational = exact(tree, at)
    if rational is not None:
        return rational == 0
    found = []
    for digits in PRECISIONS:
        numeric = _Numeric(at, digits)
        found.append((abs(numeric.value(tree)), abs(numeric.value(scale))))
        if numeric.left_reals and at:
            return None
    (coarse, _), (fine, size) = found
    ten = _CONTEXTS[PRECISIONS[1]].mpf(10)
    shrinks = fine <= coarse * ten ** -(PRECISIONS[1] - PRECISIONS[0] - 20) and coarse < ten**-20
    return bool(fine <= size * ten ** -(PRECISIONS[1] - 20) or shrinks)


def equal(left: Tree, right: Tree) -> bool:
    """Whether two expressions have one value wherever both have one. Raises TooLargeError, UnreadableError."""
    difference = ("+", left, ("-", right))
    found = at_points(lambda at: vanishes(difference, left, at), left, right)
    return bool(found) and all(found)


def at_points(ask: Callable[[dict[str, Fraction]], Any], *trees: Tree) -> list[Any]:
    """What `ask` says at fixed points of the variables of trees, None left out; nothing where too few points say it."""
    names = sorted(set().union(*map(variables, trees)))
    if len(names) > 12:
        raise TooLargeError("too many variables")
    if not names:
        return [ask({})]
    whole = any(map(_sign_power, trees))  # (-1)^n is meant for whole n
    found = []
    for values in _WHOLE if whole else _POINTS:
        try:
            said = ask(dict(zip(names, values, strict=False)))
        except UnreadableError:
            continue
        if said is not None:
            found.append(said)
            if said is False:
                break
    return found if len(found) >= LEAST_POINTS or False in found else []


def _sign_power(tree: Tree) -> bool:
    """Whether -1, or another negative number, is raised to a variable."""
    if tree[0] == "^" and variables(tree[2]):
        base = exact(tree[1], {})
        if base is not None and base < 0:
            return True
    return any(_sign_power(part) for part in tree[1:] if isinstance(part, tuple))


def ratio(left: Tree, right: Tree, at: dict[str, Fraction]) -> Any:
    """left / right at a point to many digits; None where the reals are left, False where one of them is 0."""
    numeric = _Numeric(at, PRECISIONS[1])
    values = numeric.value(left), numeric.value(right)
    if numeric.left_reals:
        return None
    return values[0] / values[1] if values[0] and values[1] else False


def constant(ratios: list[Any], *, positive: bool) -> bool:
    """Whether ratios are all one number, and a positive one where that is asked for."""
    mp = _CONTEXTS[PRECISIONS[1]]
    if any(found is False for found in ratios):
        return False
    first = ratios[0]
    near = all(abs(found - first) <= abs(first) * mp.mpf(10) ** -(PRECISIONS[1] - 30) for found in ratios)
    return near and (not positive or (mp.im(first) == 0 and mp.re(first) > 0))


def solved(tree: Tree, name: str) -> Tree | None:
    """What `name` is where the tree is 0, if it stands there in the first degree; None else."""

    def put(value: int) -> Tree:
        return substituted(tree, name, ("number", Fraction(value)))

    slope = ("+", put(1), ("-", put(0)))
    if not equal(("+", put(2), ("-", put(1))), slope) or not equal(("+", put(3), ("-", put(2))), slope):
        return None
    if equal(slope, ("number", Fraction(0))):
        return None
    return ("/", ("-", put(0)), slope)


def substituted(tree: Tree, name: str, value: Tree) -> Tree:
    """The tree with a variable replaced."""
    if tree == ("variable", name):
        return value
    return tuple(substituted(part, name, value) if isinstance(part, tuple) else part for part in tree)
