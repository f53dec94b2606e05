"""What a user may change in a law: fixed and bounded parameters, a function in place of a law, errors of the loss, and
regions of two parameters at once."""

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from scipy.optimize import least_squares
from scipy.stats import f as fisher
from scipy.stats import t as student
from synthetic_curves import synthetic

import analysis
from analysis.curves.check import make_curves
from analysis.curves.load import load
from analysis.intervals.contours import contours
from analysis.intervals.profile import profile_tests
from analysis.laws import Law, Parameter, get_law
from scaling.schema import InputError

BASE = "reference:qwen2.5_base"


@pytest.fixture(scope="module")
def free():
    return analysis.fit(BASE)


# ---------------------------------------------------------------- fixed and bounded


def test_an_amplitude_beside_a_fixed_scale_is_scipys():
    fit = analysis.fit(BASE, fix={"n0": 13e9}, objective="linear")
    points = fit.points
    f, each = 1 / (1 + 13e9 / points.sizes), points.sum_by_size(np.ones(len(points)))[points.size]

    def missed(vector):  # k_max and the level of each size
        return (points.loss - np.exp(vector[1:][points.size] - vector[0] * f[points.size] * points.x)) / np.sqrt(each)

    best = least_squares(missed, np.r_[0.1, np.full(len(f), 2.0)], x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    assert fit.values["k_max"]["value"] == pytest.approx(best.x[0], rel=1e-5)
    assert fit.values["n0"] | {"value": 13e9, "ci95": [13e9, 13e9], "fixed": True} == fit.values["n0"]


def test_a_parameter_fixed_at_its_optimum_moves_no_other(free):
    fit = analysis.fit(BASE, fix={"n0": free.values["n0"]["value"]})
    assert fit.values["k_max"]["value"] == pytest.approx(free.values["k_max"]["value"], rel=1e-6)
    inside, wide = fit.values["k_max"]["ci95"], free.values["k_max"]["ci95"]
    assert wide[0] < inside[0] < inside[1] < wide[1]
    freedom = "degrees_of_freedom"
    assert fit.record["intervals"][freedom] == free.record["intervals"][freedom] + 1
    again = analysis.Fit.from_json(fit.json())
    assert again.efficiency(7e9) == fit.efficiency(7e9) and again.choices.fix == fit.choices.fix


def test_both_fixed_leaves_the_levels_alone():
    fit = analysis.fit(BASE, fix="n0=13e9, k_max=0.1")
    assert fit.efficiency(13e9) == pytest.approx(0.05)
    assert fit.record["goodness"]["n_parameters"] == 7


@pytest.mark.parametrize("law", ["chinchilla", "efficiency_log_level", "sigmoid"])
def test_parameters_of_other_laws_are_fixed(law):
    free = analysis.fit(BASE, law=law, parameters=False)
    at_optimum = {name: free.values[name]["value"] for name in list(free.values)[1:3]}
    fixed = {"r0": 0.2} if law == "sigmoid" else at_optimum
    fit = analysis.fit(BASE, law=law, fix=fixed, parameters=False)
    if law == "sigmoid":
        assert {row["values"]["r0"] for row in fit.per_size} == {0.2}
        assert fit.solution.objective > free.solution.objective
    for name, entry in fit.values.items():
        assert entry["value"] == pytest.approx(free.values[name]["value"], rel=2e-3, abs=1e-5)


def test_a_bound_that_binds_is_the_optimum_and_an_end():
    fit = analysis.fit(BASE, bound=["k_max=0:0.12", "n0=1e9:50e9"])
    assert fit.values["k_max"]["value"] == pytest.approx(0.12) and fit.values["k_max"]["at_bound"]
    assert fit.values["k_max"]["ci95"][1] == pytest.approx(0.12, rel=1e-4)
    assert fit.record["bound"] == "k_max=0:0.12, n0=1e9:50e9"
    tight = analysis.fit(BASE, bound={"n0": (1e9, 5e9)})
    assert tight.values["n0"]["ci95"][1] == pytest.approx(5e9)


def test_a_true_fixed_value_keeps_the_interval_honest():
    held = []
    for seed in range(30):
        curves = make_curves(synthetic(runs=2, noise=1.0, seed_sd=0.05, seed=seed, sizes=[1.5e9, 7e9, 14e9, 32e9]))
        low, high = analysis.fit(curves, fix={"n0": 12e9}, x="prompts_seen").values["k_max"]["ci95"]
        held.append(low <= 0.13 <= high)
    assert sum(held) >= 26  # 95 % of 30; below 26 has probability .002


def test_a_forecast_takes_the_fixed_value():
    slope = analysis.fit(BASE, fix={"n0": 5e9}).efficiency(200e9)
    early, late = analysis.forecast(BASE, 200e9, [1e20, 1e21], fix={"n0": 5e9})["predictions"]
    assert np.log(early["loss"] / late["loss"]) / np.log(10) == pytest.approx(slope)
    assert late["ci95_mean"][0] < late["loss"] < late["ci95_mean"][1]


@pytest.mark.parametrize(("choice", "text", "said"), [
    ("fix", "n0", "NAME=VALUE"), ("fix", "n=3", "Did you mean n0"), ("fix", "n0=-1", "above 0"),
    ("fix", "n0=inf", "NAME=VALUE"), ("bound", "k_max=2:0", "lower end first"), ("bound", "n0=1", "NAME=LOW:HIGH"),
    ("bound", "k_max=-1:2", "from 0"), ("fix", "n0=1, n0=2", "twice"),
])  # fmt: skip
def test_bad_bounds_are_one_line(choice, text, said):
    with pytest.raises(InputError, match=said) as caught:
        analysis.fit(BASE, **{choice: text})
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- a function in place of a law


def parts(n, x, e: (0, 10) = 0.1, a: (0, 1e6) = (10.0, 400.0), b=2.0, alpha: (0.01, 3) = 0.3, beta: (0.01, 3) = 0.3):
    return e + a * n**-alpha + b * x**-beta


def test_a_function_is_fitted_as_the_law_that_it_is():
    shipped = analysis.fit(BASE, law="chinchilla", x="prompts_seen", parameters=False)
    mine = analysis.fit(BASE, law=parts, x="prompts_seen", parameters=False)
    assert mine.solution.objective == pytest.approx(shipped.solution.objective, rel=1e-6)
    for name, entry in mine.values.items():
        assert entry["value"] == pytest.approx(shipped.values[name]["value"], rel=0.02, abs=1e-4)
    at = {"x": 1e5, "num_params": 100e9}
    assert mine.predict(**at) == pytest.approx(shipped.predict(**at), rel=1e-3)


def test_a_function_has_intervals_forecast_and_verdict_of_its_own():
    def line(n, x, k: (0, 5) = 0.1, n0: (1e8, 1e12) = 1e10, e=0.0):
        return np.exp(e - k / (1 + n0 / n) * np.log(x / 1e15))

    fit = analysis.fit(BASE, law=line)
    assert all(entry["identified"] for entry in fit.values.values()) and fit.verdict["text"].startswith("bends")
    document = analysis.forecast(BASE, 32e9, 1e21, law=line, size_column="num_params")
    assert document["law"] == "line" and document["predictions"][0]["ci95_mean"]

    def line(n, x, k: (0, 5) = 0.1):  # a cell that was run again: the fit keeps what it was fitted with
        return x * 0 + k

    analysis.fit(BASE, law=line)
    assert fit.law.formula == "L = line(N, X; k, n0, e)"


def test_a_law_of_ones_own_may_have_parameters_of_each_size():
    own = Law(
        name="plain_power", formula="L = a X^-b", citation="test",
        parameters=(
            Parameter("a", "1", "loss at X = 1", (0.0, np.inf), per_size=True, linear=True, at_x="b"),
            Parameter("b", "1", "exponent", (0.0, 2.0), per_size=True, starts=(0.1,)),
        ),
        curve=lambda n, x, values: values["a"] * x ** -values["b"], predicts="more X", link="identity",
    )  # fmt: skip
    lines, mine = analysis.fit(BASE, law="per_size"), analysis.fit(BASE, law=own)
    for row, line in zip(mine.per_size, lines.per_size, strict=True):
        assert row["values"]["b"] == pytest.approx(line["values"]["efficiency"], rel=0.05)


def without_start(n, x, a):
    return a * x


def of_words(n, x, a="k"):
    return x


def not_a_curve(n, x, a=1.0):
    return a


def that_fails(n, x, a=1.0):
    return a * nowhere  # noqa: F821


def never_finite(n, x, a=1.0):
    return a * x * np.nan


def efficiency(n, x, a=1.0):
    return a * x


@pytest.mark.parametrize(("law", "said"), [
    (lambda n, x, a=1.0: a * x, "no name of its own"), (5, "neither a name"), (without_start, "a has no start"),
    (of_words, "wants numbers"), (not_a_curve, "shape"), (that_fails, "NameError"), (never_finite, "not finite"),
    (efficiency, "shipped law"), (max, "arguments"),
])  # fmt: skip
def test_what_is_no_law_is_one_line(law, said):
    with pytest.raises(InputError, match=said) as caught:
        analysis.fit(BASE, law=law)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- errors of the loss


def test_standard_errors_stand_for_the_counts(free):
    table = load(BASE).table
    columns = ["num_params", "num_params_non_embedding", "run_id", "step", "test_loss", "train_flops"]
    table = table[[name for name in columns if name in table]].assign(
        loss_error=np.sqrt(table["test_loss"] * (1 - table["test_loss"]) / table["eval_problems"])
    )
    fit = analysis.fit(make_curves(table))
    for name, entry in fit.values.items():
        assert entry["value"] == pytest.approx(free.values[name]["value"], rel=1e-6)
        assert entry["ci95"] == pytest.approx(free.values[name]["ci95"], rel=1e-6)
    assert fit.verdict["text"] == free.verdict["text"] and fit.record["weights"] == "by loss_error"
    for bad in (0.0, np.nan):
        wrong = table.assign(loss_error=table["loss_error"].where(table["step"] != 6, bad))
        with pytest.raises(InputError, match="loss_error is"):
            analysis.fit(make_curves(wrong))


# ---------------------------------------------------------------- two parameters at once


def test_the_region_of_slopes_ends_where_both_are_rejected(free):
    test = free.test.law
    for region in contours(free):
        assert region.names == ("k_max", "n0") and region.closed
        amplitude, scale = region.outline.T
        p = [
            np.interp(np.log(s), test.ln_scale, test.p_pair(np.array([a]))[0])
            for a, s in zip(amplitude, scale, strict=True)
        ]
        assert p == pytest.approx(np.full(len(p), 1 - region.level), abs=0.01)
    assert Outline(region.outline).contains_point([free.values[name]["value"] for name in ("k_max", "n0")])
    for column, name in enumerate(("k_max", "n0")):  # wider than each alone
        low, high = free.values[name]["ci95"]
        assert region.outline[:, column].min() < low and region.outline[:, column].max() > high


def test_the_region_of_a_profile_is_the_ellipse_of_a_linear_law():
    """Of two parameters that the curve is linear in, the squares grow as a parabola: the outline is an ellipse."""

    def straight(n, x, level=0.5, slope=0.01):
        return np.exp(-level - slope * np.log(x / 2e20) + 0.0 * n)

    fit = analysis.fit(make_curves(synthetic(runs=3, noise=1.0, seed=1)), law=straight)
    tests, _ = profile_tests(fit.points, fit.law, fit.solution)
    test = tests[0]
    for region in contours(fit):
        away = region.outline - test.vector
        square = np.einsum("ij,jk,ik->i", away, np.linalg.inv(test.covariance), away)
        assert np.sqrt(square) == pytest.approx(
            np.full(len(square), np.sqrt(2 * fisher.isf(1 - region.level, 2, test.df))), rel=0.05
        )
        assert student.isf(0.025, test.df) ** 2 < 2 * fisher.isf(0.05, 2, test.df)


def test_a_law_that_shares_nothing_has_no_region():
    fit = analysis.fit(BASE, law="sigmoid", parameters=False)
    with pytest.raises(InputError, match="no free parameters"):
        contours(fit)
    assert not get_law("sigmoid").shared
