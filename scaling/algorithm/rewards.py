"""Grades to rewards: what an advantage estimator sees of P groups of G responses. Suffixes: `scaling.rollout_types`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scaling.files import Row
from scaling.rollout_types import Grade, RolloutGroups, Task
from scaling.schema import InputError, clip


@dataclass(frozen=True)
class Rewards:
    """Rewards of P groups of G responses.

    Fields:
        outcome_PG: outcome rewards, float64: in [0, 1], plus what shaping adds.
        process_PG: process scores in [0, 1], float64; NaN where there is none.
        correct_PG: which responses are correct, bool.
        careful_PG: 1 where every step is right, else 0, float64; NaN where it is unknown.
        shaping_PG: what of outcome_PG is no verdict on the answer (length, format), float64; 0 = nothing.
        rule_PG: the scores of the task's own rule where process_PG has those of a judge; else null.
    """

    outcome_PG: np.ndarray
    process_PG: np.ndarray
    correct_PG: np.ndarray
    careful_PG: np.ndarray
    shaping_PG: np.ndarray | float = 0.0
    rule_PG: np.ndarray | None = None

    @classmethod
    def joined(cls, parts: Sequence[Rewards]) -> Rewards:
        """The groups of several batches, one after the other."""
        return parts[0]._with(lambda name: np.concatenate([getattr(part, name) for part in parts]))

    def chosen(self, groups: Sequence[int]) -> Rewards:
        """Some of the groups, in the order given."""
        return self._with(lambda name: getattr(self, name)[list(groups)])

    def _with(self, of: Callable[[str], np.ndarray]) -> Rewards:
        arrays = [name for name, value in vars(self).items() if isinstance(value, np.ndarray)]
        return dataclasses.replace(self, **{name: of(name) for name in arrays})

    def row(self) -> Row:
        """The reward columns of a training step; those of a judge and of shaping where there is one."""
        rule_PG = self.process_PG if self.rule_PG is None else self.rule_PG
        row: Row = {
            "reward_mean": float(self.outcome_PG.mean()),
            "process_mean": _mean(rule_PG),
            "process_mean_correct": _mean(rule_PG[self.correct_PG]),
            "careful_share": _mean(self.careful_PG[self.correct_PG]),
        }
        if self.rule_PG is not None:
            row["judge_mean"] = _mean(self.process_PG)
            row["judge_mean_correct"] = _mean(self.process_PG[self.correct_PG])
        if isinstance(self.shaping_PG, np.ndarray):
            row["shaping_mean"] = float(self.shaping_PG.mean())
        return row


def grade_all(task: Task, rollouts: RolloutGroups) -> list[Grade]:
    """Grades of all responses in group order."""
    prompts_B = [prompt for prompt in rollouts.prompts for _ in range(rollouts.group_size)]
    return task.grade_many(prompts_B, rollouts.responses)


def rewards(grades_B: Sequence[Grade], group_size: int) -> Rewards:
    """The rewards of grades that stand in group order."""

    def arranged(values_B: list, kind: type) -> np.ndarray:
        return np.array(values_B, dtype=kind).reshape(-1, group_size)

    return Rewards(
        outcome_PG=arranged([grade.outcome for grade in grades_B], float),
        process_PG=arranged([np.nan if grade.process is None else grade.process for grade in grades_B], float),
        correct_PG=arranged([grade.correct for grade in grades_B], bool),
        careful_PG=arranged([np.nan if grade.careful is None else grade.careful for grade in grades_B], float),
    )


def check_grades(grades_B: Sequence[Grade], example: Callable[[int], tuple[str, str]], whose: str) -> None:
    """Raise InputError at a reward or score that is no finite number: in a group it would make all rewards nothing.
    example: (problem, response) of a row, as texts."""
    for b, grade in enumerate(grades_B):
        for name, value in (("outcome", grade.outcome), ("process", grade.process)):
            if value is not None and not np.isfinite(value):
                problem, text = example(b)
                raise InputError(
                    f"{whose} gives the {name} {value} for the response {clip(text)!r} to {clip(problem)!r}; it must "
                    f"be a finite number{', or None where there is no score' if name == 'process' else ''}."
                )


def _mean(values: np.ndarray) -> float | None:
    """Mean of the values that are there; None where there is none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None
