"""Maths problems with a known answer: read from files, asked through the model's chat template, graded by their answer.

A file is parquet, JSONL, JSON or CSV, one problem a row (scaling/problem_files.py), in verl's schema (`prompt`, a list
of messages; `reward_model.ground_truth`; `extra_info`) or flat (`problem`, `question` or `prompt`; `answer` or
`ground_truth`); `columns` names others. Problems are taken as they stand, except that a request for a boxed answer is
added where there is none.

The rules of the reference study (arXiv 2509.25300, its released code): a problem is easy if a reference model's pass
rate is at least 0.3, a missing rate counts as hard; the order is by pass rate, easy first; the held-out set is 250 easy
and 250 hard ones drawn with the seeds 42 and 43; the U distinct problems of a reuse study are drawn likewise, with the
easy share of the pool. Draws are prefixes of one permutation each, so smaller sets lie inside larger ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from scaling.fields import Int, OptionalDataFile, Part
from scaling.graders.math_answers import MathGrader
from scaling.problem_files import Problem, ProblemFile, read_problem_file
from scaling.rollout_types import Encoding, Grade, Prompt
from scaling.schema import InputError
from scaling.tasks import TextConfig, TextTask

EASY = 0.3  # pass rate
EASY_SEED, HARD_SEED = 42, 43


class MathColumns(Part):
    """Columns of the files in place of the usual ones; a dot goes into a column: `reward_model.ground_truth`."""

    problem: str | None = None
    """Text, or a list of messages; null = prompt, problem or question."""
    answer: str | None = None
    """null = reward_model.ground_truth, ground_truth or answer. Of a whole solution the last box counts."""


class MathConfig(TextConfig):
    """Maths problems with a known answer, from files in verl's schema, JSONL or CSV; needs model.path.

    The defaults take the files as they are. The rules of arXiv 2509.25300 are `order: difficulty`, `test: null`,
    `subset: stratified` and, for its reuse study, `pool: 51200`.
    """

    # 2: answers are read by scaling.answers in place of math-verify; a problem is stripped before a request is added.
    VERSION: ClassVar[int] = 2
    READS_FILES = READS_ANY_FILE = True
    TEST_PROBLEMS = None
    name: Literal["math"] = "math"
    train: OptionalDataFile = None
    """Training problems. Their place does not enter the run_id, their content does. null only where nothing is trained
    (`scaling eval`)."""
    test: OptionalDataFile = None
    """Held-out problems; null = drawn from `train`, half of them easy and half hard (pass rate at least 0.3)."""
    test_problems: Int = Field(default=500, ge=2)
    """How many to hold out where `test` is null."""
    order: Literal["file", "difficulty", "shuffled"] = "file"
    """Of the training problems; difficulty = by pass rate, easy first, a missing one counting as 0."""
    order_seed: Int = Field(default=0, ge=0)
    """Seed of `order: shuffled`; not the run's, so that runs at several seeds see one order."""
    pass_rate: str = "qwen2.5_7b_pass_rate"
    """Key of extra_info, or column, that holds the pass rate of a reference model."""
    columns: MathColumns = MathColumns()
    subset: Literal["prefix", "stratified"] = "prefix"
    """Which of the problems are the U distinct ones: the first, or a sample with the pool's share of easy ones."""
    pool: Int | None = Field(default=None, ge=1)
    """Train on the first so many problems of the order only; null = all."""
    answer: Literal["boxed", "anywhere"] = "boxed"
    """Where the answer is looked for: in the last \\boxed{}, or failing that anywhere at the end of the response."""
    max_prompt_tokens: Int = Field(default=2048, ge=1)
    """Longer prompts are left out, and counted in the log."""

    @property
    def longest_prompt(self) -> int:
        return self.max_prompt_tokens

    def check_trainable(self) -> None:
        if self.train is None:
            raise ValueError("task.train is missing: task math needs a file of training problems")

    def without_files(self) -> MathConfig:
        kept = {name: getattr(self, name) for name in ("answer", "template", "max_prompt_tokens", "columns")}
        return MathConfig(**kept)


def read_problems(path: Path, pass_rate: str = MathConfig.model_fields["pass_rate"].default) -> list[Problem]:
    """The problems of a file with the usual columns. Raises InputError naming the row and what it lacks."""
    return read_problem_file(path, pass_rate).problems


# ---------------------------------------------------------------- the study's rules


def by_difficulty(problems: Sequence[Problem]) -> list[Problem]:
    """Highest pass rate first; equal ones stay in the order of the file."""
    return sorted(problems, key=lambda problem: -problem.pass_rate)


def stratified(problems: Sequence[Problem], easy: int, hard: int) -> list[int]:
    """Places of `easy` easy and `hard` hard problems, ascending; a short kind is made up from the other.

    The draw is that of pandas' sample(random_state=seed): the head of one permutation per kind, hence nested.
    """
    is_easy = np.array([problem.pass_rate >= EASY for problem in problems], dtype=bool)
    easy_places, hard_places = np.flatnonzero(is_easy), np.flatnonzero(~is_easy)
    easy_taken = min(len(easy_places), easy + max(0, hard - len(hard_places)))
    hard_taken = min(len(hard_places), hard + max(0, easy - len(easy_places)))
    drawn = [
        places[np.random.RandomState(seed).permutation(len(places))[:count]]
        for places, seed, count in ((easy_places, EASY_SEED, easy_taken), (hard_places, HARD_SEED, hard_taken))
    ]
    return sorted(np.concatenate(drawn).tolist())


def subset(problems: Sequence[Problem], unique: int) -> list[Problem]:
    """`unique` problems with the easy share of all of them, in their order."""
    easy = int(unique * sum(problem.pass_rate >= EASY for problem in problems) / len(problems))
    return [problems[place] for place in stratified(problems, easy, unique - easy)]


# ---------------------------------------------------------------- the task


class Task(TextTask):
    """Maths; see scaling.rollout_types.Task for the meaning of the attributes."""

    max_new_tokens = 4096

    def __init__(self, config: MathConfig, encoding: Encoding | None):
        super().__init__(config, encoding)
        self.config = config
        self.grader = MathGrader()
        self._graded = self._without = self._failed = 0
        self._notes: list[str] = []

        self._tokens: dict[str, tuple[int, ...]] = {}
        self._answers: dict[str, str] = {}
        self._sets: dict[str, tuple[str, ...]] = {}
        train = self._read(config.train) if config.train else []
        if config.order == "difficulty":
            train = by_difficulty(train)
        elif config.order == "shuffled":
            train = [train[i] for i in np.random.default_rng(config.order_seed).permutation(len(train))]
        if config.test is not None:
            test = self._read(config.test)
        elif train:
            half = config.test_problems // 2
            places = set(stratified(train, half, config.test_problems - half))
            test = [problem for place, problem in enumerate(train) if place in places]
            train = [problem for place, problem in enumerate(train) if place not in places]
        else:
            test = []
        test = self._usable(test, "held-out problems", frozenset())
        self._test = tuple(problem.text for problem in test)
        self._reserved = frozenset(self._test)
        train = self._usable(train, "training problems", self._reserved)
        self._train = train[: config.pool]
        if config.train and not (self._train and test):
            left = f"{len(train)} problems are left to train on and {len(test)} to hold out; both are wanted"
            raise InputError(f"task math: {config.train}: {'; '.join([left, *self._notes])}.")
        self._notes.insert(0, f"{len(self._train)} training problems, {len(test)} held-out problems")
        self.notes = tuple(self._notes)

    def _read(self, path: str) -> list[Problem]:
        """The problems of a file; what a reader should know about it is noted."""
        config, columns = self.config, self.config.columns
        own = path in (config.train, config.test)  # another set may have the usual columns
        found = read_problem_file(
            Path(path), config.pass_rate, problem=columns.problem, answer=columns.answer, usual=not own
        )
        self._notes += found.notes(Path(path))
        if path == config.train:
            self._check_rates(found)
        return found.problems

    def _check_rates(self, found: ProblemFile) -> None:
        """Without pass rates every problem is hard, which must not happen unseen where they decide something."""
        config, key = self.config, self.config.pass_rate
        if found.rated:
            return
        none = f"task.pass_rate: no row of {config.train} has {key!r}"
        if config.order == "difficulty" or config.subset == "stratified":
            what = "order: difficulty" if config.order == "difficulty" else "subset: stratified"
            raise InputError(f"{none}, and task.{what} goes by it; name the key that the file has.")
        if config.test is None or key != MathConfig.model_fields["pass_rate"].default:
            self._notes.append(f"{none}: every problem counts as hard")

    def _usable(self, problems: list[Problem], what: str, held_out: frozenset[str]) -> list[Problem]:
        """Those short enough, the first of equal ones, none of the held-out ones; what is left out is noted."""
        kept, reasons = [], {"too long": 0, "repeated": 0, "also held out": 0}
        for problem in problems:
            tokens = self.encoding.encode(problem.text, chat=self.chat)
            if problem.text in held_out:
                reasons["also held out"] += 1
            elif problem.text in self._answers:
                reasons["repeated"] += 1
            elif len(tokens) > self.config.max_prompt_tokens:
                reasons["too long"] += 1
            else:
                self._tokens[problem.text], self._answers[problem.text] = tokens, problem.answer
                kept.append(problem)
        if any(reasons.values()):
            shown = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
            self._notes.append(f"of {len(problems)} {what} {len(problems) - len(kept)} are left out: {shown}")
        return kept

    # ------------------------------------------------------------ problems

    def training_problems(self, unique: int | None) -> list[str]:
        if unique is not None and unique > len(self._train):
            raise InputError(
                f"data.prompts_unique: {unique} distinct problems asked for; {self.config.train} leaves "
                f"{len(self._train)} to train on."
            )
        chosen = self._train[:unique]
        if unique is not None and self.config.subset == "stratified":
            chosen = subset(self._train, unique)
        return [problem.text for problem in chosen]

    def problem_set(self, path: str | None, count: int | None) -> list[Prompt]:
        if path is not None and path not in self._sets:
            problems, kept = self._read(path), []
            for problem in problems:
                tokens = self.encoding.encode(problem.text, chat=self.chat)
                if len(tokens) <= self.config.max_prompt_tokens:
                    self._tokens[problem.text] = tokens
                    self._answers.setdefault(problem.text, problem.answer)
                    kept.append(problem.text)
            if len(kept) < len(problems):
                left_out = f"{len(problems) - len(kept)} of {len(problems)} problems are left out: too long"
                self._notes.append(f"{path}: {left_out}")
            self.notes = tuple(self._notes)
            self._sets[path] = tuple(kept)
        texts = self._test if path is None else self._sets[path]
        if not texts and path is None:
            raise InputError("task math: there are no held-out problems here; name a file of them (--set FILE).")
        if not texts or (count is not None and count > len(texts)):
            raise InputError(
                f"task math: {count or 'some'} problems of {path or 'the held-out ones'} asked for; there are "
                f"{len(texts)} that are short enough."
            )
        return [self.prompt(text, index) for index, text in enumerate(texts[:count])]

    def prompt(self, text: str, index: int) -> Prompt:
        if text not in self._tokens:
            raise InputError(f"{text[:60]!r} is not a problem of {self.config.train} or of the held-out set.")
        return Prompt(text, self._tokens[text], index)

    def draw(self, rng: np.random.Generator, level: int) -> str:
        raise InputError("task math has the problems of its files only; give data.prompts_unique, or fewer steps.")

    # ------------------------------------------------------------ grading

    def truth(self, prompt: Prompt) -> str | None:
        return self._answers[prompt.text]

    def grade(self, prompt: Prompt, response: tuple[int, ...]) -> Grade:
        return self.grade_many([prompt], [response])[0]

    def grade_many(self, prompts: Sequence[Prompt], responses: Sequence[tuple[int, ...]]) -> list[Grade]:
        """1 if the answer of a response equals the ground truth, else 0; there is no process rule.

        A response cut at max_new_tokens is judged by what it wrote.
        """
        pairs = [
            (self._answers[prompt.text], self.decode(response))
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        failed = self.grader.failures()
        verdicts = self.grader.grade(pairs, anywhere=self.config.answer == "anywhere")
        self._graded += len(verdicts)
        self._without += sum(verdict.why in ("none", "anywhere") for verdict in verdicts)
        self._failed += self.grader.failures() - failed
        return [Grade(float(v.correct), v.correct, process=None, careful=None) for v in verdicts]

    def counts(self) -> dict[str, float]:
        counts: dict[str, float] = {"verifier_failures": self._failed}
        if self._graded:
            counts["unboxed_share"] = self._without / self._graded
        self._graded = self._without = self._failed = 0
        return counts
