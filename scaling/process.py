"""Around the loop: signals, device, versions, the log, config.json and the exported model."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from scaling import files, record, schema
from scaling.checkpoint import Checkpoint
from scaling.config.identity import base_id
from scaling.config.identity import run_id as run_id_of
from scaling.config.reading import dump
from scaling.config.run import RunConfig
from scaling.determinism import Determinism, set_workspace
from scaling.files import Row
from scaling.rollout_types import RolloutEngine
from scaling.rollouts import engine_class


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop; its checkpoint is written and it can be resumed."""


@dataclass(frozen=True)
class Job:
    """The scheduler's job that a process is: whether it was asked to stop, and what attempt.json says of it."""

    stopping: Callable[[], bool]
    info: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def signals_heard() -> Iterator[Callable[[], bool]]:
    """Let TERM, USR2 and INT only set a flag, which the yielded function reads: the loop stops between two steps.

    A signal that is ignored already stays so: workers of a pool leave INT to their launcher.
    """
    heard: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: heard.append(number))
    try:
        yield lambda: bool(heard)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def pick_device(config: RunConfig) -> str:
    """The device that `resources.device` asks for; auto takes a CUDA GPU where there is one."""
    set_workspace()
    wanted = config.resources.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise schema.InputError("resources.device: cuda is asked for, but torch sees no GPU here; use cpu or auto.")
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
    if kind == "cuda" and "LOCAL_RANK" in os.environ:  # of several processes each has a GPU
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return kind


def versions() -> dict[str, str | None]:
    """Code, libraries and processor: what a byte-equal resume depends on."""
    import transformers

    return {
        "package": package_version(),
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": _processor(),
    }


def package_version() -> str | None:
    try:
        return version("rl-scaling-lab")
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Commit of the checkout that this code runs from, with + where it has changes; None outside of one."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "") if head.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


class Clock:
    """When the parts of one step ended. A step that only evaluates has no rollout."""

    def __init__(self) -> None:
        self.start, self.cpu = time.monotonic(), time.process_time()
        self.rollout = self.update = self.start

    def timing(self, wall_seconds: float) -> Row:
        """The columns of section timing, at the end of the step."""
        return {
            "time_ms": int(time.time() * 1000),
            "wall_seconds": round(wall_seconds, 3),
            "cpu_seconds": round(time.process_time() - self.cpu, 4),
            "rollout_seconds": round(self.rollout - self.start, 4),
            "update_seconds": round(self.update - self.rollout, 4),
            "eval_seconds": round(time.monotonic() - self.update, 4),
        }


class Log:
    """Says a line on stderr and keeps it in the attempt's log.txt."""

    def __init__(self, attempt: record.Attempt, name: str):
        self.attempt, self.path = attempt, attempt.folder / schema.LOG
        self.name = name

    def __call__(self, text: str) -> None:
        if isinstance(self.attempt, record.Bystander):
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(f"{self.name}: {text}", file=sys.stderr, flush=True)


def write_config(config: RunConfig, run: Path, num_params: int, non_embedding: int) -> None:
    """config.json: the run as resolved. An existing one must be of the same run; its stop may be another."""
    run_id = run_id_of(config)
    old = files.read_json(run / schema.CONFIG)
    if old is not None and old["run_id"] != run_id:
        raise schema.InputError(
            f"{run}: the folder belongs to run {old['run_id']}, this config is run {run_id}; choose another folder."
        )
    files.write_json(
        run / schema.CONFIG,
        {
            "schema_version": schema.SCHEMA_VERSION,
            "run_id": run_id,
            "name": config.name,
            "config": dump(config),
            "model": {
                "name": config.model.size or Path(config.model.path or "").name,
                "base": base_id(config) if config.model.made else None,
                "num_params": num_params,
                "num_params_non_embedding": non_embedding,
            },
        },
    )


def begin_attempt(
    run: Path, number: int, resumed: Checkpoint | None, config: RunConfig, info: dict[str, Any]
) -> record.Attempt:
    """Write attempt.json of an attempt that goes on from a checkpoint, or None; `info` stands there, too.

    Raises InputError where the attempt that wrote the checkpoint sampled with another engine.
    """
    name, dtype = config.resources.engine, config.model.dtype
    before = record.read_attempt(run, resumed.attempt).get("engine") if resumed else None  # those of 0.1 name none
    if before and (before["name"], before["dtype"]) != (name, dtype) and not config.resources.change_engine:
        raise schema.InputError(
            f"{run}: its steps so far were sampled by engine {before['name']} in {before['dtype']}, and this is {name} "
            f"in {dtype}; go on with the former, or say that a change is meant: resources.change_engine: true."
        )
    return record.start_attempt(
        run, number=number, parent=resumed and resumed.attempt, first_step=resumed.step + 1 if resumed else 0,
        loaded=resumed and {"attempt": resumed.attempt, "step": resumed.step, "sha256": resumed.sha256},
        threads=torch.get_num_threads(), **versions(), engine={"name": name, "dtype": dtype}, **info,
    )  # fmt: skip


def start_engine(
    engine: RolloutEngine, policy, attempt: record.Attempt, config: RunConfig, device: str, determinism: Determinism
) -> None:
    """Start what the engine needs beside this process; attempt.json says what samples, where and in which version."""
    told = engine.start(policy, attempt.folder, config.resources, main=not isinstance(attempt, record.Bystander))
    name = config.resources.engine
    what = {"name": name, "dtype": config.model.dtype, "device": device.partition(":")[0], "version": package_version()}
    attempt.update(engine=what | told)
    if engine_class(name).SERVER and device.startswith("cuda"):
        determinism.add(f"a server of engine {name} on a GPU rounds by the company that a sequence is in")


def export_model(policy, run: Path, encoding=None) -> None:
    """The trained policy as an ordinary transformers folder, `model/`, with its tokenizer, put in place by a rename."""
    final = run / "model"
    aside = files.beside(final)
    policy.save_pretrained(aside)
    if encoding is not None:
        encoding.tokenizer.save_pretrained(aside)
    files.fsync_tree(aside)
    shutil.rmtree(final, ignore_errors=True)
    os.rename(aside, final)
