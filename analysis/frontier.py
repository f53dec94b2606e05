"""What to do with a budget: which size, which group size, how often to reuse a prompt, what a loss costs.

Every choice comes with what the data cannot tell apart, or with "not identified". Lines are each size's own, over the
range in which it was run; step 0 is free, so at small budgets a frontier ranks base models and says nothing of
training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq, least_squares
from scipy.stats import norm
from scipy.stats import t as student

from analysis.curves import Curves, load
from analysis.fit import Fit, fit_curves
from analysis.intervals import BORROWED, LEVEL, add_intervals, band
from analysis.laws.group_size import optimal_group
from analysis.profile import profile_tests
from analysis.solve import Points, Solution
from scaling.schema import InputError

Frame = Any  # a pandas DataFrame: its type stubs know too little of what a column holds
FAR = 1e3  # how far beyond the data a cost to a target loss is looked for
DRAWS = 400  # of the parameters, for the band of a continuous frontier

# --- runs and their final losses --------------------------------------------------------------------------------------


def counted(n: int, word: str) -> str:
    """`1 run`, `14 curves`, `1,214 points`."""
    return f"{n:,} {word}" + ("" if n == 1 else "s")


def evaluations(curves: Any, size_column: str | None = None) -> Frame:
    """The rows with a test loss, with `size` (what the fit calls N), `condition` and what else runs are grouped by."""
    frame = curves.frame()
    if "test_loss" not in frame:
        raise InputError(f"{curves.source}: learning curves need the column test_loss.")
    frame = frame[frame["test_loss"].notna()]
    column = size_column or ("num_params_non_embedding" if "num_params_non_embedding" in frame else "num_params")
    missing = {name: np.nan for name in ("seed", "group_size", "reuse_factor", "eval_problems") if name not in frame}
    missing |= {name: None for name in ("model", "algorithm") if name not in frame}
    condition = frame["run_id"].map(conditions(curves))
    return frame.assign(size=frame[column], condition=condition, **missing).reset_index(drop=True)


def conditions(curves: Any, apart: Sequence[str] = ("reuse_factor", "group_size")) -> dict[str, str]:
    """In what a run's settings differ from those of most runs, in words (`modulus 10, noise 0.3`), by run id.

    The estimator and the settings `apart` are left out: what is compared. A comparison must not mix two conditions.
    """
    runs = curves.runs().set_index("run_id")
    found: dict[str, list[str]] = {run: [] for run in runs.index}
    names = [name for name in curves.settings if name in runs and name not in apart]
    for name in (name for name in names if not name.startswith("algorithm")):
        values = runs[name].map(lambda value: f"{value:.6g}" if isinstance(value, float) else str(value))
        shares = values.value_counts(normalize=True)
        usual = shares.index[0] if shares.iloc[0] > 0.5 else None  # without a majority each value is named
        for run, value in values.items():
            if value != usual:
                found[str(run)].append(f"{name.split('.')[-1].replace('_', ' ')} {value}")
    return {run: ", ".join(words) for run, words in found.items()}


class Finals(NamedTuple):
    """The final loss of each run: mean over the evaluations in the last tenth of the steps that all runs reached."""

    runs: Frame  # one row per run, column `final`
    first: int
    last: int

    def window(self) -> str:
        return f"step {self.last}" if self.first == self.last else f"steps {self.first}–{self.last}"


def final_losses(frame: Frame, last: float = np.inf) -> Finals:
    """The final losses at the last step that all runs reached, or at `last` if that is earlier."""
    last = min(last, frame.groupby("run_id")["step"].max().min())
    rows = frame[(frame["step"] > 0.9 * last) & (frame["step"] <= last)]
    columns = ["size", "model", "algorithm", "group_size", "reuse_factor", "seed", "eval_problems"]
    runs = rows.groupby("run_id", sort=False)[columns].first()
    runs["final"] = rows.groupby("run_id")["test_loss"].mean()
    runs["final_evaluations"] = rows.groupby("run_id")["test_loss"].size()
    return Finals(runs.reset_index(), int(rows["step"].min()), int(last))


def t_interval(values: np.ndarray, noise: float = 0.0) -> tuple[float, float]:
    """95 % interval of the mean of independent values; open on both sides for a single one.

    `noise` is a known standard error of one value (the finite test set): values that agree better than it allows do so
    by chance, so the interval is never narrower than it says.
    """
    n = len(values)
    if n < 2:
        return -np.inf, np.inf
    half = max(student.ppf(0.975, n - 1) * np.std(values, ddof=1), norm.ppf(0.975) * noise) / np.sqrt(n)
    return float(values.mean() - half), float(values.mean() + half)


class Spread(NamedTuple):
    """Relative standard deviation between repeats of one setting, pooled, and what it rests on."""

    sd: float
    degrees: int
    words: str

    def half_width(self, runs: int) -> float:
        """Half of the 95 % interval of ln(mean over `runs` runs); infinite where nothing was repeated."""
        return float(student.ppf(0.975, self.degrees)) * self.sd / np.sqrt(runs) if self.degrees else np.inf


def pooled_spread(finals: Frame, keys: Sequence[str], words: str) -> Spread:
    """Spread of ln(final loss) between the runs that share `keys`."""
    logs = np.log(finals["final"].clip(lower=1e-4))
    groups = logs.groupby([finals[key] for key in keys], dropna=False)
    degrees = int((groups.size() - 1).sum())
    squares = float(((logs - groups.transform("mean")) ** 2).sum())
    runs = int(groups.size()[groups.size() > 1].sum())
    sd = np.sqrt(squares / degrees) if degrees else np.nan
    return Spread(sd, degrees, f"{counted(runs, 'repeated run')} {words}")


def reuse_frame(curves: Any, replicates: Any) -> Frame:
    """The runs that differ in data reuse only, at the size where most values of it were run."""
    frame = evaluations(curves)
    frame = frame[frame["reuse_factor"].notna()]
    groups = [
        rows
        for _, rows in frame.groupby(["size", "algorithm", "group_size", "condition"], dropna=False)
        if rows["reuse_factor"].nunique() > 1
    ]
    if not groups:
        values = ", ".join(f"{tau:.3g}" for tau in sorted(frame["reuse_factor"].unique())) or "none"
        raise InputError(f"needs runs at two values of data reuse at one size; there is only τ = {values}.")
    chosen = max(groups, key=lambda rows: rows["reuse_factor"].nunique())
    if replicates is None:
        return chosen
    more = evaluations(replicates)
    more = more[(more["size"] == chosen["size"].iloc[0]) & more["reuse_factor"].isin(chosen["reuse_factor"])]
    more = more[more["step"] <= chosen["step"].max()]
    more = more.groupby("run_id").filter(lambda run: not already_there(run, chosen))
    return pd.concat([chosen, more], ignore_index=True)


def already_there(run: Frame, frame: Frame) -> bool:
    """Whether a run stands in the frame under another name: the same losses at the same steps are the same run."""
    both = frame.merge(run[["step", "test_loss"]], on="step", suffixes=("", "_of_run"))
    same = np.isclose(both["test_loss"], both["test_loss_of_run"], rtol=0, atol=1e-9)
    return bool((pd.Series(same).groupby(both["run_id"].to_numpy()).mean() > 0.9).any())


def reuse_summary(runs: Frame, spread: Spread) -> Frame:
    rows = []
    for tau, values in runs.groupby("reuse_factor")["final"]:
        centre, half = float(values.mean()), spread.half_width(len(values))
        rows.append((tau, len(values), centre, centre * np.exp(-half), min(centre * np.exp(half), 1.0)))
    return pd.DataFrame(rows, columns=["reuse_factor", "runs", "mean", "low", "high"])


def reuse_difference(runs: Frame, spread: Spread, base: float, tau: float) -> tuple[float, float, float, str]:
    """Difference of final loss, its 95 % interval and what it rests on: pairs by seed where there are two or more."""
    sides = [runs[runs["reuse_factor"] == value] for value in (base, tau)]
    pairs = sides[0].dropna(subset="seed").merge(sides[1], on="seed")
    if len(pairs) > 1:
        draws = pairs["eval_problems_x"] * pairs["final_evaluations_x"]
        loss = (pairs["final_x"] + pairs["final_y"]) / 2
        noise = float(np.nan_to_num(np.sqrt(2 * loss * (1 - loss) / draws).mean()))
        differences = (pairs["final_y"] - pairs["final_x"]).to_numpy()
        return differences.mean(), *t_interval(differences, noise), f"{len(pairs)} pairs by seed, t interval"
    means = [float(side["final"].mean()) for side in sides]
    relative = [spread.half_width(len(side)) * mean for side, mean in zip(sides, means, strict=True)]
    half, difference = float(np.hypot(relative[0], relative[1])), means[1] - means[0]
    return difference, difference - half, difference + half, f"{counted(len(sides[1]), 'run')}, spread of the repeats"


class Envelope(NamedTuple):
    """Which of n choices (sizes, group sizes) has the lowest line at each of m budgets.

    Fields:
        values: (n,) N or G; x: (m,) budgets; loss: (n, m) each choice's own line, NaN where not run or above 1.
        fitted: (n, m) inside the fitted steps; best: (m,) index of the lowest line, -1 where none was run.
        as_good: (n, m) not rejected as best at 5 %, where two or more were run.
        switches: where the best changes: `x`, `before`, `after` (values), `kind` (crossover, first step, end of run)
            and the 95 % interval `low`, `high` of a crossover, NaN where it is open in the range that both were run.
    """

    values: np.ndarray
    x: np.ndarray
    loss: np.ndarray
    fitted: np.ndarray
    best: np.ndarray
    as_good: np.ndarray
    switches: Frame

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


def equal_p(test: Any, ln_x: float, i: int, others: Sequence[int]) -> np.ndarray:
    """p of "the mean curves of sizes i and j meet at ln X" for each j; one run per size borrows the seed spread."""
    heights, variance = test.lines.at(ln_x)
    sizes = test.sizes(heights, variance)
    if sizes.df > 0:
        return np.array([1.0 if j == i else sizes.p_equal(i, j) for j in others])
    variance = variance + (BORROWED[0] * (ln_x - test.lines.centre)) ** 2 + BORROWED[1] ** 2
    run = {size: position for position, size in enumerate(test.lines.size)}
    gaps = [abs(heights[run[i]] - heights[run[j]]) / np.sqrt(variance[run[i]] + variance[run[j]]) for j in others]
    return np.asarray(2 * norm.sf(gaps))


def envelope(fit: Any) -> Envelope:
    """The lower envelope of the own lines of a fit's sizes over the range in which each was run."""
    rows = [row for row in fit.per_size if row["efficiency"] is not None]
    if len(rows) < 2:
        raise InputError(f"needs lines of two choices to compare; there is {len(rows)}.")
    values = np.array([row["num_params"] for row in rows])
    index = np.searchsorted(fit.test.lines.sizes, values)
    ran, used = run_ranges(fit, values), fitted_ranges(fit, values)
    x = np.unique(np.concatenate([np.geomspace(ran.min(), ran.max(), 160), ran.ravel(), used.ravel()]))
    line = np.array([np.exp(row["intercept"] - row["efficiency"] * np.log(x)) for row in rows])
    inside = (ran[:, :1] <= x) & (x <= ran[:, 1:])
    loss = np.where(inside & (line <= 1), line, np.nan)
    fitted = (used[:, :1] <= x) & (x <= used[:, 1:])
    best = np.where(np.isnan(loss).all(0), -1, np.argmin(np.nan_to_num(loss, nan=np.inf), axis=0))
    as_good = np.zeros(loss.shape, bool)
    for j, budget in enumerate(x):
        here = np.flatnonzero(~np.isnan(loss[:, j]))
        if len(here) > 1:
            as_good[here, j] = (
                equal_p(fit.test, float(np.log(budget)), int(index[best[j]]), index[here].tolist()) > 0.05
            )
    return Envelope(values, x, loss, fitted, best, as_good, envelope_switches(fit, rows, index, x, inside, best))


def envelope_switches(
    fit: Any, rows: list[dict[str, Any]], index: np.ndarray, x: np.ndarray, inside: np.ndarray, best: np.ndarray
) -> Frame:
    found = []
    for j in np.flatnonzero((best[1:] != best[:-1]) & (best[1:] >= 0) & (best[:-1] >= 0)):
        a, b = best[j], best[j + 1]
        at, low, high = x[j + 1], np.nan, np.nan
        kind = "first step" if not inside[b, j] else "end of run" if not inside[a, j + 1] else "crossover"
        if kind == "crossover":
            gap = rows[b]["efficiency"] - rows[a]["efficiency"]
            at = np.exp((rows[b]["intercept"] - rows[a]["intercept"]) / gap)
            both = np.flatnonzero(inside[a] & inside[b])
            equal = [equal_p(fit.test, float(np.log(x[i])), int(index[a]), [int(index[b])])[0] > 0.05 for i in both]
            centre = int(np.searchsorted(both, j))
            left, right = centre, centre
            while left > 0 and equal[left - 1]:
                left -= 1
            while right < len(both) - 1 and equal[right + 1]:
                right += 1
            low = np.nan if left == 0 else x[both[left]]
            high = np.nan if right == len(both) - 1 else x[both[right]]
        found.append((at, rows[a]["num_params"], rows[b]["num_params"], kind, low, high))
    return pd.DataFrame(found, columns=["x", "before", "after", "kind", "low", "high"])


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


# --- a continuous frontier --------------------------------------------------------------------------------------------


def optimal_sizes(law: Any, values: dict[str, float], x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(m,) N at which the law has the least loss at each X, for a law with a level of N; 0 or inf where that lies
    beyond a tenth of the smallest or ten times the largest size."""
    grid = np.geomspace(sizes.min() / 10, sizes.max() * 10, 801)
    loss = law.ln_loss(grid[:, None], x[None, :], values)
    best = loss.argmin(0)
    i = np.clip(best, 1, len(grid) - 2)
    a, b, c = (loss[i + d, np.arange(len(x))] for d in (-1, 0, 1))
    bend = a - 2 * b + c
    shift = np.where(bend > 0, (a - c) / (2 * np.where(bend > 0, bend, 1)), 0.0)
    step = math.log(grid[1] / grid[0])
    inner = grid[i] * np.exp(step * np.clip(shift, -1, 1))
    return np.where(best == 0, 0.0, np.where(best == len(grid) - 1, np.inf, inner))


def continuous(fit: Fit, x: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """N*(X) of a law with a level of N, with a band from draws of its parameters (`analysis.profile`): how the sizes
    scatter about the law is in it.

    `rows`: x, num_params (None beyond a tenth of the smallest or ten times the largest size), ci95 (an end beyond that
    is None), identified: closed at both ends. `band`: what it rests on, or why there is none.
    """
    law, points = fit.law, fit.points
    assert points is not None and fit.solution is not None
    if not law.predicts_unseen:
        raise InputError(
            f"law {law.name} has parameters of each size: its frontier is the ladder's. For a continuous N* use a law "
            "with a level of N, such as efficiency_log_level."
        )
    if law.columns:
        raise InputError(f"law {law.name} needs {law.columns[0]} at each point; there is no frontier over N alone.")
    best = optimal_sizes(law, {name: entry["value"] for name, entry in fit.values.items()}, x, points.sizes)
    ends, basis = optimum_band(points, law, fit.solution, x, seed)
    rows = [{"x": float(v), "num_params": _seen(n), "ci95": e, "identified": bool(e) and _seen(n) is not None and
             None not in e} for v, n, e in zip(x, best, ends, strict=True)]  # fmt: skip
    return {"law": law.name, "band": basis, "rows": rows}


def optimum_band(
    points: Points, law: Any, solution: Solution, x: np.ndarray, seed: int = 0
) -> tuple[list[list[float | None] | None], str]:
    """([low, high] of N*(X) at each X, None where there is no band; what the band rests on)."""
    tests, basis = profile_tests(points, law, solution)
    if not tests:
        return [None] * len(x), f"none: {basis}"
    drawn = tests[0].draws(DRAWS, np.random.default_rng([seed, 4]))
    found = np.array([optimal_sizes(law, tests[0].problem.values(v), x, points.sizes) for v in drawn])
    # Order statistics: no mean of a size and of an optimum out of sight.
    both = np.quantile(found, (LEVEL / 2, 1 - LEVEL / 2), axis=0, method="nearest")
    return [[_seen(low), _seen(high)] for low, high in both.T], basis


def _seen(size: float) -> float | None:
    """An optimum inside the range that was looked at."""
    return float(size) if 0 < size < math.inf else None


# --- what a loss costs ------------------------------------------------------------------------------------------------


def crossovers(fit: Fit) -> list[dict[str, Any]]:
    """Where the lines of neighbouring sizes cross: ln X = (E2 - E1) / (k2 - k1), and the X at which they are not told
    apart; `identified` where that is closed on both sides in the range that both were run."""
    rows = [row for row in fit.per_size if row["efficiency"] is not None]
    assert fit.test is not None
    found = []
    ranges = run_ranges(fit, np.array([row["num_params"] for row in rows]))
    for a, b in zip(range(len(rows)), range(1, len(rows)), strict=False):
        gap = rows[b]["efficiency"] - rows[a]["efficiency"]
        entry: dict[str, Any] = {"smaller": rows[a]["num_params"], "larger": rows[b]["num_params"], "x": None,
                                 "ci95": [None, None], "identified": False, "inside": False}  # fmt: skip
        found.append(entry)
        if gap == 0:
            continue
        ln_x = (rows[b]["intercept"] - rows[a]["intercept"]) / gap
        low, high = max(ranges[a, 0], ranges[b, 0]), min(ranges[a, 1], ranges[b, 1])
        entry["x"] = math.exp(ln_x) if abs(ln_x) < 700 else None
        if low >= high:
            continue
        entry["inside"] = bool(math.log(low) <= ln_x <= math.log(high))
        i, j = (int(np.searchsorted(fit.test.lines.sizes, rows[k]["num_params"])) for k in (a, b))
        test, ends = fit.test, (math.log(low), math.log(high))
        entry["ci95"] = _not_told_apart(lambda at: equal_p(test, at, i, [j])[0] - LEVEL, ln_x, ends)  # noqa: B023
        entry["identified"] = entry["inside"] and None not in entry["ci95"]
    return found


def _not_told_apart(excess: Any, centre: float, ends: tuple[float, float]) -> list[float | None]:
    """The stretch of X around the crossing (or the nearer end of the range) where `excess` of ln X is above 0; None
    where it reaches the end of the range."""
    grid = np.linspace(*ends, 120)
    start = min(max(centre, ends[0]), ends[1])
    found: list[float | None] = []
    if excess(start) <= 0:
        return [None, None]
    for side in (np.append(start, grid[grid < start][::-1]), np.append(start, grid[grid > start])):
        beyond = next((k for k in range(1, len(side)) if excess(side[k]) <= 0), None)
        found.append(None if beyond is None else math.exp(brentq(excess, side[beyond - 1], side[beyond])))
    return found


def cost_to_target(fit: Fit, target: float) -> list[dict[str, Any]]:
    """X at which each size reaches a test loss, by its own line (a law with curves: by the law), with its band.

    Where it is not reached `x` is None and `why` says "never" (a line that does not fall, a floor of the law above the
    target) or that it lies beyond 1000 times the largest X that was run. An end of the band is None beyond that too.
    """
    if not 0 < target < 1:
        raise InputError(f"target: {target:g} is not a test loss; it lies between 0 and 1.")
    straight = fit.law.slope is not None
    found = []
    for row in fit.per_size:
        size = row["num_params"]
        entry: dict[str, Any] = {"num_params": size, "x": None, "ci95": None, "extrapolated": False, "why": ""}
        found.append(entry)
        if row["efficiency"] is None:
            entry["why"] = "no line: fewer than two points"
            continue
        low, high = run_ranges(fit, np.array([size]))[0]
        grid = np.geomspace(low / FAR, high * FAR, 241)
        if straight:
            line = row["intercept"] - row["efficiency"] * np.log(grid)
        else:
            line = np.log(fit.predict(size, grid, **dict.fromkeys(fit.law.columns, 1.0)))
        entry["x"] = _first_below(grid, line, math.log(target))
        if entry["x"] is None:
            end = math.inf if straight else float(fit.predict(size, high * 1e60, **dict.fromkeys(fit.law.columns, 1.0)))
            if straight and row["efficiency"] <= 0:
                entry["why"] = "never: the line does not fall"
            elif not straight and end > target:
                entry["why"] = f"never: the law ends at {end:.3g}"
            else:
                entry["why"] = f"not within {FAR:g} times the largest X that was run"
        entry["extrapolated"] = entry["x"] is not None and not low <= entry["x"] <= high
        try:
            lower, upper, _basis = band(fit, size, grid)
        except InputError:
            continue
        if straight:
            ends = [_first_below(grid, np.log(side), math.log(target)) for side in (lower, upper)]
            entry["ci95"] = ends if entry["x"] is not None or ends[0] is not None else None
    return found


def _first_below(grid: np.ndarray, line: np.ndarray, level: float) -> float | None:
    """First X at which a line is at or below a level; None where it stays above."""
    below = np.flatnonzero(line <= level)
    if len(below) == 0:
        return None
    i = int(below[0])
    if i == 0:
        return float(grid[0])
    share = (line[i - 1] - level) / (line[i - 1] - line[i])
    return float(np.exp(np.log(grid[i - 1]) + share * (np.log(grid[i]) - np.log(grid[i - 1]))))


# --- data reuse -------------------------------------------------------------------------------------------------------


def reuse_threshold(curves: Curves, replicates: Curves | None = None) -> dict[str, Any]:
    """The reuse factor from which the final loss is worse than at the lowest: the smallest tau whose interval of the
    difference, and that of every larger one, lies above 0; None and `identified` false where there is none."""
    frame = reuse_frame(curves, replicates)
    finals = final_losses(frame)
    if replicates is None:
        spread = pooled_spread(finals.runs, ["reuse_factor"], "at one reuse")
    else:
        several = evaluations(replicates).groupby("size").filter(lambda rows: rows["run_id"].nunique() > 1)
        repeated = pd.concat([final_losses(rows, finals.last).runs for _, rows in several.groupby("size")])
        spread = pooled_spread(repeated, ["size"], f"of {counted(repeated['size'].nunique(), 'size')}")
    taus = sorted(frame["reuse_factor"].unique())
    rows = []
    for tau in taus[1:]:
        difference, low, high, basis = reuse_difference(finals.runs, spread, taus[0], tau)
        ends = [None if not np.isfinite(end) else float(end) for end in (low, high)]
        rows.append({"reuse_factor": float(tau), "difference": float(difference), "ci95": ends, "basis": basis})
    worse = [row["ci95"][0] is not None and row["ci95"][0] > 0 for row in rows]
    first = next((i for i in range(len(rows)) if all(worse[i:])), None)
    return {
        "num_params": float(frame["size"].iloc[0]), "baseline": float(taus[0]), "window": finals.window(),
        "threshold": None if first is None else rows[first]["reuse_factor"], "identified": first is not None,
        "highest_run": float(taus[-1]), "rows": rows,
    }  # fmt: skip


# --- all of it --------------------------------------------------------------------------------------------------------


def group_fit(curves: Curves, steps: str | None = None) -> tuple[Fit, Frame]:
    """Lines for each group size, at the size where most were run, and the rows they come from. N of the fit is G."""
    frame = evaluations(curves)
    frame = frame[frame["group_size"].notna()]
    groups = [
        rows
        for _, rows in frame.groupby(["size", "algorithm", "reuse_factor", "condition"], dropna=False)
        if rows["group_size"].nunique() > 1
    ]
    if not groups:
        values = ", ".join(f"{g:.0f}" for g in sorted(frame["group_size"].unique())) or "none"
        raise InputError(f"needs runs at two group sizes at one model size; there is only G = {values}.")
    chosen = max(groups, key=lambda rows: rows["group_size"].nunique())
    # The fit groups its lines by N; here they are grouped by G.
    table = chosen.drop(columns=["size", "num_params_non_embedding"], errors="ignore")
    by_group = replace(curves, table=table.assign(num_params=table["group_size"]), settings=[])
    fit = fit_curves(by_group, law="per_size", x="train_flops", steps=steps, size_column="num_params")
    return add_intervals(fit), chosen


def group_law(found: Envelope) -> dict[str, Any]:
    """ln G*(C) as a sigmoid in ln C (arXiv 2603.12151) from the lowest to the highest best G of the envelope: least
    squares on it; `c_mid`, `steepness`, or `error` where lines cross fewer than two times."""
    crossings = found.switches[found.switches["kind"] == "crossover"]
    if len(crossings) < 2:
        return {"error": f"lines of two group sizes cross {counted(len(crossings), 'time')}; ln G*(C) as a sigmoid "
                "in ln C needs two crossings"}  # fmt: skip
    inside = (found.best >= 0) & ((~np.isnan(found.loss)).sum(0) > 1)
    x, best = found.x[inside], found.values[found.best[inside]]
    low, high = float(best.min()), float(best.max())

    def missed(at: np.ndarray) -> np.ndarray:
        return np.log(optimal_group(x, low, high, np.exp(at[0]), np.exp(at[1])) / best)

    end = least_squares(missed, [float(np.log(crossings["x"]).mean()), 0.0])
    return {"smallest": low, "largest": high, "c_mid": float(np.exp(end.x[0])), "steepness": float(np.exp(end.x[1])),
            "rmse_ln_group": float(np.sqrt(np.mean(end.fun**2)))}  # fmt: skip


def segments(found: Envelope) -> list[dict[str, Any]]:
    """Stretches of X with one best choice: `from`, `to`, `best`, `not_rejected` (choices that cannot be told from it
    somewhere in the stretch) and `compared`: false where only one choice was run."""
    rows: list[dict[str, Any]] = []
    for j, best in enumerate(found.best):
        if best < 0:
            continue
        others = {float(found.values[i]) for i in np.flatnonzero(found.as_good[:, j]) if i != best}
        several = bool((~np.isnan(found.loss[:, j])).sum() > 1)
        key = (float(found.values[best]), several)
        if rows and (rows[-1]["best"], rows[-1]["compared"]) == key and found.best[j - 1] == best:
            rows[-1]["to"] = float(found.x[j])
            rows[-1]["not_rejected"] = sorted({*rows[-1]["not_rejected"], *others})
        else:
            rows.append({"from": float(found.x[j]), "to": float(found.x[j]), "best": key[0], "compared": several,
                         "not_rejected": sorted(others)})  # fmt: skip
    return rows


def _switches(found: Envelope) -> list[dict[str, Any]]:
    return [
        {"x": float(row.x), "before": float(row.before), "after": float(row.after), "kind": row.kind,
         "ci95": [None if np.isnan(end) else float(end) for end in (row.low, row.high)],
         "identified": row.kind == "crossover" and not (np.isnan(row.low) or np.isnan(row.high))}
        for row in found.switches.itertuples()
    ]  # fmt: skip


def frontier(
    source: Any,
    law: str = "efficiency",
    x: str = "train_flops",
    objective: str = "log",
    where: str | None = None,
    steps: str | None = None,
    points: str | None = None,
    size_column: str | None = None,
    target: float | None = None,
    replicates: Any = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything above for one source; a part that the data cannot carry is `{"error": why}`.

    Args:
        law: with a level of N it adds the continuous frontier. target: a test loss whose cost is wanted.
        replicates: repeated runs for the spread behind the reuse threshold, where the source repeats nothing.
        The others as for `analysis.fit`; `where` chooses the runs of the sizes, reuse and group size use all.

    Returns:
        `sizes` {segments, switches}, `continuous`, `crossovers`, `cost`, `group_size`, `reuse`, `untrained`: the lowest
        loss before training, above which a budget only ranks base models; `warnings`.
    """
    curves = load(source)
    repeated = None if replicates is None else load(replicates)
    found: dict[str, Any] = {"source": curves.source, "law": law, "x": x, "target": target}

    def part(name: str, make: Any) -> None:
        try:
            found[name] = make()
        except InputError as error:
            found[name] = {"error": str(error)}

    def of_sizes() -> Fit:
        return add_intervals(fit_curves(curves, law, x, objective, where, steps, points, "none", size_column, seed))

    fit: Fit | None = None
    try:
        fit = of_sizes()
    except InputError as error:
        if "two sizes" not in str(error):
            raise
        reason = {"error": str(error)}
        found |= dict.fromkeys(("sizes", "continuous", "crossovers", "cost"), reason)
        found["warnings"] = []
    if fit is not None:
        ladder = fit
        found["warnings"] = ladder.warnings
        part("sizes", lambda: {"segments": segments(e := envelope(ladder)), "switches": _switches(e)})
        budgets = np.geomspace(*np.exp([ladder.points.x.min(), ladder.points.x.max()]), 13)  # type: ignore[union-attr]
        part("continuous", lambda: continuous(ladder, budgets, seed))
        part("crossovers", lambda: crossovers(ladder))
        if target is not None:
            part("cost", lambda: cost_to_target(ladder, target))
        frame = evaluations(ladder.curves, ladder.record["size_column"])
        before = frame[frame["step"] == 0]
        found["untrained"] = None if before.empty else float(before.groupby("size")["test_loss"].mean().min())

    def of_groups() -> dict[str, Any]:
        groups, rows = group_fit(curves, steps)
        e = envelope(groups)
        return {"num_params": float(rows["size"].iloc[0]), "segments": segments(e), "switches": _switches(e),
                "law": group_law(e)}  # fmt: skip

    part("group_size", of_groups)
    part("reuse", lambda: reuse_threshold(curves, repeated))
    return found
