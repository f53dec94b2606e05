"""Procedural problems of reasoning-gym: without end, each a pure function of (data set, settings, seed).

The verdict is the data set's own verifier, binarised: right is a score of 1, as several give part of it to wrong
answers. Verifiers are not taken on trust. Refused are those that run an answer as Python or sympy code, and, by a trial
on the first problems when a run starts, those that let rubbish pass, raise on it, or miss their own solution.
"""

from __future__ import annotations

import importlib
import re
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from pydantic import Field

from scaling.fields import Float, Int
from scaling.rollout_types import Encoding, Grade, Prompt
from scaling.schema import InputError, check_name, one_line
from scaling.tasks import DRAWS, TEST_SEED, TextConfig, TextTask

REQUEST = "Put your final answer between <answer> and </answer>."
MOST_CHARACTERS = 2000  # of an answer; a longer one is wrong
RUBBISH = ("", "banana", "I do not know", "[[", "-", "None of the above.")
TRIED = 16  # problems
# Their score_answer calls eval, or sympy's parser, which does: an answer could run code, or never return.
RUNS_ANSWERS = (
    "binary_matrix", "countdown", "intermediate_integration", "n_queens", "number_sorting", "polynomial_multiplication",
    "puzzle24", "simple_integration", "spiral_matrix", "string_insertion",
)  # fmt: skip


class GymConfig(TextConfig):
    """Problems without end from a data set of reasoning-gym (arXiv 2505.24760, `pip install '.[gym]'`)."""

    name: Literal["reasoning_gym"] = "reasoning_gym"
    dataset: str
    """Its name, e.g. chain_sum. Those whose verifier cannot be trusted are refused when a run starts."""
    settings: dict[str, Int | Float | bool | str | list[Int] | list[str]] = {}  # noqa: RUF012  pydantic copies it
    """The data set's own settings, e.g. {min_terms: 3}."""
    test_problems: Int = Field(default=512, ge=1)
    """Held-out problems: the first distinct ones of a seed of their own."""

    @property
    def held_out_problems(self) -> int:
        return self.test_problems


class Task(TextTask):
    """See scaling.rollout_types.Task for the meaning of the attributes."""

    def __init__(self, config: GymConfig, encoding: Encoding | None):
        try:
            package = importlib.import_module("reasoning_gym")
            names = sorted(importlib.import_module("reasoning_gym.factory").DATASETS)
        except ImportError:
            raise InputError(
                "task reasoning_gym needs the package reasoning-gym; install it with pip install '.[gym]'."
            ) from None
        check_name(config.dataset, names, "data set of reasoning-gym")
        if config.dataset in RUNS_ANSWERS:
            raise InputError(f"task.dataset {config.dataset}: its verifier runs answers as code; choose another one.")
        self.config = config
        self._make = package.create_dataset
        self._entries: dict[str, dict[str, Any]] = {}
        self._failed = 0
        self._scorer = self._dataset(TEST_SEED, DRAWS * config.test_problems)
        super().__init__(config, encoding)
        self._check_verifier()
        self.notes = (
            f"{config.dataset} of reasoning-gym {version('reasoning-gym')}, {len(self._test)} held-out problems",
        )

    def _dataset(self, seed: int, size: int) -> Any:
        try:
            return self._make(self.config.dataset, seed=seed, size=size, **self.config.settings)
        except (TypeError, AssertionError, ValueError) as error:
            raise InputError(
                f"task.settings: data set {self.config.dataset} does not take them ({one_line(error)})."
            ) from None

    def held_out(self, count: int) -> tuple[str, ...]:
        problems: dict[str, None] = {}  # a set that keeps its order
        for number in range(DRAWS * count):
            problems[self._text(self._scorer[number])] = None
            if len(problems) == count:
                return tuple(problems)
        raise InputError(
            f"task.test_problems: data set {self.config.dataset} has only {len(problems)} distinct problems in "
            f"{DRAWS * count} draws; ask for fewer, or for harder ones in task.settings."
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

    def draw(self, rng: np.random.Generator, level: int) -> str:
        return self._text(self._dataset(int(rng.integers(2**31)), 1)[0])

    def prompt(self, text: str, index: int) -> Prompt:
        if text not in self._entries:
            raise InputError(f"{text[:60]!r} is not a problem that this task has made.")
        return super().prompt(text, index)

    # ------------------------------------------------------------ grading

    def grade_text(self, problem: str, response: str) -> Grade:
        """1 if the last <answer> of the response scores 1, else 0; there is no process rule."""
        answers = re.findall(r"<answer>(.*?)</answer>", response, flags=re.DOTALL)
        answer, score = answers[-1].strip() if answers else "", 0.0
        if answer and len(answer) <= MOST_CHARACTERS:
            try:
                score = float(self._scorer.score_answer(answer, self._entries[problem]))
            except Exception:  # of somebody else's verifier, on a text that a model wrote: any
                self._failed += 1
        return Grade(float(score >= 1), score >= 1, process=None, careful=None)

    def counts(self) -> dict[str, float]:
        failed, self._failed = self._failed, 0
        return {"verifier_failures": failed}
