"""Which group size is best at each budget: a line for each G, and a law of the best G."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from analysis.curves.frame import Curves, Frame
from analysis.fitting.choices import Choices
from analysis.fitting.record import Fit
from analysis.intervals.fitted import fit_with_intervals
from analysis.laws.group_size import optimal_group
from analysis.questions.envelope import Envelope, envelope
from analysis.questions.finals import evaluations
from analysis.words import counted
from scaling.schema import InputError


class GroupLines(NamedTuple):
    """Lines of group sizes at one model size: their fit (its N is G), the rows they come from, and their envelope."""

    fit: Fit
    rows: Frame
    envelope: Envelope


def group_lines(curves: Curves, steps: str | None = None) -> GroupLines:
    """A line for each group size, at the size where most were run."""
    frame = evaluations(curves)
    frame = frame[frame["group_size"].notna()]
    groups = [
        rows
        for _, rows in frame.groupby(["size", "algorithm", "reuse_factor", "condition"], dropna=False)
        if rows["group_size"].nunique() > 1
    ]
    if not groups:
        values = ", ".join(f"{g:.0f}" for g in sorted(frame["group_size"].unique()))
        there = f"there is only G = {values}" if values else "the source has no group sizes"
        raise InputError(f"needs runs at two group sizes at one model size; {there}.")
    chosen = max(groups, key=lambda rows: rows["group_size"].nunique())
    # The fit groups its lines by N; here they are grouped by G.
    table = chosen.drop(columns=["size", "num_params_non_embedding"], errors="ignore")
    by_group = replace(curves, table=table.assign(num_params=table["group_size"]), settings=[])
    lines = Choices(law="per_size", steps=steps, size_column="num_params")
    fit = fit_with_intervals(by_group, lines)
    return GroupLines(fit, chosen, envelope(fit))


def group_law(envelope: Envelope) -> dict[str, float]:
    """ln G*(C) as a sigmoid in ln C (arXiv 2603.12151) from the lowest to the highest best G of the envelope: least
    squares on it. Raises InputError where lines cross fewer than two times."""
    crossings = envelope.switches[envelope.switches["kind"] == "crossover"]
    if len(crossings) < 2:
        raise InputError(
            f"lines of two group sizes cross {counted(len(crossings), 'time')}; ln G*(C) as a sigmoid in ln C needs "
            "two crossings"
        )
    inside = (envelope.best >= 0) & ((~np.isnan(envelope.loss)).sum(0) > 1)
    x, best = envelope.x[inside], envelope.values[envelope.best[inside]]
    low, high = float(best.min()), float(best.max())

    def missed(at: np.ndarray) -> np.ndarray:
        return np.log(optimal_group(x, low, high, np.exp(at[0]), np.exp(at[1])) / best)

    end = least_squares(missed, [float(np.log(crossings["x"]).mean()), 0.0])
    return {"smallest": low, "largest": high, "c_mid": float(np.exp(end.x[0])), "steepness": float(np.exp(end.x[1])),
            "rmse_ln_group": float(np.sqrt(np.mean(end.fun**2)))}  # fmt: skip
