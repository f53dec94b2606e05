"""What every task keeps: load, determinism, and a verifier that gives a verdict on anything."""

from types import SimpleNamespace

import numpy as np
import pytest

from scaling.config import BaseRecipe, HexChainConfig
from scaling.ladder import VOCABULARY
from scaling.rollout_types import generator
from scaling.schema import InputError
from scaling.tasks import load_task, rollout_tokens, task_names

CONFIGS = [HexChainConfig(), HexChainConfig(modulus=10, noise=0.3)]  # a new task adds its own here


@pytest.fixture(params=CONFIGS, ids=lambda config: f"{config.name}-{config.modulus}")
def task(request):
    return load_task(request.param)


def test_every_task_file_is_tested():
    # These have a model's tokens, so their contracts are tests/test_math.py and tests/test_reasoning_gym.py.
    assert {config.name for config in CONFIGS} | {"math", "reasoning_gym"} == set(task_names())


def test_unknown_task_names_the_known_ones():
    with pytest.raises(InputError, match="hex_chain") as error:
        load_task(SimpleNamespace(name="hex_chian"))
    assert "Did you mean hex_chain?" in str(error.value)


def test_a_task_of_symbols_knows_the_tokens_of_its_rollouts(monkeypatch):
    """Such a task without TOKENS had the 1,100 of a text task, and budgets bought a hundredth of the prompts."""
    stated = HexChainConfig.TOKENS
    monkeypatch.setattr(HexChainConfig, "TOKENS", None)
    assert rollout_tokens(HexChainConfig()) == stated == (9, 21)
    monkeypatch.delattr("scaling.tasks.hex_chain.Task")
    with pytest.raises(InputError, match="task hex_chain says no TOKENS: give its config class TOKENS = "):
        rollout_tokens(HexChainConfig())


def test_ids(task):
    assert len(set(task.vocabulary)) == len(task.vocabulary) <= VOCABULARY
    assert task.allowed_V.shape == (VOCABULARY,)
    assert task.allowed_V.dtype == bool
    assert task.allowed_V[task.end_id] and task.end_ids == (task.end_id,)
    assert not task.allowed_V[task.pad_id]
    assert not task.allowed_V[len(task.vocabulary) :].any()


def test_demonstrations_are_legal_right_and_not_reserved(task):
    recipe = BaseRecipe(iterations=20, leaping_iterations=20)
    for iteration in range(40):
        batch = task.demonstrations(3, iteration, recipe)
        assert len(batch) == recipe.batch_size
        assert batch == task.demonstrations(3, iteration, recipe)
        for prompt_tokens, response in batch:
            prompt = task.prompt(task.decode(prompt_tokens), 0)
            assert prompt.tokens == prompt_tokens
            assert not task.reserved(prompt.text)
            assert task.allowed_V[list(response)].all()
            assert response.index(task.end_id) == len(response) - 1
            assert len(response) <= task.max_new_tokens
            assert task.grade(prompt, response).correct
    assert task.demonstrations(3, 0, recipe) != task.demonstrations(4, 0, recipe)


def test_test_set_is_fixed_distinct_reserved_and_nested(task):
    prompts = task.test_prompts(2048)
    assert len({prompt.text for prompt in prompts}) == 2048
    assert all(task.reserved(prompt.text) for prompt in prompts)
    assert [prompt.level for prompt in prompts[:8]] == [*task.levels, *task.levels]
    assert [prompt.index for prompt in prompts[:3]] == [0, 1, 2]
    assert task.test_prompts(100) == prompts[:100]
    with pytest.raises(InputError, match="2049"):
        task.test_prompts(2049)


def test_draw_is_a_function_of_the_generator(task):
    for level in task.levels:
        texts = [task.draw(generator(0, "prompts", level), level) for _ in range(2)]
        assert texts[0] == texts[1]
        assert task.prompt(texts[0], 5).level == level


def test_grade_gives_a_verdict_on_anything(task):
    rng = np.random.default_rng(0)
    prompts = task.test_prompts(8)
    ids = np.flatnonzero(task.allowed_V)
    responses = [tuple(rng.choice(ids, size=n).tolist()) for n in rng.integers(0, 50, 1500)]
    responses += [tuple(rng.integers(-5, 40, size=n).tolist()) for n in rng.integers(0, 50, 500)]
    responses += [tuple(np.asarray([1, 2, 3])), (task.end_id,), ()]
    # Demonstrations of other problems with one symbol changed come nearest to the grammar.
    for _, response in task.demonstrations(0, 0, BaseRecipe()):
        changed = list(response)
        changed[rng.integers(len(changed))] = int(rng.choice(ids))
        responses.append(tuple(changed))
    for number, response in enumerate(responses):
        prompt = prompts[number % len(prompts)]
        grade = task.grade(prompt, response)
        assert grade == task.grade(prompt, response)
        assert grade.outcome == float(grade.correct)
        assert grade.process is None or 0 <= grade.process <= 1
        assert not grade.careful or (grade.correct and grade.process == 1)
        task.decode(response)
