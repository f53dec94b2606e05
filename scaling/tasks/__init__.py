"""Tasks, one file each: a file `scaling/tasks/<name>.py` holds a config class and a class `Task(config, encoding)`.

The config class says what the task is and what it needs, so that nobody asks for a task by name. `Task` keeps to
rollout_types.Task; it starts from `TextTask`, whose prompts are text for a model's own tokenizer, or from `SymbolTask`,
which has symbols of its own, one token each, and demonstrations from which the ladder's base models are made. A new
task writes what these leave open: `draw`, `grade_text` and, with symbols, `solution`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from math import ceil
from typing import Any, ClassVar, Literal

import numpy as np

from scaling.fields import Part, members
from scaling.ladder import VOCABULARY, BaseRecipe
from scaling.rollout_types import Encoding, Grade, Prompt, Task, generator
from scaling.schema import InputError, check_name

TEST_SEED = 20260326  # of the held-out problems; a run's seed never enters
DRAWS = 50  # for each held-out problem, before too few distinct ones are an error
REJECTIONS = 10_000  # draws in a row that are held out, before that is an error
SPECIAL = ("<end>", "<pad>", "<start>", "<unknown>")  # the last two are never used; a tokenizer wants them

# ---------------------------------------------------------------- config


TEXT_TOKENS = (150.0, 950.0)  # prompt and response of a rollout, as those of the reference study


class TaskConfig(Part):
    """A task's settings, and what it is. A subclass has `name: Literal["x"] = "x"`."""

    READS_TEXT: ClassVar[bool] = True
    """Its prompts are text for the model's own tokenizer; else symbols of its own."""
    MADE_BASE: ClassVar[bool] = False
    """It has demonstrations, from which a base model of any size of the ladder is made."""
    HAS_PROCESS: ClassVar[bool] = False
    """Its grades have a process score."""
    READS_FILES: ClassVar[bool] = False
    """`evaluation.sets` may name files of problems."""
    READS_ANY_FILE: ClassVar[bool] = False
    """`scaling eval` reads files of problems by it where the folder is no run of a task that reads files."""
    TEST_PROBLEMS: ClassVar[int | None] = 512
    """How many held-out problems there are; null where only its files tell."""
    VOCABULARY: ClassVar[int] = VOCABULARY
    """Rows of the embedding table of a base that is made for it."""
    TOKENS: ClassVar[tuple[float, float] | None] = None
    """Prompt and response tokens of a rollout, by which budgets are turned into prompts, and which `plan` assumes until
    runs have finished. A `SymbolTask` may leave it: they are then the means of its held-out problems and solutions."""
    NAMED_BY: ClassVar[tuple[str, ...]] = ()
    """Fields that stand in the name of a run where they differ from their default."""
    name: Any = None

    @property
    def held_out_problems(self) -> int | None:
        """How many held-out problems there are, as far as the config says."""
        return self.TEST_PROBLEMS

    @property
    def longest_prompt(self) -> int:
        """Tokens of a prompt at the most, for the memory that `plan` reckons with."""
        return 64

    @property
    def distinct_prompts(self) -> int | None:
        """Training prompts until there is no new one; null where the config does not say."""
        return None

    def check_trainable(self) -> None:
        """Raise ValueError where a run cannot train on it; `scaling eval` may use it all the same."""

    def without_files(self) -> TaskConfig:
        """As it asks and reads answers, without its files: those may not be on this machine."""
        return self


class TextConfig(TaskConfig):
    """Of a task that asks in text."""

    TOKENS = TEXT_TOKENS
    template: Literal["tokenizer", "none"] = "tokenizer"
    """The chat template of the model's tokenizer, for base and instruct models alike; none = the bare problem."""


@functools.cache
def task_classes() -> dict[str, type[TaskConfig]]:
    """Config class of each task by name, from the files of this folder."""
    return members(__name__, __path__, TaskConfig, "name")


def task_names() -> list[str]:
    return list(task_classes())


def load_task(config: TaskConfig, encoding: Encoding | None = None) -> Task:
    """The task of a config; `encoding` is the tokenizer of a model that has one.

    Raises InputError naming the tasks there are.
    """
    kind = task_classes()[check_name(config.name, task_names(), "task")]
    return sys.modules[kind.__module__].Task(config, encoding)


def rollout_tokens(config: TaskConfig) -> tuple[float, float]:
    """Prompt and response tokens of a rollout, as the task says them or as its held-out problems and solutions are.

    Raises InputError for a task that neither says them nor has solutions.
    """
    if config.TOKENS is not None:
        return config.TOKENS
    kind = getattr(sys.modules[type(config).__module__], "Task", None)
    if not (isinstance(kind, type) and issubclass(kind, SymbolTask)):
        raise InputError(
            f"task {config.name} says no TOKENS: give its config class TOKENS = (prompt, response), the tokens of a "
            "rollout, by which a budget in FLOPs is turned into prompts."
        )
    return _mean_tokens(kind, type(config), config.model_dump_json())


@functools.cache  # a plan asks in every cell, and holding out problems takes a while
def _mean_tokens(task: type[SymbolTask], kind: type[TaskConfig], values: str) -> tuple[float, float]:
    return task(kind.model_validate_json(values)).mean_tokens()


# ---------------------------------------------------------------- what tasks share


class _TaskBase:
    """Problems that are drawn without end, the first of them held out; each response is graded as text."""

    levels: tuple[int, ...] = (0,)
    notes: tuple[str, ...] = ()

    def __init__(self, config: TaskConfig):
        self.name = config.name
        self._test = self.held_out(config.held_out_problems or 0)
        self._reserved = frozenset(self._test)

    # What a task writes.

    def draw(self, rng: np.random.Generator, level: int) -> str:
        raise NotImplementedError

    def grade_text(self, problem: str, response: str) -> Grade:
        raise NotImplementedError

    # What it may write.

    def held_out(self, count: int) -> tuple[str, ...]:
        """The held-out problems, the same for every run: distinct ones, levels in turn."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([TEST_SEED])))
        problems: dict[str, None] = {}  # a set that keeps its order
        for _ in range(DRAWS * count):
            if len(problems) == count:
                break
            problems[self.draw(rng, self.levels[len(problems) % len(self.levels)])] = None
        if len(problems) < count:
            raise InputError(
                f"task {self.name}: only {len(problems)} distinct problems in {DRAWS * count} draws, and {count} are "
                "held out; ask for fewer, or for harder ones."
            )
        return tuple(problems)

    def training_problems(self, unique: int | None) -> list[str] | None:
        return None

    def reserved(self, text: str) -> bool:
        return text in self._reserved

    def prompt(self, text: str, index: int) -> Prompt:
        raise NotImplementedError

    def decode(self, tokens: Sequence[int]) -> str:
        raise NotImplementedError

    def test_prompts(self, count: int) -> list[Prompt]:
        if not 1 <= count <= len(self._test):
            raise InputError(
                f"evaluation.problems: {count} held-out problems asked for; there are {len(self._test)} in task "
                f"{self.name}; ask for 1 to {len(self._test)}."
            )
        return [self.prompt(text, index) for index, text in enumerate(self._test[:count])]

    def problem_set(self, path: str | None, count: int | None) -> list[Prompt]:
        if path is not None:
            raise InputError(f"task {self.name} makes its problems and reads no file: {path!r}; leave the path out.")
        return self.test_prompts(len(self._test) if count is None else count)

    def demonstrations(
        self, seed: int, iteration: int, recipe: BaseRecipe
    ) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        raise InputError(f"task {self.name} has no demonstrations to make a base model from; give model.path.")

    def grade(self, prompt: Prompt, response: tuple[int, ...]) -> Grade:
        """A response cut at max_new_tokens is judged by what it wrote."""
        return self.grade_text(prompt.text, self.decode(response))

    def grade_many(self, prompts: Sequence[Prompt], responses: Sequence[tuple[int, ...]]) -> list[Grade]:
        return [self.grade(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]

    def truth(self, prompt: Prompt) -> str | None:
        return None

    def counts(self) -> dict[str, float]:
        return {}


class TextTask(_TaskBase):
    """A task that asks in text: its tokens are those of the model's tokenizer, and any of them may be sampled."""

    max_new_tokens = 1024

    def __init__(self, config: TextConfig, encoding: Encoding | None):
        if encoding is None:
            raise InputError(
                f"task {config.name} needs a model with a tokenizer: give model.path, a transformers folder."
            )
        self.encoding, self.chat = encoding, config.template == "tokenizer"
        self.vocabulary: list[str] = []
        self.end_ids, self.end_names = encoding.end_ids, encoding.end_names
        self.allowed_V = np.ones(encoding.vocabulary, dtype=bool)
        self.pad_id = self.end_ids[0]  # never read: lengths decide
        super().__init__(config)

    def prompt(self, text: str, index: int) -> Prompt:
        return Prompt(text, self.encoding.encode(text, chat=self.chat), index)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.encoding.decode(tokens)


class SymbolTask(_TaskBase):
    """A task in symbols of its own, one character and one token each, with demonstrations: `solution` of a problem."""

    symbols: Sequence[str] = ()  # their place is their id
    max_new_tokens = 0  # 0 = 1.5 times the longest solution of a held-out problem

    def __init__(self, config: TaskConfig, encoding: Encoding | None = None):  # its tokens are its own
        self.vocabulary = [*self.symbols, *SPECIAL]
        if len(self.vocabulary) > config.VOCABULARY:
            raise InputError(
                f"task {config.name} has {len(self.vocabulary)} symbols with {', '.join(SPECIAL)}, and its config "
                f"class declares VOCABULARY {config.VOCABULARY}; declare more."
            )
        self.ids = {symbol: id for id, symbol in enumerate(self.vocabulary)}
        self.end_id, self.pad_id = self.ids["<end>"], self.ids["<pad>"]
        self.end_ids, self.end_names = (self.end_id,), ("<end>",)
        self.allowed_V = np.zeros(config.VOCABULARY, dtype=bool)
        self.allowed_V[[self.ids[symbol] for symbol in (*self.written(), "<end>")]] = True
        super().__init__(config)
        if not self.max_new_tokens:
            self.max_new_tokens = ceil(1.5 * max(len(self.solution(text)) + 1 for text in self._test))

    def solution(self, text: str) -> str:
        """A right response to a problem, as a demonstration shows it."""
        raise NotImplementedError

    def truth(self, prompt: Prompt) -> str | None:
        return self.solution(prompt.text)

    def mean_tokens(self) -> tuple[float, float]:
        """Mean tokens of a held-out problem and of its solution, with the end token."""
        solved = [len(self.solution(text)) + 1 for text in self._test]
        return sum(map(len, self._test)) / len(self._test), sum(solved) / len(solved)

    def written(self) -> Sequence[str]:
        """The symbols that a response may hold."""
        return self.symbols

    def prompt(self, text: str, index: int) -> Prompt:
        return Prompt(text, self.encode(text), index)

    def encode(self, text: str) -> tuple[int, ...]:
        """One id per character."""
        return tuple([self.ids[symbol] for symbol in text])

    def decode(self, tokens: Sequence[int]) -> str:
        vocabulary = self.vocabulary
        return "".join([vocabulary[id] if 0 <= id < len(vocabulary) else "<unused>" for id in tokens])

    def demonstrations(
        self, seed: int, iteration: int, recipe: BaseRecipe
    ) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """One batch of (prompt tokens, response tokens with the end token), levels at random, none held out."""
        rng = generator(seed, "demonstrations", iteration)
        levels = rng.integers(len(self.levels), size=recipe.batch_size)
        texts = [self.draw_demonstrated(rng, self.levels[level]) for level in levels]
        return [(self.encode(text), (*self.encode(self.solution(text)), self.end_id)) for text in texts]

    def draw_demonstrated(self, rng: np.random.Generator, level: int) -> str:
        """A problem that is not held out."""
        for _ in range(REJECTIONS):
            text = self.draw(rng, level)
            if not self.reserved(text):
                return text
        raise InputError(f"task {self.name}: all problems of level {level} are held out; declare fewer TEST_PROBLEMS.")

    def grade(self, prompt: Prompt, response: tuple[int, ...]) -> Grade:
        if self.end_id in response:
            response = response[: response.index(self.end_id)]
        return self.grade_text(prompt.text, self.decode(response))
