"""Evaluation on the held-out problems: test loss, the verdict on every sample, and a few texts to read.

More sets (`evaluation.sets`) are tried at the same steps and stand beside it, each with its own n, temperature and
pass@k. pass@k is the unbiased estimate of Chen et al. (arXiv 2107.03374): with c of n samples right, a problem's chance
that k of them hold a right one is 1 - C(n - c, k) / C(n, k). Its standard error is that of a mean over the problems,
sd / sqrt(problems) with ddof 1: samples and problems are both drawn, and both spreads are in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch

from scaling import checkpoint, files, record, schema
from scaling.algorithm.rewards import grade_all
from scaling.base_models import BASE
from scaling.config.parts import RESOURCES, EvaluationConfig, EvaluationSet
from scaling.config.reading import parse_config
from scaling.config.run import RunConfig, default
from scaling.ladder import LADDER
from scaling.parallel import Team
from scaling.policy import build_policy, load_encoding, load_policy
from scaling.rollout_types import Prompt, RolloutEngine, RolloutGroups, SamplingParams, Task
from scaling.rollouts import engine_class, engine_names, load_engine
from scaling.schema import InputError, check_name
from scaling.tasks import TaskConfig, load_task, task_classes, task_names

SHOWN_PROMPTS, SHOWN_SAMPLES = 4, 2
AT_A_TIME = 256  # sequences that `scaling eval` samples together


@dataclass(frozen=True)
class Evaluation:
    """`row`: the evaluation columns of the curve; `outcomes`, `samples`: rows of outcomes.jsonl, rollouts.jsonl."""

    row: dict[str, Any]
    outcomes: files.Row
    samples: list[files.Row]
    rollouts: list[RolloutGroups]  # of the held-out problems, then of each set


def evaluate(
    engine: RolloutEngine, task: Task, config: EvaluationConfig, *, seed: int, step: int, max_new_tokens: int
) -> Evaluation:
    """Sample every held-out problem `config.samples` times at `config.temperature`; pass@1 is the mean over samples.

    The draws are a function of (seed, step, problem): estimators at one seed meet the same ones.
    """
    prompts_P = task.test_prompts(config.problems)
    sampling = SamplingParams(config.temperature, max_new_tokens, seed, "evaluation", step)
    rollouts = engine.generate(prompts_P, config.samples, sampling)
    grades_B = grade_all(task, rollouts)
    correct_PG = np.array([grade.correct for grade in grades_B], dtype=int).reshape(len(prompts_P), -1)
    scores = [grade.process for grade in grades_B if grade.process is not None]
    careful = [grade.careful for grade in grades_B if grade.careful is not None]
    pass_at_1 = float(correct_PG.mean())
    row = {
        "test_loss": float(1 - correct_PG.mean()),
        "pass_at_1": pass_at_1,
        "eval_problems": len(prompts_P),
        "eval_samples": config.samples,
        "eval_temperature": config.temperature,
        "eval_truncated_share": float(rollouts.truncated_B.mean()),
        "eval_process": float(np.mean(scores)) if scores else None,
        "eval_careful_share": float(np.mean(careful)) if careful else None,
        "eval_length_mean": float(rollouts.lengths_B.mean()),
    }
    outcomes: files.Row = {"step": step, "correct": correct_PG.tolist()}
    every = [rollouts]
    for name, one in config.sets.items():
        temperature = config.temperature if one.temperature is None else one.temperature
        draws = SamplingParams(temperature, max_new_tokens, seed, "evaluation", step)
        columns, found_PG, rollouts = evaluate_set(engine, task, name, one, draws)
        row |= {f"{schema.SETS}{name}.{column}": value for column, value in columns.items()}
        outcomes.setdefault("sets", {})[name] = found_PG.tolist()
        every.append(rollouts)
    return Evaluation(row, outcomes, _shown(engine, task, prompts_P, sampling), every)


def evaluate_set(
    engine: RolloutEngine, task: Task, name: str, one: EvaluationSet, sampling: SamplingParams
) -> tuple[dict[str, float | None], np.ndarray, RolloutGroups]:
    """(schema.SET_COLUMNS of one set, its verdicts as 0 and 1 (P, G), its rollouts).

    Its draws hang on its name, so that they are those of no other set and stay when another set is added.
    """
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) << 32  # beyond the held-out problems' own
    prompts_P = [
        dataclasses.replace(prompt, index=start + i)
        for i, prompt in enumerate(task.problem_set(one.path, one.problems))
    ]
    rollouts = engine.generate(prompts_P, one.samples, sampling)
    correct_PG = np.array([grade.correct for grade in grade_all(task, rollouts)], dtype=int).reshape(len(prompts_P), -1)
    columns: dict[str, float | None] = {}
    for k in one.pass_at:
        columns[f"pass_at_{k}"], columns[f"pass_at_{k}_stderr"] = pass_at_k(correct_PG, k)
    counts = {"problems": len(prompts_P), "samples": one.samples, "temperature": sampling.temperature}
    return columns | counts | {"truncated_share": float(rollouts.truncated_B.mean())}, correct_PG, rollouts


def pass_at_k(correct_PG: np.ndarray, k: int) -> tuple[float, float | None]:
    """(pass@k, its standard error) of verdicts, see the top of this file; the error of a single problem is None.

    Raises InputError unless 1 <= k <= samples.
    """
    problems, samples = correct_PG.shape
    if not 1 <= k <= samples:
        raise InputError(f"pass@{k} wants a k from 1 to the {samples} samples of a problem; draw more, or lower k.")
    right_P = correct_PG.sum(axis=1).tolist()
    chance_P = np.array([1 - math.comb(samples - right, k) / math.comb(samples, k) for right in right_P])
    return float(chance_P.mean()), float(chance_P.std(ddof=1) / math.sqrt(problems)) if problems > 1 else None


def notes_on_sets(task: Task, config: EvaluationConfig) -> list[str]:
    """What a reader of the log should know of the sets. Reads them, so that bad ones are told before the training."""
    trained, notes = set(task.training_problems(None) or ()), []
    for name, one in config.sets.items():
        prompts_P = task.problem_set(one.path, one.problems)
        seen = sum(prompt.text in trained for prompt in prompts_P)
        text = f"; {seen} of them are training problems too" if seen else ""
        notes.append(f"set {name}: {len(prompts_P)} problems, {one.samples} samples each{text}")
    return notes


def stop_reasons(task: Task, rollouts: RolloutGroups) -> dict[str, int]:
    """How many responses each end token ended, and how many were cut at their limit (`length`); all of them counted."""
    last_B = np.array([response[-1] for response in rollouts.responses])
    ended_B = ~rollouts.truncated_B
    ended = {name: int((last_B[ended_B] == end).sum()) for end, name in zip(task.end_ids, task.end_names, strict=True)}
    return ended | {"length": int(rollouts.truncated_B.sum())}


def ended_by(task: Task, rollouts: RolloutGroups) -> str:
    """What ended the responses, in words: `<|im_end|> 3, length 9`."""
    return ", ".join(f"{name} {count}" for name, count in stop_reasons(task, rollouts).items() if count)


def _shown(engine: RolloutEngine, task: Task, prompts_P: list[Prompt], sampling: SamplingParams) -> list[files.Row]:
    """The same few held-out prompts at every evaluation, with draws of their own."""
    draws = SamplingParams(sampling.temperature, sampling.max_new_tokens, sampling.seed, "samples", sampling.step)
    rollouts = engine.generate(prompts_P[:SHOWN_PROMPTS], SHOWN_SAMPLES, draws)
    grades, ends = grade_all(task, rollouts), dict(zip(task.end_ids, task.end_names, strict=True))
    rows = []
    for b, (response, grade) in enumerate(zip(rollouts.responses, grades, strict=True)):
        prompt = rollouts.prompts[b // SHOWN_SAMPLES]
        rows.append(
            {
                "step": sampling.step,
                "problem": prompt.index,
                "sample": b % SHOWN_SAMPLES,
                "prompt": prompt.text,
                "response": task.decode(response),
                "correct": grade.correct,
                "outcome": grade.outcome,
                "process": grade.process,
                "truncated": bool(rollouts.truncated_B[b]),
                "end_token": None if rollouts.truncated_B[b] else ends[response[-1]],
            }
        )
    return rows


# ---------------------------------------------------------------- scaling eval


class EvaluatedFolder(TypedDict):
    """What `scaling eval --json` prints. `sets`: of each the columns of schema.SET_COLUMNS, `path` and `correct`."""

    model: str
    step: int | None  # null where the folder is not a run
    seed: int
    max_new_tokens: int
    sets: dict[str, dict[str, Any]]


def evaluate_folder(
    folder: Path, sets: dict[str, EvaluationSet], *, seed: int = 0, max_new_tokens: int | None = None
) -> EvaluatedFolder:
    """Evaluate a finished or unfinished run, or any transformers folder, on sets of problems.

    Args:
        folder: a run folder (its exported model, else its newest checkpoint), or a transformers folder.
        sets: by name; a set without a path is the held-out problems of the run's task, which a folder that is no run
            has only if it is the base model of a task.
        seed: of the draws.
        max_new_tokens: null = the run's, else the task's.

    Raises InputError for a folder that is neither, and for sets that cannot be had.
    """
    described = files.read_json(folder / schema.CONFIG) if folder.is_dir() else None
    if not isinstance(described, dict) or not ({"run_id", "model_type"} & described.keys()):
        raise InputError(
            f"{folder}: neither a run folder nor a transformers folder: it has no {schema.CONFIG} of one; give a run "
            f"that `scaling run` or a study made, or a folder with weights."
        )
    config, step = None, None
    if "run_id" in described:
        config = parse_config(described["config"], str(folder / schema.CONFIG))
        policy, step, source = _trained(folder, config)
    else:
        policy, source = load_policy(folder), folder
    encoding = load_encoding(str(source), policy) if source else None
    files_only = all(one.path for one in sets.values())
    own = config.task if config else _task_of_base(folder) if encoding is None else None
    task = load_task(_asking(own, files_only), encoding)
    name, dtype = _engine_name(config), (config.model.dtype if config else "float32")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    alone = load_engine(name, allowed_V=task.allowed_V, end_ids=task.end_ids, dtype=dtype, device=device)
    engine = Team("ddp", device).engine(alone, AT_A_TIME)
    longest = max_new_tokens or (config and config.rollout.max_new_tokens) or task.max_new_tokens
    by_name: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as logs, contextlib.closing(engine):
        engine.start(policy, Path(logs), config.resources if config else RESOURCES)
        engine.load_weights(policy, step or 0)
        for name, one in sets.items():
            temperature = one.temperature or (config.evaluation.temperature if config else 1.0)
            sampling = SamplingParams(temperature, longest, seed, "evaluation", step or 0)
            columns, correct_PG, _ = evaluate_set(engine, task, name, one, sampling)
            by_name[name] = {"path": one.path, **columns, "correct": correct_PG.tolist()}
    return {"model": str(folder), "step": step, "seed": seed, "max_new_tokens": longest, "sets": by_name}


def _task_of_base(folder: Path) -> TaskConfig:
    """The task that a base model was made for; of a folder that does not say it, the default one."""
    recipe = (files.read_json(folder / BASE) or {}).get("recipe")
    if recipe is None:
        return default("task")
    values = {key: value for key, value in recipe["task"].items() if key != "version"}
    return task_classes()[check_name(values["name"], task_names(), "task")].model_validate(values)


def _asking(own: TaskConfig | None, files_only: bool) -> TaskConfig:
    """The task that asks and grades: the folder's own, or for files of problems one that reads files."""
    if own is not None and own.READS_FILES and files_only:
        return own.without_files()
    if own is not None and not (own.READS_TEXT and files_only):
        return own
    return next(kind for kind in task_classes().values() if kind.READS_ANY_FILE)()


def _engine_name(config: RunConfig | None) -> str:
    """The run's own engine where its draws are exact, else one that takes any model: verdicts follow from the seed."""
    if config is not None and engine_class(config.resources.engine).EXACT_DRAWS:
        return config.resources.engine
    return next(name for name in engine_names() if engine_class(name).EXACT_DRAWS and engine_class(name).ANY_MODEL)


def _trained(run: Path, config: RunConfig) -> tuple[Any, int, Path | None]:
    """(policy, its step, the folder of its tokenizer) of a run: the exported model, or the newest checkpoint."""
    done, start = record.read_done(run), config.model
    if done and (run / "model").is_dir():
        return load_policy(run / "model"), done["step"], None if start.made else run / "model"
    newest = checkpoint.load_newest(run)
    if newest is None:
        raise InputError(f"{run}: it has neither an exported model nor a checkpoint yet; train it first.")
    if start.folder is not None:
        policy = load_policy(Path(start.folder))
    else:
        task = load_task(config.task)
        policy = build_policy(
            LADDER[start.size or ""], 0,
            pad_id=task.pad_id, end_id=task.end_ids[0], vocabulary=config.task.VOCABULARY,
        )  # fmt: skip
    policy.load_state_dict(newest.state["policy"])
    return policy, newest.step, None if start.folder is None else Path(start.folder)
