"""GRPO: the outcome reward, normalised within each group (DeepSeekMath, arXiv 2402.03300, section 4.1.2)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from scaling.algorithm.estimators import EPS, Advantages, AlgorithmConfig, normalise
from scaling.algorithm.rewards import Rewards


class GrpoConfig(AlgorithmConfig):
    """Group-normalised outcome reward (DeepSeekMath, arXiv 2402.03300), sample standard deviation."""

    type: Literal["grpo"] = "grpo"

    def advantages(self, rewards: Rewards) -> Advantages:
        return grpo_advantages(rewards.outcome_PG)


def grpo_advantages(outcome_PG: np.ndarray) -> Advantages:
    """(r - mean) / (sd + eps) within each group.

    A group of one has mean 0 and sd 1, hence r / (1 + eps), as in the released code.
    """
    outcome_PG = np.asarray(outcome_PG, dtype=float)
    part_PG = outcome_PG / (1 + EPS) if outcome_PG.shape[1] == 1 else normalise(outcome_PG)
    return Advantages(part_PG, part_PG, np.zeros_like(part_PG))
