"""The shipped advantage estimators in one place: pure functions of the rewards of P groups of G responses.

Each is a file of `scaling.algorithm.estimators`, with its config class.
"""

from __future__ import annotations

import numpy as np

from scaling.algorithm.estimators import Advantages, AlgorithmConfig
from scaling.algorithm.estimators.grpo import grpo_advantages
from scaling.algorithm.estimators.papo import fullnorm_advantages, papo_advantages, rank_safe_weight
from scaling.algorithm.rewards import Rewards

__all__ = [
    "Advantages",
    "advantages",
    "fullnorm_advantages",
    "grpo_advantages",
    "papo_advantages",
    "rank_safe_weight",
]


def advantages(
    config: AlgorithmConfig, outcome_PG: np.ndarray, process_PG: np.ndarray, correct_PG: np.ndarray
) -> Advantages:
    """The estimator that the config names."""
    careful_PG = np.full(np.shape(outcome_PG), np.nan)
    return config.advantages(Rewards(outcome_PG, process_PG, correct_PG, careful_PG))
