"""What every executor carries out: train one run, or make one base model. And the files that tell a job its work.

The module is light: torch and the trainer are loaded when a payload is called.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from scaling import files
from scaling.config.run import RunConfig
from scaling.schema import one_line

if TYPE_CHECKING:
    from scaling.process import Job

INTERRUPTED = 130  # exit status: a checkpoint is written
PACKAGES = ("scaling", "sweeps", "analysis")
TASKS = "tasks.json"


class JobInfo(TypedDict):
    """The job of a cluster that a process is; it goes into attempt.json."""

    job: str  # ARRAY_TASK
    token: str  # of its submission
    code: str  # the copy of the packages that it runs
    node: str | None
    restart: int  # how often SLURM has started the job before


class TaskFile(TypedDict):
    """tasks.json: what the tasks of one array do, written before sbatch is called."""

    kind: str  # runs | bases | canary
    token: str
    code: str
    processes: int  # on each node
    tasks: list[list[str]]  # run ids by task; of kind `bases` the runs whose base models are made


def run_cell(config: dict[str, Any], run: str, artifacts: str, job: Job | None = None) -> None:
    """Train one run. `job`: the scheduler's job that this process is; None on this machine."""
    from scaling.trainer import train_run

    train_run(RunConfig.model_validate(config), Path(run), Path(artifacts), job)


def make_base(config: dict[str, Any], artifacts: str) -> None:
    """Make one base model, unless it is there."""
    from scaling.base_models import ensure_base

    ensure_base(RunConfig.model_validate(config), Path(artifacts))


def no_room(error: BaseException, place: str | Path) -> str:
    """What is said of a full disk, in one line."""
    return f"error: no room is left on the disk of {place} ({one_line(error, 120)}); make room and launch again"


def code_files(root: Path) -> list[Path]:
    """The files of our packages below a folder."""
    return [
        path
        for package in PACKAGES
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def code_hash(root: Path) -> str:
    """12 hex digits that name the code below a folder, edits included."""
    digest = hashlib.sha256()
    for path in code_files(root):
        digest.update(f"{path.relative_to(root)}\0{files.sha256(path)}\0".encode())
    return digest.hexdigest()[:12]


def redirect_output(log: Path) -> None:
    """Append what this process prints from now on to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def tail(log: Path, lines: int = 5) -> list[str]:
    """The last lines of a log that hold anything."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
