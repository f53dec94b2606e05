"""What the record of a run survives, and that `verify` sees what it does not: in process, on tiny real runs."""

import json
import os
import random
import shutil
import subprocess
import time

import pytest
import torch

from scaling import checkpoint, determinism, files, process, record, schema, trainer
from scaling.config.identity import resolve, run_id
from scaling.config.run import RunConfig
from scaling.repair import repair
from scaling.verify import EqualBytes, equal_bytes, problems, sentence

TINY = {
    "model": {"size": "us", "base": {"iterations": 60, "leaping_iterations": 10, "batch_size": 16}},
    "data": {"prompts_per_step": 4, "reuse_factor": 2},
    "rollout": {"group_size": 4},
    "evaluation": {"problems": 8},
    "stop": {"steps": 6},
    "resources": {"checkpoint_steps": 2, "export_model": False},
}
CONFIG = RunConfig.model_validate(TINY)
NAME = run_id(CONFIG)


def train(run, artifacts):
    trainer.train_run(CONFIG, run, artifacts)
    return run


def science(run):
    return [[files.dump_row(record.without_timing(row)) for row in files.read_rows(run / n)] for n in schema.RECORDS]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def finished(artifacts, tmp_path_factory):
    return train(tmp_path_factory.mktemp("run") / "run", artifacts)


@pytest.fixture
def interrupted(artifacts, tmp_path, monkeypatch):
    """A run that died right after step 5, past its checkpoint at 3."""

    class Crash(BaseException):
        pass

    def dying(attempt, name, rows, original=record.Attempt.append):
        original(attempt, name, rows)
        if name == schema.CURVE and rows[0]["step"] == 5:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(record.Attempt, "append", dying)
        with pytest.raises(Crash):
            train(tmp_path / "run", artifacts)
    return tmp_path / "run"


# ---------------------------------------------------------------- verify


def test_a_whole_record_is_whole_also_after_a_resumption(finished, interrupted, artifacts):
    assert problems(finished, NAME) == []
    assert problems(interrupted, NAME) == ["not done"]
    train(interrupted, artifacts)
    assert record.attempt_numbers(interrupted) == [1, 2]
    assert record.read_attempt(interrupted, 2)["loaded"]["step"] == 3
    assert problems(interrupted, NAME) == []
    assert science(interrupted) == science(finished)


# ---------------------------------------------------------------- equal bytes


def test_what_equal_bytes_hang_on_stands_in_the_attempt(finished):
    attempt = record.read_attempt(finished, 1)
    assert attempt["deterministic"] is True and attempt["nondeterministic"] == []
    assert attempt["hardware"] == [determinism.hardware("cpu")]
    version = process.package_version()
    assert attempt["engine"] == {"name": "native", "dtype": "float32", "device": "cpu", "version": version}
    found = equal_bytes(finished)
    assert found.promised and found.because == []
    assert found.conditions["threads"] == 1 and found.conditions["torch"] == torch.__version__


def change(run, number, **fields):
    path = run / schema.ATTEMPTS / f"{number:04d}" / schema.ATTEMPT
    attempt = {**files.read_json(path), **fields}
    files.write_json(path, {name: value for name, value in attempt.items() if value is not None})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"hardware": ["a Z80"]}, "its attempts differ in hardware: {mine}, then a Z80"),
        ({"torch": "1.0"}, f"its attempts differ in torch: {torch.__version__}, then 1.0"),
        ({"processes": 2}, "its attempts differ in processes: 1, then 2"),
        ({"engine": {"name": "hf", "version": "9", "dtype": "float32", "device": "cpu", "servers": 3}},
         "its attempts differ in engine: native {version} float32 cpu, then hf 9 float32 cpu"),
        ({"deterministic": False, "nondeterministic": ["cumsum_cuda_kernel"]}, "not deterministic: cumsum_cuda_kernel"),
        ({"deterministic": None}, "attempt 2 does not say whether what it computed is deterministic"),
    ],
)  # fmt: skip
def test_what_takes_the_promise_of_equal_bytes_away(interrupted, artifacts, fields, why):
    train(interrupted, artifacts)
    assert equal_bytes(interrupted).promised
    change(interrupted, 2, **fields)
    why = why.format(mine=determinism.hardware("cpu"), version=process.package_version())
    assert not equal_bytes(interrupted).promised and equal_bytes(interrupted).because == [why]
    said = sentence({"good": EqualBytes(True, [], {"hardware": ["a 6502"]}), "bad": equal_bytes(interrupted)})
    assert said.startswith("equal bytes are promised for 1 of 2 runs, on the same hardware (a 6502), with the same")
    assert said.endswith(f". Not for bad: {why}")


def test_what_runs_beside_an_engine_does_not_count(interrupted, artifacts):
    train(interrupted, artifacts)
    change(interrupted, 2, engine={**record.read_attempt(interrupted, 1)["engine"], "python": "/elsewhere"})
    assert equal_bytes(interrupted).promised


def test_an_operation_without_a_deterministic_kernel_is_told_of_every_run(artifacts, tmp_path, monkeypatch):
    """torch itself warns once in a process; put_ has no such kernel on a processor."""

    def update_policy(*arguments, original=trainer.update_policy):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
        return original(*arguments)

    monkeypatch.setattr(trainer, "update_policy", update_policy)
    for name in ("one", "two"):
        run = train(tmp_path / name, artifacts)
        attempt = record.read_attempt(run, 1)
        assert attempt["deterministic"] is False and attempt["nondeterministic"] == ["put_"]
        assert equal_bytes(run).because == ["not deterministic: put_"] and problems(run, NAME) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cumsum_cuda_kernel does not have a deterministic implementation, but you", "cumsum_cuda_kernel"),
        ("Memory Efficient attention defaults to a non-deterministic algorithm. To", "Memory Efficient attention"),
        ("Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or, but"
         " this operation is not deterministic because it uses CuBLAS and you have CUDA >= 10.2.", "CuBLAS"),
        ("Something new is nondeterministic\nhere", "Something new is nondeterministic here"),
        ("The epoch parameter is deprecated", None),
    ],
)  # fmt: skip
def test_warnings_of_torch_are_heard_by_the_name_of_the_operation(text, name):
    found = determinism.Determinism()
    assert found.hear(text) is found.hear(text) is (name is not None)
    assert found.reasons == ([name] if name else [])


def test_the_workspace_of_cublas_is_set_before_cuda_starts(monkeypatch):
    monkeypatch.setenv(determinism.WORKSPACE, "")
    monkeypatch.delenv(determinism.WORKSPACE)
    process.pick_device(CONFIG)
    assert os.environ[determinism.WORKSPACE] == ":4096:8"
    monkeypatch.setenv(determinism.WORKSPACE, ":16:8")
    process.pick_device(CONFIG)
    assert os.environ[determinism.WORKSPACE] == ":16:8"


def test_every_prompt_is_consumed_tau_times(finished):
    rows = files.read_rows(finished / schema.PROMPTS)
    # 6 steps x 4 prompts = 24 at tau = 2: twelve problems, first in order, then each once more.
    assert [n for row in rows[:3] for n in row["ids"]] == list(range(12))
    assert sorted(n for row in rows[3:] for n in row["ids"]) == list(range(12))


FILES = [
    schema.CURVE, schema.ROLLOUTS, schema.OUTCOMES, schema.PROMPTS, schema.CONFIG, "attempts/0001/curve.jsonl",
    "attempts/0001/prompts.jsonl", "attempts/0001/checkpoint-000006/state.pt",
    "attempts/0001/checkpoint-000006/manifest.json", "attempts/0001/saves.jsonl",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_found_wherever_it_is(finished, tmp_path, name):
    run = tmp_path / "run"
    whole = (finished / name).read_bytes()
    shutil.copytree(finished, run)
    draw = random.Random(name)
    for _ in range(40):
        place, bit = draw.randrange(len(whole)), draw.randrange(8)
        if name.endswith(("saves.jsonl", "manifest.json")) and bit == 5:
            continue  # a digit of a hash in capitals, or a blank, says the same
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        (run / name).write_bytes(damaged)
        if name.endswith("saves.jsonl") and json_equal(damaged, whole):
            continue
        assert problems(run, NAME), f"{name}: bit {bit} of byte {place}"
    (run / name).write_bytes(whole)
    assert problems(run, NAME) == []


def json_equal(one: bytes, other: bytes) -> bool:
    """Whether two JSONL texts mean the same of the checkpoints that are kept, the last two."""
    try:
        rows = [{row["step"]: row["sha256"] for row in map(json.loads, text.splitlines())} for text in (one, other)]
    except (ValueError, KeyError, TypeError):
        return False
    kept = sorted(rows[1])[-2:]
    return all(rows[0].get(step) == rows[1][step] for step in kept)


def test_a_step_too_many_or_too_few_is_named(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    curve = tmp_path / "run" / schema.CURVE
    lines = curve.read_text().splitlines(keepends=True)
    curve.write_text("".join(lines[:3] + lines[4:5] + lines[4:]))
    assert any("missing [3], double [4]" in text for text in problems(tmp_path / "run", NAME))


# ---------------------------------------------------------------- faults


def test_a_half_written_last_line_is_made_again(finished, interrupted, artifacts):
    with open(interrupted / "attempts" / "0001" / schema.CURVE, "a") as file:
        file.write('{"step":6,"prompts_se')
    train(interrupted, artifacts)
    assert science(interrupted) == science(finished)


def test_a_checkpoint_cut_in_the_middle_falls_back_to_the_one_before(finished, interrupted, artifacts):
    (newest, path), (before, _) = record.checkpoints(interrupted, 1)
    state = path / checkpoint.STATE
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    train(interrupted, artifacts)
    assert record.read_attempt(interrupted, 2)["loaded"]["step"] == before < newest
    assert science(interrupted) == science(finished)


def test_a_clock_that_jumps_back_changes_nothing_but_the_times(finished, interrupted, artifacts, monkeypatch):
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 86400)
    train(interrupted, artifacts)
    assert science(interrupted) == science(finished)
    assert problems(interrupted, NAME) == []
    times = [row["timing"]["time_ms"] for row in files.read_rows(interrupted / schema.CURVE)]
    assert times[4] < times[3]  # made again a day earlier, and still the one that counts


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB with a run in it; needs root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_the_run_and_costs_nothing_once_there_is_room(finished, artifacts, small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 760_000)
    for left in (760_000, 700_000):
        os.truncate(ballast, left)
        with pytest.raises(OSError, match="No space left"):
            train(small_disk / "run", artifacts)
    ballast.unlink()
    train(small_disk / "run", artifacts)
    assert science(small_disk / "run") == science(finished)
    assert problems(small_disk / "run", NAME) == []


def test_a_read_only_folder_ends_the_run_and_leaves_its_record_alone(finished, artifacts, small_disk, interrupted):
    shutil.copytree(interrupted, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(OSError, match="Read-only file system"):
        train(small_disk / "run", artifacts)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    train(small_disk / "run", artifacts)
    assert science(small_disk / "run") == science(finished)


def test_an_older_process_cannot_take_the_checkpoint_away_from_its_successor(artifacts, tmp_path, monkeypatch):
    """The zombie of a dead node saves while its successor looks for a checkpoint: from the claim on it is fenced."""
    run, events = tmp_path / "run", []

    def load(folder, original=checkpoint.load_newest):
        found = original(folder)
        if record.attempt_numbers(folder)[-1] == 2:
            zombie = record.Attempt(folder, 1)
            with pytest.raises(record.StaleAttempt):
                checkpoint.save(zombie, 99, {})
            events.append(found.step)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(record, "finish", lambda *args: None)
        train(run, artifacts)
    monkeypatch.setattr(checkpoint, "load_newest", load)
    train(run, artifacts)
    assert events == [6]


def test_starts_without_progress_are_counted_from_the_newest_back(tmp_path):
    def attempt(first, committed=()):
        made = record.start_attempt(tmp_path, parent=None, first_step=first)
        for step in committed:
            (made.folder / f"checkpoint-{step:06d}").mkdir()
        return made

    assert record.starts_without_progress(tmp_path) == 0
    attempt(0)
    attempt(0)
    assert record.starts_without_progress(tmp_path) == 2
    third = record.start_attempt(tmp_path, parent=None, first_step=0)
    (third.folder / "checkpoint-000004").mkdir()
    assert record.starts_without_progress(tmp_path) == 0
    record.start_attempt(tmp_path, parent=3, first_step=5)
    assert record.starts_without_progress(tmp_path) == 1
    record.fail(tmp_path, RuntimeError("x"), [])
    record.clear_failure(tmp_path)
    assert record.starts_without_progress(tmp_path) == 0  # a retry begins to count anew
    assert not (tmp_path / schema.FAILED).exists()


# ---------------------------------------------------------------- damage and repair


def cut(path, lines=1):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))


def bad_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] = 0xFF
    path.write_bytes(data)


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def lost(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


ATTEMPT, OWN = f"attempts/0001/{schema.ATTEMPT}", f"attempts/0001/{schema.CURVE}"
DAMAGES = [
    (schema.CURVE, cut), (schema.CURVE, bad_byte), (schema.CURVE, half), (schema.CURVE, lost), (OWN, cut),
    (OWN, bad_byte), (OWN, lost), (schema.CONFIG, lost), (schema.CONFIG, half), (schema.CONFIG, bad_byte),
    (schema.DONE, empty), (schema.DONE, half), (schema.DONE, bad_byte), (ATTEMPT, half), (ATTEMPT, lost),
    (ATTEMPT, empty), ("attempts/0001", lost), (schema.PROMPTS, cut), (schema.OUTCOMES, lost),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), DAMAGES, ids=lambda value: getattr(value, "__name__", value))
def test_a_damaged_run_is_never_taken_for_whole_and_is_put_back(finished, tmp_path, name, damage):
    run = tmp_path / "runs" / NAME
    shutil.copytree(finished, run)
    damage(run / name)
    reason = record.damage(run)
    assert reason and "\n" not in reason and str(tmp_path) not in reason
    assert problems(run, NAME)[0] == f"damaged: {reason}"
    before = (run / name).read_bytes() if (run / name).is_file() else None
    assert "put back" in (repair(run, resolve(CONFIG), tmp_path / "aside") or "")
    assert record.damage(run) is None
    assert science(run) == science(finished)
    assert problems(run, NAME) == []
    if before is not None:
        assert (tmp_path / "aside" / name).read_bytes() == before  # nothing is lost
    assert repair(run, CONFIG, tmp_path / "again") is None


def test_what_cannot_be_put_back_is_set_aside_whole(finished, tmp_path):
    run = tmp_path / "runs" / NAME
    shutil.copytree(finished, run)
    for name in (schema.CURVE, OWN):
        cut(run / name)
    held = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "set aside" in (repair(run, CONFIG, tmp_path / "aside") or "")
    assert not run.exists()
    aside = tmp_path / "aside" / "run"
    assert {path.relative_to(aside): path.read_bytes() for path in aside.rglob("*") if path.is_file()} == held


@pytest.mark.parametrize("damage", [cut, bad_byte])
def test_an_unfinished_run_falls_back_to_the_checkpoint_before_the_damage(
    finished, interrupted, artifacts, tmp_path, damage
):
    assert record.damage(interrupted) is None
    damage(interrupted / OWN)
    assert record.damage(interrupted)
    assert problems(interrupted, NAME)[0].startswith("damaged: ")
    repair(interrupted, CONFIG, tmp_path / "aside")
    assert record.damage(interrupted) is None
    train(interrupted, artifacts)
    assert science(interrupted) == science(finished)
    assert problems(interrupted, NAME) == []


def test_a_run_that_goes_on_is_not_damaged_at_any_moment(artifacts, tmp_path, monkeypatch):
    """Asked between any two writes of a run, its extension included."""
    asked = []

    def ask(original):
        def asking(*args, **kwargs):
            asked.append(record.damage(tmp_path / "run"))
            return original(*args, **kwargs)

        return asking

    for module, name in ((os, "replace"), (os, "rename"), (record, "append_rows")):
        monkeypatch.setattr(module, name, ask(getattr(module, name)))
    for steps in (3, 5):
        config = RunConfig.model_validate({**TINY, "data": {"prompts_per_step": 4}, "stop": {"steps": steps}})
        trainer.train_run(config, tmp_path / "run", artifacts)
    assert len(asked) > 30 and set(asked) == {None}
