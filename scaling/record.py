"""Write and read a run folder: attempts, lineage, the merged curve. Standard library only.

A run folder holds `attempts/NNNN/`, one for each process that worked on the run, each with rows of its own. An
attempt names its parent and its first step; a reader walks from the newest attempt back and takes of each parent
only the steps before the child's first. So each (run, step) stands once in the record after any number of deaths,
and a process that outlived its successor's start can only write into its own folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from scaling import schema
from scaling.files import (
    Row,
    append_rows,
    dump_row,
    fsync_folder,
    read_json,
    read_rows,
    sha256,
    write_atomic,
    write_json,
)


class Done(TypedDict):
    """DONE: the run is whole up to `step`, by the attempt named. `reached` is what StopConfig.reached takes."""

    attempt: int
    step: int
    stop: dict[str, Any]
    reached: dict[str, float]
    sha256: dict[str, str]
    science: str  # hash of the curve's rows without their timing; those of 0.1 have none


class Segment(NamedTuple):
    """The part of a record that one attempt wrote: steps from `first_step` to below `before` (null = to the end)."""

    number: int
    first_step: int
    before: int | None


def read_done(run: Path) -> Done | None:
    return read_json(run / schema.DONE)


def without_timing(row: Row) -> Row:
    """The reproducible part of a row."""
    return {key: value for key, value in row.items() if key != "timing"}


class StaleAttempt(RuntimeError):
    """A newer attempt exists: this process must stop at once."""


@dataclass
class Attempt:
    """One process's work on a run, and the only folder that it writes rows to."""

    run: Path
    number: int

    @property
    def folder(self) -> Path:
        return attempt_folder(self.run, self.number)

    def append(self, name: str, rows: list[Row]) -> None:
        """Append rows to a file of this attempt and flush them to the operating system."""
        append_rows(self.folder / name, rows)

    def sync(self) -> None:
        """Force every row to disk: call this before a checkpoint that refers to them is written."""
        fsync_folder(self.folder, schema.RECORDS)

    def check_newest(self) -> None:
        """Raise StaleAttempt if somebody has started a newer attempt."""
        newest = max(attempt_numbers(self.run), default=self.number)
        if newest > self.number:
            raise StaleAttempt(f"{self.run}: attempt {self.number} is fenced by attempt {newest}")

    def update(self, **fields: Any) -> None:
        """Add fields (last step, reason, device seconds, ...) to this attempt's attempt.json."""
        write_json(self.folder / schema.ATTEMPT, {**read_attempt(self.run, self.number), **fields})


class Bystander(Attempt):
    """What a process that does not write holds in place of an attempt: its rows go nowhere."""

    def append(self, name: str, rows: list[Row]) -> None: ...

    def sync(self) -> None: ...

    def check_newest(self) -> None: ...

    def update(self, **fields: Any) -> None: ...


def attempt_folder(run: Path, number: int) -> Path:
    return run / schema.ATTEMPTS / f"{number:04d}"


def attempt_numbers(run: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(run / schema.ATTEMPTS) if name.isdigit())
    except FileNotFoundError:
        return []


def newest_attempt(run: Path) -> int | None:
    """The newest attempt that has begun, that is, whose attempt.json is there."""
    return max((number for number in attempt_numbers(run) if read_attempt(run, number)), default=None)


def read_attempt(run: Path, number: int) -> dict[str, Any]:
    """attempt.json of one attempt; empty where the process died before it was written."""
    return read_json(attempt_folder(run, number) / schema.ATTEMPT) or {}


def claim_attempt(run: Path) -> int:
    """Create the folder of the next attempt exclusively: from now on every older process is fenced.

    Claimed before the newest checkpoint is looked up, so that no older process can still replace that checkpoint.
    """
    (run / schema.ATTEMPTS).mkdir(parents=True, exist_ok=True)
    number = max(attempt_numbers(run), default=0) + 1
    while True:
        try:
            attempt_folder(run, number).mkdir()
            return number
        except FileExistsError:
            number += 1


def start_attempt(run: Path, *, parent: int | None, first_step: int, number: int | None = None, **info: Any) -> Attempt:
    """Begin an attempt; its number fences every older process.

    Args:
        run: the run folder.
        parent: the attempt whose rows before `first_step` are kept, or None to start afresh.
        first_step: the first step that this attempt writes.
        number: the attempt that was claimed; by default the next one is claimed here.
        info: more fields for attempt.json (versions, threads, job id, ...).
    """
    number = claim_attempt(run) if number is None else number
    who = {"host": socket.gethostname(), "pid": os.getpid(), "started_ms": int(time.time() * 1000)}
    write_json(
        attempt_folder(run, number) / schema.ATTEMPT, {"parent": parent, "first_step": first_step, **who, **info}
    )
    return Attempt(run, number)


def lineage(run: Path, newest: int | None = None) -> list[Segment]:
    """The attempts whose rows make the record, oldest first; each ends where its child begins.

    Starts at `newest`, by default at the attempt that DONE names, else at the newest one that has begun.
    """
    if newest is None:
        done = read_done(run)
        newest = done["attempt"] if done else newest_attempt(run)
    chain, before = [], None
    while newest is not None:
        attempt = read_attempt(run, newest)
        if not attempt:
            raise schema.InputError(f"{run}: attempt {newest} of the record has no {schema.ATTEMPT}; restore it.")
        chain.append(Segment(newest, attempt["first_step"], before))
        # A grandparent must not win back steps that its child left to a younger attempt.
        before = attempt["first_step"] if before is None else min(before, attempt["first_step"])
        newest = attempt["parent"]
    return chain[::-1]


def read_record(run: Path, name: str = schema.CURVE, newest: int | None = None) -> list[Row]:
    """Rows of one file over the whole lineage, each step from exactly one attempt, in step order."""
    rows = []
    for number, first, before in lineage(run, newest):
        rows += [
            row
            for row in read_rows(attempt_folder(run, number) / name)
            if row["step"] >= first and (before is None or row["step"] < before)
        ]
    return rows


def read_live(run: Path) -> list[Row]:
    """Rows as far as the newest attempt has come, an extension of a finished run included."""
    return read_record(run, newest=newest_attempt(run))


def last_row(run: Path) -> Row | None:
    """The newest whole row of the newest attempt that has one; cheap enough to ask every second."""
    for number in reversed(attempt_numbers(run)):
        try:
            with open(attempt_folder(run, number) / schema.CURVE, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 14)))
                lines = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            continue
        if lines:
            return json.loads(lines[-1])
    return None


def checkpoints(run: Path, number: int) -> list[tuple[int, Path]]:
    """(step, folder) of one attempt's complete checkpoints, newest first."""
    folders = [(int(path.name.split("-")[1]), path) for path in attempt_folder(run, number).glob("checkpoint-*")]
    return sorted(folders, reverse=True)


def committed_step(run: Path) -> int | None:
    """The last step that can no longer be taken back: the newest checkpoint of the lineage, or DONE's step."""
    done = read_done(run)
    steps = [done["step"]] if done else []
    for number, _, before in lineage(run, newest_attempt(run)):
        steps += [step for step, _ in checkpoints(run, number) if before is None or step < before]
    return max(steps, default=None)


def read_committed(run: Path) -> list[Row]:
    """Rows that a mirror may publish: those at or before the newest checkpoint, or all of a finished run."""
    step = committed_step(run)
    return [] if step is None else [row for row in read_live(run) if row["step"] <= step]


def wasted_rows(run: Path) -> list[Row]:
    """Rows that were written and then redone by a later attempt: the work that crashes cost."""
    kept = {number: before for number, _, before in lineage(run, newest_attempt(run))}
    wasted = []
    for number in attempt_numbers(run):
        before = kept.get(number, 0)  # an attempt outside the lineage kept nothing
        if before is not None:
            rows = read_rows(attempt_folder(run, number) / schema.CURVE)
            wasted += [row for row in rows if row["step"] >= before]
    return wasted


# ---------------------------------------------------------------- the end of a run


def finish(attempt: Attempt, step: int, stop: dict[str, Any]) -> None:
    """Write the merged record, then DONE with its hashes; an extension replaces the DONE of the shorter run."""
    attempt.check_newest()
    rows: list[Row] = []
    for name in schema.RECORDS:  # the curve comes last
        rows = read_record(attempt.run, name, attempt.number)
        write_atomic(attempt.run / name, "".join(map(dump_row, rows)))
    last = rows[-1]
    (attempt.run / schema.FAILED).unlink(missing_ok=True)
    reached = {name: last[name] for name in ("prompts_seen", "train_flops")}
    reached["wall_seconds"] = last["timing"]["wall_seconds"]
    files = [attempt.run / name for name in (*schema.RECORDS, schema.CONFIG)]
    hashes = {path.name: sha256(path) for path in files if path.exists()}
    done: Done = {
        "attempt": attempt.number,
        "step": step,
        "stop": stop,
        "reached": reached,
        "sha256": hashes,
        "science": science_hash(rows),
    }
    write_json(attempt.run / schema.DONE, done)


def science_hash(rows: list[Row]) -> str:
    """Hash of what is reproducible in a curve."""
    return hashlib.sha256("".join(dump_row(without_timing(row)) for row in rows).encode()).hexdigest()


def starts_without_progress(run: Path) -> int:
    """How many of the newest attempts began at the step where the next one would: none of them committed a step.

    A failure that `clear_failure` put aside ends the count: what was tried before it does not speak against a retry.
    """
    committed = committed_step(run)
    count, next_step = 0, 0 if committed is None else committed + 1
    for number in reversed(attempt_numbers(run)):
        attempt = read_attempt(run, number)
        if (attempt_folder(run, number) / schema.FAILED).exists() or attempt.get("first_step", next_step) != next_step:
            break
        count += bool(attempt)
    return count


def clear_failure(run: Path) -> None:
    """Put FAILED.json aside, into the newest attempt's folder, so that the run may be tried again."""
    numbers = attempt_numbers(run)
    if numbers:
        os.replace(run / schema.FAILED, attempt_folder(run, numbers[-1]) / schema.FAILED)
    else:
        (run / schema.FAILED).unlink()


Failure = TypedDict("Failure", {"class": str, "message": str, "last_lines": list[str]})
"""FAILED.json: why a run cannot go on, and the last lines of its log. A base model's has the same form."""


def fail(run: Path, error: BaseException, last_lines: list[str]) -> None:
    """Record the error that ended a run for good."""
    write_failure(run / schema.FAILED, type(error).__name__, str(error), last_lines)


def write_failure(path: Path, kind: str, message: str, last_lines: list[str]) -> None:
    failure: Failure = {"class": kind, "message": message, "last_lines": last_lines}
    write_json(path, failure)


def read_failure(path: Path) -> Failure | None:
    """What a FAILED.json says; None where there is none."""
    return read_json(path)


# ---------------------------------------------------------------- damage


def damage(run: Path) -> str | None:
    """Why the record of a run that has begun cannot be relied on, in words; None where nothing speaks against it.

    It reads the merged record and the attempts' rows against the hashes of DONE, so a status may ask it of every run.
    What only training can leave behind is no damage: a torn last line, a folder without attempt.json and rows, a
    checkpoint that is not whole. `scaling.verify` looks at more: prompts, states, what was loaded.
    """
    try:
        return _damage(run)
    except (schema.InputError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        what = schema.one_line(error) if isinstance(error, schema.InputError | OSError) else f"lacks or garbles {error}"
        return what.replace(f"{run}/", "").replace(f"{run}: ", "").removesuffix("; delete or restore the file.")


def _damage(run: Path) -> str | None:
    numbers, done = attempt_numbers(run), read_done(run)
    failed = read_failure(run / schema.FAILED)
    if failed is not None and not {"class", "message"} <= failed.keys():
        return f"{schema.FAILED} does not say what failed"
    if done is None and (run / schema.DONE).exists():
        return f"{schema.DONE} is empty"
    begun = [number for number in numbers if read_attempt(run, number)]
    bare = [n for n in numbers if n not in begun and read_rows(attempt_folder(run, n) / schema.CURVE)]
    if bare:
        return f"attempt {bare[0]} has rows and no {schema.ATTEMPT}"
    if done is None and not begun:
        return None
    if done is not None:
        return _damage_of_done(run, done, begun)
    config = read_json(run / schema.CONFIG)
    if config is None or not {"run_id", "config", "model"} <= config.keys():
        return f"{schema.CONFIG} is missing or not whole"
    return _damage_of_rows(run, max(begun))


def _damage_of_done(run: Path, done: Done, begun: list[int]) -> str | None:
    """What speaks against a finished run: its files against the hashes that DONE keeps."""
    if not (isinstance(done["step"], int) and {"prompts_seen", "train_flops"} <= done["reached"].keys()):
        return f"{schema.DONE} is not whole"
    hashes = done["sha256"]
    if schema.CURVE not in hashes or done["attempt"] not in begun:
        return f"{schema.DONE} names no curve, or an attempt that is not there"
    segments = lineage(run, done["attempt"])
    only = attempt_folder(run, segments[0].number) / schema.CURVE
    if len(segments) > 1 or not only.exists() or sha256(only) != hashes[schema.CURVE]:
        rows = read_record(run, newest=done["attempt"])
        written = hashlib.sha256("".join(map(dump_row, rows)).encode()).hexdigest()
        if written != hashes[schema.CURVE] and science_hash(rows) != done.get("science"):
            return f"{schema.CURVE} of the attempts has changed since the run was done{_rows_of(rows, done)}"
    if max(begun) > done["attempt"]:  # it is being extended, and the merged files may already be the longer ones
        return _damage_of_rows(run, max(begun))
    extending = attempt_numbers(run)[-1] > done["attempt"]  # claimed: its config may already be there
    for name, digest in hashes.items():
        if name == schema.CONFIG and extending:
            continue
        if not (run / name).exists():
            return f"{name} is missing"
        if sha256(run / name) == digest:
            continue
        rows = read_rows(run / name) if name == schema.CURVE else []
        if name != schema.CURVE or science_hash(rows) != done.get("science"):
            return f"{name} has changed since the run was done{_rows_of(rows, done)}"
    return None


def _rows_of(rows: list[Row], done: Done) -> str:
    return "" if not rows or len(rows) == done["step"] + 1 else f" ({len(rows)} of {done['step'] + 1} rows)"


def _damage_of_rows(run: Path, newest: int) -> str | None:
    """What speaks against the rows so far: a step that is missing, or one before a checkpoint that was saved."""
    committed = committed_step(run)  # first: the run may be going on
    steps = [row["step"] for row in read_record(run, newest=newest)]
    missing = next((want for want, step in enumerate(steps) if step != want), None)
    if missing is not None:
        return f"{schema.CURVE} of the attempts lacks step {missing}"
    if committed is not None and (not steps or steps[-1] < committed):
        return f"{schema.CURVE} of the attempts ends at step {steps[-1] if steps else None}, saved was {committed}"
    return None
