"""Launching studies through the real command line: what survives being killed, and what is told of failures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling import files, record, schema
from scaling.config.reading import dump, parse_config
from sweeps.plan import make_plan
from sweeps.study import load_study

pytestmark = pytest.mark.launch

MINI = """
study: mini
base:
  model: {size: us, base: {iterations: 250, leaping_iterations: 30, batch_size: 32}}
  data: {prompts_per_step: 4}
  rollout: {group_size: 4}
  evaluation: {problems: 24}
  stop: {steps: %d}
  resources: {checkpoint_steps: 5}
  tracking: {mlflow: false}
blocks:
  - axes: {seed: %s}
"""
DEADLINE = 240.0


def write(folder: Path, steps=40, seeds="[0]", extra="") -> Path:
    path = folder / "mini.yaml"
    path.write_text(MINI % (steps, seeds) + extra)
    return path


def start(*arguments, **options) -> subprocess.Popen:
    code = "from scaling.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def scaling(*arguments, expect=0) -> str:
    process = start(*arguments)
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == expect, output
    return output


def launch(study, out, *more, expect=0) -> str:
    return scaling("sweep", "launch", study, "--out", out, *more, expect=expect)


def wait_for(condition, process=None):
    """Poll until `condition()` holds; fails if the launcher ends first or the deadline passes."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "deadline"
        if process is not None and process.poll() is not None:
            pytest.fail(f"the launcher ended: {process.stdout.read()}")
        time.sleep(0.005)


def runs_of(study, out) -> dict[str, Path]:
    return {run.name: out / schema.RUNS / run.run_id for run in make_plan(load_study(study)).runs}


def science(run: Path):
    names = (schema.CURVE, schema.ROLLOUTS, schema.OUTCOMES)
    return [[record.without_timing(row) for row in files.read_rows(run / name)] for name in names]


def step_of(run: Path) -> int:
    row = record.last_row(run)
    return -1 if row is None else row["step"]


def unlocked(path: Path) -> bool:
    with files.exclusive(path, wait=False) as free:
        return free


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The study `mini` with two seeds, launched once with one worker."""
    folder = tmp_path_factory.mktemp("study")
    study = write(folder, seeds="[0, 1]")
    output = launch(study, folder / "out", "--workers", 1)
    return study, folder / "out", output


def test_a_launch_finishes_and_says_so(finished):
    study, out, output = finished
    assert "us-seed0 done: step 40" in output
    assert "base us-seed1 made" in output
    assert "study mini: 2 done" in output
    cells = json.loads((out / schema.CELLS).read_text())
    assert [cell["cell"] for cell in cells["cells"]] == ["us-seed0", "us-seed1"]
    for run in runs_of(study, out).values():
        assert [row["step"] for row in files.read_rows(run / schema.CURVE)] == list(range(41))


def test_a_second_launch_trains_nothing(finished):
    study, out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / schema.RUNS).rglob("*.jsonl")}
    assert "2 runs, 2 done" in launch(study, out)
    assert before == {path: path.stat().st_mtime_ns for path in (out / schema.RUNS).rglob("*.jsonl")}


def test_two_workers_give_the_same_curves_to_the_byte(finished, tmp_path):
    study, out, _ = finished
    launch(study, tmp_path / "out", "--workers", 2)
    for name, run in runs_of(study, tmp_path / "out").items():
        assert science(run) == science(runs_of(study, out)[name])


def test_killed_at_eight_moments_the_record_is_the_same(finished, tmp_path):
    """SIGKILL to launcher (while the base is made, and later) and worker: each step once, each byte the same."""
    study, out = write(tmp_path), tmp_path / "out"
    (run,) = runs_of(study, out).values()
    artifacts = out / schema.ARTIFACTS
    log = next(iter(make_plan(load_study(study)).bases())) + ".log"

    def begun() -> int:  # processes that have begun to make the base
        return (artifacts / log).read_text().count("---") if (artifacts / log).exists() else 0

    moments = [
        ("launcher", lambda: begun() == 1),
        ("launcher", lambda: begun() == 2),
        ("worker", lambda: step_of(run) >= 0),
        ("launcher", lambda: step_of(run) >= 4),
        ("worker", lambda: step_of(run) >= 10),
        ("launcher", lambda: step_of(run) >= 17),
        ("worker", lambda: step_of(run) >= 26),
        ("launcher", lambda: step_of(run) >= 38),
    ]
    process = None
    for victim, reached in moments:
        if process is None:
            process = start("sweep", "launch", study, "--out", out)
        wait_for(reached, process)
        if victim == "launcher":
            process.kill()
            process.communicate()
            process = None
            # Its children die with it: nobody holds a lock any more.
            wait_for(lambda: all(unlocked(path) for path in [*artifacts.glob("*.lock"), *run.glob("lock")]))
        else:
            newest = record.newest_attempt(run)
            assert newest is not None
            os.kill(record.read_attempt(run, newest)["pid"], signal.SIGKILL)
            wait_for(lambda before=newest: (record.newest_attempt(run) or 0) > before, process)
    launch(study, out)
    assert science(run) == science(runs_of(*finished[:2])["us-seed0"])
    assert record.wasted_rows(run)
    assert len(record.attempt_numbers(run)) >= 6


def test_ctrl_c_checkpoints_and_a_second_launch_goes_on(finished, tmp_path):
    study, out = write(tmp_path), tmp_path / "out"
    (run,) = runs_of(study, out).values()
    process = start("sweep", "launch", study, "--out", out)
    wait_for(lambda: step_of(run) >= 7, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the launcher and everything under it
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, output
    assert "everything is resumable" in output
    assert record.wasted_rows(run) == []
    assert record.committed_step(run) == step_of(run)
    launch(study, out)
    assert record.wasted_rows(run) == []
    assert science(run) == science(runs_of(*finished[:2])["us-seed0"])


def test_extending_the_study_continues_the_run(finished, tmp_path):
    out = tmp_path / "out"
    launch(write(tmp_path, steps=6), out)
    (run,) = runs_of(tmp_path / "mini.yaml", out).values()
    assert files.read_json(run / schema.DONE)["step"] == 6
    launch(write(tmp_path, steps=9), out)
    rows, whole = science(run)[0], science(runs_of(*finished[:2])["us-seed0"])[0]
    assert [row["step"] for row in rows] == list(range(10))
    for mine, theirs in zip(rows, whole, strict=False):
        assert (
            mine["reward_mean" if mine["step"] else "test_loss"]
            == theirs["reward_mean" if mine["step"] else "test_loss"]
        )


def test_two_launches_at_once_do_no_work_twice(tmp_path):
    study, out = write(tmp_path, steps=6, seeds="[0, 1]"), tmp_path / "out"
    both = [start("sweep", "launch", study, "--out", out, "--workers", 1) for _ in range(2)]
    outputs = [process.communicate(timeout=DEADLINE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    for run in runs_of(study, out).values():
        assert record.attempt_numbers(run) == [1]
    assert len(list((out / schema.ARTIFACTS).glob("*/base.json"))) == 2


def test_a_failed_run_is_named_while_the_others_go_on(tmp_path):
    study, out = write(tmp_path, steps=4, seeds="[0, 1]"), tmp_path / "out"
    broken, whole = runs_of(study, out).values()
    (broken / schema.ATTEMPTS).mkdir(parents=True)
    (broken / schema.CONFIG).write_text("{broken")
    output = launch(study, out, expect=1)
    assert "us-seed0 FAILED" in output
    assert "not valid JSON" in output
    assert "us-seed1 done: step 4" in output
    assert f"us-seed0: failed, log {broken / schema.LOG}" in output
    assert (whole / schema.DONE).exists()

    status = json.loads(scaling("sweep", "status", study, "--out", out, "--json"))
    assert [run["state"] for run in status["runs"]] == ["failed", "done"]
    assert "left alone" in launch(study, out, expect=1)
    (broken / schema.CONFIG).unlink()
    assert "us-seed0" in scaling("sweep", "retry", study, "--out", out)
    assert "study mini: 2 done" in launch(study, out)


def test_a_run_that_never_gets_anywhere_is_given_up(tmp_path, monkeypatch):
    from rich.console import Console

    from sweeps import launch as launcher
    from sweeps.executors.local import Pool

    plan = make_plan(load_study(write(tmp_path)))
    for base in plan.bases():
        (tmp_path / "out" / schema.ARTIFACTS / base).mkdir(parents=True)
    monkeypatch.setattr(launcher, "run_cell", os.kill)
    monkeypatch.setattr(launcher.reading, "dump", lambda config: 0)  # os.kill(0, ...): the child's own group

    class Dying(Pool):
        def submit(self, job):
            super().submit(type(job)(job.key, os._exit, (130,), job.log))

    status = launcher.launch(plan, tmp_path / "out", 1, Console(quiet=True), lambda slots: Dying(slots, preload=[]))
    assert status == 1
    (run,) = runs_of(tmp_path / "mini.yaml", tmp_path / "out").values()
    assert "no progress: 3 starts ended before its first checkpoint" in files.read_json(run / schema.FAILED)["message"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: q\nbase: {model: xs}\nblocks: [{axes: {data.reuse_facter: [1]}}]", "Did you mean data.reuse_factor?"),
        ("study: q\nstudy: r", "not valid YAML"),
        ("", "the file is empty"),
        ("study: q\nbase: {model: xs, stop: {steps: -3}}", "stop.steps"),
    ],
)
def test_a_bad_study_writes_nothing(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    output = launch(tmp_path / "bad.yaml", tmp_path / "out", expect=2)
    assert message in output
    assert output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_study_is_refused(finished, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("study: other\nbase: {model: xs}\n")
    output = launch(other, finished[1], expect=2)
    assert "holds study 'mini', not 'other'" in output


def test_plan_prints_costs_and_writes_nothing(tmp_path):
    document = json.loads(scaling("sweep", "plan", "quickstart", "--out", tmp_path / "out", "--json"))
    assert len(document["runs"]) == 12
    first = document["runs"][0]
    assert (first["run"], first["state"], first["prompts"]) == ("us-seed0", "waiting", 960)
    # 6 N T with the assumed 30 tokens a rollout.
    assert first["train_flops"] == pytest.approx(6 * 5296 * 960 * 16 * 30)
    assert "Assumed" in document["basis"]
    assert not (tmp_path / "out").exists()


def test_plan_measures_once_runs_are_there(finished, tmp_path):
    study, out, _ = finished
    document = json.loads(scaling("sweep", "plan", study, "--out", out, "--json"))
    assert document["basis"].startswith("Measured")
    assert {run["state"] for run in document["runs"]} == {"done"}
    last = [files.read_rows(run / schema.CURVE)[-1] for run in runs_of(study, out).values()]
    for run, row in zip(document["runs"], last, strict=True):
        assert run["tokens"] == pytest.approx(row["tokens_seen"])
        for part in ("train_flops", "rollout_flops", "update_flops"):
            assert run[part] == pytest.approx(row[part], rel=1e-6), part
    more = write(tmp_path, seeds="[0, 1, 2]")  # a run that is missing: the mean of those of its size
    document = json.loads(scaling("sweep", "plan", more, "--out", out, "--json"))
    mean = sum(row["tokens_seen"] for row in last) / 2
    assert document["runs"][2]["tokens"] == pytest.approx(mean)


def test_logs_and_unknown_names(finished):
    study, out, _ = finished
    assert "done at step 40" in scaling("sweep", "logs", study, "us-seed0", "--out", out)
    assert "Did you mean us-seed1?" in scaling("sweep", "logs", study, "us-seed11", "--out", out, expect=2)
    assert "Did you mean --workers?" in scaling("sweep", "launch", study, "--wrkers", 2, expect=2)
    assert "Did you mean launch?" in scaling("sweep", "lanch", study, expect=2)
    assert "'slrm' is not a known executor" in scaling("sweep", "launch", study, "--executor", "slrm", expect=2)


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ("shard", "lacks model-00002.safetensors of the 2 weight files that its index names; fetch the model again"),
        ("tokenizer", "has no tokenizer (tokenizer.json), and task math reads text"),
        ("data", "there is no file"),
        ("weights", "its weights are not on this machine (looked in"),
    ],
)
def test_what_a_launch_needs_is_looked_for_before_anything_is_written(tmp_path, monkeypatch, lacks, words):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PATH", str(tmp_path / "no-cluster"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    shards = {"a": "model-00001.safetensors", "b": "model-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    for name in shards.values():
        if (lacks, name) != ("shard", "model-00002.safetensors"):
            (folder / name).write_bytes(b"weights")
    if lacks != "tokenizer":
        (folder / "tokenizer.json").write_text("{}")
    if lacks != "data":
        (tmp_path / "train.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}\n')
    model = "{size: qwen2.5-0.5b}" if lacks == "weights" else f"{{path: {folder}}}"
    task = f"{{name: math, train: {tmp_path}/train.jsonl}}"
    path = tmp_path / "real.yaml"
    resources = "{engine: hf, forward: plain}"
    path.write_text(f"study: real\nbase:\n  model: {model}\n  task: {task}\n  resources: {resources}\n")
    for executor in ("local", "slurm"):
        output = launch(path, tmp_path / "out", "--executor", executor, expect=2)
        assert words in output and output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_job_of_a_published_model_waits_for_no_base(tmp_path):
    """As SLURM would start it; its weights are missing here, and that is what it says."""
    (tmp_path / "train.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}\n')
    task = {"name": "math", "train": str(tmp_path / "train.jsonl")}
    values = {"model": "qwen2.5-0.5b", "task": task, "resources": {"engine": "hf", "forward": "plain"}}
    run = tmp_path / schema.RUNS / "aaaaaaaaaaaa"
    tasks = tmp_path / schema.SLURM / "token" / "tasks.json"
    for folder in (run, tasks.parent):
        folder.mkdir(parents=True)
    files.write_json(run / schema.PLANNED, dump(parse_config(values, "test")))
    about = {"kind": "runs", "token": "token", "code": "none", "processes": 1, "tasks": [[run.name]]}
    files.write_json(tasks, about)
    command = [sys.executable, "-m", "sweeps.slurm_task", tasks]
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")}
    assert subprocess.run(command, env=environment, timeout=DEADLINE).returncode == 1
    assert "its weights are not on this machine" in files.read_json(run / schema.FAILED)["message"]
