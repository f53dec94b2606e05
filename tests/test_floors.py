"""The floors of the house: who may import whom, what must not load, and how large a room may grow.

One list over the three packages and their roof, bottom first. A file imports lower rows, or files to its left in its
own row. `folder/` is a folder of plug-ins: its files never import each other, only the folder's own __init__, which may
stand lower by its own name. A module that a string names ("analysis.commands:fit", import_module("scaling.trainer"))
counts as imported.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("scaling", "analysis", "sweeps")
FLOORS = """
scaling.schema scaling.settings scaling.fields scaling.files scaling.record scaling.where scaling.rollout_types
scaling.recipes
scaling.ladder scaling.compute scaling.gpus scaling.server_memory
scaling.models scaling.algorithm scaling.algorithm.rewards scaling.rollouts
scaling.vllm_watch scaling.vllm_server
scaling.answers scaling.answers.boxes scaling.answers.expressions scaling.answers.arithmetic scaling.answers.units
scaling.answers.regions scaling.answers.shapes scaling.answers.normalise scaling.answers.single scaling.answers.joining
scaling.answers.relations scaling.answers.reading scaling.answers.verdict scaling.problem_files
scaling.graders/
scaling.algorithm.estimators/
scaling.tasks/
scaling.config.errors scaling.config.cluster scaling.config.parts scaling.config.reward scaling.config.run
scaling.config.identity scaling.config.checks scaling.config.reading
scaling.config
scaling.memory scaling.seconds scaling.ledger scaling.prompts scaling.optim scaling.checkpoint
scaling.determinism scaling.process
scaling.policy scaling.forwards scaling.logprobs
scaling.rollouts/
scaling.launched scaling.peers scaling.shared
scaling.parallel
scaling.algorithm.advantages scaling.algorithm.mismatch scaling.algorithm.guard scaling.algorithm.grading
scaling.algorithm.batch
scaling.algorithm.losses scaling.algorithm.update
scaling.base_models scaling.evaluate scaling.verify scaling.repair scaling.trainer
scaling.tracking scaling.tracking.rows scaling.tracking.store scaling.tracking.mirror
scaling.terminal scaling.commands

analysis.missing
analysis.reference analysis.curves.where analysis.curves.frame analysis.curves.check
analysis.curves.run_columns analysis.curves.mlflow_runs analysis.curves.load
analysis.curves
analysis.laws/
analysis.words
analysis.fitting analysis.fitting.choices analysis.fitting.copies analysis.fitting.points analysis.fitting.solution
analysis.fitting.objectives analysis.fitting.lines analysis.fitting.problem analysis.fitting.general
analysis.fitting.solve analysis.fitting.record analysis.fitting.goodness analysis.fitting.held_out
analysis.fitting.consistency analysis.fitting.fit
analysis.intervals analysis.intervals.law_test analysis.intervals.size_test analysis.intervals.means
analysis.intervals.paired_test
analysis.intervals.run_lines analysis.intervals.run_test analysis.intervals.scatter analysis.intervals.profile
analysis.intervals.outlier analysis.intervals.stacks
analysis.intervals.missed_sizes analysis.intervals.shape analysis.intervals.verdict analysis.intervals.law_doubt
analysis.intervals.curve_band analysis.intervals.coverage analysis.intervals.record analysis.intervals.fitted
analysis.intervals.contours
analysis.questions analysis.questions.size_curves analysis.questions.finals analysis.questions.runs
analysis.questions.residuals analysis.questions.prediction
analysis.questions.efficiency analysis.questions.windows analysis.questions.pairs
analysis.questions.envelope analysis.questions.cost analysis.questions.optimum analysis.questions.reuse
analysis.questions.groups analysis.questions.frontier
analysis.questions.unseen_size analysis.questions.new_size analysis.questions.forecast analysis.questions.scores
analysis.questions.laws analysis.questions.asymptote
analysis.figures.style analysis.figures.axes analysis.figures.labels analysis.figures.svg
analysis.figures.compute_split analysis.figures.algorithm_comparison analysis.figures.reuse
analysis.figures.loss_curves analysis.figures.efficiency analysis.figures.envelope analysis.figures.frontier
analysis.figures.group_size analysis.figures.sensitivity analysis.figures.multiplier
analysis.figures
analysis.reporting.templates analysis.reporting.markup analysis.reporting.tables analysis.reporting.section
analysis.reporting.choices analysis.reporting.study analysis.reporting.consistency
analysis.reporting.forecasts analysis.reporting.next_runs analysis.reporting.budgets analysis.reporting.groups
analysis.reporting.reuse analysis.reporting.laws analysis.reporting.effects analysis.reporting.sections
analysis.reporting.settings analysis.reporting.runs analysis.reporting.curves analysis.reporting.efficiency
analysis.reporting.algorithms analysis.reporting.sensitivity analysis.reporting.rollouts analysis.reporting.intervals
analysis.reporting.provenance analysis.reporting.drawing analysis.reporting.summary analysis.reporting.page
analysis.reporting
analysis.reproduce.tan2025 analysis.reproduce.tan2025.decomposition analysis.reproduce.tan2025.study
analysis.reproduce.tan2025.cells analysis.reproduce.tan2025.predictions analysis.reproduce.tan2025.findings
analysis.reproduce.tan2025.tables analysis.reproduce.tan2025.figures analysis.reproduce.tan2025.page
analysis.reproduce
analysis analysis.printed analysis.commands

sweeps.studies sweeps.study sweeps.plan
sweeps.reconcile sweeps.clients sweeps.cost sweeps.status sweeps.journal sweeps.board
sweeps.payloads sweeps.slurm_task
sweeps.executors/
sweeps.look sweeps.launch sweeps.cluster
sweeps.printed sweeps.commands

scaling.cli scaling.__main__
"""
PLACES = {
    name: (row, column) for row, line in enumerate(FLOORS.splitlines()) for column, name in enumerate(line.split())
}
# Rooms to which files are added without an edit: one that FLOORS does not name stands where the room itself does.
OPEN_ROOMS = {"analysis.figures", "analysis.reporting"}
# Of scaling, analysis imports these alone; of sweeps, these alone import analysis.
ANALYSIS_MAY_IMPORT = {
    "scaling.schema",
    "scaling.settings",
    "scaling.where",
    "scaling.files",
    "scaling.record",
    "scaling.terminal",
}
MAY_IMPORT_ANALYSIS = {"sweeps.commands", "sweeps.printed"}
HEAVY = ["torch", "transformers", "vllm", "mlflow", "submitit", "matplotlib"]
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 420, 90


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def place_of(module: str) -> tuple[int, int] | None:
    """Where a module stands; a file of a plug-in folder and the folder's own __init__ stand where the folder does."""
    folder = module.rpartition(".")[0]
    names = [module, f"{module}/", f"{folder}/", *({folder} & OPEN_ROOMS)]
    return next((PLACES[name] for name in names if name in PLACES), None)


def plugin_folder(module: str) -> str | None:
    return next((name for name in (module, module.rpartition(".")[0]) if f"{name}/" in PLACES), None)


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports anywhere in it, in statements or by a string that names one."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = inner & MODULES.keys()
            found |= submodules | ({str(node.module)} if len(submodules) < len(inner) else set())
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = node.value.partition(":")[0]
            if re.fullmatch(r"\w+(\.\w+)+", named):
                found.add(named)
    return found & MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_or_left(module):
    here = place_of(module)
    assert here is not None or module in PACKAGES, f"{module} has no place in the floors: add it to FLOORS"
    for name in imports(MODULES[module]) - {module}:
        there = place_of(name)
        assert there is not None and here is not None, f"{module} imports {name}"
        if plugin_folder(module) and plugin_folder(module) == plugin_folder(name):
            assert plugin_folder(module) in (module, name), f"{module} imports {name}: plug-ins never import each other"
            continue
        assert there < here, f"{module} imports {name}, which is not below it or to its left"
        if module.startswith("analysis") and name.startswith("scaling"):
            assert name in ANALYSIS_MAY_IMPORT, f"{module} imports {name}"
        if module.startswith("sweeps") and name.startswith("analysis"):
            assert module in MAY_IMPORT_ANALYSIS, f"{module} imports {name}"


def test_every_place_is_taken():
    assert {name.rstrip("/") for name in PLACES} <= MODULES.keys()
    assert len(FLOORS.split()) == len(PLACES), "a name stands twice"


def test_a_string_that_names_a_module_counts(tmp_path):
    (tmp_path / "one.py").write_text(
        "import importlib\nimportlib.import_module('scaling.trainer')\n'scaling.cli:main'\n"
    )
    assert imports(tmp_path / "one.py") == {"scaling.trainer", "scaling.cli"}


@pytest.mark.parametrize("module", MODULES)
def test_no_room_grows_too_large(module):
    text = MODULES[module].read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES, f"{module} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MOST_LINES_OF_A_FUNCTION, f"{module}.{node.name} has {lines} lines"


@pytest.mark.parametrize(
    "package", ["analysis", "analysis.commands", "sweeps.commands", "sweeps.cluster", "scaling.cli"]
)
def test_a_fresh_import_loads_nothing_heavy(package):
    code = f"import sys, {package}; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_the_roof_loads_no_package():
    code = "import sys, scaling.cli; print(sorted(m for m in sys.modules if m in ('numpy', 'pandas', 'pydantic')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
