"""Where runs are carried out: one file an executor, found by its name. What they carry out is in `sweeps/payloads.py`.

A file NAME.py of this folder that offers a class `Pool` is an executor: a launch fills its slots and stays until the
runs are done. An executor without one is a batch system, to which a launch hands the runs over (`sweeps.cluster`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from scaling.schema import check_name


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
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_pool(name: str) -> type[Pool] | None:
    """The pool of the executor of that name, None for a batch system. Raises InputError naming the executors."""
    module = importlib.import_module(f"{__name__}.{check_name(name, executor_names(), 'executor')}")
    return getattr(module, "Pool", None)
