"""Before any parameter: does the law describe these curves?

    describes            nothing in the curves speaks against the law
    misses sizes         the law is far from the curves of some sizes: parameters depend on which sizes are fitted
    bends                the slope changes along the curves: parameters depend on the window
    does not describe    the slope changes to less than a third, the law is far from half of the sizes, or the loss
                         rises: parameters mean nothing here
    cannot tell          the fall of the loss does not stand out of the noise, or there are too few points

By the model of shape (`analysis.intervals.shape`). A law of lines bends where its slope does; of a law with curves the
question is whether the slope departs from the law's own. False alarms on lines with noise between runs and
points: 3.0 % of 300 simulated studies, 4.0 % of 400 whose runs differ in grid, questions and number; of sigmoids, power
laws with a floor and Chinchilla surfaces by their own laws: 9 of 300.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from analysis.intervals.missed_sizes import MANY
from analysis.intervals.shape import Shape
from analysis.words import joined, number

FLAGGED = 0.3  # ln odds beyond which the curves are not the law's
LEAST_THIRD = 1 / 3  # of the steepest third of the window: below it a law of lines says nothing of the curves
LEAST_SHARE = 1 / 2  # of the mean slope: the same for a law with curves, as (1 - 1/2) / (1 + 1/2) = 1/3
RISING = -2.3  # z of the mean slope
FLAWED = ("bends", "misses sizes", "does not describe")
LEAST_SIGNAL = 5.0  # slope in its standard errors, root mean square over sizes


class Verdict(TypedDict):
    """See the head of this file.

    Fields:
        verdict: describes, bends, misses sizes, does not describe or cannot tell. text: a sentence without its stop.
        odds: ln evidence of "not the law" over "the law", flagged above .3. p_law: posterior probability of the law.
        slopes: -d ln L / d ln X in the three thirds of the window, mean over sizes, smoothed by the likeliest deviation
        law_slopes: those of a law with curves. rise_z: z of the mean slope.
        signal: slope over its standard error, root mean square over sizes.
        None where there are too few points.
    """

    verdict: str
    text: str
    odds: float | None
    p_law: float | None
    slopes: list[float] | None
    law_slopes: list[float] | None
    rise_z: float | None
    signal: float | None


def verdict_of(
    shape: Shape | None, r2_within: float | None, straight: bool, missed: Sequence[str] = (), sizes: int = 1
) -> Verdict:
    """The verdict on a fit.

    Args:
        shape: None where no curve has enough points. r2_within: the share of the variation within sizes that the law
        explains; below 0 a constant does better. straight: whether the law's curves are lines. missed: names of the
        sizes that a law is far from (`analysis.intervals.missed_sizes`), of so many sizes.
    """
    if shape is None:
        text = "cannot tell: no run has enough evaluated points"
        return _verdict("cannot tell", text)
    if shape.flat:
        return _verdict("cannot tell", "cannot tell: the loss does not vary")
    slopes, law_slopes = _thirds(shape)
    k, variance = shape.gls_slopes()
    z = float(np.sum(k / variance) / np.sqrt(np.sum(1 / variance)))
    signal = float(np.sqrt(np.mean(k**2 / variance)))
    if straight:
        told, wrong = _in_thirds(slopes), bool(slopes.min() < LEAST_THIRD * slopes.max())
    else:
        apart = np.abs(slopes - law_slopes)
        wrong = bool(apart.max() > LEAST_SHARE * np.mean(shape.unit[shape.present]))
        told = f"slope {_in_thirds(slopes)}; by the law {_in_thirds(law_slopes)}"
    nothing = "parameters mean nothing here"
    known = (
        shape.odds, float(shape.posterior[0]), slopes.tolist(), None if straight else law_slopes.tolist(), z, signal,
    )  # fmt: skip
    if z < RISING:
        return _verdict("does not describe", f"does not describe the curves, the loss rises with X: {nothing}", *known)
    if shape.odds > FLAGGED and wrong:
        return _verdict("does not describe", f"does not describe the curves ({told}): {nothing}", *known)
    if signal >= LEAST_SIGNAL and r2_within is not None and r2_within < 0:
        text = f"does not describe the curves, a constant for each size is nearer to them: {nothing}"
        return _verdict("does not describe", text, *known)
    if missed and len(missed) >= MANY * sizes:
        text = (
            f"does not describe the curves, it is far from {len(missed)} of {sizes} sizes ({joined(missed)}): {nothing}"
        )
        return _verdict("does not describe", text, *known)
    if shape.odds > FLAGGED:
        return _verdict("bends", f"bends ({told}): parameters depend on the window", *known)
    if missed:
        text = f"misses sizes, it is far from {joined(missed)}: parameters depend on which sizes are fitted"
        return _verdict("misses sizes", text, *known)
    if signal < LEAST_SIGNAL:
        text = "cannot tell: the fall of the loss does not stand out of the noise"
        return _verdict("cannot tell", text, *known)
    return _verdict("describes", "describes the curves", *known)


def _verdict(verdict, text, odds=None, p_law=None, slopes=None, law_slopes=None, rise_z=None, signal=None) -> Verdict:
    return {
        "verdict": verdict, "text": text, "odds": odds, "p_law": p_law, "slopes": slopes, "law_slopes": law_slopes,
        "rise_z": rise_z, "signal": signal,
    }  # fmt: skip


def _in_thirds(slopes: np.ndarray) -> str:
    """`.07 early, .02 late`, with the middle where it is what differs."""
    early, middle, late = (number(slope, 2 if np.abs(slopes).max() >= 0.05 else 3) for slope in slopes)
    if np.abs(slopes[1] - slopes[[0, 2]]).min() > abs(slopes[0] - slopes[2]):
        return f"{early} early, {middle} in the middle, {late} late"
    return f"{early} early, {late} late"


def _thirds(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """(slopes of the smoothed curves in the thirds of each size's window, those of the law), mean over sizes."""
    by_size = []
    for size in shape.present:
        x, y, law = shape.smoothed(size)
        ends = np.linspace(x[0], x[-1], 4)
        by_size.append([-np.diff(np.interp(ends, x, values)) / np.diff(ends) for values in (y, law)])
    slopes, law_slopes = np.mean(by_size, axis=0)
    return slopes, law_slopes
