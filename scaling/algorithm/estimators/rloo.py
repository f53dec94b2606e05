"""RLOO (arXiv 2402.14740): the outcome reward minus the mean of the other responses to the same prompt."""

from __future__ import annotations

from typing import Literal

import numpy as np

from scaling.algorithm.estimators import Advantages, AlgorithmConfig, centred
from scaling.algorithm.rewards import Rewards


class RlooConfig(AlgorithmConfig):
    """Outcome reward minus the mean of the others of its group (arXiv 2402.14740)."""

    LEAST_GROUP = 2
    type: Literal["rloo"] = "rloo"

    def advantages(self, rewards: Rewards) -> Advantages:
        return rloo_advantages(rewards.outcome_PG)


def rloo_advantages(outcome_PG: np.ndarray) -> Advantages:
    """r - mean of the G - 1 others, which is (r - mean) G / (G - 1); 0 in a group of one or of equal rewards."""
    group_size = np.shape(outcome_PG)[1]
    part_PG = centred(outcome_PG) * group_size / max(1, group_size - 1)
    return Advantages(part_PG, part_PG, np.zeros_like(part_PG))
