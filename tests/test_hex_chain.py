"""The hex chain: grades worked by hand, demonstrations of both phases, the noisy variant."""

import pytest

from scaling.config import BaseRecipe, HexChainConfig
from scaling.schema import InputError
from scaling.tasks.hex_chain import Task

TASK = Task(HexChainConfig())
PROBLEM = "d+9-1*4-7:"  # d+9=6, 6-1=5, 5*4=4, 4-7=d: four steps

GOLDEN_16 = ["8*2-e:", "5+f+5+4:", "f+a*a-2-9:", "6*6*8-9*4-8:"]
GOLDEN_10 = ["4-7-7:", "3+8-4*8:", "1+9-3*3-2:", "4*7-6+9+5-6:"]


def grade(problem: str, response: str, *, end: bool = True, task: Task = TASK):
    tokens = task.encode(response) + ((task.end_id,) if end else ())
    return task.grade(task.prompt(problem, 0), tokens)


@pytest.mark.parametrize(
    ("response", "correct", "process", "careful"),
    [
        ("d+9=6,6-1=5,5*4=4,4-7=d", True, 1.0, True),
        # Leaps: good 3 of k 4, good 2 of 4, good 1 of 4.
        ("d+9-1=5,5*4=4,4-7=d", True, 3 / 4, False),
        ("d+9-1=5,5*4-7=d", True, 2 / 4, False),
        ("d+9-1*4-7=d", True, 1 / 4, False),
        # A repeat: 4 good, 1 redundant.
        ("d+9=6,d+9=6,6-1=5,5*4=4,4-7=d", True, 4 / 5, False),
        ("d+9=6,6-1=5,5*4=4,d+9=6,4-7=d", True, 4 / 5, False),
        # A wrong carry: 7-1=6 starts from what nobody wrote; the rest follows from it. 3 good, 1 bad.
        ("d+9=6,7-1=6,6*4=8,8-7=1", False, 3 / 5, False),
        # A wrong value, followed through: 6-1=7 bad, 7*4=c and c-7=5 good.
        ("d+9=6,6-1=7,7*4=c,c-7=5", False, 3 / 5, False),
        # A wrong value, then on from the right one: 6-1=7 bad and 5*4=4 does not continue from it. 2 good, 2 bad.
        ("d+9=6,6-1=7,5*4=4,4-7=d", True, 2 / 6, False),
        # A leap that comes to a wrong value: 1 bad, then 2 good.
        ("d+9-1=4,4*4=0,0-7=9", False, 2 / 5, False),
        # Precedence: left to right is meant, not 4 first: 1*4=4, 6-4=2 is bad twice (not the next operations).
        ("d+9=6,1*4=4,6-4=2,2-7=b", False, 1 / 7, False),
        # Going on after the end: 4 good, 1 bad; the last value counts.
        ("d+9=6,6-1=5,5*4=4,4-7=d,d+1=e", False, 4 / 5, False),
        ("d+9=6,6-1=5,5*4=4,4-7=d,4-7=d", True, 4 / 5, False),
        # Only an answer: right by the outcome rule, and nothing shown.
        ("=d", True, 0.0, False),
        ("4-7=d", True, 0.0, False),
        ("", False, 0.0, False),
        ("d", False, 0.0, False),
        ("d+9=6,6-1=5,5*4=4,4-7=dd", False, 3 / 5, False),
        ("d+9=6,6-1=5,5*4=4,4-7=", False, 3 / 5, False),
        # A malformed equation is no step: what follows does not go on from it. 4 bad.
        ("d+9=66,6-1=5,5*4=4,4-7=d", True, 0.0, False),
        (",,==+-*d=,=", False, 0.0, False),
        ("d+=6,d9=6,+9=6,d+9+=6", False, 0.0, False),
    ],
)
def test_grades_by_hand(response, correct, process, careful):
    result = grade(PROBLEM, response)
    assert (result.outcome, result.correct) == (float(correct), correct)
    assert result.process == pytest.approx(process, abs=1e-12)
    assert result.careful is careful


def test_truncated_responses():
    assert grade(PROBLEM, "d+9=6,6-1=5", end=False).process == 2 / 4
    cut = grade(PROBLEM, "d+9=6,6-1=5,5*", end=False)  # 2 good, the cut equation is bad
    assert (cut.correct, cut.process) == (False, 2 / 5)
    # What stands after the end token does not count, and the zero of a padded row is a digit.
    tokens = (*TASK.encode("d+9=6"), TASK.end_id, *TASK.encode(",4-7=d"), 0, 0)
    assert TASK.grade(TASK.prompt(PROBLEM, 0), tokens).process == 1 / 4
    assert TASK.decode((0, TASK.end_id, 99, -1)) == "0<end><unused><unused>"


def test_a_legitimate_repeat_is_the_next_step():
    assert grade("5*1*1:", "5*1=5,5*1=5").careful
    assert grade("5*1*1:", "5*1=5").process == 1 / 2
    assert grade("5*1*1:", "5*1=5,5*1=5,5*1=5").process == 2 / 3  # the third is redundant
    # 1+1=2 again is a repeat although +1 is what comes next: it does not start from 2.
    assert grade("1+1+1:", "1+1=2,1+1=2,2+1=3").process == 2 / 3


def test_modulus_ten():
    task = Task(HexChainConfig(modulus=10))
    assert grade("7*8-9:", "7*8=6,6-9=7", task=task).careful
    assert grade("7*8-9:", "7*8=8,8-9=f", task=task).process == 0.0  # a hexadecimal digit is no value here
    assert not task.allowed_V[TASK.encode("a")[0]]
    with pytest.raises(InputError, match="modulo 10"):
        task.prompt("a+1+1:", 0)


@pytest.mark.parametrize("text", ["", "5+1", "5+0:", "5+:", "5/2:", "5+1-2:x"])
def test_text_that_is_no_problem_is_refused(text):
    with pytest.raises(InputError, match="not a problem"):
        TASK.prompt(text, 0)


def test_sizes():
    assert len(TASK.vocabulary) == 26
    assert TASK.allowed_V.sum() == 22  # 16 digits, 3 operations, = , and the end
    assert len(TASK.solution("d+9-1*4-7+1:")) + 1 == 30  # the careful length at level 5
    assert TASK.max_new_tokens == 45
    assert TASK.solution(PROBLEM) == "d+9=6,6-1=5,5*4=4,4-7=d"


def test_held_out_problems_are_golden():
    # Another numpy must not change the test set silently: every stored curve is about these problems.
    assert [prompt.text for prompt in TASK.test_prompts(4)] == GOLDEN_16
    assert [prompt.text for prompt in Task(HexChainConfig(modulus=10, noise=0.3)).test_prompts(4)] == GOLDEN_10


def solutions(task: Task, iterations: range, recipe: BaseRecipe):
    for iteration in iterations:
        for prompt, response in task.demonstrations(0, iteration, recipe):
            yield task.prompt(task.decode(prompt), 0), task.decode(response[:-1]), response


def test_demonstrations_are_careful_first_and_leap_later():
    recipe = BaseRecipe(iterations=20, leaping_iterations=40, value_share=0.65)
    careful = list(solutions(TASK, range(20), recipe))
    assert {prompt.level for prompt, _, _ in careful} == {1, 2, 3, 4, 5}
    assert all(text == TASK.solution(prompt.text) for prompt, text, _ in careful)
    leaping = list(solutions(TASK, range(20, 60), recipe))
    assert {prompt.level for prompt, _, _ in leaping} == {2, 3, 4, 5}
    # Every value but the last is written with probability .65: 2,560 problems of 2.5 such values, 3 sigma = .018.
    inner = sum(prompt.level - 1 for prompt, _, _ in leaping)
    assert sum(text.count("=") - 1 for _, text, _ in leaping) / inner == pytest.approx(0.65, abs=0.018)
    for prompt, text, response in leaping:
        assert TASK.grade(prompt, response).process == pytest.approx(text.count("=") / prompt.level)


def test_noise_is_a_share_of_blemishes_that_leave_the_answer_right():
    task = Task(HexChainConfig(modulus=10, noise=0.3))
    recipe = BaseRecipe(iterations=60, leaping_iterations=0)
    grades = [task.grade(prompt, response) for prompt, _, response in solutions(task, range(60), recipe)]
    assert all(grade.correct for grade in grades)
    # 3,840 demonstrations: 3 sigma = .022
    assert sum(not grade.careful for grade in grades) / len(grades) == pytest.approx(0.3, abs=0.022)
    assert {round(grade.process, 3) for grade in grades} >= {1.0, 0.8, 0.333}  # repeats and wrong values both occur
