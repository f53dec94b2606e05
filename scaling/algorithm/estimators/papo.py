"""PAPO, Process-Aware Policy Optimization (arXiv 2603.26535): an outcome part plus a process part, and its baselines.

Another paper's PAPO, the perception-aware one, is not this. The baselines differ from a run of PAPO in the estimator
alone: `fullnorm` normalises the process score over all responses, `mult` has one reward, outcome times process,
`prm_only` the process score as the only reward; the paper's ORM is `grpo`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from scaling.algorithm.estimators import Advantages, AlgorithmConfig, normalise
from scaling.algorithm.rewards import Rewards
from scaling.fields import Float


class PapoConfig(AlgorithmConfig):
    """Outcome part plus a process part normalised among the correct responses (arXiv 2603.26535)."""

    NEEDS_PROCESS = True
    LEAST_GROUP = 2
    type: Literal["papo"] = "papo"
    process_weight: Float = Field(default=0.6, ge=0)
    """lambda; 0.6 keeps correct responses above wrong ones up to a group size of 16 (bound .693)."""

    def notes(self, group_size: int) -> list[str]:
        bound = rank_safe_weight(group_size)
        if self.process_weight <= bound:
            return []
        return [
            f"algorithm.process_weight {self.process_weight:g} is above {bound:.3f}, the largest that is rank-safe "
            f"with rollout.group_size {group_size}: a correct response may fall below a wrong one of its group"
        ]

    def advantages(self, rewards: Rewards) -> Advantages:
        return papo_advantages(
            rewards.outcome_PG, rewards.process_PG, rewards.correct_PG, process_weight=self.process_weight
        )


class FullnormConfig(AlgorithmConfig):
    """The ablation of PAPO that normalises the process score over the whole group."""

    NEEDS_PROCESS = True
    LEAST_GROUP = 2
    type: Literal["fullnorm"] = "fullnorm"
    process_weight: Float = Field(default=0.6, ge=0)

    def advantages(self, rewards: Rewards) -> Advantages:
        # The process score counts where the answer is right, as a judge is asked only there.
        gated_PG = np.where(rewards.correct_PG, rewards.process_PG, 0.0)
        return fullnorm_advantages(rewards.outcome_PG, gated_PG, process_weight=self.process_weight)


class PrmOnlyConfig(AlgorithmConfig):
    """The process score as the only reward, of right and wrong answers: the baseline that can be gamed."""

    NEEDS_PROCESS = True
    LEAST_GROUP = 2
    type: Literal["prm_only"] = "prm_only"

    def advantages(self, rewards: Rewards) -> Advantages:
        return prm_only_advantages(rewards.process_PG + rewards.shaping_PG)


class MultConfig(AlgorithmConfig):
    """Outcome times process as the one reward."""

    NEEDS_PROCESS = True
    LEAST_GROUP = 2
    type: Literal["mult"] = "mult"

    def advantages(self, rewards: Rewards) -> Advantages:
        verdict_PG = rewards.outcome_PG - rewards.shaping_PG
        return mult_advantages(verdict_PG, rewards.process_PG, rewards.correct_PG, shaping_PG=rewards.shaping_PG)


def papo_advantages(
    outcome_PG: np.ndarray, process_PG: np.ndarray, correct_PG: np.ndarray, *, process_weight: float = 1.0
) -> Advantages:
    """Outcome part plus process part normalised among the correct responses alone.

    Args:
        outcome_PG: outcome rewards, possibly shaped.
        process_PG: process scores; NaN = missing: left out of the normalisation, its part is 0.
        correct_PG: which responses are correct; said outright, since shaping breaks `outcome == 1`.
        process_weight: lambda.
    """
    scored_PG = np.asarray(correct_PG, dtype=bool) & ~np.isnan(np.asarray(process_PG, dtype=float))
    return _sum(normalise(outcome_PG), normalise(process_PG, scored_PG), process_weight)


def fullnorm_advantages(outcome_PG: np.ndarray, process_PG: np.ndarray, *, process_weight: float = 1.0) -> Advantages:
    """PAPO's ablation: the process part is normalised over the whole group, wrong responses (score 0) included."""
    process_PG = np.asarray(process_PG, dtype=float)
    return _sum(normalise(outcome_PG), normalise(process_PG, ~np.isnan(process_PG)), process_weight)


def prm_only_advantages(process_PG: np.ndarray) -> Advantages:
    """GRPO of the process score; a response without one (NaN) is left out of the normalisation, its advantage is 0."""
    process_PG = np.asarray(process_PG, dtype=float)
    part_PG = normalise(process_PG, ~np.isnan(process_PG))
    return Advantages(part_PG, np.zeros_like(part_PG), part_PG)


def mult_advantages(
    outcome_PG: np.ndarray,
    process_PG: np.ndarray,
    correct_PG: np.ndarray,
    *,
    shaping_PG: np.ndarray | float = 0.0,
) -> Advantages:
    """GRPO of outcome times process, 0 where the answer is wrong, plus what shaping adds to either.

    A correct response without a score (NaN) is left out of the normalisation, its advantage is 0.
    """
    correct_PG = np.asarray(correct_PG, dtype=bool)
    reward_PG = np.where(correct_PG, np.asarray(outcome_PG, dtype=float) * process_PG, 0.0) + shaping_PG
    part_PG = normalise(reward_PG, ~np.isnan(reward_PG))
    return Advantages(part_PG, part_PG, np.zeros_like(part_PG))


def rank_safe_weight(group_size: int) -> float:
    """Largest process weight at which no correct response of any group falls below a wrong one (binary rewards).

    The least of sqrt(G (G - 1) / (G - k)) / (k - 1) over k = 2 .. G - 1 correct responses; infinite for G < 3.
    """
    return min(
        (np.sqrt(group_size * (group_size - 1) / (group_size - k)) / (k - 1) for k in range(2, group_size)),
        default=float("inf"),
    )


def _sum(outcome_part_PG: np.ndarray, process_part_PG: np.ndarray, process_weight: float) -> Advantages:
    return Advantages(outcome_part_PG + process_weight * process_part_PG, outcome_part_PG, process_part_PG)
