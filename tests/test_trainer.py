"""One run on real (tiny) models: its record, its resumption to the byte, its extension."""

import copy
import dataclasses
import json
import os
import re
import signal

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from scaling import checkpoint, files, record, schema, trainer
from scaling.algorithm import rewards
from scaling.algorithm.estimators.papo import FullnormConfig
from scaling.config.run import RunConfig
from scaling.logprobs import token_logprobs
from scaling.policy import load_policy
from scaling.process import Interrupted
from scaling.prompts import PromptStream
from scaling.rollout_types import Prompt, SamplingParams
from scaling.rollouts import load_engine
from scaling.tasks import load_task
from scaling.tasks.hex_chain import Task

TINY = {
    "model": {"size": "us", "base": {"iterations": 250, "leaping_iterations": 30, "batch_size": 32}},
    "data": {"prompts_per_step": 4},
    "rollout": {"group_size": 4},
    "evaluation": {"problems": 24},
    "stop": {"steps": 8},
    "resources": {"checkpoint_steps": 3},
    "seed": 3,  # a base that gets some answers right, so that nearly every step has an advantage
}


def tiny(**changes) -> RunConfig:
    return RunConfig.model_validate({**TINY, **changes})


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts")


def train(run, artifacts, **changes):
    trainer.train_run(tiny(**changes), run, artifacts)
    return run


def rows(run, name=schema.CURVE):
    return [record.without_timing(row) for row in files.read_rows(run / name)]


def science(run):
    """Everything of the record that must not depend on what happened on the way."""
    return [rows(run, name) for name in (schema.CURVE, schema.ROLLOUTS, schema.OUTCOMES)]


@pytest.fixture(scope="session")
def finished(artifacts, tmp_path_factory):
    return train(tmp_path_factory.mktemp("run") / "run", artifacts)


def test_every_column_is_recorded(finished):
    first, *later = rows(finished)
    assert set(first) == {*schema.COUNT_COLUMNS, *schema.EVAL_COLUMNS}
    assert [row["step"] for row in [first, *later]] == list(range(9))
    for row in later:
        assert {*schema.COUNT_COLUMNS, *schema.TRAIN_COLUMNS} <= set(row)
    assert [row["step"] for row in [first, *later] if "test_loss" in row] == [0, 1, 2, 3, 4, 6, 8]
    assert set(files.read_rows(finished / schema.CURVE)[0]["timing"]) == set(schema.TIMING_COLUMNS)


def test_some_steps_are_updates(finished):
    """Else the tests below would compare runs in which nothing happens; another processor may round otherwise."""
    active = [row["groups_active"] for row in rows(finished)[1:]]
    assert sum(share > 0 for share in active) >= 2


def test_counts_add_up(finished):
    config = files.read_json(finished / schema.CONFIG)
    assert config["model"]["num_params_non_embedding"] == 5296  # quickstart_study: the smallest size
    for row in rows(finished):
        assert row["prompts_seen"] == row["prompts_unique"] == 4 * row["step"]
        assert row["rollouts_seen"] == 16 * row["step"]
        assert row["tokens_seen"] == row["tokens_prompt"] + row["tokens_generated"]
        assert row["train_flops"] == 6 * 5296 * row["tokens_seen"]
        parts = [row[f"{part}_flops"] for part in ("rollout", "logprob", "update", "judge", "eval")]
        assert row["total_flops"] == pytest.approx(sum(parts))
    last = rows(finished)[-1]
    mean_lengths = [row["response_length_mean"] for row in rows(finished)[1:]]
    assert last["tokens_generated"] == pytest.approx(16 * sum(mean_lengths))
    assert last["update_flops"] > 0 and last["eval_flops"] > 0


def test_sampler_and_trainer_agree(finished):
    """The largest difference of a step over all its tokens, on trained weights: float32 rounding, see the next test."""
    differences = [row["logprob_difference"] for row in rows(finished)[1:] if row["logprob_difference"] is not None]
    assert differences
    assert np.median(differences) < 2e-5 and max(differences) < 1e-3


def test_sampler_and_trainer_are_as_exact_as_transformers(finished):
    """Against the same weights in float64: ours are off by rounding, as the oracle is."""
    policy = load_policy(finished / "model")
    task = load_task(tiny().task)
    prompts = PromptStream(task, tiny().data, 3, "us").step(1)
    sampling = SamplingParams(1.0, task.max_new_tokens, 3, "rollout", 1)
    errors = {}
    for name in ("hf", "native"):
        engine = load_engine(name, allowed_V=task.allowed_V, end_ids=task.end_ids)
        engine.load_weights(policy, 0)
        groups = engine.generate(prompts, 16, sampling)
        options = {"allowed_V": task.allowed_V, "temperature": 1.0}
        exact_BT = token_logprobs(copy.deepcopy(policy).double(), groups, **options).logprobs_BT.detach().numpy()
        shared = token_logprobs(policy, groups, **options, forward="shared_prefix").logprobs_BT.detach().numpy()
        errors[name] = np.abs(groups.logprobs_BT - exact_BT).max()
        errors["shared_prefix"] = np.abs(shared - exact_BT).max()
    assert errors["native"] < 4 * errors["hf"] and errors["shared_prefix"] < 4 * errors["hf"], errors


def test_evaluation_columns_follow_from_the_verdicts(finished):
    outcomes = {row["step"]: np.array(row["correct"]) for row in rows(finished, schema.OUTCOMES)}
    log = (finished / schema.ATTEMPTS / "0001" / schema.LOG).read_text()
    for row in rows(finished):
        if "test_loss" in row:
            assert outcomes[row["step"]].shape == (24, 1)
            assert row["pass_at_1"] == pytest.approx(outcomes[row["step"]].mean())
            assert row["test_loss"] == pytest.approx(1 - row["pass_at_1"])
            cut = round(24 * row["eval_truncated_share"])
            counts = {"<end>": 24 - cut, "length": cut}
            words = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
            assert re.search(rf"step {row['step']}: test loss {row['test_loss']:.4f}, .*; ended by {words}\n", log)


def test_shown_samples_grade_as_recorded(finished):
    task = load_task(tiny().task)
    ids = {symbol: i for i, symbol in enumerate(task.vocabulary)}
    samples = rows(finished, schema.ROLLOUTS)
    assert {row["step"] for row in samples} == {0, 1, 2, 3, 4, 6, 8}
    for row in samples:
        ended = row["response"].endswith("<end>")
        assert ended != row["truncated"] and row["end_token"] == ("<end>" if ended else None)
        tokens = [ids[symbol] for symbol in row["response"].removesuffix("<end>")] + [task.end_id] * ended
        grade = task.grade(task.prompt(row["prompt"], row["problem"]), tuple(tokens))
        assert (grade.correct, grade.process) == (row["correct"], row["process"])


def test_the_exported_model_is_the_policy(finished):
    exported = AutoModelForCausalLM.from_pretrained(finished / "model")
    found = checkpoint.load_newest(finished)
    assert found is not None
    state = found.state["policy"]
    assert all(torch.equal(value, state[name]) for name, value in exported.state_dict().items())


def test_a_second_call_does_nothing(finished, artifacts):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != "lock"}
    train(finished, artifacts)
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != "lock"}


# ---------------------------------------------------------------- death and resumption


class Crash(BaseException):
    """Ends the process's work on the spot: nothing after it runs, like a kill."""


def crash_at(monkeypatch, moment):
    """Die at the given write: before it (even moments) or right after it (odd)."""
    calls = 0

    def dying(original):
        def wrapper(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == moment // 2 + 1 and moment % 2 == 0:
                raise Crash
            result = original(*args, **kwargs)
            if calls == moment // 2 + 1:
                raise Crash
            return result

        return wrapper

    monkeypatch.setattr(record.Attempt, "append", dying(record.Attempt.append))
    write_atomic = dying(files.write_atomic)
    for module in (files, record):  # both call it by their own name
        monkeypatch.setattr(module, "write_atomic", write_atomic)
    monkeypatch.setattr(os, "rename", dying(os.rename))
    monkeypatch.setattr(record.Attempt, "sync", dying(record.Attempt.sync))


@pytest.mark.launch
@pytest.mark.parametrize("moments", [range(0, 30), range(30, 60, 4), range(60, 200, 3)], ids=["start", "middle", "end"])
def test_dying_at_any_write_changes_nothing(finished, artifacts, tmp_path, monkeypatch, moments):
    died = 0
    for moment in moments:
        run = tmp_path / str(moment)
        with monkeypatch.context() as patch:
            crash_at(patch, moment)
            try:
                train(run, artifacts)
            except Crash:
                died += 1
        train(run, artifacts)
        assert science(run) == science(finished), f"died at moment {moment}"
        if record.attempt_numbers(run) == [1]:
            break  # past the last write
    assert died > 0


def test_dying_again_and_again(finished, artifacts, tmp_path, monkeypatch):
    for moment in (9, 15, 4, 21, 12, 7):
        with monkeypatch.context() as patch:
            crash_at(patch, moment)
            with pytest.raises(Crash):
                train(tmp_path, artifacts)
    train(tmp_path, artifacts)
    assert science(tmp_path) == science(finished)
    assert record.wasted_rows(tmp_path)


def test_a_signal_checkpoints_and_stops_between_steps(finished, artifacts, tmp_path, monkeypatch):
    original = rewards.grade_all

    def signalled(task, rollouts):
        if rollouts.weight_version == 4 and rollouts.group_size == 4:  # in the middle of step 5
            os.kill(os.getpid(), signal.SIGTERM)
        return original(task, rollouts)

    monkeypatch.setattr(trainer, "grade_all", signalled)
    with pytest.raises(Interrupted):
        train(tmp_path, artifacts)
    monkeypatch.undo()
    assert record.committed_step(tmp_path) == 5
    assert record.read_attempt(tmp_path, 1)["reason"] == "interrupted"
    train(tmp_path, artifacts)
    assert science(tmp_path) == science(finished)
    assert record.wasted_rows(tmp_path) == []


def test_what_a_step_grades_is_counted_in_its_own_row(artifacts, tmp_path, monkeypatch):
    """Else the answers of an evaluation would be counted a step later, and not at all where a run stopped between."""
    graded = []

    def counts(task):
        seen, graded[:] = len(graded), []
        return {"verifier_failures": float(seen)}

    def grade(task, prompt, response, original=Task.grade):
        graded.append(prompt)
        return original(task, prompt, response)

    monkeypatch.setattr(Task, "counts", counts)
    monkeypatch.setattr(Task, "grade", grade)
    for steps in (2, 3):
        train(tmp_path, artifacts, stop={"steps": steps}, evaluation={"problems": 24, "every": 2})
    # 24 held-out problems and 4 x 2 samples to read at steps 0, 2 and the stop; 16 rollouts a step.
    assert [row["verifier_failures"] for row in rows(tmp_path)] == [32, 16, 48, 48]


def test_a_damaged_checkpoint_falls_back_to_the_one_before(finished, artifacts, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(record, "finish", lambda *args: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            train(tmp_path, artifacts)
    (_, newest), (before, _) = record.checkpoints(tmp_path, 1)
    state = newest / checkpoint.STATE
    state.write_bytes(state.read_bytes()[:-100])
    train(tmp_path, artifacts)
    assert record.read_attempt(tmp_path, 2)["first_step"] == before + 1
    assert science(tmp_path) == science(finished)


def test_an_older_process_is_fenced(artifacts, tmp_path, monkeypatch):
    def usurped(attempt, name, new_rows, original=record.Attempt.append):
        original(attempt, name, new_rows)
        if new_rows[0]["step"] == 4 and attempt.number == 1:
            record.start_attempt(tmp_path, parent=None, first_step=0)

    monkeypatch.setattr(record.Attempt, "append", usurped)
    with pytest.raises(record.StaleAttempt):
        train(tmp_path, artifacts)
    assert not (tmp_path / schema.DONE).exists()


# ---------------------------------------------------------------- longer, shorter, other


def test_extending_equals_a_straight_run(artifacts, tmp_path):
    short = train(tmp_path / "short", artifacts, stop={"steps": 5})
    before = science(short)
    train(short, artifacts, stop={"steps": 10})
    straight = train(tmp_path / "straight", artifacts, stop={"steps": 10})
    extended_rows, straight_rows = rows(short), rows(straight)
    assert extended_rows[:6] == before[0]
    extra = {
        *schema.EVAL_COLUMNS,
        "eval_flops",
        "total_flops",
    }  # step 5 was evaluated because the short run ended there
    assert "test_loss" in extended_rows[5] and "test_loss" not in straight_rows[5]
    for mine, theirs in zip(extended_rows, straight_rows, strict=True):
        assert {k: v for k, v in mine.items() if k not in extra} == {k: v for k, v in theirs.items() if k not in extra}
        if mine["step"] != 5:
            assert mine.get("test_loss") == theirs.get("test_loss")
    assert extended_rows[:5] == straight_rows[:5]


def test_planned_stops_of_shorter_cells_are_evaluated(artifacts, tmp_path):
    also = [{"steps": 5}, {"prompts": 27}]  # 27 prompts: the first step at or past it is 7
    train(tmp_path, artifacts, stop={"steps": 8, "also_evaluate": also})
    assert [row["step"] for row in rows(tmp_path) if "test_loss" in row] == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_a_run_without_its_final_checkpoint_is_not_extended(artifacts, tmp_path):
    train(tmp_path, artifacts, stop={"steps": 2}, resources={"keep_final": False})
    with pytest.raises(schema.InputError, match="cannot be extended"):
        train(tmp_path, artifacts, stop={"steps": 4}, resources={"keep_final": False})


def test_a_folder_of_another_run_is_refused(artifacts, tmp_path):
    train(tmp_path, artifacts, stop={"steps": 1})
    with pytest.raises(schema.InputError, match="belongs to run"):
        train(tmp_path, artifacts, stop={"steps": 2}, seed=7, model={**TINY["model"], "base_seed": 0})


def test_estimators_are_paired_and_evaluations_change_nothing(finished, artifacts, tmp_path, monkeypatch):
    seen = []
    original = FullnormConfig.advantages

    def watched(config, reward):
        # The tiny base is right by luck only, so its process scores are 0: give them some spread.
        spread_PG = np.linspace(0, 1, reward.process_PG.size).reshape(reward.process_PG.shape)
        seen.append(config.type)
        return original(config, dataclasses.replace(reward, process_PG=spread_PG))

    monkeypatch.setattr(FullnormConfig, "advantages", watched)
    other = train(tmp_path / "other", artifacts, algorithm="fullnorm", stop={"steps": 2})
    monkeypatch.undo()
    assert seen == ["fullnorm", "fullnorm"]
    same = ["reward_mean", "process_mean", "response_length_mean", "tokens_seen"]
    for name in same:
        assert rows(other)[1][name] == rows(finished)[1][name]
    assert rows(other)[1]["advantage_norm"] != rows(finished)[1]["advantage_norm"]
    often = train(tmp_path / "often", artifacts, evaluation={"problems": 8, "every": 1}, stop={"steps": 4})
    for mine, theirs in zip(rows(often), rows(finished), strict=False):
        assert {k: mine.get(k) for k in schema.TRAIN_COLUMNS} == {k: theirs.get(k) for k in schema.TRAIN_COLUMNS}


@pytest.mark.parametrize(
    "changes",
    [
        {"resources": {"engine": "hf", "forward": "plain"}},
        {"resources": {"micro_batch": 4}},
    ],
    ids=["oracle", "micro-batches"],
)
def test_resources_change_no_value_beyond_rounding(finished, artifacts, tmp_path, changes):
    train(tmp_path, artifacts, stop={"steps": 3}, **changes)
    for mine, theirs in zip(rows(tmp_path), rows(finished), strict=False):
        for name in ("reward_mean", "tokens_seen", "gradient_norm", "entropy", "test_loss"):
            expected = theirs.get(name)  # None before training, and where no group has an advantage
            assert mine.get(name) == (expected if expected is None else pytest.approx(expected, rel=1e-4)), name


def test_reuse_repeats_the_same_prompts(artifacts, tmp_path):
    train(tmp_path, artifacts, data={"prompts_per_step": 4, "reuse_factor": 4})
    last = rows(tmp_path)[-1]
    assert (last["prompts_seen"], last["prompts_unique"], last["reuse_factor"]) == (32, 8, 4.0)


@pytest.mark.parametrize("loss", [{"updates_per_batch": 2}, {"kl_weight": 0.1}, {"aggregation": "sequence_mean"}])
def test_other_losses_run_and_resume(artifacts, tmp_path, loss):
    whole = train(tmp_path / "whole", artifacts, loss=loss, stop={"steps": 4})
    half = train(tmp_path / "half", artifacts, loss=loss, stop={"steps": 2})
    train(half, artifacts, loss=loss, stop={"steps": 4})
    assert rows(half)[-1]["reward_mean"] == rows(whole)[-1]["reward_mean"]
    if "kl_weight" in loss:
        assert rows(whole)[-1]["logprob_flops"] > 0


def test_a_failure_is_recorded_with_its_last_lines(artifacts, tmp_path, monkeypatch):
    def broken(*args):
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr(trainer, "update_policy", broken)
    with pytest.raises(FloatingPointError):
        train(tmp_path, artifacts)
    failed = files.read_json(tmp_path / schema.FAILED)
    assert failed["class"] == "FloatingPointError"
    assert "the loss is not finite" in failed["message"]
    assert any("broken" in line for line in failed["last_lines"])


def test_rows_are_json_without_nan(finished):
    text = (finished / schema.CURVE).read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert all(json.loads(line) for line in text.splitlines())


def test_held_out_problems_are_never_trained_on(finished):
    task = load_task(tiny().task)
    assert all(task.reserved(prompt.text) for prompt in task.test_prompts(512))
    assert isinstance(task.test_prompts(1)[0], Prompt)
