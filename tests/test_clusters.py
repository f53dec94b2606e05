"""The batch files of docs/clusters.md to the letter, and what may stand in `resources`."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from scaling import schema
from scaling.config.parts import ResourcesConfig
from scaling.config.reading import parse_config, read_yaml
from scaling.schema import InputError
from sweeps import clients
from sweeps.executors import slurm

PAGE = Path(__file__).parent.parent / "docs" / "clusters.md"
SETUPS = re.findall(r"^## \d\. (.*?)\n\n```yaml\n(.*?)```\n\n```\n(.*?)```", PAGE.read_text(), re.M | re.S)
STUDY = Path("/s")


def resources(text: str, tmp_path) -> ResourcesConfig:
    path = tmp_path / "run.yaml"
    path.write_text(f"model: us\n{text}")
    return parse_config(read_yaml(path), "run.yaml").resources


def text_of(wanted: ResourcesConfig, out: Path = STUDY, **more) -> str:
    return slurm.batch_text(slurm.Array("s-t", out / schema.SLURM / "TOKEN", 2, wanted, out / "code" / "CODE", **more))


def flags(text: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.parametrize(("name", "yaml", "expected"), SETUPS, ids=[name for name, _, _ in SETUPS])
def test_the_batch_files_of_the_page(tmp_path, name, yaml, expected):
    assert len(SETUPS) == 6
    text = text_of(resources(yaml, tmp_path)).replace(sys.executable, "PYTHON").replace("/s/code/CODE", "CODE")
    for line in expected.splitlines():
        assert line in text.splitlines()
    of_all = {"array", "open-mode", "output", "requeue", "signal", "time", "job-name", "nodes", "ntasks-per-node"}
    named = {line.removeprefix("#SBATCH --").partition("=")[0] for line in expected.splitlines() if "#SBATCH" in line}
    assert flags(text).keys() == of_all | named  # and nothing else
    assert "export PYTHONPATH=CODE${PYTHONPATH:+:$PYTHONPATH}" in text
    assert "export SLURM_EXPORT_ENV=ALL" in text


def test_flags_of_the_study_win_under_any_spelling():
    wanted = ResourcesConfig(
        gpus=2, memory_gb=8, cpus=4,
        sbatch={"gpus_per_node": "tesla:2", "--cpus_per_task": 7, "mem-per-cpu": "2G", "t": 30, "p": "fast"},
    )  # fmt: skip
    found = flags(text_of(wanted))
    assert (found["gpus-per-node"], found["cpus-per-task"], found["time"]) == ("tesla:2", "7", "30")
    assert found["partition"] == "fast" and found["mem-per-cpu"] == "2G" and "mem" not in found
    assert "--cpus-per-task=7 " in text_of(wanted)  # srun's, too


@pytest.mark.parametrize(
    ("sbatch", "words"),
    [
        *(({name: "x"}, f"the launcher itself decides {flag}") for name, flag in [
            ("array", "array"), ("job_name", "job-name"), ("--output", "output"), ("J", "job-name"), ("e", "error"),
            ("Signal", "signal"), ("requeue", "requeue"), ("no-requeue", "no-requeue"), ("d", "dependency"),
            ("wckey", "wckey"), ("open_mode", "open-mode"),
        ]),
        ({"cpus-per-task": 1, "cpus_per_task": 2}, "cpus-per-task is given twice"),
        ({"c": 1, "cpus_per_task": 2}, "cpus-per-task is given twice"),
        ({"nice to": 1}, "'nice to' is no name of an sbatch flag"),
        ({"comment": "a\nb"}, "has the control character '\\n'"),
    ],
)  # fmt: skip
def test_flags_that_are_refused(sbatch, words):
    with pytest.raises(InputError) as told:
        parse_config({"model": "us", "resources": {"sbatch": sbatch}}, "run.yaml")
    assert words in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    "values",
    [{"partition": "a\n#SBATCH --x"}, {"account": "a\x00"}, {"qos": "\x1b[0m"}, {"setup": ["a\nb"]}, {"python": "p\r"},
     {"srun": ["-x\n"]}, {"container": {"kind": "pyxis", "image": "i\n"}}, {"base": {"partition": "c\n"}}],
    ids=str,
)  # fmt: skip
def test_control_characters_are_refused_in_any_field(values):
    with pytest.raises(InputError, match="control character"):
        parse_config({"model": "us", "resources": values}, "run.yaml")


@pytest.mark.parametrize("place", ["/s/100%", "/s/a\nb"])
def test_a_path_that_slurm_would_read_otherwise_is_refused(place):
    with pytest.raises(InputError, match="give another --out"):
        text_of(ResourcesConfig(), Path(place))
    assert shlex.quote("/s s/slurm/TOKEN/tasks.json") in text_of(ResourcesConfig(), Path("/s s"))


def test_the_calling_shell_changes_nothing(monkeypatch):
    before, plain = text_of(ResourcesConfig()), clients.environment()
    for name in (
        "SUBMITIT_PREEMPT_SIGNAL", "SUBMITIT_EXECUTOR", "SBATCH_NO_REQUEUE", "SBATCH_PARTITION", "SLURM_JOB_ID",
        "SLURM_MEM_PER_CPU", "SLURM_CLUSTERS", "SRUN_CPUS_PER_TASK", "SQUEUE_STATES", "SACCT_FEDERATION",
    ):  # fmt: skip
        monkeypatch.setenv(name, "USR1")
    assert text_of(ResourcesConfig()) == before and "--signal=USR2@120" in before
    assert clients.environment() == plain
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    assert clients.environment()["SLURM_CONF"] == "/etc/slurm.conf"


def test_a_base_model_asks_for_neither_gpus_nor_whole_nodes_nor_cores():
    values = {"gpus": 4, "nodes": 2, "cpus": 64, "memory_gb": 500, "partition": "gpu", "time_minutes": 60}
    asked = {"gres": "gpu:4", "exclusive": True, "gpu-bind": "none", "mem-per-cpu": "1G", "reservation": "rl"}
    found = flags(text_of(slurm.base_resources(ResourcesConfig(**values, sbatch=asked))))
    assert found.keys().isdisjoint({"gres", "gpus-per-node", "exclusive", "gpu-bind", "mem", "mem-per-cpu"})
    assert (found["cpus-per-task"], found["nodes"], found["partition"]) == ("1", "1", "gpu")
    assert (found["reservation"], found["time"]) == ("rl", "60")
    own = {"partition": "cpu", "cpus": 2, "memory_gb": 4, "time_minutes": 20, "sbatch": {"nice": 5}}
    found = flags(text_of(slurm.base_resources(ResourcesConfig(**values, sbatch=asked, base=own))))
    assert [found[name] for name in ("partition", "cpus-per-task", "mem", "time", "nice")] == [
        "cpu", "2", "4096MB", "20", "5",
    ]  # fmt: skip
    assert "reservation" not in found


def test_a_submitit_that_takes_other_arguments_is_told_in_one_line(monkeypatch):
    from submitit.slurm import slurm as theirs

    monkeypatch.setattr(theirs, "_make_sbatch_string", lambda command, folder: "")
    with pytest.raises(InputError, match=r"does not take additional_parameters, .*; install the tested one") as told:
        text_of(ResourcesConfig())
    assert "\n" not in str(told.value)
    monkeypatch.delattr(theirs, "_make_sbatch_string")
    with pytest.raises(InputError, match="submitit is missing, or too new"):
        text_of(ResourcesConfig())
