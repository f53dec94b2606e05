"""What SLURM's clients say wrongly, late or not at all, with stubs of them on the PATH: nothing is lost or doubled."""

import json
import time
from pathlib import Path

import pytest
import stub_clients

from scaling import files, schema
from scaling.schema import InputError
from sweeps import clients, cluster
from sweeps.cluster import Cluster
from sweeps.plan import make_plan
from sweeps.study import load_study

STUDY = """
study: shaky
base: {model: {size: us, base_seed: 0}, resources: {partition: gpu}}
blocks: [{axes: {seed: %s}}]
"""
# Takes every array and keeps `id name count` in $STUB/jobs; $STUB/mood says what it answers, one line a call.
SBATCH = """#!/bin/sh
[ "$1" = --test-only ] && { cat "$STUB/test-only" >&2 2>/dev/null; [ ! -e "$STUB/test-only" ]; exit; }
mood=$(head -n 1 "$STUB/mood" 2>/dev/null); sed -i 1d "$STUB/mood" 2>/dev/null
case "$mood" in refuse*) echo "sbatch: error: ${mood#refuse }" >&2; exit 1;; esac
n=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1"); name=$(sed -n 's/^#SBATCH --job-name=//p' "$1")
id=$(($(wc -l <"$STUB/jobs") + 101)); echo "$id $name $n" >>"$STUB/jobs"
case "$mood" in lie*) echo "sbatch: error: Batch job submission failed: ${mood#lie }" >&2; exit 1;; esac
[ "$mood" = mute ] && exit 0
echo "Submitted batch job $id"
"""
SQUEUE = """#!/bin/sh
echo x >>"$STUB/asked"
[ -e "$STUB/hang" ] && exec sleep 60
if [ -e "$STUB/flaky" ] && [ $(($(wc -l <"$STUB/asked") % 3)) = 1 ]; then echo "Socket timed out" >&2; exit 1; fi
while read -r id name n; do
  for i in $(seq 0 "$n"); do echo "$id|$i|PENDING|Priority|0||$name"; done
done <"$STUB/jobs"
"""
SCANCEL = """#!/bin/sh
for id in "$@"; do sed -i "/^$id /d" "$STUB/jobs"; echo "$id" >>"$STUB/cancelled"; done
"""
SCONTROL = """#!/bin/sh
[ -e "$STUB/no-scontrol" ] && exit 1
[ "$2" = partition ] || [ "$3" = partition ] && { cat "$STUB/partition" 2>/dev/null; exit 0; }
echo 'MaxArraySize            = 1001'
echo 'AccountingStorageType   = accounting_storage/slurmdbd'
"""
SACCT = """#!/bin/sh
[ -e "$STUB/no-sacct" ] && exit 1
echo "$@" >>"$STUB/sacct-asked"
cat "$STUB/accounts" 2>/dev/null; exit 0
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    texts = {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL, "scontrol": SCONTROL, "sacct": SACCT}
    monkeypatch.setattr(cluster, "QUICKEST", 0.0)
    with stub_clients.on_the_path(tmp_path, monkeypatch, texts) as folder:
        for name in ("jobs", "asked"):
            (folder / name).touch()
        yield folder


def study(tmp_path: Path, seeds="[0, 1]"):
    path = tmp_path / "shaky.yaml"
    path.write_text(STUDY % seeds)
    plan = make_plan(load_study(path))
    for base in plan.bases():
        (tmp_path / "out" / schema.ARTIFACTS / base).mkdir(parents=True, exist_ok=True)
    said: list[str] = []
    made = Cluster(plan, tmp_path / "out", said.append)
    return made, said


def jobs(stub) -> list[list[str]]:
    return [line.split() for line in (stub / "jobs").read_text().splitlines()]


def submitted(made) -> list[str]:
    return [event["submit"] for event in files.read_rows(made.journal.path) if "submit" in event]


# ---------------------------------------------------------------- sbatch


@pytest.mark.parametrize(
    "mood",
    ["lie Socket timed out on send/recv operation", "lie Unable to contact slurm controller (connect failure)",
     "lie something that nobody has seen before", "mute"],
)  # fmt: skip
def test_a_job_that_sbatch_took_without_saying_so_is_found_by_its_name(stub, tmp_path, mood):
    made, _ = study(tmp_path)
    (stub / "mood").write_text(f"{mood}\n")
    assert made.launch().runs == 2
    assert [job[0] for job in jobs(stub)] == ["101"]
    assert made.launch().runs == 0  # nothing is doubled
    assert len(submitted(made)) == 1
    assert made.cancel() == 2
    assert jobs(stub) == []


def test_a_call_that_never_arrived_is_made_again(stub, tmp_path):
    made, _ = study(tmp_path)
    (stub / "mood").write_text("refuse Socket timed out on send/recv operation\n" * 2)
    assert made.launch().runs == 2
    assert len(jobs(stub)) == len(submitted(made)) == 1


def test_words_that_nobody_knows_are_no_refusal_and_are_told(stub, tmp_path):
    made, _ = study(tmp_path)
    (stub / "mood").write_text("refuse the site's filter wants a coffee\n" * 3)
    result = made.launch()
    assert (result.runs, result.remaining) == (0, 2)
    assert "did not say whether it took them: sbatch: error: the site's filter wants a coffee" in result.refusals[-1]
    assert not any("refused" in event for event in files.read_rows(made.journal.path))
    assert made.launch().runs == 2  # by now it is known to be lost


def test_two_of_one_name_are_made_one(stub, tmp_path):
    """The first call was taken after all, but nobody saw it in time."""
    made, said = study(tmp_path)
    (stub / "mood").write_text("lie Socket timed out\n")
    made.launch()
    name = jobs(stub)[0][1]
    with open(stub / "jobs", "a") as file:
        file.write(f"102 {name} 1\n")
    assert made.look().twins == ["102"]
    assert made.launch().runs == 0
    assert [job[0] for job in jobs(stub)] == ["101"]
    assert "cancelled array 102" in said[-1]


def test_an_id_that_only_the_name_told_is_kept_when_squeue_forgets_it(stub, tmp_path):
    made, _ = study(tmp_path)
    made.launch()
    rows = [row for row in files.read_rows(made.journal.path) if "job" not in row]
    made.journal.path.write_text("".join(map(files.dump_row, rows)))  # as a launcher that died beside sbatch leaves it
    name = jobs(stub)[0][1]
    (stub / "jobs").write_text("")
    (stub / "accounts").write_text(f"101_0|TIMEOUT|0:0|2026-01-01T10:00:00|n1|{name}\n")
    look = made.look()
    assert look.states(made.plan) == ["ended", "lost"]
    assert f"--name={name}" in (stub / "sacct-asked").read_text()
    (stub / "no-sacct").touch()
    assert made.look().states(made.plan) == ["unknown", "unknown"]  # sacct might know the job by its name


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Batch job submission failed: Invalid qos specification", "never"),
        ("invalid partition specified: nowhere\nsbatch: error: Invalid partition name specified", "never"),
        ("Invalid account or account/partition combination specified", "never"),
        ("Requested node configuration is not available", "never"),
        ("Invalid generic resource (gres) specification", "never"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "never"),
        ("QOSMaxWallDurationPerJobLimit\nJob violates accounting/QOS policy (job submit limit, ...)", "never"),
        ("Unable to open file nowhere.sh", "never"),
        ("unrecognized option '--nope'", "never"),
        ("More processors requested than permitted", "never"),
        ("QOSMaxSubmitJobPerUserLimit\nJob violates accounting/QOS policy (job submit limit, ...)", "full"),
        ("AssocMaxSubmitJobLimit", "full"),
        ("AssocGrpGRESMinutesLimit", "full"),
        ("Invalid job array specification", "full"),
        ("Rate limit exceeded, please retry", "full"),
        ("Slurm temporarily unable to accept job, sleeping and retrying", "full"),
        ("Requested partition configuration not available now", "full"),
        ("Batch job submission failed: Socket timed out on send/recv operation", "unknown"),
        ("Unable to contact slurm controller (connect failure)", "unknown"),
        ("Batch job submission failed: Zero Bytes were transmitted or received", "unknown"),
        ("Unexpected message received", "unknown"),
        ("", "unknown"),
    ],
)
def test_only_known_words_are_refusals(words, kind):
    assert clients.refusal(words) == kind


# ---------------------------------------------------------------- the other clients


def test_a_squeue_that_hangs_gives_unknown_and_is_ended(stub, tmp_path, monkeypatch):
    assert clients.QUESTION_LIMIT + 1 < 30
    made, _ = study(tmp_path)
    made.launch()
    (stub / "hang").touch()
    monkeypatch.setattr(clients, "QUESTION_LIMIT", 1.4)
    monkeypatch.setattr(clients, "TRY_LIMIT", 0.2)
    before = time.monotonic()
    look = made.look()
    assert time.monotonic() - before < 10  # and not the minute that its child sleeps
    assert set(look.states(made.plan)) == {"unknown"} and not look.answered
    for act in (made.launch, made.cancel):
        with pytest.raises(InputError, match="does not answer"):
            act()


def test_one_call_in_three_that_fails_is_made_again(stub, tmp_path):
    (stub / "flaky").touch()
    made, _ = study(tmp_path)
    made.launch()
    for _ in range(4):
        assert made.look().states(made.plan) == ["waiting", "waiting"]
    assert len((stub / "asked").read_text().split()) > 5


def test_half_an_answer_is_none(stub, tmp_path):
    made, _ = study(tmp_path)
    made.launch()
    (stub / "squeue").write_text("#!/bin/sh\necho '101|0|PEND'\n")
    assert made.look().states(made.plan) == ["unknown", "unknown"]


def test_a_configuration_that_is_not_told_does_not_make_jobs_lost(stub, tmp_path):
    """Without scontrol nobody knows whether there is accounting: a job that is gone is not submitted again."""
    made, _ = study(tmp_path)
    made.launch()
    (stub / "jobs").write_text("")
    clients._settings.clear()
    for name in ("no-scontrol", "no-sacct"):
        (stub / name).touch()
    assert made.look().states(made.plan) == ["unknown", "unknown"]


# ---------------------------------------------------------------- permanent refusals


@pytest.mark.parametrize("words", ["Invalid qos specification", "Invalid account", "Requested time limit is invalid"])
def test_a_permanent_refusal_is_told_before_anything_is_submitted(stub, tmp_path, words):
    made, _ = study(tmp_path)
    (stub / "test-only").write_text(f"allocation failure: {words}\n")
    with pytest.raises(InputError, match=rf"partition gpu would not run these cells: .*{words}"):
        made.launch()
    assert not made.journal.path.exists()


def test_a_time_limit_below_time_minutes_is_told_also_where_sbatch_would_let_it_wait_for_ever(stub, tmp_path):
    made, _ = study(tmp_path)
    (stub / "partition").write_text("PartitionName=gpu Default=NO MaxTime=02:00:00 State=UP\n")
    with pytest.raises(InputError, match="time_minutes is 240, and its MaxTime is 120 minutes"):
        made.launch()
    clients.time_limit.cache_clear()
    (stub / "partition").write_text("PartitionName=gpu Default=NO MaxTime=1-00:00:00 State=UP\n")
    assert made.launch().runs == 2


def test_a_preflight_that_is_not_answered_says_nothing_of_the_partition(stub, tmp_path):
    made, _ = study(tmp_path)
    (stub / "test-only").write_text("allocation failure: Socket timed out on send/recv operation\n")
    assert made.launch().runs == 2


def test_a_watch_ends_where_nothing_is_queued_and_sbatch_still_refuses(stub, tmp_path):
    made, said = study(tmp_path)
    (stub / "mood").write_text("refuse QOSMaxSubmitJobPerUserLimit\n" * 40)
    assert made.launch().remaining == 2
    assert made.watch().states(made.plan) == ["missing", "missing"]
    assert "nothing of this study is queued, and SLURM takes nothing: sbatch: error: QOSMaxSubmit" in said[-1]
    (stub / "mood").write_text("refuse Invalid qos specification\n")
    with pytest.raises(InputError, match=r"sbatch refuses: .*Invalid qos"):
        made.watch()


# ---------------------------------------------------------------- cells that were edited out


def test_jobs_of_dropped_cells_and_bases_are_named_and_cancelled(stub, tmp_path):
    made, _ = study(tmp_path, "[0, 1, 2]")
    for base in made.plan.bases():
        (tmp_path / "out" / schema.ARTIFACTS / base).rmdir()
    assert (result := made.launch()).bases == 1 and result.runs == 3
    assert [v.state for v in made.look().bases.values()] == ["waiting"]
    edited, _ = study(tmp_path, "[0]")
    look = edited.look()
    assert look.states(edited.plan) == ["waiting"]
    assert look.orphans == {"102_1": ["us-seed1"], "102_2": ["us-seed2"]}
    (tmp_path / "shaky.yaml").write_text(STUDY.replace("base_seed: 0", "base_seed: 7") % "[5]")
    other = Cluster(make_plan(load_study(tmp_path / "shaky.yaml")), tmp_path / "out", print)
    assert sorted(other.look().orphans) == ["101_0", "102_0", "102_1", "102_2"]
    assert other.cancel() == 4
    assert jobs(stub) == []
    assert json.loads(json.dumps(other.look().orphans)) == {}


# ---------------------------------------------------------------- why it died


def test_a_job_that_died_before_it_came_to_its_run_shows_what_the_shell_said(stub, tmp_path, capsys):
    from sweeps.commands import logs

    made, _ = study(tmp_path)
    made.launch()
    token = submitted(made)[0]
    batch = tmp_path / "out" / schema.SLURM / token / "101_1_0_log.out"
    batch.write_text("module: command not found\n")
    logs(str(tmp_path / "shaky.yaml"), "us-seed1", tmp_path / "out")
    assert "module: command not found" in capsys.readouterr().out
    with pytest.raises(InputError, match="us-seed0 has no log yet"):
        logs(str(tmp_path / "shaky.yaml"), "us-seed0", tmp_path / "out")
