"""Intervals: the published vectors, exact data, coverage by simulation, open ends, and the flags."""

import json

import numpy as np
import pytest
from scipy import stats
from synthetic_curves import SIZES, synthetic

import analysis
from analysis.curves.check import make_curves
from analysis.curves.load import load
from analysis.fitting.choices import Choices
from analysis.fitting.points import select_points
from analysis.intervals.coverage import coverage
from analysis.intervals.law_test import EXACT, f_tail, law_test
from analysis.intervals.means import paired_difference
from analysis.intervals.run_lines import run_lines
from analysis.intervals.run_test import band, efficiency_interval
from analysis.intervals.size_test import SizeTest
from analysis.laws.efficiency import LAW as EFFICIENCY
from scaling.schema import InputError

# Vector A: four sizes, two runs each; vector B: the first run of each.
SLOPE = np.array([0.012, 0.017, 0.049, 0.044, 0.066, 0.075, 0.089, 0.101])
VARIANCE = np.repeat([0.0017, 0.0031, 0.0037, 0.0041], 2) ** 2
SIZE = np.repeat([1.5e9, 7e9, 14e9, 32e9], 2)


def short(interval, scale=1.0):
    return [float(f"{end / scale:.3g}") for end in interval]


def test_vector_a():
    test = law_test(EFFICIENCY, SLOPE, VARIANCE, SIZE)
    assert short(test.efficiency_interval()) == [0.105, 0.172]
    assert short(test.scale_interval(), 1e9) == [7.83, 20.6]


def test_curves_that_do_not_move_say_nothing_of_sizes():
    table = synthetic(runs=3)
    table["test_loss"] = 0.5
    fit = analysis.fit(make_curves(table), x="prompts_seen")
    assert fit.record["intervals"]["misfit_p"] is None
    assert not any("exceed seed noise" in text for text in fit.warnings)


def test_a_k_outside_its_own_interval_is_said():
    table = synthetic(runs=3, steps=15, k_max=0.3, n0=1e7, sizes=[1e9, 4e9, 16e9, 64e9])
    rng = np.random.default_rng(0)
    bent = np.minimum(0.9999, 1.3 * table["test_loss"].clip(upper=0.99))
    table["test_loss"] = rng.binomial(500, bent) / 500
    fit = analysis.fit(make_curves(table), x="prompts_seen")
    outside = [
        row for row in fit.per_size if not row["efficiency_ci95"][0] <= row["efficiency"] <= row["efficiency_ci95"][1]
    ]
    assert outside and any(text.startswith("k of N = ") and "losses are near 1" in text for text in fit.warnings)


def test_a_bound_that_binds_is_no_miss_of_the_law():
    fit = analysis.fit(
        make_curves(synthetic(sizes=[1e6, 4e6, 16e6, 64e6], n0=1e7, runs=2, noise=1.0)),
        x="prompts_seen",
        bounds="published",
    )
    assert fit.values["n0"]["at_bound"]
    assert "the bound holds it there" in " ".join(fit.warnings) and "the law misses" not in " ".join(fit.warnings)


def test_vector_b():
    test = law_test(EFFICIENCY, SLOPE[::2], VARIANCE[::2], SIZE[::2])
    assert short(test.efficiency_interval()) == [0.0884, 0.201]  # given as .088
    assert short(test.scale_interval(), 1e9) == [5.79, 28.5]
    assert test.df == 2


def test_law_exact_is_narrower_and_equal_without_repeats():
    wide, narrow = law_test(EFFICIENCY, SLOPE, VARIANCE, SIZE), law_test(EFFICIENCY, SLOPE, VARIANCE, SIZE, EXACT)
    assert wide.scale_interval()[0] < narrow.scale_interval()[0] < narrow.scale_interval()[1] < wide.scale_interval()[1]
    one = law_test(EFFICIENCY, SLOPE[::2], VARIANCE[::2], SIZE[::2])
    exact = law_test(EFFICIENCY, SLOPE[::2], VARIANCE[::2], SIZE[::2], EXACT)
    assert one.scale_interval() == exact.scale_interval()


@pytest.mark.parametrize(
    ("steps", "k_max", "n0"),
    [("1:", (0.085, 0.197), (5.0, 25.5)), ("11:", (0.07, 0.21), (3.4, 33.0))],
)
def test_the_prompts_axis_of_the_reference_study(steps, k_max, n0):
    """Each mean curve as one run; the figures are given as "about"."""
    values = analysis.fit("reference:qwen2.5_base", x="prompts_seen", steps=steps).values
    assert values["k_max"]["ci95"] == pytest.approx(k_max, rel=0.08)
    assert np.array(values["n0"]["ci95"]) / 1e9 == pytest.approx(n0, rel=0.08)
    assert values["k_max"]["identified"]
    assert values["n0"]["identified"]


def test_f_tail_is_the_square_of_t():
    for t, df in [(0.5, 3), (2.3, 11), (4.0, 1)]:
        assert f_tail(t**2, df) == pytest.approx(2 * stats.t.sf(t, df))


def test_one_shape_is_the_classic_f_test():
    """With equal variances and no prior shapes the p of n0 is that of F(1, runs - 2) on the profile."""
    test = law_test(EFFICIENCY, SLOPE, VARIANCE, SIZE)
    f = 1 / (1 + 12e9 / SIZE)
    weight = 1 / test.variance[0]  # the first cell: no seed variance
    k = np.sum(weight * SLOPE * f) / np.sum(weight * f**2)
    missed = np.sum(weight * (SLOPE - k * f) ** 2)
    best = test.within[0] + test.least[0]
    p = f_tail((missed - best) / (best / 6), 6)
    cell = f_tail((np.interp(np.log(12e9), test.ln_scale, test.square[0]) - test.least[0]) / test.scale[0], test.df)
    assert cell == pytest.approx(p, rel=2e-3)


# ---------------------------------------------------------------- lines of runs


def test_run_lines_of_exact_data_are_exact():
    points, _ = select_points(make_curves(synthetic(runs=2)), Choices(x="prompts_seen"))
    lines = run_lines(points)
    assert lines.slope == pytest.approx(np.repeat(0.13 / (1 + 12e9 / np.array(SIZES)), 2), rel=1e-6)
    level, variance = lines.at(np.log(512.0))
    assert np.exp(level[0]) == pytest.approx(points.loss[0], rel=1e-6)
    assert (variance > 0).all()


def test_run_lines_match_a_plain_weighted_regression():
    """Binomial noise alone: slopes near statsmodels-like weighted least squares, variances near the true ones."""
    slopes, variances = [], []
    for seed in range(40):
        table = synthetic(sizes=[7e9], noise=1, seed=seed)
        lines = run_lines(select_points(make_curves(table), Choices(x="prompts_seen"))[0])
        slopes.append(lines.slope[0])
        variances.append(lines.slope_variance[0])
    assert np.mean(slopes) == pytest.approx(0.13 / (1 + 12 / 7), abs=0.003)
    assert np.mean(variances) == pytest.approx(np.var(slopes, ddof=1), rel=0.5)


def test_a_run_without_any_error_has_a_line():
    table = synthetic(sizes=[1e9, 4e9, 16e9], k_max=0.3)
    table.loc[table["num_params"] == 16e9, "test_loss"] = 0.0
    lines = run_lines(select_points(make_curves(table), Choices(x="prompts_seen"))[0])
    assert np.isfinite(lines.slope).all()
    assert np.isfinite(lines.slope_variance).all()


def test_a_run_with_one_point_has_no_line():
    table = synthetic()
    table = table[(table["num_params"] != 7e9) | (table["step"] <= 1)]
    lines = run_lines(select_points(make_curves(table), Choices(x="prompts_seen"))[0])
    assert "n3r0" not in lines.runs
    assert len(lines.runs) == 6


# ---------------------------------------------------------------- the record


def test_exact_data_have_narrow_intervals_around_the_truth():
    table = synthetic(runs=2).drop(columns="eval_problems")  # with counts no interval is narrower than they allow
    fit = analysis.fit(make_curves(table), x="prompts_seen", steps="1:")
    for name, truth in (("k_max", 0.13), ("n0", 12e9)):
        low, high = fit.values[name]["ci95"]
        assert low <= truth * (1 + 1e-5)
        assert high >= truth * (1 - 1e-5)
        assert high / low < 1.001


def test_proportional_slopes_have_no_upper_bound():
    table = synthetic(k_max=50.0, n0=40e12, noise=1, runs=2)
    fit = analysis.fit(make_curves(table), x="prompts_seen")
    n0 = fit.values["n0"]
    assert n0["ci95"][1] is None
    assert n0["ci95"][0] > 10e9
    assert not n0["identified"]
    assert not fit.values["k_max"]["identified"]
    assert any("no upper bound: slopes still rise in proportion to N" in warning for warning in fit.warnings)


def test_equal_slopes_have_no_lower_bound():
    table = synthetic(k_max=0.1, n0=1e5, noise=1, runs=2)
    fit = analysis.fit(make_curves(table), x="prompts_seen")
    n0 = fit.values["n0"]
    assert n0["ci95"][0] is None
    assert n0["ci95"][1] < 1e9
    assert not n0["identified"]
    assert fit.values["k_max"]["identified"]  # the common slope is known
    assert any("no lower bound: slopes do not differ" in warning for warning in fit.warnings)


def test_two_runs_have_no_interval():
    fit = analysis.fit(make_curves(synthetic(sizes=[1e9, 8e9], noise=1)), x="prompts_seen")
    for entry in fit.values.values():
        assert entry["ci95"] is None
        assert entry["stderr"] is None
        assert not entry["identified"]
    assert [row["efficiency_ci95"] for row in fit.per_size] == [None, None]
    assert any("2 runs: no interval" in warning for warning in fit.warnings)
    assert any("two sizes determine the law exactly" in warning for warning in fit.warnings)


def test_one_run_per_size_says_what_it_assumes():
    fit = analysis.fit("reference:qwen2.5_base")
    assert "one run per size: assumes the law, 5 degrees of freedom" in fit.warnings
    assert fit.record["intervals"]["degrees_of_freedom"] == 5
    for row in fit.per_size:
        low, high = row["efficiency_ci95"]
        assert low < row["efficiency"] < high


def test_a_plateau_is_flagged_and_a_clean_study_is_not():
    table = synthetic(noise=1, runs=3, seed=5)
    clean = analysis.fit(make_curves(table), x="prompts_seen")
    assert clean.verdict["verdict"] == "describes"
    assert not any("verdict" in warning for warning in clean.warnings)
    early = table["step"] <= 8
    held = table[table["step"] == 8].set_index("run_id")["test_loss"]
    table.loc[early, "test_loss"] = np.clip(table.loc[early, "run_id"].map(held) + 0.0, 0, 1)
    fit = analysis.fit(make_curves(table), x="prompts_seen")
    assert fit.verdict["verdict"] == "does not describe"
    assert fit.verdict["slopes"][0] < fit.verdict["slopes"][2] / 3
    assert fit.warnings[0] == f"verdict: {fit.verdict['text']}"


def test_misfit_of_the_sizes_is_flagged():
    clean = analysis.fit(make_curves(synthetic(noise=1, runs=3, trials=4000)), x="prompts_seen")
    assert clean.record["intervals"]["misfit_p"] > 0.05
    table = synthetic(runs=3, trials=4000)
    away = table["num_params"] == 7e9  # its slope misses the law by .03
    table.loc[away, "test_loss"] *= np.maximum(table.loc[away, "prompts_seen"], 1) ** -0.03
    rng = np.random.default_rng(0)
    table["test_loss"] = rng.binomial(4000, np.minimum(table["test_loss"], 1)) / 4000
    fit = analysis.fit(make_curves(table), x="prompts_seen")
    assert any("differences between sizes exceed seed noise" in warning for warning in fit.warnings)


def test_the_question_set_is_named():
    questions = analysis.fit("reference:qwen2.5_base").record["intervals"]["questions"]
    assert "3.5 % of Kmax and 5 % of N0" in questions
    table = synthetic(noise=1, trials=2000)
    assert (
        "1.8 % of Kmax and 2.5 % of N0"
        in analysis.fit(make_curves(table), x="prompts_seen").record["intervals"]["questions"]
    )


def test_intervals_do_not_depend_on_the_point_objective():
    fits = [analysis.fit("reference:qwen2.5_base", objective=objective) for objective in ("log", "binomial", "linear")]
    assert len({json.dumps(fit.values["n0"]["ci95"]) for fit in fits}) == 1


# ---------------------------------------------------------------- coverage


def test_intervals_cover_in_simulated_studies():
    """120 studies of four sizes and three seeds with seed spread: Kmax, N0 and the slope of each size."""
    hits = {"k_max": 0, "n0": 0, "size": 0}
    sizes, studies = SIZES[1::2], 120
    for seed in range(studies):
        table = synthetic(sizes=[*sizes, 72e9], runs=3, steps=25, noise=1, seed_sd=0.06, seed=seed)
        fit = analysis.fit(make_curves(table), x="prompts_seen")
        for name, truth in (("k_max", 0.13), ("n0", 12e9)):
            low, high = fit.values[name]["ci95"]
            hits[name] += (low or 0) <= truth <= (high or np.inf)
        low, high = fit.per_size[1]["efficiency_ci95"]
        hits["size"] += low <= 0.13 / (1 + 12 / 7) <= high
    # Three standard errors of a proportion of .95 over 120 are .06.
    for name, count in hits.items():
        assert count / studies > 0.89, (name, count)


def test_the_self_test_measures_coverage_near_nominal():
    fit = analysis.fit(make_curves(synthetic(runs=3, steps=20, noise=1, seed=3)), x="prompts_seen")
    found = coverage(fit, studies=60, seed=1)
    assert found == coverage(fit, studies=60, seed=1)
    assert found["studies"] == 60
    assert 0.88 <= found["k_max"] <= 1
    assert 0.88 <= found["n0"] <= 1
    assert "nominal 95 %" in found["text"]


# ---------------------------------------------------------------- sizes, bands, crossings, pairs


def test_size_test_with_one_shape_in_mind():
    """Equal large within-run variance: the interval of a mean is near the t interval of its runs, pooled over sizes."""
    rng = np.random.default_rng(0)
    h = rng.normal(0.1, 0.01, 12)
    size = np.repeat(np.arange(4), 3)
    test = SizeTest(h, np.full(12, 1e-4), size, 4, np.ones(4))
    assert test.df == 8
    for i in range(4):
        low, high = test.interval(i)
        assert low < h[size == i].mean() < high
        assert test.p(i, low) == pytest.approx(0.05, abs=1e-6)
        assert test.p(i, high) == pytest.approx(0.05, abs=1e-6)
        assert 0.5 < (high - low) / (2 * stats.t.isf(0.025, 6) * 0.01 / np.sqrt(3)) < 2


def test_size_test_needs_repeats():
    assert SizeTest(np.arange(3.0), np.ones(3), np.arange(3), 3, np.ones(3)).df == 0


def test_equal_sizes_are_not_told_apart_and_different_ones_are():
    h = np.array([0.10, 0.11, 0.09, 0.105, 0.3, 0.31])
    test = SizeTest(h, np.full(6, 1e-5), np.repeat([0, 1, 2], 2), 3, np.ones(3))
    assert test.gap(0, 1).p_zero() > 0.3
    assert test.gap(0, 2).p_zero() < 0.01


def test_band_contains_its_mean_and_widens_outside_the_data():
    fit = analysis.fit(make_curves(synthetic(runs=3, noise=1)), x="prompts_seen")
    x = np.array([1e3, 5e3, 1e7])
    low, high, basis = band(fit, 7e9, x)
    assert "14 degrees of freedom" in basis
    assert ((low < fit.predict(7e9, x)) & (fit.predict(7e9, x) < high)).all()
    assert np.log(high / low)[2] > np.log(high / low)[1]
    with pytest.raises(InputError, match="no run of size"):
        band(fit, 8e9, x)
    *_, borrowed = band(analysis.fit("reference:qwen2.5_base"), 7e9, np.array([1e19]))
    assert "borrowed" in borrowed


def test_the_laws_own_slope_has_an_interval_at_any_size():
    fit = analysis.fit("reference:qwen2.5_base")
    for size in (7e9, 400e9):
        low, high = efficiency_interval(fit, size)
        assert low < fit.efficiency(size) < high
    with pytest.raises(InputError, match="loaded from its record"):
        efficiency_interval(type(fit)(fit.json()), 7e9)


def test_paired_difference_is_the_t_interval_of_pairs():
    a, b = [0.5, 0.6, 0.55], [0.45, 0.58, 0.5]
    found = paired_difference(a, b)
    expected = stats.ttest_rel(b, a).confidence_interval()
    assert found["mean"] == pytest.approx(-0.04)
    assert found["ci95"] == pytest.approx([expected.low, expected.high])
    assert found["n"] == 3
    assert paired_difference([0.5], [0.4]) == {"mean": pytest.approx(-0.1), "ci95": None, "n": 1}
    with pytest.raises(InputError, match="one length"):
        paired_difference([1, 2], [1])
    with pytest.raises(InputError, match="missing"):
        paired_difference([1, np.nan], [1, 2])


def test_reference_replicates_say_that_the_law_is_not_identified():
    """Four sizes of up to 14B, three runs each: the slopes bend with the window and miss k(N)."""
    fit = analysis.fit(load("reference:qwen2.5_base_replicates").where("num_params != 3e9"))
    assert not fit.values["n0"]["identified"]
    assert fit.verdict["verdict"] == "bends"
    assert fit.verdict["text"].endswith("parameters depend on the window")
