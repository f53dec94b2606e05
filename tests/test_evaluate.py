"""Evaluation on several sets: pass@k, its standard error, what the record keeps of it, and `scaling eval`."""

import itertools
import json
import sys

import numpy as np
import pandas as pd
import pytest
from tiny_policies import text_folder

from scaling import cli, files, record, schema, trainer
from scaling.config.identity import run_id
from scaling.config.parts import EvaluationConfig
from scaling.config.reading import parse_config
from scaling.config.run import RunConfig
from scaling.evaluate import pass_at_k
from scaling.schema import InputError
from scaling.tracking import rows as tracking_rows

TINY = {
    "model": {"size": "us", "base": {"iterations": 60, "leaping_iterations": 10, "batch_size": 32}},
    "data": {"prompts_per_step": 4},
    "rollout": {"group_size": 4},
    "evaluation": {"problems": 8, "every": 1},
    "stop": {"steps": 2},
    "resources": {"checkpoint_steps": 1},
}
SETS = {
    "wide": {"problems": 6, "samples": 4, "pass_at": [1, 2, 4], "temperature": 0.7},
    "one": {"problems": 1, "samples": 2},
}


@pytest.mark.parametrize(("n", "c"), [(n, c) for n in (1, 4, 7) for c in range(n + 1)])
def test_pass_at_k_is_the_share_of_choices_that_hold_a_right_sample(n, c):
    correct = np.array([[1] * c + [0] * (n - c)])
    for k in range(1, n + 1):
        choices = [any(i < c for i in chosen) for chosen in itertools.combinations(range(n), k)]
        assert pass_at_k(correct, k)[0] == pytest.approx(np.mean(choices))


def test_its_standard_error_is_the_spread_over_fresh_sets_of_problems():
    rng, k = np.random.default_rng(0), 3
    found = []
    for _ in range(2000):  # problems of different difficulty, 8 samples each
        chance_P = rng.beta(0.5, 1.0, 40)
        found.append(pass_at_k(rng.random((40, 8)) < chance_P[:, None], k))
    estimates, errors = np.array(found, dtype=float).T
    # E[1 - (1 - p)^3] = 1 - B(.5, 4) / B(.5, 1) = 1 - 16/35
    assert estimates.mean() == pytest.approx(1 - 16 / 35, abs=3 * estimates.std() / 2000**0.5)
    assert np.sqrt((errors**2).mean()) == pytest.approx(estimates.std(ddof=1), rel=0.05)


def test_one_problem_has_no_standard_error_and_k_has_bounds():
    assert pass_at_k(np.array([[0, 1]]), 2) == (1.0, None)
    for k in (0, 3):
        with pytest.raises(InputError, match=f"pass@{k} wants a k from 1 to the 2 samples"):
            pass_at_k(np.array([[0, 1]]), k)


# ---------------------------------------------------------------- in a run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, sets in (("without", {}), ("with", SETS)):
        config = RunConfig.model_validate({**TINY, "evaluation": {**TINY["evaluation"], "sets": sets}})
        trainer.train_run(config, folder / name, folder)
    return folder


def rows(run, name=schema.CURVE):
    return [record.without_timing(row) for row in files.read_rows(run / name)]


def test_sets_stand_beside_a_curve_that_they_do_not_change(runs):
    for mine, alone in zip(rows(runs / "with"), rows(runs / "without"), strict=True):
        extra = {name: value for name, value in mine.items() if name.startswith(schema.SETS)}
        rest = {name: value for name, value in mine.items() if name not in extra}
        changed = {name for name in alone if alone[name] != rest[name]}
        assert changed == {"eval_flops", "total_flops"}  # more is sampled
        assert {name.split(".")[2] for name in extra if ".wide." in name} == {
            *(f"pass_at_{k}{end}" for k in (1, 2, 4) for end in ("", "_stderr")),
            "problems", "samples", "temperature", "truncated_share",
        }  # fmt: skip
        assert extra["sets.wide.temperature"] == 0.7 and extra["sets.one.temperature"] == 1.0
        assert extra["sets.one.pass_at_1_stderr"] is None
    for outcomes, row in zip(rows(runs / "with", schema.OUTCOMES), rows(runs / "with"), strict=True):
        verdicts = np.array(outcomes["sets"]["wide"])
        assert verdicts.shape == (6, 4)
        assert row["sets.wide.pass_at_1"] == pytest.approx(verdicts.mean())
        assert row["sets.wide.pass_at_4"] == pytest.approx(verdicts.any(axis=1).mean())
    log = (runs / "with" / "attempts" / "0001" / schema.LOG).read_text()
    assert "set wide: 6 problems, 4 samples each" in log


def test_the_mirror_keeps_them(runs):
    values, _ = tracking_rows.row_values(files.read_rows(runs / "with" / schema.CURVE)[-1])
    assert {"eval/sets.wide.pass_at_4", "eval/sets.wide.pass_at_4_stderr", "eval/sets.one.pass_at_1"} <= values.keys()


def test_the_report_keeps_them():
    from analysis.reporting.runs import other_sets

    table = pd.DataFrame(
        {"run_id": ["a", "a", "b"], "step": [0, 1, 1], "sets.amc.pass_at_4": [0.1, 0.25, 0.5],
         "sets.amc.pass_at_4_stderr": 0.1, "sets.amc.problems": 40}
    )  # fmt: skip
    assert other_sets(table) == ["amc pass@4 0.25–0.5"]


def test_sets_are_science_and_none_is_as_before():
    def id_of(sets):
        return run_id(RunConfig.model_validate({**TINY, "evaluation": {"sets": sets}}))

    assert id_of({}) == run_id(RunConfig.model_validate({**TINY, "evaluation": {}}))
    assert len({id_of(s) for s in ({}, {"a": {}}, {"b": {}}, {"a": {"samples": 2}})}) == 4


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"a": {"pass_at": [2]}}, "pass_at [2] wants numbers from 1 to samples, which is 1"),
        ({"a": {"pass_at": []}}, "wants numbers from 1 to samples"),
        ({"a b": {}}, "a name in sets wants at most 50 letters"),
        ({"a": {"pth": "x"}}, "evaluation.sets.a.pth is not a field of EvaluationSet"),
        ({"a": {"path": "x.parquet"}}, "task hex_chain makes its problems and reads no file"),
        ({"a": {"problems": 4096}}, "evaluation.sets.a.problems 4096 is more than there are"),
        ({"a": 3}, "evaluation.sets.a wants keys and values"),
    ],
)
def test_mistakes_are_told_in_one_line(sets, message):
    with pytest.raises(InputError) as caught:
        parse_config({"model": "us", "evaluation": {"sets": sets}}, "run.yaml")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert EvaluationConfig().sets == {}


# ---------------------------------------------------------------- scaling eval


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["scaling", "eval", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main()
    output = capsys.readouterr()
    return end.value.code or 0, output.out, output.err


def test_eval_of_a_run_and_of_its_checkpoint(runs, monkeypatch, capsys, tmp_path):
    options = ["--n", 4, "--k", 1, "--k", 4, "--problems", 20, "--json"]
    status, out, _ = command(monkeypatch, capsys, runs / "with", *options)
    assert status == 0
    found = json.loads(out)
    assert found["step"] == 2 and np.array(found["sets"]["held_out"]["correct"]).shape == (20, 4)
    (runs / "with" / "model").rename(tmp_path / "model")  # then the newest checkpoint is read
    try:
        status, again, _ = command(monkeypatch, capsys, runs / "with", *options)
    finally:
        (tmp_path / "model").rename(runs / "with" / "model")
    assert json.loads(again) == found
    _, shown, _ = command(monkeypatch, capsys, runs / "with", "--n", 2, "--k", 2, "--problems", 5)
    assert "held_out" in shown and "standard error" in shown


def test_eval_of_any_transformers_folder_on_files(monkeypatch, capsys, tmp_path):
    model = text_folder(tmp_path / "model")
    for name in ("amc", "aime"):
        lines = [json.dumps({"question": f"What is {i} + {i} ({name})?", "answer": 2 * i}) for i in range(5)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    sets = ["--set", tmp_path / "amc.jsonl", "--set", f"other={tmp_path / 'aime.jsonl'}", "--max-new-tokens", 12]
    status, out, err = command(monkeypatch, capsys, model, *sets, "--n", 2, "--json")
    assert status == 0, err
    found = json.loads(out)["sets"]
    assert set(found) == {"amc", "other"} and found["amc"]["problems"] == 5
    assert found["amc"]["truncated_share"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere", "neither a run folder nor a transformers folder"]),
        (["MODEL", "--set", "nowhere.jsonl"], ["there is no file nowhere.jsonl"]),
        (["MODEL", "--set", "held_out", "--set", "held_out"], ["each name once"]),
        (["MODEL", "--set", "=x"], ["give held_out, FILE or NAME=FILE"]),
        (["MODEL", "--k", "2"], ["pass_at [2] wants numbers from 1 to samples, which is 1"]),
        (["MODEL"], ["no held-out problems", "--set FILE"]),
    ],
)
def test_eval_mistakes_are_told_in_one_line(arguments, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    text_folder(tmp_path / "MODEL")
    status, out, err = command(monkeypatch, capsys, *arguments)
    assert status == 2 and out == "" and err.count("\n") == 1, err
    assert all(word in err for word in words), err


def test_a_math_run_tries_files_beside_its_own_and_says_what_it_trained_on(tmp_path):
    model = text_folder(tmp_path / "model")

    def write(name, numbers):
        lines = [json.dumps({"question": f"What is {i} + {i}?", "answer": 2 * i}) for i in numbers]
        (tmp_path / name).write_text("\n".join(lines))
        return str(tmp_path / name)

    config = RunConfig.model_validate(
        {
            "model": {"path": str(model)},
            "task": {"name": "math", "train": write("train.jsonl", range(8)), "test": write("t.jsonl", range(20, 24))},
            "data": {"prompts_per_step": 4},
            "rollout": {"group_size": 2, "max_new_tokens": 6},
            "evaluation": {
                "problems": 4, "every": 1, "temperature": 0.7,
                "sets": {"more": {"path": write("more.jsonl", range(6, 12)), "samples": 2, "pass_at": [2]}},
            },
            "stop": {"steps": 1},
            "resources": {"engine": "hf", "forward": "plain", "export_model": False, "rollout_sequences": 3},
        }
    )  # fmt: skip
    trainer.train_run(config, tmp_path / "run", tmp_path)
    assert [row["sets.more.problems"] for row in rows(tmp_path / "run")] == [6, 6]
    log = (tmp_path / "run" / "attempts" / "0001" / schema.LOG).read_text()
    assert "set more: 6 problems, 2 samples each; 2 of them are training problems too" in log
