"""SLURM: the batch text by submitit, and arrays with sbatch. What SLURM says to questions: `sweeps/clients.py`.

Of submitit this takes the batch text and the reading of sbatch's answer. Its pickles, its signal handlers and its job
states are not used: a pickle is renamed after sbatch returns (a launcher killed in between loses the job), the handler
rewrites pickles, and the states are wrong after a node failure and absent without accounting.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import files as scaling_files
from scaling import schema
from scaling.config.cluster import CONTROL
from scaling.config.parts import ResourcesConfig
from scaling.schema import InputError
from sweeps import clients
from sweeps.payloads import TASKS, code_files, code_hash

SCRIPT = "submission.sh"
INSTALL = "install the tested one: pip install 'submitit>=1.5.2,<1.6'"
TAKEN = {
    "command", "folder", "map_count", "array_parallelism", "job_name", "time", "nodes", "srun_args", "stderr_to_stdout",
    "setup", "teardown", "wckey", "additional_parameters",
}  # fmt: skip
# Seconds before each look for a job that sbatch may have taken, for each try; unequal, as failures may have a rhythm.
LOOKS = ((1.0, 2.0, 4.0), (2.0, 4.0), (2.0, 4.0, 6.0), (5.0,))
# Part of a job's shape: runs that agree in these are tasks of one array.
SHAPE = (
    "nodes", "gpus", "processes", "cpus", "memory_gb", "time_minutes", "warning_seconds", "partition", "account", "qos",
    "constraint", "setup", "sbatch", "runs_per_job", "threads", "python", "srun", "container",
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


GPU_FLAGS = {"gres", "gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"}
MEMORY_FLAGS = {"mem", "mem-per-cpu", "mem-per-gpu"}
CORE_FLAGS = {"cpus-per-task", "cpus-per-gpu", "cores-per-socket", "exclusive", "ntasks", "ntasks-per-node"}
REQUEUE = """\
# A process that has no scontrol, in a container, leaves a file that asks for the requeue.
status=$?
marker={folder}/"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}".requeue
if [ -e "$marker" ]; then
  rm -f "$marker"
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}" && sleep 300
fi
exit $status"""


def base_resources(resources: ResourcesConfig) -> ResourcesConfig:
    """What the job of a base model asks for: one process, and nothing of the runs' GPUs, cores and whole nodes."""
    own = resources.base
    kept = {
        name: value
        for name, value in resources.sbatch.items()
        if name not in GPU_FLAGS | MEMORY_FLAGS | CORE_FLAGS | {"nodes", "time"} and not name.startswith("gpu")
    }
    light = {"gpus": 0, "runs_per_job": 1, "nodes": 1, "processes": None, "cpus": own.cpus, "memory_gb": own.memory_gb}
    given = {name: getattr(own, name) for name in ("time_minutes", "partition", "account", "qos", "constraint")}
    asked = {name: value for name, value in given.items() if value is not None}
    return resources.model_copy(update=light | asked | {"sbatch": kept if own.sbatch is None else own.sbatch})


def check_submitit() -> Any:
    """submitit's writer of batch files, a private function. Raises InputError where it is missing or another one."""
    try:
        from submitit.slurm.slurm import _make_sbatch_string
    except ImportError:
        raise InputError(f"submitit is missing, or too new for this; {INSTALL}.") from None
    takes = set(inspect.signature(_make_sbatch_string).parameters)
    if missing := TAKEN - takes:
        raise InputError(f"this submitit does not take {', '.join(sorted(missing))}; {INSTALL}.")
    return _make_sbatch_string


def batch_text(array: Array) -> str:
    """The file that sbatch gets, to the letter. Raises InputError where submitit or a path is missing or wrong."""
    make = check_submitit()
    wanted, folder = array.resources, array.folder
    for path in (folder, array.code):
        if "%" in str(path) or CONTROL.search(str(path)):
            raise InputError(
                f"{str(path)!r}: SLURM reads % in the path of a log as a pattern, and a line break ends it; give "
                "another --out."
            )
    cpus = wanted.cpus or wanted.threads * wanted.runs_per_job * wanted.processes_per_node
    ours: dict[str, Any] = {
        "time": wanted.time_minutes,
        "nodes": wanted.nodes,
        "ntasks-per-node": 1,  # it starts the processes of its node
        "cpus-per-task": cpus,
        "gpus-per-node": wanted.gpus or None,
        "mem": wanted.memory_gb and f"{round(wanted.memory_gb * 1024)}MB",
        "dependency": "afterany:" + ":".join(array.depends_on) if array.depends_on else None,
        "exclude": ",".join(array.exclude) or None,
        **{name: getattr(wanted, name) for name in ("partition", "account", "qos", "constraint")},
    }
    for asked, mine in ((GPU_FLAGS, "gpus-per-node"), (MEMORY_FLAGS, "mem"), ({"cpus-per-gpu"}, "cpus-per-task")):
        if asked & wanted.sbatch.keys():
            del ours[mine]
    flags = {**ours, **wanted.sbatch, "requeue": True, "signal": f"USR2@{wanted.warning_seconds}"}
    flags = {name: value for name, value in flags.items() if value is not None and value is not False}
    return make(
        command=shlex.join(_command(array)),
        folder=folder,
        map_count=array.count,
        array_parallelism=array.throttle or array.count,
        job_name=array.name,
        time=flags.pop("time", None),
        srun_args=_srun_arguments(array, flags.get("cpus-per-task")),
        stderr_to_stdout=True,
        setup=[*wanted.setup, *_exports(array)],
        teardown=[REQUEUE.format(folder=shlex.quote(str(folder)))],
        nodes=flags.pop("nodes", None),
        wckey=None,  # clusters that check them would refuse submitit's own
        additional_parameters=flags,
    )


def _exports(array: Array) -> list[str]:
    """What the job's environment has from us; PYTHONPATH goes before what modules and conda have made of it."""
    wanted = array.resources
    environment = {
        "PYTHONSAFEPATH": "1",  # a folder called `analysis` in somebody's working directory would shadow ours
        "SLURM_EXPORT_ENV": "ALL",  # where --export=NONE is the site's default, srun would drop these
        "OMP_NUM_THREADS": str(wanted.threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):  # a server's is for the jobs, too
        environment["MLFLOW_TRACKING_URI"] = uri
    if not wanted.gpus:
        environment["HF_HUB_OFFLINE"] = "1"
    path = f"export PYTHONPATH={shlex.quote(str(array.code))}${{PYTHONPATH:+:$PYTHONPATH}}"
    return [path, *(f"export {name}={shlex.quote(value)}" for name, value in environment.items())]


def _command(array: Array) -> list[str]:
    """What srun starts on each node."""
    wanted, box = array.resources, array.resources.container
    python = wanted.python or ("python3" if box else sys.executable)
    work = [python, "-u", "-m", "sweeps.slurm_task", str(array.folder / TASKS)]
    study = str(array.folder.parents[1])
    if box is None:
        return work
    if box.kind == "pyxis":  # srun would look the command up on the host
        return ["/bin/bash", "-c", 'exec "$0" "$@"', *work]
    # The image's own value of a variable would win.
    environment = ["--env", f"PYTHONPATH={array.code}", "--env", "PYTHONSAFEPATH=1"]
    gpus = ["--nv"] if wanted.gpus else []
    binds = ["--bind", ",".join([study, *box.mounts])]
    return ["apptainer", "exec", *gpus, *binds, *environment, *box.arguments, box.image, *work]


def _srun_arguments(array: Array, cpus: Any) -> list[str]:
    """srun's: the cores again, as SLURM 22.05 to 23.02 drops them and later ones do not."""
    wanted, box = array.resources, array.resources.container
    arguments = ["--ntasks-per-node=1", *([f"--cpus-per-task={cpus}"] if cpus else []), "--kill-on-bad-exit=1"]
    if box is not None and box.kind == "pyxis":
        study = str(array.folder.parents[1])
        mounts = ",".join([f"{study}:{study}", *box.mounts])
        arguments += [
            "--mpi=none", f"--container-image={box.image}", f"--container-mounts={mounts}",
            f"--container-workdir={study}", "--no-container-mount-home",
            "--container-env=PYTHONPATH,PYTHONSAFEPATH", *box.arguments,
        ]  # fmt: skip
    return [*arguments, *wanted.srun]


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
    folder = study.resolve() / schema.CODE / code_hash(root)
    if write and folder.exists() and code_hash(folder) != folder.name:
        folder.rename(scaling_files.beside(folder))  # a copy that a crash or a hand has changed
    if write and not folder.exists():
        aside = scaling_files.beside(folder)
        for path in code_files(root):
            copy = aside / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        scaling_files.fsync_tree(aside)
        os.rename(aside, folder)
        scaling_files.fsync_folder(folder.parent)
    return folder
