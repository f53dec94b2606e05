"""Several processes: the same losses as one, and checkpoints that resume on another number of processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_policies import SAMPLING, engine_with, policy_of, prompts
from transformers import AutoModelForCausalLM

from scaling import checkpoint, files, record, schema
from scaling.config.parts import ResourcesConfig
from scaling.parallel import PeerLost, Team, passes

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


@pytest.fixture(scope="module")
def updates():
    """What `parallel_worker` prints, by (processes, mode) and kind of update."""
    found = {}
    for processes, mode in ((1, "ddp"), (2, "ddp"), (2, "fsdp")):
        lines = start(processes, HERE / "parallel_worker.py", mode, *KINDS).splitlines()
        printed = [json.loads(line) for line in lines if line.startswith("{")]
        found[processes, mode] = {one["kind"]: one for one in printed}
    return found


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


def test_a_process_that_lost_a_peer_has_not_failed(tmp_path):
    team = Team("ddp", "cpu")
    team.world = 2
    with pytest.raises(PeerLost, match="another process of this run has ended"):
        team.fail(tmp_path, RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer"))
    assert not (tmp_path / schema.FAILED).exists()
    team.fail(tmp_path, ValueError("a mistake of its own"))
    assert files.read_json(tmp_path / schema.FAILED)["class"] == "ValueError"


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
