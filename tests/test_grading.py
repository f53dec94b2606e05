"""From rollouts to rewards: shaping, the simulated judge, a function of the user's own, and what is no number."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from scaling.algorithm.grading import Grading
from scaling.algorithm.rewards import grade_all
from scaling.config import parse_config, run_id
from scaling.graders.simulated_judge import judged, uniform
from scaling.parallel import Team
from scaling.rollout_types import RolloutGroups
from scaling.schema import InputError
from scaling.tasks import load_task
from scaling.tasks.hex_chain import HexChainConfig

TASK = load_task(HexChainConfig())
PROBLEM = "d+9-1:"
# Careful, a leap, wrong, nothing: outcomes 1 1 0 0, process 1 1/2 1/3 0; 12, 8, 12 and 1 tokens with the end.
RESPONSES = ["d+9=6,6-1=5", "d+9-1=5", "d+9=6,6-1=4", ""]


def rollouts(responses=RESPONSES) -> RolloutGroups:
    tokens = [(*TASK.encode(text), TASK.end_id) for text in responses]
    lengths_B = np.array([len(one) for one in tokens])
    tokens_BT = np.zeros((len(tokens), lengths_B.max()), dtype=np.int64)
    for row, one in enumerate(tokens):
        tokens_BT[row, : len(one)] = one
    zeros_BT = np.zeros(tokens_BT.shape, dtype=np.float32)
    return RolloutGroups([TASK.prompt(PROBLEM, 0)], 4, tokens_BT, lengths_B, zeros_BT, lengths_B < 0, 0)


def config(**parts):
    return parse_config({"model": "us", "algorithm": "papo", **parts}, "run.yaml")


@pytest.fixture
def rewarded(monkeypatch, tmp_path):
    """The rewards of the four responses under the settings of `reward` and `judge`."""
    opened = []

    def rewarded(task=TASK, **parts):
        grade = partial(grade_all, task)
        opened.append(Grading(grade, task, config(**parts), 40, Team("ddp", "cpu")))
        return opened[-1](rollouts())

    monkeypatch.chdir(tmp_path)
    yield rewarded
    for grading in opened:
        grading.close()


def test_without_settings_the_rewards_are_the_grades(rewarded):
    reward = rewarded()
    assert reward.outcome_PG.tolist() == [[1, 1, 0, 0]] and reward.process_PG.tolist() == [[1, 1 / 2, 1 / 3, 0]]
    assert reward.row().keys() == {"reward_mean", "process_mean", "process_mean_correct", "careful_share"}
    assert np.isnan(rewarded(algorithm="grpo", reward={"process": "none"}).process_PG).all()


def test_length_and_format_shape_the_outcome_and_no_verdict(rewarded):
    """From 4 to 12 tokens: 12 lose all of .5, 8 half of it, 1 nothing. A leap has no comma."""
    reward = rewarded(
        reward={"overlong_from": 4, "overlong_to": 12, "overlong_penalty": 0.5, "format": ",", "format_reward": 0.2}
    )
    np.testing.assert_allclose(reward.shaping_PG, [[-0.3, -0.25, -0.3, 0]])
    np.testing.assert_allclose(reward.outcome_PG, [[0.7, 0.75, -0.3, 0]])
    assert reward.correct_PG.tolist() == [[True, True, False, False]]
    assert reward.row()["shaping_mean"] == pytest.approx(-0.2125)


# ---------------------------------------------------------------- the simulated judge


def test_judged_adds_length_and_flips_and_stays_within_one():
    assert judged(0.4, 0.2, 0.0, flip_rate=0, length_bias=0) == 0.4
    assert judged(0.4, 0.2, 0.9, flip_rate=0, length_bias=1) == pytest.approx(0.6)
    assert judged(0.0, 1.0, 0.9, flip_rate=0, length_bias=1) == 1.0  # length alone earns the whole score
    assert judged(1.0, 1.0, 0.9, flip_rate=0, length_bias=1) == 1.0
    assert [judged(0.25, 0, draw, flip_rate=0.3, length_bias=0) for draw in (0.29, 0.3)] == [0.75, 0.25]


def test_draws_hang_on_prompt_and_response_and_are_uniform():
    draws = [uniform("1+1:", (i,)) for i in range(4000)]
    assert uniform("1+1:", (7,)) == draws[7] != uniform("1+2:", (7,))
    assert abs(np.mean(np.array(draws) < 0.3) - 0.3) < 0.03


def test_a_judge_takes_the_place_of_the_rule_and_both_are_recorded(rewarded):
    reward = rewarded(reward={"process": "judge"}, judge={"length_bias": 0.5})
    np.testing.assert_allclose(reward.process_PG, [[1, 0.6, 0.48333333, 0.0125]])  # + .5 of 12, 8, 12, 1 of 40
    row = reward.row()
    assert (row["process_mean"], row["process_mean_correct"]) == (pytest.approx(11 / 24), 0.75)
    assert (row["judge_mean"], row["judge_mean_correct"]) == (pytest.approx(0.52395833), pytest.approx(0.8))
    right = rewarded(reward={"process": "judge"}, judge="simulated")
    np.testing.assert_array_equal(right.process_PG, right.rule_PG)
    flipped = rewarded(reward={"process": "judge"}, judge={"flip_rate": 1.0})
    np.testing.assert_allclose(flipped.process_PG, [[0, 1 / 2, 2 / 3, 1]])


# ---------------------------------------------------------------- a function of the user's own


def test_a_function_gives_the_outcome_or_some_of_the_grade(rewarded, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def score(problem, response, truth):\n"
        "    print('this goes nowhere near the answers')\n"
        "    return len(response) / len(truth)\n"
        "def whole(problem, response, truth):\n"
        "    return {'process': None if not response else .25, 'correct': problem == 'd+9-1:'}\n"
    )
    reward = rewarded(reward={"function": "mine.py:score"})
    np.testing.assert_allclose(reward.outcome_PG, [[1, 7 / 11, 1, 0]])
    assert reward.correct_PG.tolist() == [[True, True, False, False]]  # the task's verdict stays
    reward = rewarded(reward={"function": "mine.py:whole"})
    assert reward.outcome_PG.tolist() == [[1, 1, 0, 0]] and reward.correct_PG.all()
    np.testing.assert_array_equal(reward.process_PG, [[0.25, 0.25, 0.25, np.nan]])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return float('nan')", ["outcome nan", "'d+9=6,6-1=5'", "'d+9-1:'"]),
        ("return {'process': float('inf')}", ["process inf", "None where there is no score"]),
        ("return 'good'", ["returns 'good', not a number, or a dictionary"]),
        ("return {'reward': 1}", ["returns {'reward': 1}, not"]),
        ("return 1 / len(response[20:])", ["fails with ZeroDivisionError", "'d+9=6,6-1=5'"]),
        ("import os; os._exit(3)", ["ended its process (status 3)"]),
        ("while True: pass", ["took more than 0.2 s", "resources.reward_seconds"]),
    ],
)
def test_a_function_that_fails_is_told_with_the_example(rewarded, tmp_path, body, words):
    (tmp_path / "mine.py").write_text(f"def score(problem, response, truth):\n    {body}\n")
    with pytest.raises(InputError) as caught:
        rewarded(reward={"function": "mine.py:score"}, resources={"reward_seconds": 0.2 if "while" in body else 10.0})
    for word in ["mine.py:score", *words]:
        assert word in str(caught.value)


def test_a_function_that_is_not_there_is_told(rewarded, tmp_path):
    (tmp_path / "mine.py").write_text("def other(): pass\n")
    with pytest.raises(InputError, match=r"mine\.py:score does not load: AttributeError"):
        rewarded(reward={"function": "mine.py:score"})


def test_a_grade_that_is_no_number_is_an_error_with_the_example(rewarded):
    class Broken:
        name = "broken"

        def __getattr__(self, name):
            return getattr(TASK, name)

        def grade_many(self, prompts, responses):
            grades = TASK.grade_many(prompts, responses)
            return [*grades[:3], replace(grades[3], outcome=math.nan)]

    with pytest.raises(InputError, match=r"task broken gives the outcome nan for the response '' to 'd\+9-1:'"):
        rewarded(task=Broken())


# ---------------------------------------------------------------- what enters the run_id, and what is refused


def test_the_new_parts_enter_the_id_where_they_are_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def score(*_): return 1\ndef other(*_): return 0\n")
    judge = {"reward": {"process": "judge"}}
    usual = run_id(config())
    assert usual == run_id(config(reward={"process": "rule"}, judge={"name": "simulated"}))
    ids = [
        run_id(config(**parts))
        for parts in (
            judge,
            {**judge, "judge": {"flip_rate": 0.3}},
            {"reward": {"overlong_from": 4, "overlong_to": 12}},
            {"reward": {"function": "mine.py:score"}},
            {"reward": {"function": "mine.py:other"}},
        )
    ]
    assert len({usual, *ids}) == 6
    (tmp_path / "there.py").write_bytes((tmp_path / "mine.py").read_bytes())  # by content, not by place
    assert run_id(config(reward={"function": "there.py:score"})) == ids[3]
    (tmp_path / "there.py").write_text("def score(*_): return 2\n")
    assert run_id(config(reward={"function": "there.py:score"})) != ids[3]
    with pytest.raises(InputError, match=r"there is no file gone.py"):
        run_id(config(reward={"function": "gone.py:score"}))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"reward": {"overlong_to": 9}}, "overlong_from None and overlong_to 9 want two lengths"),
        ({"reward": {"overlong_from": 9, "overlong_to": 9}}, "the first below the second"),
        ({"reward": {"overlong_penalty": 2}}, "overlong_penalty 2 has no effect without overlong_to"),
        ({"reward": {"format": "("}}, "'(' is no regular expression"),
        ({"reward": {"function": "mine.py"}}, "wants the function of a file, such as my_file.py:score, not 'mine.py'"),
        ({"reward": {"proces": "judge"}}, "Did you mean reward.process?"),
        ({"reward": {"process": "none"}}, "algorithm papo needs a process score"),
        ({"reward": {"process": "judge"}, "algorithm": "grpo"}, "algorithm grpo reads no process score"),
        ({"judge": {"flip_rate": 0.5}}, "judge has no effect with reward.process rule; set reward.process: judge"),
        ({"judge": {"flip_rate": 1.5}}, "judge.flip_rate: wants a number less than or equal to 1, not 1.5"),
    ],
)
def test_settings_that_mean_nothing_are_refused(parts, words):
    with pytest.raises(InputError) as caught:
        config(**parts)
    assert words in str(caught.value)
