"""Copies of a run are named and refused, and runs that agree too well have the intervals of their questions."""

import numpy as np
import pandas as pd
import pytest
from synthetic_curves import synthetic

import analysis
from analysis.curves.check import make_curves
from analysis.fitting.copies import copies
from analysis.intervals.law_test import share_of_normal, too_alike
from analysis.intervals.means import paired_difference
from analysis.intervals.size_test import SizeTest
from scaling.schema import InputError


def twice(table, **changes):
    """The table with each of its runs again under another seed."""
    again = table.assign(seed=table["seed"] + 100, run_id=table["run_id"] + "-again", **changes)
    return pd.concat([table, again], ignore_index=True)


def test_copies_are_named_and_refused_and_what_the_error_says_helps():
    table = twice(synthetic(sizes=[1e9, 7e9, 32e9], noise=1, steps=10, runs=2))
    with pytest.raises(InputError) as caught:
        analysis.fit(make_curves(table), x="prompts_seen")
    said = str(caught.value)
    assert "run n0r0-again is a copy of run n0r0, equal in all 10 points; so are 5 more" in said
    where = said.split('--where "')[1].split('"')[0]
    assert analysis.fit(make_curves(table), x="prompts_seen", where=where).record["n_runs"] == 6


def test_a_copy_that_was_cut_short_is_one_too():
    table = twice(synthetic(sizes=[1e9, 7e9], noise=1, steps=12))
    short = table[(table["seed"] < 100) | (table["step"] <= 8)]
    with pytest.raises(InputError, match="n0r0-again is a copy of run n0r0, equal in all 8 points"):
        analysis.fit(make_curves(short), x="prompts_seen")


@pytest.mark.parametrize("change", [{"test_loss": -1e-9}, {"test_loss": -3e-6}, {"step": 1}])
def test_a_copy_that_was_rounded_or_counts_from_another_step_is_one_too(change):
    table = twice(synthetic(sizes=[1e9, 7e9], noise=1, steps=12))
    again = (table["seed"] >= 100) & (table["step"] > 0)
    for name, by in change.items():
        table.loc[again, name] += by
    with pytest.raises(InputError, match="n0r0-again is a copy of run n0r0"):
        analysis.fit(make_curves(table), x="prompts_seen")


@pytest.mark.parametrize(
    ("losses", "trials", "found"),
    [
        ([0.9, 0.8, 0.7, 0.6, 0.5], 512, 1),
        ([0.9, 0.8, 0.7, 0.6, 0.5], None, 1),  # no counts: all digits agree
        ([0.9, 0.8, 0.7, 0.6], 512, 0),  # four points
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 512, 0),  # collapsed runs agree for ever
        ([0.9, 0.8, 0.9, 0.8, 0.9, 0.8], 512, 0),  # two values
        ([0.9, 0.8, 0.7, 0.6, 0.5], 10, 0),  # of ten questions: (1 / 2 sqrt(pi 10 .2))^5 = .002
    ],
)
def test_what_chance_may_do_is_no_copy(losses, trials, found):
    n = len(losses)
    both = np.tile(losses, 2)
    counts = None if trials is None else np.full(2 * n, float(trials))
    run = np.repeat([0, 1], n)
    assert len(copies(["a", "b"], run, np.zeros(2 * n, int), both, counts)) == found
    assert copies(["a", "b"], run, run, both, counts) == []  # two sizes


def test_honest_runs_of_few_questions_are_not_refused():
    """20 studies of runs that share their expected losses: 24 questions, seven points."""
    for seed in range(20):
        table = synthetic(sizes=[1e9, 7e9], noise=1, steps=7, runs=4, trials=24, seed=seed)
        analysis.fit(make_curves(table), x="prompts_seen", parameters=False)


def test_runs_that_agree_too_well_have_the_interval_of_their_counts():
    size, least = np.repeat([0, 1, 2], 2), np.full(6, 4e-4)
    alike = np.array([0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
    apart = alike + 0.02 * np.array([1, -1, 1, -1, -1, 1])
    assert too_alike(alike, least, size) and not too_alike(apart, least, size)
    for h, floor in ((alike, True), (apart, False)):
        bare, found = (SizeTest(h, least, size, 3, np.ones(3), floor) for floor in (None, least))
        low, high = found.interval(1)
        assert low < 0.2 < high
        if floor:
            assert (high - low) / 2 == pytest.approx(1.96 * 0.02 / np.sqrt(2), rel=1e-3)
        else:
            assert (low, high) == bare.interval(1)
    assert share_of_normal(1e9) == pytest.approx(1, abs=1e-6)


def test_a_fit_of_near_copies_is_not_narrower_than_its_questions_allow():
    table = twice(synthetic(sizes=[1e9, 7e9, 32e9], noise=1, steps=10))
    table.loc[(table["seed"] >= 100) & (table["step"] > 0), "test_loss"] -= 1 / 500  # one error less at each point
    fit = analysis.fit(make_curves(table), x="prompts_seen")
    counts = fit.test.lines.slope_counts[::2]
    for row, variance in zip(fit.per_size, counts, strict=True):
        low, high = row["efficiency_ci95"]
        assert low < row["efficiency"] < high
        assert (high - low) / 2 >= 1.95 * np.sqrt(variance / 2)


def test_equal_pairs_have_the_interval_of_their_counts():
    assert paired_difference([0.5, 0.6], [0.5, 0.6])["ci95"] == [0, 0]
    low, high = paired_difference([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], noise=0.03)["ci95"]
    assert (low, high) == pytest.approx((-1.96 * 0.03 / np.sqrt(3), 1.96 * 0.03 / np.sqrt(3)), rel=1e-4)
    apart = [0.5, 0.65, 0.6]
    assert paired_difference([0.5, 0.6, 0.7], apart) == paired_difference([0.5, 0.6, 0.7], apart, noise=0.03)


def windows(levels):
    """Two exact runs a size, slope .06: one over steps 1 to 20, the other, with another level, over 15 to 60."""
    frames = []
    for size in (1e9, 4e9):
        for run, (first, last) in enumerate([(1, 20), (15, 60)]):
            step = np.arange(first, last + 1)
            loss = 0.8 * np.exp(levels[run] - 0.06 * np.log(step))
            frames.append(pd.DataFrame({
                "run_id": f"{size:g}-{run}", "num_params": size, "seed": run, "step": step,
                "prompts_seen": 512.0 * step, "test_loss": loss, "eval_problems": 500,
            }))  # fmt: skip
    return make_curves(pd.concat(frames, ignore_index=True))


@pytest.mark.parametrize("objective", ["log", "linear", "binomial"])
def test_a_size_lies_between_its_runs_where_their_windows_differ(objective):
    """One level for both made the difference of levels a slope of .01."""
    fit = analysis.fit(windows([0.0, 0.12]), x="prompts_seen", law="per_size", objective=objective)
    assert [row["efficiency"] for row in fit.per_size] == pytest.approx([0.06, 0.06], rel=2e-3)
    ends = np.exp(fit.per_size[0]["intercept"] - 0.06 * np.log(512 * 30))
    assert 0.8 * 30**-0.06 < ends < 0.8 * 30**-0.06 * np.exp(0.12)  # the line goes through the middle of the points


def test_runs_of_one_level_have_the_line_through_all_their_points():
    fit = analysis.fit(windows([0.0, 0.0]), x="prompts_seen", law="per_size")
    assert fit.per_size[0]["efficiency"] == pytest.approx(0.06, rel=1e-6)
    assert fit.per_size[0]["r2"] == pytest.approx(1, abs=1e-9)
