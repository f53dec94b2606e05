"""Evaluation on the held-out problems: test loss, the verdict on every sample, and a few texts to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling import record
from scaling.config import EvaluationConfig
from scaling.rollout_types import Grade, Prompt, RolloutEngine, RolloutGroups, SamplingParams, Task

SHOWN_PROMPTS, SHOWN_SAMPLES = 4, 2


@dataclass(frozen=True)
class Evaluation:
    """`row`: the evaluation columns of the curve; `outcomes`, `samples`: rows of outcomes.jsonl, rollouts.jsonl."""

    row: dict[str, Any]
    outcomes: record.Row
    samples: list[record.Row]
    rollouts: RolloutGroups


def evaluate(
    engine: RolloutEngine, task: Task, config: EvaluationConfig, *, seed: int, step: int, max_new_tokens: int
) -> Evaluation:
    """Sample every held-out problem `config.samples` times at `config.temperature`; pass@1 is the mean over samples.

    The draws are a function of (seed, step, problem): estimators at one seed meet the same ones.
    """
    prompts_P = task.test_prompts(config.problems)
    sampling = SamplingParams(config.temperature, max_new_tokens, seed, "evaluation", step)
    rollouts = engine.generate(prompts_P, config.samples, sampling)
    correct_PG = np.array([grade.correct for grade in grade_all(task, rollouts)], dtype=int).reshape(len(prompts_P), -1)
    pass_at_1 = float(correct_PG.mean())
    row = {
        "test_loss": float(1 - correct_PG.mean()),
        "pass_at_1": pass_at_1,
        "eval_problems": len(prompts_P),
        "eval_samples": config.samples,
        "eval_temperature": config.temperature,
    }
    outcomes = {"step": step, "correct": correct_PG.tolist()}
    return Evaluation(row, outcomes, _shown(engine, task, prompts_P, sampling), rollouts)


def grade_all(task: Task, rollouts: RolloutGroups) -> list[Grade]:
    """Grades of all responses in group order."""
    prompts_B = [prompt for prompt in rollouts.prompts for _ in range(rollouts.group_size)]
    return task.grade_many(prompts_B, rollouts.responses)


def _shown(engine: RolloutEngine, task: Task, prompts_P: list[Prompt], sampling: SamplingParams) -> list[record.Row]:
    """The same few held-out prompts at every evaluation, with draws of their own."""
    draws = SamplingParams(sampling.temperature, sampling.max_new_tokens, sampling.seed, "samples", sampling.step)
    rollouts = engine.generate(prompts_P[:SHOWN_PROMPTS], SHOWN_SAMPLES, draws)
    grades = grade_all(task, rollouts)
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
            }
        )
    return rows
