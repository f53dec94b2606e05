"""Loading and checking curves: what is read, what is left out by name, what is refused in one line."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_curves import synthetic, write_cells, write_run

import analysis
from analysis.curves.check import make_curves
from analysis.curves.load import REFERENCE, load
from scaling.schema import InputError


def refused(function, *words):
    with pytest.raises(InputError) as error:
        function()
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"


# ---------------------------------------------------------------- reference data


@pytest.mark.parametrize(
    ("name", "rows", "runs"),
    [
        ("qwen2.5_base", 732, 7),
        ("qwen2.5_base_replicates", 1026, 13),
        ("qwen2.5_base_reuse", 635, 7),
        ("qwen2.5_base_group_size", 382, 4),
        ("chinchilla", 245, 245),
    ],
)
def test_reference_data_load(name, rows, runs):
    curves = load(f"reference:{name}")
    assert len(curves.table) == rows
    assert curves.table["run_id"].nunique() == runs
    assert curves.left_out == []


def test_reference_values_are_the_published_ones():
    table = load("reference:qwen2.5_base").frame()
    assert sorted(table["num_params"].unique()) == [0.5e9, 1.5e9, 3e9, 7e9, 14e9, 32e9, 72e9]
    first = table[(table["num_params"] == 0.5e9) & (table["step"] == 1)].iloc[0]
    assert (first["train_flops"], first["test_loss"], first["eval_problems"]) == (1.274599715e16, 0.97801, 500)
    assert set(table["num_params_convention"]) == {"nominal"}
    assert (table["flag"] == "tail_fewer_runs").sum() == 76  # kept: the published table needs them


def test_reference_files_are_small_and_cited():
    for path in REFERENCE.glob("*.csv"):
        assert path.stat().st_size < 500_000
        assert path.stem in (REFERENCE / "README.md").read_text()
    assert "2509.25300" in (REFERENCE / "README.md").read_text()


def test_unknown_reference_names_the_nearest():
    refused(lambda: load("reference:qwen2.5_bse"), "qwen2.5_bse", "chinchilla", "Did you mean qwen2.5_base?")


def test_chinchilla_has_no_test_loss_and_says_so():
    refused(lambda: analysis.fit("reference:chinchilla"), "no test_loss", "cross-entropy")


# ---------------------------------------------------------------- tables


def write(tmp_path, table, name="curves.csv"):
    path = tmp_path / name
    table.to_csv(path, index=False)
    return path


def test_csv_and_parquet_give_the_same_curves(tmp_path):
    table = synthetic(steps=5)
    csv = load(write(tmp_path, table))
    table.to_parquet(tmp_path / "curves.parquet")
    parquet = load(tmp_path / "curves.parquet")
    pd.testing.assert_frame_equal(csv.table, parquet.table, check_dtype=False)
    assert csv.data_hash == parquet.data_hash


def test_the_order_of_rows_does_not_matter(tmp_path):
    table = synthetic(steps=5)
    shuffled = load(write(tmp_path, table.sample(frac=1, random_state=1)))
    assert shuffled.data_hash == make_curves(table).data_hash


def test_runs_without_run_id_are_told_apart_by_size_and_seed(tmp_path):
    curves = load(write(tmp_path, synthetic(runs=2, steps=5).drop(columns="run_id")))
    assert curves.table["run_id"].nunique() == 14
    assert (curves.runs()["evaluations"] == 6).all()


def test_run_names_stay_text(tmp_path):
    table = synthetic(sizes=[1e9, 2e9], steps=3)
    table["run_id"] = table["run_id"].map({"n0r0": "007", "n1r0": "7"})
    assert set(load(write(tmp_path, table)).table["run_id"]) == {"007", "7"}


def test_rows_without_an_evaluation_are_kept_and_not_fitted(tmp_path):
    table = synthetic(sizes=[1e9, 2e9, 4e9], steps=10)
    table.loc[table["step"] % 2 == 1, "test_loss"] = np.nan
    curves = load(write(tmp_path, table))
    assert len(curves.table) == 33
    assert analysis.fit(curves, x="prompts_seen").json()["n_points"] == 15


def changed(**columns):
    def change(table):
        for name, value in columns.items():
            table[name] = table[name].astype(object)
            table.loc[3, name] = value
        return table

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.rename(columns={"test_loss": "tset_loss"}), ["test_loss", "missing", "Is it tset_loss?"]),
        (lambda t: t.drop(columns="step"), ["'step' is missing"]),
        (lambda t: t.drop(columns="num_params"), ["'num_params' is missing"]),
        (changed(test_loss="abc"), ["test_loss", "row 4", "'abc' is not a number"]),
        (changed(num_params="7B"), ["num_params", "row 4", "'7B' is not a number"]),
        (changed(test_loss=1.2), ["test_loss", "row 4", "1.2", "between 0 and 1"]),
        (changed(test_loss=-0.1), ["test_loss", "between 0 and 1"]),
        (changed(test_loss=73.2), ["percent"]),
        (changed(test_loss=float("inf")), ["infinite"]),
        (changed(step=2.5), ["step", "whole number"]),
        (changed(step=-1), ["step", "whole number"]),
        (changed(step=None), ["step", "whole number"]),
        (changed(num_params=0), ["num_params", "above 0"]),
        (changed(num_params=None), ["num_params", "blank", "two conventions"]),
        (changed(eval_problems=0), ["eval_problems", "above 0"]),
        (changed(num_params=123456), ["num_params", "changes within run"]),
        (changed(run_id=None), ["run_id is blank"]),
        (lambda t: pd.concat([t, t.tail(2)]), ["more than once", "2 rows too many"]),
        (lambda t: t.drop(columns=["run_id", "seed"]).assign(step=1), ["more than once", "run_id or seed"]),
        (lambda t: t.head(0), ["no rows"]),
        (lambda t: t.assign(test_loss=np.nan), ["blank in every row"]),
        (lambda t: t.assign(pass_at_1=0.5), ["not 1 - pass_at_1"]),
        (
            lambda t: t.assign(num_params_convention=["nominal"] * 10 + ["counted"] * (len(t) - 10)),
            ["counted in two ways"],
        ),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path, change, words):
    path = write(tmp_path, change(synthetic(steps=5)))
    refused(lambda: load(path), str(path), *words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", ["empty"]),
        ("bytes.csv", b"\xff\xfe\x00step", ["cannot be read"]),
        ("twice.csv", b"step,step,num_params,test_loss\n1,1,1,1\n", ["'step' stands twice"]),
        ("ragged.csv", b"step,num_params,test_loss\n1,1,.5\n1,1,.5,7,8\n", ["cannot be read"]),
        ("bad.parquet", b"not parquet", ["cannot be read"]),
        ("curves.txt", b"step\n", ["not a .csv or .parquet"]),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    refused(lambda: load(tmp_path / name), name, *words)


def test_a_missing_file_names_its_neighbour(tmp_path):
    write(tmp_path, synthetic(steps=2))
    refused(lambda: load(tmp_path / "curvs.csv"), "no such file", "Did you mean curves.csv?")


def test_a_misspelt_optional_column_is_noted():
    curves = make_curves(synthetic(steps=3).rename(columns={"eval_problems": "eval_problem"}))
    assert any("did you mean eval_problems" in note for note in curves.notes)


# ---------------------------------------------------------------- where


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("num_params <= 32e9", 629),
        ("num_params <= 32e9 and algorithm == grpo", 629),
        ("algorithm == 'grpo' and reuse_factor == 1", 732),
        ("1e9 < num_params < 8e9", 315),
        ("not step < 5", 704),
        ("step in [1, 2] or step == 3", 21),
        ("model in ['Qwen2.5-7B', 'Qwen2.5-3B']", 210),
        ("model not in ['Qwen2.5-7B']", 627),
        ("flag == tail_fewer_runs", 76),
        ("32e9 >= num_params", 629),
        ("n_runs < prompts_seen", 551),  # a missing n_runs matches nothing
    ],
)
def test_where_keeps_the_right_rows(expression, rows):
    assert len(load("reference:qwen2.5_base").where(expression).table) == rows


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("num_parms <= 3", ["num_parms", "Did you mean num_params?"]),
        ("algorithm == gropo", ["no row is left", "Did you mean grpo?"]),
        ("num_params > 1e15", ["no row is left"]),
        ("step = 3", ["Equality is =="]),
        ("step == grpo", ["'grpo'", "column step"]),
        ("model < seven", ["no order"]),
        ("__import__('os').system('true') == 0", ["without a column"]),
        ("(lambda: 1)() == step", ["neither a column nor a value"]),
        ("step.__class__ == 3", ["step.__class__"]),
        ("step", ["not a comparison"]),
        ("step ** 9 ** 9 > 3", ["without a column"]),
        ("", ["not a condition"]),
    ],
)
def test_bad_conditions_are_refused(expression, words):
    refused(lambda: load("reference:qwen2.5_base").where(expression), *words)


# ---------------------------------------------------------------- study folders


@pytest.fixture
def study(tmp_path):
    """Four good runs, of which one repeats its prompts; a failed, an unfinished, a missing and a stale one."""
    folder = tmp_path / "tiny"
    write_run(folder, "a" * 12, steps=20, size=5000, model="us")
    write_run(folder, "b" * 12, steps=20, size=20000, model="xs", k=0.2)
    write_run(folder, "c" * 12, steps=20, size=50000, model="s", k=0.3)
    write_run(folder, "d" * 12, steps=20, size=20000, model="xs", unique=10, k=0.15)
    failed = write_run(folder, "e" * 12, steps=4, size=5000, done=False, seed=1)
    (failed / "FAILED.json").write_text('{"class": "RuntimeError", "message": "out of memory", "last_lines": []}')
    write_run(folder, "f" * 12, steps=4, size=5000, done=False, seed=2)
    write_run(folder, "9" * 12, steps=20, size=5000, seed=3)
    cells = [(letter * 12, 20) for letter in "abcdef0"] + [("c" * 12, 10)]
    write_cells(folder, cells, {"where": "reuse_factor == 1", "x": "prompts_seen"})
    return folder


def test_a_study_loads_its_cells_once_and_names_the_rest(study):
    curves = load(study)
    assert list(curves.runs()["model"]) == ["us", "xs", "xs", "s"]
    assert len(curves.table) == 4 * 21  # a run that serves two cells is counted once
    assert {item["run"]: item["reason"] for item in curves.left_out} == {
        "us-s1 (eeeeeeeeeeee)": "failed: RuntimeError: out of memory",
        "us-s2 (ffffffffffff)": "incomplete: not finished",
        "0" * 12: "missing: not started",
        "9" * 12: "not in the current cells of the study",
    }
    assert curves.defaults == {"where": "reuse_factor == 1", "x": "prompts_seen"}
    assert curves.folder == study


def test_reuse_factor_is_of_the_run_so_that_1_selects_no_first_pass(study):
    """The repeating run's first 10 prompts are not repeats; as rows they would leak into `reuse_factor == 1`."""
    curves = load(study)
    repeating = curves.table[curves.table["run_id"] == "d" * 12]
    assert set(repeating["reuse_factor"]) == {32.0}  # 320 prompts of 10
    assert repeating["reuse_factor_so_far"].iloc[0] == 1.0
    assert set(curves.where("reuse_factor == 1").table["run_id"]) == {"a" * 12, "b" * 12, "c" * 12}


def test_rows_after_the_current_stop_are_not_used(study):
    write_cells(study, [(letter * 12, 10) for letter in "abc"])
    curves = load(study)
    assert curves.table["step"].max() == 10
    assert any("10 rows after the last stop" in note for note in curves.notes)


def test_an_extension_that_is_not_done_leaves_the_shorter_cell(study):
    write_cells(study, [("a" * 12, 20), ("a" * 12, 40), ("b" * 12, 40)])
    curves = load(study)
    assert list(curves.table["run_id"].unique()) == ["a" * 12]
    assert any("1 of its 2 cells" in note for note in curves.notes)
    assert next(item["reason"] for item in curves.left_out).startswith("incomplete")


def test_settings_that_differ_are_columns_and_warned_of(study):
    write_run(study, "1" * 12, steps=20, size=5000, seed=4, settings={"optimizer": {"learning_rate": 1e-3}})
    write_cells(study, [(letter * 12, 20) for letter in "abc1"])
    curves = load(study)
    assert "optimizer.learning_rate" in curves.settings
    assert curves.where("optimizer.learning_rate == 5e-4").table["run_id"].nunique() == 3
    assert any("differ in optimizer.learning_rate" in warning for warning in analysis.fit(curves).warnings)


def test_timing_does_not_enter_the_data_hash(study):
    before = load(study).data_hash
    for path in Path(study).rglob("curve.jsonl"):
        path.write_text(path.read_text().replace('"wall_seconds":1.0', '"wall_seconds":2.0'))
    assert load(study).data_hash == before


def test_bad_study_folders_are_refused(study, tmp_path):
    refused(lambda: load(tmp_path), "not a study folder", "cells.json")
    (study / "cells.json").write_text('{"schema_version": 99, "cells": []}')
    refused(lambda: load(study), "schema_version 99")
    (study / "cells.json").write_text("{")
    refused(lambda: load(study), "not valid JSON")
    write_cells(study, [("0" * 12, 20)])
    refused(lambda: load(study), "no finished run", "not started")
    shutil.rmtree(study / "runs")
    refused(lambda: load(study), "no finished run")
