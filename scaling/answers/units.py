"""Units: what stands behind a number, as dimensions and a factor, so that 35 cm is 0.35 m and 18 apples are 18."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

F = Fraction


class Unit(NamedTuple):
    """`dimensions`: sorted (name, power); a noun that is no unit is a dimension of its own, "~apple"."""

    dimensions: tuple[tuple[str, int], ...]
    factor: Fraction


NO_UNIT = Unit((), F(1))
PERCENT = Unit((("%", 1),), F(1))
DEGREE = "degree"


def _table() -> dict[str, tuple[str, Fraction]]:
    rows = """
    length: m=1 meter metre=1 cm=1/100 centimeter centimetre=1/100 mm=1/1000 millimeter millimetre=1/1000 km=1000
        kilometer kilometre=1000 dm=1/10 decimeter=1/10 in inch inches=127/5000
        ft foot feet=381/1250 yd yard=1143/1250 mi mile=201168/125
        米=1 厘米=1/100 毫米=1/1000 千米 公里=1000 分米=1/10 nm=1/1000000000
    mass: g gram gramme 克=1/1000 kg kilogram kilo 千克 公斤=1 mg milligram=1/1000000 lb lbs pound=45359237/100000000
        oz ounce=45359237/1600000000 tonne t 吨=1000 ton=1000
    time: s sec second 秒=1 ms millisecond=1/1000 min minute mins 分钟 分=60 h hr hrs hour 小时=3600 day
        天=86400 week 周=604800
    years: year yr 年 岁=1 month 个月=1/12 decade=10 century centuries=100
    litre: l liter litre 升=1 ml milliliter millilitre 毫升=1/1000 cl=1/100 gallon gal=3.785 quart=0.94625
    $: $ dollar usd buck 美元=1 cent ¢=1/100
    euro: € euro eur=1
    £: £ gbp=1 pence=1/100
    ¥: ¥ yen yuan rmb cny 元 块=1
    rupee: ₹ rupee rs inr=1
    degree: ° degree deg 度=1
    radian: rad radian=1
    %: % percent pct percentage=1
    unit: unit=1
    N: n newton=1
    J: j joule=1 kj=1000
    W: w watt=1 kw=1000
    V: v volt=1
    A: amp ampere=1
    ohm: ohm Ω=1
    Hz: hz hertz=1
    Pa: pa pascal=1 kpa=1000
    K: k kelvin=1
    °C: °c celsius=1
    °F: °f fahrenheit=1
    mol: mol mole=1
    """
    found = {}
    for line in re.sub(r"\n        ", " ", rows).strip().splitlines():
        dimension, _, entries = line.strip().partition(": ")
        for group in re.findall(r"([^=]+)=(\S+)", entries):
            for name in group[0].split():
                found[name] = (dimension, F(group[1]))
    return found


TABLE = _table()
COMPOSED = {
    "mph": "mi/h", "kph": "km/h", "kmh": "km/h", "mps": "m/s", "fps": "ft/s",
}  # fmt: skip
BARE_LETTERS = {"m", "s", "g", "h", "l", "t", "n", "j", "w", "v", "k"}
SCALES = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
    "万": 10**4, "亿": 10**8,
}  # fmt: skip
# Words that say more about a number than what is counted: with them a text is no quantity.
_NOT_NOUNS = """
or and not if is are was than less more least most mod modulo plus minus over divided multiplied squared
cubed factorial power root to from between but except without unless wrong false no non never maybe perhaps
any all either neither nor else up below above under greater fewer otherwise where when for with because
since approximately about roughly nearly almost different base choose log ln sin cos tan sqrt pi negative
positive infinity undefined mixed halves half third thirds quarter quarters fourths fifths tenths hundredths
thousandths remainder
"""
NOT_NOUNS = set(_NOT_NOUNS.split())


def _singular(word: str) -> str:
    for ending, new in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss"), ("s", "")):
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith("ss"):
            return word[: len(word) - len(ending)] + new
    return word


def _known(word: str) -> tuple[str, Fraction] | None:
    lower = word.lower()
    return TABLE.get(lower) or TABLE.get(_singular(lower)) if word != "M" else None


def unit_of(text: str) -> tuple[Unit, Fraction] | None:
    """The unit that a text names, and the factor of `thousand` or `dozen` in it; None where it names none.

    ‹ › mark text. A single letter without the mark is a unit only behind a space, or with others: 5 m, 18 km/h.
    """
    marked = "‹" in text
    plain = re.sub(r"[‹›{}]", " ", text)
    if len(plain) > 80 or not plain.strip() or re.search(r"[=<>\\|,:!]|\d{2}", plain):
        return None
    plain = re.sub(r"\s*\^\s*(-?\d)", r"^\1", " ".join(plain.split()))
    plain = re.sub(r"\s*([/*])\s*", r" \1 ", re.sub(r"\bper\b|每", " / ", plain)).strip()
    lone = re.fullmatch(r"[A-Za-z](?:\^\d)?", plain)
    if lone and not marked and not (text[0].isspace() and plain[0] in BARE_LETTERS):
        return None
    scale, sign, power_before, dimensions, factor = F(1), 1, 1, {}, F(1)
    nouns: list[str] = []
    for token in plain.split():
        if token in "/*":
            sign = -1 if token == "/" else sign
            continue
        found = re.fullmatch(r"([^\W\d_]+|[$€£¥₹¢%]|°[CF]?)\.?(?:\^?(-?\d))?", token)
        if found is None:
            return None
        word, power = found.group(1), int(found.group(2) or 1)
        lower = word.lower()
        if lower in SCALES:
            scale *= SCALES[lower]
        elif lower in ("square", "sq", "平方", "cubic", "cu", "立方"):
            power_before = 3 if lower in ("cubic", "cu", "立方") else 2
        elif lower in ("squared", "cubed") and dimensions:
            name, had = list(dimensions.items())[-1]
            dimensions[name] = had * (2 if lower == "squared" else 3)
        elif lower in ("of", "in", "each", "the", "a", "total", "people's") and (nouns or dimensions or lower != "in"):
            continue
        elif lower in NOT_NOUNS:
            return None
        elif lower in COMPOSED:
            inner = unit_of(f"‹{COMPOSED[lower]}›")
            assert inner is not None
            dimensions |= dict(inner[0].dimensions)
            factor *= inner[0].factor
        else:
            for prefix, squared in (("平方", 2), ("立方", 3)):
                if word.startswith(prefix) and len(word) > 2:
                    word, power_before = word[2:], squared
            known = _known(word)
            power *= sign * power_before
            power_before = 1
            if known is None:
                if len(word) < 3 and word.isascii():
                    return None
                nouns.append(_singular(lower))
                continue
            dimension = "length" if known[0] == "litre" else known[0]
            # A litre is a cubic decimetre.
            times, size = (3, F(1, 1000) * known[1]) if known[0] == "litre" else (1, known[1])
            dimensions[dimension] = dimensions.get(dimension, 0) + times * power
            factor *= size**power
    if len(nouns) > 4:
        return None
    named = dimensions or {f"~{noun}": 1 for noun in nouns}
    return Unit(tuple(sorted(named.items())), factor), scale


def agree(truth: Unit, given: Unit) -> Fraction | None:
    """The factor from the given unit to the truth's; None where the two measure different things."""
    if truth == given or not truth.dimensions or not given.dimensions:
        return F(1)
    left, right = dict(truth.dimensions), dict(given.dimensions)
    if left == right:
        return given.factor / truth.factor
    if "unit" in left or "unit" in right:
        powers = {sum(left.values()), sum(right.values())}
        return F(1) if len(powers) == 1 and not any(name.startswith("~") for name in [*left, *right]) else None
    nouns = [{name for name in side if name.startswith("~")} for side in (left, right)]
    return F(1) if nouns[0] & nouns[1] else None
