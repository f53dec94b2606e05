"""The fit repeated over windows of steps: what the choice of the window moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.frame import Frame
from analysis.fitting.fit import fit_curves
from analysis.questions.finals import evaluations
from analysis.questions.residuals import without_held_out
from scaling.schema import InputError


def shows_scale(fit: Any) -> bool:
    """Whether windows are compared by the scale of k(N), and not by the slope of the largest size."""
    return fit.law.shape is not None and fit.values[fit.law.scale]["identified"]


def window_fits(fit: Any) -> Frame:
    """The fit repeated over windows of steps: first and last step, the scale of k(N) or k of the largest size, both
    pooled R2."""
    record, by_scale = fit.record, shows_scale(fit)
    # What the split holds out is held out of every window; then the fit's own window is the fit.
    curves = without_held_out(fit.curves, fit)
    frame = evaluations(curves, record["size_column"])
    steps = np.array(sorted(step for step in frame["step"].unique() if step > 0))
    own = record["window"]["first_step"], record["window"]["last_step"]
    # The curves of a fit are those after its `where`.
    own_choices = replace(fit.choices, where=None, points=None, split="none")
    rows = []
    for last in window_ends(steps, own[1], 5, falling=True):
        for first in window_ends(steps, own[0], 7):
            if ((steps >= first) & (steps <= last)).sum() < 4:
                continue
            try:
                refit = fit_curves(curves, replace(own_choices, steps=f"{first}:{last}"))
            except InputError:
                continue
            goodness, largest = refit.record["goodness"], refit.per_size[-1]
            if largest["efficiency"] is None or goodness["r2_pooled"] is None:
                continue
            value = refit.values[fit.law.scale]["value"] if by_scale else largest["efficiency"]
            endless = by_scale and refit.values[fit.law.scale]["at_bound"]
            rows.append((first, last, value, endless, goodness["r2_pooled"], goodness["r2_pooled_constant"]))
    columns = ["first_step", "last_step", "value", "no_finite_optimum", "r2_pooled", "r2_pooled_constant"]
    return pd.DataFrame(rows, columns=columns)


def window_ends(steps: np.ndarray, own: int, most: int, *, falling: bool = False) -> list[int]:
    """At most `most` evaluated steps to begin or end a window at, in equal ratios, with the fit's own among them."""
    low, high = (steps[min(9, len(steps) // 2)], steps[-1]) if falling else (steps[0], steps[-1] / 2)
    wanted = np.geomspace(low, max(high, low), most)
    nearest = {int(steps[np.abs(np.log(steps / step)).argmin()]) for step in wanted}
    if own not in nearest:
        nearest.discard(min(nearest, key=lambda step: abs(np.log(step / own))))
        nearest.add(int(own))
    return sorted(nearest, reverse=falling)
