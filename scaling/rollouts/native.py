"""Rollouts with a minimal decoder for dense Qwen2 models: what small studies sample with.

Against the oracle (hf.py): queries, keys and values come from one product, the rotary embedding is one complex product,
the cache is written in place, the prompt is run once per group, finished sequences leave the batch. What does not
depend on the token (norm weights, the scale of attention) is multiplied into the matrices when weights are loaded.

Dimension suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from scaling.forwards import check_dense_qwen2, left_pad
from scaling.logprobs import allowed_log_softmax, draw_columns, ends
from scaling.policy import is_sharded, whole_copy
from scaling.rollout_types import Prompt, RolloutEngine, RolloutGroups, SamplingParams
from scaling.schema import InputError

KEEP_SHARE = 0.9  # finished sequences are dropped when fewer than this share of the batch is still running


@dataclasses.dataclass
class Layer:
    """Weights of one layer for x @ weight."""

    qkv: torch.Tensor
    qkv_bias: torch.Tensor
    attention_out: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


@dataclasses.dataclass
class Running:
    """The sequences in the batch. Their order changes when finished ones are dropped; `row_B` says which is which."""

    row_B: torch.Tensor  # int64, row of the flat batch
    pad_B: torch.Tensor  # int64, unused columns of the cache before the prompt
    ended_B: torch.Tensor  # bool, finished but not dropped yet
    mask_BKT: torch.Tensor  # 0 for columns of the cache that hold a token, -inf for the others
    caches_BKTE: list[torch.Tensor]  # keys and values of each layer in turn

    def drop_ended(self) -> torch.Tensor:
        """Shrink the batch to the running sequences: those at its end move into the gaps of the finished ones.

        Returns where each remaining sequence was.
        """
        running = len(self.ended_B) - int(self.ended_B.sum())
        gaps = self.ended_B[:running].nonzero()[:, 0]
        movers = running + (~self.ended_B[running:]).nonzero()[:, 0]
        keep_B = torch.arange(running, device=gaps.device).index_copy_(0, gaps, movers)
        self.row_B, self.pad_B, self.ended_B = self.row_B[keep_B], self.pad_B[keep_B], self.ended_B[keep_B]
        self.mask_BKT = self.mask_BKT[keep_B]
        for cache_BKTE in self.caches_BKTE:  # large: only what moves is copied
            cache_BKTE.index_copy_(0, gaps, cache_BKTE.index_select(0, movers))
        self.caches_BKTE = [cache_BKTE[:running] for cache_BKTE in self.caches_BKTE]
        return keep_B


class Engine(RolloutEngine):
    """Keeps fused copies of the weights, so that they change only by `load_weights`."""

    EXACT_DRAWS, ANY_MODEL = True, False

    def __init__(
        self, *, allowed_V: np.ndarray, end_ids: Sequence[int], dtype: str = "float32", device: str | None = None
    ):
        self.device = device
        self.allowed_ids_A = torch.from_numpy(np.flatnonzero(allowed_V))
        self.end_ids = torch.tensor(sorted(end_ids))
        if dtype != "float32":
            raise InputError(f"engine native computes in float32, not {dtype}; set resources.engine: hf.")
        self.layers: list[Layer] = []

    @torch.no_grad()
    def load_weights(self, policy, version: int) -> None:
        check_dense_qwen2(policy)
        elsewhere = self.device is not None and torch.device(self.device) != policy.device
        if elsewhere or is_sharded(policy):
            policy = whole_copy(policy, self.device)
        config, model = policy.config, policy.model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = model.layers[0].self_attn.head_dim
        self.layers = [_fuse(layer, self.head_dim) for layer in model.layers]
        self.allowed_ids_A, self.end_ids = self.allowed_ids_A.to(policy.device), self.end_ids.to(policy.device)
        self.embedding_VD = model.embed_tokens.weight.detach().clone()
        self.head_DA = (policy.lm_head.weight[self.allowed_ids_A] * model.norm.weight).T.contiguous()
        self.inverse_frequency_C = model.rotary_emb.inv_freq.to(policy.device, torch.float32)
        self.mean_D1 = self.embedding_VD.new_full((config.hidden_size, 1), 1 / config.hidden_size)
        self.epsilon = self.embedding_VD.new_tensor(config.rms_norm_eps)
        self.version = version

    @torch.inference_mode()
    def generate(self, prompts: list[Prompt], group_size: int, sampling: SamplingParams) -> RolloutGroups:
        """Sample group_size responses to each prompt; one uniform per (sample, position) decides each token."""
        assert self.layers, "load_weights comes first"
        device = self.embedding_VD.device
        longest, batch = sampling.max_new_tokens, len(prompts) * group_size
        uniforms_BT = np.concatenate([sampling.uniforms_GT(prompt.index, group_size) for prompt in prompts])
        uniforms_TB = torch.from_numpy(uniforms_BT.T.copy()).to(device)
        tokens_BT = np.zeros((batch, longest), dtype=np.int64)
        logprobs_BT = np.zeros((batch, longest), dtype=np.float32)

        prompt_tokens_PT, pad_P = (torch.from_numpy(array).to(device) for array in left_pad(prompts))
        width = prompt_tokens_PT.shape[1]
        angles_TC = torch.arange(width + longest, device=device)[:, None] * self.inverse_frequency_C
        turns_TC = torch.polar(torch.ones_like(angles_TC), angles_TC)
        logits_BA, running = self._run_prompts(prompt_tokens_PT, pad_P, group_size, turns_TC)
        for t in range(longest):
            logprobs_BA = allowed_log_softmax(logits_BA, self.allowed_ids_A, sampling.temperature)
            drawn_B = draw_columns(logprobs_BA, uniforms_TB[t].index_select(0, running.row_B))
            token_B = self.allowed_ids_A[drawn_B]
            rows = running.row_B.cpu().numpy()
            tokens_BT[rows, t] = token_B.cpu().numpy()
            logprobs_BT[rows, t] = logprobs_BA.gather(1, drawn_B[:, None])[:, 0].cpu().numpy()
            running.ended_B |= ends(token_B, self.end_ids)
            left = len(rows) - int(running.ended_B.sum())
            if left == 0 or t + 1 == longest:
                break
            if left < KEEP_SHARE * len(rows):
                token_B = token_B[running.drop_ended()]
            logits_BA = self._run_tokens(token_B, width + t, running, turns_TC)

        # A finished sequence samples on until it is dropped.
        return RolloutGroups.cut_at_ends(
            prompts, group_size, tokens_BT, logprobs_BT, self.end_ids.cpu().numpy(), self.version
        )

    def _run_prompts(
        self, tokens_PT: torch.Tensor, pad_P: torch.Tensor, group_size: int, turns_TC: torch.Tensor
    ) -> tuple[torch.Tensor, Running]:
        """Run each prompt once; returns the logits (B, A) of the first token and the batch with its cache filled."""
        (prompts, width), columns = tokens_PT.shape, len(turns_TC)
        shape = (prompts, group_size, self.kv_heads, columns, self.head_dim)
        caches_PGKTE = [self.embedding_VD.new_empty(shape) for _ in range(2 * len(self.layers))]
        for cache_PGKTE in caches_PGKTE:
            cache_PGKTE[..., : self._columns_read(width, columns), :] = 0
        column_T = torch.arange(columns, device=tokens_PT.device)
        prompt_T = column_T[:width]
        held_PT = prompt_T >= pad_P[:, None]
        # A query sees the columns up to its own; in the padding itself, to have something to divide by.
        seen_PTT = held_PT[:, None] & (prompt_T <= prompt_T[:, None]) | (prompt_T == prompt_T[:, None])

        def attend(i: int, *qkv_MHE: torch.Tensor) -> torch.Tensor:
            q_PHTE, k_PKTE, v_PKTE = (x.unflatten(0, (prompts, width)).transpose(1, 2) for x in qkv_MHE)
            caches_PGKTE[2 * i][..., :width, :] = k_PKTE[:, None]
            caches_PGKTE[2 * i + 1][..., :width, :] = v_PKTE[:, None]
            grouped = self.heads != self.kv_heads
            out_PHTE = F.scaled_dot_product_attention(
                q_PHTE, k_PKTE, v_PKTE, seen_PTT[:, None], scale=1.0, enable_gqa=grouped
            )
            return out_PHTE.transpose(1, 2).flatten(0, 1)

        position_M = (prompt_T - pad_P[:, None]).clamp(min=0).flatten()
        x_MD = self._layers(tokens_PT.flatten(), turns_TC[position_M], attend)
        logits_PA = self._logits(x_MD.unflatten(0, (prompts, width))[:, -1])

        free_PT = torch.cat([~held_PT, held_PT.new_ones(prompts, columns - width)], dim=1)
        mask_PT = self.embedding_VD.new_zeros(free_PT.shape).masked_fill_(free_PT, -torch.inf)
        pad_B = pad_P.repeat_interleave(group_size)
        running = Running(
            row_B=torch.arange(len(pad_B), device=pad_B.device),
            pad_B=pad_B,
            ended_B=torch.zeros_like(pad_B, dtype=torch.bool),
            mask_BKT=mask_PT.repeat_interleave(group_size, 0)[:, None].repeat(1, self.kv_heads, 1),
            caches_BKTE=[cache_PGKTE.flatten(0, 1) for cache_PGKTE in caches_PGKTE],
        )
        return logits_PA.repeat_interleave(group_size, 0), running

    def _run_tokens(self, token_B: torch.Tensor, column: int, running: Running, turns_TC: torch.Tensor) -> torch.Tensor:
        """Run one token of each sequence, its keys and values going into `column`; returns logits (B, A)."""
        used = self._columns_read(column + 1, len(turns_TC))
        running.mask_BKT[..., column] = 0
        mask = running.mask_BKT[..., :used].flatten(0, 1)[:, None]  # (B x K, 1, T), as bmm takes batches

        def attend(i: int, q_BHE: torch.Tensor, k_BKE: torch.Tensor, v_BKE: torch.Tensor) -> torch.Tensor:
            keys_BKTE, values_BKTE = running.caches_BKTE[2 * i : 2 * i + 2]
            keys_BKTE[:, :, column] = k_BKE
            values_BKTE[:, :, column] = v_BKE
            queries = q_BHE.reshape(-1, self.heads // self.kv_heads, self.head_dim)
            scores = torch.baddbmm(mask, queries, keys_BKTE[:, :, :used].flatten(0, 1).mT)
            return torch.bmm(scores.softmax(-1), values_BKTE[:, :, :used].flatten(0, 1)).view_as(q_BHE)

        return self._logits(self._layers(token_B, turns_TC[column - running.pad_B], attend))

    def _layers(self, token_M: torch.Tensor, turns_MC: torch.Tensor, attend: Callable) -> torch.Tensor:
        """Hidden states (M, D) after the last layer; attend(layer, q, k, v) -> (M, H, E) says who sees whom."""
        x_MD = F.embedding(token_M, self.embedding_VD)
        for i, layer in enumerate(self.layers):
            qkv = torch.addmm(layer.qkv_bias, self._normalize(x_MD), layer.qkv).unflatten(1, (-1, self.head_dim))
            turning, values = qkv.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
            turned = torch.view_as_complex(turning.float().unflatten(2, (-1, 2))) * turns_MC[:, None]
            turned = torch.view_as_real(turned).flatten(2).type_as(values)
            queries, keys = turned.split([self.heads, self.kv_heads], dim=1)
            x_MD = torch.addmm(x_MD, attend(i, queries, keys, values).flatten(1), layer.attention_out)
            gate, up = (self._normalize(x_MD) @ layer.gate_up).chunk(2, dim=1)
            x_MD = torch.addmm(x_MD, F.silu(gate).mul_(up), layer.down)
        return x_MD

    def _normalize(self, x_MD: torch.Tensor) -> torch.Tensor:
        """RMS norm without its weight; a product with a column is the fastest mean over a narrow dimension."""
        return x_MD * torch.addmm(self.epsilon, x_MD * x_MD, self.mean_D1).rsqrt_()

    def _logits(self, x_MD: torch.Tensor) -> torch.Tensor:
        return self._normalize(x_MD) @ self.head_DA

    def _columns_read(self, used: int, columns: int) -> int:
        """Columns of the cache that a step reads: at least so many that torch leaves the product to the BLAS.

        Below 400 multiplications torch.bmm takes a kernel of its own, which is up to 4 times slower.
        """
        return min(columns, max(used, 400 // self.head_dim + 1))


def _fuse(layer, head_dim: int) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    # The rotary embedding turns the pair (i, i + head_dim / 2). With the two side by side it is a complex product, and
    # scores do not change when queries and keys are permuted alike.
    pairs_E = torch.arange(head_dim).view(2, -1).T.flatten()

    def by_pairs(projection: torch.Tensor) -> torch.Tensor:
        return projection.unflatten(0, (-1, head_dim))[:, pairs_E].flatten(0, 1)

    scale = head_dim**-0.5
    qkv = [by_pairs(attention.q_proj.weight) * scale, by_pairs(attention.k_proj.weight), attention.v_proj.weight]
    bias = [by_pairs(attention.q_proj.bias) * scale, by_pairs(attention.k_proj.bias), attention.v_proj.bias]
    gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
    return Layer(
        qkv=(torch.cat(qkv) * layer.input_layernorm.weight).T.contiguous(),
        qkv_bias=torch.cat(bias),
        attention_out=attention.o_proj.weight.T.contiguous(),
        gate_up=(gate_up * layer.post_attention_layernorm.weight).T.contiguous(),
        down=mlp.down_proj.weight.T.contiguous(),
    )
