"""The policy loss: a surrogate for each token, a KL penalty, and the mean over tokens or responses.

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
) -> PolicyLoss:
    """The surrogate of each token, with one advantage for all tokens of a response.

    Args:
        logprobs_BT: log-probs under the policy, differentiable.
        old_logprobs_BT: log-probs under the weights that sampled, as the sampler or the trainer gives them.
        advantages_B: total advantage of each response.
        mask_BT: bool, the response's own tokens.
        config: surrogate and its clip range, KL weight, aggregation.
        tokens_total: response tokens of the whole mini-batch, groups that were left out included.
        sequences_total: responses of the whole mini-batch, likewise.
        reference_logprobs_BT: log-probs under the base model, wanted where kl_weight > 0.
        weights_BT: of the surrogate of each token (mismatch.mismatch_weights); null = 1.

    token_mean divides the sum over tokens by `tokens_total`; sequence_mean averages over the tokens of each response
    first and divides by `sequences_total`. Losses of micro-batches therefore add up to that of the whole.
    """
    log_ratio_BT = (logprobs_BT - old_logprobs_BT).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    loss_BT, clipped_BT = surrogates()[config.surrogate](log_ratio_BT, advantages_B[:, None], mask_BT, config)
    if weights_BT is not None:
        loss_BT = loss_BT * weights_BT
    if config.kl_weight > 0:
        assert reference_logprobs_BT is not None, "kl_weight > 0 needs the reference's log-probs"
        away_BT = (reference_logprobs_BT - logprobs_BT).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
        loss_BT = loss_BT + config.kl_weight * (away_BT.exp() - away_BT - 1)  # k3 (Schulman 2020)

    masked_BT = torch.where(mask_BT, loss_BT, 0.0)
    if config.aggregation == "token_mean":
        loss = masked_BT.sum() / tokens_total
    else:
        loss = (masked_BT.sum(dim=1) / mask_BT.sum(dim=1).clamp(min=1)).sum() / sequences_total
    with torch.no_grad():
        kl_BT = log_ratio_BT.exp() - log_ratio_BT - 1
        return PolicyLoss(loss, (clipped_BT & mask_BT).sum(), kl_BT[mask_BT].sum())


# ---------------------------------------------------------------- surrogates


def surrogates() -> dict[str, Callable[..., tuple[torch.Tensor, torch.Tensor]]]:
    """The functions `NAME_surrogate` of this file, by NAME."""
    end = "_surrogate"
    return {name.removesuffix(end): value for name, value in globals().items() if name.endswith(end)}


def clip_surrogate(
    log_ratio_BT: torch.Tensor, advantages_B1: torch.Tensor, mask_BT: torch.Tensor, config: LossConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped objective (arXiv 1707.06347, eq. 7), with a dual clip (arXiv 1912.09729) where one is asked for.

    Args, as of every surrogate:
        log_ratio_BT: log of the probability ratio of policy and sampler, differentiable.
        advantages_B1: total advantage of each response.
        mask_BT: bool, the response's own tokens; the rest is ignored later.
        config: its settings.

    Returns the loss of each token, and bool: whose gradient the clip cuts off.
    """
    ratio_BT = log_ratio_BT.exp()
    free_BT = -ratio_BT * advantages_B1
    cut_BT = -ratio_BT.clamp(1 - config.clip_low, 1 + config.clip_high) * advantages_B1
    loss_BT = torch.maximum(free_BT, cut_BT)
    clipped_BT = cut_BT > free_BT
    if config.dual_clip is not None:
        bound_BT = -config.dual_clip * advantages_B1
        bounded_BT = (advantages_B1 < 0) & (loss_BT > bound_BT)
        loss_BT, clipped_BT = torch.where(bounded_BT, bound_BT, loss_BT), clipped_BT | bounded_BT
    return loss_BT, clipped_BT
