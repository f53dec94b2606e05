"""What MLflow shows of a run folder: keys and values of its rows, parameters, tags and state.

Only committed rows are read, because no point can be taken back from MLflow. Each point carries its row's own
`time_ms`, which is part of the store's primary key, so that sending it again stores nothing twice. The last point of
each step is a sentinel, `time/mirrored_step`: its history says what MLflow already has. Nothing here imports MLflow.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import files, record, schema
from scaling.config.run import LATER_SCIENCE, SCIENCE, default
from scaling.schema import InputError
from scaling.settings import flatten

SENTINEL = "time/mirrored_step"
NONFINITE = "time/nonfinite"
BATCH_METRICS = 1000  # MLflow cuts larger batches itself, in mid-step too
LONGEST_TEXT = 6000  # MLflow cuts longer parameters without a word
PFLOP = 1e15  # the ticks of the chart page are plain digits: 1e17 FLOPs would be unreadable
# The x axis, the nested times, and what is the same in every row and shown as a parameter.
NOT_CURVES = ("step", "timing", "eval_problems", "eval_samples", "eval_temperature")
REPORT = "report/index.html"
DESCRIPTION = "mlflow.note.content"


# ---------------------------------------------------------------- names and values


def clean_key(section: str, name: str) -> str:
    """`section/name` in characters that MLflow takes: `@` becomes `_at_`, any other bad one `_`."""
    return f"{section}/" + re.sub(r"[^\w\-. ]", "_", name.replace("@", "_at_"))


def row_values(row: files.Row) -> tuple[dict[str, float], int]:
    """What MLflow gets of one row, {key: value}, and the number of values left out because they are not finite.

    Nulls and text are left out. FLOPs become PFLOP. Raises InputError where two columns get the same key.
    """
    values: dict[str, float] = {}
    nonfinite = 0
    for section, name, value in _columns(row):
        if not isinstance(value, int | float):
            continue
        if section == "compute" and schema.COLUMNS[name].unit == "FLOPs":
            name, value = name.replace("_flops", "_pflop"), value / PFLOP
        key = clean_key(section, name)
        if key in values:
            raise InputError(f"column {name!r} and another one both become the MLflow key {key!r}; rename one.")
        if math.isfinite(value):
            values[key] = float(value)
        else:
            nonfinite += 1
    if nonfinite:
        values[NONFINITE] = float(nonfinite)
    values[SENTINEL] = float(row["step"])  # last: whoever finds it finds the whole step
    return values, nonfinite


def _columns(row: files.Row) -> Iterator[tuple[str, str, Any]]:
    """(section of the chart page, name, value) of every column of a row."""
    for name, value in row.items():
        if name.startswith(schema.SETS):
            yield "eval", name, value
        elif name not in NOT_CURVES:
            yield schema.COLUMNS[name].section if name in schema.COLUMNS else "train", name, value
    for name, value in row["timing"].items():
        if name != "time_ms":  # the timestamp of every point
            yield "time", name, value


def as_text(values: dict[str, Any], before: str = "") -> dict[str, str]:
    """Nested values as dotted keys and text; null is `null`, a list is JSON."""
    flat = flatten(values, before)
    return {name: _cut(value if isinstance(value, str) else json.dumps(value)) for name, value in flat.items()}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 4] + " ..."


def batches(steps: Iterable[list[Any]]) -> Iterator[list[Any]]:
    """Join the metrics of whole steps into lists of at most BATCH_METRICS; a longer step stands alone."""
    batch: list[Any] = []
    for metrics in steps:
        if batch and len(batch) + len(metrics) > BATCH_METRICS:
            yield batch
            batch = []
        batch = batch + metrics
    if batch:
        yield batch


# ---------------------------------------------------------------- what a run folder says


@dataclass
class _Step:
    """One committed row."""

    step: int
    time_ms: int
    values: dict[str, float]
    nonfinite: int


@dataclass
class _Folder:
    """One run folder as read in one pass."""

    state: str  # RUNNING | FINISHED | FAILED, as MLflow spells them
    started_ms: int | None
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    steps: list[_Step]


def _signature(folder: Path) -> tuple[Any, ...]:
    """Changes whenever the committed rows or the state of a run may have changed."""
    paths = [folder / schema.CONFIG, folder / schema.DONE, folder / schema.FAILED]
    for number in record.attempt_numbers(folder):
        attempt = record.attempt_folder(folder, number)
        paths += [attempt / schema.ATTEMPT, *sorted(attempt.glob("checkpoint-*"))]
    return tuple((str(path), *_stat(path)) for path in paths)


def _stat(path: Path) -> tuple[int, int]:
    """(time of change in ns, size in bytes); zeros where there is no such file."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


def _state(folder: Path) -> str:
    """DONE and FAILED.json count until a newer attempt has begun: an extension, or another try."""
    newest = record.newest_attempt(folder)
    done = record.read_done(folder)
    if done and done["attempt"] == newest:
        return "FINISHED"
    failed_ns, _ = _stat(folder / schema.FAILED)
    started_ms = record.read_attempt(folder, newest)["started_ms"] if newest else 0
    return "FAILED" if failed_ns and failed_ns >= started_ms * 1_000_000 else "RUNNING"


def _read_folder(folder: Path, study: Path, cells: list[dict[str, Any]]) -> _Folder | None:
    """What MLflow shows of a run; None where it has not begun or asks not to be tracked.

    Raises InputError where the folder cannot be read, and KeyError, TypeError or ValueError where it lacks a field.
    """
    info = files.read_json(folder / schema.CONFIG)
    attempts = record.attempt_numbers(folder)
    if info is None or not (attempts or (folder / schema.FAILED).exists()):
        return None
    config, model = info["config"], info["model"]
    if not config["tracking"]["mlflow"]:
        return None
    later = {name: default(name).model_dump(mode="json") for name in LATER_SCIENCE}
    science = {name: config[name] for name in SCIENCE}
    science |= {name: config[name] for name, usual in later.items() if config.get(name, usual) != usual}
    # A path is where a model lies, not what it is: it may differ between two machines that share a run.
    science["model"] = {key: value for key, value in science["model"].items() if key != "path"}
    science["model"] |= {"base_id" if key == "base" else key: value for key, value in model.items()}
    state = _state(folder)  # before the rows: where it says done, all rows are there
    steps = [
        _Step(row["step"], int(row["timing"]["time_ms"]), *row_values(row)) for row in record.read_committed(folder)
    ]
    done = record.read_done(folder) if state == "FINISHED" else None
    if done and [step.step for step in steps] != list(range(done["step"] + 1)):  # what MLflow has of it stays
        raise schema.InputError(f"its record has {len(steps)} rows, and it is done at step {done['step']}")
    names = [cell["cell"] for cell in cells]
    name = names[0] if names else info.get("name") or folder.name
    tags = {
        "run_id": folder.name,
        "state": state.lower(),
        "attempts": str(len(attempts)),
        "cell": _cut(", ".join(names)),
        "block": _cut(", ".join(dict.fromkeys(str(cell["block"]) for cell in cells))),
        **as_text(config["stop"], "stop."),
        **as_text(config["resources"], "resources."),
        DESCRIPTION: f"Run folder: `{folder}`\n\n{_report_link(study)}",
    }
    started = record.read_attempt(folder, attempts[0]).get("started_ms") if attempts else None
    return _Folder(state, started, name[:250], as_text(science), tags, steps)


def _report_link(study: Path) -> str:
    path = study / REPORT
    return f"Report of the study: [{REPORT}]({path.as_uri()}) (`{path}`)"
