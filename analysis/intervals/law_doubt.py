"""Draws of how far a curve may be from its law: what its window shows, and events that leave no trace in it."""

from __future__ import annotations

import numpy as np


def law_draws(
    rng: np.random.Generator, posterior: np.ndarray, shift: np.ndarray, excess: np.ndarray, unit: float,
    beyond: np.ndarray, width: float, count: int,
) -> np.ndarray:  # fmt: skip
    """(count, m) draws of ln L minus the law's at m places.

    Args:
        posterior, shift, excess: of `Shape`, (K,), (K, m), (K, m). unit: the slope. beyond: (m,) ln(X / last X) of each
            place, 0 inside the window. width: the window's range of ln X.

    An event after the window comes (1 + P(not the law)) / (5 + width) times per e-fold of X: the slope becomes -1.5 to
    1 (60 %) or 1 to 4 times itself; .15 times as often the loss falls at once by up to the window's own fall.
    """
    beyond = np.maximum(np.asarray(beyond, float), 0.0)
    component = rng.choice(len(posterior), count, p=posterior)
    found = shift[component] + rng.standard_normal((count, 1)) * np.sqrt(excess[component])
    rate = (2 - posterior[0]) / (5 + width)
    near = rng.random(count) < 0.6
    change = np.where(near, rng.uniform(-1.5, 1, count), rng.uniform(1, 4, count))[:, None]
    hit = rng.random((count, 1)) < -np.expm1(-rate * beyond)
    found = found + hit * (1 - change) * rng.random((count, 1)) * beyond * unit
    drop = rng.random((count, 1)) < -np.expm1(-0.15 * rate * beyond)
    return found - drop * rng.random((count, 1)) * width * unit
