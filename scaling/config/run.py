"""RunConfig: everything that defines one run, closed and frozen.

A field that can change a value in the curve is scientific and enters the run_id (`identity.py`); `resources`,
`tracking` and `stop` do not (a longer run extends a shorter one). SCIENCE lists the parts that do.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from scaling.config.parts import (
    RESOURCES,
    AlgorithmConfig,
    DataConfig,
    EvaluationConfig,
    GrpoConfig,
    HexChainConfig,
    Int,
    LossConfig,
    MathConfig,
    ModelConfig,
    OptimizerConfig,
    Part,
    ResourcesConfig,
    RolloutConfig,
    RunStop,
    TaskConfig,
    TrackingConfig,
)


class RunConfig(Part):
    """One run, whole. See `run_id` for what of it is science."""

    name: str | None = None
    model: ModelConfig
    task: TaskConfig = HexChainConfig()
    data: DataConfig = DataConfig()
    algorithm: AlgorithmConfig = GrpoConfig()
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
            for part, key in (("model", "size"), ("algorithm", "type"), ("task", "name")):
                if isinstance(values.get(part), str):
                    values[part] = {key: values[part]}
            if isinstance(task := values.get("task"), dict) and "name" not in task:
                values["task"] = {"name": "hex_chain", **task}
        return values

    @model_validator(mode="after")
    def _consistent(self):
        tau_alone = self.data.reuse_factor is not None and self.data.prompts_unique is None
        if tau_alone and self.stop.steps is None and self.stop.prompts is None:
            raise ValueError("data.reuse_factor needs stop.steps or stop.prompts to say how many prompts are unique")
        if self.optimizer.schedule != "constant" and self.stop.steps is None:
            raise ValueError(f"optimizer.schedule {self.optimizer.schedule!r} needs stop.steps")
        if self.data.prompts_per_step % self.loss.updates_per_batch:
            raise ValueError(
                f"loss.updates_per_batch {self.loss.updates_per_batch} does not divide "
                f"data.prompts_per_step {self.data.prompts_per_step}"
            )
        if self.task.name != "hex_chain":
            task = self.task.name
            if isinstance(self.task, MathConfig) and self.task.train is None:
                raise ValueError("task.train is missing: task math needs a file of training problems")
            if self.model.made:
                raise ValueError(f"task {task} needs a model that reads text: give model.path, a transformers folder")
            if self.algorithm.type != "grpo":
                raise ValueError(
                    f"algorithm {self.algorithm.type} needs a process score, and task {task} has an outcome rule only; "
                    f"use grpo"
                )
        if self.algorithm.type != "grpo" and self.rollout.group_size == 1:
            raise ValueError(
                f"rollout.group_size 1 leaves algorithm {self.algorithm.type} without an advantage: nothing would be "
                "trained; give 2 or more"
            )
        if isinstance(self.task, HexChainConfig):
            asked = {"problems": self.evaluation.problems}
            asked |= {f"sets.{name}.problems": one.problems or 1 for name, one in self.evaluation.sets.items()}
            for name, problems in asked.items():
                if problems > self.task.TEST_PROBLEMS:
                    raise ValueError(
                        f"evaluation.{name} {problems} is more than there are: task {self.task.name} has "
                        f"1 to {self.task.TEST_PROBLEMS} held-out problems"
                    )
            for name, one in self.evaluation.sets.items():
                if one.path is not None:
                    raise ValueError(
                        f"evaluation.sets.{name}.path {one.path!r}: task {self.task.name} makes its problems and reads "
                        f"no file; leave path out"
                    )
        return self

    @property
    def base_seed(self) -> int:
        return self.seed if self.model.base_seed is None else self.model.base_seed


SCIENCE = ["model", "task", "data", "algorithm", "loss", "rollout", "optimizer", "evaluation", "seed"]
