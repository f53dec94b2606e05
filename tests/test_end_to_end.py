"""A miniature study through the real command line: trained, mirrored, fitted and reported."""

import json
import os
import signal
import sqlite3

import pytest
from test_launch import DEADLINE, scaling, science, start, wait_for

from scaling import files, record, schema
from sweeps.plan import make_plan
from sweeps.study import load_study

pytestmark = pytest.mark.launch

STUDY = """
study: mini
base:
  model: {base: {iterations: 150, leaping_iterations: 30, batch_size: 32}}
  data: {prompts_per_step: 8}
  rollout: {group_size: 8}
  evaluation: {problems: 64}
  stop: {steps: 12}
blocks:
  - axes: {model.size: [us, xs, s], seed: [0, 1]}
  - name: reuse
    set: {model.size: us}
    axes: {data.reuse_factor: [1, 4], seed: [0, 1]}
  - name: papo
    set: {model.size: xs}
    axes: {algorithm.type: [grpo, papo], seed: [0, 1]}
analysis: {where: algorithm == grpo and reuse_factor == 1}
"""


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini")
    (folder / "mini.yaml").write_text(STUDY)
    output = scaling("sweep", "launch", folder / "mini.yaml", "--out", folder / "out")
    return folder / "mini.yaml", folder / "out", output


def points(store) -> list[tuple]:
    """(cell, key, step, value) of every point in MLflow's store."""
    query = """select t.value, m.key, m.step, m.value from metrics m
               join tags t on t.run_uuid = m.run_uuid and t.key = 'run_id'"""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


def test_ten_runs_are_done_and_mlflow_has_each_point_once(launched):
    study, out, output = launched
    assert "study mini: 10 done" in output
    stored = [point for point in points(out / "mlflow.db") if point[1] == "eval/test_loss"]
    expected = [
        (run.run_id, "eval/test_loss", row["step"], row["test_loss"])
        for run in make_plan(load_study(study)).runs
        for row in files.read_rows(out / schema.RUNS / run.run_id / schema.CURVE)
        if "test_loss" in row
    ]
    assert sorted(stored) == sorted(expected)


def test_fit_and_report_read_the_study(launched):
    _, out, _ = launched
    found = json.loads(scaling("fit", out, "--json").partition("\nsaved ")[0])
    assert (found["n_runs"], len(found["per_size"])) == (6, 3)
    assert sorted(row["reason"] for row in found["left_out"]) == ["not selected by where"] * 4
    assert all(row["efficiency_ci95"] for row in found["per_size"])
    path = scaling("report", out).strip().splitlines()[-1]
    page = (out / "report" / "index.html").read_text()
    assert path == str(out / "report" / "index.html")
    assert "xs-papo-seed1" in page and "http" not in page.split("<body>")[0].replace("http://www.w3.org", "")
    for kind in ("svg", "png", "csv"):
        assert len(list((out / "figures").glob(f"*.{kind}"))) >= 6


def test_points_appear_in_mlflow_while_a_run_goes(tmp_path):
    study, out = tmp_path / "long.yaml", tmp_path / "out"
    blocks = "blocks: [{set: {data.prompts_unique: 64}, axes: {model.size: [us]}}]\n"  # no task has so many problems
    study.write_text(STUDY.split("blocks:")[0].replace("steps: 12", "steps: 100000") + blocks)
    process = start("sweep", "launch", study, "--out", out)
    (run,) = make_plan(load_study(study)).runs

    def shown() -> bool:
        try:
            return any(key == "train/reward_mean" and step > 0 for _, key, step, _ in points(out / "mlflow.db"))
        except sqlite3.Error:  # not there yet, or being written
            return False

    wait_for(shown, process)
    assert process.poll() is None and not (out / schema.RUNS / run.run_id / schema.DONE).exists()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    # Everything that was committed, and nothing else, is in the store.
    rows = record.read_committed(out / schema.RUNS / run.run_id)
    stored = [(step, value) for _, key, step, value in points(out / "mlflow.db") if key == "train/reward_mean"]
    assert sorted(stored) == [(row["step"], row["reward_mean"]) for row in rows if row["step"] > 0]


def test_one_run_in_the_foreground_equals_the_studys(launched, tmp_path):
    study, out, _ = launched
    (tmp_path / "run.yaml").write_text(
        "model: {size: us, base: {iterations: 150, leaping_iterations: 30, batch_size: 32}}\n"
        "data: {prompts_per_step: 8}\nrollout: {group_size: 8}\nevaluation: {problems: 64}\nstop: {steps: 12}\n"
    )
    output = scaling("run", tmp_path / "run.yaml", "--out", tmp_path / "run")
    assert output.strip().endswith(str(tmp_path / "run" / schema.CURVE))
    first = next(run for run in make_plan(load_study(study)).runs if run.name == "us-seed0")
    assert science(tmp_path / "run") == science(out / schema.RUNS / first.run_id)
