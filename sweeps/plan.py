"""From a study to runs: cells that share a run, their names, and what is known of each run before it starts.

Cells that differ only in where they stop are points on one curve: the longest is run, the shorter ones are read off it.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from scaling import schema
from scaling.config import identity, reading
from scaling.config.parts import MOST_STEPS, RunStop, StopConfig, evaluated_steps
from scaling.config.run import RunConfig, default
from scaling.fields import Part
from scaling.schema import InputError
from scaling.settings import flatten
from sweeps.study import Cell, Study

LIMITS = list(StopConfig.model_fields)


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

    @functools.cached_property
    def base_id(self) -> str | None:
        """The base model that it starts from; None for a model that is not made here."""
        return identity.base_id(self.config) if self.config.model.made else None

    def folder(self, study: Path) -> Path:
        """Its run folder in a study folder."""
        return study / schema.RUNS / self.run_id


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
        run_id = identity.run_id(cell.config, missing)
        stop = StopConfig(**{limit: getattr(cell.config.stop, limit) for limit in LIMITS})
        key = (run_id, stop.model_dump_json())
        if key in seen:
            continue  # the same cell in another block
        seen.add(key)
        by_run.setdefault(run_id, []).append(PlannedCell(name, cell.block, cell.axes, stop, run_id))
        configs_of.setdefault(run_id, []).append(cell.config)
        run_names.setdefault(run_id, run_name)
    # Runs of one name differ in a U that their stops make: they say the stop, as their cells do.
    count = Counter(run_names.values())
    run_names |= {run_id: by_run[run_id][0].name for run_id, name in run_names.items() if count[name] > 1}
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
    names, usual = [], default("algorithm").type
    for value in values:
        words = [value["model"]]
        for key in varying:
            shown = value.get(key)
            if key in ("model", "seed", "stop") or shown is None or (key == "algorithm" and shown == usual):
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
    prompts = identity.planned_prompts(config)
    if config.data.prompts_unique:
        tau = f"{prompts / config.data.prompts_unique:g}" if prompts else f"U{config.data.prompts_unique}"
        if cell.reuse_factor is not None:
            tau = f"{cell.reuse_factor:g}"
    others = {
        key: str(value).replace("/", "_")
        for key, value in flatten(cell.axes, keep_empty=True).items()
        if key not in ("model", "model.size", "algorithm", "algorithm.type", "seed")
        and not key.startswith(("stop.", "data.reuse_factor", "data.prompts_unique", "resources.", "tracking."))
    }
    for name in config.task.NAMED_BY:
        value = getattr(config.task, name)
        if value != type(config.task).model_fields[name].default:
            others[f"task.{name}"] = str(value)
    return {
        "model": config.model.size or Path(config.model.path or "").name,
        "algorithm": config.algorithm.type,
        "tau": tau,
        **others,
        "seed": config.seed,
        "stop": _stop_text(config.stop).replace(" ", "").replace(",", "-"),
    }


class CellDocument(TypedDict):
    """One cell in cells.json."""

    cell: str
    block: str
    axes: dict[str, Any]
    stop: dict[str, Any]
    run_id: str


class CellsDocument(TypedDict):
    """cells.json: what the analysis loads."""

    schema_version: int
    study: str
    analysis: dict[str, Any]  # the section of the study file
    cells: list[CellDocument]
    runs: dict[str, str]  # names by run id


def cells_document(plan: Plan) -> CellsDocument:
    """What is written to cells.json."""
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


class ModelDocument(TypedDict):
    name: str
    num_params: int | None  # None for a model whose kind is not known
    num_params_non_embedding: int | None


class RunDocument(TypedDict):
    """What is known of a run before it starts, as its config.json will tell it, and its tau."""

    config: dict[str, Any]
    model: ModelDocument
    reuse_factor: float | None  # None where only the run can tell
    evaluated: list[int] | None  # the steps, likewise


def run_documents(plan: Plan) -> dict[str, RunDocument]:
    """What is known of each run before it starts: by run id."""
    documents: dict[str, RunDocument] = {}
    steps_of: dict[tuple[int | float | None, ...], list[int] | None] = {}  # equal for most runs of a study
    for run in plan.runs:
        config, shape = run.config, identity.policy_shape(run.config)
        unique, prompts = config.data.prompts_unique, identity.planned_prompts(config)
        counted = config.batch.select == "all"  # else only the run can tell how many prompts a step takes
        known = counted and config.stop.train_flops is None and config.stop.wall_seconds is None
        seen = identity.whole_steps(config, prompts) * config.data.prompts_per_step if prompts else 0
        last = seen // config.data.prompts_per_step if known else MOST_STEPS + 1
        key = (config.evaluation.every, config.evaluation.ratio, last)
        if key not in steps_of:
            steps_of[key] = evaluated_steps(config.evaluation, last)
        documents[run.run_id] = {
            "config": reading.dump(config),
            "model": {
                "name": config.model.size or Path(config.model.path or "").name,
                "num_params": shape and shape.num_params,
                "num_params_non_embedding": shape and shape.num_params_non_embedding,
            },
            "reuse_factor": 1.0 if unique is None else seen / min(unique, seen) if known else None,
            "evaluated": steps_of[key],
        }
    return documents


def covarying(plan: Plan) -> list[str]:
    """Fields that move together with an axis in every run, e.g. `stop.steps moves with model.size`."""
    varying: dict[str, list[str]] = {}
    for part in (name for name in RunConfig.model_fields if name not in ("name", "resources", "tracking")):
        # Most runs share most of their parts: what is taken apart is each distinct one.
        dumped: dict[str, dict[str, Any]] = {}
        texts = []
        for run in plan.runs:
            value = getattr(run.config, part)
            texts.append(repr(value))
            if texts[-1] not in dumped:
                plain = value.model_dump(mode="json") if isinstance(value, Part) else value
                dumped[texts[-1]] = flatten({part: plain}, keep_empty=True)
        for key in dict.fromkeys(key for flat in dumped.values() for key in flat):
            shown = {text: str(flat.get(key)) for text, flat in dumped.items()}
            if len(set(shown.values())) > 1 and not key.startswith("stop.also_evaluate"):
                varying[key] = [shown[text] for text in texts]
    moves: list[str] = []
    for key, values in varying.items():
        for other, theirs in varying.items():
            # `key` is a function of `other`, but says less than it: it moves with it.
            if key != other and len(set(zip(theirs, values, strict=True))) == len(set(theirs)) > len(set(values)):
                moves.append(f"{key} moves with {other}")
    return moves
