"""Hex chain: a hexadecimal digit and k operations + - *, worked strictly left to right, modulo 16 after each.

    prompt      d+9-1*4-7:
    solution    d+9=6,6-1=5,5*4=4,4-7=d      and an end token; the answer is the value after the last `=`

Levels are the number of operations, 2 to 5; operands are 1..15. One token per symbol. An equation may do several
operations at once (a leap: `d+9-1=5`); its answer may be right, but its process score loses the steps it skips.
With modulus 10 digits are 0..9 and operands 1..9; `noise` is the share of demonstrations with a blemish that leaves
the answer right, which an outcome reward cannot see.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Literal

import numpy as np
from pydantic import Field

from scaling.fields import Float
from scaling.ladder import BaseRecipe
from scaling.rollout_types import Encoding, Grade, Prompt, generator
from scaling.schema import InputError
from scaling.tasks import TEST_SEED, SymbolTask, TaskConfig

DIGITS = "0123456789abcdef"  # the id of a digit is its value
OPERATIONS = "+-*"
LEVELS = (2, 3, 4, 5)
TEST_PROBLEMS = 2048


class HexChainConfig(TaskConfig):
    """Chains of + - * modulo 16; with modulus 10 and noise .3 the noisy variant."""

    READS_TEXT, MADE_BASE, HAS_PROCESS = False, True, True
    TEST_PROBLEMS = TEST_PROBLEMS
    TOKENS = (9.0, 21.0)
    NAMED_BY = ("modulus",)
    name: Literal["hex_chain"] = "hex_chain"
    modulus: Literal[16, 10] = 16
    noise: Float = Field(default=0.0, ge=0, le=1)
    """Share of demonstrations with a duplicated or wrong step."""

    @property
    def distinct_prompts(self) -> int:
        """Prompts until level 2, the smallest of four levels that go in turn, has no new one: it has two operations."""
        return 4 * (self.modulus * (3 * (self.modulus - 1)) ** 2 - TEST_PROBLEMS // len(LEVELS))


def draw(rng: np.random.Generator, level: int, modulus: int) -> str:
    """The text of a random problem of `level` operations: a digit, then pairs of operation and operand 1..modulus-1."""
    first, *pairs = rng.random(2 * level + 1).tolist()
    text = DIGITS[int(first * modulus)]
    for operation, operand in zip(pairs[::2], pairs[1::2], strict=True):
        text += OPERATIONS[int(operation * 3)] + DIGITS[1 + int(operand * (modulus - 1))]
    return text + ":"


@functools.cache
def reserved_problems(modulus: int) -> tuple[str, ...]:
    """The held-out problems, levels in turn: 512 distinct ones per level, the same for every run."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([TEST_SEED, modulus])))
    problems: dict[str, None] = {}  # a set that keeps its order
    while len(problems) < TEST_PROBLEMS:
        problems[draw(rng, LEVELS[len(problems) % len(LEVELS)], modulus)] = None
    return tuple(problems)


def evaluate(left: str, modulus: int) -> str:
    """The digit that a chain such as `d+9-1` comes to, strictly left to right."""
    value = int(left[0], 16)
    for operation, operand in zip(left[1::2], left[2::2], strict=True):
        number = int(operand, 16)
        value = value + number if operation == "+" else value - number if operation == "-" else value * number
        value %= modulus
    return DIGITS[value]


class Task(SymbolTask):
    """Hex chain; see scaling.rollout_types.Task for the meaning of the attributes."""

    symbols = (*DIGITS, *OPERATIONS, "=", ",", ":")
    levels = LEVELS
    max_new_tokens = math.ceil(1.5 * 6 * max(LEVELS))  # a step is 5 symbols and a comma or the end

    def __init__(self, config: HexChainConfig, encoding: Encoding | None = None):
        self.modulus, self.noise = config.modulus, config.noise
        self.digits = frozenset(DIGITS[: self.modulus])
        digit, operand = DIGITS[: self.modulus], DIGITS[1 : self.modulus]
        self._problem = re.compile(rf"[{digit}](?:[-+*][{operand}])+:")
        self._answer = functools.lru_cache(4096)(lambda text: evaluate(text[:-1], self.modulus))
        super().__init__(config)

    # ------------------------------------------------------------ problems

    def draw(self, rng: np.random.Generator, level: int) -> str:
        return draw(rng, level, self.modulus)

    def held_out(self, count: int) -> tuple[str, ...]:
        return reserved_problems(self.modulus)

    def written(self) -> list[str]:
        return [*self.digits, *OPERATIONS, "=", ","]

    def prompt(self, text: str, index: int) -> Prompt:
        if not self._problem.fullmatch(text):
            raise InputError(f"{text!r} is not a problem modulo {self.modulus}; write one like '9+4-1*5:'.")
        return Prompt(text, self.encode(text), index, level=len(text) // 2 - 1)

    # ------------------------------------------------------------ demonstrations

    def solution(self, text: str) -> str:
        """The careful solution of a problem: every step written."""
        return ",".join(self._equations(text, [True] * (len(text) // 2 - 1)))

    def _equations(self, text: str, written: list[bool]) -> list[str]:
        """Equations of a solution that writes a value after operation i where `written[i]`."""
        equations, left = [], text[0]
        for i, write in enumerate(written):
            left += text[1 + 2 * i : 3 + 2 * i]
            if write:
                value = evaluate(left, self.modulus)
                equations.append(f"{left}={value}")
                left = value
        return equations

    def demonstrations(
        self, seed: int, iteration: int, recipe: BaseRecipe
    ) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """One batch of (prompt tokens, response tokens with the end token).

        The first `recipe.iterations` batches are of levels 1-5 with every step written; later ones of levels 2-5,
        where a value is written after an operation with probability `recipe.value_share`, after the last always.
        """
        rng = generator(seed, "demonstrations", iteration)
        leaping = iteration >= recipe.iterations
        lowest, highest = (LEVELS[0] if leaping else 1), LEVELS[-1]
        batch = []
        for _ in range(recipe.batch_size):
            level = lowest + int(rng.random() * (highest - lowest + 1))
            text = self.draw_demonstrated(rng, level)
            share = recipe.value_share if leaping else 1.0
            written = [draw < share for draw in rng.random(level).tolist()]
            equations = self._equations(text, [*written[:-1], True])
            if self.noise and rng.random() < self.noise:
                self._blemish(equations, rng)
            batch.append((self.encode(text), (*self.encode(",".join(equations)), self.end_id)))
        return batch

    def _blemish(self, equations: list[str], rng: np.random.Generator) -> None:
        """Write one equation twice or, as likely, one value wrong; the chain goes on from the right one."""
        kind, place, shift = rng.random(3).tolist()
        if kind < 0.5 or len(equations) == 1:
            i = int(place * len(equations))
            equations.insert(i, equations[i])
        else:  # never the last value, so that the answer stays right
            i = int(place * (len(equations) - 1))
            left, value = equations[i].split("=")
            wrong = (int(value, 16) + 1 + int(shift * (self.modulus - 1))) % self.modulus
            equations[i] = f"{left}={DIGITS[wrong]}"

    # ------------------------------------------------------------ grading

    def grade_text(self, problem: str, response: str) -> Grade:
        """Outcome 1 if the value after the last `=` is right, and the process score good / (k + bad + redundant).

        k is the number of operations. An equation is good if it starts from the value written last, does the next
        operations of the problem and comes to its right value; a leap counts once. It is redundant if it repeats an
        earlier equation and is not the next step. Anything else, cut or malformed, is bad. A step that does the
        next operations but starts or ends wrong is bad, and later steps may go on from it: one slip costs one step.
        A response cut at max_new_tokens is judged by what it wrote.
        """
        operations, written = problem[1:-1], problem[0]
        position = good = bad = redundant = 0
        seen = set()
        for equation in response.split(","):
            left, _, value = equation.partition("=")
            doing = left[1:]
            attempt = (
                doing != "" and len(doing) % 2 == 0 and operations.startswith(doing, position) and value in self.digits
            )
            # Whether it is the next step comes first: 5*1=5,5*1=5 solves 5*1*1.
            if attempt and left[0] == written:
                right = evaluate(left, self.modulus) == value
            elif equation in seen:
                redundant += 1
                continue
            else:
                right = False
            good, bad = good + right, bad + (not right)
            if attempt:
                position, written = position + len(doing), value
            seen.add(equation)
        steps = len(operations) // 2
        answer = response.rpartition("=")[2].partition(",")[0] if "=" in response else ""
        correct = answer == self._answer(problem)
        careful = good == steps and not bad and not redundant
        return Grade(float(correct), correct, good / (steps + bad + redundant), careful)
