"""The protocol of ScaleRL: a measured start, a fitted first part, the rest predicted, asymptotes compared."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.curves.check import make_curves
from analysis.questions.asymptote import difference_ends
from scaling.schema import InputError

R0, MIDDLE, STEEP = 0.15, 2e15, 1.1
A = {"grpo": 0.7, "papo": 0.82}


def curves(seed=0, recipes=("grpo", "papo"), seeds=4, start=True):
    """Sigmoids of two recipes at one size, 1,000 questions, A of a run .01 about that of its recipe."""
    rng, frames = np.random.default_rng(seed), []
    step = np.arange(0 if start else 1, 41)
    x = 4e14 * step
    for recipe in recipes:
        for run in range(seeds):
            a = A[recipe] + 0.01 * rng.standard_normal()
            with np.errstate(divide="ignore"):
                rate = R0 + (a - R0) / (1 + (MIDDLE / x) ** STEEP)
            frames.append(pd.DataFrame({
                "run_id": f"{recipe}{run}", "num_params": 1e9, "seed": run, "algorithm": recipe, "step": step,
                "train_flops": x, "test_loss": rng.binomial(1000, 1 - rate) / 1000, "eval_problems": 1000,
            }))  # fmt: skip
    return make_curves(pd.concat(frames))


def test_the_asymptote_and_the_rest_of_the_curve_are_those_of_the_truth():
    document = analysis.asymptote(curves(), by="algorithm", share=0.6, cut=0.03)
    for row in document["rows"]:
        truth = A[row["algorithm"]]
        assert row["r0_measured"] and row["r0"] == pytest.approx(R0, abs=0.03)
        assert row["ci95"][0] < truth < row["ci95"][1] and row["ci95"][1] - row["ci95"][0] < 0.3
        at_end = R0 + (truth - R0) / (1 + (MIDDLE / 1.6e16) ** STEEP)
        assert row["rest"]["x"] == 1.6e16 and row["rest"]["x_factor"] == pytest.approx(1 / 0.6)
        assert row["rest"]["predicted"] == pytest.approx(at_end, abs=0.04)
        assert row["rest"]["ci95"][0] < at_end < row["rest"]["ci95"][1]
    (one,) = document["differences"]
    assert one["algorithm"] == "papo" and one["ci95"][0] < 0.12 < one["ci95"][1]


def test_the_difference_of_two_asymptotes_is_seldom_established_where_there_is_none(monkeypatch):
    monkeypatch.setitem(A, "papo", A["grpo"])
    said = [analysis.asymptote(curves(seed), by="algorithm", share=0.9)["differences"][0] for seed in range(10)]
    assert sum(one["established"] for one in said) <= 2  # 5 % of 10; more than 2 has probability .012
    assert sum(one["ci95"][0] <= 0 <= one["ci95"][1] for one in said) >= 8


def test_ends_of_a_difference_by_hand():
    # .8 [.7, .95] minus .6 [.56, .68]: .2 - sqrt(.01 + .0064), .2 + sqrt(.0225 + .0016)
    ends = difference_ends((0.8, (0.7, 0.95)), (0.6, (0.56, 0.68)))
    assert ends == pytest.approx((0.2 - np.sqrt(0.0164), 0.2 + np.sqrt(0.0241)))
    assert difference_ends((0.8, (0.7, None)), (0.6, (0.56, 0.68)))[1] is None


def test_a_start_that_was_not_measured_is_fitted_and_said():
    (row,) = analysis.asymptote(curves(recipes=["grpo"], start=False), share=1.0)["rows"]
    assert not row["r0_measured"] and row["rest"] is None


@pytest.mark.parametrize(("given", "said"), [
    ({"share": 0.01}, "cut 0.02 and share 0.01"), ({"share": 1.5}, "share 1.5"),
    ({"by": "seeds"}, "not a known column"),
    ({"law": "sigmoid"}, "law"),
])  # fmt: skip
def test_bad_input_is_one_line(given, said):
    with pytest.raises(InputError, match=said):
        analysis.asymptote(curves(seeds=2), **given)


def test_too_few_points_are_an_error_of_that_row():
    (row,) = analysis.asymptote(curves(recipes=["grpo"], seeds=2), share=0.1, cut=0.05)["rows"]
    assert "widen share" in row["error"]


def test_the_command_prints_one_document(tmp_path):
    curves(seeds=2).table.to_csv(tmp_path / "curves.csv", index=False)
    command = [sys.executable, "-m", "scaling", "asymptote", str(tmp_path / "curves.csv"), "--by", "algorithm"]
    printed = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    assert {row["algorithm"] for row in json.loads(printed)["rows"]} == {"grpo", "papo"}
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "asymptote A" in shown and "A of papo minus grpo at 1e9" in shown


def test_runs_of_another_condition_are_fitted_and_compared_apart():
    reused = curves(seed=1).table.assign(reuse_factor=32.0, run_id=lambda rows: "reused-" + rows["run_id"])
    reused["test_loss"] = 1 - 0.6 * (1 - reused["test_loss"])
    both = make_curves(pd.concat([curves().table.assign(reuse_factor=1.0), reused]))
    alone = analysis.asymptote(curves(), by="algorithm")
    document = analysis.asymptote(both, by="algorithm")
    assert [(row["algorithm"], row["condition"]) for row in document["rows"]] == [
        (recipe, f"reuse factor {tau}") for recipe in ("grpo", "papo") for tau in (1, 32)
    ]
    assert document["rows"][0]["asymptote"] == alone["rows"][0]["asymptote"]
    assert [one["condition"] for one in document["differences"]] == ["reuse factor 1", "reuse factor 32"]
    # Without `by` the algorithm is a condition, too.
    assert {row["condition"] for row in analysis.asymptote(curves())["rows"]} == {"grpo", "papo"}


def test_an_unknown_column_is_answered_with_those_that_are_constant_in_a_run():
    with pytest.raises(InputError) as told:
        analysis.asymptote(curves(), by="algoritm")
    assert str(told.value) == (
        "'algoritm' is not a known column that is constant in a run; there are: run_id, num_params, seed, algorithm, "
        "eval_problems. Did you mean algorithm?"
    )
