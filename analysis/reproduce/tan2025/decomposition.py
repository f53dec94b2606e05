"""The loss decomposition fitted under both protocols: the first part of every curve, and the largest size with the
shape of the others.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices
from analysis.fitting.fit import fit_curves
from analysis.fitting.goodness import rmse
from analysis.fitting.points import Points, select_points
from analysis.fitting.record import Fit
from analysis.laws import decomposition
from analysis.questions.new_size import first_points


class Decomposition(NamedTuple):
    """The two protocols of the loss decomposition on the prompts axis.

    Fields:
        intra: fitted to the first `PART` of every curve; smaller: to all points of every size but the largest.
        early, late: points of the largest size that set its own two numbers, and those that are predicted.
        own: its amplitude and d0, with the shape of `smaller`.
    """

    intra: Fit
    smaller: Fit
    early: Points
    late: Points
    own: dict[str, float]

    def largest(self, ln_x: np.ndarray) -> np.ndarray:
        """Loss of the largest size at ln X, (n,): shape of the smaller sizes, its own two numbers."""
        values = {name: entry["value"] for name, entry in self.smaller.values.items()}
        return np.asarray(decomposition.LAW.curve(self.early.sizes[0], np.exp(ln_x), {**values, **self.own}))


PART = 0.3  # of a curve that the loss decomposition is fitted to


def decompose(base: Curves) -> Decomposition:
    choices = Choices("decomposition", "prompts_seen", "linear")
    intra = fit_curves(base, replace(choices, split=f"intra:{PART}"))
    smaller = fit_curves(base, replace(choices, where="num_params <= 32e9"))
    every, _ = select_points(base.where("num_params > 32e9"), choices)
    early = first_points(every, int(PART * len(every)))
    values = {name: entry["value"] for name, entry in smaller.values.items()}
    fixed = float(decomposition.fixed_part(every.sizes[0], values))

    def miss(theta: np.ndarray) -> np.ndarray:
        own = {"amplitude": np.exp(theta[0]), "d0": np.exp(theta[1])}
        return early.loss - decomposition.LAW.curve(every.sizes[0], np.exp(early.x), {**values, **own})

    start = [math.log(max(float(early.loss[0]) - fixed, 0.05)), float(early.x.max())]
    amplitude, d0 = np.exp(least_squares(miss, start).x)
    late = every.take(every.step > early.step.max())
    return Decomposition(intra, smaller, early, late, {"amplitude": float(amplitude), "d0": float(d0)})


def decomposition_scores(decomposition: Decomposition) -> list[dict[str, Any]]:
    """rmse of ln L on what each protocol predicts, beside the rules without a law."""
    held = decomposition.intra.record["held_out"]
    early, late = decomposition.early, decomposition.late
    line = np.polyval(np.polyfit(early.x, early.ln_loss(), 1), late.x)
    return [
        {"protocol": f"intra-model, first {100 * PART:.0f} % of each curve", "tuned": "nothing",
         "points": held["n_points"], **{f"rmse_{name}": value for name, value in held["rmse_ln_loss"].items()}},
        {"protocol": "inter-model, 72B, shape of 0.5B-32B",
         "tuned": f"two numbers on the first {len(early)} points of 72B", "points": len(late),
         "rmse_law": rmse(np.log(decomposition.largest(late.x)) - late.ln_loss()),
         "rmse_per_size": rmse(line - late.ln_loss()),
         "rmse_last_value": rmse(early.ln_loss()[-1] - late.ln_loss())},
    ]  # fmt: skip
