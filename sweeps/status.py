"""Where the runs of a study stand: a pure function of the study folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scaling import files, record, schema
from scaling.config import checks
from scaling.schema import InputError
from sweeps.plan import Plan, PlannedRun
from sweeps.reconcile import DAMAGED, DONE, FAILED, RUNNING, STOPPED, WAITING, Verdict

CPU_SECONDS = re.compile(rb'"cpu_seconds":([^,}]+)')
FAILURES = re.compile(rb'"verifier_failures":(\d+)')
RATE_ROWS = 10  # the newest ones, over which the speed of a run is measured


def run_state(run: PlannedRun, study: Path) -> str:
    """done / failed / running / stopped / waiting / damaged: a pure function of the run folder."""
    folder = run.folder(study)
    if not os.path.isdir(folder):  # as most are before a launch
        return WAITING
    return DAMAGED if record.damage(folder) else _state(run, folder)


def _state(run: PlannedRun, folder: Path) -> str:
    """The state of a run that is not damaged."""
    if checks.is_done(folder, run.config.stop):
        return DONE
    if (folder / "lock").exists():
        with files.exclusive(folder / "lock", wait=False) as free:
            if not free:
                return RUNNING
    if (folder / schema.FAILED).exists():
        return FAILED
    return STOPPED if record.newest_attempt(folder) else WAITING


def counts(states: list[str]) -> str:
    """`9 done, 1 failed, 2 waiting`."""
    return ", ".join(f"{count} {state}" for state, count in Counter(states).items())


@dataclass(frozen=True)
class RunStatus:
    run_id: str
    name: str
    state: str  # see sweeps/reconcile.py
    step: int | None
    stop: dict[str, float]  # its limits, by name
    test_loss: float | None  # of the newest evaluation
    cpu_seconds: float  # of every attempt, work that was redone included
    attempts: int
    redone_steps: int
    failure: str | None
    log: str
    why: str = ""  # what SLURM says: its reason, requeued n times, ...
    steps_per_minute: float | None = None  # over the newest rows, while it runs
    minutes_left: float | None = None
    verifier_failures: int = 0  # answers that were graded wrong because their verifier failed

    def document(self) -> dict[str, Any]:
        return asdict(self)


def run_status(run: PlannedRun, study: Path, verdict: Verdict | None = None) -> RunStatus:
    """Read one run folder; `verdict` is what reconciliation with SLURM says of the run."""
    folder = run.folder(study)
    if not os.path.isdir(folder):
        state, why = (verdict.state, verdict.why) if verdict else (WAITING, "")
        stop = run.config.stop.model_dump(exclude_none=True, exclude={"also_evaluate"})
        return RunStatus(run.run_id, run.name, state, None, stop, None, 0.0, 0, 0, None, str(folder / schema.LOG), why)
    damage = record.damage(folder)
    if damage:  # nothing of it is read
        stop = run.config.stop.model_dump(exclude_none=True, exclude={"also_evaluate"})
        attempts, log = len(record.attempt_numbers(folder)), str(folder / schema.LOG)
        return RunStatus(run.run_id, run.name, DAMAGED, None, stop, None, 0.0, attempts, 0, None, log, damage)
    state = verdict.state if verdict else _state(run, folder)
    whole = _summary(folder) if state != RUNNING else None
    if whole is None:
        rows, redone = record.read_live(folder), record.wasted_rows(folder)
        losses = [row["test_loss"] for row in rows if row.get("test_loss") is not None]
        seconds = sum(row["timing"]["cpu_seconds"] for row in rows + redone)
        step, loss = (rows[-1]["step"] if rows else None), (losses[-1] if losses else None)
        failures = int(sum(row.get("verifier_failures") or 0 for row in rows))
    else:
        rows, redone = [], []
        step, loss, seconds, failures = whole
    rate = _rate(rows[-RATE_ROWS:]) if state == RUNNING else None
    steps = run.config.stop.steps
    failed = record.read_failure(folder / schema.FAILED)
    return RunStatus(
        run_id=run.run_id,
        name=run.name,
        state=state,
        step=step,
        stop=run.config.stop.model_dump(exclude_none=True, exclude={"also_evaluate"}),
        test_loss=loss,
        cpu_seconds=round(seconds, 2),
        attempts=len(record.attempt_numbers(folder)),
        redone_steps=len(redone),
        failure=f"{failed['class']}: {failed['message']}" if failed else None,
        log=str(folder / schema.LOG),
        why=verdict.why if verdict else "",
        steps_per_minute=rate,
        minutes_left=(steps - rows[-1]["step"]) / rate if rate and steps else None,
        verifier_failures=failures,
    )


def failed_verdicts(runs: list[RunStatus]) -> str:
    """A warning where answers were graded wrong because their verifier failed; empty where none was."""
    failed = {run.name: run.verifier_failures for run in runs if run.verifier_failures}
    if not failed:
        return ""
    worst = max(failed, key=lambda name: failed[name])
    return (
        f"warning: the verifier failed on {sum(failed.values())} answers in {len(failed)} of {len(runs)} runs, most of "
        f"them in {worst} ({failed[worst]}); each was graded wrong."
    )


def _summary(run: Path) -> tuple[int, float | None, float, int] | None:
    """(last step, newest test loss, CPU seconds, verifier failures) of a run that one attempt alone has written,
    without parsing its rows.

    None where there are no rows or more attempts.
    """
    numbers = record.attempt_numbers(run)
    path = record.attempt_folder(run, numbers[0]) / schema.CURVE if len(numbers) == 1 else None
    lines = path.read_bytes().split(b"\n")[:-1] if path is not None and path.exists() else []
    if not lines:
        return None
    evaluated = (line for line in reversed(lines) if re.search(rb'"test_loss":[^n]', line))
    loss = next((json.loads(line)["test_loss"] for line in evaluated), None)
    seconds = sum(float(number) for line in lines for number in CPU_SECONDS.findall(line))
    failures = sum(int(number) for line in lines for number in FAILURES.findall(line))
    return json.loads(lines[-1])["step"], loss, seconds, failures


def shortfall(run: PlannedRun, study: Path) -> list[str]:
    """What a whole run lacks of the study's stop, in words; empty where it reaches it."""
    done, stop = record.read_done(run.folder(study)), run.config.stop
    if done is None or stop.reached(step=done["step"], **done["reached"]):
        return []
    steps = f"{stop.steps - done['step']} steps short of the study" if stop.steps else "short of the study's stop"
    return [f"whole, but {steps}"]


def base_statuses(plan: Plan, verdicts: dict[str, Verdict], jobs: dict[str, str]) -> list[dict[str, str]]:
    """The base models of a study on SLURM: id, name, state, why, and the job that makes it."""
    configs = plan.bases()
    return [
        {
            "base_id": base,
            "name": f"{configs[base].model.size}-seed{configs[base].base_seed}",
            "state": verdict.state,
            "why": verdict.why,
            "job": jobs.get(base, ""),
        }
        for base, verdict in verdicts.items()
    ]


def _rate(rows: list[files.Row]) -> float | None:
    """Steps a minute by the clock of the run itself, which does not count the time between two attempts."""
    if len(rows) < 2:
        return None
    seconds = rows[-1]["timing"]["wall_seconds"] - rows[0]["timing"]["wall_seconds"]
    return 60 * (rows[-1]["step"] - rows[0]["step"]) / seconds if seconds > 0 else None


def cpu_seconds(plan: Plan, study: Path) -> str:
    """What the study has cost so far, in words: CPU seconds of runs and bases, those of start-up apart."""
    runs = sum(run_status(run, study).cpu_seconds for run in plan.runs)
    made: list[float] = []
    for base in plan.bases():
        with contextlib.suppress(InputError, KeyError, TypeError):  # whoever loads it will say what is wrong
            made.append(files.read_json(study / schema.ARTIFACTS / base / "base.json")["timing"]["cpu_seconds"])
    return f"{runs:.0f} CPU s in runs, {sum(made):.0f} in {len(made)} base models"
