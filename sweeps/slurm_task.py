"""What one task of a SLURM array does: `python -m sweeps.slurm_task STUDY/slurm/TOKEN/tasks.json`.

It needs nothing from the process that submitted it: its work stands in tasks.json and in the run folders before sbatch
is called. Signals only set a flag, from the first line on, and the trainer checkpoints between two steps. Then:

- USR2, SLURM's warning before the walltime or a pre-emption: ask to be requeued, and wait for the end.
- TERM: wait for the end. Somebody cancelled the job, and a requeue would revive it; or it is pre-empted, and SLURM
  itself requeues it, but only if it did not exit first. If no end comes, it was a bare signal: ask to be requeued.

An end by KILL costs the steps since the last checkpoint, which the next start makes again, and nothing else.
"""

from __future__ import annotations

import signal

HEARD: list[int] = []
for _number in (signal.SIGTERM, signal.SIGUSR2):  # before anything else is imported: their default is death
    signal.signal(_number, lambda number, frame: HEARD.append(number))

import contextlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

from scaling import files, record, schema  # noqa: E402
from scaling.config.identity import base_id  # noqa: E402
from scaling.config.run import RunConfig  # noqa: E402
from scaling.tracking.store import is_server  # noqa: E402
from sweeps import clients  # noqa: E402
from sweeps.payloads import (  # noqa: E402
    INTERRUPTED,
    JobInfo,
    TaskFile,
    code_hash,
    make_base,
    no_room,
    redirect_output,
    run_cell,
    tail,
)
from sweeps.reconcile import DISK_FULL, NO_BASE, OTHER_CODE  # noqa: E402

# Exit statuses beside 0 done, 1 failed (FAILED.json says why), INTERRUPTED (a checkpoint is written) and NO_BASE.
FENCED = 76  # a newer attempt has taken the run over
PEER_LOST = 75  # another process of the run ended, perhaps on another node; its own status says why
PATIENCE = 20.0  # seconds after TERM in which a cancelled job stops being RUNNING
MEETING_WAIT = 120.0  # seconds for the first node to say where it listens
END_WAIT = 300.0  # seconds to wait for the end that SLURM announced
TICK = 0.2


Work = Callable[[Path, str, JobInfo], int]  # (study folder, run id, job) -> exit status


class NoProgress(RuntimeError):
    """A run was started as often as allowed from one step and never committed the next one."""


def main(path: Path) -> int:
    """Do this task's runs, one in this process or several side by side; returns the exit status."""
    tasks: TaskFile = json.loads(path.read_text())
    names = tasks["tasks"][int(os.environ.get("SLURM_ARRAY_TASK_ID", 0))]
    study = path.parents[2]
    here = Path(__file__).parents[1]
    if here.parent.name == schema.CODE and code_hash(here) != tasks["code"]:
        say(f"{here}: the code is not what was submitted; launch again")
        return OTHER_CODE
    work = {"runs": work_run, "bases": work_base, "canary": work_canary}[tasks["kind"]]
    info: JobInfo = {
        "job": job_id(),
        "token": tasks["token"],
        "code": tasks["code"],
        "node": os.environ.get("SLURMD_NODENAME"),
        "restart": int(os.environ.get("SLURM_RESTART_COUNT", 0)),
    }
    nodes, processes = int(os.environ.get("SLURM_NNODES", 1)), tasks["processes"]
    if nodes * processes > 1:
        team = team_environments(path.parent, nodes, processes)
        statuses = side_by_side([partial(join, part, work, study, names[0], info) for part in team], together=True)
    elif len(names) == 1:
        statuses = [work(study, names[0], info)]
    else:
        statuses = side_by_side([partial(work, study, name, info) for name in names])
    if INTERRUPTED in statuses:
        leave(path.parent)
    return max(statuses)


def team_environments(folder: Path, nodes: int, processes: int) -> list[dict[str, str]]:
    """The environment variables that torch.distributed reads, for each process of this node.

    The first node's task writes down where it listens; the others look there, in the folder that they all see.
    """
    node = int(os.environ.get("SLURM_NODEID", 0))
    meeting = folder / f"{job_id()}-{os.environ.get('SLURM_RESTART_COUNT', 0)}.address"
    if node == 0:
        with socket.socket() as probe:
            probe.bind(("", 0))
            files.write_json(meeting, [socket.gethostname(), probe.getsockname()[1]])
    until = time.monotonic() + MEETING_WAIT
    while (address := files.read_json(meeting)) is None:
        if time.monotonic() > until:
            raise TimeoutError(f"{meeting}: the first node has not written where it listens")
        time.sleep(TICK)
    world = {"MASTER_ADDR": address[0], "MASTER_PORT": str(address[1]), "WORLD_SIZE": str(nodes * processes)}
    return [{**world, "RANK": str(node * processes + i), "LOCAL_RANK": str(i)} for i in range(processes)]


def join(part: dict[str, str], work: Work, study: Path, name: str, info: JobInfo) -> int:
    """Do `work` as one process of a team, whose environment `part` is."""
    os.environ.update(part)
    return work(study, name, info)


def job_id() -> str:
    """ARRAY_TASK: the raw id of an array's task tells nobody which task it is."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "0")


def work_run(study: Path, name: str, info: JobInfo) -> int:
    """Train one run in this process; returns its exit status."""
    return train(study / schema.RUNS / name, study / schema.ARTIFACTS, info)


def work_canary(study: Path, name: str, info: JobInfo) -> int:
    """Two steps of a run in a folder beside the study's; makes the base model where it is missing."""
    run = study / schema.SLURM / info["token"] / schema.RUNS / name
    return train(run, study / schema.ARTIFACTS, info, base_too=True)


def train(run: Path, artifacts: Path, info: JobInfo, *, base_too: bool = False) -> int:
    """Train one run, its base model made first where `base_too`; returns the exit status of this process."""
    begin_log(run / schema.LOG, info)
    try:
        config = files.read_json(run / schema.PLANNED)
        parsed = RunConfig.model_validate(config)
        if not base_too and parsed.model.made and not (artifacts / base_id(parsed)).exists():
            say(f"the base model {base_id(parsed)} is not there: its own job did not make it")
            return NO_BASE
        starts = record.starts_without_progress(run) if os.environ.get("RANK", "0") == "0" else 0
        if starts >= parsed.resources.starts:
            done = record.committed_step(run)
            where = "before the first checkpoint" if done is None else f"after step {done}"
            raise NoProgress(f"no progress: {starts} starts ended {where}; the last ones of its log say more")
        from scaling.parallel import PeerLost
        from scaling.process import Interrupted, Job

        try:
            with mirrored(run) if parsed.tracking.mlflow else contextlib.nullcontext():
                run_cell(config, str(run), str(artifacts), Job(lambda: bool(HEARD), dict(info)))
        except Interrupted:
            return INTERRUPTED
        except record.StaleAttempt as error:
            say(str(error))
            return FENCED
        except PeerLost as error:
            say(str(error))
            return PEER_LOST
    except Exception as error:
        if files.is_disk_full(error):
            say(no_room(error, run))
            return DISK_FULL
        traceback.print_exc()
        if not isinstance(files.read_json(run / schema.FAILED), dict):
            record.fail(run, error, traceback.format_exc().splitlines()[-12:])
        return 1
    return 0


@contextlib.contextmanager
def mirrored(run: Path) -> Iterator[None]:
    """Bring the run's curve in MLflow up to date, in a thread, while its first process trains.

    Only where MLflow is a server: a database on a shared disk has one writer, who watches the study. An interrupted run
    does not wait for MLflow: its next start sends what is missing.
    """
    import scaling.trainer  # noqa: F401  # before a second thread imports MLflow
    from scaling.tracking.mirror import open_mirror

    study, uri = run.parents[1], os.environ.get("MLFLOW_TRACKING_URI", "")
    if os.environ.get("RANK", "0") != "0" or not is_server(uri) or not (study / schema.CELLS).exists():
        yield
        return
    mirror, reason = open_mirror(study, uri, only=run.name)
    if mirror is None:
        say(reason)
        yield
        return
    stop = threading.Event()
    threading.Thread(target=mirror.watch, args=(stop,), daemon=True).start()
    interrupted = False
    try:
        yield
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:  # a failure is sent, too
        stop.set()
        report = None if interrupted else mirror.close()
        if report and report.error:
            say(f"MLflow is behind: {report.error}; `scaling sweep mlflow` sends the rest")


def work_base(study: Path, name: str, info: JobInfo) -> int:
    """Make the base model that the run `name` starts from; returns the exit status."""
    config = files.read_json(study / schema.RUNS / name / schema.PLANNED)
    artifacts = study / schema.ARTIFACTS
    base = base_id(RunConfig.model_validate(config))
    begin_log(artifacts / f"{base}.log", info)
    # Nothing of a base can be resumed, and making one takes minutes: act on a signal at once.
    signal.signal(signal.SIGUSR2, lambda number, frame: leave(study / schema.SLURM / info["token"], [number]))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        make_base(config, str(artifacts))
    except Exception as error:
        traceback.print_exc()
        lines = tail(artifacts / f"{base}.log")
        record.write_failure(artifacts / f"{base}.{schema.FAILED}", type(error).__name__, str(error), lines)
        return 1
    return 0


def side_by_side(calls: list[Callable[[], int]], *, together: bool = False) -> list[int]:
    """One forked child for each call, all signals passed on; returns their exit statuses, 128 + n for signal n.

    Those that work `together` end together: where one has failed the others would wait for it.
    """
    children: list[int] = []
    for call in calls:
        child = os.fork()  # nothing has started a thread yet
        if child == 0:
            end(call())
        children.append(child)
    statuses: dict[int, int] = {}
    failed: int | None = None  # the first that did, of several that work together
    passed = 0
    while len(statuses) < len(children):
        for child in children:
            if child not in statuses:
                if len(HEARD) > passed:
                    os.kill(child, HEARD[-1])
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    code = os.waitstatus_to_exitcode(status)
                    statuses[child] = code if code >= 0 else 128 - code
                    if together and failed is None and code not in (0, INTERRUPTED):
                        failed = statuses[child]
                        for other in set(children) - set(statuses):
                            os.kill(other, signal.SIGKILL)
        passed = len(HEARD)
        time.sleep(TICK)
    return [statuses[child] for child in children] if failed is None else [failed]


def leave(folder: Path, heard: list[int] | None = None) -> None:
    """Once the checkpoint is written, wait for the end, and ask for a requeue where nobody else does.

    In a container there is no scontrol: a file in `folder` asks the batch script to do it.
    """
    heard = HEARD if heard is None else heard
    if os.environ.get("SLURM_PROCID", "0") != "0":  # of several nodes the first one asks
        time.sleep(END_WAIT)
        return
    if signal.SIGUSR2 not in heard:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and signal.SIGUSR2 not in heard:
            time.sleep(TICK)
        if signal.SIGUSR2 not in heard and state_of_job() != "RUNNING":
            time.sleep(END_WAIT)  # cancelled: SLURM's KILL is on its way
            return
    say("asking SLURM to requeue this job")
    if shutil.which("scontrol") is None:  # in a container: the batch script has it, and finds this file
        (folder / f"{job_id()}.requeue").touch()
        return
    asked = clients.ask(["scontrol", "requeue", job_id()])
    if asked.status != 0:  # not requeueable: `scaling sweep launch` submits it again
        say(f"scontrol requeue: {asked.words}")
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the requeue stands: the sooner this process ends, the better
    time.sleep(END_WAIT)


def state_of_job() -> str:
    """What SLURM says of this job, "" where it says nothing."""
    return clients.ask(["squeue", "-h", "-j", job_id(), "-o", "%T"]).output.strip() if shutil.which("squeue") else ""


def begin_log(log: Path, info: JobInfo) -> None:
    """Append what this process prints from now on to `log`, after a line that says which job it is."""
    redirect_output(log)
    start = f", start {info['restart'] + 1}" if info["restart"] else ""
    if os.environ.get("RANK", "0") == "0":
        say(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} job {info['job']} on {info['node']}{start}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def end(status: int) -> None:
    """Leave at once: nothing is left to do, and the shutdown of torch would cost half a second."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    end(main(Path(sys.argv[1])))
