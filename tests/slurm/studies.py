"""Small studies for the tests of this folder, launched through the real command line, and what must be true of them."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from scaling import files, record, schema
from sweeps.plan import make_plan
from sweeps.study import load_study

DEADLINE = 600.0
STEPS = 87  # evaluated in any case, ceil(1.5 ** j): a short run is the first part of a long one
NORMAL = "time_minutes: 10, warning_seconds: 60"
STUDY = """
study: {name}
base:
  model: {{size: us, base_seed: 0, base: {{iterations: 250, leaping_iterations: 30, batch_size: 32}}}}
  data: {{prompts_per_step: 4}}
  rollout: {{group_size: 4}}
  evaluation: {{problems: 24}}
  stop: {{steps: {steps}}}
  resources: {{export_model: false, {resources}}}
blocks:
  - axes: {{seed: {seeds}}}
"""


def study(folder: Path, name="trials", steps=STEPS, seeds=range(6), resources=NORMAL):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(STUDY.format(name=name, steps=steps, seeds=list(seeds), resources=resources))
    return path


STARTED: list[subprocess.Popen] = []


def start(*arguments) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", "from scaling.cli import main; main()", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    STARTED.append(process)
    return process


def scaling(*arguments, expect=0) -> str:
    process = start(*arguments)
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == expect, output
    return output


def poll(condition, why="", pause=0.1):
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"deadline: {why}"
        time.sleep(pause)
    return found


def runs_of(path, out) -> dict[str, Path]:
    return {run.name: out / schema.RUNS / run.run_id for run in make_plan(load_study(path)).runs}


def science(run: Path):
    """Everything that the record holds, the clock apart, as the bytes of its lines."""
    return [[files.dump_row(record.without_timing(row)) for row in files.read_rows(run / n)] for n in schema.RECORDS]


def step_of(run: Path) -> int:
    row = record.last_row(run)
    return -1 if row is None else row["step"]


def status(path, out) -> dict[str, dict]:
    found = json.loads(scaling("sweep", "status", path, "--out", out, "--json"))
    return {run["name"]: run for run in found["runs"]}


def mirrored(out: Path, database: str | None = None) -> dict[str, Counter]:
    """How often MLflow has each step of each run of one study folder: {run id: {step: times}}."""
    database = database or os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")
    with sqlite3.connect(database) as store:
        rows = store.execute(
            """select r.value, m.step from metrics m
               join tags r on r.run_uuid = m.run_uuid and r.key = 'run_id'
               join tags f on f.run_uuid = m.run_uuid and f.key = 'study_folder'
               join runs on runs.run_uuid = m.run_uuid and runs.lifecycle_stage = 'active'
               where m.key = 'compute/prompts_seen' and f.value = ?""",
            [str(out.resolve())],
        ).fetchall()
    counts: dict[str, Counter] = {}
    for run_id, step in rows:
        counts.setdefault(run_id, Counter())[step] += 1
    return counts


def check(path, out, steps, reference, database=None):
    """Every run is done; record and MLflow have each step exactly once, with the reference's values."""
    sent = mirrored(out, database)
    for name, run in runs_of(path, out).items():
        assert files.read_json(run / schema.DONE)["step"] == steps, name
        assert [row["step"] for row in files.read_rows(run / schema.CURVE)] == list(range(steps + 1)), name
        assert science(run) == reference[steps, name], name
        assert sent[run.name] == dict.fromkeys(range(steps + 1), 1), name
