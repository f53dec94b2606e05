"""Does a law describe the curves, and how far may it miss beyond them? One Gaussian model of shape answers both.

The mean curve of a size is the law's, each run with a line of its own (or, of a law with curves, with the law's
parameters free), plus a deviation that sizes share in kind, place and scale:

    none     the law holds
    drift    the slope wanders: an integrated Wiener process, s per root of ln X
    break    the slope changes once, by N(0, c^2), c = 1 or 3
    jump     the level changes once, by N(0, (.7 W)^2), W the range of ln X

in units of a size's mean slope. Places count from the start of a size's curve. Noise of an evaluation: counts of errors
plus AR(1) noise of one variance for all, its scale integrated out. Runs of a size share the deviation, so what they
differ by tells the noise whatever the law.

The deviations are few columns F with normal weights, so that a covariance is inverted once for each grid and noise,
and each deviation costs a few small products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from analysis.fitting.points import Points
from analysis.fitting.solution import Solution
from analysis.intervals.stacks import Stack, stacks_of
from analysis.laws import Law

EXTRA = (0.03, 0.1, 0.3, 1.0, 3.0)  # variance of the AR(1) noise over the median of that of the counts
DRIFT = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
BREAK_AT, BREAK = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96), (1.0, 3.0)
JUMP_AT, JUMP = tuple(np.arange(0.2, 0.99, 0.05)), 0.7
PRIOR = {"line": 0.25, "drift": 0.3, "break": 0.3, "jump": 0.15}
KINDS = (
    ["line"] + ["drift"] * len(DRIFT) + ["break"] * len(BREAK_AT) * len(BREAK) + ["jump"] * len(JUMP_AT)
)  # of each component
MOST_RANK = 40  # of a drift over the bins of one size: the rest is a millionth of it
ROUNDING = 1e-9  # of ln L: a curve that varies by less is one number
RIDGE = 1e-8  # of a variance of counts: noise-free curves miss a line by rounding


class NoShape(ValueError):
    """No run has enough points to test the shape of its curve."""


@dataclass(frozen=True)
class Deviation:
    """Predicted minus the law's ln L at m places of a size, by component (K, m): mean, variance beyond the law's."""

    shift: np.ndarray
    excess: np.ndarray


class _Size:
    """One size: its stacks by noise cell, in sums over its runs."""

    def __init__(self, stacks: list[Stack], unit: float, width: float, noise: list[np.ndarray]):
        self.stacks, self.unit, self.width = stacks, unit, width
        nodes = np.unique(np.round(np.concatenate([stack.x for stack in stacks]), 9))
        self.start, self.end, self.nodes = float(nodes[0]), float(nodes[-1]), nodes
        scale, turn = np.linalg.eigh(_wiener(nodes - self.start, nodes - self.start))
        keep = np.flatnonzero(scale > 1e-12 * max(scale[-1], 1e-300))[-MOST_RANK:]
        self._drift = turn[:, keep] / np.sqrt(scale[keep])
        self.rank = len(keep)
        cells = len(noise[0])
        self.square, self.log_det, self.df = np.zeros(cells), np.zeros(cells), 0
        self.parts = []
        within, across = np.zeros(()), np.zeros(())
        for stack, covariance in zip(stacks, noise, strict=True):
            runs, y = len(stack.response), stack.response.T
            f = unit * self.basis(stack.x)
            inverse = np.linalg.inv(covariance)
            half = np.swapaxes(stack.free.T @ inverse, 1, 2)  # (cells, B, p)
            spread = np.linalg.inv(stack.free.T @ half)
            to_free = spread @ np.swapaxes(half, 1, 2)  # least squares of the free directions, (cells, p, B)
            g = inverse - half @ to_free
            gf, gy = g @ f, g @ y
            within = within + runs * (f.T @ gf)
            across = across + (f.T @ gy).sum(-1)
            self.square += (y * gy).sum((1, 2))
            self.log_det += runs * (np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(spread)[1])
            self.df += runs * (len(stack.x) - stack.free.shape[1])
            self.parts.append((stack, runs, spread, to_free @ f, to_free @ y.sum(1)))
        drift = slice(0, self.rank)
        self.diagonal = np.diagonal(within, axis1=1, axis2=2)[:, self.rank :]
        self.along = across[:, self.rank :]
        eigen, self.axes = np.linalg.eigh(within[:, drift, drift])
        self.eigen = np.maximum(eigen, 0.0)
        self.turned = (np.swapaxes(self.axes, 1, 2) @ across[:, drift, None])[..., 0]

    def basis(self, ln_x: np.ndarray) -> np.ndarray:
        """(m, columns): drift, breaks, jumps at ln X, for weights of variance 1 times the square of their scale."""
        v = np.asarray(ln_x, float) - self.start
        drift = _wiener(v, self.nodes - self.start) @ self._drift
        ramps = np.maximum(v[:, None] - np.array(BREAK_AT) * self.width, 0)
        steps = (v[:, None] > np.array(JUMP_AT) * self.width) * JUMP * self.width
        return np.column_stack([drift, ramps, steps])

    def evidence(self) -> tuple[np.ndarray, np.ndarray]:
        """(squares, ln determinants) of each noise cell and component, (cells, K)."""
        s2, c2 = np.array(DRIFT) ** 2, np.array(BREAK) ** 2
        grown = 1 + s2[:, None] * self.eigen[:, None, :]
        drift = (s2[:, None] * self.turned[:, None, :] ** 2 / grown).sum(-1), np.log(grown).sum(-1)
        at, along = self.diagonal[:, : len(BREAK_AT)], self.along[:, : len(BREAK_AT)]
        bent = 1 + at[:, :, None] * c2
        breaks = (along**2)[:, :, None] * c2 / bent, np.log(bent)
        stepped = 1 + self.diagonal[:, len(BREAK_AT) :]
        jumps = self.along[:, len(BREAK_AT) :] ** 2 / stepped, np.log(stepped)
        n = len(self.square)
        taken, grown = (
            np.concatenate([np.zeros((n, 1)), drift[i], breaks[i].reshape(n, -1), jumps[i]], axis=1) for i in (0, 1)
        )
        return self.square[:, None] - taken, self.log_det[:, None] + grown

    def predict(self, ln_x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """At m places of ln X, in units of the noise: the law's part minus the fitted law and its variance, (cells, m);
        the shift and the variance of the deviation, (cells, K, m)."""
        total, line, weighted = np.zeros(()), np.zeros(()), np.zeros(())
        for stack, runs, spread, of_f, of_y in self.parts:
            z = stack.columns(ln_x)
            own = 1 / np.maximum(
                np.einsum("mp,cpq,mq->cm", z, spread, z), 1e-300
            )  # a run weighs by what it knows there
            total = total + runs * own
            line = line + own * (of_y @ z.T)
            weighted = weighted + runs * own[..., None] * (z @ of_f)
        line, weighted = line / total, weighted / total[..., None]
        basis = self.basis(ln_x)
        t = self.unit * basis - weighted  # (cells, m, columns)
        s2, c2 = np.array(DRIFT) ** 2, np.array(BREAK) ** 2
        grown = s2[:, None] / (1 + s2[:, None] * self.eigen[:, None, :])  # (cells, drifts, rank)
        turned = t[..., : self.rank] @ self.axes  # (cells, m, rank)
        v = ln_x - self.start
        rest = np.maximum(v**3 / 3 - (basis[:, : self.rank] ** 2).sum(1), 0.0) * self.unit**2  # beyond the window
        drift = (
            np.einsum("cdr,cr,cmr->cdm", grown, self.turned, turned),
            np.einsum("cdr,cmr->cdm", grown, turned**2) + s2[:, None] * rest,
        )
        single = np.swapaxes(t[..., self.rank :], 1, 2)  # (cells, columns, m)
        scale = np.concatenate([np.repeat(c2[None], len(BREAK_AT), 0).ravel(), np.ones(len(JUMP_AT))])
        column = np.concatenate([np.repeat(np.arange(len(BREAK_AT)), len(BREAK)),
                                 len(BREAK_AT) + np.arange(len(JUMP_AT))])  # fmt: skip
        weight = scale / (1 + scale * self.diagonal[:, column])
        shift = (weight * self.along[:, column])[..., None] * single[:, column]
        variance = weight[..., None] * single[:, column] ** 2
        none = np.zeros((len(line), 1, len(ln_x)))
        return (
            line, 1 / total, np.concatenate([none, drift[0], shift], 1), np.concatenate([none, drift[1], variance], 1)
        )  # fmt: skip


def _wiener(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Covariance of an integrated Wiener process from 0 on; before 0 it is 0."""
    one, other = np.maximum(one, 0), np.maximum(other, 0)
    low, high = np.minimum.outer(one, other), np.maximum.outer(one, other)
    return low**2 * (3 * high - low) / 6


class Shape:
    """The model of shape of the points of a fit. Raises NoShape where no run has a bin more than its law has
    directions.

    Attributes:
        odds: ln evidence of "not the law" over "the law", their prior left out. posterior: (K,) of each component.
        slope, unit: (sizes,) measured slope -d ln L / d ln X, and the unit of deviations; nan without a curve.
        start, end: (sizes,) ln X of the first and last bin. width: the longest range of ln X. flat: no curve varies.
    """

    def __init__(self, points: Points, law: Law, solution: Solution):
        stacks = stacks_of(points, law, solution)
        if not stacks:
            raise NoShape
        n = len(points.sizes)
        by_size: list[list[Stack]] = [[stack for stack in stacks if stack.size == i] for i in range(n)]
        self.present = [i for i in range(n) if by_size[i]]
        ends = [[f(np.concatenate([s.x for s in by_size[i]])) for f in (np.min, np.max)] for i in self.present]
        self.start, self.end, self.slope, self.unit = (np.full(n, np.nan) for _ in range(4))
        self.start[self.present], self.end[self.present] = np.array(ends).T
        self.width = float(np.nanmax(self.end - self.start))
        for i in self.present:
            self.slope[i] = _measured_slope(by_size[i])
        self.flat = all(np.ptp(s.response + s.reference, axis=1).max() < ROUNDING for s in stacks)
        typical = np.sqrt(np.nanmean(self.slope**2))
        self.unit = np.maximum(np.abs(self.slope), 0.5 * typical)
        mid = float(np.median([np.median(_run_counts(by_size[i])) for i in self.present]))
        noise = [
            [np.array([np.diag(s.counts / s.n) + c * mid * a for a in s.correlated for c in EXTRA]) for s in by_size[i]]
            for i in self.present
        ]
        self._noise = dict(zip(self.present, noise, strict=True))
        self.sizes = {
            i: _Size(by_size[i], float(self.unit[i]), self.width, covariance) for i, covariance in self._noise.items()
        }
        parts = [size.evidence() for size in self.sizes.values()]
        self.df = sum(size.df for size in self.sizes.values())
        self.squares = np.maximum(sum(part[0] for part in parts), 0.0) + RIDGE * self.df
        self.log_likelihood = -0.5 * (sum(part[1] for part in parts) + self.df * np.log(self.squares))
        self.prior = _prior()
        of_component = logsumexp(self.log_likelihood, axis=0) - np.log(len(self.squares))
        others = self.prior[1:] / self.prior[1:].sum()
        self.odds = float(logsumexp(of_component[1:], b=others) - of_component[0])
        self.posterior = self.prior * np.exp(of_component - of_component.max())
        self.posterior /= self.posterior.sum()
        self.cells = np.exp(self.log_likelihood - logsumexp(self.log_likelihood, axis=0))  # weights, by component

    def deviation(self, size: int, ln_x: np.ndarray) -> Deviation:
        """How far the mean curve of a size may be from the law at ln X (m,)."""
        line, of_line, shift, variance = self.sizes[size].predict(np.asarray(ln_x, float))
        scale = (self.squares / self.df)[..., None]
        each = line[:, None] + shift
        weight = self.cells[..., None]
        mean = (weight * each).sum(0)
        spread = (weight * ((of_line[:, None] + variance) * scale + (each - mean) ** 2)).sum(0)
        return Deviation(mean - mean[0], np.maximum(spread - spread[0], 0.0))

    def likeliest(self, others: bool) -> tuple[int, int]:
        """(noise cell, component) of most weight: of the components that are not the law, or of the law."""
        weight = self.log_likelihood + np.log(self.prior)
        weight = weight[:, 1:] if others else weight[:, :1]
        cell, component = np.unravel_index(weight.argmax(), weight.shape)
        return int(cell), int(component) + int(others)

    def smoothed(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ln X, ln L, ln L of the law) of a size at its bins, smoothed by the likeliest deviation; ln L of a law of
        lines is 0."""
        cell, component = self.likeliest(others=True)
        one = self.sizes[size]
        line, _, shift, _ = one.predict(one.nodes)
        stack = one.stacks[0]
        law = np.interp(one.nodes, stack.x, stack.reference)
        return one.nodes, law + line[cell] + shift[cell, component], law

    def gls_slopes(self) -> tuple[np.ndarray, np.ndarray]:
        """(slopes, their variances) of the sizes that have curves, by lines and the law's likeliest noise."""
        cell, _ = self.likeliest(others=False)
        scale = float(self.squares[cell, 0] / self.df)
        slopes, variances = [], []
        for i in self.present:
            total, summed = 0.0, 0.0
            for stack, covariance in zip(self.sizes[i].stacks, self._noise[i], strict=True):
                x = np.vander(stack.x - stack.x.mean(), 2)
                spread = np.linalg.inv(x.T @ np.linalg.solve(covariance[cell], x))
                y = stack.response.sum(0) + len(stack.response) * stack.reference
                slope = -(spread @ x.T @ np.linalg.solve(covariance[cell], y))[0]  # summed over the runs
                total += len(stack.response) / spread[0, 0]
                summed += slope / spread[0, 0]
            slopes.append(summed / total)
            variances.append(scale / total)
        return np.array(slopes), np.array(variances)

    def sampling(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ln X, mean ln L, its variance) of the bins of a size by the likeliest noise of a deviation; runs with
        several grids one after the other."""
        cell, component = self.likeliest(others=True)
        scale = float(self.squares[cell, component] / self.df)
        x, y, v = [], [], []
        for stack, covariance in zip(self.sizes[size].stacks, self._noise[size], strict=True):
            x.append(stack.x)
            y.append(stack.level)
            v.append(np.diag(covariance[cell]) * scale / len(stack.response))
        return np.concatenate(x), np.concatenate(y), np.concatenate(v)


def _prior() -> np.ndarray:
    kinds = np.array(KINDS)
    return np.array([PRIOR[kind] / np.sum(kinds == kind) for kind in KINDS])


def _run_counts(stacks: list[Stack]) -> np.ndarray:
    return np.concatenate([np.tile(stack.counts, len(stack.response)) for stack in stacks])


def _measured_slope(stacks: list[Stack]) -> float:
    """-d ln L / d ln X of a size by weighted least squares, a level for each run."""
    top, bottom = 0.0, 0.0
    for stack in stacks:
        weight = stack.n / stack.counts
        away = stack.x - np.average(stack.x, weights=weight)
        runs = len(stack.response)
        top += float(weight * away @ (stack.response.mean(0) + stack.reference)) * runs
        bottom += float(weight * away @ away) * runs
    return -top / bottom
