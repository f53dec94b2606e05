"""Where runs are carried out: one file per executor, found by its name. The payloads that all of them share are here.

A file NAME.py of this folder that offers a class `Pool` is an executor: a launch fills its slots and stays until the
runs are done. An executor without one is a batch system, to which a launch hands the runs over (`sweeps.cluster`).
Payloads are light until they are called: torch and the trainer load inside.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from scaling.schema import check_name

INTERRUPTED = 130
NO_EXECUTORS = ("slurm_task",)  # what a job of SLURM runs


@dataclass(frozen=True)
class Job:
    """Something for one process to do: `payload(*arguments)`, its output appended to `log`."""

    key: str
    payload: Callable[..., None]  # a module-level function
    arguments: tuple[Any, ...]  # plain values
    log: Path


class Pool(Protocol):
    """What a launch needs of an executor. Made with the number of its slots."""

    def __init__(self, slots: int): ...

    @property
    def free(self) -> int:
        """Slots in which nothing runs."""
        ...

    def submit(self, job: Job) -> None:
        """Start a job at once; the caller asks for a free slot first."""
        ...

    def wait(self, timeout: float) -> list[tuple[str, int]]:
        """(key, exit status) of the jobs that have ended, after `timeout` seconds at most; negative: the signal."""
        ...

    def stop(self, patience: float) -> None:
        """Send every job TERM, at which it checkpoints and ends; kill what is left after `patience` seconds."""
        ...


def executor_names() -> list[str]:
    """Names of the executors, from the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in NO_EXECUTORS)


def load_pool(name: str) -> type[Pool] | None:
    """The pool of the executor of that name, None for a batch system. Raises InputError naming the executors."""
    module = importlib.import_module(f"{__name__}.{check_name(name, executor_names(), 'executor')}")
    return getattr(module, "Pool", None)


def run_cell(config: dict[str, Any], run: str, artifacts: str, job: Any = None) -> None:
    """Train one run. `job` is the scheduler's job that this process is (scaling.process.Job), None elsewhere."""
    from scaling.config.run import RunConfig
    from scaling.trainer import train_run

    train_run(RunConfig.model_validate(config), Path(run), Path(artifacts), job)


def make_base(config: dict[str, Any], artifacts: str) -> None:
    """Make one base model, unless it is there."""
    from scaling.base_models import ensure_base
    from scaling.config.run import RunConfig

    ensure_base(RunConfig.model_validate(config), Path(artifacts))


def tail(log: Path, lines: int = 5) -> list[str]:
    """The last lines of a log that hold anything."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
