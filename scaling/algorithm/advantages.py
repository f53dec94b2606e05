"""The shipped advantage estimators in one place: pure functions of the rewards of P groups of G responses.

Each is a file of `scaling.algorithm.estimators`, with its config class.
"""

from __future__ import annotations

from scaling.algorithm.estimators import Advantages
from scaling.algorithm.estimators.dr_grpo import dr_grpo_advantages
from scaling.algorithm.estimators.gdpo import gdpo_advantages
from scaling.algorithm.estimators.grpo import grpo_advantages
from scaling.algorithm.estimators.papo import (
    fullnorm_advantages,
    mult_advantages,
    papo_advantages,
    prm_only_advantages,
    rank_safe_weight,
)
from scaling.algorithm.estimators.pass_at_k import pass_at_k_advantages
from scaling.algorithm.estimators.rloo import rloo_advantages

__all__ = [
    "Advantages",
    "dr_grpo_advantages",
    "fullnorm_advantages",
    "gdpo_advantages",
    "grpo_advantages",
    "mult_advantages",
    "papo_advantages",
    "pass_at_k_advantages",
    "prm_only_advantages",
    "rank_safe_weight",
    "rloo_advantages",
]
