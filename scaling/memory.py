"""Memory and time of a run on GPUs, by formula: what `scaling sweep plan` prints before anything is paid for. No torch.

Per GPU, for N parameters, a world of W processes (one GPU each), W' = W under fsdp and 1 under ddp, b = 2 bytes for
bfloat16 and 4 for float32, everything that stays through a run:

    weights      4 N / W'    float32 masters                       gradients   4 N / W'
    optimizer    8 N / W'    the two moments of AdamW              sampler     b N, whole on every GPU
    reference    4 N / W'    where there is a KL penalty           gathered    fsdp: tables and two layers, float32

and on top the larger of two phases:

    rollouts     cache 2 L d_kv b of each token of S sequences at their longest, one layer twice (it grows by copying);
                 the first pass over their prompts; sampling, 22 bytes a logit (float64 cumulative sum)
    update       activations of the M tokens of a pass; logits, 24 bytes each, in pieces; bfloat16 casts of weights;
                 ddp: 4 N for the flat sum of gradients over processes

Activations: with gradient checkpointing the float32 input of each layer, 4 L d M, and one layer whole; without it L
layers whole. A layer keeps (24 d + 8 d_a + 16 f + 8 d_kv) M bytes in float32 and (26 d + 4 d_a + 8 f + 4 d_kv) M under
autocast to bfloat16: what autograd saves in transformers' Qwen2 and Llama, counted in tests/test_memory.py.
Not counted: attention of packed passes pads sequences of like length, to less than twice their tokens.

Time: FLOPs (scaling.compute) at HARDWARE_USE of the peak, recomputation included; a token of decoding takes the larger
of reading the weights and of launching the layers, plus reading the cache. Peaks and bandwidths: NVIDIA data sheets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scaling import compute
from scaling.compute import Shape
from scaling.config.run import RunConfig
from scaling.tasks import TEXT_TOKENS


@dataclass(frozen=True)
class Gpu:
    """Memory in bytes, dense bfloat16 peak in FLOPs/s, memory bandwidth in bytes/s."""

    memory: float
    peak: float
    bandwidth: float


GPUS = {
    "a100": Gpu(80e9, 312e12, 2.0e12),
    "h100": Gpu(80e9, 989e12, 3.35e12),
    "h200": Gpu(141e9, 989e12, 4.8e12),
    "b200": Gpu(180e9, 2250e12, 7.7e12),
    "b300": Gpu(270e9, 2250e12, 7.7e12),
}
HARDWARE_USE = 0.35
BANDWIDTH_USE = 0.6
SECONDS_A_LAYER = 9e-4  # of one decoding step: transformers launches its kernels from Python
TOKENS = TEXT_TOKENS  # prompt and response of a rollout: the reference study's runs have 940 to 1,250 together
LONGEST = 4096  # tokens of a response where rollout.max_new_tokens is the task's to say
GPUS_A_HOST = 8  # where resources.gpus does not say
CONTEXT = 2e9  # bytes of CUDA context, libraries and communication buffers
FILLED = 0.95  # of a GPU's memory: the rest is lost to fragments
LOGIT_BYTES, SAMPLING_BYTES = 24, 22
LOGITS_AT_A_TIME = 2**26  # what scaling.policy holds of them
KEPT = ("weights", "gradients", "optimizer", "sampler", "reference", "gathered")
ROLLOUT, UPDATE = ("cache", "prefill", "sampling"), ("activations", "logits", "casts", "exchange")


@dataclass(frozen=True)
class Layout:
    """Where a run is put: one process per GPU."""

    gpu: str
    gpus: int
    parallel: str  # ddp | fsdp
    pass_tokens: int  # of a forward and backward pass
    sequences: int  # sampled at a time on each GPU

    def __str__(self) -> str:
        return (
            f"{self.gpus} {self.gpu.upper()} {self.parallel}, {self.pass_tokens:,} tokens a pass, "
            f"{self.sequences} sequences at a time"
        )


def _lengths(config: RunConfig) -> tuple[int, int]:
    """Longest prompt and response, tokens."""
    return config.task.longest_prompt, config.rollout.max_new_tokens or LONGEST


def _per_gpu(config: RunConfig, gpus: int) -> tuple[int, int]:
    """Sequences of a mini-batch, and of a rollout batch, that fall to one GPU; groups stay whole in the former."""
    prompts, group = config.data.prompts_per_step, config.rollout.group_size
    trained = math.ceil(prompts / config.loss.updates_per_batch / gpus) * group
    return trained, math.ceil(prompts / gpus) * group


def layout_of(config: RunConfig, gpus: int = 0) -> Layout:
    """The layout that `resources` asks for; `gpus` where it names none. Without limits a pass is a mini-batch."""
    resources = config.resources
    world = max(1, resources.gpus * resources.nodes or gpus)
    trained, sampled = _per_gpu(config, world)
    longest = sum(_lengths(config))
    tokens = trained * longest
    if resources.micro_batch_tokens is not None:
        tokens = min(tokens, max(resources.micro_batch_tokens, longest))
    elif resources.micro_batch is not None:
        tokens = min(tokens, max(resources.micro_batch, config.rollout.group_size) * longest)
    group = config.rollout.group_size
    limit = resources.rollout_sequences
    return Layout(
        resources.gpu_type, world, resources.parallel, tokens, min(sampled, max(limit, group)) if limit else sampled
    )


def layer_bytes(shape: Shape, dtype: str) -> int:
    """What one layer keeps for its backward pass, bytes per token."""
    d, a, f, kv = shape.width, shape.attention_width, shape.feed_forward, shape.key_value_width
    return 26 * d + 4 * a + 8 * f + 4 * kv if dtype == "bfloat16" else 24 * d + 8 * a + 16 * f + 8 * kv


def cache_bytes(shape: Shape, dtype: str) -> int:
    """Keys and values of one token in all layers."""
    return 2 * shape.layers * shape.key_value_width * (2 if dtype == "bfloat16" else 4)


def memory(config: RunConfig, shape: Shape, layout: Layout) -> dict[str, float]:
    """Bytes per GPU by part, see the top of this file; `total` is what stays plus the larger phase."""
    n, dtype, resources = shape.num_params, config.model.dtype, config.resources
    b, sharded = (2 if dtype == "bfloat16" else 4), layout.parallel == "fsdp" and layout.gpus > 1
    shards, m, s = (layout.gpus if sharded else 1), layout.pass_tokens, layout.sequences
    layer_weights = (n - shape.vocabulary * shape.width * (1 if shape.tied else 2)) / shape.layers
    prompt, response = _lengths(config)
    layer, cache = layer_bytes(shape, dtype) * m, cache_bytes(shape, dtype) * s * (prompt + response)
    checkpointed = resources.gradient_checkpointing
    cast = 0 if b == 4 else 2 * (layer_weights if checkpointed else n)
    parts = {
        "weights": 4 * n / shards,
        "gradients": 4 * n / shards,
        "optimizer": 8 * n / shards,
        "sampler": b * n,
        "reference": 4 * n / shards if config.loss.kl_weight > 0 else 0,
        "gathered": 4 * (n - (shape.layers - 2) * layer_weights) if sharded else 0,
        "cache": cache * (1 + 1 / shape.layers),
        "prefill": math.ceil(s / config.rollout.group_size) * prompt * (3 * shape.feed_forward + 4 * shape.width) * b,
        "sampling": SAMPLING_BYTES * s * shape.vocabulary,
        "activations": 4 * shape.layers * shape.width * m + layer if checkpointed else shape.layers * layer,
        "logits": LOGIT_BYTES * min(m * shape.vocabulary, LOGITS_AT_A_TIME),
        "casts": cast,
        "exchange": 0 if sharded or layout.gpus == 1 else 4 * n,
    }
    kept, rollout, update = (sum(parts[name] for name in names) for names in (KEPT, ROLLOUT, UPDATE))
    return {**parts, "context": CONTEXT, "total": kept + max(rollout, update) + CONTEXT}


def host(config: RunConfig, shape: Shape, layout: Layout) -> float:
    """Bytes on the host of process 0, at the most.

    fsdp: whole weights and both moments while process 0 writes a checkpoint; the other processes hold next to nothing.
    ddp: each process of the host reads the float32 weights there before they move to its GPU.
    """
    if layout.parallel == "fsdp" and layout.gpus > 1:
        return 12 * shape.num_params
    return 4 * shape.num_params * (config.resources.gpus or min(layout.gpus, GPUS_A_HOST))


def fits(parts: dict[str, float], layout: Layout) -> bool:
    return parts["total"] <= FILLED * GPUS[layout.gpu].memory


def what_would(config: RunConfig, shape: Shape, layout: Layout) -> Layout | None:
    """The nearest layout that fits: smaller passes first, then fsdp on more GPUs, then larger GPUs; None if none."""
    longest, group = sum(_lengths(config)), config.rollout.group_size
    larger = [name for name, gpu in GPUS.items() if gpu.memory > GPUS[layout.gpu].memory]
    worlds = [layout.gpus, *(2**i for i in range(8) if 2**i > layout.gpus)]
    for gpu in [layout.gpu, *larger]:
        for world in worlds:
            for parallel in dict.fromkeys([layout.parallel, "fsdp"]):
                tokens, sequences = layout.pass_tokens, min(layout.sequences, _per_gpu(config, world)[1])
                while True:
                    tried = Layout(gpu, world, parallel, tokens, sequences)
                    parts = memory(config, shape, tried)
                    if fits(parts, tried):
                        return tried
                    rollout, update = (sum(parts[name] for name in names) for names in (ROLLOUT, UPDATE))
                    if rollout >= update and sequences > group:
                        sequences = max(group, sequences // 2)
                    elif tokens > longest:
                        tokens = max(longest, tokens // 2)
                    else:
                        break
    return None


def assumptions() -> str:
    """What times and memory rest on, in words."""
    (prompt, response), percent = TOKENS, [f"{100 * use:.0f} %" for use in (HARDWARE_USE, BANDWIDTH_USE, FILLED)]
    return (
        f"{prompt:g} prompt and {response:g} response tokens a rollout, the longest to the limit; {percent[0]} of a "
        f"GPU's bfloat16 peak (MFU, recomputation counted); a step of decoding the larger of {1e3 * SECONDS_A_LAYER:g} "
        f"ms a layer and reading the weights at {percent[1]} of the bandwidth, plus reading the cache; {percent[2]} of "
        f"a GPU's memory usable, {CONTEXT / 1e9:g} GB of it for CUDA."
    )


def seconds_a_step(config: RunConfig, shape: Shape, layout: Layout, tokens: tuple[float, float] = TOKENS) -> float:
    """Wall time of a step: rollouts, reference, update, and the evaluations that fall to it."""
    gpu, (prompt, response), group = GPUS[layout.gpu], tokens, config.rollout.group_size
    resources, evaluation = config.resources, config.evaluation
    speed = HARDWARE_USE * gpu.peak * layout.gpus
    shared = resources.forward == "shared_prefix"
    forward = compute.of_equal_group(compute.sequence_flops, shape, tokens, group, shared_prompt=shared)
    forward *= config.data.prompts_per_step
    passes = 3 + resources.gradient_checkpointing + (config.loss.kl_weight > 0)
    passes += (1 - 1 / config.loss.updates_per_batch) * config.loss.trainer_logprobs
    # Evaluations by ratio are few; by `every` they are a part of each step. A set of unknown size is as the main one.
    share = 1 / evaluation.every if evaluation.every else 0.0
    sampled = [(config.data.prompts_per_step, group, 1.0), (evaluation.problems, evaluation.samples, share)]
    sampled += [(one.problems or evaluation.problems, one.samples, share) for one in evaluation.sets.values()]
    decoding = 0.0
    for prompts, samples, weight in sampled:
        mine = math.ceil(prompts / layout.gpus) * samples
        slices = math.ceil(mine / layout.sequences)
        b = 2 if config.model.dtype == "bfloat16" else 4
        bandwidth = BANDWIDTH_USE * gpu.bandwidth
        step = max(SECONDS_A_LAYER * shape.layers, b * shape.num_params / bandwidth)
        read = cache_bytes(shape, config.model.dtype) * mine * response * (prompt + response / 2) / bandwidth
        flops = compute.of_equal_group(compute.rollout_flops, shape, tokens, samples) * prompts
        decoding += weight * (slices * _lengths(config)[1] * step + read + flops / speed)
    return passes * forward / speed + decoding


def gigabytes(parts: dict[str, float]) -> dict[str, float]:
    return {name: round(value / 1e9, 2) for name, value in parts.items()}
