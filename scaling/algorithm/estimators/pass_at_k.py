"""Pass@k training (arXiv 2508.10751): a prompt is solved if one of k responses is right, here without drawing the k."""

from __future__ import annotations

from math import comb, sqrt
from typing import Literal

import numpy as np
from pydantic import Field

from scaling.algorithm.estimators import Advantages, AlgorithmConfig
from scaling.algorithm.rewards import Rewards
from scaling.fields import Int


class PassAtKConfig(AlgorithmConfig):
    """The advantage of pass@k in closed form (arXiv 2508.10751, section 2.4); k 1 is GRPO with the population sd."""

    type: Literal["pass_at_k"] = "pass_at_k"
    k: Int = Field(default=4, ge=1)
    """Responses of which one has to be right; fewer than rollout.group_size."""

    @property
    def least_group(self) -> int:
        return self.k + 1

    def advantages(self, rewards: Rewards) -> Advantages:
        return pass_at_k_advantages(rewards.correct_PG, k=self.k)


def pass_at_k_advantages(correct_PG: np.ndarray, *, k: int) -> Advantages:
    """Mean advantage of a response over all groups of k that hold it.

    Args:
        correct_PG: which responses are correct; rewards that are shaped do not enter.
        k: size of the groups, at most G.

    With w of G responses wrong, the share of the groups that are solved is R = 1 - C(w, k) / C(G, k). A correct
    response gets (1 - R) / sd and a wrong one (1 - R - C(w - 1, k - 1) / C(G - 1, k - 1)) / sd, sd = sqrt(R (1 - R)).
    Where every group of k is solved, or none is, all get 0.
    """
    correct_PG = np.asarray(correct_PG, dtype=bool)
    group_size = correct_PG.shape[1]
    values = np.zeros((group_size + 1, 2))  # of a wrong and of a correct response, by the number of wrong ones
    for wrong in range(k, group_size):
        unsolved = comb(wrong, k) / comb(group_size, k)
        sd = sqrt(unsolved * (1 - unsolved))
        values[wrong] = (unsolved - comb(wrong - 1, k - 1) / comb(group_size - 1, k - 1)) / sd, unsolved / sd
    part_PG = values[(~correct_PG).sum(axis=1, keepdims=True), correct_PG.astype(int)]
    return Advantages(part_PG, part_PG, np.zeros_like(part_PG))
