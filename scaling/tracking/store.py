"""The MLflow store: its address, a client that gives up quickly, a safe new database, and its chart page.

MLflow is imported inside functions only: it takes a second, and it may not be installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from pathlib import Path
from typing import Any

from scaling import files
from scaling.schema import InputError


def default_uri(study: Path) -> str:
    return f"sqlite:///{study.resolve() / 'mlflow.db'}"


def charts_fragment(experiment_id: str) -> str:
    """The part of the address, after the server, that opens the training charts of an experiment."""
    return f"#/experiments/{experiment_id}/runs?compareRunsMode=CHART&workflowType=machine_learning"


def is_server(uri: str) -> bool:
    """Whether a tracking URI is a server's: then each job mirrors its own run."""
    return uri.startswith(("http://", "https://"))


def _check_installed(uri: str) -> None:
    wanted = ["mlflow", "sqlalchemy", "alembic"] if uri.startswith("sqlite") else ["mlflow"]
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"no curves in MLflow: {', '.join(missing)} is not installed; install the extra: pip install -e '.[track]'"
        )


def serve(uri: str, experiment_id: str | None, port: int) -> int:
    """Serve the charts of a database on this machine until Ctrl-C; opens the page where there is a screen.

    Returns the server's exit status. Raises InputError where the page is not installed, the port is taken, or `uri` is
    a server's, which shows its own.
    """
    fragment = charts_fragment(experiment_id or "0")
    if is_server(uri):
        raise InputError(f"MLFLOW_TRACKING_URI is a server already; open {uri.rstrip('/')}/{fragment}")
    if importlib.util.find_spec("flask") is None:
        raise InputError("the chart page is not installed; install the extra: pip install -e '.[ui]' (or: make mlflow)")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise InputError(f"port {port} is taken by another program; choose one with --port.")
    # One worker and no job runner: the defaults start 15 processes and answer three times slower.
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # In a group of its own, which ends with this process however it is asked to end: its workers are children.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], env=environment, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}/{fragment}"
    try:
        while server.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        if server.poll() is None:
            print(f"charts: {url} (Ctrl-C ends the server)", flush=True)
            if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
                webbrowser.open(url)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        end_group(server)


def end_group(server: subprocess.Popen) -> None:
    """End a process and all of its group: TERM, and KILL after some seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(5)


def _client(uri: str) -> Any:
    """A client that gives up quickly, is silent, sends no usage statistics and creates a new sqlite file safely."""
    for name, value in {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default a server that is down blocks for four minutes
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines a run, where --json wants a document
    }.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # Its traceback of a full disk or a locked file: the error itself comes back to us, and is told in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    path = _sqlite_path(uri)
    if path is not None and not path.exists():
        # Of several processes that open an empty file all but one crash, and a kill would leave half a schema: one
        # makes it aside, then renames it.
        with files.exclusive(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                aside = path.with_name(f".{path.name}.new")
                aside.unlink(missing_ok=True)
                MlflowClient(f"sqlite:///{aside}").search_experiments(max_results=1)
                os.replace(aside, path)
    return MlflowClient(uri)


def _sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite URI, None for any other."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def _all_runs(client: Any, experiment_id: str, where: str = "") -> list[Any]:
    """The runs of an experiment that are not deleted, the oldest first; `where` is MLflow's filter."""
    runs, token = [], None
    while True:
        page = client.search_runs([experiment_id], where, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))
