"""What pages, tables and captions are written with: numbers, plurals, names and intervals as words.

This module computes nothing and imports only the type `Frame` and the laws of `analysis`, so every other part may use
it. A symbol is a letter and its subscript, `N0`; `math_symbol` and `latex_symbol` are the same for figures and LaTeX.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from analysis.curves.frame import Frame
from analysis.laws import Law, get_law


def counted(n: int, word: str) -> str:
    """`1 run`, `14 curves`, `1,214 points`."""
    return f"{n:,} {word}" + ("" if n == 1 else "s")


def short_number(value: float) -> str:
    """At most three digits and a word for the size: 145k, 0.5B, 7B, 1.2T."""
    steps = [(999.5, 1, ""), (999.5e3, 1e3, "k"), (5e8, 1e6, "M"), (999.5e9, 1e9, "B"), (np.inf, 1e12, "T")]
    for limit, divisor, unit in steps:
        if value < limit:
            return f"{value / divisor:.3g}{unit}"
    return "∞"


def number(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """A number for a caption: `digits` decimals, true minus, no zero before the point; `sign` also writes a plus."""
    text = f"{abs(value):.{digits}f}".removeprefix("0")
    if float(f"{value:.{digits}f}") == 0:
        return "." + "0" * digits
    return ("−" if value < 0 else "+" if sign else "") + text


def power_of_ten(value: float, *, math: bool = False) -> str:
    """2.1×10¹⁸, for captions (plain) or figures (mathtext)."""
    head, _, exponent = f"{value:.1e}".partition("e")
    head, exponent = head.removesuffix(".0"), int(exponent)
    if math:
        return rf"{head}×10$^{{{exponent}}}$"
    return f"{head}×10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def between(low: int, high: int, word: str) -> str:
    """`2 runs` or `1–3 runs`."""
    return counted(int(low), word) if low == high else f"{low}–{high} {word}s"


def joined(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`; nothing for no words."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def labelled(size: str, condition: str) -> str:
    """`xs 20.8k`, or `xs 20.8k (modulus 10)` where a condition has to be told."""
    return f"{size} ({condition})" if condition else size


def size_labels(frame: Frame) -> dict[float, str]:
    """`0.5B`, and `s 55.8k` where the model's name is a short one that does not say its size."""
    labels = {}
    for size, rows in frame.groupby("size"):
        name = rows["model"].iloc[0]
        bare = not isinstance(name, str) or len(name) > 6 or re.search(r"\d[kMBT]\b", name)
        labels[size] = short_number(float(size)) if bare else f"{name} {short_number(float(size))}"
    return labels


def labels_of(law: Law, frame: Frame) -> dict[float, str]:
    """The names of what the law calls N: sizes, or `τ = 32`."""
    if not law.group:
        return size_labels(frame)
    return {float(value): f"{law.letter} = {value:.4g}" for value in sorted(frame["size"].unique())}


def split_symbol(symbol: str) -> tuple[str, str]:
    """The letter and the subscript of a symbol; a word stays whole."""
    return (symbol[0], symbol[1:]) if re.match(r"[A-ZΑ-Ωα-ωa-z]\d|[A-Z][\w∞*]", symbol) else (symbol, "")


def math_symbol(symbol: str) -> str:
    r"""`$\mathit{N}_0$`, for figures."""
    letter, below = split_symbol(symbol)
    below = f"_{below}" if len(below) == 1 else f"_{{{below}}}" if below else ""
    return rf"$\mathit{{{letter}}}{below}$"


GREEK = {"α": r"\alpha", "β": r"\beta", "λ": r"\lambda", "τ": r"\tau"}


def latex_symbol(symbol: str) -> str:
    r"""`$N_0$`, `$K_{\max}$`, `$R^2$`."""
    letter, below = split_symbol(symbol)
    if symbol == "R2":
        return "$R^2$"
    below = {"max": r"{\max}", "∞": r"\infty"}.get(below, below if len(below) < 2 else rf"{{\mathrm{{{below}}}}}")
    return f"${GREEK.get(letter, letter)}{'_' if below else ''}{below}$"


COMMON = ("Kmax", "N0", "R2")  # on every page: of the learning efficiency, and of goodness


def symbol_pattern(symbols: Sequence[str]) -> re.Pattern[str]:
    """Symbols with a subscript where they stand in a sentence, and the common ones."""
    known = {*COMMON, *(symbol for symbol in symbols if split_symbol(symbol)[1])}
    words = "|".join(re.escape(symbol) for symbol in sorted(known, key=lambda symbol: (-len(symbol), symbol)))
    return re.compile(rf"(?<!\w)({words})(?![\w∞*])")


def interval_text(low: float, high: float, digits: int = 3, *, sign: bool = False) -> str:
    return f"[{number(low, digits, sign=sign)}, {number(high, digits, sign=sign)}]"


def largest_miss(residuals: Frame, labels: dict[float, str]) -> str:
    """Where the means of the measured loss are farthest from the law."""
    worst = residuals.loc[residuals["percent"].abs().idxmax()]
    percent = f"{worst['percent']:+.1f}".replace("-", "−")
    return f"the largest mean miss is {percent} % at {labels[worst['size']]}, step {worst['step']:.0f}"


def law_in_words(record: dict[str, Any], letter: str) -> str:
    """The law's formula with its symbols, this figure's x, and Unicode for what the record spells in ASCII."""
    law = get_law(record["law"])
    names = law.symbols | {"X": letter} | ({"tau": law.letter} if law.letter == "τ" else {}) | {"phi": "φ"}
    formula = re.sub(r"[A-Za-z]\w*", lambda word: names.get(word[0], word[0]), record["formula"])
    return formula.replace("-", "−")


def _without_brackets(condition: str) -> str:
    """A condition without the one pair of brackets around all of it; `(a) and (b)` as it is."""
    inside = condition[1:-1]
    depths = list(accumulate((sign == "(") - (sign == ")") for sign in inside))
    return condition if min(depths, default=0) < 0 else inside


def window_in_words(record: dict[str, Any]) -> str:
    window = record["window"]
    words = [f"steps {window['first_step']}–{window['last_step']}"]
    if window["points"]:
        words.append(f"points {window['points']} of each curve")
    if window["where"]:
        words.append(f"where {_without_brackets(window['where'])}")
    return ", ".join(words)


def unidentified_in_words(record: dict[str, Any]) -> str:
    symbols = get_law(record["law"]).symbols
    missing = [symbols[name] for name, entry in record["values"].items() if not entry["identified"]]
    return f"Not identified by these data: {joined(missing)}." if missing else ""


def crossing_interval(low: float, high: float) -> str:
    if np.isnan(low) and np.isnan(high):
        return "(not bounded in the range that both were run)"
    ends = ["open" if np.isnan(end) else power_of_ten(end) for end in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"


def interval_words(ends: Sequence[float | None], show: Any) -> str:
    return "[" + ", ".join("open" if end is None else show(end) for end in ends) + "]"


AXES = {
    "train_flops": "training compute",
    "prompts_seen": "prompts seen",
    "total_flops": "total compute",
    "tokens_seen": "tokens seen",
    "step": "steps",
}


def amount(value: float) -> str:
    """A number of at most three digits: .043, 1.25, 17.4, 482."""
    if abs(value) < 1:
        return number(value)
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return number(value, digits)


def interval(ends: Sequence[float | None] | None, show: Callable[[float], str] = amount) -> str:
    """`[.02, .05]`; an open end is said in words, a missing interval too."""
    if ends is None:
        return "no interval"
    low, high = ends
    if low is None and high is None:
        return "no bounds"
    return f"[{'no lower bound' if low is None else show(low)}, {'no upper bound' if high is None else show(high)}]"


def parameter(value: Mapping[str, Any]) -> str:
    """A value of a fit with its interval, or that it is not identified; never the value alone."""
    show = show_of(value)
    if "fixed" in value:
        return f"{show(value['value'])} (fixed)"
    return f"{show(value['value'])} {interval(value['ci95'], show)}" if value["identified"] else "not identified"


def show_of(value: Mapping[str, Any]) -> Callable[[float], str]:
    return short_number if value["unit"] == "parameters" else amount


def contains_zero(ends: Sequence[float | None] | None) -> bool:
    return ends is not None and (ends[0] is None or ends[0] <= 0) and (ends[1] is None or ends[1] >= 0)


def span(values: Sequence[float], show: Callable[[float], str] = amount) -> str:
    """`.21–.28`, or the one value where all are shown alike."""
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low}–{high}"


def whole(value: float) -> str:
    return f"{value:,.0f}"


AXIS_SHORT = {"train_flops": "C", "prompts_seen": "D", "tokens_seen": "T", "step": "t"}


def as_sentence(text: str, symbols: Sequence[str] = ()) -> str:
    """With a capital and a full stop; a symbol of the law at its beginning stays as it is."""
    text = text.strip()
    begins_with_symbol = re.split(r"[\s,]", text)[0] in symbols
    return (text[:1] if begins_with_symbol else text[:1].upper()) + text[1:] + ("" if text.endswith(".") else ".")


Labels = Mapping[float, str]


def signed(value: float) -> str:
    return number(value, sign=True)


def ended(text: str) -> str:
    """A reason after a colon, with its full stop."""
    return text.strip().rstrip(".") + "."


def at_x(axis: str, value: float) -> str:
    """`C = 3.5×10¹¹ FLOPs`, `D = 960`."""
    return f"{AXIS_SHORT.get(axis, 'X')} = {show_x(axis)(value)}{' FLOPs' if axis.endswith('flops') else ''}"


def show_x(axis: str) -> Callable[[float], str]:
    return power_of_ten if axis.endswith("flops") else count_words


def count_words(value: float) -> str:
    """A count of prompts, tokens or steps: 12.5, 960, 53,760, 2.1×10⁹."""
    return f"{value:,.4g}" if value < 1e3 else whole(value) if value < 1e7 else power_of_ten(value)


RAW = r"\d(?:\.\d+)?e[+-]\d\d"  # as records and errors write a number that is not near 1
SIZES = re.compile(rf"(?<![\w.])((?:N|N0|size|sizes) [=<>]? ?)({RAW}(?:, {RAW})*)")


def number_words(text: str) -> str:
    """A sentence of a record or an error with its raw numbers as a page writes them: `N = 162B`, `X = 9×10²⁰`."""
    text = SIZES.sub(lambda m: m[1] + ", ".join(short_number(float(one)) for one in m[2].split(", ")), text)
    return re.sub(rf"(?<![\w.]){RAW}(?!\w)", lambda m: power_of_ten(float(m[0])), text)


def overlap(one: Sequence[float | None], two: Sequence[float | None]) -> bool:
    """Whether two intervals of positive values share one; an open end, None, goes on."""
    (a, b), (c, d) = ((low or 0.0, math.inf if high is None else high) for low, high in (one, two))
    return a <= d and c <= b


def study_in_words(study: Mapping[str, Any], size_label: Callable[[float], str]) -> str:
    """The verdict of pairs over all sizes (`analysis.compare_by`, `studies`): a difference that is shown, or none."""
    if "error" in study:
        return f"not compared over sizes: {study['error']}"
    over = f"over {counted(study['n_sizes'], 'size')}"
    at = joined([size_label(size) for size in study["shown_at"]])
    shown_at = f"shown at {at}" if at else "at no size by itself"
    if study["multiplier"] is None:
        without = "the losses do not fall, so there is no multiplier"
        if not study["difference_shown"]:
            return f"no difference shown {over}; {without}"
        what = "slopes" if study["p_slope"] < study["p_level"] else "levels"
        return f"the {what} differ {over} (p = {study['p']:.2g}); {without}; {shown_at}"
    multiplier, (low, high) = study["multiplier"], study["ci95"]
    power = f"a multiplier of 1.5 is shown in {100 * study['power_at_1.5']:.0f} % of such studies"
    if not study["difference_shown"]:
        return f"no difference shown (multiplier {amount(multiplier)} {interval([low, high])} {over}; {power})"
    if study["p_slope"] < study["p_level"]:
        said = f"the slopes differ (p = {study['p']:.2g}), multiplier in the middle {amount(multiplier)} "
        said += f"{interval([low, high])} {over}"
    elif multiplier >= 1:
        said = f"{amount(multiplier)} times less compute {interval([low, high])} {over} (p = {study['p']:.2g})"
    else:
        ends = interval([1 / high, 1 / low])
        said = f"{amount(1 / multiplier)} times more compute {ends} {over} (p = {study['p']:.2g})"
    return f"{said}; {shown_at}"
