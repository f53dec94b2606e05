"""The policy loss against a plain float64 loop, single tokens by hand, and micro-batches that add up."""

import math

import pytest
import torch

from scaling.algorithm import surrogate_names
from scaling.algorithm.losses import penalty, policy_loss, surrogates
from scaling.config.parts import LossConfig

CONFIGS = [
    LossConfig(),
    LossConfig(clip_low=0.2, clip_high=0.28, dual_clip=3.0),
    LossConfig(aggregation="sequence_mean"),
    LossConfig(kl_weight=0.04, aggregation="sequence_mean", dual_clip=1.5),
    LossConfig(kl_weight=0.1),
    LossConfig(aggregation="constant_length", constant_length=12),
]


@pytest.fixture
def batch():
    """6 responses of up to 9 tokens; ratios from about 0.05 to 20, and rubbish beyond the lengths."""
    torch.manual_seed(0)
    sampler_BT = -torch.rand(6, 9, dtype=torch.float64) * 3
    logprobs_BT = (sampler_BT + torch.randn(6, 9, dtype=torch.float64)).requires_grad_()
    reference_BT = sampler_BT + 0.5 * torch.randn(6, 9, dtype=torch.float64)
    lengths_B = torch.tensor([9, 1, 4, 7, 2, 5])
    mask_BT = torch.arange(9) < lengths_B[:, None]
    return logprobs_BT, sampler_BT, torch.randn(6, dtype=torch.float64), mask_BT, reference_BT


def loop(logprobs_BT, sampler_BT, advantages_B, mask_BT, reference_BT, config, tokens_total, sequences_total):
    """The same loss, token by token."""
    total = 0.0
    for b, advantage in enumerate(advantages_B.tolist()):
        losses = []
        for t in range(int(mask_BT[b].sum())):
            ratio = math.exp(logprobs_BT[b, t].item() - sampler_BT[b, t].item())
            clipped = min(max(ratio, 1 - config.clip_low), 1 + config.clip_high)
            gain = min(ratio * advantage, clipped * advantage)
            if config.dual_clip and advantage < 0:
                gain = max(gain, config.dual_clip * advantage)
            away = reference_BT[b, t].item() - logprobs_BT[b, t].item()
            losses.append(-gain + config.kl_weight * (math.exp(away) - away - 1))
        share = {
            "token_mean": 1 / tokens_total,
            "sequence_mean": 1 / len(losses) / sequences_total,
            "constant_length": 1 / (sequences_total * (config.constant_length or math.nan)),
        }[config.aggregation]
        total += sum(losses) * share
    return total


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_loss_equals_the_loop(batch, config):
    logprobs_BT, sampler_BT, advantages_B, mask_BT, reference_BT = batch
    # Totals larger than the batch: groups that were left out still count.
    result = policy_loss(
        logprobs_BT, sampler_BT, advantages_B, mask_BT, config,
        tokens_total=40, sequences_total=8, reference_logprobs_BT=reference_BT,
    )  # fmt: skip
    assert result.loss.item() == pytest.approx(loop(*batch, config, 40, 8), rel=1e-12)
    (gradient_BT,) = torch.autograd.grad(result.loss, logprobs_BT)
    assert (gradient_BT[~mask_BT] == 0).all()
    for b, t in [(0, 0), (2, 3), (3, 6), (4, 1)]:
        ends = []
        for shift in (1e-6, -1e-6):
            moved = logprobs_BT.detach().clone()
            moved[b, t] += shift
            ends.append(loop(moved, *batch[1:], config, 40, 8))
        assert gradient_BT[b, t].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-9)


def test_every_surrogate_is_a_choice():
    assert surrogate_names() == list(surrogates()) and LossConfig().surrogate in surrogates()


OTHERS = [LossConfig(surrogate=name) for name in surrogate_names() if name != LossConfig().surrogate]


@pytest.mark.parametrize("config", [*CONFIGS, *OTHERS], ids=range(len(CONFIGS) + len(OTHERS)))
def test_micro_batches_add_up(batch, config):
    def run(rows):
        logprobs_BT, sampler_BT, advantages_B, mask_BT, reference_BT = (x[rows] for x in batch)
        return policy_loss(
            logprobs_BT, sampler_BT, advantages_B, mask_BT, config,
            tokens_total=28, sequences_total=6, reference_logprobs_BT=reference_BT,
        )  # fmt: skip

    whole, parts = run(slice(0, 6)), [run(slice(0, 1)), run(slice(1, 4)), run(slice(4, 6))]
    for name in ("loss", "clipped_sum", "kl_sum"):
        assert sum(getattr(part, name).item() for part in parts) == pytest.approx(getattr(whole, name).item())
    (gradient_BT,) = torch.autograd.grad(whole.loss, batch[0])
    (summed_BT,) = torch.autograd.grad(sum(part.loss for part in parts), batch[0])
    torch.testing.assert_close(gradient_BT, summed_BT)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 1.0, -1.0, 0),
        (1.1, 2.0, -2.2, 0),
        (1.5, 1.0, -1.3, 1),  # 1 + clip_high
        (0.5, 1.0, -0.5, 0),  # the clip never takes a chance away
        (1.5, -1.0, 1.5, 0),
        (0.5, -1.0, 0.8, 1),  # 1 - clip_low
        (5.0, -2.0, 6.0, 1),  # dual clip: 3 times 2
    ],
)
def test_one_token_by_hand(ratio, advantage, loss, clipped):
    logprob = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    result = policy_loss(
        logprob, torch.zeros(1, 1, dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64),
        torch.ones(1, 1, dtype=torch.bool), LossConfig(clip_low=0.2, clip_high=0.3, dual_clip=3.0),
        tokens_total=1, sequences_total=1,
    )  # fmt: skip
    assert result.loss.item() == pytest.approx(loss)
    assert result.clipped_sum.item() == clipped
    (gradient,) = torch.autograd.grad(result.loss, logprob)
    assert gradient.item() == pytest.approx(0.0 if clipped else -ratio * advantage)
    assert result.kl_sum.item() == pytest.approx(ratio - 1 - math.log(ratio))


def test_huge_ratios_stay_finite():
    sampler_BT = torch.tensor([[0.0, -200.0]])
    logprobs_BT = torch.tensor([[-300.0, 0.0]], requires_grad=True)
    result = policy_loss(
        logprobs_BT, sampler_BT, torch.tensor([-1.0]), torch.ones(1, 2, dtype=torch.bool), LossConfig(),
        tokens_total=2, sequences_total=1,
    )  # fmt: skip
    result.loss.backward()
    assert logprobs_BT.grad is not None
    assert result.loss.item() == pytest.approx((0.8 + math.exp(20)) / 2, rel=1e-6)
    assert torch.isfinite(logprobs_BT.grad).all()
    assert math.isfinite(result.kl_sum.item())


def test_on_policy_gradient_is_the_plain_policy_gradient(batch):
    logprobs_BT, _, advantages_B, mask_BT, _ = batch
    result = policy_loss(
        logprobs_BT, logprobs_BT.detach(), advantages_B, mask_BT, LossConfig(), tokens_total=28, sequences_total=6
    )
    (gradient_BT,) = torch.autograd.grad(result.loss, logprobs_BT)
    torch.testing.assert_close(gradient_BT, -advantages_B[:, None] * mask_BT / 28)
    assert (result.clipped_sum.item(), result.kl_sum.item()) == (0, 0)


# ---------------------------------------------------------------- the other surrogates, penalty and bonus


def two_tokens(ratios, advantage, config, **more):
    """Loss, clipped tokens and gradient of one response of two tokens of the given ratios, and a padded one."""
    logprobs_BT = torch.tensor([[*map(math.log, ratios), 3.0]], dtype=torch.float64, requires_grad=True)
    result = policy_loss(
        logprobs_BT, torch.zeros(1, 3, dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64),
        torch.tensor([[True, True, False]]), config, tokens_total=2, sequences_total=1, **more,
    )  # fmt: skip
    (gradient_BT,) = torch.autograd.grad(result.loss, logprobs_BT)
    return result.loss.item(), int(result.clipped_sum), gradient_BT[0].tolist()


@pytest.mark.parametrize(
    ("ratios", "advantage", "loss", "clipped", "gradient"),
    [
        ((1.21, 1.0), 2.0, -2.2, 0, -1.1),  # the geometric mean of the two is 1.1: each token has half of the gradient
        ((4.0, 0.25), 1.0, -1.0, 0, -0.5),  # far apart, and of ratio 1 together: PPO would clip the first
        ((2.25, 1.0), 1.0, -1.2, 2, 0.0),  # 1.5: the whole response is clipped
        ((0.25, 1.0), -1.0, 0.8, 2, 0.0),
        ((0.25, 1.0), 1.0, -0.5, 0, -0.25),
    ],
)
def test_gspo_by_hand(ratios, advantage, loss, clipped, gradient):
    config = LossConfig(surrogate="gspo", aggregation="sequence_mean")
    found, tokens, gradient_T = two_tokens(ratios, advantage, config)
    assert (found, tokens) == (pytest.approx(loss), clipped)
    assert gradient_T == pytest.approx([gradient, gradient, 0])


def test_cispo_by_hand():
    """Weights 1.2 and .8, the ends of the range: the gradient of the log-probs, where PPO would have none of one."""
    for advantage in (1.0, -1.0):
        _, clipped, gradient_T = two_tokens((3.0, 0.1), advantage, LossConfig(surrogate="cispo"))
        assert clipped == 0 and gradient_T == pytest.approx([-0.6 * advantage, -0.4 * advantage, 0])
    _, _, gradient_T = two_tokens((math.exp(25), 0.1), 1.0, LossConfig(surrogate="cispo"))
    assert gradient_T[0] == pytest.approx(-0.6)  # beyond 20 nats, too


def test_dr_grpo_counts_every_token_alike():
    config = LossConfig(aggregation="constant_length", constant_length=10)
    loss, _, gradient_T = two_tokens((1.0, 1.0), 1.0, config)
    assert loss == pytest.approx(-0.2) and gradient_T == pytest.approx([-0.1, -0.1, 0])


def test_the_entropy_bonus_is_the_mean_entropy_times_its_weight():
    entropy_BT = torch.tensor([[0.5, 1.5, 9.0]], dtype=torch.float64)
    plain, _, _ = two_tokens((1.0, 1.0), 1.0, LossConfig())
    bonus, _, _ = two_tokens((1.0, 1.0), 1.0, LossConfig(entropy_weight=0.1), entropy_BT=entropy_BT)
    assert bonus - plain == pytest.approx(-0.1 * (0.5 + 1.5) / 2)


@pytest.mark.parametrize(("estimator", "bias"), [("k2", False), ("k3", True)])
def test_the_gradient_of_the_penalty_off_policy(estimator, bias):
    """Over every token, weighed by the chance that the sampler drew it: the gradient of KL(policy, base), or not."""
    torch.manual_seed(1)
    logits_A, sampler_A, base_A = (torch.randn(5, dtype=torch.float64) for _ in range(3))
    logits_A.requires_grad_()
    policy_A, sampler_A, base_A = (torch.log_softmax(values, 0) for values in (logits_A, sampler_A, base_A))
    (right_A,) = torch.autograd.grad((policy_A.exp() * (policy_A - base_A)).sum(), logits_A, retain_graph=True)
    values_A = penalty(base_A - policy_A, policy_A - sampler_A, estimator)
    (found_A,) = torch.autograd.grad((sampler_A.exp() * values_A).sum(), logits_A)
    assert torch.allclose(found_A, right_A) != bias


@pytest.mark.parametrize("estimator", ["k3", "k2"])
@pytest.mark.parametrize("away", [-30.0, -1.0, 1.0, 30.0])
def test_the_penalty_pulls_back_from_any_distance(estimator, away):
    away_1 = torch.tensor([away], requires_grad=True)
    value = penalty(away_1, torch.zeros(1), estimator)
    (gradient,) = torch.autograd.grad(value.sum(), away_1)
    assert value.item() > 0 and math.copysign(1, gradient.item()) == math.copysign(1, away)
    assert 0.5 < abs(gradient.item()) < 1e9
