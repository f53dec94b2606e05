"""The states of a run, and where a run on a cluster stands: a pure function of its folder, squeue and sacct.

The run folder is the truth; the scheduler only says whether somebody works on the run. The first match wins. Nothing
here asks or changes anything: `sweeps/look.py` gathers the facts, `sweeps/cluster.py` acts on what is decided.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from typing import TypedDict

from scaling.record import Failure

RECORD_GAP = 60.0  # seconds after a requeue or a node failure in which sacct does not know the next start yet
STALLED = 30 * 60.0  # seconds without a new row
# The states of a run, or of a base model. The first five are all that a run on this machine can be in.
DONE, FAILED, RUNNING = "done", "failed", "running"
STOPPED = "stopped"  # has a checkpoint or was cancelled: a launch resumes it
WAITING = "waiting"  # in the queue; on this machine: not begun
MISSING = "missing"  # never submitted
ENDING = "ending"  # its job is being taken down
LOST, ENDED = "lost", "ended"  # its job is gone without a trace, or ended without saying why: submitted again
OUT_OF_MEMORY, NO_PROGRESS = "out of memory", "no progress"  # failures that SLURM tells, or their number
BLOCKED = "blocked"  # its base model failed
UNKNOWN = "unknown"  # SLURM does not answer
DAMAGED = "damaged"  # its record is not whole: `scaling sweep repair`
REPAIR = "`scaling sweep repair` puts back what can be, or sets the run aside"
LIVE = (WAITING, RUNNING, ENDING)
GIVEN_UP = (FAILED, OUT_OF_MEMORY, NO_PROGRESS)  # only a retry takes it up again
OOM = re.compile("oom.?kill|exceeded .*memory limit|out of memory", re.I)  # what SLURM says in a job's log
BARE_SIGNALS = (signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR2, signal.SIGTERM)
# Exit statuses of our jobs that are not their node's fault.
NO_BASE, OTHER_CODE, DISK_FULL = 78, 77, 74
MEANING = {
    NO_BASE: "its base model is not there",
    OTHER_CODE: "the copy of the code has changed since",
    DISK_FULL: "no room is left on the disk",
}


@dataclass(frozen=True)
class QueueEntry:
    """One task as squeue shows it."""

    job: str  # ARRAY_TASK
    name: str
    state: str  # PENDING, RUNNING, COMPLETING, ...
    reason: str
    restarts: int
    node: str = ""


@dataclass(frozen=True)
class Account:
    """One start of a task as `sacct -D` shows it, the last one last."""

    job: str
    state: str  # without a suffix: CANCELLED, not "CANCELLED by 0"
    code: int
    signal: int
    ended: float | None  # seconds since 1970; None where it has not ended
    node: str
    name: str = ""


class Answers(TypedDict):
    """What SLURM says of all runs of a study."""

    queue: dict[str, QueueEntry] | None  # by job; None where squeue cannot answer
    accounts: dict[str, list[Account]] | None  # by job; None without accounting
    accounts_down: bool  # there is accounting, and it does not answer now


@dataclass(frozen=True)
class Submission:
    """One task that was submitted for a run."""

    token: str
    task: int  # of the array
    array: str | None  # None: sbatch was called, its answer never came
    committed: int | None  # the run's last committed step at the time
    time: float
    cancelled: bool = False

    @property
    def job(self) -> str | None:
        return None if self.array is None else f"{self.array}_{self.task}"


@dataclass(frozen=True)
class Facts:
    """What is known of one run (or base model)."""

    done: bool
    failed: Failure | None  # FAILED.json
    committed: int | None
    last_row: float | None  # seconds since 1970, of the newest row
    submissions: list[Submission]  # since the last retry, oldest first
    starts: int = 3
    queue: dict[str, QueueEntry] | None = None  # by job; None where squeue cannot answer
    accounts: dict[str, list[Account]] | None = None  # by job; None without accounting
    accounts_down: bool = False  # there is accounting, and it does not answer now
    log: list[str] = field(default_factory=list)  # last lines of what the job said
    base: Verdict | None = None  # of the base model that the run starts from
    finished_shorter: float | None = None  # when a shorter stop was reached, seconds since 1970


@dataclass(frozen=True)
class Verdict:
    state: str
    why: str = ""
    submit: bool = False
    """A watcher submits it again."""
    fail: bool = False
    """A watcher writes FAILED.json: nothing but a retry takes it up again."""
    exclude: tuple[str, ...] = ()
    """Nodes on which the run ended at once."""
    restarts: int = 0

    @property
    def wanted(self) -> bool:
        """Whether a launch submits it."""
        return self.submit or self.state == STOPPED


def reconcile(facts: Facts, now: float) -> Verdict:
    """The state of one run and what follows from it."""
    if facts.done:
        return Verdict(DONE)
    if facts.failed is not None:
        return _failure(facts.failed)
    if not facts.submissions:
        return Verdict(MISSING, submit=True) if facts.committed is None else Verdict(STOPPED, submit=True)
    if facts.queue is None:
        return Verdict(UNKNOWN, "squeue does not answer; nothing is decided")
    for submission in reversed(facts.submissions):
        entry = facts.queue.get(submission.job or "")
        if entry is not None:
            return _queued(entry, facts, now)
    last = facts.submissions[-1]
    if facts.finished_shorter is not None and last.time <= facts.finished_shorter:
        return Verdict(STOPPED, "done to an earlier stop; launch extends it", submit=True)
    if last.job is None and facts.accounts_down:
        return Verdict(UNKNOWN, "its submission was cut short, and sacct does not answer; nothing is decided")
    if last.job is None:
        return _gone(facts, Verdict(LOST, "its submission was cut short and SLURM does not know it"))
    if last.cancelled:
        return Verdict(STOPPED, "cancelled; launch resumes it")
    if facts.base is not None and facts.base.state in GIVEN_UP:
        return Verdict(BLOCKED, f"its base model failed: {facts.base.why}")
    if facts.accounts_down:
        return Verdict(UNKNOWN, "not in the queue, and sacct does not answer; nothing is decided")
    if facts.accounts is None:
        return _gone(facts, Verdict(LOST, "not in the queue, and there is no accounting"))
    accounts = facts.accounts.get(last.job)
    if not accounts:
        return _gone(facts, Verdict(LOST, "neither squeue nor sacct knows its job"))
    return _ended(accounts[-1], facts, now)


FAILURE_CLASSES = {OUT_OF_MEMORY: "OutOfMemory", NO_PROGRESS: "NoProgress", FAILED: "JobEnded"}


def failure_class(verdict: Verdict) -> str:
    """The class that FAILED.json names for a verdict that says `fail`."""
    return FAILURE_CLASSES[verdict.state]


def _failure(failed: Failure) -> Verdict:
    """FAILED.json in words."""
    kind, message = failed.get("class", ""), failed.get("message", "")
    if kind == FAILURE_CLASSES[NO_PROGRESS]:
        return Verdict(NO_PROGRESS, message)
    if kind in ("MemoryError", "OutOfMemoryError", FAILURE_CLASSES[OUT_OF_MEMORY]):
        return Verdict(OUT_OF_MEMORY, message)
    return Verdict(FAILED, f"{kind}: {message}")


def _queued(entry: QueueEntry, facts: Facts, now: float) -> Verdict:
    again = f"requeued {entry.restarts} times" if entry.restarts else ""
    if entry.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "CONFIGURING", "SUSPENDED"):
        return Verdict(WAITING, ", ".join(filter(None, [entry.reason, again])), restarts=entry.restarts)
    if entry.state in ("RUNNING", "RESIZING", "SIGNALING", "STAGE_OUT"):
        if facts.last_row is not None and now - facts.last_row > STALLED:
            again = ", ".join(filter(None, [f"no new row for {(now - facts.last_row) / 60:.0f} minutes", again]))
        return Verdict(RUNNING, again, restarts=entry.restarts)
    return Verdict(ENDING, ", ".join(filter(None, [entry.state, again])), restarts=entry.restarts)


def _ended(account: Account, facts: Facts, now: float) -> Verdict:
    """What the last record of a task that left the queue says."""
    newest = account.ended or max(facts.last_row or 0.0, facts.submissions[-1].time)
    state, recent = account.state, now - newest < RECORD_GAP
    if state in ("PENDING", "RUNNING", "REQUEUED", "RESIZING", "SUSPENDED") or (state == "NODE_FAIL" and recent):
        # The record lags behind, and has a gap between two starts.
        return Verdict(WAITING, f"sacct says {state}") if recent else _gone(facts, Verdict(LOST, f"sacct: {state}"))
    if state == "CANCELLED":
        return Verdict(STOPPED, "cancelled; launch resumes it")
    if state == "OUT_OF_MEMORY" or any(OOM.search(x) for x in facts.log):
        return Verdict(OUT_OF_MEMORY, "killed for its memory: raise resources.memory_gb, then retry", fail=True)
    if state == "COMPLETED":
        return Verdict(FAILED, "the job ended without an error and the run is not done", fail=True)
    # TIMEOUT, PREEMPTED, NODE_FAIL, BOOT_FAIL, DEADLINE, FAILED without a FAILED.json: it never said why.
    code = account.code - 128 if account.code > 128 else account.code
    # srun passes a signal on as it is: 9:0 is a SIGKILL.
    killed = account.signal or (code if account.code > 128 or code in BARE_SIGNALS else 0)
    why = f"{state.lower()}, status {account.code}"
    if account.code in MEANING:
        why += f": {MEANING[account.code]}"
    if killed:
        known = killed in signal.valid_signals()
        why = f"{state.lower()}, signal {killed}: killed ({signal.Signals(killed).name if known else 'unknown'})"
    return _gone(facts, Verdict(ENDED, why))


def _gone(facts: Facts, verdict: Verdict) -> Verdict:
    """Submit again, unless the last R submissions all ended at the step where the run still is.

    The nodes on which they ended are avoided: a broken one is always free, and would take the run every time.
    """
    vain: list[Submission] = []
    for submission in reversed(facts.submissions):
        if submission.committed != facts.committed:
            break
        vain.append(submission)
    if len(vain) < facts.starts:
        ends = [starts[-1] for s in vain if (starts := (facts.accounts or {}).get(s.job or ""))]
        nodes = {end.node for end in ends if end.state == "FAILED" and end.code not in MEANING and end.node}
        return Verdict(verdict.state, verdict.why, submit=True, exclude=tuple(sorted(nodes)))
    where = "before the first checkpoint" if facts.committed is None else f"after step {facts.committed}"
    return Verdict(NO_PROGRESS, f"no progress: {len(vain)} jobs ended {where}, the last one: {verdict.why}", fail=True)
