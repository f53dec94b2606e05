"""The run folder: attempts, lineage, torn lines, locks."""

import subprocess
import sys

import pytest

from scaling import files, record, schema


def write(run, steps, *, parent=None, first=0, value="a", end=True):
    attempt = record.start_attempt(run, parent=parent, first_step=first)
    attempt.append(schema.CURVE, [{"step": step, "value": value, "timing": {"wall_seconds": 1.0}} for step in steps])
    return attempt


def values(rows):
    return [(row["step"], row["value"]) for row in rows]


def test_each_step_comes_from_one_attempt(tmp_path):
    write(tmp_path, range(6), value="a")  # died at 5, checkpoint at 3
    write(tmp_path, range(4, 8), parent=1, first=4, value="b")  # died at 7, checkpoint at 6
    write(tmp_path, range(7, 9), parent=2, first=7, value="c")
    expected = [(0, "a"), (1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b"), (6, "b"), (7, "c"), (8, "c")]
    assert values(record.read_record(tmp_path)) == expected
    assert values(record.wasted_rows(tmp_path)) == [(4, "a"), (5, "a"), (7, "b")]


def test_a_grandparent_does_not_win_steps_back(tmp_path):
    write(tmp_path, range(10), value="a")
    write(tmp_path, range(4, 6), parent=1, first=4, value="b")  # fell back to step 3
    write(tmp_path, range(4, 6), parent=1, first=4, value="c")  # fell back again, past attempt 2
    write(tmp_path, [2, 3], parent=3, first=2, value="d")  # and further still
    assert values(record.read_record(tmp_path)) == [(0, "a"), (1, "a"), (2, "d"), (3, "d")]


def test_an_attempt_that_never_began_is_passed_over(tmp_path):
    write(tmp_path, range(3))
    (tmp_path / schema.ATTEMPTS / "0002").mkdir()
    assert len(record.read_record(tmp_path)) == 3
    assert record.start_attempt(tmp_path, parent=1, first_step=3).number == 3


def test_a_torn_last_line_is_dropped_and_a_broken_one_told(tmp_path):
    attempt = write(tmp_path, range(3))
    path = attempt.folder / schema.CURVE
    with open(path, "a") as file:
        file.write('{"step": 3, "val')
    assert len(record.read_record(tmp_path)) == 3
    attempt.append(schema.CURVE, [{"step": 3, "value": "b"}])  # not behind half a line
    assert values(record.read_record(tmp_path))[2:] == [(2, "a"), (3, "b")]
    path.write_text('{"step": 0}\n{"st\n{"step": 2}\n')
    with pytest.raises(schema.InputError, match="line 2 is not JSON"):
        record.read_record(tmp_path)


def test_done_names_the_attempt_to_read_until_an_extension_is_done(tmp_path):
    first = write(tmp_path, range(3))
    for row in record.read_record(tmp_path):
        assert row["step"] < 3
    first.append(
        schema.CURVE,
        [{"step": 3, "value": "a", "prompts_seen": 1, "train_flops": 2.0, "timing": {"wall_seconds": 1.0}}],
    )
    record.finish(first, 3, {"steps": 3})
    assert record.committed_step(tmp_path) == 3
    write(tmp_path, [4], parent=1, first=4, value="b")
    assert len(record.read_record(tmp_path)) == 4
    assert len(record.read_live(tmp_path)) == 5
    assert len(record.read_committed(tmp_path)) == 4


def test_a_fenced_attempt_cannot_finish(tmp_path):
    old = write(tmp_path, range(2))
    write(tmp_path, range(2), value="b")
    with pytest.raises(record.StaleAttempt):
        record.finish(old, 1, {})
    assert not (tmp_path / schema.DONE).exists()


def test_committed_rows_end_at_the_newest_checkpoint(tmp_path):
    attempt = write(tmp_path, range(6))
    assert record.read_committed(tmp_path) == []
    (attempt.folder / "checkpoint-000003").mkdir()
    assert [row["step"] for row in record.read_committed(tmp_path)] == [0, 1, 2, 3]


def test_nan_is_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        files.dump_row({"step": 1, "x": float("nan")})


def test_a_lock_dies_with_its_holder(tmp_path):
    lock = tmp_path / "lock"
    code = (
        "import pathlib, sys; from scaling import files\n"
        "with files.exclusive(pathlib.Path(sys.argv[1])): print('held', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with files.exclusive(lock, wait=False) as mine:
        assert not mine
    holder.kill()
    holder.wait()
    with files.exclusive(lock, wait=False) as mine:
        assert mine
