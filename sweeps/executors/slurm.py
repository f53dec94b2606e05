"""SLURM: the batch text by submitit, and arrays with sbatch. What SLURM says to questions: `sweeps/clients.py`.

Of submitit this takes the batch text and the reading of sbatch's answer. Its pickles, its signal handlers and its job
states are not used: a pickle is renamed after sbatch returns (a launcher killed in between loses the job), the handler
rewrites pickles, and the states are wrong after a node failure and absent without accounting.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from scaling import files as scaling_files
from scaling import schema
from scaling.config.parts import ResourcesConfig
from scaling.schema import InputError
from sweeps import clients
from sweeps.payloads import TASKS

PACKAGES = ("scaling", "sweeps", "analysis")
SCRIPT = "submission.sh"
LOOKS = ((1.0, 2.0, 4.0, 8.0),) * 3  # seconds before each look for a job that sbatch may have taken, for each try
# Part of a job's shape: runs that agree in these are tasks of one array.
SHAPE = (
    "nodes", "gpus", "processes", "cpus", "memory_gb", "time_minutes", "warning_seconds", "partition", "account", "qos",
    "constraint", "setup", "sbatch", "runs_per_job", "threads",
)  # fmt: skip


class Refused(RuntimeError):
    """sbatch did not take an array, and never will as it is."""


class Full(Refused):
    """sbatch takes no such array now: a limit of the user, or of the queue."""


class Unsure(RuntimeError):
    """sbatch did not say whether it took an array, and no job of its name is there: it may still come."""


@dataclass(frozen=True)
class Array:
    """One array to be submitted."""

    name: str  # of the job: study and token
    folder: Path  # STUDY/slurm/TOKEN
    count: int
    resources: ResourcesConfig
    code: Path
    depends_on: tuple[str, ...] = ()  # tasks to wait for, however they end
    exclude: tuple[str, ...] = ()  # nodes
    throttle: int | None = None  # tasks at a time


def shape(resources: ResourcesConfig) -> str:
    """Equal for runs that can be tasks of one array."""
    values = resources.model_dump(mode="json")
    return json.dumps({name: values[name] for name in SHAPE}, sort_keys=True)


def batch_text(array: Array) -> str:
    """The file that sbatch gets, to the letter. Raises InputError where submitit or a flag is missing or wrong."""
    try:
        from submitit.slurm.slurm import _make_sbatch_string
    except ImportError:
        raise InputError("submitit is not installed; install the extra: pip install -e '.[sweep]'") from None
    wanted = array.resources
    optional = {
        "gpus_per_node": wanted.gpus or None,
        "mem": wanted.memory_gb and f"{round(wanted.memory_gb * 1024)}MB",
        "dependency": "afterany:" + ":".join(array.depends_on) if array.depends_on else None,
        "exclude": ",".join(array.exclude) or None,
        **{name: getattr(wanted, name) for name in ("partition", "account", "qos", "constraint")},
    }
    flags = {name.lstrip("-"): value for name, value in wanted.sbatch.items() if value is not False}
    environment = {
        "PYTHONPATH": str(array.code),
        "PYTHONSAFEPATH": "1",  # a folder called `analysis` in somebody's working directory would shadow ours
        "OMP_NUM_THREADS": str(wanted.threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):  # a server's is for the jobs, too
        environment["MLFLOW_TRACKING_URI"] = uri
    if not wanted.gpus:
        environment["HF_HUB_OFFLINE"] = "1"
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return _make_sbatch_string(
        command=shlex.join([sys.executable, "-u", "-m", "sweeps.slurm_task", str(array.folder / TASKS)]),
        folder=array.folder,
        map_count=array.count,
        array_parallelism=array.throttle or array.count,
        job_name=array.name,
        time=wanted.time_minutes,
        nodes=wanted.nodes,
        ntasks_per_node=1,  # it starts the processes of its node
        srun_args=["--kill-on-bad-exit=1"] if wanted.nodes > 1 else None,
        cpus_per_task=wanted.cpus or wanted.threads * wanted.runs_per_job * wanted.processes_per_node,
        signal_delay_s=wanted.warning_seconds,
        stderr_to_stdout=True,
        setup=[*wanted.setup, *exports],
        wckey=None,  # type: ignore[arg-type]  # clusters that check them would refuse submitit's own
        additional_parameters={"requeue": True, **flags},
        **{name: value for name, value in optional.items() if value is not None},
    )


def submit(array: Array, lock: int | None = None) -> str:
    """Hand an array to sbatch, which inherits the descriptor `lock`; returns the array's id.

    Where sbatch does not say whether it took the array, a job of its name tells, and only then it is asked again.
    Raises Refused, Full or Unsure with sbatch's own words.
    """
    script = array.folder / SCRIPT
    scaling_files.write_atomic(script, batch_text(array))
    words = ""
    for tried, pauses in enumerate(LOOKS):
        keep = () if lock is None else (lock,)
        answer = clients.call(["sbatch", str(script)], clients.SUBMIT_LIMIT, keep=keep)
        taken = re.search(r"Submitted batch job (\d+)", answer.output) if answer.status == 0 else None
        words = answer.words or "it said nothing"
        kind = clients.refusal(words) if answer.status else "unknown"
        clear = not tried and (taken or kind != "unknown")
        if not clear and (found := _find(array.name, pauses)):
            clients.cancel(found[1:])  # two of one name: the first call was taken after all
            return found[0]
        if taken:
            return taken.group(1)
        if kind != "unknown":
            raise (Full if kind == "full" else Refused)(words)
    raise Unsure(words)


def _find(name: str, pauses: tuple[float, ...]) -> list[str]:
    """The arrays of that name that SLURM knows, the oldest first; looks again after each pause."""
    for pause in pauses:
        time.sleep(pause)
        arrays = {entry.job.partition("_")[0] for entry in clients.queue([name]) or []}
        if arrays:
            return sorted(arrays, key=int)
    return []


def test_only(array: Array) -> str | None:
    """What `sbatch --test-only` and the partition have against an array for good; None where nothing is known."""
    wanted = array.resources
    most = clients.time_limit(wanted.partition)
    if most is not None and wanted.time_minutes > most:
        return f"time_minutes is {wanted.time_minutes}, and its MaxTime is {most:g} minutes"
    answer = clients.ask(["sbatch", "--test-only"], text=batch_text(array))
    return answer.words if answer.status and clients.refusal(answer.words) == "never" else None


def snapshot(study: Path, *, write: bool = True) -> Path:
    """STUDY/code/HASH: a copy of the three packages as they are now, edits included. Later edits change no job."""
    root = Path(__file__).parents[2]
    files = [
        path
        for package in PACKAGES
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(root)}\0{scaling_files.sha256(path)}\0".encode())
    folder = study.resolve() / schema.CODE / digest.hexdigest()[:12]
    if write and not folder.exists():
        aside = folder.with_name(f".{folder.name}.{os.getpid()}")
        for path in files:
            copy = aside / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        os.rename(aside, folder)
    return folder
