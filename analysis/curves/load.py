"""Load learning curves from a study folder, a CSV or parquet file, MLflow or the shipped reference data.

`expect` makes the same frame for a study that has not run yet, so that its choices can be checked before it trains.
Runs that a source names but that have no curve are listed by name with the reason.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.check import _no_twins, make_curves
from analysis.curves.frame import NUMBER_COLUMNS, Curves, run_label
from analysis.curves.mlflow_runs import load_mlflow
from analysis.curves.run_columns import run_columns, varying
from scaling import files, record, schema
from scaling.schema import NOT_UTF8, InputError, check_name, clip, did_you_mean

REFERENCE = Path(__file__).parents[1] / "reference"
SOURCES = "a study folder, a CSV or parquet file, mlflow:EXPERIMENT, reference:NAME"


def load(source: str | Path | Curves) -> Curves:
    """Load and check the curves of a study folder, a CSV or parquet file, `mlflow:EXPERIMENT` or `reference:NAME`.

    Raises InputError, one line, naming the file, the column, what is legal and the nearest match.
    """
    if isinstance(source, Curves):
        return source
    if isinstance(source, pd.DataFrame):
        raise InputError("a table is checked before it is used: give analysis.make_curves(table) in its place.")
    if not isinstance(source, str | Path):
        raise InputError(f"source: {clip(repr(source))} is none; a source is {SOURCES}, or Curves.")
    text = str(source)
    if text.startswith("reference:"):
        names = sorted(path.stem for path in REFERENCE.glob("*.csv"))
        return _load_table(REFERENCE / f"{check_name(text[10:], names, 'reference data set')}.csv", text)
    if text.startswith("mlflow:"):
        return load_mlflow(text)
    path = Path(source)
    if os.path.isdir(path):
        return _load_study(path)
    if not os.path.exists(path):
        raise InputError(f"{text}: no such file or folder; a source is {SOURCES}.{_near(path)}")
    return _load_table(path, text)


def expect(documents: Mapping[str, Mapping[str, Any]], source: str) -> Curves:
    """Curves of a study before it has run, to check choices on: NaN where the run will tell.

    Args:
        documents: by run_id the `config` and `model` of its config.json, its `reuse_factor`, and the steps at which it
            is `evaluated`, a row each; one row where they are not known.
    """
    settings = varying({run_id: document["config"] for run_id, document in documents.items()})
    rows = [
        {**run_columns(document, run_id), "reuse_factor": document["reuse_factor"], "step": step}
        | {name: values[run_id] for name, values in settings.items()}
        for run_id, document in documents.items()
        for step in document.get("evaluated") or [np.nan]
    ]
    table = pd.DataFrame(rows)
    for name in table.columns.intersection(NUMBER_COLUMNS):
        table[name] = table[name].astype(float)
    unknown = [n for n in [*schema.ROW_COLUMNS, *schema.TIMING_COLUMNS, "reuse_factor_so_far"] if n not in table]
    table = pd.concat([table, pd.DataFrame(np.nan, table.index, unknown)], axis=1)
    return Curves(source, table, settings=list(settings))


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
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: cannot be read ({error}); {NOT_UTF8}.") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{source}: the file is empty.") from None
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"{source}: cannot be read ({str(error).splitlines()[0]}).") from None
    if table.empty:
        raise InputError(f"{source}: the file has no rows.")
    return make_curves(table, source)


def _load_study(folder: Path) -> Curves:
    """The runs that cells.json names, each once and as far as its longest cell goes."""
    cells = files.read_json(folder / schema.CELLS)
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
        reason = _not_done(run)
        config = None if reason and reason.startswith("damaged") else files.read_json(run / schema.CONFIG)
        rows = [with_timing(row) for row in record.read_record(run)] if config is not None and reason is None else []
        needed = [_rows_to(rows, stop) for stop in run_stops]
        reached = [count for count in needed if count]
        name = run_label(run_id, (config or {}).get("name") or cells.get("runs", {}).get(run_id))
        if config is None or not reached:
            left_out.append({"run": name, "reason": reason or "incomplete: it has not reached the stop of its cells"})
            continue
        if len(reached) < len(needed):
            notes.append(f"{name}: {len(needed) - len(reached)} of its {len(needed)} cells are not reached yet.")
        if max(reached) < len(rows):
            notes.append(f"{name}: {len(rows) - max(reached)} rows after the last stop of its cells are not used.")
        configs[run_id], names[run_id] = config["config"], config.get("name") or run_id
        frames.append(pd.DataFrame(rows[: max(reached)]).assign(**run_columns(config, run_id)))
    runs = folder / schema.RUNS
    others = sorted(p.name for p in runs.iterdir() if p.is_dir() and p.name not in stops) if runs.is_dir() else []
    left_out += [{"run": other, "reason": "not in the current cells of the study"} for other in others]
    if not frames:
        reasons = "; ".join(f"{item['run']}: {item['reason']}" for item in left_out[:3]) or "it has no cells"
        raise InputError(f"{folder}: no finished run ({reasons}); run `scaling sweep launch` first.")
    table = pd.concat(frames, ignore_index=True)
    settings = varying(configs)
    for name, values in settings.items():
        table[name] = table["run_id"].map(values)
    curves = make_curves(table, str(folder), settings=list(settings))
    defaults, notes = cells.get("analysis") or {}, [*notes, *curves.notes]
    return replace(curves, left_out=left_out, notes=notes, defaults=defaults, folder=folder, names=names)


def _not_done(run: Path) -> str | None:
    """Why the run has no finished record that is whole, or None."""
    if damage := record.damage(run):
        return f"damaged: {damage}; see `scaling sweep repair`"
    if (run / schema.DONE).exists():
        return None
    failed = files.read_json(run / schema.FAILED)
    if failed:
        return f"failed: {failed.get('class', 'error')}: {failed.get('message', '')}".strip(": ")
    return "incomplete: not finished" if run.is_dir() else "missing: not started"


def with_timing(row: dict[str, Any]) -> dict[str, Any]:
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
