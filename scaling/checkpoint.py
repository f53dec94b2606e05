"""Atomic checkpoints inside an attempt's folder, and the way back to the newest one that is whole.

A checkpoint is written aside, fsynced, renamed, and its folder fsynced; the rows that it refers to were fsynced
before it. It holds model, optimizer and ledger, and no generator state: every draw is a function of the step.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scaling import files, record, schema

STATE, MANIFEST = "state.pt", "manifest.json"
KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    attempt: int
    step: int
    sha256: str
    state: dict[str, Any]


def save(attempt: record.Attempt, step: int, state: dict[str, Any]) -> Path:
    """Write `state` as the checkpoint after `step` and drop all but the newest two of the run's lineage.

    Raises StaleAttempt where a newer attempt has taken over.
    """
    attempt.check_newest()
    attempt.sync()
    final = attempt.folder / f"checkpoint-{step:06d}"
    if final.exists():
        return final
    aside = files.beside(final)
    aside.mkdir()
    torch.save(state, aside / STATE)
    digest = files.sha256(aside / STATE)
    attempt.append(schema.SAVES, [{"step": step, "sha256": digest}])
    (aside / MANIFEST).write_text(json.dumps({"step": step, "sha256": digest}))
    files.fsync_folder(aside, [STATE, MANIFEST])
    os.rename(aside, final)
    files.fsync_folder(attempt.folder)
    for _, _, path in _of_lineage(attempt.run, attempt.number)[KEEP:]:
        shutil.rmtree(path)
    return final


def load_newest(run: Path) -> Checkpoint | None:
    """The newest whole checkpoint that the record stands on; a damaged one falls back to the one before.

    Its tensors stay in the file until they are read: the processes of a host share what they read.
    """
    for number, step, path in _of_lineage(run, record.newest_attempt(run)):
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            digest = files.sha256(path / STATE)
        except (OSError, json.JSONDecodeError, UnicodeDecodeError):
            continue
        if manifest == {"step": step, "sha256": digest}:
            state = torch.load(path / STATE, map_location="cpu", weights_only=True, mmap=True)
            return Checkpoint(number, step, digest, state)
    return None


def to_resume(run: Path) -> Checkpoint | None:
    """The checkpoint that a run goes on from, None for a start. Raises InputError for a finished run without one."""
    newest = load_newest(run)
    done = files.read_json(run / schema.DONE)
    if done and (newest is None or newest.step < done["step"]):
        raise schema.InputError(
            f"{run}: done at step {done['step']} and its final checkpoint was not kept (resources.keep_final), "
            f"so it cannot be extended; move the folder away to train it anew."
        )
    return newest


def drop_all(run: Path) -> None:
    """Delete every checkpoint of a run: it can then not be extended."""
    for number in record.attempt_numbers(run):
        for _, path in record.checkpoints(run, number):
            shutil.rmtree(path)


def _of_lineage(run: Path, newest: int | None) -> list[tuple[int, int, Path]]:
    """(attempt, step, folder) of the checkpoints that the record stands on, newest first."""
    checkpoints = [
        (segment.number, step, path)
        for segment in record.lineage(run, newest)
        for step, path in record.checkpoints(run, segment.number)
        if segment.before is None or step < segment.before
    ]
    return sorted(checkpoints, key=lambda item: item[1], reverse=True)
