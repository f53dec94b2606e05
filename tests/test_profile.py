"""Profile intervals of any law's parameters, against scipy and closed forms."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

import analysis
from analysis.curves.check import make_curves
from analysis.fitting.points import Points
from analysis.fitting.problem import Problem
from analysis.fitting.solve import solve
from analysis.intervals.profile import Scatter, profile_tests, scatter
from analysis.laws import get_law

X = np.geomspace(1e2, 1e5, 30)
SIGMOID = {"r0": 0.05, "a": 0.6, "c_mid": 3e3, "b": 1.2}


def studies(values=SIGMOID, law="sigmoid", sizes=(1e6, 4e6), runs=3, noise=0.01, seed=0):
    """Curves of a law with a level of their own for each run."""
    rng, frames = np.random.default_rng(seed), []
    for i, size in enumerate(sizes):
        for run in range(runs):
            eta = get_law(law).ln_loss(size, X, values) + 0.005 * rng.standard_normal()
            frames.append(pd.DataFrame({
                "run_id": f"{i}-{run}", "num_params": size, "seed": run, "step": np.arange(1, 31), "train_flops": X,
                "test_loss": np.minimum(np.exp(eta + noise * rng.standard_normal(30)), 1.0),
            }))  # fmt: skip
    return make_curves(pd.concat(frames))


def test_whitening_is_the_inverse_root_of_the_covariance():
    rng = np.random.default_rng(0)
    group, away = np.repeat([0, 1], [7, 5]), rng.standard_normal(12)
    variance = rng.uniform(0.5, 2, 12)
    found = Scatter(np.zeros(12), variance, group, away, np.array([0.3, 0.0]), np.array([0.2, 0.7]), np.ones(2), "")
    shared = np.equal.outer(group, group)
    dense = np.diag(variance) + shared * (
        np.array([0.3, 0.0])[group] + np.array([0.2, 0.7])[group] * np.outer(away, away)
    )
    e = rng.standard_normal(12)
    white = found.whitener(np.arange(12))(e)
    assert white @ white == pytest.approx(e @ np.linalg.solve(dense, e))
    identity = found.whitener(np.arange(12))(np.eye(12))
    assert identity @ dense @ identity.T == pytest.approx(np.eye(12), abs=1e-12)


def test_near_the_optimum_it_is_the_wald_interval_of_generalised_least_squares():
    """The squares grow as a parabola there: h^2 over the parameter's own variance, the others free."""
    curves = studies({"l_inf": 0.1, "amplitude": 3.0, "b": 0.3}, "power_plateau", sizes=(1e6,), noise=0.003)
    points = analysis.fit(curves, law="per_size").points
    law = get_law("power_plateau")
    (test,), _ = profile_tests(points, law, solve(points, law))
    design = np.column_stack([
        (test._whiten(test.problem.eta(test.vector + h)) - test._whiten(test.problem.eta(test.vector - h))) / (2 * 1e-5)
        for h in 1e-5 * np.eye(3)
    ])  # fmt: skip
    covariance = np.linalg.inv(design.T @ design)
    assert test.covariance == pytest.approx(covariance, rel=1e-3)
    for entry in range(3):
        h = 0.1 * np.sqrt(covariance[entry, entry])
        grown = [test.growth(entry, test.vector[entry] + side * h)[0] for side in (-1, 1)]
        assert np.mean(grown) == pytest.approx(0.01, rel=0.03)


def test_the_ends_are_where_the_squares_have_grown_by_t_squared():
    points = analysis.fit(studies(), law="per_size").points
    law = get_law("sigmoid")
    tests, basis = profile_tests(points, law, solve(points, law))
    assert len(tests) == 2
    assert basis == "spread between runs of one size, 4 degrees of freedom"
    for test in tests:
        for entry, (parameter, _) in enumerate(test.problem.slots):
            for end in test.interval(entry):
                if end is None or end in parameter.limits(points.sizes, x=X):
                    continue
                value, own = test.problem.coordinate(entry, end), partial(test.problem.own, entry)
                assert test.growth(entry, value)[0] == pytest.approx(student.isf(0.025, test.df) ** 2, rel=0.03)
                assert test.rejects(entry, own(value + (value - test.vector[entry]) * 0.05))
                assert not test.rejects(entry, own(value - (value - test.vector[entry]) * 0.05))


def test_the_record_and_the_truth():
    found = analysis.fit(studies(), law="sigmoid")
    for row in found.per_size:
        for name, truth in SIGMOID.items():
            low, high = row["values_ci95"][name]
            assert low <= row["values"][name] <= high
            assert low <= truth <= high
    assert found.record["intervals"]["parameters_basis"].startswith("spread between runs")


def test_an_asymptote_that_the_data_do_not_reach_is_open_or_ends_at_its_limit():
    rising = {"r0": 0.0, "a": 0.9, "c_mid": 1e7, "b": 0.7}  # all points lie far below the middle
    (row, _) = analysis.fit(studies(rising, noise=0.02), law="sigmoid").per_size
    assert row["values_ci95"]["a"][1] == 1.0
    assert row["values_ci95"]["c_mid"][1] is None or row["values_ci95"]["c_mid"][1] > 1e6


def test_without_repeats_there_is_no_interval_and_a_reason():
    found = analysis.fit(studies(runs=1), law="sigmoid")
    assert found.per_size[0]["values_ci95"] == {}
    reason = "one run of each size does not tell how far seeds differ"
    assert f"no interval for r0, a, c_mid, b: {reason}" in found.warnings


def test_few_sizes_give_no_interval_of_a_law_that_they_share():
    values = {"k_max": 0.13, "n0": 2e6, "e0": 1.0, "e1": 0.08}
    few = analysis.fit(studies(values, "efficiency_log_level", (1e6, 4e6, 16e6, 64e6)), law="efficiency_log_level")
    assert few.values["e0"]["ci95"] is None
    assert any("4 sizes say too little" in warning for warning in few.warnings)
    sizes = tuple(1e6 * 2.0**i for i in range(7))
    many = analysis.fit(studies(values, "efficiency_log_level", sizes), law="efficiency_log_level")
    for name in ("e0", "e1"):
        low, high = many.values[name]["ci95"]
        assert low < values[name] < high
        assert many.values[name]["identified"]


def test_sizes_that_miss_a_shared_law_widen_its_intervals():
    values = {"k_max": 0.13, "n0": 2e6, "e0": 1.0, "e1": 0.08}
    sizes = tuple(1e6 * 2.0**i for i in range(7))
    law = get_law("efficiency_log_level")
    clean = studies(values, "efficiency_log_level", sizes).table
    shift = 1 + 0.05 * np.sin(1.7 * np.arange(7))[np.searchsorted(sizes, clean["num_params"])]
    widths = []
    for table in (clean, clean.assign(test_loss=np.minimum(clean["test_loss"] * shift, 1.0))):
        points = analysis.fit(make_curves(table), law="per_size").points
        (test,), _ = profile_tests(points, law, solve(points, law))
        low, high = test.interval([p.name for p, _ in test.problem.slots].index("e1"))
        widths.append(high - low)
    assert widths[1] > 3 * widths[0]


def test_two_points_a_run_say_nothing_of_noise():
    size, x = np.repeat([0, 1, 2], 2), np.tile(np.log([1e3, 1e4]), 3)
    points = Points(
        np.array([1e6, 2e6, 4e6]), size, ["a", "b", "c"], size, x, np.full(6, 0.5), None, np.tile([1, 2], 3)
    )
    law = get_law("efficiency_log_level")
    problem = Problem(points, law, "log", False)
    assert scatter(problem, problem.vector(solve(points, law))) == "no run has three points"
