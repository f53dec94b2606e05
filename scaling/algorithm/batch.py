"""The batch of a step: prompts, rollouts, rewards and advantages, and which groups are trained on.

`batch.select: all` takes the next prompts of the stream. `informative` is DAPO's dynamic sampling (arXiv 2503.14476,
section 3.2): it goes on along the stream, as many prompts at a time, until enough groups have an advantage. Every
prompt that it has sampled is consumed, whether its group is trained on or not: it counts in D, U, tau and C. How far a
run has come along the stream is the number of prompts in its ledger, so that a resumed run goes on where it stood.
Suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.algorithm.estimators import Advantages
from scaling.algorithm.rewards import Rewards
from scaling.config.run import RunConfig
from scaling.files import Row
from scaling.prompts import PromptStream
from scaling.rollout_types import RolloutEngine, RolloutGroups, SamplingParams


@dataclass(frozen=True)
class Batch:
    """The groups that are trained on, in the order of the stream, and those that were sampled beside them.

    Fields:
        rollouts, reward, advantage: of data.prompts_per_step groups.
        left_out: further groups that were sampled; null = none.
        ids: the distinct problems of all prompts consumed, in the order of the stream.
        row: its columns of the step, where groups are selected.
        sampled_at: when the last rollouts were there, by the monotonic clock.
    """

    rollouts: RolloutGroups
    reward: Rewards
    advantage: Advantages
    left_out: RolloutGroups | None
    ids: list[int]
    row: Row
    sampled_at: float

    def counted(self, active_P: np.ndarray) -> list[tuple[RolloutGroups, np.ndarray]]:
        """What the ledger counts: the batch with the groups that were trained on, and the others, which were not."""
        others = [(self.left_out, np.zeros(len(self.left_out.prompts), dtype=bool))] if self.left_out else []
        return [(self.rollouts, active_P), *others]


def collect(
    engine: RolloutEngine, sampling: SamplingParams, grade: Callable[[RolloutGroups], Rewards], stream: PromptStream,
    consumed: int, config: RunConfig, team: Any,
) -> Batch:  # fmt: skip
    """The next batch of a run.

    Args:
        engine, sampling: what samples, and how; grade: the rewards of rollouts.
        stream: the run's prompts; consumed: how many of them earlier steps took.
        config: the run.
        team: its parallel.Team. Which groups train is the same for all processes: process 0 says it.

    Where batch.rounds rounds do not give enough informative groups, the first of the others fill the batch.
    """
    size, informative = config.data.prompts_per_step, config.batch.select == "informative"
    rollouts, reward, active, advantages, sampled_at = [], [], [], [], 0.0
    for number in range(config.batch.rounds if informative else 1):
        prompts_P = stream.prompts(consumed + number * size, size)
        rollouts.append(engine.generate(prompts_P, config.rollout.group_size, sampling))
        sampled_at = time.monotonic()
        reward.append(grade(rollouts[-1]))
        advantages.append(team.broadcast(config.algorithm.advantages(reward[-1])))
        active += (advantages[-1].total_PG != 0).any(axis=1).tolist()
        if sum(active) >= size:
            break
    ids = stream.ids(consumed, len(active))
    if not informative:
        return Batch(rollouts[0], reward[0], advantages[0], None, ids, {}, sampled_at)
    order = np.argsort(~np.array(active), kind="stable")  # informative ones first, each kind in the stream's order
    chosen, others = sorted(order[:size].tolist()), sorted(order[size:].tolist())
    every, kept = RolloutGroups.joined(rollouts), Rewards.joined(reward).chosen(chosen)
    row = {"groups_sampled": len(active), "informative_share": sum(active) / len(active)}
    left_out = every.chosen(others) if others else None
    advantage = team.broadcast(config.algorithm.advantages(kept))
    return Batch(every.chosen(chosen), kept, advantage, left_out, ids, row, sampled_at)
