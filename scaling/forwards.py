"""Forward passes for the log-probs of responses: plain (the oracle), packed, and shared prefix.

Each returns the states of the real response tokens and the output head that turns them into logits.

Dimension suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from scaling.rollout_types import Prompt
from scaling.schema import InputError

# Kinds of model whose logits are the output head's product and nothing more, and which hand attention what it is given.
PLAIN_HEADS = ("qwen2", "qwen3", "llama", "mistral")


def check_dense_qwen2(model: PreTrainedModel) -> None:
    """Raise InputError unless the hand-written forward passes compute this model: dense Qwen2, full attention."""
    config = model.config
    if config.model_type != "qwen2":
        reason = f"model_type {config.model_type!r}"
    elif any(kind != "full_attention" for kind in config.layer_types):
        reason = "sliding attention"
    elif config.rope_parameters["rope_type"] != "default" or config.hidden_act != "silu":
        reason = f"rope_type {config.rope_parameters['rope_type']!r} and hidden_act {config.hidden_act!r}"
    else:
        return
    raise InputError(
        f"the model has {reason}, but engine native and forward shared_prefix compute qwen2 with full attention, "
        f"rope_type 'default' and hidden_act 'silu' only; set resources.engine: hf and resources.forward: plain."
    )


def left_pad(prompts: Sequence[Prompt]) -> tuple[np.ndarray, np.ndarray]:
    """(tokens_PT, pad_P): prompts flush right, zeros before them; pad_P says how many. Lengths decide, never ids."""
    lengths_P = np.array([len(prompt.tokens) for prompt in prompts])
    longest = lengths_P.max()
    tokens_PT = np.zeros((len(prompts), longest), dtype=np.int64)
    for row_T, prompt in zip(tokens_PT, prompts, strict=True):
        row_T[longest - len(prompt.tokens) :] = prompt.tokens
    return tokens_PT, longest - lengths_P


# States (N, D) of the real response tokens, and the function that makes their logits (N, V) of them.
Scored = tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]


def _states(model: PreTrainedModel, **inputs: Any) -> Scored:
    """The states (B, T, D) that an ordinary forward pass gives to its output head, and the head.

    Where the head may be more than a matrix the states are the logits themselves, all of them at once. The model's
    own forward is called in any case: what is sharded is gathered by it.
    """
    if model.config.model_type not in PLAIN_HEADS:
        return model(use_cache=False, **inputs).logits, lambda logits: logits
    head: Any = model.get_output_embeddings()
    caught = []

    def catch(_, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        caught.append(arguments[0])
        return (arguments[0][:, :0],)

    hook = head.register_forward_pre_hook(catch)
    try:
        model(use_cache=False, **inputs)
    finally:
        hook.remove()
    return caught[0], head


def _plain(model: PreTrainedModel, prompts_B: list[Prompt], tokens_BT: np.ndarray, lengths_B: np.ndarray) -> Scored:
    """By an ordinary padded forward pass: the oracle.

    Prompts are padded on the left and responses on the right, so that every response starts in the same column.
    """
    prompt_tokens_BT, pad_B = left_pad(prompts_B)
    width = prompt_tokens_BT.shape[1]
    inputs_BT = np.concatenate([prompt_tokens_BT, tokens_BT[:, :-1]], axis=1)  # nothing follows the last token
    columns_T = np.arange(inputs_BT.shape[1])
    mask_BT = (columns_T >= pad_B[:, None]) & (columns_T < (width + lengths_B)[:, None])
    positions_BT = np.maximum(columns_T - pad_B[:, None], 0)
    device = model.device
    states_BTD, head = _states(
        model,
        input_ids=torch.from_numpy(inputs_BT).to(device),
        attention_mask=torch.from_numpy(mask_BT.astype(np.int64)).to(device),
        position_ids=torch.from_numpy(positions_BT).to(device),
        logits_to_keep=tokens_BT.shape[1],
    )
    real_BT = np.arange(tokens_BT.shape[1]) < lengths_B[:, None]
    return states_BTD.flatten(0, 1)[torch.from_numpy(np.flatnonzero(real_BT)).to(device)], head


BY_SEQUENCE = "by_sequence"


def _attend_by_sequence(module, query, key, value, attention_mask, scaling=None, chunks=None, **options):
    """transformers' attention on PyTorch's kernels; of a packed row (1, H, M, E) each sequence by itself.

    One mask over the whole row would cost M^2 pairs. chunks: sequences of like length, see _chunks. Each chunk is
    padded on the right, where causal attention needs no mask, so that the fast kernels apply.
    """
    if chunks is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    groups, half = query.shape[1] // key.shape[1], query.dtype in (torch.bfloat16, torch.float16)
    shared = groups > 1 and (half or torch.is_autocast_enabled(query.device.type) or not query.is_cuda)
    if groups > 1 and not shared:  # CUDA's kernels for float32 take no grouped queries
        key, value = (row_1KME.repeat_interleave(groups, dim=1) for row_1KME in (key, value))
    parts = []
    for start, end, place_M, batch, longest in chunks:

        def spread(row_1HME: torch.Tensor) -> torch.Tensor:
            row_MHE = row_1HME[0, :, start:end].transpose(0, 1)  # noqa: B023
            flat = row_MHE.new_zeros(batch * longest, *row_MHE.shape[1:]).index_copy(0, place_M, row_MHE)  # noqa: B023
            return flat.unflatten(0, (batch, longest)).transpose(1, 2)  # noqa: B023

        out_BHTE = F.scaled_dot_product_attention(
            spread(query), spread(key), spread(value), is_causal=True, scale=scaling, enable_gqa=shared
        )
        parts.append(out_BHTE.transpose(1, 2).flatten(0, 1).index_select(0, place_M))
    return torch.cat(parts)[None], None


AttentionInterface.register(BY_SEQUENCE, _attend_by_sequence)
AttentionMaskInterface.register(BY_SEQUENCE, sdpa_mask)


def _packed(model: PreTrainedModel, prompts_B: list[Prompt], tokens_BT: np.ndarray, lengths_B: np.ndarray) -> Scored:
    """All sequences in one row, so that nothing but attention computes padding: the longest first."""
    pairs = zip(prompts_B, tokens_BT, lengths_B, strict=True)
    rows = [np.concatenate([prompt.tokens, tokens_T[: n - 1]]) for prompt, tokens_T, n in pairs]  # none after the last
    size_B = np.array([len(row) for row in rows])
    longest, window = size_B.max(), getattr(model.config, "sliding_window", None)
    if model.config.model_type not in PLAIN_HEADS or longest > (window or longest):
        return _plain(model, prompts_B, tokens_BT, lengths_B)
    if model.config._attn_implementation != BY_SEQUENCE:  # stays: the backward pass may compute layers again
        model.set_attn_implementation(BY_SEQUENCE)
        assert model.config._attn_implementation == BY_SEQUENCE, "transformers kept its own attention"
    order_B = np.argsort(-size_B, kind="stable")
    start_B = np.empty_like(size_B)
    start_B[order_B] = np.cumsum(size_B[order_B]) - size_B[order_B]
    # Each token is predicted one before it.
    before_B = start_B + [len(prompt.tokens) - 1 for prompt in prompts_B]
    wanted = [before + np.arange(n) for before, n in zip(before_B, lengths_B, strict=True)]
    inputs_M, positions_M, wanted_N = (
        torch.from_numpy(np.concatenate(arrays)).to(model.device)
        for arrays in ([rows[b] for b in order_B], [np.arange(n) for n in size_B[order_B]], wanted)
    )
    unused = torch.zeros(1, 1, 1, 1, device=model.device)  # of the form that no mask is made of
    states_BTD, head = _states(
        model, input_ids=inputs_M[None], position_ids=positions_M[None], attention_mask=unused,
        chunks=_chunks(size_B[order_B], model.device),
    )  # fmt: skip
    return states_BTD[0].index_select(0, wanted_N), head


def _chunks(size_B: np.ndarray, device: Any) -> list[tuple[int, int, torch.Tensor, int, int]]:
    """Sequences of a row, longest first, in chunks of which none is shorter than half of its longest.

    Each: (first token, last + 1, places of its tokens in B x T, B, T): at most twice its tokens are padded to.
    """
    chunks, first, start = [], 0, 0
    while first < len(size_B):
        longest = int(size_B[first])
        count = int((2 * size_B[first:] >= longest).sum())
        places = [b * longest + np.arange(size) for b, size in enumerate(size_B[first : first + count])]
        place_M = torch.from_numpy(np.concatenate(places)).to(device)
        chunks.append((start, start + len(place_M), place_M, count, longest))
        first, start = first + count, start + len(place_M)
    return chunks


def _shared_prefix(
    model: PreTrainedModel, prompts_B: list[Prompt], tokens_BT: np.ndarray, lengths_B: np.ndarray
) -> Scored:
    """Each distinct prompt run once: dense Qwen2 only.

    Everything but attention sees packed tokens, those of the prompts first and then those of the responses, so that no
    padding is computed. A response attends to its prompt's keys and to its own.
    """
    check_dense_qwen2(model)
    inner: Any = model.model
    device, heads, kv_heads = model.device, model.config.num_attention_heads, model.config.num_key_value_heads
    head_dim = inner.layers[0].self_attn.head_dim
    prompts_P = list(dict.fromkeys(prompts_B))
    place = {prompt: p for p, prompt in enumerate(prompts_P)}
    group_B = np.array([place[prompt] for prompt in prompts_B])
    prompt_tokens_PT, pad_P = left_pad(prompts_P)
    prompts, width = prompt_tokens_PT.shape
    length_P = width - pad_P
    # Nothing follows the last token of a response, so it is no input.
    batch, longest = len(tokens_BT), max(1, tokens_BT.shape[1] - 1)
    held_PT = np.arange(width) >= pad_P[:, None]
    held_BT = np.arange(longest) < lengths_B[:, None] - 1
    positions_PT = np.arange(width) - pad_P[:, None]
    positions_BT = length_P[group_B][:, None] + np.arange(longest)
    tokens_M = np.concatenate([prompt_tokens_PT[held_PT], tokens_BT[:, :longest][held_BT]])
    positions_M = np.concatenate([positions_PT[held_PT], positions_BT[held_BT]])
    count = int(held_PT.sum())  # packed tokens of prompts
    # Token n of the output is predicted at the end of the prompt, or at the response token before it.
    ends_P = np.cumsum(length_P) - 1
    before_BT = np.concatenate(
        [ends_P[group_B][:, None], count - 1 + np.cumsum(held_BT).reshape(held_BT.shape)], axis=1
    )
    real_BT = np.arange(before_BT.shape[1]) < lengths_B[:, None]
    causal_TT = np.arange(longest)[:, None] >= np.arange(longest)
    seen_PTT = held_PT[:, None] & (np.arange(width)[:, None] >= np.arange(width)) | np.eye(width, dtype=bool)
    own_BTT = np.broadcast_to(causal_TT, (batch, longest, longest))
    seen_BTT = np.concatenate([np.repeat(held_PT[group_B][:, None], longest, 1), own_BTT], axis=2)

    def on_device(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    # Where each packed token lies in the padded array of its prompts or of its responses.
    in_prompts, in_responses = on_device(np.flatnonzero(held_PT)), on_device(np.flatnonzero(held_BT))
    group_B, seen_P1TT, seen_B1TT = on_device(group_B), on_device(seen_PTT)[:, None], on_device(seen_BTT)[:, None]

    def padded(values_MHE: torch.Tensor, places: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Packed to (rows, heads, columns, head_dim), zero where there is no token."""
        wide = values_MHE.new_zeros(rows * columns, *values_MHE.shape[1:]).index_copy(0, places, values_MHE)
        return wide.unflatten(0, (rows, columns)).transpose(1, 2)

    def attend(q_MHE: torch.Tensor, k_MKE: torch.Tensor, v_MKE: torch.Tensor) -> torch.Tensor:
        qkv = (q_MHE, k_MKE, v_MKE)
        q_PHTE, k_PKTE, v_PKTE = (padded(x[:count], in_prompts, prompts, width) for x in qkv)
        q_BHTE, k_BKTE, v_BKTE = (padded(x[count:], in_responses, batch, longest) for x in qkv)
        grouped = heads != kv_heads
        out_PHTE = F.scaled_dot_product_attention(q_PHTE, k_PKTE, v_PKTE, seen_P1TT, enable_gqa=grouped)
        k_BKTE = torch.cat([k_PKTE.index_select(0, group_B), k_BKTE], dim=2)
        v_BKTE = torch.cat([v_PKTE.index_select(0, group_B), v_BKTE], dim=2)
        out_BHTE = F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, seen_B1TT, enable_gqa=grouped)
        padded_out = ((out_PHTE, in_prompts), (out_BHTE, in_responses))
        packed = [out.transpose(1, 2).flatten(0, 1).index_select(0, places) for out, places in padded_out]
        return torch.cat(packed).flatten(1)

    x_MD = inner.embed_tokens(on_device(tokens_M))
    cos_ME, sin_ME = (turn[0] for turn in inner.rotary_emb(x_MD, on_device(positions_M)[None]))
    for layer in inner.layers:
        attention, normal_MD = layer.self_attn, layer.input_layernorm(x_MD)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        q_MHE, k_MKE, v_MKE = (projection(normal_MD).unflatten(1, (-1, head_dim)) for projection in projections)
        q_MHE, k_MKE = apply_rotary_pos_emb(q_MHE, k_MKE, cos_ME, sin_ME, unsqueeze_dim=1)
        x_MD = x_MD + attention.o_proj(attend(q_MHE, k_MKE, v_MKE))
        x_MD = x_MD + layer.mlp(layer.post_attention_layernorm(x_MD))
    x_ND = x_MD.index_select(0, on_device(before_BT[:, : real_BT.shape[1]][real_BT]))
    return inner.norm(x_ND), model.lm_head


FORWARDS = {"plain": _plain, "packed": _packed, "shared_prefix": _shared_prefix}
