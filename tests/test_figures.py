"""Every figure in both layouts: what is drawn, what is said of it, and that nothing overlaps or leaves the canvas."""

import html
import io
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from synthetic_curves import LADDER, study_table, synthetic

import analysis
from analysis import figures, make_curves, reproduce
from analysis.figures.axes import plain_ticks
from analysis.figures.labels import spread_groups
from analysis.figures.sensitivity import size_unit
from analysis.figures.style import STYLE, WIDTH, size_colours, style
from analysis.fitting.choices import Choices
from analysis.intervals.means import t_interval
from analysis.questions.envelope import envelope
from analysis.questions.finals import evaluations
from analysis.questions.pairs import compared_algorithms, effects, pair_summary
from analysis.words import counted, interval_text, joined, number, power_of_ten, short_number, size_labels
from scaling.schema import InputError

MAIN = "algorithm == grpo and reuse_factor == 1 and group_size == 16"
LAYOUTS = ["full", "column"]
DPI = 200  # as saved: words may be wider there than in the layout


class Case:
    """Curves with a fit, and the call of each figure on them."""

    def __init__(self, table, where=MAIN, split="none", **more):
        self.curves = make_curves(table, "synthetic")
        steps = more.pop("steps", "3:")
        self.fit = analysis.fit(self.curves, where=where, steps=steps, split=split, **more)
        others = analysis.fit(self.curves, where=where, steps=steps, x="prompts_seen", **more)
        self.makers = {
            "loss_vs_compute": lambda **o: figures.loss_curves(self.curves, self.fit, **o),
            "loss_vs_prompts": lambda **o: figures.loss_curves(self.curves, others, x="prompts_seen", **o),
            "efficiency": lambda **o: figures.efficiency(self.curves, self.fit, **o),
            "frontier": lambda **o: figures.frontier(self.curves, self.fit, **o),
            "reuse": lambda **o: figures.reuse(self.curves, **o),
            "group_size": lambda **o: figures.group_size(self.curves, steps=steps, **o),
            "algorithms": lambda **o: figures.algorithm_comparison(self.curves, **o),
            "multiplier": lambda **o: self.multiplier(steps, **o),
            "compute_split": lambda **o: figures.compute_split(self.curves, **o),
            "sensitivity": lambda **o: figures.sensitivity(self.curves, self.fit, **o),
        }
        self.kept = {}

    def multiplier(self, steps, **options):
        labels = size_labels(evaluations(self.curves))
        given = effects(self.curves, Choices(steps=steps), labels)
        return figures.multiplier(given, list(labels), **options)

    def draw(self, name, layout="full"):
        if (name, layout) not in self.kept:
            self.kept[name, layout] = self.makers[name](layout=layout)
        return self.kept[name, layout]


NAMES = [
    "loss_vs_compute", "loss_vs_prompts", "efficiency", "frontier", "reuse", "group_size", "algorithms",
    "multiplier", "compute_split", "sensitivity",
]  # fmt: skip


@pytest.fixture(scope="module")
def bare():
    """A machine with no font but DejaVu Sans, a fifth wider than Arial."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STYLE, "font.sans-serif", ["DejaVu Sans"])
        yield


@pytest.fixture(scope="module")
def study(bare):
    return Case(study_table())


@pytest.fixture(scope="module")
def seven(bare):
    """Seven sizes with one run each, as published curves are; the last part of each curve is held out."""
    return Case(synthetic(noise=1, steps=40), where=None, steps=None, split="intra:0.6")


def texts_drawn(figure):
    """(text, box in points) of every text that a drawing really shows: ticks outside the limits are not among them."""
    found = {}  # saving draws more than once
    draw = Text.draw

    def recorded(self, renderer, *args, **more):
        if self.get_visible() and self.get_text().strip():
            found[id(self)] = self.get_text(), self.get_window_extent(renderer).extents * 72 / DPI
        return draw(self, renderer, *args, **more)

    with pytest.MonkeyPatch.context() as patch, style():
        patch.setattr(Text, "draw", recorded)
        figure.savefig(io.BytesIO(), dpi=DPI)
    return list(found.values())


def assert_room(drawn):
    figure = drawn.figure
    width, height = figure.get_size_inches() * 72
    texts = texts_drawn(figure)
    for text, (x0, y0, x1, y1) in texts:
        assert x0 > -0.5 and y0 > -0.5 and x1 < width + 0.5 and y1 < height + 0.5, f"{text!r} leaves the canvas"
    for i, (text, a) in enumerate(texts):
        for other, b in texts[:i]:
            # Boxes hold room above and below the letters: 1.5 pt of it may be shared.
            across = min(a[2], b[2]) - max(a[0], b[0]) > 0.5
            assert not (across and min(a[3], b[3]) - max(a[1], b[1]) > 1.5), f"{text!r} overlaps {other!r}"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_texts_neither_overlap_nor_leave_the_canvas(study, name, layout):
    assert_room(study.draw(name, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["loss_vs_compute", "efficiency", "frontier", "sensitivity"])
def test_texts_of_seven_sizes_neither_overlap_nor_leave_the_canvas(seven, name, layout):
    assert_room(seven.draw(name, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_size_of_figure(study, name, layout):
    width, height = study.draw(name, layout).figure.get_size_inches()
    assert width == {"full": 6.8, "column": 3.3}[layout]
    assert 2.6 <= height <= 4.5


@pytest.mark.parametrize("name", NAMES)
def test_inline_svg_is_small_named_and_has_ids_of_its_own(study, name):
    drawn = study.draw(name)
    svg = figures.inline_svg(drawn.figure, f"{name}-x")
    assert len(svg.encode()) <= 300_000
    ids = re.findall(r'\sid="([^"]*)"', svg)
    assert ids and len(ids) == len(set(ids))
    assert all(i.startswith(f"{name}-x-") for i in ids)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    assert used <= set(ids)
    assert svg.startswith('<svg role="img"')
    assert html.escape(drawn.title) in svg and html.escape(drawn.finding) in svg
    assert "<text" not in svg  # paths: the same picture without the font


def test_transforms_keep_their_digits(study):
    svg = figures.inline_svg(study.draw("efficiency").figure, "e")
    scales = re.findall(r'transform="[^"]*scale\(([\d.]+)', svg)
    assert any(len(scale.split(".")[-1]) > 2 for scale in scales)
    assert not re.search(r'\sd="[^"]*\d\.\d{3}', svg)


def test_equal_input_gives_equal_bytes(study, tmp_path):
    """Made again from the start, in another folder. The report's test compares the files of all figures."""
    again = Case(study_table()).makers["frontier"]
    figures.save(study.draw("frontier"), study.draw("frontier", "column"), tmp_path / "a", "frontier")
    figures.save(again(layout="full"), again(layout="column"), tmp_path / "b", "frontier")
    written = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert written == ["frontier.csv", "frontier.png", "frontier.svg", "frontier_col.svg"]
    for file in written:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


@pytest.fixture(scope="module")
def moved_study(bare):
    """Other data of the same shape."""
    table = study_table(seed=5, k_max=1.2)
    table["eval_flops"] *= 1.5
    table["train_flops"] *= 1.3
    return Case(table)


@pytest.mark.parametrize("name", NAMES)
def test_caption_and_finding_follow_the_data(study, moved_study, name):
    """Other data: other numbers in the caption and in the sentence for those who do not see the figure."""
    moved, drawn = moved_study.draw(name), study.draw(name)
    assert moved.title == drawn.title
    assert moved.caption != drawn.caption or name == "compute_split"  # its numbers stand in the finding
    assert moved.finding != drawn.finding
    assert drawn.caption.startswith(drawn.title)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "name", ["loss_vs_compute", "loss_vs_prompts", "frontier", "group_size", "reuse", "algorithms"]
)
def test_no_loss_above_one_is_drawn(study, name, layout):
    """Also where a line or a band goes there, and on an axis that begins just above 1."""
    for ax in study.draw(name, layout).figure.axes:
        if "loss" not in ax.get_ylabel() or "law" in ax.get_ylabel():
            continue
        assert ax.get_ylim()[1] <= 1.05
        for line in ax.lines:
            if line.get_transform() == ax.transData:
                assert np.nanmax(np.append(np.asarray(line.get_ydata(), float), 0)) <= 1 + 1e-9
        for area in ax.collections:
            if isinstance(area, FillBetweenPolyCollection):
                assert max(path.vertices[:, 1].max() for path in area.get_paths()) <= 1 + 1e-9


def test_a_law_line_above_one_is_cut(bare):
    """Small models whose early points lie near 1: the dashed part of their own line would start above it."""
    found = Case(study_table(k_max=2.5, n0=3e4)).draw("frontier")
    lines = found.table["test_loss_line"]
    assert lines.max() <= 1
    assert (lines > 0.9).any()


@pytest.fixture(scope="module")
def reference(bare):
    return reproduce.Study()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_loss_decomposition_has_room_and_draws_no_loss_above_one(reference, layout):
    drawn = reproduce.decomposition_figure(reference, layout=layout)
    assert_room(drawn)
    assert len(figures.inline_svg(drawn.figure, "d").encode()) <= 300_000
    assert drawn.figure.get_size_inches()[0] == WIDTH[layout]
    for ax in drawn.figure.axes[:2]:
        assert max(np.max(line.get_ydata()) for line in ax.lines) <= 1


def test_the_loss_decomposition_is_dashed_where_it_predicts_and_says_how_well(reference):
    drawn, found = reproduce.decomposition_figure(reference), reference.decomposition
    table = drawn.table[drawn.table["panel"] == "b"]
    new = table[table["num_params"] == 72e9]
    points, line = (new[new["mark"] == mark] for mark in ("evaluation", "law"))
    held, dashed = points[points["state"] == "held out"], line[line["state"] == "extrapolated"]
    assert len(held) == len(found.late) and len(points) == len(held) + len(found.early)
    assert dashed["prompts_seen"].min() > points.loc[points["state"] == "fitted", "prompts_seen"].max()
    assert (table.loc[table["num_params"] < 72e9, "state"] == "fitted").all()
    # The error that the caption names is that of the curve that is drawn.
    at = np.exp(np.interp(np.log(held["prompts_seen"]), np.log(line["prompts_seen"]), np.log(line["test_loss"])))
    error = np.sqrt(np.mean(np.log(at / held["test_loss"]) ** 2))
    scores = reproduce.decomposition_table(reference).frame
    assert error == pytest.approx(scores["rmse_law"].iloc[1], rel=0.01)
    for column in ("rmse_law", "rmse_per_size", "rmse_last_value"):
        assert all(number(value) in drawn.caption for value in scores[column])


# ---------------------------------------------------------------- what is drawn stands in the table


def points_of(ax, **wanted):
    """All (x, y) of the lines of an axes whose properties are as wanted."""
    lines = [line for line in ax.lines if all(line.properties()[key] == value for key, value in wanted.items())]
    return np.concatenate([np.column_stack([line.get_xdata(), line.get_ydata()]) for line in lines])


def test_loss_curves_table_holds_every_point_and_line(study):
    drawn = study.draw("loss_vs_compute")
    left = drawn.figure.axes[0]
    table = drawn.table
    points = points_of(left, linestyle="None", marker="o")
    evaluations = table[table["mark"] == "evaluation"]
    assert sorted(points[:, 1]) == pytest.approx(sorted(evaluations["test_loss"]))
    assert len(points) == 8 * 11  # eight runs, eleven steps: none is hidden
    solid = points_of(left, linestyle="-", linewidth=1.6)
    law = table[(table["mark"] == "law") & (table["state"] == "fitted")]
    assert np.sort(solid[:, 0]) == pytest.approx(np.sort(law["train_flops"]))
    assert np.sort(solid[:, 1]) == pytest.approx(np.sort(law["test_loss"]))


def test_law_is_solid_only_over_the_fitted_points(seven):
    drawn = seven.draw("loss_vs_compute")
    left, table = drawn.figure.axes[0], drawn.table
    fitted = table[(table["mark"] == "evaluation") & (table["state"] == "fitted")]
    for size, rows in fitted.groupby("num_params"):
        law = table[(table["mark"] == "law") & (table["num_params"] == size)]
        part = law.groupby("state")["train_flops"].agg(["min", "max"])
        ends = rows["train_flops"].min(), rows["train_flops"].max()
        assert tuple(part.loc["fitted"]) == pytest.approx(ends, rel=1e-9)
        assert part.loc["extrapolated", "min"] == pytest.approx(ends[1], rel=1e-9)
    solid = points_of(left, linestyle="-", linewidth=1.6)
    assert solid[:, 0].max() <= fitted["train_flops"].max() * 1.001
    held = table[(table["mark"] == "evaluation") & (table["state"] == "held out")]
    assert len(held) == seven.fit.record["held_out"]["n_points"]
    assert "tuned on it: nothing" in drawn.caption


def test_efficiency_markers_are_the_fit(study):
    drawn = study.draw("efficiency")
    ax = drawn.figure.axes[0]
    markers = [line for line in ax.lines if line.get_marker() == "o" and line.get_markersize() == 5.5]
    assert [line.get_ydata()[0] for line in markers] == pytest.approx([row["efficiency"] for row in study.fit.per_size])
    sizes = drawn.table[drawn.table["mark"] == "size"]
    assert sizes["ci95_low"].tolist() == pytest.approx([row["efficiency_ci95"][0] for row in study.fit.per_size])
    runs = drawn.table[drawn.table["mark"] == "run"]
    assert len(runs) == 8


def test_n0_and_kmax_are_drawn_only_where_they_are_identified(study, bare):
    assert study.fit.values["n0"]["identified"]
    known = study.draw("efficiency")
    assert any("K" in text and "max" in text for text, _ in texts_drawn(known.figure))
    assert (known.table["part"] == "extrapolated").any()
    assert short_number(study.fit.values["n0"]["value"]) in known.caption
    steep = Case(study_table(k_max=40.0, n0=1e7))
    assert not steep.fit.values["n0"]["identified"]
    unknown = steep.draw("efficiency")
    words = [text for text, _ in texts_drawn(unknown.figure)]
    assert any("not identified" in text for text in words)
    assert not (unknown.table["part"] == "extrapolated").any()
    assert "Not identified by these data: Kmax and N0" in unknown.caption
    assert short_number(steep.fit.values["n0"]["value"]) not in unknown.caption
    assert "no limit is identified" in unknown.finding


def test_open_marker_where_the_interval_holds_zero(bare):
    flat = Case(study_table(k_max=0.02, n0=1e4, seed=3))
    ax = flat.draw("efficiency").figure.axes[0]
    markers = [line for line in ax.lines if line.get_marker() == "o" and line.get_markersize() == 5.5]
    holds = [row["efficiency_ci95"][0] <= 0 <= row["efficiency_ci95"][1] for row in flat.fit.per_size]
    assert any(holds)
    assert [line.get_markerfacecolor() == "white" for line in markers] == holds


def test_frontier_is_the_lowest_line_and_grey_where_it_is_not_rejected(study):
    table = study.draw("frontier").table
    for _, at in table.groupby("train_flops"):
        assert at.loc[at["best"], "test_loss_line"].iloc[0] == at["test_loss_line"].min()
        if len(at) > 1:
            assert at.loc[at["best"], "not_rejected_as_best"].all()
        else:
            assert not at["not_rejected_as_best"].any()
    law = {row["num_params"]: row for row in study.fit.per_size}
    row = table.iloc[len(table) // 2]
    own = law[row["num_params"]]
    assert row["test_loss_line"] == pytest.approx(
        np.exp(own["intercept"] - own["efficiency"] * np.log(row["train_flops"]))
    )


def test_frontier_finds_a_known_crossover(bare):
    """Two exact lines: ln L = -.1 ln C + 1 and -.3 ln C + 5 cross at ln C = 20."""
    frames = []
    for size, k, level in [(1e6, 0.1, 1.0), (1e7, 0.3, 5.0)]:
        flops, ripple = np.exp(np.linspace(18, 22, 9)), 0.004 * (-1.0) ** np.arange(9)
        frames += [
            pd.DataFrame({
                "run_id": f"{size:.0f}-{seed}", "num_params": size, "seed": seed, "step": np.arange(1, 10),
                "train_flops": flops, "test_loss": np.exp(level - k * np.log(flops)) * (1 + ripple * (-1) ** seed),
            })
            for seed in (0, 1)
        ]  # fmt: skip
    curves = make_curves(pd.concat(frames, ignore_index=True), "two")
    fit = analysis.fit(curves, law="per_size")
    found = envelope(fit)
    switch = found.switches.iloc[0]
    assert switch["kind"] == "crossover" and (switch["before"], switch["after"]) == (1e6, 1e7)
    assert np.log(switch["x"]) == pytest.approx(20, abs=0.02)
    assert switch["low"] < switch["x"] < switch["high"]
    assert np.log(switch["high"] / switch["low"]) < 0.5


def test_untrained_models_are_named_where_the_frontier_only_ranks_them(study):
    drawn = study.draw("frontier")
    start = study.curves.table.query("step == 0 and algorithm == 'grpo' and reuse_factor == 1 and group_size == 16")
    best = start.groupby("num_params_non_embedding")["test_loss"].mean().min()
    assert f"has loss {number(best)}" in drawn.caption


def test_reuse_table_and_difference(study):
    drawn = study.draw("reuse")
    table = drawn.table
    assert sorted(table["reuse_factor"].unique()) == [1, 32]
    means = table.groupby("reuse_factor")["final_test_loss"].mean()
    assert number(means[32] - means[1], sign=True) in drawn.finding
    assert "2 pairs by seed" in drawn.finding
    markers = [line for line in drawn.figure.axes[0].lines if line.get_markersize() == 5.5]
    assert [line.get_ydata()[0] for line in markers] == pytest.approx(means.tolist())


def test_reuse_with_one_run_each_has_no_interval_and_says_so(bare):
    drawn = Case(study_table(seeds=(0,)), law="per_size").draw("reuse")
    assert "no interval" in drawn.finding and "No setting was run twice" in drawn.caption
    assert "[" not in drawn.finding


def test_algorithm_differences_are_paired_by_seed(study):
    drawn = study.draw("algorithms")
    table = drawn.table
    assert len(table) == 2 and set(table["seed"]) == {0, 1}
    runs = study.curves.table.query("num_params_non_embedding == 55824 and reuse_factor == 1 and group_size == 16")
    last = runs[runs["step"] == 60].set_index(["algorithm", "seed"])["test_loss"]
    expected = [last["papo", seed] - last["grpo", seed] for seed in (0, 1)]
    assert table["difference_papo_minus_grpo"].tolist() == pytest.approx(expected)
    low, high = table[["mean_difference_ci95_low", "mean_difference_ci95_high"]].iloc[0]
    assert f"{number(np.mean(expected), sign=True)} {interval_text(low, high, sign=True)}" in drawn.finding
    right = drawn.figure.axes[1]
    marker = next(line for line in right.lines if line.get_marker() == "s")
    assert marker.get_xdata()[0] == pytest.approx(np.mean(expected))
    assert (marker.get_markerfacecolor() == "white") == (low <= 0 <= high)
    assert ("not established" in drawn.finding) == (low <= 0 <= high)


def test_pairs_that_agree_by_luck_have_the_test_sets_own_width():
    low, high = t_interval(np.array([-0.010, -0.010]), noise=0.01)
    assert high - low == pytest.approx(2 * 1.96 * 0.01 / np.sqrt(2), rel=1e-3)
    assert t_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert t_interval(np.array([1.0])) == (-np.inf, np.inf)


def test_runs_of_another_condition_are_never_averaged_in(study, bare):
    """The same study with every run once more on another task, where losses are halved."""
    table = study_table()
    other = table.assign(run_id=table["run_id"] + "-mod10", test_loss=table["test_loss"] / 2)
    both = pd.concat([table.assign(modulus=16), other.assign(modulus=10)])
    both.loc[both["run_id"].str.startswith("us") & (both["modulus"] == 10), "modulus"] = 16  # 16 is the usual one
    both = both[~(both["run_id"].str.startswith("us") & both["run_id"].str.endswith("mod10"))]
    mixed = make_curves(both.rename(columns={"modulus": "task.modulus"}), settings=["task.modulus"])
    pairs = pair_summary(compared_algorithms(study.curves).pairs).set_index("label")
    split = pair_summary(compared_algorithms(mixed).pairs).set_index("label")
    (label,) = pairs.index
    assert set(split.index) == {label, f"{label} (modulus 10)"}
    assert split.loc[label].to_dict() == pytest.approx(pairs.loc[label].to_dict())
    halved = split.loc[f"{label} (modulus 10)"]
    assert halved["difference"] == pytest.approx(pairs.loc[label, "difference"] / 2)
    for name in ("reuse", "group_size"):
        one, many = getattr(figures, name)(study.curves).table, getattr(figures, name)(mixed).table
        assert len(one) == len(many)
    shares = figures.compute_split(mixed).table
    assert len(shares) == 2 * len(figures.compute_split(study.curves).table) - 1


def test_compute_shares_sum_to_the_bars(study):
    drawn = study.draw("compute_split")
    shares = drawn.table.filter(like="_share_percent")
    assert shares.sum(axis=1).tolist() == pytest.approx([100] * len(shares))
    assert drawn.table["update_share_percent"].tolist() == pytest.approx([100 * 0.9 / 1.7] * len(shares))
    bars = [bar for container in drawn.figure.axes[0].containers for bar in container]
    assert sorted(bar.get_width() for bar in bars) == pytest.approx(sorted(shares.to_numpy().ravel()))
    assert "No compute went to: log-probs, judge" in drawn.caption


def test_sensitivity_marks_its_own_window_and_refits_the_others(study):
    drawn = study.draw("sensitivity")
    table = drawn.table
    own = table[(table["first_step"] == 3) & (table["last_step"] == 60)]
    assert own["n0"].iloc[0] == pytest.approx(study.fit.values["n0"]["value"], rel=1e-9)
    row = table.iloc[0]
    window = f"{row['first_step']}:{row['last_step']}"
    again = analysis.fit(study.curves, where=MAIN, steps=window)
    assert row["n0"] == pytest.approx(again.values["n0"]["value"], rel=1e-9)
    assert row["r2_pooled_constant"] < row["r2_pooled"]
    cells = [text for text, _ in texts_drawn(drawn.figure)]
    unit, _ = size_unit(study.fit.values["n0"]["value"])
    for value in table.loc[~table["no_finite_optimum"], "n0"]:
        assert f"{value / unit:.2g}" in cells


# ---------------------------------------------------------------- what the data cannot carry


@pytest.mark.parametrize(
    ("name", "table", "reason"),
    [
        ("reuse", {"reuse": None}, "two values of data reuse"),
        ("group_size", {"groups": None}, "two group sizes"),
        ("algorithms", {"papo": None}, "two algorithms; there is only grpo"),
        ("frontier", {"ladder": {"s": LADDER["s"]}}, "two choices"),
    ],
)
def test_absent_data_is_a_reason_and_no_figure(bare, name, table, reason):
    case = Case(study_table(**table), law="per_size")
    with pytest.raises(InputError, match=reason):
        case.makers[name](layout="full")


def test_absent_columns_are_a_reason_and_no_figure(bare):
    table = study_table()
    with pytest.raises(InputError, match="needs compute by kind; t does not count that of rollouts"):
        figures.compute_split(make_curves(table.drop(columns="rollout_flops"), "t"))
    with pytest.raises(InputError, match="seed"):
        figures.algorithm_comparison(make_curves(table.drop(columns="seed"), "t"))
    with pytest.raises(InputError, match="not a layout"):
        figures.compute_split(make_curves(table, "t"), layout="wide")


def test_a_fit_from_its_record_has_nothing_to_draw(study):
    with pytest.raises(InputError, match="fit the curves again"):
        figures.plot_fit(analysis.Fit.from_json(study.fit.record))


# ---------------------------------------------------------------- numbers and colours


def test_numbers_as_they_are_written():
    assert number(0.0426) == ".043" and number(-0.0426) == "−.043"
    assert number(-0.0001) == ".000" and number(0.02, sign=True) == "+.020"
    assert number(1.25, 2) == "1.25"
    shown = {999.9: "1k", 5296: "5.3k", 841e3: "841k", 0.5e9: "0.5B", 7e9: "7B", 1.2e12: "1.2T"}
    assert [short_number(n) for n in shown] == list(shown.values())
    assert power_of_ten(2.1e18) == "2.1×10¹⁸"
    assert power_of_ten(9.97e18) == "1×10¹⁹"
    assert counted(1, "run") == "1 run" and counted(1214, "point") == "1,214 points"
    assert joined(["a", "b", "c"]) == "a, b and c"


def test_one_colour_per_size_ends_kept_and_darker_with_size():
    colours = size_colours([1e3, 1e4, 1e5, 1e6])
    assert colours[1e3].upper() == "#CE8703" and colours[1e6].upper() == "#160A4A"
    dark = [
        sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), to_rgb(colour), strict=True)) for colour in colours.values()
    ]
    assert dark == sorted(dark, reverse=True)


def test_labels_are_moved_apart_by_the_gap_and_keep_their_order():
    heights = spread_groups([(0, 10, 50.0), (0, 10, 51.0), (0, 10, 49.0), (50, 60, 50.0)], 8.6)
    assert heights[3] == 50
    assert heights[1] - heights[0] == pytest.approx(8.6) and heights[0] - heights[2] == pytest.approx(8.6)
    assert heights[:3].mean() == pytest.approx(50)
    pushed = spread_groups([(0, 10, 50.0), (0, 10, 51.0)], 8.6, (0, 50))
    assert pushed.tolist() == pytest.approx([41.4, 50])


def test_ticks_of_a_small_range_are_round_and_not_too_many():
    assert plain_ticks(0.66, 0.75) == [0.66, 0.68, 0.7, 0.72, 0.74]
    assert plain_ticks(1, 100, 5) == [1, 3, 10, 30, 100]
