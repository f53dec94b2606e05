"""What SLURM or a file says wrongly, on a real one-host SLURM with stand-ins for a client or a container before it."""

import os
import shutil
import time

import pytest
from studies import poll, runs_of, scaling, status, study

from scaling import files, record, schema

HELD = "time_minutes: 10, sbatch: {hold: true}"  # jobs that only wait


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a script before a program on the PATH."""

    def put(name, text):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/bash\n" + text.replace("REAL", shutil.which(name) or ""))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH'].removeprefix(f'{path.parent}:')}")
        return path

    return put


def launch(path, out, *more, expect=0):
    return scaling("sweep", "launch", path, "--out", out, "--executor", "slurm", *more, expect=expect)


def named(lab, name):
    """Jobs of a study in the queue, by the real squeue."""
    lines = lab.call("/usr/bin/squeue -h -r -O ArrayJobID:|,Name:").splitlines()
    return [line.split("|")[0].strip() for line in lines if line.split("|")[1].startswith(f"{name}-")]


def test_a_lying_sbatch_doubles_nothing_and_cancel_leaves_no_job(lab, work, stand_in):
    path, out = study(work / "lying", "lying", resources=HELD, seeds=range(2)), work / "lying" / "out"
    lie = 'case "$1" in --test-only) exec REAL "$@";; esac\n'
    lie += 'REAL "$@" >/dev/null; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1\n'
    stand_in("sbatch", lie)
    assert "submitted 2 runs and 1 base models" in launch(path, out)
    assert "submitted 0 runs and 0 base models" in launch(path, out)
    assert len(named(lab, "lying")) == 3  # two runs and their base, once each
    path.write_text(path.read_text().replace("seed: [0, 1]", "seed: [1]"))
    told = scaling("sweep", "status", path, "--out", out)
    assert "1 jobs in the queue are of cells that the study no longer has (us-seed0)" in told
    assert "base us-seed0" in told
    assert scaling("sweep", "cancel", path, "--out", out) == "3 jobs cancelled.\n"
    poll(lambda: not named(lab, "lying"), "no job is left")


def test_a_hanging_squeue_gives_unknown_and_a_flaky_one_the_right_answer(lab, work, stand_in):
    path, out = study(work / "hanging", "hanging", resources=HELD, seeds=range(2)), work / "hanging" / "out"
    count = work / "hanging" / "calls"
    count.parent.mkdir(exist_ok=True)
    flaky = f'echo >>{count}; [ $(($(wc -l <{count}) % 3)) = 1 ] && {{ echo "Socket timed out" >&2; exit 1; }}\n'
    for client in ("squeue", "sacct", "scontrol", "scancel", "sbatch"):
        stand_in(client, flaky + 'exec REAL "$@"\n')
    launch(path, out)
    for _ in range(2):
        assert {run["state"] for run in status(path, out).values()} == {"waiting"}
    assert len(named(lab, "hanging")) == 3
    calm = stand_in("squeue", "sleep 600\n")
    before = time.monotonic()
    assert {run["state"] for run in status(path, out).values()} == {"unknown"}
    assert time.monotonic() - before < 60  # 25 s for the answer, and the start of a program on a busy machine
    calm.unlink()
    scaling("sweep", "cancel", path, "--out", out)
    poll(lambda: not named(lab, "hanging"), "no job is left")


# As `apptainer exec`: its own PATH, without SLURM's clients, and the program that it runs takes its place.
APPTAINER = """shift
while [ "$1" != /x.sif ]; do [ "$1" = --env ] && export "$2"; shift; done
shift; export PATH=/nowhere; exec "$@"
"""


def test_in_a_container_the_batch_script_asks_for_the_requeue(lab, work, stand_in):
    """And then one file of a finished run is damaged: it is named, and put back."""
    import sys

    box = f"python: {sys.executable}, container: {{kind: apptainer, image: /x.sif}}, time_minutes: 10, threads: 1"
    path = study(work / "box", "box", resources=box, seeds=[0], steps=58)
    out = work / "box" / "out"
    stand_in("apptainer", APPTAINER)
    launch(path, out)
    (run,) = runs_of(path, out).values()
    poll(lambda: record.committed_step(run), "a first checkpoint")
    lab.try_call(f"scancel --signal=USR2 {record.read_attempt(run, 1)['job']}")
    poll(lambda: (run / schema.DONE).exists(), "done after the requeue")
    assert [record.read_attempt(run, n)["reason"] for n in record.attempt_numbers(run)] == ["interrupted", "done"]
    events = files.read_rows(out / schema.SLURM / "jobs.jsonl")
    assert len([event for event in events if "submit" in event]) == 2  # the base and the run, each once
    for number in (1, 2):
        curve = record.attempt_folder(run, number) / schema.CURVE
        curve.write_text(curve.read_text().splitlines(keepends=True)[0])
    shown = status(path, out)["us-seed0"]
    assert shown["state"] == "damaged" and "has changed since the run was done" in shown["why"]
    assert "submitted 0 runs" in launch(path, out, expect=1)
    assert "put back" in scaling("sweep", "repair", path, "--out", out)
    assert "us-seed0: whole" in scaling("sweep", "verify", path, "--out", out)
