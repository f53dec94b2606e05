"""Where every run and every base model of a study stands on SLURM: ask squeue and sacct, read the folders, decide.

Nothing here changes anything. `sweeps/reconcile.py` decides; here its facts are gathered, with at most one call of
squeue and one of sacct.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from scaling import files, record, schema
from scaling.config import checks
from scaling.schema import InputError
from sweeps import clients
from sweeps.journal import History, Journal
from sweeps.payloads import tail
from sweeps.plan import Plan, PlannedRun
from sweeps.reconcile import DAMAGED, DONE, Account, Answers, Facts, QueueEntry, Submission, Verdict, reconcile

REMEMBERED = 10  # submissions of a run that SLURM is asked about
CANARY = "canary-"  # what the token of a canary begins with
DAY = 86400.0


@dataclass
class Look:
    """Where every run and base model stood at one moment, and what of the study folder was in the queue."""

    runs: dict[str, Verdict]  # by run id
    bases: dict[str, Verdict]  # by base id
    jobs: dict[str, str]  # the task of each run or base that is in the queue, by its id
    live: list[str] = field(default_factory=list)  # every task in the queue that this folder submitted
    orphans: dict[str, list[str]] = field(default_factory=dict)  # those of cells that were edited out: names by task
    twins: list[str] = field(default_factory=list)  # arrays in the queue beside an older one of the same submission
    found: dict[str, str] = field(default_factory=dict)  # arrays by token, where only their name told
    answered: bool = True  # whether squeue did

    def states(self, plan: Plan) -> list[str]:
        return [self.runs[run.run_id].state for run in plan.runs]


@dataclass
class Queue:
    """What SLURM says of the submissions of a study folder."""

    history: dict[str, list[Submission]]  # by run or base, with the array ids that SLURM knows
    answers: Answers
    live: dict[str, str]  # token by task in the queue
    twins: list[str]
    found: dict[str, str]


def look_at(plan: Plan, out: Path, journal: Journal) -> Look:
    """Ask SLURM, read the run folders, and decide."""
    damage = {run.run_id: reason for run in plan.runs if (reason := record.damage(run.folder(out)))}
    undone = [
        run for run in plan.runs if run.run_id not in damage and not checks.is_done(run.folder(out), run.config.stop)
    ]
    bases = plan.bases()
    missing_bases = [base for base in bases if not (out / schema.ARTIFACTS / base).exists()]
    written = journal.history()
    said = _ask(plan, out, written, [*(run.run_id for run in undone), *missing_bases])
    now = time.time()
    base_verdicts = {
        base: _base_verdict(out, base, said, now) if base in said.history else Verdict(DONE) for base in bases
    }
    verdicts = {run.run_id: Verdict(DONE) for run in plan.runs}
    verdicts |= {run_id: Verdict(DAMAGED, reason) for run_id, reason in damage.items()}
    for run in undone:
        base = base_verdicts.get(run.base_id or "")
        try:
            facts = _run_facts(out, run, said.history[run.run_id], base, said.answers)
        except (InputError, KeyError, TypeError, ValueError, OSError) as error:  # of this run alone
            verdicts[run.run_id] = Verdict(DAMAGED, schema.one_line(error))
            continue
        verdicts[run.run_id] = reconcile(facts, now)
    jobs = {key: job for key, submissions in said.history.items() for s in submissions if (job := s.job) in said.live}
    known = {run.run_id for run in plan.runs} | set(bases)
    orphans = {job: names for job, token in said.live.items() if (names := _dropped(out, written, token, job, known))}
    answered = said.answers["queue"] is not None
    return Look(verdicts, base_verdicts, jobs, list(said.live), orphans, said.twins, said.found, answered)


def _dropped(out: Path, written: History, token: str, job: str, known: set[str]) -> list[str]:
    """Names of what a task of an array does, where none of it is in the study any more."""
    tasks, number = written.tasks.get(token, []), int(job.partition("_")[2])
    keys = tasks[number] if number < len(tasks) else []
    return [] if known & set(keys) else [_name_of(out, key) for key in keys]


def _name_of(out: Path, key: str) -> str:
    """What a run was called when it was submitted; a base model has no other name than its id."""
    try:
        planned = files.read_json(out / schema.RUNS / key / schema.PLANNED)
    except (InputError, UnicodeDecodeError):
        planned = None
    return str(planned.get("name") or key) if isinstance(planned, dict) else f"base {key}"


def _ask(plan: Plan, out: Path, written: History, keys: list[str]) -> Queue:
    """Ask SLURM about all that this folder submitted, and about the ends of what was submitted for `keys`."""
    tokens = {name: token for token, name in written.names.items()}
    tokens |= {f"{plan.study.name}-{place.name}": place.name for place in (out / schema.SLURM).glob(f"{CANARY}*")}
    entries = clients.queue(sorted(tokens))
    if entries is None:
        history = {key: written.submissions.get(key, []) for key in keys}
        return Queue(history, {"queue": None, "accounts": None, "accounts_down": True}, {}, [], {})
    live = {e.job: e for e in entries or [] if e.state not in clients.TERMINAL}
    # A submission whose id was never written down is found by the name of its job.
    arrays: dict[str, set[str]] = {}
    for entry in entries:
        arrays.setdefault(tokens[entry.name], set()).add(_array(entry.job))
    first = {token: written.ids.get(token) or min(some, key=int) for token, some in arrays.items()}
    twins = {_array(job) for job, entry in live.items() if _array(job) != first[tokens[entry.name]]}
    history = {key: [_found(s, first) for s in written.submissions.get(key, [])] for key in keys}
    accounts = _accounts(history, written, set(live))
    of_name = {tokens[a.name]: _array(a.job) for some in (accounts or {}).values() for a in some if a.name in tokens}
    history = {key: [_found(s, of_name) for s in submissions] for key, submissions in history.items()}
    found = {token: array for token, array in {**of_name, **first}.items() if token not in written.ids}
    answers = _answers(history, entries, live, accounts)
    return Queue(history, answers, {job: tokens[e.name] for job, e in live.items()}, sorted(twins, key=int), found)


def _array(job: str) -> str:
    return job.partition("_")[0]


def _found(submission: Submission, arrays: dict[str, str]) -> Submission:
    return submission if submission.array else replace(submission, array=arrays.get(submission.token))


def _accounts(
    history: dict[str, list[Submission]], written: History, live: set[str]
) -> dict[str, list[Account]] | None:
    """What sacct says of the ends of these submissions; None where it does not answer."""
    # The last ones decide, those before them say on which nodes a run ended at once.
    asked = [s for submissions in history.values() for s in submissions[-REMEMBERED:] if s.job not in live]
    if not asked:
        return {}
    if not clients.has_accounting():
        return None
    if all(s.array for s in asked):
        return clients.accounts(sorted({s.array for s in asked if s.array}))
    since = min(s.time for s in asked) - DAY  # by a clock that need not be SLURM's
    return clients.accounts([], sorted({written.names[s.token] for s in asked}), since)


def _answers(
    history: dict[str, list[Submission]],
    entries: list[QueueEntry],
    live: dict[str, QueueEntry],
    accounts: dict[str, list[Account]] | None,
) -> Answers:
    """squeue and sacct as `reconcile` takes them; each fills a gap of the other."""
    queue = dict(live)
    down = accounts is None and clients.has_accounting()
    if accounts is None and not down:  # squeue knows the last state of a job for some minutes
        gone = [e for e in entries if e.state in clients.TERMINAL]
        accounts = {e.job: [Account(e.job, e.state, 0, 0, 0.0, e.node)] for e in gone} or None
    elif accounts is not None:  # what ended a moment ago is in squeue before it is in sacct
        newest = {submissions[-1].job for submissions in history.values() if submissions}
        queue |= {e.job: e for e in entries if e.job in newest and e.job not in live and e.job not in accounts}
    return {"queue": queue, "accounts": accounts, "accounts_down": down}


def _run_facts(out: Path, run: PlannedRun, history: list[Submission], base: Verdict | None, answers: Answers) -> Facts:
    folder = run.folder(out)
    if not os.path.isdir(folder):  # as most are before a launch
        log, starts = job_log(out, history), run.config.resources.starts
        return Facts(False, None, None, None, history, starts, log=log, base=base, **answers)
    row = record.last_row(folder)
    done = folder / schema.DONE
    return Facts(
        done=False,
        failed=record.read_failure(folder / schema.FAILED),
        committed=record.committed_step(folder),
        last_row=row["timing"]["time_ms"] / 1000 if row else None,
        submissions=[_confirmed(submission, folder) for submission in history],
        starts=run.config.resources.starts,
        log=job_log(out, history),
        base=base,
        finished_shorter=done.stat().st_mtime if done.exists() else None,
        **answers,
    )


def _base_verdict(out: Path, base: str, said: Queue, now: float) -> Verdict:
    history = said.history[base]
    try:
        failed = record.read_failure(base_failure(out, base))
    except InputError as error:
        return Verdict(DAMAGED, schema.one_line(error))
    log = job_log(out, history)
    facts = Facts(False, failed, committed=None, last_row=None, submissions=history, log=log, **said.answers)
    return reconcile(facts, now)


def _confirmed(submission: Submission, folder: Path) -> Submission:
    """The submission with its job id, which the run itself knows where the launcher died before it wrote that down."""
    if submission.job is None:
        for number in record.attempt_numbers(folder):
            attempt = record.read_attempt(folder, number)
            if attempt.get("token") == submission.token:
                return replace(submission, array=_array(attempt["job"]))
    return submission


def job_log(out: Path, history: list[Submission]) -> list[str]:
    """The last lines of what SLURM and the shell said of the newest job."""
    if not history or history[-1].job is None:
        return []
    last = history[-1]
    return tail(out / schema.SLURM / last.token / f"{last.job}_0_log.out", 12)


def batch_log(out: Path, history: list[Submission], run: Path) -> Path | None:
    """The log of a run's newest job, where the job has said something and did not come to the run."""
    if not history:
        return None
    last = history[-1]
    try:
        begun = [record.read_attempt(run, number).get("token") for number in record.attempt_numbers(run)]
    except InputError:  # damaged
        return None
    logs = sorted((out / schema.SLURM / last.token).glob(f"*_{last.task}_0_log.out"))
    return logs[-1] if logs and last.token not in begun and tail(logs[-1]) else None


def base_failure(out: Path, base: str) -> Path:
    """Where it is written why a base model could not be made."""
    return out / schema.ARTIFACTS / f"{base}.{schema.FAILED}"
