"""One contract for every law of the folder: a new file is tested by being there."""

import functools
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import commands
from analysis.curves.check import make_curves
from analysis.curves.load import load
from analysis.fitting.choices import Choices
from analysis.fitting.fit import fit_curves
from analysis.fitting.points import Points
from analysis.fitting.solve import solve
from analysis.laws import chinchilla, decomposition, get_law, law_names, sigmoid
from scaling.schema import InputError

SIZES = np.array([0.5e9, 1.5e9, 7e9, 32e9])
LINE = {"efficiency": np.array([0.01, 0.02, 0.06, 0.11]), "intercept": -0.3}
SLOPE = {"k_max": 0.15, "n0": 9e9}
PARTS = {"e": 0.05, "a": 400.0, "b": 2.0, "alpha": 0.35, "beta": 0.35}
TRUTH = {
    "efficiency": {**SLOPE, "intercept": -0.3},
    "consistency": {**SLOPE, "intercept": -0.3},
    "efficiency_log_level": {**SLOPE, "e0": 1.0, "e1": 0.05},
    "efficiency_saturating_level": {**SLOPE, "e_inf": -0.05, "e1": -0.4, "n_e": 5e9},
    "per_size": LINE,
    "tau": LINE,
    "decomposition": {
        "l_inf": 0.05, "n0": 1e7, "alpha": 0.3, "beta": 0.8, "amplitude": np.array([0.45, 0.5, 0.55, 0.6]),
        "d0": np.array([2e3, 3e3, 4e3, 5e3]),
    },
    "sigmoid": {"r0": 0.05, "a": np.array([0.5, 0.6, 0.7, 0.8]), "c_mid": 2e3, "b": 0.9},
    "group_size": {"r0": 0.05, "a": np.array([0.5, 0.6, 0.7, 0.8]), "c_mid": 2e3, "b": 0.9},
    "broken_power": {"l_inf": 0.08, "amplitude": 0.5, "b_early": 0.1, "b_late": np.array([0.3, 0.4, 0.5, 0.6]),
                     "x_break": 3e3, "f": 0.3},
    "power_plateau": {"l_inf": 0.1, "amplitude": 2.0, "b": np.array([0.2, 0.25, 0.3, 0.35])},
    "exponential": {"r_inf": np.array([0.3, 0.4, 0.5, 0.7]), "r0": 0.1, "x0": 3e4},
    "chinchilla": PARTS,
    "data_constrained": {**PARTS, "r_star": 5.0},
}  # fmt: skip
# A value beyond the law's bounds: the fit must end at the bound and say so.
BEYOND = {
    "decomposition": {"l_inf": -0.1}, "sigmoid": {"b": 0.02}, "group_size": {"b": 0.02},
    "broken_power": {"l_inf": -0.05}, "power_plateau": {"l_inf": -0.05},
    "exponential": {"r_inf": 1.2}, "chinchilla": {"e": -0.05}, "data_constrained": {"e": -0.05},
}  # fmt: skip
MOST_ALIKE = 1e4  # parameters whose effects are more alike are not recovered to six digits


def truth_of(law):
    """The values that a fit of exact points must find: those of TRUTH, else values made of the law's own parameters."""
    return TRUTH[law.name] if law.name in TRUTH else made_truth(law)


@functools.cache
def made_truth(law):
    """Of random values within bounds and starts those that points determine best, where the loss falls with X."""
    rng, best, least = np.random.default_rng(0), None, MOST_ALIKE
    for _ in range(300):
        values = {parameter.name: drawn(parameter, rng) for parameter in law.parameters}
        with np.errstate(all="ignore"):
            alike = condition(law, values) if is_a_curve(law, values) else np.inf
        if alike < least:
            best, least = values, alike
    if best is None:
        pytest.fail(
            f"law {law.name}: no values between its bounds and starts give a loss between 0 and 1 that falls with X "
            "and tells its parameters apart; mend them, or name such values in TRUTH of tests/test_laws.py",
            pytrace=False,
        )
    return best


def drawn(parameter, rng):
    """A value within the bounds, near the starts where there are some; four of a parameter of each size."""
    x, count = np.array([1e2, 1e5]), len(SIZES) if parameter.per_size else 1
    (low, high), starts = parameter.limits(SIZES, x=x), parameter.start_values(SIZES, x)
    share = rng.uniform(0.15, 0.85) + rng.uniform(-0.1, 0.1, count)  # sizes are like one another
    if parameter.scale:
        ends = np.log([min(starts), max(starts)] if len(starts) > 1 else [starts[0] / 3, starts[0] * 3])
        values = np.exp(ends[0] + share * (ends[1] - ends[0]))
    elif starts:
        ends = [min(starts), max(starts)] if len(starts) > 1 else [0.5 * starts[0], 1.5 * starts[0]]
        values = ends[0] + share * (ends[1] - ends[0])
    elif np.isfinite([low, high]).all():
        values = low + share * (high - low)
    else:
        size = np.exp(4 * share - 4.5)  # .01 to .5
        values = low + size if np.isfinite(low) else high - size if np.isfinite(high) else rng.choice([-1, 1]) * size
    values = np.clip(values, low, high)
    return values if parameter.per_size else float(values[0])


def is_a_curve(law, values):
    """Whether these values make error rates that fall with X, over the points and beyond, at one size by a fifth."""
    loss = points_of(law, values).loss.reshape(len(SIZES), -1)
    single = {name: float(np.max(value)) for name, value in values.items()}
    n, x = np.meshgrid(np.geomspace(1e3, 1e13, 21), np.geomspace(1, 1e26, 27), indexing="ij")
    beyond = law.ln_loss(n, x, single, **dict.fromkeys(law.columns, 2.0))
    falls = np.isfinite(beyond).all() and (np.diff(beyond, axis=1) <= 1e-12).all()
    return falls and (loss > 1e-3).all() and (loss < 0.95).all() and (loss[:, -1] < 0.8 * loss[:, 0]).any()


def condition(law, values):
    """How alike the effects of two parameters are on the points: 1 where they have nothing in common."""
    effects = []
    for name, value in values.items():
        for i in range(np.size(value)):
            step = np.where(np.arange(np.size(value)) == i, 1e-5, 0.0)
            moved = [np.add(value, s * step * np.maximum(np.abs(value), 0.01)) for s in (1, -1)]
            moved = [v if np.ndim(value) else float(v[0]) for v in moved]
            up, down = (np.log(points_of(law, {**values, name: v}).loss) for v in moved)
            effects.append(up - down)
    effects = np.array(effects).T
    lengths = np.linalg.norm(effects, axis=0)
    return np.linalg.cond(effects / lengths) if (lengths > 0).all() and np.isfinite(lengths).all() else np.inf


def one_size(law):
    """The truth at a single size, and the columns of a single point."""
    return {name: float(np.max(value)) for name, value in truth_of(law).items()}, dict.fromkeys(law.columns, 2.0)


def points_of(law, values=None, trials=500.0):
    """Points that lie on the law exactly."""
    values = values or truth_of(law)
    size = np.repeat(np.arange(len(SIZES)), 20)
    x = np.tile(np.geomspace(1e2, 1e5, 20), len(SIZES))
    by_size = {
        name: np.broadcast_to(value, len(SIZES))[size] if np.ndim(value) else value for name, value in values.items()
    }
    columns = {name: np.tile(np.r_[np.ones(10), np.linspace(1, 12, 10)], len(SIZES)) for name in law.columns}
    loss = np.exp(law.ln_loss(SIZES[size], x, by_size, **columns))
    names = [f"run{i}" for i in range(len(SIZES))]
    counts = None if trials is None else np.full(len(x), trials)
    step = np.tile(np.arange(1, 21), len(SIZES))
    return Points(SIZES, size, names, size, np.log(x), loss, counts, step, columns)


def table_of(law, points):
    """The points as a table that the law can be fitted to."""
    x, size = np.exp(points.x), SIZES[points.size]
    table = pd.DataFrame({"num_params": size, "step": points.step, "train_flops": x, "test_loss": points.loss})
    if law.axes:
        table = table.assign(prompts_seen=x, train_flops=x * size * 4000)
    if law.group:
        table = table.assign(**{law.group: size}, num_params=7e9)
    if law.columns:
        table = table.assign(prompts_seen=x, prompts_unique=x / points.columns["reuse"])
    return table


@pytest.fixture(params=law_names())
def law(request):
    return get_law(request.param)


def test_says_what_it_is(law):
    assert law.name in law_names()
    assert law.formula
    assert law.citation
    assert law.predicts
    assert law.link in ("log", "identity")
    assert len({p.name for p in law.parameters}) == len(law.parameters)
    for parameter in law.parameters:
        assert parameter.unit
        assert parameter.meaning
        low, high = parameter.limits(SIZES, x=np.array([1e2, 1e5]))
        assert low < high
        starts = parameter.start_values(SIZES, np.array([1e2, 1e5]))
        assert starts or parameter.linear
        assert all(low < value < high for value in starts)


def test_has_symbols_an_axis_and_a_test_of_its_own(law):
    symbols = list(law.symbols.values())
    assert all(re.fullmatch(r"[A-Za-zα-ω][\w∞*]*", symbol) for symbol in symbols)
    assert len(set(symbols)) == len(symbols)
    assert set(law.x) <= {"train_flops", "prompts_seen", "tokens_seen", "step"}
    assert bool(law.group) == (law.letter != "N") == (law.each != "size")
    if law.shape is None:
        assert law.tested_on_slopes == ()
        return
    values, scale = one_size(law)[0], truth_of(law)[law.scale]
    f = law.shape(SIZES, scale)
    assert law.slope(SIZES, values) == pytest.approx(values[law.amplitude] * f)
    if law.by_scale is not None:
        up, down = (law.shape(SIZES, scale * np.exp(h)) for h in (1e-5, -1e-5))
        assert law.by_scale(SIZES, 3.0, scale) == pytest.approx(3.0 * (up - down) / 2e-5, rel=1e-6)
    if law.saturates:
        assert law.shape(1e30, scale) == pytest.approx(1)
        assert law.shape(scale, scale) == pytest.approx(0.5)


def test_is_finite_on_a_grid_and_falls_with_x(law):
    values, columns = one_size(law)
    n, x = np.meshgrid(np.geomspace(1e3, 1e13, 21), np.geomspace(1, 1e26, 27), indexing="ij")
    ln_loss = law.ln_loss(n, x, values, **columns)
    assert np.isfinite(ln_loss).all()
    assert (np.diff(ln_loss, axis=1) <= 1e-12).all()
    assert np.all(law.efficiency(n, x, values, **columns) >= -1e-9)


def test_a_scalar_equals_an_array(law):
    values, columns = one_size(law)
    many = law.ln_loss(np.array([1e9, 3e9]), np.array([10.0, 1e6]), values, **columns)
    assert many[1] == law.ln_loss(3e9, 1e6, values, **columns)


def test_is_linear_in_what_it_calls_linear(law):
    """The closed form rests on it: the curve of a mean is the mean of the curves."""
    values, columns = one_size(law)
    for parameter in law.parameters:
        low, high = ({**values, parameter.name: values[parameter.name] * f} for f in (0.5, 1.5))
        ends = [law.curve(3e9, 1e4, v, **columns) for v in (low, values, high)]
        bend = ends[0] - 2 * ends[1] + ends[2]
        assert (abs(bend) < 1e-9) == parameter.linear, parameter.name


@pytest.mark.parametrize("objective", ["log", "binomial", "linear", "huber"])
def test_recovers_its_own_parameters(law, objective):
    found = solve(points_of(law), law, objective)
    assert found.converged
    # Least squares without a closed form ends where differences and rounding do.
    exact = 1e-6 if law.closed_form and objective != "huber" else 3e-4
    for name, truth in truth_of(law).items():
        got = found.values[name] if name in found.values else found.per_size[name]
        assert got == pytest.approx(np.broadcast_to(truth, np.shape(got)), rel=exact), name
    assert found.eta == pytest.approx(np.log(points_of(law).loss), abs=1e-6)
    assert found.bound_hits == []


def test_two_fits_are_equal_to_the_byte(law):
    table = table_of(law, points_of(law))
    rng = np.random.default_rng(1)
    table["test_loss"] = np.clip(table["test_loss"] * np.exp(0.02 * rng.standard_normal(len(table))), 0.01, 1)
    one, other = (analysis.fit(make_curves(table), law=law.name).json() for _ in range(2))
    assert json.dumps(one, allow_nan=False) == json.dumps(other, allow_nan=False)
    again = analysis.Fit.from_json(json.loads(json.dumps(one)))
    row = one["per_size"][1]
    columns = dict.fromkeys(law.columns, 1.0)
    assert again.predict(row["num_params"], 1e4, **columns) == pytest.approx(
        analysis.fit(make_curves(table), law=law.name).predict(row["num_params"], 1e4, **columns)
    )


def test_a_parameter_at_its_bound_is_reported(law):
    if law.shape is not None:
        rising = points_of(law, {**truth_of(law), law.amplitude: -0.02})
        assert law.amplitude in solve(rising, law).bound_hits
        if law.closed_form and law.parameter(law.scale).published:
            points = points_of(law, {**truth_of(law), law.scale: 500e9})
            assert solve(points, law, published_bounds=True).bound_hits == [law.scale]
            assert solve(points, law).bound_hits == []
    elif law.name in BEYOND:
        (name,) = BEYOND[law.name]
        assert name in solve(points_of(law, {**truth_of(law), **BEYOND[law.name]}), law, "linear").bound_hits
    else:
        pytest.skip("no value beyond a bound is given for this law")


def test_an_unseen_size_is_predicted_or_refused_with_the_two_ways_out(law):
    points = points_of(law)
    fit = analysis.fit(make_curves(table_of(law, points)), law=law.name, x="train_flops")
    columns = {name: points.columns[name][5] for name in law.columns}
    assert fit.predict(SIZES[0], np.exp(points.x[5]), **columns) == pytest.approx(points.loss[5], rel=1e-4)
    if law.predicts_unseen:
        values, _ = one_size(law)
        truth = np.exp(law.ln_loss(72e9, 1e4, values, **columns))
        assert fit.predict(72e9, 1e4, **columns) == pytest.approx(truth, rel=1e-3)
        return
    with pytest.raises(InputError, match=f"unseen {law.each}") as error:
        fit.predict(72e9, 1e4, **columns)
    assert f"parametric E({law.letter})" in str(error.value)
    assert "declared number of points" in str(error.value)


@pytest.mark.parametrize("name", ["per_size", "efficiency", "chinchilla"])
def test_a_law_without_an_entry_has_values_of_its_own(name):
    """A new file was a KeyError here. What is made of the bounds and starts is recovered as well as what is written."""
    law = get_law(name)
    found = solve(points_of(law, made_truth(law)), law, "log")
    for parameter, truth in made_truth(law).items():
        got = found.values[parameter] if parameter in found.values else found.per_size[parameter]
        assert got == pytest.approx(np.broadcast_to(truth, np.shape(got)), rel=3e-4), parameter


def test_a_law_that_never_falls_is_told_in_a_line():
    law = replace(get_law("per_size"), name="rising", curve=lambda n, x, v: v["intercept"] + 0 * np.log(x))
    with pytest.raises(pytest.fail.Exception, match="law rising: no values between its bounds and starts") as error:
        made_truth(law)
    assert "\n" not in str(error.value)


def test_an_unknown_law_names_the_nearest():
    with pytest.raises(InputError, match=r"Did you mean efficiency\?"):
        get_law("eficiency")


# ---------------------------------------------------------------- other people's numbers


def chinchilla_fit():
    return analysis.fit(
        "reference:chinchilla", law="chinchilla", x="tokens_seen", objective="huber", where="excluded == false"
    )


def test_chinchilla_is_replicated():
    """The replication of Besiroglu et al. on its 240 kept points, from every start."""
    fit = chinchilla_fit()
    values = {name: entry["value"] for name, entry in fit.values.items()}
    assert fit.record["n_points"] == 240
    assert (round(values["a"], 1), round(values["b"])) == (477.8, 2143)
    assert (round(values["e"], 4), round(values["alpha"], 4), round(values["beta"], 4)) == (1.8172, 0.3473, 0.3672)
    assert fit.record["diagnostics"]["share_best"] == 1.0
    assert len(fit.record["diagnostics"]["starts"]) == 9


def test_chinchilla_has_the_errors_of_its_replication():
    """Besiroglu et al. print standard errors 124.6 (A), 1293 (B), .03 (E), .02, .02 from a bootstrap of the points."""
    values = chinchilla_fit().values
    printed = {"a": 124.6, "b": 1293.0, "e": 0.03, "alpha": 0.02, "beta": 0.02}
    for name, error in printed.items():
        assert values[name]["stderr"] == pytest.approx(error, rel=0.35), name
        low, high = values[name]["ci95"]
        assert low < values[name]["value"] < high


def test_a_single_bad_start_reaches_the_optimum_or_is_flagged():
    curves = load("reference:chinchilla").where("excluded == false")
    from analysis.fitting.points import select_points

    points, _ = select_points(curves, Choices("chinchilla", "tokens_seen"))
    for alpha, beta in [(0.011, 2.9), (2.9, 0.011), (2.5, 2.5), (0.02, 0.02)]:
        found = solve(points, chinchilla.LAW, "huber", start={"alpha": alpha, "beta": beta})
        own = found.starts[0]
        assert own["start_alpha"] == pytest.approx(alpha)
        assert found.values["alpha"] == pytest.approx(0.3473, abs=1e-4)
        assert own["best"] == (abs(own["alpha"] - 0.3473) < 1e-3)
    with pytest.raises(InputError, match="a value for each of alpha, beta"):
        solve(points, chinchilla.LAW, "huber", start={"alpha": 1.0})


def test_the_optimal_size_of_chinchilla_is_where_the_loss_is_least():
    values, flops = PARTS, 1e18
    sizes = np.geomspace(1e6, 1e12, 200001)
    best = sizes[np.argmin(chinchilla.LAW.curve(sizes, flops / 6 / sizes, values))]
    assert chinchilla.optimal_size(flops, values) == pytest.approx(best, rel=1e-4)


def test_the_cost_of_a_pass_rate_inverts_the_sigmoid():
    values = {"r0": 0.05, "a": 0.8, "c_mid": 2e3, "b": 0.9}
    rate = 1 - sigmoid.LAW.curve(1.0, 12345.0, values)
    assert sigmoid.cost_to(rate, values) == pytest.approx(12345.0)
    assert sigmoid.cost_to(0.8, values) == np.inf


def test_a_broken_power_law_has_its_two_exponents_far_from_the_break():
    values = {"l_inf": 0.0, "amplitude": 2.0, "b_early": 0.1, "b_late": 0.6, "x_break": 1e5, "f": 0.3}
    law = get_law("broken_power")
    assert law.efficiency(1.0, 1.0, values) == pytest.approx(0.1, abs=1e-6)
    assert law.efficiency(1.0, 1e12, values) == pytest.approx(0.6, abs=1e-6)
    assert law.efficiency(1.0, 1e5, values) == pytest.approx(0.35, abs=1e-6)
    # The formula as printed by its source, where it does not overflow.
    x = 3e4
    printed = x**-0.1 * (1 + (x / 1e5) ** (1 / 0.3)) ** (-0.5 * 0.3)
    at_break = 1e5**-0.1 * 2 ** (-0.5 * 0.3)
    assert law.curve(1.0, x, values) == pytest.approx(2.0 * printed / at_break, rel=1e-12)
    assert law.curve(1.0, 1e5, values) == pytest.approx(2.0)


def test_the_slope_of_the_decomposition_at_d0_is_its_closed_form():
    values, _ = one_size(decomposition.LAW)
    slope = decomposition.LAW.efficiency(7e9, values["d0"], values)
    assert slope == pytest.approx(decomposition.steepest_slope(7e9, values), rel=1e-6)


def test_data_that_do_not_repeat_are_chinchilla():
    law, values = get_law("data_constrained"), TRUTH["data_constrained"]
    assert law.ln_loss(7e9, 1e4, values, reuse=1.0) == chinchilla.LAW.ln_loss(7e9, 1e4, values)
    # Endless repeats of U are worth U (1 + r_star).
    endless = law.ln_loss(7e9, 1e4 * 1e9, values, reuse=1e9)
    assert endless == pytest.approx(chinchilla.LAW.ln_loss(7e9, 1e4 * 6, values))


# ---------------------------------------------------------------- compute and data as one law


def test_consistency_holds_exactly_where_c_is_n_d_phi():
    law = get_law("consistency")
    fit = analysis.fit(make_curves(table_of(law, points_of(law))), law="consistency")
    found = fit.record["consistency"]
    assert found["phi"] == pytest.approx(4000)
    assert fit.values["k_max"]["value"] == pytest.approx(0.15)
    for row in found["per_size"]:
        assert row["difference"] == pytest.approx(0, abs=1e-9)
        assert row["intercept_compute"] == pytest.approx(row["intercept_by_constraint"], abs=1e-8)
    assert found["by_run"]["mean_difference"] == pytest.approx(0, abs=1e-9)


def test_the_lines_of_consistency_are_of_the_fitted_points_only():
    curves, points = load("reference:qwen2.5_base"), ":30"
    split = fit_curves(curves, Choices(law="consistency", split="intra:0.3")).record["consistency"]["per_size"]
    assert [row["difference"] for row in split] != pytest.approx(
        [row["difference"] for row in fit_curves(curves, Choices(law="consistency")).record["consistency"]["per_size"]]
    )
    cut = fit_curves(curves.where("num_params <= 14e9"), Choices(law="consistency", points=points)).record[
        "consistency"
    ]
    again = fit_curves(curves.where("num_params <= 14e9 and step <= 30"), Choices(law="consistency")).record[
        "consistency"
    ]
    assert cut["per_size"] == again["per_size"]


def test_consistency_is_rejected_where_tokens_per_prompt_grow():
    law = get_law("consistency")
    table = table_of(law, points_of(law))
    grown = table.assign(train_flops=table["train_flops"] * (table["prompts_seen"] / 1e3) ** 0.3)
    found = analysis.fit(make_curves(grown), law="consistency").record["consistency"]
    # C ~ D^1.3: the same fall of ln L is spread over 1.3 times the range.
    for row in found["per_size"]:
        assert row["efficiency_compute"] == pytest.approx(row["efficiency_data"] / 1.3, rel=1e-6)
    assert found["by_run"]["p"] < 0.2


def test_consistency_of_the_reference_study():
    """k_C lies below k_D where tokens per prompt rise; at 1.5B, where they fall, above."""
    found = fit_curves(load("reference:qwen2.5_base"), Choices(law="consistency", objective="linear")).record[
        "consistency"
    ]
    rows = {row["num_params"]: row for row in found["per_size"]}
    assert found["free"]["train_flops"]["k_max"] == pytest.approx(0.1330, abs=1e-4)
    assert rows[1.5e9]["difference"] > 0 > rows[72e9]["difference"]
    assert 0 < found["by_run"]["p"] < 1


# ---------------------------------------------------------------- data reuse


def test_the_tau_law_has_a_line_for_each_reuse_factor():
    fit = analysis.fit("reference:qwen2.5_base_reuse", law="tau", x="step", steps="10:100")
    assert [row["num_params"] for row in fit.per_size] == [1, 2, 5, 20, 25, 50, 100]
    assert fit.record["size_column"] == "reuse_factor"
    for row in fit.per_size:
        assert 0 < row["efficiency"] < 0.1
    with pytest.raises(InputError, match="needs column reuse_factor"):
        analysis.fit(make_curves(table_of(get_law("efficiency"), points_of(get_law("efficiency")))), law="tau")


def test_laws_of_an_error_rate_refuse_a_cross_entropy():
    with pytest.raises(InputError, match="chinchilla, data_constrained"):
        analysis.fit("reference:chinchilla", law="efficiency", x="tokens_seen")


def test_a_curve_wants_as_many_points_as_parameters():
    table = table_of(get_law("sigmoid"), points_of(get_law("sigmoid")))
    with pytest.raises(InputError, match="4 parameters for each size") as error:
        analysis.fit(make_curves(table[table["step"] <= 3]), law="sigmoid")
    assert "per_size" in str(error.value)


def test_each_law_says_what_its_parameters_are_and_of_what_there_is_one_each(capsys):
    """N0 is half of the limit of a k(N) that saturates alone; a law of group sizes has values for each group size."""
    efficiency, grown = get_law("efficiency"), replace(get_law("efficiency"), saturates=False)
    n0 = efficiency.parameter("n0")
    assert efficiency.meaning(n0) == "scale of N in k(N): the size at which k = k_max / 2"
    assert grown.meaning(n0) == "scale of N in k(N)"
    commands.laws()
    of = {block.split("\n")[0]: block for block in re.split(r"\n(?=\w)", capsys.readouterr().out)}
    assert "for each group size" in of["group_size"] and "for each reuse factor" in of["tau"]
    assert "for each size" in of["per_size"]
