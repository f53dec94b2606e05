"""The side-by-side parts of the report: their numbers are those of the functions behind them, and reasons are told."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from synthetic_curves import study_table, synthetic

import analysis
from analysis import compare_by, compare_laws, figures, forecast, make_curves, score_protocols
from analysis.fitting.choices import Choices
from analysis.missing import Missing
from analysis.questions.envelope import envelope
from analysis.questions.finals import evaluations
from analysis.questions.pairs import effects
from analysis.questions.scores import ProtocolScore
from analysis.reporting import laws as laws_section
from analysis.reporting.budgets import BUDGETS, size_budgets
from analysis.reporting.effects import algorithm_effects
from analysis.reporting.forecasts import forecasts, score_verdict
from analysis.reporting.laws import laws, thousandths
from analysis.reporting.next_runs import next_runs, next_sentence, next_status
from analysis.reporting.reuse import reuse_costs
from analysis.words import interval, number, size_labels
from scaling.schema import InputError

SIZES = [1e9, 3e9, 9e9, 27e9]
CHOICES = Choices(x="prompts_seen")


def parts(table, **choices):
    curves = make_curves(table)
    found = analysis.fit(curves, **{"x": "prompts_seen", **choices})
    return curves, found, size_labels(evaluations(curves))


@pytest.fixture(scope="module")
def study():
    return parts(synthetic(sizes=SIZES, runs=2, noise=1, steps=40))


def column(table, heading):
    """The cells of a column as shown."""
    place = [column.heading for column in table.columns].index(heading)
    return [row[place] for row in table.text()]


# ---------------------------------------------------------------- forecasts


def test_the_table_of_forecasts_holds_the_scores(study):
    section = forecasts(study[0], study[1], CHOICES, study[2])
    table = section.tables["forecasts"]
    scores = score_protocols(study[0], x="prompts_seen", calibrate=10, fraction=0.3)
    assert table.frame["protocol"].tolist() == [entry["protocol"] for entry in scores]
    for row, entry in zip(table.frame.to_dict("records"), scores, strict=True):
        for rule, value in entry["rmse_ln_loss"].items():
            assert row[f"rmse_{rule}"] == value
        assert row["bias_law"] == entry["bias_ln_loss"]["law"]
        assert (row["coverage"], row["points"]) == (entry["interval_coverage"], entry["n_points"])
    assert column(table, "status") == ["scored"] * 3
    assert column(table, "tuned on it") == ["nothing", "level", "nothing"]
    assert column(table, "N factor") == ["3.0 ×", "3.0 ×", "–"]
    assert column(table, "nearest size")[2] == "–"
    beaten = [all(v > e["rmse_ln_loss"]["law"] for k, v in e["rmse_ln_loss"].items() if k != "law") for e in scores]
    assert section.sentences[0].startswith("The law beats every simple baseline in all 3 tests") == all(beaten)
    assert section.sentences[0].startswith("The law loses to a simple baseline in ") != all(beaten)


def scored(law, *, leak=False, **rules):
    errors = {"law": law, **{k.replace("_", " "): v for k, v in rules.items()}}
    return ProtocolScore("p", "inter", {"leak": leak, "rmse_ln_loss": errors})


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([scored(0.1, last_value=0.2)], "The law beats every simple baseline in the one test."),
        ([scored(0.1, last_value=0.2)] * 3, "The law beats every simple baseline in all 3 tests."),
        ([scored(0.1, last_value=0.2), scored(0.3, last_value=0.2)], "The law loses to a simple baseline in 1 of the 2 "
         "tests, in ln L: p: .200 by the last value, .300 by the law."),
        ([scored(0.1, last_value=0.2)] * 2, "The law beats every simple baseline in both tests."),
        ([scored(0.3, line_per_size=0.3)] * 3, "The law loses to a simple baseline in all 3 tests"),
        ([scored(0.3, line_per_size=0.3)], "The law loses to a simple baseline in the one test"),
        ([ProtocolScore("p", "inter", Missing("no"))], "nothing here says that the law predicts"),
        ([scored(0.1, last_value=0.2, leak=True)], "nothing here says that the law predicts"),
    ],
)  # fmt: skip
def test_the_verdict_on_forecasts(scores, words):
    assert words in score_verdict(scores)


def test_a_forecast_that_cannot_be_made_says_why():
    curves, found, labels = parts(synthetic(sizes=SIZES[:2], runs=2, noise=1, steps=12))
    section = forecasts(curves, found, CHOICES, labels)
    assert column(section.tables["forecasts"], "status") == ["not made", "not made", "scored"]
    assert column(section.tables["forecasts"], "law")[0] == "–"
    assert sum("needs three sizes or more" in sentence for sentence in section.sentences) == 2
    # 30 % of 12 points is a level from three, and too few for lines: half of each curve is fitted.
    assert column(section.tables["forecasts"], "protocol")[1:] == [
        "inter-model, level from 3 points", "intra-model, first 50 %",
    ]  # fmt: skip


def test_the_next_run_is_the_forecast(study):
    section = next_runs(study[0], study[1], CHOICES, study[2])
    new, more = section.tables["next_runs"].frame.to_dict("records")
    assert (new["num_params"], new["x"]) == (pytest.approx(81e9), pytest.approx(512 * 40))
    assert (more["num_params"], more["x"]) == (27e9, pytest.approx(4 * 512 * 40))
    for row in (new, more):
        predicted = forecast(study[0], row["num_params"], row["x"], x="prompts_seen")["predictions"][0]
        assert row["loss"] == predicted["loss"]
        assert [row["mean_low"], row["mean_high"]] == predicted["ci95_mean"]
        assert [row["run_low"], row["run_high"]] == predicted["ci95_run"]
    assert f"L = {number(new['loss'])}, 95 % " in section.sentences[0]
    assert "level linear in ln N over 4 sizes, nothing tuned on the size" in section.sentences[0]


def test_a_next_run_without_an_interval_or_a_law_says_so(study):
    curves, found, labels = study
    three = curves.where("num_params < 20e9")
    said = next_runs(three, found, replace(CHOICES, law="efficiency_log_level"), labels)
    assert "without an interval" in said.sentences[0]
    assert column(said.tables["next_runs"], "status")[0] == "no interval"
    said = next_runs(curves, found, replace(CHOICES, law="per_size"), labels)
    assert said.sentences[0].startswith("No forecast of the next size, 81B")
    assert "says nothing of a size that was not fitted" in said.sentences[0]
    assert column(said.tables["next_runs"], "status") == ["not made", "predicted"]


def test_a_forecast_that_reaches_a_loss_of_one_is_not_identified():
    row = {"reason": "", "num_params": 4e5, "x": 1e11, "loss": 0.009, "identified": False, "law": "efficiency"}
    row |= {"mean_low": 1e-5, "mean_high": 1.0, "run_low": 1e-5, "run_high": 1.0, "rests_on": "four sizes"}
    said = next_sentence(row, "the next size, 400k (2.7 × m 152k), at C = 10¹¹ FLOPs")
    assert "the loss is not identified, 95 % [< .001, 1.000] for the mean curve" in said
    assert next_status(row) == "not identified"


# ---------------------------------------------------------------- budgets


def lines_of(levels, slopes, noise=0.01):
    """Two runs a size: ln L = level - slope ln(x / 1e10) with a small scatter; sizes 1, 2, ... times 1e4."""
    rng = np.random.default_rng(0)
    frames = []
    for i, (level, slope) in enumerate(zip(levels, slopes, strict=True)):
        for run in (0, 1):
            x = np.geomspace(1e10, 1e13, 15)
            ln_loss = level - slope * np.log(x / 1e10) + noise * rng.standard_normal(15)
            frames.append(pd.DataFrame({
                "run_id": f"n{i}r{run}", "num_params": 1e4 * (i + 1), "seed": run, "step": np.arange(1, 16),
                "train_flops": x, "test_loss": np.exp(ln_loss),
            }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def budgets():
    """The second size overtakes the first at exp(3) x 1e10; the third rises with compute."""
    _, found, labels = parts(lines_of([-0.4, -0.1, -0.05], [0.05, 0.15, -0.001]), x="train_flops", law="per_size")
    return size_budgets(found, envelope(found), labels, {"sigmoid": 0.02, "efficiency_log_level": 0.5}, found)


def test_best_size_by_budget_and_where_sizes_cross(budgets):
    best = budgets.tables["segments"].frame
    assert best["best"].tolist() == [1e4, 2e4]
    assert best["to"].iloc[0] == pytest.approx(math.exp(3) * 1e10, rel=0.2)
    crossing = budgets.tables["crossovers"].frame.iloc[0]
    assert crossing["x"] == pytest.approx(math.exp(3) * 1e10, rel=0.2)
    assert crossing["low"] < math.exp(3) * 1e10 < crossing["high"]
    assert column(budgets.tables["crossovers"], "status") == ["identified", "not identified"]
    assert column(budgets.tables["crossovers"], "indistinguishable within")[1] == "–"
    assert budgets.sentences[0] == "Of 2 crossings of neighbouring sizes 1 is identified."


def test_a_law_with_curves_has_no_lines_in_the_words_of_budgets():
    table = synthetic(sizes=SIZES, runs=1, noise=1, steps=30)
    _, found, labels = parts(table, x="train_flops", law="power_plateau")
    section = size_budgets(found, envelope(found), labels, {}, found)
    assert section.tables["segments"].note.startswith("Best: the lowest curve by the law at the budget.")
    assert "only one run" not in str(section.tables["segments"].text())
    assert "line" not in section.tables["crossovers"].note + section.tables["crossovers"].columns[2].heading
    drawn = figures.frontier(found.curves, found)
    assert "the lowest curve" in drawn.caption and "lowest line" not in drawn.caption + drawn.finding


def test_what_a_loss_costs(budgets):
    """Finals: -.4 - .05 ln(1000), -.1 - .15 ln(1000), about 0 in ln L: their median is that of the first size."""
    table = budgets.tables["cost"]
    target = table.frame["target"].iloc[0]
    assert math.log(target) == pytest.approx(-0.4 - 0.05 * math.log(1000), abs=0.04)
    second = math.exp((-0.1 - math.log(target)) / 0.15) * 1e10
    assert table.frame["x"].iloc[1] == pytest.approx(second, rel=0.1)
    assert column(table, "status")[1:] == ["reached", "never"]
    assert any("never reaches it: the line does not fall" in s for s in budgets.sentences)
    assert any(f"L = {number(target)}, the median over the sizes" in s for s in budgets.sentences)


def test_a_law_without_a_level_names_the_law_that_has_one_and_how_it_predicts(budgets):
    assert "continuous" not in budgets.tables
    assert "such as efficiency_log_level" in budgets.sentences[-1]
    assert (
        "efficiency_log_level predicts the rest of a curve with an rmse of .500 in ln L, beside .020 for sigmoid"
        in (budgets.sentences[-1])
    )


def test_the_continuous_frontier_where_the_law_has_a_level(study):
    curves = study[0]
    found = analysis.fit(curves, law="efficiency_log_level")
    section = size_budgets(found, envelope(found), study[2], {}, found)
    frame = section.tables["continuous"].frame
    assert len(frame) == BUDGETS
    known = int(frame["identified"].sum())
    assert f"the best size is identified at {known} of 7 budgets" in section.sentences[-1]
    assert column(section.tables["continuous"], "status").count("identified") == known


def test_reuse_and_group_size():
    curves = make_curves(study_table(seeds=(0, 1, 2)))
    section = reuse_costs(curves, None)
    assert section.sentences[0].startswith("The final loss is worse from τ = 32 on")
    assert section.sentences[0].endswith("the next lower that was run is 1.")
    assert column(section.tables["reuse_differences"], "status") == ["worse"]
    assert reuse_costs(make_curves(synthetic(runs=1)), None).tables == {}


# ---------------------------------------------------------------- laws


def test_the_table_of_laws_is_the_comparison_and_failures_are_named(monkeypatch):
    monkeypatch.setattr(laws_section, "LAWS", ("efficiency", "per_size", "efficiency_log_level", "sigmoid"))
    curves, found, _ = parts(synthetic(sizes=SIZES, runs=2, noise=1, steps=8))
    section, scores = laws(curves, found, CHOICES)
    expected = compare_laws(curves, laws_section.LAWS, x="prompts_seen")
    table = section.tables["laws"]
    assert section.sentences == [expected["verdict"]]
    for row in expected["rows"]:
        shown = table.frame[table.frame["law"] == row["law"]].iloc[0]
        if row["error"]:
            assert shown["status"] == "not fitted" and row["error"].rstrip(".") in table.note
            continue
        assert shown["rmse_rolling"] == row["rmse_rolling"] == scores[row["law"]]
        assert (shown["weight"], shown["n_parameters"]) == (row["weight"], row["n_parameters"])
        if row["difference"]:
            assert shown["difference"] == row["difference"]["mean"]
    assert table.frame["law"].iloc[0] == expected["best"] and table.frame["status"].iloc[0] == "least error"
    assert "sigmoid" not in scores
    rules = table.frame[table.frame["status"] == "rule"]
    assert rules["rmse_rolling"].tolist() == list(expected["baselines"].values())


def test_small_squares_keep_their_digits():
    assert [thousandths(v) for v in (1.4e-6, 1.79e-4, -0.0612, 0.8153, 0.0)] == [
        "+.001", "+.179", "−61.2", "+815", ".000",
    ]  # fmt: skip


def test_laws_that_cannot_be_compared_say_why():
    curves, found, _ = parts(synthetic(sizes=SIZES, runs=2, steps=2))
    section, scores = laws(curves, found, CHOICES)
    assert section.tables == {} and scores == {}
    assert section.sentences[0].startswith("Laws are not compared: ")


# ---------------------------------------------------------------- algorithms


def pairs(seeds, gain=2.0):
    """papo needs 1/gain of the compute of grpo for the same loss; seeds shift the gain by 5 %."""
    frames = []
    for seed in range(seeds):
        for algorithm, factor in (("grpo", 1.0), ("papo", gain * math.exp(0.05 * (seed - 1)))):
            x = np.geomspace(1e10, 1e13, 25) * (1 + 1e-9 * seed)  # no copies
            frames.append(pd.DataFrame({
                "run_id": f"{algorithm}{seed}", "algorithm": algorithm, "seed": seed, "num_params": 5e4,
                "step": np.arange(1, 26), "train_flops": x, "test_loss": 0.9 * (x * factor / 1e10) ** -0.08,
            }))  # fmt: skip
    return make_curves(pd.concat(frames, ignore_index=True))


def test_effective_compute_of_known_curves():
    curves = pairs(3)
    given = effects(curves, Choices(), {5e4: "s 50k"})
    section = algorithm_effects(given)
    row = section.tables["algorithm_effects"].frame.iloc[0]
    one = compare_by(curves)["comparisons"][0]
    assert row["first_multiplier"] == pytest.approx(2) and row["last_multiplier"] == pytest.approx(2)
    assert row["intercept"] == pytest.approx(-0.08 * math.log(2), rel=1e-3)  # equal slopes: E differs as the level does
    ends = interval(one["multiplier"][-1]["ci95"])
    assert section.sentences[0].startswith("PAPO against GRPO: 2.00 times less compute [1.77, 2.26] over 1 size")
    assert section.sentences[0].endswith("; shown at s 50k.")
    assert f"GRPO needs 2.00 times the compute of PAPO ({ends}, from 3 pairs only)" in section.sentences[1]
    drawn = figures.multiplier(given, [5e4])
    assert drawn.table["multiplier"].tolist() == pytest.approx([2.0] * 7)
    assert f"is 2.00 {ends} over 3 pairs. PAPO against GRPO: 2.00 times less compute" in drawn.finding


def test_one_pair_has_no_interval_and_no_figure():
    given = effects(pairs(1), Choices(), {5e4: "s 50k"})
    section = algorithm_effects(given)
    assert "not compared over sizes: one pair at each size" in section.sentences[0]
    assert "neither that difference nor an effective-compute multiplier is identified" in section.sentences[1]
    assert column(section.tables["algorithm_effects"], "multiplier, lowest L") == ["not identified"]
    with pytest.raises(InputError, match="two pairs or more"):
        figures.multiplier(given, [5e4])


def test_one_algorithm_is_a_reason():
    with pytest.raises(InputError, match="there is only grpo"):
        effects(make_curves(synthetic()), Choices(), {})
    assert algorithm_effects(Missing("there is only grpo.")).sentences == [
        "Slopes and compute are not compared: there is only grpo."
    ]
