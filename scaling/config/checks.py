"""Preflight: what a run would fail on later is refused before it starts.

`resolve_at` checks what a config alone says, `check_inputs` what this machine holds, and `check_run_folder` and
`is_done` what the run folder holds.
"""

from __future__ import annotations

from pathlib import Path

from scaling import server_memory, vllm_server
from scaling.config.identity import model_files, planned_prompts, policy_shape, resolve, run_id
from scaling.config.parts import StopConfig
from scaling.config.run import RunConfig
from scaling.files import read_json
from scaling.ladder import MAX_POSITIONS
from scaling.models import MODELS
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
    try:
        check_engine(config)
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


def check_engine(config: RunConfig) -> None:
    """Raise InputError where the servers of engine vllm could not sample this model: they would die of it later."""
    resources = config.resources
    if resources.engine != "vllm":
        return
    shape = policy_shape(config)
    no_gpu = resources.gpus == 0 and not Path("/dev/nvidiactl").exists()
    on_cpu = resources.device == "cpu" or (resources.device == "auto" and no_gpu)
    vllm_server.check_shape(shape and shape.head_width, on_cpu)
    if config.model.made:
        positions: int | None = MAX_POSITIONS
    elif config.model.size is not None:
        positions = MODELS[config.model.size].context
    else:
        positions = (read_json(Path(config.model.path or "") / CONFIG) or {}).get("max_position_embeddings")
    if shape is not None and resources.gpus and resources.device != "cpu":
        server_memory.check_gpu_servers(shape, config.model.dtype, resources, positions)
    # As the task reckons it, where it does; the true ones are checked when they are sampled.
    prompt = int(config.task.TOKENS[0]) if config.task.TOKENS else 0
    vllm_server.check_lengths(prompt, config.rollout.max_new_tokens or 1, positions)


def check_inputs(config: RunConfig) -> None:
    """Raise InputError where this machine lacks what the run needs: weights, all of them, a tokenizer, a vLLM.

    For a launch: planning needs none. Which data files are missing the plan knows, as their content enters run_id.
    """
    if config.resources.engine == "vllm":
        vllm_server.find_python(config.resources.vllm.python)
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
