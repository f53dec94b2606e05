"""The parts of a RunConfig, one closed and frozen class for each; a task and an estimator bring their own.

Defaults are the hex recipe of the quickstart study.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from scaling.algorithm import surrogate_names
from scaling.config.cluster import BaseJobConfig, ContainerConfig, Flags, check_plain
from scaling.fields import Float, Int, OptionalDataFile, Part, brief
from scaling.ladder import LADDER, BaseRecipe
from scaling.models import MODELS, find_weights
from scaling.rollouts import engine_names
from scaling.schema import check_name, did_you_mean


def _named(value: Any, legal: list[str], what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{brief(value)} is not a known {what}; there are: {', '.join(legal)}")
    return check_name(value, legal, what)


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


class DataConfig(Part):
    prompts_per_step: Int = Field(default=16, ge=1)
    prompts_unique: Int | None = Field(default=None, ge=1)
    """Distinct prompts (U); null = no repeats."""
    reuse_factor: Float | None = Field(default=None, ge=1)
    """tau = D / U; resolved to prompts_unique against the stop when a study is planned. Where stop.train_flops ends the
    run first, D is what it buys by the task's tokens a rollout, and the tau that is reached is near this one."""
    pass_order: Literal["same", "shuffled"] = "shuffled"


class LossConfig(Part):
    surrogate: Annotated[str, BeforeValidator(lambda value: _named(value, surrogate_names(), "surrogate"))] = "clip"
    """What is minimised for each token: a function of algorithm/losses.py. clip = PPO's; gspo clips the ratio of a
    whole response, cispo the weight of a token alone."""
    clip_low: Float = Field(default=0.2, ge=0, le=1)
    clip_high: Float = Field(default=0.2, ge=0)
    """Above clip_low it is DAPO's clip-higher, .28 in its paper."""
    dual_clip: Float | None = Field(default=None, gt=1)
    """Bound on the loss of a negative advantage; null = off."""
    kl_weight: Float = Field(default=0.0, ge=0)
    """beta of a penalty against the base model."""
    kl_estimator: Literal["k3", "k2"] = "k3"
    """Of that penalty. k3: its value is right, its gradient biased; k2, weighed by the ratio: its gradient is that of
    the KL, off policy too."""
    entropy_weight: Float = Field(default=0.0, ge=0)
    """Weight of a bonus for the entropy of the policy at each token, over the ids that may be sampled."""
    aggregation: Literal["token_mean", "sequence_mean", "constant_length"] = "token_mean"
    """constant_length divides by responses times one length for all (Dr. GRPO), constant_length."""
    constant_length: Int | None = Field(default=None, ge=1)
    """Tokens; in the paper the longest response that may be sampled."""
    updates_per_batch: Int = Field(default=1, ge=1)
    """Optimizer updates per rollout batch; the batch is cut into as many mini-batches of whole groups."""
    old_logprobs: Literal["sampler", "trainer"] = "sampler"
    """Below the ratio: the sampler's own log-probs, or what the trainer gives to the same tokens before the update."""
    mismatch: Literal["none", "truncate", "mask"] = "none"
    """What becomes of tokens that the trainer finds likelier than the sampler did, w = p trainer / p sampler before the
    update. With old_logprobs trainer each weighs w: truncate bounds it by the cap, mask drops what exceeds it."""
    mismatch_level: Literal["token", "sequence"] = "token"
    """w of each token, or of a whole response, the product over its tokens."""
    mismatch_cap: Float = Field(default=2.0, ge=1)

    @property
    def trainer_logprobs(self) -> bool:
        """Whether the trainer's log-probs before the update enter the loss."""
        return self.old_logprobs == "trainer" or self.mismatch != "none"

    @model_validator(mode="after")
    def _mismatch_has_its_weights(self):
        if self.mismatch == "truncate" and self.old_logprobs == "sampler":
            raise ValueError(
                "mismatch truncate bounds trainer / sampler, a part of the ratio itself where old_logprobs is sampler; "
                "set old_logprobs: trainer, or mismatch: mask"
            )
        for name in ("mismatch_level", "mismatch_cap"):
            if self.mismatch == "none" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} {getattr(self, name)} has no effect with mismatch none; set truncate or mask")
        return self

    @model_validator(mode="after")
    def _no_setting_without_effect(self):
        if (self.aggregation == "constant_length") != (self.constant_length is not None):
            raise ValueError(
                f"aggregation {self.aggregation} with constant_length {self.constant_length}: give both, aggregation "
                "constant_length and the tokens to divide by, such as rollout.max_new_tokens, or neither"
            )
        if self.kl_estimator != "k3" and self.kl_weight == 0:
            raise ValueError(f"kl_estimator {self.kl_estimator} has no effect with kl_weight 0; give a weight")
        if self.dual_clip is not None and self.surrogate == "cispo":
            raise ValueError(
                f"dual_clip {self.dual_clip:g} has no effect with surrogate cispo, whose weights are bounded; "
                "leave it out"
            )
        return self


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
    sets: dict[str, EvaluationSet] = {}  # noqa: RUF012  pydantic copies it
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


MOST_STEPS = 5000  # of which a plan says where a run is evaluated


def evaluated_steps(evaluation: EvaluationConfig, last: int) -> list[int] | None:
    """The steps to `last` at which a run that ends there is evaluated; None of a very long run."""
    if last > MOST_STEPS:
        return None
    return [step for step in range(last + 1) if step == last or evaluation.due(step)]


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


class VllmConfig(Part):
    """The servers of engine vllm, on the node of a run's first process."""

    python: str | None = None
    """A Python that has vLLM; null = this one where it has, else what SCALING_VLLM_PYTHON names."""
    servers: Int = Field(default=1, ge=1)
    tensor_parallel: Int = Field(default=1, ge=1)
    """GPUs of one server."""
    memory_share: Float = Field(default=0.4, gt=0, lt=1)
    """Of a GPU's memory, for the server; on a processor of the free memory, for its cache."""
    max_num_seqs: Int = Field(default=256, ge=1)
    """Sequences that a server has under way at a time."""
    start_seconds: Float = Field(default=900.0, gt=0)
    """The longest that a start, or the push of weights, may take."""
    reply_seconds: Float = Field(default=600.0, gt=0)
    """Without a response for so long, or for 5 times the longest wait so far, a server counts as hung."""
    restarts: Int = Field(default=2, ge=0)
    """How often a server that dies or hangs is started again within one call before the run fails."""
    arguments: tuple[str, ...] = ()
    """Further arguments of vLLM's server, e.g. `[--block-size, "32"]`."""


class ResourcesConfig(Part):
    """How a run is executed; nothing here may change a value in the curve beyond rounding."""

    engine: Annotated[str, BeforeValidator(lambda value: _named(value, engine_names(), "rollout engine"))] = "native"
    """A file of scaling/rollouts. native: small dense Qwen2 models; hf: any causal LM of transformers; vllm: servers
    beside the trainer, for large models."""
    change_engine: bool = False
    """Go on with a run that another engine has sampled so far; without it that is refused."""
    vllm: VllmConfig = VllmConfig()
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
    peer_minutes: Float = Field(default=30.0, gt=0)
    """The longest that one process waits for another; one that fails ends the others within seconds."""
    reward_seconds: Float = Field(default=10.0, gt=0)
    """The longest that reward.function may take over a response; beyond it the run fails."""
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
    sbatch: Flags = {}  # noqa: RUF012  pydantic copies it
    """Any other sbatch flag, e.g. `{reservation: rl}`, in place of ours; true: one without a value, false: none."""
    python: str | None = None
    """The Python of the jobs; null = the launching one, in a container python3."""
    srun: tuple[str, ...] = ()
    """Further arguments of srun, e.g. `[--cpu-bind=none]`."""
    container: ContainerConfig | None = None
    base: BaseJobConfig = BaseJobConfig()
    runs_per_job: Int = Field(default=1, ge=1)
    """Small runs that share one job, side by side."""

    @property
    def processes_per_node(self) -> int:
        return self.processes or (max(1, self.gpus) if self.runs_per_job == 1 else 1)

    @field_validator("partition", "account", "qos", "constraint", "setup", "sbatch", "python", "srun", "container")
    @classmethod
    def _no_control_characters(cls, value: Any) -> Any:
        check_plain(value.model_dump() if isinstance(value, Part) else value)
        return value

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
