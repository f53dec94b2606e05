"""Draws of how far a curve may be from its law: what its window shows, and events that leave no trace in it.

Where the law does not describe the curves and a sigmoid does, half of the draws are of a sigmoid.
"""

from __future__ import annotations

import numpy as np

from analysis.fitting.record import Fit
from analysis.intervals.shape import Deviation, Shape
from analysis.intervals.verdict import FLAWED

EVENTS = (1.0, 5.0)  # events a priori, in so many e-folds of X
DROP = 0.15  # share of falls of the level among events
SLOPE_MISFIT = 0.1  # sd of an unseen size's slope, per e-fold of N, in units of the slope
SIGMOID_FITS = 2.0  # squares per degree of freedom below which a sigmoid describes a size


def law_draws(
    rng: np.random.Generator, posterior: np.ndarray, shift: np.ndarray, excess: np.ndarray, unit: float,
    beyond: np.ndarray, width: float, count: int, last_slope: float | None = None,
) -> np.ndarray:  # fmt: skip
    """(count, m) draws of ln L minus the law's at m places.

    Args:
        posterior, shift, excess: of `Shape`, (K,), (K, m), (K, m). unit: the slope. beyond: (m,) ln(X / last X) of each
            place, 0 inside the window. width: the window's range of ln X. last_slope: what events change, where it
            is not the unit.

    An event after the window comes (1 + P(not the law)) / (5 + width) times per e-fold of X: the slope becomes -1.5 to
    1 (60 %) or 1 to 4 times itself; .15 times as often the loss falls at once by up to the window's own fall.
    """
    beyond = np.maximum(np.asarray(beyond, float), 0.0)
    component = rng.choice(len(posterior), count, p=posterior)
    drawn = shift[component] + rng.standard_normal((count, 1)) * np.sqrt(excess[component])
    rate = (EVENTS[0] + 1 - posterior[0]) / (EVENTS[1] + width)
    near = rng.random(count) < 0.6
    change = np.where(near, rng.uniform(-1.5, 1, count), rng.uniform(1, 4, count))[:, None]
    hit = rng.random((count, 1)) < -np.expm1(-rate * beyond)
    drawn = drawn + hit * (1 - change) * rng.random((count, 1)) * beyond * (unit if last_slope is None else last_slope)
    drop = rng.random((count, 1)) < -np.expm1(-DROP * rate * beyond)
    return drawn - drop * rng.random((count, 1)) * width * unit


class LawDoubt:
    """Draws of the law's part of ln L for the sizes of a fit, and for sizes that it has not seen.

    Attributes:
        flagged: whether the curves are not the law's, so that a median of draws stands beside the law's own value.
    """

    def __init__(self, fit: Fit):
        assert fit.points is not None
        self.fit, self.points = fit, fit.points
        self.shape: Shape | None = fit.shape
        word = (fit.verdict or {}).get("verdict")
        self.flagged, self._wrong = word in FLAWED, word == "does not describe"

    def at_size(
        self, size: int, ln_x: np.ndarray, centre: np.ndarray, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        """(count, m) draws at m places of a fitted size (its index); centre: (m,) ln L of the law's curve there."""
        ln_x = np.asarray(ln_x, float)
        beyond = ln_x - self.points.x[self.points.size == size].max()
        shape = self.shape
        if shape is None or size not in shape.sizes:
            unit = abs(self.fit.per_size[size]["efficiency_law"])
            start, end = (f(self.points.x[self.points.size == size]) for f in (np.min, np.max))
            return self._by_others(ln_x - start, ln_x - end, unit, count, rng)
        away = shape.deviation(size, ln_x)
        unit = float(shape.unit[size])
        draws = law_draws(
            rng, shape.posterior, away.shift, away.excess, unit, beyond, shape.width, count,
            self._last_slope(float(self.points.sizes[size]), float((ln_x - beyond)[0]), unit),
        )  # fmt: skip
        if self._wrong:
            half, squares = sigmoid_draws(rng, *shape.sampling(size), ln_x, count // 2)
            if squares < SIGMOID_FITS:
                draws[: len(half)] = half - centre
        return draws

    def new_size(
        self, num_params: float, ln_x: np.ndarray, slope: float, count: int, rng: np.random.Generator,
        calibrated_at: float | None = None,
    ) -> np.ndarray:  # fmt: skip
        """(count, m) draws of a size that was not fitted, as far from the law as the fitted sizes are, in units of the
        slope. Its window is taken where those of the fitted sizes say; what is calibrated at ln X has its deviation
        from there on. The doubt about its slope is not in them (`slope_misfit`)."""
        start, end = self._window(num_params)
        unit = abs(slope)
        if self.shape is not None:
            unit = max(unit, 0.5 * float(np.sqrt(np.nanmean(self.shape.slope**2))))
        ln_x = np.asarray(ln_x, float)
        first = None if calibrated_at is None else calibrated_at - start
        return self._by_others(ln_x - start, ln_x - end, unit, count, rng, first)

    def _last_slope(self, num_params: float, ln_x: float, unit: float) -> float:
        """The slope with which a size leaves the window: of a law with curves its own there, half the unit at least."""
        if self.fit.law.slope is not None:
            return unit
        x = np.exp(ln_x + np.array([-0.01, 0.01]))
        low, high = np.log(self.fit.predict(num_params, x, **dict.fromkeys(self.fit.law.columns, 1.0)))
        return float(max(abs(high - low) / 0.02, unit / 2))

    def slope_misfit(self, num_params: float, slope: float) -> float:
        """sd of an unseen size's slope about the law, for what sizes in between cannot show."""
        sizes = self.points.sizes
        return SLOPE_MISFIT * abs(slope) * max(np.log(num_params / sizes[-1]), np.log(sizes[0] / num_params), 0.0)

    def _window(self, num_params: float) -> tuple[float, float]:
        """ln X of the first and last point of a size, linear in ln N over the fitted sizes."""
        sizes = np.log(self.points.sizes)
        ends = np.array([
            [f(self.points.x[self.points.size == i]) for f in (np.min, np.max)] for i in range(len(sizes))
        ])  # fmt: skip
        if len(sizes) == 1:
            return float(ends[0, 0]), float(ends[0, 1])
        slope, level = np.polyfit(sizes - sizes[0], ends, 1)
        ends_there = level + slope * (np.log(num_params) - sizes[0])
        return float(ends_there[0]), float(ends_there[1])

    def _by_others(
        self, from_start: np.ndarray, beyond: np.ndarray, unit: float, count: int, rng: np.random.Generator,
        calibrated_at: float | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Draws by the mean deviation of the sizes that have curves, in units of the slope."""
        shape = self.shape
        if shape is None:
            nothing = np.zeros((1, len(beyond)))
            return law_draws(rng, np.ones(1), nothing, nothing, unit, beyond, 0.0, count)
        at = from_start if calibrated_at is None else np.append(from_start, calibrated_at)
        each = [shape.deviation(i, shape.start[i] + at) for i in shape.present]
        units = np.where(shape.unit > 0, shape.unit, 1.0)  # a flat curve without scatter deviates by nothing
        shift = np.array([d.shift / units[i] for i, d in zip(shape.present, each, strict=True)])
        excess = np.array([d.excess / units[i] ** 2 for i, d in zip(shape.present, each, strict=True)])
        away = Deviation(shift.mean(0) * unit, (excess.mean(0) + shift.var(0)) * unit**2)
        if calibrated_at is not None:
            away = Deviation(away.shift[:, :-1] - away.shift[:, -1:], away.excess[:, :-1] + away.excess[:, -1:])
        return law_draws(rng, shape.posterior, away.shift, away.excess, unit, beyond, shape.width, count)


def sigmoid_draws(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, variance: np.ndarray, at: np.ndarray, count: int,
    tried: int = 40_000,
) -> tuple[np.ndarray, float]:  # fmt: skip
    """(count, m) draws of ln L by a sigmoid of the pass rate in ln X, and its least squares per degree of freedom.

    Args:
        x, y, variance: (B,) ln X, ln L and its variance. at: (m,) ln X of the draws.

    Parameters come from a wide prior and are weighted by their likelihood, in three rounds, each about the best of the
    one before.
    """
    width, most = x.max() - x.min(), max(min(1 - np.exp(y.min()), 1.0), 1e-3)
    r0 = rng.uniform(0, 1, tried) * most
    a = r0 + (1 - r0) * rng.random(tried)
    b = np.exp(rng.uniform(np.log(0.3), np.log(5), tried))
    middle = rng.uniform(x.min() - 0.5 * width, x.max() + 1.5 * width, tried)

    def ln_loss(ln_x: np.ndarray, which: np.ndarray | slice) -> np.ndarray:
        reach = 1 + np.exp(-np.clip(b[which, None] * (ln_x - middle[which, None]), -50, 50))
        return np.log(np.maximum(1 - r0[which, None] - (a - r0)[which, None] / reach, 1e-4))

    def squares() -> np.ndarray:
        return (((y - ln_loss(x, slice(None))) ** 2) / variance).sum(1)

    misses = squares()
    for _ in range(2):
        best = np.argsort(misses)[:400]
        weight = np.exp(-(misses[best] - misses[best[0]]) / 8)
        pick = rng.choice(best, tried // 2, p=weight / weight.sum())

        def near(values: np.ndarray, sd: float, pick: np.ndarray = pick) -> np.ndarray:
            return values[pick] + sd * rng.standard_normal(len(pick))

        new_r0, new_a = np.clip(near(r0, 0.02), 0, 0.99), np.clip(near(a, 0.04), 0, 1)
        new_b = np.exp(np.clip(near(np.log(b), 0.1), np.log(0.3), np.log(5)))
        new_middle = near(middle, 0.12)
        r0, a, b, middle = (
            np.append(old[best], new) for old, new in ((r0, new_r0), (a, new_a), (b, new_b), (middle, new_middle))
        )
        a = np.maximum(a, r0 + 1e-3)
        misses = squares()
    per_df = float(misses.min()) / max(len(y) - 4, 1)
    weight = np.exp(-0.5 * (misses - misses.min()) / max(per_df, 1.0))
    return ln_loss(at, rng.choice(len(weight), count, p=weight / weight.sum())), per_df
