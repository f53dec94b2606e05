"""Policies far from their start, prompts of every level and engines, for tests of sampler and trainer."""

import dataclasses

import torch

from scaling import rollouts
from scaling.config import HexChainConfig
from scaling.ladder import LADDER
from scaling.policy import build_policy
from scaling.rollout_types import SamplingParams, generator
from scaling.tasks import load_task

TASK = load_task(HexChainConfig())
SAMPLING = SamplingParams(1.0, 24, seed=3, purpose="rollout", step=5)


def prompts(count=6):
    """Problems of all levels, so of all lengths."""
    rng = generator(0, "prompts", 1)
    return [TASK.prompt(TASK.draw(rng, TASK.levels[i % len(TASK.levels)]), 10 + i) for i in range(count)]


def policy_of(rung, seed=0, end_bias=0.0, **changes):
    """A fresh policy whose weights are far from their start, so that layers and positions matter."""
    model = build_policy(dataclasses.replace(LADDER[rung], **changes), seed, pad_id=TASK.pad_id, end_id=TASK.end_id)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draws) * parameter.abs().mean().clamp(min=0.05)
        model.lm_head.weight[TASK.end_id] += end_bias  # some sequences end early, some never
    return model


def engine_with(name, model, version=7):
    engine = rollouts.load_engine(name, allowed_V=TASK.allowed_V, end_ids=TASK.end_ids)
    engine.load_weights(model, version)
    return engine


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def text_folder(folder, architecture="llama", seed=0):
    """An ordinary transformers folder: a tiny random causal LM, a tokenizer of bytes and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    symbols = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0], pad_token=special[0])
    fast.add_special_tokens({"additional_special_tokens": special[1:]})
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture == "llama":  # grouped queries, an untied head, rows that no token has
            model = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=264,
                    hidden_size=32,
                    intermediate_size=48,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    max_position_embeddings=512,
                    bos_token_id=None,
                    eos_token_id=2,
                )
            )
        else:
            shape = GPT2Config(vocab_size=264, n_embd=32, n_layer=2, n_head=2, n_positions=512, eos_token_id=2)
            model = GPT2LMHeadModel(shape)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = [0, 2]  # both end a response, as in Qwen2.5-Instruct
    model.save_pretrained(folder)
    return folder
