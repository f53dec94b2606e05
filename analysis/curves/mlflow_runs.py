"""Curves of an MLflow experiment: the mirror of a study of ours, or runs that another program logged.

Of a mirrored run the columns are those of its run folder, as far as the mirror holds them: metrics are the rows of
`curve.jsonl` (FLOPs may stand as PFLOP, and a step's time is that of its points), and parameters are its config. Of a
run that another program logged a column is the last part of a metric's or a parameter's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.curves.check import make_curves
from analysis.curves.frame import CONVENTION, RUN_KEYS, Curves
from analysis.curves.run_columns import run_columns, varying
from scaling import schema
from scaling.schema import InputError, clip, did_you_mean

PAGE = 1000  # runs that a server gives at once
PFLOP = 1e15
# What the mirror sends besides the columns of a row.
NOT_COLUMNS = ("mirrored_step", "nonfinite", "log10_train_flops")
# The parameters that every run of our mirror has.
OURS = {"model.name", "model.num_params", "model.num_params_non_embedding", "algorithm.type", "rollout.group_size",
        "task.name", "seed"}  # fmt: skip


def load_mlflow(source: str) -> Curves:
    """Finished runs of the experiment that `mlflow:NAME` names. Slow: use a study folder if you can.

    Raises InputError where there is no such store or experiment, where no run is finished, and where two names of one
    run become the same column with different values.
    """
    client, experiment = _open(source)
    tables: list[pd.DataFrame] = []
    configs: dict[str, dict[str, Any]] = {}
    names, left_out = {}, []
    for run in _runs(client, experiment):
        if run.info.status != "FINISHED":
            left_out.append({"run": run.info.run_name, "reason": f"MLflow says {run.info.status}"})
            continue
        histories = {key: client.get_metric_history(run.info.run_id, key) for key in sorted(run.data.metrics)}
        where = f"{source}: run {run.info.run_name}"
        rows = _rows(histories, where)
        if run.data.params.keys() >= OURS:
            document = _document(run.data.params)
            run_id = run.data.tags.get("run_id", run.info.run_id)
            rows = _of_mirror(rows, histories, document)
            configs[run_id], names[run_id] = document["config"], run.info.run_name
            tables.append(rows.assign(**run_columns(document, run_id)))
        else:
            tables.append(_with_keys(rows, {**run.data.params, **run.data.tags}, where).assign(run_id=run.info.run_id))
    if not tables:
        raise InputError(f"{source}: the experiment has no finished run.")
    table = pd.concat(tables, ignore_index=True)
    settings = varying(configs)
    for name, values in settings.items():
        table[name] = table["run_id"].map(values)
    curves = make_curves(table, source, settings=list(settings))
    return replace(curves, left_out=left_out, notes=[*_notes(curves, bool(configs)), *curves.notes], names=names)


def _open(source: str) -> tuple[Any, str]:
    """(client, id of the experiment)."""
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
        names = [experiment.name for experiment in client.search_experiments()]
    except Exception as error:  # MLflow passes on whatever its database or connection raises
        raise InputError(f"{source}: MLflow at {uri} cannot be read ({clip(str(error))}).") from error
    if experiment is None:
        raise InputError(f"{source}: no such experiment; there are: {', '.join(names)}.{did_you_mean(name, names)}")
    return client, experiment.experiment_id


def _runs(client: Any, experiment: str) -> Iterator[Any]:
    """Every run of an experiment, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment], max_results=PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _rows(histories: dict[str, list[Any]], where: str) -> pd.DataFrame:
    """One row a step, one column a metric, named by the last part of the metric's name.

    Two metrics that become one column are joined where they agree; where they differ the column is ambiguous.
    """
    columns: dict[str, dict[int, float]] = {}
    origin: dict[str, str] = {}
    for key, points in histories.items():
        column, factor = key.rsplit("/", 1)[-1], 1.0
        if column in NOT_COLUMNS:
            continue
        if column.endswith("_pflop"):
            column, factor = f"{column.removesuffix('_pflop')}_flops", PFLOP
        values = {point.step: _whole(point.value * factor) if factor != 1.0 else point.value for point in points}
        known = columns.setdefault(column, {})
        if any(known.get(step, value) != value for step, value in values.items()):
            raise InputError(
                f"{where}: the metrics {origin[column]!r} and {key!r} both become column {column!r} and differ; "
                f"log one of them under another name, or give a table with the one that you mean."
            )
        known |= values
        origin.setdefault(column, key)
    return pd.DataFrame(columns).rename_axis("step").sort_index().reset_index()


def _whole(flops: float) -> float:
    """FLOPs that stood as PFLOP: a count, which the division by 1e15 took off a whole number by a rounding error."""
    return (
        float(round(flops)) if abs(flops) < 2**53 and abs(flops - round(flops)) < 1e-6 * max(1.0, abs(flops)) else flops
    )


def _document(params: dict[str, str]) -> dict[str, Any]:
    """config.json of a mirrored run: dotted parameters nested, their text read as JSON where it is JSON."""
    config: dict[str, Any] = {}
    for name, text in params.items():
        *parents, last = name.split(".")
        part = config
        for parent in parents:
            part = part.setdefault(parent, {})
        try:
            part[last] = json.loads(text)
        except json.JSONDecodeError:
            part[last] = text
    model = config["model"]
    counts = {name: model.pop(name) for name in ("num_params", "num_params_non_embedding", "name")}
    model.pop("base_id", None)
    return {"config": config, "model": counts}


def _of_mirror(rows: pd.DataFrame, histories: dict[str, list[Any]], document: dict[str, Any]) -> pd.DataFrame:
    """The rows with what the mirror keeps elsewhere: the time of each step, and what is constant in an evaluation."""
    times = {point.step: point.timestamp for points in histories.values() for point in points}
    rows = rows.assign(time_ms=rows["step"].map(times))
    evaluation = document["config"].get("evaluation", {})
    for column in ("problems", "samples", "temperature"):
        if column in evaluation and "test_loss" in rows:
            rows[f"eval_{column}"] = (
                rows["test_loss"].notna().map({True: evaluation[column], False: None}).astype(float)
            )
    return rows


def _with_keys(rows: pd.DataFrame, known: dict[str, str], where: str) -> pd.DataFrame:
    """The rows of a run of another program with what its parameters and tags say of the run."""
    short: dict[str, set[str]] = {}
    for name, value in known.items():
        short.setdefault(name.rsplit(".", 1)[-1], set()).add(value)
    aliases = {"algorithm": "algorithm.type", "group_size": "rollout.group_size"}
    for key in RUN_KEYS:
        value = known.get(key, known.get(aliases.get(key, key)))
        if value is None and len(short.get(key, ())) > 1:
            names = " and ".join(repr(name) for name in sorted(known) if name.rsplit(".", 1)[-1] == key)
            raise InputError(
                f"{where}: the parameters {names} both become column {key!r} and differ; name one of them {key}."
            )
        value = next(iter(short.get(key, ())), None) if value is None else value
        if value is not None and key not in rows:
            rows[key] = value
    for key in ("num_params", "num_params_non_embedding", "seed", "group_size"):
        if key in rows:
            rows[key] = pd.to_numeric(rows[key], errors="coerce")
    return rows


def _notes(curves: Curves, mirrored: bool) -> list[str]:
    """What a mirrored study lacks beside its folder."""
    if not mirrored:
        return []
    row_columns = [*schema.ROW_COLUMNS, *schema.RUN_COLUMNS, *schema.TIMING_COLUMNS, CONVENTION]
    missing = [name for name in row_columns if name not in curves.table]
    text = "read from the MLflow mirror: the study's own analysis section is not there"
    return [text + (f", nor the columns {', '.join(missing)}" if missing else "")]
