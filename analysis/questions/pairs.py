"""Runs that differ in one column, such as the algorithm, in pairs by seed at each size: final losses, slopes,
levels and the effective-compute multiplier.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.curves.frame import Curves, Frame
from analysis.fitting.choices import Choices
from analysis.fitting.points import select_points
from analysis.intervals.means import paired_difference, t_interval
from analysis.intervals.run_lines import run_lines
from analysis.questions.finals import conditions, evaluations, final_losses
from analysis.words import Labels, joined, labelled, size_labels
from scaling.schema import InputError, check_name

LOSSES = 7  # losses at which compute is compared


def compare_by(curves: Curves, choices: Choices, by: str = "algorithm", baseline: str | None = None) -> dict[str, Any]:
    """Runs that differ in one column, paired by seed at each size; see `analysis.compare_by`.

    Of the choices only rows, window and axes count: each run has a line of its own.
    """
    choices = replace(choices, law="per_size")  # each run has a line of its own, whatever law the study is about
    curves = choices.rows(curves)
    groups = dict(curves.groups(by))
    if len(groups) < 2:
        raise InputError(f"by {by}: there is only {', '.join(map(str, groups))}; a comparison needs two values.")
    if baseline is not None:
        base = {str(value): value for value in groups}[check_name(baseline, map(str, groups), f"value of {by}")]
    else:
        base = BASELINE if BASELINE in groups else next(iter(groups))
    if "seed" not in curves.table or curves.table["seed"].isna().any():
        raise InputError(f"by {by}: pairs need a seed for every run; column seed is missing or blank.")
    # Runs of another task or learning rate are another condition: they are never paired or averaged with these.
    condition = conditions(curves, apart=(by,))
    lines = {value: _Lines(part, choices, condition) for value, part in groups.items()}
    comparisons, unpaired = [], []
    for value, other in lines.items():
        if value == base:
            continue
        of_base, of_other = lines[base].runs, other.runs
        twice = [key for runs in (of_base, of_other) for key, found in runs.items() if len(found) > 1]
        if twice:
            raise InputError(
                f"by {by}: several runs of size {twice[0][0]:.4g} share seed {twice[0][2]:g}; give every run a "
                "seed of its own, or choose among them with where."
            )
        keys = sorted(set(of_base) & set(of_other))
        unpaired += [f"{by} {base}: {of_base[k][0]}" for k in sorted(set(of_base) - set(keys))]
        unpaired += [f"{by} {value}: {of_other[k][0]}" for k in sorted(set(of_other) - set(keys))]
        for size, setting in sorted({key[:2] for key in keys}):
            pairs = [(of_base[k][0], of_other[k][0]) for k in keys if k[:2] == (size, setting)]
            comparisons.append({
                by: value if isinstance(value, str) else float(value), "baseline": str(base), "num_params": float(size),
                "condition": setting,
                **_pairs(lines[base], other, pairs),
            })  # fmt: skip
    if not comparisons:
        raise InputError(f"by {by}: no size and seed has a run of {base} and one of another value; nothing is paired.")
    return {
        "source": curves.source,
        "by": by,
        "x": choices.axis(curves),
        "comparisons": comparisons,
        "unpaired": unpaired,
    }


class _Lines:
    """One line per run of one value: `runs` {(size, condition, seed): [names]}; slope, level, range of X by name."""

    def __init__(self, curves: Curves, choices: Choices, condition: dict[str, str]):
        chosen, _notes = select_points(curves, replace(choices, law="per_size"))
        lines = run_lines(chosen)
        seed = curves.table.groupby("run_id")["seed"].first()
        self.runs: dict[tuple[float, str, float], list[str]] = {}
        self.line: dict[str, tuple[float, float, float, float, float]] = {}
        for i, name in enumerate(lines.runs):
            key = (float(lines.num_params[i]), condition[name], float(seed[name]))
            self.runs.setdefault(key, []).append(name)
            of_run = chosen.x[np.array(chosen.runs)[chosen.run] == name]
            self.line[name] = (lines.slope[i], lines.level[i], lines.centre[i], of_run.min(), of_run.max())


def _pairs(base: _Lines, other: _Lines, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    ends = [base.line[a][3:] for a, _ in pairs] + [other.line[b][3:] for _, b in pairs]
    low, high = max(e[0] for e in ends), min(e[1] for e in ends)
    middle = (low + high) / 2

    def at(line: tuple[float, ...], ln_x: float) -> float:
        return line[1] - line[0] * (ln_x - line[2])

    sides = [(base.line[a], other.line[b]) for a, b in pairs]
    slope = paired_difference([a[0] for a, _ in sides], [b[0] for _, b in sides])
    level, intercept = (
        paired_difference([at(a, ln_x) for a, _ in sides], [at(b, ln_x) for _, b in sides]) for ln_x in (middle, 0.0)
    )
    # Losses that every run of the pairs passes between the ends of its own line.
    highest = min(at(line, line[3]) for pair in sides for line in pair)
    lowest = max(at(line, line[4]) for pair in sides for line in pair)
    rows = []
    falling = all(line[0] > 0 for pair in sides for line in pair)
    if falling and lowest < highest:
        for ln_loss in np.linspace(highest, lowest, LOSSES):
            reach = [[line[2] + (line[1] - ln_loss) / line[0] for line in pair] for pair in sides]
            gain = paired_difference([r[1] for r in reach], [r[0] for r in reach])  # ln X of the base minus the other's
            interval = None if gain["ci95"] is None else [math.exp(min(max(e, -700), 700)) for e in gain["ci95"]]
            rows.append({
                "loss": math.exp(ln_loss), "multiplier": math.exp(gain["mean"]), "ci95": interval, "n_pairs": gain["n"],
                "identified": interval is not None,
            })  # fmt: skip
    why = "" if rows else "a run's loss does not fall" if not falling else "the runs share no range of losses"
    return {"n_pairs": len(pairs), "efficiency": slope, "level": level, "level_at": math.exp(middle),
            "intercept": intercept, "multiplier": rows, "no_multiplier": why}  # fmt: skip


FEW_PAIRS = 3  # an interval from so few is named as such
BASELINE = "grpo"  # what the others are compared with, where it was run


def pair_summary(pairs: Frame) -> Frame:
    """One row per size, condition and algorithm, large to small: number of pairs, mean losses, mean difference with its
    95 % interval, noise of one difference."""
    rows = []
    for (size, label), alike in pairs.groupby(["size", "label"]):
        differences, noise = alike["difference"].to_numpy(), test_set_noise(alike)
        means = alike["baseline"].mean(), alike["other"].mean()
        rows.append((size, label, len(alike), *means, differences.mean(), *t_interval(differences, noise), noise))
    columns = ["size", "label", "pairs", "mean_baseline", "mean_other", "difference", "low", "high", "noise"]
    return pd.DataFrame(rows[::-1], columns=columns)


class Compared(NamedTuple):
    """Runs that differ in the algorithm, in pairs.

    Fields:
        pairs: one row per pair, see `compared_algorithms`. baseline: grpo where it was run, else the first by name.
        others: the algorithms that are compared with it, sorted.
    """

    pairs: Frame
    baseline: str
    others: list[str]

    def names(self) -> tuple[str, str]:
        """`GRPO` and `PAPO`, or `DAPO and PAPO`."""
        return self.baseline.upper(), joined([name.upper() for name in self.others])


def compared_algorithms(curves: Any) -> Compared:
    """One row per pair of runs that differ in the algorithm only: their final losses and the difference; `algorithm` is
    the other one.

    `label` names size, condition and, where several are compared, the algorithm: pairs of another task or learning rate
    are never averaged with these. Raises InputError where there are none.
    """
    frame = evaluations(curves)
    present = sorted({str(name) for name in frame["algorithm"].dropna()})
    if len(present) < 2:
        raise InputError(f"needs runs of two algorithms; there is only {', '.join(present) or 'none named'}.")
    if frame["seed"].isna().any():
        raise InputError("needs the column seed: the comparison is paired by seed.")
    baseline = BASELINE if BASELINE in present else present[0]
    # Settings of the estimator itself differ by definition; all others, the condition, must be equal within a pair.
    frame["condition"] = frame["run_id"].map(conditions(curves, apart=()))
    others = [name for name in present if name != baseline]
    each = {other: pairs_with(frame, baseline, other) for other in others}
    matched = [other for other in others if len(each[other])]
    if not matched:
        names = joined(others)
        raise InputError(f"needs runs of {baseline} and {names} at one size with the same seed; no two runs match.")
    if len(matched) > 1:
        for other in matched:
            each[other]["label"] = each[other]["place"].map(lambda place, other=other: f"{place} {other.upper()}")
    return Compared(pd.concat([each[other] for other in matched], ignore_index=True), baseline, matched)


def pairs_with(frame: Frame, baseline: str, other: str) -> Frame:
    """The pairs of two algorithms, by seed within size and condition; `place`: those two in words."""
    labels, pair_rows = size_labels(frame), []
    both_kinds = frame[frame["algorithm"].isin([baseline, other])]
    for (size, condition), rows in both_kinds.groupby(["size", "condition"]):
        finals = final_losses(rows)
        sides = [finals.runs[finals.runs["algorithm"] == name] for name in (baseline, other)]
        both = sides[0].merge(sides[1][["seed", "run_id", "final"]], on="seed", suffixes=("_baseline", "_other"))
        place = labelled(labels[size], condition)
        pair_rows.append(both.assign(window=finals.window(), size=size, place=place, label=place, algorithm=other))
    pairs = pd.concat(pair_rows, ignore_index=True)
    pairs = pairs.rename(
        columns={
            "final_baseline": "baseline",
            "final_other": "other",
            "run_id_baseline": "run_baseline",
            "run_id_other": "run_other",
        }
    )
    pairs["difference"] = pairs["other"] - pairs["baseline"]
    kept = ["size", "label", "seed", "run_baseline", "run_other", "baseline", "other", "difference", "window"]
    return pairs[[*kept, "final_evaluations", "eval_problems", "place", "algorithm"]]


def test_set_noise(pairs: Frame) -> float:
    """Standard error that the finite test set alone gives to one difference; 0 where the counts are not known."""
    loss = (pairs["baseline"] + pairs["other"]) / 2
    draws = pairs["eval_problems"] * pairs["final_evaluations"]
    return float(np.nan_to_num(np.sqrt(2 * loss * (1 - loss) / draws).mean()))


class Effects(NamedTuple):
    """What `compare_by` found on the algorithms, with the label of each comparison."""

    found: dict[str, Any]
    labels: list[str]
    names: tuple[str, str]  # baseline, other


def effects(curves: Curves, choices: Choices, labels: Labels) -> Effects:
    """Pairs of runs that differ in the algorithm, on training compute. Raises InputError: there are none."""
    # The rows of a study's own analysis are those of one algorithm: here all are wanted.
    compared = compare_by(curves, replace(choices, x="train_flops", where=None), "algorithm")
    others = {str(one["algorithm"]) for one in compared["comparisons"]}
    names = compared["comparisons"][0]["baseline"].upper(), joined([name.upper() for name in sorted(others)])
    shown = [
        labelled(
            labels[one["num_params"]] + (f" {one['algorithm'].upper()}" if len(others) > 1 else ""), one["condition"]
        )
        for one in compared["comparisons"]
    ]
    return Effects(compared, shown, names)
