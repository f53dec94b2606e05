"""What runs inside a vLLM server: the draws, the weights, and the key at its door.

Copied under another name into a folder that the server's Python imports from, which need not have this package: only
the standard library, numpy, torch and vLLM are imported. Dimension suffixes: see `scaling.rollout_types`.

A request brings `draws` in its `extra_args`; all numbers together decide each of its tokens, so that a response
does not depend on the company it is sampled in, on preemption, or on the server having been started again.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import contextlib
import hmac
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

FirstInterface: Any = object
SecondInterface: Any = object
with contextlib.suppress(ImportError):  # a vLLM may have one of them only
    from vllm.v1.sample.logits_processor import LogitsProcessor as FirstInterface
with contextlib.suppress(ImportError):
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as SecondInterface

PURPOSES = {"prompts": 1, "rollout": 2, "evaluation": 3, "demonstrations": 4, "init": 5, "passes": 6, "samples": 7}
KEYS = ("seed", "purpose", "step", "prompt", "sample", "max_new_tokens", "temperature", "allowed")


def uniforms_T(draws: dict[str, Any]) -> np.ndarray:
    """The uniforms of one sample: row `sample` of scaling's SamplingParams.uniforms_GT."""
    seed = np.random.SeedSequence([draws["seed"], PURPOSES[draws["purpose"]], draws["step"], draws["prompt"]])
    bits = np.random.PCG64(seed).advance(draws["sample"] * draws["max_new_tokens"])  # one step for each float64
    return np.random.Generator(bits).random(draws["max_new_tokens"])


class Row:
    """One request: its uniforms, its temperature, and the ids that it may be given, as ranges [first, end)."""

    def __init__(self, draws: dict[str, Any]):
        self.uniforms_T, self.temperature = uniforms_T(draws), float(draws["temperature"])
        self.allowed = tuple((int(first), int(end)) for first, end in draws["allowed"])


class Drawing:
    """The arithmetic that both interfaces share: that of scaling's allowed_log_softmax and draw_columns."""

    def __init__(self) -> None:
        self.ids: dict[tuple, torch.Tensor] = {}

    def draw(self, logits_BV: torch.Tensor, rows: list[tuple[int, Row, int]]) -> torch.Tensor:
        """Leave in each row (its number, its request, the position of its token) only the token that is drawn.

        All other logits are -inf, and the token's own is its log-prob: over the allowed ids, at the temperature. Taking
        the largest then gives the token, and the processed logits tell the log-prob.
        """
        alike: dict[tuple, list[tuple[int, float]]] = {}
        for b, row, position in rows:
            alike.setdefault((row.temperature, row.allowed), []).append((b, row.uniforms_T[position]))
        for (temperature, allowed), drawn in alike.items():
            device = logits_BV.device
            at_R = torch.tensor([b for b, _ in drawn], device=device)
            uniforms_R = torch.tensor([uniform for _, uniform in drawn], dtype=torch.float64, device=device)
            ids_A = self._allowed(allowed, device)
            logits_RV = logits_BV.index_select(0, at_R)
            logits_RA = logits_RV.index_select(1, ids_A) if len(ids_A) < logits_RV.shape[1] else logits_RV
            logprobs_RA = torch.log_softmax(logits_RA.float() / temperature, dim=-1)
            cumulative_RA = logprobs_RA.exp().cumsum(-1, dtype=torch.float64)
            total_R = cumulative_RA[:, -1]
            column_R = torch.searchsorted(cumulative_RA, (uniforms_R * total_R)[:, None], right=True)[:, 0]
            chosen_R = logprobs_RA.gather(1, column_R[:, None])[:, 0].to(logits_BV.dtype)
            logits_BV[at_R] = -torch.inf
            logits_BV[at_R, ids_A[column_R]] = chosen_R
        return logits_BV

    def _allowed(self, allowed: tuple[tuple[int, int], ...], device: torch.device) -> torch.Tensor:
        if allowed not in self.ids:
            self.ids[allowed] = torch.cat([torch.arange(first, end) for first, end in allowed]).to(device)
        return self.ids[allowed]


def draws_of(sampling_params: Any) -> dict[str, Any] | None:
    return (sampling_params.extra_args or {}).get("draws")


def check(sampling_params: Any) -> None:
    """A request that lacks one of the numbers is refused with words, before it reaches the sampler."""
    draws = draws_of(sampling_params)
    if draws is not None and (not isinstance(draws, dict) or set(draws) != set(KEYS)):
        raise ValueError(f"draws wants {', '.join(KEYS)}")


class Draws(FirstInterface):
    """For the first model runner: it moves requests about in the batch, and shows their tokens so far."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
        self.rows: dict[int, tuple[Row, list[int]]] = {}
        self.drawing = Drawing()

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        check(sampling_params)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: Any) -> None:
        if batch_update is None:
            return
        for index in batch_update.removed:
            self.rows.pop(index, None)
        for index, params, _, tokens in batch_update.added:
            self.rows.pop(index, None)
            if (draws := draws_of(params)) is not None:
                self.rows[index] = (Row(draws), tokens)
        for first, second, direction in batch_update.moved:
            one, other = self.rows.pop(first, None), self.rows.pop(second, None)
            if one is not None:
                self.rows[second] = one
            if other is not None and direction.name == "SWAP":
                self.rows[first] = other

    def apply(self, logits_BV: torch.Tensor) -> torch.Tensor:
        # The list grows by one for each token, also where the newest is not known yet.
        return self.drawing.draw(logits_BV, [(b, row, len(tokens)) for b, (row, tokens) in self.rows.items()])


class DrawsV2(SecondInterface):
    """For the second model runner: a request keeps its slot, and each step says which row is whose."""

    def __init__(self, vllm_config: Any, req_states: Any):
        self.rows: dict[int, Row] = {}
        self.prompt_len = req_states.prompt_len.np
        self.drawing = Drawing()

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        check(sampling_params)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        self.rows.pop(req_idx, None)
        if (draws := draws_of(sampling_params)) is not None:
            self.rows[req_idx] = Row(draws)
        return req_idx in self.rows

    def apply(self, logits: torch.Tensor, ctx: Any) -> torch.Tensor:
        if len(logits) != len(ctx.idx_mapping_np):
            raise RuntimeError("speculative decoding asks for several tokens at once: draws are made one by one")
        rows = []
        for b, (slot, seen) in enumerate(zip(ctx.idx_mapping_np, ctx.seq_lens_upper_bound_np, strict=True)):
            position = int(seen) - int(self.prompt_len[slot])
            if slot in self.rows and position >= 0:  # below: a part of a long prompt, which samples nothing
                rows.append((b, self.rows[slot], position))
        return self.drawing.draw(logits, rows)


class Weights:
    """Methods of every worker, called by /collective_rpc."""

    def take_weights(self, folder: str, repair: bool = True) -> dict[str, Any]:
        """Load what the trainer has pushed. Raises where a weight of the model was in none of the files.

        repair: on a processor the output head keeps a packed copy of a tied table, which loading does not renew. A test
        leaves it out to see that the stale head is noticed.
        """
        worker: Any = self
        model = worker.model_runner.get_model()
        loaded: set[str] = set()
        load = model.load_weights

        def load_and_note(weights: Any) -> Any:
            loaded.update(names := load(weights))
            return names

        model.load_weights = load_and_note
        try:
            worker.reload_weights(weights_iterator=tensors(Path(folder)))
        finally:
            del model.load_weights
        if missing := {name for name, _ in model.named_parameters()} - loaded:
            raise RuntimeError(
                f"the push left out {len(missing)} weights of the model: {', '.join(sorted(missing)[:5])}"
            )
        return {"weights": len(loaded), "repaired": repair and tie_head(model)}


def tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  not a dictionary
                yield name, file.get_tensor(name)


def tie_head(model: torch.nn.Module) -> bool:
    """Let an output head that shares the embedding table take the table's new values."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

    if not getattr(getattr(model, "config", None), "tie_word_embeddings", False):
        return False
    tables = [m for m in model.modules() if isinstance(m, VocabParallelEmbedding) and not isinstance(m, ParallelLMHead)]
    heads: list[Any] = [module for module in model.modules() if isinstance(module, ParallelLMHead)]
    for head in heads:
        head.weight = tables[0].weight
        head.quant_method.process_weights_after_loading(head)
    return bool(heads)


class Key:
    """Answers nobody without the run's own key: vLLM's --api-key leaves the paths by which weights come in open."""

    def __init__(self, app: Any):
        self.app, self.wanted = app, f"Bearer {os.environ['SCALING_VLLM_KEY']}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        given = dict(scope.get("headers") or ()).get(b"authorization", b"")
        if hmac.compare_digest(given, self.wanted):
            return await self.app(scope, receive, send)
        if scope["type"] == "http":
            body = json.dumps({"error": "this server belongs to one run"}).encode()
            await send(
                {"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"application/json")]}
            )
            await send({"type": "http.response.body", "body": body})
        return None
