"""Procedural problems of reasoning-gym: without end, each a pure function of (data set, settings, seed).

The verdict is the data set's own verifier, binarised: right is a score of 1, as several give part of it to wrong
answers. Verifiers are not taken on trust. Refused are those that run an answer as Python or sympy code, and, by a trial
on the first problems when a run starts, those that let rubbish pass, raise on it, or miss their own solution.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from scaling.config.parts import GymConfig
from scaling.rollout_types import Encoding, Grade, Prompt
from scaling.schema import InputError, check_name

REQUEST = "Put your final answer between <answer> and </answer>."
MAX_NEW_TOKENS = 1024
MOST_CHARACTERS = 2000  # of an answer; a longer one is wrong
TEST_SEED = 20260326  # of the held-out problems; a run's seed never enters
RUBBISH = ("", "banana", "I do not know", "[[", "-", "None of the above.")
TRIED = 16  # problems
# Their score_answer calls eval, or sympy's parser, which does: an answer could run code, or never return.
RUNS_ANSWERS = (
    "binary_matrix", "countdown", "intermediate_integration", "n_queens", "number_sorting", "polynomial_multiplication",
    "puzzle24", "simple_integration", "spiral_matrix", "string_insertion",
)  # fmt: skip


class Task:
    """See scaling.rollout_types.Task for the meaning of the attributes."""

    def __init__(self, config: GymConfig, encoding: Encoding | None):
        try:
            package = importlib.import_module("reasoning_gym")
            names = sorted(importlib.import_module("reasoning_gym.factory").DATASETS)
        except ImportError:
            raise InputError(
                "task reasoning_gym needs the package reasoning-gym; install it with pip install '.[gym]'."
            ) from None
        if encoding is None:
            raise InputError(
                "task reasoning_gym needs a model with a tokenizer: give model.path, a transformers folder."
            )
        self.name, self.config, self.encoding = config.name, config, encoding
        self.vocabulary: list[str] = []
        self.end_ids, self.end_names = encoding.end_ids, encoding.end_names
        self.allowed_V = np.ones(encoding.vocabulary, dtype=bool)
        self.pad_id = self.end_ids[0]  # never read: lengths decide
        self.max_new_tokens, self.levels = MAX_NEW_TOKENS, (0,)
        check_name(config.dataset, names, "data set of reasoning-gym")
        if config.dataset in RUNS_ANSWERS:
            raise InputError(f"task.dataset {config.dataset}: its verifier runs answers as code; choose another one.")
        self._make = package.create_dataset
        self._entries: dict[str, dict[str, Any]] = {}
        self._failed = 0
        self._scorer = self._dataset(TEST_SEED, 50 * config.test_problems)
        self._test = self._first_distinct()
        self._reserved = frozenset(self._test)
        self._check_verifier()
        self.notes = (
            f"{config.dataset} of reasoning-gym {version('reasoning-gym')}, {len(self._test)} held-out problems",
        )

    def _dataset(self, seed: int, size: int) -> Any:
        try:
            return self._make(self.config.dataset, seed=seed, size=size, **self.config.settings)
        except (TypeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"task.settings: data set {self.config.dataset} does not take them ({reason}).") from None

    def _first_distinct(self) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for number in range(50 * self.config.test_problems):
            found[self._text(self._scorer[number])] = None
            if len(found) == self.config.test_problems:
                return tuple(found)
        raise InputError(
            f"task.test_problems: data set {self.config.dataset} has only {len(found)} distinct problems in "
            f"{50 * self.config.test_problems} draws; ask for fewer, or for harder ones in task.settings."
        )

    def _text(self, entry: dict[str, Any]) -> str:
        text = f"{str(entry['question']).strip()}\n\n{REQUEST}"
        self._entries.setdefault(text, entry)
        return text

    def _check_verifier(self) -> None:
        """Raise InputError unless its own solutions are right, and rubbish is wrong, on the first problems."""
        for text in self._test[:TRIED]:
            entry = self._entries[text]
            tries = [("its own solution", entry["answer"], True), *((repr(each), each, False) for each in RUBBISH)]
            for what, answer, right in tries:
                score = None
                try:
                    score = self._scorer.score_answer(answer, entry) if answer is not None else None
                    problem = "there is none" if answer is None else f"scores {score:g}"
                except Exception as error:
                    problem = f"raises {type(error).__name__}"
                if score is None or (score >= 1) is not right:
                    raise InputError(
                        f"task.dataset {self.config.dataset}: its verifier cannot be trusted ({what}: {problem}); "
                        f"choose another one."
                    )

    # ------------------------------------------------------------ problems

    def training_problems(self, unique: int | None) -> list[str] | None:
        return None

    def draw(self, rng: np.random.Generator, level: int) -> str:
        return self._text(self._dataset(int(rng.integers(2**31)), 1)[0])

    def reserved(self, text: str) -> bool:
        return text in self._reserved

    def test_prompts(self, count: int) -> list[Prompt]:
        if not 1 <= count <= len(self._test):
            raise InputError(
                f"evaluation.problems: {count} held-out problems asked for; there are {len(self._test)} "
                f"(task.test_problems)."
            )
        return [self.prompt(text, index) for index, text in enumerate(self._test[:count])]

    def problem_set(self, path: str | None, count: int | None) -> list[Prompt]:
        if path is not None:
            raise InputError(f"task {self.name} makes its problems and reads no file: {path!r}; leave the path out.")
        return self.test_prompts(len(self._test) if count is None else count)

    def prompt(self, text: str, index: int) -> Prompt:
        if text not in self._entries:
            raise InputError(f"{text[:60]!r} is not a problem that this task has made.")
        return Prompt(text, self.encoding.encode(text, chat=self.config.template == "tokenizer"), index)

    def decode(self, tokens: tuple[int, ...]) -> str:
        return self.encoding.decode(tokens)

    def demonstrations(self, seed: int, iteration: int, recipe: Any):
        raise InputError("task reasoning_gym has no demonstrations to make a base model from; give model.path.")

    # ------------------------------------------------------------ grading

    def grade(self, prompt: Prompt, response: tuple[int, ...]) -> Grade:
        """1 if the last <answer> of the response scores 1, else 0; there is no process rule."""
        found = re.findall(r"<answer>(.*?)</answer>", self.decode(response), flags=re.DOTALL)
        answer, score = found[-1].strip() if found else "", 0.0
        if answer and len(answer) <= MOST_CHARACTERS:
            try:
                score = float(self._scorer.score_answer(answer, self._entries[prompt.text]))
            except Exception:  # of somebody else's verifier, on a text that a model wrote: any
                self._failed += 1
        return Grade(float(score >= 1), score >= 1, process=None, careful=None)

    def grade_many(self, prompts: Sequence[Prompt], responses: Sequence[tuple[int, ...]]) -> list[Grade]:
        return [self.grade(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]

    def counts(self) -> dict[str, float]:
        failed, self._failed = self._failed, 0
        return {"verifier_failures": failed}
