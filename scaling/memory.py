"""Memory of a run on GPUs, by formula: what `scaling sweep plan` prints before anything is paid for. No torch.

Per GPU, for N parameters, a world of W processes (one GPU each), W' = W under fsdp and 1 under ddp, b = 2 bytes for
bfloat16 and 4 for float32, everything that stays through a run:

    weights      4 N / W'    float32 masters                       gradients   4 N / W'
    optimizer    8 N / W'    the two moments of AdamW              sampler     b N, whole on every GPU
    reference    4 N / W'    where there is a KL penalty           gathered    fsdp: tables and two layers, b bytes each

and on top the larger of two phases:

    rollouts     cache 2 L d_kv b of each token of S sequences at their longest, one layer twice (it grows by copying);
                 the first pass over their prompts; sampling, 22 bytes a logit (float64 cumulative sum)
    update       activations of the M tokens of a pass; logits, 24 bytes each, in pieces; bfloat16 casts of weights;
                 exchange: ddp 4 N to sum gradients over processes; fsdp one layer's, in b bytes and in float32

Activations: with gradient checkpointing the float32 input of each layer, 4 L d M, and one layer whole; without it L
layers whole. A layer keeps (24 d + 8 d_a + 16 f + 8 d_kv) M bytes in float32 and (26 d + 4 d_a + 8 f + 4 d_kv) M under
autocast to bfloat16: what autograd saves in transformers' Qwen2 and Llama, counted in tests/test_memory.py.
Not counted: attention of packed passes pads sequences of like length, to less than twice their tokens.

With engine vllm there is no sampler, cache or sampling here, but `server` on the GPUs that have both: the share of
memory that vLLM takes (scaling.server_memory), whatever it does with it. Servers lie on the node of the first process,
on its last GPUs, beside the trainer unless `resources.processes` leaves them free.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from scaling.compute import Shape
from scaling.config.run import RunConfig
from scaling.gpus import CONTEXT, FILLED, GPUS, GPUS_A_HOST, SAMPLING_BYTES
from scaling.server_memory import HOST_BYTES, bytes_each, cache_bytes, server_memory
from scaling.tasks import TEXT_TOKENS

LONGEST = 4096  # tokens of a response where rollout.max_new_tokens is the task's to say
LOGIT_BYTES = 24
LOGITS_AT_A_TIME = 2**26  # what scaling.policy holds of them
KEPT = ("weights", "gradients", "optimizer", "sampler", "reference", "gathered", "server")
ROLLOUT, UPDATE = ("cache", "prefill", "sampling"), ("activations", "logits", "casts", "exchange")


@dataclass(frozen=True)
class Layout:
    """Where a run is put: one training process per GPU."""

    gpu: str
    gpus: int
    parallel: str  # ddp | fsdp
    pass_tokens: int  # of a forward and backward pass
    sequences: int  # sampled at a time on each GPU; engine vllm: by all servers, of the mean length
    servers: int = 0  # of vLLM
    server_gpus: int = 0  # of each
    beside: bool = False  # servers and trainer share GPUs
    spare: int = 0  # GPUs of the run's nodes without a training process; servers have some of them

    @property
    def paid(self) -> int:
        """GPUs that the run holds."""
        return self.gpus + self.spare

    def __str__(self) -> str:
        each = (
            f"{self.server_gpus} GPU{'s' * (self.server_gpus > 1)}, {'beside the trainer' * self.beside or 'its own'}"
        )
        return (
            f"{self.gpus}{f'+{self.spare}' * bool(self.spare)} {self.gpu.upper()} {self.parallel}, "
            f"{self.pass_tokens:,} tokens a pass, "
            f"{self.sequences} sequences at a time" + f", {self.servers} vLLM x {each}" * bool(self.servers)
        )


def limits(config: RunConfig) -> tuple[int, int]:
    """Longest prompt and response, tokens."""
    return config.task.longest_prompt, config.rollout.max_new_tokens or LONGEST


def _per_gpu(config: RunConfig, gpus: int) -> tuple[int, int]:
    """Sequences of a mini-batch, and of a rollout batch, that fall to one GPU; groups stay whole in the former."""
    prompts, group = config.data.prompts_per_step, config.rollout.group_size
    trained = math.ceil(prompts / config.loss.updates_per_batch / gpus) * group
    return trained, math.ceil(prompts / gpus) * group


def layout_of(
    config: RunConfig, gpus: int = 0, shape: Shape | None = None, tokens_each: tuple[float, float] = TEXT_TOKENS
) -> Layout:
    """The layout that `resources` asks for; `gpus` where it names none. Without limits a pass is a mini-batch.

    shape, tokens_each (mean prompt and response): for how many sequences the servers of engine vllm hold at a time.
    """
    prompt, response = tokens_each
    resources = config.resources
    a_node = resources.gpus or min(gpus, GPUS_A_HOST)
    held = max(1, resources.gpus * resources.nodes or gpus)
    world = resources.processes * resources.nodes if resources.gpus and resources.processes else held
    trained, sampled = _per_gpu(config, world)
    longest = sum(limits(config))
    tokens = trained * longest
    if resources.micro_batch_tokens is not None:
        tokens = min(tokens, max(resources.micro_batch_tokens, longest))
    elif resources.micro_batch is not None:
        tokens = min(tokens, max(resources.micro_batch, config.rollout.group_size) * longest)
    group = config.rollout.group_size
    limit = resources.rollout_sequences
    layout = Layout(
        resources.gpu_type, world, resources.parallel, tokens, min(sampled, max(limit, group)) if limit else sampled,
        spare=max(0, held - world),
    )  # fmt: skip
    if resources.engine != "vllm" or shape is None:
        return layout
    settings = resources.vllm
    parts = server_memory(shape, config.model.dtype, settings, layout.gpu)
    sequences = min(settings.max_num_seqs, int(parts["tokens"] / (prompt + response / 2)))
    return dataclasses.replace(
        layout,
        sequences=settings.servers * max(1, sequences),
        servers=settings.servers,
        server_gpus=settings.tensor_parallel,
        beside=(resources.processes or a_node) + settings.servers * settings.tensor_parallel > a_node,
    )


def layer_bytes(shape: Shape, dtype: str) -> int:
    """What one layer keeps for its backward pass, bytes per token."""
    d, a, f, kv = shape.width, shape.attention_width, shape.feed_forward, shape.key_value_width
    return 26 * d + 4 * a + 8 * f + 4 * kv if dtype == "bfloat16" else 24 * d + 8 * a + 16 * f + 8 * kv


def memory(config: RunConfig, shape: Shape, layout: Layout) -> dict[str, float]:
    """Bytes per GPU by part, see the top of this file; `total` is what stays plus the larger phase."""
    n, dtype, resources = shape.num_params, config.model.dtype, config.resources
    b, sharded, served = bytes_each(dtype), layout.parallel == "fsdp" and layout.gpus > 1, layout.servers > 0
    shards, m, s = (layout.gpus if sharded else 1), layout.pass_tokens, layout.sequences
    layer_weights = (n - shape.vocabulary * shape.width * (1 if shape.tied else 2)) / shape.layers
    prompt, response = limits(config)
    layer, cache = layer_bytes(shape, dtype) * m, cache_bytes(shape, dtype) * s * (prompt + response)
    checkpointed = resources.gradient_checkpointing
    cast = 0 if b == 4 or sharded else 2 * (layer_weights if checkpointed else n)
    exchange = 0 if layout.gpus == 1 else (4 if b == 4 else 6) * layer_weights if sharded else 4 * n
    parts = {
        "weights": 4 * n / shards,
        "gradients": 4 * n / shards,
        "optimizer": 8 * n / shards,
        "sampler": 0 if served else b * n,
        "reference": 4 * n / shards if config.loss.kl_weight > 0 else 0,
        "gathered": b * (n - (shape.layers - 2) * layer_weights) if sharded else 0,
        "server": resources.vllm.memory_share * GPUS[layout.gpu].memory if layout.beside else 0,
        "cache": 0 if served else cache * (1 + 1 / shape.layers),
        "prefill": 0
        if served
        else math.ceil(s / config.rollout.group_size) * prompt * (3 * shape.feed_forward + 4 * shape.width) * b,
        "sampling": 0 if served else SAMPLING_BYTES * s * shape.vocabulary,
        "activations": 4 * shape.layers * shape.width * m + layer if checkpointed else shape.layers * layer,
        "logits": LOGIT_BYTES * min(m * shape.vocabulary, LOGITS_AT_A_TIME),
        "casts": cast,
        "exchange": exchange,
    }
    kept, rollout, update = (sum(parts[name] for name in names) for names in (KEPT, ROLLOUT, UPDATE))
    return {**parts, "context": CONTEXT, "total": kept + max(rollout, update) + CONTEXT}


def host(config: RunConfig, shape: Shape, layout: Layout) -> float:
    """Bytes on the host of process 0, at the most.

    fsdp: whole weights and both moments while process 0 writes a checkpoint; the other processes hold next to nothing.
    ddp: each process of the host reads the float32 weights there before they move to its GPU.
    Engine vllm: the weights of the last push lie in /dev/shm besides, and the servers' processes have memory there.
    """
    served = pushed(config, shape) + HOST_BYTES * layout.servers * (1 + layout.server_gpus)
    if layout.parallel == "fsdp" and layout.gpus > 1:
        return 12 * shape.num_params + served
    return 4 * shape.num_params * (config.resources.gpus or min(layout.gpus, GPUS_A_HOST)) + served


def pushed(config: RunConfig, shape: Shape) -> float:
    """Bytes in /dev/shm of the first node: the weights as the servers take them, from one push to the next."""
    return bytes_each(config.model.dtype) * shape.num_params if config.resources.engine == "vllm" else 0.0


def fits(parts: dict[str, float], layout: Layout) -> bool:
    return parts["total"] <= FILLED * GPUS[layout.gpu].memory


def what_would(config: RunConfig, shape: Shape, layout: Layout) -> Layout | None:
    """The nearest layout that fits: smaller passes first, then fsdp on more GPUs, then larger GPUs; None if none."""
    longest, group = sum(limits(config)), config.rollout.group_size
    larger = [name for name, gpu in GPUS.items() if gpu.memory > GPUS[layout.gpu].memory]
    worlds = [layout.gpus, *(2**i for i in range(8) if 2**i > layout.gpus)]
    for gpu in [layout.gpu, *larger]:
        for world in worlds:
            for parallel in dict.fromkeys([layout.parallel, "fsdp"]):
                tokens, sequences = layout.pass_tokens, layout.sequences
                if not layout.servers:
                    sequences = min(sequences, _per_gpu(config, world)[1])
                while True:
                    tried = dataclasses.replace(
                        layout, gpu=gpu, gpus=world, parallel=parallel, pass_tokens=tokens, sequences=sequences
                    )
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


def gigabytes(parts: dict[str, float]) -> dict[str, float]:
    return {name: round(value / 1e9, 2) for name, value in parts.items()}
