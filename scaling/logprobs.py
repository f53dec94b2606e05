"""Log-probs of responses, and what sampler and trainer share.

Sampler and trainer share `allowed_log_softmax`, so that a log-prob means the same to both: over the allowed ids alone,
at a temperature.

Dimension suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from scaling.forwards import FORWARDS
from scaling.memory import LOGITS_AT_A_TIME
from scaling.rollout_types import RolloutGroups
from scaling.schema import InputError, check_name


def allowed_log_softmax(logits_NV: torch.Tensor, allowed_ids_A: torch.Tensor, temperature: float) -> torch.Tensor:
    """float32 log-probs (N, A) over the allowed ids alone; the other ids cannot be sampled."""
    some = len(allowed_ids_A) < logits_NV.shape[-1]  # else all of them, or these logits are of the allowed ids alone
    logits_NA = logits_NV.index_select(-1, allowed_ids_A) if some else logits_NV
    return torch.log_softmax(logits_NA.float() / temperature, dim=-1)


def ends(token_B: torch.Tensor, end_ids: torch.Tensor) -> torch.Tensor:
    """bool: which tokens end a response. One comparison where there is one id: small models feel each operation."""
    return token_B == end_ids if len(end_ids) == 1 else torch.isin(token_B, end_ids)


def draw_columns(logprobs_BA: torch.Tensor, uniforms_B: torch.Tensor) -> torch.Tensor:
    """Inverse-CDF sampling: the first column whose cumulative probability exceeds the uniform (float64, in [0, 1)).

    The uniform is scaled by the total, which rounding leaves near 1: a column past the end, or one of zero
    probability, can then not be drawn.
    """
    cumulative_BA = logprobs_BA.exp().cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(cumulative_BA, (uniforms_B * cumulative_BA[:, -1])[:, None], right=True)[:, 0]


class TokenLogprobs(NamedTuple):
    """Of the chosen sequences, in the order and at the width of the rollouts; zero beyond each length."""

    logprobs_BT: torch.Tensor  # float32 nats, differentiable
    entropy_BT: torch.Tensor  # float32 nats, of the distribution that the token was drawn from


def token_logprobs(
    model: PreTrainedModel,
    groups: RolloutGroups,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    allowed_V: np.ndarray,
    temperature: float,
    forward: str = "plain",
    entropy: str = "value",
) -> TokenLogprobs:
    """Log-probs that the model gives to the response tokens of some sequences (`rows` of the flat batch; None = all).

    They are over the allowed ids at `temperature`, so with the sampler's weights they equal the sampler's.
    forward: "plain", any causal LM, padded; "packed", the sequences one after the other without padding, for the kinds
    of model in PLAIN_HEADS (others run plain); "shared_prefix", dense Qwen2 only: the prompt is run once per group.
    entropy: "value", without a gradient; "gradient", with one; "none", zeros in its place.
    The output head is applied to so many tokens at a time that no more than LOGITS_AT_A_TIME logits are held.
    """
    check_name(forward, FORWARDS, "forward")
    rows_B = np.arange(len(groups.lengths_B)) if rows is None else np.asarray(rows)
    tokens_BT, lengths_B = groups.tokens_BT[rows_B], groups.lengths_B[rows_B]
    real_BT = np.arange(tokens_BT.shape[1]) < lengths_B[:, None]
    tokens_N = tokens_BT[real_BT]
    if not allowed_V[tokens_N].all():
        bad = sorted(set(tokens_N[~allowed_V[tokens_N]].tolist()))
        raise InputError(f"responses hold the ids {bad}, which allowed_V forbids; allow them or drop these responses.")
    device = model.device
    allowed_ids_A = torch.from_numpy(np.flatnonzero(allowed_V)).to(device)
    columns_N = torch.from_numpy((np.cumsum(allowed_V) - 1)[tokens_N]).to(device)

    prompts_B = [groups.prompts[row // groups.group_size] for row in rows_B]
    states_ND, head = FORWARDS[forward](model, prompts_B, tokens_BT[:, : lengths_B.max()], lengths_B)

    def score(states_ND: torch.Tensor, columns_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs_NA = allowed_log_softmax(head(states_ND), allowed_ids_A, temperature)
        with torch.set_grad_enabled(entropy == "gradient" and torch.is_grad_enabled()):
            entropy_N = logprobs_NA.new_zeros(len(columns_N))
            if entropy != "none":
                entropy_N = -(logprobs_NA.exp() * logprobs_NA).sum(-1)
        return logprobs_NA.gather(1, columns_N[:, None])[:, 0], entropy_N

    at_a_time = max(1, LOGITS_AT_A_TIME // len(allowed_V))
    if len(columns_N) <= at_a_time:
        logprobs_N, entropy_N = score(states_ND, columns_N)
    else:  # the backward pass computes the logits of each piece again
        pieces = zip(states_ND.split(at_a_time), columns_N.split(at_a_time), strict=True)
        scored: Any = [checkpoint(score, *piece, use_reentrant=False) for piece in pieces]
        logprobs_N, entropy_N = (torch.cat(parts) for parts in zip(*scored, strict=True))
    flat_N = torch.from_numpy(np.flatnonzero(real_BT)).to(device)

    def unpack(values_N: torch.Tensor) -> torch.Tensor:
        return values_N.new_zeros(real_BT.size).index_copy(0, flat_N, values_N).view(real_BT.shape)

    return TokenLogprobs(unpack(logprobs_N), unpack(entropy_N))
