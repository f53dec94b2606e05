"""The parts of a RunConfig that say what is rewarded, who judges it, and which groups are trained on."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from scaling.fields import Float, Int, OptionalFunction, Part, brief


class RewardConfig(Part):
    """What the grades of a task become before an estimator sees them. Held-out problems have the task's grades."""

    process: Literal["rule", "judge", "none"] = "rule"
    """Where the process score that is trained on comes from: the task's own rule, where it has one; the judge of
    `judge`; or nowhere."""
    function: OptionalFunction = None
    """`my_file.py:score`, called as score(problem, response, truth) in a process of its own. It returns the outcome
    reward, or a dictionary with some of outcome, correct and process; what it leaves out stays the task's."""
    overlong_from: Int | None = Field(default=None, ge=0)
    """Tokens of a response, its end included, beyond which it loses reward (DAPO's soft overlong punishment)."""
    overlong_to: Int | None = Field(default=None, ge=1)
    """Tokens at which it loses all of overlong_penalty; between the two the loss grows in a line."""
    overlong_penalty: Float = Field(default=1.0, gt=0)
    format: str | None = None
    """A regular expression that is looked for in the text of a response; one that has it gains format_reward."""
    format_reward: Float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _whole(self):
        start, end = self.overlong_from, self.overlong_to
        if (start is None) != (end is None) or (start is not None and end is not None and start >= end):
            raise ValueError(
                f"overlong_from {start} and overlong_to {end} want two lengths, the first below the second; give both"
            )
        for name, on in (("overlong_penalty", "overlong_to"), ("format_reward", "format")):
            if getattr(self, on) is None and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} {getattr(self, name):g} has no effect without {on}; give both")
        if self.format is not None:
            try:
                re.compile(self.format)
            except re.error as error:
                raise ValueError(f"format {brief(self.format)} is no regular expression: {error}") from None
        return self


class JudgeConfig(Part):
    """A simulated judge: the task's process rule with errors of a known kind. Asked where reward.process is judge."""

    name: Literal["simulated"] = "simulated"
    flip_rate: Float = Field(default=0.0, ge=0, le=1)
    """Share of responses whose score q is read as 1 - q; which ones is a function of prompt and response."""
    length_bias: Float = Field(default=0.0, ge=0)
    """Added to q: this times the response's length as a share of the longest that may be sampled; the sum is cut at
    1."""


class BatchConfig(Part):
    """Which groups of rollouts a step trains on."""

    select: Literal["all", "informative"] = "all"
    """informative: sample on along the prompts until data.prompts_per_step groups have an advantage (DAPO's dynamic
    sampling); the others are consumed all the same."""
    rounds: Int = Field(default=10, ge=1)
    """The most times data.prompts_per_step prompts that a step may sample for it."""

    @model_validator(mode="after")
    def _rounds_have_an_effect(self):
        if self.select == "all" and self.rounds != type(self).model_fields["rounds"].default:
            raise ValueError(f"rounds {self.rounds} has no effect with select all; set select: informative")
        return self
