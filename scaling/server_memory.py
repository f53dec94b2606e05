"""Memory of a vLLM server on GPUs, by formula, and what cannot be served at all. No torch.

A server takes the share `resources.vllm.memory_share` of each of its tensor_parallel GPUs (vLLM's
gpu_memory_utilization), of N parameters in b bytes for

    weights      b N / tensor_parallel
    working      CUDA context, activations and CUDA graphs, WORKING; 22 bytes a logit of max_num_seqs drawn tokens
    cache        the rest: keys and values, whose heads are spread over the GPUs, or copied where there are fewer heads

vLLM starts only where the cache holds one sequence of its max-model-len: the model's positions, unless the arguments
say less.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from scaling.compute import Shape
from scaling.gpus import CONTEXT, GPUS, SAMPLING_BYTES
from scaling.schema import InputError

WORKING = CONTEXT + 2e9  # bytes
HOST_BYTES = 2e9  # of memory on the host for each process: one of the server, one for each of its GPUs


def bytes_each(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else 4


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value that the last `--name value` or `--name=value` of a server's arguments gives."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    found = [value for word, value in itertools.pairwise(words) if word.replace("_", "-") == f"--{name}"]
    return found[-1] if found else None


def cache_bytes(shape: Shape, dtype: str) -> int:
    """Keys and values of one token in all layers."""
    return 2 * shape.layers * shape.key_value_width * bytes_each(dtype)


def server_memory(shape: Shape, dtype: str, settings: Any, gpu: str) -> dict[str, float]:
    """Bytes on each of a server's GPUs by part; `tokens` is what the cache of the whole server holds, below 0 where
    the share does not even hold the weights. settings: resources.vllm."""
    tensor_parallel = settings.tensor_parallel
    weights = bytes_each(dtype) * shape.num_params / tensor_parallel
    working = WORKING + SAMPLING_BYTES * settings.max_num_seqs * shape.vocabulary
    total = settings.memory_share * GPUS[gpu].memory
    cache = total - weights - working
    a_token = cache_bytes(shape, dtype) / min(tensor_parallel, shape.key_value_heads)
    return {"weights": weights, "working": working, "cache": cache, "total": total, "tokens": cache / a_token}


def _divides(shape: Shape, gpus: int) -> bool:
    """Whether so many GPUs share the heads evenly; each key-value head may also lie on several."""
    fewer, more = sorted((gpus, shape.key_value_heads))
    return shape.heads % gpus == 0 and more % fewer == 0


def check_gpu_servers(shape: Shape, dtype: str, resources: Any, positions: int | None) -> None:
    """Raise InputError for servers that would not start on the GPUs that `resources` asks for.

    positions: that the model has, null where they are not known.
    """
    settings, gpu = resources.vllm, resources.gpu_type
    gpus, parallel = settings.servers * settings.tensor_parallel, settings.tensor_parallel
    if gpus > resources.gpus:
        raise InputError(
            f"resources.vllm: servers {settings.servers} x tensor_parallel {parallel} is more than the "
            f"{resources.gpus} GPUs of a node (resources.gpus); ask for fewer."
        )
    fitting = [n for n in range(1, resources.gpus + 1) if _divides(shape, n)]
    if parallel not in fitting:
        raise InputError(
            f"resources.vllm.tensor_parallel {parallel} does not divide the model's {shape.heads} attention and "
            f"{shape.key_value_heads} key-value heads; legal are {', '.join(map(str, fitting))}."
        )
    longest = option(settings.arguments, "max-model-len")
    longest = int(longest) if longest and longest.isdecimal() else positions or 1
    parts = server_memory(shape, dtype, settings, gpu)
    if parts["tokens"] < longest:
        need = parts["weights"] + parts["working"] + longest * (parts["cache"] / parts["tokens"])
        raise InputError(
            f"resources.vllm: a server needs {need / 1e9:.1f} GB on each of its {parallel} GPUs (weights "
            f"{parts['weights'] / 1e9:.1f}, one sequence of {longest:,} tokens), and memory_share "
            f"{settings.memory_share:g} of {gpu.upper()} is {parts['total'] / 1e9:.1f}; raise memory_share or "
            "tensor_parallel, or give a smaller --max-model-len in resources.vllm.arguments."
        )
    pushed = bytes_each(dtype) * shape.num_params
    if resources.memory_gb is not None and pushed > resources.memory_gb * 1e9:
        raise InputError(
            f"resources.memory_gb {resources.memory_gb:g} does not hold the {pushed / 1e9:.1f} GB of weights that a "
            "push puts into /dev/shm; ask for more."
        )
