"""Sampler and trainer apart: by how much, and what the loss makes of it.

d is the log-prob that the trainer gives to a token less the sampler's, both before the update, so of the same weights.
It is rounding, another kernel or another dtype; exp(d) is the importance weight that takes a mean over tokens of the
sampler to one over those of the trainer. Dimension suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch

from scaling.config.parts import LossConfig

LOG_WEIGHT_LIMIT = 20.0  # keeps exp() finite; far beyond any cap


@dataclass
class Difference:
    """d over some tokens, as sums that add up over passes and processes."""

    total: float = 0.0  # of |d|
    largest: float = 0.0  # |d|
    tokens: int = 0
    k3_sum: float = 0.0  # of exp(d) - d - 1
    weight_sum: float = 0.0  # of exp(d)
    square_sum: float = 0.0  # of exp(d) squared

    @classmethod
    def of(cls, d_N: torch.Tensor) -> Difference:
        """The sums in float64 of the d of N tokens, at least one."""
        d_N = d_N.detach().double()
        weight_N = d_N.clamp(-LOG_WEIGHT_LIMIT, LOG_WEIGHT_LIMIT).exp()
        k3_N = weight_N - d_N.clamp(-LOG_WEIGHT_LIMIT, LOG_WEIGHT_LIMIT) - 1
        sums = (float(values_N.sum()) for values_N in (k3_N, weight_N, weight_N**2))
        return cls(float(d_N.abs().sum()), float(d_N.abs().max()), len(d_N), *sums)

    def __add__(self, other: Difference) -> Difference:
        added = Difference(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))
        # max would drop a nan that stands second
        added.largest = self.largest if self.largest != self.largest else max(other.largest, self.largest)
        return added

    @property
    def mean(self) -> float:
        return self.total / self.tokens if self.tokens else 0.0

    def row(self) -> dict[str, float | None]:
        """The columns of a training step; null where no token was trained on.

        Of the effective sample share see Kish (1965): (sum w)^2 / (N sum w^2), 1 where all weights are equal.
        """
        known = self.tokens > 0
        return {
            "logprob_difference": self.largest if known else None,
            "logprob_difference_mean": self.mean if known else None,
            "sampler_kl": self.k3_sum / self.tokens if known else None,
            "effective_sample_share": self.weight_sum**2 / (self.tokens * self.square_sum) if known else None,
        }


def mismatch_weights(
    d_BT: torch.Tensor, mask_BT: torch.Tensor, config: LossConfig
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The weight of each token in the loss, and bool: which ones the cap has changed; None for mismatch none.

    Args:
        d_BT: trainer less sampler before the update; no gradient goes through it.
        mask_BT: bool, the response's own tokens.
        config: `mismatch`, its level and cap, and whose log-probs the ratio already has below it.

    With w = exp(d) of a token, or exp(sum of d) of its response: truncate gives min(w, cap) (TIS, Yao et al. 2025),
    mask w up to the cap and 0 beyond it (MIS, Liu et al. 2025). A ratio over the sampler's log-probs holds w already,
    and mask then gives 1 or 0.
    """
    if config.mismatch == "none":
        return None
    d_BT = torch.where(mask_BT, d_BT.detach(), 0.0)
    if config.mismatch_level == "sequence":
        d_BT = d_BT.sum(dim=1, keepdim=True).expand_as(d_BT)
    weight_BT = d_BT.clamp(-LOG_WEIGHT_LIMIT, LOG_WEIGHT_LIMIT).exp()
    cut_BT = (weight_BT > config.mismatch_cap) & mask_BT
    if config.mismatch == "truncate":
        return weight_BT.clamp(max=config.mismatch_cap), cut_BT
    if config.old_logprobs == "sampler":
        weight_BT = torch.ones_like(weight_BT)
    return torch.where(cut_BT, 0.0, weight_BT), cut_BT
