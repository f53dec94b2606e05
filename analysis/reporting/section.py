"""`Section`, what a part of the report returns: sentences and tables.

Both are written from what `analysis.questions` found. What the data cannot carry stands there with its reason.
"""

from __future__ import annotations

from typing import NamedTuple

from analysis.reporting.tables import Table


class Section(NamedTuple):
    """Sentences in their order, and the tables by name; no table where the data have nothing to fill it."""

    sentences: list[str]
    tables: dict[str, Table]
