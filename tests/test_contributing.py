"""The stubs of CONTRIBUTING.md, to the letter: written into a copy of the packages they work, with no other edit."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_curves import LADDER, study_table

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
# Two steps of each kind of training, in one process: the rows of each curve.
TRAIN = """
import json
from pathlib import Path
from scaling import files
from scaling.config.reading import parse_config
from scaling.trainer import train_run

runs = json.loads(Path("runs.json").read_text())
curves = {}
for name, changes in runs.items():
    values = {
        "model": {"size": "us", "base": {"iterations": 100, "leaping_iterations": 0, "batch_size": 32}},
        "task": "digit_sum", "data": {"prompts_per_step": 4}, "rollout": {"group_size": 4}, "stop": {"steps": 2},
        "evaluation": {"problems": 8}, "tracking": {"mlflow": False}, **changes,
    }
    train_run(parse_config(values, name), Path(name), Path("artifacts"))
    rows = files.read_rows(Path(name) / "curve.jsonl")
    curves[name] = [{key: value for key, value in row.items() if key != "timing"} for row in rows]
Path("curves.json").write_text(json.dumps(curves))
"""
pytestmark = pytest.mark.page


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The three packages with every stub in its place, and the tests of the floors and of laws."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("scaling", "analysis", "sweeps"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    for name in ("test_floors.py", "test_laws.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    for name, at_the_end, code in STUBS:
        path = folder / name
        assert path.exists() == bool(at_the_end), name
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"\n\n{code}" if at_the_end else code)
    for name, sizes in {"curves": ("us", "xs", "s"), "one_size": ("us",)}.items():
        ladder = {size: LADDER[size] for size in sizes}
        study_table(ladder=ladder, papo=None, reuse=None, groups=None).to_csv(folder / f"{name}.csv", index=False)
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
    assert max(len(code.splitlines()) for _, _, code in STUBS) < 60


def test_the_floors_hold_with_the_stubs(tree):
    chosen = "imports_go_down or every_place or too_large"
    python(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_floors.py", "-k", chosen)


def test_a_law(tree):
    listed = json.loads(scaling(tree, "laws", "--json").stdout)["laws"]
    assert "exponential_slope" in [law["law"] for law in listed]
    record = json.loads(scaling(tree, "fit", "curves.csv", "--law", "exponential_slope", "--json").stdout)
    ends = record["values"]["k_max"]["ci95"]
    assert record["values"].keys() == {"k_max", "n0"} and ends[0] < record["values"]["k_max"]["value"]


def test_a_law_keeps_the_contract(tree):
    python(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_laws.py", "-k", "exponential_slope")


@pytest.fixture(scope="module")
def curves(tree):
    runs = {
        "engine": {"algorithm": "papo", "resources": {"engine": "without_cache"}},
        "oracle": {"algorithm": "papo", "resources": {"engine": "hf"}},
        "linear": {"algorithm": "raft", "loss": {"surrogate": "linear"}},
        "clip": {"algorithm": "raft"},
    }
    (tree / "runs.json").write_text(json.dumps(runs))
    python(tree, "-c", TRAIN)
    return json.loads((tree / "curves.json").read_text())


def test_a_task_and_its_grader(curves):
    for row in curves["engine"][1:]:
        assert 0 < row["process_mean"] <= 1 and row["tokens_prompt"] == 4 * 16 * row["step"]


def test_a_budget_of_a_task_buys_what_its_rollouts_cost(tree, curves):
    """Prompts of 4 tokens and solutions of 2 or 3 with the end: the plan had 1,100 of them."""
    study = MINI.replace("stop: {steps: 1}", "task: digit_sum\n  stop: {train_flops: 1e8}")
    (tree / "budget.yaml").write_text(study.replace("group_size: 2", "group_size: 4"))
    (run,) = json.loads(scaling(tree, "sweep", "plan", "budget.yaml", "--json").stdout)["runs"]
    row = curves["clip"][-1]
    assert run["train_flops"] / run["prompts"] == pytest.approx(row["train_flops"] / row["prompts_seen"], rel=0.25)


def test_an_engine(curves):
    """Equal draws from equal weights: the tokens of the oracle engine, and its log-probs to rounding."""
    assert [row.keys() for row in curves["engine"]] == [row.keys() for row in curves["oracle"]]
    for ours, theirs in zip(curves["engine"], curves["oracle"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5, nan_ok=True)


def test_an_estimator_and_a_loss(tree, curves):
    code = (
        "import numpy as np; from scaling.algorithm.estimators.raft import RaftConfig; "
        "from scaling.algorithm.rewards import Rewards; outcome_PG = np.array([[1.0, 0.0, 0.0, 0.0]]); "
        "print(RaftConfig().advantages(Rewards(outcome_PG, outcome_PG, outcome_PG > 0, outcome_PG)).total_PG)"
    )
    assert python(tree, "-c", code).stdout == "[[1. 0. 0. 0.]]\n"
    # At a ratio of 1 the gradient of both losses is that of the advantage times the log-prob.
    ours, theirs = curves["linear"][1], curves["clip"][1]
    assert ours["gradient_norm"] > 0 and ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-5)
    text = "loss: {surrogate: linaer}\nmodel: us\n"
    (tree / "bad.yaml").write_text(text)
    assert "Did you mean linear?" in scaling(tree, "run", "bad.yaml", "--out", "bad", expect=2).stderr


def test_a_figure_and_a_section(tree):
    scaling(tree, "report", "one_size.csv", "--out", "page")
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
