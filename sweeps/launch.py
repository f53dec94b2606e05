"""Send the missing runs of a study to an executor and stay with them until they are done.

Bases come first, each run as soon as its own base is there, the longest first. A run that fails is named with its
log's last lines while the others go on. Ctrl-C, TERM and even SIGKILL leave everything resumable; a second launch runs
only what is missing, and two at once do no work twice, because a run's folder is locked by whoever trains it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from scaling import files, record, schema
from scaling.config import checks, reading
from scaling.config.reading import read_yaml
from scaling.schema import InputError
from sweeps.board import Board, Line, clock
from sweeps.cost import Estimator
from sweeps.executors import Job, Pool
from sweeps.payloads import INTERRUPTED, make_base, run_cell, tail
from sweeps.plan import Plan, PlannedRun, cells_document
from sweeps.reconcile import DAMAGED, DISK_FULL, DONE, FAILED, REPAIR, RUNNING
from sweeps.status import counts, cpu_seconds, run_state

STARTS_WITHOUT_PROGRESS = 3
PATIENCE = 60.0  # seconds for checkpoints after Ctrl-C
TICK = 0.5


@dataclass
class Task:
    """A base or a run that is to be made here."""

    name: str
    folder: Path  # what it makes
    job: Job
    cost: float  # for "longest first"
    run: PlannedRun | None = None  # None for a base
    starts: int = 0  # since its checkpoint last advanced
    committed: int | None = None

    @property
    def made(self) -> bool:
        return checks.is_done(self.folder, self.run.config.stop) if self.run else self.folder.exists()


def prepare(plan: Plan, out: Path) -> None:
    """Write study.yaml and cells.json. Raises InputError where the folder belongs to another study."""
    existing = out / schema.STUDY
    if existing.exists():
        name = read_yaml(existing).get("study")
        if name != plan.study.name:
            raise InputError(f"{out}: the folder holds study {name!r}, not {plan.study.name!r}; give another --out.")
    for folder in (schema.RUNS, schema.ARTIFACTS):
        (out / folder).mkdir(parents=True, exist_ok=True)
    files.write_atomic(existing, plan.study.text or f"study: {plan.study.name}\n")
    files.write_json(out / schema.CELLS, cells_document(plan))


def obsolete(plan: Plan, out: Path) -> list[str]:
    """Run folders that no cell of the study names any more: kept, not analysed."""
    current = {run.run_id for run in plan.runs}
    return sorted(p.name for p in (out / schema.RUNS).iterdir() if p.is_dir() and p.name not in current)


def retry(plan: Plan, out: Path) -> list[str]:
    """Put the failures of runs aside, so that the next launch tries them again; returns the names of these runs."""
    failed = [run for run in plan.runs if run_state(run, out) == FAILED]
    for run in failed:
        record.clear_failure(run.folder(out))
    return [run.name for run in failed]


def launch(plan: Plan, out: Path, workers: int, console: Console, make_pool: Callable[[int], Pool]) -> int:
    """Run what is missing in at most `workers` slots of a pool; returns the exit status: 0, 1 (some failed), 130."""
    prepare(plan, out)
    states = {run.run_id: run_state(run, out) for run in plan.runs}

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"study {plan.study.name}: {len(plan.runs)} runs, {counts(list(states.values()))}; folder {out}")
    left_over = obsolete(plan, out)
    if left_over:
        say(f"{len(left_over)} runs in the folder are no longer in the study: kept, not analysed.")
    for run in plan.runs:
        if states[run.run_id] == FAILED:
            say(f"{run.name} failed before and is left alone; `scaling sweep retry` tries it again.")
        elif states[run.run_id] == DAMAGED:
            say(f"{run.name} is damaged and left alone ({record.damage(run.folder(out))}); {REPAIR}.")
    todo = [run for run in plan.runs if states[run.run_id] not in (DONE, FAILED, DAMAGED)]
    status = 0
    if todo:
        status = PoolLaunch(plan, out, todo, make_pool(min(workers, len(todo))), console).work()
    final = [run_state(run, out) for run in plan.runs]
    say(f"study {plan.study.name}: {counts(final)}; {cpu_seconds(plan, out)}")
    for run, state in zip(plan.runs, final, strict=True):
        if state != DONE:
            say(f"  {run.name}: {state}, log {run.folder(out) / schema.LOG}")
    return status or int(any(state != DONE for state in final))


class PoolLaunch:
    """One launch that stays until its runs are done: what waits, what runs, what failed."""

    def __init__(self, plan: Plan, out: Path, todo: list[PlannedRun], pool: Pool, console: Console):
        self.out, self.pool, self.console = out, pool, console
        self.total, self.finished, self.failed = len(todo), 0, 0
        self.started = time.monotonic()
        self.interrupted = False
        self.running: dict[str, Task] = {}
        artifacts = out / schema.ARTIFACTS
        estimator = Estimator(plan, out)
        self.runs = [self._run_task(run, estimator) for run in todo]
        self.bases: dict[str, Task] = {}
        for run, task in zip(todo, self.runs, strict=True):
            base, config = run.base_id, run.config
            if base and base not in self.bases and not (artifacts / base).exists():
                job = Job(base, make_base, (reading.dump(config), str(artifacts)), artifacts / f"{base}.log")
                name = f"base {config.model.size}-seed{config.base_seed}"
                self.bases[base] = Task(name, artifacts / base, job, cost=0.0)
            if base and base in self.bases:  # a base is as urgent as the longest run that waits for it
                self.bases[base].cost = max(self.bases[base].cost, task.cost)
        self.waiting = [*self.bases.values(), *self.runs]

    def _run_task(self, run: PlannedRun, estimator: Estimator) -> Task:
        folder = run.folder(self.out)
        arguments = (reading.dump(run.config), str(folder), str(self.out / schema.ARTIFACTS))
        estimate = estimator.estimate(run.config, run.run_id)
        return Task(run.name, folder, Job(run.run_id, run_cell, arguments, folder / schema.LOG), estimate.length, run)

    def work(self) -> int:
        """Go on until nothing waits and nothing runs. Returns 0, 1 where something failed, 130 where a signal came."""
        handlers = {n: signal.signal(n, self._interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            with Board(self, self.console) as show:
                while (self.waiting or self.running) and not self.interrupted:
                    self._start_what_can()
                    if not self.running:
                        time.sleep(TICK)  # everything that waits is being made by another launch
                    for key, status in self.pool.wait(TICK):
                        self._ended(self.running.pop(key), status)
                    show()
            if self.interrupted:
                self.say("stopping: waiting for checkpoints ...")
        finally:
            self.pool.stop(PATIENCE)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self.interrupted:
            self.say("stopped; everything is resumable: launch again to go on.")
            return INTERRUPTED
        return int(self.failed > 0)

    def _interrupt(self, number: int, frame: object) -> None:
        self.interrupted = True

    def _start_what_can(self) -> None:
        """Fill the free slots with the most urgent tasks that can start, bases before runs of equal length."""
        for task in sorted(self.waiting, key=lambda task: (-task.cost, task.run is not None)):
            if self.pool.free == 0:
                return
            if task.made:  # by another launch, meanwhile
                self._leave(task, "done elsewhere")
            elif task.run and task.run.base_id in self.bases:
                continue  # its base is still to be made
            elif task.run is None and _locked(task.folder.parent / f"{task.folder.name}.lock"):
                continue  # another launch is making it: look again later
            elif task.run and run_state(task.run, self.out) == RUNNING:
                continue
            else:
                if task.starts == 0:
                    self.say(f"{task.name} starts")
                task.starts += 1
                self.waiting.remove(task)
                self.running[task.job.key] = task
                self.pool.submit(task.job)

    def _ended(self, task: Task, status: int) -> None:
        """Take note that a task has ended: it is done, has failed for good, or is started again."""
        if task.made:
            self._leave(task, self._result(task))
            return
        committed = record.committed_step(task.folder) if task.run else None
        if committed != task.committed:
            task.committed, task.starts = committed, 1
        if status == DISK_FULL:  # no failure of its own: nothing stands in the way of the next launch
            self.failed += 1
            self.say(f"{task.name} stopped: no room is left on the disk of {self.out}; make room and launch again")
            self._drop_waiting(task)
            return
        died = status < 0 or status == INTERRUPTED
        locked = task.run is not None and status == 2 and run_state(task.run, self.out) == RUNNING
        if locked or (died and task.starts < STARTS_WITHOUT_PROGRESS):
            if died:
                self.say(f"{task.name} ended by signal {-status if status < 0 else 'TERM'}; starting it again")
            self.waiting.append(task)
            return
        if died:
            where = f"after step {committed}" if committed is not None else "before its first checkpoint"
            error = RuntimeError(f"no progress: {task.starts} starts ended {where}")
            if task.run:
                record.fail(task.folder, error, tail(task.job.log))
        elif task.run and not (task.folder / schema.FAILED).exists():
            record.fail(task.folder, RuntimeError(f"ended with status {status}"), tail(task.job.log))
        self.failed += 1
        self.say(f"{task.name} FAILED; the last lines of {task.job.log}:")
        for line in tail(task.job.log):
            self.say(f"    {line}")
        self._drop_waiting(task)

    def _drop_waiting(self, task: Task) -> None:
        """Give up the runs that wait for a base model that was not made."""
        if task.run is None:
            self.bases.pop(task.job.key)
            blocked = [other for other in self.waiting if other.run and other.run.base_id == task.job.key]
            for other in blocked:
                self.waiting.remove(other)
                self.failed += 1
                self.say(f"{other.name} is blocked: its base model failed")

    def _leave(self, task: Task, what: str) -> None:
        if task in self.waiting:
            self.waiting.remove(task)
        if task.run:
            self.finished += 1
            self.say(f"{task.name} {what} ({self.finished} of {self.total} runs)")
        else:
            self.bases.pop(task.job.key)
            self.say(f"{task.name} {what}")

    def _result(self, task: Task) -> str:
        if task.run is None:
            return "made"
        rows = record.read_record(task.folder)
        seconds = sum(row["timing"]["cpu_seconds"] for row in rows)
        return f"done: step {rows[-1]['step']}, test loss {rows[-1]['test_loss']:.3f}, {seconds:.0f} CPU s"

    def say(self, text: str) -> None:
        self.console.print(
            f"[{clock(time.monotonic() - self.started)}] {text}", markup=False, highlight=False, soft_wrap=True
        )

    def progress(self) -> list[Line]:
        """What is running."""
        lines: list[Line] = []
        for task in self.running.values():
            row = record.last_row(task.folder) if task.run else None
            stop = task.run.config.stop.steps if task.run else None
            if row is None:
                doing = "making the base model" if task.run is None else "starting"
                said = tail(task.job.log, 1) if task.run is None else []
                doing = said[0] if said and said[0].startswith("iteration") else doing
                lines.append(Line(task.name, doing=doing))
                continue
            share = min(1.0, row["step"] / stop) if stop else 0.0
            loss = row.get("test_loss")
            lines.append(
                Line(
                    task.name,
                    f"{row['step']}{f'/{stop}' if stop else ''}",
                    f"{loss:.3f}" if loss is not None else f"reward {row.get('reward_mean', 0):.2f}",
                    "#" * round(20 * share) + "." * (20 - round(20 * share)) if stop else "",
                )
            )
        return lines


def _locked(path: Path) -> bool:
    if not path.exists():
        return False
    with files.exclusive(path, wait=False) as free:
        return not free
