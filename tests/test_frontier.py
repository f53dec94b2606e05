"""Frontiers against closed forms and brute force."""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from analysis import frontier
from analysis.curves.check import make_curves
from analysis.curves.load import load
from analysis.fitting.choices import Choices
from analysis.fitting.fit import fit_curves
from analysis.intervals.fitted import fit_with_intervals
from analysis.intervals.record import add_intervals
from analysis.laws import get_law
from analysis.laws.group_size import optimal_group
from analysis.printed import show_frontier
from analysis.questions.cost import cost_to_target, crossovers
from analysis.questions.envelope import Envelope, envelope, segments, switches
from analysis.questions.groups import group_law
from analysis.questions.optimum import continuous, optimal_sizes
from analysis.questions.reuse import reuse_threshold
from scaling.schema import InputError

# ln L = level - k ln X: lines that cross at ln X = (E2 - E1) / (k2 - k1).
LINES = {1e6: (0.6, 0.02), 4e6: (1.2, 0.06), 16e6: (2.4, 0.12)}


def table(noise=0.0, runs=2, seed=0):
    rng = np.random.default_rng(seed)
    frames = []
    for size, (level, k) in LINES.items():
        for run in range(runs):
            x = np.geomspace(1e10, 1e20, 40)
            loss = np.exp(level - k * np.log(x) - 0.9 + noise * rng.standard_normal(40)) * (1 + 1e-12 * run)
            frames.append(pd.DataFrame({
                "run_id": f"{size:g}-{run}", "num_params": size, "seed": run, "step": np.arange(1, 41),
                "train_flops": x, "test_loss": loss,
            }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def fitted(law="per_size", **options):
    return add_intervals(fit_curves(make_curves(table(**options)), Choices(law=law)))


def test_crossovers_are_where_the_lines_cross():
    found = crossovers(fitted(noise=0.002))
    assert np.log(found[0]["x"]) == pytest.approx((1.2 - 0.6) / (0.06 - 0.02), abs=0.4)
    assert np.log(found[1]["x"]) == pytest.approx((2.4 - 1.2) / (0.12 - 0.06), abs=0.4)
    # The first lies below what was run (e^15), the second just below (e^20): not identified.
    assert [entry["inside"] for entry in found] == [False, False]
    assert not any(entry["identified"] for entry in found)


def test_a_crossover_inside_has_a_closed_band_and_the_segments_meet_there():
    LINES[4e6] = (0.6 + 0.04 * 30, 0.06)
    try:
        fit = fitted(noise=0.002)
    finally:
        LINES[4e6] = (1.2, 0.06)
    entry = crossovers(fit)[0]
    assert np.log(entry["x"]) == pytest.approx(30, abs=0.5)
    assert entry["identified"]
    assert entry["ci95"][0] < np.exp(30) < entry["ci95"][1]
    rows = segments(envelope(fit))
    assert all(a["to"] <= b["from"] for a, b in pairwise(rows))
    assert {row["best"] for row in rows} <= set(LINES)


def test_the_envelope_has_the_crossing_of_the_pair_with_the_same_interval(monkeypatch):
    monkeypatch.setitem(LINES, 4e6, (0.6 + 0.04 * 30, 0.06))
    monkeypatch.delitem(LINES, 16e6)
    fit = fitted(noise=0.002)
    (switch,), (entry,) = switches(envelope(fit)), crossovers(fit)
    assert (switch["before"], switch["after"]) == (entry["smaller"], entry["larger"])
    assert [switch["x"], *switch["ci95"]] == pytest.approx([entry["x"], *entry["ci95"]], rel=1e-6)


def test_no_crossover_excludes_its_own_point():
    """Noisy studies of every kind: the interval of a switch holds it, or is open; before it could have no width."""
    for noise in (0.0005, 0.002, 0.01):
        for seed in range(4):
            for row in switches(envelope(fitted(noise=noise, seed=seed))):
                low, high = row["ci95"]
                assert (low is None or low < row["x"]) and (high is None or high > row["x"]), row


def test_doubt_about_the_law_holds_a_crossing_that_bent_curves_move():
    """Truth: the smaller size stops learning at ln X = 33, and the larger passes it at ln X = 36; lines through the
    whole of the curves cross elsewhere."""
    rows = table(noise=0.004, runs=3)
    rows = rows[rows["num_params"] > 1e6].copy()
    ln_x, small = np.log(rows["train_flops"]), rows["num_params"] == 4e6
    eta = np.where(small, -1.6 - 0.06 * (np.minimum(ln_x, 33) - 33), -1.6 - 0.09 * (ln_x - 36))
    noise = 0.004 * np.random.default_rng(1).standard_normal(len(rows))
    rows["test_loss"] = np.exp(np.array(eta) + noise)
    (entry,) = crossovers(fit_with_intervals(make_curves(rows), Choices(law="per_size")))
    low, high = entry["ci95"]
    assert low < np.exp(36) < high < 10 * low


def test_the_envelope_is_the_least_of_the_lines():
    fit = fitted()
    found = envelope(fit)
    lines = np.array([np.exp(level - 0.9 - k * np.log(found.x)) for level, k in LINES.values()])
    run = np.isfinite(found.lowest)
    assert run.mean() > 0.98
    assert found.lowest[run] == pytest.approx(lines.min(0)[run], rel=1e-6)


def test_the_cost_of_a_loss_inverts_the_line():
    for row, (level, k) in zip(cost_to_target(fitted(noise=0.001), 0.5), LINES.values(), strict=True):
        truth = np.exp((level - 0.9 - np.log(0.5)) / k)
        if truth > 1e23:
            assert row["x"] is None
            assert "not within 1000 times" in row["why"]
        else:
            assert row["x"] == pytest.approx(truth, rel=0.2)
            low, high = row["if_law_holds"]["ci95"]
            assert low < truth < high
            # An open end says that the loss may not be reached if the line does not go on.
            assert row["ci95"][0] <= low and (row["ci95"][1] is None or high <= row["ci95"][1])
            assert (row["ci95"][1] is None or row["ci95"][1] > 1.2 * high) == (truth > 1e20)
            assert row["extrapolated"] == (truth > 1e20 or truth < 1e10)


def test_a_loss_that_is_below_from_the_first_x_on_has_no_cost_and_no_end_at_the_edge_of_the_search():
    fit = fitted(noise=0.001)
    first = float(np.exp(fit.points.x.min())) / 1e3
    for entry in cost_to_target(fit, 0.97):
        ends = [entry["x"], *(entry["ci95"] or []), *(entry["if_law_holds"]["ci95"] or [])]
        assert all(end is None or end > 1.001 * first for end in ends)
    assert "below it from the start" in " ".join(entry["why"] for entry in cost_to_target(fit, 0.9999))


def test_never_where_the_line_rises_or_the_law_has_a_floor():
    rising = table()
    rising.loc[rising["num_params"] == 1e6, "test_loss"] = 0.5 + 0.2 * rising["step"] / 40 + 1e-12 * rising["seed"]
    row = cost_to_target(add_intervals(fit_curves(make_curves(rising), Choices(law="per_size"))), 0.2)[0]
    assert (row["x"], row["why"]) == (None, "never: the line does not fall")
    x = np.geomspace(1e10, 1e20, 40)
    floor = pd.DataFrame({
        "num_params": 1e6, "step": np.arange(1, 41), "train_flops": x, "test_loss": 0.3 + 50 * x**-0.2
    })  # fmt: skip
    fit = add_intervals(fit_curves(make_curves(floor), Choices(law="power_plateau")))
    (row,) = cost_to_target(fit, 0.25)
    assert row["why"] == "never: the law ends at 0.3"
    (row,) = cost_to_target(fit, 0.4)
    assert row["x"] == pytest.approx((0.1 / 50) ** -5, rel=1e-2)
    with pytest.raises(InputError, match="between 0 and 1"):
        cost_to_target(fit, 1.5)


def test_the_continuous_frontier_is_the_argmin():
    """ln L = -K f(N) ln X + e_inf + e1 f_e(N): scipy's minimum at each X, and no optimum beyond the sizes."""
    from scipy.optimize import minimize_scalar

    law = get_law("efficiency_saturating_level")
    values = {"k_max": 0.1, "n0": 5e9, "e_inf": -0.1, "e1": 3.0, "n_e": 20e9}
    x = np.exp(np.array([26.0, 28.0, 35.0]))
    sizes = np.array([1e9, 30e9])
    found = optimal_sizes(law, values, x, sizes)
    for at, n in zip(x, found, strict=True):
        best = minimize_scalar(lambda t, at=at: law.ln_loss(np.exp(t), at, values), bounds=(np.log(1e8), np.log(3e11)),
                               method="bounded", options={"xatol": 1e-9})  # fmt: skip
        inside = np.log(1e8) + 0.05 < best.x < np.log(3e11) - 0.05
        assert (0 < n < np.inf) == inside
        if inside:
            assert n == pytest.approx(np.exp(best.x), rel=1e-3)


RISING = {"k_max": 0.1, "n0": 5e9, "e_inf": -0.9, "e1": 3.0, "n_e": 20e9}


def parametric(sizes, runs, noise):
    law = get_law("efficiency_saturating_level")
    rng, frames = np.random.default_rng(2), []
    for size in sizes:
        for run in range(runs):
            x = np.geomspace(np.exp(24), np.exp(30), 30)
            loss = np.exp(law.ln_loss(size, x, RISING) + noise * rng.standard_normal(30))
            frames.append(pd.DataFrame({"run_id": f"{size:g}-{run}", "num_params": size, "step": np.arange(1, 31),
                                        "train_flops": x, "test_loss": loss}))  # fmt: skip
    return make_curves(pd.concat(frames)), law


def test_the_continuous_frontier_has_a_band_from_the_scatter_of_sizes():
    sizes = np.geomspace(0.5e9, 32e9, 7)
    curves, law = parametric(sizes, 2, 0.001)
    x = np.exp(np.array([26.5, 27.5]))
    found = continuous(add_intervals(fit_curves(curves, Choices(law=law.name))), x)
    assert found["band"] == "scatter of 7 sizes about the law, 4.5 degrees of freedom"
    for row, best in zip(found["rows"], optimal_sizes(law, RISING, x, sizes), strict=True):
        assert row["identified"]
        assert row["num_params"] == pytest.approx(best, rel=0.05)
        assert row["ci95"][0] < best < row["ci95"][1]
        assert row["ci95"][1] / row["ci95"][0] < 1.5
    few, _ = parametric(sizes[::2], 3, 0.001)
    alone = continuous(add_intervals(fit_curves(few, Choices(law=law.name))), x)
    assert "4 sizes say too little" in alone["band"]
    assert not any(row["identified"] for row in alone["rows"])
    with pytest.raises(InputError, match="the ladder's"):
        continuous(fitted(), x)


def test_the_law_of_the_best_group_size_finds_its_own_sigmoid():
    """A staircase of the truth's nearest G: half of the way within one step of the grid."""
    groups, x = np.array([4.0, 8.0, 16.0, 32.0, 64.0]), np.geomspace(1e17, 1e21, 200)
    truth = optimal_group(x, 4, 64, 1e19, 1.2)
    best = np.abs(np.log(groups[:, None] / truth)).argmin(0)
    loss = np.where(np.arange(5)[:, None] == best, 0.4, 0.5)
    at = np.flatnonzero(np.diff(best))
    switches = pd.DataFrame({"x": x[at], "kind": "crossover"})
    made = Envelope(groups, x, loss, loss > 0, best, loss > 0, switches)
    found = group_law(made)
    assert (found["smallest"], found["largest"]) == (4, 64)
    assert found["c_mid"] == pytest.approx(1e19, rel=0.1)
    assert found["steepness"] == pytest.approx(1.2, rel=0.25)
    with pytest.raises(InputError, match="two crossings"):
        group_law(made._replace(switches=switches[:1]))


# ---------------------------------------------------------------- the reference study


def test_reuse_is_not_identified_in_the_reference_study():
    found = reuse_threshold(load("reference:qwen2.5_base_reuse"), load("reference:qwen2.5_base_replicates"))
    last = found["rows"][-1]
    assert (last["reuse_factor"], found["identified"], found["threshold"]) == (100, False, None)
    assert last["difference"] == pytest.approx(0.019, abs=0.0011)
    assert last["ci95"] == pytest.approx([-0.026, 0.065], abs=0.0015)  # 2 degrees of freedom: three repeats of 7B


def test_a_loss_that_is_worse_from_some_tau_on_is_found():
    frames = []
    for tau, loss in ((1, 0.40), (4, 0.401), (16, 0.44), (64, 0.5)):
        frames += [
            pd.DataFrame({
                "run_id": f"t{tau}s{seed}", "num_params": 1e6, "seed": seed, "reuse_factor": tau,
                "step": np.arange(1, 21),
                "test_loss": loss + 0.002 * ((seed * tau + tau // 4) % 3 - 1) + 0.1 / np.arange(1, 21),
            })
            for seed in range(3)
        ]  # fmt: skip
    found = reuse_threshold(make_curves(pd.concat(frames)))
    assert (found["threshold"], found["identified"]) == (16, True)


SPREAD = {0.5e9: 0.002, 1.5e9: 0.004, 7e9: 0.012}  # of ln L between repeats, as in the reference study


def flat_runs(rng, size, names, **columns):
    """Runs of one size whose final loss depends on nothing but its seed."""
    rows = [
        pd.DataFrame({"run_id": f"{size:g}-{name}", "num_params": size, "step": np.arange(1, 21), **columns,
                      "reuse_factor": tau, "test_loss": 0.5 * np.exp(SPREAD[size] * rng.standard_normal())
                      * (1 + 1e-4 * rng.standard_normal(20))})
        for name, tau in names
    ]  # fmt: skip
    return pd.concat(rows)


def test_reuse_that_costs_nothing_is_seldom_said_to_cost():
    """One run at each tau, repeats of three sizes whose spread differs six-fold: nominal 5 % (13.8 % when pooled)."""
    rng, excluded, thresholds, studies = np.random.default_rng(4), [], 0, 60
    for _ in range(studies):
        curves = make_curves(flat_runs(rng, 7e9, [(f"t{tau}", tau) for tau in (1, 2, 5, 20, 50, 100)]))
        repeats = make_curves(pd.concat([flat_runs(rng, size, [(f"r{i}", 1) for i in range(3)]) for size in SPREAD]))
        found = reuse_threshold(curves, repeats)
        thresholds += found["identified"]
        excluded += [not row["ci95"][0] <= 0 <= row["ci95"][1] for row in found["rows"]]
        assert "of 7B" in found["spread"]
    assert np.mean(excluded) < 0.08
    assert thresholds / studies <= 0.06


def test_the_reference_group_sizes():
    """Best group size: 4 to 1e19, 8 briefly, 16 to 4e19, then only 32 was run; neighbours are not separated."""
    part = frontier("reference:qwen2.5_base_group_size")["group_size"]
    assert [row["best"] for row in part["segments"] if row["compared"]] == [4, 8, 16]
    assert part["segments"][-1]["best"] == 32
    assert not part["segments"][-1]["compared"]
    assert part["segments"][-1]["from"] == pytest.approx(4.2e19, rel=0.03)
    assert not any(switch["identified"] for switch in part["switches"])


def test_the_reference_sizes_32b_and_72b_are_not_told_apart():
    found = frontier("reference:qwen2.5_base", steps="11:", target=0.6)
    row = next(r for r in found["sizes"]["segments"] if r["best"] == 72e9 and r["compared"])
    assert 32e9 in row["not_rejected"]
    cost = {r["num_params"]: r for r in found["cost"]}
    assert cost[32e9]["x"] < cost[14e9]["x"]
    assert cost[0.5e9]["x"] is None


@pytest.mark.parametrize("target", [0.0, 1.0, 2.0, -1.0, float("nan"), float("inf")])
def test_a_target_that_no_curve_can_have_is_refused_at_the_door(target):
    with pytest.raises(InputError, match=f"target: {target:g} is not a test loss between 0 and 1; give"):
        frontier("reference:qwen2.5_base", target=target)


def test_an_error_of_the_part_on_cost_is_printed_and_a_size_alone_is_no_run_alone(capsys):
    missing = {"error": "nothing to ask"}
    record = dict.fromkeys(("group_size", "continuous", "crossovers", "cost", "reuse"), missing)
    alone = {"from": 1e9, "to": 2e9, "best": 1e6, "compared": False, "not_rejected": []}
    record |= {"x": "train_flops", "each": "size", "verdict": None, "where": None, "target": 0.4, "warnings": []}
    show_frontier(record | {"sizes": {"segments": [alone], "switches": []}, "law": "efficiency"})
    said = capsys.readouterr().out
    assert "cost        to a test loss of 0.4: nothing to ask" in said
    assert "1e6 (no other was run here)" in said and "only one run" not in said


def test_the_command_prints_one_document():
    code = "from scaling.cli import main; main()"
    words = ["frontier", "reference:qwen2.5_base", "--target", "0.6"]
    found = subprocess.run([sys.executable, "-c", code, *words, "--json"], capture_output=True, text=True, check=True)
    assert {"sizes", "continuous", "crossovers", "cost", "group_size", "reuse"} <= set(json.loads(found.stdout))
    people = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True).stdout
    assert "not identified" in people
    assert "not within 1000 times" in people
