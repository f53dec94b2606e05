"""File systems without locks, without room, seen from several hosts; and code that is not what was submitted."""

import errno
import fcntl
import os
import socket

import pytest

from scaling import files, schema
from scaling.schema import InputError
from sweeps import payloads, slurm_task
from sweeps.executors import slurm
from sweeps.reconcile import OTHER_CODE


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_in_one_line(tmp_path, monkeypatch, code):
    def flock(file, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(InputError, match=r"no locks.*-o flock") as told, files.exclusive(tmp_path / "lock"):
        pass
    assert "\n" not in str(told.value)


def test_temporary_names_differ_between_hosts_and_processes_of_one_number(tmp_path, monkeypatch):
    names = {files.beside(tmp_path / "x") for _ in range(20)}
    monkeypatch.setattr(socket, "gethostname", lambda: "other")
    names |= {files.beside(tmp_path / "x")}
    assert len(names) == 21 and all(name.parent == tmp_path and name.name.startswith(".x.") for name in names)


def test_a_write_that_finds_no_room_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    files.write_json(tmp_path / "a.json", 1)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as told:
        files.write_json(tmp_path / "a.json", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert files.read_json(tmp_path / "a.json") == 1
    assert files.is_disk_full(told.value)
    assert files.is_disk_full(RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/3"))
    assert not files.is_disk_full(OSError(errno.EACCES, "Permission denied"))
    assert payloads.no_room(told.value, tmp_path).count("\n") == 0


def test_what_gets_a_name_is_on_the_disk_before(tmp_path, monkeypatch):
    """The copy of the code: every file and folder of it is synced, and only then renamed."""
    events: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda a, b: (events.append("rename"), rename(a, b))[1])
    code = slurm.snapshot(tmp_path)
    before = events[: events.index("rename")]
    assert {path.name for path in payloads.code_files(code)} <= {os.path.basename(path) for path in before}
    assert payloads.code_hash(code) == code.name


def test_code_that_was_changed_after_the_launch_is_not_run_and_is_made_anew(tmp_path, monkeypatch, capsys):
    code = slurm.snapshot(tmp_path)
    (code / "scaling" / "schema.py").write_text("changed = True\n")
    place = tmp_path / schema.SLURM / "token"
    place.mkdir(parents=True)
    about = {"kind": "runs", "token": "token", "code": code.name, "processes": 1, "tasks": [["x"]]}
    files.write_json(place / "tasks.json", about)
    monkeypatch.setattr(slurm_task, "__file__", str(code / "sweeps" / "slurm_task.py"))
    assert slurm_task.main(place / "tasks.json") == OTHER_CODE
    assert "the code is not what was submitted; launch again" in capsys.readouterr().err
    assert slurm.snapshot(tmp_path) == code
    assert payloads.code_hash(code) == code.name
