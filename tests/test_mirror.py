"""The MLflow mirror: every committed point once, whatever is killed, refused, changed or down."""

import math
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sqlite3
import threading

import pandas as pd
import pytest

pytest.importorskip("mlflow")

from scaling import files, record, schema
from scaling.config import reading
from scaling.schema import InputError
from scaling.tracking import mirror, rows
from scaling.tracking import store as tracking_store
from scaling.tracking.mirror import Mirror, open_mirror

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's own

START_MS = 1_700_000_000_000


# ---------------------------------------------------------------- a study folder and what MLflow has of it


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An initialised sqlite file: making one takes seconds, so the tests copy it."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    tracking_store._client(f"sqlite:///{path}")
    return path


@pytest.fixture
def study(tmp_path, empty_store):
    folder = tmp_path / "a study's #1 folder, 50%"  # a name that URIs and SQL could stumble over
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    write_cells(folder)
    return folder


def write_cells(study, *cells):
    cells = [{"cell": name, "block": "main", "axes": {}, "stop": {"steps": 60}, "run_id": run} for name, run in cells]
    files.write_json(study / schema.CELLS, {"schema_version": 1, "study": "demo", "analysis": {}, "cells": cells})


def make_run(study, run_id="aaaaaaaaaaaa", **fields):
    """A run folder before its first attempt."""
    run = study / schema.RUNS / run_id
    run.mkdir(parents=True)
    info = {
        "schema_version": schema.SCHEMA_VERSION,
        "run_id": run_id,
        "name": f"run {run_id}",
        "config": reading.dump(reading.parse_config({"model": "xs", **fields}, "test")),
        "model": {"name": "xs", "base": "0123456789ab", "num_params": 40_000, "num_params_non_embedding": 37_000},
    }
    files.write_json(run / schema.CONFIG, info)
    return run


def make_row(step, attempt=1, **columns):
    counts = {"step": step, "prompts_seen": 16 * step, "train_flops": 2.5e15 * step}
    evaluation = {"test_loss": 1 / (1 + step), "eval_problems": 512} if step % 5 == 0 else {}
    timing = {"time_ms": START_MS + 1000 * step + attempt, "wall_seconds": 0.25 * step}
    return {**counts, "reward_mean": 0.1 * step, "kl": None, **evaluation, **columns, "timing": timing}


def write(attempt, first, last, **columns):
    attempt.append(schema.CURVE, [make_row(step, attempt.number, **columns) for step in range(first, last + 1)])


def commit(attempt, step):
    attempt.sync()
    (attempt.folder / f"checkpoint-{step:06d}").mkdir()


def finished_run(study, run_id="aaaaaaaaaaaa", last=20, **columns):
    run = make_run(study, run_id)
    attempt = record.start_attempt(run, parent=None, first_step=0)
    write(attempt, 0, last, **columns)
    record.finish(attempt, last, {"steps": last})
    return run


def query(study, sql):
    connection = sqlite3.connect(study / "mlflow.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def stored(study):
    """Every stored point of the runs that are not deleted: (run_id, key, step, time in ms, value), sorted."""
    return sorted(
        query(
            study,
            "SELECT tags.value, metrics.key, step, timestamp, metrics.value FROM metrics"
            " JOIN runs USING (run_uuid) JOIN tags USING (run_uuid)"
            " WHERE tags.key = 'run_id' AND lifecycle_stage = 'active'",
        )
    )


def committed(study):
    """The points that the store must have: no more, no fewer."""
    points = []
    for run in (study / schema.RUNS).iterdir():
        for row in record.read_committed(run):
            values, _ = rows.row_values(row)
            points += [(run.name, key, row["step"], row["timing"]["time_ms"], value) for key, value in values.items()]
    return sorted(points)


def runs_of(study):
    """(run_id, name, status, MLflow's id) of the runs that are not deleted."""
    return query(
        study,
        "SELECT tags.value, name, status, run_uuid FROM runs JOIN tags USING (run_uuid)"
        " WHERE tags.key = 'run_id' AND lifecycle_stage = 'active' ORDER BY 1",
    )


def mirror_once(study):
    shown = Mirror(study)
    report = shown.close()
    assert report.error is None
    return report


# ---------------------------------------------------------------- names, values, batches


def test_columns_become_keys_with_sections_and_flops_become_pflop():
    values, nonfinite = rows.row_values(make_row(10))
    assert values == {
        "compute/prompts_seen": 160,
        "compute/train_pflop": 25,
        "train/reward_mean": 1,
        "eval/test_loss": 1 / 11,
        "time/wall_seconds": 2.5,
        "time/mirrored_step": 10,
    }
    assert list(values)[-1] == rows.SENTINEL
    assert nonfinite == 0


def test_bad_characters_are_replaced_and_a_collision_is_an_error():
    assert rows.clean_key("eval", "pass@1") == "eval/pass_at_1"
    assert rows.clean_key("train", "a+b/c (d)") == "train/a_b_c _d_"
    with pytest.raises(InputError, match="both become the MLflow key 'train/x_y'"):
        rows.row_values(make_row(1, **{"x+y": 1.0, "x=y": 2.0}))


def test_values_that_are_not_finite_are_left_out_and_counted():
    values, nonfinite = rows.row_values(make_row(1, entropy=math.nan, total_flops=math.inf, clip_share=-math.inf))
    assert nonfinite == values[rows.NONFINITE] == 3
    assert all(map(math.isfinite, values.values()))


def test_batches_hold_whole_steps():
    steps = [[(step, i) for i in range(300)] for step in range(7)]
    cut = list(rows.batches(steps))
    assert [len(batch) for batch in cut] == [900, 900, 300]
    assert [point for batch in cut for point in batch] == [point for step in steps for point in step]
    assert [len(batch) for batch in rows.batches([[0] * 3, [0] * 1500, [0] * 2])] == [3, 1500, 2]


# ---------------------------------------------------------------- what MLflow shows


def test_names_parameters_tags_and_description(study):
    from mlflow import MlflowClient

    finished_run(study, "aaaaaaaaaaaa")
    finished_run(study, "bbbbbbbbbbbb")
    write_cells(study, ("xs-seed0", "aaaaaaaaaaaa"), ("xs-short", "aaaaaaaaaaaa"))
    mirror_once(study)

    client = MlflowClient(tracking_store.default_uri(study))
    experiment = client.get_experiment_by_name("demo")
    assert experiment.artifact_location.startswith(study.as_uri())
    assert "report/index.html" in experiment.tags[rows.DESCRIPTION]
    by_id = {run.data.tags["run_id"]: run for run in client.search_runs([experiment.experiment_id])}
    run = by_id["aaaaaaaaaaaa"]
    assert run.info.run_name == "xs-seed0"
    assert run.info.status == "FINISHED"
    assert run.info.end_time == START_MS + 20_001
    assert run.data.tags["cell"] == "xs-seed0, xs-short"
    assert run.data.tags["resources.threads"] == "1"
    assert run.data.tags["state"] == "finished"
    expected = {"model.size": "xs", "model.num_params": "40000", "model.base_id": "0123456789ab", "seed": "0"}
    assert expected.items() <= run.data.params.items()
    assert {"model.base.iterations", "algorithm.type"} <= set(run.data.params)
    assert not {"stop.steps", "model.path", "resources.threads"} & set(run.data.params)
    assert by_id["bbbbbbbbbbbb"].info.run_name == "run bbbbbbbbbbbb"  # of no cell: its own name
    history = client.get_metric_history(run.info.run_id, "eval/test_loss")
    assert [(point.step, point.value) for point in history] == [(step, 1 / (1 + step)) for step in range(0, 21, 5)]


def test_a_new_cell_name_is_shown(study):
    finished_run(study)
    shown = Mirror(study)
    shown.sync()
    write_cells(study, ("a better name", "aaaaaaaaaaaa"))
    shown.close()
    assert [name for _, name, *_ in runs_of(study)] == ["a better name"]


def test_states(study):
    make_run(study, "aaaaaaaaaaaa")  # not begun: not shown
    untracked = make_run(study, "bbbbbbbbbbbb", tracking={"mlflow": False})
    record.start_attempt(untracked, parent=None, first_step=0)
    record.start_attempt(make_run(study, "cccccccccccc"), parent=None, first_step=0)
    failed = make_run(study, "dddddddddddd")
    attempt = record.start_attempt(failed, parent=None, first_step=0)
    write(attempt, 0, 5)
    record.fail(failed, ValueError("no"), [])
    shown = Mirror(study)
    shown.sync()
    assert [(run_id, status) for run_id, _, status, _ in runs_of(study)] == [
        ("cccccccccccc", "RUNNING"),
        ("dddddddddddd", "FAILED"),
    ]
    os.utime(failed / schema.FAILED, (1, 1))  # an older failure: the attempt is another try
    shown.close()
    assert runs_of(study)[1][2] == "RUNNING"


# ---------------------------------------------------------------- committed rows, once


def test_points_appear_while_the_run_goes_and_uncommitted_rows_never(study):
    """A writer and a mirror in lockstep: the store is read between every two moves of the writer."""
    run = make_run(study)
    barrier = threading.Barrier(2, timeout=60)

    def writer():
        attempt = record.start_attempt(run, parent=None, first_step=0)
        for first in range(0, 40, 10):
            write(attempt, first, first + 9)
            barrier.wait()  # rows without a checkpoint
            barrier.wait()
            commit(attempt, first + 9)
            barrier.wait()  # the checkpoint is there
            barrier.wait()
        write(attempt, 40, 44)
        record.finish(attempt, 44, {"steps": 44})

    thread = threading.Thread(target=writer, daemon=True)
    thread.start()
    shown = Mirror(study)
    seen = []
    for _ in range(8):
        barrier.wait()
        assert shown.sync().error is None
        assert stored(study) == committed(study)
        seen.append(max((point[2] for point in stored(study)), default=None))
        assert runs_of(study)[0][2] == "RUNNING"
        barrier.wait()
    thread.join()
    assert seen == [None, 9, 9, 19, 19, 29, 29, 39]  # in mid-run, and never ahead of a checkpoint
    shown.close()
    assert stored(study) == committed(study)
    assert (max(point[2] for point in stored(study)), runs_of(study)[0][2]) == (44, "FINISHED")


def test_a_writer_that_waits_for_nobody(study):
    run = make_run(study)
    appeared = threading.Event()

    def writer():
        attempt = record.start_attempt(run, parent=None, first_step=0)
        for step in range(200):
            write(attempt, step, step)
            if step % 10 == 9:
                commit(attempt, step)
            if step == 100:
                appeared.wait(60)
        record.finish(attempt, 199, {"steps": 199})

    thread = threading.Thread(target=writer, daemon=True)
    thread.start()
    shown = Mirror(study)
    while thread.is_alive():
        assert shown.sync().error is None
        points = stored(study)
        assert set(points) <= set(committed(study))
        if points:
            appeared.set()
    shown.close()
    assert stored(study) == committed(study)


def test_a_second_push_stores_nothing_twice(study):
    finished_run(study)
    mirror_once(study)
    first = stored(study)
    assert first == committed(study)
    again = mirror_once(study)
    assert (again.steps, again.points, stored(study)) == (0, 0, first)

    # Even where the sentinel is not looked at.
    shown = Mirror(study)
    shown.sync()
    shown._shown["aaaaaaaaaaaa"].times = {}
    shown._seen.clear()
    assert shown.sync().points == len(first)
    assert stored(study) == first
    shown.close()


def test_a_pass_with_nothing_new_asks_nobody(study, monkeypatch):
    finished_run(study)
    shown = Mirror(study)
    shown.sync()
    shown._client = object()  # any call would raise
    assert shown.sync().error is None
    shown.close()


def _push_until_killed(study, pushing):
    shown = Mirror(study)
    push = shown._push_batch

    def tell_and_push(*args):
        pushing.send(True)
        return push(*args)

    shown._push_batch = tell_and_push
    shown.close()


@pytest.mark.launch
def test_ten_kills_in_mid_push(study, monkeypatch):
    """0 doubled, 0 missing."""
    monkeypatch.setattr(rows, "BATCH_METRICS", 100)
    for run_id in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"):
        finished_run(study, run_id, last=150, **{f"extra_{i}": i / 7 for i in range(10)})
    draw = random.Random(0)
    # A forked child has MLflow imported already. This process has not opened the store.
    context = multiprocessing.get_context("fork")
    sizes = []
    for _ in range(10):
        receive, send = context.Pipe(duplex=False)
        child = context.Process(target=_push_until_killed, args=(study, send))
        child.start()
        for _ in range(draw.randint(1, 4)):
            assert receive.poll(60)
            receive.recv()
        receive.poll(draw.uniform(0, 0.02))  # a random moment within the push, or the beginning of the next
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        points = stored(study)
        assert len(set(points)) == len(points)
        assert set(points) <= set(committed(study))
        sizes.append(len(points))
    assert 0 < sizes[-1] < len(committed(study))  # the kills hit in the middle
    assert mirror_once(study).steps < 3 * 151
    assert stored(study) == committed(study)
    assert len(runs_of(study)) == 3


# ---------------------------------------------------------------- what MLflow refuses


def test_a_refused_key_is_left_out_and_told(study):
    finished_run(study, last=30, **{"..": 1.0, "pass@1": 0.5})
    shown = Mirror(study)
    report = shown.sync()
    assert report.error is None
    assert len(report.problems) == 1
    assert report.problems[0].startswith("train/.. is left out")
    assert shown.sync().steps == 0  # not tried for ever
    shown.close()
    assert stored(study) == [point for point in committed(study) if point[1] != "train/.."]
    assert "train/pass_at_1" in {point[1] for point in stored(study)}


def test_values_that_are_not_finite_in_a_record(study):
    run = finished_run(study, last=5)
    path = record.attempt_folder(run, 1) / schema.CURVE
    path.write_text(path.read_text().replace('"kl":null', '"kl":NaN', 2).replace('"eval_problems":512', '"kl2":1e999'))
    assert mirror_once(study).nonfinite == 4
    assert stored(study) == committed(study)
    assert [point[4] for point in stored(study) if point[1] == rows.NONFINITE] == [2.0, 1.0, 1.0]


def test_a_broken_run_does_not_hold_up_the_others(study):
    collision = finished_run(study, "aaaaaaaaaaaa", **{"x+y": 1.0, "x=y": 2.0})
    broken = finished_run(study, "bbbbbbbbbbbb")
    (record.attempt_folder(broken, 1) / schema.CURVE).write_text("not json\n")
    bare = finished_run(study, "dddddddddddd", last=0)
    (record.attempt_folder(bare, 1) / schema.CURVE).write_text('{"step":0}\n')
    finished_run(study, "eeeeeeeeeeee")
    report = mirror_once(study)
    assert len(report.problems) == 3
    assert "both become" in report.problems[0]
    assert "is not JSON" in report.problems[1]
    assert "run dddddddddddd cannot be read: KeyError: 'timing'" in report.problems[2]
    for folder in (collision, broken, bare):
        shutil.rmtree(folder)
    assert len(runs_of(study)) == 1
    assert stored(study) == committed(study)


def test_a_run_deleted_by_hand_stays_deleted_and_the_others_go_on(study):
    from mlflow import MlflowClient

    attempts = {}
    for run_id in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        attempts[run_id] = record.start_attempt(make_run(study, run_id), parent=None, first_step=0)
        write(attempts[run_id], 0, 10)
        commit(attempts[run_id], 10)
    shown = Mirror(study)
    shown.sync()
    MlflowClient(tracking_store.default_uri(study)).delete_run(runs_of(study)[0][3])
    for attempt in attempts.values():
        write(attempt, 11, 20)
        commit(attempt, 20)
    for _ in range(2):
        report = shown.sync()
        assert report.error is None
        assert len(report.problems) == 1
        assert "run aaaaaaaaaaaa is not mirrored" in report.problems[0]
    assert stored(study) == [point for point in committed(study) if point[0] == "bbbbbbbbbbbb"]
    shown.close()
    mirror_once(study)  # the next mirror makes it again
    assert stored(study) == committed(study)


# ---------------------------------------------------------------- records that change


def test_rebuild(study):
    finished_run(study, "aaaaaaaaaaaa")
    finished_run(study, "bbbbbbbbbbbb")
    mirror_once(study)
    old = {mlflow_id for *_, mlflow_id in runs_of(study)}
    shown = Mirror(study)
    shown.sync()
    assert shown.rebuild().error is None
    shown.close()
    assert len(runs_of(study)) == 2
    assert not old & {mlflow_id for *_, mlflow_id in runs_of(study)}
    assert stored(study) == committed(study)


def test_an_extended_run_is_reopened_and_goes_on_in_the_same_place(study):
    run = finished_run(study, last=20)
    shown = Mirror(study)
    shown.sync()
    ((_, _, status, mlflow_id),) = runs_of(study)
    assert status == "FINISHED"
    attempt = record.start_attempt(run, parent=1, first_step=21)
    write(attempt, 21, 29)
    shown.sync()
    assert runs_of(study)[0][2:] == ("RUNNING", mlflow_id)
    assert max(point[2] for point in stored(study)) == 20
    record.finish(attempt, 29, {"steps": 29})
    shown.close()
    assert runs_of(study)[0][2:] == ("FINISHED", mlflow_id)
    assert stored(study) == committed(study)


def test_a_run_that_went_back_to_an_older_checkpoint(study):
    run = make_run(study)
    first = record.start_attempt(run, parent=None, first_step=0)
    write(first, 0, 20)
    commit(first, 10)
    commit(first, 20)
    shown = Mirror(study)
    shown.sync()
    old = runs_of(study)[0][3]
    # Checkpoint 20 turns out to be damaged: the next attempt goes on at 10.
    second = record.start_attempt(run, parent=1, first_step=11)
    write(second, 11, 25)
    shown.sync()
    assert stored(study) == committed(study)
    assert (max(point[2] for point in stored(study)), runs_of(study)[0][3] != old) == (10, True)
    commit(second, 25)
    shown.close()
    assert stored(study) == committed(study)
    assert len(runs_of(study)) == 1


def test_a_run_that_was_redone_while_nobody_looked(study):
    """The step is past the sentinel again, only the times tell."""
    run = make_run(study)
    first = record.start_attempt(run, parent=None, first_step=0)
    write(first, 0, 20)
    commit(first, 20)
    mirror_once(study)
    second = record.start_attempt(run, parent=1, first_step=6)
    write(second, 6, 30)
    commit(second, 30)
    mirror_once(study)
    assert stored(study) == committed(study)
    assert len(runs_of(study)) == 1


def test_of_two_runs_the_oldest_is_kept(study):
    """A create request whose client was killed may still arrive."""
    from mlflow import MlflowClient

    finished_run(study)
    mirror_once(study)
    ((*_, kept),) = runs_of(study)
    client = MlflowClient(tracking_store.default_uri(study))
    experiment = client.get_experiment_by_name("demo").experiment_id
    client.create_run(experiment, tags={"run_id": "aaaaaaaaaaaa", "study_folder": "."})  # started now, that is, later
    mirror_once(study)
    assert [mlflow_id for *_, mlflow_id in runs_of(study)] == [kept]
    assert stored(study) == committed(study)


def test_a_deleted_experiment_comes_back(study):
    from mlflow import MlflowClient

    finished_run(study)
    mirror_once(study)
    client = MlflowClient(tracking_store.default_uri(study))
    client.delete_experiment(client.get_experiment_by_name("demo").experiment_id)
    assert stored(study) == []
    mirror_once(study)
    assert stored(study) == committed(study)


def test_a_moved_study_keeps_its_runs_in_a_shared_store_and_a_copy_gets_its_own(study, tmp_path):
    finished_run(study)
    database = (study / "mlflow.db").rename(tmp_path / "shared.db")

    def mirrored(folder):
        Mirror(folder, f"sqlite:///{database}").close()
        with sqlite3.connect(database) as store:
            return store.execute("SELECT count(*) FROM runs").fetchone()[0]

    assert mirrored(study) == 1
    moved = study.rename(tmp_path / "moved")
    assert mirrored(moved) == 1
    shutil.copytree(moved, tmp_path / "copy")
    assert mirrored(tmp_path / "copy") == 2
    assert mirrored(moved.rename(study)) == mirrored(tmp_path / "copy") == 2


# ---------------------------------------------------------------- one writer, no server, no package


def test_a_second_mirror_leaves_at_once(study):
    finished_run(study)
    first = Mirror(study)
    second, reason = open_mirror(study)
    assert second is None
    assert "another process already mirrors this study" in reason
    first.close()
    third, reason = open_mirror(study)
    assert third is not None
    assert reason == ""
    third.close()
    assert stored(study) == committed(study)


def test_a_server_that_is_down_is_reported_and_caught_up_with(study):
    finished_run(study)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shown = Mirror(study, f"http://127.0.0.1:{port}")
    report = shown.sync()
    assert report.error is not None
    assert "\n" not in str(report)
    shown.uri = tracking_store.default_uri(study)  # the store is back
    assert shown.sync().error is None
    assert len(stored(study)) == len(committed(study))
    shown.uri, shown._client = f"http://127.0.0.1:{port}", None  # and gone again
    assert shown.close(deadline=0).error is not None


@pytest.mark.launch
def test_a_database_that_another_process_locks_is_caught_up_with(study):
    finished_run(study)
    shown = Mirror(study)
    assert shown.sync().error is None
    finished_run(study, "bbbbbbbbbbbb")
    other = sqlite3.connect(study / "mlflow.db")
    other.execute("begin exclusive")  # as long as another program's long write
    report = shown.sync()
    other.rollback()
    other.close()
    assert report.error is not None and "locked" in report.error
    assert shown.sync().error is None
    shown.close()
    assert stored(study) == committed(study)


def test_an_unusable_uri_is_an_error_of_the_pass(study):
    for uri in ("nonsense://x", f"sqlite:///{study}/no/such/folder\0/mlflow.db", str(study)):
        shown = Mirror(study, uri)
        assert shown.sync().error is not None
        shown.close(deadline=0)


def test_watch_waits_longer_and_longer_while_the_store_is_down(study, monkeypatch):
    shown = Mirror(study)
    answers = iter([None, *["down"] * 7, None, "down"])
    waits = []

    class Stop:
        def is_set(self):
            return len(waits) == 10

        def wait(self, seconds):
            waits.append(seconds)

    monkeypatch.setattr(shown, "sync", lambda: mirror.SyncReport(error=next(answers)))
    shown.watch(Stop(), interval=2.0)
    assert waits == pytest.approx([2, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 2, 0.2])
    monkeypatch.undo()
    shown.close()


def test_watch_in_a_thread_and_close(study):
    finished_run(study)
    shown = Mirror(study)
    stop = threading.Event()
    thread = threading.Thread(target=shown.watch, args=(stop, 60), daemon=True)
    thread.start()
    finished_run(study, "bbbbbbbbbbbb")
    stop.set()
    shown.close()
    thread.join()
    assert stored(study) == committed(study)


def test_a_pass_stops_at_its_deadline_and_the_next_goes_on(study, monkeypatch):
    monkeypatch.setattr(rows, "BATCH_METRICS", 50)
    finished_run(study)
    shown = Mirror(study)
    now = iter(range(1000))
    monkeypatch.setattr(mirror.time, "monotonic", lambda: next(now))
    assert "out of time" in shown.sync(deadline=1.5).error
    monkeypatch.undo()
    assert 0 < len(stored(study)) < len(committed(study))
    shown.close()
    assert stored(study) == committed(study)


def test_a_missing_package_is_one_line_that_says_what_to_install(study, monkeypatch):
    monkeypatch.setattr(tracking_store.importlib.util, "find_spec", lambda name: None)
    shown, reason = open_mirror(study)
    assert shown is None
    assert reason == (
        "no curves in MLflow: mlflow, sqlalchemy, alembic is not installed; "
        "install the extra: pip install -e '.[track]'"
    )


def test_a_folder_that_is_not_a_study(tmp_path):
    with pytest.raises(InputError, match=r"not a study folder, it has no cells\.json"):
        Mirror(tmp_path)
    odd = tmp_path / "what?"
    odd.mkdir()
    write_cells(odd)
    assert "question mark" in open_mirror(odd)[1]


def test_the_uri_of_the_environment_is_respected(study, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    shown = Mirror(study)
    assert shown.uri == "http://127.0.0.1:1"
    shown._lock.close()


# ---------------------------------------------------------------- reading a store back


@pytest.fixture
def store(empty_store, tmp_path, monkeypatch):
    """(client, make): an empty store, and `make(experiment, params, metrics)`, which logs one finished run."""
    path = tmp_path / "logged.db"
    shutil.copy(empty_store, path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    client = tracking_store._client(f"sqlite:///{path}")

    def make(name, params, metrics):
        found = client.get_experiment_by_name(name)
        run = client.create_run(found.experiment_id if found else client.create_experiment(name)).info.run_id
        for key, value in params.items():
            client.log_param(run, key, value)
        for key, values in metrics.items():
            for step, value in enumerate(values, start=1):
                client.log_metric(run, key, value, timestamp=START_MS + step, step=step)
        client.set_terminated(run)

    return client, make


def test_a_mirrored_study_loads_as_its_folder_does(study, monkeypatch):
    import analysis

    cells = []
    for place, fields in enumerate([{"seed": 0}, {"seed": 1, "optimizer": {"learning_rate": 0.001}}]):
        run_id = f"{place:012x}"
        run = make_run(study, run_id, **fields)
        attempt = record.start_attempt(run, parent=None, first_step=0)
        write(attempt, 0, 60, train_flops=123_456_789.0 * (place + 1))
        record.finish(attempt, 60, {"steps": 60})
        cells.append((f"cell-{place}", run_id))
    write_cells(study, *cells)
    mirror = Mirror(study)
    assert not mirror.sync().error
    mirror.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{study / 'mlflow.db'}")
    folder, mirrored = analysis.load(study), analysis.load("mlflow:demo")
    ours, theirs = folder.frame(), mirrored.frame()
    here = ours["test_loss"].notna()  # the folder's rows say Q beside a loss only, as the mirror does
    assert here.sum() == 26 and len(ours) == len(theirs) == 122
    for name in ours:
        if pd.api.types.is_numeric_dtype(ours[name]) and not ours[name].isna().all():
            assert theirs[name].tolist() == pytest.approx(ours[name].tolist(), rel=1e-15, nan_ok=True), name
        elif not ours[name].isna().all():
            assert theirs[name].tolist() == ours[name].tolist(), name
    assert {*folder.settings, "optimizer.learning_rate"} <= {*mirrored.settings}
    assert any("analysis section is not there" in note for note in mirrored.notes)


def test_names_that_become_one_column_are_refused_where_they_differ(store):
    import analysis

    _, make = store
    who = {"num_params": 1000, "seed": 0}
    flops = [1e15, 2e15]
    make("differ", who, {"val/test_loss": [0.8, 0.7], "train/test_loss": [0.1, 0.1], "train_flops": flops})
    make("agree", who, {"val/test_loss": [0.8, 0.7], "eval/test_loss": [0.8, 0.7], "usage/train_flops": flops})
    make("params", {"policy.num_params": 1000, "judge.num_params": 9}, {"test_loss": [0.8, 0.7], "train_flops": flops})
    with pytest.raises(InputError, match=r"'train/test_loss' and 'val/test_loss' both become column 'test_loss'"):
        analysis.load("mlflow:differ")
    assert analysis.load("mlflow:agree").frame()["test_loss"].tolist() == [0.8, 0.7]
    with pytest.raises(InputError, match=r"'judge.num_params' and 'policy.num_params' both become column 'num_params'"):
        analysis.load("mlflow:params")


def test_old_and_new_names_of_the_mirror_are_read_alike(store):
    import analysis

    _, make = store
    who = {"model.num_params": 1000, "model.num_params_non_embedding": 900, "seed": 0}
    make("old", who, {"eval/test_loss": [0.8, 0.7], "compute/train_pflop": [1, 2]})
    make(
        "new",
        who,
        {"eval/test_loss": [0.8, 0.7], "usage/train_flops": [1e15, 2e15], "usage/log10_train_flops": [15, 16]},
    )
    old, new = (analysis.load(f"mlflow:{name}").frame().drop(columns="run_id") for name in ("old", "new"))
    assert old.equals(new[old.columns]) and set(old) == set(new)
    assert old["train_flops"].tolist() == [1e15, 2e15] and old["num_params_non_embedding"].tolist() == [900, 900]


def test_every_page_of_runs_is_read(store, monkeypatch):
    import analysis
    from analysis.curves import mlflow_runs

    monkeypatch.setattr(mlflow_runs, "PAGE", 2)
    _, make = store
    for seed in range(5):
        make("many", {"num_params": 1000, "seed": seed}, {"test_loss": [0.5, 0.4], "train_flops": [1.0, 2.0]})
    assert sorted(analysis.load("mlflow:many").frame()["seed"].unique()) == [0, 1, 2, 3, 4]
