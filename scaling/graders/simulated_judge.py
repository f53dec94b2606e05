"""A simulated judge of the process: a rule's score with a liking for length and with errors, both of a known size.

Its verdict is a function of prompt and response alone, so that a resumed run, another estimator and a later reading of
the same response meet the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def uniform(prompt: str, response: Sequence[int]) -> float:
    """A number in [0, 1) that hangs on prompt and response tokens only."""
    text = prompt + " " + " ".join(map(str, response))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def judged(score: float, length_share: float, draw: float, *, flip_rate: float, length_bias: float) -> float:
    """The judge's score: 1 - `score` where `draw` is below the flip rate, then raised by the length, then cut.

    Args:
        score: of the rule, in [0, 1].
        length_share: tokens of the response as a share of the longest that may be sampled.
        draw: of `uniform`.
    """
    if draw < flip_rate:
        score = 1.0 - score
    return min(1.0, max(0.0, score + length_bias * length_share))
