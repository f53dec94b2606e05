"""The floors of the house: who may import whom, and what must not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Row by row, bottom first; a file imports lower rows, or files to its left in its own row. Folders end with a slash.
ROWS = {
    "scaling": [
        ["schema", "record", "rollout_types"],
        ["ladder", "compute", "models", "config", "memory"],
        ["advantages", "losses", "optim", "prompts", "checkpoint", "process", "ledger"],
        ["policy", "parallel", "graders/", "tasks/", "rollouts/", "mirror", "verify"],
        ["update", "evaluate", "base_models", "trainer"],
        ["cli", "__main__"],
    ],
    "sweeps": [["study"], ["plan", "reconcile"], ["executors/"], ["status", "launch", "cluster"]],
    "analysis": [
        ["curves", "laws/"],
        ["splits", "solve", "fit", "run_lines", "profile", "intervals"],
        ["frontier", "forecast", "compare"],
        ["figures"],
        ["tables", "report_sections", "report", "reproduce"],
    ],
}
HEAVY = ["torch", "transformers", "vllm", "mlflow", "submitit"]


def place(module: str) -> tuple[str, int, int] | None:
    """(package, row, position in the row) of a dotted module of ours; None for a package's own __init__."""
    package, *rest = module.split(".")
    if package not in ROWS or not rest:
        return None
    for row, names in enumerate(ROWS[package]):
        for position, name in enumerate(names):
            if rest[0] == name.rstrip("/"):
                return package, row, position
    return None


def modules() -> list[Path]:
    return [path for package in ROWS for path in sorted((ROOT / package).rglob("*.py")) if path.stat().st_size]


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names that a file imports; `from a import b` counts as a and, where b is a module, a.b."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_or_left(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    here = place(module)
    if here is None:
        assert path.name == "__init__.py", f"{module} has no place in the floors: add it to ROWS"
        return
    package, row, position = here
    plugin = ROWS[package][row][position].endswith("/")
    if module == "scaling.cli":  # the roof: it may import anything, inside its commands
        return
    for name in imports(path):
        there = place(name)
        if there is None:
            continue
        if there[0] != package:
            allowed = {"sweeps": ("scaling",), "analysis": ("scaling",), "scaling": ()}[package]
            assert there[0] in allowed, f"{module} imports {name}"
            limit = 0 if package == "analysis" else 1
            if path.parent.name == "executors" and name not in imports(path, top_level_only=True):
                continue  # the payload names the trainer inside itself
            assert there[1] <= limit, f"{module} imports {name}, which is above row {limit} of scaling"
            continue
        if plugin and there == here and path.name != "__init__.py":
            sibling = (ROOT / Path(*name.split("."))).with_suffix(".py").exists()
            assert not sibling, f"{module} imports {name}: files of a plug-in folder never import each other"
        inside_own_folder = plugin and there == here
        assert inside_own_folder or there[1:] < (row, position), f"{module} imports {name}, which is not below it"


def test_rows_0_and_1_load_nothing_heavy():
    light = [name for row in ROWS["scaling"][:2] for name in row]
    for name in light:
        found = {name.split(".")[0] for name in imports(ROOT / "scaling" / f"{name}.py")}
        assert not found & set(HEAVY), f"scaling.{name} imports {found & set(HEAVY)}"


@pytest.mark.parametrize("package", ["analysis", "sweeps", "sweeps.launch", "scaling.cli", "analysis.reporting"])
def test_a_fresh_import_loads_nothing_heavy(package):
    code = f"import sys, {package}; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
