"""Do the intervals of crossings and of N*(X) hold where the curves do not follow the law? `make test-coverage`.

Four sizes with three runs: true mean curves that are lines, change their slope, stop or are sigmoids, fitted by lines;
the crossing of the true curves is the truth. Seven sizes with three runs: losses that bend in ln N otherwise than
the law of the fit does; the size of least true loss is the truth. Nominal 95 % has to be at least 90.

    python tests/doubt_coverage.py [studies of a kind; 12]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
from interval_coverage import FOUR, RISING, SEVEN, Design, as_points, counted
from scipy.optimize import brentq

from analysis.curves.check import make_curves
from analysis.fitting.choices import Choices
from analysis.fitting.solve import solve
from analysis.intervals.fitted import fit_with_intervals
from analysis.laws import get_law
from analysis.questions.cost import crossovers
from analysis.questions.optimum import optimum_band

NOISE = Design(sizes=FOUR, steps=60, extra=0.006)
STEPS = np.arange(1, NOISE.steps + 1)
LN_X = np.log(512.0 * STEPS)
START, WIDTH, MIDDLE = LN_X[0], LN_X[-1] - LN_X[0], LN_X.mean()
SLOPES = (0.06, 0.10, 0.14, 0.18)
KINDS = ("lines", "sigmoid", "break", "plateau")
Curve = Callable[[np.ndarray], np.ndarray]


def true_curves(kind: str, rng: np.random.Generator) -> list[Curve]:
    """ln L of each size over ln X. As lines, neighbours cross at random places of the window."""
    at, levels = np.sort(rng.uniform(LN_X[6], LN_X[-8], 3)), [-1.0]
    for i in range(3):
        levels.append(levels[-1] + (SLOPES[i + 1] - SLOPES[i]) * (at[i] - MIDDLE))
    place, strength = START + WIDTH * rng.uniform(0.3, 0.9, 4), rng.uniform(0, 1, (2, 4))

    def of(i: int) -> Curve:
        def line(x: np.ndarray) -> np.ndarray:
            return levels[i] - SLOPES[i] * (x - MIDDLE)

        if kind == "break":
            return lambda x: line(x) - (3 * strength[0, i] - 1) * SLOPES[i] * np.maximum(x - place[i], 0)
        if kind == "plateau":
            return lambda x: line(np.minimum(x, place[i]))
        if kind == "sigmoid":

            def reach(x: np.ndarray) -> np.ndarray:
                return 1 / (1 + np.exp(-(0.8 + 1.2 * strength[1, i]) * (x - place[i])))

            share, first = (0.5 + 0.4 * strength[0, i]) * (0.2 + 0.2 * i), np.array(START)
            return lambda x: line(first) + np.log1p(-share * (reach(x) - reach(first)))
        return line

    return [of(i) for i in range(4)]


def one_crossing(job: tuple[str, int]) -> list[tuple[bool, bool]]:
    """Whether the interval holds the crossing of the true curves: if the law holds, and with the doubt about it."""
    kind, seed = job
    rng = np.random.default_rng([20242, KINDS.index(kind), seed])
    curves, frames = true_curves(kind, rng), []
    for i, size in enumerate(FOUR):
        eta = np.array([
            curves[i](LN_X) + NOISE.level_sd * rng.standard_normal()
            - NOISE.slope_sd * rng.standard_normal() * (LN_X - MIDDLE) for _ in range(3)
        ])  # fmt: skip
        frames += [
            pd.DataFrame({"run_id": f"{i}-{run}", "num_params": size, "seed": run, "step": STEPS,
                          "prompts_seen": 512 * STEPS, "test_loss": loss, "eval_problems": NOISE.questions})
            for run, loss in enumerate(counted(eta, NOISE, rng))
        ]  # fmt: skip
    fit = fit_with_intervals(make_curves(pd.concat(frames)), Choices(law="per_size", x="prompts_seen"))
    held = []
    for i, entry in enumerate(crossovers(fit)):
        gap = lambda x, i=i: curves[i + 1](x) - curves[i](x)  # noqa: E731
        change = np.flatnonzero(np.diff(np.sign(gap(LN_X))))
        if len(change) != 1 or not entry["inside"]:
            continue
        truth = math.exp(brentq(gap, LN_X[change[0]], LN_X[change[0] + 1]))
        ends = (entry["if_law_holds"]["ci95"], entry["ci95"])
        held.append(tuple((low or 0.0) <= truth <= (high or math.inf) for low, high in ends))
    return held


BUDGETS = np.array([8.5, 9.0, 9.5, 10.0])


def _away(ln_n: np.ndarray, ln_x: np.ndarray, speed: float) -> np.ndarray:
    return ln_n - math.log(6e9) - speed * (ln_x - 9.3)


SURFACES: dict[str, Curve] = {
    "law": lambda n, x: get_law("efficiency_saturating_level").ln_loss(np.exp(n), np.exp(x), RISING),
    "parabola": lambda n, x: -0.9 - 0.12 * (x - 9.3) + 0.02 * _away(n, x, 0.9) ** 2,
    "wedge": lambda n, x: -0.9 - 0.12 * (x - 9.3) + 0.03 * np.abs(_away(n, x, 0.8)) ** 1.5,
}  # type: ignore[dict-item]


def one_optimum(job: tuple[str, str, int]) -> list[tuple[bool, bool]]:
    """Whether the band holds the size of least true loss at each budget: if the law holds, and with the doubt."""
    kind, name, seed = job
    rng = np.random.default_rng([20243, list(SURFACES).index(kind), seed])
    sizes, size, law = np.array(SEVEN), np.repeat(np.arange(7), 3), get_law(name)
    shift = rng.standard_normal((2, len(size), 1)) * np.array([NOISE.level_sd, NOISE.slope_sd])[:, None, None]
    eta = SURFACES[kind](np.log(sizes)[size][:, None], LN_X) + shift[0] - shift[1] * (LN_X - MIDDLE)  # type: ignore
    points = as_points(sizes, size, LN_X, counted(eta, NOISE, rng), STEPS, NOISE.questions)
    bands, by_law, basis = optimum_band(points, law, solve(points, law), np.exp(BUDGETS))
    assert bands[0] is not None, basis
    grid = np.linspace(math.log(sizes[0] / 10), math.log(sizes[-1] * 10), 4001)
    truth = [math.exp(grid[np.argmin(SURFACES[kind](grid, x))]) for x in BUDGETS]  # type: ignore[call-arg]
    inside = lambda ends, n: (ends[0] or 0.0) <= n <= (ends[1] or math.inf)  # noqa: E731
    return [(inside(a, n), inside(b, n)) for a, b, n in zip(by_law, bands, truth, strict=True)]


def main(studies: int) -> int:
    jobs = {f"crossing, {kind}": (one_crossing, [(kind, seed) for seed in range(studies)]) for kind in KINDS}
    for kind, law in (("law", "efficiency_saturating_level"), ("parabola", "efficiency_saturating_level"),
                      ("wedge", "efficiency_log_level"), ("wedge", "efficiency_saturating_level")):  # fmt: skip
        jobs[f"N*(X), {kind}, by {law}"] = (one_optimum, [(kind, law, seed) for seed in range(studies)])
    wrong = []
    print(f"{studies} studies of a kind; nominal 95 % intervals hold, %: if the law holds, with the doubt about it")
    with ProcessPoolExecutor(2) as pool:
        for name, (make, of) in jobs.items():
            held = np.array([row for rows in pool.map(make, of) for row in rows])
            by_law, doubt = 100 * held.mean(0)
            print(f"{name:<48}{by_law:>5.0f}{doubt:>5.0f}  of {len(held)}", flush=True)
            # The four budgets of a study are hardly independent: its studies count.
            if doubt < 90 - 2.5 * 100 * math.sqrt(0.1 * 0.9 / min(studies, len(held))):
                wrong.append(f"{name}: {doubt:.0f}")
    for line in wrong:
        print(f"FAILED  {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 12))
