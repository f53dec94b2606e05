"""Engine vllm against a server that answers from engine hf: its protocol, its guard, and what is left of a dead server.

tests/vllm has the same on a real vLLM. Here no test sleeps: what is waited for is waited for by its sign.
"""

import contextlib
import dataclasses
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_vllm import Brain
from tiny_policies import SAMPLING, TASK, engine_with, policy_of, prompts

from scaling import files, record, rollout_types, rollouts, schema, trainer, vllm_server, vllm_watch
from scaling.algorithm.guard import Difference, Guard, SamplerApart
from scaling.config.checks import check_engine, check_inputs
from scaling.config.parts import EvaluationSet, ResourcesConfig
from scaling.config.run import RunConfig
from scaling.evaluate import evaluate_folder
from scaling.logprobs import allowed_log_softmax, draw_columns
from scaling.parallel import Team
from scaling.rollouts import vllm_plugin
from scaling.schema import InputError

FAKE = Path(__file__).parent / "fake_vllm.py"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """What stands for a Python that has vLLM."""
    folder = tmp_path_factory.mktemp("fake")
    path, brain = folder / "python", folder / "brain"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{FAKE}" "$@" --brain {brain}\n')
    path.chmod(0o755)
    with Brain(str(brain)) as sampler:
        yield str(path)
        sampler.shutdown()


@pytest.fixture(scope="module")
def model():
    return policy_of("xs", heads=1)  # of head width 32


def resources(python, *arguments, **settings):
    values = {"python": python, "max_num_seqs": 4, "start_seconds": 60, "arguments": arguments, **settings}
    return ResourcesConfig.model_validate({"engine": "vllm", "vllm": values})


@contextlib.contextmanager
def started(model, folder, settings, version=7):
    engine = rollouts.load_engine("vllm", allowed_V=TASK.allowed_V, end_ids=TASK.end_ids)
    with contextlib.closing(engine):
        told = engine.start(model, folder, settings)
        assert told["version"] == "0.32.0"
        engine.load_weights(model, version)
        yield engine


@pytest.fixture(scope="module")
def engine(model, python, tmp_path_factory):
    with started(model, tmp_path_factory.mktemp("attempt"), resources(python)) as engine:
        yield engine


def same(one, other):
    assert one.responses == other.responses
    assert (one.truncated_B == other.truncated_B).all() and (one.lengths_B == other.lengths_B).all()
    assert np.abs(one.logprobs_BT - other.logprobs_BT).max() < 1e-5
    assert one.weight_version == other.weight_version


def gone(group):
    """Whether all processes of a group end; without them a moment's patience is enough."""
    deadline = time.monotonic() + 20
    while vllm_watch.members(group) and time.monotonic() < deadline:
        os.sched_yield()
    return not vllm_watch.members(group)


# ---------------------------------------------------------------- the protocol


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_tokens_equal_those_of_hf(engine, model, temperature):
    sampling = dataclasses.replace(SAMPLING, temperature=temperature)
    team_of_one = Team("ddp", "cpu").engine(engine, sequences=2)
    found = engine.generate(prompts(), 5, sampling)
    assert 0 < found.truncated_B.sum() < 30
    assert found.prefix_block == 128 and team_of_one.generate(prompts(), 1, sampling).prefix_block == 128
    same(found, engine_with("hf", model).generate(prompts(), 5, sampling))


def test_draws_do_not_depend_on_the_batch(engine):
    some = prompts()
    whole = engine.generate(some, 3, SAMPLING).responses
    assert engine.generate(some[::-1], 3, SAMPLING).responses[-3:] == whole[:3]
    assert engine.generate(some[2:3], 2, SAMPLING).responses == whole[6:8]


def test_weights_change_by_load_weights_only(engine, model, python):
    before = engine.generate(prompts(2), 2, SAMPLING)
    other = policy_of("xs", heads=1, seed=1)
    engine.load_weights(other, 8)
    assert not list(engine.folder.glob("push-*")), "a pushed file stays in memory"
    after = engine.generate(prompts(2), 2, SAMPLING)
    same(after, engine_with("hf", other, 8).generate(prompts(2), 2, SAMPLING))
    engine.load_weights(model, 7)
    same(before, engine.generate(prompts(2), 2, SAMPLING))


def test_of_a_sharded_policy_the_last_push_alone_stays_in_memory(engine, model, monkeypatch):
    """For a server that dies: its processes could not write the file again one by one."""
    monkeypatch.setattr("scaling.rollouts.vllm.is_sharded", lambda policy: True)
    for version in (8, 9, 10):
        engine.load_weights(model, version)
        (left,) = engine.folder.glob("push-*")
        assert left.name.startswith(f"push-{version}-") and list(left.iterdir())
    monkeypatch.undo()
    engine.load_weights(model, 7)
    assert not list(engine.folder.glob("push-*"))


def test_a_server_answers_its_own_run_alone(engine):
    (server,) = engine.servers
    for path in ("/inference/v1/generate", "/collective_rpc", "/health"):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            connection.request("POST", path, "{}", {"Authorization": "Bearer guessed"})
            assert connection.getresponse().status == 401
    command = Path(f"/proc/{server.group}/cmdline").read_text()
    assert server.key not in command and "PYTEST_CURRENT_TEST" not in Path(f"/proc/{server.group}/environ").read_text()


def test_what_the_model_cannot_hold_is_refused(engine):
    with pytest.raises(InputError, match=r"512 tokens .*a prompt of \d+ with rollout.max_new_tokens 510"):
        engine.generate(prompts(), 1, dataclasses.replace(SAMPLING, max_new_tokens=510))


def test_several_processes_ask_by_the_first_alone(engine):
    """And no slices: a server queues by itself."""
    team = Team("ddp", "cpu")
    asked = []
    shared = team.engine(engine, sequences=2)
    sampled = engine.generate(prompts(), 4, SAMPLING)
    shared.engine = SimpleNamespace(SERVER=True, generate=lambda *arguments: asked.append(arguments) or sampled)
    told = shared.generate(prompts(), 4, SAMPLING)
    assert told.weight_version == sampled.weight_version
    assert len(asked) == 1 and (told.tokens_BT == sampled.tokens_BT).all()


def test_other_weights_than_the_pushed_ones_are_refused(model, python, tmp_path):
    with (
        started(model, tmp_path, resources(python, "--fault", "wrong-version")) as engine,
        pytest.raises(RuntimeError, match=r"does not have the trainer's weights \(version 0, not 7\)"),
    ):
        engine.generate(prompts(1), 1, SAMPLING)


def test_an_engine_without_weights_samples_nothing(model, python):
    engine = rollouts.load_engine("vllm", allowed_V=TASK.allowed_V, end_ids=TASK.end_ids)
    with pytest.raises(AssertionError, match="load_weights comes first"):
        engine.generate(prompts(1), 1, SAMPLING)
    engine.close()


# ---------------------------------------------------------------- death


@pytest.mark.parametrize("fault", ["dies", "hangs"])
def test_a_lost_server_is_started_again_and_the_answer_is_the_same(model, python, tmp_path, fault):
    mark = tmp_path / "mark"
    with started(model, tmp_path, resources(python, "--fault", f"{fault}:{mark}", reply_seconds=2)) as engine:
        first = engine.servers[0].group
        found = engine.generate(prompts(), 3, SAMPLING)
        assert engine.restarted == 1 and engine.servers[0].group != first
        assert gone(first), "its worker lives on"
        same(found, engine_with("hf", model).generate(prompts(), 3, SAMPLING))
        second, folder = engine.servers[0].group, engine.folder
    assert gone(second) and not folder.exists()


def test_after_its_restarts_a_run_fails_with_the_servers_last_lines(model, python, tmp_path):
    with started(model, tmp_path, resources(python, "--fault", "dies", restarts=1)) as engine:
        with pytest.raises(
            RuntimeError, match=r"ValueError: the worker has run out of luck.*started again 1 times"
        ) as e:
            engine.generate(prompts(1), 1, SAMPLING)
        assert "\n" not in str(e.value) and "vllm.log" in str(e.value)
        assert gone(engine.servers[0].group)


def test_a_server_that_does_not_start_says_why(model, python, tmp_path):
    broken = tmp_path / "python"
    broken.write_text('#!/bin/sh\n[ "$1" = -c ] && echo 0.32.0 && exit\necho "ValueError: no such device"; exit 3\n')
    broken.chmod(0o755)
    engine = rollouts.load_engine("vllm", allowed_V=TASK.allowed_V, end_ids=TASK.end_ids)
    with pytest.raises(RuntimeError, match=r"ended while it started; its last lines .*no such device"):
        engine.start(model, tmp_path, resources(str(broken)))
    assert engine.folder is None


def test_a_port_that_another_took_is_no_failure(model, python, tmp_path):
    mark, late = tmp_path / "mark", tmp_path / "python"
    late.write_text(
        f'#!/bin/sh\nif [ "$1" != -c ] && [ ! -e {mark} ]; then touch {mark}\n'
        f'echo "OSError: [Errno 98] Address already in use"; exit 1; fi\nexec {python} "$@"\n'
    )
    late.chmod(0o755)
    with started(model, tmp_path, resources(str(late), restarts=0)) as engine:
        assert mark.exists() and engine.restarted == 0
        assert engine.generate(prompts(1), 1, SAMPLING).responses


@pytest.mark.launch
def test_a_killed_trainer_leaves_nothing(python, tmp_path):
    code = (
        "import sys, signal; from pathlib import Path; from test_vllm import *; "
        "engine = rollouts.load_engine('vllm', allowed_V=TASK.allowed_V, end_ids=TASK.end_ids); "
        "engine.start(policy_of('xs', heads=1), Path(sys.argv[2]), resources(sys.argv[1])); "
        "print(engine.servers[0].group, engine.servers[0].watch.pid, engine.folder, flush=True); signal.pause()"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    line = [sys.executable, "-c", code, python, str(tmp_path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=environment, text=True) as process:
        group, watch, folder = process.stdout.readline().split()
        assert len(vllm_watch.members(int(group))) == 2 and Path(folder).is_dir()
        process.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{watch}").exists() and time.monotonic() < deadline:
        os.sched_yield()
    assert not vllm_watch.members(int(group)) and not Path(folder).exists()


def test_folders_of_dead_trainers_are_removed_and_those_of_living_ones_stay():
    folder, lock = vllm_server.new_folder()
    dead, young = (folder.with_name(f"{vllm_server.PREFIX}{name}") for name in ("test-dead", "test-young"))
    for one in (dead, young):
        one.mkdir(exist_ok=True)
        (one / "weights-00000.safetensors").write_text("")
    long_ago = time.time() - 2 * vllm_server.ORPHANED_AFTER
    for one in (dead, folder):
        os.utime(one, (long_ago, long_ago))
    other, other_lock = vllm_server.new_folder()
    assert not dead.exists() and young.exists() and folder.exists()
    for one, held in ((young, None), (folder, lock), (other, other_lock)):
        for file in one.iterdir():
            file.unlink()
        one.rmdir()
        if held:
            held.close()


# ---------------------------------------------------------------- the guard

TRAINED = {
    "model": {"size": "xl", "base": {"iterations": 3, "leaping_iterations": 0, "batch_size": 8}},
    "data": {"prompts_per_step": 2},
    "rollout": {"group_size": 2, "max_new_tokens": 6},
    "loss": {"kl_weight": 0.01},  # with it every group goes through the update
    "optimizer": {"learning_rate": 0.02, "warmup_steps": 0, "weight_decay": 1.0},  # weights move without a reward
    "evaluation": {"problems": 2},
    "stop": {"steps": 2},
    "tracking": {"mlflow": False},
}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts")


def trained(run, artifacts, settings, **changes):
    config = RunConfig.model_validate({**TRAINED, **changes, "resources": settings})
    trainer.train_run(config, run, artifacts)
    return [record.without_timing(row) for row in files.read_rows(run / schema.CURVE)]


@pytest.mark.slow
def test_a_run_has_the_rows_of_hf_and_says_what_sampled_it(python, artifacts, tmp_path):
    own = resources(python).model_dump()
    rows = trained(tmp_path / "vllm", artifacts, own)
    oracle = trained(tmp_path / "hf", artifacts, {"engine": "hf"})
    for row, expected in zip(rows, oracle, strict=True):
        assert row.pop("logprob_difference", 0) < 1e-4
        expected.pop("logprob_difference", None)
        # Prompts shorter than a block are run for each sample, not once per group; all else costs the same.
        more, more_in_all = (row.pop(name) - expected.pop(name) for name in ("rollout_flops", "total_flops"))
        assert more == pytest.approx(more_in_all, abs=1e-3 * expected["eval_flops"]) and (more > 0) == (row["step"] > 0)
        assert row.keys() == expected.keys()
        numbers = {name: value for name, value in expected.items() if value is not None}
        assert {name: row[name] for name in numbers} == pytest.approx(numbers, rel=1e-4, abs=1e-6)
    engine = record.read_attempt(tmp_path / "vllm", 1)["engine"]
    assert engine["name"] == "vllm" and engine["version"] == "0.32.0" and engine["dtype"] == "float32"
    sets = {"held_out": EvaluationSet(problems=4, samples=2)}  # `scaling eval` has a server of its own
    one, other = (evaluate_folder(tmp_path / name, sets)["sets"]["held_out"] for name in ("vllm", "hf"))
    assert one["correct"] == other["correct"] and one["truncated_share"] == other["truncated_share"]
    longer = {"stop": {"steps": 3}}
    with pytest.raises(InputError, match=r"sampled by engine vllm in float32, and this is hf .*change_engine: true"):
        trained(tmp_path / "vllm", artifacts, {"engine": "hf"}, **longer)
    assert len(trained(tmp_path / "vllm", artifacts, {"engine": "hf", "change_engine": True}, **longer)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["stale-head", "skipped-push"])
def test_weights_that_did_not_arrive_end_the_step(python, artifacts, tmp_path, fault):
    """The server says the right version all the while."""
    with pytest.raises(SamplerApart, match=r"does not have the trainer's weights \(version 1, mean difference"):
        trained(tmp_path / "run", artifacts, resources(python, "--fault", fault).model_dump())
    assert "the trainer's weights" in record.read_failure(tmp_path / "run" / schema.FAILED)["message"]
    rows = files.read_rows(tmp_path / "run" / schema.ATTEMPTS / "0001" / schema.CURVE)
    assert [row["step"] for row in rows] == [0, 1]


def apart(mean, largest=0.5, tokens=100):
    return Difference(mean * tokens, largest, tokens)


def test_the_guards_bounds():
    exact, half = Guard("float32"), Guard("bfloat16")
    exact.check(apart(1e-5, 9e-4), 1)
    exact.check(Difference(), 1)  # without an active group
    for bad in (apart(1e-5, 1.1e-3), apart(float("nan"), float("nan"))):
        with pytest.raises(SamplerApart, match="version 6, mean difference"):
            exact.check(bad, 6)
    with pytest.raises(SamplerApart, match=r"mean difference 0\.021"):
        half.check(apart(0.021), 1)
    for mean in (0.019, 0.003, 0.002, 0.004):
        half.check(apart(mean), 1)
    half.check(apart(0.017), 1)  # median .0035
    with pytest.raises(SamplerApart):
        half.check(apart(5.1 * 0.004), 1)
    with pytest.raises(SamplerApart):
        half.check(apart(float("nan")), 1)
    assert np.isnan((Difference(1, float("nan"), 1) + Difference(1, 2.0, 1)).largest)
    assert np.isnan((Difference(1, 2.0, 1) + Difference(1, float("nan"), 1)).largest)
    assert Difference(1, 2.0, 1) + Difference(2, 3.0, 4) == Difference(3, 3.0, 5)


# ---------------------------------------------------------------- what is refused before a start


def test_the_python_that_has_vllm(python, monkeypatch, tmp_path):
    monkeypatch.setattr(vllm_server, "own_version", lambda: None)
    monkeypatch.delenv("SCALING_VLLM_PYTHON", raising=False)
    with pytest.raises(InputError, match=r"make setup-vllm.*SCALING_VLLM_PYTHON"):
        check_inputs(RunConfig.model_validate({"model": "xl", "resources": {"engine": "vllm"}}))
    with pytest.raises(InputError, match="has no vLLM; `make setup-vllm`"):
        vllm_server.find_python(sys.executable)
    with pytest.raises(InputError, match="cannot be run"):
        vllm_server.find_python(str(tmp_path / "nowhere"))
    monkeypatch.setenv("SCALING_VLLM_PYTHON", python)
    assert vllm_server.find_python(None) == (python, "0.32.0")
    monkeypatch.setattr(vllm_server, "own_version", lambda: "0.33.0+cpu")
    assert vllm_server.find_python(None) == (sys.executable, "0.33.0+cpu")
    assert vllm_server.find_python(python) == (python, "0.32.0"), "one that is asked for comes first"
    monkeypatch.setattr(vllm_server, "own_version", lambda: "0.9.1")
    with pytest.raises(InputError, match=r"has vLLM 0\.9\.1; the engine needs 0\.32 or newer"):
        vllm_server.find_python(None)


def planned(**changes):
    values = {"model": "xl", **changes}
    return RunConfig.model_validate({**values, "resources": {"engine": "vllm", "device": "cpu"}})


def test_models_that_the_servers_cannot_hold_are_refused_at_plan_time():
    check_engine(planned())
    with pytest.raises(InputError, match=r"head width 16 on a processor.*32, 64.*of the ladder: xl"):
        check_engine(planned(model="m"))
    with pytest.raises(InputError, match=r"512 tokens.*max_new_tokens 512"):
        check_engine(planned(rollout={"max_new_tokens": 512}))
    gpus = {"engine": "vllm", "gpus": 1}
    check_engine(RunConfig.model_validate({"model": "m", "resources": gpus}))


# ---------------------------------------------------------------- the plug-in, which vLLM's Python imports alone


def test_the_plugin_imports_nothing_of_ours():
    text = Path(vllm_plugin.__file__).read_text()
    names = re.findall(r"^\s*(?:from|import) (\w+)", text, re.MULTILINE)
    assert not {"scaling", "analysis", "sweeps"} & set(names)
    assert "vllm_plugin" not in rollouts.engine_names() and "vllm" in rollouts.engine_names()


@pytest.mark.parametrize("purpose", rollout_types.PURPOSES)
def test_the_plugins_uniforms_are_ours(purpose):
    assert vllm_plugin.PURPOSES == rollout_types.PURPOSES
    sampling = rollout_types.SamplingParams(0.7, 37, 2**40, purpose, 12)
    own_GT = sampling.uniforms_GT(2**33 + 5, 6)
    for sample in range(6):
        assert (vllm_plugin.uniforms_T(draws_of(sampling, 2**33 + 5, sample)) == own_GT[sample]).all()


def draws_of(sampling, prompt, sample, allowed=((0, 21),)):
    numbers = (sampling.seed, sampling.purpose, sampling.step, prompt, sample, sampling.max_new_tokens)
    return dict(zip(vllm_plugin.KEYS, (*numbers, sampling.temperature, allowed), strict=True))


def params(*arguments, **changes):
    return SimpleNamespace(extra_args={"draws": draws_of(*arguments, **changes)})


def expected(logits_V, allowed_ids, sampling, prompt, sample, position):
    uniform = sampling.uniforms_GT(prompt, sample + 1)[sample, position]
    logprobs_1A = allowed_log_softmax(logits_V[None], allowed_ids, sampling.temperature)
    column = draw_columns(logprobs_1A, torch.tensor([uniform], dtype=torch.float64))
    return int(allowed_ids[column]), float(logprobs_1A[0, column])


def drawn(row_V):
    token = int(row_V.argmax())
    assert torch.isinf(row_V).sum() == len(row_V) - 1
    return token, float(row_V[token])


CASES = [(1.0, ((0, 21),)), (0.7, ((0, 32),)), (1.0, ((2, 5), (9, 10), (20, 31)))]


def test_both_interfaces_draw_as_we_do():
    logits_BV = 3 * torch.randn((6, 32), generator=torch.Generator().manual_seed(0))
    requests = [(b, dataclasses.replace(SAMPLING, temperature=CASES[b % 3][0]), CASES[b % 3][1]) for b in range(6)]
    first = vllm_plugin.Draws(None, torch.device("cpu"), False)
    outputs = [[1] * b for b in range(6)]
    added = [(b, params(s, 40 + b, b, allowed=allowed), None, outputs[b]) for b, s, allowed in requests]
    first.update_state(SimpleNamespace(removed=[], added=added, moved=[]))
    state = SimpleNamespace(prompt_len=SimpleNamespace(np=np.array([4] * 10)))
    second = vllm_plugin.DrawsV2(None, state)
    for b, s, allowed in requests:
        assert second.add_request(9 - b, params(s, 40 + b, b, allowed=allowed))
    rows = np.arange(6)
    context = SimpleNamespace(idx_mapping_np=9 - rows, seq_lens_upper_bound_np=4 + rows)
    one, other = first.apply(logits_BV.clone()), second.apply(logits_BV.clone(), context)
    for b, sampling, allowed in requests:
        ids = torch.cat([torch.arange(*ends) for ends in allowed])
        wanted = expected(logits_BV[b], ids, sampling, 40 + b, b, b)
        assert drawn(one[b]) == drawn(other[b]) == pytest.approx(wanted, abs=1e-6)


def test_the_first_interface_follows_requests_through_the_batch():
    processor = vllm_plugin.Draws(None, torch.device("cpu"), False)
    first, second, plain = params(SAMPLING, 0, 0), params(SAMPLING, 1, 0), SimpleNamespace(extra_args=None)
    update = {"removed": [], "added": [], "moved": []}
    added = [(0, first, None, []), (1, second, None, []), (2, plain, None, [])]
    processor.update_state(SimpleNamespace(**update | {"added": added}))
    assert set(processor.rows) == {0, 1}
    row = processor.rows[1]
    processor.update_state(SimpleNamespace(**update | {"moved": [(0, 1, SimpleNamespace(name="SWAP"))]}))
    assert processor.rows[0] is row
    processor.update_state(None)
    one_way = [(0, 3, SimpleNamespace(name="UNIDIRECTIONAL"))]
    processor.update_state(SimpleNamespace(**update | {"removed": [1], "moved": one_way}))
    assert set(processor.rows) == {3} and processor.rows[3] is row
    processor.update_state(SimpleNamespace(**update | {"added": [(3, plain, None, [])]}))
    assert not processor.rows
    logits_BV = torch.zeros((2, 32))
    assert torch.equal(processor.apply(logits_BV.clone()), logits_BV), "requests without draws are left alone"
    assert not processor.is_argmax_invariant()


def test_the_second_interface_forgets_a_slot_and_skips_parts_of_a_prompt():
    processor = vllm_plugin.DrawsV2(None, SimpleNamespace(prompt_len=SimpleNamespace(np=np.array([8, 8]))))
    assert processor.add_request(0, params(SAMPLING, 0, 0)) and processor.add_request(1, params(SAMPLING, 1, 0))
    logits_BV = torch.zeros((2, 32))
    context = SimpleNamespace(idx_mapping_np=np.array([1, 0]), seq_lens_upper_bound_np=np.array([4, 8]))
    found = processor.apply(logits_BV.clone(), context)
    assert torch.equal(found[0], logits_BV[0]) and torch.isinf(found[1]).sum() == 31
    assert not processor.add_request(0, SimpleNamespace(extra_args={}))
    assert torch.equal(processor.apply(logits_BV.clone(), context), logits_BV)
    with pytest.raises(RuntimeError, match="speculative"):
        processor.apply(torch.zeros((3, 32)), context)


def test_requests_without_all_numbers_are_refused():
    vllm_plugin.Draws.validate_params(params(SAMPLING, 0, 0))
    vllm_plugin.Draws.validate_params(SimpleNamespace(extra_args=None))
    with pytest.raises(ValueError, match="draws wants seed, purpose"):
        vllm_plugin.DrawsV2.validate_params(SimpleNamespace(extra_args={"draws": {"seed": 1}}))


def test_a_watcher_that_is_killed_takes_its_server_along(model, python, tmp_path):
    with started(model, tmp_path, resources(python)) as engine:
        (server,) = engine.servers
        os.kill(server.watch.pid, signal.SIGKILL)
        server.watch.wait()
        same(engine.generate(prompts(2), 2, SAMPLING), engine_with("hf", model).generate(prompts(2), 2, SAMPLING))
        assert engine.restarted <= 1  # its answers may have come before its end
        first = server.group
    assert gone(first)


@pytest.mark.launch
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_as_one_with_one_server(python, artifacts, tmp_path, parallel):
    """Under fsdp the file of weights is made by both; a server that dies takes no process along."""
    rows = trained(tmp_path / "alone", artifacts, {"engine": "hf"})
    own = resources(python, "--fault", f"dies:{tmp_path / 'mark'}").model_dump(exclude_defaults=True)
    own |= {"parallel": parallel, "forward": "plain"}
    config = tmp_path / "run.yaml"
    config.write_text(files.dump_row({**TRAINED, "resources": own}))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "artifacts").symlink_to(artifacts)
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "scaling", "run"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [*line, str(config), "--out", str(tmp_path / "run")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("starting it again") == 1
    attempt = record.read_attempt(tmp_path / "run", 1)
    assert attempt["processes"] == 2 and attempt["engine"]["name"] == "vllm"
    for row, expected_row in zip(files.read_rows(tmp_path / "run" / schema.CURVE), rows, strict=True):
        for name in ("test_loss", "tokens_generated", "gradient_norm", "kl"):
            wanted = expected_row.get(name)
            assert row.get(name) == (wanted if wanted is None else pytest.approx(wanted, rel=1e-3)), name
    assert not list(Path("/dev/shm").glob(f"{vllm_server.PREFIX}{attempt['pid']}-*"))
