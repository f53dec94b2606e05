"""GDPO (arXiv 2601.05242): each reward is normalised on its own within the group, and their sum over the batch."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from scaling.algorithm.estimators import DDOF, EPS, Advantages, AlgorithmConfig, normalise
from scaling.algorithm.rewards import Rewards
from scaling.fields import Float


class GdpoConfig(AlgorithmConfig):
    """Outcome, shaping and process score, each normalised on its own (arXiv 2601.05242)."""

    LEAST_GROUP = 2
    type: Literal["gdpo"] = "gdpo"
    process_weight: Float = Field(default=1.0, ge=0)
    """Of the process score, of right and wrong answers, where the task or a judge gives one."""

    def advantages(self, rewards: Rewards) -> Advantages:
        shaping_PG = np.broadcast_to(rewards.shaping_PG, rewards.outcome_PG.shape)
        parts = [rewards.outcome_PG - shaping_PG, shaping_PG]
        return gdpo_advantages(parts, rewards.process_PG, process_weight=self.process_weight)


def gdpo_advantages(rewards: list[np.ndarray], process_PG: np.ndarray, *, process_weight: float = 1.0) -> Advantages:
    """The sum of the normalised rewards and the weighted process part, over the standard deviation of the batch.

    Args:
        rewards: rewards that count 1 each, (P, G); together they are the outcome part.
        process_PG: process scores; NaN = missing: left out of the normalisation, its part is 0.
        process_weight: of the process part.

    The mean of the batch is 0, as that of each group is. The standard deviation is the sample one over the P G sums.
    """
    process_PG = np.asarray(process_PG, dtype=float)
    outcome_part_PG = np.sum([normalise(reward_PG) for reward_PG in rewards], axis=0)
    process_part_PG = normalise(process_PG, ~np.isnan(process_PG))
    total_PG = outcome_part_PG + process_weight * process_part_PG
    sd = np.sqrt((total_PG**2).sum() / max(1, total_PG.size - DDOF))
    scale = 1 / (sd + EPS) if sd > EPS else 0.0
    return Advantages(scale * total_PG, scale * outcome_part_PG, scale * process_part_PG)
