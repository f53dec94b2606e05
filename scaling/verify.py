"""Is the record of a run whole? Read again everything that a run folder claims, and say what does not fit.

Checked: the config is the run's, every step stands once and in order, the merged record is what the attempts wrote,
nothing changed since DONE, every checkpoint that is kept is the one that was saved, every attempt went on from the
state that its parent saved, and the prompts that were consumed are those of the stream, each of U exactly tau times.
Beside it: whether a record that was made again would have the same bytes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from scaling import checkpoint, files, record, schema
from scaling.config.identity import run_id
from scaling.config.reading import parse_config
from scaling.config.run import RunConfig
from scaling.policy import described_policy, load_encoding
from scaling.prompts import PromptStream
from scaling.rollout_types import Task
from scaling.schema import InputError, one_line
from scaling.tasks import load_task


def problems(run: Path, name: str) -> list[str]:
    """What is wrong with the record of one run, in words; empty where it is whole.

    Args:
        run: the run folder.
        name: the run_id that the study knows it by.
    """
    damage = record.damage(run)
    faults = [f"damaged: {damage}"] if damage else []
    try:
        done = record.read_done(run)
        if done is None and faults:
            return faults
        if done is None:
            failed = record.read_failure(run / schema.FAILED)
            return [f"not done: {failed['class']}: {failed['message']}" if failed else "not done"]
        config = parse_config(files.read_json(run / schema.CONFIG)["config"], schema.CONFIG)
        return [
            *faults,
            *_identity(run, config, name),
            *_merged(run, done),
            *_steps(run, done),
            *_states(run),
            *_prompts(run, config),
        ]
    except (OSError, LookupError, TypeError, ValueError, InputError) as error:  # a damaged file may do anything
        return faults or [f"cannot be read: {type(error).__name__}: {one_line(error, 300)}"]


class EqualBytes(NamedTuple):
    """Whether another run of the config, killed and resumed or not, is promised the bytes of this record.

    Fields:
        promised: whether it is, under `conditions`.
        because: what speaks against it; empty where it is promised.
        conditions: what must be the same: hardware, engine, versions, threads and processes.
    """

    promised: bool
    because: list[str]
    conditions: dict[str, Any]


# Of attempt.json. The bytes of two attempts that differ in one of these may differ.
CONDITIONS = (
    "hardware", "engine", "package", "commit", "python", "torch", "transformers", "threads", "processes", "parallel",
)  # fmt: skip
OF_ENGINE = ("name", "version", "dtype", "device")


def equal_bytes(run: Path) -> EqualBytes:
    """What the attempts of a record say of its bytes; raises InputError where one of them is missing."""
    numbers = [segment.number for segment in record.lineage(run)]
    if not numbers:
        return EqualBytes(False, ["no attempt has begun"], {})
    attempts = {number: record.read_attempt(run, number) for number in numbers}
    because = []
    for number, attempt in attempts.items():
        if "deterministic" not in attempt:
            because.append(f"attempt {number} does not say whether what it computed is deterministic")
        because += [f"not deterministic: {name}" for name in attempt.get("nondeterministic", [])]
    conditions = [_conditions(attempt) for attempt in attempts.values()]
    for name in CONDITIONS:
        shown = list(dict.fromkeys(_shown(one.get(name)) for one in conditions))
        if len(shown) > 1:
            because.append(f"its attempts differ in {name}: {', then '.join(shown)}")
    because = list(dict.fromkeys(because))
    return EqualBytes(not because, because, conditions[-1])


def _conditions(attempt: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {"processes": 1} | {name: attempt[name] for name in CONDITIONS if name in attempt}
    if isinstance(values.get("engine"), dict):  # its servers and their Python are no part of what is computed
        values["engine"] = {name: values["engine"].get(name) for name in OF_ENGINE}
    return values


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(map(str, value.values()))
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def sentence(of_runs: dict[str, EqualBytes]) -> str:
    """One line on the bytes of several runs: for how many equal ones are promised, on what, and why not for others."""
    promised = {name: one for name, one in of_runs.items() if one.promised}
    text = f"equal bytes are promised for {len(promised)} of {len(of_runs)} runs"
    where = list(dict.fromkeys(_shown(one.conditions.get("hardware")) for one in promised.values()))
    if where:
        text += f", on the same hardware ({' or '.join(where)}), with the same engine, versions, threads and processes"
    others = {name: "; ".join(one.because) for name, one in of_runs.items() if not one.promised}
    whys = [
        f"{', '.join(name for name in others if others[name] == why)}: {why}" for why in dict.fromkeys(others.values())
    ]
    return text + (f". Not for {'. Not for '.join(whys)}" if whys else "")


def _identity(run: Path, config: RunConfig, name: str) -> list[str]:
    said = files.read_json(run / schema.CONFIG)["run_id"]
    computed = run_id(config)
    if not name == said == computed:
        return [f"{schema.CONFIG} is of run {computed} and says {said}; the study has {name}"]
    return []


def _merged(run: Path, done: record.Done) -> list[str]:
    """The merged files against the attempts' rows and against the hashes that DONE keeps."""
    faults = []
    for name, digest in done["sha256"].items():
        if not (run / name).exists():
            faults.append(f"{name} is missing")
        elif files.sha256(run / name) != digest:
            faults.append(f"{name} has changed since the run was done")
    for name in schema.RECORDS:
        rows = "".join(map(files.dump_row, record.read_record(run, name, done["attempt"])))
        if (run / name).exists() and rows.encode() != (run / name).read_bytes():
            faults.append(f"{name} is not what the attempts wrote")
    return faults


def _steps(run: Path, done: record.Done) -> list[str]:
    faults = []
    for name, first in ((schema.CURVE, 0), (schema.PROMPTS, 1)):
        written = [row["step"] for row in files.read_rows(run / name)]
        if written != list(range(first, done["step"] + 1)):
            count = Counter(written)
            missing = [step for step in range(first, done["step"] + 1) if step not in count]
            double = [step for step, times in count.items() if times > 1]
            faults.append(
                f"{name} has not each step {first} to {done['step']} once: missing {missing}, double {double}"
            )
    return faults


def _states(run: Path) -> list[str]:
    """Checkpoints against the hashes written at their saving; what was loaded against what was saved."""
    faults = []
    for number in record.attempt_numbers(run):
        saved = {
            row["step"]: row["sha256"] for row in files.read_rows(record.attempt_folder(run, number) / schema.SAVES)
        }
        for step, path in record.checkpoints(run, number):
            manifest = files.read_json(path / checkpoint.MANIFEST)
            digest = files.sha256(path / checkpoint.STATE)
            if manifest != {"step": step, "sha256": digest} or saved.get(step) != digest:
                faults.append(f"checkpoint of step {step}, attempt {number}, is not the one that was saved")
        loaded = record.read_attempt(run, number).get("loaded")
        if loaded:
            parent = record.attempt_folder(run, loaded["attempt"]) / schema.SAVES
            before = {row["step"]: row["sha256"] for row in files.read_rows(parent)}
            if before.get(loaded["step"]) != loaded["sha256"]:
                faults.append(f"attempt {number} went on from another state than attempt {loaded['attempt']} saved")
    return faults


def _task(run: Path, config: RunConfig) -> Task:
    """The task of a run, with the tokenizer of the folder that it started from, or else of its export."""
    if config.model.folder is None:
        return load_task(config.task)
    folders = [Path(config.model.folder), run / "model"]
    folder = next((path for path in folders if (path / schema.CONFIG).is_file()), folders[0])
    return load_task(config.task, load_encoding(str(folder), described_policy(folder)))


def _prompts(run: Path, config: RunConfig) -> list[str]:
    """Consumed problems against the stream, and how often each one was."""
    stream = PromptStream(_task(run, config), config.data, config.seed, config.model.size or "path")
    rows = files.read_rows(run / schema.PROMPTS)
    size, seen, other = config.data.prompts_per_step, 0, []
    most = config.batch.rounds if config.batch.select == "informative" else 1
    for row in rows:
        count = len(row["ids"])
        rounds, rest = divmod(count, size)
        if rest or not 1 <= rounds <= most or row["ids"] != stream.ids(seen, count):
            other.append(row["step"])
        seen += count
    if other:
        return [f"at steps {other[:5]} other prompts were consumed than the stream has"]
    counted = max((row["prompts_seen"] for row in files.read_rows(run / schema.CURVE)), default=0)
    if counted != seen:
        return [f"{schema.CURVE} counts {counted} prompts, and {seen} were consumed"]
    times = Counter(prompt for row in rows for prompt in row["ids"])
    unique = config.data.prompts_unique or seen
    least, rest = divmod(seen, unique)
    # After whole passes each problem was consumed tau times; in a broken last one some were once more.
    if sorted(times.values()) != sorted([least + 1] * rest + [least] * (unique - rest) if least else [1] * rest):
        return [f"the {unique} distinct prompts were not consumed {seen / unique:g} times each"]
    return []
