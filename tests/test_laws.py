"""One contract for every law of the folder: a new file is tested by being there."""

import numpy as np
import pytest

import analysis
from analysis.curves import make_curves
from analysis.fit import Points, solve
from analysis.laws import get_law, law_names
from scaling.schema import InputError

SIZES = np.array([0.5e9, 1.5e9, 7e9, 32e9])
TRUTH = {"k_max": 0.15, "n0": 9e9, "efficiency": np.array([0.01, 0.02, 0.06, 0.11]), "intercept": -0.3}


def points_of(law, values=None, trials=500.0):
    """Points that lie on the law exactly."""
    values = values or {parameter.name: TRUTH[parameter.name] for parameter in law.parameters}
    size = np.repeat(np.arange(len(SIZES)), 20)
    x = np.tile(np.geomspace(1e2, 1e5, 20), len(SIZES))
    by_size = {
        name: np.broadcast_to(value, len(SIZES))[size] if np.ndim(value) else value for name, value in values.items()
    }
    loss = np.exp(law.ln_loss(SIZES[size], x, by_size))
    names = [f"run{i}" for i in range(len(SIZES))]
    counts = None if trials is None else np.full(len(x), trials)
    return Points(SIZES, size, names, size, np.log(x), loss, counts, np.tile(np.arange(1, 21), len(SIZES)))


@pytest.fixture(params=law_names())
def law(request):
    return get_law(request.param)


def test_says_what_it_is(law):
    assert law.name in law_names()
    assert law.formula
    assert law.citation
    assert len({p.name for p in law.parameters}) == len(law.parameters)
    for parameter in law.parameters:
        assert parameter.unit
        assert parameter.meaning
        assert parameter.limits(SIZES)[0] < parameter.limits(SIZES)[1]


def test_is_finite_on_a_grid_and_falls_with_x(law):
    values = {p.name: np.max(TRUTH[p.name]) for p in law.parameters}
    n, x = np.meshgrid(np.geomspace(1e3, 1e13, 21), np.geomspace(1, 1e26, 27), indexing="ij")
    ln_loss = law.ln_loss(n, x, values)
    assert np.isfinite(ln_loss).all()
    assert (np.diff(ln_loss, axis=1) <= 0).all()


def test_a_scalar_equals_an_array(law):
    values = {p.name: np.max(TRUTH[p.name]) for p in law.parameters}
    many = law.ln_loss(np.array([1e9, 3e9]), np.array([10.0, 1e6]), values)
    assert many[1] == law.ln_loss(3e9, 1e6, values)


@pytest.mark.parametrize("objective", ["log", "binomial", "linear"])
def test_recovers_its_own_parameters(law, objective):
    points = points_of(law)
    found = solve(points, law, objective)
    assert found.converged
    for parameter in law.shared:
        assert found.values[parameter.name] == pytest.approx(TRUTH[parameter.name], rel=1e-6)
    values = {p.name: TRUTH[p.name] for p in law.parameters}
    assert found.slope == pytest.approx(np.broadcast_to(law.slope(SIZES, values), 4), rel=1e-6)
    assert found.intercept == pytest.approx(np.broadcast_to(law.intercept(SIZES, values), 4), rel=1e-6)


def test_a_parameter_at_its_bound_is_reported(law):
    if law.shape is None:
        pytest.skip("no shared parameter has a bound")
    points = points_of(law, {**{p.name: TRUTH[p.name] for p in law.parameters}, law.scale: 500e9})
    assert solve(points, law, published_bounds=True).bound_hits == [law.scale]
    assert solve(points, law).bound_hits == []
    rising = points_of(law, {**{p.name: TRUTH[p.name] for p in law.parameters}, law.amplitude: -0.02})
    assert law.amplitude in solve(rising, law).bound_hits


def test_an_unseen_size_is_refused_with_the_two_ways_out(law):
    import pandas as pd

    points = points_of(law)
    table = pd.DataFrame({
        "num_params": SIZES[points.size], "step": points.step,
        "train_flops": np.exp(points.x), "test_loss": points.loss,
    })  # fmt: skip
    fit = analysis.fit(make_curves(table), law=law.name)
    assert fit.predict(7e9, 1e4) == pytest.approx(np.exp(-0.3 - 1e-9) * 1e4 ** -fit.efficiency(7e9), rel=1e-4)
    if not law.predicts_unseen:
        with pytest.raises(InputError, match="unseen size") as error:
            fit.predict(72e9, 1e4)
        assert "parametric E(N)" in str(error.value)
        assert "declared number of points" in str(error.value)


def test_an_unknown_law_names_the_nearest():
    with pytest.raises(InputError, match=r"Did you mean efficiency\?"):
        get_law("eficiency")
