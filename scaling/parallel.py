"""Several processes on one run: who does what, and what all of them must agree on.

Devices, process group, gathers, DDP and FSDP2 are accelerate's (`launched.py`); what is ours says why.

Data parallel in both modes. Rollouts and evaluation: each process samples its share of the prompts and grades its share
of the responses, then all hold all: a verdict is given once, as one that differed would train processes apart.
Update: each takes its share of a mini-batch's groups; every loss is already divided by the tokens of the whole
mini-batch, so gradients are summed, not averaged. `ddp` keeps a whole policy per process; `fsdp` shards parameters,
gradients and optimizer state and those of the reference (FSDP2), while each sampler still holds a whole copy of the
weights on its device. On the host process 0 alone holds a whole model. Checkpoints and exports are of whole tensors, so
any number of processes can go on from them. Process 0 alone writes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate.utils import broadcast, broadcast_object_list, gather, gather_object
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from transformers import PreTrainedModel

from scaling import files, launched, record
from scaling.config.parts import ResourcesConfig
from scaling.determinism import hardware
from scaling.logprobs import TokenLogprobs, token_logprobs
from scaling.peers import Alarm
from scaling.policy import blank_policy, copy_weights, whole
from scaling.rollout_types import RolloutEngine, RolloutGroups, Task
from scaling.schema import InputError
from scaling.shared import SharedEngine, SharedTask


class PeerLost(RuntimeError):
    """Another process of the run has ended: its own error, if there was one, is the one to tell."""


def _says_that_a_peer_is_gone(error: Exception) -> bool:
    """Only what torch itself raises: a grader's refused connection is an error of this process."""
    innermost = traceback.extract_tb(error.__traceback__)[-1:]
    if isinstance(error, dist.DistError):
        return True
    words = "gloo|nccl|connection (closed|reset|refused)|broken pipe|tcpstore"
    by_torch = isinstance(error, RuntimeError) and all("torch" in Path(frame.filename).parts for frame in innermost)
    return by_torch and re.search(words, str(error), re.IGNORECASE) is not None


class Team:
    """The processes that work on this run: a single one where no launcher started more.

    mode: ddp or fsdp; dtype: what is computed in; minutes: the longest that one waits for another.
    """

    def __init__(self, mode: str, device: str, dtype: str = "float32", minutes: float = 30.0):
        self.mode, self.device = mode, device
        self.world, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.sharded = mode == "fsdp" and self.world > 1
        self._whole: Any = None
        self._scorers: dict[Any, Any] = {}
        self._mine = self.world > 1 and not dist.is_initialized()
        self.accelerator: Any = launched.begin(mode, device, dtype, minutes) if self.world > 1 else None
        self.alarm = Alarm(self.rank) if self.world > 1 and dist.is_initialized() else None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def document(self) -> dict[str, Any]:
        """What attempt.json says of the processes; of a single one only what it runs on. All call it together."""
        kinds = {"hardware": sorted(set(self.all_gather(hardware(self.device))))}
        return kinds | ({"processes": self.world, "parallel": self.mode} if self.world > 1 else {})

    def close(self) -> None:
        if self.alarm is not None:
            self.alarm.close()
        if self.accelerator is not None:
            self._scorers.clear()
            launched.end(self.accelerator, group=self._mine)
            self.accelerator = None

    @contextlib.contextmanager
    def working_on(self, run: Path) -> Iterator[None]:
        """While this process works on a run: an error that ends it ends the others too, and is written down."""
        try:
            yield
        except (InputError, record.StaleAttempt) as error:
            self.ring(error)
            raise
        except Exception as error:
            self.fail(run, error)
            raise
        finally:
            self.close()

    def ring(self, error: Exception) -> bool:
        """Tell the others that this process ends, so that they end; whether none of them has told so before."""
        return self.alarm is None or self.alarm.ring(error)

    def fail(self, run: Path, error: Exception) -> None:
        """Write FAILED.json, if this process is the first to fail; raises PeerLost instead where the error only says
        that another process has gone.

        A full disk is no failure of the run: once there is room it goes on.
        """
        if self.world > 1 and _says_that_a_peer_is_gone(error):
            said = self.alarm and self.alarm.heard()
            raise PeerLost(f"another process of this run has ended: {said or error}") from error
        if self.ring(error) and not files.is_disk_full(error):
            record.fail(run, error, traceback.format_exc().splitlines()[-12:])

    # ------------------------------------------------------------ agreement

    def broadcast(self, value: Any) -> Any:
        """The value that process 0 has: for what depends on clocks and files."""
        if self.world == 1:
            return value
        return broadcast_object_list([value], from_process=0)[0]

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        if self.world == 1:
            return [value]
        return gather_object([value])

    def joined(self, rows: np.ndarray, counts: list[int]) -> np.ndarray:
        """The rows of all processes by rank, sent as a tensor; counts: how many each has. Other dimensions agree."""
        if self.world == 1:
            return rows
        sent: Any
        if sum(counts) == max(counts):  # one has them all
            whole = rows if len(rows) else np.empty((sum(counts), *rows.shape[1:]), dtype=rows.dtype)
            sent = broadcast(torch.from_numpy(whole).to(self.device), from_process=int(np.argmax(counts)))
            return sent.cpu().numpy()
        padded = np.zeros((max(counts), *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(rows)] = rows
        sent = gather(torch.from_numpy(padded).to(self.device))
        parts = sent.cpu().numpy().reshape(self.world, *padded.shape)
        return np.concatenate([part[:count] for part, count in zip(parts, counts, strict=True)])

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
        plugin, kinds = self.accelerator.state.fsdp_plugin, set(getattr(policy, "_no_split_modules", None) or [])
        if not any(type(module).__name__ in kinds for module in policy.modules()):
            raise InputError(f"{type(policy).__name__} does not name its layers, so fsdp cannot shard it; use ddp.")
        values = policy.state_dict() if self.is_main else {}
        if plugin.mixed_precision_policy.param_dtype is not None:
            # A table that is gathered in bfloat16 would make the residual stream bfloat16, which autocast does not.
            policy.get_input_embeddings().register_forward_hook(lambda module, arguments, states: states.float())
        plugin.transformer_cls_names_to_wrap = sorted(kinds)
        # What `Accelerator.prepare` calls for FSDP2; that itself wants an optimizer, and a reference has none.
        self._scorers[policy] = fsdp2_prepare_model(self.accelerator, _Scorer(policy))
        if not all(hasattr(parameter, "full_tensor") for parameter in policy.parameters()):
            raise RuntimeError(f"accelerate left parameters of {type(policy).__name__} whole: it is not sharded")
        with torch.no_grad():  # accelerate's own loader takes no buffer that is saved
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

    def scorer(self, policy) -> Callable[..., TokenLogprobs]:
        """`token_logprobs` of a policy or reference; under fsdp its forward gathers what is sharded."""
        return self._scorers[policy] if self.sharded else functools.partial(token_logprobs, policy)

    @contextlib.contextmanager
    def scoring(self, policy, *, last: bool) -> Iterator[Callable[..., TokenLogprobs]]:
        """`scorer` for a pass whose gradients all processes need; last: of the passes of a mini-batch.

        Under ddp gradients are joined in the last pass only; under fsdp in each: until the last they would be whole.
        """
        if self.world == 1 or self.sharded:
            yield self.scorer(policy)
            return
        if policy not in self._scorers:
            self._scorers[policy] = self.accelerator.prepare_model(_Scorer(policy))
        wrapped = self._scorers[policy]
        with contextlib.nullcontext() if last else self.accelerator.no_sync(wrapped):
            yield wrapped

    def backward(self, loss: torch.Tensor) -> None:
        """Backward; ddp and fsdp average over processes, and a sum is wanted."""
        (loss * self.world if self.world > 1 else loss).backward()

    def engine(self, engine: RolloutEngine, sequences: int | None = None) -> RolloutEngine:
        """The engine as all processes use it together, each at most about `sequences` sequences at a time."""
        return engine if self.world == 1 and sequences is None else SharedEngine(engine, self, sequences)

    def task(self, task: Task) -> Task:
        """The task as all processes grade with it together."""
        shared: Any = task if self.world == 1 else SharedTask(task, self)
        return shared


class _Scorer(torch.nn.Module):
    """A policy whose forward gives log-probs: accelerate's wrappers act on what goes through a module's forward."""

    def __init__(self, policy):
        super().__init__()
        self.policy = policy

    def forward(self, *arguments: Any, **options: Any) -> TokenLogprobs:
        # FSDP2 hooks what is returned, and warns of views.
        return TokenLogprobs(*(values.clone() for values in token_logprobs(self.policy, *arguments, **options)))


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
