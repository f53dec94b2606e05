"""RunConfig: everything that defines one run, closed and frozen, and the run_id that it hashes to."""

from scaling.algorithm.estimators import AlgorithmConfig
from scaling.algorithm.estimators.grpo import GrpoConfig
from scaling.algorithm.estimators.papo import FullnormConfig, PapoConfig
from scaling.config.checks import (
    check_inputs,
    check_run_folder,
    is_done,
    resolve_at,
)
from scaling.config.identity import (
    base_id,
    base_recipe,
    hash12,
    hash_file,
    planned_prompts,
    resolve,
    run_id,
)
from scaling.config.parts import (
    DataConfig,
    EvaluationConfig,
    EvaluationSet,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ResourcesConfig,
    RolloutConfig,
    RunStop,
    StopConfig,
    TrackingConfig,
)
from scaling.config.reading import (
    dump,
    load_config,
    merge,
    parse_config,
    read_yaml,
    with_recipe,
)
from scaling.config.reward import BatchConfig, JudgeConfig, RewardConfig
from scaling.config.run import (
    SCIENCE,
    RunConfig,
)
from scaling.fields import Part
from scaling.ladder import BaseRecipe
from scaling.tasks import TaskConfig
from scaling.tasks.hex_chain import HexChainConfig
from scaling.tasks.math import MathConfig
from scaling.tasks.reasoning_gym import GymConfig

__all__ = [
    "SCIENCE",
    "AlgorithmConfig",
    "BaseRecipe",
    "BatchConfig",
    "DataConfig",
    "EvaluationConfig",
    "EvaluationSet",
    "FullnormConfig",
    "GrpoConfig",
    "GymConfig",
    "HexChainConfig",
    "JudgeConfig",
    "LossConfig",
    "MathConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PapoConfig",
    "Part",
    "ResourcesConfig",
    "RewardConfig",
    "RolloutConfig",
    "RunConfig",
    "RunStop",
    "StopConfig",
    "TaskConfig",
    "TrackingConfig",
    "base_id",
    "base_recipe",
    "check_inputs",
    "check_run_folder",
    "dump",
    "hash12",
    "hash_file",
    "is_done",
    "load_config",
    "merge",
    "parse_config",
    "planned_prompts",
    "read_yaml",
    "resolve",
    "resolve_at",
    "run_id",
    "with_recipe",
]
