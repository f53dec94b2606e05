"""Section: what was held constant, what was varied, and what moved with size."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.curves.frame import Frame
from analysis.reporting.study import Study
from analysis.reporting.tables import Column, Table, of
from analysis.words import joined, number, power_of_ten, whole
from scaling.settings import flatten


def setting_name(field_name: str) -> str:
    """A config field in words: `process weight` for algorithm.process_weight."""
    return NOTABLE.get(field_name, field_name.rsplit(".", 1)[-1].replace("_", " "))


NOT_SCIENCE = ("name", "resources.", "tracking.", "stop.also_evaluate")


def settings_frame(study: Study) -> Frame | None:
    """One row per config field: its values over all runs, and over the fitted ones whether it moves with size."""
    if not study.configs:
        return None
    flats = {run: flatten(config["config"]) for run, config in study.configs.items()}
    sizes = study.curves.runs().set_index("run_id")[study.size_column]
    fitted = set(study.fitted().table["run_id"])
    names = dict.fromkeys(name for values in flats.values() for name in values if not name.startswith(NOT_SCIENCE))
    rows = []
    for name in names:
        values = {run: flats[run].get(name) for run in flats}
        numbers = [value for value in values.values() if isinstance(value, int | float)]
        ordered = sorted(numbers) if len(numbers) == len(values) else values.values()
        shown = list(dict.fromkeys(plain(value) for value in ordered))
        by_size: dict[float, set[str]] = {}
        for run in sorted(fitted):
            by_size.setdefault(sizes[run], set()).add(plain(values[run]))
        within = len({frozenset(settings) for settings in by_size.values()}) > 1
        role = "constant" if len(shown) == 1 else "varies with size" if within else "varied"
        rows.append({"field": name, "value": ", ".join(shown), "role": role})
    return pd.DataFrame(rows)


def plain(value: Any) -> str:
    """A setting as text: 0.0005, and `none` for null."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def settings_table(study: Study) -> Table | None:
    frame = settings_frame(study)
    if frame is None:
        return None
    columns = [
        Column("field", of("field")),
        Column("role", of("role"), left=True),
        Column("value", of("value"), left=True),
    ]
    note = "Every field of the run configs that can change a value of a curve, and where the runs stop."
    return Table("settings", "Every setting", frame.sort_values("role", kind="stable"), columns, note)


# What a sentence says of a constant setting: field and words.
CONSTANTS = [
    ("task.name", "task {}"),
    ("data.prompts_per_step", "{} prompts per step"),
    ("rollout.group_size", "group size {}"),
    ("optimizer.learning_rate", "learning rate {}"),
    ("optimizer.schedule", "{} schedule"),
    ("loss.updates_per_batch", "{} update per batch"),
    ("rollout.temperature", "sampling temperature {}"),
    ("evaluation.problems", "{} test problems"),
    ("stop.steps", "{} steps"),
]
NOTABLE = {"algorithm.type": "algorithm", "data.prompts_unique": "data reuse", "rollout.group_size": "group size"}


def what_was_held(study: Study) -> dict[str, str]:
    """Three sentences: what was constant, what was varied on purpose, what moved with size."""
    frame, table = settings_frame(study), study.curves.table
    if frame is None:
        columns = ["task", "algorithm", "group_size", "reuse_factor", "eval_problems", "eval_temperature"]
        names = {"eval_problems": "test problems", "eval_temperature": "evaluation temperature", "reuse_factor": "τ"}
        words = {c: names.get(c, c.replace("_", " ")) for c in columns if c in table and table[c].notna().all()}
        same = [f"{words[c]} {plain(table[c].iloc[0])}" for c in words if table[c].nunique() == 1]
        differ = [words[c] for c in words if table[c].nunique() > 1]
        return {
            "constant": f"{', '.join(same) or 'nothing that the source names'}; the source has no settings beyond "
            "these.",
            "varied": f"{joined(['model size', *differ])}.",
            "with_size": "the base model, and with it the length of responses and the compute per prompt.",
        }
    constant = dict(zip(frame["field"], frame["value"], strict=True))
    same = set(frame.loc[frame["role"] == "constant", "field"])
    held = [words.format(constant[name]) for name, words in CONSTANTS if name in same]
    on_purpose = [name for name in frame.loc[frame["role"] == "varied", "field"] if name != "seed"]
    if "algorithm.type" in on_purpose:  # its own fields come and go with it
        on_purpose = [name for name in on_purpose if name == "algorithm.type" or not name.startswith("algorithm.")]
    varied = [setting_name(name) for name in on_purpose]
    moved = frame.loc[frame["role"] == "varies with size", "field"]
    moved = [setting_name(name) for name in moved if name != "seed" and not name.startswith("model.")]
    seeds = frame.loc[(frame["field"] == "seed") & (frame["role"] != "constant"), "value"]
    varied += [f"seed ({value})" for value in seeds]
    size = ["model size"] if len(study.labels) > 1 else []
    return {
        "constant": f"{', '.join(held)}; the full list is folded below.",
        "varied": f"{joined([*size, *dict.fromkeys(varied)] or ['nothing'])}.",
        "with_size": joined(["the base model that each size starts from", *moved, "what follows from it, in the table"])
        + ".",
    }


def covariates_table(study: Study) -> Table | None:
    """What moved with N besides N, measured on the fitted runs."""
    table = study.fitted().table
    if len(study.labels) < 2:
        return None
    rows = []
    for size in sorted(table[study.size_column].unique()):
        group = table[table[study.size_column] == size]
        first_step = group[group["step"] == 1] if "response_length_mean" in group else group.iloc[:0]
        ends = group.groupby("run_id").tail(1)
        row: dict[str, Any] = {"num_params": size, "size": study.labels[size], "runs": len(ends)}
        if study.size_column == "num_params_non_embedding" and "num_params" in group:
            row["with_embeddings"] = group["num_params"].iloc[0]
        start = group[(group["step"] == 0) & group["test_loss"].notna()]
        row["base_test_loss"] = start["test_loss"].mean()
        if "response_length_mean" in group:
            row["response_length_first"] = first_step["response_length_mean"].mean()
            row["response_length_last"] = ends["response_length_mean"].mean()
        if {"train_flops", "prompts_seen"} <= set(group):
            row["flops_per_prompt"] = (ends["train_flops"] / ends["prompts_seen"]).mean()
            row["train_flops"] = ends["train_flops"].mean()
        rows.append(row)
    frame = pd.DataFrame(rows)
    columns = {
        "with_embeddings": Column("N with embeddings", of("with_embeddings", whole)),
        "base_test_loss": Column("L of the base", of("base_test_loss", number)),
        "response_length_first": Column("tokens per response, step 1", of("response_length_first", "{:.1f}".format)),
        "response_length_last": Column("at the end", of("response_length_last", "{:.1f}".format)),
        "flops_per_prompt": Column("C per prompt", of("flops_per_prompt", power_of_ten)),
        "train_flops": Column("C at the end", of("train_flops", power_of_ten)),
    }
    shown = [column for name, column in columns.items() if name in frame and frame[name].notna().any()]
    if not shown:
        return None
    columns = [Column("size", of("size")), Column("runs", of("runs", whole)), *shown]
    return Table(
        "covariates", "What moved with size", frame, columns, "Means over the fitted runs of a size; C in FLOPs."
    )
