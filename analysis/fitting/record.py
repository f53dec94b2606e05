"""A fitted law and the record of how it was made: what `fit --json` prints and a study keeps under fits/."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices
from analysis.fitting.points import Points
from analysis.fitting.solution import Solution
from analysis.laws import Law
from scaling import files
from scaling.schema import InputError

FIT_SCHEMA_VERSION = 1


# ---------------------------------------------------------------- the record


@dataclass
class Fit:
    """A fitted law and the record of how it was made.

    Fields:
        record: the document that `json()` prints and `save()` writes; see `fit_curves`.
        points: the fitted points, None for a fit that was loaded from its record.
        solution: the optimum, None likewise.
        test: the run-level test behind the intervals (`analysis.intervals.run_test`), None until intervals were made.
        curve_band: the bands of a law whose curves are no straight lines, None until one was asked for.
        shape: the model of shape behind the verdict (`analysis.intervals.shape`), None where no run has the points.
        curves: the curves the fit was made from (before the window), None for a loaded fit.
        formula: the law, None for a loaded fit: a law that was given as a function may have been defined anew since.
        drawer: what `plot` calls; `analysis/__init__.py` sets it, because figures stand above fits.
    """

    drawer: ClassVar[Callable[..., Any]]

    record: dict[str, Any]
    points: Points | None = None
    solution: Solution | None = None
    test: Any = None
    curve_band: Any = None
    shape: Any = None
    curves: Curves | None = None
    formula: Law | None = None

    @property
    def law(self) -> Law:
        """The law, with the bounds that were chosen."""
        return self.formula or self.choices.formula

    @property
    def values(self) -> dict[str, dict[str, Any]]:
        """Shared parameters by name: value, stderr, ci95, unit, identified, at_bound."""
        return self.record["values"]

    @property
    def per_size(self) -> list[dict[str, Any]]:
        return self.record["per_size"]

    @property
    def warnings(self) -> list[str]:
        return self.record["warnings"]

    @property
    def verdict(self) -> dict[str, Any] | None:
        """Whether the law describes the curves (`analysis.intervals.verdict`); None of a fit without intervals and of a
        record that an earlier version wrote."""
        return self.record.get("verdict")

    @property
    def status(self) -> str:
        return self.record["status"]

    @property
    def choices(self) -> Choices:
        """What was chosen; every default is filled in, and N has its column."""
        record, window = self.record, self.record["window"]
        return Choices(
            record["law"], record["x"], record["objective"], window["where"], window["steps"], window["points"],
            record["split"], record["size_column"], record["seed"],
            None if record["bounds"] == "wide" else record["bounds"], record.get("fix"), record.get("bound"),
        )  # fmt: skip

    def frame(self) -> pd.DataFrame:
        """One row per size: its own line with interval, and the law's values there."""
        return pd.DataFrame(self.per_size)

    def json(self) -> dict[str, Any]:
        """The record, plain JSON values."""
        return self.record

    def _known(self, num_params: np.ndarray) -> dict[str, Any]:
        """Values of every parameter of the law at sizes (an array): those per size looked up, or InputError."""
        known: dict[str, Any] = {name: entry["value"] for name, entry in self.values.items()}
        for parameter in self.law.parameters:
            if parameter.per_size:
                look_up = np.vectorize(lambda n, name=parameter.name: self._size(n)["values"][name], otypes=[float])
                known[parameter.name] = look_up(num_params)
        return known

    def efficiency(self, num_params):
        """k(N) by the law, for any N where the law has one; of a law without straight lines that of the middle of the
        points of a fitted size."""
        num_params = np.asarray(num_params, float)
        if self.law.slope is not None and self.law.slope_of_any_size:
            return self.law.slope(num_params, {name: entry["value"] for name, entry in self.values.items()})
        return np.vectorize(lambda n: self._size(n)["efficiency_law"], otypes=[float])(num_params)

    def predict(self, num_params, x, **columns):
        """Loss by the law at sizes and X that broadcast; a scalar for scalars. `reuse` for a law that asks for it.

        Raises InputError for a size that was not fitted, where the law has parameters of each size.
        """
        num_params, x = np.broadcast_arrays(np.asarray(num_params, float), np.asarray(x, float))
        missing = [name for name in self.law.columns if name not in columns]
        if missing:
            raise InputError(f"law {self.law.name} predicts at a given {missing[0]}: give {missing[0]}=...")
        loss = np.exp(self.law.ln_loss(num_params, x, self._known(num_params), **columns))
        return float(loss) if loss.ndim == 0 else loss

    def _size(self, num_params: float) -> dict[str, Any]:
        for row in self.per_size:
            if math.isclose(row["num_params"], num_params, rel_tol=1e-6):
                return row
        law = self.law
        sizes = ", ".join(f"{row['num_params']:.4g}" for row in self.per_size)
        asked = f"{law.letter} = {num_params:.4g}; fitted: {sizes}"
        if law.predicts_unseen:
            raise InputError(
                f"law {law.name} has no straight lines, so its slope at an unseen {law.each} ({asked}) depends on X: "
                "use predict, or fit.law.efficiency at an X."
            )
        only = "; it gives only the slope there" if law.slope_of_any_size else ""
        raise InputError(
            f"law {law.name} has free parameters per {law.each} and cannot predict an unseen {law.each} "
            f"({asked}){only}. Use a law with a parametric E({law.letter}), or calibrate the level on a declared "
            f"number of points of the new {law.each}."
        )

    def plot(self, **options):
        """The figure of the fit; see `analysis.figures`."""
        return type(self).drawer(self, **options)

    def save(self, path: str | Path) -> Path:
        """Write the record, atomically; two fits of the same data are equal to the byte."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, self.record)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Fit:
        """A fit from its record. Raises InputError for an unknown schema version."""
        document = files.read_json(Path(path))
        if document is None:
            raise InputError(f"{path}: no such file.")
        return cls.from_json(document, str(path))

    @classmethod
    def from_json(cls, document: Any, where: str = "fit record") -> Fit:
        version = document.get("schema_version") if isinstance(document, dict) else None
        if version != FIT_SCHEMA_VERSION:
            raise InputError(
                f"{where}: schema_version {version!r} of a fit is not known, this program reads {FIT_SCHEMA_VERSION}; "
                "fit again, or read it with the program that wrote it."
            )
        return cls(document)
