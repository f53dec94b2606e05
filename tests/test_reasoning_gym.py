"""Problems of reasoning-gym: the contract of a task, and verifiers that are not taken on trust."""

import importlib.util
import inspect

import numpy as np
import pytest

from scaling import files, schema, trainer
from scaling.config import GymConfig
from scaling.config.identity import run_id
from scaling.config.reading import parse_config
from scaling.config.run import RunConfig
from scaling.prompts import PromptStream
from scaling.rollout_types import generator
from scaling.schema import InputError
from scaling.tasks import load_task
from scaling.tasks import reasoning_gym as gym

INSTALLED = importlib.util.find_spec("reasoning_gym") is not None
installed = pytest.mark.skipif(not INSTALLED, reason="reasoning-gym is not installed: pip install '.[gym]'")


def task_of(encoding, dataset="chain_sum", **changes):
    return load_task(GymConfig(dataset=dataset, **{"test_problems": 40, **changes}), encoding)


def test_what_is_missing_is_said(encoding, monkeypatch):
    with pytest.raises(InputError, match=r"task\.dataset is missing"):
        parse_config({"model": {"path": "x"}, "task": {"name": "reasoning_gym"}}, "run.yaml")
    with pytest.raises(InputError, match="task reasoning_gym needs a model that reads text"):
        parse_config({"model": "us", "task": {"name": "reasoning_gym", "dataset": "chain_sum"}}, "run.yaml")
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", None)
    with pytest.raises(InputError, match=r"needs the package reasoning-gym; install it with pip install"):
        task_of(encoding)


@installed
def test_problems_are_fixed_distinct_reserved_and_nested(encoding):
    task, again = task_of(encoding), task_of(encoding)
    prompts = task.test_prompts(40)
    assert prompts == again.test_prompts(40) and task.test_prompts(7) == prompts[:7]
    assert len({prompt.text for prompt in prompts}) == 40 and all(task.reserved(prompt.text) for prompt in prompts)
    assert all(prompt.text.endswith(gym.REQUEST) for prompt in prompts)
    with pytest.raises(InputError, match="41 held-out problems asked for; there are 40"):
        task.test_prompts(41)
    texts = [task.draw(generator(0, "prompts", 3), 0) for _ in range(2)]
    assert texts[0] == texts[1]
    config = RunConfig.model_validate({"model": "us", "data": {"prompts_per_step": 8}})
    drawn = [p.text for t in (1, 2, 3) for p in PromptStream(task, config.data, 0, "m").step(t)]
    assert drawn == [p.text for t in (1, 2, 3) for p in PromptStream(again, config.data, 0, "m").step(t)]
    assert len(set(drawn)) == 24 and not any(map(task.reserved, drawn))


@installed
def test_only_a_full_score_is_right(encoding, monkeypatch):
    task = task_of(encoding)
    prompt = task.test_prompts(1)[0]
    gold = task._entries[prompt.text]["answer"]

    def grade(text):
        return task.grade(prompt, (*encoding.encode(text, chat=False), 2)).correct

    assert grade(f"so <answer> {gold} </answer>") and grade(f"<answer>1</answer> no, <answer>{gold}</answer>")
    assert not grade(gold) and not grade(f"<answer>{gold}0</answer>") and not grade("<answer></answer>")
    monkeypatch.setattr(task._scorer, "score_answer", lambda answer, entry: 0.99)
    assert not grade("<answer>nearly</answer>")
    monkeypatch.setattr(task._scorer, "score_answer", lambda answer, entry: 1 / 0)
    assert not grade("<answer>3</answer>")
    assert task.counts() == {"verifier_failures": 1} and task.counts() == {"verifier_failures": 0}


@installed
def test_a_verdict_on_anything(encoding):
    rng = np.random.default_rng(0)
    for dataset in ("chain_sum", "leg_counting", "spell_backward", "basic_arithmetic", "gcd"):
        task = task_of(encoding, dataset)
        prompts = task.test_prompts(8)
        for i in range(200):
            text = bytes(rng.integers(32, 127, rng.integers(0, 40)).astype(np.uint8)).decode()
            response = tuple(encoding.encode(f"<answer>{text}</answer>", chat=False))
            grade = task.grade(prompts[i % 8], response)
            assert grade == task.grade(prompts[i % 8], response) and grade.outcome == float(grade.correct)
        assert not task.grade(
            prompts[0], tuple(encoding.encode("<answer>" + "9" * 5000 + "</answer>", chat=False))
        ).correct


@installed
@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("game_of_life_halting", "cannot be trusted ('banana': scores 1)"),
        ("prime_factorization", "raises ValueError"),
        ("propositional_logic", "its own solution: there is none"),
        ("binary_matrix", "its verifier runs answers as code"),
        ("chain_sun", "Did you mean chain_sum?"),
    ],
)
def test_verifiers_that_cannot_be_trusted_are_refused(encoding, dataset, message):
    with pytest.raises(InputError) as caught:
        task_of(encoding, dataset)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@installed
def test_every_verifier_that_runs_answers_is_known():
    from reasoning_gym.factory import DATASETS

    calls = ("eval(", "parse_expr(", "sympify(", "exec(")
    found = {
        name for name, (kind, _) in DATASETS.items() if any(c in inspect.getsource(kind.score_answer) for c in calls)
    }
    assert found == set(gym.RUNS_ANSWERS)


@installed
def test_settings_are_the_data_sets_own(encoding):
    task = task_of(encoding, settings={"min_terms": 5, "max_terms": 5})
    question = task.test_prompts(1)[0].text
    assert sum(sign in "+-" for sign in question.split(gym.REQUEST)[0].split()) == 4
    for settings in ({"min_trms": 1}, {"min_terms": 9}):
        with pytest.raises(InputError, match=r"task\.settings: data set chain_sum does not take them"):
            task_of(encoding, settings=settings)


@installed
def test_a_run(model, tmp_path):
    config = RunConfig.model_validate(
        {
            "model": {"path": str(model)},
            "task": {"name": "reasoning_gym", "dataset": "chain_sum", "test_problems": 8},
            "data": {"prompts_per_step": 2},
            "rollout": {"group_size": 2, "max_new_tokens": 8},
            "evaluation": {"problems": 8},
            "stop": {"steps": 2},
            "resources": {"engine": "hf", "forward": "packed", "export_model": False},
        }
    )
    assert run_id(config)
    trainer.train_run(config, tmp_path / "run", tmp_path)
    rows = files.read_rows(tmp_path / "run" / schema.CURVE)
    assert len(rows) == 3 and rows[-1]["test_loss"] == 1.0 and rows[-1]["verifier_failures"] == 0
