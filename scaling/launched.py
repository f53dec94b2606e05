"""Several processes, as torchrun, SLURM or `accelerate launch` start them: what they say by environment variables.

accelerate brings the device, the process group, DDP and FSDP2; a single process needs none of it. What a user's
accelerate config says beside the number of processes must be what the run says, which is what its record tells.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from scaling.config.run import RunConfig
from scaling.schema import InputError

PRECISIONS = {"float32": "no", "bfloat16": "bf16"}  # model.dtype, and accelerate's word for it


def is_set(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("1", "true", "yes", "on")


def check_launch(config: RunConfig, device: str) -> None:
    """Raise InputError where `accelerate launch` was told something else than the run."""
    resources, dtype, world = config.resources, config.model.dtype, int(os.environ.get("WORLD_SIZE", "1"))
    if "ACCELERATE_MIXED_PRECISION" not in os.environ:  # it always says that
        return

    def refuse(what: str, instead: str) -> None:
        raise InputError(f"accelerate launch: its config says {what}; {instead}.")

    if "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ:
        raise InputError(
            "accelerate launch was asked for several processes on a processor and started one; say distributed_type: "
            "MULTI_GPU with use_cpu: true in its config, not MULTI_CPU and not --cpu, or start the run by torchrun."
        )
    asked = resources.processes and resources.processes * resources.nodes
    if asked and asked != world:
        refuse(
            f"num_processes: {world}", f"resources.processes on {resources.nodes} nodes make {asked}, give one of them"
        )
    precision = os.environ["ACCELERATE_MIXED_PRECISION"]
    if precision != PRECISIONS[dtype]:
        refuse(f"mixed_precision: {precision}", f"the run's model.dtype {dtype} is {PRECISIONS[dtype]!r}, say that")
    if is_set("ACCELERATE_USE_CPU") and device != "cpu":
        refuse("use_cpu: true", f"the run computes on {device}, set resources.device: cpu")
    for name, word in (
        ("ACCELERATE_USE_DEEPSPEED", "DEEPSPEED"), ("ACCELERATE_USE_MEGATRON_LM", "MEGATRON_LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "a parallelism_config"),
    ):  # fmt: skip
        if is_set(name):
            refuse(word, "a run is data parallel, by distributed_type MULTI_GPU or FSDP with fsdp_version 2")
    if os.environ.get("ACCELERATE_DYNAMO_BACKEND", "NO").upper() != "NO":
        refuse(
            f"dynamo_backend: {os.environ['ACCELERATE_DYNAMO_BACKEND']}", "models are not compiled here, leave it out"
        )
    if is_set("ACCELERATE_USE_FSDP"):
        if resources.parallel != "fsdp":
            refuse("distributed_type: FSDP", f"the run says resources.parallel: {resources.parallel}, set fsdp")
        if os.environ.get("FSDP_VERSION", "1") != "2":
            refuse("fsdp_version: 1", "set fsdp_version: 2")
        if is_set("FSDP_OFFLOAD_PARAMS"):
            refuse("fsdp_offload_params: true", "parameters stay on their devices here, leave it out")
        if is_set("FSDP_ACTIVATION_CHECKPOINTING") and not resources.gradient_checkpointing:
            refuse(
                "fsdp_activation_checkpointing: true", "set resources.gradient_checkpointing: true in the run instead"
            )


def begin(mode: str, device: str, dtype: str, minutes: float) -> Any:
    """The Accelerator of one of several processes, its process group begun. Raises RuntimeError where it is another one
    than was asked for."""
    from accelerate import Accelerator, DistributedDataParallelKwargs, FullyShardedDataParallelPlugin
    from accelerate import InitProcessGroupKwargs as GroupKwargs
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    on_cpu, sharded = device == "cpu", mode == "fsdp"
    backend = "gloo" if on_cpu else "cpu:gloo,cuda:nccl"
    # Gradients are views of what is sent: no second copy. Experts that no token met have none. And without looking for
    # those, buckets are sorted anew after the first step, so that a resumed run would add in another order.
    views = DistributedDataParallelKwargs(gradient_as_bucket_view=True, find_unused_parameters=True)
    plugin = None
    if sharded:
        from torch.distributed.fsdp import MixedPrecisionPolicy

        half = torch.bfloat16 if dtype == "bfloat16" else None  # gathered in it; gradients are summed in float32
        policy = MixedPrecisionPolicy(
            param_dtype=half, reduce_dtype=torch.float32 if half else None, cast_forward_inputs=False
        )
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False,
            reshard_after_forward=True, mixed_precision_policy=policy,
        )  # fmt: skip
    group = GroupKwargs(backend=backend, timeout=timedelta(minutes=minutes))
    accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[group, views], fsdp_plugin=plugin)
    if sharded and on_cpu:  # where accelerate makes DDP of FSDP2 without a word
        for state in (AcceleratorState, PartialState):
            state._shared_state["distributed_type"] = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin
    world = int(os.environ["WORLD_SIZE"])
    wanted = DistributedType.FSDP if sharded else DistributedType.MULTI_CPU if on_cpu else DistributedType.MULTI_GPU
    if accelerator.num_processes != world or accelerator.distributed_type != wanted:
        raise RuntimeError(
            f"accelerate has {accelerator.num_processes} processes as {accelerator.distributed_type}, and {world} were "
            f"asked for as {wanted}"
        )
    return accelerator


KEPT: list[Any] = []  # groups, until the process ends


def end(accelerator: Any, *, group: bool) -> None:
    """Forget what accelerate keeps for the whole process, and leave the group where it is ours.

    DDP's reducer must not be the last to hold the group: it would join the group's thread under Python's lock, which
    that thread waits for (seen with gloo). Here it goes first; where an error's frames still hold it, KEPT is the last.
    """
    from accelerate.state import AcceleratorState

    if group:
        KEPT.append(dist.group.WORLD)
        accelerator.free_memory()
        accelerator.end_training()
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.pop("ACCELERATE_USE_FSDP", None)  # accelerate sets it itself where it is given a plugin
