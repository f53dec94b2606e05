"""Maths problems: their files, the study's rules for training and held-out sets, and a run on them."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_policies import text_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from scaling import files as scaling_files
from scaling import record, schema, trainer
from scaling.config import DataConfig, MathConfig
from scaling.config.identity import run_id
from scaling.config.run import RunConfig
from scaling.evaluate import stop_reasons
from scaling.logprobs import token_logprobs
from scaling.policy import ModelEncoding, load_encoding, load_policy
from scaling.problem_files import REQUEST, read_problem_file
from scaling.prompts import PromptStream
from scaling.rollout_types import SamplingParams
from scaling.rollouts import load_engine
from scaling.schema import InputError
from scaling.tasks import load_task
from scaling.tasks.math import Problem, by_difficulty, read_problems, stratified, subset
from scaling.verify import problems


def verl_row(number, rate=None, answer=None):
    text = f"What is {number} + {number}? Put it in \\boxed{{}}."
    extra = {"index": number, "split": "train"} | ({} if rate is None else {"qwen2.5_7b_pass_rate": rate})
    return {
        "data_source": "made_up",
        "prompt": [{"content": text, "role": "user"}],
        "ability": "math",
        "reward_model": {"ground_truth": str(2 * number) if answer is None else answer, "style": "rule"},
        "extra_info": extra,
    }


def write(path, rows):
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "train.parquet", [verl_row(i, rate=round(1 - i / 40, 3)) for i in range(40)])
    write(tmp_path / "test.jsonl", [verl_row(i) for i in range(100, 112)])
    return tmp_path


def task_of(files, encoding, **changes):
    values = {"train": str(files / "train.parquet"), "test": str(files / "test.jsonl"), **changes}
    return load_task(MathConfig(**values), encoding)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_verl_rows_are_read_from_parquet_and_jsonl(tmp_path, suffix):
    path = write(tmp_path / f"x{suffix}", [verl_row(3, rate=0.25), verl_row(4, rate=0.5)])
    assert read_problems(path) == [
        Problem("What is 3 + 3? Put it in \\boxed{}.", "6", 0.25),
        Problem("What is 4 + 4? Put it in \\boxed{}.", "8", 0.5),
    ]


def test_flat_rows_get_the_request_for_a_box(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"question": "How many?", "answer": 5}, {"problem": "Find x", "answer": "y"}])
    assert read_problems(path) == [Problem(f"How many? {REQUEST}", "5", 0.0), Problem(f"Find x. {REQUEST}", "y", 0.0)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"question": "x"}\n', "row 0: wants a problem"),
        ("a.jsonl", '{"question": "x", "answer": ""}\n', "row 0: wants a problem"),
        ("a.jsonl", "{", "line 1 is not JSON"),
        ("a.jsonl", "\n", "holds no problem"),
        ("a.parquet", "text", "is not parquet"),
        ("a.txt", "x", "read from .parquet, .jsonl, .json, .csv files, all but the first also with .gz, not '.txt'"),
        ("a.parquet.gz", "x", "not '.parquet'"),
        ("a.jsonl.gz", "x", "is not gzip"),
        ("a.csv", "x", "holds no problem"),
        ("a.csv", "question,answer\nWhy?,1,2\n", "row 0 has not as many values"),
        ("a.csv", "question,answer,qwen2.5_7b_pass_rate\nWhy?,1,often\n", "row 0: qwen2.5_7b_pass_rate is 'often'"),
        ("a.jsonl", "[1]\n", "row 0 is not an object"),
        ("a.jsonl", '{"question": "x", "answer": NaN}', "row 0: the ground truth is nan, which is no answer"),
        ("a.jsonl", '{"question": "x", "answer": false}', "row 0: the ground truth is False"),
        ("a.jsonl", '{"question": "x", "answer": ["1", "2"]}', "row 0: the ground truth is ['1', '2']"),
        ("a.jsonl", '{"question": 5, "answer": "1"}', "row 0: the problem is int"),
        ("a.jsonl", '{"prompt": ["a", "b"], "answer": "1"}', "row 0: the problem has 2 messages"),
        ("a.jsonl", '{"prompt": "x", "reward_model": "{", "answer": "1"}', "row 0: reward_model is not JSON"),
        ("a.jsonl", '{"prompt": "x", "reward_model": "[5]"}', "row 0: reward_model is no object with keys but [5]"),
        (
            "a.jsonl",
            '{"prompt": "x", "answer": "1", "extra_info": {"qwen2.5_7b_pass_rate": "0.9"}}',
            "row 0: qwen2.5_7b_pass_rate is '0.9'; a pass rate is a number from 0 to 1",
        ),
        ("a.jsonl", '{"prompt": "x", "answer": "1", "qwen2.5_7b_pass_rate": 90}', "a number from 0 to 1"),
        ("a.jsonl", '{"prompt": [{"role": "assistant", "content": "s"}], "answer": 1}', "one user message is wanted"),
        ("a.jsonl", '{"prompt": [{"role": "system", "content": "s"}, {"role": "user"}], "answer": 1}', "2 messages"),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_problems(tmp_path / name)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="there is no file"):
        read_problems(tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'\xef\xbb\xbf{"problem": "2+3?", "answer": "5"}\r\n', ("2+3?", "5")),
        ("a.jsonl", '{"problem": "Is\u20282+3?", "answer": "5"}\n'.encode(), ("Is\u20282+3?", "5")),
        ("a.jsonl", '{"problem": "Is\u00852+3?", "answer": "5"}\n'.encode(), ("Is\u00852+3?", "5")),
        ("a.jsonl", b'{"problem": "2+3?\\n", "answer": 5}', ("2+3?", "5")),
        ("a.jsonl", '{"problem": "2+3 是多少？", "answer": "5"}'.encode(), ("2+3 是多少？", "5")),
        ("a.jsonl", b'{"prompt": ["2+3?"], "answer": "5"}', ("2+3?", "5")),
        ("a.jsonl", b'{"prompt": "2+3?", "reward_model": "{\\"ground_truth\\": \\"5\\"}"}', ("2+3?", "5")),
        ("a.jsonl", b'{"prompt": "2+3?", "answer": "5", "extra_info": "{\\"index\\": 1}"}', ("2+3?", "5")),
        ("a.jsonl", b'{"prompt": [{"role": "system", "content": "Add."}, {"role": "user", "content": "2+3?"}],'
         b' "answer": 5}', ("Add.\n\n2+3?", "5")),
        ("a.jsonl", b'{"question": "2+3?", "answer": "2+3=<<2+3=5>>5\\n#### 5"}', ("2+3?", "5")),
        ("a.json", b'[\n{"problem": "2+3?",\n "answer": "5"}]', ("2+3?", "5")),
        ("a.csv", b'question,answer\n"2+3,\nor what?",5\n', ("2+3,\nor what?", "5")),
        ("a.jsonl.gz", gzip.compress(b'{"problem": "2+3?", "answer": "5"}', mtime=0), ("2+3?", "5")),
        ("a.csv.gz", gzip.compress(b"question,answer\n2+3?,5\n", mtime=0), ("2+3?", "5")),
    ],
)  # fmt: skip
def test_files_as_they_come(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    text, answer = expected
    assert read_problems(tmp_path / name) == [Problem(f"{text} {REQUEST}", answer, 0.0)]


def test_what_is_not_utf_8_is_told_with_its_line(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(
        '{"problem": "2+3?", "answer": "5"}\n{"problem": "café?", "answer": "5"}\n'.encode("latin-1")
    )
    with pytest.raises(InputError, match="line 2 is not UTF-8"):
        read_problems(tmp_path / "a.jsonl")


def test_columns_are_named_by_a_mapping(files, encoding, tmp_path):
    messages = [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "It is \\boxed{5}."}]
    row = {
        "messages": messages,
        "solution": "So 2+3 is \\boxed{4} or rather \\boxed{5}.",
        "meta": {"final_answer": "5"},
    }
    path = write(tmp_path / "x.jsonl", [row])
    for answer in ("solution", "meta.final_answer"):
        found = read_problem_file(path, "rate", problem="messages", answer=answer)
        assert found.problems == [Problem(f"2+3? {REQUEST}", "5", 0.0)]
    with pytest.raises(
        InputError, match=r"row 0: wants a problem \(text\) and a ground truth \(solution\); it has messages"
    ):
        read_problem_file(path, "rate", problem="text", answer="solution")
    columns = {"problem": "messages", "answer": "solution"}
    with pytest.raises(InputError, match=r"a problem \(messages\)"):  # the files of `files` have the usual ones
        task_of(files, encoding, columns=columns)
    train = write(tmp_path / "train.jsonl", [{"text": f"{i}+1?", "solution": str(i + 1)} for i in range(3)])
    test = write(tmp_path / "held.jsonl", [{"text": "7+1?", "solution": "8"}])
    task = task_of(files, encoding, train=str(train), test=str(test), columns={"problem": "text", "answer": "solution"})
    assert len(task.training_problems(None) or []) == 3
    # Another set is read by its own columns, or by the usual ones.
    assert len(task.problem_set(str(files / "test.jsonl"), None)) == 12


def test_a_pass_rate_that_no_row_has_is_never_taken_for_hard_unseen(files, encoding):
    for values in ({"order": "difficulty"}, {"subset": "stratified"}):
        with pytest.raises(InputError, match=r"task\.pass_rate: no row of .* has 'rate'"):
            task_of(files, encoding, pass_rate="rate", **values)
    task = task_of(files, encoding, pass_rate="rate")
    assert any("has 'rate': every problem counts as hard" in note for note in task.notes)
    assert not any("counts as hard" in note for note in task_of(files, encoding).notes)


# ---------------------------------------------------------------- the study's rules


def rated(*rates):
    return [Problem(f"p{i}", "1", rate) for i, rate in enumerate(rates)]


def test_the_order_is_by_pass_rate_and_stable():
    assert [p.text for p in by_difficulty(rated(0.0, 0.5, 0.25, 0.5))] == ["p1", "p3", "p2", "p0"]


def test_samples_are_those_of_pandas_and_nested():
    problems = rated(*[0.5] * 30, *[0.1] * 70)
    easy, hard = pd.Series(range(30)), pd.Series(range(30, 100))
    for count_easy, count_hard in ((4, 6), (10, 20)):
        expected = [*easy.sample(n=count_easy, random_state=42), *hard.sample(n=count_hard, random_state=43)]
        assert stratified(problems, count_easy, count_hard) == sorted(expected)
    assert set(stratified(problems, 4, 6)) < set(stratified(problems, 10, 20))


def test_a_short_kind_is_made_up_from_the_other():
    places = stratified(rated(0.5, 0.5, *[0.0] * 10), 4, 4)
    assert len(places) == 8 and {0, 1} < set(places)


def test_subsets_keep_the_easy_share_and_the_order():
    problems = rated(*[0.5] * 25, *[0.1] * 75)
    small, large = subset(problems, 20), subset(problems, 50)
    assert [sum(p.pass_rate >= 0.3 for p in some) for some in (small, large)] == [5, 12]  # int(50 x .25)
    places = [int(p.text[1:]) for p in large]
    assert places == sorted(places) and set(small) < set(large)


def test_held_out_problems_are_half_easy_half_hard_and_never_trained_on(files, encoding):
    task = task_of(files, encoding, test=None, test_problems=8)
    held_out = [prompt.text for prompt in task.test_prompts(8)]
    rates = {p.text: p.pass_rate for p in read_problems(files / "train.parquet")}
    assert sum(rates[text] >= 0.3 for text in held_out) == 4
    assert not set(held_out) & set(task.training_problems(None))
    assert len(task.training_problems(None)) == 32
    assert all(task.reserved(text) for text in held_out)


def test_what_is_left_out_is_said(files, encoding):
    rows = [verl_row(1), verl_row(2), verl_row(1), verl_row(105), verl_row(3)]
    rows[4]["prompt"][0]["content"] = "Long" + " ago" * 80 + " \\boxed{}"
    write(files / "train.jsonl", rows)
    task = task_of(files, encoding, train=str(files / "train.jsonl"), max_prompt_tokens=250)
    assert len(task.training_problems(None)) == 2
    assert "2 training problems, 12 held-out problems" in task.notes
    assert "of 5 training problems 3 are left out: 1 too long, 1 repeated, 1 also held out" in task.notes


def test_order_pool_and_subset_make_the_stream(files, encoding):
    task = task_of(files, encoding, order="difficulty", subset="stratified", pool=30)
    assert task.training_problems(None) == [f"What is {i} + {i}? Put it in \\boxed{{}}." for i in range(30)]
    # 28 of 30 are easy (rate 1 - i / 40 >= 0.3), so int(15 * 28 / 30) = 14 of 15 are.
    chosen = task.training_problems(15)
    assert chosen is not None and len(chosen) == 15
    assert sum(int(text.split()[2]) <= 28 for text in chosen) in (14, 15)
    stream = PromptStream(task, DataConfig(prompts_per_step=5, prompts_unique=15, pass_order="same"), 0, "m")
    passes = [[p.text for t in range(first, first + 3) for p in stream.step(t)] for first in (1, 4)]
    assert passes[0] == passes[1] == chosen
    shuffled = [task_of(files, encoding, order="shuffled", order_seed=s).training_problems(None) for s in (0, 0, 1)]
    assert shuffled[0] == shuffled[1] != shuffled[2]


def test_a_finite_set_is_never_repeated_silently(files, encoding):
    task = task_of(files, encoding)
    stream = PromptStream(task, DataConfig(prompts_per_step=16), 0, "m")
    assert len({p.text for t in (1, 2) for p in stream.step(t)}) == 32
    with pytest.raises(InputError, match="all 40 training problems are used up"):
        stream.step(3)
    with pytest.raises(InputError, match="41 distinct problems asked for"):
        PromptStream(task, DataConfig(prompts_unique=41), 0, "m")
    with pytest.raises(InputError, match="there are 12"):
        task.test_prompts(13)


# ---------------------------------------------------------------- tokens


def test_prompts_go_through_the_chat_template(files, encoding, model):
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompt = task_of(files, encoding).test_prompts(1)[0]
    shown = tokenizer.decode(list(prompt.tokens))
    assert shown == f"<|im_start|>user\n{prompt.text}<|im_end|>\n<|im_start|>assistant\n"
    assert prompt.tokens.count(1) == 2 and prompt.tokens.count(2) == 1  # the template's marks are one id each
    bare = task_of(files, encoding, template="none").test_prompts(1)[0]
    assert tokenizer.decode(list(bare.tokens)) == prompt.text
    # A tokenizer that ends each text would leave nothing to say.
    ending = ModelEncoding(model, load_policy(model))
    plain = ending.tokenizer
    ending.tokenizer = lambda text: {"input_ids": [*plain(text)["input_ids"], ending.end_ids[0]]}
    assert ending.encode(prompt.text, chat=False) == bare.tokens


def test_any_id_may_be_sampled_and_each_end_id_ends(files, encoding, model):
    task = task_of(files, encoding)
    assert task.end_ids == (0, 2)
    assert task.allowed_V.shape == (264,) and task.allowed_V.all()
    policy = load_policy(model)
    engine = load_engine("hf", allowed_V=task.allowed_V, end_ids=task.end_ids)
    engine.load_weights(policy, 0)
    found = engine.generate(task.test_prompts(4), 16, SamplingParams(1.0, 150, 0, "rollout", 1))
    last = [response[-1] for response, cut in zip(found.responses, found.truncated_B, strict=True) if not cut]
    assert set(last) == {0, 2}
    assert all(not {0, 2} & set(response[:-1]) for response in found.responses)
    assert 0 < found.truncated_B.sum() < len(found.truncated_B)
    assert stop_reasons(task, found) == {
        "<|endoftext|>": last.count(0), "<|im_end|>": last.count(2), "length": found.truncated_B.sum(),
    }  # fmt: skip
    own = token_logprobs(policy, found, allowed_V=task.allowed_V, temperature=1.0)
    assert np.abs(own.logprobs_BT.detach().numpy() - found.logprobs_BT).max() < 1e-5


def test_grades_and_counts(files, encoding):
    task = task_of(files, encoding)
    prompt = task.test_prompts(1)[0]  # 100 + 100

    def said(text):
        return (*encoding.encode(text, chat=False), 2)

    responses = [said(text) for text in ("so \\boxed{200}", "\\boxed{2 \\cdot 100}", "\\boxed{201}", "200")]
    grades = task.grade_many([prompt] * 4, responses)
    assert [grade.correct for grade in grades] == [True, True, False, False]
    assert [grade.outcome for grade in grades] == [1.0, 1.0, 0.0, 0.0]
    assert {(grade.process, grade.careful) for grade in grades} == {(None, None)}
    assert task.counts() == {"verifier_failures": 0, "unboxed_share": 0.25}
    assert task.counts() == {"verifier_failures": 0}
    anywhere = task_of(files, encoding, answer="anywhere")
    assert anywhere.grade(prompt, responses[3]).correct


def test_a_folder_without_what_is_needed_says_so(files, encoding, model, tmp_path):
    with pytest.raises(InputError, match="needs a model with a tokenizer"):
        task_of(files, None)
    assert load_encoding(None, load_policy(model)) is None
    bare = ModelEncoding(model, load_policy(model))
    bare.tokenizer.chat_template = None
    with pytest.raises(InputError, match=r"no chat template; set task\.template: none"):
        task_of(files, bare)


# ---------------------------------------------------------------- identity


def config(files, folder, **changes):
    return RunConfig.model_validate(
        {
            "model": {"path": str(folder)},
            "task": {"name": "math", "train": str(files / "train.parquet"), "test": str(files / "test.jsonl")},
            "data": {"prompts_per_step": 4},
            "rollout": {"group_size": 4, "max_new_tokens": 24},
            "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
            "evaluation": {"problems": 6, "every": 2},
            "stop": {"steps": 3},
            "resources": {"engine": "hf", "forward": "plain", "checkpoint_steps": 1},
            **changes,
        }
    )


def test_data_enter_the_id_by_content_never_by_path(files, model, tmp_path):
    one = config(files, model)
    moved = write(tmp_path / "elsewhere.parquet", [verl_row(i, rate=round(1 - i / 40, 3)) for i in range(40)])
    task = one.task.model_dump()
    assert run_id(config(files, model, task={**task, "train": str(moved)})) == run_id(one)
    write(moved, [verl_row(i) for i in range(39)])
    assert run_id(config(files, model, task={**task, "train": str(moved)})) != run_id(one)
    assert run_id(config(files, model, task={**task, "order": "shuffled"})) != run_id(one)
    with pytest.raises(InputError, match="there is no file"):
        run_id(config(files, model, task={**task, "train": "nowhere.parquet"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"size": "xs"}}, "task math needs a model that reads text: give model.path"),
        ({"algorithm": {"type": "papo"}}, "algorithm papo needs a process score"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(files, model, changes, message):
    with pytest.raises(ValueError, match=message):
        config(files, model, **changes)


# ---------------------------------------------------------------- a run


@pytest.mark.parametrize(
    "resources",
    [{"gradient_checkpointing": True}, {"micro_batch_tokens": 300, "forward": "packed"}],
    ids=["recomputed", "packed"],
)
def test_saving_memory_changes_no_value_beyond_rounding(files, model, tmp_path, resources):
    plain = {"engine": "hf", "forward": "plain"}
    rows = []
    for name, more in (("plain", {}), ("saving", resources)):
        answer = {**config(files, model).task.model_dump(), "answer": "anywhere"}
        run = config(files, model, task=answer, resources={**plain, **more}, loss={"kl_weight": 0.1})
        trainer.train_run(run, tmp_path / name, tmp_path)
        rows.append(scaling_files.read_rows(tmp_path / name / schema.CURVE))
    for mine, theirs in zip(*rows, strict=True):
        for name in ("tokens_seen", "gradient_norm", "entropy", "kl"):
            expected = theirs.get(name)
            assert mine.get(name) == (None if expected is None else pytest.approx(expected, rel=1e-3, abs=1e-7)), name


def test_bfloat16_computes_in_it_and_keeps_float32_weights(files, model, tmp_path):
    run = config(files, model, model={"path": str(model), "dtype": "bfloat16"}, loss={"kl_weight": 0.1})
    trainer.train_run(run, tmp_path / "run", tmp_path)
    differences = [row["logprob_difference"] for row in scaling_files.read_rows(tmp_path / "run" / schema.CURVE)[1:]]
    assert all(1e-5 < difference < 0.2 for difference in differences)  # rounding, and no more
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert all(p.dtype == torch.float32 for p in exported.parameters())
    with pytest.raises(InputError, match="native computes in float32"):
        load_engine("native", allowed_V=np.ones(4, bool), end_ids=(0,), dtype="bfloat16")


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_run_on_text_resumes_to_the_byte_and_exports(files, tmp_path, architecture):
    model = text_folder(tmp_path / "model", architecture)
    if architecture == "gpt2":
        with pytest.raises(InputError, match="gpt2 config has no"):  # its FLOPs are not known
            trainer.train_run(config(files, model), tmp_path / "run", tmp_path)
        return
    trainer.train_run(config(files, model), tmp_path / "whole", tmp_path)
    trainer.train_run(config(files, model, stop={"steps": 2}), tmp_path / "halves", tmp_path)
    trainer.train_run(config(files, model), tmp_path / "halves", tmp_path)
    whole, halves = ([record.without_timing(r) for r in scaling_files.read_rows(tmp_path / name / schema.CURVE)]
                     for name in ("whole", "halves"))  # fmt: skip
    name = run_id(config(files, model))
    assert problems(tmp_path / "whole", name) == problems(tmp_path / "halves", name) == []
    assert whole == halves and [row["step"] for row in whole] == [0, 1, 2, 3]
    for row in whole[1:]:
        assert row["verifier_failures"] == 0 and 0 <= row["unboxed_share"] <= 1
        assert row["process_mean"] is None and row["careful_share"] is None
        assert row["tokens_prompt"] > 0 and row["truncated_share"] is not None
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "whole" / "model")
    assert all(torch.isfinite(p).all() for p in exported.parameters())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole" / "model")
    assert tokenizer.chat_template and tokenizer.eos_token == "<|endoftext|>"
    log = (tmp_path / "whole" / "attempts" / "0001" / schema.LOG).read_text()
    assert "40 training problems, 12 held-out problems" in log
