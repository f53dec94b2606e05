"""The objectives of a fit, and how each is linearised around a curve.

Around the present curve a point has a working response z and a weight w (eta = ln mu is the fitted log loss, Q the
number of evaluated samples):

    log        z = ln L                   w = Q mu / (1 - mu)   the inverse variance of ln L for a count of errors
    binomial   z = eta - g / w            w = g', g the derivative of -ln likelihood of the counts by eta (Newton)
    linear     z = eta + (L - mu) / mu    w = mu^2 / n_size     Gauss-Newton for squared error on L itself,
                                                                equal total weight per size (Tan et al. 2025)

Weights of `log` come from the *fitted* curve: weights from the observed loss favour points that happen to be high.
`huber` has no such form; only the general solver takes it.
"""

from __future__ import annotations

import numpy as np

from analysis.fitting.points import Points

HUBER = 1e-3


def _mean(points: Points, eta: np.ndarray) -> np.ndarray:
    """Fitted loss, kept a tenth of an error away from 0 and half an error away from 1, where it has no variance."""
    assert points.trials is not None
    return np.clip(np.exp(np.minimum(eta, 1.0)), 0.1 / points.trials, 1 - 0.5 / points.trials)


def _linearise(points: Points, objective: str, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weight, working response) around the curve eta; see the head of this file."""
    if objective == "linear":
        mu = np.exp(np.clip(eta, -300.0, 2.0))  # a curve far below every loss keeps a weight that is no zero
        return mu**2 / points.sum_by_size(np.ones(len(points)))[points.size], np.log(mu) + (points.loss - mu) / mu
    if points.trials is None:
        return np.ones(len(points)), points.ln_loss()
    mu = _mean(points, eta)
    if objective == "log":
        return points.trials * mu / (1 - mu), points.ln_loss()
    weight = points.trials * mu * np.maximum(1 - points.loss, 0.5 / points.trials) / (1 - mu) ** 2
    return weight, np.log(mu) + points.trials * (points.loss - mu) / (1 - mu) / weight


def _criterion(points: Points, objective: str, eta: np.ndarray) -> float:
    """What is minimised. linear: squared error on L, mean over points, then over sizes. binomial: -2 ln likelihood per
    sample. log: -2 ln of the normal likelihood of ln L with the fitted variances, per point (it compares starts).
    huber: the sum over points."""
    if objective == "linear":
        square = (points.loss - np.exp(np.minimum(eta, 2.0))) ** 2
        return float(np.mean(points.sum_by_size(square) / points.sum_by_size(np.ones(len(points)))))
    if objective == "huber":
        away = np.abs(points.ln_loss() - eta)
        return float(np.sum(np.where(away <= HUBER, away**2 / 2, HUBER * (away - HUBER / 2))))
    weight, response = _linearise(points, objective, eta)
    if objective == "log":
        return float(np.mean(weight * (response - eta) ** 2 - np.log(weight)))
    mu, trials = _mean(points, eta), np.asarray(points.trials)
    likelihood = trials * (points.loss * np.log(mu) + (1 - points.loss) * np.log1p(-mu))
    # Beyond the limits of mu the likelihood goes on as the parabola that touches it there: no flat ground.
    beyond = eta - np.log(mu)
    likelihood += weight * ((response - np.log(mu)) * beyond - beyond**2 / 2)
    return float(-2 * np.sum(likelihood) / np.sum(trials))
