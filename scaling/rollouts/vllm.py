"""Rollouts by vLLM, in servers beside the trainer: token ids in, token ids and log-probs out, over loopback HTTP.

Every token is drawn by a logits processor of ours (`vllm_plugin.py`) from uniforms that are a function of (seed,
purpose, step, prompt, sample, position), as engine hf draws it: in float32 the tokens are those of hf. A server has no
state but the weights. One that dies or hangs is therefore killed with all its processes and started again, the weights
are pushed, and what was asked is asked again: the answer is the same.

Weights go through a file in shared memory after every update. That they arrived is not taken from what the server says
of itself: the update compares the log-probs (`scaling/algorithm/update.py`).

Dimension suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from scaling.compute import Shape
from scaling.policy import is_sharded, whole
from scaling.rollout_types import Prompt, RolloutEngine, RolloutGroups, SamplingParams
from scaling.schema import InputError
from scaling.vllm_server import (
    PLUGIN,
    PLUGIN_NAME,
    Server,
    ServerLost,
    check_lengths,
    check_shape,
    environment,
    find_python,
    new_folder,
    prefix_block,
)

FILE_BYTES = 2**30  # of weights in one file: so much of a sharded policy is held whole at a time
LEAST_CACHE = 2**26
MORE_PATIENCE = 5  # times the longest wait so far before a server counts as hung
Answer = TypeVar("Answer")


class Engine(RolloutEngine):
    """The client. Of several processes on one run the first alone has servers, and asks for all."""

    EXACT_DRAWS = ANY_MODEL = SERVER = True

    def __init__(
        self, *, allowed_V: np.ndarray, end_ids: Sequence[int], dtype: str = "float32", device: str | None = None
    ):
        self.allowed, self.end_ids = _ranges(allowed_V), sorted(map(int, end_ids))
        self.dtype, self.device = dtype, device or "cpu"
        self.servers: list[Server] = []
        self.version: int | None = None  # of the weights that the trainer wants sampled; None: none yet
        self.loaded: int | None = None  # of the weights that the servers hold
        self.folder: Path | None = None
        self.pushed: Path | None = None  # files in shared memory of the weights that load_weights was given last
        self.longest_wait, self.restarted = 0.0, 0

    # ------------------------------------------------------------ start and end

    def start(self, policy, folder: Path, resources: Any, main: bool = True) -> dict[str, Any]:
        self.main, self.settings = main, resources.vllm
        if not main:
            return {}
        config = policy.config
        on_cpu = not self.device.startswith("cuda")
        check_shape(Shape.from_transformers(config.to_dict()).head_width, on_cpu)
        self.positions = getattr(config, "max_position_embeddings", None)
        python, version = find_python(self.settings.python)
        self.folder, self._lock = new_folder()
        try:
            self._describe(policy)
            command = [python, "-m", "vllm.entrypoints.openai.api_server", *self._options(config, on_cpu)]
            for i in range(self.settings.servers):
                told = environment(self.device, resources.threads, self._gpus(i) if not on_cpu else [])
                told["PYTHONPATH"] = str(self.folder / "plugin")
                log = folder / (f"vllm-{i}.log" if self.settings.servers > 1 else "vllm.log")
                self.servers.append(Server(command, told, self.folder, log, self.settings.start_seconds))
            self._start_servers()
        except BaseException:
            self.close()
            raise
        return {"version": version, "servers": len(self.servers), "python": python}

    def _describe(self, policy) -> None:
        """The folder that a server is started on: the model's description, no weights, and our plug-in."""
        assert self.folder is not None
        described = copy.deepcopy(policy.config)
        described.architectures = [type(policy).__name__.removeprefix("FSDP")]
        described.save_pretrained(self.folder / "model")
        (self.folder / "plugin").mkdir()
        shutil.copy(PLUGIN, self.folder / "plugin" / f"{PLUGIN_NAME}.py")

    def _options(self, config: Any, on_cpu: bool) -> list[str]:
        settings = self.settings
        options = {
            "model": self.folder and self.folder / "model",
            "served-model-name": "policy",
            "load-format": "dummy",  # what it samples is pushed, always
            "dtype": self.dtype,
            "max-num-seqs": settings.max_num_seqs,
            "tensor-parallel-size": settings.tensor_parallel,
            "generation-config": "vllm",  # a model's own would cut the distribution at its top-p
            "logprobs-mode": "processed_logits",
            "logits-processors": f"{PLUGIN_NAME}:Draws",
            "worker-extension-cls": f"{PLUGIN_NAME}.Weights",
            "middleware": f"{PLUGIN_NAME}.Key",
        }
        if self.positions is not None:
            options["max-model-len"] = self.positions
        flags = ["skip-tokenizer-init", "enable-scale-out", "disable-uvicorn-access-log"]
        if on_cpu:
            options["kv-cache-memory-bytes"] = self._cache_bytes(config)
            flags.append("enforce-eager")
        else:
            options["gpu-memory-utilization"] = settings.memory_share
        pairs = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return [*pairs, *(f"--{flag}" for flag in flags), *settings.arguments]

    def _cache_bytes(self, config: Any) -> int:
        """On a processor: room for max_num_seqs sequences of full length, within the share of free memory."""
        shape = Shape.from_transformers(config.to_dict())
        per_token = (
            2
            * shape.layers
            * shape.key_value_heads
            * shape.head_width
            * torch.finfo(getattr(torch, self.dtype)).bits
            // 8
        )
        wanted = per_token * (self.positions or 4096) * self.settings.max_num_seqs
        with contextlib.suppress(OSError, StopIteration), open("/proc/meminfo") as file:
            free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
            wanted = min(wanted, int(free * self.settings.memory_share / self.settings.servers))
        return max(LEAST_CACHE, wanted)

    def _gpus(self, server: int) -> list[str]:
        """GPUs of one server, from the last one down: with fewer training processes than GPUs they have their own."""
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = seen.split(",") if seen else [str(i) for i in range(torch.cuda.device_count())]
        each = self.settings.tensor_parallel
        if self.settings.servers * each > len(gpus):
            raise InputError(
                f"resources.vllm: servers {self.settings.servers} x tensor_parallel {each} is more than the "
                f"{len(gpus)} GPUs of this node."
            )
        last = len(gpus) - server * each
        return gpus[last - each : last]

    def _start_servers(self) -> None:
        self.loaded = None
        for tries_left in (2, 1, 0):
            try:
                for server in self.servers:
                    server.start()
                for server in self.servers:
                    server.wait_until_healthy()
                return
            except ServerLost as lost:
                self._kill_servers()
                # A port is free when it is chosen; some seconds later, when vLLM takes it, another may have it.
                if not tries_left or "address already in use" not in str(lost).lower():
                    raise

    def _kill_servers(self) -> None:
        self.loaded = None
        for server in self.servers:
            server.stop(at_once=True)

    def close(self) -> None:
        for server in self.servers:
            server.stop()
        self.servers, self.loaded = [], None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None
            self._lock.close()

    # ------------------------------------------------------------ weights

    def load_weights(self, policy, version: int) -> None:
        self.version, self.loaded, self.policy = version, None, policy
        if self.pushed is not None:  # of a sharded policy: kept until now for a server that dies
            shutil.rmtree(self.pushed, ignore_errors=True)
            self.pushed = None
        pushed = self._write(policy)
        if not self.main:
            return
        self.pushed, self.written_as = pushed, _changes(policy)
        self._surely(lambda: None)

    def _write(self, policy) -> Path | None:
        """The weights as files in shared memory, in the sampler's dtype. Of a sharded one all processes take part."""
        folder = None
        if self.main:
            assert self.folder is not None, "start comes first"
            folder = self.folder / f"push-{self.version}-{time.monotonic_ns()}"
            folder.mkdir()
        tied = getattr(policy.config, "tie_word_embeddings", False)
        head = policy.get_output_embeddings() if tied else None
        dtype, held, count = getattr(torch, self.dtype), {}, 0
        left_out = {name for name, module in policy.named_modules() if head is not None and module is head}
        for name, value in policy.state_dict().items():
            if name.rpartition(".")[0] in left_out:
                continue  # the table itself is there
            value = whole(value)
            if folder is None:
                continue
            held[name] = value.detach().to("cpu", dtype).contiguous()
            if sum(tensor.nbytes for tensor in held.values()) >= FILE_BYTES:
                held, count = _save(held, folder, count), count + 1
        if folder is not None and held:
            _save(held, folder, count)
        return folder

    def _push(self) -> None:
        """Hand the servers the weights that load_weights was given last."""
        if self.pushed is None:  # a server that was started again
            if _changes(self.policy) != self.written_as:
                raise RuntimeError("the vLLM server died between an update and its push; run again to resume")
            self.pushed = self._write(self.policy)
        for server in self.servers:
            server.post("/collective_rpc", {"method": "take_weights", "kwargs": {"folder": str(self.pushed)}})
            server.post("/reset_prefix_cache")  # of the old weights
            server.post("/update_weight_version", {"new_version": str(self.version)})
        self.loaded = self.version
        if self.pushed is not None and not is_sharded(self.policy):  # that, this process could not write again alone
            shutil.rmtree(self.pushed)
            self.pushed = None

    def _surely(self, act: Callable[[], Answer]) -> Answer:
        """Do it with servers that live and hold the weights; where one is lost, start all again and repeat.

        Raises RuntimeError after `restarts` of them, with the last lines of the server's log.
        """
        for left in range(self.settings.restarts, -1, -1):
            try:
                if any(server.watch is None for server in self.servers):
                    self._start_servers()
                if self.loaded is None:
                    self._push()
                return act()
            except ServerLost as lost:
                self._kill_servers()
                if not left:
                    tried = f" (started again {self.settings.restarts} times)" if self.settings.restarts else ""
                    raise RuntimeError(f"{lost}{tried}") from None
                self.restarted += 1
                print(f"engine vllm: {str(lost)[:300]}; starting it again", file=sys.stderr, flush=True)
        raise AssertionError

    # ------------------------------------------------------------ sampling

    def generate(self, prompts: list[Prompt], group_size: int, sampling: SamplingParams) -> RolloutGroups:
        """Sample group_size responses to each prompt; one uniform per (sample, position) decides each token."""
        assert self.version is not None, "load_weights comes first"
        check_lengths(max(len(prompt.tokens) for prompt in prompts), sampling.max_new_tokens, self.positions)
        requests = [self._request(prompt, g, sampling) for prompt in prompts for g in range(group_size)]
        # All samples of a prompt go to one server, which has the prompt in its cache.
        server_B = [p % len(self.servers) for p in range(len(prompts)) for _ in range(group_size)]
        replies = self._surely(lambda: self._ask_all(requests, server_B))
        responses = [self._read(reply, sampling.max_new_tokens) for reply in replies]
        lengths_B = np.array([len(tokens) for tokens, _ in responses])
        tokens_BT = np.zeros((len(responses), lengths_B.max()), dtype=np.int64)
        logprobs_BT = np.zeros(tokens_BT.shape, dtype=np.float32)
        for b, (tokens, logprobs) in enumerate(responses):
            tokens_BT[b, : len(tokens)], logprobs_BT[b, : len(tokens)] = tokens, logprobs
        truncated_B = np.array([tokens[-1] not in self.end_ids for tokens, _ in responses])
        block = prefix_block(self.settings.arguments, not self.device.startswith("cuda"))
        arrays = tokens_BT, lengths_B, logprobs_BT, truncated_B
        return RolloutGroups(prompts, group_size, *arrays, self.version, block)

    def _request(self, prompt: Prompt, sample: int, sampling: SamplingParams) -> dict[str, Any]:
        draws = {
            "seed": sampling.seed,
            "purpose": sampling.purpose,
            "step": sampling.step,
            "prompt": prompt.index,
            "sample": sample,
            "max_new_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "allowed": self.allowed,
        }
        params = {
            "max_tokens": sampling.max_new_tokens,
            "temperature": 0.0,  # the processor leaves one token; never a seed: on a processor it ends the server
            "logprobs": 0,
            "stop_token_ids": self.end_ids,
            "ignore_eos": True,  # what ends a response the task says, not the model's description
            "detokenize": False,
            "extra_args": {"draws": draws},
        }
        return {"token_ids": list(prompt.tokens), "sampling_params": params}

    def _ask_all(self, requests: list[dict[str, Any]], server_B: list[int]) -> list[Any]:
        """The replies, in order. Raises ServerLost as soon as one fails, or when none comes for too long."""
        replies: list[Any] = [None] * len(requests)
        answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        threads = []
        for i, server in enumerate(self.servers):
            todo = _Shared(b for b in range(len(requests)) if server_B[b] == i)
            threads += [
                threading.Thread(target=_ask, args=(server, todo, requests, answers), daemon=True)
                for _ in range(min(self.settings.max_num_seqs, server_B.count(i)))
            ]
        for thread in threads:
            thread.start()
        try:
            for _ in requests:
                begun = time.monotonic()
                patience = max(self.settings.reply_seconds, MORE_PATIENCE * self.longest_wait)
                try:
                    b, reply = answers.get(timeout=patience)
                except queue.Empty:
                    log = self.servers[0].last_lines()
                    raise ServerLost(f"the vLLM server has not answered for {patience:.3g} s{log}") from None
                if isinstance(reply, Exception):
                    raise reply
                replies[b] = reply
                self.longest_wait = max(self.longest_wait, time.monotonic() - begun)
        except BaseException:
            self._kill_servers()  # ends the threads, too: their connections break
            raise
        finally:
            for thread in threads:
                thread.join()
        return replies

    def _read(self, reply: Any, max_new_tokens: int) -> tuple[list[int], list[float]]:
        """(tokens, log-probs) of one reply. Raises RuntimeError where other weights have sampled it."""
        (choice,) = reply["choices"]
        tokens, logprobs = choice["token_ids"], [entry["logprob"] for entry in choice["logprobs"]["content"]]
        versions = {str(span["version"]) for span in choice.get("weight_versions") or [{"version": "none said"}]}
        if versions != {str(self.version)}:
            said = ", ".join(sorted(versions))
            raise RuntimeError(f"the sampler does not have the trainer's weights (version {said}, not {self.version})")
        ended = bool(tokens) and tokens[-1] in self.end_ids
        if not tokens or len(logprobs) != len(tokens) or not (ended or len(tokens) == max_new_tokens):
            raise RuntimeError(
                f"the vLLM server ended a response after {len(tokens)} of {max_new_tokens} tokens "
                f"({choice['finish_reason']}), with {len(logprobs)} log-probs and no end token"
            )
        return tokens, logprobs


class _Shared:
    """An iterator that several threads take from."""

    def __init__(self, items: Iterator[int]):
        self.items, self.lock = iter(list(items)), threading.Lock()

    def __next__(self) -> int:
        with self.lock:
            return next(self.items)

    def __iter__(self) -> _Shared:
        return self


def _ask(server: Server, todo: _Shared, requests: list[dict[str, Any]], answers: queue.SimpleQueue) -> None:
    """One connection: ask for one response after the other."""
    with contextlib.closing(server.connect(None)) as connection:
        for b in todo:
            try:
                status, told = server.ask(connection, "POST", "/inference/v1/generate", requests[b])
                if status == 200:
                    answers.put((b, json.loads(told)))
                    continue
                error: Exception = RuntimeError(f"the vLLM server refuses a request: {status} {told[:300]!r}")
                if status >= 500:
                    error = ServerLost(f"the vLLM server answers with {status} {told[:200]!r}{server.last_lines()}")
            except (OSError, http.client.HTTPException, ValueError) as lost:
                error = ServerLost(f"the vLLM server broke off ({lost!r}){server.last_lines()}")
            answers.put((b, error))
            return


def _ranges(allowed_V: np.ndarray) -> list[list[int]]:
    """The allowed ids as ranges [first, end): a vocabulary of 150,000 in each request would be most of the traffic."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(allowed_V, dtype=np.int8), [0]])))
    return [[int(first), int(end)] for first, end in edges.reshape(-1, 2)]


def _changes(policy) -> list[int]:
    """Grows with every change that is made to the weights in place."""
    return [parameter._version for parameter in policy.parameters()]


def _save(tensors: dict[str, torch.Tensor], folder: Path, number: int) -> dict[str, torch.Tensor]:
    from safetensors.torch import save_file

    needed, free = sum(tensor.nbytes for tensor in tensors.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise RuntimeError(f"{folder} has {free / 1e9:.3g} GB free, and the weights need {needed / 1e9:.3g}; free some")
    save_file(tensors, folder / f"weights-{number:05d}.safetensors")
    return {}
