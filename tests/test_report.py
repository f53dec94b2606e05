"""The report page: no script, no network, true to the fits, and reasons where data are absent."""

import json
import os
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from synthetic_curves import LADDER, STEPS, study_table, synthetic, write_cells, write_run

import analysis
from analysis import figures, report
from analysis.curves.check import make_curves
from analysis.figures import labels
from analysis.fitting.choices import Choices, choose_for
from analysis.questions.pairs import compared_algorithms, pair_summary
from analysis.questions.scores import score_protocols
from analysis.reporting import curves, laws, study
from analysis.reporting.efficiency import efficiency_sentence
from analysis.reporting.forecasts import score_verdict
from analysis.reporting.laws import LAWS
from analysis.reporting.markup import prose, tone
from analysis.reporting.provenance import command
from analysis.reporting.rollouts import drift_sentence
from analysis.reporting.runs import cut_sentence, failed_sentence
from analysis.reporting.section import CONTENTS
from analysis.reporting.tables import latex
from analysis.words import amount, at_x, interval, interval_text, number, number_words, parameter, short_number
from scaling import files, record, schema
from scaling.schema import InputError

pytestmark = pytest.mark.page

RUN_COLUMNS = ("model", "num_params", "num_params_non_embedding", "seed", "algorithm", "group_size", "task")
ANALYSIS = {"where": "algorithm == grpo and reuse_factor == 1 and group_size == 16", "steps": "3:"}


def write_study(folder, table, left_out=()):
    """A study folder with a run for each `run_id` of the table: config, attempt, rows, rollouts, DONE."""
    cells = []
    for place, (name, rows) in enumerate(table.groupby("run_id", sort=False)):
        run_id = f"{place:012x}"
        cells.append((run_id, int(rows["step"].max())))
        first = rows.iloc[0]
        if name in left_out:
            if left_out[name] is not None:
                (folder / "runs" / run_id).mkdir(parents=True)
                files.write_json(folder / "runs" / run_id / schema.FAILED, left_out[name])
            continue
        run = folder / "runs" / run_id
        attempt = record.start_attempt(run, parent=None, first_step=0)
        lines = []
        for row in rows.to_dict("records"):
            kept = {key: value for key, value in row.items() if key in schema.COLUMNS and not pd.isna(value)}
            for constant in (
                "model",
                "num_params",
                "num_params_non_embedding",
                "seed",
                "algorithm",
                "group_size",
                "task",
            ):
                kept.pop(constant, None)
            at = 1_700_000_000_000 + 1000 * row["step"]
            kept["timing"] = {"time_ms": at, "wall_seconds": 2.0, "cpu_seconds": row["cpu_seconds"]}
            lines.append(kept)
        attempt.append(schema.CURVE, lines)
        texts = [
            {
                "step": step, "problem": problem, "sample": 0, "prompt": f"{problem}+1<2:", "response": text,
                "correct": step > 0, "truncated": False,
            }
            for step, text in [(0, "a & b"), (60, "careful")] for problem in (3, 4)
        ]  # fmt: skip
        attempt.append(schema.ROLLOUTS, texts)
        config = {
            "seed": int(first["seed"]), "algorithm": {"type": first["algorithm"]}, "task": {"name": "hex_chain"},
            "rollout": {"group_size": int(first["group_size"]), "temperature": 1.0},
            "model": {"size": first["model"], "path": None}, "optimizer": {"learning_rate": 5e-4},
            "data": {"prompts_per_step": 16, "prompts_unique": None if first["reuse_factor"] == 1 else 30},
            "evaluation": {"problems": 512}, "stop": {"steps": 60},
        }  # fmt: skip
        sizes = {
            "num_params": int(first["num_params"]),
            "num_params_non_embedding": int(first["num_params_non_embedding"]),
        }
        files.write_json(run / schema.CONFIG, {
            "schema_version": 1, "run_id": run_id, "name": name, "config": config,
            "model": {"name": first["model"], **sizes},
        })  # fmt: skip
        record.finish(attempt, int(rows["step"].max()), {"steps": 60})
    write_cells(folder, cells, ANALYSIS)
    return folder


class Page(HTMLParser):
    """The parts of a page that the tests ask for."""

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags, self.ids, self.links, self.headings, self.words = [], [], [], [], []
        self.inside = []
        self.feed(self.text)
        self.plain = re.sub(r"\s+", " ", " ".join(self.words)).replace("\u00a0", " ")

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if tag == "a" else []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in ("meta", "br", "use", "path"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"svg", "style"} & set(self.inside):
            self.words.append(data)

    def says(self, sentence):
        """Whether the page has this text; markup of symbols puts blanks between letters, so they do not count."""
        return re.sub(r"\s", "", sentence) in re.sub(r"\s", "", self.plain)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """A self-test of 20 studies instead of 200: the tests do not look at its number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "SELF_TEST_STUDIES", 20)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study with a failed and a run that was not started."""
    failed = {"class": "MemoryError", "message": "no room <left>", "last_lines": ["a"]}
    left_out = {"m-grpo-1-16-seed2": failed, "us-grpo-1-16-seed2": None}
    return write_study(tmp_path_factory.mktemp("s") / "tiny", study_table(seeds=(0, 1, 2)), left_out)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    before = files_of(folder)
    out = tmp_path_factory.mktemp("out")
    path = report(folder, out)
    assert files_of(folder) == before, "the study folder was written to"
    assert path == out / "report" / "index.html"
    return out


@pytest.fixture(scope="module")
def page(made):
    return Page(made / "report" / "index.html")


@pytest.fixture(scope="module")
def fit(folder):
    return analysis.fit(folder, **ANALYSIS)


@pytest.fixture
def plain_figures(monkeypatch):
    """Figures are made and not rendered, and few laws compared: what is tested here is the page around them."""
    monkeypatch.setattr(laws, "LAWS", ("efficiency", "per_size"))
    monkeypatch.setattr(figures, "save", lambda full, column, folder, name: ("<svg></svg>", "<svg></svg>"))
    monkeypatch.setattr(labels.ConstrainedLayoutEngine, "execute", lambda engine, figure: None)


# ---------------------------------------------------------------- the page as a document


def test_page_is_self_contained_and_small(page, made):
    assert len(page.text.encode()) < 5_000_000
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "img", "object", "embed")]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    outside = [
        value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "xlink:href")
    ]
    assert not [value for value in outside if re.match(r"(https?:)?//", value)]
    assert "url(http" not in page.text and "@import" not in page.text
    assert str(made) not in page.text and os.path.expanduser("~") + "/" not in page.text


def test_ids_are_unique_and_links_resolve(page, made):
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        else:
            assert (made / "report" / link).is_file(), link
    for _, attrs in page.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            assert attrs.get(name, page.ids[0]) in page.ids


def test_headings_are_in_order(page):
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(page.headings, page.headings[1:], strict=False))


def test_tables_and_figures_are_marked_for_readers_who_do_not_see(page):
    assert {attrs.get("scope") for tag, attrs in page.tags if tag == "th"} == {"col", "row"}
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    shown = [tag for tag, _ in page.tags if tag == "figure"]
    assert len(drawings) == 2 * len(shown) == 20  # ten figures, two layouts
    assert all(attrs.get("role") == "img" for attrs in drawings)
    assert page.text.count("<title id=") == page.text.count("<desc id=") == 20
    for name in CONTENTS:
        assert name in page.ids


def test_text_of_the_data_is_escaped(page):
    assert "no room &lt;left&gt;" in page.text and "3+1&lt;2:" in page.text and "a &amp; b" in page.text


def test_every_figure_and_table_is_a_file(made, page):
    names = sorted({path.stem.removesuffix("_col") for path in (made / "figures").iterdir()})
    assert len(names) == 10  # all that the page can have
    for name in names:
        for ending in (".svg", ".png", "_col.svg", ".csv"):
            assert (made / "figures" / f"{name}{ending}").stat().st_size > 200
        assert (made / "figures" / f"{name}.svg").stat().st_size <= 301_000
    for table in (made / "report" / "tables").glob("*.csv"):
        assert len(pd.read_csv(table)) >= 1
        tex = table.with_suffix(".tex").read_text(encoding="utf-8")
        assert r"\begin{tabular}" in tex and r"\toprule" in tex
        assert not re.search(r"(?<!\\)[%#_](?![{0-9])", re.sub(r"\$[^$]*\$", "", tex))
    assert {"conditions", "left_out", "efficiency", "parameters", "sensitivity", "algorithms", "forecasts"} <= {
        path.stem for path in (made / "report" / "tables").glob("*.csv")
    }


def test_two_reports_are_equal_to_the_byte_and_nothing_is_written_elsewhere(folder, made, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    report(folder, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(made)
    assert not list(here.iterdir())
    assert sorted(path.name for path in made.iterdir()) == ["figures", "fits", "report"]


# ---------------------------------------------------------------- what it says


def test_failed_and_missing_runs_are_named(page):
    assert page.says("2 missing")
    assert page.says("MemoryError: no room <left>") and page.says("not started")
    table = page.text[page.text.index("Runs that are not in any number below") :]
    assert 'class="tag bad">failed</span>' in table and 'class="tag bad">missing</span>' in table
    assert not page.says("Every run of the study is done")


def test_numbers_in_the_sentences_are_those_of_the_fit(page, fit):
    for row in (fit.per_size[0], fit.per_size[-1]):
        assert page.says(f"{amount(row['efficiency'])} {interval(row['efficiency_ci95'])}")
    k_max, n0 = fit.values["k_max"], fit.values["n0"]
    assert k_max["identified"] and n0["identified"]
    assert page.says(f"Kmax = {amount(k_max['value'])} {interval(k_max['ci95'])} is reached at N0 =")
    assert page.says(f"{short_number(n0['value'])} {interval(n0['ci95'], short_number)}")
    goodness = fit.record["goodness"]
    assert page.says(f"beside {number(goodness['r2_pooled_constant'])} for the same with k = 0")
    assert page.says(f"{fit.record['n_points']} evaluations of {fit.record['n_runs']} runs of 4 sizes")


def test_pooled_r2_never_stands_alone(page):
    for match in re.finditer(r"[Pp]ooled R ?2", page.plain):
        assert "k = 0" in page.plain[match.start() : match.start() + 160]


def test_records_of_the_fits_are_saved(made, fit):
    saved = json.loads((made / "fits" / "efficiency-train_flops.json").read_text())
    assert saved["values"]["k_max"]["value"] == fit.values["k_max"]["value"]
    assert saved["left_out"]


def test_what_was_held_constant_and_what_varied(page):
    assert page.says("learning rate 0.0005") and page.says("512 test problems")
    assert page.says("Varied on purpose: model size, algorithm, group size, data reuse and seed (0, 1, 2).")


def test_algorithms_are_compared_by_seed_in_words_that_the_interval_allows(page, folder):
    pairs = compared_algorithms(analysis.load(folder)).pairs
    summary = pair_summary(pairs).iloc[0]
    assert summary["pairs"] == 3
    ends = interval_text(summary["low"], summary["high"], sign=True)
    assert page.says(f"PAPO minus GRPO is {number(summary['difference'], sign=True)} {ends} over 3 pairs")
    zero_inside = summary["low"] <= 0 <= summary["high"]
    assert page.says("indistinguishable from zero") == zero_inside


def test_sample_rollouts_stand_side_by_side_with_a_verdict(page):
    assert page.says("Before, step 0 wrong") and page.says("After, step 60 right")
    assert page.plain.count("careful") >= 2


def test_the_page_says_what_intervals_rest_on(page):
    assert page.says("One test set: 512 fixed problems, one sample each")
    assert page.says("Coverage self-test, 20 simulated studies: nominal 95 %, measured Kmax")
    assert page.says("CPU seconds for the runs")


def test_the_page_sets_the_law_beside_rules_without_one(page, made, folder):
    protocols = score_protocols(analysis.load(folder), Choices(**ANALYSIS), calibrate=2, fraction=0.5)
    scores = [protocol.json() for protocol in protocols]
    assert page.says(score_verdict(protocols))
    shown = pd.read_csv(made / "report" / "tables" / "forecasts.csv")
    assert shown["rmse_law"].tolist() == pytest.approx([entry["rmse_ln_loss"]["law"] for entry in scores])
    assert page.says("Forecast of the next size, 411k (2.71 × m 152k)")
    laws = pd.read_csv(made / "report" / "tables" / "laws.csv").set_index("law")
    assert set(LAWS) <= set(laws.index) and page.says("apart by what they predict of the rest of a curve")
    assert page.says(laws.loc["sigmoid", "reason"]) and laws.loc["sigmoid", "status"] == "not fitted"


def test_the_page_says_what_a_budget_buys_and_what_papo_saves(page, made):
    for name in ("segments", "crossovers", "cost", "group_segments", "reuse_differences", "algorithm_effects"):
        assert (made / "report" / "tables" / f"{name}.csv").exists(), name
    assert page.says("crossings of neighbouring sizes") and page.says("costs least at")
    assert page.says("No continuous best size: law efficiency has parameters of each size")
    assert page.says("times the compute of PAPO")


def test_sensitivity_table_repeats_the_fit_under_other_choices(made, folder):
    table = pd.read_csv(made / "report" / "tables" / "sensitivity.csv")
    binomial = analysis.fit(folder, **ANALYSIS, objective="binomial")
    row = table[table["choice"] == "objective binomial"].iloc[0]
    assert row["n0"] == pytest.approx(binomial.values["n0"]["value"], rel=1e-6)
    assert row["k_151552"] == pytest.approx(binomial.per_size[-1]["efficiency"], rel=1e-6)
    assert {"this page", "steps ≥ 1", "steps ≥ 6", "objective linear", "axis prompts seen"} <= set(table["choice"])


# ---------------------------------------------------------------- studies that lack something


def make(tmp_path, table, **choices):
    source = tmp_path / "mine.csv"
    table.to_csv(source, index=False)
    return Page(report(source, tmp_path / "out", **choices))


def test_what_is_not_identified_is_said_so(tmp_path, plain_figures):
    """Slopes that rise in proportion to N: no limit, and no optimum quoted as if it were a result."""
    table = study_table(k_max=40.0, n0=1e7, papo=None, reuse=None, groups=None)
    page = make(tmp_path, table)
    fitted = analysis.fit(tmp_path / "mine.csv")
    assert not fitted.values["n0"]["identified"]
    assert page.says("not identified N0: optimum") and page.says("no upper bound")
    assert page.says("A limit is not in sight: Kmax is not identified")
    assert not page.says("Half of the limit")
    assert page.text.count('class="tag bad">not identified</span>') >= 4
    assert page.says("needs runs of two algorithms") and page.says("needs runs at two values of data reuse")
    assert page.says("No rollouts: the source has curves only")


def test_runs_whose_answers_are_cut_are_named():
    table = pd.DataFrame(
        {"run_id": ["a"] * 3 + ["b"] * 2 + ["c"], "step": [0, 5, 6, 0, 9, 9],
         "test_loss": [1, 0.5, np.nan, 1, 0.4, 0.4],
         "eval_truncated_share": [0.9, 0.06, np.nan, 0.8, 0.31, 0.04]}
    )  # fmt: skip
    study = SimpleNamespace(curves=SimpleNamespace(table=table), configs={"b": {"name": "m-seed0"}})
    found = cut_sentence(study)
    assert found.startswith("2 runs had 5 % or more") and "most of them m-seed0 (31 %)" in found
    assert cut_sentence(SimpleNamespace(curves=SimpleNamespace(table=table[table["run_id"] == "c"]))) == ""


def test_failures_of_the_verifier_are_a_warning():
    table = pd.DataFrame({"run_id": ["a", "a", "b", "c"], "verifier_failures": [1, 2, 0, np.nan]})
    study = SimpleNamespace(curves=SimpleNamespace(table=table), configs={"a": {"name": "m-seed0"}})
    assert failed_sentence(study).startswith("The verifier failed on 3 answers in 1 run, most of them in m-seed0 (3)")
    assert failed_sentence(SimpleNamespace(curves=SimpleNamespace(table=table[table["run_id"] != "a"]))) == ""


def test_runs_whose_sampler_drifts_from_the_trainer_are_named():
    steps = np.arange(1, 13)
    drifting = np.where(steps <= 3, 0.004, np.where(steps > 9, 0.03, 0.01))
    runs = {
        "a": drifting,
        "b": drifting / 2,
        "rounding": drifting / 1000,
        "level": np.full(12, 0.03),
        "short": drifting,
    }
    table = pd.concat(
        pd.DataFrame({"run_id": name, "step": steps, "logprob_difference_mean": values, "effective_sample_share": 0.9})
        for name, values in runs.items()
    )
    table = table[(table["run_id"] != "short") | (table["step"] > 5)]
    table.loc[table["step"] == 2, "logprob_difference_mean"] = np.nan  # a step without an active group

    def said(*names):
        of = table[table["run_id"].isin(names)]
        return drift_sentence(SimpleNamespace(curves=SimpleNamespace(table=of), configs={"a": {"name": "m-seed0"}}))

    found = said(*runs)
    assert found.startswith("In 2 runs sampler and trainer drifted apart: in m-seed0 ")
    assert "grew from 0.004 to 0.03 nats, and a batch weighs as 90 % of its tokens" in found
    assert said("rounding", "level", "short") == ""
    assert drift_sentence(SimpleNamespace(curves=SimpleNamespace(table=table[["run_id", "step"]]), configs={})) == ""


def test_one_size(tmp_path, plain_figures):
    page = make(tmp_path, study_table(ladder={"s": LADDER["s"]}, reuse=None, groups=None))
    assert page.says("needs two sizes or more")  # why there is no law
    assert page.says("Each size has a line of its own") and page.says("one size only")
    assert page.says("needs lines of two choices to compare")
    assert page.says("PAPO minus GRPO is")


def test_one_run(tmp_path, plain_figures):
    page = make(tmp_path, study_table(ladder={"s": LADDER["s"]}, seeds=(0,), papo=None, reuse=None, groups=None))
    assert page.says("no interval")
    assert page.says("1 run of one size")
    assert page.says("No coverage self-test")


def test_too_few_points_for_any_fit(tmp_path, plain_figures):
    table = study_table(ladder={"s": LADDER["s"]}, seeds=(0,), papo=None, reuse=None, groups=None)
    page = make(tmp_path, table[table["step"].isin(STEPS[:2])])
    assert page.says("no fit") and page.says("No figure:")


@pytest.mark.parametrize("evaluated", [3, 4, 6])
def test_few_evaluations_of_one_run(tmp_path, plain_figures, evaluated):
    table = study_table(ladder={"s": LADDER["s"]}, seeds=(0,), papo=None, reuse=None, groups=None)
    page = make(tmp_path, table[table["step"].isin(STEPS[:evaluated])])
    assert page.says("1 run of one size")
    assert page.says("needs more evaluated steps: fewer than three windows of four steps fit") == (evaluated < 6)


def test_bare_columns(tmp_path, plain_figures):
    """A hand-made table with nothing but what a fit needs."""
    table = study_table(papo=None, reuse=None, groups=None)[["num_params", "seed", "step", "train_flops", "test_loss"]]
    page = make(tmp_path, table)
    assert page.says("against prompts seen") or page.says("prompts_seen")
    assert page.says("needs compute by kind")


def test_reference_data(tmp_path, plain_figures):
    page = Page(report("reference:qwen2.5_base", tmp_path))
    fitted = analysis.fit("reference:qwen2.5_base")
    n0 = fitted.values["n0"]
    assert page.says(f"N0 = {short_number(n0['value'])} {interval(n0['ci95'], short_number)}")
    assert page.says("One run per size: assumes the law, 5 degrees of freedom")
    assert page.says("The number of runs behind a mean changes within curves or is unknown")
    assert page.says("7B at τ = 100 minus that at τ = 1 is +.020 [−.026, +.065]") and page.says("not established")
    assert page.says("32B is indistinguishable from it")


def test_an_empty_source_is_refused(tmp_path):
    write_cells(tmp_path / "s", [("abc", 4)])
    with pytest.raises(InputError, match="no finished run"):
        report(tmp_path / "s")


# ---------------------------------------------------------------- words


def test_symbols_become_markup_and_words_do_not():
    assert prose("k of N0 & C = 2") == "<i>k</i> of <i>N</i><sub>0</sub> &amp; <i>C</i> = 2"
    assert prose("see Figure 3.") == 'see <a href="#figure-3">Figure 3</a>.'
    assert prose("95 % <b>") == "95\u00a0% &lt;b&gt;"
    assert prose("run-k, CPU and num_params.N") == "run-k, CPU and num_params.N"


@pytest.mark.parametrize(
    ("given", "own", "options"),
    [
        ({}, {}, ""),
        ({}, ANALYSIS, ""),
        ({"seed": 3, "size_column": "num_params", "bounds": "published"}, {},
         " --size-column num_params --seed 3 --bounds published"),
        ({"law": "chinchilla", "x": "tokens_seen", "steps": "3:", "fix": "e=0.1", "objective": "huber"}, {},
         " --law chinchilla --x tokens_seen --objective huber --steps 3: --fix e=0.1"),
        ({"where": "size == 7", "points": ":-8"}, {"where": "a == 1", "x": "step"},
         " --where-only '(a == 1) and (size == 7)' --points :-8"),
        ({"law": "chinchilla"}, {"x": "step", "fix": "n0=13e9"}, " --law chinchilla"),
    ],
)  # fmt: skip
def test_the_command_on_the_page_makes_the_same_choices(given, own, options):
    source = replace(make_curves(synthetic(steps=4)), defaults=own)
    asked = choose_for(source, given)
    said = command(source, "s.csv", asked)
    assert said == f"scaling report s.csv{options}"
    words = shlex.split(said)[3:]
    again = {
        name.removeprefix("--").replace("-", "_"): value for name, value in zip(words[::2], words[1::2], strict=True)
    }
    assert choose_for(source, again | ({"seed": int(again["seed"])} if "seed" in again else {})) == asked


@pytest.mark.parametrize(
    ("warning", "shown"),
    [
        ("b and g of the fit are outside the intervals", "b and g of the fit are outside the intervals."),
        ("b of the fit is outside the interval", "b of the fit is outside the interval."),
        ("a is at a bound of its range", "a is at a bound of its range."),
        ("the fit did not converge", "The fit did not converge."),
        ("k_max is at a bound of its range", "Kmax is at a bound of its range."),
        ("no size improves: k_max is 0 and n0 is undetermined", "No size improves: Kmax is 0 and N0 is undetermined."),
        ("no interval for a, n0: none", "No interval for a and N0: none."),
    ],
)
def test_a_warning_names_parameters_by_their_symbols_and_never_with_a_capital(warning, shown, monkeypatch):
    names = {"a": "a", "b": "b", "g": "g", "k_max": "Kmax", "n0": "N0"}
    monkeypatch.setattr(curves, "get_law", lambda name: SimpleNamespace(symbols=names))
    assert curves.other_warnings({"law": "own", "warnings": [warning]}) == [shown]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("size 1.62e+11 is 2.2 times", "size 162B is 2.2 times"),
        ("points at N = 5e+08, 1.5e+09: nothing", "points at N = 0.5B, 1.5B: nothing"),
        ("at X = 8.97e+20 the law", "at X = 9×10²⁰ the law"),
        ("a loss of 5e-05", "a loss of 5×10⁻⁵"),
        ("where num_params >= 3e9 and step > 2", "where num_params >= 3e9 and step > 2"),
        ("run a1e+05b, 0.5e", "run a1e+05b, 0.5e"),
    ],
)
def test_raw_numbers_of_records_are_words_on_a_page(text, shown):
    assert number_words(text) == shown


def test_counts_and_values_without_an_interval_read_as_words():
    assert (at_x("prompts_seen", 53760.0), at_x("train_flops", 3.5e11)) == ("D = 53,760", "C = 3.5×10¹¹ FLOPs")
    assert (at_x("step", 12.5), at_x("tokens_seen", 2.1e9)) == ("t = 12.5", "T = 2.1×10⁹")
    lines = [{"num_params": n, "efficiency": k, "efficiency_ci95": None} for n, k in ((5e8, 0.007), (72e9, 0.107))]
    fitted = SimpleNamespace(law=SimpleNamespace(each="size"), json=lambda: {"x": "train_flops", "per_size": lines})
    labels = {5e8: "0.5B", 72e9: "72B"}
    said = "Learning efficiency against training compute is k = .007 (0.5B) and .107 (72B), both without an interval."
    assert efficiency_sentence(fitted, labels) == said
    lines[1]["efficiency_ci95"] = [0.1, 0.12]
    assert efficiency_sentence(fitted, labels).endswith(".107 [.100, .120] (72B), that of 0.5B without an interval.")


def test_a_law_that_is_farther_than_a_constant_says_so():
    rng = np.random.default_rng(0)
    table = synthetic(sizes=[1e9, 3e9, 9e9], steps=20)
    table["test_loss"] = np.clip(0.3 + 0.02 * table["step"] + 0.01 * rng.standard_normal(len(table)), 0, 1)
    fitted = analysis.fit(make_curves(table))
    assert fitted.record["goodness"]["r2_within"] <= 0
    fitted.record["goodness"]["r2_within"] = -0.29
    said = " ".join(curves.fit_sentences(fitted))
    assert "A constant for each size is nearer to the points than it (R2 within sizes −.290); pooled" in said
    assert "-29 %" not in said


def test_open_ends_and_missing_intervals_are_words():
    assert interval([0.1, None]) == "[.100, no upper bound]"
    assert interval(None) == "no interval" and interval([None, None]) == "no bounds"
    known = {"value": 0.5, "unit": "1", "identified": True, "ci95": [0.4, 0.6]}
    assert parameter(known) == ".500 [.400, .600]"
    assert parameter(known | {"identified": False, "ci95": [0.4, None]}) == "not identified"


def test_latex_escapes_what_latex_reads():
    assert latex("N0 of a_b: 5 % ≥ 2×10¹⁸ − τ") == r"$N_0$ of a\_b: 5 \% $\geq$ 2$\times$10$^{18}$ $-$ $\tau$"


def test_status_words_have_their_tone():
    assert [tone(word) for word in ("2 done", "not identified", "not established", "yes")] == [
        "ok", "bad", "warning", "none",
    ]  # fmt: skip


def test_a_law_of_reuse_factors_has_a_page_that_speaks_of_them(tmp_path):
    write_run(tmp_path, "a", steps=8, size=5296)
    write_cells(tmp_path, [("a", 8)], {"law": "tau", "x": "step"})
    text = re.sub(r"<[^>]+>", "", report(tmp_path).read_text(encoding="utf-8"))
    assert "There is one reuse factor only, τ = 1: nothing to compare" in text
    assert "Each reuse factor has a line of its own" in text and "size at which k" not in text


@pytest.mark.parametrize(("loss", "what"), [(1.0, "solved nothing, L = 1"), (0.0, "left nothing unsolved, L = 0")])
def test_curves_of_one_number_have_a_page_that_says_what_cannot_be(tmp_path, plain_figures, loss, what):
    """A study folder with pairs, reuse and group sizes in which runs solved nothing, or all."""
    page = make(tmp_path, study_table().assign(test_loss=loss))
    assert page.says(f"What a loss costs is not asked: at their end half of the sizes or more {what}.")
    assert page.says("cannot tell: the loss does not vary")
    assert page.says("There is no R2: the loss does not vary.")
    assert page.says("all fitted losses are equal, so no window has an R2")
    assert not page.says("fewer than three windows")


def test_what_a_split_holds_out_is_held_out_everywhere(tmp_path, plain_figures):
    """72B is in no window, no other fit and no forecast of a page without it; the where and the window are told."""
    choices = {"law": "efficiency", "where": "num_params >= 3e9 and step > 2", "split": "inter"}
    page = Page(report("reference:qwen2.5_base", tmp_path, **choices))
    fitted = analysis.fit("reference:qwen2.5_base", **choices)
    n0 = short_number(fitted.values["n0"]["value"])
    assert fitted.values["n0"]["identified"] and fitted.per_size[-1]["num_params"] == 32e9
    assert page.says(f"this page uses steps 3–105, where it is {n0}")
    assert page.says("The choice of this page is steps 3–105, where num_params >= 3e9 and step > 2, log objective, "
                     "training compute, without 72B; ")  # fmt: skip
    runs = pd.read_csv(tmp_path / "report" / "tables" / "runs.csv").sort_values("num_params")
    assert runs["fitted"].tolist() == ["no", "no", "yes", "yes", "yes", "yes", "held out"]
    new = pd.read_csv(tmp_path / "report" / "tables" / "next_runs.csv").iloc[0]
    assert (new["what"], new["num_params"]) == ("72B, held out", 72e9)
    smaller = "3e9 <= num_params and num_params <= 32e9 and step > 2"
    smaller = analysis.forecast("reference:qwen2.5_base", 72e9, new["x"], where=smaller)
    assert new["loss"] == pytest.approx(smaller["predictions"][0]["loss"])
    assert page.says("Runs that the fits have not seen") and not page.says("Runs that were not made")
    assert page.says("Fitted without 72B, the law predicts k = ")
    assert page.says("scaling report reference:qwen2.5_base --where 'num_params >= 3e9 and step > 2' --split inter")


def test_a_page_of_the_first_part_of_each_curve_uses_no_later_point(tmp_path, plain_figures):
    page = make(tmp_path, study_table(papo=None, reuse=None, groups=None), split="intra:0.5")
    assert page.says("the first 50 % of each curve;") and not page.says("Fitted without")
    runs = pd.read_csv(tmp_path / "out" / "report" / "tables" / "runs.csv")
    assert set(runs["fitted"]) == {"in part"}
