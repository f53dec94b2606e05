"""The published law on the published curves: our fit against the reference study's own method, in one run.

Theirs: CMA-ES over (Kmax, N0, E of each size) with the settings of the study (arXiv 2509.25300): squared error on L
with equal total weight per size, parameters scaled to [0, 1] by bounds Kmax 0..2, N0 0.1e9..100e9, E -10..10 (base 10),
population 20, sigma 0.3, at most 1600 iterations, up to 5 trials (the first from Kmax 0.5, N0 7e9, E 0.1, the others
uniform), no further trial once the loss is below 3e-4. Ours: objective `linear` with the same bounds.

`make bench-fit` runs it in an environment of its own. The last line of stdout is
{"ratio": median CPU time of theirs over ours, "max_relative_difference": of Kmax and N0 over the protocols}.
"""

from __future__ import annotations

import json
import statistics
import time

import cma
import numpy as np

import analysis
from analysis.curves.load import load
from analysis.fitting.choices import Choices
from analysis.fitting.points import Points, select_points
from analysis.fitting.solve import solve
from analysis.intervals.coverage import coverage
from analysis.laws import get_law

PROTOCOLS = {
    "all sizes": {},
    "first 25 points": {"points": ":-80"},
    "without 72B": {"where": "num_params <= 32e9"},
}
AXES = ("train_flops", "prompts_seen")
LOW, HIGH = (0.0, 0.1e9, -10.0), (2.0, 100e9, 10.0)
START = (0.5, 7e9, 0.1)


def reference_fit(points: Points, seed: int) -> tuple[float, float, float]:
    """(Kmax, N0, loss) by the study's method."""
    n = len(points.sizes)
    low, high, start = (np.array([*ends[:2], *[ends[2]] * n]) for ends in (LOW, HIGH, START))
    log_x, size = points.x / np.log(10), points.size
    weight = 1 / np.bincount(size)[size] / n

    def loss(scaled: np.ndarray) -> float:
        k_max, n0, *levels = low + np.clip(scaled, 0, 1) * (high - low)
        k = k_max / (1 + n0 / points.sizes)
        predicted = 10 ** np.minimum(np.array(levels)[size] - k[size] * log_x, 5)
        return float(weight @ (points.loss - predicted) ** 2)

    rng, best = np.random.default_rng(seed), (np.inf, np.zeros(n + 2))
    for trial in range(5):
        begin = (start - low) / (high - low) if trial == 0 else rng.uniform(0, 1, n + 2)
        options = {"popsize": 20, "maxiter": 1600, "bounds": [0, 1], "verbose": -9, "seed": seed * 10 + trial + 1}
        found = cma.CMAEvolutionStrategy(begin, 0.3, options).optimize(loss).result
        best = min(best, (float(found.fbest), found.xbest), key=lambda pair: pair[0])
        if best[0] < 3e-4:
            break
    k_max, n0 = (low + np.clip(best[1], 0, 1) * (high - low))[:2]
    return float(k_max), float(n0), best[0]


def main() -> None:
    law, curves = get_law("efficiency"), load("reference:qwen2.5_base")
    ratios, differences = [], []
    title = f"{'axis':<14}{'protocol':<18}{'theirs, s':>10}{'ours, ms':>10}{'ratio':>8}"
    print(title + "   Kmax theirs, ours   N0 theirs, ours")
    for x in AXES:
        for name, choice in PROTOCOLS.items():
            chosen = curves.where(choice["where"]) if "where" in choice else curves
            points, _ = select_points(chosen, Choices(x=x, points=choice.get("points")))
            start = time.process_time()
            k_max, n0, loss = reference_fit(points, seed=0)
            theirs = time.process_time() - start
            spent = []
            for _ in range(15):
                start = time.process_time()
                found = solve(points, law, "linear", published_bounds=True)
                spent.append(time.process_time() - start)
            ours = statistics.median(spent)
            ratios.append(theirs / ours)
            differences += [abs(found.values["k_max"] / k_max - 1), abs(found.values["n0"] / n0 - 1)]
            assert found.objective <= loss * (1 + 1e-9), "the reference found a better optimum"
            print(
                f"{x:<14}{name:<18}{theirs:>10.2f}{1e3 * ours:>10.2f}{ratios[-1]:>8.0f}   "
                f"{k_max:.5f} {found.values['k_max']:.5f}   {n0 / 1e9:.4f}e9 {found.values['n0'] / 1e9:.4f}e9"
            )
    start = time.process_time()
    fit = analysis.fit(curves)
    middle = time.process_time()
    measured = coverage(fit, studies=50)
    end = time.process_time()
    print(f"a fit with its record and intervals: {1e3 * (middle - start):.0f} ms")
    print(f"coverage self-test: {1e3 * (end - middle) / 50:.0f} ms a simulated study; {measured['text']}")
    print(
        json.dumps(
            {"ratio": round(statistics.median(ratios), 1), "max_relative_difference": float(f"{max(differences):.3g}")}
        )
    )


if __name__ == "__main__":
    main()
