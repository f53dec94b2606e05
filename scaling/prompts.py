"""The prompt stream: which problems a run trains on at each step.

A pure function of (data config, seed, model, place). The estimator and the number of steps do not enter, so runs that
differ in them see the same prompts, and a shorter run is a prefix of a longer one.
"""

from __future__ import annotations

import hashlib

from scaling.config.parts import DataConfig
from scaling.rollout_types import Prompt, Task, generator
from scaling.schema import InputError

# Draws in a row without a new problem. With one problem in 10,000 left this gives up once in 22,000 times.
REJECTIONS = 100_000


class PromptStream:
    """Prompts by step. `model_key` names the model: streams of two models are independent at the same seed.

    The distinct problems are one sequence; `prompts_unique` = U takes the first U of it, so smaller pools lie inside
    larger ones (a task with a finite set says which U). The first pass goes in that order, hence runs of different U
    agree until the smaller pool is used up; later passes do the same (`pass_order: same`) or each take a permutation
    of their own (`shuffled`).
    """

    def __init__(self, task: Task, data: DataConfig, seed: int, model_key: str):
        if data.prompts_unique is None and data.reuse_factor not in (None, 1):
            raise InputError(
                f"data.reuse_factor {data.reuse_factor:g} is not resolved to prompts_unique; call config.resolve first."
            )
        self.task, self.data, self.seed = task, data, seed
        self._model = int.from_bytes(hashlib.sha256(model_key.encode()).digest()[:8])
        self._rng = generator(seed, "prompts", self._model)  # always consumed from the start, in order
        finite = task.training_problems(data.prompts_unique)
        self._finite = finite is not None
        self._problems: list[str] = finite or []
        self._drawn: set[str] = set()
        self._permutation = (0, range(0))  # (pass, its order), the last one used

    def step(self, t: int) -> list[Prompt]:
        """The prompts of step t >= 1 where every step takes as many."""
        if t < 1:
            raise InputError(f"step {t} has no prompts; steps count from 1.")
        size = self.data.prompts_per_step
        return self.prompts((t - 1) * size, size)

    def prompts(self, first: int, count: int) -> list[Prompt]:
        """`count` prompts from place `first` among all that are consumed, repeats included; `index` is the place."""
        return [self.task.prompt(self._problem(self._place(n)), n) for n in range(first, first + count)]

    def ids(self, first: int, count: int) -> list[int]:
        """Which of the distinct problems those prompts are, 0 the first that the run ever draws."""
        return [self._place(n) for n in range(first, first + count)]

    def unique(self, t: int) -> int:
        """Distinct prompts consumed after step t where every step takes as many."""
        return self.distinct(t * self.data.prompts_per_step)

    def distinct(self, consumed: int) -> int:
        """Distinct prompts among the first so many."""
        return consumed if self.data.prompts_unique is None else min(consumed, self.data.prompts_unique)

    def _place(self, n: int) -> int:
        """Which distinct problem stands at place n."""
        pool = self.data.prompts_unique
        if pool is None or n < pool:
            return n
        number, place = divmod(n, pool)
        if self.data.pass_order == "same":
            return place
        if self._permutation[0] != number:
            order = generator(self.seed, "passes", self._model, number).permutation(pool).tolist()
            self._permutation = (number, order)
        return self._permutation[1][place]

    def _problem(self, index: int) -> str:
        """The distinct problem `index`; levels go in turn. Reserved and earlier problems are drawn again."""
        if self._finite and index >= len(self._problems):
            raise InputError(
                f"{self.task.name}: all {len(self._problems)} training problems are used up; give data.prompts_unique "
                f"of at most {len(self._problems)} to repeat them, or fewer steps."
            )
        while len(self._problems) <= index:
            level = self.task.levels[len(self._problems) % len(self.task.levels)]
            for _ in range(REJECTIONS):
                text = self.task.draw(self._rng, level)
                if text not in self._drawn and not self.task.reserved(text):
                    break
            else:
                raise InputError(
                    f"{self.task.name}: no new problem of level {level} after {len(self._problems)} distinct prompts; "
                    f"give data.prompts_unique of at most {len(self._problems)}, or fewer steps."
                )
            self._problems.append(text)
            self._drawn.add(text)
        return self._problems[index]
