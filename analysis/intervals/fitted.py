"""Fit a law with its intervals, for all runs or for each value of a column, and save the record in the study."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from analysis.curves.frame import Curves
from analysis.curves.load import load
from analysis.fitting.fit import fit_curves
from analysis.fitting.record import Fit
from analysis.intervals.record import add_intervals
from scaling.schema import InputError


class Fits(dict):
    """Fits by the value of a column; `failed` holds the message for each value that could not be fitted."""

    def __init__(self, column: str):
        super().__init__()
        self.column = column
        self.failed: dict[Any, str] = {}

    def json(self) -> dict[str, Any]:
        """`{"by": column, "fits": [{"group": value, ...}], "failed": [{"group": value, "error": text}]}`."""
        return {
            "by": self.column,
            "fits": [{"group": _plain(value), **found.json()} for value, found in self.items()],
            "failed": [{"group": _plain(value), "error": message} for value, message in self.failed.items()],
        }


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def fit(
    source: str | Path | Curves,
    law: str = "efficiency",
    x: str = "train_flops",
    objective: str = "log",
    where: str | None = None,
    by: str | None = None,
    steps: str | None = None,
    points: str | None = None,
    split: str = "none",
    size_column: str | None = None,
    seed: int = 0,
    bounds: str | None = None,
    law_exact: bool = False,
    coverage: bool = False,
    parameters: bool = True,
) -> Any:
    """Fit a law to curves, with 95 % intervals at the level of runs.

    Args:
        source: Curves, or anything that `load` takes.
        law: a name of `analysis.laws`; x: the column on the horizontal axis.
        objective: log, binomial, linear or huber (see `analysis.solve`).
        where: which rows, e.g. `num_params <= 32e9 and algorithm == grpo`.
        by: a column; each of its values is fitted on its own.
        steps: "A:B", the steps A to B, both included. points: "A:B", a slice of each curve after step 0 is dropped.
        split: none, inter or intra:FRACTION; held-out points are scored and never fitted.
        size_column: what N is; default `num_params_non_embedding` where present, else `num_params`.
        seed: of random numbers: the self-test draws studies, fits draw none.
        bounds: None, or "published" for the bounds of the law's source.
        law_exact: narrower intervals that are right only if the sizes follow the law exactly.
        coverage: run the self-test of the intervals and put what it measured beside them (some seconds).
        parameters: also intervals of the parameters of laws that are not lines (up to some seconds).

    Returns:
        A Fit; with `by` a Fits, {value: Fit}.
    """
    curves = load(source)

    def one(part: Curves, where: str | None) -> Fit:
        found = fit_curves(part, law, x, objective, where, steps, points, split, size_column, seed, bounds)
        return add_intervals(found, law_exact, coverage, parameters)

    if by is None:
        return one(curves, where)
    chosen = curves.where(where) if where is not None else curves
    fits = Fits(by)
    for value, part in chosen.groups(by):
        try:
            fits[value] = one(part, None)
        except InputError as error:
            fits.failed[value] = str(error)
    if not fits:
        value, message = next(iter(fits.failed.items()))
        raise InputError(f"by {by}: no value could be fitted; {by} = {value}: {message}")
    return fits


def save_in_study(found: Fit | Fits, curves: Curves) -> list[Path]:
    """Write the records under fits/ of the study that the curves came from; nothing where they came from elsewhere.

    The name tells law, axis and objective; its last part is a hash of every choice, so other choices are other files.
    """
    if curves.folder is None:
        return []
    paths = []
    for one in found.values() if isinstance(found, Fits) else [found]:
        record = one.record
        names = ["law", "x", "objective", "size_column", "window", "split", "bounds", "seed", "runs"]
        chosen = {**{name: record[name] for name in names}, "misfit": record["intervals"]["misfit"]}
        digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:6]
        name = f"{record['law']}-{record['x']}-{record['objective']}-{digest}.json"
        paths.append(one.save(curves.folder / "fits" / name))
    return paths
