r"""Single values read: numbers with units, times of day, dates, words; and whether two numbers are one."""

from __future__ import annotations

import re
from fractions import Fraction

from scaling.answers import UnreadableError, arithmetic, units
from scaling.answers.expressions import FUNCTIONS, Tree, parse, variables
from scaling.answers.normalise import words
from scaling.answers.regions import REALS
from scaling.answers.shapes import Clock, Quantity, Region, Shape, Text, number
from scaling.answers.units import NO_UNIT, Unit

SHOWN = 6  # digits of a decimal that may stand for a fraction that does not end
_MONTHS = [
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
]  # fmt: skip
_NUMBERS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]  # fmt: skip
_NO_SOLUTION = {
    "no real solution", "no real solutions", "no solutions", "there is no solution", "there are no solutions", "none",
    "no such number exists", "emptyset", "empty set", "无解", "no real roots", "no roots", "null set",
}  # fmt: skip
_SAME_WORDS = {
    **dict.fromkeys(_NO_SOLUTION, "no solution"),
    **dict.fromkeys(["dne", "doesn't exist", "not exist", "limit does not exist"], "does not exist"),
    **dict.fromkeys(
        ["infinite", "infinitely many solutions", "infinite solutions", "infinite number of solutions"],
        "infinitely many",
    ),
    **{"正确": "true", "错误": "false", "是": "yes", "否": "no", "inf": "infinity", "correct": "true"},
}
_ALL_REALS = {
    "all real numbers", "all reals", "all real", "reals", "real numbers", "any real number", "all real x",
    "all real values", "every real number", "set of all real numbers", "all real numbers x",
}  # fmt: skip


def spoken(text: str) -> Shape:
    """A text as words, or the number or set that the words name."""
    said = words(text)
    if said in _ALL_REALS:
        return Region("", REALS)
    if said in _NUMBERS:
        return Quantity(number(_NUMBERS.index(said)))
    return Text(_SAME_WORDS.get(said, said))


# ---------------------------------------------------------------- times and dates

_TIME = re.compile(
    r"(\d{1,2})(?::([0-5]\d)(?::00)?)?\s*((?:a\.?\s?m|p\.?\s?m)\b\.?|noon|midnight|o'clock)?(?:\s+in .*)?",
    re.IGNORECASE,
)


def clock(text: str) -> Clock | None:
    """A time of day: 6:00 PM, 18:00, 6 p.m., noon."""
    plain = re.sub(r"[‹›]", " ", text).strip()
    plain = {"noon": "12:00 pm", "midnight": "12:00 am"}.get(plain.lower(), plain)
    match = _TIME.fullmatch(" ".join(plain.split()))
    if match is None or not (match[2] or match[3]) or int(match[1]) > 24:
        return None
    half = re.sub(r"[^a-z]", "", (match[3] or "").lower())
    half = {"noon": "pm", "midnight": "am", "oclock": ""}.get(half, half)
    hours = int(match[1])
    if half and not 1 <= hours <= 12:
        return None
    if half:
        hours = hours % 12 + 12 * (half == "pm")
    return Clock(60 * hours + int(match[2] or 0), half or ("24" if hours > 12 or hours == 0 else ""))


def date(text: str) -> Text | None:
    """A day by the name of its month: June 20, 20th of June, June 20, 2024."""
    tokens = re.findall(r"[a-z]+|\d+(?:st|nd|rd|th)?\b", re.sub(r"[‹›{}^]", " ", text).lower())
    names = [name for token in tokens for name in _MONTHS if token == name or (len(token) >= 3 and token == name[:3])]
    if len(names) != 1 or len(tokens) > 6 or re.search(r"[^\w\s,.‹›{}^]", text):
        return None
    numbers = [int(re.sub(r"\D", "", token)) for token in tokens if token[0].isdigit()]
    others = [token for token in tokens if not token[0].isdigit() and token != names[0] and token != names[0][:3]]
    if not 1 <= len(numbers) <= 2 or any(other not in ("of", "the") and not other.endswith("day") for other in others):
        return None
    return Text(" ".join([names[0], *map(str, sorted(numbers))]))


# ---------------------------------------------------------------- quantities

_MARKED = re.compile(r"(?:[/*\s]|‹[^‹›]*›|\^\s?\{?-?\d\}?)+$")
_TRAILING = re.compile(
    r"(.*?[\d)}.!\]]|.*\\pi)(\s*(?:[^\W\d_]|[°%$€£¥₹¢])(?:[^\d(){}\\=<>\[\]|‹›+^-]|\^\s?\{?-?\d\}?)*)", re.DOTALL
)
_CURRENCY = re.compile(
    r"(-?)\s*‹?\s*(\$|€|£|¥|₹|(?:usd|eur|rs\.?|us\$)(?![a-z]))\s*›?\s*(-?)\s*(.*)", re.IGNORECASE | re.DOTALL
)
_DECIMAL = re.compile(r"[-+]?\d*\.(\d+)")
_PART = re.compile(r"(?:,|and\b)?\s*(\d+(?:\.\d+)?)\s*((?:[^\W\d_]|[°'\"])+)\.?\s*")


def quantity(text: str) -> Quantity | Text | None:
    """A number or expression with its unit; None for what is neither. Raises TooLargeError."""
    text = text.strip()
    if words(text) in _SAME_WORDS:
        return None
    if re.fullmatch(r"[-+]?\s*\\infty", text):
        return Text("-infinity" if text.startswith("-") else "infinity")
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return Text(text)
    based = re.fullmatch(r"\(?(\d{1,64})\)?_\{?\s*‹?\s*(\d{1,2}|two|three|five|eight|ten)\s*›?\s*\}?", text)
    if based is not None:  # 1011_2: the same digits in the same base, which may be left out
        base = int(based[2]) if based[2].isdigit() else _NUMBERS.index(based[2])
        fits = max(based[1]) < str(base) or base > 9
        return Quantity(number(int(based[1])), Unit(((f"base {base}", 1),), Fraction(1))) if fits else None
    together = compound(text)
    if together is not None:
        return together
    money = _CURRENCY.fullmatch(text)
    if money is not None and money[4]:
        unit = units.unit_of(f"‹{money[2].lower().replace('us$', '$').rstrip('.')}›")
        inner = quantity(f"{money[1] or money[3]}{money[4]}")
        if unit is None or not isinstance(inner, Quantity):
            return None
        named = inner.unit if inner.unit.dimensions else unit[0]
        return inner._replace(unit=named) if _is_money(named, unit[0]) else None
    for before, behind in _cuts(text):
        named = units.unit_of(behind)
        degrees = named is not None and units.DEGREE in dict(named[0].dimensions)
        if degrees and re.search(r"\\?(?:sin|cos|tan|cot|sec|csc)", before):
            continue  # the sine of 30 degrees, and no sine in degrees
        value = _expression(before) if named is not None else None
        if named is not None and value is not None:
            unit, scale = named
            scaled = value.tree if scale == 1 else ("*", value.tree, number(scale))
            return Quantity(scaled, unit, value.places if scale == 1 else None)
    return _expression(text)


def _cuts(text: str) -> list[tuple[str, str]]:
    """Where a number may end and its unit begin: before the marks at the end, or behind the last digit or bracket."""
    found = []
    marked = _MARKED.search(text)
    if marked is not None and "‹" in marked[0]:
        place = marked.start() + min(place for place in map(marked[0].find, "‹/") if place >= 0)
        found.append((text[:place], text[place:]))
    trailing = _TRAILING.fullmatch(text)
    if trailing is not None:
        found.append((trailing[1], trailing[2]))
    return [(before, behind) for before, behind in found if before.strip()]


def _is_money(named: Unit, unit: Unit) -> bool:
    return (
        named == unit
        or named.dimensions[0][0].startswith("~")
        or named.dimensions[0][0] == unit.dimensions[0][0]
        or (len(named.dimensions) > 1)
    )


def _expression(text: str) -> Quantity | None:
    text = text.strip()
    repeating = re.fullmatch(r"(-?\d*\.\d*?)(\d+?)\2{2,}\s*\\ldots", text) or re.fullmatch(
        r"(-?\d*\.\d*?)(\d+)\2\s*\\ldots", text
    )
    if repeating is not None:  # 0.333..., 0.1666..., 0.142857142857...
        text = f"{repeating[1]}\\overline{{{repeating[2]}}}"
    decimal = _DECIMAL.fullmatch(text.replace(" ", ""))
    if any(len(word) > 1 and word not in FUNCTIONS for word in re.findall(r"‹\s*([^\W\d_]+)", text)):
        return None  # marked as text, it is no product of letters
    try:
        return Quantity(parse(text), NO_UNIT, len(decimal[1]) if decimal is not None else None)
    except UnreadableError:
        return None


def compound(text: str) -> Quantity | None:
    """2 hours 30 minutes, 5 feet 3 inches, 36°52': several numbers with units of one kind, added."""
    text = re.sub(r"[‹›]", " ", text).strip()
    matches, place = [], 0
    while place < len(text) and len(matches) < 5:
        match = _PART.match(text, place)
        if match is None:
            return None
        matches.append(match)
        place = match.end()
    if len(matches) < 2 or place < len(text):
        return None
    total, found = Fraction(0), []
    for match in matches:
        name = match[2]
        if found and name in "'\"" and found[0].dimensions == ((units.DEGREE, 1),):
            unit = Unit(found[0].dimensions, Fraction(1, 60 if name == "'" else 3600))
        else:
            named = units.unit_of(f"‹{name}›")
            if named is None or named[1] != 1:
                return None
            unit = named[0]
        if (found and unit.dimensions != found[0].dimensions) or (
            unit.dimensions[:1] and unit.dimensions[0][0].startswith("~")
        ):
            return None
        found.append(unit)
        total += Fraction(match[1]) * unit.factor
    if [unit.factor for unit in found] != sorted({unit.factor for unit in found}, reverse=True):
        return None  # 5 cm 3 cm is no length
    return Quantity(number(total), Unit((*found[0].dimensions, ("compound", 0)), Fraction(1)))


# ---------------------------------------------------------------- equality


def same_amount(truth: Quantity, given: Quantity) -> bool:
    """Whether two are one amount: 28% is 28 and 0.28, 35 cm is 35 and 0.35 m. Raises TooLargeError."""
    left, right = truth.unit, given.unit
    percents = [unit.dimensions == units.PERCENT.dimensions for unit in (left, right)]
    if percents == [True, False] and not right.dimensions:
        return _equal(truth, given) or _equal(_hundredth(truth), given)
    if percents == [False, True] and not left.dimensions:
        # A whole number may stand for per cent, and so may one above 1; a share may not.
        share = _is_share(truth.tree)
        return (share is not True and _equal(truth, given)) or (share is not False and _equal(truth, _hundredth(given)))
    if bool(left.dimensions) != bool(right.dimensions) and ("compound", 0) in (*left.dimensions, *right.dimensions):
        return False  # 2 hours 30 minutes has no bare number
    if units.DEGREE in dict(left.dimensions) and "radian" in dict(right.dimensions):
        return _equal(truth, given._replace(tree=_degrees(given.tree)))
    if units.DEGREE in dict(right.dimensions) and "radian" in dict(left.dimensions):
        return _equal(truth._replace(tree=_degrees(truth.tree)), given)
    if _has_base(right) and not _has_base(left):
        return False  # 7_8 is no 7
    factor = units.agree(_simple(left), _simple(right))
    if factor is None:
        return False
    return _equal(truth, given if factor == 1 else Quantity(("*", number(factor), given.tree), right))


def _has_base(unit: Unit) -> bool:
    return any(name.startswith("base ") for name, _ in unit.dimensions)


def _simple(unit: Unit) -> Unit:
    return Unit(tuple(dimension for dimension in unit.dimensions if dimension[0] != "compound"), unit.factor)


def _degrees(tree: Tree) -> Tree:
    return ("/", ("*", number(180), tree), ("constant", "pi"))


def _hundredth(amount: Quantity) -> Quantity:
    return Quantity(("/", amount.tree, number(100)), NO_UNIT, None if amount.places is None else amount.places + 2)


def _is_share(tree: Tree) -> bool | None:
    """True below 1, False for a whole number above 1; None where it may be either, as 1 and 1.5."""
    if variables(tree):
        return None
    value = arithmetic.exact(tree, {})
    if value is None:
        return None
    return True if 0 < abs(value) < 1 else False if value.denominator == 1 and abs(value) > 1 else None


def _equal(truth: Quantity, given: Quantity) -> bool:
    try:
        return arithmetic.equal(truth.tree, given.tree) or _stands_for(truth, given) or _stands_for(given, truth)
    except UnreadableError:
        return False


def _stands_for(decimal: Quantity, fraction: Quantity) -> bool:
    """Whether one is the other to so many digits: 0.333333 is 1/3, and 0.333 is not; 1.414214 is no root of 2."""
    if decimal.places is None or fraction.places is not None or variables(fraction.tree):
        return False
    shown, value = arithmetic.exact(decimal.tree, {}), arithmetic.exact(fraction.tree, {})
    if shown is None or value is None or shown == 0 or _ends(value.denominator):
        return False
    digits = len(str(abs(int(shown * 10**decimal.places))))
    return digits >= SHOWN and abs(shown - value) * 2 <= Fraction(1, 10**decimal.places)


def _ends(denominator: int) -> bool:
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def rounds_to(exact: Quantity, rounded: Quantity) -> bool:
    """Whether `rounded`, as it is written, is a rounding of `exact`."""
    if variables(exact.tree) or variables(rounded.tree):
        return False
    try:
        value, shown = arithmetic.real(exact.tree), arithmetic.real(rounded.tree)
    except UnreadableError:
        return False
    return bool(abs(value - shown) <= arithmetic.real(number(Fraction(51, 100))) / 10 ** (rounded.places or 0))
