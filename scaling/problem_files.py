"""Files of problems with known answers: parquet, JSONL, JSON or CSV, plain or gzipped, in verl's schema or flat.

A row holds a problem (`prompt`, `problem` or `question`; text, or a list of messages with one of the user) and a ground
truth (`reward_model.ground_truth`, `ground_truth` or `answer`); other columns are named by a mapping. What cannot be
read is an error of one line with the row; nothing is guessed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.answers.boxes import boxed_answers
from scaling.schema import InputError, one_line

REQUEST = "Please solve step by step and put your final answer within \\boxed{}."
TEXT_KEYS, ANSWER_KEYS = ("prompt", "problem", "question"), ("reward_model.ground_truth", "ground_truth", "answer")
KINDS = (".parquet", ".jsonl", ".json", ".csv")
ENDS = (".", "?", "!", ":", "。", "？", "！", "：")
Row = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    text: str  # the user message
    answer: str
    pass_rate: float  # of a reference model; 0 where it is missing


@dataclass(frozen=True)
class ProblemFile:
    problems: list[Problem]
    rated: int  # rows with a pass rate
    system: int  # rows with a system message, which stands before the problem

    def notes(self, path: Path) -> list[str]:
        """What a reader should know about the file."""
        if not self.system:
            return []
        return [f"{path}: {self.system} of {len(self.problems)} problems have a system message; it is put before them"]


def read_problem_file(
    path: Path, pass_rate: str, *, problem: str | None = None, answer: str | None = None, usual: bool = False
) -> ProblemFile:
    """The problems of a file.

    Args:
        path: .parquet, .jsonl, .json or .csv, or one of the last three with .gz behind.
        pass_rate: key of extra_info, or column, that holds the pass rate of a reference model.
        problem, answer: columns in place of the usual ones; a dot goes into a column, `reward_model.ground_truth`.
        usual: read the usual columns where those are not there.

    Raises InputError naming the row and what it lacks.
    """
    if not path.is_file():
        raise InputError(f"task math: there is no file {path} (looked in {path.absolute().parent}).")
    rows, is_text = _rows(path)
    found, rated, system = [], 0, 0
    texts = (*((problem,) if problem else ()), *(TEXT_KEYS if usual or not problem else ()))
    truths = (*((answer,) if answer else ()), *(ANSWER_KEYS if usual or not answer else ()))
    for number, row in enumerate(rows):
        where = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise InputError(f"{where} is not an object with keys.")
        row = _unpacked(row, where)
        text, has_system = _text(row, where, texts)
        truth = _truth(row, where, truths)
        if text is None or truth is None:
            wanted = f"a problem ({', '.join(texts)}) and a ground truth ({', '.join(truths)})"
            raise InputError(f"{where}: wants {wanted}; it has {', '.join(map(str, row))}.")
        rate = _rate(row, where, pass_rate, is_text)
        rated, system = rated + (rate is not None), system + has_system
        found.append(Problem(_with_request(text), truth, 0.0 if rate is None else rate))
    if not found:
        raise InputError(f"{path}: holds no problem.")
    return ProblemFile(found, rated, system)


# ---------------------------------------------------------------- rows


def _rows(path: Path) -> tuple[list[Any], bool]:
    """The rows, and whether every value of them is text."""
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix not in KINDS or (suffix == ".parquet" and path.suffix == ".gz"):
        raise InputError(
            f"{path}: problems are read from {', '.join(KINDS)} files, all but the first also with .gz, not {suffix!r}."
        )
    if suffix == ".parquet":
        return _parquet_rows(path), False
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: is not gzip ({one_line(error, 120)}).") from None
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")  # U+2028 and U+0085 end no line of JSON
    texts = [_decoded(line, f"{path}: line {number}") for number, line in enumerate(lines, start=1)]
    if suffix == ".csv":
        return _csv_rows(texts, path), True
    if suffix == ".json" and texts[0].lstrip().startswith("["):
        rows = _json("\n".join(texts), str(path))
        return rows, False
    return [_json(text, f"{path}: line {number}") for number, text in enumerate(texts, start=1) if text.strip()], False


def _parquet_rows(path: Path) -> list[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: is not parquet ({one_line(error, 120)}).") from None


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where} is not UTF-8 ({error.reason} at byte {error.start}); save the file as UTF-8."
        ) from None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON ({one_line(error, 120)}); restore the file.") from None


def _csv_rows(texts: list[str], path: Path) -> list[Any]:
    try:
        rows = list(csv.DictReader(io.StringIO("\n".join(texts), newline=""), strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: is not CSV ({one_line(error, 120)}).") from None
    for number, row in enumerate(rows):
        if None in row or None in row.values():
            raise InputError(f"{path}: row {number} has not as many values as the head has columns.")
    return rows


# ---------------------------------------------------------------- one row


def _unpacked(row: Row, where: str) -> Row:
    """With `reward_model` and `extra_info` as objects, where they are written as text of JSON."""
    found = dict(row)
    for key in ("reward_model", "extra_info"):
        value = found.get(key)
        if isinstance(value, str) and value.strip():
            value = found[key] = _json(value, f"{where}: {key}")
        if value is not None and value != "" and not isinstance(value, dict):
            raise InputError(f"{where}: {key} is no object with keys but {one_line(repr(value), 60)}.")
    return found


def _at(row: Row, key: str) -> Any:
    """The value of a column, or of a key within one: reward_model.ground_truth."""
    if key in row:
        return row[key]
    outer, dot, inner = key.partition(".")
    value = row.get(outer) if dot else None
    return _at(value, inner) if isinstance(value, dict) else None


def _first(row: Row, keys: tuple[str, ...], missing: Callable[[Any], bool]) -> Any:
    return next((value for key in keys if not missing(value := _at(row, key))), None)


def _text(row: Row, where: str, keys: tuple[str, ...]) -> tuple[str | None, bool]:
    """The user message, after the system message where there is one; None where there is no problem."""
    value = _first(row, keys, lambda value: value is None or value == "" or value == [])
    if value is None or isinstance(value, str):
        return (value.strip() or None) if value else None, False
    if not isinstance(value, list):
        raise InputError(f"{where}: the problem is {type(value).__name__}; wanted are text or a list of messages.")
    if len(value) == 1 and isinstance(value[0], str):
        return value[0].strip() or None, False
    said: list[tuple[str, str]] = []
    for message in value:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str) or not content.strip():
            raise InputError(f"{where}: the problem has {len(value)} messages, one of them without a role or a text.")
        said.append((role, content.strip()))
    roles = [role for role, _ in said]
    if roles[-1] == "assistant" and len(roles) > 1:  # the solution, as data for demonstrations have it
        said, roles = said[:-1], roles[:-1]
    if roles not in (["user"], ["system", "user"]):
        raise InputError(
            f"{where}: the problem has {len(value)} messages ({', '.join(roles)}); one user message is wanted; a "
            "system message may stand before it and an assistant's behind it."
        )
    return "\n\n".join(content for _, content in said), len(said) > 1


def _truth(row: Row, where: str, keys: tuple[str, ...]) -> str | None:
    value = _first(row, keys, lambda value: value is None)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict | list):
        raise InputError(f"{where}: the ground truth is {one_line(repr(value), 60)}; wanted is one text or number.")
    text = "" if value is None else str(value).strip()
    odd = isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)) or text.lower() == "nan"
    if odd:
        raise InputError(f"{where}: the ground truth is {value!r}, which is no answer; write it as text.")
    if isinstance(value, str) and "\\boxed" in text and not re.fullmatch(r"\\boxed\s*\{[^{}]*\}", text):
        boxed = boxed_answers(text)  # a whole solution
        text = ", ".join(boxed.last) if boxed else text
    return text.rpartition("####")[2].strip() or None


def _rate(row: Row, where: str, key: str, is_text: bool) -> float | None:
    extra = row.get("extra_info")
    value = (extra if isinstance(extra, dict) else {}).get(key, row.get(key))
    if is_text and isinstance(value, str):
        try:
            value = float(value) if value.strip() else None
        except ValueError:
            raise InputError(f"{where}: {key} is {value!r}; a pass rate is a number from 0 to 1.") from None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"{where}: {key} is {value!r}; a pass rate is a number from 0 to 1.")
    return float(value)


def _with_request(text: str) -> str:
    """The problem with a request for a boxed answer, where it has none."""
    if "\\boxed" in text:
        return text
    return f"{text}{'' if text.endswith(ENDS) else '.'} {REQUEST}"
