"""Advantage estimators: pure functions of the rewards of P groups of G responses.

Suffixes: _P prompts, _G rollouts of one prompt. The standard deviation is the sample one (ddof 1) and eps is added to
it, as in the released code of both papers; the population one would make every advantage sqrt(G / (G - 1)) larger.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scaling.config.parts import AlgorithmConfig, FullnormConfig, GrpoConfig, PapoConfig

DDOF = 1
EPS = 1e-6


class Advantages(NamedTuple):
    """Total advantage and its parts, float64 (P, G); process_PG is before the weight."""

    total_PG: np.ndarray
    outcome_PG: np.ndarray
    process_PG: np.ndarray


def advantages(
    config: AlgorithmConfig, outcome_PG: np.ndarray, process_PG: np.ndarray, correct_PG: np.ndarray
) -> Advantages:
    """The estimator that the config names."""
    match config:
        case GrpoConfig():
            return grpo_advantages(outcome_PG)
        case PapoConfig():
            return papo_advantages(outcome_PG, process_PG, correct_PG, process_weight=config.process_weight)
        case FullnormConfig():
            # The process score counts where the answer is right, as a judge is asked only there.
            gated_PG = np.where(correct_PG, process_PG, 0.0)
            return fullnorm_advantages(outcome_PG, gated_PG, process_weight=config.process_weight)


def grpo_advantages(outcome_PG: np.ndarray) -> Advantages:
    """(r - mean) / (sd + eps) within each group (DeepSeekMath, arXiv 2402.03300, section 4.1.2).

    A group of one has mean 0 and sd 1, hence r / (1 + eps), as in the released code.
    """
    outcome_PG = np.asarray(outcome_PG, dtype=float)
    if outcome_PG.shape[1] == 1:
        part_PG = outcome_PG / (1 + EPS)
    else:
        part_PG = _normalise(outcome_PG, np.ones_like(outcome_PG, dtype=bool))
    return Advantages(part_PG, part_PG, np.zeros_like(part_PG))


def papo_advantages(
    outcome_PG: np.ndarray, process_PG: np.ndarray, correct_PG: np.ndarray, *, process_weight: float = 1.0
) -> Advantages:
    """Outcome part plus process part normalised among the correct responses alone (PAPO, arXiv 2603.26535).

    Args:
        outcome_PG: outcome rewards, possibly shaped.
        process_PG: process scores; NaN = missing: left out of the normalisation, its part is 0.
        correct_PG: which responses are correct; said outright, since shaping breaks `outcome == 1`.
        process_weight: lambda.
    """
    outcome_PG, process_PG = np.asarray(outcome_PG, dtype=float), np.asarray(process_PG, dtype=float)
    scored_PG = np.asarray(correct_PG, dtype=bool) & ~np.isnan(process_PG)
    return _sum(_normalise(outcome_PG, np.ones_like(scored_PG)), _normalise(process_PG, scored_PG), process_weight)


def fullnorm_advantages(outcome_PG: np.ndarray, process_PG: np.ndarray, *, process_weight: float = 1.0) -> Advantages:
    """PAPO's ablation: the process part is normalised over the whole group, wrong responses (score 0) included."""
    outcome_PG, process_PG = np.asarray(outcome_PG, dtype=float), np.asarray(process_PG, dtype=float)
    return _sum(
        _normalise(outcome_PG, np.ones_like(outcome_PG, dtype=bool)),
        _normalise(process_PG, ~np.isnan(process_PG)),
        process_weight,
    )


def rank_safe_weight(group_size: int) -> float:
    """Largest process weight at which no correct response of any group falls below a wrong one (binary rewards).

    The least of sqrt(G (G - 1) / (G - k)) / (k - 1) over k = 2 .. G - 1 correct responses; infinite for G < 3.
    """
    return min(
        (np.sqrt(group_size * (group_size - 1) / (group_size - k)) / (k - 1) for k in range(2, group_size)),
        default=float("inf"),
    )


def _sum(outcome_part_PG: np.ndarray, process_part_PG: np.ndarray, process_weight: float) -> Advantages:
    return Advantages(outcome_part_PG + process_weight * process_part_PG, outcome_part_PG, process_part_PG)


def _normalise(values_PG: np.ndarray, chosen_PG: np.ndarray) -> np.ndarray:
    """(v - mean) / (sd + eps) among the chosen of each group; 0 elsewhere, and where sd <= eps or fewer than two."""
    counts_P = chosen_PG.sum(axis=1, keepdims=True)
    chosen_values_PG = np.where(chosen_PG, values_PG, 0.0)
    centred_PG = np.where(
        chosen_PG, chosen_values_PG - chosen_values_PG.sum(1, keepdims=True) / np.maximum(counts_P, 1), 0.0
    )
    sd_P = np.sqrt((centred_PG**2).sum(axis=1, keepdims=True) / np.maximum(counts_P - DDOF, 1))
    return np.where(sd_P > EPS, centred_PG / (sd_P + EPS), 0.0)
