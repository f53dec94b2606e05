"""Faults that a cluster, an MLflow server or a launcher's death bring, one at a time, on a real one-host SLURM.

SLURM_LONG=1 adds the slower ones, and a tracking server that is away for a minute.
"""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import pytest
from studies import DEADLINE, check, mirrored, poll, runs_of, scaling, science, start, status, study

from scaling import files, record, schema

FEW, MORE = 39, 195  # steps; evaluated in any case, as ceil(1.5 ** j). A run of FEW is over in seconds
LONG = os.environ.get("SLURM_LONG") == "1"
long_only = pytest.mark.skipif(not LONG, reason="one of the slower faults: SLURM_LONG=1")


def known_study(work):
    return study(work / "known", "known", FEW, range(3)), work / "known" / "out"


@pytest.fixture(scope="session")
def known(work):
    """Three cells by the local executor, two of them long: {(steps, name of the run): what its record holds}."""
    path, out = known_study(work)
    path.write_text(path.read_text() + f"  - {{name: long, set: {{stop.steps: {MORE}}}, axes: {{seed: [0, 1]}}}}\n")
    scaling("sweep", "launch", path, "--out", out)
    found = {}
    for name, run in runs_of(path, out).items():
        whole = science(run)
        if files.read_json(run / schema.DONE)["step"] == MORE:
            found[MORE, name] = whole
        found[FEW, name] = [[line for line in lines if json.loads(line)["step"] <= FEW] for lines in whole]
    return found


def prepared(work, name, *, base=True, **cells):
    """A study file and its folder, the base model already there unless `base` is off."""
    path, out = study(work / name, name, **{"steps": FEW, "seeds": range(3), **cells}), work / name / "out"
    if base:
        shutil.copytree(work / "known" / "out" / schema.ARTIFACTS, out / schema.ARTIFACTS)
    return path, out


def launch(path, out, *more, expect=0):
    return scaling("sweep", "launch", path, "--out", out, "--executor", "slurm", *more, expect=expect)


def states(path, out):
    return {name: run["state"] for name, run in status(path, out).items()}


def submitted(out):
    return [event for event in files.read_rows(out / schema.SLURM / "jobs.jsonl") if "submit" in event]


# ---------------------------------------------------------------- the cluster


def test_failures_are_told_apart_and_do_not_go_on_for_ever(lab, work, known):
    """A cell whose jobs end at once, one with a Python error, a whole one; then cancel, retry and launch again."""
    path, out = work / "bad" / "bad.yaml", work / "bad" / "out"
    study(work / "bad", "bad", steps=10, seeds=[0])
    text = path.read_text() + '    set: {resources.setup: ["test ! -e broken-node || exit 3"]}\n'
    path.write_text(text + "  - {name: python, axes: {seed: [1]}}\n  - {name: whole, axes: {seed: [2]}}\n")
    path.write_text(path.read_text().replace("test ! -e broken-node", f"test ! -e {work}/broken-node"))
    (work / "broken-node").touch()
    runs = runs_of(path, out)
    python = runs["us-seed1"]
    (python / schema.ATTEMPTS).mkdir(parents=True)
    (python / schema.CONFIG).write_text("{broken")
    shutil.copytree(work / "known" / "out" / schema.ARTIFACTS, out / schema.ARTIFACTS)
    output = scaling("sweep", "launch", path, "--out", out, "--executor", "slurm", "--wait", expect=1)
    assert output.count("runs submitted again") == 2, output
    shown = status(path, out)
    assert {name: run["state"] for name, run in shown.items()} == {
        "us-seed0": "no progress", "us-seed1": "failed", "us-seed2": "done",
    }  # fmt: skip
    assert "3 jobs ended before the first checkpoint" in shown["us-seed0"]["failure"]
    assert "status 3" in shown["us-seed0"]["failure"]
    assert "not valid JSON" in shown["us-seed1"]["failure"]
    assert "submitted 0 runs" in scaling("sweep", "launch", path, "--out", out, "--executor", "slurm", expect=1)
    (work / "broken-node").unlink()
    (python / schema.CONFIG).unlink()
    assert "us-seed0, us-seed1" in scaling("sweep", "retry", path, "--out", out)
    scaling("sweep", "launch", path, "--out", out, "--executor", "slurm", "--wait")


def test_a_node_that_fails_every_job_does_not_fail_the_study(lab, work, known):
    """It is always free, so it takes the base model and most of the cells first; then it is avoided."""
    broken = 'time_minutes: 10, setup: ["test $SLURMD_NODENAME != n1 || exit 3"]'
    path, out = prepared(work, "badnode", base=False, resources=broken)
    output = launch(path, out, "--wait")
    assert "submitted again" in output
    check(path, out, FEW, known)
    scripts = [(out / schema.SLURM / event["submit"] / "submission.sh").read_text() for event in submitted(out)]
    # A run that SLURM dropped with its base has not met the node; it learns to avoid it by its own first failure.
    assert "--exclude" not in scripts[0]
    assert any("--exclude=n1\n" in text for text in scripts[1:])
    nodes = {record.read_attempt(run, 1)["node"] for run in runs_of(path, out).values()}
    assert nodes <= {"n2", "n3"}


def test_without_accounting_the_record_and_squeue_tell(bare_lab, work, known):
    path, out = prepared(work, "bare", seeds=range(2))
    launch(path, out)
    runs = runs_of(path, out)
    poll(lambda: any(record.committed_step(run) for run in runs.values()), "a first checkpoint")
    name, run = next((name, run) for name, run in runs.items() if record.committed_step(run))
    os.kill(record.read_attempt(run, 1)["pid"], signal.SIGKILL)
    shown = poll(lambda: (found := status(path, out))[name]["state"] not in ("running", "ending") and found, "killed")
    assert (shown[name]["state"], shown[name]["why"][:6]) == ("ended", "failed")
    assert {run["state"] for run in shown.values()} <= {"running", "waiting", "ended", "done"}
    bare_lab.settings(MinJobAge=2)  # from here on squeue forgets what has ended, and nobody else knows
    poll(lambda: states(path, out)[name] == "lost", "forgotten", pause=1)
    assert "submitted 1 runs" in launch(path, out, "--wait")
    check(path, out, FEW, known)
    assert record.attempt_numbers(run) == [1, 2]


@long_only
def test_accounting_that_is_down_decides_nothing(lab, work, known):
    path, out = prepared(work, "down", seeds=range(2), resources="checkpoint_steps: 100")
    launch(path, out)
    runs = runs_of(path, out)
    poll(lambda: all(record.newest_attempt(run) for run in runs.values()), "both run")
    lab.stop_accounting()
    killed, other = runs.values()
    os.kill(record.read_attempt(killed, 1)["pid"], signal.SIGKILL)
    poll(lambda: states(path, out)[next(iter(runs))] == "unknown", "the killed one is gone", pause=1)
    assert list(states(path, out).values())[1] in ("running", "ending", "unknown", "done")
    assert "sacct does not answer" in launch(path, out, expect=2)
    poll(lambda: (other / schema.DONE).exists(), "the other one is done")
    assert list(states(path, out).values()) == ["unknown", "done"]
    lab.start_accounting()
    poll(lambda: states(path, out)[next(iter(runs))] == "ended", "the truth, again", pause=1)
    launch(path, out, "--wait")
    check(path, out, FEW, known)


def test_an_array_that_is_refused_half_way_submits_what_fits(lab, work, known):
    path, out = prepared(work, "few", resources="time_minutes: 10, partition: few")
    output = launch(path, out, expect=1)
    assert "submitted 2 runs" in output
    assert "1 runs remain for the next launch: SLURM takes no more now" in output and "QOSMaxSubmit" in output
    assert list(states(path, out).values()).count("missing") == 1
    launch(path, out, "--wait")
    check(path, out, FEW, known)
    assert all(record.attempt_numbers(run) == [1] for run in runs_of(path, out).values())


def test_a_stuck_cell_stops_and_says_so(lab, work, known):
    """Two are killed whenever a start has begun, before it has committed anything; the job of one is requeued."""
    path, out = prepared(work, "stuck", resources="checkpoint_steps: 100, starts: 2")
    launch(path, out)
    killed, requeued, _ = runs = list(runs_of(path, out).values())

    def kill(*wanted, number):
        """SIGKILL an attempt of each run as soon as it has begun; returns their jobs."""
        jobs = {}

        def strike():
            for run in wanted:
                if run not in jobs and (attempt := record.read_attempt(run, number)):
                    os.kill(attempt["pid"], signal.SIGKILL)
                    jobs[run] = attempt["job"]
            return len(jobs) == len(wanted)

        poll(strike, f"attempt {number} has begun", pause=0.01)
        return jobs

    job = kill(killed, requeued, number=1)[requeued]
    for again in (True, False):
        poll(lambda: lab.call(f"squeue -h -t all -j {job} -o %T").split() == ["FAILED"], "it has failed")
        lab.call(f"scontrol requeue {job}")
        if again:
            kill(requeued, number=2)
    poll(lambda: (requeued / schema.FAILED).exists(), "its third start gives up")
    watcher = start("sweep", "status", path, "--out", out, "--watch")
    kill(killed, number=2)
    output, _ = watcher.communicate(timeout=DEADLINE)
    shown = list(status(path, out).values())
    assert [run["state"] for run in shown] == ["no progress", "no progress", "done"], output
    assert "no progress: 2 jobs ended before the first checkpoint" in shown[0]["failure"]
    assert "no progress: 2 starts ended before the first checkpoint" in shown[1]["failure"]
    assert [len(record.attempt_numbers(run)) for run in runs] == [2, 2, 1]


def test_a_base_that_cannot_be_made_blocks_its_runs_by_name(lab, work, known):
    path, out = prepared(work, "blocked", base=False, seeds=range(2))
    base = next((work / "known" / "out" / schema.ARTIFACTS).glob("*/base.json")).parent.name
    in_the_way = out / schema.ARTIFACTS / f"{base}.lock"
    in_the_way.mkdir(parents=True)
    output = launch(path, out, "--wait", expect=1)
    shown = status(path, out)
    assert {run["state"] for run in shown.values()} == {"blocked"}, output
    assert "its base model failed: IsADirectoryError" in shown["us-seed0"]["why"]
    assert "us-seed1: blocked, its base model failed" in output
    assert "submitted 0 runs and 0 base models" in launch(path, out, expect=1)
    in_the_way.rmdir()
    scaling("sweep", "retry", path, "--out", out)
    launch(path, out, "--wait")
    check(path, out, FEW, known)


# ---------------------------------------------------------------- the launcher

WRAPPER = """#!/bin/sh
# The real sbatch, and its launcher dies beside it: as soon as it is called, or as soon as the job is in.
case "$1" in --test-only) exec {sbatch} "$@";; esac
if [ -e {folder}/armed ]; then
  when=$(cat {folder}/armed); rm {folder}/armed
  if [ "$when" = before ]; then
    kill -9 $PPID
    until [ -e {folder}/go ]; do sleep 0.05; done
    exec {sbatch} "$@"
  fi
  answer=$({sbatch} "$@"); kill -9 $PPID; echo "$answer"; exit 0
fi
exec {sbatch} "$@"
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_launcher_killed_beside_sbatch_loses_and_doubles_nothing(lab, work, known, monkeypatch, when):
    path, out = prepared(work, f"killed-{when}", seeds=[0])
    folder = work / f"killed-{when}" / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(WRAPPER.format(sbatch=shutil.which("sbatch"), folder=folder))
    (folder / "sbatch").chmod(0o755)
    (folder / "armed").write_text(when)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    launch(path, out, expect=-signal.SIGKILL)
    assert len(submitted(out)) == 1
    assert not any("job" in event for event in files.read_rows(out / schema.SLURM / "jobs.jsonl"))
    second = start("sweep", "launch", path, "--out", out, "--executor", "slurm")
    if when == "before":  # the orphan has not reached SLURM yet: the second launcher waits for it
        poll(lambda: waits_for_a_lock(second.pid), "the second launcher waits")
        (folder / "go").touch()
    output, _ = second.communicate(timeout=DEADLINE)
    assert "submitted 0 runs and 0 base models" in output
    scaling("sweep", "status", path, "--out", out, "--watch")
    check(path, out, FEW, known)
    assert len(submitted(out)) == 1
    assert all(record.attempt_numbers(run) == [1] for run in runs_of(path, out).values())


def waits_for_a_lock(pid):
    with open("/proc/locks") as file:
        return any("->" in line and line.split()[5] == str(pid) for line in file)


@long_only
def test_a_folder_that_has_moved_is_the_same_study(lab, work, known):
    """And a launcher that was killed after it made the folder of a submission is not in the way of the next one."""
    path, out = prepared(work, "moving", seeds=[0])
    launch(path, out, "--wait")
    check(path, out, FEW, known)
    moved = out.rename(work / "moving" / "moved")
    assert set(states(path, moved).values()) == {"done"}
    assert "submitted 0 runs and 0 base models" in launch(path, moved)
    assert "not" not in scaling("sweep", "verify", path, "--out", moved)
    path.write_text(path.read_text().replace(f"steps: {FEW}", "steps: 58"))
    assert "submitted 1 runs and 0 base models" in launch(path, moved, "--wait")
    (run,) = runs_of(path, moved).values()
    assert record.attempt_numbers(run) == [1, 2]
    assert [row["step"] for row in files.read_rows(run / schema.CURVE)] == list(range(59))
    assert mirrored(out)[run.name] == dict.fromkeys(range(59), 1)  # MLflow knows the study by where it first lay

    (moved / schema.SLURM / "jobs.jsonl").unlink()  # the folder of the first submission is there, its line is not
    shutil.rmtree(run)
    assert "submitted 1 runs" in launch(path, moved)
    assert scaling("sweep", "cancel", path, "--out", moved) == "1 jobs cancelled.\n"


# ---------------------------------------------------------------- before and after


def test_a_canary_goes_first_and_a_partition_is_asked(lab, work, known):
    path, out = study(work / "canary", "canary", steps=4, seeds=range(2)), work / "canary" / "out"
    (work / "broken-canary").touch()
    text = path.read_text()
    path.write_text(text.replace("time_minutes: 10", f'setup: ["test ! -e {work}/broken-canary || exit 3"]'))
    output = scaling("sweep", "launch", path, "--out", out, "--executor", "slurm", "--canary", expect=1)
    assert "failed, nothing is submitted" in output
    assert not (out / schema.SLURM / "jobs.jsonl").exists()
    (work / "broken-canary").unlink()
    path.write_text(text.replace("time_minutes: 10", "runs_per_job: 2"))
    shutil.copytree(work / "known" / "out" / schema.ARTIFACTS, out / schema.ARTIFACTS, dirs_exist_ok=True)
    scaling("sweep", "launch", path, "--out", out, "--executor", "slurm", "--canary", "--wait")
    runs = runs_of(path, out).values()
    jobs = {record.read_attempt(run, 1)["job"] for run in runs}
    assert len(jobs) == 1  # the two runs shared it
    assert all(record.attempt_numbers(run) == [1] for run in runs)
    assert "whole" in scaling("sweep", "verify", path, "--out", out)

    path.write_text(text.replace("time_minutes: 10", "partition: nowhere"))
    output = scaling("sweep", "launch", path, "--out", out / "other", "--executor", "slurm", expect=2)
    assert "partition nowhere would not run these cells" in output and "invalid partition" in output.lower()


def test_cancel_ends_this_studys_jobs_only(lab, work, known):
    path, out = prepared(work, "cancel", steps=MORE, seeds=[0])
    other = lab.call("sbatch --parsable --output=/dev/null --wrap 'sleep 300'").strip()
    scaling("sweep", "launch", path, "--out", out, "--executor", "slurm")
    runs = runs_of(path, out)
    poll(lambda: all(record.committed_step(run) for run in runs.values()), "first checkpoints")
    assert "1 jobs cancelled" in scaling("sweep", "cancel", path, "--out", out)
    poll(lambda: {run["state"] for run in status(path, out).values()} == {"stopped"}, "cancelled", pause=1)
    assert "RUNNING" in lab.call(f"squeue -h -j {other} -o %T")
    lab.call(f"scancel {other}")
    assert "submitted 1 runs" in scaling("sweep", "launch", path, "--out", out, "--executor", "slurm", "--wait")
    check(path, out, MORE, known)


# ---------------------------------------------------------------- MLflow


@pytest.fixture
def server(work, monkeypatch):
    """A real tracking server that can be killed and started again: (database, kill, start)."""
    python = os.environ.get("MLFLOW_SERVER_PYTHON")
    if not python or not os.path.exists(python):
        reason = "a tracking server needs the full MLflow: MLFLOW_SERVER_PYTHON names its Python (make test-slurm)"
        assert os.environ.get("SLURM_TESTS") != "1", reason
        pytest.skip(reason)
    folder = work / "server"
    folder.mkdir()
    port = 28817 + 50 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    uri, running = f"http://127.0.0.1:{port}", []
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONPATH": ""}
    del environment["MLFLOW_TRACKING_URI"]
    command = [python, "-m", "mlflow", "server", "--workers", "1", "--port", str(port), "--host", "127.0.0.1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/store.db", "--artifacts-destination", str(folder)]

    def begin():
        log = (folder / "log").open("a")
        running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
        poll(listens, "the server listens")

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def kill():
        os.killpg(running[-1].pid, signal.SIGKILL)
        running[-1].wait()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    try:
        begin()
        yield str(folder / "store.db"), kill, begin
    finally:
        kill()


def test_jobs_bring_a_server_up_to_date_that_dies_and_comes_back(lab, work, known, server):
    """Nobody watches: each job sends its own curve, whatever the server does meanwhile."""
    database, kill, begin = server
    path, out = prepared(work, "mlflow", steps=MORE, seeds=range(2))
    launch(path, out)
    runs = list(runs_of(path, out).values())

    def sent():
        try:
            return mirrored(out, database)
        except sqlite3.OperationalError:  # its tables are not there yet
            return {}

    poll(lambda: sum(map(len, sent().values())) > 10, "curves arrive while the runs go", pause=0.02)
    assert not all((run / schema.DONE).exists() for run in runs)
    kill()
    before = {run: record.committed_step(run) for run in runs}
    assert sum(map(len, sent().values())) < 2 * (MORE + 1)
    poll(
        lambda: all(record.committed_step(run) != before[run] or (run / schema.DONE).exists() for run in runs), "go on"
    )
    time.sleep(60 if LONG else 0)  # longer than a job that is done waits for it
    begin()
    poll(lambda: set(states(path, out).values()) == {"done"}, "done", pause=0.5)
    poll(lambda: not any(job_is_there(out, event) for event in submitted(out)), "the jobs have ended", pause=0.5)
    if not LONG:
        check(path, out, MORE, known, database)
    caught_up = scaling("sweep", "mlflow", path, "--out", out)
    assert LONG or "mlflow: 0 rows" in caught_up
    check(path, out, MORE, known, database)
    with sqlite3.connect(database) as store:
        assert store.execute("select count(*) from runs where lifecycle_stage = 'active'").fetchone() == (2,)


def job_is_there(out, event):
    name = event["name"]
    return subprocess.run(["squeue", "-h", f"--name={name}"], capture_output=True, text=True, check=True).stdout


# ---------------------------------------------------------------- several processes


def test_a_run_of_several_processes_has_the_losses_of_one_and_resumes(lab, work, known):
    """Two on one node, killed once; in the long count also warned once, and two on two nodes, killed once."""
    shapes = {"together": "processes: 2", "apart": "nodes: 2"} if LONG else {"together": "processes: 2"}
    blows = {("together", 1): "kill", ("together", 2): "warn", ("apart", 1): "kill"}
    blows = blows if LONG else {("together", 1): "kill"}
    found, launchers = {}, {}
    for name, resources in shapes.items():
        path, out = prepared(work, name, seeds=[0], resources=f"warning_seconds: 60, {resources}")
        launchers[name] = start("sweep", "launch", path, "--out", out, "--executor", "slurm", "--wait")
        (found[name],) = runs_of(path, out).values()

    def strike():
        for (name, number), kind in list(blows.items()):
            attempt, row = record.read_attempt(found[name], number), record.last_row(found[name])
            if attempt and row and row["step"] > attempt["first_step"] + 10:
                del blows[name, number]
                if kind == "kill":
                    os.kill(attempt["pid"], signal.SIGKILL)
                else:
                    lab.call(f"scancel --signal=USR2 {attempt['job']}")
        return all(process.poll() is not None for process in launchers.values())

    poll(strike, "all end", pause=0.02)
    assert not blows
    alone = files.read_rows(runs_of(*known_study(work))["us-seed0"] / schema.CURVE)
    for name, process in launchers.items():
        assert process.returncode == 0, process.communicate()[0]
        rows = files.read_rows(found[name] / schema.CURVE)
        assert [row["step"] for row in rows] == list(range(FEW + 1)), name
        for row, expected in zip(rows, alone[: FEW + 1], strict=True):
            for key in ("test_loss", "reward_mean", "entropy", "gradient_norm", "kl"):
                right = expected.get(key)
                assert row.get(key) == (right if right is None else pytest.approx(right, abs=1e-5)), (name, key, row)
    info = {name: [record.read_attempt(run, n) for n in record.attempt_numbers(run)] for name, run in found.items()}
    assert all(attempt["processes"] == 2 for attempts in info.values() for attempt in attempts)
    assert {name: len(attempts) for name, attempts in info.items()} == (
        {"together": 3, "apart": 2} if LONG else {"together": 2}
    )
    assert not LONG or info["together"][1]["reason"] == "interrupted"
