"""Load and check learning curves: from a study folder, a CSV or parquet file, MLflow or the shipped reference data.

Everything below this file works on one frame: one row per (run, step) with the columns of `scaling.schema`. All checks
are here, so that a fit may trust its input; whatever is left out is listed by name and never dropped silently.

`reuse_factor` in a Curves is a property of the *run*: tau = D/U at its last row (glossary). `reuse_factor == 1` thus
selects the runs that never repeat a prompt, and not the first rows of a run that does. The value row by row, where the
source has it, is the column `reuse_factor_so_far`.
"""

from __future__ import annotations

import ast
import csv
import difflib
import hashlib
import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling import record, schema
from scaling.schema import InputError, check_name, did_you_mean

REFERENCE = Path(__file__).parent / "reference"
SOURCES = "a study folder, a CSV or parquet file, mlflow:EXPERIMENT, reference:NAME"

# How N was counted; two conventions in one source are refused.
CONVENTION = "num_params_convention"
TEXT_COLUMNS = ["run_id", "model", "algorithm", "task", CONVENTION]
NUMBER_COLUMNS = [
    *(name for name in schema.COLUMNS if name not in TEXT_COLUMNS),
    *schema.TIMING_COLUMNS,
    "reuse_factor_so_far",
    "loss",
]
WHOLE_COLUMNS = ["step", "seed", "group_size", "num_params", "num_params_non_embedding"]  # kept as integers if they are
# Counts from the start of a run; the other columns of section `compute` may fall.
CUMULATIVE = [name for name in schema.COUNT_COLUMNS if name not in ("step", "reuse_factor")]
# Constant in a run; together they tell the runs of a table without run_id apart.
RUN_KEYS = ["num_params", "num_params_non_embedding", "model", "seed", "algorithm", "group_size", "task"]
# Fields of a config that other columns stand for, or that do not change a curve.
NOT_SETTINGS = ("name", "seed", "stop", "resources", "tracking", "algorithm.type", "task.name", "rollout.group_size")
NOT_SETTINGS += ("model.size", "model.path", "data.prompts_unique", "data.reuse_factor")


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

        Comparisons (== != < <= > >= in), and, or, not, brackets; column names; numbers, 'text', and bare words as text.
        A comparison with a missing value is false. Raises InputError for an unknown column, and where no row is left.
        """
        kept, hint = _filter(self.table, expression)
        if not kept.any():
            raise InputError(f"where: no row is left after {_clip(expression)!r}.{hint}")
        return replace(self, table=self.table[kept], filters=(*self.filters, expression))

    def groups(self, column: str) -> list[tuple[Any, Curves]]:
        """(value, curves) for each value of a column that is constant in a run, ascending. Raises InputError."""
        check_name(column, self.table.columns, "column")
        if self.table.groupby("run_id")[column].nunique(dropna=False).max() > 1:
            raise InputError(f"by: column {column} changes within a run; give one that is constant, such as algorithm.")
        if self.table[column].isna().any():
            raise InputError(f"by: column {column} is blank in some runs; leave them out with where.")
        values = sorted(self.table[column].unique())
        return [(value, replace(self, table=self.table[self.table[column] == value])) for value in values]


def load(source: str | Path | Curves) -> Curves:
    """Load and check the curves of a study folder, a CSV or parquet file, `mlflow:EXPERIMENT` or `reference:NAME`.

    Raises InputError, one line, naming the file, the column, what is legal and the nearest match.
    """
    if isinstance(source, Curves):
        return source
    text = str(source)
    if text.startswith("reference:"):
        names = sorted(path.stem for path in REFERENCE.glob("*.csv"))
        return _load_table(REFERENCE / f"{check_name(text[10:], names, 'reference data set')}.csv", text)
    if text.startswith("mlflow:"):
        return _load_mlflow(text)
    path = Path(source)
    if os.path.isdir(path):
        return _load_study(path)
    if not os.path.exists(path):
        raise InputError(f"{text}: no such file or folder; a source is {SOURCES}.{_near(path)}")
    return _load_table(path, text)


def expect(documents: dict[str, dict[str, Any]], source: str) -> Curves:
    """Curves of a study before it has run, to check choices on: one row a run, NaN where the run will tell.

    Args:
        documents: by run_id the `config` and `model` of its config.json, and its `reuse_factor`.
    """
    settings = _varying({run_id: document["config"] for run_id, document in documents.items()})
    rows = [
        {**_run_columns(document, run_id), "reuse_factor": document["reuse_factor"]}
        | {name: values[run_id] for name, values in settings.items()}
        for run_id, document in documents.items()
    ]
    table = pd.DataFrame(rows)
    for name in table.columns.intersection(NUMBER_COLUMNS):
        table[name] = table[name].astype(float)
    unknown = [n for n in [*schema.ROW_COLUMNS, *schema.TIMING_COLUMNS, "reuse_factor_so_far"] if n not in table]
    table = pd.concat([table, pd.DataFrame(np.nan, table.index, unknown)], axis=1)
    return Curves(source, table, settings=list(settings))


def check_where(expected: Curves, expression: str) -> None:
    """Raise InputError for a condition that is none, names no column, or leaves no run of a study that has not run."""
    kept, hint = _filter(expected.table, expression)
    named = {ast.unparse(n) for n in ast.walk(_parse(expression)) if isinstance(n, ast.Name | ast.Attribute)}
    known = all(expected.table[name].notna().all() for name in named.intersection(expected.table.columns))
    if known and not kept.any():
        raise InputError(f"where: no run is left after {_clip(expression)!r}.{hint}")


# ---------------------------------------------------------------- sources


def _near(path: Path) -> str:
    if (Path("studies") / path / schema.CELLS).exists():  # the name of a study instead of its folder
        return f" Did you mean {Path('studies') / path}?"
    parent = path.parent
    return did_you_mean(path.name, [p.name for p in parent.iterdir()]) if parent.is_dir() else ""


def _load_table(path: Path, source: str) -> Curves:
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix.lower() == ".csv":
            with open(path, encoding="utf-8-sig", newline="") as file:
                _no_twins(next(csv.reader(file), []), source)
            # Leaving a run's name as text keeps 007 and 7 apart.
            table = pd.read_csv(path, dtype={"run_id": str}, encoding="utf-8-sig", skipinitialspace=True)
        else:
            raise InputError(f"{source}: not a .csv or .parquet file; a source is {SOURCES}.")
    except InputError:
        raise
    except pd.errors.EmptyDataError:
        raise InputError(f"{source}: the file is empty.") from None
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"{source}: cannot be read ({str(error).splitlines()[0]}).") from None
    if table.empty:
        raise InputError(f"{source}: the file has no rows.")
    return make_curves(table, source)


def _load_study(folder: Path) -> Curves:
    """The runs that cells.json names, each once and as far as its longest cell goes."""
    cells = record.read_json(folder / schema.CELLS)
    if cells is None:
        raise InputError(
            f"{folder}: not a study folder, it has no {schema.CELLS}; give a folder that `scaling sweep launch` made."
        )
    if not isinstance(cells, dict) or cells.get("schema_version") != schema.SCHEMA_VERSION:
        version = cells.get("schema_version") if isinstance(cells, dict) else None
        raise InputError(
            f"{folder / schema.CELLS}: schema_version {version!r}, this program reads {schema.SCHEMA_VERSION}; "
            "launch the study again with it, or read it with the program that wrote it."
        )
    stops: dict[str, list[dict]] = {}
    for cell in cells["cells"]:
        stops.setdefault(cell["run_id"], []).append(cell.get("stop") or {})
    frames, configs, names, left_out, notes = [], {}, {}, [], []
    for run_id, run_stops in stops.items():
        run = folder / schema.RUNS / run_id
        config = record.read_json(run / schema.CONFIG)
        reason = _not_done(run)
        rows = [_flat(row) for row in record.read_record(run)] if config is not None and reason is None else []
        needed = [_rows_to(rows, stop) for stop in run_stops]
        reached = [count for count in needed if count]
        name = run_label(run_id, (config or {}).get("name"))
        if config is None or not reached:
            left_out.append({"run": name, "reason": reason or "incomplete: it has not reached the stop of its cells"})
            continue
        if len(reached) < len(needed):
            notes.append(f"{name}: {len(needed) - len(reached)} of its {len(needed)} cells are not reached yet.")
        if max(reached) < len(rows):
            notes.append(f"{name}: {len(rows) - max(reached)} rows after the last stop of its cells are not used.")
        configs[run_id], names[run_id] = config["config"], config.get("name") or run_id
        frames.append(pd.DataFrame(rows[: max(reached)]).assign(**_run_columns(config, run_id)))
    runs = folder / schema.RUNS
    others = sorted(p.name for p in runs.iterdir() if p.is_dir() and p.name not in stops) if runs.is_dir() else []
    left_out += [{"run": other, "reason": "not in the current cells of the study"} for other in others]
    if not frames:
        reasons = "; ".join(f"{item['run']}: {item['reason']}" for item in left_out[:3]) or "it has no cells"
        raise InputError(f"{folder}: no finished run ({reasons}); run `scaling sweep launch` first.")
    table = pd.concat(frames, ignore_index=True)
    settings = _varying(configs)
    for name, values in settings.items():
        table[name] = table["run_id"].map(values)
    curves = make_curves(table, str(folder), settings=list(settings))
    defaults, notes = cells.get("analysis") or {}, [*notes, *curves.notes]
    return replace(curves, left_out=left_out, notes=notes, defaults=defaults, folder=folder, names=names)


def _not_done(run: Path) -> str | None:
    """Why the run has no finished record, or None."""
    if (run / schema.DONE).exists():
        return None
    failed = record.read_json(run / schema.FAILED)
    if failed:
        return f"failed: {failed.get('class', 'error')}: {failed.get('message', '')}".strip(": ")
    return "incomplete: not finished" if run.is_dir() else "missing: not started"


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """One row with its `timing` beside the other columns."""
    return {**(row.get("timing") or {}), **record.without_timing(row)}


def _rows_to(rows: list[dict[str, Any]], stop: dict[str, Any]) -> int:
    """Number of rows up to and with the first that reaches the stop; 0 where none does."""
    limits = [("steps", "step"), ("prompts", "prompts_seen"), ("train_flops", "train_flops")]
    limits = [(stop[key], column) for key, column in limits if stop.get(key) is not None]
    for count, row in enumerate(rows, start=1):
        if any(row[column] >= limit for limit, column in limits):
            return count
    # A stop by wall time cannot be found in the rows: DONE says that it was reached.
    return len(rows) if not limits or stop.get("wall_seconds") is not None else 0


def run_label(run_id: str, name: str | None) -> str:
    """`us-seed0 (5d3cb9ce15b4)`, or the id alone."""
    return f"{name} ({run_id})" if name and name != run_id else run_id


def _run_columns(config: dict[str, Any], run_id: str) -> dict[str, Any]:
    """The columns of section `run` of the schema, from a run's config.json."""
    model, settings = config["model"], config["config"]
    return {
        "run_id": run_id,
        "model": model["name"],
        "num_params": model["num_params"],
        "num_params_non_embedding": model["num_params_non_embedding"],
        CONVENTION: "counted",
        "seed": settings["seed"],
        "algorithm": settings["algorithm"]["type"],
        "group_size": settings["rollout"]["group_size"],
        "task": settings["task"]["name"],
    }


def _varying(configs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Config fields that differ between runs and are no column yet: {dotted name: {run_id: value}}."""

    def dotted(part: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in part.items():
            name = f"{prefix}{key}"
            if name in NOT_SETTINGS:
                continue
            flat |= dotted(value, f"{name}.") if isinstance(value, dict) else {name: value}
        return flat

    flats = {run_id: dotted(config) for run_id, config in configs.items()}
    names = sorted({name for flat in flats.values() for name in flat})
    columns = {name: {run_id: flat.get(name) for run_id, flat in flats.items()} for name in names}
    return {name: values for name, values in columns.items() if len({repr(v) for v in values.values()}) > 1}


def _load_mlflow(source: str) -> Curves:
    """Finished runs of an MLflow experiment: metrics by step, parameters as run columns. Slow: use a folder if you can.

    A metric's name may have a prefix (`eval/test_loss`); compute in PFLOP, as our own mirror writes it, becomes FLOPs.
    """
    try:
        import mlflow
    except ImportError:
        raise InputError(f"{source}: mlflow is not installed; install the extra [track].") from None
    uri = mlflow.get_tracking_uri()
    scheme, _, place = uri.rpartition("://")
    local = Path(place.removeprefix("/") if scheme == "sqlite" else place) if scheme in ("sqlite", "file", "") else None
    if local is not None and not local.exists():  # the client would make an empty one
        raise InputError(
            f"{source}: there is no MLflow data at {uri}; set MLFLOW_TRACKING_URI to a server or, for a study, to "
            "sqlite:///STUDY/mlflow.db, or give the study folder itself."
        )
    name = source.removeprefix("mlflow:")
    try:
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(name)
        names = [found.name for found in client.search_experiments()]
    except Exception as error:  # MLflow passes on whatever its database or connection raises
        raise InputError(f"{source}: MLflow at {uri} cannot be read ({_clip(str(error))}).") from error
    if experiment is None:
        raise InputError(f"{source}: no such experiment; there are: {', '.join(names)}.{did_you_mean(name, names)}")
    frames, left_out = [], []
    for run in client.search_runs([experiment.experiment_id]):
        if run.info.status != "FINISHED":
            left_out.append({"run": run.info.run_name, "reason": f"MLflow says {run.info.status}"})
            continue
        columns: dict[str, dict[int, float]] = {}
        for key in run.data.metrics:
            column, factor = key.rsplit("/", 1)[-1], 1.0
            if column.endswith("_pflop"):
                column, factor = f"{column.removesuffix('_pflop')}_flops", 1e15
            points = client.get_metric_history(run.info.run_id, key)
            columns[column] = {point.step: point.value * factor for point in points}
        table = pd.DataFrame(columns).rename_axis("step").reset_index()
        known = {**run.data.params, **run.data.tags}
        known = {key.rsplit(".", 1)[-1] if key not in known else key: value for key, value in known.items()}
        aliases = {"algorithm": known.get("algorithm.type"), "group_size": known.get("rollout.group_size")}
        for key in RUN_KEYS:
            value = known.get(key, aliases.get(key))
            if value is not None and key not in table:
                table[key] = value
        frames.append(table.assign(run_id=run.info.run_id))
    if not frames:
        raise InputError(f"{source}: the experiment has no finished run.")
    table = pd.concat(frames, ignore_index=True)
    for key in ("num_params", "num_params_non_embedding", "seed", "group_size"):
        if key in table:
            table[key] = pd.to_numeric(table[key], errors="coerce")
    curves = make_curves(table, source)
    return replace(curves, left_out=left_out)


# ---------------------------------------------------------------- checks


def make_curves(table: pd.DataFrame, source: str = "table", settings: list[str] | None = None) -> Curves:
    """Check a table with the schema's columns and make a Curves of it. Raises InputError."""
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
            raise InputError(f"{source}: column {name}, {_place(bad)}: {value!r} is not legal; {legal}.")

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
            percent = " (percent? divide by 100)" if (table[name] > 1).any() else ""
            refuse((table[name] < 0) | (table[name] > 1), name, f"it is an error rate between 0 and 1{percent}")
    if "test_loss" in table and table["test_loss"].isna().all():
        raise InputError(f"{source}: column test_loss is blank in every row; there is nothing to fit.")
    for name in ("eval_problems", "eval_samples"):
        if name in table:
            refuse(table[name] <= 0, name, "a count is above 0; leave it blank where it is unknown")
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


# ---------------------------------------------------------------- the row filter

OPERATORS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
MOST_LEVELS = 50
EXAMPLE = "write e.g. num_params <= 32e9 and algorithm == grpo"


def _clip(text: str, most: int = 120) -> str:
    """What was given, cut where it would fill the screen."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _parse(expression: str) -> ast.expr:
    """The syntax tree of a condition. Raises InputError for what is none, or is nested so deep that no one wrote it."""
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    level = [] if tree is None else [tree]
    for _ in range(MOST_LEVELS):
        level = [below for node in level for below in ast.iter_child_nodes(node)]
    if tree is None or level:
        again = " Equality is ==." if "=" in expression and "==" not in expression else ""
        raise InputError(
            f"where: {_clip(expression)!r} is not a condition; {EXAMPLE}.{again} "
            "Text that is no plain word needs quotes."
        )
    return tree


def _filter(table: pd.DataFrame, expression: str) -> tuple[np.ndarray, str]:
    """(mask of the rows to keep, a hint for the case that it keeps none). Only the syntax tree is walked: no eval."""
    tree = _parse(expression)
    hints: list[str] = []

    def fail(what: str) -> InputError:
        return InputError(f"where: {what} in {_clip(expression)!r}; {EXAMPLE}.")

    def column(node: ast.expr) -> pd.Series | None:
        name = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else None
        return table[name] if name is not None and name in table else None

    def literal(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | bool):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = literal(node.operand)
            if isinstance(value, int | float):
                return -value
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return [literal(item) for item in node.elts]
        if isinstance(node, ast.Name | ast.Attribute):
            word = ast.unparse(node)
            return {"true": True, "false": False}.get(word.lower(), word)
        raise fail(f"{_clip(ast.unparse(node))!r} is neither a column nor a value")

    def fitting(values: pd.Series, given: Any) -> Any:
        """`given` as the column's type; a number is never compared with text."""
        kinds = pd.api.types
        if isinstance(given, list):
            if any(isinstance(item, list) for item in given):
                raise fail(f"{given!r} is a list of lists")
            return [fitting(values, item) for item in given]
        if kinds.is_bool_dtype(values):
            good = isinstance(given, bool)
        elif kinds.is_numeric_dtype(values):
            good = isinstance(given, int | float) and not isinstance(given, bool)
        else:
            words = sorted({str(value) for value in values.dropna()})
            if str(given) not in words:
                hints.append(f" {values.name} is one of {', '.join(words[:12])}.{did_you_mean(str(given), words)}")
            return str(given)
        if not good:
            raise fail(f"{given!r} cannot be compared with column {values.name}, which holds {values.dtype} values,")
        return given

    def compare(left: ast.expr, sign: ast.cmpop, right: ast.expr) -> np.ndarray:
        values, other = column(left), column(right)
        if values is None and other is None:
            word = next((ast.unparse(n) for n in (left, right) if isinstance(n, ast.Name | ast.Attribute)), None)
            if word is None:
                raise fail("a comparison without a column")
            raise InputError(
                f"where: {word!r} is not a column; there are: {', '.join(table.columns)}."
                f"{did_you_mean(word, table.columns)}"
            )
        if isinstance(sign, ast.In | ast.NotIn):
            if values is None:
                raise fail("`in` wants a column on its left")
            given = literal(right)
            given = fitting(values, given if isinstance(given, list) else [given])
            inside = values.isin(given)
            return (inside if isinstance(sign, ast.In) else ~inside & values.notna()).to_numpy(bool)
        if type(sign) not in OPERATORS:
            raise fail("`is` is not legal")
        a = values if values is not None else fitting(other, literal(left))  # type: ignore[arg-type]
        b = other if other is not None else fitting(values, literal(right))  # type: ignore[arg-type]
        if not isinstance(sign, ast.Eq | ast.NotEq) and (isinstance(a, str) or isinstance(b, str)):
            raise fail("text has no order: use == or != or `in`,")
        known = np.ones(len(table), bool)
        for side in (a, b):
            if isinstance(side, pd.Series):
                known &= side.notna().to_numpy()
        try:
            return np.asarray(OPERATORS[type(sign)](a, b), bool) & known
        except TypeError:
            raise fail("columns of different kinds are compared") from None

    def walk(node: ast.expr) -> np.ndarray:
        if isinstance(node, ast.BoolOp):
            parts = [walk(value) for value in node.values]
            return np.logical_and.reduce(parts) if isinstance(node.op, ast.And) else np.logical_or.reduce(parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~walk(node.operand)
        if isinstance(node, ast.Compare):
            items = [node.left, *node.comparators]
            return np.logical_and.reduce([compare(items[i], op, items[i + 1]) for i, op in enumerate(node.ops)])
        raise fail(f"{_clip(ast.unparse(node))!r} is not a comparison")

    mask = walk(tree)
    return mask, hints[0] if hints else ""
