"""Sampler and trainer apart: the measures and weights by hand, and that updates use them."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from tiny_policies import SAMPLING, TASK, engine_with, policy_of, prompts

from scaling.algorithm.losses import policy_loss
from scaling.algorithm.mismatch import Difference, mismatch_weights
from scaling.algorithm.update import update_policy
from scaling.compute import Shape, sequence_flops
from scaling.config.parts import LossConfig
from scaling.config.run import RunConfig
from scaling.ledger import Ledger
from scaling.optim import policy_optimizer

LN2 = math.log(2)


def test_the_measures_by_hand():
    """w = 2 and 1/2: k3 is 2 - ln 2 - 1 and .5 + ln 2 - 1, their mean 1/4; (2.5)^2 / (2 * 4.25) = .7353."""
    found = Difference.of(torch.tensor([LN2, -LN2]))
    row = found.row()
    assert row["logprob_difference"] == pytest.approx(LN2) and row["logprob_difference_mean"] == pytest.approx(LN2)
    assert row["sampler_kl"] == pytest.approx(0.25) and row["effective_sample_share"] == pytest.approx(6.25 / 8.5)
    assert Difference.of(torch.full((5,), 0.3)).row()["effective_sample_share"] == pytest.approx(
        1
    )  # all weigh the same
    assert set(Difference().row().values()) == {None}


def test_differences_of_parts_add_up_to_that_of_the_whole():
    d_N = torch.randn(9, generator=torch.Generator().manual_seed(0))
    parts = sum((Difference.of(d_N[part]) for part in (slice(0, 2), slice(2, 3), slice(3, 9))), Difference())
    assert dataclasses.astuple(parts) == pytest.approx(dataclasses.astuple(Difference.of(d_N)))
    assert math.isnan((Difference.of(torch.tensor([math.nan])) + Difference.of(d_N)).largest)


# Two responses: w = 2, 4, 1/2 (product 4), and w = 1/4, 2 (product 1/2), then a token beyond its length.
WEIGHTS = [[2.0, 4.0, 0.5], [0.25, 2.0, 64.0]]
MASK = [[True, True, True], [True, True, False]]


@pytest.mark.parametrize(
    ("changes", "weights", "cut"),
    [
        ({"mismatch": "truncate", "mismatch_cap": 3.0}, [[2, 3, 0.5], [0.25, 2]], [[0, 1, 0], [0, 0]]),
        ({"mismatch": "truncate"}, [[2, 2, 0.5], [0.25, 2]], [[0, 1, 0], [0, 0]]),  # the cap itself is within it
        ({"mismatch": "truncate", "mismatch_cap": 1.0}, [[1, 1, 0.5], [0.25, 1]], [[1, 1, 0], [0, 1]]),
        ({"mismatch": "mask", "mismatch_cap": 3.0}, [[2, 0, 0.5], [0.25, 2]], [[0, 1, 0], [0, 0]]),
        ({"mismatch": "mask", "mismatch_cap": 3.0, "old_logprobs": "sampler"},
         [[1, 0, 1], [1, 1]], [[0, 1, 0], [0, 0]]),
        ({"mismatch": "truncate", "mismatch_cap": 3.0, "mismatch_level": "sequence"},
         [[3, 3, 3], [0.5, 0.5]], [[1, 1, 1], [0, 0]]),
        ({"mismatch": "mask", "mismatch_cap": 3.0, "mismatch_level": "sequence"},
         [[0, 0, 0], [0.5, 0.5]], [[1, 1, 1], [0, 0]]),
        ({"mismatch": "mask", "mismatch_cap": 5.0, "mismatch_level": "sequence"},
         [[4, 4, 4], [0.5, 0.5]], [[0, 0, 0], [0, 0]]),
        ({"mismatch": "mask", "mismatch_cap": 3.0, "mismatch_level": "sequence", "old_logprobs": "sampler"},
         [[0, 0, 0], [1, 1]], [[1, 1, 1], [0, 0]]),
    ],
)  # fmt: skip
def test_the_weights_by_hand(changes, weights, cut):
    d_BT, mask_BT = torch.tensor(WEIGHTS).log().requires_grad_(), torch.tensor(MASK)
    weight_BT, cut_BT = mismatch_weights(d_BT, mask_BT, LossConfig(**{"old_logprobs": "trainer", **changes}))
    assert not weight_BT.requires_grad
    assert weight_BT[mask_BT].tolist() == pytest.approx([value for row in weights for value in row])
    assert cut_BT[mask_BT].tolist() == [bool(value) for row in cut for value in row] and not cut_BT[~mask_BT].any()
    assert mismatch_weights(d_BT, mask_BT, LossConfig(old_logprobs="trainer")) is None


def test_a_weight_multiplies_the_surrogate_and_not_the_penalty():
    """On policy with advantage 3 the loss of a token is -3 w, plus beta k3 of the reference at ln 2: 2 - ln 2 - 1."""
    old_BT = torch.tensor([[-1.0, -2.0]])
    loss = policy_loss(
        old_BT, old_BT, torch.tensor([3.0]), torch.tensor([[True, True]]), LossConfig(kl_weight=0.1),
        tokens_total=2, sequences_total=1, reference_logprobs_BT=old_BT + LN2, weights_BT=torch.tensor([[0.5, 0.0]]),
    )  # fmt: skip
    assert loss.loss.item() == pytest.approx(-1.5 / 2 + 0.1 * (1 - LN2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mismatch": "truncate"}, "set old_logprobs: trainer, or mismatch: mask"),
        ({"mismatch_cap": 3.0}, "mismatch_cap 3.0 has no effect with mismatch none"),
        ({"mismatch_level": "sequence", "old_logprobs": "trainer"}, "mismatch_level sequence has no effect"),
        ({"mismatch": "mask", "mismatch_cap": 0.5}, "greater than or equal to 1"),
        ({"mismatch": "clip"}, "'none', 'truncate' or 'mask'"),
        ({"old_logprobs": "both"}, "'sampler' or 'trainer'"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**values)


# ---------------------------------------------------------------- in an update


@pytest.fixture(scope="module")
def rollouts():
    return engine_with("hf", policy_of("us", end_bias=0.5)).generate(prompts(), 4, SAMPLING)


def updated(rollouts, shift=0.0, **loss):
    """The row of one update of a fresh policy with the log-probs of the sampler shifted, all advantages 1."""
    resources = {"engine": "hf", "forward": "plain", "micro_batch": 8}
    config = RunConfig.model_validate(
        {"model": "us", "data": {"prompts_per_step": 6}, "rollout": {"group_size": 4}, "loss": loss,
         "resources": resources, "optimizer": {"learning_rate": 1e-9}}
    )  # fmt: skip
    policy = policy_of("us", end_bias=0.5)
    mask_BT = np.arange(rollouts.tokens_BT.shape[1]) < rollouts.lengths_B[:, None]
    shifted_BT = np.where(mask_BT, rollouts.logprobs_BT - np.float32(shift), np.float32(0))
    changed = dataclasses.replace(rollouts, logprobs_BT=shifted_BT)
    optimizer = policy_optimizer(policy, config.optimizer)
    return update_policy(policy, optimizer, changed, np.ones((6, 4)), config, 1e-9, TASK.allowed_V).row


def test_a_sampler_that_is_apart_is_corrected(rollouts):
    """w = 2 everywhere. Below the sampler's log-probs the ratio is 2 and the clip takes every gradient away."""
    plain = updated(rollouts)["gradient_norm"]
    assert plain > 0.01
    assert updated(rollouts, LN2)["gradient_norm"] == 0
    trainer = {"old_logprobs": "trainer"}
    assert updated(rollouts, LN2, **trainer)["gradient_norm"] == pytest.approx(plain, rel=1e-4)
    cut = updated(rollouts, LN2, **trainer, mismatch="truncate", mismatch_cap=1.5)
    assert cut["gradient_norm"] == pytest.approx(1.5 * plain, rel=1e-4) and cut["mismatch_share"] == 1
    whole = updated(rollouts, LN2, **trainer, mismatch="truncate", mismatch_cap=2.5)
    assert whole["gradient_norm"] == pytest.approx(2 * plain, rel=1e-4) and whole["mismatch_share"] == 0
    assert updated(rollouts, LN2, **trainer, mismatch="mask", mismatch_cap=1.5)["gradient_norm"] == 0
    assert whole["sampler_kl"] == pytest.approx(1 - LN2, rel=1e-4)
    assert whole["logprob_difference_mean"] == pytest.approx(LN2, rel=1e-4)
    assert whole["effective_sample_share"] == pytest.approx(1, rel=1e-6)


def test_later_mini_batches_have_the_log_probs_before_the_first_step(rollouts):
    loss = {"updates_per_batch": 3}
    agreeing = [updated(rollouts, **loss, old_logprobs=old) for old in ("sampler", "trainer")]
    assert agreeing[0]["gradient_norm"] == pytest.approx(agreeing[1]["gradient_norm"], rel=1e-4)
    assert agreeing[0]["mismatch_share"] is None and agreeing[0]["logprob_difference"] < 1e-4
    trainer = {**loss, "old_logprobs": "trainer"}
    apart = updated(rollouts, LN2, **trainer, mismatch="truncate", mismatch_cap=1.5)
    assert apart["gradient_norm"] == pytest.approx(1.5 * agreeing[1]["gradient_norm"], rel=1e-4)
    assert apart["mismatch_share"] == 1 and apart["kl"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "groups"),
    [
        ({}, []),
        ({"updates_per_batch": 3}, []),
        ({"old_logprobs": "trainer"}, []),  # one mini-batch: the update's own pass gives them
        ({"old_logprobs": "trainer", "updates_per_batch": 3}, [2, 4, 5]),
        ({"mismatch": "mask", "updates_per_batch": 2}, [4, 5]),
    ],
)
def test_the_ledger_counts_the_pass_that_it_takes(rollouts, loss, groups):
    config = RunConfig.model_validate(
        {"model": "us", "data": {"prompts_per_step": 6}, "rollout": {"group_size": 4}, "loss": loss}
    )
    shape, ledger = Shape.from_transformers(policy_of("us").config.to_dict()), Ledger()
    active_P = np.array([True, True, True, False, True, True])
    ledger.add_step(shape, 5296, rollouts, active_P, config, 6)
    lengths_P = np.array([len(prompt.tokens) for prompt in rollouts.prompts])
    lengths_PG = rollouts.lengths_B.reshape(6, 4)
    assert ledger.logprob_flops == sequence_flops(shape, lengths_P[groups], lengths_PG[groups])
