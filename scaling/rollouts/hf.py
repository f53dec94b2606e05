"""Rollouts with any transformers causal LM and its own cache: the oracle for the other engines.

Dimension suffixes: see `scaling.rollout_types`. Of the flat batch (B) only the rows still running are computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from transformers import DynamicCache

from scaling.forwards import left_pad
from scaling.logprobs import allowed_log_softmax, draw_columns, ends
from scaling.policy import copy_weights, whole_copy
from scaling.rollout_types import Prompt, RolloutEngine, RolloutGroups, SamplingParams


class Engine(RolloutEngine):
    """Keeps a copy of the policy, so that weights change only by `load_weights`."""

    EXACT_DRAWS = ANY_MODEL = True

    def __init__(
        self, *, allowed_V: np.ndarray, end_ids: Sequence[int], dtype: str = "float32", device: str | None = None
    ):
        self.device = device
        self.allowed_ids_A = torch.from_numpy(np.flatnonzero(allowed_V))
        self.end_ids = torch.tensor(sorted(end_ids))
        self.dtype = dtype
        self.model = None
        self.version: int | None = None  # -1 is a version: weights before the first step

    def load_weights(self, policy, version: int) -> None:
        if self.model is None:
            self.model = whole_copy(policy, self.device, self.dtype)
            # Renamed in transformers 5.24.
            names = inspect.signature(self.model.forward).parameters
            self.cache_argument = "cache" if "cache" in names else "past_key_values"
        else:
            copy_weights(policy, self.model)
        self.version = version

    @torch.inference_mode()
    def generate(self, prompts: list[Prompt], group_size: int, sampling: SamplingParams) -> RolloutGroups:
        """Sample group_size responses to each prompt; one uniform per (sample, position) decides each token."""
        model = self.model
        assert model is not None and self.version is not None, "load_weights comes first"
        device = model.device
        allowed_ids_A, end_ids = self.allowed_ids_A.to(device), self.end_ids.to(device)
        uniforms_BT = torch.from_numpy(
            np.concatenate([sampling.uniforms_GT(prompt.index, group_size) for prompt in prompts])
        ).to(device)
        batch, longest = uniforms_BT.shape
        tokens_BT = torch.zeros((batch, longest), dtype=torch.int64, device=device)
        logprobs_BT = torch.zeros((batch, longest), dtype=torch.float32, device=device)
        lengths_B = torch.full((batch,), longest, device=device)
        truncated_B = torch.ones(batch, dtype=torch.bool, device=device)

        prompt_tokens_PT, pad_P = (torch.from_numpy(array).to(device) for array in left_pad(prompts))
        width = prompt_tokens_PT.shape[1]
        columns_T = torch.arange(width + longest, device=device)
        cache = DynamicCache(config=model.config)
        step = {self.cache_argument: cache, "use_cache": True, "logits_to_keep": 1}
        logits_PV = model(
            input_ids=prompt_tokens_PT,
            attention_mask=(columns_T[:width] >= pad_P[:, None]).long(),
            position_ids=(columns_T[:width] - pad_P[:, None]).clamp(min=0),
            **step,
        ).logits[:, -1]
        cache.batch_repeat_interleave(group_size)
        logits_BV = logits_PV.repeat_interleave(group_size, dim=0)
        pad_B = pad_P.repeat_interleave(group_size)

        rows_B = torch.arange(batch, device=device)  # the sequences still running
        for t in range(longest):
            logprobs_BA = allowed_log_softmax(logits_BV, allowed_ids_A, sampling.temperature)
            drawn_B = draw_columns(logprobs_BA, uniforms_BT[rows_B, t])
            token_B = allowed_ids_A[drawn_B]
            tokens_BT[rows_B, t] = token_B
            logprobs_BT[rows_B, t] = logprobs_BA.gather(1, drawn_B[:, None])[:, 0]
            ended_B = ends(token_B, end_ids)
            if ended_B.any():
                lengths_B[rows_B[ended_B]] = t + 1
                truncated_B[rows_B[ended_B]] = False
                running_B = (~ended_B).nonzero()[:, 0]
                rows_B, pad_B, token_B = rows_B[running_B], pad_B[running_B], token_B[running_B]
                if len(rows_B) == 0:
                    break
                cache.batch_select_indices(running_B)
            if t + 1 < longest:
                logits_BV = model(
                    input_ids=token_B[:, None],
                    attention_mask=(columns_T[: width + t + 1] >= pad_B[:, None]).long(),
                    position_ids=(width + t - pad_B)[:, None],
                    **step,
                ).logits[:, -1]

        longest = int(lengths_B.max())
        return RolloutGroups(
            prompts=prompts,
            group_size=group_size,
            tokens_BT=tokens_BT[:, :longest].cpu().numpy(),
            lengths_B=lengths_B.cpu().numpy(),
            logprobs_BT=logprobs_BT[:, :longest].cpu().numpy(),
            truncated_B=truncated_B.cpu().numpy(),
            weight_version=self.version,
        )
