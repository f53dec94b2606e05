"""A study on SLURM: submit what is missing, say where it stands, submit again what was lost, cancel.

The launcher may die at any moment: the journal (`journal.py`) holds the intent before sbatch is called. Submitting a
run twice is safe, because its attempts fence each other, and a lock lets one process submit at a time.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scaling import files, record, schema
from scaling.config import checks, identity, parts, reading
from scaling.schema import InputError
from sweeps.cost import Estimator
from sweeps.executors import slurm, tail
from sweeps.journal import JOURNAL
from sweeps.plan import Plan, PlannedRun
from sweeps.reconcile import (
    BLOCKED,
    DONE,
    FAILED,
    LIVE,
    LOST,
    NO_PROGRESS,
    OUT_OF_MEMORY,
    STOPPED,
    UNKNOWN,
    Account,
    Facts,
    Submission,
    Verdict,
    reconcile,
)

LIMITS = re.compile(r"limit|qos|too many|array specification|table .*full|max\w*jobs", re.I)
QUICKEST, SLOWEST = 2.0, 20.0  # seconds between two looks of a watcher: a tenth of the time since anything changed
CHECKPOINT_SHARE = 3 * 12 / 16 + 4 / 16  # of the 16 bytes a parameter in memory: three checkpoints, one model
REMEMBERED = 10  # submissions of a run that SLURM is asked about
SECOND_LOOK = 3.0  # seconds after which a lost job is looked for again


@dataclass
class Look:
    """Where every run and every base stood at one moment."""

    runs: dict[str, Verdict]  # by run id
    bases: dict[str, Verdict]  # by base id
    jobs: dict[str, str]  # task of each run or base that is in the queue, by its key

    def states(self, plan: Plan) -> list[str]:
        return [self.runs[run.run_id].state for run in plan.runs]


@dataclass
class Submitted:
    """What one pass submitted."""

    runs: int = 0
    bases: int = 0
    remaining: int = 0  # what SLURM does not take now
    refusals: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  # of a dry run


class Cluster:
    """One study folder on SLURM."""

    def __init__(self, plan: Plan, out: Path, say: Callable[[str], None], throttle: int | None = None):
        self.plan, self.out, self.say, self.throttle = plan, out.resolve(), say, throttle
        self.journal = self.out / schema.SLURM / JOURNAL
        self._lock: int | None = None  # descriptor, while this process is the one that submits

    # ------------------------------------------------------------ looking

    def look(self) -> Look:
        """Ask squeue and sacct, read the run folders, and decide. Changes nothing."""
        history, names = self._history()  # of the runs and bases that are not done
        undone = {run.run_id: run for run in self.plan.runs if not checks.is_done(self._folder(run), run.config.stop)}
        bases = self.plan.bases()
        open_bases = {base for base in bases if not (self.out / schema.ARTIFACTS / base).exists()}
        open_keys = [*undone, *open_bases]
        wanted = {s.token for key in open_keys for s in history.get(key, [])}
        entries = slurm.queue(sorted(names[token] for token in wanted))
        # A submission whose id was never written down is found by the name of its job.
        ids = {entry.name: entry.job.partition("_")[0] for entry in entries or []}
        for key in open_keys:
            history[key] = [replace(s, array=s.array or ids.get(names[s.token])) for s in history.get(key, [])]
        live = {e.job: e for e in entries or [] if e.state not in slurm.TERMINAL}
        # The last ones decide, those before them say on which nodes a run ended at once.
        ended = {s.job for key in open_keys for s in history[key][-REMEMBERED:] if s.job and s.job not in live}
        accounts = slurm.accounts(sorted({job.partition("_")[0] for job in ended}))
        queue, going = None if entries is None else live, set(live)
        down = accounts is None and slurm.has_accounting()
        if accounts is None and not down:  # squeue knows the last state of a job for some minutes
            gone = [e for e in entries or [] if e.state in slurm.TERMINAL]
            accounts = {e.job: [Account(e.job, e.state, 0, 0, 0.0, e.node)] for e in gone} or None
        elif accounts is not None and queue is not None:  # what ended a moment ago is in squeue before it is in sacct
            newest = {history[key][-1].job for key in open_keys if history[key]}
            queue |= {e.job: e for e in entries or [] if e.job in newest & ended and e.job not in accounts}
        now = time.time()
        asked = {"queue": queue, "accounts": accounts, "accounts_down": down}
        found = {base: self._base_verdict(base, history.get(base, []), now, **asked) for base in bases}
        runs = {
            run.run_id: self._run_verdict(run, history.get(run.run_id, []), found, now, **asked)
            if run.run_id in undone
            else Verdict(DONE)
            for run in self.plan.runs
        }
        jobs = {key: s.job for key in open_keys for s in history[key] if s.job and s.job in going}
        return Look(runs, found, jobs)

    def _history(self) -> tuple[dict[str, list[Submission]], dict[str, str]]:
        """Submissions of every run and base since its last retry, and the job name of every token."""
        events = files.read_rows(self.journal)
        ids = {event["token"]: event["job"] for event in events if "job" in event}
        refused = {event["token"] for event in events if "refused" in event}
        cancelled = {job for event in events for job in event.get("cancel", [])}
        history: dict[str, list[Submission]] = {}
        for event in events:
            for key in event.get("retry", []):
                history.pop(key, None)
            token = event.get("submit")
            if token is None or token in refused:
                continue
            for index, keys in enumerate(event["tasks"]):
                for key in keys:
                    item = Submission(token, index, ids.get(token), event["committed"].get(key), event["time"])
                    item = replace(item, cancelled=item.job in cancelled)
                    history.setdefault(event["bases"].get(key, key), []).append(item)
        return history, {event["submit"]: event["name"] for event in events if "submit" in event}

    def _run_verdict(
        self,
        run: PlannedRun,
        history: list[Submission],
        bases: dict[str, Verdict],
        now: float,
        **asked: Any,
    ) -> Verdict:
        folder = self._folder(run)
        row = record.last_row(folder)
        done = folder / schema.DONE
        facts = Facts(
            done=False,
            failed=files.read_json(folder / schema.FAILED),
            committed=record.committed_step(folder),
            last_row=row["timing"]["time_ms"] / 1000 if row else None,
            submissions=[self._confirmed(s, folder) for s in history],
            starts=run.config.resources.starts,
            log=self._job_log(history),
            base=bases.get(run.base_id or ""),
            finished_shorter=done.stat().st_mtime if done.exists() else None,
            **asked,
        )
        return reconcile(facts, now)

    def _base_verdict(self, base: str, history: list[Submission], now: float, **asked: Any) -> Verdict:
        artifacts = self.out / schema.ARTIFACTS
        facts = Facts(
            done=(artifacts / base).exists(),
            failed=files.read_json(artifacts / f"{base}.{schema.FAILED}"),
            committed=None,
            last_row=None,
            submissions=history,
            log=self._job_log(history),
            **asked,
        )
        return reconcile(facts, now)

    def _confirmed(self, submission: Submission, folder: Path) -> Submission:
        """The run itself says which job it was, where the launcher died before it could write that down."""
        if submission.job is None:
            for number in record.attempt_numbers(folder):
                attempt = record.read_attempt(folder, number)
                if attempt.get("token") == submission.token:
                    return replace(submission, array=attempt["job"].partition("_")[0])
        return submission

    def _job_log(self, history: list[Submission]) -> list[str]:
        """The last lines of what SLURM and the shell said of the newest job."""
        if not history or history[-1].job is None:
            return []
        last = history[-1]
        return tail(self.out / schema.SLURM / last.token / f"{last.job}_0_log.out", 12)

    def _folder(self, run: PlannedRun) -> Path:
        return self.out / schema.RUNS / run.run_id

    # ------------------------------------------------------------ acting

    def launch(self, *, dry_run: bool = False) -> Submitted:
        """Submit what is missing, stopped or lost; running and waiting runs are left alone, failed ones too."""
        with self._alone(dry_run):
            look = self.look()
            if any(v.state == UNKNOWN for v in look.runs.values()):
                raise InputError("squeue or sacct does not answer, so nobody knows what is running; try again later.")
            if any(v.state == LOST for v in look.runs.values()):  # two looks must agree
                time.sleep(SECOND_LOOK)
                look = self.look()
            if not dry_run:
                self._give_up(look)
            runs = [run for run in self.plan.runs if self._wanted(look.runs[run.run_id])]
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
            if problem and not LIMITS.search(problem):
                where = f"partition {resources.partition}" if resources.partition else "the default partition"
                raise InputError(f"resources: {where} would not run these cells: {problem}")

    def canary(self) -> bool:
        """Run two steps of the cheapest missing cell as a job of its own, beside the study; whether they succeeded."""
        look = self.look()
        runs = self._longest_first(run for run in self.plan.runs if self._wanted(look.runs[run.run_id]))
        if not runs:
            return True
        run = runs[-1]
        stop = parts.RunStop(steps=2)
        config = run.config.model_copy(update={"stop": stop})
        token = f"canary-{run.run_id[:8]}"
        place = self.out / schema.SLURM / token
        shutil.rmtree(place, ignore_errors=True)
        code, folder = slurm.snapshot(self.out), place / schema.RUNS / run.run_id
        folder.mkdir(parents=True)
        files.write_json(folder / schema.PLANNED, reading.dump(config))
        processes = config.resources.processes_per_node
        kind = {"kind": "canary", "token": token, "code": code.name, "processes": processes}
        tasks = {**kind, "tasks": [[run.run_id]]}
        files.write_json(place / slurm.TASKS, tasks)
        name = f"{self.plan.study.name}-{token}"
        resources = config.resources.model_copy(update={"runs_per_job": 1, "processes": processes})
        try:
            job = slurm.submit(slurm.Array(name, place, 1, resources, code))
        except slurm.Refused as refusal:
            raise InputError(f"sbatch refuses the canary: {refusal}") from None
        self.say(f"canary: two steps of {run.name} as job {job}")
        try:
            while not checks.is_done(folder, stop):
                entries = slurm.queue([name])
                queued = entries is None or any(entry.state not in slurm.TERMINAL for entry in entries)
                if not queued and not checks.is_done(folder, stop):
                    self.say(f"canary: {run.name} failed, nothing is submitted; its last lines:")
                    for line in [*tail(place / f"{job}_0_0_log.out"), *tail(folder / schema.LOG, 12)]:
                        self.say(f"    {line}")
                    return False
                time.sleep(QUICKEST)
        except KeyboardInterrupt:
            slurm.cancel([job])
            raise
        shutil.rmtree(place)
        return True

    def _wanted(self, verdict: Verdict) -> bool:
        return verdict.submit or verdict.state == STOPPED

    def watch(self) -> Look:
        """Follow the study until nothing is left to wait for; submit again what ended without an error of its own."""
        said: dict[str, str] = {}
        lost: set[str] = set()
        crowded: int | None = None  # jobs of ours in the queue when SLURM took no more
        changed = time.monotonic()
        while True:
            look = self.look()
            for run in self.plan.runs:
                if self._tell(run, look.runs[run.run_id], said):
                    changed = time.monotonic()
            again = self._again(look, lost)
            if any(v.fail for v in [*look.runs.values(), *look.bases.values()]) or (
                again and (crowded is None or len(look.jobs) < crowded)
            ):
                with self._alone():
                    look = self.look()  # another watcher may have been faster
                    again = self._again(look, lost)
                    self._give_up(look)
                    what = self._submit(again, look)
                    crowded = len(look.jobs) + what.runs if what.remaining else None
                    if what.runs:
                        self.say(f"{what.runs} runs submitted again")
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
        text = f"{verdict.state}{f' ({verdict.why})' if verdict.why else ''}"
        if said.get(run.run_id) == text:
            return False
        said[run.run_id] = text
        self.say(f"{run.name}: {text}")
        return True

    def _give_up(self, look: Look) -> None:
        """Write down what reconciliation found to be final, so that it stays so without SLURM's memory."""
        kinds = {OUT_OF_MEMORY: "OutOfMemory", NO_PROGRESS: "NoProgress"}
        history = None
        for run in self.plan.runs:
            verdict = look.runs[run.run_id]
            if verdict.fail:
                history = history or self._history()[0]
                folder = self._folder(run)
                lines = [*self._job_log(history.get(run.run_id, [])), *tail(folder / schema.LOG)]
                _write_failure(folder / schema.FAILED, kinds.get(verdict.state, "JobEnded"), verdict.why, lines)
        for base, verdict in look.bases.items():
            if verdict.fail:
                place = self.out / schema.ARTIFACTS
                kind = kinds.get(verdict.state, "JobEnded")
                _write_failure(place / f"{base}.{schema.FAILED}", kind, verdict.why, tail(place / f"{base}.log"))

    def cancel(self) -> int:
        """scancel the tasks of this study that are in the queue; returns how many."""
        with self._alone():
            look = self.look()
            jobs = sorted(set(look.jobs.values()))
            if jobs:
                self._note(cancel=jobs, time=time.time())  # first: their end must not look like a loss
                slurm.cancel(jobs)
            return len(jobs)

    def retry(self) -> list[str]:
        """Put failures aside, those of base models too; returns the names of the runs that a launch takes up again."""
        failed = (FAILED, OUT_OF_MEMORY, NO_PROGRESS)
        with self._alone():
            look = self.look()
            self._give_up(look)
            runs = [run for run in self.plan.runs if look.runs[run.run_id].state in failed]
            bases = [base for base, verdict in look.bases.items() if verdict.state in failed]
            blocked = [run for run in self.plan.runs if look.runs[run.run_id].state == BLOCKED]
            if runs or bases:
                self._note(retry=[*(run.run_id for run in [*runs, *blocked]), *bases], time=time.time())
            for run in runs:
                record.clear_failure(self._folder(run))
            for base in bases:
                (self.out / schema.ARTIFACTS / f"{base}.{schema.FAILED}").unlink(missing_ok=True)
            return [run.name for run in [*runs, *blocked]]

    # ------------------------------------------------------------ submitting

    def _submit(self, runs: list[PlannedRun], look: Look, dry_run: bool = False) -> Submitted:
        """Bases first, then one array per resource shape, in chunks that SLURM takes."""
        result = Submitted()
        if not runs:
            return result
        code = slurm.snapshot(self.out, write=not dry_run)
        if not dry_run:
            for run in runs:
                self._folder(run).mkdir(parents=True, exist_ok=True)
                files.write_json(self._folder(run) / schema.PLANNED, reading.dump(run.config))
        base_jobs = self._submit_bases(runs, look, code, result, dry_run)
        groups: dict[str, list[PlannedRun]] = {}
        for run in self._longest_first(runs):
            base, verdict = run.base_id, look.bases.get(run.base_id or "")
            if verdict is not None and verdict.state != DONE and base not in base_jobs:
                if verdict.state not in (FAILED, OUT_OF_MEMORY, NO_PROGRESS):
                    result.remaining += 1  # its base found no place
                continue
            groups.setdefault(slurm.shape(run.config.resources), []).append(run)
        for group in groups.values():
            per = group[0].config.resources.runs_per_job
            tasks = [group[i : i + per] for i in range(0, len(group), per)]
            met = [look.runs[run.run_id] for run in group] + list(look.bases.values())
            exclude = sorted({node for verdict in met for node in verdict.exclude})
            taken = self._submit_tasks("runs", tasks, code, base_jobs, exclude, result, dry_run)
            result.runs += sum(len(task) for task, _ in taken)
            result.remaining += len(group) - sum(len(task) for task, _ in taken)
        return result

    def _submit_bases(
        self, runs: list[PlannedRun], look: Look, code: Path, result: Submitted, dry_run: bool
    ) -> dict[str, str]:
        """Submit the base models that these runs lack; returns the task that makes each one of them."""
        jobs = {base: look.jobs[base] for base in look.bases if base in look.jobs}
        missing: dict[str, PlannedRun] = {}
        for run in runs:
            base = run.base_id
            if base and base not in jobs and self._wanted(look.bases[base]):
                missing.setdefault(base, run)
        groups: dict[str, list[PlannedRun]] = {}
        for run in missing.values():
            alone = {"gpus": 0, "runs_per_job": 1, "nodes": 1, "processes": None}
            plain = run.config.resources.model_copy(update=alone)
            light = replace(run, config=run.config.model_copy(update={"resources": plain}))
            groups.setdefault(slurm.shape(plain), []).append(light)
        for group in groups.values():
            exclude = sorted({node for run in group for node in look.bases[run.base_id or ""].exclude})
            taken = self._submit_tasks("bases", [[run] for run in group], code, {}, exclude, result, dry_run)
            result.bases += len(taken)
            jobs |= {task[0].base_id: job for task, job in taken if task[0].base_id}
        return jobs

    def _submit_tasks(
        self,
        kind: str,
        tasks: list[list[PlannedRun]],
        code: Path,
        base_jobs: dict[str, str],
        exclude: list[str],
        result: Submitted,
        dry_run: bool,
    ) -> list[tuple[list[PlannedRun], str]]:
        """Arrays as large as SLURM takes them; returns (task, job) of what it took."""
        taken: list[tuple[list[PlannedRun], str]] = []
        size = min(len(tasks), 1001 if dry_run else slurm.max_array_size())
        while len(taken) < len(tasks):
            chunk = tasks[len(taken) : len(taken) + size]
            needed = sorted({base_jobs[b] for task in chunk for run in task if (b := run.base_id) in base_jobs})
            keys = [[run.run_id for run in task] for task in chunk]
            token = identity.hash12([str(self.out), kind, keys, len(files.read_rows(self.journal))])[:8]
            folder = self.out / schema.SLURM / token
            name = f"{self.plan.study.name}-{token}"
            array = slurm.Array(
                name,
                folder,
                len(chunk),
                chunk[0][0].config.resources,
                code,
                tuple(needed),
                tuple(exclude),
                self.throttle,
            )
            if dry_run:
                result.texts.append(slurm.batch_text(array))
                taken += [(task, f"{kind.upper()}_{i}") for i, task in enumerate(chunk)]
                continue
            slurm.batch_text(array)  # complains before anything is written
            flat = [run for task in chunk for run in task]
            committed = {run.run_id: record.committed_step(self._folder(run)) for run in flat} if kind == "runs" else {}
            bases = {run.run_id: run.base_id for run in flat} if kind == "bases" else {}
            folder.mkdir(parents=True, exist_ok=True)  # there where a launcher died before its intent stood written
            processes = array.resources.processes_per_node
            tasks_file = {"kind": kind, "token": token, "code": code.name, "processes": processes, "tasks": keys}
            files.write_json(folder / slurm.TASKS, tasks_file)
            self._note(
                submit=token, name=name, kind=kind, tasks=keys, committed=committed, bases=bases, time=time.time()
            )
            try:
                job = slurm.submit(array, self._lock)
            except slurm.Refused as refusal:
                self._note(token=token, refused=str(refusal))
                if exclude and not LIMITS.search(str(refusal)):
                    exclude = []  # no node is left: better a suspect one than none
                    continue
                if not LIMITS.search(str(refusal)):
                    raise InputError(f"sbatch refuses: {refusal}") from None
                if size == 1:
                    result.refusals.append(str(refusal))
                    break
                size = max(1, size // 2)
                continue
            self._note(token=token, job=job)
            taken += [(task, f"{job}_{i}") for i, task in enumerate(chunk)]
        return taken

    def _longest_first(self, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
        estimator = Estimator(self.plan, self.out)
        return sorted(runs, key=lambda run: -estimator.estimate(run.config, run.run_id).length)

    @contextlib.contextmanager
    def _alone(self, dry_run: bool = False) -> Iterator[None]:
        """One process submits at a time; a dry run writes nothing, not even the lock.

        sbatch inherits the lock: where a launcher is killed beside it, the next one waits until SLURM has answered,
        and then finds the job by its name.
        """
        if dry_run:
            yield
            return
        with files.exclusive(self.out / schema.SLURM / "lock") as file:
            assert file is not None
            self._lock = file.fileno()
            try:
                yield
            finally:
                self._lock = None

    def _note(self, **event: Any) -> None:
        """Append to the journal, and see it on the disk before going on."""
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        with open(self.journal, "ab+") as file:
            file.seek(0)
            whole = file.read().rpartition(b"\n")
            file.truncate(len(whole[0] + whole[1]))  # a line that a full disk or a kill cut short
            file.write(files.dump_row(event).encode())
            file.flush()
            os.fsync(file.fileno())


def _write_failure(path: Path, kind: str, message: str, lines: list[str]) -> None:
    files.write_json(path, {"class": kind, "message": message, "last_lines": lines})
