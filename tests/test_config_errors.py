"""Values that no config can hold: one line in our words for each kind of mistake, none of pydantic's."""

import pytest

from scaling.config.parts import ResourcesConfig
from scaling.config.reading import parse_config
from scaling.fields import members
from scaling.schema import InputError, one_line
from scaling.tasks import TaskConfig

TEXT = {"path": "folder"}
GYM = {"name": "reasoning_gym", "dataset": "chain_sum"}
STOP_FIELDS = "steps, prompts, train_flops, wall_seconds"

KINDS = {
    # One of a few values.
    "word of a choice": ({"loss": {"aggregation": "token"}}, "loss.aggregation: wants token_mean, sequence_mean or constant_length, not 'token'. Did you mean token_mean?"),
    "number for a choice of words": ({"loss": {"aggregation": 5}}, "loss.aggregation: wants token_mean, sequence_mean or constant_length, not 5."),
    "list for a choice": ({"loss": {"aggregation": ["token_mean"]}}, "loss.aggregation: wants token_mean, sequence_mean or constant_length, not ['token_mean']."),
    "choice of numbers": ({"task": {"modulus": 12}}, "task.modulus: wants 16 or 10, not 12."),
    "three choices": ({"optimizer": {"schedule": "cosin"}}, "optimizer.schedule: wants constant, linear or cosine, not 'cosin'. Did you mean cosine?"),
    # A part that is one of several.
    "unknown member": ({"algorithm": "gpro"}, "algorithm.type 'gpro' is not an algorithm; there are dr_grpo, gdpo, grpo, papo, fullnorm, prm_only, mult, pass_at_k, rloo. Did you mean grpo?"),
    "member of another type": ({"algorithm": {"type": 5}}, "algorithm.type 5 is not an algorithm; there are dr_grpo, gdpo, grpo, papo, fullnorm, prm_only, mult, pass_at_k, rloo."),
    "no member": ({"algorithm": {"process_weight": 1}}, "algorithm.type is missing; there are dr_grpo, gdpo, grpo, papo, fullnorm, prm_only, mult, pass_at_k, rloo."),
    "number for a member": ({"algorithm": 5}, "algorithm wants keys and values (type: dr_grpo, gdpo, grpo, papo, fullnorm, prm_only, mult, pass_at_k or rloo), not 5."),
    "key of another member": (
        {"algorithm": {"type": "papo", "procss_weight": 1}},
        "algorithm.procss_weight is not a field of PapoConfig; it has type, process_weight. Did you mean algorithm.process_weight?",
    ),
    "key of another task": ({"model": TEXT, "task": {**GYM, "modulus": 10}}, "task.modulus is not a field of GymConfig; it has name, template, dataset, settings, test_problems."),
    "field of a member": ({"algorithm": {"type": "papo", "process_weight": -1}}, "algorithm.process_weight: wants a number greater than or equal to 0, not -1."),
    # A file of a folder.
    "unknown engine": ({"resources": {"engine": "nativ"}}, "resources.engine: 'nativ' is not a known rollout engine; there are: hf, native, vllm. Did you mean native?"),
    "number for an engine": ({"resources": {"engine": 5}}, "resources.engine: 5 is not a known rollout engine; there are: hf, native, vllm."),
    "unknown surrogate": ({"loss": {"surrogate": "clipp"}}, "loss.surrogate: 'clipp' is not a known surrogate; there are: clip, gspo, cispo. Did you mean clip?"),
    # Values.
    "nested list": ({"rollout": {"group_size": [[4]]}}, "rollout.group_size: wants a whole number, not [[4]]."),
    "fraction": ({"rollout": {"group_size": 1.5}}, "rollout.group_size: wants a whole number, not 1.5."),
    "number in quotes": ({"rollout": {"temperature": "1"}}, "rollout.temperature: wants a number, not '1'."),
    "bound": ({"rollout": {"temperature": 0}}, "rollout.temperature: wants a number greater than 0, not 0."),
    "whole bound": ({"seed": 2**60}, "seed: wants a whole number less than or equal to 9007199254740992, not 1152921504606846976."),
    "not finite": ({"optimizer": {"weight_decay": float("inf")}}, "optimizer.weight_decay: wants a finite number, not inf."),
    "truth": ({"tracking": {"mlflow": 3}}, "tracking.mlflow: wants true or false, not 3."),
    "text": ({"name": 7}, "name: wants text, not 7."),
    "a list": ({"resources": {"setup": "module load cuda"}}, "resources.setup: wants a list, not 'module load cuda'."),
    "several kinds": ({"resources": {"sbatch": {"x": [1]}}}, "resources.sbatch.x: wants text, a whole number or true or false, not [1]."),
    "list in a list of several kinds": (
        {"model": TEXT, "task": {**GYM, "settings": {"a": [[1]]}}},
        "task.settings.a: wants a number, true or false, text or a list, not [[1]].",
    ),
    "missing": ({"model": TEXT, "task": {"name": "reasoning_gym"}}, "task.dataset is missing."),
    # Parts in parts.
    "number for a part": ({"stop": 60}, f"stop wants keys and values ({STOP_FIELDS}, also_evaluate), not 60."),
    "part of a list": ({"stop": {"steps": 3, "also_evaluate": [3]}}, f"stop.also_evaluate.0 wants keys and values ({STOP_FIELDS}), not 3."),
    "key in a part of a list": (
        {"stop": {"steps": 3, "also_evaluate": [{"stpes": 3}]}},
        f"stop.also_evaluate.0.stpes is not a field of StopConfig; it has {STOP_FIELDS}. Did you mean stop.also_evaluate.0.steps?",
    ),
    "field of a named part": ({"evaluation": {"sets": {"a": {"problems": 0}}}}, "evaluation.sets.a.problems: wants a whole number greater than or equal to 1, not 0."),
    "name of a part": ({"evaluation": {"sets": {7: {}}}}, "evaluation.sets.7: wants text for a key, not 7."),
    "our own check": ({"evaluation": {"every": 5, "ratio": 1.5}}, "evaluation: give one of every and ratio, not both."),
    "two mistakes": ({"seed": -1, "name": 7}, "name: wants text, not 7. (1 more)"),
}  # fmt: skip


# ruff: noqa: E501 -- a case is a line
@pytest.mark.parametrize("name", KINDS)
def test_a_mistake_is_told_in_one_line_of_ours(name):
    values, line = KINDS[name]
    with pytest.raises(InputError) as caught:
        parse_config({"model": "us", **values}, "run.yaml")
    assert str(caught.value) == f"run.yaml: {line}"


@pytest.mark.parametrize("values", [[1], None, "us"])
def test_what_is_no_config_at_all(values):
    with pytest.raises(InputError) as caught:
        parse_config(values, "run.yaml")
    assert str(caught.value).startswith("run.yaml: RunConfig wants keys and values (name, model, task,")


def test_engines_are_the_files_that_define_one():
    assert {ResourcesConfig(engine=name).engine for name in ("hf", "native")} == {"hf", "native"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class A(TaskConfig):\n    x: int = 0\n", "plugins_0.one.A wants a field `name: Literal"),
        ('class A(TaskConfig):\n    name: str = "a"\n', "plugins_1.one.A wants a field `name: Literal"),
        (
            'class A(TaskConfig):\n    name: Literal["a"] = "a"\nclass B(TaskConfig):\n    name: Literal["a"] = "a"\n',
            "plugins_2.one.B: name 'a' is taken; choose another.",
        ),
    ],
)
def test_a_config_class_without_a_name_of_its_own_is_refused(tmp_path, monkeypatch, text, message, request):
    package = message.partition(".")[0]
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    head = "from typing import Literal\nfrom scaling.tasks import TaskConfig\n"
    (tmp_path / package / "one.py").write_text(head + text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError) as caught:
        members(package, [str(tmp_path / package)], TaskConfig, "name")
    assert message in str(caught.value)


def test_an_error_of_somebody_else_becomes_one_short_line():
    assert one_line(ValueError("first\n  second  third"), 12) == "first second"
