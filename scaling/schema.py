"""Columns, units, file names and the error that users see: the vocabulary that all three packages share.

Row 0: standard library only. A column's meaning is written here once; the record, the loaders, MLflow and the
tables of the report all read it from here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

SCHEMA_VERSION = 1

# File names inside a run folder.
CONFIG = "config.json"
ATTEMPTS = "attempts"
ATTEMPT = "attempt.json"
CURVE = "curve.jsonl"
ROLLOUTS = "rollouts.jsonl"
OUTCOMES = "outcomes.jsonl"
PROMPTS = "prompts.jsonl"
SAVES = "saves.jsonl"
RECORDS = (ROLLOUTS, OUTCOMES, PROMPTS, CURVE)
"""What is merged at the end, each step from one attempt; the curve last."""
LOG = "log.txt"
DONE = "DONE"
FAILED = "FAILED.json"
# File names inside a study folder.
STUDY = "study.yaml"
CELLS = "cells.json"
RUNS = "runs"
ARTIFACTS = "artifacts"
PLANNED = "planned.json"  # in a run folder: the config that a job of a cluster reads
SLURM = "slurm"
CODE = "code"
DAMAGED = "damaged"  # what `scaling sweep repair` replaced or set aside


NOT_UTF8 = "save it as UTF-8 (Latin-1 and UTF-16 are not read)"  # what to do with a file in another encoding


class InputError(ValueError):
    """Bad input, told in one line: what was given, what is legal, what to do. The command line exits with 2."""


def clip(text: str, most: int = 120) -> str:
    """What was given, cut where it would fill the screen."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def did_you_mean(given: str, legal: Iterable[str]) -> str:
    """Return `" Did you mean X?"` for the nearest legal name, or an empty string."""
    match = difflib.get_close_matches(given, list(legal), n=1, cutoff=0.5)
    return f" Did you mean {match[0]}?" if match else ""


def check_name(given: str, legal: Iterable[str], what: str) -> str:
    """Return `given` if it is one of `legal`, else raise InputError naming the legal ones and the nearest match."""
    legal = list(legal)
    if given in legal:
        return given
    raise InputError(f"{given!r} is not a known {what}; there are: {', '.join(legal)}.{did_you_mean(given, legal)}")


def one_line(error: object, most: int = 200) -> str:
    """The text of an error of somebody else's, without line breaks and at most so long, for one of ours."""
    return " ".join(str(error).split())[:most]


@dataclass(frozen=True)
class Column:
    name: str
    unit: str
    meaning: str
    section: str  # run | compute | train | grading | eval: also the section of the MLflow chart page


def _columns(section: str, text: str) -> list[Column]:
    rows = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    return [Column(name, unit, meaning, section) for name, unit, meaning in rows]


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in [
        # What a loader adds to every row of a run.
        *_columns(
            "run",
            """
            run_id | | hash of the scientific config
            model | | name of the policy on its ladder
            num_params | parameters | parameters of the policy, embeddings included
            num_params_non_embedding | parameters | parameters of the policy without the embedding table
            seed | | seed of the run
            algorithm | | advantage estimator, by its algorithm.type: grpo, papo, ...
            group_size | rollouts | rollouts per prompt
            task | | task of the run
            """,
        ),
        *_columns(
            "compute",
            """
            step | 1 | rollout batches consumed; 0 is before training
            prompts_seen | prompts | prompts consumed, repeats included (D)
            prompts_unique | prompts | distinct prompts consumed so far
            reuse_factor | 1 | prompts_seen / prompts_unique at this row (tau, realised)
            rollouts_seen | rollouts | responses sampled for training
            tokens_seen | tokens | prompt + response tokens of every sampled sequence (T)
            tokens_prompt | tokens | the prompt part of tokens_seen, counted once per rollout
            tokens_generated | tokens | the response part of tokens_seen
            train_flops | FLOPs | 6 N T with N the non-embedding parameters (C)
            rollout_flops | FLOPs | prefill (vllm: of what its cache lacks) and decoding of the training rollouts
            logprob_flops | FLOPs | old and reference log-prob passes
            update_flops | FLOPs | forward and backward really computed; skipped groups count 0
            judge_flops | FLOPs | judge calls; 0 where the process reward is a rule
            eval_flops | FLOPs | rollouts on the held-out problems
            total_flops | FLOPs | sum of rollout, logprob, update, judge and eval
            """,
        ),
        *_columns(
            "train",
            """
            reward_mean | 1 | mean outcome reward of the batch
            process_mean | 1 | mean process score of the batch
            process_mean_correct | 1 | mean process score of the correct responses; null if there is none
            careful_share | 1 | share of the correct responses whose every step is right; null if there is none
            response_length_mean | tokens | mean response length, end token included
            response_length_max | tokens | longest response
            truncated_share | 1 | share of responses cut at max_new_tokens
            entropy | nats | mean entropy of the policy per trained token
            gradient_norm | 1 | norm of the gradient before clipping
            learning_rate | 1 | learning rate of the step
            clip_share | 1 | share of trained tokens where the clip is active
            kl | nats | mean k3 estimate of KL(old, policy) per trained token, old as loss.old_logprobs says
            advantage_norm | 1 | root mean square of the total advantage over the batch
            logprob_difference | nats | largest absolute difference between sampler and trainer, before the update
            logprob_difference_mean | nats | mean absolute difference between sampler and trainer, before the update
            sampler_kl | nats | mean k3 estimate of KL(sampler, trainer) per token, before the update
            effective_sample_share | 1 | (sum w)^2 / (N sum w^2) of trainer / sampler over N tokens, before the update
            mismatch_share | 1 | share of trained tokens that loss.mismatch truncates or masks; null without it
            groups_all_right | 1 | share of groups with every response correct
            groups_all_wrong | 1 | share of groups with no response correct
            groups_active | 1 | share of groups with a non-zero advantage
            """,
        ),
        *_columns(
            "grading",
            """
            judge_mean | 1 | mean of the judge's process scores of the batch (with a judge only)
            judge_mean_correct | 1 | mean of the judge's process scores of the correct responses (likewise)
            shaping_mean | 1 | mean of what length and format add to the outcome reward (with such rewards only)
            groups_sampled | 1 | groups sampled in the step, those trained on among them (batch.select informative only)
            informative_share | 1 | share of the groups sampled with a non-zero advantage (likewise)
            unboxed_share | 1 | share of responses without a boxed answer (tasks with such answers only)
            verifier_failures | 1 | answers that the verifier timed out on or died of, each graded wrong (likewise)
            """,
        ),
        *_columns(
            "eval",
            """
            test_loss | 1 | 1 - pass@1 on the held-out problems (L)
            pass_at_1 | 1 | share of held-out problems solved, one sample each
            eval_problems | problems | held-out problems
            eval_samples | 1 | samples per held-out problem
            eval_temperature | 1 | sampling temperature of the evaluation
            eval_truncated_share | 1 | share of the evaluation's responses cut at max_new_tokens
            eval_process | 1 | mean process score, by the rule, of the evaluation's responses; null without a rule
            eval_careful_share | 1 | share of the evaluation's responses whose every step is right; null without a rule
            eval_length_mean | tokens | mean length of the evaluation's responses, end token included
            """,
        ),
    ]
}

# Columns of `evaluation.sets` are named by their set: `sets.NAME.` and one of these; K is a number.
SETS = "sets."
SET_COLUMNS = {
    "pass_at_K": "unbiased estimate of the chance that one of K samples is right, mean over the problems",
    "pass_at_K_stderr": "its standard error over the problems; null for one problem",
    "problems": "problems of the set",
    "samples": "samples per problem",
    "temperature": "sampling temperature",
    "truncated_share": "share of responses cut at max_new_tokens",
}

# What the trainer writes to curve.jsonl; `timing` is a nested object beside it, the one part that differs on resume.
RUN_COLUMNS = [c.name for c in COLUMNS.values() if c.section == "run"]
COUNT_COLUMNS = [c.name for c in COLUMNS.values() if c.section == "compute"]
TRAIN_COLUMNS = [c.name for c in COLUMNS.values() if c.section == "train"]
EVAL_COLUMNS = [c.name for c in COLUMNS.values() if c.section == "eval"]
ROW_COLUMNS = [*COUNT_COLUMNS, *TRAIN_COLUMNS, *EVAL_COLUMNS]
TIMING_COLUMNS = ["time_ms", "wall_seconds", "cpu_seconds", "rollout_seconds", "update_seconds", "eval_seconds"]
