"""Curves that nobody should have: every law gives a result that is finite and says what is wrong, or one line."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from synthetic_curves import SIZES, synthetic

import analysis
from analysis import compare_laws, forecast, frontier, score_protocols
from analysis.curves.check import make_curves
from analysis.fitting.choices import Choices
from analysis.fitting.fit import fit_curves
from analysis.intervals.record import add_intervals
from analysis.laws import law_names
from scaling.schema import InputError

# tau has no sizes, and group_size is the sigmoid by another column.
LAWS = [name for name in law_names() if name not in ("tau", "group_size")]


def base(**options):
    return synthetic(**{"sizes": SIZES[1:6:2], "runs": 2, "steps": 14, "noise": 1, **options})


def outcome(call):
    """(what a call returns, None), or (None, its one line)."""
    try:
        return call(), None
    except InputError as error:
        return None, str(error)


def set_loss(table, value, size=7e9):
    return table.assign(test_loss=table["test_loss"].where(table["num_params"] != size, value))


HOSTILE = {
    "nan in the loss": lambda: base().assign(test_loss=lambda t: t["test_loss"].mask(t["step"] % 3 == 0)),
    "nan in x": lambda: base().assign(prompts_seen=lambda t: t["prompts_seen"].mask(t["step"] == 3)),
    "loss 0 throughout one size": lambda: set_loss(base(), 0.0),
    "loss 1 throughout one size": lambda: set_loss(base(), 1.0),
    "loss 0 without counts": lambda: set_loss(base(), 0.0).drop(columns="eval_problems"),
    "one point a size": lambda: base().query("step <= 1"),
    "two points a size": lambda: base().query("step <= 2"),
    "one size": lambda: base(sizes=[7e9]),
    "one run": lambda: base(sizes=[7e9], runs=1),
    "duplicate steps": lambda: pd.concat([base(), base().query("step == 4")]),
    "unsorted steps": lambda: base().sample(frac=1, random_state=0),
    "sizes 1e6 apart": lambda: base(sizes=[1e4, 1e7, 1e10]),
    "x does not increase": lambda: base().assign(prompts_seen=lambda t: t["prompts_seen"] * (1 + (t["step"] % 2))),
    "x is constant": lambda: base().assign(prompts_seen=100.0),
    "x is 0": lambda: base().assign(prompts_seen=0.0),
    "losses in percent": lambda: base().assign(test_loss=lambda t: 100 * t["test_loss"]),
    "a size in billions beside parameters": lambda: base().assign(
        num_params=lambda t: t["num_params"].where(t["num_params"] < 10e9, t["num_params"] / 1e9)
    ),
    "losses that rise": lambda: base().assign(test_loss=lambda t: 0.2 + 0.05 * t["step"]),
    "losses that do not move": lambda: base(noise=0).assign(test_loss=0.5),
    "huge x": lambda: base().assign(prompts_seen=lambda t: t["prompts_seen"] * 1e290),
    "tiny x": lambda: base().assign(prompts_seen=lambda t: t["prompts_seen"] * 1e-290),
}
# Profile intervals take up to seconds: they are made on the curves that once broke them.
HARDEST = ("huge x", "losses that do not move", "loss 1 throughout one size", "sizes 1e6 apart")
REFUSED = {
    "nan in x": "blank in 6 evaluated rows",
    "duplicate steps": "more than once",
    "x is 0": "above 0",
    "losses in percent": "percent",
    "one point a size": "",
}


# Of these the intervals of all parameters take seconds: they are made in one of the hardest cases.
SLOW = ("broken_power", "decomposition", "sigmoid_of_size", "exponential_of_size", "data_constrained", "data_repeats")


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_fit_is_finite_or_refused_in_one_line(law, name):
    table = HOSTILE[name]()
    if law == "consistency":
        table = table.assign(train_flops=table["num_params"] * 1e3 * table["prompts_seen"].abs())
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        if name in HARDEST and (law not in SLOW or name == "loss 1 throughout one size"):
            fit, line = outcome(lambda: analysis.fit(make_curves(table), law=law, x="prompts_seen"))
        else:
            fit, line = outcome(lambda: add_intervals(fit_curves(make_curves(table), Choices(law, "prompts_seen"))))
    if fit is None:
        assert "\n" not in line
        assert REFUSED.get(name, "") in line or law not in ("efficiency", "per_size")
        return
    assert REFUSED.get(name, "") == "", f"{name} should be refused"
    record = json.loads(json.dumps(fit.json(), allow_nan=False))
    assert record["status"] in ("ok", "not converged")
    for entry in record["values"].values():
        assert np.isfinite(entry["value"])
        if entry["identified"]:
            assert entry["ci95"][0] <= entry["value"] * (1 + 1e-6) + 1e-9
            assert entry["ci95"][1] >= entry["value"] * (1 - 1e-6) - 1e-9


def test_the_order_of_rows_changes_nothing():
    one, two = (analysis.fit(make_curves(t), x="prompts_seen").values for t in (base(), HOSTILE["unsorted steps"]()))
    assert one == two


def test_points_without_a_loss_are_left_out_and_the_rest_is_fitted():
    fit = analysis.fit(make_curves(HOSTILE["nan in the loss"]()), x="prompts_seen")
    assert fit.record["n_points"] == 3 * 2 * (14 - 4)


def test_mixed_units_of_size_are_seen_in_what_is_printed():
    """Nothing can know the unit; the sizes stand in the table, and the law reports what it cannot bound."""
    fit = analysis.fit(make_curves(HOSTILE["a size in billions beside parameters"]()), x="prompts_seen")
    assert min(row["num_params"] for row in fit.per_size) == 32
    assert not fit.values["n0"]["identified"] or fit.record["intervals"]["misfit_p"] is not None


def test_sizes_far_apart_give_the_truth():
    fit = analysis.fit(make_curves(synthetic(sizes=[1e4, 1e7, 1e10, 1e13], n0=1e9)), x="prompts_seen")
    assert fit.values["n0"]["value"] == pytest.approx(1e9, rel=1e-5)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_other_commands_are_finite_or_refuse_in_one_line(name):
    calls = [
        lambda c: forecast(c, 7e9, 1e4, x="prompts_seen"),
        lambda c: forecast(c, 200e9, 1e4, x="prompts_seen"),
        lambda c: score_protocols(c, x="prompts_seen", calibrate=3),
        lambda c: frontier(c, x="prompts_seen", target=0.5),
        lambda c: compare_laws(c, ["efficiency", "per_size"], x="prompts_seen"),
    ]
    for call in calls:
        found, line = outcome(lambda call=call: call(make_curves(HOSTILE[name]())))
        assert line is None or "\n" not in line
        json.dumps(found, allow_nan=False)


def test_many_rows_are_fitted():
    """A hundred thousand evaluations; ten million take minutes and some GB, and nothing else changes."""
    sizes = np.repeat([1e9, 2e9, 4e9, 8e9, 16e9], 2)
    step = np.tile(np.arange(1, 10001), 10)
    size = np.repeat(sizes, 10000)
    x = 100.0 * step
    rng = np.random.default_rng(0)
    loss = 0.9 * np.exp(-0.06 / (1 + 12e9 / size) * (np.log(x) - 4)) * (1 + 0.01 * rng.standard_normal(len(x)))
    table = pd.DataFrame({
        "run_id": np.repeat([f"r{i}" for i in range(10)], 10000), "num_params": size, "step": step, "train_flops": x,
        "test_loss": np.minimum(loss, 1), "eval_problems": 500,
    })  # fmt: skip
    fit = analysis.fit(make_curves(table))
    assert fit.record["n_points"] == 100000
    assert fit.values["k_max"]["value"] == pytest.approx(0.06, rel=0.05)


@pytest.mark.parametrize("loss", [0.0, 1.0])
def test_curves_of_one_number_have_no_slope_and_no_verdict(loss):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        fit = analysis.fit(make_curves(base().assign(test_loss=loss)), x="prompts_seen")
        assert [row["efficiency"] for row in fit.per_size] == [0.0] * 3
        assert fit.verdict["text"] == "cannot tell: the loss does not vary"


@pytest.mark.parametrize("law", ["efficiency", "per_size", "chinchilla"])
def test_the_linear_objective_is_finite_or_refused_where_nothing_is_left_unsolved(law):
    """Squared error on L falls with ln L without end: no line is best."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for table, size in ((base().assign(test_loss=0.0), "1.5e+09"), (set_loss(base(), 0.0), "7e+09")):
            with pytest.raises(InputError, match=f"every loss at size {re.escape(size)}.* is 0.*--objective log or"):
                analysis.fit(make_curves(table), x="prompts_seen", law=law, objective="linear")
        late = base(steps=20).assign(test_loss=lambda t: t["test_loss"].where(t["step"] <= 5, 0.0))
        fit = analysis.fit(make_curves(late), x="prompts_seen", law=law, objective="linear")
        json.dumps(fit.json(), allow_nan=False)
