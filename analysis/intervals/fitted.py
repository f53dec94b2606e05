"""Fit a law with its intervals, for all runs or for each value of a column, and save the record in the study."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices
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
            "fits": [{"group": _plain(value), **fit.json()} for value, fit in self.items()],
            "failed": [{"group": _plain(value), "error": message} for value, message in self.failed.items()],
        }


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def fit_with_intervals(
    curves: Curves, choices: Choices, *, law_exact: bool = False, coverage: bool = False, parameters: bool = True
) -> Fit:
    """The fit with its intervals; see `analysis.fit`."""
    return add_intervals(fit_curves(curves, choices), law_exact, coverage, parameters)


def fit_groups(curves: Curves, choices: Choices, by: str, **options: bool) -> Fits:
    """A fit for each value of a column, with the options of `fit_with_intervals`. Raises InputError where all fail."""
    fits, of_group = Fits(by), replace(choices, where=None)
    for value, part in choices.rows(curves).groups(by):
        try:
            fits[value] = fit_with_intervals(part, of_group, **options)
        except InputError as error:
            fits.failed[value] = str(error)
    if not fits:
        value, message = next(iter(fits.failed.items()))
        raise InputError(f"by {by}: no value could be fitted; {by} = {value}: {message}")
    return fits


def save_in_study(fitted: Fit | Fits, curves: Curves) -> list[Path]:
    """Write the records under fits/ of the study that the curves came from; nothing where they came from elsewhere.

    The name tells law, axis and objective; its last part is a hash of every choice, so other choices are other files.
    """
    if curves.folder is None:
        return []
    paths = []
    for one in fitted.values() if isinstance(fitted, Fits) else [fitted]:
        record = one.record
        names = ["law", "x", "objective", "size_column", "window", "split", "bounds", "seed", "runs"]
        names += [name for name in ("fix", "bound") if name in record]
        chosen = {**{name: record[name] for name in names}, "misfit": record["intervals"]["misfit"]}
        digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:6]
        name = f"{record['law']}-{record['x']}-{record['objective']}-{digest}.json"
        paths.append(one.save(curves.folder / "fits" / name))
    return paths
