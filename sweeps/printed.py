"""What `scaling sweep plan` prints for people: the cost table, memory by layout."""

from __future__ import annotations

from pathlib import Path

from scaling.terminal import print_table


def show_plan(planned, folder: Path, console, as_json: bool = False) -> None:
    """The cost table of a study, and what there is to know before it is launched."""
    from scaling.schema import ARTIFACTS, RUNS
    from sweeps.cost import Estimator
    from sweeps.plan import covarying
    from sweeps.status import counts, run_state

    estimator = Estimator(planned, folder)
    rows = []
    for item in planned.runs:
        state = run_state(folder / RUNS / item.run_id, item.config.stop)
        estimate, config = estimator.estimate(item.config, item.run_id), item.config
        unique = config.data.prompts_unique or estimate.prompts
        rows.append(
            {
                "run": item.name,
                "state": state,
                "run_id": item.run_id,
                "model": config.model.size or config.model.path,
                "group_size": config.rollout.group_size,
                "prompts_unique": unique,
                "reuse_factor": estimate.prompts / unique if estimate.prompts and unique else None,
                "cells": [cell.name for cell in item.cells],
                **vars(estimate),
            }
        )
    missing = [row for row in rows if row["state"] != "done"]
    hours = sum(row["hours"] or 0 for row in missing)
    saved = len(planned.cells) - len(planned.runs)
    if as_json:
        import json

        document = {"study": planned.study.name, "folder": str(folder), "runs": rows, "basis": estimator.basis()}
        document |= {"covarying": covarying(planned), "dropped": planned.dropped, "cells_saved_by_sharing": saved}
        document |= {"missing_files": planned.missing}
        print(json.dumps(document, indent=2))
        return
    on_gpus = [row for row in rows if row["gpu_gb"]]
    times = ["CPU min"] * (len(on_gpus) < len(rows)) + ["GPU h"] * bool(on_gpus)
    columns = ["run", "state", "N", "D", "U", "tau", "C", "G", "tokens", "rollout", "update", *times, "GB"]
    from scaling.ladder import LADDER
    from scaling.models import MODELS, model_shape

    def show(row: dict) -> list[str]:
        known = row["model"] in LADDER or row["model"] in MODELS
        params = model_shape(row["model"]).num_params_non_embedding if known else None
        numbers = [params, row["prompts"], row["prompts_unique"], row["reuse_factor"], row["train_flops"]]
        numbers += [row["group_size"], row["tokens"], row["rollout_flops"], row["update_flops"]]
        spent = {"CPU min": row["hours"] and row["hours"] * 60, "GPU h": row["gpu_hours"]}
        numbers += [*(spent[name] for name in times), row["memory_gb"]]
        return [row["run"], row["state"], *("-" if n is None else _short(n) for n in numbers)]

    most = 40
    print_table(console, f"study {planned.study.name}", columns, [show(row) for row in rows[:most]])
    if len(rows) > most:
        console.print(f"... and {len(rows) - most} more runs (--json has them all)")
    console.print(f"{len(planned.cells)} cells, {len(rows)} runs: {counts([row['state'] for row in rows])}.")
    if on_gpus:
        _show_layouts(on_gpus, console)
    if saved:
        console.print(f"{saved} cells are read off longer runs that they share a start with.")
    for line in covarying(planned):
        console.print(f"{line}: the two cannot be told apart.")
    for line in planned.dropped:
        console.print(f"left out by where: {line}")
    bases = [config for base, config in planned.bases().items() if not (folder / ARTIFACTS / base).exists()]
    base_hours = sum(estimator.base_hours(config) for config in bases)
    for file in planned.missing:
        console.print(f"{file} is not here: launch will refuse, and the ids of its runs depend on its content.")
    parts = [f"{sum(row['gpu_hours'] or 0 for row in missing):,.0f} GPU hours in runs"] if on_gpus else []
    if "CPU min" in times:
        parts.append(f"{_hours(hours)} in runs and {_hours(base_hours)} in {len(bases)} base models, one core each")
    console.print(f"Missing: about {'; '.join(parts)}. {estimator.basis()}")


def _show_layouts(rows: list[dict], console) -> None:
    """Memory per GPU by part, a row for each size and layout; below it, what would fit where one does not."""
    from scaling.memory import GPUS, ROLLOUT, UPDATE

    places: dict[tuple, list[dict]] = {}
    for row in rows:
        places.setdefault((row["layout"], row["memory_gb"]), []).append(row)
    table, advice, hosts = [], [], []
    for (layout, _), same in places.items():
        largest = max(same, key=lambda row: row["gpu_gb"]["total"])
        parts, name = largest["gpu_gb"], min((row["model"] for row in same), key=len)
        place, tokens, sequences = layout.split(", ")
        copies = parts["sampler"] + parts["reference"] + parts["gathered"]
        phases = [sum(parts[part] for part in names) for names in (UPDATE, ROLLOUT)]
        numbers = [parts["weights"], parts["gradients"], parts["optimizer"], copies, *phases, parts["cache"]]
        hours = [row["gpu_hours"] for row in same if row["gpu_hours"]]
        of = f"{parts['total']:.0f} of {GPUS[place.split()[1].lower()].memory / 1e9:.0f}"
        table.append([name, str(len(same)), place, tokens.split()[0], sequences.split()[0],
                      *(f"{n:.1f}" for n in numbers), of, "yes" if largest["fits"] else "no",
                      f"{sum(hours) / len(hours):,.0f}" if hours else "-"])  # fmt: skip
        hosts.append(f"{name} {largest['host_gb']:.0f}")
        if not largest["fits"]:
            advice.append(f"{name} does not fit on {place}; what would: {largest['would_fit']}.")
    names = ["model", "runs", "GPUs", "pass", "seq.", "weights", "grads", "AdamW", "copies", "update", "rollout", "KV",
             "total", "fits", "GPU h"]  # fmt: skip
    title = (
        "GB per GPU. pass: tokens of a forward pass; seq.: sequences sampled at a time; KV: cache, a part of rollout;\n"
        "total: what stays + the larger of update and rollout + CUDA; GPU h: of one run"
    )
    print_table(console, title, names, table)
    for line in advice:
        console.print(line)
    console.print(f"GB on the host of a run's process 0, at the most: {', '.join(dict.fromkeys(hosts))}.")


def _short(value: float) -> str:
    """5,296 and 0.004 as they are, 2.93e9 for large numbers."""
    if 1e-3 <= abs(value) < 1e5 or value == 0:
        return f"{value:,.0f}" if value == int(value) else f"{value:.2g}"
    return f"{value:.2e}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-")


def _hours(hours: float) -> str:
    return f"{hours * 60:.2g} CPU minutes" if hours < 1.5 else f"{hours:.3g} CPU hours"
