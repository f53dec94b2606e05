"""From rollouts to rewards: the task's grades, and what the parts `reward` and `judge` of a config make of them.

Each response is graded once, by one process of the run; all go on with the same rewards. The draws and verdicts in here
are functions of the response, so that a resumed run meets the same ones. Suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from scaling.algorithm.rewards import Rewards, check_grades, rewards
from scaling.config.run import RunConfig
from scaling.graders.own_function import OwnFunction
from scaling.graders.simulated_judge import judged, uniform
from scaling.rollout_types import Grade, RolloutGroups, Task
from scaling.schema import InputError


class Grading:
    """The rewards of one run.

    Args:
        grade: the task's grades of rollouts, each response graded by one process of the run.
        task: as the processes share it.
        config: the run.
        longest: tokens of the longest response that may be sampled.
        team: the run's parallel.Team.
    """

    def __init__(
        self, grade: Callable[[RolloutGroups], list[Grade]], task: Task, config: RunConfig, longest: int, team: Any
    ):
        self.grade, self.task, self.reward, self.judge = grade, task, config.reward, config.judge
        self.longest, self.team = longest, team
        where = config.reward.function
        self.function = OwnFunction(where, config.resources.reward_seconds) if where else None

    def close(self) -> None:
        if self.function is not None:
            self.function.close()

    def __call__(self, rollouts: RolloutGroups) -> Rewards:
        """The rewards of all responses. Raises InputError, with the example, where one of them is no finite number."""
        responses_B, ends = rollouts.responses, self.task.end_ids

        def example(b: int) -> tuple[str, str]:
            """Problem and response as texts; they are made where somebody reads them."""
            response = responses_B[b][:-1] if responses_B[b][-1] in ends else responses_B[b]
            return rollouts.prompts[b // rollouts.group_size].text, self.task.decode(response)

        grades_B = self.grade(rollouts)
        check_grades(grades_B, example, f"task {self.task.name}")
        if self.function is not None:
            grades_B = self._by_function(rollouts, grades_B, example)
            check_grades(grades_B, example, f"reward.function {self.function.where}")
        reward = rewards(grades_B, rollouts.group_size)
        changed: dict[str, Any] = {}
        if self.reward.process == "judge":
            changed = {"process_PG": self._judged(rollouts, reward.process_PG), "rule_PG": reward.process_PG}
        elif self.reward.process == "none":
            changed = {"process_PG": np.full_like(reward.process_PG, np.nan)}
        if self.reward.overlong_to is not None or self.reward.format is not None:
            shaping_PG = self._shaping(rollouts, example).reshape(reward.outcome_PG.shape)
            changed |= {"shaping_PG": shaping_PG, "outcome_PG": reward.outcome_PG + shaping_PG}
        return dataclasses.replace(reward, **changed)

    def _by_function(
        self, rollouts: RolloutGroups, grades_B: list[Grade], example: Callable[[int], tuple[str, str]]
    ) -> list[Grade]:
        """The task's grades with what the user's function says in its place; each process asks it of its share."""
        assert self.function is not None
        mine = self.team.share(np.arange(len(grades_B)))
        truths_P = [self.task.truth(prompt) for prompt in rollouts.prompts]
        try:
            own: Any = self.function.score((*example(b), truths_P[b // rollouts.group_size]) for b in mine)
        except InputError as error:
            own = error
        parts = self.team.all_gather(own)
        for part in parts:  # all processes fail of the same example
            if isinstance(part, InputError):
                raise part
        said_B = [said for part in parts for said in part]
        return [dataclasses.replace(grade, **said) for grade, said in zip(grades_B, said_B, strict=True)]

    def _judged(self, rollouts: RolloutGroups, rule_PG: np.ndarray) -> np.ndarray:
        """The simulated judge's scores; NaN where the rule has none."""
        settings = {"flip_rate": self.judge.flip_rate, "length_bias": self.judge.length_bias}
        scores_B = rule_PG.ravel().copy()
        for b, response in enumerate(rollouts.responses):
            if not np.isnan(scores_B[b]):
                draw = uniform(rollouts.prompts[b // rollouts.group_size].text, response)
                scores_B[b] = judged(scores_B[b], len(response) / self.longest, draw, **settings)
        return scores_B.reshape(rule_PG.shape)

    def _shaping(self, rollouts: RolloutGroups, example: Callable[[int], tuple[str, str]]) -> np.ndarray:
        """What length (DAPO, arXiv 2503.14476, eq. 13) and format add to the outcome of each response."""
        shaping_B = np.zeros(len(rollouts.lengths_B))
        start, end = self.reward.overlong_from, self.reward.overlong_to
        if start is not None and end is not None:
            shaping_B -= self.reward.overlong_penalty * np.clip((rollouts.lengths_B - start) / (end - start), 0, 1)
        if self.reward.format is not None:
            found_B = [re.search(self.reward.format, example(b)[1]) is not None for b in range(len(shaping_B))]
            shaping_B += self.reward.format_reward * np.array(found_B)
        return shaping_B
