"""Section: where data, code, machine and law come from."""

from __future__ import annotations

import datetime
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices, choose_for
from analysis.laws import law_names
from analysis.reporting.study import Study
from analysis.words import counted, joined, law_in_words


def provenance(study: Study) -> list[tuple[str, str]]:
    curves = study.curves
    source = study.name if curves.folder else curves.source if ":" in curves.source else Path(curves.source).name
    items = [("Data", f"{source}, {len(curves.table):,} rows, sha256 {curves.data_hash}…")]
    if study.attempts:
        for word, keys in [("Code", ("package", "commit")), ("Versions", ("python", "torch", "transformers"))]:
            parts = [
                f"{key} {joined(short_commits(found))}" for key in keys if (found := distinct(study.attempts, key))
            ]
            items.append((word, ", ".join(parts) or "not recorded"))
        machine, threads = (joined(distinct(study.attempts, key)) for key in ("processor", "threads"))
        items.append(("Machine", f"{machine or 'not recorded'}, threads per run {threads or 'not recorded'}"))
        moments = [attempt["started_ms"] for attempt in study.attempts if "started_ms" in attempt]
        moments += [curves.table["time_ms"].max()] if "time_ms" in curves.table else []
        days = list(dict.fromkeys(day(moment) for moment in (min(moments), max(moments)))) if moments else []
        count = f"{len(study.attempts)} process{'es' if len(study.attempts) > 1 else ''}"
        items.append(("Trained", f"{' to '.join(days) or 'not recorded'} (UTC), {count}"))
    if "cpu_seconds" in curves.table:
        cost = f"{curves.table['cpu_seconds'].sum():,.0f} CPU seconds for the runs"
        bases = [base["timing"]["cpu_seconds"] for base in study.bases if "timing" in base]
        cost += f", {sum(bases):,.0f} for {counted(len(bases), 'base model')}" if bases else ""
        items.append(("Cost", f"{cost}; start-up of processes not counted"))
    items.append(("Made by", command(curves, source if not curves.folder else curves.folder.name, study.asked)))
    versions = [
        f"{name} {metadata.version(name)}" for name in ("rl-scaling-lab", "numpy", "scipy", "pandas", "matplotlib")
    ]
    items.append(("Analysis", ", ".join(versions)))
    if study.main:
        document = study.main.json()
        items.append(("Law", f"{law_in_words(document, 'X')}; {document['citation']}".rstrip("; ")))
    items.append(("Fits", "fits/*.json beside this report; figures/ and report/tables/ hold every number of the page"))
    return items


def command(curves: Curves, source: str, asked: Choices) -> str:
    """The command that makes this page: with every choice that is not the source's own."""
    own, words = choose_for(curves, {}), ["scaling", "report", source]
    for field in fields(Choices):
        value, name = getattr(asked, field.name), field.name
        if value is None or value == getattr(own, name):
            continue
        # A where that is given adds to that of a study; the page has the two in one.
        name = "where_only" if name == "where" and own.where is not None else name
        words += [f"--{name.replace('_', '-')}", str(value)]
    by_hand = "" if asked.law in law_names() else " (a law that was given in Python: analysis.report)"
    return shlex.join(words) + by_hand


def distinct(records: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(str(item[key]) for item in records if item.get(key) is not None))


def short_commits(values: Sequence[str]) -> list[str]:
    """Commits by their first 12 digits; a `+` at the end means that files were changed and not committed."""
    matches = [re.fullmatch(r"([0-9a-f]{12})[0-9a-f]{28}(\+?)", value) for value in values]
    return [
        value if match is None else match[1] + (" with uncommitted changes" if match[2] else "")
        for value, match in zip(values, matches, strict=True)
    ]


def day(milliseconds: float) -> str:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC).date().isoformat()
