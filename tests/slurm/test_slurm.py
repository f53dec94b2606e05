"""Sweeps on a real one-host SLURM, and what they survive: each step once, with the value it would have had.

`make test-slurm` runs this, about 22 trials; SLURM_TRIALS=200 makes it go on until that many have been counted.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter

import pytest
from studies import DEADLINE, NORMAL, STEPS, check, runs_of, scaling, science, start, status, step_of, study

from scaling import files, record, schema

TRIALS = int(os.environ.get("SLURM_TRIALS", "14"))
SEED = int(os.environ.get("SLURM_SEED", time.time_ns() % 10**6))
LONG = 438  # three at a time on two cores: longer than a minute, or a walltime phase is for nothing


@pytest.fixture(scope="session")
def reference(work):
    """The same cells by the local executor: {(steps, name of the run): what its record holds}; and their base."""
    path = study(work / "local", "local", STEPS, range(6))
    path.write_text(path.read_text() + f"  - {{name: long, set: {{stop.steps: {LONG}}}, axes: {{seed: [0, 1, 2]}}}}\n")
    scaling("sweep", "launch", path, "--out", work / "local" / "out")
    found = {}
    for name, run in runs_of(path, work / "local" / "out").items():
        whole = science(run)
        if files.read_json(run / schema.DONE)["step"] == LONG:
            found[LONG, name] = whole
        found[STEPS, name] = [[line for line in lines if json.loads(line)["step"] <= STEPS] for lines in whole]
    return found


# ---------------------------------------------------------------- without faults


def test_an_array_gives_the_curves_of_the_local_executor(lab, work, reference):
    """Six runs as one array after the array of their base; the launcher dies between sbatch and the id of the job."""
    path, out = study(work / "plain", "plain"), work / "plain" / "out"
    planned = scaling("sweep", "launch", path, "--out", out, "--executor", "slurm", "--dry-run")
    assert not out.exists()
    assert "submitted 6 runs and 1 base models" in scaling("sweep", "launch", path, "--out", out, "--executor", "slurm")
    journal = out / schema.SLURM / "jobs.jsonl"
    events = files.read_rows(journal)
    tokens = [event["submit"] for event in events if "submit" in event]
    # What was submitted is what the dry run printed, but for the id of the base's job.
    for token in tokens[:1]:
        assert (out / schema.SLURM / token / "submission.sh").read_text() in planned
    assert "--array=0-5%6" in (out / schema.SLURM / tokens[1] / "submission.sh").read_text()

    journal.write_text("".join(files.dump_row(event) for event in events if "job" not in event))
    shown = status(path, out)
    assert {run["state"] for run in shown.values()} <= {"waiting", "running"}
    assert "submitted 0 runs and 0 base models" in scaling("sweep", "launch", path, "--out", out, "--executor", "slurm")
    scaling("sweep", "status", path, "--out", out, "--watch")
    check(path, out, STEPS, reference)
    for run in runs_of(path, out).values():
        assert record.attempt_numbers(run) == [1]
    assert "submitted 0 runs" in scaling("sweep", "launch", path, "--out", out, "--executor", "slurm")


# ---------------------------------------------------------------- trials


class Phase:
    """One study whose runs are each hit once, at a random step after their first checkpoint."""

    def __init__(self, lab, work, reference, number, kinds, counted, *, steps=STEPS, resources=NORMAL):
        self.lab, self.reference, self.counted, self.steps = lab, reference, counted, steps
        self.random = random.Random(f"{SEED} {number}")
        name = f"trials{number}"
        self.path, self.out = study(work / name, name, steps, range(len(kinds)), resources), work / name / "out"
        shutil.copytree(work / "local" / "out" / schema.ARTIFACTS, self.out / schema.ARTIFACTS)
        self.runs = runs_of(self.path, self.out)
        self.plan = dict(zip(self.runs, kinds, strict=True))
        self.at = {run: self.random.randint(10, 60) for run in self.runs}
        self.hit: dict[str, tuple[str, int]] = {}  # run -> (kind, attempt that was hit)
        self.down: dict[str, float] = {}  # node -> when it is to come back
        self.frozen: list[int] = []

    def work(self):
        """Launch, hit, kill the launcher once on the way, wait for the end, check everything."""
        launcher = start("sweep", "launch", self.path, "--out", self.out, "--executor", "slurm", "--wait")
        killed = False
        deadline = time.monotonic() + DEADLINE
        while launcher.poll() is None:
            assert time.monotonic() < deadline, f"deadline, seed {SEED}: {self.hit}, {status(self.path, self.out)}"
            for name, run in self.runs.items():
                kind = self.plan[name]
                if name not in self.hit and kind != "walltime" and step_of(run) >= self.at[name]:
                    self.strike(name, run, kind)
            for node, when in list(self.down.items()):
                if time.monotonic() > when:
                    self.wake(node)
            if len(self.hit) >= 2 and not killed:  # the launcher dies; another shell watches from now on
                killed = True
                launcher.kill()
                launcher.communicate()
                launcher = start("sweep", "status", self.path, "--out", self.out, "--watch")
            time.sleep(0.05)
        output, _ = launcher.communicate()
        for node in list(self.down):
            self.wake(node)
        assert launcher.returncode == 0, output
        check(self.path, self.out, self.steps, self.reference)
        assert "not" not in scaling("sweep", "verify", self.path, "--out", self.out)
        for name, run in self.runs.items():
            numbers = record.attempt_numbers(run)
            if self.plan[name] == "walltime":
                reasons = [record.read_attempt(run, number).get("reason") for number in numbers]
                self.counted["walltime"] += reasons.count("interrupted")
            elif name in self.hit and numbers[-1] > self.hit[name][1]:  # else it was done before the blow fell
                self.counted[self.hit[name][0]] += 1

    def wake(self, node):
        for pid in self.frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen = []
        self.lab.node_up(node)
        del self.down[node]

    def strike(self, name, run, kind):
        number = record.newest_attempt(run)
        attempt = record.read_attempt(run, number)
        job, node = attempt["job"], attempt["node"]
        self.hit[name] = (kind, number)
        if kind == "kill":
            os.kill(attempt["pid"], signal.SIGKILL)
        elif kind == "signal":
            self.lab.try_call(f"scancel --signal={self.random.choice(['USR2', 'TERM'])} {job}")
        elif kind == "requeue":
            self.lab.try_call(f"scontrol requeue {job}")
        elif kind == "node down":
            for folder in self.together(node, kind):
                self.lose(folder)
            self.lab.node_down(node)
            self.down[node] = time.monotonic() + 10
        else:
            self.lab.call(f"sbatch -p main -w {node} --exclusive --output=/dev/null --wrap 'sleep 1'")
            self.together(node, kind)

    def together(self, node, kind):
        """All runs on the node are hit; returns their folders. One without a checkpoint does not count as hit."""
        folders = []
        for name, folder in self.runs.items():
            number = record.newest_attempt(folder)
            attempt = record.read_attempt(folder, number) if number else {}
            if attempt.get("node") == node and "reason" not in attempt:
                folders.append(folder)
                if record.committed_step(folder):
                    self.hit.setdefault(name, (kind, number))
        return folders

    def lose(self, folder):
        """A node without power ends its processes; one that hangs wakes them up later, beside their successors."""
        pid = record.read_attempt(folder, record.newest_attempt(folder))["pid"]
        if self.random.random() < 0.5:
            os.kill(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGSTOP)
            self.frozen.append(pid)


MIXED = ["kill", "signal", "requeue"]
ALONE = {  # kinds that need a whole study of their own: what its cells ask for
    "node down": {},
    "pre-emption with a warning": {"resources": "time_minutes: 10, warning_seconds: 60, partition: low"},
    "pre-emption": {"resources": "time_minutes: 10, warning_seconds: 60, partition: low"},
    # SLURM looks at time limits every 30 s, and warns up to that much early.
    "walltime": {"resources": "time_minutes: 1, warning_seconds: 30", "steps": LONG},
}


def test_trials_at_random_moments(lab, work, reference):
    """At least two blows of each kind; those that came too late are not counted and are dealt again."""
    counted: Counter = Counter()
    wanted = max(2, -(-TRIALS // len([*MIXED, *ALONE])))
    number = 0
    while missing := {kind: wanted - counted[kind] for kind in [*MIXED, *ALONE] if counted[kind] < wanted}:
        assert number < 4 * (3 + TRIALS // 5), f"too few blows hit a running cell: {counted}"
        number += 1
        kind, mixed = next(iter(missing)), [k for k in MIXED for _ in range(max(0, missing.get(k, 0)))]
        if mixed:
            Phase(lab, work, reference, number, (mixed[::3] + mixed[1::3] + mixed[2::3])[:6], counted).work()
        else:
            lab.user_signal(kind != "pre-emption")
            cells = 3 if kind == "walltime" else 4
            Phase(lab, work, reference, number, [kind] * cells, counted, **ALONE[kind]).work()
        print(f"{sum(counted.values())} trials, seed {SEED}: {dict(counted)}", file=sys.stderr, flush=True)
