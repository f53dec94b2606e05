"""Learning curves that were checked: one frame, one row per (run, step), with the columns of `scaling.schema`.

Everything in `analysis` works on this one frame. Whatever is left out of it is listed by name, never dropped silently.

`reuse_factor` in a Curves is a property of the *run*: tau = D/U at its last row (glossary). `reuse_factor == 1` thus
selects the runs that never repeat a prompt, and not the first rows of a run that does. The value row by row, where the
source has it, is the column `reuse_factor_so_far`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.curves.where import filter_rows
from scaling import schema
from scaling.schema import InputError, check_name, clip

# How N was counted; two conventions in one source are refused.
CONVENTION = "num_params_convention"
TEXT_COLUMNS = ["run_id", "model", "algorithm", "task", CONVENTION]
NUMBER_COLUMNS = [
    *(name for name in schema.COLUMNS if name not in TEXT_COLUMNS),
    *schema.TIMING_COLUMNS,
    "reuse_factor_so_far",
    "loss",
    "loss_error",
]
WHOLE_COLUMNS = ["step", "seed", "group_size", "num_params", "num_params_non_embedding"]  # kept as integers if they are
# Counts from the start of a run; the other columns of section `compute` may fall.
CUMULATIVE = [name for name in schema.COUNT_COLUMNS if name not in ("step", "reuse_factor")]
# Constant in a run; together they tell the runs of a table without run_id apart.
RUN_KEYS = ["num_params", "num_params_non_embedding", "model", "seed", "algorithm", "group_size", "task"]


@dataclass(frozen=True)
class Curves:
    """Validated learning curves.

    Fields:
        source: what was loaded.
        table: the frame; one row per (run_id, step), sorted so. Fits use the rows with a `test_loss`.
        left_out: runs that the source names but the frame lacks: `{"run", "reason"}` each.
        notes: remarks on the source that a reader of a fit should see.
        data_hash: 12 hex digits of sha256 over the frame as loaded, wall-clock columns apart; `where` keeps it.
        settings: columns besides size and seed that tell runs apart (algorithm, group_size, dotted config fields).
        defaults: the `analysis:` section of a study.
        folder: the study folder, else None.
        filters: the expressions given to `where`, in order.
        names: {run_id: name that people read}, where the source has names.
    """

    source: str
    table: pd.DataFrame
    left_out: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data_hash: str = ""
    settings: list[str] = field(default_factory=list)
    defaults: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    filters: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)

    def frame(self) -> pd.DataFrame:
        """A copy of the frame."""
        return self.table.copy()

    @property
    def condition(self) -> str | None:
        """The filters as one condition, as records show it: `(a) and (b)`; None without filters."""
        if len(self.filters) == 1 and self.filters[0].startswith("(") and self.filters[0].endswith(")"):
            return self.filters[0]
        return " and ".join(f"({expression})" for expression in self.filters) or None

    def runs(self) -> pd.DataFrame:
        """One row per run: what is constant in it, `evaluations` (rows with a test loss) and `last_step`."""
        keys = [name for name in [*RUN_KEYS, "reuse_factor", *self.settings] if name in self.table]
        groups = self.table.groupby("run_id", sort=False)
        runs = groups[list(dict.fromkeys(keys))].first()
        if "test_loss" in self.table:
            runs["evaluations"] = groups["test_loss"].count()
        runs["last_step"] = groups["step"].max()
        return runs.reset_index()

    def where(self, expression: str) -> Curves:
        """The rows for which `expression` holds, e.g. `num_params <= 32e9 and algorithm == grpo`.

        The grammar is that of scaling/where.py: comparisons (== != < <= > >= in, not in), and, or, not, brackets; names
        of columns, numbers, 'text', words. A comparison with a blank cell is false. Raises InputError for an unknown
        column, and where no row is left.
        """
        kept, hint = filter_rows(self.table, expression)
        if not kept.any():
            raise InputError(f"where: no row is left after {clip(expression)!r}.{hint}")
        return replace(self, table=self.table[kept], filters=(*self.filters, expression))

    def groups(self, column: str) -> list[tuple[Any, Curves]]:
        """(value, curves) for each value of a column that is constant in a run, ascending. Raises InputError."""
        if column not in self.table.columns:
            varying = self.table.groupby("run_id").nunique(dropna=False).max() > 1
            check_name(column, ["run_id", *varying.index[~varying]], "column that is constant in a run")
        if self.table.groupby("run_id")[column].nunique(dropna=False).max() > 1:
            raise InputError(f"by: column {column} changes within a run; give one that is constant, such as algorithm.")
        if self.table[column].isna().any():
            raise InputError(f"by: column {column} is blank in some runs; leave them out with where.")
        values = sorted(self.table[column].unique())
        return [(value, replace(self, table=self.table[self.table[column] == value])) for value in values]


def run_label(run_id: str, name: str | None) -> str:
    """`us-seed0 (5d3cb9ce15b4)`, or the id alone."""
    return f"{name} ({run_id})" if name and name != run_id else run_id


Frame = Any  # a pandas DataFrame: its type stubs know too little of what a column holds
