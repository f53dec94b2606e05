"""Advantage estimators: hand-worked vectors of the published formulas, and the properties that follow from them."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from scaling.algorithm.advantages import (
    dr_grpo_advantages,
    fullnorm_advantages,
    gdpo_advantages,
    grpo_advantages,
    mult_advantages,
    papo_advantages,
    pass_at_k_advantages,
    prm_only_advantages,
    rank_safe_weight,
    rloo_advantages,
)
from scaling.algorithm.estimators import algorithm_classes
from scaling.algorithm.estimators.papo import MultConfig, PrmOnlyConfig
from scaling.algorithm.estimators.pass_at_k import PassAtKConfig
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
    if vector["estimator"] == "prm_only":
        result = prm_only_advantages(row(vector["reward"]))
    elif "reward" in vector:  # a single reward: plain GRPO of it
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


# ---------------------------------------------------------------- the other estimators


def test_mult_is_one_reward_and_a_wrong_answer_has_no_process():
    # M01: the product of outcome and process, normalised over the whole group.
    outcome, correct = row([1, 1, 1, 1, 0, 0, 0, 0]), row([1, 1, 1, 1, 0, 0, 0, 0]) == 1
    wanted = [1.984308, 0.661436, 0.661436, *[-0.661436] * 5]
    for process in ([1, 0.5, 0.5, 0, 0, 0, 0, 0], [1, 0.5, 0.5, 0, 1, 1, np.nan, np.nan]):
        total_PG = mult_advantages(outcome, row(process), correct).total_PG
        np.testing.assert_allclose(total_PG[0], wanted, atol=1e-6)
    missing = mult_advantages(np.ones((1, 3)), row([1, 0, np.nan]), np.ones((1, 3), dtype=bool)).total_PG
    np.testing.assert_allclose(missing[0], [0.707106, -0.707106, 0], atol=1e-6)


def test_prm_only_rewards_wrong_answers_and_leaves_out_what_has_no_score():
    total_PG = prm_only_advantages(row([1, np.nan, 0])).total_PG
    np.testing.assert_allclose(total_PG[0], [0.707106, 0, -0.707106], atol=1e-6)


def test_shaping_is_a_reward_of_its_own():
    """Overlong answers, the second and the last: -.5 on top of the verdict, and no reason to call a right one wrong."""
    shaping, correct = row([0, -0.5, 0, -0.5]), np.array([[True, True, False, False]])
    rewards = Rewards(row([1, 0.5, 0, -0.5]), row([1, 1, 0, 0]), correct, row([np.nan] * 4), shaping)
    by_process = row([1, 0.5, 0, -0.5])  # q + shaping, as r q + shaping is here
    for config in (PrmOnlyConfig(), MultConfig()):
        np.testing.assert_allclose(config.advantages(rewards).total_PG, grpo_advantages(by_process).total_PG)
    # GDPO: +-.866 for the verdict, +-.866 for the length and +-.866 for the process, of weight 1; sd over the batch.
    sums = np.array([3, 1, -1, -3]) * 0.8660239
    np.testing.assert_allclose(
        algorithm_classes()["gdpo"]().advantages(rewards).total_PG[0], sums / sums.std(ddof=1), atol=1e-5
    )


def test_dr_grpo_and_rloo_by_hand():
    np.testing.assert_array_equal(dr_grpo_advantages(row([1, 0, 0, 0])).total_PG, row([0.75, -0.25, -0.25, -0.25]))
    # Of the others 0, 0, 0 the mean is 0; of 1, 0, 0 it is 1/3.
    np.testing.assert_allclose(rloo_advantages(row([1, 0, 0, 0])).total_PG, row([1, -1 / 3, -1 / 3, -1 / 3]))
    np.testing.assert_allclose(rloo_advantages(row([1, 0.4])).total_PG, row([0.6, -0.6]))
    for estimator in (dr_grpo_advantages, rloo_advantages):
        assert (estimator(np.full((1, 7), 0.1)).total_PG == 0).all()  # no rounding counts as a signal
        assert estimator(row([1])).total_PG[0, 0] == 0


def test_gdpo_by_hand():
    """Two groups of two: parts +-.7071; sums +-1.4142 and +-.7071, whose sd over the batch is 1.29099."""
    outcome, process = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    result = gdpo_advantages([outcome], process)
    np.testing.assert_allclose(result.total_PG, np.array([[1.4142, -1.4142], [-0.7071, 0.7071]]) / 1.29099, atol=1e-4)
    # Weight 0: GRPO over the sd of the batch, which the dead group makes smaller.
    alone = gdpo_advantages([outcome], process, process_weight=0.0).total_PG
    np.testing.assert_allclose(alone, np.array([[1, -1], [0, 0]]) * np.sqrt(1.5), atol=1e-4)
    assert (gdpo_advantages([np.ones((3, 2))], np.ones((3, 2))).total_PG == 0).all()


def test_pass_at_k_by_hand():
    """Two of four right, k 2: 5 of the 6 pairs hold a right one. A right one is always in a solved pair, 1 against
    5/6; a wrong one in two of three."""
    sd = np.sqrt(5) / 6
    result = pass_at_k_advantages(np.array([[True, True, False, False]]), k=2).total_PG
    np.testing.assert_allclose(result[0], np.array([1 / 6, 1 / 6, -1 / 6, -1 / 6]) / sd)
    # One wrong: every pair is solved, and no response makes a difference.
    assert (pass_at_k_advantages(np.array([[True, True, True, False]]), k=2).total_PG == 0).all()


def test_pass_at_k_is_the_mean_over_the_groups_of_k(batch):
    *_, correct_PG = batch
    correct_PG, k = correct_PG[:, :6], 3
    triples = [list(one) for one in combinations(range(6), k)]
    for correct_G, total_G in zip(correct_PG, pass_at_k_advantages(correct_PG, k=k).total_PG, strict=True):
        solved = np.array([correct_G[triple].any() for triple in triples], dtype=float)
        normal = (solved - solved.mean()) / solved.std() if solved.std() else 0 * solved
        mine = [np.mean([a for a, triple in zip(normal, triples, strict=True) if g in triple]) for g in range(6)]
        np.testing.assert_allclose(total_G, mine, atol=1e-12)


def test_pass_at_1_is_grpo_with_the_population_standard_deviation(batch):
    _, _, correct_PG = batch
    theirs = grpo_advantages(correct_PG.astype(float)).total_PG * np.sqrt(12 / 11)
    np.testing.assert_allclose(pass_at_k_advantages(correct_PG, k=1).total_PG, theirs, rtol=1e-5)
    assert PassAtKConfig(k=12).least_group == 13  # of all 12 either every group is solved or none


def test_a_weight_that_is_not_rank_safe_is_noted():
    assert PapoConfig().notes(16) == [] and PapoConfig(process_weight=1.0).notes(8) == []
    (note,) = PapoConfig(process_weight=1.0).notes(16)
    assert "process_weight 1 is above 0.693" in note and "group_size 16" in note


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
    for p in (0, 50):  # groups do not mix, but for one scale of the batch
        one = rewards_of(outcome_PG[p : p + 1], process_PG[p : p + 1], correct_PG[p : p + 1])
        alone_G, here_G = config.advantages(one).total_PG[0], result.total_PG[p]
        if name == "gdpo":
            alone_G, here_G = (a / np.abs(a).max() if a.any() else a for a in (alone_G, here_G))
        np.testing.assert_allclose(alone_G, here_G, atol=1e-12)
    for size in range(1, config.least_group):  # nothing is trained
        alike = rewards_of(np.ones((1, size)), np.ones((1, size)), np.ones((1, size), dtype=bool))
        assert (config.advantages(alike).total_PG == 0).all()
