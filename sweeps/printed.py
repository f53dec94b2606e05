"""What `scaling sweep` prints: the cost table and memory by layout of `plan`, the table of `status`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from scaling.ladder import LADDER
from scaling.memory import GPUS, ROLLOUT, UPDATE
from scaling.models import MODELS, model_shape
from scaling.schema import ARTIFACTS
from scaling.seconds import PHASES
from scaling.terminal import print_table
from sweeps.cost import Estimate, Estimator
from sweeps.plan import Plan, PlannedRun, covarying
from sweeps.reconcile import DONE
from sweeps.status import RunStatus, counts, failed_verdicts, run_state

MOST_ROWS = 40  # of a plan's table


@dataclass(frozen=True)
class Row:
    """One run of a plan: where it stands and what it will cost."""

    run: PlannedRun
    state: str
    estimate: Estimate

    @property
    def model(self) -> str:
        return self.run.config.model.size or self.run.config.model.path or ""

    @property
    def prompts_unique(self) -> float | None:
        unique, prompts = self.run.config.data.prompts_unique, self.estimate.prompts
        return unique if prompts is None else min(unique or prompts, prompts)

    @property
    def reuse_factor(self) -> float | None:
        prompts = self.estimate.prompts
        return None if prompts is None else prompts / (self.prompts_unique or prompts)

    def document(self) -> dict[str, Any]:
        return {
            "run": self.run.name,
            "state": self.state,
            "run_id": self.run.run_id,
            "model": self.model,
            "group_size": self.run.config.rollout.group_size,
            "prompts_unique": self.prompts_unique,
            "reuse_factor": self.reuse_factor,
            "cells": [cell.name for cell in self.run.cells],
            **vars(self.estimate),
        }

    def cells(self, times: list[str]) -> list[str]:
        """The row of the table; `times`: its columns for the time."""
        known = self.model in LADDER or self.model in MODELS
        params = model_shape(self.model).num_params_non_embedding if known else None
        cost = self.estimate
        numbers = [params, cost.prompts, self.prompts_unique, self.reuse_factor, cost.train_flops]
        numbers += [self.run.config.rollout.group_size, cost.tokens, cost.rollout_flops, cost.update_flops]
        spent = {"CPU min": cost.hours and cost.hours * 60, "GPU h": cost.gpu_hours}
        numbers += [*(spent[name] for name in times), cost.memory_gb]
        return [self.run.name, self.state, *("-" if n is None else _short(n) for n in numbers)]


def show_plan(plan: Plan, folder: Path, console: Console, as_json: bool = False) -> None:
    """The cost table of a study, and what there is to know before it is launched."""
    estimator = Estimator(plan, folder)
    rows = [Row(run, run_state(run, folder), estimator.estimate(run.config, run.run_id)) for run in plan.runs]
    saved = len(plan.cells) - len(plan.runs)
    if as_json:
        document = {
            "study": plan.study.name,
            "folder": str(folder),
            "runs": [row.document() for row in rows],
            "basis": estimator.basis(),
            "covarying": covarying(plan),
            "dropped": plan.dropped,
            "cells_saved_by_sharing": saved,
            "missing_files": plan.missing,
        }
        print(json.dumps(document, indent=2))
        return
    on_gpus = [row for row in rows if row.estimate.gpu_gb]
    times = ["CPU min"] * (len(on_gpus) < len(rows)) + ["GPU h"] * bool(on_gpus)
    columns = ["run", "state", "N", "D", "U", "tau", "C", "G", "tokens", "rollout", "update", *times, "GB"]
    print_table(console, f"study {plan.study.name}", columns, [row.cells(times) for row in rows[:MOST_ROWS]])
    if len(rows) > MOST_ROWS:
        console.print(f"... and {len(rows) - MOST_ROWS} more runs (--json has them all)")
    console.print(f"{len(plan.cells)} cells, {len(rows)} runs: {counts([row.state for row in rows])}.")
    if on_gpus:
        _show_layouts(on_gpus, console)
    if saved:
        console.print(f"{saved} cells are read off longer runs that they share a start with.")
    for line in covarying(plan):
        console.print(f"{line}: the two cannot be told apart.")
    notes = [note for run in plan.runs for note in run.config.algorithm.notes(run.config.rollout.group_size)]
    for line in dict.fromkeys(notes):
        console.print(f"{line}.")
    for line in plan.dropped:
        console.print(f"left out by where: {line}")
    for file in plan.missing:
        console.print(f"{file} is not here: launch will refuse, and the ids of its runs depend on its content.")
    missing = [row.estimate for row in rows if row.state != DONE]
    costs = [f"{sum(cost.gpu_hours or 0 for cost in missing):,.0f} GPU hours in runs"] if on_gpus else []
    if "CPU min" in times:
        bases = [config for base, config in plan.bases().items() if not (folder / ARTIFACTS / base).exists()]
        in_runs = _hours(sum(cost.hours or 0 for cost in missing))
        in_bases = _hours(sum(map(estimator.base_hours, bases)))
        costs.append(f"{in_runs} in runs and {in_bases} in {len(bases)} base models, one core each")
    console.print(f"Missing: about {'; '.join(costs)}. {estimator.basis()}")


def _show_layouts(rows: list[Row], console: Console) -> None:
    """Memory per GPU by part, a row for each size and layout; below it, what would fit where one does not."""
    places: dict[tuple[str | None, float | None], list[Row]] = {}
    for row in rows:
        places.setdefault((row.estimate.layout, row.estimate.memory_gb), []).append(row)
    table: list[list[str]] = []
    advice: list[str] = []
    hosts: list[str] = []
    servers: list[list[str]] = []
    phases_of: list[list[str]] = []
    for (layout, _), same in places.items():
        largest = max((row.estimate for row in same), key=lambda cost: (cost.gpu_gb or {})["total"])
        parts, name = largest.gpu_gb or {}, min((row.model for row in same), key=len)
        place, tokens, sequences, *server = (layout or "").split(", ", 3)
        copies = parts["sampler"] + parts["reference"] + parts["gathered"]
        phases = [sum(parts[part] for part in names) for names in (UPDATE, ROLLOUT)]
        numbers = [
            parts["weights"],
            parts["gradients"],
            parts["optimizer"],
            copies,
            *phases,
            parts["cache"],
            parts["server"],
        ]
        hours = [row.estimate.gpu_hours for row in same if row.estimate.gpu_hours]
        of = f"{parts['total']:.0f} of {GPUS[place.split()[1].lower()].memory / 1e9:.0f}"
        table.append([name, str(len(same)), place, tokens.split()[0], sequences.split()[0],
                      *(f"{n:.1f}" for n in numbers), of, "yes" if largest.fits else "no",
                      f"{sum(hours) / len(hours):,.0f}" if hours else "-"])  # fmt: skip
        hosts.append(f"{name} {largest.host_gb:.0f}" + f" ({largest.shm_gb:.0f} in /dev/shm)" * bool(largest.shm_gb))
        if server and (held := largest.server_gb):
            numbers = [held["weights"], held["cache"], held["total"]]
            servers.append(
                [name, *server, *(f"{n:.1f}" for n in numbers), f"{largest.server_tokens:,}", sequences.split()[0]]
            )
        if spent := largest.gpu_phases:
            phases_of.append([name, place, *(_short(round(n, 1)) for n in spent.values())])
        if not largest.fits:
            advice.append(f"{name} does not fit on {place}; what would: {largest.would_fit}.")
    names = ["model", "runs", "GPUs", "pass", "seq.", "weights", "grads", "AdamW", "copies", "update", "rollout", "KV",
             "server", "total", "fits", "GPU h"]  # fmt: skip
    title = (
        "GB per GPU. pass: tokens of a forward pass; seq.: sequences sampled at a time; KV: cache, a part of rollout;\n"
        "server: what vLLM takes where it shares GPUs with the trainer; GPUs: + those without a training process;\n"
        "total: what stays + the larger of update and rollout + CUDA; GPU h: of one run"
    )
    print_table(console, title, names, table)
    if servers:
        names = ["model", "servers", "weights", "KV", "total", "tokens", "seq."]
        title = (
            "vLLM on the first node, GB per GPU. tokens: in the KV cache of a server; seq.: of mean length under way"
        )
        print_table(console, title, names, servers)
    if phases_of:
        print_table(console, "GPU hours of one run by phase", ["model", "GPUs", *PHASES], phases_of)
    for line in advice:
        console.print(line)
    console.print(f"GB on the host of a run's process 0, at the most: {', '.join(dict.fromkeys(hosts))}.")


def show_status(study: str, runs: list[RunStatus], bases: list[dict[str, str]], console: Console) -> None:
    """Where every run of a study stands, and every base model that a job is still to make."""
    columns = ["run", "state", "step", "test loss", "steps/min", "left", "CPU s", "attempts", "steps redone", "why"]
    rows = [[f"base {b['name']}", b["state"], *"-" * 7, b["why"]] for b in bases if b["state"] != DONE]
    for run in runs:
        loss = "-" if run.test_loss is None else f"{run.test_loss:.3f}"
        step = "-" if run.step is None else f"{run.step} of {run.stop.get('steps', '?')}"
        numbers = [f"{run.cpu_seconds:.0f}", str(run.attempts), str(run.redone_steps)]
        rate = "-" if run.steps_per_minute is None else f"{run.steps_per_minute:.3g}"
        left = "-" if run.minutes_left is None else f"{run.minutes_left:.0f} min"
        rows.append([run.name, run.state, step, loss, rate, left, *numbers, run.failure or run.why])
    print_table(console, f"study {study}", columns, rows)
    console.print(counts([run.state for run in runs]))
    if warning := failed_verdicts(runs):
        console.print(warning)


def _short(value: float) -> str:
    """5,296 and 0.004 as they are, 2.93e9 for large numbers."""
    if 1e-3 <= abs(value) < 1e5 or value == 0:
        return f"{value:,.0f}" if value == int(value) else f"{value:.2g}"
    return f"{value:.2e}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-")


def _hours(hours: float) -> str:
    return f"{hours * 60:.2g} CPU minutes" if hours < 1.5 else f"{hours:.3g} CPU hours"
