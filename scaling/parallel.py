"""Several processes on one run, as torchrun starts them: who does what, and what all of them must agree on.

Data parallel in both modes. Rollouts and evaluation: each process samples its share of the prompts, then all hold all.
Update: each takes its share of a mini-batch's groups; every loss is already divided by the tokens of the whole
mini-batch, so gradients are summed, not averaged. `ddp` keeps a whole policy per process; `fsdp` shards parameters,
gradients and optimizer state and those of the reference (torch's fully_shard), while each sampler still holds a whole
copy of the weights on its device. On the host process 0 alone holds a whole model. Checkpoints and exports are of whole
tensors, so any number of processes can go on from them. Process 0 alone writes.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from scaling import files, record
from scaling.config.parts import ResourcesConfig
from scaling.policy import blank_policy, copy_weights, whole
from scaling.rollout_types import Prompt, RolloutEngine, RolloutGroups, SamplingParams
from scaling.schema import InputError


class PeerLost(RuntimeError):
    """Another process of the run has ended: its own error, if there was one, is the one to tell."""


class Team:
    """The processes that work on this run: a single one where torchrun started none. `mode`: ddp or fsdp."""

    def __init__(self, mode: str, device: str):
        self.mode, self.device = mode, device
        self.world, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.sharded = mode == "fsdp" and self.world > 1
        self._whole: Any = None
        self._mine = self.world > 1 and not dist.is_initialized()
        if self._mine:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def document(self) -> dict[str, Any]:
        """What attempt.json says of the processes; nothing of a single one."""
        return {"processes": self.world, "parallel": self.mode} if self.world > 1 else {}

    def close(self) -> None:
        if self._mine and dist.is_initialized():
            dist.destroy_process_group()

    def fail(self, run: Path, error: Exception) -> None:
        """Write FAILED.json; raises PeerLost instead where the error only says that another process has gone.

        A full disk is no failure of the run: once there is room it goes on.
        """
        words = "gloo|nccl|connection (closed|reset|refused)|broken pipe|tcpstore"
        if self.world > 1 and (isinstance(error, dist.DistError) or re.search(words, str(error), re.I)):
            raise PeerLost(f"another process of this run has ended: {error}") from error
        if not files.is_disk_full(error):
            record.fail(run, error, traceback.format_exc().splitlines()[-12:])

    # ------------------------------------------------------------ agreement

    def broadcast(self, value: Any) -> Any:
        """The value that process 0 has: for what depends on clocks and files."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        if self.world == 1:
            return [value]
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, value)
        return gathered

    def share(self, items: np.ndarray, rank: int | None = None) -> np.ndarray:
        """The part of `items` that falls to a process; consecutive, some may be one longer."""
        return np.array_split(items, self.world)[self.rank if rank is None else rank]

    # ------------------------------------------------------------ the policy

    def model(self, load: Callable[[str], PreTrainedModel]) -> PreTrainedModel:
        """The model of load(device). Under fsdp process 0 alone loads it, on the host: what is to be sharded need not
        fit on one device, nor once per process on the host; in the others it is blank until `shard` fills it."""
        if not self.sharded:
            return load(self.device)
        model = load("cpu") if self.is_main else None
        made_of = self.broadcast(model and (model.config, model.generation_config))
        return model or blank_policy(*made_of)

    def shard(self, policy) -> None:
        """fsdp: shard a model in place, layer by layer, with the values that it has in process 0."""
        if not self.sharded or policy is None:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.split(":")[0], (self.world,))
        kinds = set(getattr(policy, "_no_split_modules", None) or [])
        layers = [module for module in policy.modules() if type(module).__name__ in kinds]
        if not layers:
            raise InputError(f"{type(policy).__name__} does not name its layers, so fsdp cannot shard it; use ddp.")
        values = policy.state_dict() if self.is_main else {}
        for layer in layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(policy, mesh=mesh)
        with torch.no_grad():
            for name, own in policy.state_dict().items():
                own.copy_(self._spread(values.get(name), own))
        for buffer in policy.buffers():
            dist.broadcast(buffer, src=0)

    def whole(self, policy) -> PreTrainedModel | None:
        """The policy with whole weights, for process 0 to save: itself; under fsdp a copy on the host of process 0 that
        this call brings up to date, and None in the others."""
        if not self.sharded:
            return policy
        if self.is_main and self._whole is None:
            self._whole = blank_policy(policy.config, policy.generation_config)
        copy_weights(policy, self._whole)
        return self._whole

    def optimizer_state(self, optimizer) -> dict[str, Any]:
        """The optimizer's state in whole tensors; under fsdp only process 0, which writes it, keeps them."""
        state = optimizer.state_dict()
        if not self.sharded:
            return state
        states: dict[int, dict[str, Any]] = {}
        for i, of in state["state"].items():
            gathered = ((key, whole(value)) for key, value in of.items())
            states[i] = {key: value.cpu() if self.is_main else None for key, value in gathered}
        return {**state, "state": states}

    def load(self, policy, optimizer, state: dict[str, Any], optimizer_state: dict[str, Any]) -> None:
        """Load whole tensors into a policy and optimizer, whatever number of processes they were written by."""
        if not self.sharded:
            policy.load_state_dict(state)
            optimizer.load_state_dict(optimizer_state)
        else:
            with torch.no_grad():
                for name, own in policy.state_dict().items():
                    own.copy_(self._spread(state[name], own))
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            spread = {
                i: {
                    key: self._spread(value, parameters[i])
                    if isinstance(value, torch.Tensor) and value.shape == parameters[i].shape
                    else value
                    for key, value in of.items()
                }
                for i, of in optimizer_state["state"].items()
            }
            optimizer.load_state_dict({**optimizer_state, "state": spread})
        for of in optimizer.state.values():  # what the optimizer took as it is would keep the checkpoint's file open
            of |= {key: value.clone() for key, value in of.items() if isinstance(value, torch.Tensor) and value.is_cpu}

    def _spread(self, value: torch.Tensor | None, like: Any) -> torch.Tensor:
        """The value that process 0 has, sharded as `like` is; of the others nothing is read. A buffer stays whole."""
        from torch.distributed.tensor import distribute_tensor

        mine = torch.empty(like.shape, dtype=like.dtype, device=self.device)
        if self.is_main and value is not None:
            mine.copy_(value)
        if not hasattr(like, "device_mesh"):
            dist.broadcast(mine, src=0)
            return mine
        return distribute_tensor(mine, like.device_mesh, like.placements)

    def backward(self, loss: torch.Tensor) -> None:
        """Backward; fully_shard averages over processes, and a sum is wanted."""
        (loss * self.world if self.sharded else loss).backward()

    def sum_gradients(self, parameters) -> None:
        """ddp: gradients become the sum over processes (fsdp has summed them in the backward pass)."""
        if self.world == 1 or self.sharded:
            return
        gradients = [parameter.grad for parameter in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def engine(self, engine: RolloutEngine, sequences: int | None = None) -> RolloutEngine:
        """The engine as all processes use it together, each at most about `sequences` sequences at a time."""
        return engine if self.world == 1 and sequences is None else _SharedEngine(engine, self, sequences)


class _SharedEngine(RolloutEngine):
    """Each process samples its share, in slices; the draws of a prompt do not depend on the company it is in."""

    def __init__(self, engine: RolloutEngine, team: Team, sequences: int | None):
        self.engine, self.team, self.sequences = engine, team, sequences

    def start(self, policy, folder: Path, resources: Any, main: bool = True) -> dict[str, Any]:
        return self.engine.start(policy, folder, resources, main)

    def load_weights(self, policy, version: int) -> None:
        self.engine.load_weights(policy, version)

    def close(self) -> None:
        self.engine.close()

    def generate(self, prompts: list[Prompt], group_size: int, sampling: SamplingParams) -> RolloutGroups:
        if self.engine.SERVER:  # it queues by itself, and the servers are those of process 0
            sampled = self.engine.generate(prompts, group_size, sampling) if self.team.is_main else None
            return self.team.broadcast(sampled)
        mine = [prompts[i] for i in self.team.share(np.arange(len(prompts)))]
        per = max(1, (self.sequences or len(prompts) * group_size) // group_size)
        own = [self.engine.generate(mine[i : i + per], group_size, sampling) for i in range(0, len(mine), per)]
        parts = [part for some in self.team.all_gather(own) for part in some]
        if len(versions := {part.weight_version for part in parts}) > 1:
            raise RuntimeError(f"the processes of this run sampled with different weights (versions {versions})")
        longest = max(part.tokens_BT.shape[1] for part in parts)

        def joined(name: str) -> np.ndarray:
            arrays = [getattr(part, name) for part in parts]
            if arrays[0].ndim == 2:
                arrays = [np.pad(array, ((0, 0), (0, longest - array.shape[1]))) for array in arrays]
            return np.concatenate(arrays)

        return RolloutGroups(
            prompts=prompts,
            group_size=group_size,
            tokens_BT=joined("tokens_BT"),
            lengths_B=joined("lengths_B"),
            logprobs_BT=joined("logprobs_BT"),
            truncated_B=joined("truncated_B"),
            weight_version=parts[0].weight_version,
        )


# ---------------------------------------------------------------- passes


def passes(
    rows_PG: np.ndarray, rollouts: RolloutGroups, resources: ResourcesConfig, team: Team
) -> list[tuple[np.ndarray, bool]]:
    """The forward and backward passes of this process: (rows, whether they count), as many in every process.

    A process without work left repeats a sequence that counts nothing.
    """
    if not rows_PG.size:
        return []
    shares = [_micro_batches(team.share(rows_PG, rank), rollouts, resources) for rank in range(team.world)]
    mine, most = shares[team.rank], max(map(len, shares))
    return [(rows_B, True) for rows_B in mine] + [(rows_PG[0, :1], False)] * (most - len(mine))


def _micro_batches(rows_PG: np.ndarray, rollouts: RolloutGroups, resources: ResourcesConfig) -> list[np.ndarray]:
    """Whole groups, at most `micro_batch` sequences at a time (but never less than one group), or by tokens.

    By tokens: the longest and the next ones while sequences times the longest of them (packed: their sum) stay within
    the limit.
    """
    if not rows_PG.size:
        return []
    if resources.micro_batch_tokens is None:
        per = len(rows_PG) if resources.micro_batch is None else max(1, resources.micro_batch // rows_PG.shape[1])
        return [rows_PG[i : i + per].ravel() for i in range(0, len(rows_PG), per)]
    rows_B = rows_PG.ravel()
    prompt_B = np.array([len(rollouts.prompts[row // rollouts.group_size].tokens) for row in rows_B])
    length_B = prompt_B + rollouts.lengths_B[rows_B]
    if resources.forward != "shared_prefix":  # it wants the sequences of a group side by side
        order = np.argsort(-length_B, kind="stable")
        rows_B, prompt_B, length_B = rows_B[order], prompt_B[order], length_B[order]
    batches, first, prompt, response, packed = [], 0, 0, 0, resources.forward == "packed"
    for i in range(len(rows_B)):
        prompt, response = max(prompt, prompt_B[i]), max(response, length_B[i] - prompt_B[i])
        tokens = length_B[first : i + 1].sum() if packed else (i + 1 - first) * (prompt + response)
        if i > first and tokens > resources.micro_batch_tokens:
            batches.append(rows_B[first:i])
            first, prompt, response = i, prompt_B[i], length_B[i] - prompt_B[i]
    return [*batches, rows_B[first:]]
