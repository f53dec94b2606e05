"""What the rest of a study will cost: tokens, FLOPs, hours, memory and layout of each run.

Lengths and speed are measured on the finished runs of the study where there are any, else they are stated assumptions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scaling import compute, files, memory, record, schema
from scaling.compute import Shape
from scaling.config import identity
from scaling.config.run import RunConfig
from scaling.ladder import LADDER
from scaling.models import MODELS, model_shape
from scaling.schema import InputError
from scaling.seconds import assumptions, seconds_a_step
from scaling.server_memory import server_memory
from scaling.tasks import rollout_tokens
from scaling.vllm_server import prefix_block
from sweeps.plan import Plan

# Until runs of the study have finished: CPU seconds as so much per token (small models: the overhead of each operation)
# and so much per FLOP. The tokens of a rollout are the task's to say.
ASSUMED_SECONDS_PER_TOKEN = 1e-5
ASSUMED_SPEED = 3.5e10
DEMONSTRATION_TOKENS = 28.0  # prompt and solution
BYTES_PER_PARAMETER = 16  # float32 weights, gradients and two AdamW moments


@dataclass(frozen=True)
class Estimate:
    """Cost of one run to its stop. Lengths and speed are `basis`: measured on finished runs, or assumed.

    `hours` are those of one CPU core, `gpu_hours` those of a run on GPUs: one of them is None.
    """

    memory_gb: float | None  # weights, gradients and optimizer
    basis: str
    steps: int | None = None  # whole ones, as a run takes them: it stops after the first that reaches its limit
    prompts: int | None = None
    tokens: float | None = None
    train_flops: float | None = None
    rollout_flops: float | None = None
    update_flops: float | None = None
    hours: float | None = None
    gpu_hours: float | None = None
    layout: str | None = None
    gpu_phases: dict[str, float] | None = None  # GPU hours by phase, see scaling.seconds; None where they are measured
    gpu_gb: dict[str, float] | None = None  # per GPU by part, see scaling.memory
    server_gb: dict[str, float] | None = None  # per GPU of a vLLM server by part, see scaling.server_memory
    server_tokens: int | None = None  # that a server's cache holds
    host_gb: float | None = None  # on the host of process 0, at the most
    shm_gb: float | None = None  # of it in /dev/shm: the weights that engine vllm pushes
    fits: bool | None = None
    would_fit: str | None = None  # the nearest layout that fits, where this one does not

    @property
    def length(self) -> float:
        """Hours to order runs by, the longest first; 0 where nothing is known."""
        return self.hours or self.gpu_hours or 0.0


@dataclass(frozen=True)
class Placement:
    """Where a run on GPUs lies, and what it takes there; the fields of Estimate that bear the same names."""

    layout: str
    gpu_gb: dict[str, float]
    server_gb: dict[str, float] | None
    server_tokens: int | None
    host_gb: float
    shm_gb: float
    fits: bool
    would_fit: str | None


class _Measured(NamedTuple):
    """What the rows of a run say of its cost; of several runs, the mean."""

    prompt: float  # tokens a rollout
    response: float
    rollout: float  # recorded FLOPs / those of rollouts that are all of the mean length
    update: float  # the same for updates, where groups without an advantage cost nothing
    speed: float  # FLOPs of rollouts and updates a CPU second, evaluations counted in the seconds
    step: float  # seconds of wall time, evaluations counted


def _prefix_block(config: RunConfig) -> int | None:
    """As the engine's rollouts will say it, for the ledger."""
    resources = config.resources
    on_cpu = resources.device == "cpu" or not (resources.gpus or config.model.size in MODELS)
    return prefix_block(resources.vllm.arguments, on_cpu) if resources.engine == "vllm" else None


def _measure(config: RunConfig, rows: list[files.Row]) -> _Measured:
    last, shape = rows[-1], model_shape(config.model.size or "", config.task.VOCABULARY)
    prompt, response = (last[name] / last["rollouts_seen"] for name in ("tokens_prompt", "tokens_generated"))
    group, cached = config.rollout.group_size, {"prefix_block": _prefix_block(config)}
    rollout = compute.of_equal_group(compute.rollout_flops, shape, (prompt, response), group, **cached)
    update = compute.of_equal_group(compute.update_flops, shape, (prompt, response), group)
    rollout, update = rollout * last["prompts_seen"], update * last["prompts_seen"]
    seconds = sum(row["timing"]["cpu_seconds"] for row in rows)
    flops = last["rollout_flops"] + last["update_flops"]
    wall = sum(row["timing"][f"{part}_seconds"] for row in rows for part in ("rollout", "update", "eval")) / len(rows)
    ratios = last["rollout_flops"] / rollout, last["update_flops"] / update
    return _Measured(prompt, response, *ratios, flops / seconds, wall)


def _whole_rows(run: Path) -> list[files.Row]:
    """The rows of a run, none where they cannot be read: estimates rest on the others."""
    try:
        return record.read_record(run) if os.path.isdir(run) else []
    except (InputError, KeyError, TypeError, ValueError):
        return []


class Estimator:
    """Costs, from the finished runs of a study folder where there are any, else from stated assumptions."""

    def __init__(self, plan: Plan, out: Path | None = None):
        self.runs: dict[str, _Measured] = {}
        self._placements: dict[Any, Placement] = {}
        self._estimates: dict[Any, Estimate] = {}
        on_gpus = [run.config.resources.gpus > 0 or run.config.model.size in MODELS for run in plan.runs]
        self.on_gpus, self.on_cpus = any(on_gpus), not all(on_gpus)
        served = {run.config.resources.engine == "vllm" for run, gpu in zip(plan.runs, on_gpus, strict=True) if gpu}
        self.served, self.decoded = True in served, False in served
        on_cpus = [run.config.task for run, gpu in zip(plan.runs, on_gpus, strict=True) if not gpu]
        self.tokens = rollout_tokens(on_cpus[0]) if on_cpus else (0, 0)
        sizes: dict[str, list[_Measured]] = {}
        for run in plan.runs if out else []:
            rows = _whole_rows(out / schema.RUNS / run.run_id) if out else []
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
            prompt, response = self.tokens
            texts.append(
                f"Assumed, nothing has run yet: {prompt:g} prompt and {response:g} response tokens a rollout, "
                f"{ASSUMED_SECONDS_PER_TOKEN * 1e6:g} µs a token and {ASSUMED_SPEED:.2g} FLOPs a second on one core."
            )
        if self.on_gpus:
            measured = ", ".join(size for size in self.sizes if size in MODELS)
            start = f"Lengths and time measured for {measured}; others assumed" if measured else "Assumed for GPUs"
            texts.append(f"{start}: {assumptions(self.served, self.decoded)}")
        return " ".join(texts)

    def estimate(self, config: RunConfig, run_id: str | None = None) -> Estimate:
        """The cost of a run to its stop: by what the run itself has done so far, else by the runs of its size."""
        if run_id in self.runs or config.resources.gpus or config.model.size not in LADDER:
            return self._estimate(config, run_id)
        key = (config.model.size, config.rollout, config.task, config.data, config.stop)
        if key not in self._estimates:  # of all repeats of a cell one
            self._estimates[key] = self._estimate(config, None)
        return self._estimates[key]

    def _estimate(self, config: RunConfig, run_id: str | None) -> Estimate:
        shape, size, group = identity.policy_shape(config), config.model.size, config.rollout.group_size
        limits = [float(limit) for limit in (identity.planned_prompts(config),) if limit]
        if shape is None:
            steps = identity.whole_steps(config, limits[0]) if limits else None
            return Estimate(None, "unknown", steps=steps, prompts=steps and steps * config.data.prompts_per_step)
        measured = self.runs.get(run_id or "", self.sizes.get(size or ""))
        prompt, response = (measured.prompt, measured.response) if measured else rollout_tokens(config.task)
        per_prompt = group * (prompt + response)
        if config.stop.train_flops:
            limits.append(config.stop.train_flops / compute.train_flops(shape.num_params_non_embedding, per_prompt))
        steps = min((identity.whole_steps(config, limit) for limit in limits), default=None)
        basis, placement = "measured" if measured else "assumed", self._placement(config, shape)
        placed = vars(placement) if placement else {}
        gigabytes = BYTES_PER_PARAMETER * shape.num_params / 1e9
        if steps is None:
            return Estimate(gigabytes, basis, **placed)
        prompts = steps * config.data.prompts_per_step
        cached = {"prefix_block": _prefix_block(config)}
        rollout = prompts * compute.of_equal_group(compute.rollout_flops, shape, (prompt, response), group, **cached)
        update = prompts * compute.of_equal_group(compute.update_flops, shape, (prompt, response), group)
        rollout, update = (rollout * measured.rollout, update * measured.update) if measured else (rollout, update)
        tokens = prompts * per_prompt
        hours = gpu_hours = phases = None
        if placement:
            layout = self._layout(config, shape)
            each = steps * layout.paid / 3600
            if measured:
                gpu_hours = measured.step * each
            else:
                by_phase = seconds_a_step(config, shape, layout, (prompt, response))
                phases = {phase: spent * each for phase, spent in by_phase.items()}
                gpu_hours = sum(phases.values())
        elif config.model.made:
            seconds = ASSUMED_SECONDS_PER_TOKEN * tokens + (rollout + update) / ASSUMED_SPEED
            hours = ((rollout + update) / measured.speed if measured else seconds) / 3600
        return Estimate(
            steps=steps,
            prompts=prompts,
            tokens=tokens,
            train_flops=compute.train_flops(shape.num_params_non_embedding, tokens),
            rollout_flops=rollout,
            update_flops=update,
            memory_gb=gigabytes,
            basis=basis,
            hours=hours,
            gpu_hours=gpu_hours,
            gpu_phases=phases,
            **placed,
        )

    def _layout(self, config: RunConfig, shape: Shape) -> memory.Layout:
        return memory.layout_of(config, MODELS[config.model.size].gpus if config.model.size in MODELS else 0, shape)

    def _placement(self, config: RunConfig, shape: Shape) -> Placement | None:
        """Layout and memory of a run that asks for GPUs, or of a published model by its own default; None elsewhere."""
        if not config.resources.gpus and config.model.size not in MODELS:
            return None
        layout, served = self._layout(config, shape), config.resources.engine == "vllm"
        batch = config.data.prompts_per_step, config.resources.gradient_checkpointing
        key = (
            shape,
            config.model.dtype,
            config.loss,
            config.rollout,
            config.task,
            config.resources.vllm,
            *batch,
            layout,
        )
        if key not in self._placements:  # one search for all repeats of a cell
            parts = memory.memory(config, shape, layout)
            fits = memory.fits(parts, layout)
            larger = None if fits else memory.what_would(config, shape, layout)
            kept = "servers and trainer share GPUs" if served else "the sampler is whole on each GPU"
            nothing = f"no layout here: {kept}, and none is large enough"
            servers = server_memory(shape, config.model.dtype, config.resources.vllm, layout.gpu) if served else None
            tokens = int(servers.pop("tokens")) if servers else None
            self._placements[key] = Placement(
                layout=str(layout),
                gpu_gb=memory.gigabytes(parts),
                server_gb=servers and memory.gigabytes(servers),
                server_tokens=tokens,
                shm_gb=round(memory.pushed(config, shape) / 1e9, 2),
                host_gb=round(memory.host(config, shape, layout) / 1e9, 2),
                fits=fits,
                would_fit=None if fits else str(larger) if larger else nothing,
            )
        return self._placements[key]

    def base_hours(self, config: RunConfig) -> float:
        """CPU hours to make the base model of a run: its demonstrations, forward and backward, by the assumptions."""
        recipe = config.model.base
        tokens = (recipe.iterations + recipe.leaping_iterations) * recipe.batch_size * DEMONSTRATION_TOKENS
        flops = compute.train_flops(Shape.from_rung(LADDER[config.model.size or ""]).num_params_non_embedding, tokens)
        return (ASSUMED_SECONDS_PER_TOKEN * tokens + flops / ASSUMED_SPEED) / 3600
