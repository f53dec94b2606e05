"""The stubs of CONTRIBUTING.md, to the letter: written into a copy of the packages they work, with no other edit."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_curves import study_table

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STUBS = re.findall(r"```python\n# (\S+?)(, at the end)?\n(.*?)```", TEXT, re.DOTALL)
MINI = """
study: mini
base:
  model: {size: us, base: {iterations: 2, leaping_iterations: 0, batch_size: 4}}
  data: {prompts_per_step: 2}
  rollout: {group_size: 2}
  evaluation: {problems: 4}
  stop: {steps: 1}
  tracking: {mlflow: false}
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The three packages with every stub in its place, and the test of the floors."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("scaling", "analysis", "sweeps"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "test_floors.py", folder / "tests")
    for name, at_the_end, code in STUBS:
        path = folder / name
        assert path.exists() == bool(at_the_end), name
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"\n\n{code}" if at_the_end else code)
    sizes = {"us": 5_296, "xs": 20_832, "s": 55_824}
    study_table(ladder=sizes, papo=None, reuse=None, groups=None).to_csv(folder / "curves.csv", index=False)
    return folder


def python(tree: Path, *arguments, expect: int = 0) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert result.returncode == expect, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def scaling(tree: Path, *arguments, expect: int = 0) -> subprocess.CompletedProcess:
    return python(tree, "-m", "scaling", *arguments, expect=expect)


def test_every_kind_has_its_stub():
    headings = re.findall(r"^## (?:An?|The) (.+)$", TEXT, re.MULTILINE)
    assert len(headings) == len(STUBS) and len({name for name, _, _ in STUBS}) == len(STUBS)
    assert {len(code.splitlines()) < 45 for _, _, code in STUBS} == {True}


def test_the_floors_hold_with_the_stubs(tree):
    chosen = "imports_go_down or every_place or too_large"
    python(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_floors.py", "-k", chosen)


def test_a_law(tree):
    listed = json.loads(scaling(tree, "laws", "--json").stdout)["laws"]
    assert "exponential_slope" in [law["law"] for law in listed]
    record = json.loads(scaling(tree, "fit", "curves.csv", "--law", "exponential_slope", "--json").stdout)
    ends = record["values"]["k_max"]["ci95"]
    assert record["values"].keys() == {"k_max", "n0"} and ends[0] < record["values"]["k_max"]["value"]


def test_a_figure_and_a_section(tree):
    scaling(tree, "report", "curves.csv", "--out", "page")
    page = (tree / "page" / "report" / "index.html").read_text(encoding="utf-8")
    order = ['id="runs"', "Final losses.", 'id="run-lengths"', 'id="curves"', "Figure 2. "]
    places = [page.index(text) for text in order]
    assert places == sorted(places) and page.count("Final losses.</b>") == 1
    assert '<a href="#run-lengths">Length of the runs</a>' in page
    assert "The shortest run took 60 steps, the longest 60." in page
    assert (tree / "page" / "figures" / "final_losses.svg").exists()
    assert (tree / "page" / "report" / "tables" / "run_lengths.tex").exists()
    shown = python(tree, "-c", "from analysis import figures; print(figures.final_losses.__doc__)").stdout
    assert shown == "One point for each run: its last evaluation.\n"


def test_an_executor(tree):
    (tree / "mini.yaml").write_text(MINI)
    output = scaling(tree, "sweep", "launch", "mini.yaml", "--out", "mini", "--executor", "plain").stderr
    assert "study mini: 1 done" in output
    refused = scaling(tree, "sweep", "launch", "mini.yaml", "--executor", "plian", expect=2).stderr
    assert "there are: local, plain, slurm. Did you mean plain?" in refused
