"""Answers to maths problems: where one stands in a response, what it says, and whether two say the same.

No other program is asked, no clock is read, and the work is bounded by the length of the text and by the limits of
`arithmetic`: the verdict is a function of the two texts and of nothing else. Floors, bottom first: boxes, normalise,
expressions, arithmetic, units, regions, shapes, reading, verdict.
"""

from __future__ import annotations


class UnreadableError(ValueError):
    """A text is no expression that is read here."""


class TooLargeError(ValueError):
    """A value is larger than any that an answer key holds; it is not computed."""
