"""The journal of what was sent to SLURM: `slurm/jobs.jsonl` in the study folder.

It holds the intent (the job's name, the runs in order) before sbatch is called, and the job's id after. Where the id is
missing, the name finds the job: the launcher may die at any moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, final

from scaling import files, schema
from sweeps.reconcile import Submission


@final
class Intent(TypedDict):
    """An array is about to be submitted."""

    submit: str  # token of the array
    name: str  # of its job
    kind: str  # runs | bases
    tasks: list[list[str]]  # run ids by task; a base model is named by a run that starts from it
    committed: dict[str, int | None]  # of kind `runs`: the last committed step of each run
    bases: dict[str, str | None]  # of kind `bases`: the base model of each run
    time: float  # seconds since 1970


@final
class Taken(TypedDict):
    """SLURM took an array."""

    token: str
    job: str  # the array's id


@final
class Refused(TypedDict):
    """SLURM did not take an array."""

    token: str
    refused: str  # its words


@final
class Cancelled(TypedDict):
    """Tasks are about to be cancelled: their end is no loss."""

    cancel: list[str]
    time: float


@final
class Retried(TypedDict):
    """What was submitted before for these runs and base models counts no longer."""

    retry: list[str]
    time: float


Event = Intent | Taken | Refused | Cancelled | Retried


@dataclass
class History:
    """What the journal says of the submissions since the last retry."""

    submissions: dict[str, list[Submission]] = field(default_factory=dict)  # by run or base id, oldest first
    # Of every array that SLURM did not refuse, by its token, those from before a retry included:
    names: dict[str, str] = field(default_factory=dict)  # of its job
    tasks: dict[str, list[list[str]]] = field(default_factory=dict)  # runs, or base models, by task
    ids: dict[str, str] = field(default_factory=dict)  # where sbatch told it


class Journal:
    """The journal of one study folder."""

    def __init__(self, out: Path):
        self.path = out / schema.SLURM / "jobs.jsonl"
        self.lock: int | None = None  # a file descriptor, while this process is the one that submits

    def exists(self) -> bool:
        """Whether anything of the study was ever sent to SLURM."""
        return self.path.exists()

    def events(self) -> list[Event]:
        rows: list[Any] = files.read_rows(self.path)
        return rows

    def note(self, event: Event) -> None:
        """Add an event, and have it on the disk before going on."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files.append_rows(self.path, [dict(event)], sync=True)

    def history(self) -> History:
        """The submissions of every run and base model since its last retry."""
        events = self.events()
        ids = {event["token"]: event["job"] for event in events if "job" in event}
        refused = {event["token"] for event in events if "refused" in event}
        cancelled = {job for event in events if "cancel" in event for job in event["cancel"]}
        history = History(ids=ids)
        for event in events:
            if "retry" in event:
                for key in event["retry"]:
                    history.submissions.pop(key, None)
            elif "submit" in event and event["submit"] not in refused:
                token = event["submit"]
                history.names[token] = event["name"]
                history.tasks[token] = [[event["bases"].get(key) or key for key in keys] for keys in event["tasks"]]
                for task, keys in enumerate(event["tasks"]):
                    for key in keys:
                        array, committed = ids.get(token), event["committed"].get(key)
                        stopped = array is not None and f"{array}_{task}" in cancelled
                        made = Submission(token, task, array, committed, event["time"], stopped)
                        history.submissions.setdefault(event["bases"].get(key) or key, []).append(made)
        return history

    @contextlib.contextmanager
    def submitting(self) -> Iterator[None]:
        """Be the one process that submits or cancels; another one waits.

        sbatch inherits the lock. Where a launcher is killed beside it, the next one waits until SLURM has answered, and
        then finds the job by its name.
        """
        with files.exclusive(self.path.parent / "lock") as file:
            assert file is not None
            self.lock = file.fileno()
            try:
                yield
            finally:
                self.lock = None
