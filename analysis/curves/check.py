"""Check a table of learning curves and make a `Curves` of it.

All checks of data are here, so that a fit may trust its input. A refusal is one line that names the source, the column
and what is legal.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.frame import CONVENTION, CUMULATIVE, NUMBER_COLUMNS, RUN_KEYS, TEXT_COLUMNS, WHOLE_COLUMNS, Curves
from analysis.curves.where import filter_rows, read_condition
from scaling import schema
from scaling.schema import InputError, clip, did_you_mean

NATS = 20  # no cross-entropy is larger: ln of a vocabulary of 200,000 is 12


def check_where(expected: Curves, expression: str) -> None:
    """Raise InputError for a condition that is none, names no column, or leaves no run of a study that has not run."""
    kept, hint = filter_rows(expected.table, expression)
    named = expected.table.columns.intersection(read_condition(expression).words())
    known = all(expected.table[name].notna().all() for name in named)
    if known and not kept.any():
        raise InputError(f"where: no run is left after {clip(expression)!r}.{hint}")


# ---------------------------------------------------------------- checks


def make_curves(table: pd.DataFrame, source: str = "table", settings: list[str] | None = None) -> Curves:
    """Check a table with the schema's columns and make a Curves of it. Raises InputError."""
    if not isinstance(table, pd.DataFrame):
        raise InputError(f"make_curves wants a table, a pandas DataFrame, not {clip(repr(table))}.")
    table = table.copy()
    table.columns = _no_twins(table.columns, source)
    notes = []
    size = "num_params" if "num_params" in table or "num_params_non_embedding" not in table else None
    for name in ["step", *([size] if size else [])]:
        _require(table, name, source)
    if "loss" not in table:  # a table of language models has a cross-entropy in nats instead
        _require(table, "test_loss", source)
    for name in table.columns:
        if name in NUMBER_COLUMNS:
            table[name] = _numbers(table[name], name, source)
        elif name not in TEXT_COLUMNS and name not in (settings or []):
            near = difflib.get_close_matches(name, [*NUMBER_COLUMNS, *TEXT_COLUMNS], n=1, cutoff=0.85)
            if near:
                notes.append(
                    f"column {name!r} is not known and is used only by --where and --by; did you mean {near[0]}?"
                )
    for name in TEXT_COLUMNS:
        if name in table:
            table[name] = table[name].astype(object).where(table[name].notna(), None)
            table[name] = table[name].map(lambda value: value if value is None else str(value))
    _check_values(table, source)
    table = _with_runs(table, source)
    twice = table.duplicated(["run_id", "step"])
    if twice.any():
        first = table[twice].iloc[0]
        raise InputError(
            f"{source}: run {first['run_id']} has step {first['step']:g} more than once ({twice.sum()} rows too many); "
            "keep one row per run and step, or tell the runs apart by a column run_id or seed."
        )
    table = table.sort_values(["run_id", "step"], kind="stable")
    # Runs stand in the order of their size; a stable order makes fits repeatable to the byte.
    sizes = [name for name in ("num_params", "num_params_non_embedding") if name in table]
    table = table.sort_values([*sizes[:1], "run_id", "step"], kind="stable", ignore_index=True)
    if "reuse_factor" in table:
        last = table.groupby("run_id")["reuse_factor"].last()
        planned = table["run_id"].map(last)
        if not planned.equals(table["reuse_factor"]) and "reuse_factor_so_far" not in table:
            table["reuse_factor_so_far"] = table["reuse_factor"]
        table["reuse_factor"] = planned
    for name in [*RUN_KEYS, CONVENTION]:
        if name in table:
            counts = table.groupby("run_id")[name].nunique(dropna=False)
            if counts.max() > 1:
                run = counts.idxmax()
                values = ", ".join(map(str, table.loc[table["run_id"] == run, name].unique()[:3]))
                raise InputError(f"{source}: column {name} changes within run {run} ({values}); it is one value a run.")
    for name in CUMULATIVE:
        if name in table:
            filled = table[table[name].notna()]
            # Means over fewer runs in the tail may fall by some per cent; a counter that starts anew falls far.
            falls = filled.groupby("run_id")[name].diff() < -filled[name]
            if falls.any():
                first = filled[falls].iloc[0]
                if first[name] == 0:
                    raise InputError(
                        f"{source}: column {name} is 0 in run {first['run_id']} at step {first['step']:g}; it counts "
                        "from the start of the run and is above 0 after step 0: leave an unknown value blank."
                    )
                raise InputError(
                    f"{source}: column {name} falls in run {first['run_id']} at step {first['step']:g}, to "
                    f"{first[name]:g}; it counts from the start of the run: add what came before."
                )
    known = ["algorithm", "group_size", "reuse_factor", "task", "eval_temperature", "eval_problems"]
    settings = [*(name for name in known if name in table), *(settings or [])]
    return Curves(source, table, notes=notes, data_hash=_hash(table), settings=settings)


def _no_twins(columns: Iterable[Any], source: str) -> list[str]:
    """Names of columns without the blanks around them. Raises InputError where two are equal."""
    names = [str(name).strip() for name in columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        number = twice[0].replace(".", "", 1).isdigit()
        hint = " Is the line of column names missing?" if number else ""
        raise InputError(f"{source}: column {twice[0]!r} stands twice in the header; keep one.{hint}")
    return names


def _require(table: pd.DataFrame, name: str, source: str) -> None:
    if name not in table:
        wanted = "num_params, step, test_loss and the x column"
        near = did_you_mean(name, table.columns).replace("Did you mean", "Is it")
        for sign, signs in ((";", "semicolons"), ("\t", "tabs")):
            if len(table.columns) == 1 and sign in table.columns[0]:
                near = f" It is separated by {signs}; write it with commas."
        raise InputError(
            f"{source}: column {name!r} is missing; it has {', '.join(table.columns)}; wanted: {wanted}.{near}"
        )


def _numbers(column: pd.Series, name: str, source: str) -> pd.Series:
    if column.dtype == bool:
        raise InputError(f"{source}: column {name}: True or False where a number belongs.")
    numbers = pd.to_numeric(column, errors="coerce")
    bad = numbers.isna() & column.notna()
    if bad.any():
        raise InputError(f"{source}: column {name}, {_place(bad)}: {column[bad].iloc[0]!r} is not a number.")
    infinite = np.isinf(numbers.astype(float))
    if infinite.any():
        raise InputError(f"{source}: column {name}, {_place(infinite)}: infinite; leave an unknown value blank.")
    whole = name in WHOLE_COLUMNS and not (numbers.isna() | (numbers % 1 != 0) | (numbers.abs() > 2**53)).any()
    return numbers.astype("int64" if whole else float)


def _place(bad: pd.Series | np.ndarray) -> str:
    """`row 3` of the data, the header not counted."""
    return f"row {int(np.flatnonzero(np.asarray(bad))[0]) + 1}"


def _check_values(table: pd.DataFrame, source: str) -> None:
    def refuse(bad: pd.Series, name: str, legal: str) -> None:
        if bad.any():
            value = table.loc[bad, name].iloc[0]
            value = value if isinstance(value, str) else format(value, ".12g")
            raise InputError(f"{source}: column {name}, {_place(bad)}: {value} is not legal; {legal}.")

    blank = table.isna().all(axis=1)
    if blank.any():
        raise InputError(f"{source}: {_place(blank)} is blank in every column; remove it.")
    for name in ("num_params", "num_params_non_embedding"):
        if name in table:
            blank = table[name].isna()
            if blank.any() and not blank.all():
                raise InputError(
                    f"{source}: column {name} is blank at {_place(blank)} and filled elsewhere: two conventions of "
                    "N in one table; fill it for every row or remove the column."
                )
            if blank.all():
                raise InputError(f"{source}: column {name} is blank in every row; fill it or remove the column.")
            refuse(~(table[name] > 0), name, "a number of parameters is above 0")
    if CONVENTION in table and table[CONVENTION].nunique(dropna=False) > 1:
        values = ", ".join(map(str, table[CONVENTION].unique()))
        raise InputError(f"{source}: column {CONVENTION} has {values}: N is counted in two ways; split the table.")
    step = table["step"]
    refuse(step.isna() | (step < 0) | (step % 1 != 0), "step", "a step is a whole number, 0 or more, in every row")
    for name in ("test_loss", "pass_at_1"):
        if name in table:
            largest = float(table[name].max())
            percent = " (percent? divide by 100)" if largest > 1 else ""
            if name == "test_loss" and 1 < largest <= NATS:
                percent = " (a cross-entropy in nats? Name the column loss; an error in percent? divide by 100)"
            refuse((table[name] < 0) | (table[name] > 1), name, f"it is an error rate between 0 and 1{percent}")
    if "test_loss" in table and table["test_loss"].isna().all():
        raise InputError(f"{source}: column test_loss is blank in every row; there is nothing to fit.")
    for name in ("eval_problems", "eval_samples"):
        if name in table:
            legal = "a count is a whole number above 0; leave it blank where it is unknown"
            refuse((table[name] <= 0) | (table[name] % 1 > 0), name, legal)
    if {"test_loss", "pass_at_1"} <= set(table):
        off = (table["test_loss"] + table["pass_at_1"] - 1).abs() > 1e-6
        if off.any():
            raise InputError(f"{source}: {_place(off)}: test_loss is not 1 - pass_at_1; drop one of the two columns.")


def _with_runs(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Give every row a run_id; without the column, runs are told apart by size, seed and settings."""
    if "run_id" in table:
        blank = table["run_id"].isna()
        if blank.any():
            raise InputError(
                f"{source}: column run_id is blank at {_place(blank)}; name every run or remove the column."
            )
        return table
    keys = [name for name in RUN_KEYS if name in table]
    if "reuse_factor" in table and table.duplicated([*keys, "step"]).any():
        keys.append("reuse_factor")  # only then: a reuse factor may also be given row by row
    number = table.groupby(keys, dropna=False, sort=True).ngroup()
    return table.assign(run_id=[f"run{i:04d}" for i in number])


def _hash(table: pd.DataFrame) -> str:
    columns = sorted(name for name in table.columns if name not in schema.TIMING_COLUMNS)
    return hashlib.sha256(table[columns].to_csv(index=False).encode()).hexdigest()[:12]
