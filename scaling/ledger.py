"""The ledger: what a run has consumed so far. Its fields are the cumulative columns of the curve."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from scaling import compute
from scaling.compute import Shape
from scaling.config.run import RunConfig
from scaling.rollout_types import RolloutGroups


@dataclass
class Ledger:
    prompts_seen: int = 0
    prompts_unique: int = 0
    rollouts_seen: int = 0
    tokens_prompt: int = 0
    tokens_generated: int = 0
    train_flops: float = 0.0
    rollout_flops: float = 0.0
    logprob_flops: float = 0.0
    update_flops: float = 0.0
    judge_flops: float = 0.0  # the process reward is a rule
    eval_flops: float = 0.0

    def row(self) -> dict[str, float | None]:
        """The compute columns of a row; the reuse factor is null before the first prompt."""
        counts = dataclasses.asdict(self)
        parts = ("rollout_flops", "logprob_flops", "update_flops", "judge_flops", "eval_flops")
        return {
            **counts,
            "reuse_factor": self.prompts_seen / self.prompts_unique if self.prompts_unique else None,
            "tokens_seen": self.tokens_prompt + self.tokens_generated,
            "total_flops": sum(counts[part] for part in parts),
        }

    def add_step(
        self,
        shape: Shape,
        non_embedding: int,
        rollouts: RolloutGroups,
        active_P: np.ndarray,
        config: RunConfig,
        prompts_unique: int,
    ) -> None:
        """Count one training step; `active_P` (bool) says which groups went through the update."""
        prompt_lengths_P = np.array([len(prompt.tokens) for prompt in rollouts.prompts])
        lengths_PG = rollouts.lengths_B.reshape(len(prompt_lengths_P), -1)
        prompt_tokens = int(prompt_lengths_P.sum()) * rollouts.group_size
        response_tokens = int(lengths_PG.sum())
        self.prompts_seen += len(rollouts.prompts)
        self.prompts_unique = prompts_unique
        self.rollouts_seen += lengths_PG.size
        self.tokens_prompt += prompt_tokens
        self.tokens_generated += response_tokens
        self.train_flops += compute.train_flops(non_embedding, prompt_tokens + response_tokens)
        self.rollout_flops += rollout_flops(shape, rollouts)
        active = np.asarray(active_P, dtype=bool)
        shared = config.resources.forward == "shared_prefix"
        trained = prompt_lengths_P[active], lengths_PG[active]
        self.update_flops += compute.update_flops(shape, *trained, shared_prompt=shared)
        if config.loss.kl_weight > 0:  # the reference's pass
            self.logprob_flops += compute.sequence_flops(shape, *trained, shared_prompt=shared)
        if config.loss.trainer_logprobs:  # a pass of their own for all but the first mini-batch
            later = active & (np.arange(len(active)) >= len(active) // config.loss.updates_per_batch)
            held = prompt_lengths_P[later], lengths_PG[later]
            self.logprob_flops += compute.sequence_flops(shape, *held, shared_prompt=shared)


def rollout_flops(shape: Shape, rollouts: RolloutGroups) -> float:
    """FLOPs of sampling, by formula from the lengths: they are the same however a run was cut, resumed or spread.

    Engines hf and native run a prompt once per group. vLLM runs it for each sample, but for what its cache holds of the
    prompt's first sample: whole blocks, `rollouts.prefix_block` tokens each. That all samples after the first find them
    is assumed: what vLLM drops when its memory is full, and runs again, is not counted. Nor is padding (of shorter
    prompts by hf and native; of finished sequences by native, until a tenth of a batch has finished).
    """
    prompt_lengths_P = np.array([len(prompt.tokens) for prompt in rollouts.prompts])
    lengths_PG = rollouts.lengths_B.reshape(len(prompt_lengths_P), -1)
    return compute.rollout_flops(shape, prompt_lengths_P, lengths_PG, prefix_block=rollouts.prefix_block)
