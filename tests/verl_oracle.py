"""Our advantages and losses against verl's own, in an environment that has it: `make test-verl`.

verl is what the reference study trained with. On random batches in float64: advantages of GRPO, Dr. GRPO, RLOO and
GDPO, the clipped and dually clipped loss by three means, its gradient, clip shares, the k3 penalty, GSPO and CISPO, and
the weights after several updates of one rollout batch, where the ratios have left 1 and the clip is active.
"""

from typing import Any

import numpy as np
import torch
import verl
from verl.trainer.ppo.core_algos import (
    agg_loss,
    compute_gdpo_outcome_advantage,
    compute_grpo_outcome_advantage,
    compute_policy_loss_cispo,
    compute_policy_loss_gspo,
    compute_policy_loss_vanilla,
    compute_rloo_outcome_advantage,
    kl_penalty_forward,
)
from verl.workers.config import ActorConfig

from scaling.algorithm.advantages import dr_grpo_advantages, gdpo_advantages, grpo_advantages, rloo_advantages
from scaling.algorithm.losses import policy_loss
from scaling.config.parts import LossConfig

TRIALS = 300
MEANS = {
    "token_mean": "token-mean",
    "sequence_mean": "seq-mean-token-mean",
    "constant_length": "seq-mean-token-sum-norm",
}
LOSSES = {"gspo": compute_policy_loss_gspo, "cispo": compute_policy_loss_cispo}


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
        clip_ratio_high=config.clip_high, clip_ratio_c=config.dual_clip or 3.0,
    )  # fmt: skip
    mean, scale = MEANS[config.aggregation], {"loss_scale_factor": config.constant_length}
    actor.global_batch_info.update(scale)
    loss_of = LOSSES.get(config.surrogate, compute_policy_loss_vanilla)
    loss, metrics = loss_of(sampler_BT, logprobs_BT, advantages_BT, mask_BT, mean, actor)
    penalty = agg_loss(kl_penalty_forward(logprobs_BT, reference_BT, "low_var_kl"), mask_BT, mean, **scale)
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


def token_rewards(values_PG, mask_BT):
    """verl's form of one reward a response: on its last token."""
    rewards_BT = torch.zeros(mask_BT.shape, dtype=torch.float64)
    rewards_BT[torch.arange(len(mask_BT)), mask_BT.sum(1) - 1] = torch.from_numpy(values_PG.ravel())
    return rewards_BT


def advantages_apart(outcome_PG, mask_BT, group_B):
    """Largest difference of the other estimators: Dr. GRPO, RLOO, GDPO of one reward."""
    rewards_BT = token_rewards(outcome_PG, mask_BT)
    centred_BT, _ = compute_grpo_outcome_advantage(rewards_BT, mask_BT, group_B, norm_adv_by_std_in_grpo=False)
    others_BT, _ = compute_rloo_outcome_advantage(rewards_BT, mask_BT, group_B)
    pairs = [(dr_grpo_advantages(outcome_PG), centred_BT), (rloo_advantages(outcome_PG), others_BT)]
    apart = [np.abs(mine.total_PG.ravel() - values_BT[:, 0].numpy()).max() for mine, values_BT in pairs]
    # verl whitens over tokens and we over responses: the same for responses of one token.
    single_B1 = torch.ones(len(mask_BT), 1, dtype=torch.bool)
    mine = gdpo_advantages([outcome_PG], np.full_like(outcome_PG, np.nan)).total_PG
    if mine.any():  # verl divides by a standard deviation of 0
        whitened_B1, _ = compute_gdpo_outcome_advantage(token_rewards(outcome_PG, single_B1), single_B1, group_B)
        apart.append(np.abs(mine.ravel() - whitened_B1[:, 0].numpy()).max())
    return max(apart)


def main() -> None:
    rng, clipped = np.random.default_rng(0), 0
    names = ("advantage", "others", "loss", "gradient", "share", "steps", *LOSSES)
    worst = dict.fromkeys(names, 0.0)
    for trial in range(TRIALS):
        logprobs_BT, sampler_BT, reference_BT, outcome_PG, mask_BT = batch(rng)
        group_B = np.repeat(np.arange(len(outcome_PG)), outcome_PG.shape[1])
        expected_BT, _ = compute_grpo_outcome_advantage(token_rewards(outcome_PG, mask_BT), mask_BT, group_B)
        advantages_BT = torch.from_numpy(grpo_advantages(outcome_PG).total_PG.ravel())[:, None] * mask_BT
        mean = list(MEANS)[trial // 3 % 3]
        of_all: Any = {
            "clip_low": 0.2, "clip_high": [0.2, 0.28][trial % 2], "kl_weight": [0.0, 0.001, 0.1][trial % 3],
            "aggregation": mean, "constant_length": 13 if mean == "constant_length" else None,
        }  # fmt: skip
        config = LossConfig(dual_clip=[3.0, 1.5][trial // 2 % 2], **of_all)
        rest = sampler_BT, reference_BT, advantages_BT, mask_BT
        logprobs_BT.requires_grad_()

        def gradient(loss_of, config, logprobs_BT=logprobs_BT, rest=rest):
            loss, share = loss_of(logprobs_BT, *rest, config)
            return loss.detach(), torch.autograd.grad(loss, logprobs_BT)[0], share

        (mine, my_BT, my_share), (loss, their_BT, share) = (gradient(f, config) for f in (ours, theirs))
        (stepped, most), (expected, _) = (updated(f, sampler_BT, rest, config) for f in (ours, theirs))
        clipped += most > 0
        found = {
            "advantage": (advantages_BT - expected_BT).abs().max(),
            "others": advantages_apart(outcome_PG, mask_BT, group_B),
            "loss": abs(mine - loss),
            "gradient": (my_BT - their_BT).abs().max(),
            "share": abs(my_share - share),
            "steps": (stepped - expected).abs().max(),
        }
        for name in LOSSES:  # of CISPO the value differs by a constant, and verl counts clipped weights as clipped
            (_, my_BT, _), (_, their_BT, _) = (
                gradient(f, LossConfig(surrogate=name, **of_all)) for f in (ours, theirs)
            )
            found[name] = (my_BT - their_BT).abs().max()
        worst = {name: max(value, float(found[name])) for name, value in worst.items()}
    shown = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    print(f"verl {verl.__version__}, {TRIALS} batches, the clip active in {clipped}; largest difference: {shown}")
    assert clipped > TRIALS / 3
    assert worst.pop("share") < 1e-6  # verl counts it in float32
    assert worst.pop("others") < 1e-5  # verl adds its eps to a variance where we add it to the standard deviation
    assert all(value < 1e-12 for value in worst.values())


if __name__ == "__main__":
    main()
