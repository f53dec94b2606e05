"""What the page is made of: `Section`, the sentences and tables of one part, and the order of the sections.

Sentences and tables are written from what `analysis.questions` computed. What the data cannot carry stands there with
its reason.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from analysis.reporting.tables import Table
from scaling.schema import check_name

CONTENTS = {
    "summary": "Summary",
    "runs": "What was run",
    "curves": "Learning curves",
    "efficiency": "Learning efficiency",
    "frontier": "Compute-optimal size",
    "reuse": "Data reuse",
    "group-size": "Group size",
    "algorithms": "Algorithms",
    "compute": "Where the compute went",
    "choices": "Choices and sensitivity",
    "rollouts": "Sample rollouts",
    "intervals": "What the intervals rest on",
    "provenance": "Provenance",
}
"""The sections that the template lays out, by the id of their link, in the order of the page."""


class Section(NamedTuple):
    """Sentences in their order, and the tables by name; no table where the data have nothing to fill it."""

    sentences: list[str]
    tables: dict[str, Table]


@dataclass(frozen=True)
class PageSection:
    """A section that one file adds to the page: a file of this folder that defines `SECTION = PageSection(...)`.

    Fields:
        id: of its link, and what a figure names in its own `SECTION` to stand here.
        title, question: its heading, and the question that it answers.
        after: id of the section that it follows, one of CONTENTS.
        make: a function of the Study. An InputError that it raises stands on the page as the reason.
    """

    id: str
    title: str
    question: str
    after: str
    make: Callable[[Any], Section]


def added_sections() -> list[PageSection]:
    """The sections that files of this folder add, in the order of the page."""
    names = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if not module.ispkg)
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    added = [module.SECTION for module in modules if hasattr(module, "SECTION")]
    order = list(CONTENTS)
    return sorted(added, key=lambda section: order.index(check_name(section.after, order, "section of the report")))


def contents() -> dict[str, str]:
    """Titles by id, in the order of the page, with the sections that files add."""
    added = added_sections()
    titles: dict[str, str] = {}
    for name, title in CONTENTS.items():
        titles |= {name: title} | {section.id: section.title for section in added if section.after == name}
    return titles
