"""Dr. GRPO (arXiv 2503.20783): the outcome reward minus the mean of its group, not divided by the standard deviation.

Its other half is a loss that no response's own length divides: `loss.aggregation: constant_length`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from scaling.algorithm.estimators import Advantages, AlgorithmConfig, centred
from scaling.algorithm.rewards import Rewards


class DrGrpoConfig(AlgorithmConfig):
    """Outcome reward minus the mean of its group (arXiv 2503.20783)."""

    LEAST_GROUP = 2
    type: Literal["dr_grpo"] = "dr_grpo"

    def advantages(self, rewards: Rewards) -> Advantages:
        return dr_grpo_advantages(rewards.outcome_PG)


def dr_grpo_advantages(outcome_PG: np.ndarray) -> Advantages:
    """r - mean within each group; exactly 0 where all rewards are equal."""
    part_PG = centred(outcome_PG)
    return Advantages(part_PG, part_PG, np.zeros_like(part_PG))
