"""SLURM's clients sbatch, squeue, sacct, scontrol and scancel: none is relied on to answer, or to say the truth.

A busy controller takes a job and answers "Socket timed out"; a client hangs; one call in three fails. So every question
has a time limit and a few tries, and what is not answered is None: unknown, which decides nothing. Of sbatch only words
that are known to be refusals count as such.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime

from scaling.schema import InputError
from sweeps.reconcile import Account, QueueEntry

QUEUE_FORMAT = "ArrayJobID:|,ArrayTaskID:|,State:|,Reason:|,RestartCnt:|,NodeList:|,Name:"
ACCOUNT_FORMAT = "jobid,state,exitcode,end,nodelist,jobname"
TERMINAL = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
)  # fmt: skip
QUESTION_LIMIT, TRY_LIMIT = 25.0, 12.0  # seconds for the answer to a question in all, and for one try
TRIES, PAUSE = 5, 0.25  # the pause doubles
SUBMIT_LIMIT = 150.0  # sbatch itself tries for two minutes where the queue is full
MOST_NAMES = 100_000  # characters; one argument of a command has at most 128 KiB
# What the calling shell has set for the clients would change our jobs and our answers: SBATCH_* beats the batch file.
FOREIGN = ("SBATCH_", "SLURM_", "SUBMITIT_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_")

# What sbatch says where the answer is not known: it may have been taken. This stands above the other two.
UNKNOWN = re.compile(r"timed out|unable to contact|connection|zero bytes|communication|transport|interrupted", re.I)
# What no waiting changes. `QOSMaxWallDurationPerJobLimit` is of one job, `QOSMaxSubmitJobPerUserLimit` of all of them.
NEVER = re.compile(
    r"""invalid\ (partition|account|qos|generic|feature|wckey|license|node\ name|user|group|trackable|directive|
                  argument|cluster|burst|numeric|--|cpu|memory|gres|constraint|signal|job\ name|option)
    | time\ limit\ is\ invalid | configuration\ is\ not\ available | requested\ reservation\ is\ invalid
    | (node\ count|memory)\ specification | memory\ required | more\ processors\ requested | can\ not\ be\ satisfied
    | access\ denied | access/permission | permission\ denied | not\ permitted | no\ (default\ )?partition
    | (unrecognized|unknown|unsupported|ambiguous)\ option | is\ ambiguous | requires\ an\ argument | not\ in\ this\ qos
    | unable\ to\ open\ file | dos\ line\ breaks | pathname .* too\ long
    | (QOS|Assoc|Partition)(?!Grp|MaxSubmit)\w*(PerJob|MaxWall|Time|Node|Min(?!utes)|NotAllowed)""",
    re.I | re.X,
)
# What another time may take: the queue, or our share of it, is full, or the array is larger than one may be.
FULL = re.compile(
    r"(QOS|Assoc)(Max|Grp)\w+|job submit limit|violates accounting|too many|array specification|table .*full|"
    r"max\w*jobs|maximum number of jobs|temporarily un(able|available)|rate limit exceeded|not available now",
    re.I,
)


@dataclass(frozen=True)
class Answer:
    """What one call of a client came to."""

    status: int | None  # None: no answer within the time
    output: str
    words: str  # its errors, on one line


def refusal(words: str) -> str:
    """What sbatch means by its error: `never`, `full`, or `unknown` where it may have taken the job after all."""
    if UNKNOWN.search(words):
        return "unknown"
    return "never" if NEVER.search(words) else "full" if FULL.search(words) else "unknown"


def environment() -> dict[str, str]:
    """Of this process's environment what clients and jobs may see: nothing of another job's, or of a shell's habits."""
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN) or name.startswith("SLURM_CONF")
    }
    return {**mine, "SLURM_TIME_FORMAT": "standard"}


def call(command: list[str], limit: float, *, text: str | None = None, keep: tuple[int, ...] = ()) -> Answer:
    """Run a client once; `text` is its input, `keep` descriptors that it inherits.

    One that hangs is ended with all that it started. Raises InputError where there is no such program.
    """
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL if text is None else subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace", env=environment(), pass_fds=keep,
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise InputError(f"{command[0]} is not on the PATH: log in to the cluster, or use --executor local.") from None
    except OSError as error:
        return Answer(None, "", f"{command[0]} cannot be started: {error.strerror}")
    try:
        output, errors = process.communicate(text, timeout=limit)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return Answer(None, "", f"{command[0]} has not answered in {limit:.0f} seconds")
    return Answer(process.returncode, output, " ".join(errors.split()))


def ask(command: list[str], *, text: str | None = None) -> Answer:
    """The answer of a client that may be asked again: the first without an error, else the last one."""
    until, pause = time.monotonic() + QUESTION_LIMIT, PAUSE
    answer = call(command, TRY_LIMIT, text=text)
    for _ in range(TRIES - 1):
        if answer.status == 0 or time.monotonic() + pause + 1 > until:
            break
        time.sleep(pause)
        answer = call(command, min(TRY_LIMIT, until - time.monotonic()), text=text)
        pause *= 2
    return answer


# ---------------------------------------------------------------- squeue and sacct


def queue(names: list[str]) -> list[QueueEntry] | None:
    """Every task of the jobs with these names that SLURM still remembers; None where it does not answer."""
    if not names:
        return []
    listed = ",".join(names)
    only = [f"--name={listed}"] if len(listed) < MOST_NAMES else []
    answer = ask(["squeue", "-h", "-r", "-t", "all", *only, "-O", QUEUE_FORMAT])
    try:
        entries = parse_queue(answer.output) if answer.status == 0 else None
    except ValueError:  # half an answer is none
        return None
    wanted = set(names)
    return entries if entries is None or only else [entry for entry in entries if entry.name in wanted]


def parse_queue(text: str) -> list[QueueEntry]:
    """squeue's lines. An array that still stands in one line, `3-5%2`, is taken apart. Raises ValueError."""
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


def accounts(jobs: list[str], names: list[str] | None = None, since: float = 0.0) -> dict[str, list[Account]] | None:
    """Every start of every task of these arrays, or of the jobs with these names; None where sacct does not answer.

    Args:
        since: seconds since 1970; jobs that are asked for by name and ended before it are left out.
    """
    if names:
        start = datetime.fromtimestamp(max(since, 0.0)).strftime("%Y-%m-%dT%H:%M:%S")
        which = [f"--name={','.join(names)}", "-S", start]
    elif jobs:
        which = ["-j", ",".join(jobs)]
    else:
        return {}
    answer = ask(["sacct", "-n", "-P", "-X", "-D", *which, "-o", ACCOUNT_FORMAT])
    try:
        return parse_accounts(answer.output) if answer.status == 0 else None
    except ValueError:
        return None


def parse_accounts(text: str) -> dict[str, list[Account]]:
    """sacct's lines by task; those of tasks that have not started, `12_[3-5]`, are left out. Raises ValueError."""
    accounts: dict[str, list[Account]] = {}
    for line in text.splitlines():
        if line.strip():
            job, state, code, ended, node, *name = line.split("|", 5)
            status, _, number = code.partition(":")
            when = datetime.fromisoformat(ended).timestamp() if re.match(r"\d", ended) else None
            first = (state.split() or [""])[0]
            account = Account(job, first, int(status or 0), int(number or 0), when, node, *name)
            if "[" not in job:
                accounts.setdefault(job, []).append(account)
    return accounts


# ---------------------------------------------------------------- scontrol and scancel

_settings: dict[str, str] = {}


def setting(name: str) -> str | None:
    """A line of the cluster's configuration, read once; None where it has none, or where scontrol does not answer."""
    if not _settings:
        answer = ask(["scontrol", "show", "config"])
        if answer.status == 0:
            _settings.update(re.findall(r"^(\w+)\s*=[ \t]*(.*?)[ \t]*$", answer.output, re.M))
    return _settings.get(name)


def has_accounting() -> bool:
    """Whether the cluster keeps records, as far as is known; a record that does not answer now is another matter."""
    kind = setting("AccountingStorageType")
    return not _settings or kind not in (None, "accounting_storage/none", "(null)")


def max_array_size() -> int:
    """Tasks that one array can have: indices stay below MaxArraySize."""
    return int(setting("MaxArraySize") or 1001)


@functools.cache
def time_limit(partition: str | None) -> float | None:
    """Minutes that a job may ask of a partition, of the default one for None; None: no limit, or not known."""
    answer = ask(["scontrol", "-o", "show", "partition", *([partition] if partition else [])])
    lines = answer.output.splitlines() if answer.status == 0 else []
    line = next((text for text in lines if partition or " Default=YES " in text), "")
    match = re.search(r"\bMaxTime=(?:(\d+)-)?(\d+):(\d+):(\d+)", line)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (24 * days + hours) * 60 + minutes + seconds / 60


def cancel(arrays: list[str]) -> None:
    """scancel these arrays, or tasks. Raises InputError where SLURM does not do it."""
    for start in range(0, len(arrays), 500):
        answer = ask(["scancel", *arrays[start : start + 500]])
        ended = re.search(r"invalid job id|already comple", answer.words, re.I)
        if answer.status != 0 and not ended:
            raise InputError(f"scancel did not end the jobs, so try again: {answer.words or 'no answer'}")
