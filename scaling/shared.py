"""A task and an engine as the processes of a run use them together: each does its share, then all hold all.

`team` is the run's parallel.Team.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.rollout_types import Grade, Prompt, RolloutEngine, RolloutGroups, SamplingParams, Task


class SharedTask:
    """Each process grades its share of the responses, and all go on with the same grades; the rest is the task's."""

    def __init__(self, task: Task, team: Any):
        self._task, self._team, self._graded = task, team, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def grade_many(self, prompts: Sequence[Prompt], responses: Sequence[tuple[int, ...]]) -> list[Grade]:
        mine = self._team.share(np.arange(len(prompts)))
        own = self._task.grade_many([prompts[i] for i in mine], [responses[i] for i in mine]) if mine.size else []
        self._graded += len(own)
        return [grade for part in self._team.all_gather(own) for grade in part]

    def counts(self) -> dict[str, float]:
        """Of all processes: a share is a mean over the responses, everything else is a sum."""
        parts = self._team.all_gather((self._graded, self._task.counts()))
        self._graded = 0
        counts: dict[str, float] = {}
        for name in dict.fromkeys(name for _, counted in parts for name in counted):
            having = [(graded, counted[name]) for graded, counted in parts if name in counted]
            if name.endswith("_share"):
                counts[name] = sum(graded * value for graded, value in having) / sum(graded for graded, _ in having)
            else:
                counts[name] = sum(value for _, value in having)
        return counts


class SharedEngine(RolloutEngine):
    """Each process samples its share, in slices; the draws of a prompt do not depend on the company it is in."""

    def __init__(self, engine: RolloutEngine, team: Any, sequences: int | None):
        self.engine, self.team, self.sequences = engine, team, sequences

    def start(self, policy, folder: Path, resources: Any, main: bool = True) -> dict[str, Any]:
        return self.engine.start(policy, folder, resources, main)

    def load_weights(self, policy, version: int) -> None:
        self.engine.load_weights(policy, version)

    def close(self) -> None:
        self.engine.close()

    def generate(self, prompts: list[Prompt], group_size: int, sampling: SamplingParams) -> RolloutGroups:
        if self.engine.SERVER:  # it queues by itself, and the servers are those of process 0
            mine = prompts if self.team.is_main else []
            own = [self.engine.generate(mine, group_size, sampling)] if mine else []
        else:
            mine = [prompts[i] for i in self.team.share(np.arange(len(prompts)))]
            per = max(1, (self.sequences or len(prompts) * group_size) // group_size)
            own = [self.engine.generate(mine[i : i + per], group_size, sampling) for i in range(0, len(mine), per)]
        sizes = self.team.all_gather([(part.tokens_BT.shape, part.weight_version, part.prefix_block) for part in own])
        told = [one for some in sizes for one in some]
        if len(versions := {version for _, version, _ in told}) > 1:
            raise RuntimeError(f"the processes of this run sampled with different weights (versions {versions})")
        rows, longest = [sum(one[0][0] for one in some) for some in sizes], max(one[0][1] for one in told)

        def joined(name: str, kind: type) -> np.ndarray:
            arrays = [getattr(part, name) for part in own]
            width = (longest,) if name.endswith("_BT") else ()
            whole = np.zeros((rows[self.team.rank], *width), dtype=kind)
            first = 0
            for array in arrays:
                place = whole[first : first + len(array)]
                (place[:, : array.shape[1]] if width else place)[...] = array
                first += len(array)
            return self.team.joined(whole, rows)

        return RolloutGroups(
            prompts=prompts,
            group_size=group_size,
            tokens_BT=joined("tokens_BT", np.int64),
            lengths_B=joined("lengths_B", np.int64),
            logprobs_BT=joined("logprobs_BT", np.float32),
            truncated_B=joined("truncated_B", np.uint8).astype(bool),
            weight_version=told[0][1],
            prefix_block=told[0][2],
        )
