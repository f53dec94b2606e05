"""The model of shape and the verdict on a law: fixed vectors, generalisations that must not change a number, words."""

import json
import time

import numpy as np
import pytest
from synthetic_curves import synthetic

import analysis
from analysis.curves.check import make_curves
from analysis.fitting.points import Points
from analysis.fitting.record import Fit
from analysis.fitting.solve import solve
from analysis.intervals.law_doubt import law_draws
from analysis.intervals.shape import NoShape, Shape
from analysis.intervals.stacks import bin_edges, mean_correlation
from analysis.intervals.verdict import verdict_of
from analysis.laws import get_law
from analysis.printed import show_fit

FLAT = [0.92, 0.89, 0.87, 0.85, 0.84, 0.83, 0.83, 0.82, 0.81, 0.81, 0.80, 0.80]
STEEP = [0.80, 0.73, 0.69, 0.65, 0.64, 0.61, 0.60, 0.59, 0.58, 0.57, 0.56, 0.55]
DROP = [0.80, 0.81, 0.79, 0.80, 0.80, 0.79, 0.56, 0.55, 0.55, 0.56, 0.54, 0.55]
LN_X = np.log(np.arange(1, 13))


def points_of(curves, trials=400.0, shift=(0.0, 3.0, 5.0)):
    """Points of runs [(size, ln X, losses)]; ln X of a size is shifted, as on an axis of compute."""
    curves = [(size, np.asarray(x, float) + shift[size], np.asarray(loss)) for size, x, loss in curves]
    count = [len(x) for _, x, _ in curves]
    n = 1 + max(size for size, _, _ in curves)
    return Points(
        1e9 * 4.0 ** np.arange(n), np.repeat([size for size, _, _ in curves], count),
        [f"r{i}" for i in range(len(curves))], np.repeat(np.arange(len(curves)), count),
        np.concatenate([x for _, x, _ in curves]), np.concatenate([loss for *_, loss in curves]),
        None if trials is None else np.full(sum(count), float(trials)),
        np.concatenate([np.arange(1, c + 1) for c in count]),
    )  # fmt: skip


def shape_of(points, law="per_size", objective="log"):
    return Shape(points, get_law(law), solve(points, get_law(law), objective))


def test_two_lines_have_the_known_odds_and_draws():
    shape = shape_of(points_of([(0, LN_X, FLAT), (1, LN_X, STEEP)]))
    assert shape.odds == pytest.approx(0.2036, abs=5e-5)
    assert shape.posterior[0] == pytest.approx(0.2138, abs=5e-5)
    found = shape.deviation(1, np.log([24.0, 96.0]) + 3)
    draws = law_draws(
        np.random.default_rng(0), shape.posterior, found.shift, found.excess, shape.unit[1], np.log([2.0, 8.0]),
        shape.width, 400_000,
    )  # fmt: skip
    low, middle, high = np.quantile(draws, (0.025, 0.5, 0.975), axis=0)
    assert low == pytest.approx([-0.155, -0.50], abs=0.006)
    assert middle == pytest.approx([-0.006, -0.01], abs=0.002)
    assert high == pytest.approx([0.086, 0.43], abs=0.006)


def test_a_drop_is_no_line():
    shape = shape_of(points_of([(0, LN_X, FLAT), (1, LN_X, DROP)]))
    assert shape.odds == pytest.approx(28.05, abs=0.01)
    assert verdict_of(shape, None, True)["verdict"] == "does not describe"


def test_inside_the_window_a_line_has_little_doubt():
    shape = shape_of(points_of([(0, LN_X, FLAT), (1, LN_X, STEEP)]))
    found = shape.deviation(1, np.array([3 + LN_X[4]]))
    sd = np.sqrt(shape.posterior @ (found.excess[:, 0] + found.shift[:, 0] ** 2))
    assert sd < 0.01
    assert found.shift[0] == 0
    assert found.excess[0] == 0


def law_curves(rng, grids, slope=0.1, trials=300):
    return [(size, x, rng.binomial(trials, np.exp(-0.2 - slope * x)) / trials) for size, x in grids]


def test_order_of_runs_and_the_unit_of_x_change_nothing():
    rng = np.random.default_rng(1)
    grids = [(0, LN_X), (0, LN_X), (1, LN_X), (1, LN_X[2:]), (1, LN_X[::2]), (2, np.log(np.arange(3, 40)))]
    curves = law_curves(rng, grids)
    one = shape_of(points_of(curves, 300))
    other = shape_of(points_of(curves[::-1], 300, shift=(40.0, 43.0, 45.0)))
    assert other.odds == pytest.approx(one.odds, abs=1e-6)
    assert other.posterior == pytest.approx(one.posterior, abs=1e-6)
    ahead = np.log([60.0])
    a, b = one.deviation(1, ahead + 3), other.deviation(1, ahead + 43)
    assert a.shift == pytest.approx(b.shift, abs=1e-6)
    assert a.excess == pytest.approx(b.excess, abs=1e-6)


def test_runs_in_one_stack_equal_the_same_runs_apart():
    """A stack is only bookkeeping: a grid that differs in the last digits makes another stack and the same odds."""
    rng = np.random.default_rng(2)
    curves = law_curves(rng, [(0, LN_X), (0, LN_X), (1, LN_X), (1, LN_X)])
    moved = [(size, x + 2e-7 * i * np.arange(12), loss) for i, (size, x, loss) in enumerate(curves)]
    one, other = shape_of(points_of(curves, 300)), shape_of(points_of(moved, 300))
    # Apart, the noise of a run comes from its own losses and not from the mean's.
    assert other.odds == pytest.approx(one.odds, abs=0.1)


def test_no_loss_at_all_and_no_counts_are_fine():
    zero = np.where(np.arange(12) > 9, 0.0, STEEP)
    for trials in (400, None):
        shape = shape_of(points_of([(0, LN_X, FLAT), (1, LN_X, zero)], trials), objective="linear")
        assert np.isfinite(shape.odds)
        assert np.isfinite(shape.posterior).all()
        found = shape.deviation(1, np.array([3.0 + LN_X[-1] + 1]))
        assert np.isfinite(found.shift).all()
        assert (found.excess >= 0).all()


def test_three_points_test_nothing_and_two_make_no_shape():
    with pytest.raises(NoShape):
        shape_of(points_of([(0, LN_X[:2], FLAT[:2]), (1, LN_X[:2], STEEP[:2])]))
    found = verdict_of(None, None, True)
    assert found["verdict"] == "cannot tell"
    assert found["odds"] is None


def test_bins_and_their_correlation():
    assert bin_edges(LN_X) == list(range(13))
    x = np.log(np.arange(1, 106))
    edges = np.array(bin_edges(x))
    assert np.diff(edges).max() == 5
    assert (x[edges[1:] - 1] - x[edges[:-1]]).max() <= 0.15
    mean = np.repeat(np.eye(3), [1, 3, 2], axis=1) / np.array([[1], [3], [2]])
    lag = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    assert mean_correlation(np.array([1, 3, 2]), 0.6) == pytest.approx(mean @ 0.6**lag @ mean.T)


def test_a_law_with_curves_is_judged_by_its_own_curve():
    """A sigmoid describes what a line does not, and the other way round."""
    rng = np.random.default_rng(3)
    x = np.log(np.geomspace(1, 200, 40))
    rate = 0.1 + 0.6 / (1 + np.exp(-1.5 * (x - 2.5)))
    curved = points_of([(i, x, rng.binomial(500, 1 - rate) / 500) for i in (0, 0, 1, 1)], 500)
    sigmoid, line = shape_of(curved, "sigmoid"), shape_of(curved, "per_size")
    assert verdict_of(sigmoid, None, False)["verdict"] == "describes"
    assert verdict_of(line, None, True)["verdict"] == "does not describe"
    bent = np.exp(-0.1 - 0.3 * np.abs(x - 2.5) ** 1.0 * (x < 2.5) - 0.3 * (x >= 2.5) * (x - 2.5))
    rising = points_of([(i, x, rng.binomial(500, bent) / 500) for i in (0, 0, 1, 1)], 500)
    assert verdict_of(shape_of(rising, "sigmoid"), None, False)["verdict"] == "does not describe"


def test_verdicts_in_words():
    shape = shape_of(points_of([(0, LN_X, FLAT), (1, LN_X, STEEP)]))
    assert verdict_of(shape, 0.9, True)["text"] == "describes the curves"
    worse = verdict_of(shape, -0.6, True)
    assert worse["text"] == (
        "does not describe the curves, a constant for each size is nearer to them: parameters mean nothing here"
    )
    rising = shape_of(points_of([(0, LN_X, FLAT[::-1]), (1, LN_X, STEEP[::-1])]))
    assert "the loss rises with X" in verdict_of(rising, None, True)["text"]
    rng = np.random.default_rng(0)
    flat = shape_of(points_of([(i, LN_X, rng.binomial(400, 0.5 + 0 * LN_X) / 400) for i in (0, 1)]))
    assert verdict_of(flat, None, True)["verdict"] == "cannot tell"


def test_the_reference_curves_bend_and_a_broken_power_law_describes_them():
    late = analysis.fit("reference:qwen2.5_base", steps="11:103")
    assert late.verdict["verdict"] in ("bends", "does not describe")
    assert late.verdict["slopes"][2] < 0.5 * late.verdict["slopes"][0]
    assert analysis.fit("reference:qwen2.5_base", law="broken_power", parameters=False).verdict["text"] == (
        "describes the curves"
    )


def test_the_verdict_is_the_first_line_and_older_records_have_none(capsys):
    fit = analysis.fit(make_curves(synthetic(noise=1, runs=2)), x="prompts_seen")
    record = json.loads(json.dumps(fit.json(), allow_nan=False))
    show_fit(record)
    assert capsys.readouterr().out.startswith("verdict     describes the curves\n")
    del record["verdict"]
    old = Fit.from_json(record)
    assert old.verdict is None
    show_fit(old.json())
    assert capsys.readouterr().out.startswith("ln L = -k(N) ln X + E(N)")


def test_a_shape_takes_a_fifth_of_a_second_at_most():
    rng = np.random.default_rng(0)
    x = np.log(np.arange(1, 106))
    points = points_of(law_curves(rng, [(i % 3, x) for i in range(21)]), 300)
    law = get_law("per_size")
    solution = solve(points, law, "log")
    start = time.process_time()
    Shape(points, law, solution).deviation(0, np.array([6.0]))
    assert time.process_time() - start < 0.2
