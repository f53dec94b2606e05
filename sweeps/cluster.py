"""A study on SLURM: submit what is missing, follow it, submit again what was lost, cancel, retry.

The launcher may die at any moment: the journal (`journal.py`) holds the intent before sbatch is called. Submitting a
run twice is safe, because its attempts fence each other, and a lock lets one process submit at a time.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from scaling import files, record, schema
from scaling.config import checks, identity, parts, reading
from scaling.schema import InputError
from sweeps import clients
from sweeps.cost import Estimator
from sweeps.executors import slurm
from sweeps.journal import Intent, Journal
from sweeps.look import CANARY, Look, base_failure, job_log, look_at
from sweeps.payloads import TASKS, TaskFile, tail
from sweeps.plan import Plan, PlannedRun
from sweeps.reconcile import BLOCKED, DONE, GIVEN_UP, LIVE, LOST, UNKNOWN, Verdict, failure_class

QUICKEST, SLOWEST = 2.0, 20.0  # seconds between two looks of a watcher: a tenth of the time since anything changed
CHECKPOINT_SHARE = 3 * 12 / 16 + 4 / 16  # of the 16 bytes a parameter in memory: three checkpoints, one model
VAIN_PASSES = 2
MOST_WAITING = 32  # arrays of one shape that wait for base models; of more bases several share one
SECOND_LOOK = 3.0  # seconds after which a lost job is looked for again


@dataclass
class Submitted:
    """What one pass submitted."""

    runs: int = 0
    bases: int = 0
    remaining: int = 0  # what SLURM does not take now
    refusals: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  # of a dry run


@dataclass
class Pass:
    """What the arrays of one pass share."""

    code: Path  # the copy of the packages that they run
    dry_run: bool
    result: Submitted = field(default_factory=Submitted)
    base_jobs: dict[str, str] = field(default_factory=dict)  # the task that makes a base model, by its id


Taken = list[tuple[list[PlannedRun], str]]  # what SLURM took: (the runs of a task, its job)


class Cluster:
    """One study folder on SLURM."""

    def __init__(self, plan: Plan, out: Path, say: Callable[[str], None], throttle: int | None = None):
        self.plan, self.out, self.say, self.throttle = plan, out.resolve(), say, throttle
        self.journal = Journal(self.out)

    def look(self) -> Look:
        """Where every run and base model stands now. Changes nothing."""
        return look_at(self.plan, self.out, self.journal)

    def launch(self, *, dry_run: bool = False) -> Submitted:
        """Submit what is missing, stopped or lost; running and waiting runs are left alone, failed ones too.

        A dry run writes nothing, not even the lock.
        """
        with contextlib.nullcontext() if dry_run else self.journal.submitting():
            look = self.look()
            if any(v.state == UNKNOWN for v in look.runs.values()):
                raise InputError("squeue or sacct does not answer, so nobody knows what is running; try again later.")
            if any(v.state == LOST for v in look.runs.values()):  # two looks must agree
                time.sleep(SECOND_LOOK)
                look = self.look()
            if not dry_run:
                self._settle(look)
                self._give_up(look)
            runs = [run for run in self.plan.runs if look.runs[run.run_id].wanted]
            if not dry_run:
                self._preflight(runs)
            return self._submit(runs, look, dry_run)

    def _preflight(self, runs: list[PlannedRun]) -> None:
        """Raise InputError for what would let jobs fail after hours in the queue: room on the disk, the partition."""
        estimator = Estimator(self.plan, self.out)
        # Weights and two moments in each checkpoint: those that are kept, one being written, and the exported model.
        needed = sum((estimator.estimate(run.config).memory_gb or 0) * CHECKPOINT_SHARE for run in runs)
        free = shutil.disk_usage(self.out).free / 1e9
        if needed > free:
            raise InputError(
                f"{self.out}: the checkpoints of {len(runs)} runs take about {needed:.1f} GB, {free:.1f} GB are free; "
                f"give another --out or launch fewer cells."
            )
        for resources in {slurm.shape(run.config.resources): run.config.resources for run in runs}.values():
            array = slurm.Array(self.plan.study.name, self.out / schema.SLURM, 1, resources, self.out)
            problem = slurm.test_only(array)
            if problem:
                where = f"partition {resources.partition}" if resources.partition else "the default partition"
                raise InputError(f"resources: {where} would not run these cells: {problem}")

    def canary(self) -> bool:
        """Run two steps of the cheapest missing cell as a job of its own, beside the study; whether they succeeded."""
        look = self.look()
        runs = self._longest_first(run for run in self.plan.runs if look.runs[run.run_id].wanted)
        if not runs:
            return True
        run = runs[-1]
        stop = parts.RunStop(steps=2)
        config = run.config.model_copy(update={"stop": stop})
        token = f"{CANARY}{identity.hash12([run.run_id, time.time()])[:8]}"  # a name that no job has had
        place = self.out / schema.SLURM / token
        code, folder = slurm.snapshot(self.out), place / schema.RUNS / run.run_id
        folder.mkdir(parents=True)
        files.write_json(folder / schema.PLANNED, reading.dump(config))
        processes = config.resources.processes_per_node
        tasks = TaskFile(kind="canary", token=token, code=code.name, processes=processes, tasks=[[run.run_id]])
        files.write_json(place / TASKS, tasks)
        name = f"{self.plan.study.name}-{token}"
        resources = config.resources.model_copy(update={"runs_per_job": 1, "processes": processes})
        try:
            job = slurm.submit(slurm.Array(name, place, 1, resources, code))
        except (slurm.Refused, slurm.Unsure) as refusal:
            shutil.rmtree(place)
            raise InputError(f"sbatch does not take the canary: {refusal}") from None
        self.say(f"canary: two steps of {run.name} as job {job}")
        try:
            while not checks.is_done(folder, stop):
                entries = clients.queue([name])
                queued = entries is None or any(entry.state not in clients.TERMINAL for entry in entries)
                if not queued and not checks.is_done(folder, stop):
                    self.say(f"canary: {run.name} failed, nothing is submitted; its last lines:")
                    for line in [*tail(place / f"{job}_0_0_log.out"), *tail(folder / schema.LOG, 12)]:
                        self.say(f"    {line}")
                    return False
                time.sleep(QUICKEST)
        except KeyboardInterrupt:
            clients.cancel([job])
            raise
        shutil.rmtree(place)
        return True

    def watch(self) -> Look:
        """Follow the study until nothing is left to wait for; submit again what ended without an error of its own."""
        said: dict[str, str] = {}
        lost: set[str] = set()
        crowded: int | None = None  # jobs of ours in the queue when SLURM took no more
        vain = 0  # passes in a row in which SLURM took nothing, while nothing of ours was queued
        changed = time.monotonic()
        while True:
            look = self.look()
            for run in self.plan.runs:
                if self._tell(run, look.runs[run.run_id], said):
                    changed = time.monotonic()
            again = self._again(look, lost)
            if any(v.fail for v in [*look.runs.values(), *look.bases.values()]) or (
                again and (crowded is None or len(look.jobs) < crowded or not look.live)
            ):
                with self.journal.submitting():
                    look = self.look()  # another watcher may have been faster
                    again = self._again(look, lost)
                    self._settle(look)
                    self._give_up(look)
                    submitted = self._submit(again, look)
                    crowded = len(look.jobs) + submitted.runs if submitted.remaining else None
                    if submitted.runs:
                        self.say(f"{submitted.runs} runs submitted again")
                    nothing = submitted.remaining and not (submitted.runs or submitted.bases or look.live)
                    vain = vain + 1 if nothing else 0
                if vain == VAIN_PASSES:
                    self.say(f"nothing of this study is queued, and SLURM takes nothing: {submitted.refusals[-1]}")
                    return self.look()
            lost = {key for key, verdict in look.runs.items() if verdict.state == LOST}
            waits = again or lost or any(v.state in (*LIVE, UNKNOWN) for v in look.runs.values())
            if not waits:
                return self.look()
            time.sleep(min(max((time.monotonic() - changed) / 10, QUICKEST), SLOWEST))

    def _again(self, look: Look, lost: set[str]) -> list[PlannedRun]:
        """What a watcher submits again; a run that is lost only if it was so at the look before, too."""
        if any(v.state == UNKNOWN for v in look.runs.values()):
            return []
        again = [run for run in self.plan.runs if look.runs[run.run_id].submit]
        return [run for run in again if look.runs[run.run_id].state != LOST or run.run_id in lost]

    def _tell(self, run: PlannedRun, verdict: Verdict, said: dict[str, str]) -> bool:
        """Say where a run stands, unless that was `said` before; returns whether it changed."""
        text = f"{verdict.state}{f' ({verdict.why})' if verdict.why else ''}"
        if said.get(run.run_id) == text:
            return False
        said[run.run_id] = text
        self.say(f"{run.name}: {text}")
        return True

    def _give_up(self, look: Look) -> None:
        """Write down what reconciliation found to be final, so that it stays so without SLURM's memory."""
        failed = [run for run in self.plan.runs if look.runs[run.run_id].fail]
        history = self.journal.history().submissions if failed else {}
        for run in failed:
            verdict, folder = look.runs[run.run_id], run.folder(self.out)
            lines = [*job_log(self.out, history.get(run.run_id, [])), *tail(folder / schema.LOG)]
            record.write_failure(folder / schema.FAILED, failure_class(verdict), verdict.why, lines)
        for base, verdict in look.bases.items():
            if verdict.fail:
                lines = tail(self.out / schema.ARTIFACTS / f"{base}.log")
                record.write_failure(base_failure(self.out, base), failure_class(verdict), verdict.why, lines)

    def cancel(self) -> int:
        """scancel every task in the queue that this folder submitted, those of dropped cells, too; returns how many."""
        with self.journal.submitting():
            look = self.look()
            if not look.answered:
                raise InputError("squeue does not answer, so nobody knows what there is to cancel; try again later.")
            jobs = sorted(look.live)
            if jobs:
                self.journal.note({"cancel": jobs, "time": time.time()})  # first: their end must not look like a loss
                clients.cancel(sorted({job.partition("_")[0] for job in jobs}, key=int))
            return len(jobs)

    def _settle(self, look: Look) -> None:
        """Write down the arrays that only their name told, and end those that were submitted twice."""
        for token, array in look.found.items():
            if not token.startswith(CANARY):
                self.journal.note({"token": token, "job": array})
        if look.twins:
            clients.cancel(look.twins)
            self.say(f"cancelled array {', '.join(look.twins)}: sbatch had taken what it is for before")

    def retry(self) -> list[str]:
        """Put failures aside, those of base models too; returns the names of the runs that a launch takes up again."""
        with self.journal.submitting():
            look = self.look()
            self._give_up(look)
            runs = [run for run in self.plan.runs if look.runs[run.run_id].state in GIVEN_UP]
            bases = [base for base, verdict in look.bases.items() if verdict.state in GIVEN_UP]
            blocked = [run for run in self.plan.runs if look.runs[run.run_id].state == BLOCKED]
            if runs or bases:
                keys = [*(run.run_id for run in [*runs, *blocked]), *bases]
                self.journal.note({"retry": keys, "time": time.time()})
            for run in runs:
                record.clear_failure(run.folder(self.out))
            for base in bases:
                base_failure(self.out, base).unlink(missing_ok=True)
            return [run.name for run in [*runs, *blocked]]

    # ------------------------------------------------------------ submitting

    def _submit(self, runs: list[PlannedRun], look: Look, dry_run: bool = False) -> Submitted:
        """Base models first, then one array per resource shape, in chunks that SLURM takes."""
        if not runs:
            return Submitted()
        work = Pass(slurm.snapshot(self.out, write=not dry_run), dry_run)
        if not dry_run:
            for run in runs:
                run.folder(self.out).mkdir(parents=True, exist_ok=True)
                files.write_json(run.folder(self.out) / schema.PLANNED, reading.dump(run.config))
        self._submit_bases(runs, look, work)
        # A run waits for its own base: a job has one dependency for all tasks of its array, so there are more arrays.
        own = sorted(work.base_jobs)
        waiting = {base: i * MOST_WAITING // len(own) if len(own) > MOST_WAITING else i for i, base in enumerate(own)}
        groups: dict[str, list[PlannedRun]] = {}
        for run in self._longest_first(runs):
            verdict = look.bases.get(run.base_id or "")
            if verdict is not None and verdict.state != DONE and run.base_id not in work.base_jobs:
                if verdict.state not in GIVEN_UP:
                    work.result.remaining += 1  # its base found no place
                continue
            waits = waiting.get(run.base_id or "", "")
            groups.setdefault(f"{slurm.shape(run.config.resources)} {waits}", []).append(run)
        for group in groups.values():
            per = group[0].config.resources.runs_per_job
            tasks = [group[i : i + per] for i in range(0, len(group), per)]
            met = [look.runs[run.run_id] for run in group] + list(look.bases.values())
            taken = self._submit_tasks("runs", tasks, {node for verdict in met for node in verdict.exclude}, work)
            submitted = sum(len(task) for task, _ in taken)
            work.result.runs += submitted
            work.result.remaining += len(group) - submitted
        return work.result

    def _submit_bases(self, runs: list[PlannedRun], look: Look, work: Pass) -> None:
        """Submit the base models that these runs lack, and tell `work` which task makes each one."""
        jobs = {base: look.jobs[base] for base in look.bases if base in look.jobs}
        missing: dict[str, PlannedRun] = {}
        for run in runs:
            base = run.base_id
            if base and base not in jobs and look.bases[base].wanted:
                missing.setdefault(base, run)
        groups: dict[str, list[PlannedRun]] = {}
        for run in missing.values():
            plain = slurm.base_resources(run.config.resources)
            light = replace(run, config=run.config.model_copy(update={"resources": plain}))
            groups.setdefault(slurm.shape(plain), []).append(light)
        for group in groups.values():
            exclude = {node for run in group for node in look.bases[run.base_id or ""].exclude}
            taken = self._submit_tasks("bases", [[run] for run in group], exclude, work)
            work.result.bases += len(taken)
            jobs |= {task[0].base_id: job for task, job in taken if task[0].base_id}
        work.base_jobs = jobs

    def _submit_tasks(self, kind: str, tasks: list[list[PlannedRun]], exclude: set[str], work: Pass) -> Taken:
        """Arrays as large as SLURM takes them; returns what it took. `exclude`: nodes to avoid."""
        taken: Taken = []
        size = min(len(tasks), 1001 if work.dry_run else clients.max_array_size())
        while len(taken) < len(tasks):
            chunk = tasks[len(taken) : len(taken) + size]
            array = self._array(kind, chunk, exclude, work)
            text = slurm.batch_text(array)  # complains before anything is written
            if work.dry_run:
                work.result.texts.append(text)
                taken += [(task, f"{kind.upper()}_{i}") for i, task in enumerate(chunk)]
                continue
            self._intend(kind, chunk, array)
            try:
                job = slurm.submit(array, self.journal.lock)
            except slurm.Unsure as words:  # the intent stands: by its name the next look finds what was taken
                work.result.refusals.append(f"sbatch did not say whether it took them: {words}")
                break
            except slurm.Full as refusal:
                self.journal.note({"token": array.folder.name, "refused": str(refusal)})
                if size == 1:
                    work.result.refusals.append(str(refusal))
                    break
                size = max(1, size // 2)
                continue
            except slurm.Refused as refusal:
                self.journal.note({"token": array.folder.name, "refused": str(refusal)})
                if not exclude:
                    raise InputError(f"sbatch refuses: {refusal}") from None
                exclude = set()  # no node is left: better a suspect one than none
                continue
            self.journal.note({"token": array.folder.name, "job": job})
            taken += [(task, f"{job}_{i}") for i, task in enumerate(chunk)]
        return taken

    def _array(self, kind: str, tasks: list[list[PlannedRun]], exclude: set[str], work: Pass) -> slurm.Array:
        """The array that does these tasks; its token names its folder and, with the study, its job."""
        place, number = self.out / schema.SLURM, len(self.journal.events())
        while (place / (token := identity.hash12([str(self.out), kind, _ids(tasks), number])[:8])).exists():
            number += 1  # a journal was lost: its jobs may be known by that name
        bases = {run.base_id or "" for task in tasks for run in task}
        return slurm.Array(
            name=f"{self.plan.study.name}-{token}",
            folder=self.out / schema.SLURM / token,
            count=len(tasks),
            resources=tasks[0][0].config.resources,
            code=work.code,
            depends_on=tuple(sorted({job for base, job in work.base_jobs.items() if base in bases})),
            exclude=tuple(sorted(exclude)),
            throttle=self.throttle,
        )

    def _intend(self, kind: str, tasks: list[list[PlannedRun]], array: slurm.Array) -> None:
        """Write down what an array does, for its jobs and in the journal, before SLURM gets it."""
        token, ids, runs = array.folder.name, _ids(tasks), [run for task in tasks for run in task]
        array.folder.mkdir(parents=True, exist_ok=True)  # it is there where a launcher died before it noted its intent
        processes = array.resources.processes_per_node
        task_file = TaskFile(kind=kind, token=token, code=array.code.name, processes=processes, tasks=ids)
        files.write_json(array.folder / TASKS, task_file)
        intent = Intent(
            submit=token,
            name=array.name,
            kind=kind,
            tasks=ids,
            committed={r.run_id: record.committed_step(r.folder(self.out)) for r in runs} if kind == "runs" else {},
            bases={r.run_id: r.base_id for r in runs} if kind == "bases" else {},
            time=time.time(),
        )
        self.journal.note(intent)

    def _longest_first(self, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
        estimator = Estimator(self.plan, self.out)
        return sorted(runs, key=lambda run: -estimator.estimate(run.config, run.run_id).length)


def _ids(tasks: list[list[PlannedRun]]) -> list[list[str]]:
    return [[run.run_id for run in task] for task in tasks]
