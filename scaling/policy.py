"""The policy: a plain transformers causal LM, with its tokenizer.

It is built here from a rung of the ladder (Qwen2 architecture), or loaded from any transformers folder. It is copied
and counted here, too, whole or sharded.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils.logging import disable_progress_bar

from scaling.ladder import MAX_POSITIONS, ROPE_THETA, VOCABULARY, Rung
from scaling.rollout_types import generator
from scaling.schema import InputError, one_line


def build_policy(rung: Rung, seed: int, *, pad_id: int, end_id: int, vocabulary: int = VOCABULARY) -> Qwen2ForCausalLM:
    """A fresh policy of one rung, the same for the same seed; the global random state is left as it was.

    The ids go into the generation config only: a pad id in the model's config becomes nn.Embedding's padding_idx,
    which drops the gradient of that row of a tied embedding.
    """
    config = Qwen2Config(
        vocab_size=vocabulary,
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
        raise InputError(f"{folder}: no causal language model can be loaded from it ({one_line(error)}).") from None
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
        raise InputError(f"{folder}: no model is described there ({one_line(error, 160)}).") from None
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
    """Copy the weights one at a time: the whole weights of a sharded policy may not fit on a device together.

    All processes of a sharded policy call this together; `into` is None in those that need no copy.
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
            raise InputError(
                f"{folder}: no tokenizer can be loaded from it ({one_line(error, 160)}); put its files there."
            ) from None
        table: Any = policy.get_input_embeddings()
        self.folder, self.vocabulary = folder, int(table.weight.shape[0])
        ids = getattr(policy.generation_config, "eos_token_id", None)
        end_ids = {*(ids if isinstance(ids, list) else [ids]), self.tokenizer.eos_token_id} - {None}
        if not end_ids:
            raise InputError(f"{folder}: neither generation_config.json nor the tokenizer names an end token; add one.")
        self.end_ids = tuple(sorted(end_ids))
        self.end_names = tuple(map(str, self.tokenizer.convert_ids_to_tokens(list(self.end_ids))))

    def encode(self, text: str, *, chat: bool) -> tuple[int, ...]:
        if not chat:
            ids = list(self.tokenizer(text)["input_ids"])
            while ids and ids[-1] in self.end_ids:  # some tokenizers end each text: nothing would be left to say
                ids.pop()
            return tuple(ids)
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
