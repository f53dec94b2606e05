"""What planning and looking cost at scale, as JSON: CPU seconds and peak memory of 10,000 cells, none of them begun,
and of 2,000 finished runs; and the ratio of each to a fixed amount of work, which a busy machine slows alike.

    make bench-plan
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from scaling import files, record, schema
from scaling.config.reading import dump
from sweeps.cluster import Cluster
from sweeps.plan import make_plan
from sweeps.printed import show_plan
from sweeps.status import run_status
from sweeps.study import load_study

CELLS, FINISHED, STEPS = 10_000, 2_000, 60
STUDY = """
study: scale
base: {stop: {steps: 60}}
blocks: [{axes: {model: [us, xs, s, m], seed: [%s], data.reuse_factor: [1, 2, 4, 8, 16]}}]
"""
CLIENTS = {"squeue": "echo x >>$STUB/squeue.calls", "sacct": "echo x >>$STUB/sacct.calls"}


def yardstick() -> float:
    """CPU seconds of a fixed amount of hashing and JSON."""
    before, row = time.process_time(), {"step": 1, "values": list(range(50))}
    for _ in range(20_000):
        hashlib.sha256(json.dumps(row).encode()).hexdigest()
    return time.process_time() - before


def measured(work) -> dict[str, float]:
    before = time.process_time()
    work()
    seconds = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_seconds": round(seconds, 2), "ratio": round(seconds / yardstick(), 2), "peak_mb": round(peak)}


def finish(run, out: Path) -> None:
    """A finished run of 60 steps, its rows as long as real ones."""
    folder = run.folder(out)
    files.write_json(folder / schema.CONFIG, {"run_id": run.run_id, "config": dump(run.config), "model": {}})
    attempt = record.start_attempt(folder, parent=None, first_step=0)
    numbers = dict.fromkeys(schema.ROW_COLUMNS, 0.123456789)
    timing = dict.fromkeys(schema.TIMING_COLUMNS, 1.5)
    attempt.append(schema.CURVE, [{**numbers, "step": step, "timing": timing} for step in range(STEPS + 1)])
    record.finish(attempt, STEPS, {"steps": STEPS})


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-plan-"))
    try:
        for name, text in CLIENTS.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(stat.S_IRWXU)
        os.environ |= {"PATH": f"{folder}:{os.environ['PATH']}", "STUB": str(folder)}
        study = folder / "scale.yaml"
        study.write_text(STUDY % ", ".join(map(str, range(CELLS // 20))))
        quiet, out = Console(file=io.StringIO()), folder / "out"
        found = {"plan": measured(lambda: show_plan(make_plan(load_study(str(study))), out, quiet))}
        plan = make_plan(load_study(str(study)))
        found["dry_run"] = measured(lambda: Cluster(make_plan(load_study(str(study))), out, print).launch(dry_run=True))
        found["status"] = measured(lambda: [run_status(run, out) for run in make_plan(load_study(str(study))).runs])
        for run in plan.runs[:FINISHED]:
            run.folder(out).mkdir(parents=True)
            finish(run, out)
        found["status_of_finished"] = measured(lambda: [run_status(run, out) for run in plan.runs[:FINISHED]])
        calls = {name: (folder / f"{name}.calls") for name in CLIENTS}
        cluster = Cluster(plan, out, print)
        cluster.journal.note({"submit": "t", "name": "scale-t", "kind": "runs", "time": 1.0, "bases": {},
                              "tasks": [[run.run_id] for run in plan.runs[:4000]], "committed": {}})  # fmt: skip
        found["look"] = measured(cluster.look)
        found["look"] |= {f"{n}_calls": len(p.read_text().split()) if p.exists() else 0 for n, p in calls.items()}
        print(json.dumps({"cells": CELLS, "finished": FINISHED, "python": sys.version.split()[0], **found}, indent=2))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
