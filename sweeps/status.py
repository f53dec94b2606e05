"""Where the runs of a study stand: a pure function of the study folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scaling import record, schema
from sweeps.plan import FAILED, Plan, PlannedRun, run_state


@dataclass(frozen=True)
class RunStatus:
    run_id: str
    name: str
    state: str  # done, running, failed, stopped (resumes at the next launch), waiting
    step: int | None
    stop: dict[str, Any]
    test_loss: float | None  # of the newest evaluation
    cpu_seconds: float  # of every attempt, work that was redone included
    attempts: int
    redone_steps: int
    failure: str | None
    log: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


def run_status(run: PlannedRun, study: Path) -> RunStatus:
    """Read one run folder."""
    folder = study / schema.RUNS / run.run_id
    rows, redone = record.read_live(folder), record.wasted_rows(folder)
    losses = [row["test_loss"] for row in rows if row.get("test_loss") is not None]
    state = run_state(folder, run.config.stop)
    failed = record.read_json(folder / schema.FAILED) if state == FAILED else None
    return RunStatus(
        run_id=run.run_id,
        name=run.name,
        state=state,
        step=rows[-1]["step"] if rows else None,
        stop=run.config.stop.model_dump(exclude_none=True, exclude={"also_evaluate"}),
        test_loss=losses[-1] if losses else None,
        cpu_seconds=round(sum(row["timing"]["cpu_seconds"] for row in rows + redone), 2),
        attempts=len(record.attempt_numbers(folder)),
        redone_steps=len(redone),
        failure=f"{failed['class']}: {failed['message']}" if failed else None,
        log=str(folder / schema.LOG),
    )


def cpu_seconds(plan: Plan, study: Path) -> str:
    """What the study has cost so far, in words: CPU seconds of runs and bases, those of start-up apart."""
    runs = sum(run_status(run, study).cpu_seconds for run in plan.runs)
    bases = [record.read_json(study / schema.ARTIFACTS / base / "base.json") for base in plan.bases()]
    made = [base["timing"]["cpu_seconds"] for base in bases if base]
    return f"{runs:.0f} CPU s in runs, {sum(made):.0f} in {len(made)} base models"
