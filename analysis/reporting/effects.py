"""Section: what one algorithm changes in the slope k, the level and the effective compute, by pairs of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.missing import Missing
from analysis.questions.pairs import FEW_PAIRS, Effects
from analysis.reporting.section import Section
from analysis.reporting.tables import Column, Table, ends_of, of, put_ends
from analysis.words import amount, contains_zero, counted, ended, interval, number, signed, whole


def algorithm_effects(given: Effects | Missing) -> Section:
    """Difference of k, level and E, and the effective-compute multiplier at the ends of the shared losses."""
    if isinstance(given, Missing):
        return Section([f"Slopes and compute are not compared: {ended(given.reason)}"], {})
    base, other = given.names
    rows = []
    for label, one in zip(given.labels, given.record["comparisons"], strict=True):
        row: dict[str, Any] = {"label": label, "num_params": one["num_params"], "pairs": one["n_pairs"]}
        row["algorithm"] = str(one["algorithm"]).upper()
        for name in ("efficiency", "level", "intercept"):
            row[name] = one[name]["mean"]
            put_ends(row, f"{name}_", one[name]["ci95"])
        for name, entry in zip(("first", "last"), ends_of_list(one["multiplier"]), strict=True):
            row |= {f"{name}_{key}": (entry or {}).get(key) for key in ("loss", "multiplier")}
            put_ends(row, f"{name}_", (entry or {}).get("ci95"))
        rows.append(row | {"reason": one["no_multiplier"]})
    frame = pd.DataFrame(rows)
    several = frame["algorithm"].nunique() > 1
    frame = frame if several else frame.drop(columns="algorithm")
    one_other = "the other" if several else other
    columns = [
        Column("size", of("label")),
        Column("pairs", of("pairs", whole)),
        Column("k", lambda row: with_ends(row, "efficiency", signed)),
        Column("ln L, middle", lambda row: with_ends(row, "level", signed)),
        Column("E", lambda row: with_ends(row, "intercept", lambda value: number(value, 1, sign=True))),
        Column("multiplier, highest L", lambda row: multiplier_cell(row, "first")),
        Column("multiplier, lowest L", lambda row: multiplier_cell(row, "last")),
    ]  # fmt: skip
    note = (
        f"k, ln L, E: {one_other} minus {base}, mean over pairs of one seed with its t interval; each run's own line "
        "against C. Middle: at the middle of the C that all runs of the pairs had; E is ln L at C = 1, far outside the "
        f"data, and follows k. Multiplier: C that {base} needs for a loss over what {one_other} needs for it, at both "
        f"ends of the losses that every run passes, with a band that holds at all of them together; above 1 "
        f"{one_other} needs less. Where curves bend, it is that of the lines."
    )
    without = [f"{row['label']}: {row['reason']}" for row in rows if row["reason"]]
    note += f" No multiplier: {'; '.join(without)}." if without else ""
    unpaired = given.record["unpaired"]
    note += f" {counted(len(unpaired), 'run')} without a partner." if unpaired else ""
    table = Table(
        "algorithm_effects", f"{base} and {other}: learning efficiency and effective compute", frame, columns, note
    )
    said = [f"{verdict}." for verdict in given.verdicts()]
    said += [effect_sentence(row, base, row["algorithm"]) for row in rows]
    return Section(said, {"algorithm_effects": table})


def ends_of_list(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    return (rows[0], rows[-1]) if rows else (None, None)


def with_ends(row: Mapping[str, Any], name: str, show: Callable[[float], str]) -> str:
    """A difference with its interval, or that it has none: one pair."""
    ends = ends_of(row, f"{name}_")
    return f"{show(row[name])} {interval(ends, show) if ends else '(one pair)'}"


def multiplier_cell(row: Mapping[str, Any], name: str) -> str:
    ends, value = ends_of(row, f"{name}_"), row[f"{name}_multiplier"]
    if pd.isna(value):
        return "–"
    return "not identified" if ends is None else f"{amount(value)} {interval(ends)} at {number(row[f'{name}_loss'], 2)}"


def effect_sentence(row: Mapping[str, Any], base: str, other: str) -> str:
    """k and the multiplier of one comparison in words that their intervals allow."""
    ends = ends_of(row, "efficiency_")
    said = f"{row['label']}: k of {other} minus {base} is {signed(row['efficiency'])} "
    if ends is None:
        return said + "in one pair, so neither that difference nor an effective-compute multiplier is identified."
    said += interval(ends, signed) + (", indistinguishable from zero" if contains_zero(ends) else "")
    if pd.isna(row["last_multiplier"]):
        return f"{said}; no effective-compute multiplier: {row['reason']}."
    last = ends_of(row, "last_")
    band = "its band is open" if last is None else interval(last)
    few = f", from {counted(int(row['pairs']), 'pair')} only" if row["pairs"] <= FEW_PAIRS else ""
    return (
        f"{said}; for L = {number(row['last_loss'], 2)} {base} needs {amount(row['last_multiplier'])} times the "
        f"compute of {other} ({band}{few})."
    )
