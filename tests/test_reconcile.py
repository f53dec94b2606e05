"""Where a run on SLURM stands, from recorded squeue and sacct lines that a one-host cluster cannot show on demand."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import stub_clients

from scaling import files, record, schema
from scaling.schema import InputError
from sweeps import clients, cluster
from sweeps.cluster import Cluster
from sweeps.executors import slurm
from sweeps.plan import make_plan
from sweeps.reconcile import Account, Facts, QueueEntry, Submission, Verdict, reconcile
from sweeps.status import failed_verdicts, run_status
from sweeps.study import load_study

NOW = 1_800_000_000.0

SQUEUE = """\
1234|2|PENDING|JobArrayTaskLimit|0||study-ab12cd34
1234|0|RUNNING|None|2|n2|study-ab12cd34
1234|[3-5,9%2]|PENDING|Priority|0||study-ab12cd34
1240|1|COMPLETING|None|0|n1|study-ff12cd34
1241|7|CANCELLED|None|0|n3|study-ee12cd34
"""
# -D shows every start; the requeued task has no line yet for the start that waits.
SACCT = """\
1234_0|REQUEUED|0:0|2026-11-24T10:00:00|n1
1234_0|RUNNING|0:0|Unknown|n2
1234_1|CANCELLED by 0|0:0|2026-11-24T10:00:01|n1
1234_2|OUT_OF_MEMORY|0:125|2026-11-24T10:00:02|n3
1234_[3-5%2]|PENDING|0:0|Unknown|None assigned
1234_6|NODE_FAIL|0:0|2026-11-24T10:00:03|n1
1234_7|FAILED|137:0|2026-11-24T10:00:04|n2
1234_8|FAILED|0:9|2026-11-24T10:00:05|n2
"""


def test_squeue_lines_by_task():
    entries = clients.parse_queue(SQUEUE)
    assert [entry.job for entry in entries] == [
        "1234_2", "1234_0", "1234_3", "1234_4", "1234_5", "1234_9", "1240_1", "1241_7",
    ]  # fmt: skip
    assert entries[1] == QueueEntry("1234_0", "study-ab12cd34", "RUNNING", "None", 2, "n2")


def test_sacct_lines_by_task_with_every_start():
    found = clients.parse_accounts(SACCT)
    assert [account.state for account in found["1234_0"]] == ["REQUEUED", "RUNNING"]
    assert found["1234_0"][-1].ended is None
    assert found["1234_1"][0].state == "CANCELLED"  # without its suffix
    assert not any("[" in job for job in found)
    assert (found["1234_7"][0].code, found["1234_7"][0].signal) == (137, 0)
    assert (found["1234_8"][0].code, found["1234_8"][0].signal, found["1234_8"][0].node) == (0, 9, "n2")


def facts(**changes) -> Facts:
    """A run that was submitted once, before it had a checkpoint, and has come to step 40 since."""
    return replace(Facts(False, None, 40, NOW, [Submission("t", 0, "7", None, NOW - 900)], queue={}), **changes)


def account(state, code=0, number=0, ended=NOW - 600, node="n1"):
    return {"accounts": {"7_0": [Account("7_0", state, code, number, ended, node)]}}


def queued(state, reason="None", restarts=0):
    return {"queue": {"7_0": QueueEntry("7_0", "s-t", state, reason, restarts)}}


@pytest.mark.parametrize(
    ("changes", "state", "why", "submit", "fail"),
    [
        ({"done": True, "queue": None}, "done", "", False, False),
        ({"failed": {"class": "KeyError", "message": "x"}}, "failed", "KeyError: x", False, False),
        ({"failed": {"class": "OutOfMemoryError", "message": "CUDA"}}, "out of memory", "CUDA", False, False),
        ({"failed": {"class": "NoProgress", "message": "no progress: 3"}}, "no progress", "3", False, False),
        ({"submissions": [], "committed": None}, "missing", "", True, False),
        ({"submissions": []}, "stopped", "", True, False),
        ({"queue": None}, "unknown", "squeue does not answer", False, False),
        (queued("PENDING", "Priority"), "waiting", "Priority", False, False),
        (queued("PENDING", "BeginTime", 2), "waiting", "BeginTime, requeued 2 times", False, False),
        (queued("RUNNING"), "running", "", False, False),
        ({**queued("RUNNING"), "last_row": NOW - 7200}, "running", "no new row for 120 minutes", False, False),
        (queued("COMPLETING"), "ending", "COMPLETING", False, False),
        (account("TIMEOUT"), "ended", "timeout", True, False),
        (account("PREEMPTED"), "ended", "preempted", True, False),
        (account("NODE_FAIL"), "ended", "node_fail", True, False),
        (account("NODE_FAIL", ended=NOW - 5), "waiting", "sacct says NODE_FAIL", False, False),
        (account("REQUEUED", ended=NOW - 5), "waiting", "sacct says REQUEUED", False, False),
        (account("RUNNING", ended=None), "waiting", "sacct says RUNNING", False, False),
        ({**account("RUNNING", ended=None), "last_row": NOW - 600}, "lost", "sacct: RUNNING", True, False),
        (account("REQUEUED"), "lost", "sacct: REQUEUED", True, False),
        (account("FAILED", 0, 9), "ended", "failed, signal 9", True, False),
        (account("FAILED", 12, 0), "ended", "failed, signal 12", True, False),
        (account("FAILED", 137, 0), "ended", "failed, signal 9", True, False),
        (account("FAILED", 9, 0), "ended", "failed, signal 9: killed (SIGKILL)", True, False),
        (account("FAILED", 0, 15), "ended", "killed (SIGTERM)", True, False),
        (account("FAILED", 1, 0), "ended", "failed, status 1", True, False),
        (account("OUT_OF_MEMORY", 0, 125), "out of memory", "memory_gb", False, True),
        (
            {**account("FAILED", 137), "log": ["slurmstepd: error: Exceeded job memory limit"]},
            "out of memory", "memory_gb", False, True,
        ),
        (
            {**account("FAILED", 1), "log": ["srun: error: n1: task 0: Out Of Memory"]},
            "out of memory", "memory_gb", False, True,
        ),
        (account("CANCELLED"), "stopped", "cancelled", False, False),
        (account("COMPLETED"), "failed", "not done", False, True),
        ({"accounts": {}}, "lost", "neither squeue nor sacct", True, False),
        ({"accounts": None}, "lost", "no accounting", True, False),
        ({"submissions": [Submission("t", 0, None, None, NOW)]}, "lost", "cut short", True, False),
        (
            {"submissions": [Submission("t", 0, "7", None, NOW - 9, cancelled=True)], **account("COMPLETED")},
            "stopped", "cancelled", False, False,
        ),
        ({**account("FAILED", 78), "base": Verdict("failed", "KeyError: y")}, "blocked", "KeyError: y", False, False),
        ({"finished_shorter": NOW, **account("COMPLETED")}, "stopped", "extends", True, False),
        ({"finished_shorter": NOW - 1000, **account("FAILED", 137)}, "ended", "signal 9", True, False),
    ],
)  # fmt: skip
def test_the_first_match_wins(changes, state, why, submit, fail):
    verdict = reconcile(facts(**changes), NOW)
    assert (verdict.state, verdict.submit, verdict.fail) == (state, submit, fail)
    assert why in verdict.why


def test_starts_that_commit_nothing_are_counted_and_the_node_is_avoided():
    def after(*committed):
        history = [Submission(f"t{i}", 0, "7", step, NOW - 900) for i, step in enumerate(committed)]
        return reconcile(facts(submissions=history, **account("FAILED", 3)), NOW)

    assert after(None).submit and after(None).exclude == ()  # it came from nothing to step 40
    assert after(None, 40).exclude == ("n1",)  # the second job began at 40 and ended there
    assert after(None, 40, 40).submit
    given_up = after(None, 40, 40, 40)
    assert (given_up.state, given_up.submit, given_up.fail) == ("no progress", False, True)
    assert given_up.why == "no progress: 3 jobs ended after step 40, the last one: failed, status 3"
    assert after(None, 10, 20, 30).submit  # unlimited while the checkpoint advances


# ---------------------------------------------------------------- submitting, against a stub of sbatch

STUDY = """
study: limits
base: {model: us, resources: {partition: gpu, gpus: 2, sbatch: {reservation: rl}, setup: [module load x]}}
blocks: [{axes: {seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}}]
"""
SBATCH = """#!/bin/sh
# Takes arrays of at most 3 tasks, and 7 tasks in all; the rest it refuses as SLURM does.
n=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1" 2>/dev/null); n=$((n + 1))
used=$(cat "$STUB/used" 2>/dev/null || echo 0)
if [ -e "$STUB/broken" ]; then echo "sbatch: error: invalid partition specified: gpu" >&2; exit 1; fi
if [ "$1" = --test-only ]; then exit 0; fi
if [ "$n" -gt 3 ] || [ $((used + n)) -gt 7 ]; then
  echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
  echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)" >&2; exit 1
fi
echo $((used + n)) >"$STUB/used"
echo "Submitted batch job $((1000 + used))"
"""


def test_too_small_a_disk_is_told_before_anything_is_submitted(stub, tmp_path, monkeypatch):
    _, study = limits(tmp_path)
    monkeypatch.setattr(cluster.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(InputError, match=r"checkpoints of 10 runs take about 0\.\d GB, 0\.0 GB are free"):
        study.launch()
    assert not study.journal.path.exists()


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """sbatch with limits; squeue that shows nothing; a cluster without accounting."""
    texts = {
        "sbatch": SBATCH,
        "squeue": "#!/bin/sh\n",
        "sacct": "#!/bin/sh\nexit 1\n",
        "scontrol": "#!/bin/sh\necho 'MaxArraySize = 4'\necho 'AccountingStorageType = accounting_storage/none'\n",
    }
    with stub_clients.on_the_path(tmp_path, monkeypatch, texts) as folder:
        yield folder


def limits(tmp_path: Path):
    path = tmp_path / "limits.yaml"
    path.write_text(STUDY)
    plan = make_plan(load_study(path))
    for base in plan.bases():
        (tmp_path / "out" / schema.ARTIFACTS / base).mkdir(parents=True)
    return plan, Cluster(plan, tmp_path / "out", print)


def test_what_fits_is_submitted_and_the_rest_is_counted(stub, tmp_path):
    _, study = limits(tmp_path)
    result = study.launch()
    assert (result.runs, result.remaining) == (7, 3)
    assert "job submit limit" in result.refusals[-1]
    sizes = [len(e["tasks"]) for e in files.read_rows(study.journal.path) if "submit" in e]
    assert sizes == [4, 2, 2, 2, 2, 1, 1]  # 4 = MaxArraySize is refused, so is a fourth pair, then a single one
    refused = sum("refused" in event for event in files.read_rows(study.journal.path))
    assert refused == 3
    jobs = {event["job"] for event in files.read_rows(study.journal.path) if "job" in event}
    assert jobs == {"1000", "1002", "1004", "1006"}


def test_a_mistake_is_not_taken_for_a_limit(stub, tmp_path):
    _, study = limits(tmp_path)
    (stub / "broken").touch()
    with pytest.raises(InputError, match="invalid partition specified: gpu"):
        study.launch()


def test_lost_without_accounting_is_submitted_again_and_never_for_ever(stub, tmp_path):
    plan, study = limits(tmp_path)
    monkey = stub / "used"
    for _ in range(3):
        assert study.launch().runs == 7
        monkey.unlink()
        assert study.look().runs[plan.runs[0].run_id].state in ("lost", "no progress")
    last = study.launch()
    assert last.runs == 3  # the three that never found a place
    failed = files.read_json(tmp_path / "out" / schema.RUNS / plan.runs[0].run_id / schema.FAILED)
    assert failed["message"].startswith("no progress: 3 jobs ended before the first checkpoint")
    assert plan.runs[0].name in study.retry()


def test_the_batch_text_and_that_resources_are_no_science(tmp_path):
    plan, study = limits(tmp_path)
    result = study.launch(dry_run=True)
    (text,) = result.texts
    for line in (
        "#SBATCH --array=0-9%10", "#SBATCH --partition=gpu", "#SBATCH --gpus-per-node=2", "#SBATCH --reservation=rl",
        "#SBATCH --requeue", "#SBATCH --signal=USR2@120", "module load x", "export PYTHONSAFEPATH=1",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert not (tmp_path / "out" / schema.SLURM).exists()
    plain = tmp_path / "plain.yaml"
    plain.write_text("study: limits\nbase: {model: us}\nblocks: [{axes: {seed: [0]}}]")
    assert make_plan(load_study(plain)).runs[0].run_id == plan.runs[0].run_id


def test_runs_that_share_a_job_and_a_throttle(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text(STUDY.replace("gpus: 2", "gpus: 2, runs_per_job: 4"))
    plan = make_plan(load_study(path))
    for base in plan.bases():
        (tmp_path / "out" / schema.ARTIFACTS / base).mkdir(parents=True)
    result = Cluster(plan, tmp_path / "out", print, throttle=2).launch(dry_run=True)
    assert "#SBATCH --array=0-2%2" in result.texts[0]  # 10 runs, 4 a job
    assert "#SBATCH --cpus-per-task=4" in result.texts[0]


def test_several_nodes_have_one_task_each_that_starts_its_processes(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text(STUDY.replace("gpus: 2", "gpus: 4, nodes: 2"))
    (text, *_) = Cluster(make_plan(load_study(path)), tmp_path / "out", print).launch(dry_run=True).texts[::-1]
    for line in (
        "#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=1", "#SBATCH --gpus-per-node=4", "#SBATCH --cpus-per-task=4",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert "--kill-on-bad-exit=1" in text
    path.write_text(STUDY.replace("gpus: 2", "processes: 2, runs_per_job: 2"))
    with pytest.raises(InputError, match="runs_per_job 2 is for runs of one process on one node, and these have 2"):
        make_plan(load_study(path))


def test_no_node_is_left_so_the_suspects_are_tried_again(stub, tmp_path, monkeypatch):
    _, study = limits(tmp_path)
    (stub / "sbatch").write_text(SBATCH.replace("if [ -e", 'if grep -q exclude "$1" 2>/dev/null || [ -e', 1))
    look = study.look()
    look.runs = {run: replace(verdict, exclude=("n1",)) for run, verdict in look.runs.items()}
    monkeypatch.setattr(study, "look", lambda: look)
    assert study.launch().runs == 7
    first, second, *_ = [e["submit"] for e in files.read_rows(study.journal.path) if "submit" in e]
    texts = [(tmp_path / "out" / schema.SLURM / token / slurm.SCRIPT).read_text() for token in (first, second)]
    assert ["--exclude=n1" in text for text in texts] == [True, False]


def test_a_torn_last_line_of_the_journal_is_dropped(tmp_path):
    _, study = limits(tmp_path)
    study.journal.note({"retry": ["a"], "time": 1.0})
    with open(study.journal.path, "a") as file:
        file.write('{"submit": "torn')
    study.journal.note({"retry": ["b"], "time": 2.0})
    assert [event["retry"] for event in files.read_rows(study.journal.path)] == [["a"], ["b"]]
    assert json.loads(study.journal.path.read_text().splitlines()[1])["time"] == 2.0


def test_failures_of_the_verifier_are_a_warning_of_the_status(tmp_path, monkeypatch):
    """By rows, and of a run that one attempt wrote by its lines."""
    planned = make_plan(load_study("quickstart")).runs[:2]
    for run in planned:
        attempt = record.start_attempt(run.folder(tmp_path), parent=None, first_step=0)
        attempt.append("curve.jsonl", [
            {"step": step, "timing": {"cpu_seconds": 1.0, "time_ms": 1}, "verifier_failures": step} for step in (0, 2)
        ])  # fmt: skip
    monkeypatch.setattr(record, "damage", lambda folder: None)
    found = [run_status(run, tmp_path) for run in planned]
    monkeypatch.setattr("sweeps.status._summary", lambda folder: None)
    assert [run.verifier_failures for run in found] == [2, 2] and found == [run_status(r, tmp_path) for r in planned]
    good = replace(found[0], verifier_failures=0)
    assert failed_verdicts([good]) == ""
    said = failed_verdicts([good, replace(found[1], verifier_failures=3)])
    assert said.startswith("warning: the verifier failed on 3 answers in 1 of 2 runs") and found[1].name in said
