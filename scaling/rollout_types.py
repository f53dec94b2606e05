"""What passes between prompts, rollout engines, graders and the trainer. Row 0: numpy only.

Dimensions stand as suffixes in the names of tensors and arrays. A letter means the same in every file:

    P  prompts                                   G  rollouts of one prompt
    B  sequences: the flat batch in group order, row p * G + g, or some of its rows
    T  tokens of a sequence, or columns of its cache, padding included
    M  tokens of several sequences side by side, all that go through a model together
    N  response tokens of several sequences side by side
    V  ids of the vocabulary                     A  ids that may be sampled
    D  width of the hidden states                H  heads                      K  key-value heads
    E  floats of one head                        C  complex numbers of one head: E / 2
    S  matrices of one shape, stacked            I, J  rows and columns of a matrix
    1  a dimension of length 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

# Purposes of random draws: part of every generator's seed, so that no two uses share a stream.
PURPOSES = {"prompts": 1, "rollout": 2, "evaluation": 3, "demonstrations": 4, "init": 5, "passes": 6, "samples": 7}


def generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """A generator that is a pure function of (seed, purpose, key): nothing is carried from step to step."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, PURPOSES[purpose], *key])))


@dataclass(frozen=True)
class Prompt:
    """One problem as the policy sees it. `index` is its place in its stream (training) or in the test set."""

    text: str
    tokens: tuple[int, ...]
    index: int
    level: int = 0  # difficulty, 0 where the task has none


@dataclass(frozen=True)
class Grade:
    """Verdict on one response. `process` and `careful` are None where they are missing (never 0 in their place)."""

    outcome: float  # reward in [0, 1]
    correct: bool
    process: float | None = None
    careful: bool | None = None  # every step is right


class Encoding(Protocol):
    """A model's tokenizer, as a task that speaks in text needs it (policy.load_encoding)."""

    vocabulary: int  # rows of the embedding table: every id below may be sampled
    end_ids: tuple[int, ...]
    end_names: tuple[str, ...]

    def encode(self, text: str, *, chat: bool) -> tuple[int, ...]:
        """Token ids of one user message: by the chat template up to where the answer begins, or bare."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Text without special tokens."""
        ...


class Task(Protocol):
    """Prompts, an outcome rule and, where there is one, a process rule; `scaling/tasks/<name>.py` provides `Task`."""

    name: str
    vocabulary: list[str]  # symbol of each id; ids beyond it are padding of the embedding table
    allowed_V: np.ndarray  # bool: ids that may be sampled; log-probs are taken over these alone
    end_ids: tuple[int, ...]  # each of them ends a response
    end_names: tuple[str, ...]  # their tokens as text
    pad_id: int
    max_new_tokens: int  # 1.5 times the careful solution of the hardest level
    levels: tuple[int, ...]  # difficulty levels of training and test problems
    notes: tuple[str, ...]  # what a reader of the log should know: problems left out, and why

    def training_problems(self, unique: int | None) -> list[str] | None:
        """The `unique` distinct training problems of a finite set in their order (null: all of them).

        None where problems are drawn without end, by `draw`.
        """
        ...

    def draw(self, rng: np.random.Generator, level: int) -> str:
        """The text of one random problem; it may be a reserved one."""
        ...

    def reserved(self, text: str) -> bool:
        """Whether the problem belongs to the held-out set: never trained on, never demonstrated."""
        ...

    def test_prompts(self, count: int) -> list[Prompt]:
        """The first `count` held-out problems, levels in turn; a smaller set is a prefix of a larger one."""
        ...

    def problem_set(self, path: str | None, count: int | None) -> list[Prompt]:
        """The first `count` problems of a file, or (null) of the held-out ones; count null = all of them."""
        ...

    def prompt(self, text: str, index: int) -> Prompt: ...

    def demonstrations(self, seed: int, iteration: int, recipe) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """One batch of (prompt tokens, response tokens) for making a base model (config.BaseRecipe)."""
        ...

    def grade(self, prompt: Prompt, response: tuple[int, ...]) -> Grade: ...

    def grade_many(self, prompts: Sequence[Prompt], responses: Sequence[tuple[int, ...]]) -> list[Grade]: ...

    def truth(self, prompt: Prompt) -> str | None:
        """The right answer, or a right response, to a problem; None where the task has none to show."""
        ...

    def counts(self) -> dict[str, float]:
        """Columns of section grading for the responses graded since the last call; empty where there are none.

        One that is called `..._share` is a mean over those responses, any other a sum: processes that grade shares of
        them join their columns by this.
        """
        ...

    def decode(self, tokens: tuple[int, ...]) -> str: ...


@dataclass(frozen=True)
class SamplingParams:
    """How to sample, and which uniforms to use: the draws of prompt i are generator(seed, purpose, step, i)."""

    temperature: float
    max_new_tokens: int
    seed: int
    purpose: str
    step: int

    def uniforms_GT(self, prompt_index: int, group_size: int) -> np.ndarray:
        """One float64 uniform in [0, 1) per (sample, position) of one prompt, shape (group_size, max_new_tokens).

        Drawn sample by sample, so the first samples do not depend on the group size.
        """
        shape = (group_size, self.max_new_tokens)
        return generator(self.seed, self.purpose, self.step, prompt_index).random(shape)


@dataclass
class RolloutGroups:
    """P groups of G responses, flat in group order (row p * G + g). Lengths decide what counts, never token ids."""

    prompts: list[Prompt]
    group_size: int
    tokens_BT: np.ndarray  # int64 response tokens, end token included, zero beyond the length
    lengths_B: np.ndarray  # int64 response lengths, end token included
    logprobs_BT: np.ndarray  # float32, log-prob under the sampling distribution, zero beyond the length
    truncated_B: np.ndarray  # bool: cut at max_new_tokens without an end token
    weight_version: int  # version of the weights that sampled
    # Of an engine that runs a prompt for each sample: tokens of a block of its prefix cache, 0 without one. None: once
    # per group.
    prefix_block: int | None = None

    @classmethod
    def cut_at_ends(
        cls, prompts: list[Prompt], group_size: int, tokens_BT: np.ndarray, logprobs_BT: np.ndarray,
        end_ids: Sequence[int] | np.ndarray, weight_version: int,
    ) -> RolloutGroups:  # fmt: skip
        """From sequences that were sampled to max_new_tokens: what follows the first end token is cleared."""
        ended_BT = np.isin(tokens_BT, end_ids)
        truncated_B = np.logical_not(ended_BT.any(axis=1))
        lengths_B = np.where(truncated_B, tokens_BT.shape[1], ended_BT.argmax(axis=1) + 1)
        longest = lengths_B.max()
        held_BT = np.arange(longest) < lengths_B[:, None]
        return cls(
            prompts=prompts,
            group_size=group_size,
            tokens_BT=np.where(held_BT, tokens_BT[:, :longest], 0),
            lengths_B=lengths_B,
            logprobs_BT=np.where(held_BT, logprobs_BT[:, :longest], np.float32(0)),
            truncated_B=truncated_B,
            weight_version=weight_version,
        )

    @classmethod
    def joined(cls, parts: Sequence[RolloutGroups]) -> RolloutGroups:
        """The groups of several batches of equal weights and group size, one after the other."""
        if len(parts) == 1:
            return parts[0]
        longest = max(part.tokens_BT.shape[1] for part in parts)

        def wide(values_BT: np.ndarray) -> np.ndarray:
            return np.pad(values_BT, ((0, 0), (0, longest - values_BT.shape[1])))

        return replace(
            parts[0],
            prompts=[prompt for part in parts for prompt in part.prompts],
            tokens_BT=np.concatenate([wide(part.tokens_BT) for part in parts]),
            lengths_B=np.concatenate([part.lengths_B for part in parts]),
            logprobs_BT=np.concatenate([wide(part.logprobs_BT) for part in parts]),
            truncated_B=np.concatenate([part.truncated_B for part in parts]),
        )

    def chosen(self, groups: Sequence[int]) -> RolloutGroups:
        """Some of the groups, at least one, in the order given."""
        rows_B = np.concatenate([np.arange(p * self.group_size, (p + 1) * self.group_size) for p in groups])
        longest = self.lengths_B[rows_B].max()
        return replace(
            self,
            prompts=[self.prompts[p] for p in groups],
            tokens_BT=self.tokens_BT[rows_B, :longest],
            lengths_B=self.lengths_B[rows_B],
            logprobs_BT=self.logprobs_BT[rows_B, :longest],
            truncated_B=self.truncated_B[rows_B],
        )

    @property
    def responses(self) -> list[tuple[int, ...]]:
        """Response tokens of each sequence, end token included."""
        return [tuple(row[:n].tolist()) for row, n in zip(self.tokens_BT, self.lengths_B, strict=True)]


class RolloutEngine(Protocol):
    """What the trainer needs of an engine; `scaling/rollouts/<name>.py` provides `Engine`, which derives from this.

    In the order of the calls: `start` once, then `load_weights` before any `generate`, `close` at the end, also where
    something was raised. An engine that samples in the trainer's own process needs neither `start` nor `close`.
    """

    SERVER: ClassVar[bool] = False  # has processes of its own, which the run's first process starts and asks for all

    def start(self, policy, folder: Path, resources: Any, main: bool = True) -> dict[str, Any]:
        """Start what the engine needs beside the trainer, for this kind of policy; what attempt.json says of it.

        folder: of the attempt, for logs; resources: the run's ResourcesConfig; main: whether this process, of several
        on one run, is the first. Raises InputError where the engine cannot run here, or not this policy.
        """
        return {}

    def load_weights(self, policy, version: int) -> None:
        """Take the policy's current weights; `version` comes back in every RolloutGroups. Every process calls it."""
        ...

    def generate(self, prompts: list[Prompt], group_size: int, sampling: SamplingParams) -> RolloutGroups: ...

    def close(self) -> None:
        """End what `start` started; may be called twice, or without a start."""
