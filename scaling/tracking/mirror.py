"""Show a study in MLflow: a view of the run folders, never the record, and never in the way of a training.

One experiment per study, one MLflow run per run folder. The mirror keeps no account of its own of what it sent: the
sentinel's history says what MLflow already has (`rows.py`), so the mirror can be killed at any moment.

MLflow is imported inside functions only: it takes a second, and it may not be installed.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling import files, schema
from scaling.schema import InputError, one_line
from scaling.tracking.rows import (
    DESCRIPTION,
    SENTINEL,
    _Folder,
    _read_folder,
    _report_link,
    _signature,
    _state,
    _Step,
    batches,
)
from scaling.tracking.store import _all_runs, _check_installed, _client, _sqlite_path, default_uri, is_server

BATCH_PARAMS = 100
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0  # seconds between two tries of a store that does not answer
LOCK, ORIGIN = ".mirror.lock", ".mirror.origin"


@dataclass
class SyncReport:
    """What one pass did."""

    runs: int = 0
    """Runs that had something new."""
    steps: int = 0
    """Rows sent."""
    points: int = 0
    """Metric points sent."""
    nonfinite: int = 0
    """Values left out of these rows because they are NaN or infinite."""
    problems: list[str] = field(default_factory=list)
    """Runs and keys that MLflow cannot show and why; trying again does not help."""
    error: str | None = None
    """Why the pass broke off; the next one goes on where it stopped. None when MLflow has everything."""

    def __str__(self) -> str:
        text = f"mlflow: {self.steps} rows, {self.points} points of {self.runs} runs sent"
        if self.nonfinite:
            text += f", {self.nonfinite} values left out (not finite)"
        return "; ".join([text, *self.problems, *([f"broken off: {self.error}"] if self.error else [])])


@dataclass
class _Shown:
    """One run as MLflow has it."""

    id: str
    name: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    times: dict[int, int] | None = None  # step -> time_ms of every mirrored step; None until read


class _Refused(Exception):
    """MLflow will never take this run as it is."""


def _origin(study: Path) -> str:
    """Where a study lay when it was first mirrored: a folder that moved keeps its MLflow runs, a copy gets its own."""
    note = files.read_json(study / ORIGIN) or {}
    place = note.get("path", str(study))
    if place != str(study) and (files.read_json(Path(place) / ORIGIN) or {}).get("path") == place:
        note = {}  # that folder is still there: this one is a copy
    new = {"origin": note.get("origin", str(study)), "path": str(study)}
    if new != note:
        files.write_json(study / ORIGIN, new)
    return new["origin"]


def open_mirror(study: Path, uri: str | None = None, only: str | None = None) -> tuple[Mirror | None, str]:
    """A mirror, or None and one line that says why there is none. Never raises for a missing package or a held lock."""
    try:
        return Mirror(study, uri, only), ""
    except InputError as error:
        return None, str(error)


class Mirror:
    """Mirrors the runs of one study folder; holds the study's mirror lock until `close`.

    On a server each run has one writer at a time, too: the job that trains it, or in its absence who watches the study.

    Args:
        study: a study folder with its cells.json.
        uri: an MLflow tracking URI; by default MLFLOW_TRACKING_URI, else `mlflow.db` in the study folder.
        only: id of the one run that is mirrored, by its own job; the study's lock is then left alone.

    Raises:
        InputError: no cells.json, MLflow not installed, or another process mirrors this study.
    """

    def __init__(self, study: Path, uri: str | None = None, only: str | None = None) -> None:
        self.study, self.only = study.resolve(), only
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(study)
        self.experiment_id: str | None = None
        self.report = SyncReport()
        """The last pass, for whoever draws the progress of a launch."""
        if not (self.study / schema.CELLS).exists():
            raise InputError(f"{study}: not a study folder, it has no {schema.CELLS}.")
        if self.uri == default_uri(study) and "?" in self.uri:
            raise InputError(f"{study}: MLflow cannot keep its database in a path with a question mark; rename it.")
        _check_installed(self.uri)
        # One writer: two at once would both create a run where neither finds one.
        self._lock = contextlib.ExitStack()
        self._held: set[str] = set()  # runs whose own lock is ours until `close`
        if only is None and not self._lock.enter_context(files.exclusive(self.study / LOCK, wait=False)):
            raise InputError(f"{study}: another process already mirrors this study to MLflow; leaving it to that one.")
        # Two studies, or the copies of one, may share a server: a run is known by its folder and its run_id.
        self._source = "." if self.uri == default_uri(study) else _origin(self.study)
        self._turn = threading.Lock()  # one pass at a time, whichever thread asks
        self._until = math.inf  # time.monotonic() at which a pass breaks off
        self._drop_all = False
        self._client: Any = None
        self._shown: dict[str, _Shown] = {}
        self._seen: dict[str, Any] = {}  # signature of each run whose every row MLflow has
        self._given_up: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    # ------------------------------------------------------------ what the launcher calls

    def sync(self, deadline: float = math.inf) -> SyncReport:
        """Send what is new, once. Blocks for at most `deadline` seconds and one request (10 s at worst).

        Never raises for a store that is down, slow or broken: see SyncReport.error.
        """
        until = time.monotonic() + deadline
        if not self._turn.acquire(timeout=min(deadline, threading.TIMEOUT_MAX)):
            return SyncReport(error="MLflow has not answered the pass before this one")
        report = SyncReport()
        try:
            self._until = until
            self._connect()
            cells: dict[str, list[dict[str, Any]]] = {}
            for cell in files.read_json(self.study / schema.CELLS)["cells"]:
                cells.setdefault(cell["run_id"], []).append(cell)
            for folder in sorted(path for path in (self.study / schema.RUNS).glob(self.only or "*") if path.is_dir()):
                with self._own(folder) as mine:
                    if mine:
                        self._sync_run(folder, cells.get(folder.name, []), report)
                    elif _state(folder) != "RUNNING":
                        report.error = f"the job of run {folder.name} is still sending its curve"
        except Exception as error:  # the store is a view: whatever it does must not stop a training
            self._forget()
            report.error = _described(error)
        finally:
            report.problems += [*self._given_up.values(), *self._refused.values()]
            self.report = report
            self._turn.release()
        return report

    def watch(self, stop: threading.Event, interval: float = 2.0) -> None:
        """Sync every `interval` seconds until `stop` is set; the body of a daemon thread."""
        wait = FIRST_WAIT
        while not stop.is_set():
            if self.sync().error:
                stop.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                stop.wait(interval)
                wait = FIRST_WAIT

    def close(self, deadline: float = 30.0) -> SyncReport:
        """Catch up for at most `deadline` seconds and one request (10 s at worst), then let go of the lock."""
        until = time.monotonic() + deadline
        wait = FIRST_WAIT
        try:
            report = self.sync(deadline)
            while report.error and (left := until - time.monotonic()) > 0:
                time.sleep(min(wait, left))
                wait = min(2 * wait, LONGEST_WAIT)
                report = self.sync(max(0.0, until - time.monotonic()))
            return report
        finally:
            self._lock.close()

    def rebuild(self) -> SyncReport:
        """Delete the runs of this study in MLflow and send everything again."""
        self._drop_all = True
        self._given_up, self._refused = {}, {}
        return self.sync()

    # ------------------------------------------------------------ one pass

    def _connect(self) -> None:
        """Find or make the experiment, and read which runs it has; does nothing where that is known."""
        if self._drop_all:
            self._forget()
        if self._client is None:
            client = _client(self.uri)
            self.experiment_id = self._find_experiment(client)
            wanted = f"tags.run_id = '{self.only}'" if self.only else ""
            for run in _all_runs(client, self.experiment_id, wanted):
                tags = run.data.tags
                if tags.get("study_folder") != self._source:
                    continue
                if self._drop_all or tags["run_id"] in self._shown:  # a second one: the oldest stays
                    client.delete_run(run.info.run_id)
                    continue
                self._keep(run)
            self._drop_all = False
            self._client = client

    def _keep(self, run: Any) -> None:
        info, data = run.info, run.data
        self._shown[data.tags["run_id"]] = _Shown(info.run_id, info.run_name, info.status, data.params, data.tags)

    def _forget(self) -> None:
        """After an error nobody knows what was stored: read it all again."""
        self._client = None
        self._shown = {}
        self._seen = {}

    def _find_experiment(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        name = files.read_json(self.study / schema.CELLS)["study"]
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            # A database on this machine would put artifacts below the working directory; a server has its own place.
            place = (self.study / "mlartifacts").as_uri() if _sqlite_path(self.uri) else None
            try:
                client.create_experiment(name, artifact_location=place)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another study of this name was faster
                    raise
            experiment = client.get_experiment_by_name(name)
        if experiment.lifecycle_stage == "deleted":  # a deleted experiment keeps its name
            client.restore_experiment(experiment.experiment_id)
        if experiment.tags.get(DESCRIPTION) != _report_link(self.study):
            client.set_experiment_tag(experiment.experiment_id, DESCRIPTION, _report_link(self.study))
        return experiment.experiment_id

    @contextlib.contextmanager
    def _own(self, folder: Path) -> Iterator[bool]:
        """Whether this process may write a run: its job keeps the run's lock, a watcher has it for one pass."""
        if not is_server(self.uri) or folder.name in self._held:
            yield True
            return
        lock = files.exclusive(folder / LOCK, wait=False)
        if self.only:
            with contextlib.ExitStack() as stack:
                if stack.enter_context(lock):
                    self._lock.push(stack.pop_all())
                    self._held.add(folder.name)
            yield folder.name in self._held
            return
        with lock as free:
            if not free:  # somebody writes what this process does not see
                self._shown.pop(folder.name, None)
                self._seen.pop(folder.name, None)
            yield free is not None

    def _sync_run(self, folder: Path, cells: list[dict[str, Any]], report: SyncReport) -> None:
        from mlflow.exceptions import MlflowException

        run_id = folder.name
        signature = (cells, _signature(folder))  # before anything is read: a later change is for the next pass
        if run_id in self._given_up or self._seen.get(run_id) == signature:
            return
        try:
            seen = _read_folder(folder, self.study, cells)
        except (KeyError, TypeError, ValueError) as error:  # an InputError is a ValueError
            report.problems.append(f"run {run_id} cannot be read: {_described(error)}")
            return
        try:
            if seen is not None:
                self._show(run_id, seen, report)
        except (_Refused, MlflowException) as error:
            if isinstance(error, MlflowException) and error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            self._given_up[run_id] = f"run {run_id} is not mirrored, MLflow refuses it: {_described(error)}"
            return
        self._seen[run_id] = signature

    def _show(self, run_id: str, seen: _Folder, report: SyncReport) -> None:
        times = {step.step: step.time_ms for step in seen.steps}
        shown = self._find_run(run_id, seen)
        if shown.times is None:
            history = self._client.get_metric_history(shown.id, SENTINEL)
            shown.times = {metric.step: metric.timestamp for metric in history}
        if any(times.get(step) != time_ms for step, time_ms in shown.times.items()):
            # The run went back to an older checkpoint, or its record was changed. Points cannot be taken back.
            self._client.delete_run(shown.id)
            del self._shown[run_id]
            shown = self._find_run(run_id, seen)
        self._describe(shown, seen)
        new = [step for step in seen.steps if step.step not in (shown.times or {})]
        self._push(shown, new, report)
        report.runs += bool(new)
        # After the last row. A run that was extended while nobody looked has a new end.
        if seen.state == "RUNNING" and shown.status != "RUNNING":
            self._client.update_run(shown.id, status="RUNNING")
        elif seen.state != "RUNNING" and (new or shown.status != seen.state):
            self._client.set_terminated(shown.id, seen.state, end_time=max(times.values(), default=None))
        shown.status = seen.state

    def _find_run(self, run_id: str, seen: _Folder) -> _Shown:
        """The run's counterpart; a new one gets its tags in the call that creates it, so that it is always found."""
        if run_id not in self._shown and is_server(self.uri):  # its job may have made it since
            for run in _all_runs(self._client, self.experiment_id or "", f"tags.run_id = '{run_id}'"):
                if run.data.tags.get("study_folder") == self._source and run_id not in self._shown:
                    self._keep(run)
        if run_id not in self._shown:
            tags = {"run_id": run_id, "study_folder": self._source}
            run = self._client.create_run(self.experiment_id, seen.started_ms, tags, seen.name)
            times = {}  # a new run has no points
            self._shown[run_id] = _Shown(run.info.run_id, seen.name, run.info.status, {}, tags, times)
        return self._shown[run_id]

    def _describe(self, shown: _Shown, seen: _Folder) -> None:
        """Bring name, parameters and tags up to date; a parameter that is there stays, for none can be changed."""
        from mlflow.entities import Param, RunTag

        tags = [RunTag(key, value) for key, value in seen.tags.items() if shown.tags.get(key) != value]
        params = [Param(key, value) for key, value in seen.params.items() if key not in shown.params]
        if tags:
            self._client.log_batch(shown.id, tags=tags, synchronous=True)
        for start in range(0, len(params), BATCH_PARAMS):
            self._client.log_batch(shown.id, params=params[start : start + BATCH_PARAMS], synchronous=True)
        if shown.name != seen.name:
            self._client.update_run(shown.id, name=seen.name)
        shown.tags, shown.params, shown.name = {**shown.tags, **seen.tags}, {**seen.params, **shown.params}, seen.name

    def _push(self, shown: _Shown, steps: list[_Step], report: SyncReport) -> None:
        from mlflow.entities import Metric

        report.nonfinite += sum(step.nonfinite for step in steps)
        metrics = [
            [Metric(key, value, step.time_ms, step.step) for key, value in step.values.items()] for step in steps
        ]
        for batch in batches(metrics):
            if time.monotonic() > self._until:
                raise TimeoutError("out of time; `scaling sweep mlflow STUDY` sends the rest")
            report.points += self._push_batch(shown, [metric for metric in batch if metric.key not in self._refused])
            done = {metric.step: metric.timestamp for metric in batch}
            shown.times = {**(shown.times or {}), **done}
            report.steps += len(done)

    def _push_batch(self, shown: _Shown, batch: list[Any]) -> int:
        """Send one batch and return how many points were taken.

        Where MLflow refuses the batch, send it key by key and leave out, from now on, the keys that it refuses.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(shown.id, metrics=batch, synchronous=True)
            return len(batch)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
        keys = sorted({metric.key for metric in batch}, key=lambda key: key == SENTINEL)  # the sentinel last
        taken, refused = 0, {}
        for key in keys:
            points = [metric for metric in batch if metric.key == key]
            try:
                self._client.log_batch(shown.id, metrics=points, synchronous=True)
                taken += len(points)
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                if key == SENTINEL:  # then no key is at fault: the run was deleted by hand, for one
                    raise _Refused(str(error)) from error
                refused[key] = f"{key} is left out, MLflow refuses it: {_described(error)}"
        self._refused |= refused
        return taken


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error, 300)}"
