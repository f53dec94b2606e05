"""The reference study: the printed values come out, ours follow the curves and the published do not."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from analysis import reproduce
from analysis.curves.load import load
from analysis.missing import Missing
from scaling.schema import InputError

pytestmark = pytest.mark.page


@pytest.fixture(scope="module")
def study():
    return reproduce.Study()


@pytest.fixture(scope="module")
def tables(study):
    return reproduce.all_tables(study)


def test_the_published_fits_come_out_to_the_digits_printed(tables):
    frame = tables["fits"].frame
    assert len(frame) == 4
    assert (frame["k_max_difference"].abs() <= 0.0005).all()
    assert (frame["n0_difference"].abs() <= 0.05 + 1e-9).all()
    assert (frame["r2_difference"].abs() <= 0.0006).all()  # .9955 is printed as .996
    assert (frame["k_max_low"] < frame["k_max"]).all() and (frame["k_max"] < frame["k_max_high"]).all()
    assert frame["r2_without_slope"].between(0.93, 0.96).all()


def test_the_published_final_losses_come_out(tables):
    frame = tables["final"].frame
    assert (frame["difference"].abs() <= 0.0005).all()
    # SEM divides by the runs that there are, not by the square root of three.
    known = frame[frame["repeats"] > 1]
    assert np.allclose(known["sem"], known["sd"] / np.sqrt(known["repeats"].astype(float)))
    assert known["num_params"].tolist() == [0.5e9, 7e9, 14e9]


def test_the_leaking_protocol_is_caught_and_stands_beside_the_honest_ones(tables):
    frame = tables["inter"].frame
    published = frame["rule"].str.startswith("published")
    assert frame.loc[published, "leaks"].all()
    assert not frame.loc[~published, "leaks"].any()
    for axis in ("C", "D"):
        here = frame[frame["axis"] == axis].set_index("rule")["rmse"]
        assert here.iloc[0] < here["slope by the law, level linear in ln N"] < here["nearest size"].iloc[0]


def test_the_oddities_are_found_in_the_curves(tables):
    odd = tables["odd"].frame.set_index("what")["where"]
    assert odd["one run under several names"] == "7B run 1 is also in: reuse, group_size; counted once"
    assert "32B 3 to 1 at step 41" in odd["runs behind a mean change"]
    assert "72B 3 to 2 at step 97" in odd["runs behind a mean change"]
    assert odd["mean cumulative compute falls"] == "1.5B at step 105; 3B at step 105; 7B at step 105"
    assert odd["repeats that end early"] == "1.5B at step 70"
    assert "1.5B 13" in odd["tokens per prompt change"]
    # Slopes on the prompts axis, steps 11-50 and 50 to the end.
    late = tables["late"].frame.set_index("num_params")
    given = {1.5e9: (0.043, 0.003), 3e9: (0.026, -0.007), 7e9: (0.046, 0.002), 14e9: (0.086, 0.062),
             32e9: (0.132, 0.025), 72e9: (0.139, 0.023)}  # fmt: skip
    for size, (early, end) in given.items():
        assert late.loc[size, "early"] == pytest.approx(early, abs=0.0025)
        assert late.loc[size, "late"] == pytest.approx(end, abs=0.0025)


def test_n0_moves_with_the_window_while_r2_does_not(tables):
    frame = tables["windows"].frame
    log = frame[frame["objective"] == "log"]
    assert log["n0"].max() / log["n0"].min() > 2
    assert frame["r2"].min() > 0.995
    assert not frame[frame["steps"] == "40:60"]["identified"].any()
    assert "a factor of" in tables["windows"].note


def test_reuse_and_the_findings_say_what_is_not_established(tables):
    reuse = tables["reuse"].frame.set_index("reuse_factor")
    assert reuse.loc[100, "difference"] == pytest.approx(0.019, abs=0.0011)
    assert reuse["final"].idxmin() == 5
    said = tables["findings"].frame.set_index("finding")["verdict"]
    assert said["loss follows steps, not distinct prompts, up to tau about 25"] == "not established"
    assert said["larger models are better at a fixed budget"] == "at large budgets only"
    assert said["larger models learn faster"] == "supported"


def test_disturbed_curves_move_our_column_and_not_the_published(study, tables):
    """Every loss is moved towards 1; the noise of reading off a figure is a thousand times smaller."""
    moved = reproduce.Study(reproduce.perturbed(study.curves, 0.9))
    for name, column in (("fits", "k_max"), ("fits", "n0"), ("fits", "r2"), ("final", "ours")):
        other = getattr(reproduce, f"{name}_table")(moved).frame
        ours, theirs = tables[name].frame[column], f"{column}_published" if name == "fits" else "published"
        assert (np.abs(other[column] - ours) > 1e-5).all(), (name, column)
        assert other[theirs].tolist() == tables[name].frame[theirs].tolist()
        difference = f"{column}_difference" if name == "fits" else "difference"
        assert not np.allclose(other[difference], tables[name].frame[difference])
    said = reproduce.render(moved, no_figures(), {**tables, "fits": reproduce.fits_table(moved)})
    assert "They do not come out" in said


def no_figures():
    names = [name for _, figures in reproduce.PLACES.values() for name in figures]
    return {name: Missing("not drawn here") for name in names}


def test_the_page_is_whole(tmp_path, study):
    page = reproduce.reproduce(out=tmp_path)
    text = page.read_text()
    assert page == tmp_path / "report" / "index.html"
    assert "No figure" not in text
    assert text.count("<figure") == 11
    for name in ("fits", "inter", "final", "reuse"):
        assert (tmp_path / "report" / "tables" / f"{name}.csv").exists()
        assert (tmp_path / "report" / "tables" / f"{name}.tex").exists()
    for figure in reproduce.PLACES["inter"][1]:
        assert (tmp_path / "figures" / f"{figure}.png").exists()
    for what in reproduce.MISSING:
        assert what in text
    assert len(text) < 5_000_000
    shown = pd.read_csv(tmp_path / "report" / "tables" / "fits.csv")
    assert shown["k_max_published"].tolist() == [0.135, 0.152, 0.135, 0.163]


def test_a_table_of_reuse_needs_runs_that_reuse():
    with pytest.raises(InputError):
        reproduce.reuse_table(reproduce.Study({"reuse": load("reference:qwen2.5_base")}))


def test_an_unknown_study_is_one_line():
    code = "from scaling.cli import main; main()"
    found = subprocess.run([sys.executable, "-c", code, "reproduce", "tan2026"], capture_output=True, text=True)
    assert found.returncode == 2
    assert "Did you mean tan2025?" in found.stderr
