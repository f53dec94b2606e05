"""Where every run and every base model of a study stands on SLURM: ask squeue and sacct, read the folders, decide.

Nothing here changes anything. `sweeps/reconcile.py` decides; here its facts are gathered.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from scaling import record, schema
from scaling.config import checks
from sweeps.executors import slurm
from sweeps.journal import Journal
from sweeps.payloads import tail
from sweeps.plan import Plan, PlannedRun
from sweeps.reconcile import DONE, Account, Answers, Facts, Submission, Verdict, reconcile

REMEMBERED = 10  # submissions of a run that SLURM is asked about


@dataclass
class Look:
    """Where every run and every base model stood at one moment."""

    runs: dict[str, Verdict]  # by run id
    bases: dict[str, Verdict]  # by base id
    jobs: dict[str, str]  # the task of each run or base that is in the queue, by its id

    def states(self, plan: Plan) -> list[str]:
        return [self.runs[run.run_id].state for run in plan.runs]


def look_at(plan: Plan, out: Path, journal: Journal) -> Look:
    """Ask SLURM, read the run folders, and decide."""
    undone = [run for run in plan.runs if not checks.is_done(run.folder(out), run.config.stop)]
    bases = plan.bases()
    missing_bases = [base for base in bases if not (out / schema.ARTIFACTS / base).exists()]
    history, answers, queued = _ask(journal, [*(run.run_id for run in undone), *missing_bases])
    now = time.time()
    base_verdicts = {
        base: reconcile(_base_facts(out, base, history[base], answers), now) if base in history else Verdict(DONE)
        for base in bases
    }
    verdicts = {run.run_id: Verdict(DONE) for run in plan.runs}
    for run in undone:
        base = base_verdicts.get(run.base_id or "")
        verdicts[run.run_id] = reconcile(_run_facts(out, run, history[run.run_id], base, answers), now)
    jobs = {key: s.job for key, submissions in history.items() for s in submissions if s.job and s.job in queued}
    return Look(verdicts, base_verdicts, jobs)


def _ask(journal: Journal, keys: list[str]) -> tuple[dict[str, list[Submission]], Answers, set[str]]:
    """Ask SLURM about what was submitted for these runs and base models.

    Returns the submissions of each one, with the job ids that SLURM knows, its answers, and what is in the queue.
    """
    written = journal.history()
    history = {key: written.submissions.get(key, []) for key in keys}
    entries = slurm.queue(sorted({written.names[s.token] for submissions in history.values() for s in submissions}))
    # A submission whose id was never written down is found by the name of its job.
    ids = {entry.name: entry.job.partition("_")[0] for entry in entries or []}
    history = {
        key: [replace(s, array=s.array or ids.get(written.names[s.token])) for s in submissions]
        for key, submissions in history.items()
    }
    live = {e.job: e for e in entries or [] if e.state not in slurm.TERMINAL}
    # The last ones decide, those before them say on which nodes a run ended at once.
    ended = {
        s.job for submissions in history.values() for s in submissions[-REMEMBERED:] if s.job and s.job not in live
    }
    accounts = slurm.accounts(sorted({job.partition("_")[0] for job in ended}))
    queue = None if entries is None else dict(live)
    down = accounts is None and slurm.has_accounting()
    if accounts is None and not down:  # squeue knows the last state of a job for some minutes
        gone = [e for e in entries or [] if e.state in slurm.TERMINAL]
        accounts = {e.job: [Account(e.job, e.state, 0, 0, 0.0, e.node)] for e in gone} or None
    elif accounts is not None and queue is not None:  # what ended a moment ago is in squeue before it is in sacct
        newest = {submissions[-1].job for submissions in history.values() if submissions}
        queue |= {e.job: e for e in entries or [] if e.job in newest & ended and e.job not in accounts}
    return history, {"queue": queue, "accounts": accounts, "accounts_down": down}, set(live)


def _run_facts(out: Path, run: PlannedRun, history: list[Submission], base: Verdict | None, answers: Answers) -> Facts:
    folder = run.folder(out)
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


def _base_facts(out: Path, base: str, history: list[Submission], answers: Answers) -> Facts:
    return Facts(
        done=False,
        failed=record.read_failure(base_failure(out, base)),
        committed=None,
        last_row=None,
        submissions=history,
        log=job_log(out, history),
        **answers,
    )


def _confirmed(submission: Submission, folder: Path) -> Submission:
    """The submission with its job id, which the run itself knows where the launcher died before it wrote that down."""
    if submission.job is None:
        for number in record.attempt_numbers(folder):
            attempt = record.read_attempt(folder, number)
            if attempt.get("token") == submission.token:
                return replace(submission, array=attempt["job"].partition("_")[0])
    return submission


def job_log(out: Path, history: list[Submission]) -> list[str]:
    """The last lines of what SLURM and the shell said of the newest job."""
    if not history or history[-1].job is None:
        return []
    last = history[-1]
    return tail(out / schema.SLURM / last.token / f"{last.job}_0_log.out", 12)


def base_failure(out: Path, base: str) -> Path:
    """Where it is written why a base model could not be made."""
    return out / schema.ARTIFACTS / f"{base}.{schema.FAILED}"
