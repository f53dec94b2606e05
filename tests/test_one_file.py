"""A task, a grader, an estimator, a loss and an engine, each in one place: stubs in a copy of the package, and runs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow

TASK = '''
from typing import Literal

from scaling.rollout_types import Grade
from scaling.tasks import SymbolTask, TaskConfig


class SumsConfig(TaskConfig):
    """Sums of two numbers below 100, in symbols of its own."""

    READS_TEXT, MADE_BASE, TEST_PROBLEMS = False, True, 64
    name: Literal["sums"] = "sums"


class Task(SymbolTask):
    symbols = "0123456789+:"

    def draw(self, rng, level):
        return f"{rng.integers(100)}+{rng.integers(100)}:"

    def solution(self, problem):
        return str(sum(int(number) for number in problem[:-1].split("+")))

    def grade_text(self, problem, response):
        right = response == self.solution(problem)
        return Grade(float(right), right)
'''

GRADER = '''
import re


class LastNumber:
    """Right where the last number of a response is the answer."""

    def grade(self, answer: int, response: str) -> bool:
        numbers = re.findall(r"-?[0-9]+", response)
        return bool(numbers) and int(numbers[-1]) == answer
'''

TEXT_TASK = '''
from typing import Literal

from scaling.graders.last_number import LastNumber
from scaling.rollout_types import Grade
from scaling.tasks import TextConfig, TextTask


class CountingConfig(TextConfig):
    """Count the letters of a word; any model that reads text."""

    name: Literal["counting"] = "counting"


class Task(TextTask):
    def draw(self, rng, level):
        return f"How many letters has {''.join(rng.choice(list('abc'), size=rng.integers(5, 15)))}?"

    def grade_text(self, problem, response):
        right = LastNumber().grade(len(problem.split()[-1]) - 1, response)
        return Grade(float(right), right)
'''

ESTIMATOR = '''
from typing import Literal

import numpy as np

from scaling.algorithm.estimators import Advantages, AlgorithmConfig
from scaling.fields import Float


class CentredConfig(AlgorithmConfig):
    """The reward less the mean reward of the others of its group."""

    LEAST_GROUP = 2
    type: Literal["centred"] = "centred"
    scale: Float = 1.0

    def advantages(self, rewards):
        return centred_advantages(rewards.outcome_PG, scale=self.scale)


def centred_advantages(outcome_PG: np.ndarray, *, scale: float = 1.0) -> Advantages:
    group_size = outcome_PG.shape[1]
    total_PG = scale * (outcome_PG - outcome_PG.mean(axis=1, keepdims=True)) * group_size / (group_size - 1)
    return Advantages(total_PG, total_PG, np.zeros_like(total_PG))
'''

OTHERS = "centred or dr_grpo or gdpo or grpo or pass_at_k or rloo"  # estimators of outcomes alone

LOSS = '''

def soft_surrogate(log_ratio_BT, advantages_B1, mask_BT, config):
    """The ratio is a weight, cut above and held fixed: no token loses its gradient."""
    weight_BT = log_ratio_BT.exp().clamp(max=1 + config.clip_high).detach()
    return -weight_BT * advantages_B1 * log_ratio_BT, weight_BT >= 1 + config.clip_high
'''

ENGINE = '''
import numpy as np

from scaling.rollout_types import RolloutEngine, RolloutGroups


class Engine(RolloutEngine):
    """Every allowed id is as likely as any other, whatever the weights: a baseline."""

    EXACT_DRAWS = ANY_MODEL = True

    def __init__(self, *, allowed_V, end_ids, dtype="float32", device=None):
        self.allowed_ids_A, self.end_ids = np.flatnonzero(allowed_V), end_ids

    def load_weights(self, policy, version):
        self.version = version

    def generate(self, prompts, group_size, sampling):
        uniforms_BT = np.concatenate([sampling.uniforms_GT(prompt.index, group_size) for prompt in prompts])
        tokens_BT = self.allowed_ids_A[(uniforms_BT * len(self.allowed_ids_A)).astype(int)]
        logprobs_BT = np.full(tokens_BT.shape, -np.log(len(self.allowed_ids_A)), dtype=np.float32)
        return RolloutGroups.cut_at_ends(prompts, group_size, tokens_BT, logprobs_BT, self.end_ids, self.version)
'''

NEW_FILES = {
    "tasks/sums.py": TASK,
    "tasks/counting.py": TEXT_TASK,
    "tasks/helper.py": '"""A file without a task: no choice of task.name."""\n',
    "graders/last_number.py": GRADER,
    "algorithm/estimators/centred.py": ESTIMATOR,
    "rollouts/uniform.py": ENGINE,
    "rollouts/helper.py": '"""A file without an engine: no choice of resources.engine."""\n',
}

# What the copy is asked, in one process: every answer is a row of the table that the tests read.
QUESTIONS = """
import json, sys
from pathlib import Path

import numpy as np

import scaling
from scaling.algorithm.guard import SamplerApart
from scaling.algorithm.rewards import Rewards
from scaling.compute import Shape
from scaling.config import RunConfig, parse_config
from scaling.evaluate import evaluate_folder
from scaling.config.parts import EvaluationSet
from scaling.files import read_rows
from scaling.schema import CURVE, InputError
from scaling.trainer import train_run
from tiny_policies import text_folder

here = Path(sys.argv[1])
short = {"data": {"prompts_per_step": 2}, "stop": {"steps": 2}, "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0}}
short |= {"evaluation": {"problems": 4}, "rollout": {"group_size": 4, "max_new_tokens": 12}}
made = {"model": {"size": "us", "base": {"iterations": 40, "leaping_iterations": 0, "batch_size": 16}}, **short}
problems = [{"question": f"What is {i} + {i}?", "answer": 2 * i} for i in range(12)]
for name, rows in (("train", problems[:8]), ("test", problems[8:])):
    (here / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
text = {"model": {"path": str(text_folder(here / "text"))}, **short, "resources": {"engine": "hf", "forward": "plain"}}
maths = {"name": "math", "train": str(here / "train.jsonl"), "test": str(here / "test.jsonl"), "answer": "anywhere"}
active = {"kl_weight": 0.01}  # then a group without an advantage is trained on, too
answers = {"package": scaling.__file__}


def refused(**values):
    try:
        parse_config({"model": "us", **values}, "run.yaml")
    except InputError as error:
        return str(error)


def curve(name, config):
    train_run(parse_config(config, "run.yaml"), here / name, here / "artifacts")
    return read_rows(here / name / CURVE)


answers["centred"] = [
    parse_config({"model": "us", "algorithm": algorithm}, "run.yaml")
    .algorithm.advantages(Rewards(np.array([[1.0, 0.0, 0.0, 1.0]]), *[np.zeros((1, 4))] * 3)).total_PG.tolist()
    for algorithm in ("centred", {"type": "centred", "scale": 3})
]
answers["refused"] = [
    refused(algorithm={"type": "centred", "scael": 2}),
    refused(algorithm="centrd"),
    refused(algorithm="centred", rollout={"group_size": 1}),
    refused(model=text["model"], task=maths, algorithm="papo"),
    refused(task="sums", algorithm="papo"),
    refused(task={"name": "sums", "modulus": 10}),
    refused(task="sums", evaluation={"problems": 65}),
    refused(task="counting"),
    refused(task="helper"),
    refused(resources={"engine": "unifrom"}),
    refused(loss={"surrogate": "sof"}),
]
answers["sums"] = curve("sums", {**made, "task": "sums", "loss": {"surrogate": "soft", **active}})
answers["config"] = json.loads((here / "sums" / "config.json").read_text())["config"]["task"]
answers["sums eval"] = evaluate_folder(here / "sums", {"held_out": EvaluationSet(problems=3)})["sets"]["held_out"]
(base,) = (here / "artifacts").glob("*/base.json")
answers["sums base"] = evaluate_folder(base.parent, {"held_out": EvaluationSet()})["sets"]["held_out"]["problems"]
try:
    curve("uniform", {**made, "task": "sums", "loss": active, "resources": {"engine": "uniform"}})
except SamplerApart as apart:
    answers["uniform"] = [str(apart), len(list((here / "uniform").rglob(CURVE)))]
answers["maths"] = curve("maths", {**text, "task": maths, "algorithm": "centred"})
answers["counting"] = curve("counting", {**text, "task": "counting", "algorithm": {"type": "centred", "scale": 2}})
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "scaling", folder / "scaling", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in NEW_FILES.items():
        path = folder / "scaling" / name
        assert not path.exists()
        path.write_text(text)
    with open(folder / "scaling" / "algorithm" / "losses.py", "a") as file:
        file.write(LOSS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "tests")])}
    command = [sys.executable, "-c", QUESTIONS, str(folder)]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    given = json.loads(result.stdout)
    assert given["package"].startswith(str(folder))
    return given


def test_an_estimator_is_its_own_function_with_its_own_settings(answers):
    # Each 1 less the mean of the others, (0 + 0 + 1) / 3; each 0 less (1 + 0 + 1) / 3.
    assert answers["centred"][0][0] == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])
    assert answers["centred"][1][0] == pytest.approx([2, -2, -2, 2])


def test_mistakes_name_the_new_ones(answers):
    expected = [
        "algorithm.scael is not a field of CentredConfig; it has type, scale. Did you mean algorithm.scale?",
        "algorithm.type 'centrd' is not an algorithm; there are centred, "
        "dr_grpo, gdpo, grpo, papo, fullnorm, prm_only, mult, pass_at_k, rloo. Did you mean centred?",
        "rollout.group_size 1 leaves algorithm centred without an advantage: nothing would be trained; give 2 or more.",
        f"algorithm papo needs a process score, and task math has an outcome rule only; use {OTHERS}.",
        f"algorithm papo needs a process score, and task sums has an outcome rule only; use {OTHERS}.",
        "task.modulus is not a field of SumsConfig; it has name.",
        "evaluation.problems 65 is more than there are: task sums has 1 to 64 held-out problems.",
        "task counting needs a model that reads text: give model.path, a transformers folder.",
        "task.name 'helper' is not a task; there are counting, hex_chain, math, reasoning_gym, sums.",
        "resources.engine: 'unifrom' is not a known rollout engine; there are: hf, native, uniform, vllm. "
        "Did you mean uniform?",
        "loss.surrogate: 'sof' is not a known surrogate; there are: clip, gspo, cispo, soft. Did you mean soft?",
    ]
    assert answers["refused"] == [f"run.yaml: {line}" for line in expected]


def test_a_task_with_a_base_of_its_own_trains(answers):
    assert [row["step"] for row in answers["sums"]] == [0, 1, 2]
    assert all(row["response_length_mean"] > 0 and row["process_mean"] is None for row in answers["sums"][1:])
    assert answers["config"] == {"name": "sums"}
    # us: 2 layers of width 16 with 32 rows of embeddings; prompts are 4 to 6 symbols.
    assert answers["sums"][0]["tokens_seen"] == 0
    assert 2 * 4 * 4 <= answers["sums"][1]["tokens_prompt"] <= 2 * 4 * 6
    assert answers["sums base"] == 64  # its base says whose it is
    assert answers["sums eval"]["problems"] == 3 and len(answers["sums eval"]["correct"]) == 3


def test_an_engine_in_one_file_samples(answers):
    # 12 symbols and the end are as likely as each other, and the policy is not asked: the first update notices it.
    said, curves = answers["uniform"]
    assert "the sampler does not have the trainer's weights" in said and curves == 1  # step 0 was evaluated by it
    assert answers["sums"][1]["logprob_difference"] < 1e-5


@pytest.mark.parametrize("name", ["maths", "counting"])
def test_an_estimator_of_outcomes_trains_on_text(answers, name):
    assert [row["step"] for row in answers[name]] == [0, 1, 2]
    for row in answers[name][1:]:
        assert row["reward_mean"] in [i / 8 for i in range(9)] and row["process_mean"] is None
