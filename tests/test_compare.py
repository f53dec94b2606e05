"""Comparisons against data whose law and whose differences are known."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_curves import SIZES, synthetic
from test_laws import points_of, table_of

from analysis import compare_by, compare_laws
from analysis.curves.check import make_curves
from analysis.fitting.choices import Choices
from analysis.fitting.fit import fit_curves
from analysis.laws import get_law
from analysis.questions.laws import _stack
from analysis.words import study_in_words
from scaling.schema import InputError


def noisy(law, noise=0.004):
    table = table_of(get_law(law), points_of(get_law(law)))
    rng = np.random.default_rng(5)
    shaken = table["test_loss"] * np.exp(noise * rng.standard_normal(80))
    return make_curves(table.assign(test_loss=np.clip(shaken, 0, 1)))


@pytest.mark.parametrize("law", ["sigmoid", "efficiency"])
def test_the_law_that_made_the_curves_predicts_best(law):
    found = compare_laws(noisy(law), ["efficiency", "sigmoid", "per_size"])
    rows = {row["law"]: row for row in found["rows"]}
    wrong = "efficiency" if law == "sigmoid" else "sigmoid"
    assert rows[law]["rmse_rolling"] < 0.6 * rows[wrong]["rmse_rolling"]
    assert found["best"] in (law, "per_size" if law == "efficiency" else law)
    assert rows[law]["weight"] > rows[wrong]["weight"]
    assert sum(row["weight"] for row in found["rows"]) == pytest.approx(1)
    if law == "sigmoid":
        assert found["verdict"].startswith("sigmoid predicts") or "cannot tell" in found["verdict"]


def test_laws_that_are_equal_are_not_told_apart():
    curves = make_curves(synthetic(sizes=SIZES[1:6], noise=1))
    found = compare_laws(curves, ["efficiency", "per_size"], x="prompts_seen")
    assert "cannot tell" in found["verdict"]
    rows = {row["law"]: row for row in found["rows"]}
    assert abs(rows["efficiency"]["qaic"] - rows["per_size"]["qaic"]) < 25
    assert rows["efficiency"]["n_parameters"] == 7
    assert rows["per_size"]["n_parameters"] == 10
    assert rows["per_size"]["rmse_largest_size"] is None
    assert rows["efficiency"]["rmse_largest_size"] < 0.2


def test_rules_without_a_law_stand_beside_by_hand():
    found = compare_laws(make_curves(synthetic(steps=50)), ["efficiency", "per_size"], x="prompts_seen")
    assert found["n_held_out"] == 7 * 30
    k = 0.13 / (1 + 12e9 / np.array(SIZES))
    ratio = np.concatenate([np.arange(o + 1, o + 11) / o for o in (20, 30, 40)])
    miss = k[:, None] * np.log(ratio)
    assert found["baselines"]["last value"] == pytest.approx(np.sqrt(np.mean(miss**2)))
    assert found["baselines"]["line per size"] == pytest.approx(0, abs=1e-8)


def test_no_value_after_an_origin_moves_a_prediction():
    """Disturbing the last block moves only its own errors: the fits before it never saw it."""
    table = synthetic(noise=1, steps=50)
    late = table["step"] > 40
    moved = table.assign(test_loss=table["test_loss"].where(~late, 0.5))

    for share in (0.4, 0.6, 0.8):
        one, two = (
            fit_curves(make_curves(t), Choices("per_size", "prompts_seen", split=f"intra:{share}")).per_size
            for t in (table, moved)
        )
        assert one == two


def test_stacked_weights_are_the_best_mixture():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 200))
    weights = _stack(np.array([a, b]), 0.3 * a + 0.7 * b)
    assert weights == pytest.approx([0.3, 0.7], abs=1e-3)


def test_qaic_is_withheld_where_it_is_not_valid():
    found = compare_laws(
        make_curves(synthetic(noise=1)), ["efficiency", "per_size"], x="prompts_seen", objective="linear"
    )
    assert [row["qaic"] for row in found["rows"]] == [None, None]


@pytest.mark.parametrize(
    ("laws", "words"),
    [
        (["efficiency"], "two laws"),
        (["efficiency", "sigmoidd"], "Did you mean sigmoid"),
        (["tau", "per_size"], "same curves"),
    ],
)
def test_bad_sets_of_laws_are_one_line(laws, words):
    with pytest.raises(InputError, match=words):
        compare_laws(make_curves(synthetic()), laws, x="prompts_seen")


def test_a_law_that_cannot_be_fitted_is_told_and_the_others_go_on():
    found = compare_laws(make_curves(synthetic(steps=7)), ["efficiency", "sigmoid"], x="prompts_seen")
    assert "4 parameters" in found["rows"][1]["error"]
    assert found["rows"][0]["rmse_rolling"] >= 0


# ---------------------------------------------------------------- algorithms


def pairs(seeds=3, gain=2.0):
    """papo reaches every loss with 1/gain of the compute: same slope, level lower by k ln gain; seeds shift both."""
    frames = []
    for seed in range(seeds):
        for algorithm, factor in (("grpo", 1.0), ("papo", gain * np.exp(0.1 * (seed - 1)))):
            x = np.geomspace(1e10, 1e13, 25)
            loss = 0.9 * (x * factor / 1e10) ** -(0.08 + 0.004 * seed)
            frames.append(pd.DataFrame({
                "run_id": f"{algorithm}{seed}", "algorithm": algorithm, "seed": seed, "num_params": 5e4,
                "step": np.arange(1, 26), "train_flops": x, "test_loss": loss,
            }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def test_the_multiplier_of_known_curves():
    found = compare_by(make_curves(pairs()))
    (one,) = found["comparisons"]
    assert (one["algorithm"], one["baseline"], one["n_pairs"]) == ("papo", "grpo", 3)
    assert one["efficiency"]["mean"] == pytest.approx(0, abs=1e-6)
    k, gain = 0.08 + 0.004 * np.arange(3), np.log(2) + 0.1 * (np.arange(3) - 1)
    expected = stats.ttest_1samp(-k * gain, 0).confidence_interval()
    assert one["level"]["mean"] == pytest.approx(np.mean(-k * gain), rel=1e-4)
    assert one["level"]["ci95"] == pytest.approx([expected.low, expected.high], rel=1e-3)
    assert len(one["multiplier"]) == 7
    for row in one["multiplier"]:
        assert row["multiplier"] == pytest.approx(2, rel=1e-4)
    # One size: its band is the t interval of the pairs at 1.67 %, for three losses at once.
    ends = stats.ttest_1samp(k * gain, 0).confidence_interval(1 - 0.05 / 3)
    middle = one["multiplier"][3]["ci95"]
    assert np.log(middle) == pytest.approx(np.array([ends.low, ends.high]) / k.mean(), abs=0.25)
    (study,) = found["studies"]
    assert study["difference_shown"] and study["shown_at"] == [5e4]
    assert study["ci95"][0] < 2 < study["ci95"][1]


def test_one_pair_has_no_interval_and_unpaired_runs_are_named():
    table = pairs(2)
    found = compare_by(make_curves(table[table["run_id"] != "papo1"]))
    (one,) = found["comparisons"]
    assert one["efficiency"]["ci95"] is None
    assert not one["multiplier"][0]["identified"]
    assert found["unpaired"] == ["algorithm grpo: grpo1"]


def test_a_baseline_can_be_chosen():
    found = compare_by(make_curves(pairs()), baseline="papo")
    assert found["comparisons"][0]["multiplier"][3]["multiplier"] == pytest.approx(0.5, rel=1e-4)
    with pytest.raises(InputError, match="Did you mean papo"):
        compare_by(make_curves(pairs()), baseline="pap")


def test_runs_of_another_condition_are_never_paired_with_these():
    """Another task at the same size and seeds: two comparisons, each with its own pairs."""
    table = pairs()
    noisy = table.assign(run_id="n" + table["run_id"], task="noisy chain", test_loss=0.5 + table["test_loss"] / 2)
    curves = make_curves(pd.concat([table.assign(task="chain"), noisy], ignore_index=True))
    found = compare_by(curves)["comparisons"]
    assert {one["condition"] for one in found} == {"task chain", "task noisy chain"}
    assert [one["n_pairs"] for one in found] == [3, 3]
    clean = next(one for one in found if one["condition"] == "task chain")
    assert clean["multiplier"][3]["multiplier"] == pytest.approx(2, rel=1e-4)


def test_curves_that_rise_have_no_multiplier():
    table = pairs()
    table.loc[table["run_id"] == "grpo0", "test_loss"] = np.linspace(0.3, 0.5, 25)
    (one,) = compare_by(make_curves(table))["comparisons"]
    assert one["multiplier"] == []
    assert one["no_multiplier"] == "a run's loss does not fall"


@pytest.mark.parametrize(
    "losses",
    [
        lambda t: np.random.default_rng(2).binomial(500, np.linspace(0.3, 0.5, 25)[np.arange(len(t)) % 25]) / 500,
        lambda t: np.random.default_rng(0).binomial(500, 0.4, len(t)) / 500,
        lambda t: 1.0,
        lambda t: 0.0,
    ],
)
def test_where_no_loss_falls_there_is_neither_a_multiplier_nor_a_power(losses):
    found = compare_by(make_curves(pairs().assign(test_loss=losses, eval_problems=500)))
    (study,) = found["studies"]
    assert not study["difference_shown"]
    assert study["multiplier"] is None and study["ci95"] is None and study["power_at_1.5"] is None
    assert study_in_words(study, str) == (
        "no difference shown over 1 size; the losses do not fall, so there is no multiplier"
    )
    assert found["comparisons"][0]["multiplier"] == []
    assert found["comparisons"][0]["no_multiplier"] in ("the losses do not fall", "a run's loss does not fall")


def test_levels_that_differ_where_no_loss_falls_are_shown_without_a_multiplier():
    def level(table):
        noise = np.random.default_rng(1).normal(1, 0.01, len(table))
        return np.where(table["algorithm"] == "papo", 0.3, 0.5) * noise

    (study,) = compare_by(make_curves(pairs().assign(test_loss=level)))["studies"]
    assert study["difference_shown"] and study["multiplier"] is None
    assert study_in_words(study, str).startswith("the levels differ over 1 size (p = ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t[t["algorithm"] == "grpo"], "only grpo"),
        (lambda t: t.drop(columns="seed"), "column seed"),
        (lambda t: t.assign(seed=t["seed"] + 10 * (t["algorithm"] == "papo")), "nothing is paired"),
        (lambda t: t.assign(seed=0), "share seed 0"),
    ],
)
def test_what_cannot_be_paired_is_one_line(change, words):
    with pytest.raises(InputError, match=words):
        compare_by(make_curves(change(pairs())))


def test_the_command(tmp_path):
    pairs().to_csv(tmp_path / "pairs.csv", index=False)
    code = "from scaling.cli import main; main()"

    def run(*words):
        return subprocess.run([sys.executable, "-c", code, "compare", *words], capture_output=True, text=True)

    document = json.loads(run(str(tmp_path / "pairs.csv"), "--by", "algorithm", "--json").stdout)
    assert document["comparisons"][0]["n_pairs"] == 3
    assert "times less" in run(str(tmp_path / "pairs.csv"), "--by", "algorithm").stdout
    document = json.loads(run("reference:qwen2.5_base", "--laws", "efficiency,per_size", "--json").stdout)
    assert {row["law"] for row in document["rows"]} == {"efficiency", "per_size"}
    assert document["verdict"]
    assert run("reference:qwen2.5_base").returncode == 2
