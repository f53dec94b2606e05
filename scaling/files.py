"""Files that survive a crash: atomic writes, locks, JSON and JSON lines, hashes. Standard library only.

There is one copy of each of these, and it is here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from scaling import schema

Row = dict[str, Any]


def beside(path: Path) -> Path:
    """A name next to `path`, for what is put in its place by a rename; no process of any host has the same."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(3)}")


def fsync_tree(folder: Path) -> None:
    """Force a folder and all that it holds to disk: before it gets its name."""
    for place, _, names in os.walk(folder, topdown=False):
        fsync_folder(Path(place), names)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that no room, or no quota, is left; torch and sqlite have words of their own for it."""
    words = "No space left|PytorchStreamWriter failed writing|Disk quota exceeded|database or disk is full"
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or re.search(words, str(error)) is not None


def fsync_folder(path: Path, names: Iterable[str] = ()) -> None:
    """Force to disk what a folder lists, and before it the content of those of its files that are named and exist."""
    for place in [*(path / name for name in names), path]:
        try:
            descriptor = os.open(place, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomic(path: Path, text: str) -> None:
    """Write `text` so that a reader, or a crash, sees the old file or the new one and nothing between."""
    aside = beside(path)
    try:
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)  # on a full disk every such file would take from the room that is made
        raise
    fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The file's JSON, or None where it does not exist. Raises InputError where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:  # of JSON, or of the encoding
        raise schema.InputError(f"{path}: not valid JSON ({error}); delete or restore the file.") from error


@contextlib.contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[IO | None]:
    """Hold an advisory lock on `path`; yields its file, None at once where `wait` is off and somebody else holds it.

    The kernel releases the lock when its holder dies, however it dies: a dead holder blocks nobody.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL):
                raise
            raise schema.InputError(
                f"{path}: its file system has no locks ({error.strerror}): mount it with -o flock (Lustre: or -o "
                "localflock, for one node), or put the study elsewhere."
            ) from None
        yield file  # closing the file releases the lock


# ---------------------------------------------------------------- rows


def read_rows(path: Path) -> list[Row]:
    """Rows of one JSONL file of ours; a torn last line is dropped, a broken line before it is an InputError."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return parse_rows(lines[:-1], path)  # what follows the last newline is torn or empty


def parse_rows(lines: list[bytes], path: Path, *, skip_blank: bool = False) -> list[Row]:
    """The rows of JSON lines, `path` being where they come from. Raises InputError for a line that is not JSON."""
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows += [] if skip_blank and not line.strip() else [json.loads(line)]
        except ValueError as error:  # of JSON, or of the encoding
            raise schema.InputError(f"{path}: line {number} is not JSON ({error}); restore the file.") from error
    return rows


def dump_row(row: Row) -> str:
    """One line of JSON; NaN and infinities are refused, a missing value is null."""
    return json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n"


def append_rows(path: Path, rows: list[Row], *, sync: bool = False) -> None:
    """Append rows to a JSONL file and flush them to the operating system; with `sync` to the disk.

    A last line that a full disk or a kill has cut short is dropped first: no row is ever written behind it.
    """
    with open(path, "ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write("".join(map(dump_row, rows)).encode())
        file.flush()
        if sync:
            os.fsync(file.fileno())


def sha256(*paths: Path, names: bool = False) -> str:
    """Hash of the content of files, one after the other; `names`: each after its name."""
    digest = hashlib.sha256()
    for path in paths:
        if names:
            digest.update(path.name.encode())
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
