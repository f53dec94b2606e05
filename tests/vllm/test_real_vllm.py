"""Engine vllm on a real vLLM, on a processor: `make test-vllm`. tests/test_vllm.py has what needs no real one.

One server serves nearly all of it, as a start takes half a minute and more. VLLM_LONG=1 also kills its other processes.
The model is a random one of rung xl: the only rung whose head width vLLM's attention takes on a processor.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from tiny_policies import SAMPLING, TASK, engine_with, policy_of, prompts  # noqa: E402

from scaling import files, record, rollouts, schema, trainer, vllm_server, vllm_watch  # noqa: E402
from scaling.algorithm.guard import Difference, Guard, SamplerApart  # noqa: E402
from scaling.config.parts import ResourcesConfig  # noqa: E402
from scaling.config.run import RunConfig  # noqa: E402
from scaling.logprobs import token_logprobs  # noqa: E402
from scaling.rollout_types import Prompt, RolloutEngine  # noqa: E402
from scaling.schema import InputError  # noqa: E402

try:
    vllm_server.find_python(None)
except InputError as missing:
    if os.environ.get("SCALING_VLLM_PYTHON"):  # one that is named has to work
        raise
    pytest.skip(f"no vLLM here: {missing}", allow_module_level=True)

# Blocks of 32 tokens, else a prompt is never long enough to be cached; so few tokens at a time that long prompts are
# run in parts.
RESOURCES = {
    "engine": "vllm",
    "checkpoint_steps": 1,
    "device": "cpu",
    "vllm": {
        "max_num_seqs": 32,
        "arguments": ["--block-size", "32", "--max-num-batched-tokens", "96"],
        "memory_share": 0.1,
    },
}
EVERY_ID = np.ones(32, dtype=bool)
LONG = os.environ.get("VLLM_LONG")


@contextlib.contextmanager
def started(model, folder):
    engine = rollouts.load_engine("vllm", allowed_V=TASK.allowed_V, end_ids=TASK.end_ids)
    with contextlib.closing(engine):
        begun = time.monotonic()
        engine.start(model, folder, ResourcesConfig.model_validate(RESOURCES))
        print(f"\nvLLM started in {time.monotonic() - begun:.0f} s")
        yield engine


@pytest.fixture(scope="module")
def model():
    return policy_of("xl")


@pytest.fixture(scope="module")
def engine(model, tmp_path_factory):
    with started(model, tmp_path_factory.mktemp("attempt")) as engine:
        yield engine
        groups = [server.group for server in engine.servers]
    assert not any(vllm_watch.members(group) for group in groups)


@pytest.fixture
def loaded(engine, model):
    engine.load_weights(model, 7)
    return engine


def long_prompts(count=3, tokens=150):
    """Longer than what is run at a time, and of several blocks; the first ones have their beginning in common."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 21, size=(count, tokens))
    rows[1, :100] = rows[0, :100]
    return [Prompt("", tuple(row.tolist()), 50 + i) for i, row in enumerate(rows)]


def compared(found, oracle):
    same = sum(one == other for one, other in zip(found.responses, oracle.responses, strict=True))
    print(f"\n{same} of {len(oracle.responses)} responses equal, {found.lengths_B.sum()} tokens", end="")
    assert found.responses == oracle.responses
    assert (found.truncated_B == oracle.truncated_B).all() and found.weight_version == oracle.weight_version
    assert np.abs(found.logprobs_BT - oracle.logprobs_BT).max() < 5e-5


def difference(found, model):
    """As the update sees it."""
    own_BT = token_logprobs(model, found, allowed_V=EVERY_ID, temperature=1.0).logprobs_BT.detach().numpy()
    held_BT = np.arange(own_BT.shape[1]) < found.lengths_B[:, None]
    apart = np.abs(own_BT - found.logprobs_BT)[held_BT]
    return Difference(float(apart.sum()), float(apart.max()), len(apart))


@contextlib.contextmanager
def ids(engine, allowed_V):
    before, engine.allowed = engine.allowed, rollouts.vllm._ranges(allowed_V)
    yield
    engine.allowed = before


# ---------------------------------------------------------------- the same draws


@pytest.mark.parametrize("allowed_V", [TASK.allowed_V, EVERY_ID], ids=["some", "all"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_tokens_equal_those_of_hf(loaded, model, temperature, allowed_V):
    sampling = dataclasses.replace(SAMPLING, temperature=temperature)
    oracle = rollouts.load_engine("hf", allowed_V=allowed_V, end_ids=TASK.end_ids)
    oracle.load_weights(model, 7)
    with ids(loaded, allowed_V):
        for asked in (prompts(12), long_prompts()):  # the second time some of it is in the cache
            for _ in range(2):
                compared(loaded.generate(asked, 8, sampling), oracle.generate(asked, 8, sampling))


# ---------------------------------------------------------------- weights


def test_a_push_arrives_with_the_tied_head(engine):
    for seed in (1, 2):
        other, begun = policy_of("xl", seed), time.monotonic()
        engine.load_weights(other, seed)
        print(f"\npushed in {1000 * (time.monotonic() - begun):.0f} ms", end="")
        compared(
            engine.generate(long_prompts(), 4, SAMPLING),
            engine_with("hf", other, seed).generate(long_prompts(), 4, SAMPLING),
        )
    assert not list(engine.folder.glob("push-*"))


def planted(engine, monkeypatch, instead):
    """The engine's next push with one of its requests left out or changed: `instead` gives path and body, or None."""
    (server,) = engine.servers
    post = server.post
    monkeypatch.setattr(server, "post", lambda path, body=None: (told := instead(path, body)) and post(*told))


def without_repair(path, body):
    return path, {**body, "kwargs": {**body["kwargs"], "repair": False}} if path == "/collective_rpc" else body


FAULTS = {
    "stale head": without_repair,
    "skipped push": lambda path, body: None if path == "/collective_rpc" else (path, body),
    "cache not reset": lambda path, body: None if path == "/reset_prefix_cache" else (path, body),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_push_that_went_wrong_shows_in_the_log_probs(loaded, model, monkeypatch, fault):
    """The server says the right version all the while."""
    short = dataclasses.replace(SAMPLING, max_new_tokens=4)
    guard = Guard("float32")
    with ids(loaded, EVERY_ID):
        guard.check(difference(loaded.generate(long_prompts(), 4, short), model), 7)
        other = policy_of("xl", seed=3)
        planted(loaded, monkeypatch, FAULTS[fault])
        loaded.load_weights(other, 8)
        found = loaded.generate(long_prompts(), 4, short)
        assert found.weight_version == 8
        with pytest.raises(SamplerApart, match=r"does not have the trainer's weights \(version 8, mean difference"):
            guard.check(difference(found, other), 8)
        monkeypatch.undo()
        loaded.load_weights(other, 9)
        guard.check(difference(loaded.generate(long_prompts(), 4, short), other), 9)


def test_a_push_that_leaves_a_weight_out_is_refused(loaded, monkeypatch):
    other = policy_of("xl", seed=4)
    state = {name: value for name, value in other.state_dict().items() if "layers.2" not in name}
    monkeypatch.setattr(other, "state_dict", lambda: state)
    monkeypatch.setattr(loaded, "settings", loaded.settings.model_copy(update={"restarts": 0}))
    (server,) = loaded.servers
    monkeypatch.setattr(server, "stop", lambda at_once=False: None)  # the fault is ours; it lives on
    with pytest.raises(RuntimeError, match="left out"):
        loaded.load_weights(other, 8)


# ---------------------------------------------------------------- death


def processes(group):
    """Of a server by kind, as vLLM names them."""
    names = {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in vllm_watch.members(group)}
    kinds = {"worker": "Worker", "core": "EngineCore", "api": "api_server"}
    return {kind: [pid for pid, name in names.items() if mark in name] for kind, mark in kinds.items()}


@pytest.mark.parametrize("kind", ["api", "worker", "core"] if LONG else ["api"])
def test_a_server_that_is_killed_in_mid_step_changes_nothing(loaded, model, monkeypatch, kind):
    (server,) = loaded.servers
    group, ask, answered = server.group, server.ask, []

    def ask_and_kill(*arguments):
        told = ask(*arguments)
        answered.append(told[0])
        if len(answered) == 5:
            for pid in processes(group)[kind]:
                os.kill(pid, signal.SIGKILL)
        return told

    assert processes(group)[kind]
    monkeypatch.setattr(server, "ask", ask_and_kill)
    begun, before = time.monotonic(), loaded.restarted
    found = loaded.generate(prompts(12), 8, SAMPLING)
    print(f"\nstarted again in {time.monotonic() - begun:.0f} s", end="")
    assert loaded.restarted == before + 1 and server.group != group and not vllm_watch.members(group)
    compared(found, engine_with("hf", model).generate(prompts(12), 8, SAMPLING))


# ---------------------------------------------------------------- runs

TRAINED = {
    "model": {"size": "xl", "base": {"iterations": 3, "leaping_iterations": 0, "batch_size": 8}},
    "data": {"prompts_per_step": 4},
    "rollout": {"group_size": 4, "max_new_tokens": 12},
    "loss": {"kl_weight": 0.01},  # with it every group goes through the update
    "optimizer": {"learning_rate": 0.005, "warmup_steps": 0, "weight_decay": 1.0},  # weights move without a reward
    "evaluation": {"problems": 8},
    "stop": {"steps": 5},
    "tracking": {"mlflow": False},
    "resources": RESOURCES,
}


class Lent(RolloutEngine):
    """The server of all tests as a run's own."""

    SERVER = True

    def __init__(self, engine):
        self.load_weights, self.generate = engine.load_weights, engine.generate


def rows(run):
    return [
        [record.without_timing(row) for row in record.read_record(run, name)]
        for name in (schema.CURVE, schema.ROLLOUTS)
    ]


def left_in_memory():
    return {path.name for path in Path("/dev/shm").iterdir()}


def test_a_killed_run_leaves_nothing_and_goes_on_to_the_same_bytes(engine, tmp_path, monkeypatch):
    config = RunConfig.model_validate(TRAINED)
    monkeypatch.setattr(trainer, "load_engine", lambda name, **settings: Lent(engine))
    trainer.train_run(config, tmp_path / "straight", tmp_path / "artifacts")
    assert all(row.get("logprob_difference", 0) < 1e-4 for row in rows(tmp_path / "straight")[0])

    before, run = left_in_memory(), tmp_path / "killed"
    code = (
        "import sys, json; from pathlib import Path; from scaling import trainer; "
        "from scaling.config.run import RunConfig; "
        "trainer.train_run(RunConfig.model_validate(json.loads(sys.argv[1])), *map(Path, sys.argv[2:]))"
    )
    arguments = [files.dump_row(TRAINED), str(run), str(tmp_path / "artifacts")]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    with subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment) as process:
        curve = record.attempt_folder(run, 1) / schema.CURVE
        while process.poll() is None and not (curve.exists() and len(files.read_rows(curve)) >= 3):
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (watch,) = [pid for pid in children if "vllm_watch" in Path(f"/proc/{pid}/cmdline").read_text()]
        (group,) = Path(f"/proc/{watch}/task/{watch}/children").read_text().split()
        assert vllm_watch.members(int(group))
        process.kill()
    deadline = time.monotonic() + 30
    while (
        Path(f"/proc/{watch}/maps").exists()
        and Path(f"/proc/{watch}/cmdline").read_text()
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert not vllm_watch.members(int(group)) and left_in_memory() <= before
    trainer.train_run(config, run, tmp_path / "artifacts")
    assert record.read_attempt(run, 2)["parent"] == 1
    assert rows(run) == rows(tmp_path / "straight")


def test_an_untied_head_is_pushed_too(tmp_path):
    """A server of its own: what is tied, the model's description says."""
    tied = policy_of("xl")
    untied = type(tied)(type(tied.config).from_dict({**tied.config.to_dict(), "tie_word_embeddings": False})).eval()
    with torch.no_grad():
        untied.load_state_dict(tied.state_dict())
        untied.lm_head.weight.add_(
            0.1 * torch.randn(untied.lm_head.weight.shape, generator=torch.Generator().manual_seed(0))
        )
    with started(untied, tmp_path) as engine:
        for version in (1, 2):
            with torch.no_grad():
                untied.lm_head.weight.mul_(1.1)
            engine.load_weights(untied, version)
            oracle = engine_with("hf", untied, version).generate(prompts(), 6, SAMPLING)
            compared(engine.generate(prompts(), 6, SAMPLING), oracle)
