"""What a config is, in 12 hex digits: run_id, base_id, the hashes of files and folders, and tau resolved to U.

The run_id covers the scientific fields that differ from their defaults. Models and data files enter by content, never
by path.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import files
from scaling.compute import Shape, train_flops
from scaling.config.parts import DataConfig
from scaling.config.run import LATER_SCIENCE, SCIENCE, RunConfig
from scaling.fields import FILE, FUNCTION, Part
from scaling.models import MODELS, model_shape
from scaling.schema import CONFIG, InputError  # transformers calls its description config.json, too
from scaling.tasks import rollout_tokens


def _delta(part: Part, missing: set[str] | None = None) -> dict[str, Any]:
    """Fields that differ from their defaults, the key of a union and the version where it is not the first.

    A file that is not there is an InputError, or, where `missing` is given, is added to it and enters by its path.
    """
    try:
        return _read_delta(part, missing) if _reads_files(part) else _plain_delta(part)  # type: ignore[arg-type]  # frozen: it has a hash
    except TypeError:  # a part that holds a dictionary has no hash
        return _read_delta(part, missing)


def _reads_files(part: Part) -> bool:
    """Whether a field of the part, or of a part in it, enters by the content of a file."""
    return _names_files(type(part)) or any(
        _reads_files(value) for value in vars(part).values() if isinstance(value, Part)
    )


@functools.cache
def _names_files(kind: type[Part]) -> bool:
    return any(FILE in field.metadata or FUNCTION in field.metadata for field in kind.model_fields.values())


@functools.lru_cache(4096)  # most cells of a plan share most of their parts
def _plain_delta(part: Part) -> dict[str, Any]:
    return _read_delta(part, None)


def _read_delta(part: Part, missing: set[str] | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, Part):
            value = _delta(value, missing)
            if value:
                values[name] = value
        elif isinstance(value, dict) and value and all(isinstance(one, Part) for one in value.values()):
            values[name] = {key: _delta(one, missing) for key, one in value.items()}
        elif (FILE in field.metadata or FUNCTION in field.metadata) and value is not None:
            file, _, called = str(value).rpartition(":") if FUNCTION in field.metadata else (str(value), "", "")
            if missing is not None and not Path(file).exists():
                missing.add(file)
                values[name] = {"missing": file}
            else:
                values[name] = {"content": hash_file(Path(file), name)}
            if called:
                values[name]["name"] = called
        elif value != field.default or name in ("type", "name"):
            values[name] = value
    if part.VERSION != 1:
        values["version"] = part.VERSION
    return values


def hash12(value: Any) -> str:
    """12 hex digits of sha256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def hash_file(path: Path, what: str) -> str:
    """sha256 of a file's content; `what` names the field in the InputError of a file that is not there."""
    try:
        return _sha256((path,))
    except OSError:
        raise InputError(f"{what}: there is no file {path} (looked in {path.absolute().parent}).") from None


def _sha256(paths: tuple[Path, ...], *, names: bool = False) -> str:
    status = [path.stat() for path in paths]
    return _sha256_as_of(paths, names, tuple((s.st_mtime_ns, s.st_size) for s in status))


@functools.lru_cache(4096)  # a plan asks for the same file in every cell
def _sha256_as_of(paths: tuple[Path, ...], names: bool, state: tuple[tuple[int, int], ...]) -> str:
    return files.sha256(*paths, names=names)


def model_files(folder: Path) -> tuple[Path, ...]:
    """config.json and the weights of a transformers folder. Raises InputError where one of them is missing."""
    paths = sorted(p for p in folder.glob("*") if p.name == CONFIG or p.suffix in (".safetensors", ".bin"))
    if not any(p.name == CONFIG for p in paths) or len(paths) < 2:
        raise InputError(f"model.path: {folder} is not a transformers folder (config.json and weights).")
    return tuple(paths)


def base_recipe(config: RunConfig) -> dict[str, Any]:
    """What a base model is made from: task, size, base seed and recipe. Its hash names the artefact."""
    return {
        "task": _delta(config.task),
        "size": config.model.size,
        "base_seed": config.base_seed,
        "recipe": _delta(config.model.base),
    }


def base_id(config: RunConfig) -> str:
    """Name of the base model's artefact: hash of its recipe, known before it exists."""
    return hash12(base_recipe(config))


def run_id(config: RunConfig, missing: set[str] | None = None) -> str:
    """12 hex digits of sha256 over the scientific part: the fields that differ from their defaults.

    A model enters by recipe, by its published name or, given as a path, by content; a data file by content; data by
    the number of distinct prompts, never by tau. `missing` collects data files that are not there, which are an
    InputError without it: an id without them is for planning only.
    """
    config = resolve(config)
    parts = {name: None if name == "model" else getattr(config, name) for name in SCIENCE}  # the model: below
    science = {name: _delta(part, missing) if isinstance(part, Part) else part for name, part in parts.items()}
    for name in LATER_SCIENCE:
        delta = _delta(getattr(config, name), missing)
        if delta and (name != "judge" or config.reward.process == "judge"):
            science[name] = delta
    dtype = {"dtype": config.model.dtype} if config.model.dtype != "float32" else {}
    if config.model.made:
        science["model"] = {**base_recipe(config), **dtype}
    elif config.model.path is None:
        science["model"] = {"hub": MODELS[config.model.size or ""].hub, **dtype}
    else:
        science["model"] = {"content": _sha256(model_files(Path(config.model.path)), names=True), **dtype}
    if config.optimizer.schedule != "constant":
        science["horizon"] = config.stop.steps
    return hash12(science)


def planned_prompts(config: RunConfig) -> int | None:
    """D: prompts that the stop allows, where it says so in steps or prompts.

    Steps say it where each takes as many prompts, so not where `batch.select` is informative.
    """
    steps = config.stop.steps if config.batch.select == "all" else None
    limits = [
        limit
        for limit in (
            steps and steps * config.data.prompts_per_step,
            config.stop.prompts,
        )
        if limit
    ]
    return min(limits, default=None)


def whole_steps(config: RunConfig, prompts: float) -> int:
    """Steps of a run whose limit is so many prompts: it stops after the first step that reaches it, and takes one."""
    return max(1, math.ceil(prompts / config.data.prompts_per_step - 1e-9))


def policy_shape(config: RunConfig) -> Shape | None:
    """The shape of a run's policy; None for a folder whose kind of model is not known."""
    if config.model.size is not None:
        return model_shape(config.model.size, config.task.VOCABULARY)
    try:
        return Shape.from_transformers(files.read_json(Path(config.model.path or "") / CONFIG) or {})
    except InputError:
        return None


@dataclass(frozen=True)
class Budget:
    """What `stop.train_flops` buys by the configuration alone: no run that has finished moves it, and so no run_id.

    Fields:
        prompts: D, in whole steps, as a run stops after one; arithmetic: how it comes about, in words.
    """

    prompts: int
    arithmetic: str


def budget_of(config: RunConfig) -> Budget | None:
    """C / (6 N G tokens), with the tokens that the task reckons a rollout takes; None without a compute budget.

    Raises InputError for a model whose N is not known before it is loaded.
    """
    limit = config.stop.train_flops
    if limit is None:
        return None
    shape = policy_shape(config)
    if shape is None:
        raise InputError(
            f"data.reuse_factor {config.data.reuse_factor:g}: what train_flops {limit:g} buys is not known for the "
            f"model {config.model.path}; give stop.steps or stop.prompts instead, or data.prompts_unique."
        )
    n, group, tokens = shape.num_params_non_embedding, config.rollout.group_size, sum(rollout_tokens(config.task))
    bought = limit / train_flops(n, group * tokens)
    prompts = whole_steps(config, bought) * config.data.prompts_per_step
    return Budget(
        prompts,
        f"train_flops {limit:g} / (6 x {n:,} parameters x {group} rollouts x {tokens:g} tokens) = {bought:.4g} "
        f"prompts, {prompts} in whole steps",
    )


MOST_OFF = 0.05  # of tau: a budget buys no round number of prompts, so U is rounded; further off is another tau


def _unique_of_budget(data: DataConfig, budget: Budget, tau: float) -> int:
    """U where a compute budget says how far a run goes. Raises InputError where tau is not reached."""
    unique = data.prompts_unique or max(1, round(budget.prompts / tau))
    reached = budget.prompts / unique
    if abs(reached / tau - 1) > MOST_OFF:
        raise InputError(
            f"data.reuse_factor {tau:g} is not reached: {budget.arithmetic}; {budget.prompts} / "
            f"{unique} distinct prompts = {reached:.3g}; "
            + ("change one of the three." if data.prompts_unique else "give a larger budget or another reuse_factor.")
        )
    return unique


def resolve(config: RunConfig) -> RunConfig:
    """Resolve tau against the stop: U = D / tau, D by steps, prompts or compute, whichever ends the run first.

    Of a compute budget D is a formula of the configuration (`budget_of`). The result has `prompts_unique` and no
    `reuse_factor`. Raises InputError where they contradict each other.
    """
    data = config.data
    if data.reuse_factor is None:
        return config
    prompts, tau = planned_prompts(config), data.reuse_factor
    budget = None if tau == 1 and data.prompts_unique is None else budget_of(config)
    if budget is not None and budget.prompts < (prompts or math.inf):
        unique = _unique_of_budget(data, budget, tau)
    elif prompts is not None:
        exact = prompts / tau
        if data.prompts_unique is not None and data.prompts_unique != round(exact):
            raise InputError(
                f"data: prompts_unique {data.prompts_unique} contradicts D = {prompts} prompts "
                f"at reuse_factor {tau:g}: {prompts} / {tau:g} = {exact:g}; give two of the three."
            )
        if abs(exact - round(exact)) > 1e-9 or exact < 1:
            raise InputError(
                f"data.reuse_factor: {prompts} prompts / {tau:g} = {exact:g} is not a whole number of distinct "
                f"prompts; choose a reuse_factor that divides {prompts}."
            )
        unique = None if tau == 1 else round(exact)
    else:
        unique = data.prompts_unique
    changed = data.model_copy(update={"prompts_unique": unique, "reuse_factor": None})
    return config.model_copy(update={"data": changed})
