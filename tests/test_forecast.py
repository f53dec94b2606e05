"""Forecasts: known truths, coverage in simulated studies, baselines by hand, and leaks."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from synthetic_curves import SIZES, synthetic

from analysis import forecast, score_protocols
from analysis.curves.check import make_curves
from analysis.curves.load import load
from analysis.fitting.choices import Choices
from analysis.fitting.fit import fit_curves
from analysis.intervals.record import add_intervals
from analysis.questions import new_size
from analysis.questions.new_size import predict_new_size
from analysis.questions.scores import detect_leak, score_one
from scaling.schema import InputError

# Sizes whose levels in synthetic() (linear in their rank) are linear in ln N too.
LADDER = [1e9, 3e9, 9e9, 27e9, 81e9]


def truth(size, x):
    i = LADDER.index(size)
    return 0.9 * np.exp(-0.07 * i - 0.13 / (1 + 12e9 / size) * (np.log(x) - 6.0))


@pytest.mark.parametrize("count", [10, 20])
def test_a_calibrated_slope_is_as_good_as_the_better_of_law_and_line(count, monkeypatch):
    """Over the three largest reference sizes, each predicted from the smaller ones: 5 % for what chance may do."""
    curves, error = load("reference:qwen2.5_base"), []
    for largest in sorted(curves.table["num_params"].unique())[-3:]:
        part = curves.where(f"num_params <= {largest}")
        both = score_one(part, Choices(split="inter"), count)
        with monkeypatch.context() as without:
            without.setattr(new_size, "_own_slope", lambda *_: None)
            law = score_one(part, Choices(split="inter"), count)
        error.append([score["rmse_ln_loss"][name] for score, name in
                      ((both, "law"), (law, "law"), (both, "line per size"))])  # fmt: skip
        assert both["interval_coverage"] >= 0.9 and both["leak"] is law["leak"]
    combined, by_law, by_line = np.sqrt(np.mean(np.square(error), axis=0))
    assert combined <= 1.05 * min(by_law, by_line)


def test_a_forecast_far_below_the_data_is_refused_and_one_cut_off_at_1_is_not_identified():
    curves = make_curves(synthetic(noise=1.0, runs=2))
    with pytest.raises(InputError, match=r"X = 1 is 5.1e\+02 times below the smallest X of the data.*from 51.2 on"):
        forecast(curves, 7e9, 1.0, x="prompts_seen")
    table = synthetic(noise=1.0, runs=2)
    near = table.assign(test_loss=(1.11 * table["test_loss"]).clip(upper=1.0))
    row = forecast(make_curves(near), 72e9, 60.0, x="prompts_seen")["predictions"][0]
    assert row["loss"] == 1 or row["ci95_mean"][0] < 1
    assert row["identified"] == (row["ci95_mean"][0] < 1)


def test_an_exact_law_is_predicted_exactly_at_a_fitted_size():
    found = forecast(make_curves(synthetic(runs=2)), 7e9, [40000.0, 60000.0], x="prompts_seen")
    k = 0.13 / (1 + 12 / 7)
    for row in found["predictions"]:
        assert row["loss"] == pytest.approx(0.9 * np.exp(-0.21 - k * (np.log(row["x"]) - 6)), rel=1e-5)
        by_law = row["if_law_holds"]
        assert by_law["ci95_mean"][0] <= row["loss"] * (1 + 1e-4)
        assert by_law["ci95_run"][0] < by_law["ci95_mean"][0] < by_law["ci95_mean"][1] < by_law["ci95_run"][1]
        # Beyond the window an exact line says nothing of what comes.
        assert row["ci95_mean"][0] < by_law["ci95_mean"][0] and by_law["ci95_mean"][1] < row["ci95_mean"][1]
    assert found["predictions"][0]["x_factor"] == pytest.approx(40000 / (512 * 60))
    assert found["fitted_size"]
    assert found["tuned_on_size"] == "its own runs"


def test_a_new_size_is_predicted_within_its_interval_and_says_what_it_rests_on():
    curves = make_curves(synthetic(sizes=LADDER, runs=3, noise=1, trials=2000))
    found = forecast(curves, 81e9, 30000.0, x="prompts_seen", where="num_params < 80e9")
    (row,) = found["predictions"]
    assert row["loss"] == pytest.approx(truth(81e9, 30000.0), rel=0.1)
    assert row["ci95_mean"][0] < truth(81e9, 30000.0) < row["ci95_mean"][1]
    assert not found["fitted_size"]
    assert found["size_factor"] == 3
    assert found["tuned_on_size"] == "nothing"
    assert "level linear in ln N over 4 sizes" in found["rests_on"]
    near = forecast(curves, 81e9, 30000.0, x="prompts_seen", calibrate=10)
    assert near["tuned_on_size"] == "level on its first 10 points"
    assert near["sizes"] == LADDER[:-1]


def test_a_law_with_a_level_predicts_alone_by_how_far_it_misses_sizes_left_out():
    curves = make_curves(synthetic(sizes=LADDER, runs=2))
    options = {"x": "prompts_seen", "law": "efficiency_log_level", "where": "num_params < 80e9"}
    found = forecast(curves, 81e9, 30000.0, **options)
    fit = fit_curves(curves, Choices(**options))
    assert found["predictions"][0]["loss"] == pytest.approx(fit.predict(81e9, 30000.0))
    low, high = found["predictions"][0]["ci95_mean"]
    assert low < truth(81e9, 30000.0) < high
    assert "fitted and left out in turn" in found["rests_on"]
    three = forecast(curves, 81e9, 30000.0, **{**options, "where": "num_params < 20e9"})
    assert three["predictions"][0]["ci95_mean"] is None and "it wants 4 sizes" in three["rests_on"]


def surface(size, x):
    return 0.1 + 400 * size**-0.35 + 8 * x**-0.45


def test_an_unseen_size_of_a_chinchilla_surface_is_held():
    """12 studies of five sizes and two seeds: a size between the fitted and one twice the largest, at the last X and
    twice as far."""
    held, x = [], np.geomspace(1e3, 6e4, 16)
    for seed in range(12):
        rng, frames = np.random.default_rng(seed), []
        for size in (0.5e9, 1.5e9, 4e9, 12e9, 32e9):
            for run in range(2):
                loss = surface(size, x) * np.exp(0.02 * rng.standard_normal())
                frames.append(pd.DataFrame({
                    "run_id": f"{size:g}-{run}", "num_params": size, "step": np.arange(1, 17), "prompts_seen": x,
                    "train_flops": x * size, "test_loss": rng.binomial(500, loss) / 500, "eval_problems": 500,
                }))  # fmt: skip
        curves = make_curves(pd.concat(frames))
        for size in (7e9, 64e9):
            for row in forecast(curves, size, [6e4, 1.2e5], law="chinchilla")["predictions"]:
                low, high = row["ci95_mean"]
                held.append(low <= surface(size, row["x"]) <= high)
    assert np.mean(held) >= 0.85  # 48 of them, four of a study: 95 % less what chance may do


@pytest.mark.parametrize("calibrate", [0, 10])
def test_intervals_of_a_new_size_cover_in_simulated_studies(calibrate):
    """50 studies of four sizes and three seeds; the curve of the fifth size and a run of it as it is measured."""
    mean = run = 0
    x = 25000.0
    for seed in range(50):
        table = synthetic(sizes=LADDER, runs=3, steps=50, noise=1, seed_sd=0.05, seed=seed)
        new = table["num_params"] == 81e9
        known = make_curves(table[~new] if not calibrate else table[~new | (table["seed"] == 0)])
        found = forecast(known, 81e9, x, x="prompts_seen", calibrate=calibrate)["predictions"][0]
        low, high = found["ci95_mean"]
        mean += low <= truth(81e9, x) <= high
        one = table[new & (table["step"] == 49) & (table["seed"] == (0 if calibrate else 1))]
        low, high = found["ci95_run"]
        run += low <= one["test_loss"].item() <= high
    # Three standard errors of .95 over 50 are .09.
    assert run / 50 >= 0.86
    assert mean / 50 >= (0.86 if not calibrate else 0.8)


def test_draws_repeat():
    fit = add_intervals(fit_curves(make_curves(synthetic(runs=2, noise=1)), Choices(x="prompts_seen")))
    one, two = (predict_new_size(fit, 200e9, np.log([1e4, 3e4])) for _ in range(2))
    assert np.array_equal(one.run, two.run)
    assert not np.array_equal(one.run, predict_new_size(fit, 200e9, np.log([1e4, 3e4]), seed=1).run)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_params": 99e9, "law": "per_size"}, "says nothing of a size"),
        ({"num_params": 99e9, "law": "sigmoid"}, "says nothing of a size"),
        ({"num_params": 99e9, "calibrate": 5}, "has 0 points"),
        ({"num_params": 7e9, "calibrate": 500}, "asks for 500"),
        ({"num_params": -7e9}, "above 0"),
        ({"num_params": 7e9, "at": float("nan")}, "above 0"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(options, words):
    with pytest.raises(InputError, match=words) as error:
        forecast(make_curves(synthetic(noise=1)), **{"at": 1e4, "x": "prompts_seen", **options})
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- scores


def test_scores_of_exact_curves_by_hand():
    scores = score_protocols(make_curves(synthetic(sizes=LADDER, runs=2)), x="prompts_seen", fraction=0.5)
    predicted, calibrated, intra = scores
    # In the middle of the curves the level is near linear in ln N, not exactly.
    assert predicted["rmse_ln_loss"]["law"] == pytest.approx(0, abs=6e-3)
    # The nearest size lies .07 higher and is less steep.
    x = np.log(512.0 * np.arange(1, 61))
    k = 0.13 / (1 + 12e9 / np.array(LADDER[-2:]))
    miss = 0.07 + (k[1] - k[0]) * (x - 6.0)
    assert predicted["rmse_ln_loss"]["nearest size"] == pytest.approx(np.sqrt(np.mean(miss**2)), rel=1e-5)
    assert predicted["size_factor"] == 3
    assert calibrated["tuned_on_held_out"] == "level on the first 10 points of the size"
    assert calibrated["n_points"] == predicted["n_points"] / 2 - 10  # of the run that goes on, not of the other seed
    assert calibrated["rmse_ln_loss"]["law"] == pytest.approx(0, abs=1e-4)
    assert intra["n_points"] == 300
    slopes = 0.13 / (1 + 12e9 / np.array(LADDER))
    miss = slopes[:, None] * np.log(np.arange(31, 61) / 30)
    assert intra["rmse_ln_loss"]["last value"] == pytest.approx(np.sqrt(np.mean(miss**2)))
    assert not any(entry["leak"] for entry in scores)


def test_the_reference_study_held_out():
    """72B from six sizes, compute axis, steps >= 11: slope and level at 10 points beat the size's own line."""
    scores = score_protocols("reference:qwen2.5_base", steps="11:")
    calibrated = scores[1]["rmse_ln_loss"]
    assert calibrated["line per size"] == pytest.approx(0.088, abs=0.001)
    assert calibrated["law"] == pytest.approx(0.029, abs=0.006)
    assert calibrated["law"] < calibrated["line per size"] < calibrated["last value"]
    assert scores[0]["bias_ln_loss"]["law"] == pytest.approx(0.058, abs=0.015)
    # The later part bends. Intervals from a line held 80 % of it; with the doubt about the law they hold.
    assert scores[2]["interval_coverage"] > 0.95


# ---------------------------------------------------------------- doubt about the law


def test_the_parts_of_an_interval_add_up_and_the_law_grows_beyond_the_window():
    curves = make_curves(synthetic(noise=1, runs=3))
    last = 512 * 60
    rows = forecast(curves, 7e9, [last / 3, 2 * last, 8 * last], x="prompts_seen")["predictions"]
    for row in rows:
        low, high = row["ci95_run"]
        assert sum(half**2 for half in row["parts"].values()) == pytest.approx(((high - low) / 2) ** 2, rel=0.1)
        low, high = row["if_law_holds"]["ci95_mean"]
        assert row["parts"]["parameters"] == pytest.approx((high - low) / 2)
        assert row["median"] is None
    inside, twice, eight = (row["parts"]["law"] for row in rows)
    assert inside < 0.3 * rows[0]["parts"]["evaluation"] < twice < eight


def test_a_curve_that_goes_flat_after_the_window_is_held():
    """The line says .64 at eight times the last X, the truth stays at .72."""
    table = synthetic(noise=1, runs=3)
    short = make_curves(table)
    row = forecast(short, 32e9, 512 * 60 * 8, x="prompts_seen")["predictions"][0]
    flat = table[(table["num_params"] == 32e9) & (table["step"] > 55)]["test_loss"].mean()
    by_law = row["if_law_holds"]["ci95_mean"]
    assert by_law[1] < flat < row["ci95_mean"][1]


def test_a_drop_in_the_curves_makes_a_median_of_its_own():
    """Flat, a fall about step 15, flat: the line goes on falling, the median of the draws does not."""
    table = synthetic(sizes=LADDER, noise=1, runs=3)
    rng = np.random.default_rng(0)
    fallen = 1 / (1 + (15 / np.maximum(table["step"], 1e-9)) ** 4)
    table["test_loss"] = rng.binomial(500, 0.8 - 0.4 * fallen) / 500
    found = forecast(make_curves(table), 9e9, 512 * 60 * 4, x="prompts_seen")
    (row,) = found["predictions"]
    assert found["verdict"]["verdict"] == "does not describe"
    assert row["loss"] < 0.33
    assert row["median"] == pytest.approx(0.4, abs=0.04)
    assert row["ci95_mean"][0] < 0.4 < row["ci95_mean"][1]


def test_every_law_has_intervals_about_its_own_curve():
    """The truth is a sigmoid: its interval is about its curve, not about a straight line, and holds the truth."""
    table = synthetic(sizes=LADDER[:3], runs=3, steps=40)
    rng = np.random.default_rng(1)
    rate = lambda x: 0.1 + 0.6 / (1 + (512 * 8 / np.maximum(x, 1)) ** 1.6)  # noqa: E731
    table["test_loss"] = rng.binomial(500, 1 - rate(table["prompts_seen"])) / 500
    curves, ahead = make_curves(table), 512 * 160.0
    by = {law: forecast(curves, 3e9, ahead, x="prompts_seen", law=law) for law in ("sigmoid", "per_size")}
    low, high = by["sigmoid"]["predictions"][0]["if_law_holds"]["ci95_mean"]
    assert low < 1 - rate(ahead) < high
    assert by["per_size"]["predictions"][0]["if_law_holds"]["ci95_mean"][1] < low
    assert not any("misses" in warning for warning in by["sigmoid"]["warnings"])
    assert [by[law]["verdict"]["verdict"] for law in ("sigmoid", "per_size")] == ["describes", "does not describe"]


# ---------------------------------------------------------------- leaks


def leaking(curves):
    """The published protocol for 72B: slopes from the smaller sizes, level from the very points to be predicted."""
    fit = fit_curves(curves, Choices(x="prompts_seen", split="inter"))
    rows = curves.table[(curves.table["num_params"] == SIZES[-1]) & (curves.table["step"] > 0)]
    y, x = np.log(rows["test_loss"]).to_numpy(), np.log(rows["prompts_seen"]).to_numpy()
    k = float(fit.efficiency(SIZES[-1]))
    return (y + k * x).mean() - k * x


def clean(curves):
    fit = add_intervals(fit_curves(curves, Choices(x="prompts_seen", split="inter")))
    rows = curves.table[(curves.table["num_params"] == SIZES[-1]) & (curves.table["step"] > 0)]
    return predict_new_size(fit, SIZES[-1], np.log(rows["prompts_seen"].to_numpy())).ln_loss


def test_a_planted_leak_is_caught_and_the_clean_pipeline_passes():
    curves = make_curves(synthetic(noise=1, runs=2))
    held = curves.table["num_params"] == SIZES[-1]
    assert detect_leak(leaking, curves, held)
    assert not detect_leak(clean, curves, held)


def test_a_leak_through_one_value_is_caught():
    curves = make_curves(synthetic(noise=1, runs=2))
    held = (curves.table["num_params"] == SIZES[-1]) & (curves.table["step"] == 60)

    def last(part):
        return np.array([part.table["test_loss"].iloc[-1]])

    assert detect_leak(last, curves, held)


def test_a_level_from_more_points_than_a_run_has_is_refused_and_takes_none_of_the_next_run():
    """Curves of 12 points: with 10 the two left are predicted, with 20 a second run would be used and predicted."""
    curves = make_curves(synthetic(sizes=LADDER, noise=1, runs=3, steps=12))
    entry = score_protocols(curves, x="prompts_seen", calibrate=10)[1]
    assert not entry["leak"] and entry["n_points"] == 12 - 10
    entry = score_protocols(curves, x="prompts_seen", calibrate=20)[1]
    assert entry["error"] == "run n4r0 has 12 points; its first 20 cannot set a level."


def test_calibration_points_are_declared_and_count_as_seen():
    """Disturbing the first points moves a calibrated forecast; disturbing later ones does not."""
    table = synthetic(sizes=LADDER, noise=1, runs=2)
    first = forecast(make_curves(table), 81e9, 3e4, x="prompts_seen", calibrate=10)["predictions"]
    late = (table["num_params"] == 81e9) & (table["step"] > 10)
    moved = table.assign(test_loss=table["test_loss"].where(~late, 0.9))
    assert forecast(make_curves(moved), 81e9, 3e4, x="prompts_seen", calibrate=10)["predictions"] == first
    early = (table["num_params"] == 81e9) & (table["step"] <= 10)
    moved = table.assign(test_loss=table["test_loss"].where(~early, 0.9))
    assert forecast(make_curves(moved), 81e9, 3e4, x="prompts_seen", calibrate=10)["predictions"] != first


# ---------------------------------------------------------------- the command line


def run(*words):
    code = "from scaling.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


def test_the_command_prints_one_document_and_says_what_it_rests_on():
    found = run("forecast", "reference:qwen2.5_base", "--size", "72e9", "--at", "2e20", "--where", "num_params <= 32e9",
                "--steps", "11:", "--json")  # fmt: skip
    document = json.loads(found.stdout)
    assert document["tuned_on_size"] == "nothing"
    low, high = document["predictions"][0]["ci95_run"]
    row = load("reference:qwen2.5_base").table.query("num_params == 72e9 and train_flops <= 2e20").iloc[-1]
    assert low < row["test_loss"] < high
    people = run("forecast", "reference:qwen2.5_base", "--size", "72e9", "--at", "2e20")
    assert "a fitted size" in people.stdout
    assert people.stdout.startswith("verdict     bends (")
    assert "(evaluation and seeds ±.03, parameters ±.01, law ±.0" in people.stdout
    assert "if the line goes on .40-.46" in people.stdout
    assert "efficiency" in people.stdout
    alone = run("forecast", "reference:qwen2.5_base", "--size", "72e9")
    assert alone.returncode == 2
    assert "together" in alone.stderr


def test_predictions_ignore_the_index_of_the_frame():
    table = synthetic(sizes=LADDER, noise=1).set_index(pd.Index(np.arange(5 * 61) * 3))
    one = score_protocols(make_curves(table), x="prompts_seen")
    assert json.dumps(one) == json.dumps(
        score_protocols(make_curves(synthetic(sizes=LADDER, noise=1)), x="prompts_seen")
    )
