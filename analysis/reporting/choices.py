"""The other choices that a report tries on the same curves, one thing changed at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analysis.curves.frame import Curves
from analysis.fitting.choices import OBJECTIVES, Choices, choose_size_column
from analysis.words import AXES


def other_choices(curves: Curves, choices: Choices) -> list[tuple[str, Choices]]:
    """First step, last step, objective, axis and how N is counted: each in words, with the choices of that fit."""
    table = choices.rows(curves).table
    steps = sorted({int(step) for step in table.loc[table["test_loss"].notna(), "step"] if step > 0})
    changes: list[tuple[str, dict[str, Any]]] = [
        *window_changes(steps, *first_and_last(choices.steps, steps)),
        *(
            (f"objective {name}", {"objective": name})
            for name in OBJECTIVES
            if name not in (choices.objective, "huber")
        ),
    ]
    law, own_axis = choices.formula, choices.axis(curves)
    # A law that ties its axes or is one of data has no other axis.
    others = () if law.axes or law.of_data else ("train_flops", "prompts_seen", "total_flops")
    axes = [x for x in others if x != own_axis and x in table]
    changes += [(f"axis {AXES.get(x, x)}", {"x": x}) for x in axes if (table.loc[table["step"] > 0, x] > 0).all()]
    counts = {"num_params": "N with embeddings", "num_params_non_embedding": "N without embeddings"}
    if counts.keys() <= set(table) and not law.group:
        own = choose_size_column(curves, choices.size_column)
        changes += [(words, {"size_column": name}) for name, words in counts.items() if name != own]
    return [(words, replace(choices, **changed)) for words, changed in changes]


def window_changes(steps: list[int], first: int, last: int) -> list[tuple[str, dict[str, Any]]]:
    """Other first steps (the earliest, and 2, 4 and 10 times the own), and the first half; each with four steps."""
    used = [step for step in steps if first <= step <= last]
    later = (next((s for s in steps if s >= wanted), first) for wanted in (2 * first, 4 * first, 10 * first))
    firsts = [s for s in sorted({steps[0], *later} - {first}) if s < first or sum(step >= s for step in used) >= 4]
    end = "" if last == steps[-1] else last
    changes = [(f"steps ≥ {step}", {"steps": f"{step}:{end}"}) for step in firsts]
    half = [step for step in used if step <= last / 2]
    if len(half) >= 4:
        changes.append((f"steps ≤ {half[-1]}", {"steps": f"{first}:{half[-1]}"}))
    return changes


def first_and_last(window: str | None, steps: list[int]) -> tuple[int, int]:
    """First and last step of the window `A:B` (both included) on these steps."""
    low, _, high = (window or ":").partition(":")
    return int(low) if low.strip() else steps[0], int(high) if high.strip() else steps[-1]
