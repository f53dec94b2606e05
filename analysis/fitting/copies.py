"""Copies of a run: a seed that the trainer ignored, an export that was put together twice.

Intervals rest on how far runs of a size differ. A copy says that they do not differ at all, so it is refused.
"""

from __future__ import annotations

import math

import numpy as np

from scaling.schema import InputError

LEAST = 5  # points, and different losses among them: collapsed runs agree in one value for ever
CHANCE = 1e-6  # that two runs of the same expected losses agree in all counts of errors


def copies(
    runs: list[str], run: np.ndarray, size: np.ndarray, loss: np.ndarray, trials: np.ndarray | None
) -> list[tuple[str, str, int]]:
    """(run, its copy, points that agree) for every run whose whole curve is that of an earlier one of its size.

    A curve that was cut short counts up to its end. Two runs of one question set agree by chance at a point with
    probability 1 / (2 sqrt(pi Q L (1 - L))) at most: .025 with 512 questions at a loss of 1/2, .11 with 24. All points
    must agree, LEAST of them at LEAST different losses, and their product must be below CHANCE; so a few points of few
    questions are never taken for a copy. Counts are compared as such, so an export that rounds hides nothing, and in
    their order, so neither does one that counts steps from elsewhere. Arrays of n points, ordered by run and step.
    """
    loss = _as_counts(loss, trials)
    at = [np.flatnonzero(run == i) for i in range(len(runs))]
    earlier: dict[bytes, list[int]] = {}
    pairs = []
    for i, mine in enumerate(at):
        if len(mine) < LEAST:
            continue
        start = np.concatenate([size[mine[:1]], loss[mine[:LEAST]]]).astype(float).tobytes()
        for j in earlier.setdefault(start, []):
            count = min(len(mine), len(at[j]))
            one, two = at[j][:count], mine[:count]
            same = np.array_equal(loss[one], loss[two])
            if same and len(set(loss[two])) >= LEAST and _chance(loss[two], trials, two) < CHANCE:
                pairs.append((runs[j], runs[i], count))
                break
        else:
            earlier[start].append(i)
    return pairs


def _as_counts(loss: np.ndarray, trials: np.ndarray | None) -> np.ndarray:
    """Losses that are counts of errors to five digits as these counts over Q; others as they are."""
    if trials is None:
        return loss
    counts = np.round(loss * trials)
    return np.where(np.abs(loss * trials - counts) <= 1e-5 * trials, counts / trials, loss)


def _chance(loss: np.ndarray, trials: np.ndarray | None, at: np.ndarray) -> float:
    """The probability that all these counts of errors agree; 0 where the losses are no counts."""
    if trials is None:
        return 0.0
    variance = np.maximum(trials[at] * loss * (1 - loss), 0.0)
    return math.prod(np.minimum(1.0, 1 / (2 * np.sqrt(np.pi * np.maximum(variance, 1e-12)))).tolist())


def refuse_copies(source: str, copies: list[tuple[str, str, int]], names: dict[str, str]) -> None:
    """Raise InputError where there are copies; `names`: of runs, as people read them."""
    if not copies:
        return
    first, second, count = copies[0]
    shown = [f"{run} ({names[run]})" if names.get(run, run) != run else run for run in (first, second)]
    more = f"; so are {len(copies) - 1} more, e.g. {copies[1][1]} of {copies[1][0]}" if copies[1:] else ""
    every = ", ".join(f"'{run}'" for _, run, _ in copies)
    raise InputError(
        f"{source}: run {shown[1]} is a copy of run {shown[0]}, equal in all {count} points{more}; did the trainer "
        f'ignore the seed, or is an export in it twice? Drop one, or leave it out: --where "run_id not in [{every}]".'
    )
