"""The study file: what it means, and how mistakes are told."""

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.fitting.choices import SECTION
from scaling.compute import of_equal_group, rollout_flops
from scaling.config.reading import read_yaml
from scaling.models import model_shape
from scaling.schema import InputError
from sweeps.cost import Estimator
from sweeps.plan import cells_document, covarying, make_plan
from sweeps.printed import Row
from sweeps.study import ANALYSIS_KEYS, STUDIES, load_study, parse_study, with_path

GOLDEN = Path(__file__).parent / "golden" / "run_ids.json"
SHIPPED = sorted(path.stem for path in STUDIES.glob("*.yaml"))


def study(**values):
    return parse_study({"study": "q", **values}, "q.yaml")


def grid(axes, **base):
    return make_plan(study(base={"model": "xs", **base}, blocks=[{"axes": axes}]))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_ids_of_shipped_studies_are_golden(name):
    """To accept a change: python tests/test_study.py"""
    ids = {run.name: run.run_id for run in make_plan(load_study(name)).runs}
    assert ids == json.loads(GOLDEN.read_text())[name]


def test_the_quickstart_study_is_twelve_runs():
    plan = make_plan(load_study("quickstart"))
    assert len(plan.runs) == len(plan.cells) == 12
    assert len(plan.bases()) == 8
    by_name = {run.name: run.config for run in plan.runs}
    assert by_name["xs-tau32-seed0"].data.prompts_unique == 30
    assert by_name["s-papo-seed1"].algorithm.type == "papo"
    assert by_name["m-seed1"].base_seed == 1
    assert {config.stop.steps for config in by_name.values()} == {60}


def test_axes_are_a_product_and_zip_moves_in_step():
    block = {"zip": {"model": ["us", "xs"], "stop.steps": [5, 7]}, "axes": {"seed": [0, 1, 2]}}
    plan = make_plan(study(blocks=[block]))
    assert {(r.config.model.size, r.config.stop.steps) for r in plan.runs} == {("us", 5), ("xs", 7)}
    assert len(plan.runs) == 6
    assert covarying(plan) == []  # each decides the other: neither says less


def test_where_drops_combinations_and_says_so():
    block = {"axes": {"model": ["us", "xs"], "seed": [0, 1]}, "where": "model == us or seed == 0"}
    plan = make_plan(study(blocks=[block]))
    assert [run.name for run in plan.runs] == ["us-seed0", "us-seed1", "xs-seed0"]
    assert plan.dropped == ["main: model=xs, seed=1"]


def test_cells_that_differ_only_in_their_stop_share_a_run():
    plan = grid({"stop.steps": [10, 40, 20]})
    (run,) = plan.runs
    assert run.config.stop.steps == 40
    assert {stop.steps for stop in run.config.stop.also_evaluate} == {10, 20}
    assert {cell.name for cell in plan.cells} == {"xs-seed0-steps10", "xs-seed0-steps20", "xs-seed0-steps40"}
    assert run.name == "xs-seed0"
    assert len({cell["run_id"] for cell in cells_document(plan)["cells"]}) == 1


def test_an_iso_flop_grid_is_a_list_of_budgets():
    plan = make_plan(
        study(base={"model": "xs"}, blocks=[{"axes": {"stop": [{"train_flops": 1e9}, {"train_flops": 4e9}]}}])
    )
    assert plan.runs[0].config.stop.train_flops == 4e9
    assert Estimator(plan).estimate(plan.runs[0].config).train_flops == pytest.approx(4.8e9, rel=1e-3)  # whole steps


def test_stops_in_two_units_are_refused():
    with pytest.raises(InputError, match="one run that stops in two units"):
        grid({"stop": [{"steps": 5}, {"train_flops": 1e9}]})


@pytest.mark.parametrize("stop", [{"steps": 60}, {}])
def test_compute_by_reuse_takes_the_prompts_that_the_budget_buys(stop):
    """`stop.steps` said D alone: tau 4 was planned as 240 distinct prompts of the 80 that the budget buys."""
    axes = {"data.reuse_factor": [1, 4], "stop.train_flops": [1e9, 4e9]}
    runs = grid(axes, model="us", **({"stop": stop} if stop else {})).runs
    # 1e9 / (6 x 5,296 x 16 rollouts x 30 tokens) = 65.6 prompts are 5 steps of 16, 4e9 buy 17 steps.
    assert [run.config.data.prompts_unique for run in runs] == [None, 80 // 4, 17 * 16 // 4]
    assert len({run.name for run in runs}) == 3 and all("-tau4-" in run.name for run in runs[1:])
    assert [len(run.cells) for run in runs] == [2, 1, 1]  # without repeats the budgets are points of one curve
    rows = [Row(run, "", Estimator(grid(axes, model="us")).estimate(run.config)) for run in runs]
    assert [row.reuse_factor for row in rows] == [1, 4, 4]


def test_a_run_takes_whole_steps_and_one_at_least():
    """A budget of a hundredth of a prompt was planned as .0066 prompts, with 4 distinct ones at tau 4."""
    plan = grid({"data.reuse_factor": [1, 4], "stop.train_flops": [1e5]}, model="us")
    rows = [Row(run, "", Estimator(plan).estimate(run.config)) for run in plan.runs]
    assert [(r.estimate.steps, r.estimate.prompts, r.prompts_unique, r.reuse_factor) for r in rows] == [
        (1, 16, 16, 1),
        (1, 16, 4, 4),
    ]
    assert {row.estimate.train_flops for row in rows} == {6 * 5296 * 16 * 16 * 30}
    stop, data = {"prompts": 100, "train_flops": 1e9}, {"prompts_unique": 1000}
    (run,) = grid({"seed": [0]}, model="us", stop=stop, data=data).runs
    row = Row(run, "", Estimator(plan).estimate(run.config))
    assert (row.estimate.steps, row.estimate.prompts, row.prompts_unique, row.reuse_factor) == (5, 80, 80, 1)


def test_the_cost_of_a_group_is_linear_in_its_size():
    """A group of 1e8 was an array of 1e8 lengths."""
    plan = grid({"rollout.group_size": [100, 100_000_000]})
    small, large = (Estimator(plan).estimate(run.config) for run in plan.runs)
    assert large.update_flops == pytest.approx(1e6 * small.update_flops, rel=0.02)  # but for the shared prompt
    shape, lengths = model_shape("xs", 32), (9.0, 21.0)
    of_all = rollout_flops(shape, np.array([9.0]), np.full((1, 7), 21.0))
    assert of_equal_group(rollout_flops, shape, lengths, 7) == pytest.approx(of_all)


def test_a_budget_beyond_the_steps_leaves_the_distinct_prompts_to_the_steps():
    by_steps, with_budget = (
        grid({"data.reuse_factor": [32]}, stop={"steps": 60, **more}).runs[0] for more in ({}, {"train_flops": 1e12})
    )
    assert with_budget.config.data.prompts_unique == 30
    assert with_budget.run_id == by_steps.run_id


def test_unique_prompts_and_tau_make_the_stop():
    (run,) = make_plan(study(base={"model": "xs", "data": {"prompts_unique": 32, "reuse_factor": 10}})).runs
    assert run.config.stop.prompts == 320


def test_equal_cells_of_two_blocks_are_one_run():
    plan = make_plan(study(base={"model": "xs"}, blocks=[{"axes": {"seed": [0, 1]}}, {"axes": {"seed": [1, 2]}}]))
    assert [run.name for run in plan.runs] == ["xs-seed0", "xs-seed1", "xs-seed2"]


def test_ten_thousand_cells_have_names_and_ids_of_their_own():
    plan = grid({"seed": list(range(100)), "rollout.group_size": list(range(2, 102))})
    assert len({run.name for run in plan.runs}) == len({run.run_id for run in plan.runs}) == 10_000


def test_a_field_can_be_set_inside_a_shorthand():
    assert with_path({"model": "xs"}, ["model", "dtype"], "bfloat16") == {"model": {"size": "xs", "dtype": "bfloat16"}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"blocks": [{}, {"axes": {"data.reuse_facter": [1]}}]},
            "q.yaml: blocks[1].axes.data.reuse_facter is not a field of DataConfig; it has prompts_per_step, "
            "prompts_unique, reuse_factor, pass_order. Did you mean data.reuse_factor?",
        ),
        (
            {"blcks": []},
            "'blcks' is not a key of a study file; it has study, recipe, base, blocks, analysis. Did you mean blocks?",
        ),
        ({"blocks": [{"axs": {}}]}, "q.yaml: blocks[0]: 'axs' is not a key of a block"),
        ({"base": {"data": {"promts_per_step": 1}}}, "base.data.promts_per_step is not a field of DataConfig"),
        (
            {"base": {"optimizer": {"learning_rate": "5e-4"}, "model": "xs"}},
            "learning_rate: wants a number, not '5e-4'",
        ),
        ({"blocks": [{"axes": {"model": ["xz"]}}]}, "'xz' is not a size of the ladder; there are us, xs, s, m, l, xl"),
        ({"blocks": [{"axes": {"model": ["xs"], "algorithm.type": ["ppo"]}}]}, "'ppo' is not an algorithm"),
        (
            {"blocks": [{"axes": {"model": ["xs"], "algorithm.process_wight": [1]}}]},
            "Did you mean algorithm.process_weight?",
        ),
        ({"blocks": [{"axes": {"seed": 0}}]}, "blocks[0].axes.seed wants a list of at least one value, not 0"),
        ({"blocks": [{"axes": {"seed": []}}]}, "wants a list of at least one value"),
        ({"blocks": [{"axes": {"seed": [0, 0]}}]}, "names a value twice"),
        ({"blocks": [{"axes": {"seed.x": [0]}}]}, "seed is a value and has no fields"),
        ({"blocks": []}, "blocks wants a list of grids"),
        ({"blocks": [{"zip": {"seed": [0], "model": ["us", "xs"]}}]}, "as many values each; seed has 1, model has 2"),
        ({"blocks": [{"set": {"seed": 1}, "axes": {"seed": [0]}}]}, "seed is set twice in one block"),
        (
            {"blocks": [{"axes": {"model": ["xs"]}, "where": "modl == xs"}]},
            "modl is not set in this block; it sets model",
        ),
        ({"blocks": [{"axes": {"model": ["xs"]}, "where": "model"}]}, "is not of the form `field == value`"),
        (
            {"blocks": [{"axes": {"model": ["xs"]}, "where": "model == us"}]},
            "model is never 'us' in this block; it is xs",
        ),
        ({"blocks": [{"axes": {"seed": [0]}, "where": "seed == 1"}]}, "main.where: no combination is left"),
        ({"blocks": [{"axes": {"model": ["xs"]}, "where": "model > 3"}]}, "compares a word with a number"),
        (
            {"base": {"model": "xs", "stop": {"steps": -1}}},
            "stop.steps: wants a whole number greater than or equal to 1, not -1.",
        ),
        (
            {"base": {"model": "xs", "stop": {"steps": 60}, "data": {"prompts_unique": 31, "reuse_factor": 32}}},
            "contradicts D = 960 prompts at reuse_factor 32: 960 / 32 = 30",
        ),
        ({"base": {"model": "xs", "data": {"reuse_factor": 7}}}, "960 prompts / 7 = 137.143"),
        ({"base": {}}, "q.yaml: main: model is missing"),
        ({"study": "a/b"}, "study wants a name"),
        ({"study": None}, "study wants a name"),
        ({"recipe": "tan", "base": {"model": "xs"}}, "recipe 'tan' is not shipped"),
        ({"analysis": {"objectve": "log"}}, "Did you mean objective?"),
        ({"blocks": [{"name": "a"}, {"name": "a"}]}, "two blocks are called 'a'"),
    ],
)
def test_mistakes_are_told_in_one_line(values, message):
    with pytest.raises(InputError) as caught:
        make_plan(study(**values))
    assert message in str(caught.value)
    assert str(caught.value).startswith("q.yaml")
    assert "\n" not in str(caught.value)


def test_a_misspelt_shipped_study_names_the_nearest():
    with pytest.raises(InputError, match=r"Did you mean quickstart\?"):
        load_study("quikstart")


def test_a_file_keeps_its_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# why\nstudy: mine\nbase: {model: xs}\n")
    assert load_study(path).text.startswith("# why")
    (tmp_path / "study.yaml").write_text(path.read_text())
    assert load_study(tmp_path).name == "mine"


def write_golden() -> None:
    GOLDEN.parent.mkdir(exist_ok=True)
    ids = {name: {run.name: run.run_id for run in make_plan(load_study(name)).runs} for name in SHIPPED}
    GOLDEN.write_text(json.dumps(ids, indent=1) + "\n")


def test_shipped_studies_are_yaml_1_2():
    assert all(read_yaml(STUDIES / f"{name}.yaml")["study"] == name for name in SHIPPED)


if __name__ == "__main__":
    write_golden()


def test_the_analysis_section_takes_what_a_fit_takes_from_it():
    assert set(ANALYSIS_KEYS) == set(SECTION)
    study = parse_study({"study": "s", "analysis": {"fix": "n0=60000", "bound": "k_max=0:2"}}, "s.yaml")
    assert study.analysis == {"fix": "n0=60000", "bound": "k_max=0:2"}
