"""Every law of the folder, in every command and on its page: by option, and by a study whose analysis.law names it.

What a law cannot have is one sentence that says why; what it has is never another law's.
"""

import html
import json
import re
import sys
from functools import cache

import numpy as np
import pytest
from matplotlib.layout_engine import ConstrainedLayoutEngine
from synthetic_curves import write_cells, write_run

from analysis import reporting
from analysis.curves.load import load
from analysis.fitting import fit as fit_module
from analysis.fitting.choices import choose
from analysis.intervals.fitted import fit_with_intervals
from analysis.intervals.profile import ProfileTest
from analysis.laws import get_law, law_names
from analysis.questions import windows
from analysis.reporting import drawing, study
from analysis.words import split_symbol
from scaling import cli

pytestmark = pytest.mark.page

SIZES = {"us": 5_296, "xs": 20_832, "s": 55_824, "m": 151_552}
STEPS = 24  # evaluated at every second one
ROWS = {  # which runs a law is about
    "tau": "group_size == 16", "group_size": "reuse_factor == 1", "data_constrained": "group_size == 16",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study of four sizes, with data reuse at one and another group size at one; two seeds."""
    root = tmp_path_factory.mktemp("tiny")
    kinds = [(model, None, None) for model in SIZES]
    kinds += [("xs", 64, None), ("xs", 128, None), ("s", None, {"rollout": {"group_size": 4}})]
    cells = []
    for i, (model, unique, settings) in enumerate(kinds):
        k = 0.9 / (1 + 6e4 / SIZES[model]) * (1 if unique is None else 0.75 + unique / 960)
        for seed in (0, 1):
            run_id = f"{10 * i + seed:012x}"
            write_run(root, run_id, steps=STEPS, size=SIZES[model], model=model, seed=seed, unique=unique,
                      settings=settings, k=k * (1 + 0.03 * seed))  # fmt: skip
            cells.append((run_id, STEPS))
    write_cells(root, cells)
    return root


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Equal points are solved once for all commands; figures are drawn in one layout, not laid out and not saved."""
    patch = pytest.MonkeyPatch()
    solve, makers, window_ends = fit_module.solve, reporting.figure_makers, windows.window_ends
    interval = ProfileTest.interval
    kept, ends = {}, {}

    def solve_once(points, law, objective="log", published_bounds=False, start=None):
        key = (points.hash(), tuple(points.runs), law.name, objective, published_bounds)
        if key not in kept:
            kept[key] = solve(points, law, objective, published_bounds, start)
        return kept[key]

    def drawn_once(make):
        drawn = cache(make)
        return lambda layout: drawn(layout="full")

    def interval_once(test, entry, level=0.05):
        points, law = test.problem.points, test.problem.law
        key = (points.hash(), tuple(points.runs), law.name, entry, level, test.vector.tobytes())
        if key not in ends:
            ends[key] = interval(test, entry, level)
        return ends[key]

    patch.setattr(fit_module, "solve", solve_once)
    patch.setattr(ProfileTest, "interval", interval_once)
    patch.setattr(reporting, "figure_makers", lambda study: {n: drawn_once(m) for n, m in makers(study).items()})
    patch.setattr(ConstrainedLayoutEngine, "execute", lambda self, figure: None)
    patch.setattr(drawing.figures, "save", lambda full, column, folder, name: ("<svg></svg>", "<svg></svg>"))
    patch.setattr(study, "SELF_TEST_STUDIES", 2)
    patch.setattr(windows, "window_ends", lambda steps, own, most, falling=False: window_ends(steps, own, 1))
    patch.setenv("COLUMNS", "400")
    yield
    patch.undo()


@pytest.fixture(params=law_names())
def law(request):
    return get_law(request.param)


@pytest.fixture
def run(capsys, monkeypatch):
    """(exit status, stdout, stderr) of the command line, in this process."""

    def of(*words):
        monkeypatch.setattr(sys, "argv", ["scaling", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return of


def rows_of(law):
    return ROWS.get(law.name, "reuse_factor == 1 and group_size == 16")


def options(law):
    return ["--law", law.name, "--where", rows_of(law), "--steps", "2:"]


def clean(text):
    """No value that is none, no name of code in braces."""
    assert not re.search(r"\b(None|nan|NaN|inf|Undefined)\b", text), re.findall(
        r".{40}\b(?:None|nan|NaN|inf)\b.{20}", text
    )
    assert not re.search(r"[{}]", text)
    return text


def one_sentence(code, err):
    """A refusal: exit status 2 and one line."""
    assert code == 2
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return clean(err)


def foreign_symbols(law):
    """Symbols of the limit of k(N) that this law does not have."""
    return [symbol for symbol in ("Kmax", "N0") if symbol not in law.symbols.values()]


def test_fit(law, folder, run):
    code, out, _ = run("fit", folder, *options(law))
    assert code == 0
    clean(out)
    assert law.formula in out
    for parameter in law.shared:
        assert re.search(rf"^\W*{parameter.name}\b", out, re.M), parameter.name
    assert not any(re.search(rf"\b{symbol}\b", out) for symbol in foreign_symbols(law))
    document = json.loads(run("fit", folder, *options(law), "--json")[1])
    assert document["x"] == law.x[0]
    method = document["intervals"]["method"]
    assert ("F test" in method) == (law.shape is not None)
    assert [
        name for name, entry in document["values"].items() if entry["ci95"] and name in law.tested_on_slopes
    ] == list(law.tested_on_slopes)


def test_forecast(law, folder, run):
    fitted_size = {"tau": 6.0, "group_size": 4.0}.get(law.name, SIZES["m"])
    at = ["--at", "1e3" if law.x[0] != "train_flops" else "1e12"]
    code, out, err = run("forecast", folder, *options(law), "--size", fitted_size, *at)
    assert code == 0, err
    assert law.formula in clean(out)
    code, out, err = run("forecast", folder, *options(law), "--size", 4e5, *at)
    if law.predicts_unseen or law.shape is not None:
        assert code == 0, err
        clean(out)
    else:
        assert f"law {law.name} says nothing of a" in one_sentence(code, err)
    code, out, err = run("forecast", folder, *options(law), "--fraction", 0.6, "--calibrate", 3)
    assert code == 0, err
    assert "held-out points" in clean(out)


def test_frontier(law, folder, run):
    code, out, err = run("frontier", folder, *options(law), "--target", 0.6)
    assert code == 0, err
    assert f"best {law.each} by {law.x[0]}" in clean(out)
    document = json.loads(run("frontier", folder, *options(law), "--json")[1])
    assert ("error" in document["continuous"]) != law.predicts_unseen


def test_compare(law, folder, run):
    other = "exponential" if law.name == "power_plateau" else "power_plateau"
    code, out, err = run("compare", folder, "--laws", f"{law.name},{other}", *options(law)[2:])
    if law.group or law.axes:
        assert "does not describe the same curves" in one_sentence(code, err)
    else:
        assert code == 0, err
        assert law.name in clean(out)


@cache
def page_text(path):
    page = path.read_text()
    assert "no law could be fitted" not in page.lower()
    page = re.sub(r"<(style|svg)[^>]*>.*?</\1>", "", page, flags=re.S)
    page = re.sub(r"<details>.*?</details>", "", page, flags=re.S)  # numbers behind figures
    return html.unescape(re.sub(r"</?(i|sub|sup|b|a)\b[^>]*>", "", page))


def test_report_of_a_study_that_names_it(law, folder, run, tmp_path):
    path = folder / "cells.json"
    before = path.read_text()
    document = json.loads(before)
    document["analysis"] = {"law": law.name, "where": rows_of(law), "steps": "2:"}
    path.write_text(json.dumps(document))
    try:
        code, _, err = run("report", folder, "--out", tmp_path)
    finally:
        path.write_text(before)
    assert code == 0, err
    text = page_text(tmp_path / "report" / "index.html")
    clean(text)
    for symbol in law.symbols.values():
        assert symbol in text, symbol
        if split_symbol(symbol)[1]:
            letter, below = split_symbol(symbol)
            assert f"<i>{letter}</i><sub>{below}</sub>" in (tmp_path / "report" / "index.html").read_text(), symbol
    assert not any(re.search(rf"\b{symbol}\b", text) for symbol in foreign_symbols(law))
    assert ("limit" in text.partition("Compute-optimal size")[2].partition("Data reuse")[0]) is False
    assert "free parameters per size" not in text
    if not law.saturates:
        assert "limit is not in sight" not in text
    fits = sorted(one.name for one in (tmp_path / "fits").iterdir())
    assert f"{law.name}-{law.x[0]}.json" in fits


def test_report_by_option_has_the_same_page(folder, run, tmp_path):
    """The choices of the line over those of the study."""
    chosen = [
        *options(get_law("power_plateau")),
        "--x",
        "prompts_seen",
        "--objective",
        "linear",
        "--split",
        "intra:0.7",
    ]
    code, _, err = run("report", folder, "--out", tmp_path, *chosen)
    assert code == 0, err
    record = json.loads((tmp_path / "fits" / "power_plateau-prompts_seen.json").read_text())
    assert (record["law"], record["x"], record["objective"]) == ("power_plateau", "prompts_seen", "linear")
    assert (record["split"], record["window"]["steps"]) == ("intra:0.7", "2:")
    text = page_text(tmp_path / "report" / "index.html")
    assert "linear objective" in text
    assert "the last 30 % of each curve" in text
    code, _, err = run("report", folder, "--out", tmp_path, "--law", "eficiency")
    assert "Did you mean efficiency?" in one_sentence(code, err)
    code, _, err = run("report", folder, "--out", tmp_path, "--steps", "9:3")
    assert "ends before it begins" in one_sentence(code, err)


def fit_of(folder, law):
    chosen = {"law": law, "where": rows_of(get_law(law)), "steps": "2:"}
    return fit_with_intervals(load(folder), choose(chosen)).record


def test_an_axis_of_its_own_is_said(folder):
    record = fit_of(folder, "chinchilla")
    assert record["x"] == "prompts_seen"
    assert "x is prompts_seen, the axis of law chinchilla" in record["notes"]
    assert not any("axis of law" in note for note in fit_of(folder, "efficiency")["notes"])


def test_a_law_of_reuse_describes_one_size(folder):
    record = fit_of(folder, "tau")
    assert "num_params ==" in record["window"]["where"]
    taus = [row["num_params"] for row in record["per_size"]]
    assert len(taus) == 3
    assert np.all(np.diff(taus) > 0)
