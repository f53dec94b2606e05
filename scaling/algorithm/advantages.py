"""The shipped advantage estimators in one place: pure functions of the rewards of P groups of G responses.

Each is a file of `scaling.algorithm.estimators`, with its config class.
"""

from __future__ import annotations

from scaling.algorithm.estimators import Advantages
from scaling.algorithm.estimators.grpo import grpo_advantages
from scaling.algorithm.estimators.papo import fullnorm_advantages, papo_advantages, rank_safe_weight

__all__ = [
    "Advantages",
    "fullnorm_advantages",
    "grpo_advantages",
    "papo_advantages",
    "rank_safe_weight",
]
