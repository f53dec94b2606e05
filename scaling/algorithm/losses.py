"""The policy loss: a surrogate for each token, a KL penalty, an entropy bonus, and the mean over tokens or responses.

A function `NAME_surrogate` here is a choice of `loss.surrogate`. Dimension suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from scaling.config.parts import LossConfig

LOG_RATIO_LIMIT = 20.0  # keeps exp() finite; far outside of any clip range


class PolicyLoss(NamedTuple):
    """`loss` is differentiable; the sums are over the masked tokens of this call, so that micro-batches add up."""

    loss: torch.Tensor
    clipped_sum: torch.Tensor  # tokens whose gradient the clip cuts off
    kl_sum: torch.Tensor  # k3 estimate of KL(old, policy)


def policy_loss(
    logprobs_BT: torch.Tensor,
    old_logprobs_BT: torch.Tensor,
    advantages_B: torch.Tensor,
    mask_BT: torch.Tensor,
    config: LossConfig,
    *,
    tokens_total: int,
    sequences_total: int,
    reference_logprobs_BT: torch.Tensor | None = None,
    weights_BT: torch.Tensor | None = None,
    entropy_BT: torch.Tensor | None = None,
) -> PolicyLoss:
    """The surrogate of each token, with one advantage for all tokens of a response, a KL penalty, an entropy bonus.

    Args:
        logprobs_BT: log-probs under the policy, differentiable.
        old_logprobs_BT: log-probs under the weights that sampled, as the sampler or the trainer gives them.
        advantages_B: total advantage of each response.
        mask_BT: bool, the response's own tokens.
        config: surrogate and its clip range, weights of KL and entropy, aggregation.
        tokens_total: response tokens of the whole mini-batch, groups that were left out included.
        sequences_total: responses of the whole mini-batch, likewise.
        reference_logprobs_BT: log-probs under the base model, wanted where kl_weight > 0.
        weights_BT: of the surrogate of each token (mismatch.mismatch_weights); null = 1.
        entropy_BT: of the distribution of each token, differentiable, wanted where entropy_weight > 0.

    token_mean divides the sum over tokens by `tokens_total`; sequence_mean averages over the tokens of each response
    first and divides by `sequences_total`; constant_length divides the sum by `sequences_total` times one length for
    all (Dr. GRPO). Losses of micro-batches therefore add up to that of the whole.
    """
    log_ratio_BT = torch.where(mask_BT, logprobs_BT - old_logprobs_BT, 0.0)
    loss_BT, clipped_BT = surrogates()[config.surrogate](log_ratio_BT, advantages_B[:, None], mask_BT, config)
    if weights_BT is not None:
        loss_BT = loss_BT * weights_BT
    if config.kl_weight > 0:
        assert reference_logprobs_BT is not None, "kl_weight > 0 needs the reference's log-probs"
        away_BT = torch.where(mask_BT, reference_logprobs_BT - logprobs_BT, 0.0)
        loss_BT = loss_BT + config.kl_weight * penalty(away_BT, log_ratio_BT, config.kl_estimator)
    if config.entropy_weight > 0:
        assert entropy_BT is not None, "entropy_weight > 0 needs the entropy of each token"
        loss_BT = loss_BT - config.entropy_weight * entropy_BT

    masked_BT = torch.where(mask_BT, loss_BT, 0.0)
    if config.aggregation == "token_mean":
        loss = masked_BT.sum() / tokens_total
    elif config.aggregation == "sequence_mean":
        loss = (masked_BT.sum(dim=1) / mask_BT.sum(dim=1).clamp(min=1)).sum() / sequences_total
    else:
        assert config.constant_length is not None, "constant_length without a length"
        loss = masked_BT.sum() / (sequences_total * config.constant_length)
    with torch.no_grad():
        kl_BT = ratio(log_ratio_BT) - log_ratio_BT.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT) - 1
        return PolicyLoss(loss, (clipped_BT & mask_BT).sum(), kl_BT[mask_BT].sum())


def ratio(log_ratio_BT: torch.Tensor) -> torch.Tensor:
    """exp of a log-ratio, finite: beyond the limit it stays where it is and has no gradient."""
    return log_ratio_BT.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def penalty(away_BT: torch.Tensor, log_ratio_BT: torch.Tensor, estimator: str) -> torch.Tensor:
    """The KL penalty of each token against the base model.

    Args:
        away_BT: log-prob of the base less the policy's, differentiable.
        log_ratio_BT: log-prob of the policy less that of the weights that sampled.
        estimator: k3 or k2.

    k3 is exp(x) - x - 1 of x = `away_BT` (Schulman 2020), beyond the limit a straight line, so that its gradient never
    vanishes. Its value is right on average, its gradient is not that of the KL, even on policy (arXiv 2510.01555).
    k2 is x^2 / 2, weighed by the ratio of policy and sampler: for tokens of the sampler its gradient is on average that
    of KL(policy, base), however far the policy has moved since.
    """
    if estimator == "k2":
        return ratio(log_ratio_BT).detach() * away_BT**2 / 2
    curved_BT = away_BT.clamp(max=LOG_RATIO_LIMIT)
    return curved_BT.exp() * (1 + away_BT - curved_BT) - away_BT - 1


# ---------------------------------------------------------------- surrogates


def surrogates() -> dict[str, Callable[..., tuple[torch.Tensor, torch.Tensor]]]:
    """The functions `NAME_surrogate` of this file, by NAME."""
    end = "_surrogate"
    return {name.removesuffix(end): value for name, value in globals().items() if name.endswith(end)}


def clip_surrogate(
    log_ratio_BT: torch.Tensor, advantages_B1: torch.Tensor, mask_BT: torch.Tensor, config: LossConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped objective (arXiv 1707.06347, eq. 7), with a dual clip (arXiv 1912.09729) where one is asked for.

    A clip_high above clip_low is DAPO's clip-higher (arXiv 2503.14476).

    Args, as of every surrogate:
        log_ratio_BT: log of the probability ratio of policy and sampler, differentiable, of any size; 0 off the mask.
        advantages_B1: total advantage of each response.
        mask_BT: bool, the response's own tokens; the rest is ignored later.
        config: its settings.

    Returns the loss of each token, and bool: whose gradient the clip cuts off.
    """
    return _clipped(ratio(log_ratio_BT), advantages_B1, config)


def gspo_surrogate(
    log_ratio_BT: torch.Tensor, advantages_B1: torch.Tensor, mask_BT: torch.Tensor, config: LossConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """GSPO (arXiv 2507.18071): the clip, of one ratio for a whole response, the geometric mean over its tokens.

    Each token carries the ratio of its response and its share of the gradient, as in the paper's GSPO-token; with
    `aggregation: sequence_mean` the loss is the paper's. Its clip ranges are far smaller than PPO's: 3e-4 and 4e-4.
    """
    mean_B1 = log_ratio_BT.sum(dim=1, keepdim=True) / mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
    return _clipped(ratio(log_ratio_BT - log_ratio_BT.detach() + mean_B1.detach()), advantages_B1, config)


def cispo_surrogate(
    log_ratio_BT: torch.Tensor, advantages_B1: torch.Tensor, mask_BT: torch.Tensor, config: LossConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """CISPO (arXiv 2506.13585): the clipped ratio is a constant weight, so that no token loses its gradient.

    The paper bounds it from above alone: `clip_low: 1`.
    """
    weight_BT = ratio(log_ratio_BT).clamp(1 - config.clip_low, 1 + config.clip_high).detach()
    return -weight_BT * advantages_B1 * log_ratio_BT, torch.zeros_like(mask_BT)


def _clipped(
    ratio_BT: torch.Tensor, advantages_B1: torch.Tensor, config: LossConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    free_BT = -ratio_BT * advantages_B1
    cut_BT = -ratio_BT.clamp(1 - config.clip_low, 1 + config.clip_high) * advantages_B1
    loss_BT = torch.maximum(free_BT, cut_BT)
    clipped_BT = cut_BT > free_BT
    if config.dual_clip is not None:
        bound_BT = -config.dual_clip * advantages_B1
        bounded_BT = (advantages_B1 < 0) & (loss_BT > bound_BT)
        loss_BT, clipped_BT = torch.where(bounded_BT, bound_BT, loss_BT), clipped_BT | bounded_BT
    return loss_BT, clipped_BT
