"""RunConfig: everything that defines one run, closed and frozen.

A field that can change a value in the curve is scientific and enters the run_id (`identity.py`); `resources`,
`tracking` and `stop` do not (a longer run extends a shorter one). SCIENCE lists the parts that do.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import Field, model_validator

from scaling.algorithm.estimators import AlgorithmConfig, algorithm_classes
from scaling.algorithm.estimators.grpo import GrpoConfig
from scaling.config.parts import (
    RESOURCES,
    DataConfig,
    EvaluationConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ResourcesConfig,
    RolloutConfig,
    RunStop,
    TrackingConfig,
)
from scaling.config.reward import BatchConfig, JudgeConfig, RewardConfig
from scaling.fields import Int, Part
from scaling.tasks import TaskConfig, task_classes
from scaling.tasks.hex_chain import HexChainConfig

if TYPE_CHECKING:
    AnyTask: TypeAlias = TaskConfig
    AnyAlgorithm: TypeAlias = AlgorithmConfig
else:  # unions of what the folders hold
    AnyTask = Annotated[reduce(or_, task_classes().values()), Field(discriminator="name")]
    AnyAlgorithm = Annotated[reduce(or_, algorithm_classes().values()), Field(discriminator="type")]


class RunConfig(Part):
    """One run, whole. See `run_id` for what of it is science."""

    name: str | None = None
    model: ModelConfig
    task: AnyTask = HexChainConfig()
    data: DataConfig = DataConfig()
    algorithm: AnyAlgorithm = GrpoConfig()
    reward: RewardConfig = RewardConfig()
    judge: JudgeConfig = JudgeConfig()
    batch: BatchConfig = BatchConfig()
    loss: LossConfig = LossConfig()
    rollout: RolloutConfig = RolloutConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    stop: RunStop = RunStop(steps=60)
    resources: ResourcesConfig = Field(default_factory=lambda: RESOURCES)
    tracking: TrackingConfig = TrackingConfig()
    seed: Int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _shorthands(cls, values: Any) -> Any:
        """`model: xs` means `model: {size: xs}`; `algorithm: papo` means `algorithm: {type: papo}`."""
        if isinstance(values, dict):
            values = dict(values)
            for part, key in (("model", "size"), ("algorithm", "type"), ("task", "name"), ("judge", "name")):
                if isinstance(values.get(part), str):
                    values[part] = {key: values[part]}
            if isinstance(task := values.get("task"), dict) and "name" not in task:
                values["task"] = {"name": default("task").name, **task}
        return values

    @model_validator(mode="after")
    def _consistent(self):
        tau_alone = self.data.reuse_factor is not None and self.data.prompts_unique is None
        selects, steps = self.batch.select == "informative", self.stop.steps
        if selects and tau_alone and self.stop.prompts is None and self.stop.train_flops is None:
            raise ValueError(
                "batch.select informative takes as many prompts as it needs, so stop.steps does not say how many are "
                "unique: give stop.prompts or stop.train_flops with data.reuse_factor, or data.prompts_unique"
            )
        if tau_alone and all(limit is None for limit in (steps, self.stop.prompts, self.stop.train_flops)):
            raise ValueError(
                "data.reuse_factor needs stop.steps, stop.prompts or stop.train_flops, which say how many prompts are "
                "unique"
            )
        if self.optimizer.schedule != "constant" and self.stop.steps is None:
            raise ValueError(f"optimizer.schedule {self.optimizer.schedule!r} needs stop.steps")
        if self.data.prompts_per_step % self.loss.updates_per_batch:
            raise ValueError(
                f"loss.updates_per_batch {self.loss.updates_per_batch} does not divide "
                f"data.prompts_per_step {self.data.prompts_per_step}"
            )
        _check_task(self.task, self.model)
        _check_algorithm(self.algorithm, self.task, self.rollout, self.reward)
        _check_reward(self.reward, self.judge, self.algorithm, self.task)
        _check_evaluation(self.evaluation, self.task)
        return self

    @property
    def base_seed(self) -> int:
        return self.seed if self.model.base_seed is None else self.model.base_seed


SCIENCE = ["model", "task", "data", "algorithm", "loss", "rollout", "optimizer", "evaluation", "seed"]
LATER_SCIENCE = ["reward", "judge", "batch"]
"""Parts that runs of older versions lack: they enter the run_id only where something in them is not the default."""


def default(part: str) -> Any:
    """The value that a part of a RunConfig has where it is not given."""
    return RunConfig.model_fields[part].default


def _check_task(task: TaskConfig, model: ModelConfig) -> None:
    task.check_trainable()
    if model.made and not task.MADE_BASE:
        lacks = "a model that reads text" if task.READS_TEXT else "a base, as it has no demonstrations to make one from"
        raise ValueError(f"task {task.name} needs {lacks}: give model.path, a transformers folder")


def _check_reward(reward: RewardConfig, judge: JudgeConfig, algorithm: AlgorithmConfig, task: TaskConfig) -> None:
    if reward.process != "judge":
        if judge != JudgeConfig():
            raise ValueError(f"judge has no effect with reward.process {reward.process}; set reward.process: judge")
        return
    if not (algorithm.NEEDS_PROCESS or "process_weight" in type(algorithm).model_fields):
        raise ValueError(f"reward.process judge: algorithm {algorithm.type} reads no process score; leave reward out")
    if not task.HAS_PROCESS:
        raise ValueError(
            f"judge {judge.name} is a process rule with errors, and task {task.name} has no process rule; "
            "leave reward.process out"
        )


def _check_algorithm(
    algorithm: AlgorithmConfig, task: TaskConfig, rollout: RolloutConfig, reward: RewardConfig
) -> None:
    if algorithm.NEEDS_PROCESS and reward.process == "none":
        raise ValueError(f"algorithm {algorithm.type} needs a process score; leave reward.process none out")
    if algorithm.NEEDS_PROCESS and not task.HAS_PROCESS and reward.function is None:
        others = [name for name, kind in algorithm_classes().items() if not kind.NEEDS_PROCESS]
        raise ValueError(
            f"algorithm {algorithm.type} needs a process score, and task {task.name} has an outcome rule only; "
            f"use {' or '.join(others)}"
        )
    if rollout.group_size < algorithm.least_group:
        raise ValueError(
            f"rollout.group_size {rollout.group_size} leaves algorithm {algorithm.type} without an advantage: nothing "
            f"would be trained; give {algorithm.least_group} or more"
        )


def _check_evaluation(evaluation: EvaluationConfig, task: TaskConfig) -> None:
    asked = {"problems": evaluation.problems}
    asked |= {f"sets.{name}.problems": one.problems or 1 for name, one in evaluation.sets.items() if one.path is None}
    for name, problems in asked.items():
        if task.held_out_problems is not None and problems > task.held_out_problems:
            raise ValueError(
                f"evaluation.{name} {problems} is more than there are: task {task.name} has "
                f"1 to {task.held_out_problems} held-out problems"
            )
    for name, one in evaluation.sets.items():
        if one.path is not None and not task.READS_FILES:
            raise ValueError(
                f"evaluation.sets.{name}.path {one.path!r}: task {task.name} makes its problems and reads "
                f"no file; leave path out"
            )
