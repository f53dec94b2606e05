"""The policy: a plain transformers causal LM, and the log-probs of its responses.

Built here from a rung of the ladder (Qwen2 architecture), or loaded from any transformers folder. Sampler and trainer
share `allowed_log_softmax`, so that a log-prob means the same to both: over the allowed ids alone, at a temperature.

Dimension suffixes: _P prompts, _B sequences, _T tokens, _N real response tokens packed row by row, _V vocabulary,
_A allowed ids, _X width of the states before the output head.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb
from transformers.utils.logging import disable_progress_bar

from scaling.ladder import ROPE_THETA, VOCABULARY, Rung
from scaling.memory import LOGITS_AT_A_TIME
from scaling.rollout_types import Prompt, RolloutGroups, generator
from scaling.schema import InputError, check_name

# Kinds of model whose logits are the output head's product and nothing more, and which hand attention what it is given.
PLAIN_HEADS = ("qwen2", "qwen3", "llama", "mistral")
MAX_POSITIONS = 512  # told to other tools by the exported config; RoPE itself has no table of positions

# ---------------------------------------------------------------- build, save, load


def build_policy(rung: Rung, seed: int, *, pad_id: int, end_id: int) -> Qwen2ForCausalLM:
    """A fresh policy of one rung, the same for the same seed; the global random state is left as it was.

    The ids go into the generation config only: a pad id in the model's config becomes nn.Embedding's padding_idx,
    which drops the gradient of that row of a tied embedding.
    """
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=rung.width,
        intermediate_size=rung.feed_forward,
        num_hidden_layers=rung.layers,
        num_attention_heads=rung.heads,
        num_key_value_heads=rung.heads,
        tie_word_embeddings=True,
        initializer_range=rung.init_std,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        max_position_embeddings=MAX_POSITIONS,
        eos_token_id=end_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "init").integers(2**63)))
        model = Qwen2ForCausalLM(config)
    assert model.generation_config is not None
    model.generation_config.pad_token_id = pad_id
    return model.eval()


def save_policy(model: PreTrainedModel, folder: Path) -> None:
    """Save as an ordinary transformers folder (config.json, generation_config.json, model.safetensors)."""
    disable_progress_bar()  # bars would fill the logs of runs
    model.save_pretrained(folder)


def load_policy(folder: Path, dtype: str = "float32", device: str = "cpu") -> PreTrainedModel:
    """Load a causal LM from a transformers folder, without dropout and without a padding row. Never downloads.

    Raises InputError where the folder is missing or does not hold a causal LM that this transformers knows.
    """
    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"{folder} is not a transformers folder: it has no config.json; give one with weights.")
    disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=getattr(torch, dtype), local_files_only=True
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: no causal language model can be loaded from it ({reason}).") from None
    embedding: Any = model.get_input_embeddings()
    embedding.padding_idx = None  # its gradient would be dropped, see build_policy
    torch.nn.Module.to(model, torch.device(device))
    return model.eval()


def blank_policy(config: Any, generation_config: Any, device: Any = "cpu", dtype: str = "float32") -> PreTrainedModel:
    """A policy of that architecture for values that come later: on a host its weights take no memory until they do.

    Buffers that no file holds, such as the rotary frequencies, are as blank as the weights.
    """
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=getattr(torch, dtype))
    model.to_empty(device=device)
    model.tie_weights()
    model.generation_config = copy.deepcopy(generation_config)
    model.get_input_embeddings().padding_idx = None
    return model.eval()


def described_policy(folder: Path) -> PreTrainedModel:
    """The policy of a transformers folder without its weights: for what its description alone tells."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no model is described there ({' '.join(str(error).split())[:160]}).") from None
    try:
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:
        generation = GenerationConfig.from_model_config(config)
    return blank_policy(config, generation, "meta")


def whole(value: Any) -> Any:
    """A tensor, whole: of a sharded one the copy that all processes make together."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def is_sharded(policy: PreTrainedModel) -> bool:
    return hasattr(next(policy.parameters()), "full_tensor")


def copy_weights(policy: PreTrainedModel, into: PreTrainedModel | None) -> None:
    """Copy the weights, one at a time: whole, those of a sharded policy may not fit together on a device.

    A sharded policy wants this of all its processes at once; `into` may be None in those that need no copy.
    """
    own = {} if into is None else into.state_dict()
    for name, value in policy.state_dict().items():
        value = whole(value)
        if into is not None:
            own[name].copy_(value)


def whole_copy(policy: PreTrainedModel, device: Any = None, dtype: str = "float32") -> PreTrainedModel:
    """A copy for inference on a device (null: the policy's), sharded or not. Its buffers stay in their own dtype.

    In bfloat16 the rotary frequencies would be off by whole radians some thousand tokens on.
    """
    model = blank_policy(policy.config, policy.generation_config, device or policy.device, dtype).requires_grad_(False)
    copy_weights(policy, model)
    for mine, theirs in zip(model.buffers(), policy.buffers(), strict=True):
        mine.copy_(theirs)
    return model


class ModelEncoding:
    """The tokenizer of a transformers folder, as rollout_types.Encoding wants it."""

    def __init__(self, folder: Path, policy: PreTrainedModel):
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise InputError(f"{folder}: no tokenizer can be loaded from it ({reason}); put its files there.") from None
        table: Any = policy.get_input_embeddings()
        self.folder, self.vocabulary = folder, int(table.weight.shape[0])
        ids = getattr(policy.generation_config, "eos_token_id", None)
        found = {*(ids if isinstance(ids, list) else [ids]), self.tokenizer.eos_token_id} - {None}
        if not found:
            raise InputError(f"{folder}: neither generation_config.json nor the tokenizer names an end token; add one.")
        self.end_ids = tuple(sorted(found))
        self.end_names = tuple(map(str, self.tokenizer.convert_ids_to_tokens(list(self.end_ids))))

    def encode(self, text: str, *, chat: bool) -> tuple[int, ...]:
        if not chat:
            return tuple(self.tokenizer(text)["input_ids"])
        if not self.tokenizer.chat_template:
            raise InputError(f"{self.folder}: its tokenizer has no chat template; set task.template: none.")
        message = [{"role": "user", "content": text}]
        shown = self.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        return tuple(self.tokenizer(shown, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)


def load_encoding(folder: str | None, policy: PreTrainedModel) -> ModelEncoding | None:
    """The encoding of a model that came from a folder with a tokenizer; None without one: its task has its own."""
    if folder is None or not any(Path(folder).glob("tokenizer*")):
        return None
    return ModelEncoding(Path(folder), policy)


def checkpoint_activations(policy: PreTrainedModel) -> None:
    """Gradient checkpointing, without the dropout that the training mode it needs would bring."""
    for module in policy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]
    # Renamed within transformers 5.
    enable = getattr(policy, "activation_checkpointing_enable", None) or policy.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    policy.train()


def count_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """(num_params, num_params_non_embedding): a tied table counts once; without = no table at either end."""
    ends: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    tables = {id(end.weight): end.weight.numel() for end in ends if end is not None}
    num_params = sum(p.numel() for p in model.parameters())
    return num_params, num_params - sum(tables.values())


# ---------------------------------------------------------------- what sampler and trainer share


def allowed_log_softmax(logits_NV: torch.Tensor, allowed_ids_A: torch.Tensor, temperature: float) -> torch.Tensor:
    """float32 log-probs (N, A) over the allowed ids alone; the other ids cannot be sampled."""
    some = len(allowed_ids_A) < logits_NV.shape[-1]  # else all of them, or these logits are of the allowed ids alone
    logits_NA = logits_NV.index_select(-1, allowed_ids_A) if some else logits_NV
    return torch.log_softmax(logits_NA.float() / temperature, dim=-1)


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


def ends(token_B: torch.Tensor, end_ids: torch.Tensor) -> torch.Tensor:
    """bool: which tokens end a response. One comparison where there is one id: small models feel each operation."""
    return token_B == end_ids if len(end_ids) == 1 else torch.isin(token_B, end_ids)


def draw_columns(logprobs_BA: torch.Tensor, uniforms_B: torch.Tensor) -> torch.Tensor:
    """Inverse-CDF sampling: the first column whose cumulative probability exceeds the uniform (float64, in [0, 1)).

    The uniform is scaled by the total, which rounding leaves near 1: a column past the end, or one of zero
    probability, can then not be drawn.
    """
    cumulative_BA = logprobs_BA.exp().cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(cumulative_BA, (uniforms_B * cumulative_BA[:, -1])[:, None], right=True)[:, 0]


def left_pad(prompts: Sequence[Prompt]) -> tuple[np.ndarray, np.ndarray]:
    """(tokens_PT, pad_P): prompts flush right, zeros before them; pad_P says how many. Lengths decide, never ids."""
    lengths_P = np.array([len(prompt.tokens) for prompt in prompts])
    longest = lengths_P.max()
    tokens_PT = np.zeros((len(prompts), longest), dtype=np.int64)
    for row_T, prompt in zip(tokens_PT, prompts, strict=True):
        row_T[longest - len(prompt.tokens) :] = prompt.tokens
    return tokens_PT, longest - lengths_P


# ---------------------------------------------------------------- log-probs of responses


@dataclass
class TokenLogprobs:
    """Of the chosen sequences, in the order and at the width of the rollouts; zero beyond each length."""

    logprobs_BT: torch.Tensor  # float32 nats, differentiable
    entropy_BT: torch.Tensor  # float32 nats, of the distribution that the token was drawn from; no gradient


def token_logprobs(
    model: PreTrainedModel,
    groups: RolloutGroups,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    allowed_V: np.ndarray,
    temperature: float,
    forward: str = "plain",
) -> TokenLogprobs:
    """Log-probs that the model gives to the response tokens of some sequences (`rows` of the flat batch; None = all).

    They are over the allowed ids at `temperature`, so with the sampler's weights they equal the sampler's.
    forward: "plain", any causal LM, padded; "packed", the sequences one after the other without padding, for the kinds
    of model in PLAIN_HEADS (others run plain); "shared_prefix", dense Qwen2 only: the prompt is run once per group.
    The output head is applied to so many tokens at a time that no more than LOGITS_AT_A_TIME logits are held.
    """
    check_name(forward, FORWARDS, "forward")
    rows_B = np.arange(len(groups.lengths_B)) if rows is None else np.asarray(rows)
    tokens_BT, lengths_B = groups.tokens_BT[rows_B], groups.lengths_B[rows_B]
    real_BT = np.arange(tokens_BT.shape[1]) < lengths_B[:, None]
    tokens_N = tokens_BT[real_BT]
    if not allowed_V[tokens_N].all():
        bad = sorted(set(tokens_N[~allowed_V[tokens_N]].tolist()))
        raise InputError(f"responses hold the ids {bad}, which allowed_V forbids; allow them or drop these responses.")
    device = model.device
    allowed_ids_A = torch.from_numpy(np.flatnonzero(allowed_V)).to(device)
    columns_N = torch.from_numpy((np.cumsum(allowed_V) - 1)[tokens_N]).to(device)

    prompts_B = [groups.prompts[row // groups.group_size] for row in rows_B]
    states_NX, head = FORWARDS[forward](model, prompts_B, tokens_BT[:, : lengths_B.max()], lengths_B)

    def score(states_NX: torch.Tensor, columns_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs_NA = allowed_log_softmax(head(states_NX), allowed_ids_A, temperature)
        with torch.no_grad():
            entropy_N = -(logprobs_NA.exp() * logprobs_NA).sum(-1)
        return logprobs_NA.gather(1, columns_N[:, None])[:, 0], entropy_N

    at_a_time = max(1, LOGITS_AT_A_TIME // len(allowed_V))
    if len(columns_N) <= at_a_time:
        logprobs_N, entropy_N = score(states_NX, columns_N)
    else:  # the backward pass computes the logits of each piece again
        pieces = zip(states_NX.split(at_a_time), columns_N.split(at_a_time), strict=True)
        scored: Any = [checkpoint(score, *piece, use_reentrant=False) for piece in pieces]
        logprobs_N, entropy_N = (torch.cat(parts) for parts in zip(*scored, strict=True))
    flat_N = torch.from_numpy(np.flatnonzero(real_BT)).to(device)

    def unpack(values_N: torch.Tensor) -> torch.Tensor:
        return values_N.new_zeros(real_BT.size).index_copy(0, flat_N, values_N).view(real_BT.shape)

    return TokenLogprobs(unpack(logprobs_N), unpack(entropy_N))


# States (N, X) of the real response tokens, and the function that makes their logits (N, V) of them.
Scored = tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]


def _states(model: PreTrainedModel, **inputs: Any) -> Scored:
    """The states (B, T, X) that an ordinary forward pass gives to its output head, and the head.

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
    states_BTX, head = _states(
        model,
        input_ids=torch.from_numpy(inputs_BT).to(device),
        attention_mask=torch.from_numpy(mask_BT.astype(np.int64)).to(device),
        position_ids=torch.from_numpy(positions_BT).to(device),
        logits_to_keep=tokens_BT.shape[1],
    )
    real_BT = np.arange(tokens_BT.shape[1]) < lengths_B[:, None]
    return states_BTX.flatten(0, 1)[torch.from_numpy(np.flatnonzero(real_BT)).to(device)], head


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
    states_BTX, head = _states(
        model, input_ids=inputs_M[None], position_ids=positions_M[None], attention_mask=unused,
        chunks=_chunks(size_B[order_B], model.device),
    )  # fmt: skip
    return states_BTX[0].index_select(0, wanted_N), head


def _chunks(size_B: np.ndarray, device: Any) -> list[tuple[int, int, torch.Tensor, int, int]]:
    """Sequences of a row, longest first, in chunks of which none is shorter than half of its longest.

    Each: (first token, last + 1, places of its tokens in B x T, B, T): at most twice its tokens are padded to.
    """
    found, first, start = [], 0, 0
    while first < len(size_B):
        longest = int(size_B[first])
        count = int((2 * size_B[first:] >= longest).sum())
        places = [b * longest + np.arange(size) for b, size in enumerate(size_B[first : first + count])]
        place_M = torch.from_numpy(np.concatenate(places)).to(device)
        found.append((start, start + len(place_M), place_M, count, longest))
        first, start = first + count, start + len(place_M)
    return found


def _shared_prefix(
    model: PreTrainedModel, prompts_B: list[Prompt], tokens_BT: np.ndarray, lengths_B: np.ndarray
) -> Scored:
    """Each distinct prompt run once: dense Qwen2 only.

    Everything but attention sees packed tokens, those of the prompts first and then those of the responses, so that no
    padding is computed. A response attends to its prompt's keys and to its own. _M packed tokens, _P distinct prompts.
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
    causal_T = np.arange(longest)[:, None] >= np.arange(longest)
    seen_PTT = held_PT[:, None] & (np.arange(width)[:, None] >= np.arange(width)) | np.eye(width, dtype=bool)
    seen_BTT = np.concatenate(
        [np.repeat(held_PT[group_B][:, None], longest, 1), np.broadcast_to(causal_T, (batch, longest, longest))], axis=2
    )

    def on_device(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    flat_P, flat_B, group_B = (on_device(a) for a in (np.flatnonzero(held_PT), np.flatnonzero(held_BT), group_B))
    seen_PTT, seen_BTT = on_device(seen_PTT)[:, None], on_device(seen_BTT)[:, None]

    def padded(values_MHE: torch.Tensor, flat: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Packed to (rows, heads, columns, head_dim), zero where there is no token."""
        wide = values_MHE.new_zeros(rows * columns, *values_MHE.shape[1:]).index_copy(0, flat, values_MHE)
        return wide.unflatten(0, (rows, columns)).transpose(1, 2)

    def attend(q_MHE: torch.Tensor, k_MKE: torch.Tensor, v_MKE: torch.Tensor) -> torch.Tensor:
        q_P, k_P, v_P = (padded(x[:count], flat_P, prompts, width) for x in (q_MHE, k_MKE, v_MKE))
        q_B, k_B, v_B = (padded(x[count:], flat_B, batch, longest) for x in (q_MHE, k_MKE, v_MKE))
        grouped = heads != kv_heads
        out_P = F.scaled_dot_product_attention(q_P, k_P, v_P, seen_PTT, enable_gqa=grouped)
        k_B = torch.cat([k_P.index_select(0, group_B), k_B], dim=2)
        v_B = torch.cat([v_P.index_select(0, group_B), v_B], dim=2)
        out_B = F.scaled_dot_product_attention(q_B, k_B, v_B, seen_BTT, enable_gqa=grouped)
        packed = [out.transpose(1, 2).flatten(0, 1).index_select(0, i) for out, i in ((out_P, flat_P), (out_B, flat_B))]
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
