"""RunConfig and run_id: what is science, what is not, and how mistakes are told."""

import json
from pathlib import Path

import pytest

from scaling.config.identity import base_id, resolve, run_id
from scaling.config.reading import dump, load_config, parse_config, read_yaml, with_recipe
from scaling.config.run import RunConfig
from scaling.schema import InputError

RECIPES = sorted(path.stem for path in (Path(__file__).parent.parent / "scaling/recipes").glob("*.yaml"))


def config(**changes) -> RunConfig:
    return RunConfig.model_validate({"model": "xs", **changes})


def test_the_id_of_the_default_run_is_golden():
    # An id that changes orphans every finished run: a new field must default to the old behaviour, and a changed
    # default must bump its part's VERSION.
    assert run_id(config()) == "6c846937b4c2"
    assert base_id(config()) == "6de5ef26dc37"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a name"},
        {"stop": {"steps": 7}},
        {"resources": {"engine": "hf", "forward": "plain", "threads": 2}},
        {"tracking": {"mlflow": False}},
        {"model": {"size": "xs", "base_seed": 0}},
        {"data": {"reuse_factor": 1}},
        {"algorithm": {"type": "grpo"}},
    ],
)
def test_what_cannot_change_a_value_is_not_in_the_id(changes):
    assert run_id(config(**changes)) == run_id(config())


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "s"},
        {"model": {"size": "xs", "base_seed": 1}},
        {"model": {"size": "xs", "dtype": "bfloat16"}},
        {"model": {"size": "xs", "base": {"iterations": 599}}},
        {"task": {"modulus": 10}},
        {"data": {"prompts_unique": 30}},
        {"data": {"pass_order": "same"}},
        {"algorithm": "papo"},
        {"loss": {"clip_high": 0.28}},
        {"rollout": {"group_size": 8}},
        {"optimizer": {"learning_rate": 1e-3}},
        {"evaluation": {"problems": 256}},
        {"seed": 1},
    ],
)
def test_science_changes_the_id(changes):
    assert run_id(config(**changes)) != run_id(config())


def test_tau_enters_by_the_number_of_distinct_prompts():
    by_tau = config(data={"reuse_factor": 32}, stop={"steps": 60})
    assert resolve(by_tau).data.prompts_unique == 960 // 32
    assert run_id(by_tau) == run_id(config(data={"prompts_unique": 30}))
    assert run_id(by_tau) != run_id(config(data={"reuse_factor": 32}, stop={"steps": 120}))


def test_only_a_schedule_with_a_horizon_brings_the_stop_in():
    linear = {"optimizer": {"schedule": "linear"}}
    assert run_id(config(**linear, stop={"steps": 60})) != run_id(config(**linear, stop={"steps": 61}))


def test_a_model_folder_enters_by_content(tmp_path):
    ids = []
    for name, weights in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        ids.append(run_id(config(model={"path": str(tmp_path / name)})))
    assert ids[0] == ids[1] != ids[2]
    with pytest.raises(InputError, match="not a transformers folder"):
        run_id(config(model={"path": str(tmp_path / "nowhere")}))


def test_a_config_survives_json():
    original = config(algorithm="papo", stop={"steps": 9, "also_evaluate": [{"prompts": 32}]})
    again = RunConfig.model_validate(json.loads(json.dumps(dump(original))))
    assert again == original
    assert run_id(again) == run_id(original)


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_loads(name):
    assert parse_config(with_recipe({"recipe": name, "model": "xs"}, "test"), "test").rollout.group_size == 8


def test_evaluation_steps_are_the_powers_rounded_up():
    due = config().evaluation.due
    assert [step for step in range(61) if due(step)] == [0, 1, 2, 3, 4, 6, 8, 12, 18, 26, 39, 58]
    doubling = config(evaluation={"ratio": 2}).evaluation.due
    assert [step for step in range(20) if doubling(step)] == [0, 1, 2, 4, 8, 16]
    fifth = config(evaluation={"every": 5}).evaluation.due
    assert [step for step in range(12) if fifth(step)] == [0, 5, 10]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: xx", "run.yaml: model: 'xx' is not a size of the ladder; there are us, xs, s, m, l, xl"),
        ("model: xs\ndata: {reuse_facter: 2}", "data.reuse_facter is not a field of DataConfig; it has"),
        ("model: xs\ndata: {reuse_facter: 2}", "Did you mean data.reuse_factor?"),
        ("modle: xs", "modle is not a field of RunConfig"),
        (
            "model: xs\nalgorithm: gpro",
            "'gpro' is not an algorithm; there are dr_grpo, gdpo, grpo, papo, fullnorm, prm_only, mult, pass_at_k, "
            "rloo. Did you mean grpo?",
        ),
        ("model: xs\nalgorithm: {type: grpo, process_weight: 1}", "process_weight is not a field of GrpoConfig"),
        ("model: xs\ntask: hexchain", "Did you mean hex_chain?"),
        ("model: xs\nstop: {steps: -1}", "stop.steps: wants a whole number greater than or equal to 1, not -1."),
        ("model: xs\nstop: {steps: '40'}", "stop.steps: wants a number, not '40'"),
        ("model: xs\nstop: {steps: 1.5}", "stop.steps"),
        ("model: xs\nstop: {}", "give at least one of steps, prompts, train_flops, wall_seconds"),
        ("model: xs\nseed: yes", "seed: wants a number, not 'yes'"),
        ("model: xs\ndata: {reuse_factor: 7}", "960 prompts / 7 = 137.143 is not a whole number"),
        ("model: xs\ndata: {reuse_factor: 32, prompts_unique: 31}", "960 / 32 = 30"),
        ("model: xs\nmodel: s", "run.yaml: line 2 is not valid YAML"),
        ("model: [xs", "run.yaml: line"),
        ("", "run.yaml: the file is empty"),
        ("- model", "wants keys and values at the top, not a list"),
        ("model: xs\nrecipe: tan2052", "Did you mean tan2025?"),
        ("model: {size: xs, path: x}", "give exactly one of size"),
        ("model: xs\nloss: {updates_per_batch: 3}", "3 does not divide data.prompts_per_step 16"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        resolve(load_config(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_is_version_1_2(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("rate: 5e-4\nword: no\n")
    assert read_yaml(path) == {"rate": 5e-4, "word": "no"}
