"""Advantage estimators: a file `NAME.py` in this folder holds a pure function of the rewards and its config class.

The config class says what the estimator needs and calls the function. With that it is a choice of `algorithm.type`, on
every task that has what it needs. Dimension suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar, NamedTuple

import numpy as np

from scaling.algorithm.rewards import Rewards
from scaling.fields import Part, members

DDOF = 1
EPS = 1e-6


class Advantages(NamedTuple):
    """Total advantage and its parts, float64 (P, G); process_PG is before the weight."""

    total_PG: np.ndarray
    outcome_PG: np.ndarray
    process_PG: np.ndarray


class AlgorithmConfig(Part):
    """An estimator's settings, and what it needs. A subclass has `type: Literal["x"] = "x"` and `advantages`."""

    NEEDS_PROCESS: ClassVar[bool] = False
    """It uses process scores, which not every task has."""
    LEAST_GROUP: ClassVar[int] = 1
    """Rollouts of a prompt without which every advantage is 0."""
    type: Any = None

    @property
    def least_group(self) -> int:
        """LEAST_GROUP of these settings."""
        return self.LEAST_GROUP

    def notes(self, group_size: int) -> list[str]:
        """What a reader of the log should know of these settings with so many rollouts of a prompt."""
        return []

    def advantages(self, rewards: Rewards) -> Advantages:
        raise NotImplementedError


@functools.cache
def algorithm_classes() -> dict[str, type[AlgorithmConfig]]:
    """Config class of each estimator by its type."""
    return members(__name__, __path__, AlgorithmConfig, "type")


def normalise(values_PG: np.ndarray, chosen_PG: np.ndarray | None = None) -> np.ndarray:
    """(v - mean) / (sd + eps) among the chosen of each group; 0 elsewhere, and where sd <= eps or fewer than two.

    The standard deviation is the sample one (ddof 1) and eps is added to it, as in the released code of GRPO and PAPO;
    the population one would make every advantage sqrt(G / (G - 1)) larger. `chosen_PG` null = all.
    """
    values_PG = np.asarray(values_PG, dtype=float)
    if chosen_PG is None:
        chosen_PG = np.ones_like(values_PG, dtype=bool)
    counts_P1 = chosen_PG.sum(axis=1, keepdims=True)
    chosen_values_PG = np.where(chosen_PG, values_PG, 0.0)
    centred_PG = np.where(
        chosen_PG, chosen_values_PG - chosen_values_PG.sum(1, keepdims=True) / np.maximum(counts_P1, 1), 0.0
    )
    sd_P1 = np.sqrt((centred_PG**2).sum(axis=1, keepdims=True) / np.maximum(counts_P1 - DDOF, 1))
    return np.where(sd_P1 > EPS, centred_PG / (sd_P1 + EPS), 0.0)


def centred(values_PG: np.ndarray) -> np.ndarray:
    """v - mean within each group; exactly 0 where all values are equal: a mean of .1s is not .1."""
    values_PG = np.asarray(values_PG, dtype=float)
    differ_P1 = np.ptp(values_PG, axis=1, keepdims=True) > 0
    return np.where(differ_P1, values_PG - values_PG.mean(axis=1, keepdims=True), 0.0)
