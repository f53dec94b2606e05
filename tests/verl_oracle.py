"""Our advantages and losses against verl's own, in an environment that has it: `make test-verl`.

verl is what the reference study trained with. On random batches in float64: GRPO advantages, the clipped and dually
clipped loss by both means, its gradient, clip shares, the k3 penalty, and the weights after several updates of one
rollout batch, where the ratios have left 1 and the clip is active.
"""

import numpy as np
import torch
import verl
from verl.trainer.ppo.core_algos import (
    agg_loss,
    compute_grpo_outcome_advantage,
    compute_policy_loss_vanilla,
    kl_penalty_forward,
)
from verl.workers.config import ActorConfig

from scaling.algorithm.advantages import grpo_advantages
from scaling.algorithm.losses import policy_loss
from scaling.config.parts import LossConfig

TRIALS = 300
MEANS = {"token_mean": "token-mean", "sequence_mean": "seq-mean-token-mean"}


def batch(rng):
    """(policy, sampler and reference log-probs (B, T), outcomes (P, G), mask) of a random batch."""
    prompts, group, longest = rng.integers(1, 6), rng.integers(2, 9), rng.integers(1, 12)
    shape = (prompts * group, longest)
    sampler_BT = torch.from_numpy(-3 * rng.random(shape))
    logprobs_BT = sampler_BT + torch.from_numpy(0.4 * rng.standard_normal(shape))
    reference_BT = sampler_BT + torch.from_numpy(0.4 * rng.standard_normal(shape))
    lengths_B = torch.from_numpy(rng.integers(1, longest + 1, shape[0]))
    mask_BT = torch.arange(longest) < lengths_B[:, None]
    outcome_PG = rng.integers(0, 2, (prompts, group)).astype(float)
    return logprobs_BT, sampler_BT, reference_BT, outcome_PG, mask_BT


def theirs(logprobs_BT, sampler_BT, reference_BT, advantages_BT, mask_BT, config):
    actor = ActorConfig(
        strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1, clip_ratio_low=config.clip_low,
        clip_ratio_high=config.clip_high, clip_ratio_c=config.dual_clip,
    )  # fmt: skip
    mean = MEANS[config.aggregation]
    loss, metrics = compute_policy_loss_vanilla(sampler_BT, logprobs_BT, advantages_BT, mask_BT, mean, actor)
    penalty = agg_loss(kl_penalty_forward(logprobs_BT, reference_BT, "low_var_kl"), mask_BT, mean)
    return loss + config.kl_weight * penalty, metrics["actor/pg_clipfrac"] + metrics["actor/pg_clipfrac_lower"]


def ours(logprobs_BT, sampler_BT, reference_BT, advantages_BT, mask_BT, config):
    result = policy_loss(
        logprobs_BT, sampler_BT, advantages_BT[:, 0], mask_BT, config, tokens_total=int(mask_BT.sum()),
        sequences_total=len(mask_BT), reference_logprobs_BT=reference_BT,
    )  # fmt: skip
    return result.loss, result.clipped_sum.item() / mask_BT.sum().item()


def updated(loss_of, start_BT, rest, config):
    """Log-probs after six plain gradient steps on one batch, and the largest clip share on the way."""
    logprobs_BT, shares = start_BT.clone().requires_grad_(), []
    for _ in range(6):
        loss, share = loss_of(logprobs_BT, *rest, config)
        (gradient_BT,) = torch.autograd.grad(loss, logprobs_BT)
        logprobs_BT = (logprobs_BT - 3.0 * gradient_BT).detach().requires_grad_()
        shares.append(share)
    return logprobs_BT.detach(), max(shares)


def main() -> None:
    rng, clipped = np.random.default_rng(0), 0
    worst = dict.fromkeys(("advantage", "loss", "gradient", "share", "steps"), 0.0)
    for trial in range(TRIALS):
        logprobs_BT, sampler_BT, reference_BT, outcome_PG, mask_BT = batch(rng)
        group_B = np.repeat(np.arange(len(outcome_PG)), outcome_PG.shape[1])
        rewards_BT = torch.zeros(mask_BT.shape, dtype=torch.float64)
        rewards_BT[torch.arange(len(mask_BT)), mask_BT.sum(1) - 1] = torch.from_numpy(outcome_PG.ravel())
        expected_BT, _ = compute_grpo_outcome_advantage(rewards_BT, mask_BT, group_B)
        advantages_BT = torch.from_numpy(grpo_advantages(outcome_PG).total_PG.ravel())[:, None] * mask_BT
        config = LossConfig(
            clip_low=0.2, clip_high=[0.2, 0.28][trial % 2], dual_clip=[3.0, 1.5][trial // 2 % 2],
            kl_weight=[0.0, 0.001, 0.1][trial % 3], aggregation=list(MEANS)[trial // 3 % 2],
        )  # fmt: skip
        rest = sampler_BT, reference_BT, advantages_BT, mask_BT
        logprobs_BT.requires_grad_()
        (mine, my_share), (loss, share) = (f(logprobs_BT, *rest, config) for f in (ours, theirs))
        gradients = [torch.autograd.grad(value, logprobs_BT)[0] for value in (mine, loss)]
        (stepped, most), (expected, _) = (updated(f, sampler_BT, rest, config) for f in (ours, theirs))
        clipped += most > 0
        found = {
            "advantage": (advantages_BT - expected_BT).abs().max(),
            "loss": abs(mine - loss).detach(),
            "gradient": (gradients[0] - gradients[1]).abs().max(),
            "share": abs(my_share - share),
            "steps": (stepped - expected).abs().max(),
        }
        worst = {name: max(value, float(found[name])) for name, value in worst.items()}
    shown = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    print(f"verl {verl.__version__}, {TRIALS} batches, the clip active in {clipped}; largest difference: {shown}")
    assert clipped > TRIALS / 3
    assert worst.pop("share") < 1e-6  # verl counts it in float32
    assert all(value < 1e-12 for value in worst.values())


if __name__ == "__main__":
    main()
