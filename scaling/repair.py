"""Put the record of a damaged run back from what is left of it, or set the run aside; nothing is deleted.

A finished run has its rows twice, merged and in its attempts, and DONE keeps the hashes: what has the hash is put in
the place of what has not. An unfinished run falls back to the newest checkpoint before the damage, and its next start
makes the same rows again. Files that are replaced are first moved to the folder aside; what cannot be put back goes
there whole, and the run begins anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from scaling import files, record, schema
from scaling.config.identity import policy_shape
from scaling.config.run import RunConfig
from scaling.files import Row
from scaling.schema import InputError

BROKEN = (InputError, OSError, KeyError, TypeError, ValueError, AttributeError, IndexError)


def repair(run: Path, config: RunConfig, aside: Path) -> str | None:
    """Repair one run folder; returns what was done, in words, None where nothing was damaged.

    Args:
        run: the run folder.
        config: the run as the study plans it, in case config.json is lost.
        aside: a folder that does not exist yet, for what is replaced.

    Raises InputError where the run is being trained.
    """
    reason = record.damage(run)
    if reason is None:
        return None
    with files.exclusive(run / "lock", wait=False) as mine:
        if mine is None:
            raise InputError(f"{run}: it is being trained; stop it first.")
        work = _Repair(run, config, aside)
        try:
            work.put_back()
        except BROKEN as error:
            work.restore()
            what = schema.one_line(error)
        else:
            what = record.damage(run)
            if what is None:
                return f"{reason}: put back {', '.join(work.done)}; the files as they were: {aside}"
            work.restore()
        aside.mkdir(parents=True, exist_ok=True)
        os.rename(run, aside / "run")
        return f"{reason}: cannot be put back ({what}), set aside as {aside / 'run'}; the next launch begins it anew"


class _Repair:
    """One run folder, and what was done to it."""

    def __init__(self, run: Path, config: RunConfig, aside: Path):
        self.run, self.config, self.aside = run, config, aside
        self.done: list[str] = []
        self.moved: list[tuple[Path, Path | None]] = []  # (place in the run, where it is kept or None if it was new)

    def keep(self, path: Path) -> None:
        """Move a file or folder of the run to the folder aside, before another takes its place."""
        kept = self.aside / path.relative_to(self.run) if path.exists() else None
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, kept)
        self.moved.append((path, kept))

    def write(self, path: Path, text: str) -> None:
        self.keep(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, text)
        self.done.append(str(path.relative_to(self.run)))

    def restore(self) -> None:
        """Everything as it was found."""
        for path, kept in reversed(self.moved):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            if kept is not None:
                os.rename(kept, path)

    def put_back(self) -> None:
        run = self.run
        failed = _read(run / schema.FAILED)
        if (run / schema.FAILED).exists() and not (isinstance(failed, dict) and {"class", "message"} <= failed.keys()):
            self.keep(run / schema.FAILED)
            self.done.append(f"nothing for {schema.FAILED}")
        done = _read(run / schema.DONE)
        done = done if isinstance(done, dict) and {"attempt", "step", "sha256", "reached"} <= done.keys() else None
        for number in record.attempt_numbers(run):
            self.attempt(number, done)
        if done is not None:
            self.lost_attempts(done)
        self.config_file(done)
        if done is not None:
            self.finished(done)
            if (record.newest_attempt(run) or 0) > done["attempt"]:
                self.unfinished()
        elif (run / schema.DONE).exists():
            self.finish_again()
        else:
            self.unfinished()

    # ------------------------------------------------------------ attempts

    def attempt(self, number: int, done: dict[str, Any] | None) -> None:
        """attempt.json of an attempt, from its rows and from what the attempts before it saved."""
        folder = record.attempt_folder(self.run, number)
        told = _read(folder / schema.ATTEMPT)
        if isinstance(told, dict) and isinstance(told.get("first_step"), int) and "parent" in told:
            return
        rows = _readable(folder / schema.CURVE)
        if not rows:
            if (folder / schema.ATTEMPT).exists():  # it had come to nothing
                self.keep(folder / schema.ATTEMPT)
            return
        about = _about(rows) | ({"reason": "done"} if done and done["attempt"] == number else {})
        if first := rows[0]["step"]:
            saved = [
                (parent, row["sha256"])
                for parent in record.attempt_numbers(self.run)
                for row in _readable(record.attempt_folder(self.run, parent) / schema.SAVES)
                if parent < number and row["step"] == first - 1
            ]
            if not saved:
                raise InputError(f"no attempt saved step {first - 1}, from which attempt {number} went on")
            about |= {"parent": saved[-1][0]}
            about |= {"loaded": {"attempt": saved[-1][0], "step": first - 1, "sha256": saved[-1][1]}}
        self.write(folder / schema.ATTEMPT, files.dump_row(about))

    def lost_attempts(self, done: dict[str, Any]) -> None:
        """Folders of attempts that others, or DONE, stand on: their rows are in the merged record."""
        wanted, first, child = done["attempt"], done["step"] + 1, None
        while wanted is not None:
            folder = record.attempt_folder(self.run, wanted)
            told = _read(folder / schema.ATTEMPT)
            if told is None:
                for name in schema.RECORDS:
                    rows = [row for row in self.merged(name, done) if row["step"] < first]
                    self.write(folder / name, "".join(map(files.dump_row, rows)))
                loaded = (child or {}).get("loaded")
                saves = [{"step": loaded["step"], "sha256": loaded["sha256"]}] if loaded else []
                self.write(folder / schema.SAVES, "".join(map(files.dump_row, saves)))
                about = _about(_readable(folder / schema.CURVE))
                self.write(folder / schema.ATTEMPT, files.dump_row(about))
                return
            wanted, first, child = told["parent"], min(first, told["first_step"]), told

    def merged(self, name: str, done: dict[str, Any]) -> list[Row]:
        """Rows of a merged file that is still what DONE says. Raises InputError where it is not."""
        path = self.run / name
        if not path.exists() or files.sha256(path) != done["sha256"].get(name):
            raise InputError(f"{name} is damaged in the attempts, and merged too")
        return files.read_rows(path)

    # ------------------------------------------------------------ the rest

    def config_file(self, done: dict[str, Any] | None) -> None:
        path = self.run / schema.CONFIG
        told = _read(path)
        wanted = done["sha256"].get(schema.CONFIG) if done is not None else None
        legible = isinstance(told, dict) and {"run_id", "config", "model"} <= told.keys()
        if legible and wanted in (None, files.sha256(path)):
            return
        if not record.attempt_numbers(self.run):
            return
        shape = policy_shape(self.config)
        if shape is None:
            raise InputError(f"{schema.CONFIG} is lost, and the parameters of the model are counted from it alone")
        from scaling.process import write_config

        self.keep(path)
        write_config(self.config, self.run, shape.num_params, shape.num_params_non_embedding)
        self.done.append(schema.CONFIG)
        if done is not None and files.sha256(path) != done["sha256"].get(schema.CONFIG):
            # The same run, but what may change without being another: its name, resources, a longer stop.
            done["sha256"][schema.CONFIG] = files.sha256(path)
            self.keep(self.run / schema.DONE)
            files.write_json(self.run / schema.DONE, done)
            self.done.append(schema.DONE)

    def finished(self, done: dict[str, Any]) -> None:
        """The rows of a finished run: what has the hash of DONE in the place of what has not."""
        for name in (name for name in schema.RECORDS if name in done["sha256"]):
            try:
                text = "".join(map(files.dump_row, record.read_record(self.run, name, done["attempt"])))
            except BROKEN:
                text = ""
            if hashlib.sha256(text.encode()).hexdigest() != done["sha256"][name]:
                self.rows_of_attempts(name, self.merged(name, done), done["attempt"])
            elif not (self.run / name).exists() or files.sha256(self.run / name) != done["sha256"][name]:
                self.write(self.run / name, text)

    def rows_of_attempts(self, name: str, merged: list[Row], newest: int) -> None:
        for number, first, before in record.lineage(self.run, newest):
            path = record.attempt_folder(self.run, number) / name
            rows = [row for row in merged if row["step"] >= first and (before is None or row["step"] < before)]
            later = [row for row in _readable(path) if before is not None and row["step"] >= before]
            text = "".join(map(files.dump_row, [*rows, *later]))
            if not path.exists() or path.read_bytes() != text.encode():
                self.write(path, text)

    def finish_again(self) -> None:
        """DONE anew, where the newest attempt says that it came to the end; else the run goes on from a checkpoint."""
        newest = record.newest_attempt(self.run)
        about = record.read_attempt(self.run, newest) if newest else {}
        self.keep(self.run / schema.DONE)
        if newest is None or about.get("reason") != "done":
            self.done.append(f"nothing for {schema.DONE}: the run goes on")
            return
        for name in schema.RECORDS:
            self.keep(self.run / name)
        stop = files.read_json(self.run / schema.CONFIG)["config"]["stop"]
        record.finish(record.Attempt(self.run, newest), about["last_step"], stop)
        self.done.append(schema.DONE)

    def unfinished(self) -> None:
        """Cut the rows of the newest attempt before the damage, and set aside the checkpoints behind it."""
        newest = record.newest_attempt(self.run)
        if newest is None:
            return
        folder = record.attempt_folder(self.run, newest)
        first = record.read_attempt(self.run, newest)["first_step"]
        whole = [row for row in _readable(folder / schema.CURVE) if row["step"] >= first]
        count = next((i for i, row in enumerate(whole) if row["step"] != first + i), len(whole))
        text = "".join(map(files.dump_row, whole[:count]))
        if (folder / schema.CURVE).exists() and (folder / schema.CURVE).read_bytes() != text.encode():
            self.write(folder / schema.CURVE, text)
        for step, path in record.checkpoints(self.run, newest):
            if step >= first + count:
                self.keep(path)
                self.done.append(f"nothing for {path.name}")


def _read(path: Path) -> Any:
    """The JSON of a file, None where it has none."""
    try:
        return files.read_json(path)
    except InputError:
        return None


def _readable(path: Path) -> list[Row]:
    """The rows of a file before the first that cannot be read."""
    rows: list[Row] = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        try:
            rows += [row for row in files.parse_rows([line], path) if isinstance(row["step"], int)]
        except BROKEN:
            break
    return rows


def _about(rows: list[Row]) -> dict[str, Any]:
    """What the rows of an attempt say of it."""
    times = [row["timing"]["time_ms"] for row in rows]
    about = {"parent": None, "first_step": rows[0]["step"], "last_step": rows[-1]["step"], "started_ms": times[0]}
    return {**about, "host": "", "pid": 0, "repaired": True}
