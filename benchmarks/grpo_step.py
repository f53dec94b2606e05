"""A step of GRPO beside TRL's GRPOTrainer: the same model from its config, prompts, lengths and batch, in one run.

No response ends early, so that both sample and train on the same number of tokens, and neither takes a KL penalty or
recomputes activations. Rewards are random: no group is left out of an update. A step is rollout and optimizer step;
ours adds copying the weights to the sampler, which TRL shares. The two sides take turns, and the median step counts.
CPU time of one thread, or wall time where there is a GPU; there MFU too: FLOPs (scaling.compute) a second over the
dense bfloat16 peak of --gpu.

`make bench-trl` runs it in an environment of its own. The last line of stdout is {"device", "ratio": median step of
TRL over ours, for each of our ways}.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from scaling.algorithm.advantages import grpo_advantages
from scaling.algorithm.update import update_policy
from scaling.compute import Shape, rollout_flops, update_flops
from scaling.config.run import RunConfig
from scaling.memory import GPUS
from scaling.models import model_shape
from scaling.optim import policy_optimizer
from scaling.rollout_types import Prompt, SamplingParams
from scaling.rollouts import load_engine

END = 0
SMALL = Shape(192, 6, 6, 2, 32, 512, 4096, attention_biases=1)
WAYS = {  # engine, forward
    "hf, plain": ("hf", "plain"),
    "hf, packed": ("hf", "packed"),
    "native, shared prefix": ("native", "shared_prefix"),
}
RATE, PROMPT_TOKENS = 1e-6, 64


def tokenizer_of(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token a byte; the other ids have a name each, so that any sample can be decoded."""
    symbols = ["<end>", "<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    symbols += [f"<{i}>" for i in range(len(symbols), vocabulary)]
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")


def policy_of(shape: Shape) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.key_value_heads,
        tie_word_embeddings=shape.tied, max_position_embeddings=4096, bos_token_id=None, eos_token_id=END,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


class Clock:
    """Seconds: CPU time of this process, or wall time after the GPU has finished."""

    def __init__(self, device: str):
        self.device = device

    def __call__(self) -> float:
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


class Ours:
    """Steps of our own trainer's parts, in its order."""

    def __init__(self, shape: Shape, texts: list[str], given: argparse.Namespace, way: str, clock: Clock):
        engine, forward = WAYS[way]
        self.given, self.clock, tokenizer = given, clock, tokenizer_of(shape.vocabulary)
        self.config = RunConfig.model_validate(
            {
                "model": {"size": "xs", "dtype": given.dtype},
                "data": {"prompts_per_step": given.prompts},
                "rollout": {"group_size": given.group},
                "optimizer": {"gradient_clip": 1.0},
                "resources": {"engine": engine, "forward": forward, "micro_batch": given.micro_batch},
            }
        )
        self.policy = policy_of(shape).to(given.device)
        self.optimizer = policy_optimizer(self.policy, self.config.optimizer)
        self.allowed_V = np.arange(shape.vocabulary) != END  # nothing ends early
        self.prompts = [Prompt(text, tuple(tokenizer(text)["input_ids"]), i) for i, text in enumerate(texts)]
        sampler = {"dtype": given.dtype, "device": given.device}
        self.engine = load_engine(engine, allowed_V=self.allowed_V, end_ids=(END,), **sampler)
        self.engine.load_weights(self.policy, 0)
        self.rewards, self.done = np.random.default_rng(0), 0

    def steps(self, count: int) -> list[tuple[float, float]]:
        """(rollout, update) seconds of each."""
        found = []
        for _ in range(count):
            self.done += 1
            start = self.clock()
            sampling = SamplingParams(1.0, self.given.response, 0, "rollout", self.done)
            rollouts = self.engine.generate(self.prompts, self.given.group, sampling)
            assert (rollouts.lengths_B == self.given.response).all()
            middle = self.clock()
            advantage = grpo_advantages(self.rewards.random((len(self.prompts), self.given.group)))
            update_policy(
                self.policy, self.optimizer, rollouts, advantage.total_PG, self.config, RATE, self.allowed_V
            )  # fmt: skip
            self.engine.load_weights(self.policy, self.done)
            found.append((middle - start, self.clock() - middle))
        return found


def trl_steps(shape: Shape, texts: list[str], given: argparse.Namespace, clock: Clock, count: int) -> list[float]:
    """Seconds of each step of GRPOTrainer after a first one that warms up."""
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    ends, rewards = [], np.random.default_rng(0)

    class Times(TrainerCallback):
        def on_step_end(self, *_, **__):
            ends.append(clock())

    def reward(completion_ids, **_):
        assert all(len(ids) == given.response for ids in completion_ids)
        return rewards.random(len(completion_ids)).tolist()

    batch = given.prompts * given.group
    micro = min(given.micro_batch or batch, batch)
    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder, max_steps=count + 1, per_device_train_batch_size=micro,
            gradient_accumulation_steps=batch // micro, num_generations=given.group,
            max_completion_length=given.response, learning_rate=RATE, beta=0.0, temperature=1.0, top_k=0, top_p=1.0,
            max_grad_norm=1.0, gradient_checkpointing=False, bf16=given.dtype == "bfloat16", fp16=False,
            use_cpu=given.device == "cpu", save_strategy="no", report_to="none", logging_steps=1000, disable_tqdm=True,
            generation_kwargs={"min_new_tokens": given.response},
        )  # fmt: skip
        trainer = GRPOTrainer(
            model=policy_of(shape), reward_funcs=reward, args=arguments, callbacks=[Times()],
            train_dataset=Dataset.from_list([{"prompt": text} for text in texts]),
            processing_class=tokenizer_of(shape.vocabulary),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return [after - before for before, after in itertools.pairwise(ends)]  # a step's rollouts are in it


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qwen2.5-0.5b" if cuda else None, help="shape of a published model")
    parser.add_argument("--prompts", type=int, default=16 if cuda else 8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--response", type=int, default=512 if cuda else 64, help="tokens")
    parser.add_argument("--micro-batch", type=int, default=16 if cuda else None, help="sequences of a backward pass")
    parser.add_argument("--steps", type=int, default=3, help="of each side in each of three turns")
    parser.add_argument("--gpu", choices=sorted(GPUS), default="h100", help="whose peak MFU is taken of")
    given = parser.parse_args()
    given.device, given.dtype = ("cuda", "bfloat16") if cuda else ("cpu", "float32")
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    shape, clock = model_shape(given.model) if given.model else SMALL, Clock(given.device)
    letters = np.random.default_rng(1).choice(list("abcdefghijklmnopqrstuvwxyz"), (given.prompts, PROMPT_TOKENS))
    texts = ["".join(row) for row in letters]
    ways = {name: way for name, way in WAYS.items() if given.dtype == "float32" or way[0] == "hf"}
    ours = {name: Ours(shape, texts, given, name, clock) for name in ways}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ours}
    theirs: list[float] = []
    for side in ours.values():
        side.steps(1)
    for _ in range(3):
        for name, side in ours.items():
            spent[name] += side.steps(given.steps)
        theirs += trl_steps(shape, texts, given, clock, given.steps)

    tokens = given.prompts * given.group * given.response
    lengths = np.full(given.prompts, float(PROMPT_TOKENS)), np.full((given.prompts, given.group), float(given.response))
    flops = rollout_flops(shape, *lengths), update_flops(shape, *lengths)
    name = torch.cuda.get_device_name() if cuda else "CPU, one thread"
    print(f"{shape.num_params:,} parameters, {given.prompts} x {given.group} responses of {given.response} tokens, "
          f"{given.dtype}, {name}")  # fmt: skip
    print(
        f"{'':<24}{'TRL / ours':>12}{'rollout share':>16}" + (f"{'MFU rollout':>14}{'MFU update':>12}" if cuda else "")
    )
    ratios, trl = {}, statistics.median(theirs)
    for way, parts in spent.items():
        rollout, update = (statistics.median(part[i] for part in parts) for i in (0, 1))
        step = statistics.median(sum(part) for part in parts)
        ratios[way] = round(trl / step, 2)
        line = f"{way:<24}{ratios[way]:>12.2f}{rollout / (rollout + update):>16.2f}"
        if cuda:
            use = [flops[i] / seconds / GPUS[given.gpu].peak for i, seconds in enumerate((rollout, update))]
            line += f"{use[0]:>14.3f}{use[1]:>12.3f}   "
            line += f"{tokens / rollout:,.0f} tokens/s sampled, {tokens / step:,.0f} in all"
        print(line)
    if cuda:
        print(f"TRL: {tokens / trl:,.0f} tokens/s in all")
    print(json.dumps({"device": name, "ratio": ratios}))


if __name__ == "__main__":
    main()
