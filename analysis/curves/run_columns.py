"""The columns that are constant in a run: who it is, and the settings in which the runs of a study differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.curves.frame import CONVENTION
from scaling.settings import flatten

# Fields of a config that other columns stand for, or that do not change a curve.
NOT_SETTINGS = ("name", "seed", "stop", "resources", "tracking", "algorithm.type", "task.name", "rollout.group_size")
NOT_SETTINGS += ("model.size", "model.path", "data.prompts_unique", "data.reuse_factor")


def run_columns(config: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """The columns of section `run` of the schema, from a run's config.json."""
    model, settings = config["model"], config["config"]
    return {
        "run_id": run_id,
        "model": model["name"],
        "num_params": model["num_params"],
        "num_params_non_embedding": model["num_params_non_embedding"],
        CONVENTION: "counted",
        "seed": settings["seed"],
        "algorithm": settings["algorithm"]["type"],
        "group_size": settings["rollout"]["group_size"],
        "task": settings["task"]["name"],
    }


def varying(configs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Config fields that differ between runs and are no column yet: {dotted name: {run_id: value}}."""
    flats = {run_id: flatten(config) for run_id, config in configs.items()}
    names = sorted({name for flat in flats.values() for name in flat})
    # A name stands for the part below it, too.
    names = [name for name in names if not f"{name}.".startswith(tuple(f"{other}." for other in NOT_SETTINGS))]
    columns = {name: {run_id: flat.get(name) for run_id, flat in flats.items()} for name in names}
    return {name: values for name, values in columns.items() if len({repr(v) for v in values.values()}) > 1}
