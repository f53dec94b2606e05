"""Dr. GRPO (arXiv 2503.20783): the outcome reward minus the mean of its group, not divided by the standard deviation.

Its other half is a loss that no response's own length divides: `loss.aggregation: constant_length`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from scaling.algorithm.estimators import Advantages, AlgorithmConfig
from scaling.algorithm.rewards import Rewards


class DrGrpoConfig(AlgorithmConfig):
    """Outcome reward minus the mean of its group (arXiv 2503.20783)."""

    LEAST_GROUP = 2
    type: Literal["dr_grpo"] = "dr_grpo"

    def advantages(self, rewards: Rewards) -> Advantages:
        return dr_grpo_advantages(rewards.outcome_PG)


def dr_grpo_advantages(outcome_PG: np.ndarray) -> Advantages:
    """r - mean within each group; exactly 0 where all rewards are equal."""
    outcome_PG = np.asarray(outcome_PG, dtype=float)
    part_PG = outcome_PG - outcome_PG.mean(axis=1, keepdims=True)
    part_PG = np.where(np.ptp(outcome_PG, axis=1, keepdims=True) > 0, part_PG, 0.0)  # a mean of .1s is not .1
    return Advantages(part_PG, part_PG, np.zeros_like(part_PG))
