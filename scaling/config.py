"""RunConfig: everything that defines one run, closed and frozen, and the run_id that it hashes to.

Defaults are the hex recipe of the quickstart study. A field that can change a value in the curve is scientific and
enters the run_id; `resources`, `tracking` and `stop` do not (a longer run extends a shorter one).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from scaling.ladder import LADDER
from scaling.models import MODELS, find_weights
from scaling.record import read_json
from scaling.schema import CELLS, CONFIG, DONE, STUDY, InputError, did_you_mean

MOST_LEVELS = 50  # of nesting in a YAML file; ours have five
MOST_VALUES = 1_000_000
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxlong = 4, 40
_BRIEF.maxstring = _BRIEF.maxother = 120


def brief(value: Any) -> str:
    """repr of what was given, cut where it would fill the screen: for error messages."""
    return _BRIEF.repr(value)


def _no_text_numbers(value: Any) -> Any:
    if isinstance(value, str | bool):
        raise ValueError(f"wants a number, not {brief(value)}")
    return value


# Text never becomes a number silently: '5' in quotes is a mistake, not five.
# The bound keeps whole numbers exact wherever they go: JSON, data frames, seeds of generators.
Int = Annotated[int, BeforeValidator(_no_text_numbers), Field(le=2**53)]
Float = Annotated[float, BeforeValidator(_no_text_numbers), Field(allow_inf_nan=False)]


# Marks a field that names a file of data: the run_id takes the hash of its content in place of the path.
FILE = "data file"
OptionalDataFile = Annotated[str | None, FILE]


class Part(BaseModel):
    """A part of a RunConfig. A changed default bumps VERSION, which is hashed, so that old ids keep their meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    VERSION: ClassVar[int] = 1


class BaseRecipe(Part):
    """How a base model is made: demonstrations first with every step written, then with the habit of leaping."""

    iterations: Int = Field(default=600, ge=0)
    leaping_iterations: Int = Field(default=100, ge=0)
    batch_size: Int = Field(default=64, ge=1)
    value_share: Float = Field(default=0.65, ge=0, le=1)
    """Probability that a value is written after an operation in the leaping phase."""
    matrix_learning_rate: Float = Field(default=0.02, gt=0)
    """Muon, for matrices."""
    other_learning_rate: Float = Field(default=5e-3, gt=0)
    """AdamW, for embeddings, norms and biases."""


class ModelConfig(Part):
    """The policy: a rung of the ladder, made by recipe; a published model, by name; or a transformers folder."""

    size: str | None = None
    """us to xl are made here; a published model (`scaling models`) is read from the hub's cache, never fetched."""
    path: str | None = None
    """A transformers folder; its content enters the run_id, not its place."""
    base_seed: Int | None = Field(default=None, ge=0)
    """Seed of the base model; null = the run's own seed, so that seeds are independent from the start."""
    base: BaseRecipe = BaseRecipe()
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in. bfloat16: the sampler's weights too; the optimizer's stay float32, or steps of a learning
    rate of 1e-6 would be rounded away."""

    @model_validator(mode="after")
    def _one_source(self):
        if (self.size is None) == (self.path is None):
            raise ValueError("give exactly one of size (a rung of the ladder) and path (a transformers folder)")
        if self.size is not None and self.size not in LADDER and self.size not in MODELS:
            raise ValueError(
                f"{self.size!r} is not a size of the ladder; there are {', '.join(LADDER)}, and the published models "
                f"that `scaling models` lists.{did_you_mean(self.size, [*LADDER, *MODELS])}"
            )
        return self

    @property
    def made(self) -> bool:
        """Whether the base is made here by recipe, from the task's demonstrations."""
        return self.size in LADDER

    @property
    def folder(self) -> str | None:
        """The transformers folder of a policy that is not made here. Raises InputError where it is not found."""
        return None if self.made else self.path or str(find_weights(self.size or ""))


class HexChainConfig(Part):
    """Chains of + - * modulo 16; with modulus 10 and noise .3 the noisy variant."""

    TEST_PROBLEMS: ClassVar[int] = 2048
    """Held-out problems that there are."""
    name: Literal["hex_chain"] = "hex_chain"
    modulus: Literal[16, 10] = 16
    noise: Float = Field(default=0.0, ge=0, le=1)
    """Share of demonstrations with a duplicated or wrong step."""

    @property
    def distinct_prompts(self) -> int:
        """Prompts until level 2, the smallest of four levels that go in turn, has no new one: it has two operations."""
        return 4 * (self.modulus * (3 * (self.modulus - 1)) ** 2 - self.TEST_PROBLEMS // 4)


class MathConfig(Part):
    """Maths problems with a known answer, from files in verl's schema (parquet) or JSONL; needs model.path.

    The defaults take the files as they are. The rules of arXiv 2509.25300 are `order: difficulty`, `test: null`,
    `subset: stratified` and, for its reuse study, `pool: 51200`.
    """

    name: Literal["math"] = "math"
    train: OptionalDataFile = None
    """Training problems. Their place does not enter the run_id, their content does. null only where nothing is trained
    (`scaling eval`)."""
    test: OptionalDataFile = None
    """Held-out problems; null = drawn from `train`, half of them easy and half hard (pass rate at least 0.3)."""
    test_problems: Int = Field(default=500, ge=2)
    """How many to hold out where `test` is null."""
    order: Literal["file", "difficulty", "shuffled"] = "file"
    """Of the training problems; difficulty = by pass rate, easy first, a missing one counting as 0."""
    order_seed: Int = Field(default=0, ge=0)
    """Seed of `order: shuffled`; not the run's, so that runs at several seeds see one order."""
    pass_rate: str = "qwen2.5_7b_pass_rate"
    """Key of extra_info that holds the pass rate of a reference model."""
    subset: Literal["prefix", "stratified"] = "prefix"
    """Which of the problems are the U distinct ones: the first, or a sample with the pool's share of easy ones."""
    pool: Int | None = Field(default=None, ge=1)
    """Train on the first so many problems of the order only; null = all."""
    answer: Literal["boxed", "anywhere"] = "boxed"
    """Where the answer is looked for: in the last \\boxed{}, or failing that anywhere at the end of the response."""
    template: Literal["tokenizer", "none"] = "tokenizer"
    """The chat template of the model's tokenizer, for base and instruct models alike; none = the bare problem."""
    max_prompt_tokens: Int = Field(default=2048, ge=1)
    """Longer prompts are left out, and counted in the log."""


class GymConfig(Part):
    """Problems without end from a data set of reasoning-gym (arXiv 2505.24760, `pip install '.[gym]'`)."""

    name: Literal["reasoning_gym"] = "reasoning_gym"
    dataset: str
    """Its name, e.g. chain_sum. Those whose verifier cannot be trusted are refused when a run starts."""
    settings: dict[str, Int | Float | bool | str | list[Int] | list[str]] = {}
    """The data set's own settings, e.g. {min_terms: 3}."""
    test_problems: Int = Field(default=512, ge=1)
    """Held-out problems: the first distinct ones of a seed of their own."""
    template: Literal["tokenizer", "none"] = "tokenizer"
    """The chat template of the model's tokenizer; none = the bare problem."""


TaskConfig = Annotated[HexChainConfig | MathConfig | GymConfig, Field(discriminator="name")]


class DataConfig(Part):
    prompts_per_step: Int = Field(default=16, ge=1)
    prompts_unique: Int | None = Field(default=None, ge=1)
    """Distinct prompts (U); null = no repeats."""
    reuse_factor: Float | None = Field(default=None, ge=1)
    """tau = D / U; resolved to prompts_unique against the stop when a study is planned."""
    pass_order: Literal["same", "shuffled"] = "shuffled"


class GrpoConfig(Part):
    """Group-normalised outcome reward (DeepSeekMath, arXiv 2402.03300), sample standard deviation."""

    type: Literal["grpo"] = "grpo"


class PapoConfig(Part):
    """Outcome part plus a process part normalised among the correct responses (arXiv 2603.26535)."""

    type: Literal["papo"] = "papo"
    process_weight: Float = Field(default=0.6, ge=0)
    """lambda; 0.6 keeps correct responses above wrong ones up to a group size of 16 (bound .693)."""


class FullnormConfig(Part):
    """The ablation of PAPO that normalises the process score over the whole group."""

    type: Literal["fullnorm"] = "fullnorm"
    process_weight: Float = Field(default=0.6, ge=0)


AlgorithmConfig = Annotated[GrpoConfig | PapoConfig | FullnormConfig, Field(discriminator="type")]


class LossConfig(Part):
    clip_low: Float = Field(default=0.2, ge=0, le=1)
    clip_high: Float = Field(default=0.2, ge=0)
    dual_clip: Float | None = Field(default=None, gt=1)
    """Bound on the loss of a negative advantage; null = off."""
    kl_weight: Float = Field(default=0.0, ge=0)
    """beta of a k3 penalty against the base model."""
    aggregation: Literal["token_mean", "sequence_mean"] = "token_mean"
    updates_per_batch: Int = Field(default=1, ge=1)
    """Optimizer updates per rollout batch; the batch is cut into as many mini-batches of whole groups."""


class RolloutConfig(Part):
    group_size: Int = Field(default=16, ge=1)
    temperature: Float = Field(default=1.0, gt=0)
    max_new_tokens: Int | None = Field(default=None, ge=1)
    """null = what the task declares (1.5 times a careful solution of its hardest level)."""


class OptimizerConfig(Part):
    learning_rate: Float = Field(default=5e-4, gt=0)
    beta1: Float = Field(default=0.9, ge=0, lt=1)
    beta2: Float = Field(default=0.95, ge=0, lt=1)
    weight_decay: Float = Field(default=0.0, ge=0)
    gradient_clip: Float = Field(default=1.0, gt=0)
    warmup_steps: Int = Field(default=5, ge=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up; linear and cosine fall to 0 at stop.steps, which then enters the run_id."""


class EvaluationSet(Part):
    """One more set of problems, tried at the same steps as the held-out ones and recorded beside them."""

    path: OptionalDataFile = None
    """A file of problems, as task.test; null = the held-out problems of the task."""
    problems: Int | None = Field(default=None, ge=1)
    """The first so many; null = all."""
    samples: Int = Field(default=1, ge=1)
    """n, responses to each problem."""
    temperature: Float | None = Field(default=None, gt=0)
    """null = evaluation.temperature."""
    pass_at: tuple[Int, ...] = (1,)
    """Every k for which pass@k is recorded, 1 to n."""

    @model_validator(mode="after")
    def _within_samples(self):
        if not self.pass_at or min(self.pass_at) < 1 or max(self.pass_at) > self.samples:
            raise ValueError(
                f"pass_at {list(self.pass_at)} wants numbers from 1 to samples, which is {self.samples}; "
                f"give more samples or a smaller k"
            )
        return self


class EvaluationConfig(Part):
    """When and how the held-out problems are tried. The steps never depend on where a run stops."""

    problems: Int = Field(default=512, ge=1)
    samples: Int = Field(default=1, ge=1)
    temperature: Float = Field(default=1.0, gt=0)
    every: Int | None = Field(default=None, ge=1)
    """Evaluate at every k-th step; null = by ratio."""
    ratio: Float | None = Field(default=None, gt=1)
    """Evaluate at the steps ceil(ratio ** j); null with every null = 1.5."""
    sets: dict[str, EvaluationSet] = {}
    """More sets by name; the test loss stays that of the held-out problems."""

    @model_validator(mode="after")
    def _one_rule(self):
        for name in self.sets:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}", name):
                raise ValueError(f"a name in sets wants at most 50 letters, digits, - or _, not {brief(name)}")
        if self.every is not None and self.ratio is not None:
            raise ValueError("give one of every and ratio, not both")
        return self

    def due(self, step: int) -> bool:
        """Whether `step` is an evaluation step: 0, and multiples of `every` or ceil(ratio ** j)."""
        if step == 0:
            return True
        if self.every is not None:
            return step % self.every == 0
        ratio, power = self.ratio or 1.5, 1.0
        while power <= step - 1:  # the first power above step - 1 decides whether its ceiling is step
            power *= ratio
        return power <= step


class StopConfig(Part):
    """Where a run stops: at the first limit that it reaches."""

    steps: Int | None = Field(default=None, ge=1)
    prompts: Int | None = Field(default=None, ge=1)
    train_flops: Float | None = Field(default=None, gt=0)
    wall_seconds: Float | None = Field(default=None, gt=0)

    def reached(self, *, step: float, prompts_seen: float, train_flops: float, wall_seconds: float = 0.0) -> bool:
        pairs = [
            (self.steps, step),
            (self.prompts, prompts_seen),
            (self.train_flops, train_flops),
            (self.wall_seconds, wall_seconds),
        ]
        return any(limit is not None and value >= limit for limit, value in pairs)


class RunStop(StopConfig):
    """The stop of a run, and the planned stops of shorter cells that are read off it."""

    also_evaluate: tuple[StopConfig, ...] = ()
    """The run is also evaluated at the first step at or past each of these."""

    @model_validator(mode="after")
    def _some_limit(self):
        if all(getattr(self, name) is None for name in StopConfig.model_fields):
            raise ValueError(f"give at least one of {', '.join(StopConfig.model_fields)}")
        return self


class ResourcesConfig(Part):
    """How a run is executed; nothing here may change a value in the curve beyond rounding."""

    engine: Literal["native", "hf"] = "native"
    forward: Literal["shared_prefix", "packed", "plain"] = "shared_prefix"
    """Of log-probs: plain pads, packed does not, shared_prefix also runs each prompt once per group (Qwen2 only)."""
    threads: Int = Field(default=1, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    micro_batch: Int | None = Field(default=None, ge=1)
    """Sequences per forward and backward pass; null = the whole mini-batch."""
    micro_batch_tokens: Int | None = Field(default=None, ge=1)
    """Tokens per forward and backward pass, padding included; a longer sequence goes alone. null = no limit."""
    rollout_sequences: Int | None = Field(default=None, ge=1)
    """Sequences that a process samples at a time, at least one group: bounds the cache. null = all of them."""
    gradient_checkpointing: bool = False
    """Keep the activations of layer boundaries only and compute the rest again in the backward pass."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """With several processes (torchrun, or `processes` on SLURM): a whole policy in each, or its parameters and
    optimizer state sharded."""
    checkpoint_steps: Int = Field(default=10, ge=1)
    checkpoint_minutes: Float = Field(default=5.0, gt=0)
    keep_final: bool = True
    """Keep the final checkpoint; without it a finished run cannot be extended."""
    export_model: bool = True
    """Save the trained policy as a transformers folder, `model/`, in the run folder."""
    starts: Int = Field(default=3, ge=1)
    """Starts from the same step after which a run is given up; while its checkpoint advances there is no limit."""

    # On a cluster.
    nodes: Int = Field(default=1, ge=1)
    gpus: Int = Field(default=0, ge=0)
    """GPUs on each node."""
    gpu_type: Literal["a100", "h100", "h200", "b200", "b300"] = "h100"
    """What `scaling sweep plan` reckons memory and time with; a100 and h100 are those of 80 GB."""
    processes: Int | None = Field(default=None, ge=1)
    """Processes of a run on each node of its job; null = one for each GPU, or one."""
    cpus: Int | None = Field(default=None, ge=1)
    """Cores of a job; null = `threads` for each of its runs."""
    memory_gb: Float | None = Field(default=None, gt=0)
    time_minutes: Int = Field(default=240, ge=1)
    """Time limit of a job. A run that needs longer goes on in the next one."""
    warning_seconds: Int = Field(default=120, ge=1)
    """How long before its end a job is told: more than a step and a checkpoint take. SLURM may be a minute early."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] = ()
    """Shell lines before the run, e.g. `module load cuda`."""
    sbatch: dict[str, str | int | bool] = {}
    """Any other sbatch flag, e.g. `{reservation: rl}`; true is a flag without a value."""
    runs_per_job: Int = Field(default=1, ge=1)
    """Small runs that share one job, side by side."""

    @property
    def processes_per_node(self) -> int:
        return self.processes or (max(1, self.gpus) if self.runs_per_job == 1 else 1)

    @model_validator(mode="after")
    def _plain_where_wanted(self):
        for name, wanted in (
            ("gradient_checkpointing", self.gradient_checkpointing),
            ("parallel", self.parallel == "fsdp"),
        ):
            if wanted and self.forward == "shared_prefix":
                raise ValueError(
                    f"{name} {getattr(self, name)} works through the model's own layers; set forward: plain or packed"
                )
        if self.micro_batch is not None and self.micro_batch_tokens is not None:
            raise ValueError("give one of micro_batch and micro_batch_tokens, not both")
        if self.runs_per_job > 1 and self.nodes * self.processes_per_node > 1:
            raise ValueError(
                f"runs_per_job {self.runs_per_job} is for runs of one process on one node, and these have "
                f"{self.processes_per_node} on each of {self.nodes}; set runs_per_job: 1"
            )
        return self


RESOURCES = ResourcesConfig()  # frozen and shared: as a plain default it would be copied deeply for every run


class TrackingConfig(Part):
    mlflow: bool = True
    """Mirror the curve to MLflow."""


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


def _delta(part: Part, missing: set[str] | None = None) -> dict[str, Any]:
    """Fields that differ from their defaults, the key of a union and the version where it is not the first.

    A file that is not there is an InputError, or, where `missing` is given, is added to it and enters by its path.
    """
    values: dict[str, Any] = {}
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, Part):
            value = _delta(value, missing)
            if value:
                values[name] = value
        elif isinstance(value, dict) and value and all(isinstance(one, Part) for one in value.values()):
            values[name] = {key: _delta(one, missing) for key, one in value.items()}
        elif FILE in field.metadata and value is not None:
            file = str(value)
            if missing is not None and not Path(file).exists():
                missing.add(file)
                values[name] = {"missing": file}
            else:
                values[name] = {"content": hash_file(Path(file), name)}
        elif value != field.default or name in ("type", "name"):
            values[name] = value
    if part.VERSION != 1:
        values["version"] = part.VERSION
    return values


def hash12(value: Any) -> str:
    """12 hex digits of sha256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def hash_file(path: Path, what: str) -> str:
    """sha256 of a file's content; `what` names the field in the InputError of a file that is not there."""
    try:
        status = path.stat()
    except OSError:
        raise InputError(f"{what}: there is no file {path} (looked in {path.absolute().parent}).") from None
    return _hash_content(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(4096)  # a plan asks for the same file in every cell
def _hash_content(path: Path, mtime_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.glob("*") if p.name == "config.json" or p.suffix in (".safetensors", ".bin"))
    if not any(p.name == "config.json" for p in files) or len(files) < 2:
        raise InputError(f"model.path: {folder} is not a transformers folder (config.json and weights).")
    return files


def _hash_files(folder: Path) -> str:
    files = _model_files(folder)
    status = [path.stat() for path in files]
    return _hash_folder(tuple((path, s.st_mtime_ns, s.st_size) for path, s in zip(files, status, strict=True)))


@functools.lru_cache(64)
def _hash_folder(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in files:
        digest.update(path.name.encode())
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def base_recipe(config: RunConfig) -> dict[str, Any]:
    """What a base model is made from: task, size, base seed and recipe. Its hash names the artefact."""
    return {
        "task": _delta(config.task),
        "size": config.model.size,
        "base_seed": config.base_seed,
        "recipe": _delta(config.model.base),
    }


def base_id(config: RunConfig) -> str:
    """Name of the base model's artefact: hash of its recipe, known before it exists."""
    return hash12(base_recipe(config))


def run_id(config: RunConfig, missing: set[str] | None = None) -> str:
    """12 hex digits of sha256 over the scientific part: the fields that differ from their defaults.

    A model enters by recipe, by its published name or, given as a path, by content; a data file by content; data by
    the number of distinct prompts, never by tau. `missing` collects data files that are not there, which are an
    InputError without it: an id without them is for planning only.
    """
    config = resolve(config)
    parts = {name: getattr(config, name) for name in SCIENCE}
    science = {name: _delta(part, missing) if isinstance(part, Part) else part for name, part in parts.items()}
    dtype = {"dtype": config.model.dtype} if config.model.dtype != "float32" else {}
    if config.model.made:
        science["model"] = {**base_recipe(config), **dtype}
    elif config.model.path is None:
        science["model"] = {"hub": MODELS[config.model.size or ""].hub, **dtype}
    else:
        science["model"] = {"content": _hash_files(Path(config.model.path)), **dtype}
    if config.optimizer.schedule != "constant":
        science["horizon"] = config.stop.steps
    return hash12(science)


def is_done(run: Path, stop: StopConfig) -> bool:
    """Whether the DONE of a run folder reaches `stop`."""
    done = read_json(run / DONE)
    return done is not None and stop.reached(step=done["step"], **done["reached"])


def planned_prompts(config: RunConfig) -> int | None:
    """D: prompts that the stop allows, where it says so in steps or prompts."""
    limits = [
        limit
        for limit in (
            config.stop.steps and config.stop.steps * config.data.prompts_per_step,
            config.stop.prompts,
        )
        if limit
    ]
    return min(limits, default=None)


def resolve(config: RunConfig) -> RunConfig:
    """Resolve tau against the stop: U = D / tau. Raises InputError where they contradict each other.

    The result has `prompts_unique` and no `reuse_factor`.
    """
    data = config.data
    if data.reuse_factor is None:
        return config
    prompts, tau = planned_prompts(config), data.reuse_factor
    if prompts is not None:
        exact = prompts / tau
        if data.prompts_unique is not None and data.prompts_unique != round(exact):
            raise InputError(
                f"data: prompts_unique {data.prompts_unique} contradicts D = {prompts} prompts "
                f"at reuse_factor {tau:g}: {prompts} / {tau:g} = {exact:g}; give two of the three."
            )
        if abs(exact - round(exact)) > 1e-9 or exact < 1:
            raise InputError(
                f"data.reuse_factor: {prompts} prompts / {tau:g} = {exact:g} is not a whole number of distinct "
                f"prompts; choose a reuse_factor that divides {prompts}."
            )
        unique = None if tau == 1 else round(exact)
    else:
        unique = data.prompts_unique
    changed = data.model_copy(update={"prompts_unique": unique, "reuse_factor": None})
    return config.model_copy(update={"data": changed})


def resolve_at(config: RunConfig, where: str) -> RunConfig:
    """As `resolve`, and what a run would fail on later is refused: no model folder, too few prompts in the task.

    An InputError names `where`.
    """
    try:
        if config.model.path is not None:
            _model_files(Path(config.model.path))
            described = read_json(Path(config.model.path) / CONFIG)  # transformers calls it config.json too
            if not isinstance(described, dict) or not described.get("model_type"):
                raise InputError(
                    f"model.path: {config.model.path}: its config.json names no model_type; give a folder that "
                    "transformers saved."
                )
        config = resolve(config)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    known = config.stop.train_flops is None and config.stop.wall_seconds is None  # else it may stop before
    prompts = planned_prompts(config) if known else None
    distinct = min(prompts, config.data.prompts_unique or prompts) if prompts else 0
    if isinstance(config.task, HexChainConfig) and distinct > config.task.distinct_prompts:
        raise InputError(
            f"{where}: {distinct} distinct prompts asked for; task {config.task.name} has "
            f"{config.task.distinct_prompts}: give data.prompts_unique of at most that, or fewer steps."
        )
    return config


def check_inputs(config: RunConfig) -> None:
    """Raise InputError where this machine lacks what the run reads: weights, all of them, and a tokenizer.

    For a launch: planning needs neither. Which data files are missing the plan knows, as their content enters run_id.
    """
    folder = config.model.folder
    if folder is None:
        return
    weights = (read_json(Path(folder) / "model.safetensors.index.json") or {}).get("weight_map", {})
    missing = sorted(name for name in set(weights.values()) if not (Path(folder) / name).exists())
    if missing:
        raise InputError(
            f"model: {folder} lacks {missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''} of the "
            f"{len(set(weights.values()))} weight files that its index names; fetch the model again."
        )
    if config.task.name != "hex_chain" and not any(Path(folder).glob("tokenizer*")):
        raise InputError(
            f"model: {folder} has no tokenizer (tokenizer.json), and task {config.task.name} reads text; give a folder "
            "that was saved with its tokenizer."
        )


def check_run_folder(config: RunConfig, run: Path) -> None:
    """Raise InputError where the folder is a study's or holds another run: before a base model is made for it."""
    if (run / STUDY).exists() or (run / CELLS).exists():
        raise InputError(f"{run}: it is a study folder; give the run a folder of its own.")
    old = read_json(run / CONFIG)
    if old is not None and old.get("run_id") != run_id(config):
        raise InputError(
            f"{run}: the folder belongs to run {old.get('run_id')}, this config is run {run_id(config)}; "
            "choose another folder."
        )


# ---------------------------------------------------------------- reading


def read_yaml(path: Path) -> Any:
    """Read a YAML 1.2 file (5e-4 is a number, `no` is a word). Duplicate keys, empty and broken files: InputError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file.{did_you_mean(path.name, names)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from None
    try:
        value = YAML(typ="safe", pure=True).load(text)
        _check_shape(value)
    except RecursionError:
        raise InputError(f"{path.name}: it is nested too deep, or a part of it contains itself.") from None
    except MemoryError:
        raise InputError(f"{path.name}: its aliases unfold to more than {MOST_VALUES:,} values.") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", None) or str(error).splitlines()[0])
        raise InputError(f"{path.name}:{place} is not valid YAML: {' '.join(problem.split())}.") from None
    if value is None:
        raise InputError(f"{path.name}: the file is empty.")
    if not isinstance(value, dict):
        raise InputError(f"{path.name}: wants keys and values at the top, not a {type(value).__name__}.")
    return value


def _check_shape(value: Any) -> None:
    """Raise RecursionError or MemoryError for a value that no later step could walk: aliases may loop or explode."""
    count, level = 0, [value]
    for _ in range(MOST_LEVELS):
        below = [v for v in level if isinstance(v, dict | list)]
        count += sum(map(len, below))
        if count > MOST_VALUES:
            raise MemoryError
        level = [v for part in below for v in (part.values() if isinstance(part, dict) else part)]
    if level:
        raise RecursionError


def field_part(path: tuple[str | int, ...]) -> tuple[str, list[str]]:
    """The config class that the dotted path's parent names, and its field names: for error messages."""
    part: Any = RunConfig
    for key in path:
        field = getattr(part, "model_fields", {}).get(key)
        if field is None:
            break
        classes = [c for c in (field.annotation, *get_args(field.annotation)) if hasattr(c, "model_fields")]
        if not classes:
            break
        part = classes[0]
    return part.__name__, list(part.model_fields)


def parse_config(values: Any, where: str) -> RunConfig:
    """A RunConfig from plain values. Raises InputError, one line, naming `where`, the key and what is legal."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error)}") from None


# Parts that are a union: field of RunConfig -> (key that tells the members apart, tag -> class).
UNIONS: dict[str, tuple[str, dict[str, type[Part]]]] = {
    "algorithm": ("type", {"grpo": GrpoConfig, "papo": PapoConfig, "fullnorm": FullnormConfig}),
    "task": ("name", {"hex_chain": HexChainConfig, "math": MathConfig, "reasoning_gym": GymConfig}),
}


def _explain(error: ValidationError) -> str:
    # An unknown key explains a missing one: tell it first.
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
    first = details[0]
    # Keys that pydantic puts into the path of a union are not in the file.
    loc = list(first["loc"])
    key, members = UNIONS.get(str(loc[0]), ("", {})) if loc else ("", {})
    tagged = len(loc) > 1 and loc[1] in members
    path = tuple(loc[:1] + loc[2:] if tagged else loc)
    dotted = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        if tagged:
            name, fields = members[str(loc[1])].__name__, list(members[str(loc[1])].model_fields)
        else:
            name, fields = field_part(path[:-1])
        parent = ".".join(map(str, path[:-1]))
        hint = did_you_mean(str(path[-1]), fields)
        if hint and parent:
            hint = hint.replace("Did you mean ", f"Did you mean {parent}.")
        text = f"{dotted} is not a field of {name}; it has {', '.join(fields)}.{hint}"
    elif first["type"] == "invalid_key":
        name, fields = field_part(path[:-1])
        text = f"{dotted} is not a field of {name}; it has {', '.join(fields)}."
    elif first["type"] == "missing":
        text = f"{dotted} is missing."
    elif first["type"] in ("model_type", "model_attributes_type"):
        text = f"{dotted} wants keys and values ({', '.join(field_part(path)[1])}), not {brief(first['input'])}."
    elif first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given, tags = str(first.get("ctx", {}).get("tag", "")), list(members)
        what = "an algorithm" if dotted == "algorithm" else f"a {dotted}"
        text = f"{dotted}.{key} {brief(given)} is not {what}; there are {', '.join(tags)}.{did_you_mean(given, tags)}"
    else:
        message = first["msg"].removeprefix("Value error, ")
        given = first["input"]
        told = isinstance(given, dict | Part) or brief(given) in message
        shown = "" if told else f" (given: {brief(given)})"
        text = f"{dotted}: {message}{shown}." if dotted else f"{message}{shown}."
        legal = first.get("ctx", {}).get("expected")
        if legal and isinstance(given, str):
            text += did_you_mean(given, [word.strip(" '") for word in str(legal).replace(" or ", ",").split(",")])
    return text + (f" ({len(details) - 1} more)" if len(details) > 1 else "")


def load_config(path: Path) -> RunConfig:
    """A RunConfig from a YAML file; `recipe: NAME` lays it over a shipped recipe."""
    values = read_yaml(path)
    config = parse_config(with_recipe(values, path.name), path.name)
    resolve_at(config, path.name)
    return config


def with_recipe(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Lay `values` over the shipped recipe that its key `recipe` names, if it has one."""
    values = dict(values)
    name = values.pop("recipe", None)
    if name is None:
        return values
    folder = Path(__file__).parent / "recipes"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        hint = did_you_mean(str(name), names)
        raise InputError(f"{where}: recipe {brief(name)} is not shipped; there are {', '.join(names)}.{hint}")
    return merge(read_yaml(folder / f"{name}.yaml"), values)


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge nested dictionaries, `above` winning."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def dump(config: RunConfig) -> dict[str, Any]:
    """The whole config as plain JSON values."""
    return config.model_dump(mode="json")
