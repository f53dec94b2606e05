"""What a user may choose in a fit: its law, its points, its axis, its objective and its split. It is checked here.

Public functions take the choices as keywords (`Given`) and make a `Choices` of them at the door; inside, that one
object is passed. A split holds points out before anything is fitted:

- `intra:F`: fit the first fraction F of each curve's points, predict the rest of the same curves.
- `inter`: fit every size but the largest, predict the largest.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import pandas as pd

from analysis.curves.check import check_where
from analysis.curves.frame import RUN_KEYS, Curves
from analysis.curves.where import both
from analysis.laws import Law, get_law, give, within
from scaling import schema
from scaling.schema import InputError, check_name, clip, did_you_mean


@dataclass(frozen=True)
class Split:
    """How points are held out: kind `none`, `inter` or `intra`; `fraction` of each curve that is fitted (intra)."""

    kind: str = "none"
    fraction: float = 1.0

    @property
    def text(self) -> str:
        return f"intra:{self.fraction:g}" if self.kind == "intra" else self.kind


def parse_split(text: str) -> Split:
    """A Split from `none`, `inter` or `intra:FRACTION`. Raises InputError."""
    if text in ("none", "inter"):
        return Split(text)
    kind, _, fraction = text.partition(":")
    legal = "none, inter, intra:FRACTION with a fraction between 0 and 1 (intra:0.3)"
    if kind != "intra":
        raise InputError(
            f"split: {text!r} is not a split; there are {legal}.{did_you_mean(kind, ['none', 'inter', 'intra'])}"
        )
    try:
        value = float(fraction)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise InputError(f"split: {text!r} has no legal fraction; there are {legal}.")
    return Split("intra", value)


OBJECTIVES = {
    "log": "least squares on ln L, weights Q L / (1 - L) from the fitted curve",
    "binomial": "likelihood of the counts of errors",
    "linear": "squared error on L, equal total weight per size",
    "huber": "Huber loss of ln L, delta 1e-3: errors beyond a thousandth count in proportion, not squared",
}
# An example of each choice that is text.
EXAMPLES = {
    "where": "algorithm == grpo", "where_only": "algorithm == grpo", "steps": "3:60", "points": ":-80",
    "x": "train_flops", "law": "efficiency", "objective": "log", "size_column": "num_params", "by": "algorithm",
    "split": "inter", "bounds": "published", "fix": "n0=13e9", "bound": "k_max=0:2",
}  # fmt: skip


# ---------------------------------------------------------------- parameters


def parse_bounds(fix: str | None, bound: str | None) -> dict[str, tuple[float, float]]:
    """Bounds by name of parameter from "n0=13e9, k_max=0.5" (both ends equal) and "k_max=0:2". Raises InputError."""
    chosen: dict[str, tuple[float, float]] = {}
    for what, text, form, example in (
        ("fix", fix, "NAME=VALUE", "n0=13e9"),
        ("bound", bound, "NAME=LOW:HIGH", "k_max=0:2"),
    ):
        for part in [] if text is None else text.split(","):
            name, sign, value = part.partition("=")
            name, ends = name.strip(), value.split(":") if what == "bound" else [value, value]
            try:
                low, high = (float(end) for end in ends)
            except ValueError:
                low = high = math.nan
            if not sign or math.isnan(low) or math.isnan(high) or (what == "fix" and math.isinf(low)):
                raise InputError(f"{what}: {part.strip()!r} is not {form}; write e.g. {example}, several with a comma.")
            if what == "bound" and not low < high:
                raise InputError(f"bound: {part.strip()!r} must have the lower end first; to fix {name} use fix.")
            if name in chosen:
                raise InputError(f"{what}: {name} is bounded twice; give it once.")
            chosen[name] = (low, high)
    return chosen


# ---------------------------------------------------------------- points


def parse_window(text: str | None, what: str) -> tuple[int | None, int | None]:
    """(A, B) of `A:B`; either may be empty. Raises InputError."""
    if text is None:
        return None, None
    example = "3: or :60 or 3:60" if what == "steps" else ":-80 or 10: or 10:40"
    parts = str(text).split(":")
    try:
        low, high = (int(part) if part.strip() else None for part in parts)
    except ValueError:
        raise InputError(f"{what}: {text!r} is not A:B with whole numbers; write e.g. {example}.") from None
    if what == "steps" and ((low or 0) < 0 or (high is not None and high < 0)):
        raise InputError(f"steps: {text!r} has a negative step; steps count from 0. For the last points use points.")
    if what == "steps" and high is not None and high < (low or 0):
        raise InputError(f"steps: {text!r} ends before it begins; write e.g. {example}.")
    return low, high


@dataclass(frozen=True)
class Choices:
    """Every choice that decides a fit, checked as far as it can be without curves. Raises InputError.

    Fields:
        law: a name of `analysis.laws`; x: the column on the horizontal axis, None for the law's own (`axis`).
        objective: a name of OBJECTIVES.
        where: which rows, e.g. `num_params <= 32e9 and algorithm == grpo`; None for all.
        steps: "A:B", the steps A to B, both included. points: "A:B", a slice of each curve after step 0 is dropped.
        split: none, inter or intra:FRACTION; held-out points are scored and never fitted.
        size_column: what N is; None for `num_params_non_embedding` where present, else `num_params`.
        seed: of random numbers: self-tests and forecasts draw, fits draw none.
        bounds: "published" for the parameter bounds of the law's source; None for wide ones.
        fix: parameters held at a value, "n0=13e9"; bound: held between two, "k_max=0:2". Several with commas, in the
            parameters' own units, before any other bounds.
    """

    law: str = "efficiency"
    x: str | None = None
    objective: str = "log"
    where: str | None = None
    steps: str | None = None
    points: str | None = None
    split: str = "none"
    size_column: str | None = None
    seed: int = 0
    bounds: str | None = None
    fix: str | None = None
    bound: str | None = None

    def __post_init__(self) -> None:
        _ = self.formula
        check_name(self.objective, OBJECTIVES, "objective")
        parse_window(self.steps, "steps")
        parse_window(self.points, "points")
        parse_split(self.split)
        if self.bounds is not None:
            check_name(self.bounds, ["published"], "set of bounds")

    @property
    def formula(self) -> Law:
        """The law, with the bounds that were chosen."""
        law, chosen = get_law(self.law), parse_bounds(self.fix, self.bound)
        return within(law, chosen) if chosen else law

    def with_law(self, name: str) -> Choices:
        """The same choices of another law; bounds that were chosen are of the law they were chosen for."""
        return self if name == self.law else replace(self, law=name, fix=None, bound=None)

    def axis(self, curves: Curves) -> str:
        """The column on the horizontal axis: the one chosen, else the first of the law's own that the curves have."""
        law = self.formula
        if law.axes:
            return law.axes[0]
        return self.x or next((name for name in law.x if name in curves.table), law.x[0])

    def rows(self, curves: Curves) -> Curves:
        """The curves after `where`. A law of something else than sizes describes one size: the one at which most values
        of it were run, of several the smallest."""
        chosen = curves if self.where is None else curves.where(self.where)
        group, table = self.formula.group, chosen.table
        if not group or group not in table or table["num_params"].nunique() < 2:
            return chosen
        size = table.groupby("num_params")[group].nunique().idxmax()
        return chosen.where(f"num_params == {size}")


class Given(TypedDict, total=False):
    """The choices as keywords of a public function; None stands for the default. See `Choices`.

    `where` adds to the condition of a study's own section where that counts; `where_only` stands in its place.
    """

    law: str | Law | Callable[..., Any] | None
    x: str | None
    objective: str | None
    where: str | None
    where_only: str | None
    steps: str | None
    points: str | None
    split: str | None
    size_column: str | None
    seed: int | None
    bounds: str | None
    fix: str | Sequence[str] | Mapping[str, float] | None
    bound: str | Sequence[str] | Mapping[str, tuple[float, float]] | None


def check_text(what: str, value: Any, example: str) -> str:
    """Raise InputError unless what a caller gave is text."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{what} wants text, such as {example!r}, not {clip(repr(value))}.")
    return value


def check_number(what: str, value: Any, *, whole: bool = False, least: float = -math.inf) -> Any:
    """Raise InputError unless what a caller gave is a number, and one as it is wanted."""
    fits = isinstance(value, numbers.Integral if whole else numbers.Real) and not isinstance(value, bool)
    if not fits or value < least:
        wanted = f"a {'whole ' * whole}number" + ("" if math.isinf(least) else f" from {least:g} on")
        raise InputError(f"{what} wants {wanted}, not {clip(repr(value))}.")
    return value


def check_several(what: str, value: Any, example: str) -> list[Any]:
    """Raise InputError unless what a caller gave is a list, a tuple or an array that is not empty."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable) or not (several := list(value)):
        raise InputError(f"{what} wants a list, such as {example}, not {clip(repr(value))}.")
    return several


def _in_one_text(what: str, value: Any) -> str:
    """`n0=13e9, k_max=0.5` of such a text, of several, or of a mapping."""
    if not isinstance(value, str | Mapping) and not (
        isinstance(value, Sequence) and all(isinstance(one, str) for one in value)
    ):
        raise InputError(f"{what} wants text such as {EXAMPLES[what]!r}, a list of such, or a mapping, not {value!r}.")
    if isinstance(value, Mapping):
        value = [
            f"{name}={':'.join(map(str, ends)) if isinstance(ends, Sequence) else ends}" for name, ends in value.items()
        ]
    return value if isinstance(value, str) else ", ".join(value)


def choose(given: Given, without: Sequence[str] = ()) -> Choices:
    """The choices given by keyword over the defaults; `without`: choices that this function does not take."""
    legal = [name for name in Given.__annotations__ if name not in without]
    for name in given:
        check_name(name, legal, "choice here")
    known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if "law" in known and not isinstance(known["law"], str):
        if not (isinstance(known["law"], Law) or callable(known["law"])):
            raise InputError(f"law: {known['law']!r} is neither a name, a Law nor a function of N, X and parameters.")
        known["law"] = give(known["law"])
    for name in known.keys() & EXAMPLES.keys() - {"law", "fix", "bound"}:
        check_text(name, known[name], EXAMPLES[name])
    if "seed" in known:
        check_number("seed", known["seed"], whole=True, least=0)
    known |= {name: _in_one_text(name, known[name]) for name in ("fix", "bound") if name in known}
    known = {name: value for name, value in known.items() if name not in ("fix", "bound") or value}
    only = known.pop("where_only", None)
    if only is not None and "where" in known:
        raise InputError(
            f"where and where_only: {known['where']!r} adds to the study's own, {only!r} stands in its place; "
            "give one of them."
        )
    return Choices(**known, **({} if only is None else {"where": only}))


def choose_for(curves: Curves, given: Given, without: Sequence[str] = ()) -> Choices:
    """The choices given over those of the study's `analysis:` section, and both over the defaults.

    A `where` that is given adds to that of the section: both must hold. `where_only` stands in its place. `without`
    names choices of the section that do not count here. Its `by` says how many fits there are and is no part of one.
    Its x belongs to its law: another law that is given here and has an axis of its own keeps that.
    """
    chosen: Any = {name: value for name, value in curves.defaults.items() if name not in ("by", *without)}
    law = given.get("law")
    if law is not None and law != chosen.get("law", "efficiency"):
        chosen = {name: value for name, value in chosen.items() if name not in ("fix", "bound")}  # of another law
        if isinstance(law, str) and get_law(law).x[0] != "train_flops":
            chosen.pop("x", None)
    own = chosen.pop("where", None)
    chosen |= {name: value for name, value in given.items() if value is not None}
    if "where_only" not in chosen and (where := both(own, chosen.get("where"))) is not None:
        chosen["where"] = where
    return choose(chosen)


SECTION = [name for name in EXAMPLES if name not in ("where_only", "bounds")]  # what a study's `analysis:` may choose


def check_choices(section: Mapping[str, Any], expected: Curves) -> Choices:
    """The choices of the analysis section of a study that has not run, checked on what `analysis.curves.load.expect`
    makes of it.

    Whatever a fit would refuse after hours of training is refused here: each choice as such, and in
    `analysis.fitting.fit.check_planned` what it leaves of the sizes and steps that are planned.
    """
    for name, value in section.items():
        check_name(name, SECTION, "choice of a fit")
        if not isinstance(value, str):
            raise InputError(f'{name} wants text, such as "{EXAMPLES[name]}" in quotes, not {value!r}.')
    choices = Choices(**{name: value for name, value in section.items() if name != "by"})
    if not choices.formula.group:
        choose_size_column(expected, choices.size_column)
    check_name(choices.axis(expected), legal_x(expected.table), "x column")
    if "by" in section:
        constant = [*RUN_KEYS, "reuse_factor", *expected.settings, "run_id"]
        check_name(
            section["by"], [n for n in constant if n in expected.table], "column that is constant in a run, for by"
        )
    if choices.where is not None:
        check_where(expected, choices.where)
    return choices


def legal_x(table: pd.DataFrame) -> list[str]:
    """The columns that may stand on the horizontal axis."""
    never = ("num_params", "num_params_non_embedding", "seed", "reuse_factor", "loss_error", *schema.EVAL_COLUMNS)
    return [name for name in table.select_dtypes("number").columns if name not in never]


def choose_size_column(curves: Curves, name: str | None, law: Law | None = None) -> str:
    """The column that holds N: the one named, else without embeddings where present, else `num_params`; or the column
    that the law has in its place."""
    if law is not None and law.group:
        if law.group not in curves.table or curves.table[law.group].isna().any():
            raise InputError(f"{curves.source}: law {law.name} needs column {law.group} in every row.")
        return law.group
    present = [c for c in ("num_params_non_embedding", "num_params") if c in curves.table]
    if name is not None and name not in present:
        raise InputError(
            f"size_column: {name!r} is not a size of {curves.source}; it has {', '.join(present)}."
            f"{did_you_mean(name, present)}"
        )
    return name or present[0]
