"""Preflight: what a run would fail on later is refused before it starts.

`resolve_at` checks what a config alone says, `check_inputs` what this machine holds, and `check_run_folder` and
`is_done` what the run folder holds.
"""

from __future__ import annotations

from pathlib import Path

from scaling.config.identity import model_files, planned_prompts, resolve, run_id
from scaling.config.parts import StopConfig
from scaling.config.run import RunConfig
from scaling.files import read_json
from scaling.record import read_done
from scaling.schema import CELLS, CONFIG, STUDY, InputError


def is_done(run: Path, stop: StopConfig) -> bool:
    """Whether the DONE of a run folder reaches `stop`."""
    done = read_done(run)
    return done is not None and stop.reached(step=done["step"], **done["reached"])


def resolve_at(config: RunConfig, where: str) -> RunConfig:
    """As `resolve`, and what a run would fail on later is refused: no model folder, too few prompts in the task.

    An InputError names `where`.
    """
    try:
        if config.model.path is not None:
            model_files(Path(config.model.path))
            described = read_json(Path(config.model.path) / CONFIG)  # transformers calls it config.json too
            if not isinstance(described, dict) or not described.get("model_type"):
                raise InputError(
                    f"model.path: {config.model.path}: its config.json names no model_type; give a folder that "
                    "transformers saved."
                )
        budget = config.stop.train_flops if config.data.reuse_factor else None
        config = resolve(config)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    known = config.stop.train_flops is None and config.stop.wall_seconds is None  # else it may stop before
    prompts = planned_prompts(config) if known else None
    distinct = min(prompts, config.data.prompts_unique or prompts) if prompts else 0
    if budget:  # U was made for it
        distinct = config.data.prompts_unique or 0
    there_are = config.task.distinct_prompts
    if there_are is not None and distinct > there_are:
        raise InputError(
            f"{where}: {distinct} distinct prompts asked for; task {config.task.name} has {there_are}: "
            "give data.prompts_unique of at most that, or fewer steps."
        )
    return config


def check_inputs(config: RunConfig) -> None:
    """Raise InputError where this machine lacks what the run reads: weights, all of them, and a tokenizer.

    For a launch: planning needs neither. Which data files are missing the plan knows, as their content enters run_id.
    """
    folder = config.model.folder
    if folder is None:
        return
    weights = (read_json(Path(folder) / "model.safetensors.index.json") or {}).get("weight_map", {})
    missing = sorted(name for name in set(weights.values()) if not (Path(folder) / name).exists())
    if missing:
        raise InputError(
            f"model: {folder} lacks {missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''} of the "
            f"{len(set(weights.values()))} weight files that its index names; fetch the model again."
        )
    if config.task.READS_TEXT and not any(Path(folder).glob("tokenizer*")):
        raise InputError(
            f"model: {folder} has no tokenizer (tokenizer.json), and task {config.task.name} reads text; give a folder "
            "that was saved with its tokenizer."
        )


def check_run_folder(config: RunConfig, run: Path) -> None:
    """Raise InputError where the folder is a study's or holds another run: before a base model is made for it."""
    if (run / STUDY).exists() or (run / CELLS).exists():
        raise InputError(f"{run}: it is a study folder; give the run a folder of its own.")
    old = read_json(run / CONFIG)
    if old is not None and old.get("run_id") != run_id(config):
        raise InputError(
            f"{run}: the folder belongs to run {old.get('run_id')}, this config is run {run_id(config)}; "
            "choose another folder."
        )
