"""A law that is one new file gets its own fit and its own intervals, by the test that its form allows."""

import math
import shutil
from dataclasses import replace

import numpy as np
import one_file_law
import pandas as pd
import pytest
from scipy import stats

import analysis
import analysis.laws
from analysis.curves.check import make_curves
from analysis.intervals.coverage import coverage
from analysis.intervals.law_test import EXACT, law_test
from analysis.intervals.run_test import efficiency_interval
from analysis.laws import Law, Parameter, get_law, law_names
from scaling.schema import InputError

FOUR = (0.5e9, 3e9, 14e9, 72e9)
TRUTH = {"k_one": 0.035, "n_one": 4e9}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of laws with one file more."""
    shutil.copy(one_file_law.__file__, tmp_path / "log_slope.py")
    monkeypatch.setattr(analysis.laws, "__path__", [*analysis.laws.__path__, str(tmp_path)])
    return tmp_path


def studies(slope, sizes=FOUR, runs=2, steps=20, seed=0, seed_sd=0.04, trials=500):
    """Counts of errors along lines of slope(N), one level a size, with seeds that differ in their slope."""
    rng, frames = np.random.default_rng(seed), []
    step = np.arange(1, steps + 1)
    for i, size in enumerate(sizes):
        for run in range(runs):
            k = slope(size) * (1 + seed_sd * rng.standard_normal())
            loss = np.minimum(0.9 * np.exp(-0.07 * i - k * (np.log(512.0 * step) - 6.0)), 1.0)
            frames.append(pd.DataFrame({
                "run_id": f"n{i}r{run}", "num_params": size, "seed": run, "step": step, "prompts_seen": 512.0 * step,
                "test_loss": rng.binomial(trials, loss) / trials, "eval_problems": trials,
            }))  # fmt: skip
    return make_curves(pd.concat(frames, ignore_index=True))


def log_slope(size):
    return TRUTH["k_one"] * math.log1p(size / TRUTH["n_one"])


def test_it_is_a_law_by_being_there():
    assert "log_slope" in law_names()
    assert get_law("log_slope").symbols == {"k_one": "K1", "n_one": "N1", "intercept": "E"}


def test_exact_data_give_the_truth():
    fit = analysis.fit(studies(log_slope, seed_sd=0.0, trials=10**9), law="log_slope", x="prompts_seen")
    for name, truth in TRUTH.items():
        assert fit.values[name]["value"] == pytest.approx(truth, rel=2e-3)
        low, high = fit.values[name]["ci95"]
        assert low * (1 - 2e-3) <= truth <= high * (1 + 2e-3)
    assert fit.efficiency(7e9) == pytest.approx(log_slope(7e9), rel=1e-3)
    low, high = efficiency_interval(fit, 400e9)
    assert low * (1 - 1e-3) <= log_slope(400e9) <= high * (1 + 1e-3)


def test_its_intervals_hold_the_truth():
    """40 studies; with the shape of another law they held it in none of 30."""
    held, bounded, count = dict.fromkeys(TRUTH, 0), 0, 40
    for seed in range(count):
        fit = analysis.fit(studies(log_slope, seed=seed), law="log_slope", x="prompts_seen")
        for name, truth in TRUTH.items():
            low, high = fit.values[name]["ci95"]
            held[name] += (low or 0.0) <= truth <= (high or math.inf)
        bounded += fit.values["n_one"]["identified"]
    least = stats.binom.ppf(0.001, count, 0.95)
    assert min(held.values()) >= least, held
    assert bounded > 0.8 * count  # an interval without ends holds everything


def test_the_self_test_simulates_this_law():
    fit = analysis.fit(studies(log_slope, seed=3), law="log_slope", x="prompts_seen")
    found = coverage(fit, studies=40, seed=1)
    assert found["k_one"] >= 0.85
    assert found["n_one"] >= 0.85
    assert found["text"].startswith("nominal 95 %, measured K1 ")


def test_the_intervals_are_of_its_own_shape():
    points = np.array([log_slope(n) for n in FOUR for _ in range(2)]) * (1 + 0.03 * np.tile([1, -1], 4))
    given = points, np.full(8, 1e-6), np.repeat(FOUR, 2), EXACT
    own, other = law_test(one_file_law.LAW, *given), law_test(get_law("efficiency"), *given)
    low, high = own.scale_interval()
    assert low < TRUTH["n_one"] < high
    assert other.scale_interval()[0] > TRUTH["n_one"]


def test_slopes_that_cannot_tell_the_scale_leave_it_open_with_a_reason():
    rising = analysis.fit(studies(lambda n: 2e-12 * n, trials=20000), law="log_slope", x="prompts_seen")
    assert rising.values["n_one"]["ci95"][1] is None
    assert rising.values["n_one"]["ci95"][0] > 14e9
    assert any("N1 > " in text and "slopes still rise in proportion to N" in text for text in rising.warnings)
    # Slopes that hardly differ ask for a scale beyond its bound: no end of either interval comes from that bound.
    flat = analysis.fit(studies(lambda n: 0.06), law="log_slope", x="prompts_seen")
    assert flat.values["n_one"]["ci95"][0] is None
    assert flat.values["k_one"]["ci95"][0] is None
    assert not flat.values["k_one"]["identified"]
    assert not any("slopes do not differ" in text for text in flat.warnings)  # with this law they do at its bound


# ---------------------------------------------------------------- forms that the test of slopes does not cover


def linear_in_ln_n(**changed):
    """k(N) = first + rise ln(N / 1e9): no amplitude times a shape."""
    intercept = one_file_law.LAW.parameter("intercept")
    parameters = (
        Parameter("first", "1", "k of 1e9 parameters", (-math.inf, math.inf), linear=True),
        Parameter("rise", "1", "rise of k per ln N", (-math.inf, math.inf), linear=True), intercept,
    )  # fmt: skip
    slope = lambda n, values: values["first"] + values["rise"] * np.log(n / 1e9)  # noqa: E731
    law = Law(
        "log_line", "ln L = -(first + rise ln(N/1e9)) ln X + E(N)", "a test", parameters,
        lambda n, x, values: values["intercept"] - slope(n, values) * np.log(x), "more X at fitted sizes", slope=slope,
    )  # fmt: skip
    return replace(law, **changed)


def test_a_law_without_a_shape_has_profile_intervals(folder):
    text = "from test_one_file_law import linear_in_ln_n\n\nLAW = linear_in_ln_n()\n"
    (folder / "log_line.py").write_text(text)
    truth = {"first": 0.03, "rise": 0.02}
    curves = studies(lambda n: truth["first"] + truth["rise"] * math.log(n / 1e9), runs=3)
    fit = analysis.fit(curves, law="log_line", x="prompts_seen")
    for name, value in truth.items():
        low, high = fit.values[name]["ci95"]
        assert low < value < high
        assert high - low < 0.02
    assert fit.record["intervals"]["method"].startswith("profile")
    assert "sizes are taken to follow the law exactly" in fit.record["intervals"]["parameters_basis"]
    assert fit.efficiency(7e9) == pytest.approx(truth["first"] + truth["rise"] * math.log(7), abs=0.005)
    with pytest.raises(InputError, match=r"law log_line has none"):
        coverage(fit)
    one = analysis.fit(curves.where("seed == 0"), law="log_line", x="prompts_seen")
    assert one.values["first"]["ci95"] is None
    assert any("no interval for first, rise" in text for text in one.warnings)


def test_a_law_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="shape needs amplitude and scale"):
        replace(one_file_law.LAW, scale="n_two")
    signed = tuple(replace(p, bounds=(-1.0, 1.0)) if p.name == "k_one" else p for p in one_file_law.LAW.parameters)
    with pytest.raises(ValueError, match="bounds of k_one from 0 on"):
        replace(one_file_law.LAW, parameters=signed)
