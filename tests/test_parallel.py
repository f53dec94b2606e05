"""Several processes: the same losses as one, and checkpoints that resume on another number of processes."""

import copy
import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_policies import SAMPLING, engine_with, policy_of, prompts
from transformers import AutoModelForCausalLM

from scaling import checkpoint, files, record, schema
from scaling.config.parts import ResourcesConfig
from scaling.parallel import PeerLost, Team, passes
from scaling.peers import LOST, Alarm
from scaling.shared import SharedTask

pytestmark = pytest.mark.launch

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]),
    "OMP_NUM_THREADS": "1",
}


def start(processes, *arguments):
    """A Python program by itself or in several processes; its output. Fails with its last lines."""
    line = [sys.executable]
    if processes > 1:
        line += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    line += [str(argument) for argument in arguments]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


KINDS = ("whole", "groups", "tokens")


def work(processes, mode, *kinds):
    """What `parallel_worker` prints, by kind of update."""
    lines = start(processes, HERE / "parallel_worker.py", mode, *kinds).splitlines()
    printed = [json.loads(line) for line in lines if line.startswith("{")]
    return {one["kind"]: one for one in printed}


@pytest.fixture(scope="module")
def updates():
    return {
        (processes, mode): work(processes, mode, *KINDS) for processes, mode in ((1, "ddp"), (2, "ddp"), (2, "fsdp"))
    }


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_losses_of_one(updates, kind):
    one = updates[1, "ddp"][kind]
    assert one["world"] == 1 and len(set(one["losses"])) == 10
    for mode in ("ddp", "fsdp"):
        two = updates[2, mode][kind]
        assert two["world"] == 2
        assert np.abs(np.subtract(one["losses"], two["losses"])).max() < 1e-5, mode
        # float32: after ten updates in another order of summing, norms were seen 2e-4 apart.
        assert two["norms"] == pytest.approx(one["norms"], rel=1e-3), mode
        assert two["weights"] == pytest.approx(one["weights"], rel=1e-5), mode


def test_fsdp_really_shards_and_ddp_keeps_no_second_copy_of_the_gradients(updates):
    """On a processor accelerate makes DDP of FSDP2 without a word."""
    assert [updates[key]["whole"]["held"] for key in updates] == [1, 1, pytest.approx(0.5, abs=0.01)]
    assert updates[1, "ddp"]["whole"]["grads_a_piece"] == 1
    assert updates[2, "ddp"]["whole"]["grads_a_piece"] > 10  # views of the buckets that are sent


def test_in_bfloat16_what_is_sharded_is_gathered_in_it():
    one, two = work(1, "ddp", "half")["half"], work(2, "fsdp", "half")["half"]
    assert (one["dtypes"], two["dtypes"]) == (["torch.float32"], ["torch.bfloat16"])  # one process casts in autocast
    assert two["world"] == 2 and two["held"] == pytest.approx(0.5, abs=0.01)
    # Norms and the table are rounded when they are gathered: .004 apart after ten updates where nothing is wrong.
    assert np.abs(np.subtract(one["losses"], two["losses"])).max() < 0.01
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-4)


RUN = """
model: {size: us, base: {iterations: 60, leaping_iterations: 10, batch_size: 32}}
data: {prompts_per_step: 5}
rollout: {group_size: 4}
evaluation: {problems: 25, every: 2}
resources: {engine: hf, forward: plain, parallel: MODE, checkpoint_steps: 2, rollout_sequences: 8}
algorithm: papo
loss: {kl_weight: 0.01}
"""


def train(processes, folder, mode, steps):
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(RUN.replace("MODE", mode) + f"stop: {{steps: {steps}}}\n")
    start(processes, "-m", "scaling", "run", path, "--out", folder)
    return [record.without_timing(row) for row in files.read_rows(folder / schema.CURVE)]


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    alone = train(1, tmp_path / "alone", "ddp", 6)
    changing = tmp_path / "changing"
    for processes, mode, steps in ((2, "fsdp", 2), (1, "ddp", 4), (2, "ddp", 5), (2, "fsdp", 6)):
        rows = train(processes, changing, mode, steps)
    assert [row["step"] for row in rows] == [row["step"] for row in alone]
    for mine, theirs in zip(rows, alone, strict=True):
        for name in ("tokens_seen", "reward_mean", "gradient_norm", "entropy", "process_mean", "prompts_seen"):
            expected = theirs.get(name)
            right = None if expected is None else pytest.approx(expected, rel=1e-4, abs=1e-7)
            assert mine.get(name) == right, (mine["step"], name)
        if mine["step"] in (0, 2, 4, 6):
            assert mine["test_loss"] == theirs["test_loss"]
    info = [record.read_attempt(changing, number) for number in record.attempt_numbers(changing)]
    assert [(i.get("processes"), i.get("parallel")) for i in info] == [
        (2, "fsdp"), (None, None), (2, "ddp"), (2, "fsdp"),
    ]  # fmt: skip
    exported = AutoModelForCausalLM.from_pretrained(changing / "model").state_dict()
    single = AutoModelForCausalLM.from_pretrained(tmp_path / "alone" / "model").state_dict()
    assert exported.keys() == single.keys()
    assert all(torch.allclose(exported[name], single[name], atol=1e-5) for name in single)
    ends = [(folder / "model" / "generation_config.json").read_text() for folder in (changing, tmp_path / "alone")]
    assert ends[0] == ends[1] and "eos_token_id" in ends[0]
    found = checkpoint.load_newest(changing)
    assert found is not None and all(type(value) is torch.Tensor for value in found.state["policy"].values())


ACCELERATE = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
use_cpu: true
mixed_precision: 'no'
num_machines: 1
num_processes: 2
main_process_port: PORT
"""


def test_accelerate_launch_starts_a_run_as_torchrun_does(tmp_path):
    run = GRADED.replace("MODE", "fsdp").replace("every: 3", "every: 1")
    (tmp_path / "run.yaml").write_text(run)
    (tmp_path / "accelerate.yaml").write_text(ACCELERATE.replace("PORT", str(free_port())))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", tmp_path / "accelerate.yaml"]
    line = [*launch, "-m", "scaling", "run", tmp_path / "run.yaml", "--out", tmp_path / "by_accelerate"]
    done = subprocess.run(list(map(str, line)), env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    start(2, "-m", "scaling", "run", tmp_path / "run.yaml", "--out", tmp_path / "by_torchrun")
    curves = [
        [record.without_timing(row) for row in files.read_rows(tmp_path / name / schema.CURVE)]
        for name in ("by_accelerate", "by_torchrun")
    ]
    assert curves[0] == curves[1] and [row["step"] for row in curves[0]] == [0, 1, 2, 3]
    attempt = record.read_attempt(tmp_path / "by_accelerate", 1)
    assert (attempt["processes"], attempt["parallel"]) == (2, "fsdp")


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def test_a_process_that_lost_a_peer_has_not_failed(tmp_path):
    team = Team("ddp", "cpu")
    team.world = 2
    with pytest.raises(PeerLost, match="another process of this run has ended"):
        team.fail(tmp_path, RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer"))
    assert not (tmp_path / schema.FAILED).exists()
    team.fail(tmp_path, ValueError("a mistake of its own"))
    assert files.read_json(tmp_path / schema.FAILED)["class"] == "ValueError"
    for error in (ConnectionResetError("Connection reset by peer"), raised(RuntimeError("judge: connection refused"))):
        team.fail(tmp_path, error)
        assert files.read_json(tmp_path / schema.FAILED)["message"] == str(error)


def raised(error):
    try:
        raise error
    except RuntimeError as again:
        return again


@pytest.fixture
def alarms(tmp_path):
    """The alarms of two processes, here both in this one, at a store in a file."""
    found = []
    for rank in (0, 1):
        with pytest.MonkeyPatch.context() as patch:
            store = torch.distributed.FileStore(str(tmp_path / "store"), 2)
            patch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda store=store: store)
            found.append(Alarm(rank))
    yield found
    for alarm in found:
        alarm.close()


def test_the_first_process_to_fail_is_the_one_that_tells(alarms):
    one, other = alarms
    assert one.heard() is None and other.heard() is None
    assert other.ring(ValueError("a verdict\nthat cannot be")) is True
    assert one.heard() == other.heard() == "process 1: ValueError: a verdict that cannot be"
    assert one.ring(KeyError("much later")) is False
    assert other.heard() == "process 1: ValueError: a verdict that cannot be"


# ---------------------------------------------------------------- grades


GRADED = """
model: {size: us, base: {iterations: 20, leaping_iterations: 5, batch_size: 16}}
data: {prompts_per_step: 5}
rollout: {group_size: 3}
evaluation: {problems: 5, every: 3}
resources: {engine: hf, forward: plain, parallel: MODE, export_model: false}
stop: {steps: 3}
"""


def graded(rule, mode, folder):
    """A run of two processes whose grader depends on the process; what torchrun has done, as subprocess tells it."""
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(GRADED.replace("MODE", mode))
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    line += [str(HERE / "grading_worker.py"), rule, str(path), str(folder)]
    return subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_a_verdict_that_depends_on_the_process_is_given_once(tmp_path, mode):
    done = graded("differs", mode, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    one, other = (files.read_rows(tmp_path / f"run.{rank}.jsonl") for rank in (0, 1))
    assert [(row["advantages"], row["tokens"]) for row in one] == [(row["advantages"], row["tokens"]) for row in other]
    assert len(one) == 3 and any(value for row in one for group in row["advantages"] for value in group)
    # 5 held-out problems, 4 x 2 samples to read, then 15 responses a step: each is graded by one of the two.
    assert [mine["graded"] + theirs["graded"] for mine, theirs in zip(one, other, strict=True)] == [28, 43, 58]


def test_a_grader_that_fails_in_one_process_ends_both_with_its_cause(tmp_path):
    """Without torchrun, which would end the other one itself."""
    path = tmp_path / "run.yaml"
    path.write_text(GRADED.replace("MODE", "fsdp"))
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    line = [sys.executable, str(HERE / "grading_worker.py"), "raises", str(path), str(tmp_path / "run")]
    both = [
        subprocess.Popen(line, env={**ENVIRONMENT, **meeting, "RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert all(process.returncode not in (0, None) for process in both)
    assert "another process of this run has ended: process 1: ConnectionRefusedError: Connection refused" in said[0]
    failure = files.read_json(tmp_path / "run" / schema.FAILED)
    assert failure["class"] == "ConnectionRefusedError" and "the judge of process 1 is gone" in failure["message"]
    assert any("grade_text" in line for line in failure["last_lines"])


DEAF = """
import sys
import torch.distributed as dist
from scaling import peers
peers.TICK = peers.PATIENCE = 0.05
store = dist.FileStore(sys.argv[1], 2)
dist.distributed_c10d._get_default_store = lambda: store
peers.Alarm(0)
print("waiting", flush=True)
sys.stdin.read()
"""


def test_a_process_that_waits_for_ever_ends_with_its_peer(tmp_path, alarms):
    line = [sys.executable, "-c", DEAF, str(tmp_path / "store")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    deaf = subprocess.Popen(line, env=ENVIRONMENT, text=True, **pipes)
    assert deaf.stdout.readline() == "waiting\n"
    alarms[1].ring(ValueError("no verdict"))
    assert deaf.wait(timeout=60) == LOST
    assert deaf.stderr.read() == "process 0 ends with another one of its run, process 1: ValueError: no verdict\n"


class Threads:
    """Two processes as threads of this one: what they gather."""

    world = 2

    def __init__(self):
        self.barrier, self.values = threading.Barrier(2, timeout=30), {}

    def of(self, rank):
        one = copy.copy(self)
        one.rank = rank
        return one

    def share(self, items):
        return np.array_split(items, 2)[self.rank]

    def all_gather(self, value):
        self.values[self.rank] = value
        self.barrier.wait()
        values = [self.values[0], self.values[1]]
        self.barrier.wait()
        return values


class Counting:
    """A task whose grades are the responses, and that counts: right answers are a share, bad ones are a sum."""

    name = "counting"

    def __init__(self):
        self.seen = []

    def grade_many(self, prompts, responses):
        self.seen += responses
        return list(responses)

    def counts(self):
        seen, self.seen = self.seen, []
        return {"bad": seen.count(0)} | ({"right_share": seen.count(2) / len(seen)} if seen else {})


@pytest.mark.parametrize("responses", [[2, 2, 1, 0, 0], [2], [1, 2, 0, 2]])
def test_processes_that_share_the_grading_count_as_one_does(responses):
    def work(team):
        task = SharedTask(Counting(), team)
        return task.grade_many(responses, responses), task.counts(), task.counts(), task.name

    threads = Threads()
    with ThreadPoolExecutor(2) as pool:
        results = [each.result() for each in [pool.submit(work, threads.of(rank)) for rank in (0, 1)]]
    assert results[0] == results[1]
    grades, counts, again, name = results[0]
    alone = Counting()
    alone.grade_many(responses, responses)
    assert grades == responses and name == "counting" and again == {"bad": 0}
    assert counts == pytest.approx(alone.counts())


# ---------------------------------------------------------------- passes


def test_passes_hold_each_sequence_once_and_keep_to_their_limit():
    groups = engine_with("hf", policy_of("us", end_bias=0.5)).generate(prompts(), 4, SAMPLING)
    rows_PG = np.arange(24).reshape(6, 4)[[0, 2, 3, 5]]
    lengths = np.repeat([len(p.tokens) for p in groups.prompts], 4) + groups.lengths_B
    for forward in ("plain", "packed", "shared_prefix"):
        resources = ResourcesConfig(micro_batch_tokens=80, forward=forward)
        found = passes(rows_PG, groups, resources, Team("ddp", "cpu"))
        assert all(counted for _, counted in found) and len(found) > 2
        rows = [row for rows_B, _ in found for row in rows_B]
        assert sorted(rows) == sorted(rows_PG.ravel())
        assert forward != "shared_prefix" or rows == rows_PG.ravel().tolist()
        of = {True: lambda rows_B: lengths[rows_B].sum(), False: lambda rows_B: len(rows_B) * lengths[rows_B].max()}
        assert all(of[forward == "packed"](rows_B) <= 80 or len(rows_B) == 1 for rows_B, _ in found)
    whole = passes(rows_PG, groups, ResourcesConfig(), Team("ddp", "cpu"))
    assert [rows_B.tolist() for rows_B, _ in whole] == [rows_PG.ravel().tolist()]
