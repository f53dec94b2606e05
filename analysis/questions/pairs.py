"""Runs that differ in one column, such as the algorithm, in pairs by seed at each size: final losses, slopes,
levels and the effective-compute multiplier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.curves.frame import Curves, Frame
from analysis.fitting.choices import Choices
from analysis.fitting.points import select_points
from analysis.intervals.law_test import LEVEL
from analysis.intervals.means import paired_difference, t_interval
from analysis.intervals.paired_test import Lines, fall, multiplier_band, study_test
from analysis.intervals.run_lines import run_lines
from analysis.missing import Missing
from analysis.questions.finals import conditions, evaluations, final_losses
from analysis.words import Labels, joined, labelled, size_labels, study_in_words
from scaling.schema import InputError, check_name

LOSSES = 7  # losses at which compute is compared

# What a comparison by pairs does not take: each run has a line of its own.
NO_FIT = ("law", "objective", "split", "seed", "bounds", "fix", "bound")


def compare_by(curves: Curves, choices: Choices, by: str = "algorithm", baseline: str | None = None) -> dict[str, Any]:
    """Runs that differ in one column, paired by seed at each size; see `analysis.compare_by`.

    Of the choices only rows, window and axes count: each run has a line of its own.
    """
    choices = choices.with_law("per_size")  # each run has a line of its own, whatever law the study is about
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
    comparisons, studies, unpaired = [], [], []
    for value, other in lines.items():
        if value == base:
            continue
        of_base, of_other = lines[base].runs, other.runs
        twice = [key for runs in (of_base, of_other) for key, same in runs.items() if len(same) > 1]
        if twice:
            raise InputError(
                f"by {by}: several runs of size {twice[0][0]:.4g} share seed {twice[0][2]:g}; give every run a "
                "seed of its own, or choose among them with where."
            )
        keys = sorted(set(of_base) & set(of_other))
        unpaired += [f"{by} {base}: {of_base[k][0]}" for k in sorted(set(of_base) - set(keys))]
        unpaired += [f"{by} {value}: {of_other[k][0]}" for k in sorted(set(of_other) - set(keys))]
        named = {by: value if isinstance(value, str) else float(value), "baseline": str(base)}
        for setting in sorted({key[1] for key in keys}):
            of_setting = {
                size: [(of_base[k][0], of_other[k][0]) for k in keys if k[:2] == (size, setting)]
                for size in sorted({key[0] for key in keys if key[1] == setting})
            }
            paired = Paired(lines[base], other, of_setting)
            studies.append({**named, "condition": setting, **paired.study()})
            comparisons += [
                {**named, "num_params": float(size), "condition": setting, **paired.of_size(i)}
                for i, size in enumerate(of_setting)
            ]
    if not comparisons:
        raise InputError(f"by {by}: no size and seed has a run of {base} and one of another value; nothing is paired.")
    return {
        "source": curves.source,
        "where": curves.condition,
        "by": by,
        "x": choices.axis(curves),
        "studies": studies,
        "comparisons": comparisons,
        "unpaired": unpaired,
    }


class _Lines:
    """One line per run of one value: `runs` {(size, condition, seed): [names]}; `ends` of ln X by name."""

    def __init__(self, curves: Curves, choices: Choices, condition: dict[str, str]):
        chosen, _notes = select_points(curves, choices.with_law("per_size"))
        self._of_runs = lines = run_lines(chosen)
        seed = curves.table.groupby("run_id")["seed"].first()
        self.runs: dict[tuple[float, str, float], list[str]] = {}
        self.ends: dict[str, tuple[float, float]] = {}
        self._index: dict[str, int] = {}
        for i, name in enumerate(lines.runs):
            key = (float(lines.num_params[i]), condition[name], float(seed[name]))
            self.runs.setdefault(key, []).append(name)
            of_run = chosen.x[np.array(chosen.runs)[chosen.run] == name]
            self._index[name], self.ends[name] = i, (of_run.min(), of_run.max())

    def lines(self, names: Sequence[str]) -> Lines:
        """The lines of the runs, in the order of the names."""
        of, at = self._of_runs, [self._index[name] for name in names]
        return Lines(of.slope[at], of.level[at], of.centre[at], of.slope_variance[at], of.level_variance[at])

    def counts(self, names: Sequence[str]) -> Lines:
        """Lines at 0 with the variances that the counts of errors alone give to those of the runs."""
        of, at = self._of_runs, [self._index[name] for name in names]
        return Lines(0 * of.slope[at], 0 * of.level[at], of.centre[at], of.slope_counts[at], of.level_counts[at])


class Paired:
    """The pairs of two values of the column under one condition, by size: what they say over sizes and of each."""

    def __init__(self, base: _Lines, other: _Lines, pairs: dict[float, list[tuple[str, str]]]):
        self._sizes = list(pairs)
        self._size = np.repeat(np.arange(len(pairs)), [len(of_size) for of_size in pairs.values()])
        names = [pair for of_size in pairs.values() for pair in of_size]
        of_base, of_other = [a for a, _ in names], [b for _, b in names]
        self._sides = base.lines(of_base), other.lines(of_other)
        self._counts = base.counts(of_base), other.counts(of_other)
        self._ends = np.array([[base.ends[a], other.ends[b]] for a, b in names])  # (pairs, sides, 2) of ln X
        mine = [self._ends[self._size == i] for i in range(len(pairs))]
        self._low = np.array([of_size[..., 0].max() for of_size in mine])
        self._high = np.array([of_size[..., 1].min() for of_size in mine])
        self._several = bool((np.bincount(self._size) > 1).any())

    def study(self) -> dict[str, Any]:
        """The one test over sizes: `difference_shown`, the pooled multiplier (None where losses do not fall), the sizes
        at which it is shown."""
        if not self._several:
            return Missing("one pair at each size: the spread between seeds is not known").json()
        test = study_test(*self._sides, self._size, self._low, self._high)
        shown = test.p < LEVEL
        return {
            "n_sizes": len(self._sizes), "n_pairs": len(self._size), "difference_shown": shown, "p": test.p,
            "p_level": test.p_level, "p_slope": test.p_slope, "multiplier": test.multiplier,
            "ci95": None if test.ci95 is None else list(test.ci95), "power_at_1.5": test.power,
            "degrees_of_freedom": test.df,
            # Sizes are asked only where the study shows something: this keeps the false claims of a study at 5 %.
            "shown_at": [float(n) for n, p in zip(self._sizes, test.p_sizes, strict=True) if shown and p < LEVEL],
        }  # fmt: skip

    def of_size(self, i: int) -> dict[str, Any]:
        """The differences of one size, each with its own t interval, and the band of its multiplier over losses."""
        mine = self._size == i
        base, other = (Lines(*(values[mine] for values in side)) for side in self._sides)
        low, high = float(self._low[i]), float(self._high[i])
        middle = (low + high) / 2
        counts = [Lines(*(values[mine] for values in side)) for side in self._counts]
        of_slope = math.sqrt(float(np.mean(sum(side.slope_variance for side in counts))))
        # By the counts of errors alone: an interval is never narrower than they allow.
        noise = lambda ln_x: math.sqrt(float(np.mean(sum(side.at(ln_x)[1] for side in counts))))  # noqa: E731
        level, intercept = (
            paired_difference(base.at(ln_x)[0], other.at(ln_x)[0], noise(ln_x)) for ln_x in (middle, 0.0)
        )
        slope = paired_difference(base.slope, other.slope, of_slope)
        rows, why = self._multipliers(i, base, other)
        return {
            "n_pairs": int(mine.sum()), "efficiency": slope, "level": level, "level_at": math.exp(middle),
            "intercept": intercept, "multiplier": rows, "no_multiplier": why,
        }  # fmt: skip

    def _multipliers(self, i: int, base: Lines, other: Lines) -> tuple[list[dict[str, Any]], str]:
        """X of the base over X of the other at losses that every run passes, highest first, with a simultaneous band;
        or why there is none."""
        if (np.concatenate([base.slope, other.slope]) <= 0).any():
            return [], "a run's loss does not fall"
        ends = np.moveaxis(self._ends[self._size == i], 0, -1)  # (sides, ends, pairs): each run's own
        highest = min(side.at(first)[0].min() for side, (first, _) in zip((base, other), ends, strict=True))
        lowest = max(side.at(last)[0].max() for side, (_, last) in zip((base, other), ends, strict=True))
        if not fall((base, other), self._high[i] - self._low[i]):
            return [], "the losses do not fall"
        if lowest >= highest:
            return [], "the runs share no range of losses"
        losses = np.linspace(highest, lowest, LOSSES)
        open_band = np.full((LOSSES, 2), np.inf)
        band = multiplier_band(*self._sides, self._size, i, losses) if self._several else open_band
        rows = []
        for ln_loss, ends_of_loss in zip(losses, band, strict=True):
            base_x, other_x = (side.centre + (side.level - ln_loss) / side.slope for side in (base, other))
            known = bool(np.isfinite(ends_of_loss).all())
            rows.append({
                "loss": math.exp(ln_loss), "multiplier": math.exp(float((base_x - other_x).mean())),
                "ci95": np.exp(ends_of_loss).tolist() if known else None, "n_pairs": len(base.slope),
                "identified": known,
            })  # fmt: skip
        return rows, ""


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
        there = f"there is only {present[0]}" if present else "the source names none"
        raise InputError(f"needs runs of two algorithms; {there}.")
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

    record: dict[str, Any]
    labels: list[str]
    names: tuple[str, str]  # baseline, other

    def verdicts(self) -> list[str]:
        """The verdict over all sizes, for each of the others and each condition."""
        comparisons = self.record["comparisons"]
        label = {one["num_params"]: name for one, name in zip(comparisons, self.labels, strict=True)}
        return [
            labelled(f"{str(study['algorithm']).upper()} against {self.names[0]}", study["condition"])
            + f": {study_in_words(study, lambda size: label[size])}"
            for study in self.record["studies"]
        ]


def effects(curves: Curves, choices: Choices, labels: Labels) -> Effects:
    """Pairs of runs that differ in the algorithm, on training compute. Raises InputError: there are none."""
    if "algorithm" not in curves.table:
        raise InputError("needs runs of two algorithms; the source names none.")
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
