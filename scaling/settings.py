"""Nested settings as dotted names: `{"data": {"seed": 1}}` is `{"data.seed": 1}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(values: Mapping[str, Any], before: str = "", *, keep_empty: bool = False) -> dict[str, Any]:
    """One dictionary of dotted names; of a name that is there twice the last value. See `dotted_pairs`."""
    return dict(dotted_pairs(values, before, keep_empty=keep_empty))


def dotted_pairs(values: Mapping[str, Any], before: str = "", *, keep_empty: bool = False) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) in order; a name that is set twice, nested and dotted, comes twice.

    Args:
        before: what every name begins with, `stop.`.
        keep_empty: an empty part is a value of its own; else it leaves no name.
    """
    for name, value in values.items():
        if isinstance(value, Mapping) and (value or not keep_empty):
            yield from dotted_pairs(value, f"{before}{name}.", keep_empty=keep_empty)
        else:
            yield f"{before}{name}", value
