"""Which groups a step trains on: dynamic sampling along the prompt stream, counted, recorded, resumed and verified."""

import dataclasses

import numpy as np
import pytest

from scaling import files, schema, trainer, verify
from scaling.algorithm.batch import collect
from scaling.algorithm.rewards import Rewards
from scaling.config import parse_config, resolve, run_id
from scaling.config.identity import planned_prompts
from scaling.parallel import Team
from scaling.prompts import PromptStream
from scaling.rollout_types import RolloutGroups, SamplingParams
from scaling.schema import InputError
from scaling.tasks import load_task
from scaling.tasks.hex_chain import HexChainConfig

TASK = load_task(HexChainConfig())
SAMPLING = SamplingParams(1.0, 8, 0, "rollout", 1)


def config(**parts):
    values = {"model": "us", "data": {"prompts_per_step": 3}, "rollout": {"group_size": 2}, **parts}
    return parse_config({"batch": {"select": "informative"}, **values}, "run.yaml")


class Engine:
    """Groups of two responses; those of prompt n are n + 1 tokens long, so that each can be told."""

    def generate(self, prompts, group_size, sampling):
        lengths_B = np.repeat([prompt.index + 1 for prompt in prompts], group_size)
        held_BT = np.arange(lengths_B.max()) < lengths_B[:, None]
        tokens_BT = np.where(held_BT, lengths_B[:, None], 0)
        return RolloutGroups(prompts, group_size, tokens_BT, lengths_B, -held_BT.astype(np.float32), lengths_B < 0, 0)


def grade(solved):
    """Rewards where of the prompts in `solved` one of two responses is right, of all others none."""

    def grade(rollouts):
        outcome_PG = np.array([[float(prompt.index in solved), 0.0] for prompt in rollouts.prompts])
        nothing_PG = np.full_like(outcome_PG, np.nan)
        return Rewards(outcome_PG, nothing_PG, outcome_PG > 0, nothing_PG)

    return grade


def batch(solved, consumed=0, **parts):
    chosen = config(**parts)
    stream = PromptStream(TASK, chosen.data, 0, "us")
    return collect(Engine(), SAMPLING, grade(solved), stream, consumed, chosen, Team("ddp", "cpu"))


def test_what_an_engine_says_of_its_cache_stays_with_the_groups():
    """The ledger counts prompts by it."""
    one = dataclasses.replace(batch({0, 1, 2}).rollouts, prefix_block=16)
    for same in (RolloutGroups.joined([one, one]), one.chosen([2, 0]), RolloutGroups.joined([one, one]).chosen([3])):
        assert same.prefix_block == 16


def trained_on(found) -> list[int]:
    return [prompt.index for prompt in found.rollouts.prompts]


def test_all_takes_the_next_prompts_as_they_are():
    found = batch({1}, consumed=6, batch={"select": "all"})
    assert trained_on(found) == found.ids == [6, 7, 8] and found.left_out is None and found.row == {}


def test_informative_goes_on_until_the_batch_is_full():
    """1, 4 and 7 come after three rounds; 8 is informative, too, and one too many. All nine are consumed."""
    found = batch({1, 4, 7, 8})
    assert trained_on(found) == [1, 4, 7] and found.ids == list(range(9))
    assert [prompt.index for prompt in found.left_out.prompts] == [0, 2, 3, 5, 6, 8]
    assert found.row == {"groups_sampled": 9, "informative_share": 4 / 9}
    assert (found.advantage.total_PG != 0).all() and found.reward.outcome_PG.tolist() == [[1, 0]] * 3
    # The rollouts are those of the groups: tokens, lengths, log-probs, and no wider than the longest.
    assert found.rollouts.lengths_B.tolist() == [2, 2, 5, 5, 8, 8] and found.rollouts.tokens_BT.shape == (6, 8)
    assert found.rollouts.tokens_BT[2].tolist() == [5] * 5 + [0] * 3
    assert found.rollouts.logprobs_BT.sum(axis=1).tolist() == [-2, -2, -5, -5, -8, -8]
    assert [len(groups.prompts) for groups, _ in found.counted(np.ones(3, dtype=bool))] == [3, 6]


def test_it_ends_after_its_rounds_and_fills_the_batch():
    found = batch({4}, batch={"select": "informative", "rounds": 2})
    assert trained_on(found) == [0, 1, 4] and found.ids == list(range(6))
    assert (found.advantage.total_PG != 0).any(axis=1).tolist() == [False, False, True]


# ---------------------------------------------------------------- whole runs

TINY = {
    "model": {"size": "us", "base": {"iterations": 200, "leaping_iterations": 0, "batch_size": 32}},
    "data": {"prompts_per_step": 4, "prompts_unique": 30},
    "rollout": {"group_size": 4},
    "batch": {"select": "informative", "rounds": 3},
    "evaluation": {"problems": 8},
    "tracking": {"mlflow": False},
    "resources": {"checkpoint_steps": 2},
}


def train(run, artifacts, steps):
    chosen = parse_config({**TINY, "stop": {"steps": steps}}, "run.yaml")
    trainer.train_run(chosen, run, artifacts)
    return chosen


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(the config, a run of six steps at once, one of two that was extended to six)."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "resumed", folder, 2)
    train(folder / "resumed", folder, 6)
    return train(folder / "straight", folder, 6), folder / "straight", folder / "resumed"


def curve(run):
    return [{key: row[key] for key in row if key != "timing"} for row in files.read_rows(run / schema.CURVE)]


def test_a_run_counts_every_prompt_and_every_token_that_it_sampled(runs):
    _, run, _ = runs
    consumed = [len(row["ids"]) for row in files.read_rows(run / schema.PROMPTS)]
    assert len(set(consumed)) > 1  # steps differ in how far they went, or this would test nothing
    before, *rows = curve(run)
    for row, count in zip(rows, consumed, strict=True):
        assert row["groups_sampled"] == count == row["prompts_seen"] - before["prompts_seen"]
        assert row["rollouts_seen"] == 4 * row["prompts_seen"] and row["prompts_unique"] == min(30, row["prompts_seen"])
        assert row["reuse_factor"] == row["prompts_seen"] / row["prompts_unique"]
        assert row["train_flops"] == 6 * 5296 * row["tokens_seen"]
        before = row


def test_a_run_goes_on_along_the_stream_where_it_stood(runs):
    _, straight, resumed = runs
    assert files.read_rows(resumed / schema.PROMPTS) == files.read_rows(straight / schema.PROMPTS)
    known = [row for row in curve(straight) if row["step"] != 2]  # evaluated there in the shorter run
    evaluated = {*schema.EVAL_COLUMNS, "eval_flops", "total_flops"}
    for mine, theirs in zip([row for row in curve(resumed) if row["step"] != 2], known, strict=True):
        assert {k: v for k, v in mine.items() if k not in evaluated} == {
            k: v for k, v in theirs.items() if k not in evaluated
        }


def test_verify_understands_it_and_finds_a_skipped_round(runs):
    chosen, run, _ = runs
    name = run_id(chosen)
    assert verify.problems(run, name) == []
    rows = files.read_rows(run / schema.PROMPTS)
    short = next(row["step"] for row in rows if len(row["ids"]) > 4)
    cut = [{**row, "ids": row["ids"][4:] if row["step"] == short else row["ids"]} for row in rows]
    text = (run / schema.PROMPTS).read_text()
    (run / schema.PROMPTS).write_text("".join(map(files.dump_row, cut)))
    try:
        assert any(f"at steps [{short}" in line for line in verify.problems(run, name))
    finally:
        (run / schema.PROMPTS).write_text(text)


# ---------------------------------------------------------------- settings


def test_it_enters_the_id_and_steps_no_longer_say_how_many_prompts():
    assert run_id(config()) != run_id(config(batch={"select": "all"}))
    assert planned_prompts(config(stop={"steps": 5})) is None
    assert planned_prompts(config(stop={"steps": 5}, batch={"select": "all"})) == 15
    assert planned_prompts(config(stop={"steps": 5, "prompts": 60})) == 60
    tau = config(data={"prompts_per_step": 3, "reuse_factor": 4}, stop={"prompts": 60})
    assert resolve(tau).data.prompts_unique == 15


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"batch": {"rounds": 3}}, "batch: rounds 3 has no effect with select all; set select: informative"),
        ({"batch": {"select": "some"}}, "batch.select: wants all or informative, not 'some'"),
        ({"data": {"reuse_factor": 4}, "stop": {"steps": 8}}, "stop.steps does not say how many are unique"),
    ],
)
def test_settings_that_mean_nothing_are_refused(parts, words):
    with pytest.raises(InputError) as caught:
        config(**parts)
    assert words in str(caught.value)
