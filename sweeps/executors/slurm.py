"""SLURM: the batch text by submitit, arrays with sbatch, and what squeue and sacct say.

Of submitit this takes the batch text and the reading of sbatch's answer. Its pickles, its signal handlers and its job
states are not used: a pickle is renamed after sbatch returns (a launcher killed in between loses the job), the handler
rewrites pickles, and the states are wrong after a node failure and absent without accounting.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from scaling import files as scaling_files
from scaling import schema
from scaling.config.parts import ResourcesConfig
from scaling.schema import InputError
from sweeps.payloads import TASKS
from sweeps.reconcile import Account, QueueEntry

PACKAGES = ("scaling", "sweeps", "analysis")
SCRIPT = "submission.sh"
QUEUE_FORMAT = "ArrayJobID:|,ArrayTaskID:|,State:|,Reason:|,RestartCnt:|,NodeList:|,Name:"
ACCOUNT_FORMAT = "jobid,state,exitcode,end,nodelist"
TERMINAL = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
)  # fmt: skip
# Part of a job's shape: runs that agree in these are tasks of one array.
SHAPE = (
    "nodes", "gpus", "processes", "cpus", "memory_gb", "time_minutes", "warning_seconds", "partition", "account", "qos",
    "constraint", "setup", "sbatch", "runs_per_job", "threads",
)  # fmt: skip


class Refused(RuntimeError):
    """sbatch did not take an array: a limit, or something that no partition can do."""


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

    Raises Refused with sbatch's own words.
    """
    from submitit.slurm.slurm import SlurmExecutor

    script = array.folder / SCRIPT
    scaling_files.write_atomic(script, batch_text(array))
    answer = _call(["sbatch", str(script)], keep=() if lock is None else (lock,))
    if answer.returncode:
        raise Refused(" ".join(answer.stderr.split()))
    return SlurmExecutor._get_job_id_from_submission_command(answer.stdout)


def test_only(array: Array) -> str | None:
    """What `sbatch --test-only` has against an array, None where it would be taken."""
    answer = subprocess.run(["sbatch", "--test-only"], input=batch_text(array), capture_output=True, text=True)
    return " ".join(answer.stderr.split()) if answer.returncode else None


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


# ---------------------------------------------------------------- what SLURM says


def _call(command: list[str], keep: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
    try:
        environment = {**os.environ, "SLURM_TIME_FORMAT": "standard"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, pass_fds=keep)
    except FileNotFoundError:
        raise InputError(f"{command[0]} is not on the PATH: log in to the cluster, or use --executor local.") from None


def queue(names: list[str]) -> list[QueueEntry] | None:
    """Every task of the jobs with these names that SLURM still remembers; None where it does not answer."""
    if not names:
        return []
    answer = _call(["squeue", "-h", "-r", "-t", "all", f"--name={','.join(names)}", "-O", QUEUE_FORMAT])
    return None if answer.returncode else parse_queue(answer.stdout)


def parse_queue(text: str) -> list[QueueEntry]:
    """squeue's lines. An array that still stands in one line, `3-5%2`, is taken apart."""
    entries = []
    for line in text.splitlines():
        if line.strip():
            array, tasks, state, reason, restarts, node, name = (word.strip() for word in line.split("|", 6))
            again = int(restarts or 0)
            entries += [QueueEntry(f"{array}_{task}", name, state, reason, again, node) for task in _expand(tasks)]
    return entries


def _expand(tasks: str) -> list[str]:
    """`7` and `[3-5,9%2]` as single tasks."""
    single: list[str] = []
    for part in tasks.strip("[]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        single += [first] if not last else map(str, range(int(first), int(last.partition(":")[0]) + 1))
    return single


def accounts(jobs: list[str]) -> dict[str, list[Account]] | None:
    """Every start of every task of these arrays; None where sacct does not answer."""
    if not jobs:
        return {}
    answer = _call(["sacct", "-n", "-P", "-X", "-D", "-j", ",".join(jobs), "-o", ACCOUNT_FORMAT])
    return None if answer.returncode else parse_accounts(answer.stdout)


def parse_accounts(text: str) -> dict[str, list[Account]]:
    """sacct's lines by task. Lines of tasks that have not started, `12_[3-5]`, are left to squeue."""
    accounts: dict[str, list[Account]] = {}
    for line in text.splitlines():
        if line.strip():
            job, state, code, ended, node = line.split("|")[:5]
            status, _, number = code.partition(":")
            when = datetime.fromisoformat(ended).timestamp() if re.match(r"\d", ended) else None
            account = Account(job, (state.split() or [""])[0], int(status or 0), int(number or 0), when, node)
            if "[" not in job:
                accounts.setdefault(job, []).append(account)
    return accounts


@functools.cache
def _setting(name: str) -> str | None:
    answer = _call(["scontrol", "show", "config"])
    match = re.search(rf"^{name}\s*=\s*(.*)$", answer.stdout, re.M)
    return match.group(1).strip() if match else None


def has_accounting() -> bool:
    """Whether the cluster keeps records at all; a record that does not answer now is another matter."""
    return _setting("AccountingStorageType") not in (None, "accounting_storage/none", "(null)")


def max_array_size() -> int:
    """Tasks that one array can have: indices stay below MaxArraySize."""
    return int(_setting("MaxArraySize") or 1001)


def cancel(jobs: list[str]) -> None:
    """scancel these tasks."""
    for start in range(0, len(jobs), 500):
        answer = _call(["scancel", *jobs[start : start + 500]])
        if answer.returncode:
            raise InputError(f"scancel: {' '.join(answer.stderr.split())}")
