"""The update: optimizer steps over the mini-batches of one rollout batch.

Dimension suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scaling.algorithm.advantages import Advantages
from scaling.algorithm.guard import Guard
from scaling.algorithm.losses import policy_loss
from scaling.algorithm.mismatch import Difference, mismatch_weights
from scaling.algorithm.rewards import Rewards
from scaling.config.run import RunConfig
from scaling.files import Row
from scaling.logprobs import TokenLogprobs
from scaling.parallel import Team, passes
from scaling.rollout_types import RolloutGroups


@dataclass(frozen=True)
class Update:
    row: Row  # gradient_norm, entropy, clip_share, kl, and how far sampler and trainer are apart
    active_P: np.ndarray  # bool: groups that were trained on
    loss: float  # mean over the mini-batches


def update_policy(
    policy, optimizer, rollouts: RolloutGroups, advantage_PG, config: RunConfig, rate: float, allowed_V, reference=None,
    team: Team | None = None, guard: Guard | None = None,
) -> Update:  # fmt: skip
    """`updates_per_batch` optimizer steps over mini-batches of whole groups; zero-advantage groups are left out.

    A mini-batch without an active group still takes its optimizer step, with a zero gradient, as it would if its
    zero advantages had gone through the backward pass. Before the first one `guard` compares sampler and trainer.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    prompts, group_size = advantage_PG.shape
    # A penalty or a bonus has its gradient in every group.
    active_P = (advantage_PG != 0).any(axis=1) | (reference is not None) | (config.loss.entropy_weight > 0)
    team = team or Team("ddp", str(policy.device))
    rows_of = np.arange(prompts * group_size).reshape(prompts, group_size)
    batches = []
    for minibatch_P in np.split(np.arange(prompts), config.loss.updates_per_batch):
        tokens_total = int(rollouts.lengths_B[rows_of[minibatch_P]].sum())
        trained = passes(rows_of[minibatch_P[active_P[minibatch_P]]], rollouts, config.resources, team)
        batches.append((tokens_total, len(minibatch_P) * group_size, trained))
    before_BT = _before_update(policy, rollouts, [trained for *_, trained in batches[1:]], allowed_V, config, team)
    sums = {"entropy": 0.0, "clipped": 0.0, "kl": 0.0, "cut": 0.0, "tokens": 0, "loss": 0.0}
    norms, apart = [], Difference()
    for updates, (tokens_total, sequences_total, trained) in enumerate(batches):
        optimizer.zero_grad(set_to_none=False)
        for place, (rows_B, counted) in enumerate(trained):
            with team.scoring(policy, last=place == len(trained) - 1) as scorer:
                wanted = "gradient" if config.loss.entropy_weight > 0 else "value"
                score = _score(scorer, rollouts, rows_B, allowed_V, config, team, entropy=wanted)
            mask_BT = torch.from_numpy(np.arange(rollouts.tokens_BT.shape[1]) < rollouts.lengths_B[rows_B, None]).to(
                score.logprobs_BT.device
            )
            sampler_BT = torch.from_numpy(rollouts.logprobs_BT[rows_B]).to(mask_BT.device)
            trainer_BT = score.logprobs_BT.detach() if updates == 0 else before_BT[rows_B].to(mask_BT.device)
            weights = mismatch_weights(trainer_BT - sampler_BT, mask_BT, config.loss)
            advantages_B = torch.from_numpy(advantage_PG.ravel()[rows_B]).to(sampler_BT)
            reference_BT = None
            if reference is not None:
                with torch.no_grad():
                    scorer = team.scorer(reference)
                    reference_BT = _score(scorer, rollouts, rows_B, allowed_V, config, team).logprobs_BT
            loss = policy_loss(
                score.logprobs_BT, sampler_BT if config.loss.old_logprobs == "sampler" else trainer_BT,
                advantages_B, mask_BT, config.loss, tokens_total=tokens_total, sequences_total=sequences_total,
                reference_logprobs_BT=reference_BT, weights_BT=weights and weights[0], entropy_BT=score.entropy_BT,
            )  # fmt: skip
            if not torch.isfinite(loss.loss):
                raise FloatingPointError("the loss is not finite: the run has diverged (lower optimizer.learning_rate)")
            team.backward(loss.loss * counted)
            if not counted:  # in step with the others: under fsdp a pass is a common act
                continue
            sums["loss"] += float(loss.loss.detach())
            sums["entropy"] += float(score.entropy_BT.detach()[mask_BT].sum())
            sums["clipped"] += float(loss.clipped_sum)
            sums["kl"] += float(loss.kl_sum)
            sums["cut"] += float(weights[1].sum()) if weights else 0.0
            sums["tokens"] += int(mask_BT.sum())
            if updates == 0:  # later mini-batches are meant to differ from the sampler
                apart += Difference.of((trainer_BT - sampler_BT)[mask_BT])
        if updates == 0:
            apart = sum(team.all_gather(apart), Difference())  # all processes come to the same verdict
            if guard is not None:
                guard.check(apart, rollouts.weight_version)
        norms.append(_step(policy, optimizer, config.optimizer.gradient_clip, team))
    if team.world > 1:
        parts = team.all_gather(sums)
        sums = {name: sum(part[name] for part in parts) for name in sums}
    tokens = sums["tokens"]
    row = {
        "entropy": sums["entropy"] / tokens if tokens else None,
        "gradient_norm": float(np.mean(norms)),
        "clip_share": sums["clipped"] / tokens if tokens else None,
        "kl": sums["kl"] / tokens if tokens else None,
        **apart.row(),
        "mismatch_share": sums["cut"] / tokens if tokens and config.loss.mismatch != "none" else None,
    }
    return Update(row, active_P, sums["loss"] / config.loss.updates_per_batch)


def _step(policy, optimizer, gradient_clip: float, team: Team) -> float:
    """One optimizer step; the norm of the gradient before clipping."""
    for parameter in policy.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    norm: Any = torch.nn.utils.clip_grad_norm_(policy.parameters(), gradient_clip)
    optimizer.step()
    return float(norm.full_tensor() if team.sharded else norm)


def _before_update(
    policy, rollouts: RolloutGroups, later: list[list[tuple[np.ndarray, bool]]], allowed_V, config: RunConfig,
    team: Team,
) -> torch.Tensor:  # fmt: skip
    """The policy's log-probs (B, T) in the passes of later mini-batches, where the loss asks for them; else zeros.

    Those of the first mini-batch cost no pass of their own: no step comes before it.
    """
    before_BT = torch.zeros(rollouts.logprobs_BT.shape)
    if config.loss.trainer_logprobs:
        scorer = team.scorer(policy)
        for rows_B in (rows_B for trained in later for rows_B, _ in trained):
            with torch.no_grad():
                before_BT[rows_B] = _score(scorer, rollouts, rows_B, allowed_V, config, team).logprobs_BT.cpu()
    return before_BT


def _score(
    scorer, rollouts: RolloutGroups, rows_B: np.ndarray, allowed_V: np.ndarray, config: RunConfig, team: Team,
    entropy: str = "none",
) -> TokenLogprobs:  # fmt: skip
    half, kept = config.model.dtype == "bfloat16", not config.resources.gradient_checkpointing
    # torch's own autocast: accelerate's is the same context, and a single process has no Accelerator.
    # With checkpointing no cast of a weight is used twice: kept, the casts of a whole model would fill 2 bytes each.
    with torch.autocast(team.device.split(":")[0], torch.bfloat16, enabled=half, cache_enabled=kept):
        return scorer(
            rollouts, rows_B,
            allowed_V=allowed_V, temperature=config.rollout.temperature, forward=config.resources.forward,
            entropy=entropy,
        )  # fmt: skip


def training_row(
    rollouts: RolloutGroups, reward: Rewards, advantage: Advantages, update: Update, learning_rate: float
) -> Row:
    """The columns of a training step, in the order of the record."""
    return {
        **reward.row(),
        "response_length_mean": float(rollouts.lengths_B.mean()),
        "response_length_max": int(rollouts.lengths_B.max()),
        "truncated_share": float(rollouts.truncated_B.mean()),
        **update.row,
        "learning_rate": learning_rate,
        "advantage_norm": float(np.sqrt((advantage.total_PG**2).mean())),
        "groups_all_right": float(reward.correct_PG.all(axis=1).mean()),
        "groups_all_wrong": float((~reward.correct_PG).all(axis=1).mean()),
        "groups_active": float((advantage.total_PG != 0).any(axis=1).mean()),
    }
