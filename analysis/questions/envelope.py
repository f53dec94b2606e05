"""Which of several choices (sizes, group sizes) has the lowest line at each budget, and which are as good.

Curves are those of `SizeCurves`, over the range in which each was run. Every choice comes with what the data cannot
tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from analysis.curves.frame import Frame
from analysis.fitting.record import Fit
from analysis.intervals.law_test import LEVEL
from analysis.questions.finals import evaluations
from analysis.questions.size_curves import SizeCurves
from scaling.schema import InputError


class Envelope(NamedTuple):
    """Which of n choices (sizes, group sizes) has the lowest line at each of m budgets.

    Fields:
        values: (n,) N or G; x: (m,) budgets; loss: (n, m) each choice's own curve, NaN where not run or above 1.
        fitted: (n, m) inside the fitted steps; best: (m,) index of the lowest line, -1 where none was run.
        as_good: (n, m) not rejected as best at 5 %, where two or more were run.
        switches: where the best changes: `x`, `before`, `after` (values), `kind` (crossover, first step, end of run)
            and the 95 % interval `low`, `high` of a crossover, NaN where it is open in the range that both were run.
        curves: what is compared.
    """

    values: np.ndarray
    x: np.ndarray
    loss: np.ndarray
    fitted: np.ndarray
    best: np.ndarray
    as_good: np.ndarray
    switches: Frame
    curves: SizeCurves | None = None

    @property
    def lowest(self) -> np.ndarray:
        """(m,) loss of the best line."""
        return np.where(self.best < 0, np.nan, self.loss[self.best, np.arange(len(self.x))])

    def table(self) -> Frame:
        """One row per choice and budget at which it was run."""
        grid = pd.DataFrame({
            "value": np.repeat(self.values, len(self.x)), "x": np.tile(self.x, len(self.values)),
            "line": self.loss.ravel(), "inside_fitted_steps": self.fitted.ravel(),
            "best": (np.arange(len(self.values))[:, None] == self.best).ravel(),
            "not_rejected_as_best": self.as_good.ravel(),
        })  # fmt: skip
        return grid[grid["line"].notna()]


def envelope(fit: Any) -> Envelope:
    """The lower envelope of the curves of a fit's sizes (`SizeCurves`) over the range in which each was run."""
    curves = SizeCurves(fit)
    values = curves.values
    if len(values) < 2:
        raise InputError(f"needs lines of two choices to compare; there is {len(values)}.")
    ran, used = run_ranges(fit, values), fitted_ranges(fit, values)
    x = np.unique(np.concatenate([np.geomspace(ran.min(), ran.max(), 160), ran.ravel(), used.ravel()]))
    line = np.array([np.exp(curves.ln_loss(i, np.log(x))) for i in range(len(values))])
    inside = (ran[:, :1] <= x) & (x <= ran[:, 1:])
    loss = np.where(inside & (line <= 1), line, np.nan)
    fitted = (used[:, :1] <= x) & (x <= used[:, 1:])
    best = np.where(np.isnan(loss).all(0), -1, np.argmin(np.nan_to_num(loss, nan=np.inf), axis=0))
    as_good = np.zeros(loss.shape, bool)
    for j, budget in enumerate(x):
        here = np.flatnonzero(~np.isnan(loss[:, j]))
        if len(here) > 1:
            as_good[here, j] = curves.p_equal(float(np.log(budget)), int(best[j]), here.tolist()) > 0.05
    return Envelope(values, x, loss, fitted, best, as_good, envelope_switches(curves, x, inside, best), curves)


def envelope_switches(curves: SizeCurves, x: np.ndarray, inside: np.ndarray, best: np.ndarray) -> Frame:
    rows = []
    for j in np.flatnonzero((best[1:] != best[:-1]) & (best[1:] >= 0) & (best[:-1] >= 0)):
        a, b = int(best[j]), int(best[j + 1])
        at, low, high = x[j + 1], np.nan, np.nan
        kind = "first step" if not inside[b, j] else "end of run" if not inside[a, j + 1] else "crossover"
        if kind == "crossover":
            met = curves.meeting(a, b, (float(np.log(x[j])), float(np.log(x[j + 1]))))
            at = at if met is None else np.exp(met)
            both = np.log(x[inside[a] & inside[b]])
            ends = indistinguishable(curves, a, b, float(np.log(at)), (float(both[0]), float(both[-1])))
            low, high = (np.nan if end is None else end for end in ends)
        rows.append((at, curves.values[a], curves.values[b], kind, low, high))
    return pd.DataFrame(rows, columns=["x", "before", "after", "kind", "low", "high"])


def indistinguishable(
    curves: SizeCurves, a: int, b: int, crossing: float, ends: tuple[float, float], doubt: bool = True
) -> list[float | None]:
    """[low, high] of X between which two choices are somewhere not told apart at 5 %, with or without doubt about the
    law, looked at on a grid and at their crossing (ln X); None where that goes on to the end of the range (ln X)."""

    def excess(ln_x: float) -> float:
        return float(curves.p_equal(ln_x, a, [b], doubt)[0]) - LEVEL

    # Not only around the crossing of the fitted curves: the doubt may have the true ones cross elsewhere. Where they
    # are known well, the interval lies between two places of a grid, but around where the mean gap is 0.
    grid = np.linspace(*ends, 120)
    roots = [root for by in {False, doubt} for root in _roots(lambda at, by=by: curves.gap(at, a, b, by), grid)]
    places = np.unique(np.concatenate([grid, roots, [np.clip(crossing, *ends)]]))
    above = np.array([excess(ln_x) for ln_x in places]) > 0
    if not above.any():
        return [None, None]
    if ends[0] < crossing < ends[1]:  # the test weighs runs otherwise than the fit does
        above |= places == crossing
    edges: list[float | None] = []
    for side, same in ((places, above), (places[::-1], above[::-1])):
        first = int(same.argmax())
        if first == 0:
            edges.append(None)
            continue
        before, edge = side[first - 1], side[first]
        edges.append(math.exp(brentq(excess, before, edge) if excess(edge) > 0 else edge))
    return edges


def _roots(function: Callable[[float], float], grid: np.ndarray) -> list[float]:
    """Where a function of ln X changes its sign on a grid."""
    value = np.array([function(at) for at in grid])
    return [brentq(function, grid[i], grid[i + 1]) for i in np.flatnonzero(value[1:] * value[:-1] < 0)]


def run_ranges(fit: Fit, sizes: np.ndarray) -> np.ndarray:
    """(n, 2) smallest and largest X at which each size was evaluated, in the fit's window or not."""
    frame = evaluations(fit.curves, fit.record["size_column"])
    x = frame[fit.record["x"]]
    frame, x = frame[(frame["step"] > 0) & (x > 0)], x[(frame["step"] > 0) & (x > 0)]
    return np.array([[x[frame["size"] == size].min(), x[frame["size"] == size].max()] for size in sizes])


def fitted_ranges(fit: Fit, sizes: np.ndarray) -> np.ndarray:
    """(n, 2) smallest and largest X of the fitted points of each size."""
    assert fit.points is not None
    of = fit.points.sizes[fit.points.size]
    return np.array([[np.exp(fit.points.x[of == n].min()), np.exp(fit.points.x[of == n].max())] for n in sizes])


def segments(envelope: Envelope) -> list[dict[str, Any]]:
    """Stretches of X with one best choice: `from`, `to`, `best`, `not_rejected` (choices that cannot be told from it
    somewhere in the stretch) and `compared`: false where only one choice was run."""
    rows: list[dict[str, Any]] = []
    for j, best in enumerate(envelope.best):
        if best < 0:
            continue
        others = {float(envelope.values[i]) for i in np.flatnonzero(envelope.as_good[:, j]) if i != best}
        several = bool((~np.isnan(envelope.loss[:, j])).sum() > 1)
        key = (float(envelope.values[best]), several)
        if rows and (rows[-1]["best"], rows[-1]["compared"]) == key and envelope.best[j - 1] == best:
            rows[-1]["to"] = float(envelope.x[j])
            rows[-1]["not_rejected"] = sorted({*rows[-1]["not_rejected"], *others})
        else:
            rows.append({"from": float(envelope.x[j]), "to": float(envelope.x[j]), "best": key[0], "compared": several,
                         "not_rejected": sorted(others)})  # fmt: skip
    return rows


def switches(envelope: Envelope) -> list[dict[str, Any]]:
    return [
        {"x": float(row.x), "before": float(row.before), "after": float(row.after), "kind": row.kind,
         "ci95": [None if np.isnan(end) else float(end) for end in (row.low, row.high)],
         "identified": row.kind == "crossover" and not (np.isnan(row.low) or np.isnan(row.high))}
        for row in envelope.switches.itertuples()
    ]  # fmt: skip
