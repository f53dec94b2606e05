"""What a user may choose in a fit: its points, its axis, its objective and its split. Choices are checked here.

A split holds points out before anything is fitted:

- `intra:F`: fit the first fraction F of each curve's points, predict the rest of the same curves.
- `inter`: fit every size but the largest, predict the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.curves.check import check_where
from analysis.curves.frame import RUN_KEYS, Curves
from analysis.laws import Law, get_law
from scaling import schema
from scaling.schema import InputError, check_name, did_you_mean


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


CHOICES = {
    "where": "algorithm == grpo", "steps": "3:60", "points": ":-80", "x": "train_flops", "law": "efficiency",
    "objective": "log", "size_column": "num_params", "by": "algorithm", "split": "inter",
}  # fmt: skip


def check_choices(choices: dict[str, Any], expected: Curves) -> None:
    """Check the analysis section of a study that has not run, on what `analysis.curves.load.expect` makes of it.

    Whatever a fit would refuse after hours of training is refused here; how many points there are only a run can tell.
    """
    for name, value in choices.items():
        check_name(name, CHOICES, "choice of a fit")
        if not isinstance(value, str):
            raise InputError(f'{name} wants text, such as "{CHOICES[name]}" in quotes, not {value!r}.')
    law = get_law(choices.get("law", CHOICES["law"]))
    check_name(choices.get("objective", CHOICES["objective"]), OBJECTIVES, "objective")
    for name in ("steps", "points"):
        parse_window(choices.get(name), name)
    parse_split(choices.get("split", "none"))
    if not law.group:
        choose_size_column(expected, choices.get("size_column"))
    check_name(choices.get("x", CHOICES["x"]), legal_x(expected.table), "x column")
    if "by" in choices:
        constant = [*RUN_KEYS, "reuse_factor", *expected.settings, "run_id"]
        check_name(
            choices["by"], [n for n in constant if n in expected.table], "column that is constant in a run, for by"
        )
    if "where" in choices:
        check_where(expected, choices["where"])


def legal_x(table: pd.DataFrame) -> list[str]:
    """The columns that may stand on the horizontal axis."""
    never = ("num_params", "num_params_non_embedding", "seed", "reuse_factor", *schema.EVAL_COLUMNS)
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
