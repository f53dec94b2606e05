"""Advantage estimators: hand-worked vectors of the published formulas, and the properties that follow from them."""

import json
from pathlib import Path

import numpy as np
import pytest

from scaling.algorithm.advantages import (
    fullnorm_advantages,
    grpo_advantages,
    papo_advantages,
    rank_safe_weight,
)
from scaling.algorithm.estimators import algorithm_classes
from scaling.algorithm.rewards import Rewards
from scaling.config import FullnormConfig, GrpoConfig, PapoConfig

VECTORS = json.loads((Path(__file__).parent / "data" / "papo_test_vectors.json").read_text())


def row(values) -> np.ndarray:
    return np.array([values], dtype=float)


def test_there_are_31_vectors():
    assert len(VECTORS) == 31
    assert {v["estimator"] for v in VECTORS} == {"papo", "fullnorm", "mult", "prm_only", "orm"}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["id"])
def test_vector(vector):
    if "reward" in vector:  # a single reward: plain GRPO of it
        result = grpo_advantages(row(vector["reward"]))
    elif vector["estimator"] == "fullnorm":
        result = fullnorm_advantages(row(vector["orm"]), row(vector["prm"]), process_weight=vector["lam"])
    else:
        correct = row(vector["acc"]) if vector["acc"] is not None else row(vector["orm"]) == 1
        result = papo_advantages(row(vector["orm"]), row(vector["prm"]), correct, process_weight=vector["lam"])
    np.testing.assert_allclose(result.total_PG[0], vector["A_total"], atol=1e-6, rtol=0)
    if "A_out" in vector:
        np.testing.assert_allclose(result.outcome_PG[0], vector["A_out"], atol=1e-6, rtol=0)
        np.testing.assert_allclose(result.process_PG[0], vector["A_proc"], atol=1e-6, rtol=0)


@pytest.fixture
def batch():
    """100 random groups of 12 with every number of correct responses, and real-valued process scores."""
    rng = np.random.default_rng(0)
    correct_PG = rng.random((100, 12)) < rng.random((100, 1))
    return correct_PG.astype(float), rng.random((100, 12)), correct_PG


def test_groups_do_not_mix(batch):
    outcome_PG, process_PG, correct_PG = batch
    whole = papo_advantages(outcome_PG, process_PG, correct_PG).total_PG
    for p in (0, 17, 99):
        alone = papo_advantages(outcome_PG[p : p + 1], process_PG[p : p + 1], correct_PG[p : p + 1]).total_PG
        np.testing.assert_array_equal(whole[p], alone[0])


def test_sums_are_zero_and_wrong_responses_have_no_process_part(batch):
    outcome_PG, process_PG, correct_PG = batch
    result = papo_advantages(outcome_PG, process_PG, correct_PG)
    np.testing.assert_allclose(result.outcome_PG.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(np.where(correct_PG, result.process_PG, 0).sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(result.total_PG.sum(axis=1), 0, atol=1e-12)
    assert (result.process_PG[~correct_PG] == 0).all()
    np.testing.assert_array_equal(result.outcome_PG, grpo_advantages(outcome_PG).total_PG)


def test_bounds_and_root_mean_square(batch):
    outcome_PG, process_PG, correct_PG = batch
    result = papo_advantages(outcome_PG, process_PG, correct_PG)
    assert np.abs(result.outcome_PG).max() <= 11 / np.sqrt(12)
    k_P = correct_PG.sum(axis=1)
    assert (np.abs(result.process_PG).max(axis=1) <= np.maximum(k_P - 1, 0) / np.sqrt(np.maximum(k_P, 1))).all()
    mixed = (k_P > 0) & (k_P < 12)
    np.testing.assert_allclose(np.sqrt((result.outcome_PG[mixed] ** 2).mean(axis=1)), np.sqrt(11 / 12), rtol=1e-4)
    several = k_P >= 2
    squares = (result.process_PG[several] ** 2).sum(axis=1) / k_P[several]
    np.testing.assert_allclose(squares, (k_P[several] - 1) / k_P[several], rtol=1e-3)


def test_process_part_does_not_depend_on_the_scale_of_the_scores(batch):
    outcome_PG, process_PG, correct_PG = batch
    one = papo_advantages(outcome_PG, process_PG, correct_PG).process_PG
    np.testing.assert_allclose(papo_advantages(outcome_PG, 3 * process_PG - 7, correct_PG).process_PG, one, atol=1e-3)


def test_equal_scores_give_exactly_zero():
    # .1 + .1 + .1 is not .3: without the guard the rounding would be divided by eps.
    result = papo_advantages(np.ones((1, 7)), np.full((1, 7), 0.1), np.ones((1, 7), dtype=bool))
    assert (result.total_PG == 0).all()
    assert (grpo_advantages(np.full((1, 7), 0.1)).total_PG == 0).all()


def test_missing_scores_leave_the_set():
    nan = np.nan
    correct = np.array([[True, True, True, False]])
    result = papo_advantages(row([1, 1, 1, 0]), row([1.0, nan, 0.5, nan]), correct)
    # Two scored correct responses: +-1/sqrt(2), up to eps / sd.
    np.testing.assert_allclose(result.process_PG[0], [0.707105, 0, -0.707105, 0], atol=1e-6)
    np.testing.assert_allclose(result.outcome_PG[0], [0.5, 0.5, 0.5, -1.5], atol=1e-5)
    one_left = papo_advantages(row([1, 1, 1, 0]), row([1.0, nan, nan, 0]), correct)
    assert (one_left.process_PG == 0).all()
    all_missing = fullnorm_advantages(row([1, 0]), row([nan, nan]))
    np.testing.assert_array_equal(all_missing.total_PG, all_missing.outcome_PG)


def test_group_of_one():
    assert grpo_advantages(row([1])).total_PG[0, 0] == 1 / (1 + 1e-6)
    assert papo_advantages(row([1]), row([0.5]), np.array([[True]])).total_PG[0, 0] == 0


@pytest.mark.parametrize(("group_size", "bound"), [(4, 1.732), (8, 1.058), (16, 0.693), (32, 0.474), (64, 0.330)])
def test_rank_safe_weight(group_size, bound):
    assert rank_safe_weight(group_size) == pytest.approx(bound, abs=5e-4)
    # The worst group of each k has one flawed correct response. Below the bound every k is safe, above it one is not.
    correct_PG = np.array([[g < k for g in range(group_size)] for k in range(2, group_size)])
    process_PG = np.where(np.arange(group_size) == 0, 0.0, 1.0) * correct_PG

    def margin_P(weight):
        total_PG = papo_advantages(correct_PG.astype(float), process_PG, correct_PG, process_weight=weight).total_PG
        return total_PG[:, 0] - total_PG[:, -1]  # the flawed correct response above a wrong one

    assert (margin_P(0.999 * rank_safe_weight(group_size)) > 0).all()
    assert (margin_P(1.001 * rank_safe_weight(group_size)) < 0).any()


def test_small_groups_are_always_rank_safe():
    assert rank_safe_weight(1) == rank_safe_weight(2) == float("inf")


def test_default_weight_is_rank_safe_at_the_default_group_size():
    assert PapoConfig().process_weight < rank_safe_weight(16)


def test_a_config_calls_its_own_estimator():
    outcome, correct = row([1, 1, 0, 0]), np.array([[True, True, False, False]])
    process = row([1, 0.5, 1, np.nan])  # wrong responses with a score and without one
    rewards = Rewards(outcome, process, correct, careful_PG=row([np.nan] * 4))
    np.testing.assert_array_equal(GrpoConfig().advantages(rewards).total_PG, grpo_advantages(outcome).total_PG)
    np.testing.assert_array_equal(
        PapoConfig(process_weight=0.3).advantages(rewards).total_PG,
        papo_advantages(outcome, process, correct, process_weight=0.3).total_PG,
    )
    # Full normalisation counts wrong responses as 0, whatever their score.
    np.testing.assert_array_equal(
        FullnormConfig(process_weight=0.3).advantages(rewards).total_PG,
        fullnorm_advantages(outcome, row([1, 0.5, 0, 0]), process_weight=0.3).total_PG,
    )


# ---------------------------------------------------------------- what every estimator keeps


def rewards_of(outcome_PG, process_PG, correct_PG):
    return Rewards(outcome_PG, process_PG, correct_PG, np.full_like(outcome_PG, np.nan))


@pytest.mark.parametrize("name", algorithm_classes())
def test_every_estimator_keeps_the_contract(name, batch):
    config, (outcome_PG, process_PG, correct_PG) = algorithm_classes()[name](), batch
    if not config.NEEDS_PROCESS:
        process_PG = np.full_like(process_PG, np.nan)
    before = outcome_PG.copy()
    result = config.advantages(rewards_of(outcome_PG, process_PG, correct_PG))
    for part_PG in result:
        assert part_PG.shape == outcome_PG.shape and part_PG.dtype == np.float64 and np.isfinite(part_PG).all()
    np.testing.assert_array_equal(outcome_PG, before)  # a pure function
    for p in (0, 50):  # groups do not mix
        one = rewards_of(outcome_PG[p : p + 1], process_PG[p : p + 1], correct_PG[p : p + 1])
        np.testing.assert_allclose(config.advantages(one).total_PG[0], result.total_PG[p], atol=1e-12)
    for size in range(1, config.LEAST_GROUP):  # nothing is trained
        alike = rewards_of(np.ones((1, size)), np.ones((1, size)), np.ones((1, size), dtype=bool))
        assert (config.advantages(alike).total_PG == 0).all()
