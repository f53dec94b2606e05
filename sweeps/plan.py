"""From a study to runs: cells that share a run, what exists already, and what the rest will cost.

Cells that differ only in where they stop are points on one curve: the longest is run, the shorter ones are read off it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scaling import compute, memory, record, schema
from scaling import config as configs
from scaling.compute import Shape
from scaling.config import RunConfig, RunStop, StopConfig
from scaling.ladder import LADDER
from scaling.models import MODELS, model_shape
from scaling.schema import InputError
from sweeps.study import Cell, Study, flatten

LIMITS = list(StopConfig.model_fields)
# Until runs of the study have finished: tokens of a hex chain rollout (prompt, response), and CPU seconds as so much
# per token (small models: the overhead of each operation) and so much per FLOP.
ASSUMED_TOKENS = (9.0, 21.0)
ASSUMED_SECONDS_PER_TOKEN = 1e-5
ASSUMED_SPEED = 3.5e10
DEMONSTRATION_TOKENS = 28.0  # prompt and solution
BYTES_PER_PARAMETER = 16  # float32 weights, gradients and two AdamW moments
DONE, FAILED, RUNNING, STOPPED, WAITING = "done", "failed", "running", "stopped", "waiting"


@dataclass(frozen=True)
class PlannedCell:
    name: str
    block: str
    axes: dict[str, Any]
    stop: StopConfig
    run_id: str


@dataclass(frozen=True)
class PlannedRun:
    run_id: str
    name: str
    config: RunConfig  # its stop is the longest of its cells', the others are in also_evaluate
    cells: list[PlannedCell]

    @property
    def base_id(self) -> str | None:
        return configs.base_id(self.config) if self.config.model.made else None


@dataclass(frozen=True)
class Plan:
    study: Study
    cells: list[PlannedCell]
    runs: list[PlannedRun]
    dropped: list[str] = field(default_factory=list)  # combinations that a `where` left out
    missing: list[str] = field(default_factory=list)  # data files that are not here: the ids of their runs may change

    def check_files(self) -> None:
        """Raise InputError where a data file is missing: before anything is launched."""
        if self.missing:
            raise InputError(
                f"{self.study.where}: there is no file {self.missing[0]}; put the data there, then launch."
            )

    def bases(self) -> dict[str, RunConfig]:
        """Base models that the runs start from: id -> a config that makes it."""
        return {run.base_id: run.config for run in self.runs if run.base_id}


def make_plan(study: Study) -> Plan:
    """Merge equal cells, let cells share runs, and name everything. Raises InputError."""
    cells = study.cells()
    names = _names(cells)
    by_run: dict[str, list[PlannedCell]] = {}
    configs_of: dict[str, list[RunConfig]] = {}
    run_names: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    missing: set[str] = set()
    for cell, (run_name, name) in zip(cells, names, strict=True):
        run_id = configs.run_id(cell.config, missing)
        stop = StopConfig(**{limit: getattr(cell.config.stop, limit) for limit in LIMITS})
        key = (run_id, stop.model_dump_json())
        if key in seen:
            continue  # the same cell in another block
        seen.add(key)
        by_run.setdefault(run_id, []).append(PlannedCell(name, cell.block, cell.axes, stop, run_id))
        configs_of.setdefault(run_id, []).append(cell.config)
        run_names.setdefault(run_id, run_name)
    try:
        runs = [_run(run_id, run_names[run_id], group, configs_of[run_id]) for run_id, group in by_run.items()]
    except InputError as error:
        raise InputError(f"{study.where}: {error}") from None
    return Plan(study, [cell for group in by_run.values() for cell in group], runs, study.dropped(), sorted(missing))


def _run(run_id: str, name: str, cells: list[PlannedCell], cell_configs: list[RunConfig]) -> PlannedRun:
    """The run behind some cells: the one whose stop lies at or beyond every other's."""
    for cell, config in zip(cells, cell_configs, strict=True):
        if all(_reaches(cell.stop, other.stop) for other in cells):
            others = [other.stop for other in cells if other is not cell]
            also = tuple(dict.fromkeys([*config.stop.also_evaluate, *others]))
            stop = RunStop(**cell.stop.model_dump(), also_evaluate=also)
            return PlannedRun(run_id, name, config.model_copy(update={"stop": stop, "name": name}), cells)
    raise InputError(
        f"cells {' and '.join(cell.name for cell in cells[:2])} are one run that stops in two units "
        f"({'; '.join(_stop_text(cell.stop) for cell in cells[:2])}), so neither is known to be longer; use one unit."
    )


def _reaches(far: StopConfig, near: StopConfig) -> bool:
    limits = [(getattr(far, limit), getattr(near, limit)) for limit in LIMITS]
    return all(f is None or (n is not None and f >= n) for f, n in limits)


def _stop_text(stop: StopConfig) -> str:
    return ", ".join(f"{limit} {getattr(stop, limit):g}" for limit in LIMITS if getattr(stop, limit) is not None)


# ---------------------------------------------------------------- names


def _names(cells: list[Cell]) -> list[tuple[str, str]]:
    """(name of the run, name of the cell) that people can read: what varies, e.g. `xs-tau32-seed0`, `s-papo-seed1`."""
    values = [_named_values(cell) for cell in cells]
    varying = [key for key in dict.fromkeys(k for v in values for k in v) if len({str(v.get(key)) for v in values}) > 1]
    names = []
    for value in values:
        words = [value["model"]]
        for key in varying:
            shown = value.get(key)
            if key in ("model", "seed", "stop") or shown is None or (key == "algorithm" and shown == "grpo"):
                continue
            words.append({"tau": f"tau{shown}", "algorithm": shown}.get(key, f"{key.split('.')[-1]}{shown}"))
        names.append("-".join(map(str, [*words, f"seed{value['seed']}"])))
    # Cells that differ only in where they stop say so.
    stops: dict[str, set[str]] = {}
    for name, value in zip(names, values, strict=True):
        stops.setdefault(name, set()).add(value["stop"])
    return [(n, f"{n}-{v['stop']}" if len(stops[n]) > 1 else n) for n, v in zip(names, values, strict=True)]


def _named_values(cell: Cell) -> dict[str, Any]:
    config, tau = cell.config, None
    prompts = configs.planned_prompts(config)
    if config.data.prompts_unique:
        tau = f"{prompts / config.data.prompts_unique:g}" if prompts else f"U{config.data.prompts_unique}"
    others = {
        key: str(value).replace("/", "_")
        for key, value in flatten(cell.axes).items()
        if key not in ("model", "model.size", "algorithm", "algorithm.type", "seed")
        and not key.startswith(("stop.", "data.reuse_factor", "data.prompts_unique", "resources.", "tracking."))
    }
    if config.task.name == "hex_chain" and config.task.modulus != 16:
        others["task.modulus"] = str(config.task.modulus)
    return {
        "model": config.model.size or Path(config.model.path or "").name,
        "algorithm": config.algorithm.type,
        "tau": tau,
        **others,
        "seed": config.seed,
        "stop": _stop_text(config.stop).replace(" ", "").replace(",", "-"),
    }


# ---------------------------------------------------------------- what is there


def run_state(folder: Path, stop: StopConfig) -> str:
    """done / failed / running / stopped / waiting: a pure function of the run folder."""
    if configs.is_done(folder, stop):
        return DONE
    if (folder / "lock").exists():
        with record.exclusive(folder / "lock", wait=False) as free:
            if not free:
                return RUNNING
    if (folder / schema.FAILED).exists():
        return FAILED
    return STOPPED if record.newest_attempt(folder) else WAITING


def cells_document(plan: Plan) -> dict[str, Any]:
    """cells.json: what the analysis loads."""
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "study": plan.study.name,
        "analysis": plan.study.analysis,
        "cells": [
            {
                "cell": cell.name,
                "block": cell.block,
                "axes": cell.axes,
                "stop": cell.stop.model_dump(mode="json", exclude_none=True),
                "run_id": cell.run_id,
            }
            for cell in plan.cells
        ],
        "runs": {run.run_id: run.name for run in plan.runs},
    }


def run_documents(plan: Plan) -> dict[str, dict[str, Any]]:
    """What is known of each run before it starts, as its config.json will tell it, and its tau: by run_id."""
    found = {}
    for run in plan.runs:
        config, shape = run.config, _shape(run.config)
        unique, prompts = config.data.prompts_unique, configs.planned_prompts(config)
        known = config.stop.train_flops is None and config.stop.wall_seconds is None
        # A run stops after a whole step.
        seen = math.ceil(prompts / config.data.prompts_per_step) * config.data.prompts_per_step if prompts else 0
        found[run.run_id] = {
            "config": configs.dump(config),
            "model": {
                "name": config.model.size or Path(config.model.path or "").name,
                "num_params": shape and shape.num_params,
                "num_params_non_embedding": shape and shape.num_params_non_embedding,
            },
            "reuse_factor": 1.0 if unique is None else seen / min(unique, seen) if known else None,
        }
    return found


# ---------------------------------------------------------------- what it will cost


def _shape(config: RunConfig) -> Shape | None:
    """The shape of a run's policy; None for a folder whose kind of model is not known."""
    if config.model.size is not None:
        return model_shape(config.model.size)
    try:  # transformers calls its description config.json too
        return Shape.from_transformers(record.read_json(Path(config.model.path or "") / schema.CONFIG) or {})
    except InputError:
        return None


@dataclass(frozen=True)
class Estimate:
    """Cost of one run to its stop. Lengths and speed are `basis`: measured on finished runs, or assumed.

    `hours` are those of one CPU core, `gpu_hours` those of a run on GPUs: one of them is None.
    """

    memory_gb: float | None  # weights, gradients and optimizer
    basis: str
    steps: float | None = None
    prompts: float | None = None
    tokens: float | None = None
    train_flops: float | None = None
    rollout_flops: float | None = None
    update_flops: float | None = None
    hours: float | None = None
    gpu_hours: float | None = None
    layout: str | None = None
    gpu_gb: dict[str, float] | None = None  # per GPU by part, see scaling.memory
    host_gb: float | None = None  # on the host of process 0, at the most
    fits: bool | None = None
    would_fit: str | None = None  # the nearest layout that fits, where this one does not

    @property
    def length(self) -> float:
        """Hours to order runs by, the longest first; 0 where nothing is known."""
        return self.hours or self.gpu_hours or 0.0


class _Measured(NamedTuple):
    """What the rows of a run say of its cost; of several runs, the mean."""

    prompt: float  # tokens a rollout
    response: float
    rollout: float  # recorded FLOPs / those of rollouts that are all of the mean length
    update: float  # the same for updates, where groups without an advantage cost nothing
    speed: float  # FLOPs of rollouts and updates a CPU second, evaluations counted in the seconds
    step: float  # seconds of wall time, evaluations counted


def _measure(config: RunConfig, rows: list[record.Row]) -> _Measured:
    last, shape = rows[-1], model_shape(config.model.size or "")
    prompt, response = (last[name] / last["rollouts_seen"] for name in ("tokens_prompt", "tokens_generated"))
    like = np.array([prompt]), np.full((1, config.rollout.group_size), response)
    rollout, update = (last["prompts_seen"] * f(shape, *like) for f in (compute.rollout_flops, compute.update_flops))
    seconds = sum(row["timing"]["cpu_seconds"] for row in rows)
    flops = last["rollout_flops"] + last["update_flops"]
    wall = sum(row["timing"][f"{part}_seconds"] for row in rows for part in ("rollout", "update", "eval")) / len(rows)
    ratios = last["rollout_flops"] / rollout, last["update_flops"] / update
    return _Measured(prompt, response, *ratios, flops / seconds, wall)


class Estimator:
    """Costs, from the finished runs of a study folder where there are any, else from stated assumptions."""

    def __init__(self, plan: Plan, out: Path | None = None):
        self.runs: dict[str, _Measured] = {}
        self._places: dict[Any, dict[str, Any]] = {}
        on_gpus = [run.config.resources.gpus > 0 or run.config.model.size in MODELS for run in plan.runs]
        self.on_gpus, self.on_cpus = any(on_gpus), not all(on_gpus)
        sizes: dict[str, list[_Measured]] = {}
        for run in plan.runs if out else []:
            rows = record.read_record(out / schema.RUNS / run.run_id) if out else []
            if len(rows) > 1 and run.config.model.size:
                self.runs[run.run_id] = _measure(run.config, rows)
                sizes.setdefault(run.config.model.size, []).append(self.runs[run.run_id])
        self.sizes = {size: _Measured(*np.mean(values, axis=0).tolist()) for size, values in sizes.items()}

    def basis(self) -> str:
        """What the estimates rest on, a sentence for CPUs and one for GPUs where the study has runs there."""
        made = {size: measured for size, measured in self.sizes.items() if size in LADDER}
        texts = []
        if made:
            shown = ", ".join(f"{size} {measured.speed:.2g}" for size, measured in made.items())
            texts.append(
                f"Measured on runs of this study: lengths, and FLOPs a second on one core ({shown}); "
                "other sizes assumed."
            )
        elif self.on_cpus:
            prompt, response = ASSUMED_TOKENS
            texts.append(
                f"Assumed, nothing has run yet: {prompt:g} prompt and {response:g} response tokens a rollout, "
                f"{ASSUMED_SECONDS_PER_TOKEN * 1e6:g} µs a token and {ASSUMED_SPEED:.2g} FLOPs a second on one core."
            )
        if self.on_gpus:
            found = ", ".join(size for size in self.sizes if size in MODELS)
            start = f"Lengths and time measured for {found}; others assumed" if found else "Assumed for GPUs"
            texts.append(f"{start}: {memory.assumptions()}")
        return " ".join(texts)

    def estimate(self, config: RunConfig, run_id: str | None = None) -> Estimate:
        """The cost of a run to its stop: by what the run itself has done so far, else by the runs of its size."""
        shape, size, group = _shape(config), config.model.size, config.rollout.group_size
        if shape is None:
            return Estimate(None, "unknown", steps=config.stop.steps, prompts=configs.planned_prompts(config))
        measured = self.runs.get(run_id or "", self.sizes.get(size or ""))
        assumed = ASSUMED_TOKENS if config.task.name == "hex_chain" else memory.TOKENS
        prompt, response = (measured.prompt, measured.response) if measured else assumed
        per_prompt = group * (prompt + response)
        limits = [float(limit) for limit in (configs.planned_prompts(config),) if limit]
        if config.stop.train_flops:
            limits.append(config.stop.train_flops / (6 * shape.num_params_non_embedding * per_prompt))
        basis, where = "measured" if measured else "assumed", self._placed(config, shape)
        gigabytes = BYTES_PER_PARAMETER * shape.num_params / 1e9
        if not limits:
            return Estimate(gigabytes, basis, **where)
        prompts = min(limits)
        lengths_PG = np.full((1, group), response)
        rollout = prompts * compute.rollout_flops(shape, np.array([prompt]), lengths_PG)
        update = prompts * compute.update_flops(shape, np.array([prompt]), lengths_PG)
        rollout, update = (rollout * measured.rollout, update * measured.update) if measured else (rollout, update)
        tokens, steps, hours = prompts * per_prompt, prompts / config.data.prompts_per_step, {}
        if where:
            layout = self._layout(config)
            step = measured.step if measured else memory.seconds_a_step(config, shape, layout, (prompt, response))
            hours = {"gpu_hours": steps * step * layout.gpus / 3600}
        elif config.model.made:
            seconds = ASSUMED_SECONDS_PER_TOKEN * tokens + (rollout + update) / ASSUMED_SPEED
            hours = {"hours": ((rollout + update) / measured.speed if measured else seconds) / 3600}
        return Estimate(
            steps=steps,
            prompts=prompts,
            tokens=tokens,
            train_flops=compute.train_flops(shape.num_params_non_embedding, tokens),
            rollout_flops=rollout,
            update_flops=update,
            memory_gb=gigabytes,
            basis=basis,
            **hours,
            **where,
        )

    def _layout(self, config: RunConfig) -> memory.Layout:
        return memory.layout_of(config, MODELS[config.model.size].gpus if config.model.size in MODELS else 0)

    def _placed(self, config: RunConfig, shape: Shape) -> dict[str, Any]:
        """Layout and memory of a run on GPUs: one that asks for them, or a published model, by its own default."""
        if not config.resources.gpus and config.model.size not in MODELS:
            return {}
        layout = self._layout(config)
        batch = config.data.prompts_per_step, config.resources.gradient_checkpointing
        key = (shape, config.model.dtype, config.loss, config.rollout, config.task, *batch, layout)
        if key not in self._places:  # one search for all repeats of a cell
            found = memory.memory(config, shape, layout)
            inside = memory.fits(found, layout)
            would = None if inside else memory.what_would(config, shape, layout)
            nothing = "no layout here: the sampler is whole on each GPU, and none is large enough"
            self._places[key] = {
                "layout": str(layout),
                "gpu_gb": memory.gigabytes(found),
                "host_gb": round(memory.host(config, shape, layout) / 1e9, 2),
                "fits": inside,
                "would_fit": None if inside else str(would) if would else nothing,
            }
        return self._places[key]

    def base_hours(self, config: RunConfig) -> float:
        """CPU hours to make the base model of a run: its demonstrations, forward and backward, by the assumptions."""
        recipe = config.model.base
        tokens = (recipe.iterations + recipe.leaping_iterations) * recipe.batch_size * DEMONSTRATION_TOKENS
        flops = compute.train_flops(Shape.from_rung(LADDER[config.model.size or ""]).num_params_non_embedding, tokens)
        return (ASSUMED_SECONDS_PER_TOKEN * tokens + flops / ASSUMED_SPEED) / 3600


def covarying(plan: Plan) -> list[str]:
    """Fields that move together with an axis in every run, e.g. `stop.steps moves with model.size`."""
    flat = [flatten(configs.dump(run.config)) for run in plan.runs]
    ignored = ("name", "resources.", "tracking.", "stop.also_evaluate")
    keys = [k for k in dict.fromkeys(k for f in flat for k in f) if not k.startswith(ignored)]
    columns = {key: [str(f.get(key)) for f in flat] for key in keys}
    varying = {key: values for key, values in columns.items() if len(set(values)) > 1}
    found = []
    for key, values in varying.items():
        for other, theirs in varying.items():
            # `key` is a function of `other`, but says less than it: it moves with it.
            if key != other and len(set(zip(theirs, values, strict=True))) == len(set(theirs)) > len(set(values)):
                found.append(f"{key} moves with {other}")
    return found


def counts(states: list[str]) -> str:
    """`9 done, 1 failed, 2 waiting`."""
    return ", ".join(f"{count} {state}" for state, count in Counter(states).items())
