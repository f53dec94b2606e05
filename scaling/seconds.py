"""Seconds of a step on GPUs by phase, by formula: what `scaling sweep plan` prints as GPU hours. No torch.

    generation   hf, native: a step of decoding takes the larger of reading the weights and of launching the layers,
                 plus reading the cache; the longest response is waited for in every slice.
                 vllm: the same for all sequences that are under way in a server, whose layers CUDA graphs launch; then
                 the last response alone, to the limit. No server gives more than SERVER_TOKENS a second.
    update       forward and backward passes and the reference's (scaling.compute), at HARDWARE_USE of the peak,
                 recomputation included
    push         vllm: the weights through /dev/shm, PUSH_RATE; the copy that other engines take is not counted
    checkpoint   float32 weights and both moments by process 0, CHECKPOINT_RATE; its part of each step
    evaluation   as generation, for the problems that are due; its part of each step

Phases come one after the other, and every GPU of the run is paid for in all of them.
"""

from __future__ import annotations

import math

from scaling import compute
from scaling.compute import Shape
from scaling.config.run import RunConfig
from scaling.gpus import BANDWIDTH_USE, CONTEXT, FILLED, GPUS, HARDWARE_USE
from scaling.memory import Layout, limits
from scaling.server_memory import bytes_each, cache_bytes
from scaling.tasks import TEXT_TOKENS
from scaling.vllm_server import prefix_block

SECONDS_A_LAYER = 9e-4  # of one decoding step: transformers launches its kernels from Python
SERVER_SECONDS_A_LAYER = 1e-4  # of one decoding step of vLLM: CUDA graphs, and an exchange between its GPUs
SERVER_TOKENS = 1e4  # a second and server: its replies with log-probs take .1 ms a token of one process
PUSH_RATE = 2e9  # bytes a second: gathered, written and read
CHECKPOINT_RATE = 0.75e9  # bytes a second: written and read again for its hash, each at 1.5 GB/s
TOKENS = TEXT_TOKENS  # prompt and response of a rollout: the reference study's runs have 940 to 1,250 together
PHASES = ("generation", "update", "push", "checkpoint", "evaluation")


def assumptions(served: bool = False, others: bool = True) -> str:
    """What times and memory rest on, in words; served, others: whether some runs have engine vllm, or another."""
    (prompt, response), percent = TOKENS, [f"{100 * use:.0f} %" for use in (HARDWARE_USE, BANDWIDTH_USE, FILLED)]
    steps = [f"{1e3 * SECONDS_A_LAYER:g} ms a layer"] * others
    steps += [f"{1e3 * SERVER_SECONDS_A_LAYER:g} ms a layer in vLLM"] * served
    text = (
        f"{prompt:g} prompt and {response:g} response tokens a rollout, the longest to the limit; {percent[0]} of a "
        f"GPU's bfloat16 peak (MFU, recomputation counted); a step of decoding the larger of {' or '.join(steps)} and "
        f"reading the weights at {percent[1]} of the bandwidth, plus reading the cache; checkpoints of 12 bytes a "
        f"parameter at {CHECKPOINT_RATE / 1e9:g} GB a second; {percent[2]} of a GPU's memory usable, "
        f"{CONTEXT / 1e9:g} GB of it for CUDA"
    )
    if served:
        text += (
            f"; a vLLM server gives at most {SERVER_TOKENS:,.0f} tokens a second, and takes pushed weights at "
            f"{PUSH_RATE / 1e9:g} GB a second; servers on one node sample for all nodes, whose GPUs wait"
        )
    return f"{text}; phases one after the other."


def seconds_a_step(
    config: RunConfig, shape: Shape, layout: Layout, tokens: tuple[float, float] = TOKENS
) -> dict[str, float]:
    """Wall time of a step by phase (PHASES)."""
    group, evaluation = config.rollout.group_size, config.evaluation
    sample = _served if layout.servers else _decoded
    generation = sample(config, shape, layout, tokens, config.data.prompts_per_step, group)
    # Evaluations by ratio are few; by `every` they are a part of each step. A set of unknown size is as the main one.
    share = 1 / evaluation.every if evaluation.every else 0.0
    sets = [(evaluation.problems, evaluation.samples)]
    sets += [(one.problems or evaluation.problems, one.samples) for one in evaluation.sets.values()]
    phases = {
        "generation": generation,
        "update": _update(config, shape, layout, tokens),
        "push": bytes_each(config.model.dtype) * shape.num_params / PUSH_RATE if layout.servers else 0.0,
        "evaluation": share * sum(sample(config, shape, layout, tokens, *one) for one in sets),
    }
    resources = config.resources
    between = max(1, min(resources.checkpoint_steps, 60 * resources.checkpoint_minutes // sum(phases.values()) + 1))
    phases["checkpoint"] = 12 * shape.num_params / CHECKPOINT_RATE / between
    return {phase: phases[phase] for phase in PHASES}


def _update(config: RunConfig, shape: Shape, layout: Layout, tokens: tuple[float, float]) -> float:
    group, resources, loss = config.rollout.group_size, config.resources, config.loss
    shared = resources.forward == "shared_prefix"
    forward = compute.of_equal_group(compute.sequence_flops, shape, tokens, group, shared_prompt=shared)
    passes = 3 + resources.gradient_checkpointing + (loss.kl_weight > 0)
    passes += (1 - 1 / loss.updates_per_batch) * loss.trainer_logprobs
    return passes * forward * config.data.prompts_per_step / (HARDWARE_USE * GPUS[layout.gpu].peak * layout.gpus)


def _decoded(
    config: RunConfig, shape: Shape, layout: Layout, tokens: tuple[float, float], prompts: int, samples: int
) -> float:
    """Sampling by the training processes, each its share of the prompts, in slices."""
    gpu, (prompt, response), dtype = GPUS[layout.gpu], tokens, config.model.dtype
    mine = math.ceil(prompts / layout.gpus) * samples
    bandwidth = BANDWIDTH_USE * gpu.bandwidth
    step = max(SECONDS_A_LAYER * shape.layers, bytes_each(dtype) * shape.num_params / bandwidth)
    read = cache_bytes(shape, dtype) * mine * response * (prompt + response / 2) / bandwidth
    flops = compute.of_equal_group(compute.rollout_flops, shape, tokens, samples) * prompts
    slices = math.ceil(mine / layout.sequences)
    return slices * limits(config)[1] * step + read + flops / (HARDWARE_USE * gpu.peak * layout.gpus)


def _served(
    config: RunConfig, shape: Shape, layout: Layout, tokens: tuple[float, float], prompts: int, samples: int
) -> float:
    """Sampling by vLLM: sequences / at a time rounds of mean length, then what the longest takes beyond them."""
    gpu, (prompt, response), dtype, each = GPUS[layout.gpu], tokens, config.model.dtype, layout.server_gpus
    mine = math.ceil(prompts / layout.servers) * samples  # of one server
    bandwidth = BANDWIDTH_USE * gpu.bandwidth * each
    step = max(SERVER_SECONDS_A_LAYER * shape.layers, bytes_each(dtype) * shape.num_params / bandwidth)
    at_a_time = min(mine, layout.sequences / layout.servers)
    steps = mine / at_a_time * response
    spread = each / min(each, shape.key_value_heads)  # keys and values that several GPUs hold are read by each
    read = spread * cache_bytes(shape, dtype) * mine * response * (prompt + response / 2) / bandwidth
    block = prefix_block(config.resources.vllm.arguments, on_cpu=False)
    flops = compute.of_equal_group(compute.rollout_flops, shape, tokens, samples, prefix_block=block)
    computed = flops * mine / samples / (HARDWARE_USE * gpu.peak * each)
    tail = max(0.0, limits(config)[1] - response)
    return max(steps * step + read + computed, mine * response / SERVER_TOKENS) + tail * step
